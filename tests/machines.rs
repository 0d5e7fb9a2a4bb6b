//! The shipped machines do their real jobs under their policies, and what runs is what was planned.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "a test ends at the first surprise"
)]

mod harness;

use harness::{CACHE, Dir, debian, root, stockade};
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The shipped policies have fixed names and ports: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

fn policy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(format!("{name}.stockade"))
}

/// A machine in the background; killed by pid if a test ends early.
struct Running(Child, PathBuf);

impl Running {
    fn start(name: &str) -> Running {
        Running::of(name, &policy(name))
    }

    fn of(name: &str, file: &Path) -> Running {
        Running::named(name, file, name)
    }

    fn named(name: &str, file: &Path, machine: &str) -> Running {
        let log = std::env::temp_dir().join(format!("stockade-{name}-{}.log", std::process::id()));
        let out = std::fs::File::create(&log).unwrap();
        let child = stockade()
            .arg("run")
            .arg(file)
            .arg(machine)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Running(child, log)
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.1).unwrap_or_default()).into_owned()
    }

    /// Asks it to end, as an init system would; its exit code.
    fn stop(mut self) -> i32 {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it didn't end in 20 s:\n{}", self.log());
    }

    /// Pid of the program on the host, from the machine's record.
    fn program(&self, name: &str) -> i32 {
        let file = format!("/run/stockade/machines/{name}/state.json");
        for _ in 0..500 {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Ok(v) = serde_json::from_str::<serde_json::Value>(&text)
                // A machine that was killed leaves its record to the next command.
                && v["supervisor"].as_u64() == Some(u64::from(self.0.id()))
                && let Some(pid) = v["program"].as_i64().filter(|p| *p > 0)
            {
                return i32::try_from(pid).unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no record of {name}:\n{}", self.log());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

fn ready() -> Option<std::sync::MutexGuard<'static, ()>> {
    if !root() || debian().is_none() {
        return None;
    }
    let one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    harness::site();
    Some(one)
}

fn connect(machine: &Running, port: u16) -> TcpStream {
    for _ in 0..2000 {
        if let Ok(s) = TcpStream::connect(("127.0.0.1", port)) {
            s.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            return s;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nobody listens on {port}:\n{}", machine.log());
}

fn status_line(pid: i32, key: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|l| l.strip_prefix(&format!("{key}:"))).unwrap().trim().to_owned()
}

#[test]
fn nginx_serves_a_page() {
    let Some(_one) = ready() else { return };
    let m = Running::start("nginx");
    let mut s = connect(&m, 8080);
    s.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut page = String::new();
    s.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 OK") && page.contains("under a policy"), "{page}");
    // Nothing but what lies in the site is reachable.
    let mut s = connect(&m, 8080);
    s.write_all(b"GET /../../etc/passwd HTTP/1.0\r\n\r\n").unwrap();
    let mut other = String::new();
    s.read_to_string(&mut other).unwrap();
    assert!(!other.contains("root:"), "{other}");
    let pid = m.program("nginx");
    assert_eq!(status_line(pid, "CapBnd"), "0000000000000000");
    assert_eq!(status_line(pid, "NoNewPrivs"), "1");
    assert_eq!(status_line(pid, "Seccomp"), "2");
    assert_eq!(m.stop(), 0);
}

#[test]
fn redis_keeps_its_data_and_its_ids() {
    let Some(_one) = ready() else { return };
    let data = Path::new(CACHE).join("site/redis");
    let _ignored = std::fs::remove_dir_all(&data);
    std::fs::create_dir_all(&data).unwrap();
    let passwd = std::fs::read_to_string(debian().unwrap().join("etc/passwd")).unwrap();
    let entry: Vec<&str> = passwd.lines().find(|l| l.starts_with("redis:")).unwrap().split(':').collect();
    let (uid, gid): (u32, u32) = (entry[2].parse().unwrap(), entry[3].parse().unwrap());
    std::os::unix::fs::chown(&data, Some(uid), Some(gid)).unwrap();
    let ask = |m: &Running, text: &str, want: &str| {
        let mut s = connect(m, 6380);
        s.write_all(text.as_bytes()).unwrap();
        let mut got = Vec::new();
        let mut buffer = [0u8; 256];
        while !String::from_utf8_lossy(&got).contains(want) {
            let n = s.read(&mut buffer).unwrap();
            assert!(n > 0, "{}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buffer[..n]);
        }
    };
    let m = Running::start("redis");
    ask(&m, "SET answer 42\r\nGET answer\r\n", "$2\r\n42\r\n");
    // The policy's own filter and rules hold: no program is started, no script leaves.
    assert_eq!(m.stop(), 0);
    use std::os::unix::fs::MetadataExt as _;
    let dump = std::fs::metadata(data.join("dump.rdb")).unwrap();
    assert_eq!((dump.uid(), dump.gid()), (uid, gid), "ids are translated back");
    let m = Running::start("redis");
    ask(&m, "GET answer\r\n", "$2\r\n42\r\n");
    assert_eq!(m.stop(), 0);
}

#[test]
fn unbound_answers() {
    let Some(_one) = ready() else { return };
    let m = Running::start("unbound");
    drop(connect(&m, 5300));
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["www", "stockade", "test"] {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let s = UdpSocket::bind("127.0.0.1:0").unwrap();
    s.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    s.send_to(&question, "127.0.0.1:5300").unwrap();
    let mut answer = [0u8; 512];
    let (n, _) = s.recv_from(&mut answer).unwrap();
    assert_eq!(&answer[n - 4..n], [192, 0, 2, 80]);
    assert_eq!(m.stop(), 0);
}

/// A folder of the site that belongs to a user of the root.
fn owned(name: &str, user: &str) -> PathBuf {
    let folder = Path::new(CACHE).join("site").join(name);
    let _ignored = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let passwd = std::fs::read_to_string(debian().unwrap().join("etc/passwd")).unwrap();
    let entry: Vec<&str> = passwd.lines().find(|l| l.starts_with(&format!("{user}:"))).unwrap().split(':').collect();
    std::os::unix::fs::chown(&folder, Some(entry[2].parse().unwrap()), Some(entry[3].parse().unwrap())).unwrap();
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    folder
}

/// A program of the Debian root, as a client on the host's own network.
fn client(program: &str, arguments: &[&str]) -> String {
    let mut c = Command::new("chroot");
    c.arg(debian().unwrap()).arg(program).args(arguments).env("PGPASSWORD", "stockade-sample-password");
    let out = c.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program}: {text}");
    text
}

/// The number before a word.
fn figure(text: &str, after: &str) -> f64 {
    let rest = text.split(after).nth(1).unwrap_or_else(|| panic!("no {after:?} in {text}"));
    rest.split_whitespace()
        .next()
        .unwrap()
        .trim_end_matches(['%', ','])
        .parse()
        .unwrap_or_else(|_| panic!("{after:?} in {text}"))
}

#[test]
fn postgres_keeps_a_database_under_load() {
    let Some(_one) = ready() else { return };
    owned("postgres-data", "postgres");
    let made = stockade().arg("run").arg(policy("postgres")).arg("postgres-init").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let m = Running::named("postgres", &policy("postgres"), "postgres");
    drop(connect(&m, 5433));
    let at = ["-h", "127.0.0.1", "-p", "5433", "-U", "postgres"];
    for _ in 0..100 {
        if Command::new("chroot").arg(debian().unwrap()).arg("pg_isready").args(at).output().unwrap().status.success() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let with = |more: &[&'static str]| [&at[..], more, &["postgres"]].concat();
    client("pgbench", &with(&["-i", "-q", "-s", "2"]));
    let said = client("pgbench", &with(&["-T", "3", "-c", "8", "-j", "2"]));
    assert!(figure(&said, "tps = ") > 10.0 && figure(&said, "failed transactions: ") == 0.0, "{said}\n{}", m.log());
    // The password is asked for, on the other loopback too.
    let rows =
        client("psql", &["-h", "::1", "-p", "5433", "-U", "postgres", "-Atc", "select count(*) from pgbench_accounts"]);
    assert_eq!(rows.trim(), "200000");
    assert_eq!(m.stop(), 0);
    let m = Running::named("postgres", &policy("postgres"), "postgres");
    drop(connect(&m, 5433));
    assert_eq!(m.stop(), 0, "it starts again from what it kept");
}

#[test]
fn three_daemons_under_load() {
    let Some(_one) = ready() else { return };
    owned("redis", "redis");
    let all = ["nginx", "redis", "unbound"].map(Running::start);
    for (m, port) in all.iter().zip([8080, 6380, 5300]) {
        drop(connect(m, port));
    }
    let said = client("wrk", &["-d", "2", "-t", "2", "-c", "32", "http://127.0.0.1:8080/"]);
    assert!(
        figure(&said, "Requests/sec:") > 500.0 && !said.contains("Socket errors") && !said.contains("Non-2xx"),
        "{said}"
    );
    let said = client("redis-benchmark", &["-h", "127.0.0.1", "-p", "6380", "-t", "set,get", "-n", "20000", "--csv"]);
    assert!(said.contains("\"SET\",") && said.contains("\"GET\","), "{said}");
    std::fs::write(debian().unwrap().join("tmp/names"), "www.stockade.test A\n").unwrap();
    for mode in ["udp", "tcp"] {
        let said = client("dnsperf", &["-m", mode, "-s", "127.0.0.1", "-p", "5300", "-d", "/tmp/names", "-n", "2000"]);
        assert!(said.contains("Queries completed:    2000 (100.00%)"), "{said}");
    }
    for m in all {
        assert!(!m.log().contains("was met"), "{}", m.log());
        assert_eq!(m.stop(), 0);
    }
}

/// Each daemon's policy around a program that tries what a daemon taken over would.
#[test]
fn forbidden_moves_fail_under_every_daemons_policy() {
    let Some(_one) = ready() else { return };
    let dir = harness::Dir::new("moves");
    for (name, machine) in [("nginx", "nginx"), ("redis", "redis"), ("unbound", "unbound"), ("postgres", "postgres")] {
        if machine == "redis" {
            owned("redis", "redis");
        }
        if machine == "postgres" {
            owned("postgres-data", "postgres");
        }
        let text = std::fs::read_to_string(policy(name)).unwrap();
        let text: Vec<String> = text
            .lines()
            .map(|l| if l.starts_with("  exec \"") { "  exec \"/srv/moves\"".to_owned() } else { l.to_owned() })
            .collect();
        // Another place for the machine's own files: the probe lies in it.
        let site = dir.0.join(name);
        std::fs::create_dir_all(&site).unwrap();
        std::fs::copy(harness::probe("moves"), site.join("moves")).unwrap();
        let text = text.join("\n").replace(&format!("machine {machine} {{"), &format!("machine {machine}-moves {{"));
        let text = text.replace(&format!(" on {machine} {{"), &format!(" on {machine}-moves {{"));
        let text = match machine {
            "redis" => {
                text.replace("  mounts {", &format!("  mounts {{\n    bind \"{}\" -> \"/srv\" ro exec", site.display()))
            }
            _ => text.replace("-> \"/srv\" ro", "-> \"/srv\" ro exec"),
        };
        let text = text.replace(&format!("{CACHE}/site/{name}\""), &format!("{}\"", site.display()));
        let text = text.replacen("  files {", "  files {\n    exec \"/srv\"", 1);
        let file = dir.write(&format!("{name}.stockade"), &text);
        let out = stockade().arg("run").arg(&file).arg(format!("{machine}-moves")).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        for (what, errors) in [
            ("connect", "EACCES"),
            ("datagram", "EHOSTUNREACH"),
            ("metadata", "EHOSTUNREACH"),
            ("write", "EROFS"),
            ("usr", "EROFS"),
            ("shell", "EACCES"),
            ("userns", "EPERM"),
            ("clone-userns", "EPERM"),
            ("setns", "EPERM"),
            ("mount", "EPERM"),
            ("ptrace", "EPERM"),
            ("family-17", "EPERM"),
            ("family-38", "EPERM"),
            ("family-40", "EPERM"),
            ("family-44", "EPERM"),
            ("family-16", "EPERM"),
            ("family-31", "EPERM"),
        ] {
            assert!(said.lines().any(|l| l == format!("{what} {errors}")), "{machine}: {what} {errors}\n{said}");
        }
        assert!(!said.contains("WORKS") && !said.contains("SHELL"), "{machine}: {said}");
    }
}

#[test]
fn an_untrusted_build_builds() {
    let Some(_one) = ready() else { return };
    let result = Path::new(CACHE).join("site/results/hello");
    let _ignored = std::fs::remove_file(&result);
    let out = stockade().arg("run").arg(policy("untrusted-build")).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{text}");
    assert!(text.contains("built by nobody in particular"), "{text}");
    assert!(result.exists());
    let source = Path::new(CACHE).join("site/build");
    let left: Vec<_> = std::fs::read_dir(&source).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the source isn't changed: {left:?}");
}

/// Only /usr of the root; /etc and all else begin empty, and systemd makes what it needs.
#[test]
fn debian_boots_with_nothing_but_its_usr() {
    let Some(_one) = ready() else { return };
    let dir = harness::Dir::new("volatile");
    let text = std::fs::read_to_string(policy("debian")).unwrap();
    let text = text.replace("ephemeral size=1GiB", "volatile size=256MiB").replace("machine debian", "machine hollow");
    // Else systemd takes the empty /etc for a new installation and asks for a time zone.
    let quiet = "environment { set SYSTEMD_PROC_CMDLINE \"systemd.condition-first-boot=no\" }\n  network {";
    let text = text.replacen("network {", quiet, 1);
    let m = Running::of("hollow", &dir.write("t.stockade", &text.replace("on debian", "on hollow")));
    let pid = m.program("hollow");
    let inside = |args: &[&str]| {
        let out = Command::new("nsenter").args(["-t", &pid.to_string(), "-a"]).args(args).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    let end = Instant::now() + Duration::from_secs(60);
    let mut state = String::new();
    while Instant::now() < end && !["running", "degraded"].contains(&state.as_str()) {
        state = inside(&["/usr/bin/systemctl", "is-system-running"]);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(state == "running" || state == "degraded", "{state}\n{}", m.log());
    assert_eq!(inside(&["/usr/bin/ls", "/home"]), "", "nothing of the root but /usr");
    assert!(!inside(&["/usr/bin/ls", "/etc"]).contains("debian_version"), "nothing of the root's /etc");
    assert_eq!(m.stop(), 0);
}

#[test]
fn debian_boots_and_powers_off() {
    let Some(_one) = ready() else { return };
    let m = Running::start("debian");
    let pid = m.program("debian");
    let inside = |args: &[&str]| {
        let out = Command::new("nsenter").args(["-t", &pid.to_string(), "-a"]).args(args).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    let end = Instant::now() + Duration::from_secs(60);
    let mut state = String::new();
    while Instant::now() < end && !["running", "degraded"].contains(&state.as_str()) {
        state = inside(&["systemctl", "is-system-running"]);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(state, "running", "{}\n{}", inside(&["systemctl", "--failed"]), m.log());
    assert_eq!(inside(&["hostname"]), "debian");
    assert_eq!(inside(&["systemd-detect-virt", "--container"]), "container-other");
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let map: Vec<u64> = map.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!(map[0] == 0 && map[1] >= 0x80000 && map[2] == 65536, "{map:?}");
    assert_eq!(status_line(pid, "Seccomp"), "2");
    assert_eq!(status_line(pid, "CapInh"), "0000000000000000");
    // A mask can't be taken off, although its root has CAP_SYS_ADMIN in its own namespace.
    let umount =
        Command::new("nsenter").args(["-t", &pid.to_string(), "-a", "umount", "/proc/kallsyms"]).output().unwrap();
    assert!(!umount.status.success());
    assert_eq!(m.stop(), 0);
    assert!(!Path::new("/run/stockade/machines/debian").exists());
    assert!(!Path::new("/sys/fs/cgroup/unified/stockade/debian").exists());
}

/// The digest that the supervisor compared is the one that the program has after exec.
#[test]
fn the_programs_own_digest_is_the_plans() {
    if !root() {
        return;
    }
    let dir = Dir::new("digest");
    let out = Dir::new("digest-out");
    std::os::unix::fs::chown(&out.0, Some(65534), Some(65534)).unwrap();
    let copy =
        "for f in status limits uid_map mountinfo; do cat /proc/self/$f > /out/$f; done; ln -s \"$PWD\" /out/cwd";
    // `cat` is another process of the same confinement; the shell's own status is what counts.
    let script =
        copy.replace("cat /proc/self/$f", "while IFS= read -r l; do printf '%s\\n' \"$l\"; done < /proc/self/$f");
    let text = format!(
        "policy 1\nkernel 6.18\nimport \"std/daemon\"\nmachine {} {{\n  extends std/daemon\n  root host\n  \
         exec \"/bin/sh\" \"-c\" \"{}\"\n  user nobody\n  capabilities {{ none }}\n  \
         mounts {{ bind \"{}\" -> \"/out\" rw }}\n  limits {{ nofile 64; nproc 32 }}\n}}\n",
        harness::name("digest"),
        script.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$ {"),
        out.0.display(),
    );
    let file = dir.write("digest.stockade", &text);
    let ran = stockade().args(["-v", "run"]).arg(&file).output().unwrap();
    let log = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(0), "{log}");
    let planned = log.split("digest=").nth(1).and_then(|r| r.split_whitespace().next()).unwrap();
    let seen = stockade::launch::readback::observe(&out.0, None).unwrap();
    assert_eq!(planned, seen.digest(), "{}", seen.text());
    let status = std::fs::read_to_string(out.0.join("status")).unwrap();
    assert!(status.contains("Seccomp:\t2") && status.contains("Seccomp_filters:\t1"), "{status}");
}
