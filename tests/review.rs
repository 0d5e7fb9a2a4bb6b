//! One regression test for each fault that the hostile review of version 0.1 found.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

mod harness;

use harness::{Dir, host_machine, root, run, stockade, verb};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stockade::diagnostic::Diagnostics;
use stockade::host::{Host, Wanted};
use stockade::policy::{Policy, loader, resolve};
use stockade::source::Sources;

fn machine(exec: &str, body: &str) -> String {
    host_machine(exec, &format!("  user nobody\n  capabilities {{ none }}\n{body}"))
}

fn server(body: &str) -> String {
    machine("\"/usr/bin/python3\" \"-c\" \"@\"", body)
        .replace("extends std/daemon", "extends std/net-server\n  extends std/daemon")
}

/// `head FILE < /`: a folder on a standard descriptor would be a way back into the host's tree.
#[test]
fn a_folder_or_a_bare_path_is_no_standard_descriptor() {
    if !root() {
        return;
    }
    let dir = Dir::new("stdin");
    let file = dir.write("t.stockade", &machine("\"/bin/true\"", ""));
    let out = stockade().arg("run").arg(&file).stdin(std::fs::File::open("/").unwrap()).output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(125) && err.contains("descriptor 0 is a folder"), "{err}");
    let bare = std::os::fd::OwnedFd::from(
        std::fs::OpenOptions::new().read(true).custom(libc::O_PATH).open("/dev/null").unwrap(),
    );
    let out = stockade().arg("run").arg(&file).stdin(bare).output().unwrap();
    assert!(String::from_utf8_lossy(&out.stderr).contains("O_PATH"));
}

trait Custom {
    fn custom(&mut self, flags: i32) -> &mut Self;
}

impl Custom for std::fs::OpenOptions {
    fn custom(&mut self, flags: i32) -> &mut Self {
        std::os::unix::fs::OpenOptionsExt::custom_flags(self, flags)
    }
}

/// Where the launcher's file belongs to an id of the machine, the machine meets a sealed copy of it.
#[test]
fn the_launchers_file_is_out_of_reach_of_its_owner() {
    if !root() {
        return;
    }
    let dir = Dir::new("sealed");
    let program = dir.0.join("stockade");
    std::fs::copy(env!("CARGO_BIN_EXE_stockade"), &program).unwrap();
    let text = machine("\"/bin/sleep\" \"1\"", "");
    let file = dir.write("t.stockade", &text);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let exe_of = |uid: u32, owner: u32| {
        std::os::unix::fs::chown(&program, Some(owner), Some(owner)).unwrap();
        let id = uid.to_string();
        let mut child = Command::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
            .arg(&program)
            .arg("run")
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // Once it has a child it is what it stays.
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let end = Instant::now() + Duration::from_secs(20);
        while std::fs::read_to_string(&children).unwrap().trim().is_empty() {
            assert!(Instant::now() < end, "no machine");
            std::thread::sleep(Duration::from_millis(5));
        }
        let exe = std::fs::read_link(format!("/proc/{}/exe", child.id())).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        exe.to_string_lossy().into_owned()
    };
    assert!(exe_of(54322, 54322).starts_with("/memfd:stockade"));
    assert_eq!(exe_of(54323, 0), program.to_string_lossy());
}

/// A file left in a folder of the host never runs as its owner there.
#[test]
fn no_set_user_id_file_is_left_on_the_host() {
    if !root() {
        return;
    }
    let out = Dir::new("setuid");
    let script = "cp /bin/true /out/x; chmod 4755 /out/x && exit 9; chmod 2755 /out/x && exit 8; \
                  python3 -c 'import os; os.open(\\\"/out/y\\\", os.O_CREAT|os.O_WRONLY, 0o4755)' 2>/dev/null && exit 7; exit 0";
    let body = format!("  mounts {{ bind \"{}\" -> \"/out\" rw }}", out.0.display());
    let text = host_machine(
        &format!("\"/bin/sh\" \"-c\" \"{script}\""),
        &format!("  user root\n  capabilities {{ none }}\n{body}"),
    );
    let ran = run(&text);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!(std::fs::metadata(out.0.join("x")).unwrap().mode() & 0o6000, 0);
    assert!(!out.0.join("y").exists());
}

/// Multipath TCP, Fast Open and listen without bind reach ports past Landlock.
#[test]
fn the_granted_ports_are_all_the_ports() {
    let net = "  network {\n    host why \"a check\"\n    connect tcp 443\n  }\n";
    let checked = verb("check", &server(net));
    assert!(checked.err.contains("E0416") && checked.err.contains("`listen`"), "{}", checked.err);
    let closed = format!("{net}  syscalls {{ remove listen }}\n");
    let checked = verb("check", &server(&closed));
    assert_eq!(checked.code, 0, "{}", checked.err);
    for (line, call) in [
        ("allow socket", "socket"),
        ("allow sendto", "sendto"),
        ("allow sendmsg", "sendmsg"),
        ("allow sendmmsg", "sendmmsg"),
    ] {
        let wide = format!("{net}  syscalls {{\n    remove listen\n    {line}\n  }}\n");
        let checked = verb("check", &server(&wide));
        assert!(checked.err.contains("E0416") && checked.err.contains(&format!("`{call}`")), "{line}: {}", checked.err);
    }
    if !root() {
        return;
    }
    // On the real kernel: a listener of ours, and a machine that may connect elsewhere only.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let code = format!(
        "import socket,sys\na=('127.0.0.1',{port})\nok=[]\n\
         def t(n,f):\n  try:\n    f(); ok.append(n)\n  except OSError: pass\n\
         t('plain',lambda: socket.socket().connect(a))\n\
         t('mptcp',lambda: socket.socket(2,1,262).connect(a))\n\
         t('fast',lambda: socket.socket().sendto(b'x',0x20000000,a))\n\
         t('listen',lambda: socket.socket().listen())\nprint(ok)\nsys.exit(len(ok))"
    );
    let text = server(&closed).replace('@', &code.replace('\n', "\\n"));
    let ran = run(&text);
    assert_eq!((ran.code, ran.out.trim()), (0, "[]"), "{}", ran.err);
}

/// An image's link at a path of `files` doesn't decide what the rule opens.
#[test]
fn links_of_an_image_dont_widen_file_rules() {
    if !root() {
        return;
    }
    let image = Dir::new("image");
    for d in ["proc", "sys", "dev", "etc"] {
        std::fs::create_dir(image.0.join(d)).unwrap();
    }
    std::os::unix::fs::symlink("/", image.0.join("app")).unwrap();
    let text = machine("\"/x\"", "  files { read \"/app\" }")
        .replace("root host", &format!("root dir \"{}\" ro", image.0.display()))
        .replace("user nobody", "user 65534 group 65534");
    let ran = run(&text);
    assert!(ran.code == 125 && ran.err.contains("symbolic link") && ran.err.contains("landlock"), "{}", ran.err);
}

/// An overlay of a closed folder is as closed as the folder.
#[test]
fn an_overlay_keeps_the_folders_mode() {
    if !root() {
        return;
    }
    let outer = Dir::new("overlay");
    let closed = outer.0.join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::write(closed.join("f"), "secret").unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let body = format!("  mounts {{ overlay \"{}\" -> \"/data\" size=1MiB }}", closed.display());
    let ran = run(&machine("\"/bin/cat\" \"/data/f\"", &body));
    assert!(ran.code == 1 && ran.err.contains("Permission denied"), "{}{}", ran.out, ran.err);
}

/// The order of parents changes nothing, and two values are an error.
#[test]
fn parents_have_no_order() {
    let profiles = "profile base { network { listen tcp [80, 443] } }\n\
                    profile a {\n  extends base\n  network { remove listen tcp 80 }\n}\nprofile b { extends base }\n";
    let ports = |extends: &str| {
        let text = machine("\"/bin/true\"", &format!("  extends {extends}"))
            .replace("machine t", &format!("{profiles}machine t"));
        let dir = Dir::new("order");
        let out = stockade().args(["explain", "--json"]).arg(dir.write("t.stockade", &text)).output().unwrap();
        let v: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let mut list: Vec<u64> = v["ports"].as_array().unwrap().iter().map(|p| p["port"].as_u64().unwrap()).collect();
        list.sort_unstable();
        list
    };
    assert_eq!(ports("a, b"), [80, 443]);
    assert_eq!(ports("b, a"), [80, 443]);
    let two = "profile a { environment { set FOO \"one\" } }\nprofile b { environment { set FOO \"two\" } }\n";
    let text = machine("\"/bin/true\"", "  extends a, b").replace("machine t", &format!("{two}machine t"));
    let checked = verb("check", &text);
    assert!(checked.code == 2 && checked.err.contains("E0301"), "{}", checked.err);
    // What overrides does so whether the same value comes before it or after.
    let lines = ["override memory 1GiB why \"x\"", "memory 1GiB"];
    for [first, second] in [lines, [lines[1], lines[0]]] {
        let own = format!("  extends a\n  limits {{ {first} }}\n  limits {{ {second} }}");
        let text =
            machine("\"/bin/true\"", &own).replace("machine t", "profile a { limits { memory 64MiB } }\nmachine t");
        let checked = verb("check", &text);
        assert_eq!(checked.code, 0, "{first}: {}", checked.err);
    }
}

/// What a small file can cost is bounded.
#[test]
fn small_inputs_stay_cheap() {
    let mut doubling = String::from("profile p0 { limits { core 0 } }\n");
    for i in 1..30 {
        doubling.push_str(&format!("profile p{i} {{ extends p{}, p{} }}\n", i - 1, i - 1));
    }
    let mut chain = String::from("profile p0 { limits { core 0 } }\n");
    for i in 1..3000 {
        chain.push_str(&format!("profile p{i} {{ extends p{} }}\n", i - 1));
    }
    let ranges: String = (0..150)
        .map(|i| {
            format!(
                "    allow keyctl(arg2 in {}..={}, arg3 in {}..={})\n",
                i * 7 + 1,
                i * 977 + 99_991,
                i + 3,
                i * 31 + 65_539
            )
        })
        .collect();
    let ranges = machine("\"/bin/true\"", &format!("  syscalls {{\n{ranges}  }}"));
    let ports = machine("\"/bin/true\"", &format!("  network {{ listen tcp [{}] }}", vec!["1-1000"; 400].join(", ")));
    let many: String = (0..3000).map(|i| format!("instance k{i} of m\n")).collect();
    let many = format!(
        "policy 1\nkernel 6.18\nimport \"std/daemon\"\nmachine m {{ extends std/net-server; root host; exec \"/bin/true\"; user nobody; capabilities {{ none }} }}\n{many}"
    );
    let checked = verb("check", &many);
    assert!(checked.code == 2 && checked.err.contains("E0316"), "{}", checked.err);
    for (what, text) in [
        ("doubling", format!("policy 1\nkernel 6.18\n{doubling}")),
        ("chain", format!("policy 1\nkernel 6.18\n{chain}")),
        ("ranges", ranges),
        ("ports", ports),
    ] {
        let start = Instant::now();
        let checked = verb("check", &text);
        assert!(matches!(checked.code, 0 | 2), "{what}: {}", checked.err);
        assert!(start.elapsed() < Duration::from_secs(30), "{what} took {:?}", start.elapsed());
    }
    let dir = Dir::new("fifo");
    let fifo = dir.0.join("p.stockade");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let out = stockade().arg("check").arg(&fifo).output().unwrap();
    assert!(String::from_utf8_lossy(&out.stderr).contains("not a regular file"));
}

/// Every word counts or is refused.
#[test]
fn no_word_is_accepted_and_ignored() {
    for (body, code) in [
        ("mounts { bind \"/srv\" -> \"/a\" ro rw }", "E0203"),
        ("mounts { bind \"/srv\" -> \"/a\" ro mode=0700 }", "E0203"),
        ("mounts { tmpfs \"/a\" size=1MiB size=2MiB }", "E0203"),
        ("mounts { mask \"/a\" rw exec }", "E0203"),
        ("mounts {\n hide \"/a\"\n bind \"/srv\" -> \"/a/b\" ro\n}", "E0310"),
        ("network { host why \"x\" until 2001-01-01 }", "E0702"),
        ("limits { nofile 5 until 2001-01-01 }", "E0702"),
        ("environment { set A \"b\" until 2001-01-01 }", "E0206"),
        ("assert { never wx until 2001-01-01 }", "E0206"),
        ("no-new-privs off why \"x\" until 2001-01-01", "E0702"),
        ("userns map 0 -> 100000 count 4294867000", "E0507"),
        ("network { private; listen tcp 80; publish tcp 8080 -> 80 until 2001-01-01 }", "E0702"),
        ("network until 2099-01-01 { none }", "E0206"),
        ("mounts { bind \"/srv\" -> \"/etc\" ro }\n network { zone z; listen tcp 80 }", "E0310"),
        ("mounts { tmpfs \"/etc\" size=1MiB }\n network { private; resolver 192.0.2.53 }", "E0310"),
        (
            "network { private; connect tcp 1-200 to [10.0.0.0, 10.0.0.2, 10.0.0.4, 10.0.0.6, 10.0.0.8, 10.0.0.10, 10.0.0.12, 10.0.0.14, 10.0.0.16, 10.0.0.18, 10.0.0.20, 10.0.0.22, 10.0.0.24, 10.0.0.26, 10.0.0.28, 10.0.0.30, 10.0.0.32, 10.0.0.34, 10.0.0.36, 10.0.0.38, 10.0.0.40, 10.0.0.42, 10.0.0.44, 10.0.0.46, 10.0.0.48, 10.0.0.50, 10.0.0.52, 10.0.0.54, 10.0.0.56, 10.0.0.58, 10.0.0.60, 10.0.0.62] }",
            "E0214",
        ),
        ("extends lab until 2099-01-01", "E0206"),
        ("capabilities { none until 2099-01-01 }", "E0206"),
        ("mounts { remove \"/run\" until 2099-01-01 }", "E0206"),
        ("syscalls { allow ptrace why \"x\" until 2099-01-01 until 2001-01-01 }", "E0206"),
        ("syscalls { allow ptrace why \"x\" why \"y\" }", "E0206"),
    ] {
        let checked = verb("check", &machine("\"/bin/true\"", &format!("  {body}")));
        assert!(checked.code == 2 && checked.err.contains(code), "{body}: {}", checked.err);
    }
    let own = machine("\"/bin/true\"", "");
    for (line, code) in [
        ("group @dbg until 2099-01-01 { allow kcmp }", "E0206"),
        ("group @dbg { allow kcmp until 2099-01-01 }", "E0206"),
        ("group @dbg { allow kcmp until 2001-01-01 }", "E0702"),
        ("profile lab until 2099-01-01 { limits { core 0 } }", "E0206"),
        ("profile lab { limits { core 0 until 2001-01-01 } }", "E0702"),
        ("param p port 80 until 2099-01-01", "E0206"),
        ("profile std/ceiling/internet-facing { limits { core 0 } }", "E0211"),
        // A file of this name is in each group of the older hierarchies.
        ("machine tasks { root host }", "E0211"),
    ] {
        let checked = verb("check", &format!("{own}{line}\n"));
        assert!(checked.code == 2 && checked.err.contains(code), "{line}: {}", checked.err);
    }
    // A day that is past is told in whatever order its line comes.
    for order in ["a, b", "b, a"] {
        let profiles =
            "profile a { userns identity why \"x\" until 2001-01-01 }\nprofile b { userns identity why \"x\" }\n";
        let text = format!("{}{profiles}", machine("\"/bin/true\"", &format!("  extends {order}")));
        let checked = verb("check", &text);
        assert!(checked.err.contains("E0702"), "{order}: {}", checked.err);
    }
}

/// Shared memory and the personality make memory executable as well.
#[test]
fn never_wx_looks_at_every_way() {
    let turns = [
        "allow shmat",
        "allow personality",
        "allow mprotect(prot == 5)",
        "allow pkey_mprotect(prot has none [PROT_WRITE])",
        "allow mmap(prot == 5, flags == 0x21)",
    ];
    for line in turns {
        let body = format!("  syscalls {{ {line} }}\n  assert {{ never wx }}");
        let checked = verb("check", &machine("\"/bin/true\"", &body));
        assert!(checked.code == 2, "{line}: {}", checked.err);
    }
}

/// A program that closes its terminal doesn't make the supervisor spin.
#[test]
fn a_closed_terminal_costs_nothing() {
    if !root() {
        return;
    }
    let dir = Dir::new("spin");
    let file = dir.write("t.stockade", &machine("\"/bin/sh\" \"-c\" \"exec sleep 2 </dev/null >/dev/null 2>&1\"", ""));
    let command = format!("{} run {}", env!("CARGO_BIN_EXE_stockade"), file.display());
    let out = Command::new("script")
        .args(["-qec", &format!("bash -c 'time {command}'"), "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let seconds = |key: &str| -> f64 {
        let line = text.lines().find(|l| l.starts_with(key)).unwrap_or_else(|| panic!("{text}"));
        let value = line.split_whitespace().nth(1).unwrap();
        let (minutes, rest) = value.split_once('m').unwrap();
        minutes.parse::<f64>().unwrap() * 60.0 + rest.trim_end_matches('s').parse::<f64>().unwrap()
    };
    assert!(seconds("user") + seconds("sys") < 1.0, "{text}");
}

/// What an image or a path says can't write a line of the plan.
#[test]
fn nothing_forges_a_line_of_the_plan() {
    if !root() {
        return;
    }
    let image = Dir::new("forge");
    std::fs::create_dir(image.0.join("usr")).unwrap();
    let name = "x\n  99  program  no_new_privs FORGED\x1b[2J";
    std::fs::create_dir(image.0.join(name)).unwrap();
    std::os::unix::fs::symlink(name, image.0.join("bin")).unwrap();
    let text = machine("\"/bin/true\"", "")
        .replace("root host", &format!("root dir \"{}\" volatile", image.0.display()))
        .replace("user nobody", "user 65534 group 65534");
    let plan = verb("plan", &text);
    assert!(
        plan.out.contains("link /bin") && !plan.out.lines().any(|l| l.starts_with("  99  program  no_new")),
        "{}",
        plan.out
    );
    assert!(!plan.out.contains('\x1b'));
}

/// The builder has the launcher's rights and a place in the machine's PID namespace: the program never meets
/// it, however long it takes to end.
#[test]
fn the_builder_is_gone_before_the_program_is_there() {
    if !root() {
        return;
    }
    let dir = Dir::new("builder");
    let text = machine("\"/bin/sh\" \"-c\" \"echo /proc/[0-9]*\"", "");
    let file = dir.write("t.stockade", &text);
    let out = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=exit_group"])
        .args(["-e", "inject=exit_group:delay_enter=300000:when=1"])
        .arg(env!("CARGO_BIN_EXE_stockade"))
        .arg("run")
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&out.stdout).trim(),
        "/proc/1 /proc/2",
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// The machine of a text with its sources, and this host as such a machine meets it.
fn met(text: &str, more: &[String]) -> (Policy, Sources, Host) {
    let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
    let id = loader::from_text("met", text.as_bytes(), &mut sources, &mut d).unwrap();
    let policy = resolve::resolve(id, &mut sources, &mut d, "2026-01-01").machines.remove(0);
    let paths = stockade::compile::mounts::implied_paths(&stockade::host::cpus().unwrap()).into_iter();
    let paths = paths.chain(["/", "/usr", "/bin", "/sbin", "/lib", "/lib64"].map(str::to_owned));
    let paths = paths.chain(more.iter().cloned()).collect();
    let mut host = Host::probe(&Wanted { paths, names: false, root: "/", network: true, cgroups: true }).unwrap();
    host.free_ids = Some(0x1000_0000);
    (policy, sources, host)
}

/// An older kernel, or one whose cgroup v2 lies elsewhere, refuses what it can't hold.
#[test]
fn an_older_host_is_refused() {
    if !root() {
        return;
    }
    let codes = |text: &str, change: &dyn Fn(&mut Host)| {
        let (policy, sources, mut host) = met(text, &[]);
        let mut d = Diagnostics::default();
        change(&mut host);
        let compiled = stockade::compile::compile(&policy, &host, &sources, &mut d);
        assert_eq!(compiled.is_some(), !d.has_errors());
        d.iter().map(|x| (x.code, x.message.clone())).collect::<Vec<_>>()
    };
    let shared = machine("\"/bin/true\"", "  network { host why \"test\" }");
    for abi in [0, 3, 5] {
        let found = codes(&shared, &|h| h.landlock = abi);
        let fine = found.iter().any(|(c, m)| *c == "E0604" && m.contains(&format!("this kernel has {abi}")));
        assert!(fine, "{abi}: {found:?}");
    }
    assert!(!codes(&shared, &|h| h.landlock = 6).iter().any(|(c, _)| *c == "E0604"));
    let accepted = shared.replace("  network {", "  require landlock 4\n  network {");
    assert!(!codes(&accepted, &|h| h.landlock = 5).iter().any(|(c, _)| *c == "E0604"));
    let files = machine("\"/bin/true\"", "  files { exec \"/usr\" }");
    assert!(codes(&files, &|h| h.landlock = 4).iter().any(|(c, _)| *c == "E0604"));

    let boots = "policy 1\nkernel 6.18\nimport \"std/os\"\nmachine t {\n  extends std/os\n  root host\n  boot\n}\n";
    assert!(codes(boots, &|h| h.cgroups.v2 = None).iter().any(|(c, _)| *c == "E0606"));
}

/// A booted system that writes without end, and nobody who reads: signals are seen all the same.
#[test]
fn a_full_output_stops_nobody_from_ending_the_machine() {
    if !root() {
        return;
    }
    let image = Dir::new("flood");
    for folder in ["usr/lib/systemd", "sbin", "dev", "proc", "sys", "run", "etc", "tmp", "var"] {
        std::fs::create_dir_all(image.0.join(folder)).unwrap();
    }
    std::fs::copy(harness::probe("flood"), image.0.join("sbin/init")).unwrap();
    let text = format!(
        "policy 1\nkernel 6.18\nimport \"std/os\"\nmachine {} {{\n  extends std/os\n  root dir \"{}\" ro\n  boot\n}}\n",
        harness::name("flood"),
        image.0.display()
    );
    let dir = Dir::new("flooded");
    let file = dir.write("t.stockade", &text);
    // The second request ends a machine that doesn't power off by itself.
    for requests in [1, 2] {
        let argument = if requests == 1 { "obeys" } else { "deaf" };
        std::fs::write(image.0.join("etc/mode"), argument).unwrap();
        let mut child = stockade().arg("run").arg(&file).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        for _ in 0..requests {
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
            std::thread::sleep(Duration::from_millis(300));
        }
        // The machine is gone; one more says that the rest of its output isn't waited for either.
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap_or(());
        let started = Instant::now();
        let status = loop {
            if let Some(s) = child.try_wait().unwrap() {
                break s;
            }
            if started.elapsed() > Duration::from_secs(5) {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("requests: {requests}: still running");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(if requests == 1 { 7 } else { 137 }), "{argument}");
    }
}

/// A policy that a foreign group can write isn't what was reviewed.
#[test]
fn a_policy_that_a_group_can_write_is_refused() {
    if !root() {
        return;
    }
    let dir = Dir::new("group");
    let file = dir.write("t.stockade", &machine("\"/bin/true\"", ""));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o664)).unwrap();
    let check = || stockade().arg("check").arg(&file).output().unwrap();
    assert_eq!(check().status.code(), Some(0), "root's own group");
    std::os::unix::fs::chown(&file, None, Some(65534)).unwrap();
    let out = check();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(2) && err.contains("group 65534 can write it"), "{err}");
}

/// What lies in the state folder and isn't a machine stops nobody.
#[test]
fn a_stray_file_in_the_state_folder_stops_nobody() {
    if !root() {
        return;
    }
    let stray = std::path::Path::new("/run/stockade/machines/.stray");
    run(&machine("\"/bin/true\"", ""));
    std::fs::write(stray, "").unwrap();
    let ran = run(&machine("\"/bin/true\"", ""));
    std::fs::remove_file(stray).unwrap();
    assert_eq!(ran.code, 0, "{}", ran.err);
}

/// A device in the place of the image's list of users is looked at and not opened.
#[test]
fn a_device_in_the_place_of_passwd_is_not_opened() {
    if !root() {
        return;
    }
    let image = Dir::new("device");
    std::fs::create_dir_all(image.0.join("etc")).unwrap();
    // Opening /dev/tty without a terminal fails with ENXIO: whoever opens this one says so.
    let path = std::ffi::CString::new(image.0.join("etc/passwd").display().to_string()).unwrap();
    nix::sys::stat::mknod(
        path.as_c_str(),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o666),
        nix::sys::stat::makedev(5, 0),
    )
    .unwrap();
    let text = machine("\"/bin/true\"", "").replace("root host", &format!("root dir \"{}\" ro", image.0.display()));
    let file = image.write("t.stockade", &text);
    let trace = image.0.join("trace");
    let out = Command::new("strace")
        .args(["-f", "-o"])
        .arg(&trace)
        .args(["-e", "trace=openat,openat2,open", env!("CARGO_BIN_EXE_stockade"), "plan"])
        .arg(&file)
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(err.contains("/etc/passwd is not a regular file"), "{err}");
    let calls = std::fs::read_to_string(&trace).unwrap();
    let opened: Vec<&str> = calls.lines().filter(|l| l.contains("etc/passwd") && !l.contains("O_PATH")).collect();
    assert!(opened.iter().all(|l| l.contains("\"/etc/passwd\"")), "{opened:?}");
}

/// A disk without a byte left: what was there stays whole, nothing half-written is in the way, and a machine whose
/// state can't be written down doesn't start.
#[test]
fn a_full_disk_loses_nothing() {
    if !root() {
        return;
    }
    let dir = Dir::new("full");
    let fine = machine("\"/bin/true\"", "");
    dir.write("t.stockade", &fine);
    let script = r#"
        set -u
        S=$1; cd $2
        mkdir disk; mount -t tmpfs -o size=128k,mode=700 tmpfs disk
        sed 's/^  user/      user/' t.stockade >disk/t.stockade
        echo 'stockade lock 1' >disk/t.lock
        cp disk/t.stockade before.stockade
        cat /dev/zero >disk/filler 2>/dev/null
        cd disk
        $S fmt t.stockade; echo "fmt $?"
        $S lock t.stockade; echo "lock $?"
        $S new other; echo "new $?"
        $S run t.stockade --report report; echo "report $?"
        cmp t.stockade ../before.stockade && echo same
        echo "$(cat t.lock)"
        ls -A
        cd ..
        # The state of machines on a disk that is full.
        mount -t tmpfs -o size=128k,mode=755 tmpfs /run
        mkdir /run/stockade; chmod 700 /run/stockade
        cat /dev/zero >/run/filler 2>/dev/null
        $S run t.stockade; echo "run $?"
        rm /run/filler
        $S run t.stockade; echo "again $?"
        ls /run/stockade/machines
    "#;
    let out = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_stockade")])
        .arg(&dir.0)
        .output()
        .unwrap();
    let (said, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let lines: Vec<&str> = said.lines().collect();
    let full = err.matches("No space left on device").count();
    assert_eq!(
        lines,
        [
            "fmt 3",
            "lock 3",
            "new 3",
            "report 0",
            "same",
            "stockade lock 1",
            "filler",
            "report",
            "t.lock",
            "t.stockade",
            "run 125",
            "again 0"
        ],
        "{err}"
    );
    assert_eq!(full, 5, "{err}");
    assert!(err.contains("machine `t") && err.contains("was not started"), "{err}");
}

/// What is said of a path is held against the host's own names: one folder by a link, and one by a second mount, are
/// the same files. `check` sees no host, `plan` and `run` do.
#[test]
fn two_names_of_a_folder_of_the_host_are_one() {
    if !root() {
        return;
    }
    let dir = Dir::new("names");
    let at = |name: &str| dir.0.join(name).display().to_string();
    for folder in ["r/etc", "r/x", "a/in", "b", "w/in"] {
        std::fs::create_dir_all(dir.0.join(folder)).unwrap();
    }
    std::os::unix::fs::symlink(at("r"), at("link")).unwrap();
    let plan = |root: &str, mounts: &str, claim: &str| {
        let text = format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\nmachine m {{\n  root dir \"{root}\" ro\n  exec \"/bin/x\"\n  user 0 group 0\n  capabilities {{ none }}\n  syscalls {{ allow @start }}\n  mounts {{\n{mounts}\n  }}\n  assert {{ never {claim} }}\n}}\n"
        );
        let file = dir.write("names.stockade", &text);
        assert_eq!(stockade().arg("check").arg(&file).output().unwrap().status.code(), Some(0), "{text}");
        // Its own mounts: the second name of /a, and something else mounted in what is shown.
        let script = format!(
            "mount --bind {} {} && mount --bind {} {} && exec \"$0\" plan \"$1\"",
            at("a"),
            at("b"),
            at("a/in"),
            at("w/in")
        );
        let out = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .arg(stockade().get_program())
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let refused = out.status.code() == Some(2) && said.contains("E0703");
        assert!(refused || out.status.success(), "{text}{said}");
        refused
    };
    let bind = |from: &str, to: &str, how: &str| {
        let how = if how == "rw" { "rw why \"w\"" } else { how };
        format!("    bind \"{from}\" -> \"{to}\" {how}\n")
    };
    let r = at("r");
    let link = at("link");
    let inner = |root: &str| bind(&format!("{root}/etc"), "/x", "rw");
    assert!(plan(&link, &inner(&r), "write \"/etc\""));
    assert!(plan(&r, &inner(&link), "write \"/etc\""));
    assert!(!plan(&link, &inner(&r), "write \"/usr\""));
    let two = bind(&at("a"), "/p", "ro") + &bind(&at("b"), "/q", "rw");
    assert!(plan(&r, &two, "write \"/p\""));
    assert!(plan(&r, &two, "write \"/p/in\""));
    assert!(!plan(&r, &two.replace("/q\" rw", "/q\" ro"), "write \"/p\""));
    // /w/in shows what /a/in is.
    let deep = bind(&at("a"), "/p", "ro") + &bind(&at("w"), "/q", "rw");
    assert!(plan(&r, &deep, "write \"/p\""));
    assert!(!plan(&r, &deep.replace(&at("w"), &at("r/x")), "write \"/p\""));
    assert!(plan(&r, &bind("/proc/self/root/proc/sys", "/x", "rw noidmap"), "write \"/proc/sys\""));
}

/// The launcher proves what the plan loads itself, and lets nobody go before.
#[test]
fn a_filter_that_is_not_proved_runs_nothing() {
    use stockade::launch::state::Home;
    if !root() {
        return;
    }
    // The launcher waits for whatever child its process has: in a process of its own it takes nobody else's.
    if std::env::var_os("STOCKADE_TEST_ALONE").is_none() {
        let name = "a_filter_that_is_not_proved_runs_nothing";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let out = alone.args(["--exact", name, "--nocapture"]).env("STOCKADE_TEST_ALONE", "1").output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        return assert!(out.status.success() && said.contains("1 passed"), "{said}");
    }
    let dir = Dir::new("unproved");
    let shared = dir.0.join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o777)).unwrap();
    let text = machine(
        "\"/usr/bin/touch\" \"/shared/ran\"",
        &format!("  mounts {{ bind \"{}\" -> \"/shared\" rw noidmap why \"a trace\" }}", shared.display()),
    );
    let (policy, sources, host) = met(&text, &[shared.display().to_string()]);
    let compiled = stockade::compile::compile(&policy, &host, &sources, &mut Diagnostics::default());
    let plan = stockade::plan::build(&compiled.expect("a confinement").proved_at_launch()).unwrap();
    let launch = |prove: stockade::launch::Prove<'_>| stockade::launch::launch(&plan, Home::open(0).unwrap(), prove);
    let failure = launch(&|_| Err("by no means".into())).err().unwrap();
    assert!(failure.text.contains("isn't proved equal to the policy (E0413): by no means"), "{}", failure.text);
    assert_eq!(failure.code, 125);
    let step = &plan.steps()[failure.step - 1];
    assert!(matches!(step.action, stockade::plan::Action::LoadSeccomp(_)), "{failure:?}");
    assert!(!shared.join("ran").exists());
    // The very plan runs once it is proved, by the bytes that it loads.
    let loaded = std::cell::Cell::new(0);
    let proof = |program: &[stockade::sys::confine::Instruction]| {
        loaded.set(loaded.get() + 1);
        stockade::compile::seccomp::prove(&policy, host.arch, program)
    };
    let machine = launch(&proof).unwrap();
    assert_eq!(loaded.get(), 1);
    let end = Instant::now() + Duration::from_secs(20);
    while !shared.join("ran").exists() {
        assert!(Instant::now() < end, "it doesn't run");
        std::thread::sleep(Duration::from_millis(5));
    }
    machine.finish().1.unwrap();
}

/// What is said of names is what the kernel does: a mount stays, the folder above it doesn't.
#[test]
fn a_folder_above_a_mount_is_renamed() {
    if !root() {
        return;
    }
    let dir = Dir::new("renamed");
    let text = |script: &str, claim: &str| {
        host_machine(
            &format!("\"/bin/sh\" \"-c\" \"{script}\""),
            &format!(
                "  user root\n  capabilities {{ none }}\n  mounts {{\n    tmpfs \"/t\" size=1MiB\n    bind \"{0}\" -> \"/t/a/conf\" ro\n    bind \"{0}\" -> \"/t/conf\" ro\n  }}\n  assert {{ never write \"{claim}\" }}",
                dir.0.display()
            ),
        )
    };
    let move_below = "mv /t/a /t/b && mkdir -p /t/a/conf && echo changed > /t/a/conf/x && cat /t/a/conf/x";
    let ran = verb("check", &text(move_below, "/t/a/conf"));
    assert!(ran.code == 2 && ran.err.contains("`/t/a` can be renamed"), "{}", ran.err);
    let ran = run(&text(move_below, "/t/conf"));
    assert!(ran.code == 0 && ran.out == "changed\n", "{}{}", ran.out, ran.err);
    let ran = run(&text("mv /t/conf /t/b || echo held; echo x > /t/conf/x || echo closed", "/t/conf"));
    assert_eq!(ran.out, "held\nclosed\n", "{}", ran.err);
}
