//! What a machine can take from its host or do to its supervisor while it lives, and how it ends: rows D57 and E71
//! to E78 of docs/checks.md.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends at the first surprise")]

mod harness;

use harness::{Dir, Ran, host_machine, root, run};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A machine that runs a script of Python.
fn python(script: &str, body: &str) -> String {
    let exec = format!("\"/usr/bin/python3\" \"-u\" \"-c\" {}", serde_json::to_string(script).unwrap());
    host_machine(&exec, &format!("  user nobody\n  capabilities {{ none }}\n{body}"))
}

fn fine(ran: &Ran) -> &str {
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    &ran.out
}

/// Starts a machine, and waits for its first line.
fn start(text: &str) -> (Dir, Child) {
    use std::io::BufRead as _;
    let dir = Dir::new("life");
    let file = dir.write("t.stockade", text);
    let mut child = harness::stockade().arg("run").arg(file).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (dir, child)
}

/// Processes of this host whose arguments hold a word.
fn with(word: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').any(|a| a == word)
    })
    .collect()
}

#[test]
fn d57_no_network_is_a_loopback_that_is_down() {
    if !root() {
        return;
    }
    let script = "
import os
print(sorted(os.listdir('/sys/class/net')), open('/sys/class/net/lo/flags').read().strip())
print(len(open('/proc/net/route').readlines()), [l for l in open('/proc/net/ipv6_route') if not l.split()[-1] == 'lo'])";
    let ran = run(&python(script, "  network { none }"));
    assert_eq!(fine(&ran), "['lo'] 0x8\n0 []\n");
}

/// What the kernel counts for each user it counts for the machine's own, not for the host's root.
#[test]
fn e71_what_is_counted_for_each_user_stays_the_hosts() {
    if !root() {
        return;
    }
    let take = "
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
n = 0
while libc.inotify_init1(0) >= 0: n += 1
print('ready' if n > 3 else n, flush=True)
time.sleep(60)";
    // As many as the limit of open files lets it have, and the limit for each user is 128 by default.
    let (_dir, mut child) = start(&python(take, "  limits { nofile 8192 }"));
    let ask = "import ctypes, sys; sys.exit(ctypes.CDLL(None).inotify_init1(0) < 0)";
    let host = Command::new("python3").args(["-c", ask]).status().unwrap();
    // Another machine of the same policy has its own as well.
    let (_other, mut second) = start(&python(take, "  limits { nofile 8192 }"));
    for c in [&mut child, &mut second] {
        c.kill().unwrap();
        c.wait().unwrap();
    }
    assert!(host.success(), "a machine has taken the inotify instances of the host's root");
}

#[test]
fn e72_the_end_is_everybodys_and_its_status_exact() {
    if !root() {
        return;
    }
    let word = format!("31{}", std::process::id());
    let script = format!(
        "import os, subprocess, signal
for i in range(50): subprocess.Popen(['/usr/bin/sleep', '{word}'], start_new_session=True)
os.spawnl(os.P_NOWAIT, '/bin/true', 'true')
END"
    );
    for (end, code) in [("os._exit(7)", 7), ("os.kill(os.getpid(), signal.SIGUSR1)", 128 + 10)] {
        let ran = run(&python(&script.replace("END", end), ""));
        assert_eq!(ran.code, code, "{end}: {}{}", ran.out, ran.err);
        assert_eq!(with(&word), Vec::<u32>::new(), "{end}");
    }
}

#[test]
fn e73_signals_stay_inside() {
    if !root() {
        return;
    }
    let script = "
import os, signal, fcntl
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for everybody in (-1, 0):
    try: os.kill(everybody, signal.SIGTERM)
    except ProcessLookupError: pass
for pid in range(1, 400):
    if pid != os.getpid():
        try: os.kill(pid, signal.SIGKILL)
        except OSError: pass
for fd in (0, 1, 2):
    try: fcntl.fcntl(fd, fcntl.F_SETOWN, os.getppid())
    except OSError: pass
print('alive')";
    // Its supervisor and its init go on, and report its end as it was.
    let ran = run(&python(script, ""));
    assert_eq!(fine(&ran), "alive\n");
}

#[test]
fn e75_no_core_is_left() {
    if !root() {
        return;
    }
    let dir = Dir::new("core");
    std::os::unix::fs::chown(&dir.0, Some(65534), Some(65534)).unwrap();
    let body = format!("  chdir \"/w\"\n  mounts {{ bind \"{}\" -> \"/w\" rw noidmap }}", dir.0.display());
    let ran = run(&python("import os, resource; print(resource.getrlimit(resource.RLIMIT_CORE)); os.abort()", &body));
    assert_eq!((ran.code, ran.out.as_str()), (128 + 6, "(0, 0)\n"), "{}", ran.err);
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 0);
}

#[test]
fn e76_the_hosts_clocks_stay() {
    if !root() {
        return;
    }
    let script = "
import time, errno
for clock in (time.CLOCK_REALTIME, time.CLOCK_TAI):
    try: time.clock_settime(clock, 1.0); print('set')
    except OSError as e: print(errno.errorcode[e.errno])";
    for user in ["user nobody", "user root"] {
        let text = python(script, "").replace("user nobody", user);
        assert_eq!(fine(&run(&text)), "EPERM\nEPERM\n", "{user}");
    }
}

/// The same name again, at once, whichever way it ended.
#[test]
fn e78_it_starts_again_at_once() {
    if !root() {
        return;
    }
    let text = python("import time; print('ready', flush=True); time.sleep(60)", "  limits { tasks 20 }");
    for round in 0..20 {
        let (_dir, mut child) = start(&text);
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        let signal = if round % 2 == 0 { nix::sys::signal::Signal::SIGKILL } else { nix::sys::signal::Signal::SIGTERM };
        nix::sys::signal::kill(pid, signal).unwrap();
        let begun = Instant::now();
        child.wait().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "{round}");
    }
}
