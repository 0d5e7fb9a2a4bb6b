//! What is said of a policy, against what the kernel makes of it: each was wrong once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

mod harness;

use harness::{Dir, Ran, stockade, verb};
use serde_json::Value;

/// A file with the standard library and these declarations.
fn file(body: &str) -> String {
    format!("policy 1\nkernel 6.12\nimport \"std/daemon\"\nimport \"std/os\"\n{body}\n")
}

/// A machine `m` that starts, and these statements; `user` and `capabilities` are among them.
fn machine(body: &str) -> String {
    format!("machine m {{\n  exec \"/usr/bin/true\"\n  {body}\n}}")
}

fn plain(body: &str) -> String {
    machine(&format!("extends std/daemon; root host; user nobody; capabilities {{ none }}\n  {body}"))
}

/// An init system, which may ask its network for an address.
fn booted(body: &str) -> String {
    format!(
        "machine m {{\n  extends std/os; root dir \"/srv/d\" ephemeral; boot; capabilities {{ remove [net_admin, net_raw] }}\n  {body}\n}}"
    )
}

/// The same, and it sets up its link itself.
fn admin(body: &str) -> String {
    booted(body).replace("remove [net_admin, net_raw]", "remove net_raw")
}

const ALL_PORTS: &str = "; egress any why \"x\"; listen tcp any; listen udp any";

fn diff(old: &str, new: &str, more: &[&str]) -> (Ran, Value) {
    let dir = Dir::new("claims");
    let (a, b) = (dir.write("a.stockade", &file(old)), dir.write("b.stockade", &file(new)));
    let run = |more: &[&str]| -> Ran {
        let mut c = stockade();
        c.arg("diff").arg(&a).arg(&b).args(more);
        c.output().unwrap().into()
    };
    let v = serde_json::from_str(&run(&["--format", "json"]).out).unwrap();
    (run(more), v)
}

fn can(text: &str, question: &str) -> bool {
    let dir = Dir::new("asked");
    let path = dir.write("m.stockade", &file(text));
    let ran: Ran = stockade().args(["query", &format!("m can {question}")]).arg(path).output().unwrap().into();
    assert!(ran.code < 2, "{text}\n{question}: {}{}", ran.out, ran.err);
    ran.code == 0
}

/// Landlock knows ports and no addresses, and TCP alone.
#[test]
fn on_the_hosts_network_every_address_is_reached() {
    let host = |ports: &str, calls: &str| {
        plain(&format!(
            "network {{ host why \"x\"; {ports} }}\n  syscalls {{ allow connect; allow listen; allow socket(family in [AF_INET, AF_INET6], type & 0xf == 1, protocol in [0, 6]); {calls} }}"
        ))
    };
    let tcp = host("connect tcp 80", "");
    for (peer, expected) in [("80 to 127.0.0.1", true), ("80 to 169.254.169.254", true), ("443 to 127.0.0.1", false)] {
        assert_eq!(can(&tcp, &format!("connect tcp {peer}")), expected, "{peer}");
    }
    let private = plain("network { private; connect tcp 80 }");
    assert!(!can(&private, "connect tcp 80 to 169.254.169.254"), "by name only, where rules know addresses");
    assert!(!can(&host("", ""), "connect any"));
    for (call, any, tcp) in [
        ("allow socket(family == AF_INET, type & 0xf == 2)", true, false),
        ("allow socket(family == AF_INET, type & 0xf == 5)", true, false),
        ("allow socket(family == AF_SMC)", true, true),
        ("allow socket(family == AF_INET, type & 0xf == 3)", false, false),
        ("allow socket(family == AF_PACKET)", false, false),
    ] {
        let text = host("", call);
        assert_eq!((can(&text, "connect any"), can(&text, "connect tcp any")), (any, tcp), "{call}");
        let raw =
            text.replace("capabilities { none }", "userns identity why \"x\"; capabilities { keep net_raw why \"x\" }");
        let raws = call.contains("== 3") || call.contains("PACKET");
        assert_eq!((can(&raw, "connect any"), can(&raw, "connect tcp any")), (any || raws, tcp || raws), "{call}");
    }
}

/// The exposure says what no rule holds: sockets of the host's network that aren't TCP, and the question for an address.
#[test]
fn the_exposure_leaves_nothing_out() {
    let told = |text: &str| verb("explain", &file(text)).out;
    let host = |calls: &str| {
        let tcp = "allow socket(family in [AF_INET, AF_INET6], type & 0xf == 1, protocol in [0, 6])";
        plain(&format!("network {{ host why \"x\"; connect tcp 80 }}\n  syscalls {{ remove listen; {tcp}; {calls} }}"))
    };
    assert!(told(&host("")).contains("out  tcp 80") && !told(&host("")).contains("in and out"));
    let udp = host("allow socket(family == AF_INET, type & 0xf == 2)");
    assert!(told(&udp).contains("in and out  any port and address"), "{}", told(&udp));
    assert!(told(&host("allow socket(family == AF_RXRPC)")).contains("this family goes past the rules"));
    // Who writes the host's rules leads one port to another; in a user namespace of its own it doesn't.
    let own = host("").replace("capabilities { none }", "capabilities { keep net_admin why \"x\" }");
    let identity = own.replace("user nobody", "user nobody; userns identity why \"x\"");
    assert!(identity != own && told(&identity).contains("with net_admin it writes"), "{}", told(&identity));
    assert!(!told(&own).contains("in and out"), "{}", told(&own));
    let never = |text: &str, claim: &str| {
        verb("check", &file(&text.replace("network {", &format!("assert {{ {claim} }}\n  network {{"))))
    };
    assert_eq!(never(&own, "never connect tcp 81").code, 0);
    for claim in ["never connect tcp 81", "never connect udp any", "never listen tcp 8080"] {
        assert!(never(&identity, claim).err.contains("E0703"), "{claim}");
    }
    // No packet has such an address, so nothing is said by it.
    assert!(never(&own, "never connect tcp 80 to ::ffff:10.0.0.1").err.contains("E0222"));
    let asks = |address: &str| told(&admin(&format!("network {{ bridge br0; {address}{ALL_PORTS} }}")));
    assert!(asks("").contains("out  udp 67 and 547") && asks("").contains("in   udp 68 and 546"));
    assert!(!asks("address 192.0.2.7/24").contains("udp 67"));
}

/// Who has no address of its own asks anybody for one.
#[test]
fn an_address_that_is_asked_for_is_traffic() {
    assert!(!can(&booted("network { bridge br0; address 192.0.2.7/24 }"), "connect any"));
    // Who may set up its own link passes the rules for its ports, so has all of them.
    let open = |address: &str| admin(&format!("network {{ bridge br0; {address}{ALL_PORTS} }}"));
    let (_, v) = diff(&open("address 192.0.2.7/24"), &open(""), &[]);
    let row = v["machines"][0]["rows"].as_array().unwrap().iter().find(|r| r["effect"] == "widened").unwrap();
    assert_eq!((row["risk"].as_str(), row["text"].as_str()), (Some("medium"), Some("addresses that it asks for")));
}

/// Root that execs has what its bounding and inheritable sets hold (capabilities(7)).
#[test]
fn capabilities_are_those_after_exec() {
    let one = |user: &str, sets: &str| {
        machine(&format!(
            "extends std/daemon; root host; userns identity why \"x\"; {user}; capabilities {{ {sets} why \"x\" }}"
        ))
    };
    for set in ["bounding sys_module", "bounding sys_module; inheritable sys_module"] {
        let set = set.replace(';', " why \"x\";");
        let (ran, v) = diff(&one("user nobody", &set), &one("user root", &set), &["--fail-on", "widened>=critical"]);
        assert_eq!(ran.code, 1, "{set}: {v}");
        let bounded = format!(
            "profile c {{ userns identity why \"x\"; syscalls {{ allow @all-calls }}; capabilities {{ {set} why \"x\" }} }}\n"
        );
        let bounded = bounded.replace("syscalls { allow @all-calls }", "extends std/daemon");
        let under = |user: &str| {
            verb("check", &file(&format!("{bounded}{}", one(user, &set).replace("root host", "root host; within c"))))
        };
        let ran = under("user root");
        assert!(ran.code == 2 && ran.err.contains("capabilities `sys_module"), "{set}: {}", ran.err);
        assert!(!under("user nobody").err.contains("E0705"));
    }
}

/// Every call of a line whose end moves is compared, whichever comes first.
#[test]
fn each_call_that_lasts_longer_is_a_row() {
    let one = |line: &str| plain(&format!("syscalls {{ {line} }}"));
    let dated = |year: u16| one(&format!("allow [capget, ptrace, mount] why \"x\" until {year}-01-01"));
    let (ran, v) = diff(&dated(2090), &dated(2091), &["--fail-on", "widened>=high"]);
    let rows = v["machines"][0]["rows"].as_array().unwrap();
    assert!(ran.code == 1 && rows.len() == 1, "{v}");
    let text = rows[0]["text"].as_str().unwrap();
    assert!(["mount", "ptrace", "until 2091-01-01"].iter().all(|w| text.contains(w)), "{text}");
    let two = |first: &str, more: &str| one(&format!("allow [kcmp, ptrace] why \"x\" until {first}; {more}"));
    let (ran, v) = diff(
        &two("2090-01-01", "allow kcmp why \"y\" until 2099-01-01"),
        &two("2091-01-01", ""),
        &["--fail-on", "widened>=medium"],
    );
    assert_eq!(ran.code, 1, "{v}");
    let effects: Vec<_> = v["machines"][0]["rows"].as_array().unwrap().iter().map(|r| r["effect"].clone()).collect();
    assert_eq!(effects, ["widened", "narrowed"], "{v}");
}

/// A ceiling holds what it covers, and the network that it names.
#[test]
fn ceilings_hold_what_they_show() {
    let under = |ceiling: &str, body: &str| {
        let c = format!("profile c {{ extends std/daemon; {ceiling} }}\n");
        let ran = verb("check", &file(&format!("{c}{}", plain(body).replace("root host", "root host; within c"))));
        assert!(ran.code == 0 || ran.err.contains("E0705"), "{ceiling} | {body}: {}", ran.err);
        ran.code == 0
    };
    let (bind, cover) = ("bind \"/srv\" -> \"/srv\" rw why \"x\"", "tmpfs \"/srv/secret\" size=1MiB");
    let mounts = |list: &[&str]| format!("mounts {{ {} }}", list.join("; "));
    assert!(!under(&mounts(&[bind, cover]), &mounts(&[bind])));
    assert!(under(&mounts(&[bind, cover]), &mounts(&[bind, cover])));
    assert!(under(&mounts(&[bind, "tmpfs \"/t\" size=1MiB"]), &mounts(&[bind])), "it covers nothing that it shows");
    let shown = mounts(&["bind \"/srv/pub\" -> \"/srv/pub\" ro"]);
    assert!(!under(&mounts(&[bind, "bind \"/srv/pub\" -> \"/srv/pub\" ro"]), &mounts(&[bind])), "{shown}");
    let network = |text: &str| format!("network {{ {text} }}");
    let over = |ceiling: &str, body: &str| {
        let c = format!("profile c {{ extends std/os; {} }}\n", network(ceiling));
        let machine = if body.ends_with(ALL_PORTS) { admin } else { booted };
        let ran = verb("check", &file(&format!("{c}{}", machine(&format!("within c; {}", network(body))))));
        assert!(ran.code == 0 || ran.err.contains("E0705"), "{ceiling} | {body}: {}", ran.err);
        ran.code == 0
    };
    let (v4, v6) = ("address 192.0.2.5/24", "address 2001:db8::5/64");
    for (ceiling, own, holds) in [
        (format!("bridge br0; {v4}"), format!("bridge br0; {v4}"), true),
        (format!("bridge br0; {v4}{ALL_PORTS}"), format!("bridge br0; {v4}{ALL_PORTS}"), true),
        (format!("bridge br0; {v4}{ALL_PORTS}"), format!("bridge br0{ALL_PORTS}"), false),
        (format!("bridge br0; {v4}"), format!("bridge br0; {v6}"), false),
        (format!("bridge br0; {v4}"), format!("bridge br0; {v4}; {v6}"), false),
        (format!("bridge br0; {v4}; {v6}"), format!("bridge br0; {v4}"), true),
        ("bridge br0".to_owned(), format!("bridge br1; {v4}"), false),
        ("bridge br0".to_owned(), format!("bridge br0; {v4}"), true),
        (format!("bridge br0{ALL_PORTS}"), format!("bridge br0{ALL_PORTS}"), true),
        ("bridge br0".to_owned(), "private".to_owned(), false),
        ("bridge br0".to_owned(), "none".to_owned(), true),
        ("host why \"x\"".to_owned(), format!("bridge br0; {v4}"), true),
        ("host why \"x\"".to_owned(), "private".to_owned(), true),
    ] {
        assert_eq!(over(&ceiling, &own), holds, "{ceiling} | {own}");
    }
    // A ceiling that covers less is a higher one.
    let both = |list: &[&str]| {
        let c = format!("profile c {{ extends std/daemon; root host; {} }}\n", mounts(list));
        format!("{c}{}", plain(&mounts(&[cover])).replace("root host", "root host; within c"))
    };
    let (ran, _) = diff(&both(&[cover, "tmpfs \"/tmp\" size=1MiB"]), &both(&["tmpfs \"/tmp\" size=1MiB", cover]), &[]);
    assert!(!ran.out.contains("grants more"), "{}", ran.out);
    let (ran, _) = diff(&both(&["tmpfs \"/etc/x\" size=1MiB", cover]), &both(&[cover]), &[]);
    assert!(ran.out.contains("grants more"), "{}", ran.out);
}

/// Every name is one machine's, and every parameter has one value.
#[test]
fn what_is_declared_twice_is_an_error() {
    let m = plain("network { private; connect tcp ${p} }");
    for twice in ["instance a of m [p=80]\ninstance a of m [p=22]", "instance a of m [p=80, p=22]"] {
        let ran = verb("check", &file(&format!("param p port 80\n{m}\n{twice}")));
        assert!(ran.code == 2 && ran.err.contains("E0302"), "{twice}: {}", ran.err);
    }
}

/// What takes a hidden place away is an override.
#[test]
fn a_hidden_place_is_shown_with_a_reason_only() {
    let text = |more: &str, own: &str| {
        file(&format!(
            "profile p {{ mounts {{ bind \"/srv\" -> \"/srv\" rw why \"x\"; hide \"/srv/secret\" }} }}\nprofile c {{ extends std/daemon; mounts {{ bind \"/srv\" -> \"/srv\" rw why \"x\" }} }}\n{}",
            plain(&format!("mounts {{ remove \"/srv/secret\" {own} }}"))
                .replace("extends std/daemon", &format!("extends std/daemon, p; {more}"))
        ))
    };
    let ran = verb("check", &text("", ""));
    assert!(ran.code == 2 && ran.err.contains("E0305"), "{}", ran.err);
    assert_eq!(verb("check", &text("", "why \"it is ours\"")).code, 0);
    let ran = verb("check", &text("within c", "why \"it is ours\""));
    assert!(ran.code == 2 && ran.err.contains("E0312"), "{}", ran.err);
}

/// An assertion blames the line that lets the call through.
#[test]
fn the_line_behind_a_call_is_blamed() {
    for (family, other) in [("AF_ALG", "AF_VSOCK"), ("AF_VSOCK", "AF_ALG")] {
        let text = plain(&format!(
            "syscalls {{\n allow socket(family == AF_VSOCK)\n\n\n\n allow socket(family == AF_ALG)\n}}\n\n\n\n assert {{ never syscall socket(family == {family}) }}"
        ));
        let ran = verb("check", &file(&text));
        // The library's own assertion speaks of them as well.
        let own = ran.err.split("error[").find(|e| e.contains("never syscall socket(family == ")).unwrap();
        let shown = |family: &str| own.contains(&format!(" allow socket(family == {family})"));
        assert!(ran.code == 2 && shown(family) && !shown(other), "{family}: {}", ran.err);
    }
}

/// A line that grants something else as well isn't to be deleted.
#[test]
fn lint_looks_at_whole_lines() {
    let text = |list: &str| file(&plain(&format!("network {{ private; connect tcp 80; connect tcp {list} }}")));
    assert!(!verb("lint", &text("[80, 443]")).out.contains("W0802"));
    let all = verb("lint", &text("80"));
    assert!(format!("{}{}", all.out, all.err).contains("W0802"), "{}{}", all.out, all.err);
}

/// What isn't decided says so in every format, and hides nothing beside it.
#[test]
fn what_is_not_decided_is_no_proof() {
    let hard: String =
        (0..20).map(|i| format!("allow add_key(plen has all [{0}], ringid has all [{0}])\n", 1u32 << i)).collect();
    let one = |more: &str| plain(&format!("syscalls {{\n{hard}{more}\n}}"));
    let (old, new) = (one(""), one("allow [bpf, mount, ptrace] why \"x\""));
    let (ran, v) = diff(&old, &new, &[]);
    assert!(ran.code == 3 && ran.out.contains("cannot decide  1 widened") && ran.out.contains("mount"), "{}", ran.out);
    assert_eq!(v["machines"][0]["lines_without_effect"], 0);
    let (_, v) = diff(&old, &one("allow add_key(plen has all [1], ringid has all [2])"), &[]);
    assert_eq!(v["machines"][0]["lines_without_effect"], 0, "{v}");
    let (ran, _) = diff(&old, &one("# none"), &["--format", "sarif"]);
    assert!(ran.code == 3 && ran.out.contains("undecided/syscalls"), "{}", ran.out);
    let (ran, _) = diff(&old, &one("# none"), &["--format", "markdown"]);
    assert!(ran.out.contains("cannot decide") && !ran.out.contains("no effect"), "{}", ran.out);
    let dir = Dir::new("page");
    let (a, b) = (dir.write("a.stockade", &file(&old)), dir.write("b.stockade", &file(&one("# none"))));
    let page: Ran = stockade().arg("report").arg(a).arg(b).output().unwrap().into();
    assert!(page.code == 3 && page.out.contains("cannot decide") && !page.out.contains("no effect"));
    // Lint says so of that call, and judges the lines on the others.
    let ran = verb("lint", &file(&one("allow chroot\nallow chroot")));
    assert!(ran.code == 1 && ran.err.contains("W0806") && ran.err.contains("W0802"), "{}", ran.err);
}

/// An assertion that can't be decided isn't passed, and a question isn't answered by no.
#[test]
fn a_claim_that_is_not_decided_is_refused() {
    let hard: String =
        (0..20).map(|i| format!("deny mmap(addr has all [{0}], len has all [{0}])\n", 1u64 << i)).collect();
    let text = |claim: &str| file(&plain(&format!("syscalls {{ allow mmap\n{hard} }}\n  assert {{ {claim} }}")));
    for claim in ["never syscall mmap(prot == 7)", "can syscall mmap(prot == 7)", "never wx"] {
        let ran = verb("check", &text(claim));
        assert!(ran.code != 0 && ran.err.contains("error["), "{claim}: {}{}", ran.out, ran.err);
    }
    let dir = Dir::new("undecided");
    let policy = dir.write("m.stockade", &text("never setuid-exec"));
    let ran: Ran = stockade().args(["query", "m can wx"]).arg(&policy).output().unwrap().into();
    assert!(ran.code == 3 && ran.out.contains("unknown"), "{}{}", ran.out, ran.err);
}

/// Sockets that go by TCP past Landlock's rules, and a ring, make rules for ports worthless on the host's network.
#[test]
fn rules_for_ports_know_the_ways_past_them() {
    let with = |calls: &str| {
        let body = format!(
            "extends std/daemon; root host; user nobody; capabilities {{ none }}; network {{ host why \"x\"; connect tcp 443 }}; \
             syscalls {{ remove listen; {calls} }}"
        );
        verb("check", &file(&machine(&body)))
    };
    assert_eq!(with("allow connect").code, 0, "{}", with("allow connect").err);
    for calls in ["allow socket(family == AF_SMC) why \"x\"", "allow io_uring_setup why \"x\""] {
        assert!(with(calls).err.contains("E0416"), "{calls}: {}", with(calls).err);
    }
}

/// A test of an instance is read with the instance's parameters.
#[test]
fn a_test_of_an_instance_has_its_parameters() {
    let all = |expected: [&str; 2]| {
        let test = |on: &str, expected: &str| {
            format!("test \"t\" on {on} {{ {expected} syscall personality(personality=${{p}}) }}\n")
        };
        let m = plain("syscalls { allow personality(personality == 2) }");
        let text = format!("param p int 1\n{m}\ninstance n of m [p=2]\n");
        verb("check", &file(&format!("{text}{}{}", test("m", expected[0]), test("n", expected[1]))))
    };
    let right = all(["deny", "allow"]);
    assert_eq!(right.code, 0, "{}", right.err);
    assert_eq!(all(["deny", "deny"]).code, 2);
}

/// "Denied" is said where a denial is the reason, and not where no line allows it anyway.
#[test]
fn a_no_names_its_reason() {
    let dir = Dir::new("reason");
    let text = file(&plain("syscalls { allow add_key(plen == 1); deny add_key(ringid == 2) }"));
    let policy = dir.write("m.stockade", &text);
    for (asked, reason) in [
        ("plen == 5", "no line allows it (errno EPERM), and some of it is denied"),
        ("ringid == 2", "it is denied"),
        ("plen == 2, ringid == 3", "no line allows it (errno EPERM)"),
        ("plen in [1, 2], ringid == 2", "it is denied"),
    ] {
        let ran: Ran =
            stockade().args(["query", &format!("m can add_key({asked})")]).arg(&policy).output().unwrap().into();
        let said = ran.out.lines().next().unwrap_or_default();
        assert!(ran.code == 1 && said.ends_with(&format!("never runs: {reason}")), "{asked}: {}{}", ran.out, ran.err);
    }
}

/// A ceiling that can't be held against the machine refuses it, with the exit code of what isn't proved.
#[test]
fn a_ceiling_that_is_not_decided_is_not_kept() {
    let hard: String =
        (0..20).map(|i| format!("deny add_key(plen has all [{0}], ringid has all [{0}])\n", 1u32 << i)).collect();
    let ceiling = format!("profile c {{ extends std/daemon; syscalls {{ allow add_key why \"x\"\n{hard} }} }}\n");
    let machine = plain("syscalls { allow add_key(plen has all [1], ringid has all [2]) }")
        .replace("root host", "root host; within c");
    let ran = verb("check", &file(&format!("{ceiling}{machine}")));
    assert!(ran.code == 3 && ran.err.contains("E0706"), "{} {}", ran.code, ran.err);
}

/// Where another argument decides how many bits are read, neither reading gets through.
#[test]
fn arguments_of_two_widths_are_held_for_both() {
    let text = |body: &str, more: &str| {
        format!("{}\ntest \"w\" on m {{\n{more}\n}}", plain(&format!("syscalls {{\n{body}\n}}")))
    };
    let calls = "allow kcmp(idx1 == 9)\nallow keyctl\ndeny keyctl(option == KEYCTL_SETPERM, arg3 == 5)\ndeny keyctl(arg2 == KEY_SPEC_SESSION_KEYRING)";
    let ran = verb(
        "check",
        &file(&text(
            calls,
            "allow syscall kcmp(idx1=9)\ndeny syscall kcmp(idx1=0x100000009)\n\
             deny syscall keyctl(option=5, arg3=5)\ndeny syscall keyctl(option=5, arg3=0x700000005)\nallow syscall keyctl(option=5, arg3=6)\n\
             deny syscall keyctl(arg2=0xfffffffd)\ndeny syscall keyctl(arg2=0x5fffffffd)\ndeny syscall keyctl(arg2=0xfffffffffffffffd)",
        )),
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
    // High bits of a denial that one reading doesn't see.
    let high = text("allow keyctl\ndeny keyctl(arg3 == 0x700000008)", "deny syscall keyctl(arg3=8)");
    assert_eq!(verb("check", &file(&high)).code, 0);
    let one = text(calls, "");
    assert!(!can(&one, "keyctl(option == KEYCTL_SETPERM, arg3 == 5)") && can(&one, "kcmp(idx1 == 9)"));
    let wide = text("allow keyctl\ndeny keyctl(option == KEYCTL_SETPERM, arg3 & 0xff == 5)", "");
    assert!(can(&wide, "keyctl(option == KEYCTL_SETPERM, arg3 == 0x106)"));
    let lifted = plain("syscalls { override deny prctl(option == 3, arg2 == 4) why \"x\" }");
    let base = "profile p { syscalls { deny prctl(option == 3, arg2 == 4) } }\n";
    let ran = verb("check", &file(&format!("{base}{}", lifted.replace("extends std/daemon", "extends std/daemon, p"))));
    assert_eq!(ran.code, 0, "{}", ran.err);
    for line in
        ["allow prctl(arg2 != 1)", "allow prctl(arg2 > 1)", "deny prctl(arg2 not in [1])", "deny ioctl(arg only [1])"]
    {
        let ran = verb("check", &file(&text(line, "")));
        assert!(ran.code == 2 && ran.err.contains("E0403"), "{line}: {}", ran.err);
    }
}

/// A denial that can never hold protects from nothing.
#[test]
fn what_can_never_hold_is_an_error() {
    for (line, code) in [
        ("deny socket(type & 0xf in [])", "E0405"),
        ("deny socket(family has any [])", "E0405"),
        ("deny socket(protocol has any [0])", "E0405"),
        ("deny kill(pid == 1, pid == 2)", "E0405"),
        ("deny kill(sig in 1..=3, sig > 5)", "E0405"),
        ("deny kill(pid <= 0xffffffff)", "E0405"),
        ("deny kill(pid in 1..=0xffffffff)", "E0405"),
        ("deny socket(family not [AF_INET])", "E0403"),
    ] {
        let ran = verb("check", &file(&plain(&format!("syscalls {{ {line} }}"))));
        assert!(ran.code == 2 && ran.err.contains(code), "{line}: {}", ran.err);
    }
}

/// A ceiling that would bound nothing, and more of them than anybody reads.
#[test]
fn ceilings_are_few_and_say_something() {
    let empty = file(&format!("profile c {{ extends std/daemon; files {{ }} }}\n{}", plain("within c")));
    let ran = verb("check", &empty);
    assert!(ran.code == 2 && ran.err.contains("E0521"), "{}", ran.err);
    let many: String = (0..33).map(|i| format!("profile c{i} {{ extends std/daemon }}\n")).collect();
    let all: String = (0..33).map(|i| format!("within c{i}\n")).collect();
    let ran = verb("check", &file(&format!("{many}{}", plain(&all))));
    assert!(ran.code == 2 && ran.err.contains("E0316"), "{}", ran.err);
}

/// Conditions on many arguments are decided like any other; what excludes itself says nothing.
#[test]
fn claims_about_calls_are_exact() {
    let with = |calls: &str, claim: &str| {
        verb("check", &file(&plain(&format!("syscalls {{ {calls} }}\n  assert {{ {claim} }}"))))
    };
    for claim in [
        "setresuid(ruid != 1000, euid != 1000, suid != 1000)",
        "setresuid(ruid >= 1, euid >= 1, suid >= 1)",
        "pwrite64(count in 1..=0x7fffffffffff, pos in 1..=0x7fffffffffff)",
    ] {
        let never = with("allow [setresuid, pwrite64]", &format!("never syscall {claim}"));
        assert!(never.code == 2 && never.err.contains("E0703"), "{claim}: {}{}", never.out, never.err);
        let can = with("allow [setresuid, pwrite64]", &format!("can syscall {claim}"));
        assert_eq!(can.code, 0, "{claim}: {}", can.err);
    }
    let void = with("allow chroot", "never syscall socket(family == AF_INET, family == AF_INET6)");
    assert!(void.code == 2 && void.err.contains("E0405"), "{}", void.err);
    for empty in
        ["never syscall kill(sig not in [])", "never capability []", "never syscall clone(clone_flags has none [])"]
    {
        assert_eq!(with("allow chroot", empty).code, 2, "{empty}");
    }
    assert_eq!(with("kill []", "never wx").code, 2);
    assert_eq!(with("allow socket(type & 0 == 0)", "never wx").code, 2);
}

/// An internet socket of type SOCK_PACKET is one of AF_PACKET to the kernel.
#[test]
fn the_old_name_of_packet_sockets_is_known() {
    let with = |calls: &str, body: &str| verb("check", &file(&plain(&format!("syscalls {{ {calls} }}\n  {body}"))));
    let never = "assert { never syscall socket(family == AF_PACKET) }";
    let ran = with("allow socket(family == AF_INET)\n deny socket(family == AF_PACKET)", never);
    assert!(ran.code == 2 && ran.err.contains("type=0xa"), "{}", ran.err);
    let typed = "allow socket(family == AF_INET, type & 0xf in [SOCK_STREAM, SOCK_DGRAM])";
    assert_eq!(with(typed, never).code, 0);
    // AF_PACKET's own types aren't meant.
    let raw = "assert { never syscall socket(family == AF_PACKET, type & 0xf == SOCK_RAW) }";
    let ran = with("allow socket(family == AF_INET)", raw);
    assert_eq!(ran.err.matches("E0703").count(), 1, "the library's own claim, and not this one: {}", ran.err);
    // Who could use it has to say so.
    let os = |calls: &str| {
        let text = format!(
            "machine m {{ extends std/os; root dir \"/srv/d\" ephemeral; boot; network {{ none }}; syscalls {{ {calls} }} }}"
        );
        verb("check", &file(&text))
    };
    assert_eq!(os("deny bpf").code, 0, "{}", os("deny bpf").err);
    let ran = os("allow socket(family == AF_INET) why \"x\"");
    assert!(ran.code == 2 && ran.err.contains("E0410"), "{}", ran.err);
    assert_eq!(os("allow socket(family in [AF_INET, AF_PACKET]) why \"x\"").code, 0);
}

/// On the host's network: a socket that listens without bind(2), Landlock before ports, families beside TCP; and who can
/// change the rules of its own namespace.
#[test]
fn ports_are_held_only_where_something_holds_them() {
    let host = |more: &str, claim: &str| {
        let body = format!(
            "extends std/net-server; root host; user nobody; capabilities {{ none }}; network {{ host why \"x\"; {more}; assert {{ {claim} }}"
        );
        verb("check", &file(&machine(&body)))
    };
    let listens = "listen tcp 8080 }";
    for (claim, code) in [("never listen tcp 40000", 2), ("never listen tcp 1023", 0), ("never listen tcp any", 2)] {
        let ran = host(listens, claim);
        assert_eq!(ran.code, code, "{claim}: {}", ran.err);
    }
    let deaf = "}; syscalls { remove listen }";
    let only = |claim: &str, more: &str| host(&format!("{deaf}{more}"), claim);
    assert_eq!(only("never listen tcp 40000", "").code, 0, "{}", only("never listen tcp 40000", "").err);
    let ran = only("never connect tcp 80", "; require landlock 1 why \"old hosts\"");
    assert!(ran.code == 2 && ran.err.contains("Landlock"), "{}", ran.err);
    for socket in ["family == AF_RXRPC", "family == AF_INET6, type & 0xf == SOCK_DCCP"] {
        let more = format!("; syscalls {{ allow socket({socket}) why \"x\" }}");
        let base = "extends std/daemon; root host; user nobody; capabilities { none }; network { host why \"x\" }";
        let text = |claim: &str| {
            file(&machine(&format!("{base}; syscalls {{ deny listen; allow @socket-io }}{more}; assert {{ {claim} }}")))
        };
        let ran = verb("check", &text("never connect any"));
        assert!(ran.code == 2 && ran.err.contains("E0703"), "{socket}: {}", ran.err);
    }
    let bridged = |caps: &str| {
        let body = format!(
            "extends std/net-server; root host; user nobody; capabilities {{ {caps} }}; network {{ bridge br0; address 192.0.2.5/24 gateway 192.0.2.1; \
             egress any; listen tcp any; listen udp any }}; assert {{ never connect tcp 80 to 169.254.169.254 }}"
        );
        verb("check", &file(&machine(&body)))
    };
    assert_eq!(bridged("none").code, 0, "{}", bridged("none").err);
    assert_eq!(bridged("keep net_admin why \"x\"").code, 2);
}

/// What is hidden by one name isn't, where another name shows it; the others of its own sets are its own.
#[test]
fn a_hidden_file_has_other_names() {
    let with = |more: &str| {
        let body = format!(
            "extends std/daemon; root dir \"/srv/r\" ro; user nobody; capabilities {{ none }}; mounts {{ hide \"/etc/shadow\"; {more} }}; \
             assert {{ never read \"/etc/shadow\" }}"
        );
        verb("check", &file(&machine(&body)))
    };
    assert_eq!(with("bind \"/srv/r/usr\" -> \"/mnt\" ro").code, 0);
    let ran = with("bind \"/srv/r/etc\" -> \"/mnt\" ro");
    assert!(ran.code == 2 && ran.err.contains("same files"), "{}", ran.err);
    assert_eq!(with("bind \"/srv/r/etc\" -> \"/mnt\" ro; hide \"/mnt/shadow\"").code, 0);
}

/// A line that removes something is in vain while another line, also one with conditions, grants it.
#[test]
fn what_is_removed_is_gone() {
    let under = |inherited: &str, own: &str| {
        let text = format!(
            "profile p {{ {inherited} }}\nmachine m {{ extends std/daemon, p; root host; user nobody; exec \"/usr/bin/true\"; \
             capabilities {{ none }}; {own} }}"
        );
        verb("check", &file(&text))
    };
    for (inherited, own, vain) in [
        (
            "syscalls { allow add_key(plen == 1); allow add_key(plen in [1, 2]) }",
            "syscalls { remove add_key(plen == 1) }",
            true,
        ),
        (
            "syscalls { allow add_key(plen == 1); log add_key(plen <= 5) }",
            "syscalls { remove add_key(plen == 1) }",
            true,
        ),
        (
            "syscalls { allow add_key(plen == 1); allow add_key(plen == 2) }",
            "syscalls { remove add_key(plen == 1) }",
            false,
        ),
        (
            "syscalls { allow add_key(plen == 1); allow add_key(plen <= 5); deny add_key(plen == 1) }",
            "syscalls { remove add_key(plen == 1) }",
            false,
        ),
        ("network { private; egress any; connect tcp 443 }", "network { remove connect tcp 443 }", true),
        ("network { private; connect tcp 80; connect tcp 443 }", "network { remove connect tcp 443 }", false),
        ("files { exec \"/etc\"; read \"/etc\" }", "files { remove read \"/etc\" }", true),
        ("files { exec \"/etc\"; read \"/etc\"; read \"/usr\" }", "files { remove exec \"/etc\" }", false),
    ] {
        let ran = under(inherited, own);
        assert_eq!(ran.err.contains("wider line"), vain, "{inherited} {own}: {}", ran.err);
        assert_eq!(ran.code, if vain { 2 } else { 0 }, "{inherited} {own}: {}", ran.err);
    }
}

/// A ceiling that grants a call until a day grants it no longer.
#[test]
fn a_ceiling_ends_when_it_says() {
    let until = |bound: &str, own: &str| {
        let text = format!(
            "profile c {{ extends std/daemon; syscalls {{ allow chroot {bound} why \"x\" }} }}\n{}",
            plain(&format!("within c; syscalls {{ allow chroot {own} why \"x\" }}"))
        );
        verb("check", &file(&text))
    };
    let ran = until("until 2090-01-01", "");
    assert!(ran.code == 2 && ran.err.contains("after 2090-01-01"), "{}", ran.err);
    assert_eq!(until("until 2090-01-01", "until 2090-01-02").code, 2);
    assert_eq!(until("until 2090-01-01", "until 2090-01-01").code, 0);
    assert_eq!(until("", "").code, 0);
    assert_eq!(until("until 2090-02-30", "until 2090-01-01").code, 2, "no such day");
}

/// An option of keyctl(2), a request of ptrace(2) and a command of fcntl(2) decide whether the kernel reads a word or an
/// address: a condition of 32 bits let named keyrings through, one of 64 was walked around by a bit above.
#[test]
fn what_another_argument_decides_is_compared_so_that_nothing_passes() {
    let join = "allow keyctl(option == KEYCTL_JOIN_SESSION_KEYRING, arg2 == 0)";
    let lock = "allow fcntl(cmd == F_OFD_SETLK, arg == 0)";
    let set = "allow ptrace why \"x\"; deny ptrace(request == PTRACE_SETREGSET, addr == 1)";
    for (calls, call) in [
        (join, "keyctl(option=1, arg2=0x100000000)"),
        (lock, "fcntl(cmd=37, arg=0x100000000)"),
        (set, "ptrace(request=0x4205, addr=0x100000001)"),
    ] {
        let body = format!("root host; user nobody; capabilities {{ none }}; syscalls {{ allow execve; {calls} }}");
        let text = format!("{}\ntest \"t\" on m {{ deny syscall {call} }}", machine(&body));
        let ran = verb("test", &file(&text));
        assert_eq!(ran.code, 0, "{call}: {}{}", ran.out, ran.err);
    }
}

/// The graver of two facts of one line was dropped, a place that was hidden is what it is, and a line that stood there
/// before causes nothing: gates on a risk passed, or failed for nothing.
#[test]
fn the_gravest_of_a_line_meets_the_gate() {
    let m = |body: &str| {
        machine(&format!("root host; user nobody; capabilities {{ none }}; syscalls {{ allow execve }}\n  {body}"))
    };
    let mapped = |body: &str| m(&format!("userns map 0 -> 100000 count 65536; {body}"));
    let critical = ["--fail-on", "widened>=critical"];
    for (old, new, gate, expected) in [
        (
            mapped("mounts { bind \"/srv/app\" -> \"/data\" rw }"),
            mapped("mounts { bind \"/etc\" -> \"/data\" rw noidmap }"),
            critical,
            1,
        ),
        (
            mapped("mounts { bind \"/home\" -> \"/home\" rw; bind \"/srv/empty\" -> \"/home/alice\" ro }"),
            mapped("mounts { bind \"/home\" -> \"/home\" rw }"),
            critical,
            1,
        ),
        (
            m("mounts { bind \"/home\" -> \"/home\" rw; hide \"/home/alice\" }"),
            m("mounts { bind \"/home\" -> \"/home\" rw }"),
            critical,
            1,
        ),
        (
            m("network { private; resolver none }"),
            m("network { private; resolver [1.1.1.1, 169.254.169.254] }"),
            ["--fail-on", "widened>=high"],
            1,
        ),
        // Nothing is below it: the root is made, and has no /data.
        (m("mounts { bind \"/data\" -> \"/data\" ro }"), m(""), ["--fail-on", "widened>=medium"], 0),
        // Of two rules for one path the stricter counts, and an unchanged pair isn't a change.
        (
            m("files { read \"/srv\"; read optional \"/srv\" }"),
            m("files { read \"/srv\"; read optional \"/srv\" }"),
            ["--fail-on", "any"],
            0,
        ),
        (
            m("files { read \"/srv\"; read optional \"/srv\" }"),
            m("files { read optional \"/srv\" }"),
            ["--fail-on", "changed"],
            1,
        ),
    ] {
        let (ran, _) = diff(&old, &new, &gate);
        assert_eq!(ran.code, expected, "{old}\n{new}\n{}{}", ran.out, ran.err);
    }
    // The group lost the call; the override speaks of another one, and was there.
    let grouped = |group: &str| {
        let calls = "override deny sync why \"the journal\"; allow sync; allow ptrace";
        format!(
            "group @risky {{ {group} }}\nprofile p {{ syscalls {{ allow execve; deny @risky }} }}\nmachine m {{\n  extends p\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  syscalls {{ {calls} }}\n}}"
        )
    };
    let (ran, v) = diff(&grouped("allow sync; allow ptrace"), &grouped("allow sync"), &[]);
    let row = v["machines"][0]["rows"].as_array().unwrap().iter().find(|r| r["effect"] == "widened").unwrap();
    assert!(row["why"].is_null() && !row["text"].as_str().unwrap().contains("override"), "{row}\n{}", ran.out);
}

/// A line of a file that several policies import is deleted for all of them.
#[test]
fn a_line_that_another_file_needs_is_not_in_vain() {
    let dir = Dir::new("shared");
    let head = "policy 1\nkernel 6.12\n";
    let base = "syscalls {\n  allow [execve, exit_group]\n  deny bpf\n  allow getpid\n}";
    dir.write("base.stockade", &format!("{head}profile base {{\n{base}\n}}\n"));
    let machine = |name: &str, calls: &str| {
        format!(
            "machine {name} {{\n  extends base\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  {calls}\n}}\n"
        )
    };
    let lint = |files: &[&str]| {
        let mut c = stockade();
        let out = c.arg("lint").args(files).current_dir(&dir.0).output().unwrap();
        String::from_utf8(out.stderr).unwrap()
    };
    let import = format!("{head}import \"base\"\n");
    dir.write("a.stockade", &format!("{import}{}", machine("a", "syscalls { deny getpid }")));
    let alone = lint(&["a.stockade"]);
    assert!(alone.contains("W0802") && alone.contains("W0803"), "{alone}");
    // One needs the call, and takes the denial away: without that line its `override` is stale.
    dir.write("b.stockade", &format!("{import}{}", machine("b", "syscalls { override deny bpf why \"x\" }")));
    assert_eq!(lint(&["."]), "");
    assert_eq!(lint(&["b.stockade", "a.stockade"]), "");
    // The same of machines in one file.
    let both = |calls: &str| {
        format!(
            "{head}profile base {{\n{base}\n}}\n{}{}",
            machine("a", "syscalls { deny getpid }"),
            machine("b", calls)
        )
    };
    dir.write("one.stockade", &both("syscalls { deny getpid }"));
    assert!(lint(&["one.stockade"]).contains("W0802"));
    dir.write("one.stockade", &both("syscalls { override deny bpf why \"x\"; allow bpf why \"y\" }"));
    assert_eq!(lint(&["one.stockade"]), "");
}

/// `lint` said of these that they could be deleted.
#[test]
fn a_line_that_is_needed_is_not_in_vain() {
    let found = |text: &str| verb("lint", &file(text)).err;
    let dated = "syscalls { allow execve; allow sync; allow sync until 2027-01-01 why \"x\" }";
    let said = found(&machine(&format!("root host; user nobody; capabilities {{ none }}; {dated}")));
    assert!(said.matches("W0802").count() == 1 && !said.contains("  ^^^^^^^^^^\n"), "{said}");
    let shared = |waiver: &str| {
        let m = |name: &str, body: &str| {
            format!(
                "machine {name} {{\n  extends p\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  {body}\n}}\n"
            )
        };
        let (a, b) =
            (m("a", "syscalls { allow sync }"), m("b", &format!("syscalls {{ allow getpid; allow getpid }}{waiver}")));
        found(&format!("profile p {{ syscalls {{ allow execve; allow sync }} }}\n{a}{b}"))
    };
    let said = shared("\n  waive W0802 why \"x\"");
    assert!(!said.contains("profile p"), "{said}");
    let said = found(&plain("files { read \"/srv\"; read optional \"/srv\"; exec \"/usr\" }"));
    assert!(said.matches("W0802").count() == 1 && said.contains(":8:38"), "the one that may be dropped: {said}");
}

/// A parameter may be declared in an imported file, or further down.
#[test]
fn an_instance_sets_any_parameter_of_the_file() {
    let dir = Dir::new("instance");
    dir.write("lib.stockade", "policy 1\nparam www path \"/srv/a\"\n");
    let main = file(&format!(
        "import \"lib\"\ninstance b of m [www=\"/srv/b\", port=8080]\nparam port port 80\n{}",
        plain("mounts { bind \"${www}\" -> \"/data\" ro }; network { private; listen tcp ${port} }")
    ));
    let path = dir.write("main.stockade", &main);
    let run = |verb: &[&str]| -> Ran { stockade().args(verb).arg(&path).output().unwrap().into() };
    assert_eq!(run(&["check"]).code, 0, "{}", run(&["check"]).err);
    assert_eq!((run(&["query", "b can listen tcp 8080"]).code, run(&["query", "m can listen tcp 8080"]).code), (0, 1));
    dir.write("main.stockade", &main.replace("port=8080", "prt=8080"));
    assert!(run(&["check"]).err.contains("E0208"));
    dir.write("main.stockade", &main.replace("port=8080", "port=x"));
    assert!(run(&["check"]).err.contains("E0220"));
}

/// The place was line 1, and the line stood in words only.
#[test]
fn a_refused_byte_is_cited_at_its_line() {
    let ran = verb("check", "policy 1\nkernel 6.18\n\n# a\u{7}b\n");
    assert!(ran.code == 2 && ran.err.contains("test.stockade:4:1"), "{}", ran.err);
}

/// "Proved equal", while from a day on the call runs without being logged.
#[test]
fn a_log_that_ends_is_a_widening_from_that_day_on() {
    let m = |calls: &str| {
        machine(&format!("root host; user nobody; capabilities {{ none }}; syscalls {{ allow execve; {calls} }}"))
    };
    let always = m("allow sync; log sync");
    let ends = m("allow sync; log sync until 2027-01-01 why \"x\"");
    let (ran, v) = diff(&always, &ends, &["--fail-on", "widened"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    let row = &v["machines"][0]["rows"][0];
    assert!(row["text"].as_str().unwrap().contains("log sync") && row["now"] == "until 2027-01-01", "{row}");
    let (_, v) = diff(&ends, &always, &[]);
    assert_eq!(v["machines"][0]["rows"][0]["effect"], "narrowed", "{v}");
    assert_eq!(v["machines"][0]["rows"].as_array().unwrap().len(), 1, "{v}");
    // Without a grant beside it the call ends with the line.
    let (_, v) = diff(&m("log sync"), &m("log sync until 2027-01-01 why \"x\""), &[]);
    let rows = v["machines"][0]["rows"].as_array().unwrap();
    assert!(rows.len() == 1 && rows[0]["effect"] == "narrowed", "{v}");
}

/// Two ways to write the same are no change.
#[test]
fn what_is_written_otherwise_is_the_same() {
    let m = |capabilities: &str, body: &str| {
        machine(&format!(
            "root host; user nobody; capabilities {{ {capabilities} }}; syscalls {{ allow execve }}; {body}"
        ))
    };
    let keep = m("keep chown why \"x\"", "");
    let sets = m("bounding chown why \"x\"; inheritable chown why \"x\"; ambient chown why \"x\"", "");
    for (old, new) in [(&keep, &sets), (&sets, &keep), (&m("none", ""), &m("none", "chdir \"/\""))] {
        let (ran, v) = diff(old, new, &["--fail-on", "any"]);
        assert!(ran.code == 0 && v["machines"][0]["rows"].as_array().unwrap().is_empty(), "{}", ran.out);
    }
    let (ran, _) = diff(&m("bounding chown why \"x\"; ambient chown why \"x\"", ""), &keep, &["--fail-on", "any"]);
    assert_eq!(ran.code, 0, "ambient is inheritable: {}", ran.out);
}

/// What is gone was cited at the machine, whose line is on both sides.
#[test]
fn a_line_that_is_gone_is_the_line_of_a_row() {
    let m = |body: &str| {
        machine(&format!("root host; user nobody; capabilities {{ none }}; syscalls {{ allow execve }}\n  {body}"))
    };
    for body in ["umask 077", "limits { nofile 64 }", "limits { fsize 1MiB }", "require landlock 7", "chdir \"/usr\""] {
        let (_, v) = diff(&m(body), &m(""), &[]);
        let rows = v["machines"][0]["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 1, "{v}");
        assert!(rows[0]["line"].as_str().unwrap().ends_with("a.stockade:8") && rows[0]["gone"] == true, "{body}: {v}");
    }
}

/// The inherited line still stands, with a port less.
#[test]
fn a_port_that_is_removed_of_a_list_is_cited_at_the_removal() {
    let m = |body: &str| {
        format!(
            "profile p {{ network {{ private; listen tcp [80, 81] }} }}\nmachine m {{\n  extends p\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  syscalls {{ allow execve }}\n  {body}\n}}"
        )
    };
    let (_, v) = diff(&m(""), &m("network { remove listen tcp 81 }"), &[]);
    let row = &v["machines"][0]["rows"][0];
    assert!(row["text"].as_str().unwrap().starts_with("remove ") && row["gone"] == false, "{v}");
    assert!(row["line"].as_str().unwrap().ends_with("b.stockade:13"), "{v}");
}
