//! `within`, proved: what exceeds a ceiling is named with its line and a call that shows it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

mod harness;

use harness::verb;

/// A machine below `ceiling`, with its own statements.
fn machine(ceiling: &str, body: &str) -> String {
    format!(
        "policy 1\nkernel 6.12\nimport \"std/daemon\"\nprofile cap {{\n{ceiling}\n}}\nmachine m {{\n  within cap\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n{body}\n}}\n"
    )
}

fn refused(ceiling: &str, body: &str, words: &[&str]) {
    let ran = verb("check", &machine(ceiling, body));
    let fine = ran.code == 2 && ran.err.contains("E0705") && words.iter().all(|w| ran.err.contains(w));
    assert!(fine, "{words:?}\n{}{}", ran.out, ran.err);
}

fn accepted(ceiling: &str, body: &str) {
    let ran = verb("check", &machine(ceiling, body));
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

const CALLS: &str = "syscalls { allow @system-service; allow socket(family in [AF_UNIX, AF_INET]); deny clone3 errno ENOSYS; deny openat2 errno ENOSYS; kill @tripwire }";
const NONE: &str = "  capabilities { none }";

fn calls(line: &str) -> String {
    format!(
        "{NONE}\n  syscalls {{\n    allow @system-service\n    deny clone3 errno EPERM\n    deny openat2 errno ENOSYS\n    kill @tripwire\n    {line}\n  }}"
    )
}

#[test]
fn calls_are_proved_and_the_counterexample_is_named() {
    accepted(CALLS, &calls("allow socket(family == AF_INET, type & 0xf == SOCK_STREAM)"));
    // Less by other words is still less.
    accepted(CALLS, &calls("allow socket(family in 1..=2)"));
    refused(CALLS, &calls("allow socket(family in 1..=3)"), &["socket(family=0x3)", "t.stockade:18", "errno EPERM"]);
    refused(CALLS, &calls("allow ptrace"), &["ptrace()", "is allow", "says errno EPERM"]);
    // Killing is stricter than refusing, and refusing is less strict than killing.
    accepted(CALLS, &calls("kill setpriority"));
    refused(CALLS, calls("").replace("    kill @tripwire\n", "").as_str(), &["is errno EPERM", "says kill"]);
}

#[test]
fn the_other_domains_are_bounded() {
    let with = |ceiling: &str| format!("{CALLS}\n{ceiling}");
    let body = |line: &str| calls("").replace(NONE, &format!("{NONE}\n  {line}"));
    let caps = |line: &str| calls("").replace(NONE, &format!("  capabilities {{ {line} }}"));
    refused(CALLS, &caps("keep net_bind_service"), &["capabilities `keep net_bind_service`"]);
    accepted(&with("capabilities { keep net_bind_service }"), &caps("keep net_bind_service"));
    accepted(&with("capabilities { keep net_bind_service }"), &caps("bounding net_bind_service"));
    refused(&with("capabilities { bounding net_bind_service }"), &caps("keep net_bind_service"), &["capabilities"]);
    refused(CALLS, &body("network { listen tcp 80 }"), &["network `listen tcp 80`"]);
    accepted(&with("network { listen tcp any }"), &body("network { listen tcp 80 }"));
    refused(&with("network { listen tcp 80 }"), &body("network { listen tcp any }"), &["listen tcp any"]);
    refused(&with("limits { nofile 100 }"), &body("limits { nofile 200 }"), &["limits `nofile 200`"]);
    refused(&with("limits { nofile 100 }"), &body(""), &["limits `nofile as the caller has it`"]);
    accepted(&with("limits { nofile 100 }"), &body("limits { nofile 100 }"));
    let files = "files { read \"/usr\"; exec \"/usr\" }";
    accepted(&with(files), &body("files { exec \"/usr/bin\" }"));
    refused(&with(files), &body("files { exec \"/usr\"; read \"/etc\" }"), &["files `read \"/etc\"`"]);
    refused(&with(files), &body(""), &["no file rules"]);
    refused(&with(files), &body("files { exec \"/usrlocal\" }"), &["/usrlocal"]);
    // A rule stands on the files, by whatever name they are seen.
    let twice = "mounts { bind \"/srv/x\" -> \"/a/m\" ro; bind \"/srv/x\" -> \"/b\" ro }";
    let opened = |rules: &str| format!("{twice}\n  files {{ exec \"/usr\"; {rules} }}");
    accepted(&with(&opened("read \"/a\"")), &body(&opened("read \"/a\"")));
    accepted(&with(&opened("read \"/a\"; read \"/b\"")), &body(&opened("read \"/a/m\"")));
    refused(
        &with(&opened("read \"/a\"")),
        &body(&opened("read \"/a/m/n\"")),
        &["`read \"/b/n\", the files of \"/a/m/n\"`"],
    );
    // More names than are compared are covered by nothing, not even by themselves.
    let binds: String = (0..40).map(|i| format!("bind \"/srv/x\" -> \"/n{i}\" ro; ")).collect();
    let rules: String = (0..40).map(|i| format!("read \"/n{i}/f\"; ")).collect();
    let many = format!("mounts {{ {binds} }}\n  files {{ exec \"/usr\"; {rules} }}");
    refused(&with(&many), &body(&many), &["files under more names than are compared"]);
    // A bound that only the ceiling has is told as one that is missing.
    let disk = "limits { io \"/dev/sda\" read=10MiB }";
    refused(&with(disk), &body(""), &["has no bound where `cap` has `io-read /dev/sda 10MiB`"]);
    // Which group is the first is what new files belong to.
    let grouped = |groups: &str| {
        let text = machine(&with("user nobody group nogroup groups [adm]"), &body(""));
        verb("check", &text.replace("  user nobody\n", &format!("  user nobody {groups}\n")))
    };
    assert_eq!(grouped("group nogroup groups [adm]").code, 0);
    let other = grouped("group adm groups [nogroup]");
    assert!(other.code == 2 && other.err.contains("first group adm"), "{}", other.err);
    let bind = "mounts { bind \"/srv\" -> \"/srv\" ro }";
    accepted(&with(bind), &body(bind));
    refused(&with(bind), &body(&bind.replace(" ro ", " rw why \"x\" ")), &["mounts"]);
    refused(CALLS, &body("userns identity why \"x\""), &["userns identity"]);
    // Who may go anywhere may ask anybody for names, whichever network the ceiling speaks of.
    let anywhere = body("network { private; egress any why \"x\" }");
    for network in ["host why \"r\"; egress any why \"x\"", "private; egress any why \"x\""] {
        accepted(&with(&format!("network {{ {network} }}")), &anywhere);
    }
    // One server by name is less than whomever the host asks.
    let named = with("network { private; resolver 192.0.2.53 }");
    accepted(&named, &body("network { private; resolver 192.0.2.53 }"));
    refused(&named, &body("network { private; resolver host }"), &["resolver host"]);
    refused(&named, &body("network { private; resolver 192.0.2.54 }"), &["192.0.2.54"]);
}

#[test]
fn a_ceiling_cannot_be_walked_around() {
    let lift = calls("override deny clone3 why \"no\"").replace("    deny clone3 errno EPERM\n", "");
    let text = machine(CALLS, &lift).replace("machine m {", "machine m {\n  extends std/daemon");
    let ran = verb("check", &text);
    assert!(ran.code == 2 && ran.err.contains("E0312"), "{}", ran.err);
    let ran = verb("check", &machine(CALLS, &calls("")).replace("within cap", "within cpa"));
    assert!(ran.code == 2 && ran.err.contains("E0303") && ran.err.contains("cap"), "{}", ran.err);
    // A ceiling of a parent holds for those that extend it.
    let text = machine(CALLS, &calls("allow ptrace"))
        .replace("machine m {\n  within cap", "profile base {\n  within cap\n}\nmachine m {\n  extends base");
    assert!(verb("check", &text).err.contains("E0705"));
}

/// Found by a hostile review.
#[test]
fn what_a_ceiling_says_is_all_held() {
    let with = |ceiling: &str| format!("{CALLS}\n{ceiling}");
    let body = |line: &str| calls("").replace(NONE, &format!("{NONE}\n  {line}"));
    refused(CALLS, &body("userns map 0 -> 1 count 60000"), &["userns"]);
    refused(CALLS, &body("mounts { bind \"/srv\" -> \"/mnt\" rw dev why \"x\" }"), &["mounts"]);
    refused(&with("mounts { hide \"/home\" }"), &body(""), &["hide \"/home\""]);
    accepted(&with("mounts { hide \"/home\" }"), &body("mounts { hide \"/home\" }"));
    accepted(&with("mounts { tmpfs \"/t\" size=100MiB }"), &body("mounts { tmpfs \"/t\" size=1MiB }"));
    refused(&with("mounts { tmpfs \"/t\" size=1MiB }"), &body("mounts { tmpfs \"/t\" size=100MiB }"), &["\"/t\" of"]);
    accepted(&with("limits { core 0 }"), &body(""));
    accepted(CALLS, &body("require landlock 7"));
    refused(CALLS, &body("require landlock 3"), &["landlock 3"]);
    // Its assertions are held, and its own ceilings.
    let ran = verb("check", &machine(&with("assert { never syscall read }"), &calls("")));
    assert!(ran.code == 2 && ran.err.contains("E0703"), "{}", ran.err);
    let text = machine(&format!("  within tighter\n{CALLS}"), &calls(""))
        .replace("profile cap {", "profile tighter { syscalls { allow exit_group } }\nprofile cap {");
    assert!(verb("check", &text).err.contains("more than `tighter`"));
}

/// An instance sets its machine's parameters, not its ceiling's; and an imported file boots nothing.
#[test]
fn an_instance_does_not_raise_its_ceiling() {
    let text = machine(
        &format!("{CALLS}\nnetwork {{ connect tcp ${{highest}} }}"),
        &calls("").replace(NONE, &format!("{NONE}\n  network {{ connect tcp ${{highest}} }}")),
    )
    .replace("profile cap", "param highest port 80\nprofile cap")
        + "instance other of m [highest=443]\n";
    let ran = verb("check", &text);
    assert!(ran.code == 2 && ran.err.contains("`other` grants more than `cap`"), "{}", ran.err);
}

/// The work is bounded, whatever a ceiling says.
#[test]
fn a_small_ceiling_stays_cheap() {
    let lines = |range: std::ops::Range<u32>| -> String {
        range.map(|i| format!("allow kcmp(pid1 has all [{0}], pid2 has all [{0}]); ", 1u32 << i)).collect()
    };
    let started = std::time::Instant::now();
    let ceiling = format!(
        "syscalls {{ allow @system-service; {} deny clone3 errno ENOSYS; deny openat2 errno ENOSYS; kill @tripwire }}",
        lines(0..15)
    );
    let ran = verb("check", &machine(&ceiling, &calls(&lines(15..30))));
    assert!(ran.code == 3 && ran.err.contains("E0706"), "{}{}", ran.out, ran.err);
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
    let errnos: String = ["EACCES", "EAGAIN", "EBUSY", "EEXIST", "EINVAL", "EIO", "EISDIR", "ELOOP"]
        .iter()
        .enumerate()
        .map(|(i, e)| {
            format!("    deny lseek(offset in 1..=0x7ffffffffffffffe, fd in 1..=254, whence == {i}) errno {e}\n")
        })
        .collect();
    let started = std::time::Instant::now();
    let ran = verb("check", &machine(CALLS, &calls(&errnos)));
    assert!(ran.code == 2 && ran.err.contains("E0414"), "{}", ran.err);
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

/// Networks and limits: what a ceiling says of ports, peers, servers of names and limits of a machine.
#[test]
fn networks_and_limits_are_bounded() {
    let with = |ceiling: &str| format!("{CALLS}\n{ceiling}");
    let net = |line: &str| calls("").replace(NONE, &format!("{NONE}\n  network {{\n    private\n    {line}\n  }}"));
    let body = |line: &str| calls("").replace(NONE, &format!("{NONE}\n  {line}"));
    let private = "network { private; listen tcp any; connect tcp any; connect udp 53 to 10.0.0.0/8 }";
    accepted(&with(private), &net("connect tcp 443 to 192.0.2.0/24"));
    accepted(&with(private), &net("listen tcp 80 from 10.0.0.0/8"));
    accepted(&with(private), &net("connect udp 53 to 10.1.2.3"));
    refused(&with(private), &net("connect udp 53 to [10.1.2.3, 192.0.2.1]"), &["connect udp 53 to 192.0.2.1"]);
    refused(&with(private), &net("connect udp 53"), &["connect udp 53"]);
    refused(&with(private), &net("listen udp 53"), &["listen udp 53"]);
    refused(&with(private), &net("egress any"), &["egress any"]);
    // Anybody isn't everybody: link-local, multicast and broadcast addresses are granted by name.
    for special in ["169.254.169.254", "fe80::/10", "224.0.0.1", "ff02::1", "0.0.0.0/0"] {
        refused(&with(private), &net(&format!("connect tcp 80 to {special}")), &[special]);
    }
    // Everybody on the machine's own network at once is named as well.
    let on = |ports: &str| body(&format!("network {{ bridge br0; address 10.0.0.2/24; {ports} }}"));
    let bridge = |ports: &str| with(&format!("network {{ bridge br0; address 10.0.0.2/24; {ports} }}"));
    accepted(&bridge("connect udp any"), &on("connect udp 9 to 10.0.0.254"));
    accepted(&bridge("connect udp any; connect udp 9 to 10.0.0.0/24"), &on("connect udp 9 to 10.0.0.255"));
    for named in ["10.0.0.255", "10.0.0.0/8"] {
        refused(&bridge("connect udp any"), &on(&format!("connect udp 9 to {named}")), &["every host of its network"]);
    }
    // Who may go anywhere doesn't ask where clouds answer.
    refused(
        &with("network { private; egress any }"),
        &net("egress any; resolver 169.254.169.254"),
        &["169.254.169.254"],
    );
    accepted(&with("network { private; egress any }"), &net("egress any; resolver 192.0.2.53"));
    refused(&with("network { none; listen tcp any }"), &net("listen tcp 80"), &["network `private`"]);
    refused(&with(private), &body("network { zone a; listen tcp 80 }"), &["network `zone a`"]);
    // Who answers names is reached.
    refused(&with("network { private; resolver host }"), &net("resolver 203.0.113.66"), &["203.0.113.66"]);
    accepted(&with("network { private; resolver [203.0.113.66, 203.0.113.67] }"), &net("resolver 203.0.113.66"));
    refused(&with(private), &net("resolver host"), &["resolver host"]);
    // Where a port leads: of published ports a ceiling that names some bounds all.
    let published = "network { private; listen tcp any; publish tcp 8080-8089 -> 80-89 }";
    accepted(&with(published), &net("listen tcp 81\n    publish tcp 8081 -> 81"));
    for other in
        ["publish tcp 8080 -> 22", "publish tcp 8081 -> 80", "publish tcp 8090 -> 90", "publish udp 8080 -> 80"]
    {
        let listen = "listen tcp any".to_owned() + if other.contains("udp") { "\n    listen udp any" } else { "" };
        refused(&with(published), &net(&format!("{listen}\n    {other}")), &["E0705"]);
    }
    // Limits: what isn't written is no limit.
    let limits = "limits { memory 512MiB; tasks 64; io \"/dev/sda\" read=10MiB }";
    accepted(&with(limits), &body("limits { memory 256MiB; tasks 64; io \"/dev/sda\" read=5MiB }"));
    refused(&with(limits), &body("limits { memory 1GiB; tasks 64; io \"/dev/sda\" read=5MiB }"), &["memory 1GiB"]);
    refused(&with(limits), &body("limits { tasks 64; io \"/dev/sda\" read=5MiB }"), &["memory unlimited"]);
    refused(&with(limits), &body("limits { memory 1MiB; tasks 64 }"), &["io-read /dev/sda"]);
}

/// What a change of network or limits does, in the words of `diff`.
#[test]
fn changes_of_networks_and_limits_are_what_they_are() {
    let dir = harness::Dir::new("diff");
    let text = |network: &str, limits: &str| {
        machine("  capabilities { keep chown }", &calls("").replace(NONE, &format!("{NONE}\n  network {{\n    private\n    listen tcp any\n    {network}\n  }}\n  limits {{\n    nofile 64\n    {limits}\n  }}"))).replace("  within cap\n", "")
    };
    let diff = |old: &str, new: &str| {
        let (a, b) = (dir.write("a.stockade", old), dir.write("b.stockade", new));
        let ran: harness::Ran =
            harness::stockade().arg("diff").args([a, b]).args(["--format", "json"]).output().unwrap().into();
        let v: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
        v.to_string()
    };
    for (old, new, effect) in [
        (("publish tcp 8080 -> 80", ""), ("publish tcp 8080 -> 22", ""), "widened"),
        (("", ""), ("publish tcp 8080 -> 80", ""), "widened"),
        (("publish tcp 8080 -> 80", ""), ("publish tcp 127.0.0.1:8080 -> 80", ""), "narrowed"),
        (("connect udp any", ""), ("connect udp any\n    connect udp any to 224.0.0.0/4", ""), "widened"),
        (("connect tcp any", ""), ("connect tcp any\n    connect tcp 80 to 169.254.169.254", ""), "widened"),
        (("resolver host", ""), ("resolver 169.254.169.254", ""), "widened"),
        (("", "io \"/dev/sda\" read=10MiB"), ("", ""), "widened"),
        (("", ""), ("", "io \"/dev/sda\" read=10MiB"), "narrowed"),
        (("", "memory 64MiB"), ("", "memory 128MiB"), "widened"),
        (("", "memory 64MiB"), ("", ""), "widened"),
        (("", ""), ("", "cpu 50%"), "narrowed"),
    ] {
        let said = diff(&text(old.0, old.1), &text(new.0, new.1));
        assert!(said.contains(&format!("\"effect\":\"{effect}\"")), "{old:?} {new:?} {effect}\n{said}");
        if effect == "narrowed" {
            assert!(!said.contains("\"effect\":\"widened\""), "{old:?} {new:?}\n{said}");
        }
    }
}

/// `never` speaks of all that may be reached, whoever decides where it is.
#[test]
fn claims_about_networks_are_answered_as_they_are_enforced() {
    let net = |network: &str, claim: &str| {
        let network = network.replace("; ", "\n    ");
        let calls = calls("allow socket(family in [AF_INET, AF_INET6])")
            .replace(NONE, &format!("{NONE}\n  network {{\n    {network}\n  }}\n  assert {{ {claim} }}"));
        verb("check", &machine("", &calls).replace("  within cap\n", "").replace("profile cap {\n\n}\n", ""))
    };
    for (network, claim, holds) in [
        ("private; egress any; resolver none", "never connect udp any to 169.254.0.0/16", true),
        ("private; egress any; resolver none", "can connect tcp 80 to 169.254.169.254", false),
        ("private; egress any; resolver none", "can connect tcp 80 to 127.0.0.1", false),
        ("private; egress any; resolver none", "can connect tcp 80 to 192.0.2.1", true),
        ("private; resolver host", "never connect udp 53 to 169.254.0.0/16", false),
        ("private; resolver 192.0.2.53", "never connect udp 53 to 169.254.0.0/16", true),
        ("private; resolver 192.0.2.53", "never connect any", false),
        ("private; connect tcp 5432 to 10.0.0.0/8", "never connect tcp 5432 to 10.9.0.0/16", false),
        ("private; connect tcp 5432 to 10.0.0.0/8", "never connect tcp 5432 to 192.0.2.0/24", true),
        ("host why \"t\"; listen tcp any; connect tcp any", "never connect udp any", false),
        ("private", "never connect any", true),
    ] {
        let ran = net(network, claim);
        assert_eq!(ran.code == 0, holds, "{network} | {claim}\n{}{}", ran.out, ran.err);
        assert!(holds || ran.err.contains("E0703"), "{network} | {claim}\n{}", ran.err);
    }
}

/// A `remove` that leaves what it names granted says what isn't so.
#[test]
fn what_is_removed_is_gone() {
    let text = |inherited: &str, own: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nprofile p {{\n  {inherited}\n}}\nmachine m {{\n  extends std/daemon, p\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  {own}\n}}\n"
        )
    };
    let files = |rules: &str| format!("files {{ exec \"/usr\"; {rules} }}");
    let network = |rules: &str| format!("network {{ private; {rules} }}");
    for (inherited, own, gone) in [
        (files("read \"/\"; read \"/etc\""), "files { remove read \"/etc\" }", false),
        (files("read \"/etc\"; read \"/etc/ssl\""), "files { remove read \"/etc\" }", true),
        (files("write \"/srv\"; read \"/srv/a\""), "files { remove read \"/srv/a\" }", true),
        (network("listen tcp any; listen tcp 80"), "network { remove listen tcp 80 }", false),
        (network("listen udp any; listen tcp 80"), "network { remove listen tcp 80 }", true),
        (
            network("connect tcp 443 to 10.0.0.0/8; connect tcp 443 to 10.0.0.0/9"),
            "network { remove connect tcp 443 to 10.0.0.0/9 }",
            false,
        ),
        (
            network("connect tcp 443 to 10.0.0.0/8; connect tcp 443 to 192.0.2.0/24"),
            "network { remove connect tcp 443 to 10.0.0.0/8 }",
            true,
        ),
    ] {
        let ran = verb("check", &text(&inherited, own));
        assert_eq!(!ran.err.contains("wider line"), gone, "{inherited} {own}: {}", ran.err);
        assert_eq!(ran.code, if gone { 0 } else { 2 }, "{inherited} {own}: {}", ran.err);
    }
}

/// What is granted with a word to the log is a grant: `remove` takes it away, and no `override` has to lift it.
#[test]
fn a_logged_grant_is_removed() {
    let text = |inherited: &str, own: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\nprofile p {{\n  syscalls {{ allow @start; {inherited} }}\n}}\nmachine m {{\n  extends p\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  syscalls {{ {own} }}\n}}\ntest \"gone\" on m {{ deny syscall mount }}\n"
        )
    };
    for inherited in ["allow mount; log mount", "log mount"] {
        let ran = verb("check", &text(inherited, "remove mount"));
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    }
    // An override takes away what its word says, and no more.
    for inherited in ["log mount", "kill mount"] {
        let ran = verb("check", &text(inherited, "override deny mount why \"x\"; allow mount"));
        assert!(ran.code == 2 && ran.err.contains("E0306"), "{inherited}: {}", ran.err);
    }
    // What a wider line grants as well isn't gone.
    let ran = verb("check", &text("allow mount; allow mount(flags == MS_BIND)", "remove mount(flags == MS_BIND)"));
    assert!(ran.code == 2 && ran.err.contains("wider line"), "{}", ran.err);
    let ran = verb("check", &text("allow mount(flags == MS_BIND)", "remove mount(flags == MS_BIND); allow mount"));
    assert!(ran.code == 2 && !ran.err.contains("wider line"), "one's own line is written: {}", ran.err);
    let ran = verb(
        "check",
        &text("deny mount; kill mount", "override deny mount why \"x\"; allow mount")
            .replace("deny syscall", "kill syscall"),
    );
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let ran = verb(
        "check",
        &text("kill mount", "override kill mount why \"x\"; allow mount").replace("deny syscall", "allow syscall"),
    );
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

/// One value of a variable, in one block as across profiles.
#[test]
fn a_variable_has_one_value() {
    let with = |lines: &str| {
        verb("check", &machine(CALLS, &calls("").replace(NONE, &format!("{NONE}\n  environment {{ {lines} }}"))))
    };
    assert!(with("set A \"1\"; set A \"2\"").err.contains("E0301"));
    assert!(with("set A \"1\"; pass A").err.contains("E0301"));
    assert_eq!(with("set A \"1\"; set B \"2\"").code, 0);
}

/// Profiles that are extended by many ways are merged once: what they say isn't doubled at each.
#[test]
fn what_comes_by_many_ways_is_one() {
    let layers: String = (0..24)
        .map(|i| {
            format!(
                "profile a{i} {{ extends a{0}; extends b{0} }}\nprofile b{i} {{ extends a{0}; extends b{0} }}\n",
                i + 1
            )
        })
        .collect();
    let text = format!(
        "policy 1\nkernel 6.12\nimport \"std/groups\"\nprofile c {{ syscalls {{ allow @start; deny ptrace }} }}\nprofile base {{ syscalls {{ deny mlock }} }}\n{layers}profile a24 {{ extends base; within c; waive W0801 why \"x\" }}\nprofile b24 {{ within c }}\nmachine m {{\n  extends a0\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  syscalls {{ allow @start }}\n}}\n"
    );
    let ran = verb("check", &text);
    assert_eq!(ran.code, 0, "{}", ran.err);
    // Twenty layers of ten, each of which extends all of the next.
    let all = |i: usize| (0..10).map(|k| format!("extends p{i}x{k}; ")).collect::<String>();
    let layers: String = (0..20)
        .flat_map(|i| (0..10).map(move |j| (i, j)))
        .map(|(i, j)| {
            format!("profile p{i}x{j} {{ {} }}\n", if i < 19 { all(i + 1) } else { "limits { core 0 }".into() })
        })
        .collect();
    let machine = |own: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\n{layers}machine m {{\n  extends p0x0\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  syscalls {{ {own} }}\n}}\n"
        )
    };
    let ran = verb("check", &machine("allow @start"));
    assert!(ran.code == 2 && ran.err.contains("E0304") && ran.err.contains("by too many ways"), "{}", ran.err);
    // Names in any order: a chain is as long however it is come to.
    for (links, code) in [(31, 0), (32, 2)] {
        let chain: String = (0..links)
            .map(|i| {
                format!(
                    "profile c{:02} {{ {} }}\n",
                    (i * 7) % 100,
                    if i == 0 { "limits { core 0 }".into() } else { format!("extends c{:02}", ((i - 1) * 7) % 100) }
                )
            })
            .collect();
        let text = machine("allow @start")
            .replace(&layers, &chain)
            .replace("extends p0x0", &format!("extends c{:02}", ((links - 1) * 7) % 100));
        let ran = verb("check", &text);
        assert!(ran.code == code && ran.err.contains("in a row") == (code == 2), "{links}: {}{}", ran.out, ran.err);
    }
    let ran = verb("check", &machine(&"allow @system-service; ".repeat(500)).replace("  extends p0x0\n", ""));
    assert!(ran.code == 2 && ran.err.contains("E0316"), "{}", ran.err);
}

/// A mount of the ceiling within another shows what the other shows: a machine without it does so too, if it lets no more.
#[test]
fn a_mount_in_a_mount_may_be_left_out() {
    let ceiling =
        |inner: &str| format!("mounts {{ bind \"/srv\" -> \"/srv\" rw\n bind \"{inner}\" -> \"/srv/x\" ro }}");
    let mine = |access: &str| format!("{NONE}\n  mounts {{ bind \"/srv\" -> \"/srv\" {access} }}");
    accepted(&ceiling("/srv/x"), &mine("ro"));
    refused(&ceiling("/srv/x"), &mine("rw"), &["shows `/srv/x` of the host"]);
    refused(&ceiling("/opt"), &mine("ro"), &["shows `/srv/x` of the host"]);
}

/// What a ceiling bounds by a day, by a group, by rules for all of the tree.
#[test]
fn a_ceiling_bounds_what_it_says() {
    let with = |ceiling: &str| format!("{CALLS}\n{ceiling}");
    let body = |line: &str| calls("").replace(NONE, &format!("{NONE}\n  {line}"));
    for (bound, more) in [("memory 64MiB", "memory 8GiB"), ("rtprio 0", "rtprio 99")] {
        let ceiling = with(&format!("limits {{ {bound} until 2030-01-01 }}"));
        refused(&ceiling, &body(&format!("limits {{ {more} }}")), &["limits"]);
        accepted(&ceiling, &body(&format!("limits {{ {bound} }}")));
    }
    let all = "files { read \"/\"; write \"/\" why \"x\"; exec \"/\"; create \"/\"; refer \"/\"; ioctl \"/\" }";
    refused(&with(all), &body(""), &["no file rules"]);
    accepted(&with(all), &body("files { exec \"/usr\" }"));
    refused(&with("user nobody group users"), &body(""), &["group of the account nobody"]);
    accepted(&with("user nobody"), &body(""));
    refused(&with("require landlock 7"), &body(""), &["every right that Landlock knows"]);
    // What a machine doesn't say is what it has.
    refused(&with("hostname other"), &body(""), &["hostname m"]);
    accepted(&with("hostname m"), &body(""));
    refused(&with("environment { set PATH \"/usr/bin\" }"), &body(""), &["set PATH"]);
    accepted(&with("environment { set LANG \"C\" }"), &body(""));
    // Less than the ceiling, in the same place.
    accepted(&with("umask 022"), &body("umask 077"));
    refused(&with("umask 077"), &body(""), &["umask 022"]);
    let bind = "bind \"/srv/a\" -> \"/a\" ro";
    let mounts = |more: &str| format!("mounts {{ {more} }}");
    accepted(&with(&mounts(bind)), &body(&mounts("bind \"/srv/a/x\" -> \"/a/x\" ro")));
    for other in ["\"/srv/a/y\" -> \"/a/x\" ro", "\"/srv/a/x\" -> \"/a/x\" rw", "\"/srv/a/x\" -> \"/b/x\" ro"] {
        refused(&with(&mounts(bind)), &body(&mounts(&format!("bind {other}"))), &["mounts `bind"]);
    }
    let hidden = mounts(&format!("{bind}; hide \"/a/x\""));
    refused(&with(&hidden), &body(&mounts("bind \"/srv/a/x/y\" -> \"/a/x/y\" ro")), &[]);
}

/// Found by the third review: what a machine doesn't say for itself is held against a ceiling as well.
#[test]
fn an_init_a_group_and_what_is_uncovered_are_held() {
    let body = |root: &str, more: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\nprofile p {{ CEILING\n syscalls {{ allow @os }} }}\nmachine m {{ within p\n root dir \"/srv/img\" {root}\n{more}\n syscalls {{ allow @os }} }}\n"
        )
    };
    let none = "capabilities { none }";
    let exec = format!("exec \"/bin/true\"\n user 0\n {none}");
    for (ceiling, text, words) in [
        ("user nobody", body("ro", &format!("boot\n {none}")), Some("process `boot, as root`")),
        ("user root", body("ro", &format!("boot\n {none}")), None),
        ("user 0 group 1000", body("ro", &exec), Some("group of the account 0")),
        ("root dir \"/srv/img\" volatile", body("ro", &exec), Some("root dir")),
        ("root dir \"/srv/img\" ro", body("volatile", &exec), Some("root dir")),
        (
            "root dir \"/srv/img\" ro\n mounts { tmpfs \"/etc\" size=1MiB }",
            body("ro", &exec),
            Some("shows `/srv/img/etc`"),
        ),
        (
            "network { private; egress any why \"x\" }",
            body("ro", &format!("{exec}\n network {{ private; connect tcp 443; connect udp 5 to 10.0.0.0/8 }}")),
            None,
        ),
        ("userns map 0 -> 100000 count 1", body("ro", &exec), Some("65536 ids inside")),
    ] {
        let ran = verb("check", &text.replace("CEILING", ceiling));
        match words {
            None => assert_eq!(ran.code, 0, "{ceiling}: {}", ran.err),
            Some(words) => assert!(ran.code == 2 && ran.err.contains(words), "{ceiling}: {}", ran.err),
        }
    }
}
