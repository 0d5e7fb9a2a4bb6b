//! The file tree of a machine: rows B17 to B38 of the catalogue of properties, one test for each.
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

use harness::{Dir, Ran, host_machine, name, probe, root, run, skip, verb};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// What std/daemon grants without its assertions, and the calls of mount(2) besides.
const MOUNTING: &str = "  syscalls {
    allow @system-service
    allow @mount
    allow name_to_handle_at
    allow open_by_handle_at
    allow [clone, unshare]
    deny clone3 errno ENOSYS
    deny openat2 errno ENOSYS
  }
";

fn exec(args: &[&str]) -> String {
    args.iter().map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(" ")
}

/// A machine on the host's /usr with the probe at /probe, as nobody's user 1000.
fn host_probe(check: &[&str], mounts: &str, rest: &str) -> String {
    let body = format!(
        "  user 1000 group 1000\n  capabilities {{ none }}\n  mounts {{\n    bind \"{}\" -> \"/probe\" ro exec\n{mounts}\n  }}\n{rest}",
        probe("tree").display()
    );
    host_machine(&exec(&[&["/probe"], check].concat()), &body)
}

/// The same as root of its user namespace, with every capability that mounting needs.
fn mounting_probe(check: &[&str], mounts: &str) -> String {
    format!(
        "policy 1\nkernel 6.18\nimport \"std/groups\"\nmachine {} {{\n  root host\n  exec {}\n  user root\n  userns auto\n  \
         capabilities {{\n    keep [sys_admin, sys_chroot, mknod, dac_override, dac_read_search] why \"a check\"\n  }}\n{MOUNTING}  mounts {{\n    \
         bind \"{}\" -> \"/probe\" ro exec\n{mounts}\n  }}\n}}\n",
        name("m"),
        exec(&[&["/probe"], check].concat()),
        probe("tree").display()
    )
}

/// A root folder that holds the probe and the usual empty folders.
fn image(dir: &Dir, name: &str) -> PathBuf {
    let top = dir.0.join(name);
    for d in ["proc", "sys", "dev", "run", "tmp", "etc", "srv/data", "usr"] {
        fs::create_dir_all(top.join(d)).unwrap();
    }
    fs::copy(probe("tree"), top.join("probe")).unwrap();
    top
}

/// A machine on a root folder.
fn folder_machine(top: &Path, access: &str, check: &[&str], body: &str) -> String {
    format!(
        "policy 1\nkernel 6.18\nimport \"std/daemon\"\nmachine {} {{\n  extends std/daemon\n  root dir \"{}\" {access}\n  exec {}\n  \
         user 1000 group 1000\n  capabilities {{ none }}\n{body}\n}}\n",
        name("d"),
        top.display(),
        exec(&[&["/probe"], check].concat()),
    )
}

/// Runs and expects that every check inside said OK.
#[track_caller]
fn holds(policy: &str) -> Ran {
    let r = run(policy);
    let fine = r.code == 0 && r.out.contains("OK") && !r.out.contains("BAD");
    assert!(fine, "exit {}\n{}{}\n{policy}", r.code, r.out, r.err);
    r
}

/// Runs and expects that nothing was started, and that the message says where and why.
#[track_caller]
fn refused(policy: &str, text: &str) -> Ran {
    let r = run(policy);
    assert_eq!(r.code, 125, "{}{}\n{policy}", r.out, r.err);
    assert!(r.err.contains(text), "`{text}` isn't said\n{}\n{policy}", r.err);
    assert!(!r.out.contains("OK"), "something ran\n{}", r.out);
    r
}

/// Everything below a host folder that somebody could have changed.
fn record(top: &Path) -> BTreeMap<PathBuf, String> {
    fn visit(path: &Path, out: &mut BTreeMap<PathBuf, String>) {
        let m = fs::symlink_metadata(path).unwrap();
        let mut text = format!(
            "{} {:o} {}:{} links {} mtime {}.{} ctime {}.{} size {}",
            m.ino(),
            m.mode(),
            m.uid(),
            m.gid(),
            m.nlink(),
            m.mtime(),
            m.mtime_nsec(),
            m.ctime(),
            m.ctime_nsec(),
            m.size()
        );
        if m.is_file() {
            text.push_str(&format!(" {:?}", fs::read(path).unwrap().get(..64.min(usize::try_from(m.size()).unwrap()))));
        }
        out.insert(path.to_owned(), text);
        if m.is_dir() {
            for e in fs::read_dir(path).unwrap() {
                visit(&e.unwrap().path(), out);
            }
        }
    }
    let mut out = BTreeMap::new();
    visit(top, &mut out);
    out
}

/// A host folder that no machine may touch.
fn sentinel(dir: &Dir) -> PathBuf {
    let s = dir.0.join("outside");
    fs::create_dir_all(s.join("sub")).unwrap();
    for f in ["passwd", "sub/key", "data"] {
        fs::write(s.join(f), "outside\n").unwrap();
    }
    s
}

/// Runs the probe on the host.
fn outside(args: &[&str]) -> String {
    let o = Command::new(probe("tree")).args(args).output().unwrap();
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stdout));
    String::from_utf8_lossy(&o.stdout).trim().trim_start_matches("OK ").to_owned()
}

/// Runs `f` in a mount namespace of its own, in which every mount is shared; it goes with the thread.
fn own_mounts<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        for flag in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
            mount(None::<&str>, "/", None::<&str>, flag | MsFlags::MS_REC, None::<&str>).unwrap();
        }
        f()
    });
    match thread.join() {
        Ok(v) => v,
        Err(e) => std::panic::resume_unwind(e),
    }
}

const KINDS: &[&str] =
    &["absolute", "relative", "dangling", "looping", "magic", "up", "file", "fifo", "socket", "device"];

/// Puts something unexpected at `path`.
fn plant(path: &Path, kind: &str, outside: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    }
    match kind {
        "absolute" => symlink(outside, path).unwrap(),
        "relative" => {
            let depth = path.components().count();
            let up = "../".repeat(depth + 2);
            symlink(format!("{up}{}", outside.strip_prefix("/").unwrap().display()), path).unwrap();
        }
        "dangling" => symlink("/nowhere/at/all", path).unwrap(),
        "looping" => symlink(path.file_name().unwrap(), path).unwrap(),
        "magic" => symlink("/proc/self/root", path).unwrap(),
        "up" => symlink("x/../..", path).unwrap(),
        "file" => fs::write(path, "image\n").unwrap(),
        "fifo" => nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        "socket" => drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        _ => {
            use nix::sys::stat::{Mode, SFlag, makedev, mknod};
            mknod(path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)).unwrap();
        }
    }
}

#[test]
fn b17_nothing_in_the_image_redirects_a_mount() {
    if !root() {
        return;
    }
    let dir = Dir::new("b17");
    let away = sentinel(&dir);
    let source = dir.0.join("source");
    fs::create_dir(&source).unwrap();
    let before = record(&away);
    let body = format!(
        "  mounts {{\n    tmpfs \"/run\"\n    tmpfs \"/tmp\"\n    bind \"{}\" -> \"/etc\" ro\n    tmpfs \"/srv/data\"\n  }}",
        source.display()
    );
    // The line of the policy on which each place is mounted; None: a rule that every machine has.
    let places = [
        ("proc", None),
        ("sys", None),
        ("dev", None),
        ("run", Some(11)),
        ("tmp", Some(12)),
        ("etc", Some(13)),
        ("srv/data", Some(14)),
        ("srv", Some(14)),
    ];
    let whole = image(&dir, "whole");
    for access in ["ro", "rw", "ephemeral size=16MiB"] {
        holds(&folder_machine(&whole, access, &["alive"], &body));
        for (place, line) in places {
            for kind in KINDS {
                let top = image(&dir, "broken");
                plant(&top.join(place), kind, &away);
                let r = run(&folder_machine(&top, access, &["alive"], &body));
                let what = format!("{access}: {place} is {kind}\n{}{}", r.out, r.err);
                assert_eq!(r.code, 125, "{what}");
                assert!(r.err.contains("at step ") && r.err.contains("because of "), "{what}");
                // At the very place, not by what the kernel held in the end.
                assert!(r.err.contains("the place inside"), "{what}");
                if let Some(n) = line {
                    // A folder that is made on the way is the rule's; the mount is the line's.
                    let named = r.err.contains(&format!("test.stockade:{n}")) || r.err.contains("a place to mount on");
                    assert!(named, "{what}");
                }
                assert!(r.err.contains(&format!("/{}", place.split('/').next().unwrap())), "{what}");
                assert_eq!(before, record(&away), "{what}");
                fs::remove_dir_all(&top).unwrap();
            }
        }
    }
}

#[test]
fn b17_masks_and_file_binds_follow_no_link() {
    if !root() {
        return;
    }
    let dir = Dir::new("b17-files");
    let away = sentinel(&dir);
    let before = record(&away);
    let file = dir.write("config", "from the host");
    let body = format!("  mounts {{\n    bind \"{}\" -> \"/config\" ro\n    mask \"/secret\"\n  }}", file.display());
    for place in ["config", "secret"] {
        for kind in KINDS {
            let top = image(&dir, "files");
            for f in ["config", "secret"] {
                fs::write(top.join(f), "image").unwrap();
            }
            fs::remove_file(top.join(place)).unwrap();
            plant(&top.join(place), kind, &away);
            let check = ["try", "is:/config,from the host:ok", "empty:/secret:ok"];
            let r = run(&folder_machine(&top, "ro", &check, &body));
            let link = fs::symlink_metadata(top.join(place)).unwrap().file_type().is_symlink();
            let what = format!("{place} is {kind}: exit {}\n{}{}", r.code, r.out, r.err);
            if link {
                assert!(r.code == 125 && r.err.contains("the place inside leads through a symbolic link"), "{what}");
                assert!(r.err.contains("at step ") && r.err.contains("test.stockade:"), "{what}");
            } else {
                assert!(r.code == 0 && !r.out.contains("BAD"), "{what}");
            }
            assert_eq!(before, record(&away), "{what}");
            fs::remove_dir_all(&top).unwrap();
        }
    }
}

#[test]
fn b17_a_volatile_root_takes_usr_from_its_own_folder() {
    if !root() {
        return;
    }
    let dir = Dir::new("b17-volatile");
    let away = sentinel(&dir);
    let top = image(&dir, "whole");
    fs::copy(probe("tree"), top.join("usr/probe")).unwrap();
    let machine = |top: &Path, check: &[&str]| {
        folder_machine(top, "volatile size=16MiB", check, "").replace("\"/probe\"", "\"/usr/probe\"")
    };
    holds(&machine(&top, &["alive"]));
    // The probe lies outside as well, so that a redirected /usr would start.
    fs::copy(probe("tree"), away.join("probe")).unwrap();
    for kind in ["absolute", "relative"] {
        let top = image(&dir, kind);
        plant(&top.join("usr"), kind, &away);
        let r = run(&machine(&top, &["try", "read:/usr/passwd:ENOENT"]));
        assert!(
            r.code != 0 && !r.out.contains("BAD"),
            "a host folder outside the root is /usr ({kind})\n{}{}",
            r.out,
            r.err
        );
    }
}

#[test]
fn b18_nothing_is_redirected_while_the_image_changes() {
    if !root() {
        return;
    }
    let dir = Dir::new("b18");
    let away = sentinel(&dir);
    let top = image(&dir, "root");
    let pairs: Vec<(PathBuf, PathBuf)> =
        ["proc", "dev", "run", "srv"].iter().map(|p| (top.join(p), top.join(format!("{p}.link")))).collect();
    for (_, link) in &pairs {
        symlink(&away, link).unwrap();
    }
    fs::create_dir(away.join("data2")).unwrap();
    let before = record(&away);
    let stop = AtomicBool::new(false);
    let (mut started, mut refusals) = (0, 0);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (a, b) in &pairs {
                    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE).unwrap();
                }
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
        });
        for i in 0..60 {
            let access = ["ro", "rw", "ephemeral size=8MiB"][i % 3];
            let r = run(&folder_machine(
                &top,
                access,
                &["try", "write:/run/passwd:ENOENT"],
                "  mounts {\n    tmpfs \"/run\"\n    tmpfs \"/srv/data\"\n  }",
            ));
            match r.code {
                0 => started += 1,
                125 => {
                    refusals += 1;
                    if !r.err.contains("at step ") {
                        stop.store(true, Ordering::Relaxed);
                        panic!("{}", r.err);
                    }
                }
                _ => {
                    stop.store(true, Ordering::Relaxed);
                    panic!("exit {}\n{}{}", r.code, r.out, r.err);
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(before, record(&away));
    assert!(refusals > 0, "the race was never on: {started} started");
}

#[test]
fn b19_a_link_at_dev_leads_nowhere() {
    if !root() {
        return;
    }
    let dir = Dir::new("b19");
    let away = sentinel(&dir);
    let before = record(&away);
    for access in ["ro", "rw", "ephemeral"] {
        let top = image(&dir, access);
        fs::remove_dir(top.join("dev")).unwrap();
        symlink("../outside", top.join("dev")).unwrap();
        let r = refused(&folder_machine(&top, access, &["alive"], ""), "symbolic link");
        assert!(r.err.contains("/dev"), "{}", r.err);
    }
    assert_eq!(before, record(&away));
}

const DEV: &[&str] = &[
    "null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr", "ptmx", "pts", "pts/ptmx",
    "shm", "mqueue",
];

#[test]
fn b20_masks_are_our_own_files() {
    if !root() {
        return;
    }
    let dir = Dir::new("b20");
    let top = image(&dir, "root");
    for f in ["null", "zero", "console", "extra"] {
        fs::write(top.join("dev").join(f), "from the image").unwrap();
    }
    fs::write(top.join("secret"), "from the image").unwrap();
    fs::create_dir(top.join("hidden")).unwrap();
    fs::write(top.join("hidden/x"), "from the image").unwrap();
    for access in ["ro", "rw", "ephemeral"] {
        let body = "  mounts {\n    mask \"/secret\"\n    hide \"/hidden\"\n  }";
        holds(&folder_machine(&top, access, &[&["devices"], DEV].concat(), body));
        let check = [
            "try",
            "empty:/secret:ok",
            "write:/secret:EACCES|EROFS",
            "read:/hidden:EACCES",
            "read:/hidden/x:EACCES",
            "empty:/proc/kallsyms:ok",
            "empty:/proc/keys:ok",
            "empty:/proc/timer_list:ok",
            "empty:/sys/firmware:ok",
            "empty:/dev/null:ok",
        ];
        holds(&folder_machine(&top, access, &check, body));
    }
    assert_eq!(fs::read_to_string(top.join("secret")).unwrap(), "from the image");
    assert_eq!(fs::read_to_string(top.join("dev/null")).unwrap(), "from the image");
}

#[test]
fn b21_nothing_is_mounted_over_the_kernels_file_systems() {
    for place in [
        "/proc",
        "/proc/self/attr",
        "/proc/sys",
        "/proc/self/uid_map",
        "/sys",
        "/sys/fs/cgroup",
        "/dev",
        "/dev/null",
        "/dev/pts",
    ] {
        for line in [
            format!("bind \"/etc\" -> \"{place}\" ro"),
            format!("tmpfs \"{place}\""),
            format!("overlay \"/etc\" -> \"{place}\""),
        ] {
            let r = verb(
                "check",
                &host_machine(
                    "\"/usr/bin/true\"",
                    &format!("  user root\n  capabilities {{ none }}\n  mounts {{\n    {line}\n  }}"),
                ),
            );
            assert!(
                r.code == 2 && r.err.contains("E0515") && r.err.contains("test.stockade:11:5"),
                "{line}: exit {}\n{}",
                r.code,
                r.err
            );
        }
    }
    // Another way to write the same place is no way around it.
    for place in ["/proc/../proc", "//proc", "/run/../sys", "/proc/."] {
        let body = format!("  user root\n  capabilities {{ none }}\n  mounts {{\n    tmpfs \"{place}\"\n  }}");
        let r = verb("check", &host_machine("\"/usr/bin/true\"", &body));
        assert!(r.code == 2 && r.err.contains("test.stockade:11"), "{place}: exit {}\n{}", r.code, r.err);
    }
    if !root() {
        return;
    }
    let types = [
        "mounts",
        "/proc=proc",
        "/proc/sys=proc",
        "/proc/bus=proc",
        "/proc/fs=proc",
        "/proc/irq=proc",
        "/proc/*",
        "/*",
    ];
    holds(&host_probe(&types, "", ""));
}

/// Every mask, and every way to get rid of it.
fn attacks(path: &str) -> Vec<String> {
    let no = "EPERM|EINVAL|EBUSY|EACCES";
    vec![
        format!("umount:{path}:{no}"),
        format!("detach:{path}:{no}"),
        format!("remount:{path}:{no}"),
        format!("clrro:{path}:{no}"),
        format!("clrdev:{path}:{no}"),
        // These three aren't noexec: there is nothing to clear.
        format!("clrexec:{path}:{}", if ["/", "/usr", "/probe"].contains(&path) { "ok" } else { no }),
        format!("clrsuid:{path}:{no}"),
        format!("move:{path},/tmp:{no}"),
    ]
}

const MASKED: &[&str] = &[
    "/proc/kcore",
    "/proc/keys",
    "/proc/kallsyms",
    "/proc/timer_list",
    "/proc/sysrq-trigger",
    "/proc/sched_debug",
    "/proc/latency_stats",
    "/proc/interrupts",
    "/proc/kmsg",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/kpagecgroup",
    "/proc/vmallocinfo",
    "/proc/acpi",
    "/proc/asound",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
];

#[test]
fn b22_masks_and_read_only_places_hold() {
    if !root() {
        return;
    }
    let reads: Vec<String> = MASKED.iter().map(|p| format!("empty:{p}:ok|ENOENT")).collect();
    let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
    holds(&host_probe(&[&["try"], reads.as_slice()].concat(), "", ""));
    let there: Vec<&str> = MASKED.iter().copied().filter(|p| Path::new(p).exists()).collect();
    assert!(there.len() > 5, "{there:?}");
    let more = ["/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/sys", "/usr", "/probe", "/dev", "/"];
    let mut check: Vec<String> = vec!["try".into()];
    check.extend(there.iter().chain(&more).flat_map(|p| attacks(p)));
    check.push("newproc:/run:EPERM".into());
    check.push("copytree:/proc:EPERM|EINVAL".into());
    check.push("bind:/proc,/run:EPERM|EINVAL".into());
    // A second mount namespace below takes nothing away either.
    check.push("unshare:0x10020000:ok".into());
    check.extend(there.iter().flat_map(|p| attacks(p)));
    check.push("newproc:/run:EPERM".into());
    check.extend(there.iter().map(|p| format!("empty:{p}:ok")));
    // It does hold the capability: this is what all those refusals are worth.
    check.push("newtmpfs:/run:ok".into());
    let check: Vec<&str> = check.iter().map(String::as_str).collect();
    holds(&mounting_probe(&check, "    tmpfs \"/run\"\n    tmpfs \"/tmp\""));
    // Without the capability and the calls, nothing at all.
    holds(&host_probe(
        &["try", "umount:/proc/kallsyms:EPERM", "newtmpfs:/run:EPERM", "unshare:0x10020000:EPERM"],
        "    tmpfs \"/run\"",
        "",
    ));
}

#[test]
fn b23_no_knob_of_the_host_opens_for_writing() {
    if !root() {
        return;
    }
    holds(&host_probe(&["knobs"], "", ""));
    holds(&mounting_probe(&["knobs"], ""));
}

#[test]
fn b23_files_of_other_processes_dont_open_for_writing() {
    if !root() {
        return;
    }
    holds(&host_probe(&["others"], "", ""));
}

#[test]
fn b24_read_only_reaches_every_mount_below() {
    if !root() {
        return;
    }
    own_mounts(|| {
        use nix::mount::{MsFlags, mount};
        let dir = Dir::new("b24");
        let source = dir.0.join("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("file"), "text").unwrap();
        mount(Some("t"), &source.join("sub"), Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=777")).unwrap();
        fs::write(source.join("sub/file"), "text").unwrap();
        for p in [source.clone(), source.join("file"), source.join("sub/file")] {
            fs::set_permissions(p, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let bind = format!("    bind \"{}\" -> \"/data\" ro", source.display());
        let before = record(&source);
        let mut check = vec!["try".to_owned()];
        for at in ["/data", "/data/sub"] {
            for o in [
                "write:{}/file",
                "trunc:{}/file",
                "creat:{}/n",
                "mkdir:{}/n",
                "unlink:{}/file",
                "symlink:{}/n",
                "chmod:{}/file",
                "fifo:{}/n",
                "rename:{}/file,{}/n",
                "link:{}/file,{}/n",
            ] {
                check.push(format!("{}:EROFS", o.replace("{}", at)));
            }
        }
        let args: Vec<&str> = check.iter().map(String::as_str).collect();
        holds(&host_probe(&args, &bind, ""));
        // The place itself and the mount below it stay as they are for one who may mount.
        for at in ["/data", "/data/sub"] {
            check.extend(["remount", "clrro", "clrsuid", "clrdev", "clrexec"].map(|o| format!("{o}:{at}:EPERM")));
            check.extend([format!("umount:{at}:EINVAL|EPERM"), format!("detach:{at}:EINVAL|EPERM")]);
        }
        check.push("write:/data/sub/file:EROFS".into());
        let args: Vec<&str> = check.iter().map(String::as_str).collect();
        holds(&mounting_probe(&args, &format!("{bind}\n    tmpfs \"/run\"")));
        assert_eq!(before, record(&source));
        // The same source with `rw` can be written: the refusals above were the word's doing.
        holds(&host_probe(&["try", "write:/data/sub/file:ok"], &bind.replace(" ro", " rw"), ""));
        nix::mount::umount(&source.join("sub")).unwrap();
    });
}

fn mountinfo() -> Vec<String> {
    let mut lines: Vec<String> =
        fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn b25_mounts_pass_neither_in_nor_out() {
    if !root() {
        return;
    }
    own_mounts(|| {
        let dir = Dir::new("b25");
        let top = image(&dir, "root");
        let before = mountinfo();
        assert!(
            before.iter().any(|l| l.contains("shared:")),
            "the test's own namespace shares nothing: it could not fail"
        );
        let bind = format!("    tmpfs \"/run\"\n    bind \"{}\" -> \"/data\" rw", top.display());
        holds(&host_probe(&["alive"], &bind, ""));
        for access in ["ro", "rw", "ephemeral"] {
            holds(&folder_machine(&top, access, &["alive"], "  mounts {\n    tmpfs \"/run\"\n  }"));
        }
        holds(&mounting_probe(
            &["try", "shared:/:ok|EPERM|EINVAL", "newtmpfs:/run:ok", "newtmpfs:/data/srv:ok", "bind:/run,/data/run:ok"],
            &bind,
        ));
        assert_eq!(before, mountinfo());
        refused(&folder_machine(&top, "ro", &["alive"], "  mounts {\n    tmpfs \"/none\"\n  }"), "at step ");
        assert_eq!(before, mountinfo());
    });
}

#[test]
fn b25_a_later_mount_of_the_host_stays_outside() {
    if !root() {
        return;
    }
    own_mounts(|| {
        use nix::mount::{MsFlags, mount};
        let dir = Dir::new("b25-later");
        let source = dir.0.join("source");
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("sub/seen"), "before").unwrap();
        let fifo = source.join("go");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        fs::set_permissions(&fifo, fs::Permissions::from_mode(0o666)).unwrap();
        let policy = dir.write(
            "p.stockade",
            &host_machine(
                "\"/bin/sh\" \"-c\" \"echo up; read x < /data/go; cat /data/sub/seen\"",
                &format!(
                    "  user 1000 group 1000\n  capabilities {{ none }}\n  mounts {{ bind \"{}\" -> \"/data\" ro }}",
                    source.display()
                ),
            ),
        );
        let mut child =
            harness::stockade().arg("run").arg(&policy).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert_eq!(lines.next().unwrap().unwrap(), "up");
        mount(Some("t"), &source.join("sub"), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::write(source.join("sub/seen"), "after").unwrap();
        fs::write(&fifo, "x\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "before");
        assert!(child.wait().unwrap().success());
        nix::mount::umount(&source.join("sub")).unwrap();
    });
}

#[test]
fn b26_the_hosts_tree_is_out_of_reach() {
    if !root() {
        return;
    }
    let dir = Dir::new("b26");
    let top = image(&dir, "root");
    let list = [
        "mounts",
        "/=tmpfs",
        "/usr=ext4",
        "/usr=*",
        "/proc=proc",
        "/proc/*",
        "/sys=sysfs",
        "/sys/*",
        "/dev=tmpfs",
        "/dev/*",
        "/probe=*",
        "/run=tmpfs",
        "/tmp=tmpfs",
    ];
    // A type with a star stands for any type at that place.
    let list: Vec<String> =
        list.iter().map(|s| s.replace("=*", "=")).map(|s| if s.ends_with('=') { format!("{s}*") } else { s }).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    holds(&host_probe(&list, "    tmpfs \"/run\"\n    tmpfs \"/tmp\"", ""));
    holds(&folder_machine(
        &top,
        "ro",
        &["mounts", "/=*", "/proc=proc", "/proc/*", "/sys=sysfs", "/sys/*", "/dev=tmpfs", "/dev/*"],
        "",
    ));
    holds(&host_probe(&["try", "escape:/tmp:EPERM"], "    tmpfs \"/tmp\"", ""));
    // With chroot(2) and its capability it ends at the machine's own root.
    holds(&mounting_probe(&["try", "escape:/tmp:EBUSY"], "    tmpfs \"/tmp\""));
    holds(&mounting_probe(
        &[
            "try",
            "umount:/:EINVAL|EPERM|EBUSY",
            "detach:/:EINVAL|EPERM|EBUSY",
            "stat:/oldroot:ENOENT",
            "stat:/home:ENOENT",
        ],
        "",
    ));
}

#[test]
fn b27_devices_are_those_of_the_policy() {
    if !root() {
        return;
    }
    let dir = Dir::new("b27");
    let top = image(&dir, "root");
    {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        let all = Mode::from_bits_truncate(0o666);
        mknod(&top.join("null"), SFlag::S_IFCHR, all, makedev(1, 3)).unwrap();
        mknod(&top.join("loop"), SFlag::S_IFBLK, all, makedev(7, 0)).unwrap();
        for n in ["null", "loop"] {
            fs::set_permissions(top.join(n), fs::Permissions::from_mode(0o666)).unwrap();
        }
        fs::create_dir(top.join("open")).unwrap();
        fs::set_permissions(top.join("open"), fs::Permissions::from_mode(0o777)).unwrap();
    }
    holds(&host_probe(&[&["devices"], DEV].concat(), "", ""));
    for access in ["ro", "rw", "ephemeral"] {
        holds(&folder_machine(&top, access, &[&["devices"], DEV].concat(), ""));
        let check = [
            "try",
            "read:/null:EACCES",
            "write:/null:EACCES|EROFS",
            "read:/loop:EACCES",
            "read:/dev/null:ok",
            "write:/dev/null:ok",
            "creat:/dev/x:EROFS|EACCES",
        ];
        holds(&folder_machine(&top, access, &check, ""));
    }
    let bind = format!("    tmpfs \"/run\" mode=1777\n    bind \"{}\" -> \"/image\" rw", top.display());
    let none = ["/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/loop-control", "/dev/net/tun", "/dev/vsock"]
        .map(|d| format!("stat:{d}:ENOENT"));
    let mut check = vec!["try"];
    check.extend(none.iter().map(String::as_str));
    for place in ["/run", "/dev/shm", "/image/open"] {
        for o in ["mknodc", "mknodb"] {
            check.push(Box::leak(format!("{o}:{place}/n:EPERM").into_boxed_str()));
        }
    }
    check.push("read:/image/null:EACCES");
    holds(&host_probe(&check, &bind, ""));
    // CAP_MKNOD and the call itself change nothing: it is the user namespace that refuses.
    let lifted = mounting_probe(&check, &bind)
        .replace("    allow [clone, unshare]\n", "    allow [clone, unshare]\n    allow mknod\n    allow mknodat\n");
    holds(&lifted);
    // A device of the policy is there, and is the host's.
    let body = "  devices { allow \"/dev/kmsg\" why \"a check\" }\n";
    holds(&host_probe(&[&["devices"], DEV, &["kmsg"]].concat(), "", body));
}

#[test]
fn b28_a_handle_opens_nothing() {
    if !root() {
        return;
    }
    let dir = Dir::new("b28");
    let secret = dir.write("secret", "outside");
    let inside = dir.0.join("inside");
    fs::create_dir(&inside).unwrap();
    let bind = format!("    bind \"{}\" -> \"/data\" rw", inside.display());
    // Each with a place of its file system, through which it is opened: /tmp may be one of its own.
    for (what, place) in [(secret.to_str().unwrap(), dir.0.to_str().unwrap()), ("/", "/"), ("/etc/shadow", "/etc")] {
        let handle = outside(&["handleof", what]);
        assert_eq!(
            outside(&["try", &format!("handle:{place},{handle}:ok")]),
            format!("handle {place} {handle} = ok"),
            "the handle is good outside"
        );
        let check = format!("handle:/data,{handle}:EPERM");
        holds(&host_probe(&["try", &check], &bind, ""));
        // With the call and CAP_DAC_READ_SEARCH of the user namespace it is still another one's file system.
        holds(&mounting_probe(&["try", &check], &bind));
    }
}

#[test]
fn b29_the_file_that_was_reviewed_or_none() {
    if !root() {
        return;
    }
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let dir = Dir::new("b29");
    let (source, other) = (dir.0.join("source"), dir.0.join("other"));
    let mut refusals = 0;
    for i in 0..24 {
        let _ignored = fs::remove_dir_all(&source);
        let _ignored = fs::remove_dir_all(&other).or_else(|_| fs::remove_file(&other));
        fs::create_dir(&source).unwrap();
        fs::write(source.join("marker"), "reviewed").unwrap();
        match i % 2 {
            0 => {
                fs::create_dir(&other).unwrap();
                fs::write(other.join("marker"), "swapped").unwrap();
            }
            _ => symlink("/etc", &other).unwrap(),
        }
        let text =
            host_probe(&["cat", "/data/marker"], &format!("    bind \"{}\" -> \"/data\" ro", source.display()), "");
        let machine = text.split("machine ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let policy = dir.write("p.stockade", &text);
        let state = PathBuf::from(format!("/run/stockade/machines/{machine}/state.json"));
        let child = harness::stockade()
            .arg("run")
            .arg(&policy)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        // The first step of the launch is visible: the plan is made, the tree isn't.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !state.exists() && std::time::Instant::now() < deadline {
            std::hint::spin_loop();
        }
        kill(pid, Signal::SIGSTOP).unwrap();
        renameat2(AT_FDCWD, &source, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
        kill(pid, Signal::SIGCONT).unwrap();
        let r = Ran::from(child.wait_with_output().unwrap());
        if r.err.contains("is running already") {
            // Another launcher that cleans up looked at the new name's lock: no matter of this row.
            continue;
        }
        match r.code {
            0 => assert!(r.out.contains("reviewed") && !r.out.contains("swapped"), "{}", r.out),
            125 => {
                refusals += 1;
                let said = r.err.contains("another file lies") || r.err.contains("can't be opened");
                assert!(said && r.err.contains("test.stockade:") | r.err.contains("p.stockade:"), "{}", r.err);
            }
            c => panic!("exit {c}\n{}{}", r.out, r.err),
        }
    }
    assert!(refusals > 0, "the swap never came in time");
}

#[test]
fn b30_sockets_are_reached_only_through_a_bind() {
    if !root() {
        return;
    }
    let dir = Dir::new("b30");
    let open = dir.0.join("tree");
    fs::create_dir(&open).unwrap();
    let _all = std::os::unix::net::UnixListener::bind(open.join("all")).unwrap();
    let _own = std::os::unix::net::UnixListener::bind(open.join("own")).unwrap();
    fs::set_permissions(open.join("all"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(open.join("own"), fs::Permissions::from_mode(0o700)).unwrap();
    let path = open.join("all");
    holds(&host_probe(&["try", &format!("connect:{}:ENOENT", path.display())], "", ""));
    // What holds and what doesn't: permissions count, `ro` does not (connect(2) writes no file), and Landlock up
    // to ABI 8 knows no right for it. Who binds a folder with sockets in it gives the sockets.
    for how in ["ro", "rw"] {
        let bind = format!("    bind \"{}\" -> \"/data\" {how}", open.display());
        holds(&host_probe(&["try", "connect:/data/all:ok", "connect:/data/own:EACCES"], &bind, ""));
        holds(&host_probe(
            &["try", "connect:/data/all:ok", "connect:/data/own:EACCES"],
            &bind,
            "  files { exec \"/probe\" }\n",
        ));
        let hidden = format!("{bind}\n    hide \"/data/all\"");
        holds(&host_probe(&["try", "connect:/data/all:EACCES|ECONNREFUSED"], &hidden, ""));
    }
}

#[test]
fn b31_a_program_has_no_cgroup_file_system() {
    if !root() {
        return;
    }
    holds(&host_probe(&["cgroup"], "", ""));
    holds(&mounting_probe(&["cgroup"], ""));
    // One that it mounts itself shows its own place only, and lets nothing be written.
    let check = [
        "try",
        "newfs:/run,cgroup2:ok|EPERM",
        "write:/run/cgroup.procs:EACCES|ENOENT|EPERM",
        "write:/run/cgroup.subtree_control:EACCES|ENOENT|EPERM",
        "mkdir:/run/x:EACCES|EROFS|EPERM",
        "newfs:/run,cgroup:EPERM|EINVAL",
        "newfs:/run,sysfs:EPERM",
        "newfs:/run,ext4:EPERM|EACCES|ENOENT|ENODEV|EINVAL",
    ];
    holds(&mounting_probe(&check, "    tmpfs \"/run\" mode=700"));
}

#[test]
fn b32_only_the_machines_own_processes_exist() {
    if !root() {
        return;
    }
    holds(&host_probe(&["pids"], "", ""));
    holds(&mounting_probe(&["pids"], ""));
    let me = std::process::id().to_string();
    holds(&host_probe(&["try", &format!("stat:/proc/{}:ENOENT", 1_000_000), &format!("vmread:1,{me}:EPERM")], "", ""));
}

#[test]
fn b33_a_setuid_file_gives_nothing() {
    if !root() {
        return;
    }
    let dir = Dir::new("b33");
    let top = image(&dir, "root");
    for (name, mode) in [("suid", 0o4755), ("sgid", 0o2755), ("both", 0o6755)] {
        fs::copy(probe("tree"), top.join(name)).unwrap();
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).unwrap();
        let bind = format!("    bind \"{}\" -> \"/data\" ro exec", top.display());
        let check = ["ids", "1000", "1000"];
        holds(&host_probe(&check, &bind, "").replace("exec \"/probe\"", &format!("exec \"/data/{name}\"")));
        for access in ["ro", "rw", "ephemeral"] {
            holds(&folder_machine(&top, access, &check, "").replace("\"/probe\"", &format!("\"/{name}\"")));
        }
        let status = ["status", "CapPrm=0000000000000000", "CapEff=0000000000000000", "NoNewPrivs=1"];
        holds(&folder_machine(&top, "ro", &status, "").replace("\"/probe\"", &format!("\"/{name}\"")));
    }
}

#[test]
fn b34_files_belong_to_the_same_ids_outside() {
    if !root() {
        return;
    }
    let dir = Dir::new("b34");
    for id in [1000u32, 0, 65_534] {
        let d = dir.0.join(format!("rw{id}"));
        fs::create_dir(&d).unwrap();
        chown(&d, Some(id), Some(id)).unwrap();
        let bind = format!("    bind \"{}\" -> \"/data\" rw", d.display());
        holds(
            &host_probe(&["owners", "/data"], &bind, "")
                .replace("user 1000 group 1000", &format!("user {id} group {id}")),
        );
        let mut seen = 0;
        for e in fs::read_dir(&d).unwrap() {
            let e = e.unwrap();
            let m = fs::symlink_metadata(e.path()).unwrap();
            assert_eq!((m.uid(), m.gid()), (id, id), "{}", e.path().display());
            assert!(!m.file_type().is_char_device() && !m.file_type().is_block_device());
            seen += 1;
        }
        assert_eq!(seen, 5);
    }
    // A set-group-ID folder gives its group on, and no other.
    let d = dir.0.join("group");
    fs::create_dir(&d).unwrap();
    chown(&d, Some(1000), Some(4242)).unwrap();
    fs::set_permissions(&d, fs::Permissions::from_mode(0o2770)).unwrap();
    holds(&host_probe(
        &["try", "creat:/data/file:ok", "mkdir:/data/dir:ok"],
        &format!("    bind \"{}\" -> \"/data\" rw", d.display()),
        "",
    ));
    for n in ["file", "dir"] {
        let m = fs::symlink_metadata(d.join(n)).unwrap();
        assert_eq!((m.uid(), m.gid()), (1000, 4242));
    }
    // Memory belongs to whom the policy says, and to nobody else.
    holds(&host_probe(&["owners", "/own"], "    tmpfs \"/own\" owner=1000\n    tmpfs \"/roots\"", ""));
    holds(&host_probe(&["try", "creat:/roots/x:EACCES"], "    tmpfs \"/own\" owner=1000\n    tmpfs \"/roots\"", ""));
}

#[test]
fn b35_marks_of_overlays_in_an_image_count_for_nothing() {
    if !root() {
        return;
    }
    let dir = Dir::new("b35");
    let top = image(&dir, "root");
    for d in ["opaque", "moved", "y"] {
        fs::create_dir(top.join(d)).unwrap();
        fs::write(top.join(d).join("file"), d).unwrap();
        fs::set_permissions(top.join(d), fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(top.join(d).join("file"), fs::Permissions::from_mode(0o666)).unwrap();
    }
    fs::write(top.join("suid"), "x").unwrap();
    fs::set_permissions(top.join("suid"), fs::Permissions::from_mode(0o4777)).unwrap();
    for (path, mark) in [("opaque", "opaque"), ("moved", "redirect")] {
        for space in ["trusted", "user"] {
            outside(&["try", &format!("setxattr:{},{space}.overlay.{mark}:ok", top.join(path).display())]);
        }
    }
    let before = record(&top);
    let check = [
        "try",
        "is:/opaque/file,opaque:ok",
        "is:/moved/file,moved:ok",
        "is:/y/file,y:ok",
        "getxattr:/opaque,trusted.overlay.opaque:ENODATA|EOPNOTSUPP|EPERM",
        "setxattr:/y,trusted.overlay.opaque:EPERM|EOPNOTSUPP",
        "put:/y/file,changed:ok",
        "is:/y/file,changed:ok",
        "unlink:/moved/file:ok",
        "stat:/moved/file:ENOENT",
        "put:/opaque/new,n:ok",
        "mkdir:/y/d:ok",
        "rename:/y/d,/y/e:ok",
        "mknodc:/y/white:EPERM",
    ];
    for _twice in 0..2 {
        holds(&folder_machine(&top, "ephemeral size=8MiB", &check, ""));
        assert_eq!(before, record(&top), "the folder below changed");
    }
    // Copied up, a set-user-ID file of a root folder gives no more than before.
    holds(&folder_machine(&top, "ephemeral", &["try", "put:/suid,y:ok"], ""));
    assert_eq!(before, record(&top));
    // An overlay among the mounts behaves likewise.
    let line = format!("    overlay \"{}\" -> \"/data\" size=8MiB", top.display());
    holds(&host_probe(&["try", "put:/data/y/file,changed:ok", "is:/data/moved/file,moved:ok"], &line, ""));
    assert_eq!(before, record(&top));
}

#[test]
fn b36_landlock_denies_each_right_outside_its_paths() {
    if !root() {
        return;
    }
    let dir = Dir::new("b36");
    let data = dir.0.join("data");
    for d in ["r", "w", "c", "c2", "m1", "m2", "x", "none"] {
        let p = data.join(d);
        fs::create_dir_all(&p).unwrap();
        fs::write(p.join("f"), "text").unwrap();
        fs::copy(probe("tree"), p.join("program")).unwrap();
        for (q, mode) in [(p.clone(), 0o777), (p.join("f"), 0o666), (p.join("program"), 0o777)] {
            fs::set_permissions(q, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    let node = dir.0.join("random");
    {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        mknod(&node, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 9)).unwrap();
        fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
    }
    let mounts = format!(
        "    bind \"{}\" -> \"/data\" rw exec why \"a check\"\n    bind \"{}\" -> \"/random\" ro dev why \"a check\"",
        data.display(),
        node.display()
    );
    let files = "  files {
    exec \"/probe\" \"/data/x\"
    read \"/data/r\" \"/random\"
    write \"/data/w\"
    create \"/data/c\" \"/data/c2\" \"/data/m1\" \"/data/m2\"
    refer \"/data/m1\" \"/data/m2\"
  }\n";
    let check = [
        "try",
        // read
        "read:/data/r/f:ok",
        "read:/data/r:ok",
        "read:/data/w/f:EACCES",
        "read:/data/none/f:EACCES",
        "read:/data/none:EACCES",
        "read:/etc/passwd:EACCES",
        "read:/proc/self/status:EACCES",
        // write and truncate
        "write:/data/w/f:ok",
        "trunc:/data/w/f:ok",
        "write:/data/r/f:EACCES",
        "trunc:/data/r/f:EACCES",
        "trunc:/data/none/f:EACCES",
        "rdtrunc:/data/r/f:EACCES",
        "write:/data/c/f:EACCES",
        // exec
        "exec:/data/x/program:ok",
        "exec:/data/r/program:EACCES",
        "exec:/data/w/program:EACCES",
        "exec:/data/none/program:EACCES",
        // create
        "mkdir:/data/c/d:ok",
        "symlink:/data/c/l:ok",
        "fifo:/data/c/p:ok",
        "sock:/data/c/s:ok",
        "unlink:/data/c/l:ok",
        "rmdir:/data/c/d:ok",
        "rename:/data/c/p,/data/c/q:ok",
        "mkdir:/data/w/d:EACCES",
        "symlink:/data/w/l:EACCES",
        "fifo:/data/w/p:EACCES",
        "sock:/data/r/s:EACCES",
        "creat:/data/w/n:EACCES",
        "unlink:/data/w/f:EACCES",
        "mkdir:/data/none/d:EACCES",
        // refer
        "rename:/data/c/q,/data/c2/q:EXDEV",
        "link:/data/c/f,/data/c2/g:EXDEV",
        "rename:/data/m1/f,/data/m2/g:ok",
        "link:/data/m2/g,/data/m1/h:ok",
        "rename:/data/m1/h,/data/none/h:EACCES|EXDEV",
        // ioctl on devices
        "ioctl:/random:EACCES",
        "ioctl:/dev/urandom:ok",
        // what nobody grants
        "write:/dev/null:ok",
        "read:/dev/zero:ok",
    ];
    holds(&host_probe(&check, &mounts, files));
    // The same calls without the block: only the mounts decide, so the refusals were Landlock's.
    holds(&host_probe(
        &[
            "try",
            "read:/data/none/f:ok",
            "write:/data/r/f:ok",
            "exec:/data/none/program:ok",
            "rename:/data/c/f,/data/c2/z:ok",
            "ioctl:/random:ok",
        ],
        &mounts,
        "",
    ));
    let granted = format!("{files}\n").replace("    refer", "    ioctl \"/random\"\n    refer");
    holds(&host_probe(&["try", "ioctl:/random:ok"], &mounts, &granted));
}

#[test]
fn b36_landlock_keeps_sockets_and_ports_apart() {
    if !root() {
        return;
    }
    use std::os::linux::net::SocketAddrExt as _;
    let abstract_name = name("stockade-b36");
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    assert_eq!(outside(&["try", &format!("abstract:{abstract_name}:ok")]), format!("abstract {abstract_name} = ok"));
    let (yes, no) =
        (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let (yes, no) =
        (yes.local_addr().map(|a| (a.port(), yes)).unwrap(), no.local_addr().map(|a| (a.port(), no)).unwrap());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let net =
        format!("  network {{\n    host why \"a check\"\n    connect tcp {}\n    listen tcp {free}\n  }}\n", yes.0);
    let check = [
        "try".to_owned(),
        format!("abstract:{abstract_name}:EPERM"),
        format!("conntcp:{}:ok", yes.0),
        format!("conntcp:{}:EACCES", no.0),
        format!("bindtcp:{free}:ok"),
        format!("bindtcp:{}:EACCES", free.wrapping_add(1).max(1024)),
        "bindtcp:0:EACCES".to_owned(),
    ];
    let check: Vec<&str> = check.iter().map(String::as_str).collect();
    holds(&host_probe(&check, "", &net).replace("extends std/daemon", "extends std/net-server"));
    // No network at all: nothing of the host answers either.
    let none = [format!("abstract:{abstract_name}:EPERM|ECONNREFUSED"), format!("conntcp:{}:EACCES", yes.0)];
    holds(&host_probe(&["try", &none[0], &none[1]], "", "").replace("extends std/daemon", "extends std/net-server"));
}

#[test]
fn b36_an_abi_that_isnt_there_is_refused() {
    let policy = host_machine("\"/usr/bin/true\"", "  user root\n  capabilities { none }\n  require landlock 99");
    for v in ["run", "plan"] {
        let r = verb(v, &policy);
        assert!(
            r.code != 0 && r.err.contains("E0604") && r.err.contains("test.stockade:10"),
            "{v}: exit {}\n{}{}",
            r.code,
            r.out,
            r.err
        );
    }
}

#[test]
fn b37_memory_is_bounded_in_bytes_and_files() {
    if !root() {
        return;
    }
    let dir = Dir::new("b37");
    let free = || nix::sys::statvfs::statvfs(&dir.0).unwrap().files_free();
    let before = free();
    for mib in [1u32, 4] {
        let bytes = (mib << 20).to_string();
        let mounts = format!("    tmpfs \"/small\" size={mib}MiB mode=1777");
        holds(&host_probe(&["fill", "/small", &bytes, &(mib << 20).to_string()], &mounts, ""));
    }
    holds(&host_probe(&["fill", "/dev/shm", &(64u32 << 20).to_string(), "200000"], "", ""));
    let top = image(&dir, "root");
    fs::create_dir(top.join("open")).unwrap();
    fs::set_permissions(top.join("open"), fs::Permissions::from_mode(0o777)).unwrap();
    // The layer lies in the staging place, which has a little more than the policy says for the rest.
    holds(&folder_machine(&top, "ephemeral size=4MiB", &["fill", "/open", &(6u32 << 20).to_string(), "100000"], ""));
    assert!(fs::read_dir(top.join("open")).unwrap().next().is_none());
    // Nothing of it went to the disk: at most what other tests made meanwhile.
    assert!(before.saturating_sub(free()) < 50_000);
}

#[test]
fn b38_names_with_line_ends_are_refused() {
    let machine =
        |line: &str| host_machine("\"/usr/bin/true\"", &format!("  user root\n  capabilities {{ none }}\n{line}"));
    let refused = |policy: &str, code: &str, place: &str, what: &str| {
        for (v, want) in [("check", 2), ("run", 125)] {
            let r = verb(v, policy);
            let said = r.err.contains(&format!("error[{code}")) && r.err.contains(place);
            assert!(r.code == want && said, "{what:?}: {v} exit {}\n{}", r.code, r.err);
        }
    };
    for bad in ["a-", "a/b", "..", "a_b", "A", "a.b"] {
        refused(&machine(&format!("  hostname {bad}")), "E0211", "test.stockade:10:", bad);
    }
    // A line end can't even be written: a name is a bare word, and a quoted text isn't one.
    for bad in ["a b", "-a", "\"a\\nb\"", "\"good\"", "ä", "a\\nb"] {
        refused(&machine(&format!("  hostname {bad}")), "E0", "test.stockade:10:", bad);
    }
    refused(&machine("  hostname good\n127.0.0.1 bank"), "E0", "test.stockade:11:", "two lines");
    // Through a parameter it is the same rule.
    let through = machine("  hostname ${name}").replacen("machine t-", "param name string \"a\\nb\"\nmachine t-", 1);
    refused(&through, "E0", "test.stockade:", "a parameter");
    let through = machine("  hostname ${name}").replacen("machine t-", "param name string \"a_b\"\nmachine t-", 1);
    refused(&through, "E0211", "test.stockade:11:", "a parameter");
    for bad in ["A", "a_b", "a-"] {
        let policy = machine("").replacen("machine t-", &format!("machine {bad} {{ }}\nmachine t-"), 1);
        refused(&policy, "E0211", "test.stockade:4:", bad);
    }
    if !root() {
        return;
    }
    let lines = "is:/etc/hostname,good-name:ok";
    holds(&host_probe(&["try", lines], "", "  hostname good-name\n"));
}

#[test]
fn b38_an_image_cant_redirect_the_files_of_accounts() {
    if !root() {
        return;
    }
    let dir = Dir::new("b38");
    let away = sentinel(&dir);
    let before = record(&away);
    let top = image(&dir, "root");
    fs::remove_dir(top.join("etc")).unwrap();
    symlink(&away, top.join("etc")).unwrap();
    // Names are looked up inside the root only: the file outside has no `outsider`.
    fs::write(away.join("passwd2"), "").unwrap();
    fs::remove_file(away.join("passwd2")).unwrap();
    fs::write(away.join("passwd"), "outsider:x:4242:4242::/:/bin/sh\n").unwrap();
    let now = record(&away);
    assert_ne!(before, now);
    let policy = folder_machine(&top, "ro", &["alive"], "").replace("user 1000 group 1000", "user outsider");
    let r = run(&policy);
    assert!(r.code == 125 && r.err.contains("E0516"), "exit {}\n{}", r.code, r.err);
    assert_eq!(now, record(&away));
    if !Path::new("/etc/passwd").exists() {
        skip("no accounts on this host");
    }
}
