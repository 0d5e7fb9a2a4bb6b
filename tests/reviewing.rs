//! Reviews as a person and a pipeline use them: what a change widens, by which line, and why.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test ends at the first surprise")]

mod harness;

use harness::{Dir, Ran, stockade};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn policy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(format!("{name}.stockade"))
}

const SHIPPED: [&str; 6] = ["debian", "nginx", "postgres", "redis", "unbound", "untrusted-build"];

#[test]
fn every_shipped_machine_is_tried() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|e| Some(e.unwrap().file_name().to_str()?.strip_suffix(".stockade")?.to_owned()))
        .collect();
    names.sort();
    assert_eq!(names, SHIPPED);
}

fn call(arguments: &[&str]) -> Ran {
    stockade().args(arguments).output().unwrap().into()
}

fn json(arguments: &[&str]) -> Value {
    let ran = call(arguments);
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}\n{}{}", ran.out, ran.err))
}

/// The text of a shipped policy with some lines replaced, beside it the diff as JSON.
fn changed(name: &str, change: impl Fn(String) -> String) -> (Dir, Value, String) {
    let dir = Dir::new("changed");
    let text = std::fs::read_to_string(policy(name)).unwrap();
    let after = change(text.clone());
    assert_ne!(text, after, "the test changes nothing");
    let new = dir.write(&format!("{name}.stockade"), &after);
    let (a, b) = (policy(name), new);
    let v = json(&["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--format", "json"]);
    let shown = call(&["diff", a.to_str().unwrap(), b.to_str().unwrap()]).out;
    (dir, v["machines"][0].clone(), shown)
}

/// The text with a `syscalls` block more in its machine.
fn with_calls(text: &str, lines: &str) -> String {
    let start = text.find("\nmachine ").unwrap();
    let end = start + text[start..].find("\n}\n").unwrap();
    format!("{}\n  syscalls {{\n    {lines}\n  }}{}", &text[..end], &text[end..])
}

fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|l| l.contains(part)).unwrap() + 1
}

#[test]
fn a_one_line_widening_names_line_risk_and_reason() {
    for name in SHIPPED {
        let (dir, m, shown) = changed(name, |t| with_calls(&t, "allow bpf why \"a wish\""));
        let text = std::fs::read_to_string(dir.0.join(format!("{name}.stockade"))).unwrap();
        // Some of the profiles deny it: then nothing is widened, and that is said as well.
        let rows: Vec<&Value> = m["rows"].as_array().unwrap().iter().filter(|r| r["effect"] == "widened").collect();
        if name == "debian" {
            assert!(rows.is_empty(), "a denial is sticky: {shown}");
            continue;
        }
        assert_eq!(rows.len(), 1, "{name}: {shown}");
        let place = format!("{name}.stockade:{}", line_of(&text, "allow bpf"));
        assert!(rows[0]["line"].as_str().unwrap().ends_with(&place), "{shown}");
        assert_eq!((rows[0]["risk"].as_str(), rows[0]["why"].as_str()), (Some("high"), Some("a wish")), "{shown}");
        assert!(rows[0]["was"].as_str().unwrap().starts_with("errno"), "{shown}");
        assert!(shown.contains("max risk HIGH") && shown.contains("allow bpf"), "{shown}");
    }
}

#[test]
fn a_refactoring_is_proved_to_change_nothing() {
    let (_dir, m, shown) = changed("nginx", |t| {
        t.replace("machine nginx {", "group @mine {\n  allow getpid\n  allow getppid\n  allow gettid\n  allow read\n  allow write\n  allow close\n}\nprofile common {\n  limits {\n    nproc 512\n  }\n  syscalls {\n    allow @mine\n    allow socket(family in [AF_INET6, AF_INET, AF_UNIX], type & 0xf == SOCK_STREAM, protocol in [0, IPPROTO_TCP])\n  }\n}\nmachine nginx {")
            .replace("  extends std/net-server", "  extends std/net-server, common")
            .replace("    nproc 512\n    fsize", "    fsize")
    });
    assert_eq!(m["rows"].as_array().unwrap().len(), 0, "{shown}");
    assert!(m["calls_proved_equal"].as_bool().unwrap() && m["lines_without_effect"].as_u64().unwrap() >= 12, "{shown}");
}

#[test]
fn each_domain_is_compared() {
    let (_dir, m, shown) = changed("nginx", |t| {
        t.replace("capabilities { none }", "capabilities { keep net_bind_service why \"low ports\" }")
            .replace("never capability [net_bind_service, setuid]", "never capability setuid")
            .replace("-> \"/srv\" ro", "-> \"/srv\" rw why \"uploads\"")
            .replace("never write \"/srv\"", "never write \"/usr\"")
            .replace("nofile 16384", "nofile 1024")
            .replace("read \"/usr/share/nginx\" \"/etc\"", "read \"/usr/share\" \"/etc\"")
            .replace("    listen tcp 8080", "    listen tcp [8080, 8443]")
            .replace("within std/ceiling/internet-facing\n", "")
            .replace("user www-data", "user www-data\n  environment { set A \"b\" }")
    });
    let has = |effect: &str, domain: &str, text: &str| {
        let hit =
            |r: &Value| r["effect"] == effect && r["domain"] == domain && r["text"].as_str().unwrap().contains(text);
        assert!(m["rows"].as_array().unwrap().iter().any(hit), "{effect} {domain} {text}\n{shown}");
    };
    has("widened", "capabilities", "net_bind_service");
    has("widened", "mounts", "\"/srv\" rw");
    has("narrowed", "limits", "nofile 1024");
    has("widened", "files", "read \"/usr/share\"");
    has("widened", "network", "listen tcp 8443");
    has("changed", "environment", "set A");
    has("changed", "process", "within std/ceiling/internet-facing");
    has("changed", "process", "never write \"/srv\"");
}

/// A value that a rule excludes isn't what the rule grants.
#[test]
fn risk_is_of_what_is_let_through() {
    let with = |line: &str| {
        let (_d, m, _) = changed("untrusted-build", |t| with_calls(&t, line));
        m["rows"][0]["risk"].as_str().unwrap_or("none").to_owned()
    };
    assert_eq!(with("allow socket(family == AF_INET6, protocol == 0)"), "low");
    assert_eq!(with("allow socket(family == AF_INET, type & 0xf == SOCK_STREAM, protocol == 0)"), "low");
    assert_eq!(with("allow socket(family == AF_INET, protocol == 0)"), "medium");
    assert_eq!(with("allow socket(family in 20..=50)"), "high");
    assert_eq!(with("allow chroot"), "medium");
}

#[test]
fn exit_codes_speak_to_pipelines() {
    let dir = Dir::new("exit");
    let text = std::fs::read_to_string(policy("redis")).unwrap();
    let new = dir.write(
        "redis.stockade",
        &text.replace("  extends std/net-server", "  extends std/net-server\n  syscalls { allow chroot }"),
    );
    let (a, b) = (policy("redis"), new);
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    // The ceiling doesn't have it: an error of the policy comes before any comparison.
    assert_eq!(call(&["check", b]).code, 2);
    let open = std::fs::read_to_string(b).unwrap().replace("  within std/ceiling/internet-facing\n", "");
    std::fs::write(b, open).unwrap();
    assert_eq!(call(&["diff", a, b]).code, 0);
    assert_eq!(call(&["diff", a, b, "--fail-on", "widened"]).code, 1);
    // The ceiling is gone: that is no wider by itself, and no gate lets it pass.
    assert_eq!(call(&["diff", a, b, "--fail-on", "widened>=high"]).code, 1);
    assert_eq!(call(&["diff", a, b, "--fail-on", "widened>=critical"]).code, 0);
    assert_eq!(call(&["diff", b, a, "--fail-on", "widened"]).code, 0);
    assert_eq!(call(&["diff", a, b, "--fail-on", "sideways"]).code, 2);
    assert_eq!(call(&["diff", a, "/nonexistent"]).code, 2);
    let nginx = policy("nginx");
    let ask = |question: &str| call(&["query", question, nginx.to_str().unwrap()]).code;
    assert_eq!(ask("nginx can accept4"), 0);
    assert_eq!(ask("nginx can socket(family == AF_ALG)"), 1);
    assert_eq!(ask("nginx can listen tcp 8080"), 0);
    assert_eq!(ask("nginx can listen tcp 80"), 1);
    assert_eq!(ask("nginx can capability sys_admin"), 1);
    assert_eq!(ask("nginx can exec \"/usr/lib/x\""), 0);
    assert_eq!(ask("nginx can frobnicate"), 2);
    assert_eq!(ask("nobody can accept4"), 2);
}

#[test]
fn questions_are_answered_with_lines() {
    let all = policy("nginx").parent().unwrap().to_owned();
    let who = call(&["who", "can cap sys_admin", all.to_str().unwrap()]);
    assert!(who.code == 0 && who.out.contains("debian: yes (exact)") && !who.out.contains("nginx"), "{}", who.out);
    assert_eq!(call(&["who", "can bpf", all.to_str().unwrap()]).code, 1);
    let nginx = policy("nginx");
    let why = call(&["why", nginx.to_str().unwrap(), "nginx", "init_module"]).out;
    assert!(why.contains("no (proved)") && why.contains("std/daemon:17") && why.contains("kill"), "{why}");
    let why = call(&["why", nginx.to_str().unwrap(), "nginx", "socket(family", "==", "AF_INET)"]).out;
    assert!(
        why.contains("yes (proved)") && why.contains("shown by socket(family=0x2") && why.contains("std/groups"),
        "{why}"
    );
    let v = json(&["query", "nginx can openat", nginx.to_str().unwrap(), "--format", "json"]);
    assert_eq!(v["answers"][0]["verdict"], "yes");
}

#[test]
fn lint_finds_what_is_in_vain_and_waivers_hold() {
    let dir = Dir::new("lint");
    let machine = |body: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/daemon\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n{body}\n}}\n"
        )
    };
    let lint = |body: &str| call(&["lint", dir.write("l.stockade", &machine(body)).to_str().unwrap()]);
    let clean = lint("");
    assert_eq!(clean.code, 0, "{}{}", clean.out, clean.err);
    for (body, code) in [
        ("  syscalls { allow read }", "W0802"),
        ("  syscalls { allow socket(family == AF_UNIX, type & 0xf == SOCK_STREAM) }", "W0802"),
        ("  syscalls { allow init_module }", "W0803"),
        ("  syscalls { allow chroot }\n  files { exec \"/usr\"; read \"/usr/lib\" }", "W0802"),
        ("  syscalls { allow perf_event_open }", "W0801"),
        ("  waive W0802 why \"none\"", "W0805"),
    ] {
        let ran = lint(body);
        assert!(ran.code == 1 && ran.err.contains(code), "{body}: {}{}", ran.out, ran.err);
    }
    assert_eq!(lint("  syscalls { allow chroot }").code, 0, "it is needed and ordinary");
    // Whichever of its calls comes first in the alphabet.
    for calls in ["sendfile, lseek", "brk, lseek"] {
        let ran = lint(&format!("  syscalls {{ deny [{calls}]\n deny lseek }}"));
        let found: Vec<&str> = ran.err.lines().filter(|l| l.contains("W080")).collect();
        assert!(found.len() == 1 && found[0].contains("W0802") && ran.err.contains("l.stockade:11:"), "{}", ran.err);
    }
    // Of two that say the same one is in vain, and the other is what says it then.
    let ran = lint("  syscalls { allow chroot\n allow chroot }");
    assert!(ran.err.matches("W0802").count() == 1 && ran.err.contains("l.stockade:10:"), "{}", ran.err);
    for (first, second, found) in [
        ("connect tcp 80", "connect tcp [80, 81]", "`connect tcp 80`"),
        ("connect tcp [80, 81]", "connect tcp 80", "`connect tcp 80`"),
        ("connect tcp 80 until 2099-01-01 why \"x\"", "connect tcp 80", "`connect tcp 80`"),
    ] {
        let ran = lint(&format!("  network {{ private\n {first}\n {second} }}"));
        assert!(ran.err.matches("W0802").count() == 1 && ran.err.contains(found), "{first} {second}: {}", ran.err);
    }
    let ran = lint("  files { exec \"/usr\"\n ioctl optional \"/dev\"\n ioctl \"/dev/x\" }");
    assert!(!ran.err.contains("W0802"), "it says that /dev/x has to be there: {}", ran.err);
    let asks = "resolver 192.0.2.1; connect udp 53 to 192.0.2.1; connect tcp 53 to 192.0.2.1";
    let ran = lint(&format!("  network {{ private; {asks}; connect udp 53 to 192.0.2.2 }}"));
    assert_eq!(ran.err.matches("W0802").count(), 2, "{}", ran.err);
    assert!(!ran.err.contains("192.0.2.2` says"), "{}", ran.err);
    assert_eq!(lint("  syscalls { allow perf_event_open why \"quota tool\" }").code, 0);
    assert_eq!(lint("  syscalls { allow read }\n  waive W0802 why \"kept for readers\"").code, 0);
    assert_eq!(lint("  syscalls { allow read }\n  waive W0802").code, 2, "a waiver needs a reason");
}

/// A line in a group of one's own is what changed, with its reason; of the library's the line that names it.
#[test]
fn the_line_in_a_group_is_named() {
    let dir = Dir::new("group-lines");
    let text = |inner: &str, outer: &str, allow: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nimport \"std/groups\"\ngroup @inner {{\n  allow uname\n{inner}}}\n\
             group @outer {{\n  allow @inner\n{outer}}}\nmachine m {{\n  extends std/daemon\n  root host\n  \
             exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n{allow}}}\n"
        )
    };
    let used = "  syscalls { allow @outer why \"the daemon\" }\n";
    let old = dir.write("old.stockade", &text("", "", used));
    let diff = |name: &str, new: &str| {
        let new = dir.write(&format!("{name}.stockade"), new);
        call(&["diff", old.to_str().unwrap(), new.to_str().unwrap()]).out
    };
    let said = diff("a", &text("  allow [perf_event_open, chroot] why \"profiles\"\n", "", used));
    let row = said.lines().position(|l| l.contains("+ syscalls")).unwrap();
    let row = said.lines().skip(row).take(3).collect::<Vec<_>>().join("\n");
    assert!(said.starts_with("m   1 widened  "), "{said}");
    assert!(
        row.contains("a.stockade:7") && row.contains("why \"profiles\"") && row.contains("a.stockade:18"),
        "{said}"
    );
    assert!(!said.contains("without effect"), "{said}");
    let said = diff("b", &text("", "  allow @mount\n  allow @chown why \"files of others\"\n", used));
    assert!(said.contains("b.stockade:10\n") && said.contains("b.stockade:11\n"), "{said}");
    assert!(said.contains("why \"the daemon\"") && said.contains("why \"files of others\""), "{said}");
    // Where the group is allowed only now, that line is the cause, with one row for each reason.
    std::fs::write(&old, text("  allow chroot why \"roots\"\n", "  allow mount\n", "")).unwrap();
    let said = diff("c", &text("  allow chroot why \"roots\"\n", "  allow mount\n", used));
    assert!(said.contains("allow mount "), "{said}");
    assert_eq!(said.matches("c.stockade:19\n").count(), 2, "{said}");
    assert!(said.contains("why \"roots\"") && said.contains("why \"the daemon\""), "{said}");
}

/// The line that changed is behind a difference, though another, which stands as it stood, says what it makes.
#[test]
fn the_line_that_changed_is_behind_it() {
    let dir = Dir::new("behind");
    let diff = |old: &str, new: &str, extra: &[&str]| {
        let (a, b) = (dir.write("a.stockade", old), dir.write("b.stockade", new));
        call(&[&["diff", a.to_str().unwrap(), b.to_str().unwrap()], extra].concat()).out
    };
    let head = "policy 1\nkernel 6.12\nimport \"std/daemon\"\n";
    let machine = |body: &str| {
        format!(
            "machine m {{\n  extends std/daemon\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  \
             capabilities {{ none }}\n{body}}}\n"
        )
    };
    // What a group takes away grew; the line is named, with the reason, and the denial isn't.
    let lifts = machine("  syscalls {\n    override kill @extra why \"its quota\"\n    allow kexec_load\n  }\n");
    let group = |more: &str| format!("{head}group @extra {{\n  allow quotactl\n{more}}}\n{lifts}");
    let said = diff(&group(""), &group("  allow kexec_load\n"), &[]);
    assert!(said.starts_with("m   1 widened        max risk CRITICAL\n"), "{said}");
    assert!(said.contains("override kexec_load   ") && said.contains("b.stockade:6\n"), "{said}");
    assert!(said.contains("why \"its quota\"") && said.contains("b.stockade:15") && !said.contains("(gone)"), "{said}");
    // What was taken away is back: of each kind of line the one that took it, which is gone.
    let profile = "profile p {\n  capabilities { keep setuid; keep kill }\n  mounts { bind \"/opt\" -> \"/opt\" ro }\n  \
                   files { write \"/opt\"; exec \"/usr\" }\n  network { private; connect tcp 443; connect tcp 444 }\n  \
                   environment { set A \"b\" }\n  syscalls { allow chroot }\n}\n";
    let with = |takes: &[(&str, &str)]| {
        let blocks: Vec<String> = takes.iter().map(|(b, line)| format!("  {b} {{\n    {line}\n  }}\n")).collect();
        machine(&format!("  extends p\n{}", blocks.concat())).replace("  capabilities { none }\n", "")
    };
    let with = |takes: &[(&str, &str)]| format!("{head}{profile}{}", with(takes));
    let takes = [
        ("capabilities", "remove kill"),
        ("mounts", "remove \"/opt\""),
        ("files", "remove write \"/opt\""),
        ("network", "remove connect tcp 443"),
        ("environment", "remove A"),
        ("syscalls", "remove chroot"),
    ];
    let (without, taken) = (with(&[]), with(&takes));
    let said = diff(&taken, &without, &[]);
    assert!(said.starts_with("m   5 widened  1 changed        max risk "), "{said}");
    assert_eq!(said.matches("a.stockade:").count() - said.matches("through").count(), 6, "{said}");
    assert_eq!(said.matches("(gone)").count(), 6, "{said}");
    let said = diff(&without, &taken, &[]);
    assert!(!said.contains("(gone)") && !said.contains("without effect"), "{said}");
    // A parameter names the group: its line and its value's.
    let named = |g: &str| {
        let groups = "group @small { allow uname }\ngroup @tools {\n  allow ptrace why \"to debug\"\n}\n";
        format!("{head}param g string \"{g}\"\n{groups}{}", machine("  syscalls { allow ${g} why \"the build\" }\n"))
    };
    let said = diff(&named("@small"), &named("@tools"), &[]);
    assert!(said.contains("b.stockade:15\n") && said.contains("b.stockade:4 > "), "{said}");
    assert!(!said.contains("without effect"), "{said}");
    // Only the baseline moved; of refusals each call is named by its name.
    let baseline = |k: &str| {
        let text = format!("{head}import \"std/groups\"\ngroup @x {{\n  allow @mount why \"mounts\"\n}}\n");
        format!("{text}{}", machine("  syscalls { allow @x }\n")).replace("6.12", k)
    };
    let said = diff(&baseline("6.12"), &baseline("6.18"), &[]);
    let rows: Vec<&str> = said.lines().filter(|l| l.contains(" syscalls ")).collect();
    assert!(!rows.is_empty() && rows.iter().all(|l| l.ends_with("b.stockade:2")), "{said}");
    assert!(said.contains("allow open_tree_attr") && said.contains("why \"kernel 6.12 -> 6.18\""), "{said}");
    let denies = |line: &str| format!("{head}{}", machine(&format!("  syscalls {{ {line} }}\n")));
    let said = diff(&denies("deny chroot"), &denies("deny [kcmp, acct, chroot] errno EACCES"), &[]);
    assert!(said.contains("errno EACCES chroot, kcmp "), "{said}");
    // The way is told in each form: every line of groups on it.
    let deep = |more: &str| {
        let text = format!(
            "{head}group @c {{\n  allow uname\n{more}}}\ngroup @b {{\n  allow @c why \"all of c\"\n}}\n\
             group @a {{\n  allow @b\n}}\n"
        );
        format!("{text}{}", machine("  syscalls { allow @a }\n"))
    };
    for form in ["human", "markdown", "sarif"] {
        let said = diff(&deep(""), &deep("  allow ptrace\n"), &["--format", form]);
        let place = |line: u32| format!("{}:{line}", dir.0.join("b.stockade").display());
        let way = format!("{} > {} > {}", place(20), place(12), place(9));
        let said = said.replace('`', "").replace("Through", "through");
        assert!(said.contains(&format!("through {way}")), "{form}: {said}");
        assert!(said.contains("all of c"), "{form}: {said}");
    }
    // What is written for another instance is another's, on however many lines.
    let of = |port: u16| {
        let text = format!("{head}param p port 80\n{}", machine("  network { private\n    listen tcp ${p} }\n"));
        format!("{text}instance c of m [\n  p={port},\n]\ninstance d of m [p=81]\n")
    };
    let said = diff(&of(82), &of(83), &[]);
    assert!(!said.contains("without effect"), "{said}");
    assert!(said.contains("2 machines   no effect (d, m)\n"), "{said}");
}

/// Of a folder only what changed takes room: the rest is a line of names.
#[test]
fn machines_without_a_change_take_one_line() {
    let dir = Dir::new("quiet");
    let machine = |name: &str, call: &str| {
        format!(
            "machine {name} {{\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  syscalls {{ allow [execve, exit_group, {call}] }}\n}}\n"
        )
    };
    let of = |call: &str| {
        let others: String = (0..30).map(|i| machine(&format!("m{i:02}"), "read")).collect();
        format!("policy 1\nkernel 6.12\n{others}{}", machine("z", call))
    };
    let (old, new) = (dir.write("old.stockade", &of("read")), dir.write("new.stockade", &of("ptrace")));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    let said = call(&["diff", old, new]).out;
    assert!(said.starts_with("z   1 widened  1 narrowed"), "{said}");
    assert!(said.contains("\n30 machines   no effect (m00, m01,") && said.contains(", m19 and 10 more)\n"), "{said}");
    assert_eq!(said.lines().count(), 9, "{said}");
    let comment = call(&["diff", old, new, "--format", "markdown"]).out;
    assert!(comment.contains("**30 machines**: no effect (`m00`, `m01`,"), "{comment}");
    // Each is in the document for programs.
    let json: serde_json::Value = serde_json::from_str(&call(&["diff", old, new, "--format", "json"]).out).unwrap();
    assert_eq!(json["machines"].as_array().unwrap().len(), 31);
}

/// Found by hostile reviews: each was told by a line that nobody had touched. The cases are in tests/behind.cases.
#[test]
fn rows_name_lines_that_changed() {
    let dir = Dir::new("causes");
    let cases = include_str!("behind.cases");
    for case in cases.split("\n== ").skip(1) {
        let (title, text) = case.split_once('\n').unwrap();
        let (title, without_effect) = title.split_once(": ").unwrap();
        let mut sides = [String::new(), String::new()];
        let mut wanted = Vec::new();
        let has = |word: &str| text.lines().any(|l| l[2..].trim_start().starts_with(word));
        let implied = |word: &str, line: &str| if has(word) { String::new() } else { format!("{line}\n") };
        for (n, side) in sides.iter_mut().enumerate() {
            *side = implied("policy", "policy 1") + &implied("kernel", "kernel 6.12");
            for l in text.lines().filter(|l| !l.starts_with(["+", "-"][n])) {
                side.push_str(&l[2..]);
                side.push('\n');
                if &l[1..2] == "*" {
                    wanted.push(format!("{}.stockade:{}", ["o", "n"][n], side.lines().count()));
                }
                if &l[2..] == "machine m {" {
                    for (word, line) in
                        [("root", "  root host"), ("exec", "  exec \"/usr/bin/true\""), ("user ", "  user nobody")]
                    {
                        side.push_str(&implied(word, line));
                    }
                    if !side.contains("capabilities") && !has("capabilities") {
                        side.push_str("  capabilities { none }\n");
                    }
                }
            }
        }
        let (o, n) = (dir.write("o.stockade", &sides[0]), dir.write("n.stockade", &sides[1]));
        let (o, n) = (o.to_str().unwrap(), n.to_str().unwrap());
        let shown = call(&["diff", o, n]);
        let found = json(&["diff", o, n, "--format", "json"]);
        let m = &found["machines"][0];
        let rows = m["rows"].as_array().unwrap_or_else(|| panic!("{title}: {}{}", shown.out, shown.err));
        let mut named: Vec<&str> =
            rows.iter().map(|r| r["line"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
        named.sort_unstable();
        named.dedup();
        wanted.sort_unstable();
        assert_eq!(named, wanted, "{title}:\n{}", shown.out);
        assert_eq!(m["lines_without_effect"].to_string(), without_effect, "{title}:\n{}", shown.out);
        for r in rows {
            let (line, gone) = (r["line"].as_str().unwrap(), r["gone"].as_bool().unwrap());
            assert_eq!(line.contains("/o.stockade"), gone, "{title}: what is gone is a line of the old one");
        }
    }
}

/// Each line of a policy that has something of everything, taken away and put back: whatever differs, that line is
/// named, and nothing is without effect beside it.
#[test]
fn a_line_that_comes_or_goes_is_named() {
    let dir = Dir::new("toggled");
    let whole = include_str!("toggled.stockade");
    let with = dir.write("with.stockade", whole);
    let heads = ["policy", "kernel", "import", "root", "exec", "user ", "}"];
    let mut differed = 0;
    for (n, line) in whole.lines().enumerate() {
        let text = line.trim();
        if text.is_empty() || text.ends_with('{') || heads.iter().any(|h| text.starts_with(h)) {
            continue;
        }
        let rest: Vec<&str> = whole.lines().enumerate().filter(|(i, _)| *i != n).map(|(_, l)| l).collect();
        let without = dir.write("without.stockade", &(rest.join("\n") + "\n"));
        for (old, new, gone) in [(&with, &without, true), (&without, &with, false)] {
            let ran = call(&["diff", old.to_str().unwrap(), new.to_str().unwrap(), "--format", "json"]);
            // What can't be left out: the other statements need it.
            let Ok(found) = serde_json::from_str::<Value>(&ran.out) else {
                assert!(ran.code == 2 && ran.err.contains("error["), "{text}: {}", ran.err);
                continue;
            };
            let m = &found["machines"][0];
            let rows = m["rows"].as_array().unwrap();
            differed += usize::from(!rows.is_empty());
            for r in rows {
                let place = format!("with.stockade:{}", n + 1);
                assert!(r["line"].as_str().unwrap().ends_with(&place), "{text}: {r}");
                assert_eq!(r["gone"], gone, "{text}: {r}");
            }
            assert!(rows.is_empty() || m["lines_without_effect"] == 0, "{text}: {m}");
        }
    }
    assert!(differed > 60, "{differed}");
}

/// The command under a comment makes that comment, whatever files are called; and a machine may be called `who`.
#[test]
fn a_comment_ends_with_its_own_command() {
    let dir = Dir::new("command");
    let text = "policy 1\nkernel 6.12\nmachine who {\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities { none }\n  syscalls { allow [execve, exit_group] }\n}\n";
    let file = dir.write("a;touch x;.stockade", text);
    let (file, other) = (file.to_str().unwrap(), text.replace("machine who", "machine other"));
    let said = call(&["check", "--strict", "--format", "markdown", file]).out;
    assert!(said.trim_end().ends_with(&format!("Made by `stockade check --strict '{file}'`")), "{said}");
    let two = dir.write("two.stockade", &format!("{text}{}", other.split_once("6.12\n").unwrap().1));
    assert!(call(&["query", "who can execve", two.to_str().unwrap()]).out.starts_with("who: yes"));
    assert_eq!(call(&["query", "who can execve", &dir.write("o.stockade", &other).display().to_string()]).code, 0);
}

/// Two imports of one name are told apart, and the lock is the same from wherever the policy is named.
#[test]
fn a_lock_names_files_from_its_own_folder() {
    let dir = Dir::new("folders");
    std::fs::create_dir_all(dir.0.join("std/sub")).unwrap();
    dir.write("std/base.stockade", "policy 1\nprofile site/a { limits { tasks 7 } }\n");
    dir.write("std/sub/base.stockade", "policy 1\nprofile site/b { limits { nofile 70 } }\n");
    let text = "policy 1\nkernel 6.12\nimport \"base\"\nimport \"sub/base\"\nmachine m {\n  extends site/a, site/b\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities { none }\n  syscalls { allow [execve, exit_group] }\n}\n";
    dir.write("std/m.stockade", text);
    let mut locks = std::collections::BTreeSet::new();
    for (place, named) in [
        ("std", "m.stockade"),
        ("std", "./m.stockade"),
        ("", "std/m.stockade"),
        ("", "./std/.//m.stockade"),
        ("std/sub", "../m.stockade"),
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(["lock", named])
            .current_dir(dir.0.join(place))
            .output()
            .unwrap();
        assert!(done.status.success(), "{named}: {done:?}");
        locks.insert(std::fs::read_to_string(dir.0.join("std/m.lock")).unwrap());
    }
    assert_eq!(locks.len(), 1, "{locks:?}");
    let lock = locks.first().unwrap();
    for line in [
        "file base.stockade sha256:",
        "file sub/base.stockade sha256:",
        "nofile 70  <- sub/base.stockade:2",
        "tasks 7  <- base.stockade:2",
    ] {
        assert!(lock.contains(line), "{line}: {lock}");
    }
}

#[test]
fn locks_hold() {
    for name in SHIPPED {
        let ran = call(&["check", "--locked", policy(name).to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{name}: {}{}", ran.out, ran.err);
    }
    // The folder as a whole, the starters with it, as docs/review.md has pipelines ask.
    let ran = call(&["check", "--locked", policy("nginx").parent().unwrap().to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let dir = Dir::new("lock");
    let text = std::fs::read_to_string(policy("unbound")).unwrap();
    let file = dir.write("unbound.stockade", &text);
    let path = file.to_str().unwrap();
    let missing = call(&["check", "--locked", path]);
    assert!(missing.code == 2 && missing.err.contains("no lock"), "{}", missing.err);
    assert_eq!(call(&["lock", path]).code, 0);
    assert_eq!(call(&["check", "--locked", path]).code, 0);
    assert!(call(&["lock", path]).out.contains("unchanged"), "the same text gives the same lock");
    std::fs::write(&file, text.replace("limits {", "limits {\n    nice 5;")).unwrap();
    let stale = call(&["check", "--locked", path]);
    assert!(stale.code == 2 && stale.err.contains("+ limits nice 5"), "{}", stale.err);
    // A lock whose machine went is seen, in a folder and by the file's name; other programs' locks are theirs.
    let folder = dir.0.to_str().unwrap();
    assert_eq!(call(&["lock", folder]).code, 0);
    dir.write("Cargo.lock", "version = 4\n");
    std::os::unix::fs::symlink("/etc/hostname", dir.0.join("other.lock")).unwrap();
    let whole = call(&["check", "--locked", folder]);
    assert_eq!(whole.code, 0, "{}", whole.err);
    std::fs::write(&file, "policy 1\nkernel 6.12\n").unwrap();
    for named in [folder, path] {
        let empty = call(&["check", "--locked", named]);
        assert!(empty.code == 2 && empty.err.contains("unbound.lock locks nothing"), "{}", empty.err);
    }
    std::fs::rename(&file, dir.0.join("renamed.stockade")).unwrap();
    let gone = call(&["check", "--locked", folder]);
    assert!(gone.code == 2 && gone.err.contains("unbound.lock locks nothing"), "{}", gone.err);
    assert!(!gone.err.contains("Cargo.lock"), "{}", gone.err);
    let v = json(&["check", "--locked", "--format", "json", folder]);
    let files = v["files"].as_array().unwrap();
    let stale = files.iter().find(|f| f["file"].as_str().unwrap().ends_with("unbound.lock")).unwrap();
    assert!(stale["ok"] == false && stale["diagnostics"][0]["code"] == "E0810", "{v}");
    let v = json(&["check", "--locked", "--format", "sarif", folder]);
    assert!(v["runs"][0]["results"].as_array().unwrap().iter().any(|r| r["ruleId"] == "E0810"), "{v}");
}

#[test]
fn raising_the_baseline_is_shown_first() {
    let v = json(&["kernel", "6.18", policy("nginx").to_str().unwrap(), "--format", "json"]);
    let calls = v["machines"][0]["calls"].as_array().unwrap();
    let one = |name: &str| calls.iter().find(|c| c["call"] == name).unwrap().clone();
    // It is refused as before: no alarm.
    assert_eq!(one("open_tree_attr")["risk"], "low");
    assert_eq!(one("open_tree_attr")["becomes"], "errno EPERM in place of ENOSYS");
    assert_eq!(one("setxattrat")["becomes"], "allow setxattrat");
    assert_eq!(call(&["kernel", "9.9", policy("nginx").to_str().unwrap()]).code, 2);
    let dir = Dir::new("baseline");
    let text = std::fs::read_to_string(policy("nginx")).unwrap();
    let text = text.replace("  limits {", "  syscalls { allow @mount why \"an example\" }\n  limits {");
    let file = dir.write("nginx.stockade", &text);
    let sarif = json(&["kernel", "6.18", file.to_str().unwrap(), "--format", "sarif"]);
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let text = |r: &Value| r["message"]["text"].as_str().unwrap().to_owned();
    assert!(results.iter().any(|r| r["level"] == "warning" && text(r).contains("open_tree_attr")), "{sarif}");
    let table = call(&["kernel", "6.18", file.to_str().unwrap(), "--format", "markdown"]).out;
    assert!(table.contains("| warning | kernel/added | `nginx: open_tree_attr"), "{table}");
}

#[test]
fn machines_read_every_format() {
    let dir = Dir::new("formats");
    let text = std::fs::read_to_string(policy("nginx")).unwrap();
    let new = text
        .replace("  limits {", "  syscalls {\n    allow ioctl(cmd == TIOCSTI) why \"a | b `c` <d>\"\n  }\n  limits {");
    let file = dir.write("nginx.stockade", &new);
    let (a, b) = (policy("nginx"), file);
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let sarif = json(&["diff", a, b, "--format", "sarif"]);
    assert_eq!(sarif["version"], "2.1.0");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((result["ruleId"].as_str(), result["level"].as_str()), (Some("widened/syscalls"), Some("error")));
    let print = result["partialFingerprints"]["stockade/v1"].as_str().unwrap().to_owned();
    // Moved lines keep their fingerprint.
    std::fs::write(b, new.replacen("# Where nginx", "\n\n# One more\n# Where nginx", 1)).unwrap();
    let moved = json(&["diff", a, b, "--format", "sarif"]);
    let moved = &moved["runs"][0]["results"][0];
    assert_eq!(moved["partialFingerprints"]["stockade/v1"].as_str(), Some(print.as_str()));
    let line = |r: &Value| r["locations"][0]["physicalLocation"]["region"]["startLine"].as_u64().unwrap();
    assert_eq!(line(moved), line(result) + 3);
    let markdown = call(&["diff", a, b, "--format", "markdown"]).out;
    assert!(markdown.len() < 65_536 && markdown.contains("| + | high | syscalls |"), "{markdown}");
    assert!(
        markdown.contains("why: `` a | b `c` <d> ``")
            && markdown.contains("<details>")
            && markdown.contains("stockade diff "),
        "{markdown}"
    );
    let bad = dir.write("bad.stockade", &text.replace("user www-data", "usr www-data"));
    for (verb, code) in [("check", 2), ("lint", 2)] {
        let ran = call(&[verb, "--format", "sarif", bad.to_str().unwrap()]);
        let v: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(ran.code, code);
        assert!(v["runs"][0]["results"].as_array().unwrap().iter().any(|r| r["ruleId"] == "E0201"), "{v}");
        assert!(call(&[verb, "--format", "markdown", bad.to_str().unwrap()]).out.contains("| error | E0201 |"));
    }
}

/// Every JSON document against its schema in docs/schema.
#[test]
fn json_is_what_its_schema_says() {
    let dir = Dir::new("schema");
    let text = std::fs::read_to_string(policy("nginx")).unwrap();
    let new = dir.write(
        "nginx.stockade",
        &text
            .replace("nofile 16384", "nofile 20000")
            .replace("  user www-data", "  user www-data\n  syscalls { allow read }"),
    );
    let bad = dir.write("bad.stockade", "policy 1\nkernel 6.12\nmachine m { }\n");
    let (a, b) = (policy("nginx"), new);
    let (a, b, bad) = (a.to_str().unwrap(), b.to_str().unwrap(), bad.to_str().unwrap());
    for (schema, arguments) in [
        ("check", vec!["check", "--json", a, bad]),
        ("diff", vec!["diff", a, b, "--format", "json"]),
        ("lint", vec!["lint", b, "--format", "json"]),
        ("query", vec!["query", "nginx can openat", a, "--format", "json"]),
        ("query", vec!["query", "nginx can bpf", a, "--format", "json"]),
        ("kernel", vec!["kernel", "6.18", a, "--format", "json"]),
        ("test", vec!["test", "--json", a]),
        ("groups", vec!["groups", "--json"]),
        ("doctor", vec!["doctor", "--json"]),
        ("plan", vec!["plan", "--json", a]),
        ("explain", vec!["explain", "--json", a]),
        ("explain", vec!["explain", "--json", "E0301"]),
    ] {
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{schema}.json"));
        harness::json_schema(&schema, &call(&arguments).out);
    }
    // Nothing that prints JSON is without one.
    let verbs = call(&["--help"]).out;
    for verb in verbs.lines().filter_map(|l| l.strip_prefix("  ")?.split_once(' ')).map(|(v, _)| v) {
        if verb.starts_with(|c: char| !c.is_ascii_lowercase()) || verb == "help" {
            continue;
        }
        let help = call(&[verb, "--help"]).out;
        if help.contains("--json") || help.contains("--format") || help.contains("--report") {
            let of = if matches!(verb, "who" | "why") { "query" } else { verb };
            let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{of}.json"));
            assert!(schema.exists(), "`{verb}` prints JSON and has no schema");
        }
    }
}

/// SARIF against the schema that OASIS published, which a crate of the tests carries.
#[test]
fn sarif_is_what_its_standard_says() {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let found = Command::new(env!("CARGO"))
        // Of other platforms nothing was fetched.
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&found.stdout).unwrap_or_else(|e| {
        panic!("cargo metadata: {e}: {}", String::from_utf8_lossy(&found.stderr));
    });
    let manifest = metadata["packages"].as_array().unwrap().iter().find(|p| p["name"] == "serde-sarif").unwrap();
    let manifest = Path::new(manifest["manifest_path"].as_str().unwrap());
    let schema = manifest.parent().unwrap().join("src/schema.json");
    let published: Value = serde_json::from_str(&std::fs::read_to_string(&schema).unwrap()).unwrap();
    assert!(published["$id"].as_str().is_some_and(|i| i.contains("oasis-tcs/sarif-spec")), "{}", published["$id"]);

    let dir = Dir::new("sarif");
    let text = std::fs::read_to_string(policy("nginx")).unwrap();
    let wider = text.replace("  limits {", "  syscalls { allow ioctl(cmd == TIOCSTI) why \"x\" }\n  limits {");
    let wider = dir.write("nginx.stockade", &wider);
    let bad = dir.write("bad.stockade", &text.replace("user www-data", "usr www-data"));
    let (a, b, bad) = (policy("nginx"), wider.to_str().unwrap(), bad.to_str().unwrap());
    let a = a.to_str().unwrap();
    let loose = dir.write("loose.stockade", &text.replace("  limits {", "  syscalls { allow ptrace }\n  limits {"));
    let loose = loose.to_str().unwrap();
    for (arguments, least) in [
        (vec!["diff", a, b], 1),
        (vec!["diff", a, a], 0),
        (vec!["check", bad], 1),
        (vec!["check", a], 0),
        (vec!["lint", loose], 1),
        (vec!["lint", bad], 1),
        (vec!["query", "nginx can openat", a], 1),
        (vec!["who", "can openat", a], 1),
    ] {
        let document = call(&[arguments.clone(), vec!["--format", "sarif"]].concat()).out;
        if !harness::json_schema(&schema, &document) {
            return;
        }
        let v: Value = serde_json::from_str(&document).unwrap();
        assert!(v["runs"][0]["results"].as_array().unwrap().len() >= least, "{arguments:?}: {document}");
    }
    // The schema can say no.
    let broken = r#"{"version": "2.1.0", "runs": [{"results": [{"message": {"text": 7}}]}]}"#;
    let refused = std::panic::catch_unwind(|| harness::json_schema(&schema, broken));
    assert!(refused.is_err());
}

/// Two revisions of a folder, and a revision against the folder as it lies there.
#[test]
fn git_revisions_are_compared() {
    let dir = Dir::new("git");
    let git = |arguments: &[&str]| {
        let out = Command::new("git")
            .arg("-C")
            .arg(&dir.0)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let text = "policy 1\nkernel 6.12\nimport \"std/daemon\"\nimport \"shared/base\"\nmachine m {\n  extends base\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities { none }\n}\n";
    git(&["init", "-q"]);
    std::fs::create_dir_all(dir.0.join("policies/shared")).unwrap();
    let base = |line: &str| {
        format!("policy 1\nkernel 6.12\nimport \"std/daemon\"\nprofile base {{\n  extends std/daemon\n{line}\n}}\n")
    };
    dir.write("policies/m.stockade", text);
    dir.write("policies/shared/base.stockade", &base("  limits { nofile 100 }"));
    git(&["add", "-A"]);
    git(&["commit", "-qm", "one"]);
    dir.write("policies/shared/base.stockade", &base("  limits { nofile 200 }"));
    git(&["commit", "-qam", "two"]);
    let folder = dir.0.join("policies");
    let folder = folder.to_str().unwrap();
    let both = call(&["diff", "--git", folder, "HEAD~1..HEAD"]);
    assert!(both.out.contains("nofile 200") && both.out.contains("shared/base.stockade:6"), "{}{}", both.out, both.err);
    assert!(!both.out.contains("stockade-diff-"), "no path of the checkout is shown: {}", both.out);
    // Who reads the result finds the line's file by its name, whichever revision it is of.
    let inside = stockade()
        .current_dir(&dir.0)
        .args(["diff", "--git", "policies", "HEAD~1..HEAD", "--format", "sarif"])
        .output()
        .unwrap();
    let sarif: Value = serde_json::from_slice(&inside.stdout).unwrap();
    let place = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "policies/shared/base.stockade", "{sarif}");
    dir.write("policies/shared/base.stockade", &base("  limits { nofile 300 }"));
    let here = call(&["diff", "--git", folder, "HEAD"]);
    assert!(here.out.contains("nofile 300") && here.out.contains("was: nofile 200"), "{}{}", here.out, here.err);
    assert_eq!(call(&["diff", "--git", folder, "--fail-on", "widened", "HEAD"]).code, 1);
    for none in ["nothing", "HEAD:policies", "HEAD:./"] {
        let ran = call(&["diff", "--git", folder, none]);
        assert!(ran.code == 2 && ran.err.contains("is no commit of"), "{none}: {}", ran.err);
    }
    for range in ["HEAD~1...HEAD", "HEAD~1..", "HEAD~1..."] {
        let ran = call(&["diff", "--git", folder, range]);
        assert!(ran.code == 0 && ran.out.contains("nofile 200"), "{range}: {}{}", ran.out, ran.err);
    }
    assert_eq!(call(&["diff", "--git", folder, "-x...HEAD"]).code, 2);
    let third = call(&["diff", "--git", folder, "HEAD~1..HEAD", "HEAD"]);
    assert!(third.code == 2 && third.err.contains("one too many"), "{}", third.err);
}

/// The page in a real browser: it shows what it must, its search works, and it fetches nothing.
#[test]
fn the_report_is_a_page() {
    let dir = Dir::new("report");
    let text = std::fs::read_to_string(policy("nginx")).unwrap();
    let new = text
        .replace("about \"a web", "about \"<script>document.title='broken'</script> a web")
        .replace("  limits {", "  syscalls {\n    allow ioctl(cmd == TIOCSTI) why \"<b>bold</b>\"\n  }\n  limits {");
    let file = dir.write("nginx.stockade", &new);
    let pages = [
        ("machine", call(&["report", file.to_str().unwrap()]).out),
        ("change", call(&["report", policy("nginx").to_str().unwrap(), file.to_str().unwrap()]).out),
    ];
    for (name, page) in &pages {
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("<b>bold"), "{name}");
        assert!(page.contains("default-src 'none'") && page.contains("prefers-color-scheme:dark"), "{name}");
    }
    let Some(browser) = ["/usr/bin/chromium", "/usr/bin/google-chrome"].into_iter().find(|p| Path::new(p).exists())
    else {
        return harness::skip("no chromium");
    };
    for (name, page) in &pages {
        // Types into the search box once the page's own script is there.
        let typed = "<script>const b=document.getElementById('find');b.value='tiocsti';b.dispatchEvent(new Event('input'));</script></body>";
        let path = dir.write(&format!("{name}.html"), &page.replace("</body>", typed));
        let out = Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--dump-dom"])
            .arg(format!("--user-data-dir={}", dir.0.join(format!("profile-{name}")).display()))
            .arg(format!("file://{}", path.display()))
            .output()
            .unwrap();
        let dom = String::from_utf8_lossy(&out.stdout);
        assert!(!dom.contains("<title>broken") && dom.contains("TIOCSTI"), "{name}: {dom}");
        let rows = dom.matches("<tr").count() - dom.matches("<thead><tr").count();
        let hidden = dom.matches("<tr hidden").count();
        assert!((hidden > 0 || *name == "change") && rows - hidden >= 1, "{name}: {rows} rows, {hidden} hidden");
        assert!(dom.contains(&format!("{} rows", rows - hidden)), "{name}");
        assert!(dom.contains("<svg") && dom.contains("class=\"risk high\""), "{name}");
    }
}

/// Two policies of one machine `m`, compared.
fn between(old: &str, new: &str) -> (Value, String) {
    let dir = Dir::new("between");
    let text = |body: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/daemon\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n{body}\n}}\n"
        )
    };
    let (a, b) = (dir.write("a.stockade", &text(old)), dir.write("b.stockade", &text(new)));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    (json(&["diff", a, b, "--format", "json"])["machines"][0].clone(), call(&["diff", a, b]).out)
}

fn effects(old: &str, new: &str) -> Vec<String> {
    let (m, _) = between(old, new);
    let mut list: Vec<String> =
        m["rows"].as_array().unwrap().iter().map(|r| r["effect"].as_str().unwrap().to_owned()).collect();
    list.sort();
    list.dedup();
    list
}

/// The highest risk of a machine's rows that grant something.
fn gravest(machine: &Value) -> &'static str {
    let order = ["low", "medium", "high", "critical"];
    let rank = |r: &Value| order.iter().position(|w| r["risk"] == *w).unwrap();
    let wider = machine["rows"].as_array().unwrap().iter().filter(|r| r["effect"] != "narrowed");
    order[wider.map(rank).max().unwrap_or_else(|| panic!("nothing is wider: {machine}"))]
}

/// Found by a hostile review: each was missed, or named the wrong way round.
#[test]
fn no_field_of_a_policy_is_left_out() {
    let host = "  root host";
    let with = |line: &str| format!("{host}\n  {line}");
    let dir = "  root dir \"/srv/img\"";
    for (old, new, wanted) in [
        (host.to_owned(), with("userns map 0 -> 1 count 60000"), "widened"),
        (format!("{dir} ro"), format!("{dir} volatile size=1GiB"), "widened"),
        (format!("{dir} ephemeral size=1MiB"), format!("{dir} ephemeral size=900GiB"), "widened"),
        (with("limits { override core 1GiB why \"x\" }"), host.to_owned(), "narrowed"),
        (host.to_owned(), with("limits { override core 1GiB why \"x\" }"), "widened"),
        (
            with("mounts { bind \"/srv/a\" -> \"/b\" ro }"),
            with("mounts { bind \"/\" -> \"/b\" rw exec suid dev why \"x\" }"),
            "widened",
        ),
        (with("mounts { tmpfs \"/t\" size=1MiB }"), with("mounts { tmpfs \"/t\" size=1GiB }"), "widened"),
        (with("mounts { hide \"/home\" }"), with("mounts { mask \"/home\" }"), "widened"),
        (format!("{dir} ro\n  mounts {{ tmpfs \"/t\" size=1MiB }}"), format!("{dir} ro"), "widened"),
        (host.to_owned(), with("hostname other"), "changed"),
        (host.to_owned(), with("chdir \"/usr\""), "changed"),
        (host.to_owned(), with("require landlock 3"), "widened"),
        // Who may go anywhere asks the host's name servers as well, unless it is written otherwise.
        (
            with("network { private; egress any why \"x\"; resolver none }"),
            with("network { private; egress any why \"x\" }"),
            "widened",
        ),
    ] {
        let found = effects(&old, &new);
        assert!(found.contains(&wanted.to_owned()), "{old}\n{new}\n{found:?}");
    }
    assert_eq!(effects(host, &with("require landlock 8")), ["narrowed"], "a higher floor grants nothing");
    assert_eq!(effects(&with("require landlock 8"), host), ["widened"]);
}

/// Found by a hostile review: each was no effect, or narrowed.
#[test]
fn widenings_of_bounds_groups_and_owners() {
    let with = |line: &str| format!("  root host\n  {line}");
    let dated = |limit: &str| with(&format!("limits {{ {limit} until 2030-01-01 }}"));
    let bound = |limit: &str| with(&format!("limits {{ {limit} }}"));
    let none = "  root host";
    assert_eq!(effects(&dated("memory 64MiB"), none), ["widened"]);
    assert_eq!(effects(&dated("nofile 1024"), &bound("nofile 65536")), ["widened"]);
    assert_eq!(effects(&dated("rtprio 1"), &bound("rtprio 99")), ["widened"]);
    assert_eq!(effects(&dated("io \"/dev/sda\" read=1MiB"), &bound("io \"/dev/sda\" read=2GiB")), ["widened"]);
    assert_eq!(effects(&bound("memory 64MiB"), &dated("memory 64MiB")), Vec::<String>::new());
    // All of the tree by rules isn't no rules.
    let all = with("files { read \"/\"; write \"/\" why \"x\"; exec \"/\"; create \"/\"; refer \"/\"; ioctl \"/\" }");
    assert_eq!(effects(&all, none), ["widened"]);
    assert_eq!(effects(none, &all), ["narrowed"]);
    // Whose the files are.
    let map = |how: &str| {
        with(&format!(
            "userns map 0 -> 100000 count 60000\n  mounts {{ bind \"/srv/d\" -> \"/x\" rw {how} why \"w\" }}"
        ))
    };
    assert_eq!(effects(&map(""), &map("noidmap")), ["changed"]);
    assert_eq!(effects(&map("noidmap"), &map("")), ["changed"]);
    let auto = |how: &str| with(&format!("mounts {{ bind \"/srv/d\" -> \"/x\" rw {how} why \"w\" }}"));
    assert_eq!(effects(&auto(""), &auto("noidmap")), ["narrowed"]);
}

/// The groups of a user, and what they open.
#[test]
fn groups_that_are_not_written_are_granted() {
    let machine = |user: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/daemon\n  root host\n  exec \"/usr/bin/true\"\n  user {user}\n  userns identity why \"x\"\n  capabilities {{ none }}\n}}\n"
        )
    };
    let dir = Dir::new("groups");
    let rows = |old: &str, new: &str| {
        let (a, b) = (dir.write("a.stockade", &machine(old)), dir.write("b.stockade", &machine(new)));
        let v = json(&["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--format", "json"]);
        let rows = v["machines"][0]["rows"].as_array().unwrap().clone();
        rows.iter()
            .map(|r| format!("{} {}", r["effect"].as_str().unwrap(), r["risk"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    assert!(rows("postgres group nogroup", "postgres").contains(&"widened high".to_owned()));
    assert!(rows("nobody", "root").contains(&"widened high".to_owned()));
    assert!(rows("nobody", "postgres").contains(&"widened high".to_owned()));
    assert!(!rows("1 group 2 groups [3]", "1 group 3 groups [2]").is_empty());
}

/// What follows an advice of `lint` is no less able to do its job, and an image is a machine's own.
#[test]
fn lint_leaves_what_is_needed() {
    let dir = Dir::new("lint");
    let lint = |body: &str| {
        let text = format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/net-server\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n{body}\n}}\n"
        );
        let ran = call(&["lint", dir.write("m.stockade", &text).to_str().unwrap()]);
        format!("{}{}", ran.out, ran.err)
    };
    let asked = lint("  root host\n  network { private; resolver 9.9.9.9; connect udp 53; connect tcp 53 }");
    assert!(!asked.contains("W0802"), "{asked}");
    assert!(!lint("  root image \"deb\" ro").contains("W0801"));
    assert!(lint("  root dir \"/var/lib/machines\" ro").contains("W0801"));
    // A group is asked about as its calls are.
    let group = lint("  root host\n  syscalls { allow @keyring; allow @clock why \"x\" }");
    assert!(group.contains("`allow @keyring`, with") && !group.contains("`allow @clock`, with"), "{group}");
    let shipped = call(&["lint", concat!(env!("CARGO_MANIFEST_DIR"), "/policies")]);
    assert_eq!(shipped.code, 0, "{}{}", shipped.out, shipped.err);
}

/// What is neither more nor less isn't shown to be no wider: a gate for what is widened doesn't let it pass.
#[test]
fn another_value_does_not_pass_a_gate() {
    let dir = Dir::new("gate");
    let text = |user: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/net-server\n  root host\n  \
             exec \"/usr/bin/true\"\n  {user}\n  capabilities {{ none }}\n}}\n"
        )
    };
    let a = dir.write("a.stockade", &text("user nobody"));
    let b = dir.write("b.stockade", &text("user nobody groups [0, 6]"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    assert_eq!(call(&["diff", a, b, "--fail-on", "widened"]).code, 1);
    assert_eq!(call(&["diff", a, b, "--fail-on", "narrowed"]).code, 0);
    assert_eq!(call(&["diff", a, a, "--fail-on", "any"]).code, 0);
    // A machine that removes every file rule is held by none.
    let base = "policy 1\nkernel 6.12\nimport \"std/daemon\"\nprofile p {\n  files { read \"/etc\" }\n}\n";
    let child = "machine m {\n  extends std/net-server, p\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities { none }\n  \
                 files { remove read \"/etc\" }\n}\n";
    let c = dir.write("c.stockade", &format!("{base}{child}"));
    let ran = call(&["check", c.to_str().unwrap()]);
    assert!(ran.code == 2 && ran.err.contains("error[E0521]"), "{}", ran.err);
}

/// A folder of policies is read whole or not at all.
#[test]
fn a_folder_that_is_not_all_there_is_an_error() {
    let dir = Dir::new("folder");
    let text = std::fs::read_to_string(policy("nginx")).unwrap();
    for side in ["old", "new"] {
        std::fs::create_dir_all(dir.0.join(side)).unwrap();
        dir.write(&format!("{side}/w.stockade"), &text);
    }
    let path = |p: &str| dir.0.join(p).to_str().unwrap().to_owned();
    std::os::unix::fs::symlink("w.stockade", dir.0.join("new/x.stockade")).unwrap();
    for verb in [&["diff", &path("old"), &path("new")][..], &["lint", &path("new")], &["who", "can bpf", &path("new")]]
    {
        let ran = call(verb);
        assert!(ran.code == 2 && ran.err.contains("x.stockade is a symbolic link"), "{verb:?}: {}", ran.err);
    }
    std::fs::remove_file(dir.0.join("new/x.stockade")).unwrap();
    assert_eq!(call(&["diff", &path("old"), &path("new")]).code, 0);
    let empty = path("none");
    std::fs::create_dir_all(&empty).unwrap();
    assert_eq!(call(&["diff", &path("old"), &empty]).code, 0, "all may be gone");
    assert_eq!(call(&["diff", &empty, &empty]).code, 2);
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt as _;
        let program = dir.0.join("stockade");
        std::fs::copy(env!("CARGO_BIN_EXE_stockade"), &program).unwrap();
        std::fs::create_dir(dir.0.join("new/closed")).unwrap();
        for (p, mode) in [("", 0o755), ("old", 0o755), ("new", 0o755), ("new/closed", 0o700), ("stockade", 0o755)] {
            std::fs::set_permissions(dir.0.join(p), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut c = std::process::Command::new("setpriv");
        c.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]).arg(&program);
        let ran: Ran = c.args(["diff", &path("old"), &path("new")]).output().unwrap().into();
        assert!(ran.code == 2 && ran.err.contains("can't read"), "{}{}", ran.out, ran.err);
    }
}

/// A new machine is all that it grants; a renamed one isn't a way past `--fail-on`.
#[test]
fn a_new_machine_is_reviewed_whole() {
    let dir = Dir::new("renamed");
    let text = |name: &str, body: &str| {
        format!(
            "policy 1\nkernel 6.12\nmachine {name} {{\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  syscalls {{ allow [execve, exit_group]; {body} }}\n}}\n"
        )
    };
    let a = dir.write("a.stockade", &text("m", "allow read"));
    let b = dir.write("b.stockade", &text("m2", "allow bpf"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    assert_eq!(call(&["diff", a, b, "--fail-on", "widened>=high"]).code, 1);
    let v = json(&["diff", a, b, "--format", "json"]);
    let states: Vec<&str> = v["machines"].as_array().unwrap().iter().map(|m| m["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["removed", "added"]);
    assert!(v["machines"][0]["rows"].as_array().unwrap().iter().all(|r| r["effect"] == "narrowed"), "{v}");
    assert_eq!(call(&["diff", a, b, "--fail-on", "narrowed"]).code, 1);
    let empty = Dir::new("empty");
    assert_eq!(call(&["lint", empty.0.to_str().unwrap()]).code, 2, "no policy is no clean policy");
}

/// What is held is compared by meaning as well.
#[test]
fn loosened_checks_are_rows() {
    let dir = Dir::new("claims");
    let text = |port: u16, top: &str, waive: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nparam p port {port}\nprofile top {{\n  capabilities {{ none }}\n  syscalls {{ allow @system-service; {top} }}\n}}\nmachine m {{\n  within top\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  {waive}\n  syscalls {{ allow @system-service; allow chroot; deny clone3; deny openat2 }}\n  assert {{ never connect tcp ${{p}} }}\n}}\n"
        )
    };
    let a = dir.write("a.stockade", &text(80, "allow chroot", ""));
    let b = dir.write("b.stockade", &text(81, "allow chroot; allow bpf", "waive W0802 why \"x\""));
    let shown = call(&["diff", a.to_str().unwrap(), b.to_str().unwrap()]).out;
    for part in ["assert never connect", "the ceiling top grants more", "waive W0802"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
}

/// Expired grants can be taken out under review.
#[test]
fn an_expired_grant_can_be_compared() {
    let (_, shown) = between("  root host\n  syscalls { allow chroot until 2024-01-01 why \"x\" }", "  root host");
    assert!(shown.contains("allow chroot"), "{shown}");
}

/// A line that another machine needs isn't in vain, and of two that say the same one stays.
#[test]
fn lint_gives_no_dangerous_advice() {
    let dir = Dir::new("advice");
    let lint = |items: &str| {
        let text = format!("policy 1\nkernel 6.12\nimport \"std/daemon\"\n{items}");
        call(&["lint", dir.write("l.stockade", &text).to_str().unwrap()])
    };
    let machine = |name: &str, body: &str| {
        format!(
            "machine {name} {{\n  extends std/daemon\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n{body}\n}}\n"
        )
    };
    let shared = "profile p {\n  syscalls { allow chroot }\n}\n";
    let two = format!(
        "{shared}{}{}",
        machine("a", "  extends p"),
        machine("b", "  extends p\n  syscalls { deny chroot errno EACCES }")
    );
    let ran = lint(&two);
    assert!(!ran.err.contains("W0803"), "{}", ran.err);
    let twice = lint(&machine(
        "a",
        "  syscalls {\n    allow keyctl(option in 1..=1) why \"x\"\n    allow keyctl(option == 1) why \"x\"\n  }",
    ));
    assert_eq!(twice.err.matches("W0802").count(), 1, "{}", twice.err);
    let many: String = (0..2000).map(|i| format!("    allow fcntl(cmd == {}, arg == {i})\n", 5000 + i)).collect();
    let started = std::time::Instant::now();
    let ran = lint(&machine("a", &format!("  syscalls {{\n{many}  }}")));
    assert!(ran.code <= 2 && started.elapsed() < std::time::Duration::from_secs(30), "{:?}", started.elapsed());
}

/// The cause of a "no" speaks of what was asked.
#[test]
fn a_no_names_its_own_cause() {
    let dir = Dir::new("cause");
    let text = "policy 1\nkernel 6.12\nmachine m {\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities { none }\n  syscalls {\n    allow [execve, exit_group, read]\n    allow socket(family == AF_UNIX)\n    deny socket(family == AF_PACKET) why \"raw\"\n  }\n}\n";
    let file = dir.write("m.stockade", text);
    let ask = |q: &str| call(&["query", q, file.to_str().unwrap()]);
    let alg = ask("m can socket(family == AF_ALG)");
    assert!(alg.code == 1 && alg.out.contains("no line allows it") && !alg.out.contains("AF_PACKET"), "{}", alg.out);
    assert!(ask("m can socket(family == AF_PACKET)").out.contains("m.stockade:11"));
    assert_eq!(ask("m can read").code, 0, "the call, not the right");
    let bare = ask("m can read /etc");
    assert!(bare.code == 2 && bare.err.contains("a text in \"quotes\""), "{}", bare.err);
    assert_eq!(ask("m can read; never connect any").code, 2, "one question at a time");
    assert_eq!(ask("m can refer \"/data can b\"").code, 1);
}

/// Markdown and SARIF of hostile names stay text.
#[test]
fn names_are_never_markup() {
    let dir = Dir::new("hostile");
    let text = |why: &str| {
        format!(
            "policy 1\nkernel 6.12\nmachine m {{\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  syscalls {{ allow [execve, exit_group]; {why} }}\n}}\n"
        )
    };
    let a = dir.write("a.stockade", &text(""));
    let b = dir
        .write("n#2%20.stockade", &text("allow chroot why \"![x](https://evil.example/p) @team `` **LGTM** | <b>\""));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let markdown = call(&["diff", a, b, "--format", "markdown"]).out;
    assert!(markdown.contains("why: ``` ![x](https://evil.example/p) @team `` **LGTM** | <b> ```"), "{markdown}");
    let sarif = json(&["diff", a, b, "--format", "sarif"]);
    let uri = sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].clone();
    assert!(uri.as_str().unwrap().ends_with("n%232%2520.stockade"), "{uri}");
}

/// The exported filter is the one that a plan loads, and another sandbox enforces it.
#[test]
fn an_exported_filter_works_elsewhere() {
    let dir = Dir::new("export");
    let nginx = policy("nginx");
    let out = stockade().args(["export", "bpf"]).arg(&nginx).output().unwrap();
    assert!(out.status.success() && out.stdout.len().is_multiple_of(8) && out.stdout.len() > 800);
    let sum = |bytes: &[u8]| {
        use std::io::Write as _;
        let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()[..64].to_owned()
    };
    let lock = std::fs::read_to_string(nginx.with_extension("lock")).unwrap();
    assert!(lock.contains(&format!("filter x86-64 sha256:{}", sum(&out.stdout))), "not the filter of the lock");
    if !Path::new("/usr/bin/bwrap").exists() {
        return harness::skip("no bubblewrap");
    }
    let file = dir.0.join("nginx.bpf");
    std::fs::write(&file, &out.stdout).unwrap();
    let run = |program: &str| {
        Command::new("sh")
            .arg("-c")
            .arg(format!(
                "exec bwrap --ro-bind / / --dev /dev --proc /proc --add-seccomp-fd 9 {program} 9<{}",
                file.display()
            ))
            .output()
            .unwrap()
    };
    let fine = run("cat /etc/hostname");
    assert!(fine.status.success(), "{}", String::from_utf8_lossy(&fine.stderr));
    let refused = run("unshare -U true");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("Operation not permitted"), "{said}");
    assert_eq!(call(&["export", "bpf", "/nonexistent"]).code, 2);
}

#[test]
fn a_number_that_has_a_name_is_a_finding() {
    let text = "policy 1\nkernel 6.12\nimport \"std/groups\"\nmachine m {\n  root host\n  exec \"/bin/true\"\n  user 1\n  \
                capabilities { none }\n  syscalls {\n    allow @start\n    allow socket(family == 2)\n    \
                allow unshare(unshare_flags has any [0x10000000]) why \"tests 38\"\n    \
                allow prctl(option in [PR_SET_NAME, 4242])\n    allow setpriority(which == 0)\n    allow @mine\n    allow fcntl(cmd == 0o2002)\n  }\n}\n\
                group @mine {\n  allow ioctl(cmd == 0x5412) why \"x\"\n}\n";
    let ran = harness::verb("lint", text);
    let found: Vec<&str> = ran.out.lines().chain(ran.err.lines()).filter(|l| l.contains("W0804")).collect();
    assert_eq!(found.len(), 4, "{}{}", ran.out, ran.err);
    assert!(found.iter().any(|l| l.contains("`cmd` of `fcntl` has a name for 0x402: F_NOTIFY")), "{found:?}");
    assert!(found.iter().any(|l| l.contains("`cmd` of `ioctl`")), "{found:?}");
    assert!(found[0].contains("`family` of `socket` has a name for 0x2: AF_INET"), "{found:?}");
    assert!(found[1].contains("CLONE_NEWUSER"), "{found:?}");
    assert_eq!(ran.code, 1);
}

#[test]
fn a_widening_in_a_profile_names_the_way_to_it() {
    let text = |line: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\nprofile site/base {{\n  syscalls {{\n    allow @start\n{line}\n  }}\n}}\n\
             profile site/web {{\n  extends site/base\n}}\nmachine m {{\n  extends site/web\n  root host\n  exec \"/bin/true\"\n  \
             user 1\n  capabilities {{ none }}\n}}\n"
        )
    };
    let dir = Dir::new("chain");
    let (old, new) = (dir.write("a.stockade", &text("")), dir.write("b.stockade", &text("    allow @debug")));
    let shown = call(&["diff", old.to_str().unwrap(), new.to_str().unwrap()]).out;
    assert!(shown.contains("through site/web > site/base > std/groups:"), "{shown}");
    let v = json(&["diff", old.to_str().unwrap(), new.to_str().unwrap(), "--format", "json"]);
    assert_eq!(v["machines"][0]["rows"][0]["via"][1], "site/base", "{v}");
}

/// The line that uses a parameter didn't change: the row leads to the one that did.
#[test]
fn a_changed_parameter_is_traced_to_its_value() {
    let text = |default: &str, own: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nparam port port {default}\nmachine a {{\n  extends std/daemon\n  \
             root host\n  exec \"/bin/true\"\n  user 1\n  capabilities {{ none }}\n  network {{\n    private\n    \
             listen tcp ${{port}}\n  }}\n}}\ninstance b of a [port={own}]\n"
        )
    };
    let dir = Dir::new("parameter");
    let old = dir.write("a.stockade", &text("80", "90"));
    let of = |new: PathBuf, i: usize| {
        let v = json(&["diff", old.to_str().unwrap(), new.to_str().unwrap(), "--format", "json"]);
        let m = &v["machines"][i];
        let via = m["rows"].as_array().unwrap().iter().map(|r| r["via"].as_array().unwrap().clone());
        let lines = via.flatten().map(|v| v.as_str().unwrap().rsplit_once(':').unwrap().1.to_owned()).collect();
        (lines, m["lines_without_effect"].as_u64().unwrap())
    };
    let lines = |text: &[&str]| text.iter().map(|l| (*l).to_owned()).collect::<Vec<String>>();
    let (own, default) = (dir.write("b.stockade", &text("80", "91")), dir.write("c.stockade", &text("81", "90")));
    assert_eq!((of(own.clone(), 0), of(own, 1)), ((lines(&[]), 0), (lines(&["16", "16"]), 0)));
    assert_eq!((of(default.clone(), 0), of(default, 1)), ((lines(&["4", "4"]), 0), (lines(&[]), 2)));
}

/// What `explain` says of a port and of a grant, where several lines speak of it.
#[test]
fn explain_keeps_every_line() {
    let dir = Dir::new("explain");
    let text = "policy 1\nkernel 6.12\nimport \"std/daemon\"\nprofile p {\n  capabilities { keep net_bind_service why \"one\" }\n}\n\
        machine m {\n  extends std/net-server, p\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  \
        capabilities { keep net_bind_service why \"two\" }\n  network {\n    private\n    publish tcp 8080 -> 80\n    LISTENS\n  }\n}\n";
    for (listens, wanted) in [
        ("listen tcp 80 from 10.1.0.0/16", "whoever reaches this host, of them 10.1.0.0/16"),
        ("listen tcp 80 from 10.1.0.0/16\n    listen tcp 80", "whoever reaches this host"),
        ("listen tcp 80 from 10.1.0.0/16\n    listen tcp 80 from 10.2.0.0/16", "of them 10.1.0.0/16, 10.2.0.0/16"),
    ] {
        let file = dir.write("m.stockade", &text.replace("LISTENS", listens));
        let v = json(&["explain", "--json", file.to_str().unwrap()]);
        let lines = |domain: &str| {
            let all = v["sections"].as_array().unwrap();
            all.iter().find(|s| s["domain"] == domain).unwrap()["lines"].as_array().unwrap().clone()
        };
        let way = lines("exposure")[0]["text"].as_str().unwrap().to_owned();
        assert!(way.ends_with(wanted), "{way}");
        let why: Vec<String> = lines("capabilities").iter().map(|l| l["why"].as_str().unwrap().to_owned()).collect();
        assert!(why.contains(&"one".to_owned()) && why.contains(&"two".to_owned()), "{why:?}");
    }
}

/// A folder's place says what hangs on it, under each of its names; a right holds for all below it.
#[test]
fn risk_sees_through_names_and_folders() {
    let risk = |old: &str, new: &str| gravest(&between(old, new).0);
    let root = "  root dir \"/srv/m\" ro";
    for (place, expected) in [
        ("/var", "high"),
        ("/var/run", "high"),
        ("/lib/modules", "high"),
        ("/var/lib", "high"),
        ("/var/lib/app", "low"),
        ("/srv/app", "low"),
    ] {
        let new = format!("{root}\n  mounts {{ bind \"{place}\" -> \"/mnt\" ro why \"it needs it\" }}");
        assert_eq!(risk(root, &new), expected, "{place}");
    }
    let files = |more: &str| format!("{root}\n  files {{ exec \"/usr\" \"/srv/app/bin\"; read \"/etc\"{more} }}");
    for (more, expected) in [
        ("; write \"/srv/app\"", "high"),
        ("; create \"/usr/local/x\"", "high"),
        ("; write \"/srv/data\"", "medium"),
        ("; read \"/srv/data\"", "low"),
    ] {
        assert_eq!(risk(&files(""), &files(more)), expected, "{more}");
    }
    let turns = "allow mprotect(prot has all [PROT_EXEC], prot has none [PROT_WRITE])";
    let turns = format!("{root}\n  syscalls {{ {turns} }}");
    assert_eq!(risk(root, &turns), "medium", "memory that it wrote is executed");
    let (bound, free) = ("  limits { memory 64MiB; io \"/dev/vda\" read=1MiB }", "  limits { memory 64MiB }");
    assert_eq!(risk(&format!("{root}\n{bound}"), &format!("{root}\n{free}")), "medium", "no bound is left");
}

/// The gravest row of what one line adds: each was graded lower than what it does, so passed a gate.
#[test]
fn risk_is_of_what_the_rest_of_the_policy_makes_of_it() {
    let dir = Dir::new("graded");
    let risk = |old: &str, new: &str| {
        let text = |body: &str| {
            format!("policy 1\nkernel 6.12\nimport \"std/groups\"\nmachine m {{\n exec \"/usr/bin/true\"\n{body}\n}}\n")
        };
        let (a, b) = (dir.write("a.stockade", &text(old)), dir.write("b.stockade", &text(new)));
        let found = json(&["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--format", "json"]);
        gravest(&found["machines"][0])
    };
    let calls = "allow @system-service";
    let tcp = "allow socket(family == AF_INET, type & SOCK_TYPE_MASK == SOCK_STREAM, protocol in [0, IPPROTO_TCP])";
    let body = |more: &str| {
        let has = |word: &str| more.lines().any(|l| l.trim_start().starts_with(word));
        let or = |word: &str, line: &'static str| if has(word) { "" } else { line };
        format!(
            "{}\n{}\n{}\n{}\n{more}",
            or("root", "root host"),
            or("user ", "user nobody"),
            or("capabilities", "capabilities { none }"),
            or("syscalls", "syscalls { allow @system-service }"),
        )
    };
    let host = |more: &str| {
        let tcp = format!("allow @start {tcp}").replace("@start ", "@start\n ");
        body(&format!("network {{ host why \"z\"; connect tcp 443 }}\nsyscalls {{ {tcp}\n {more} }}"))
    };
    let mounted = "mounts { bind \"/srv/x\" -> \"/srv\" rw exec why \"y\" }\n";
    let files = |rules: &str| body(&format!("{mounted}files {{ exec \"/usr\"; {rules} }}"));
    let identity = |more: &str| body(&format!("userns identity why \"x\"\n{more}"));
    let mapped = |user: &str| body(&format!("userns map 0 -> 900 count 200\n{user}"));
    let net = |more: &str| body(&format!("network {{ private; {more} }}"));
    let shown = |path: &str| body(&format!("mounts {{ bind \"{path}\" -> \"/a\" rw }}"));
    let variable = |name: &str| body(&format!("environment {{ set {name} \"/x\" }}"));
    let kept = |name: &str| identity(&format!("capabilities {{ {name} }}"));
    let unmapped = |files: &str| {
        let calls = "syscalls { allow [execve, exit_group, read, write, openat] }";
        body(&format!("mounts {{ bind \"/srv/x\" -> \"/srv\" rw exec why \"y\" }}\n{calls}\n{files}"))
    };
    let called = |name: &str| body(&format!("syscalls {{ {calls}\n{name} }}"));
    let root = |how: &str| body(&format!("root dir \"/srv/app\" {how}"));
    let none = body("");
    for (old, new, expected) in [
        // Together with what may be executed, or read and mapped.
        (files("read \"/srv\""), body(mounted), "high"),
        (files("read \"/srv\""), files("read \"/srv\"; write \"/srv\""), "high"),
        (files("write \"/srv\""), files("write \"/srv\"; read \"/srv\""), "high"),
        (files("read \"/usr\""), files("read \"/usr\"; write \"/var\""), "medium"),
        (root("ro"), root("rw"), "high"),
        (root("ro"), root("ephemeral"), "medium"),
        // Under ids that are the host's, or may be.
        (identity(""), identity("mounts { bind \"/srv/x\" -> \"/a\" rw }"), "high"),
        (none.clone(), shown("/srv/x"), "medium"),
        (kept("none"), kept("keep chown"), "high"),
        (kept("none"), kept("keep fowner"), "high"),
        (mapped("user 5 group 5"), mapped("user 5 group 5 groups [99]"), "high"),
        (mapped("user 5 group 5"), mapped("user 6 group 5"), "medium"),
        (body("user 5 group 5"), body("user 5 group 5 groups [99]"), "low"),
        // What no rule holds on the host's network; elsewhere packet rules do.
        (host(""), host("allow socket(family == AF_INET, type & SOCK_TYPE_MASK == SOCK_DGRAM)"), "medium"),
        (
            host(""),
            host("allow socket(family == AF_INET, type & SOCK_TYPE_MASK == SOCK_STREAM, protocol == 262)"),
            "medium",
        ),
        (
            host(""),
            host("allow socket(family == AF_INET6, type & SOCK_TYPE_MASK == SOCK_STREAM, protocol == 6)"),
            "low",
        ),
        (none.clone(), body("mounts { bind \"/srv/x\" -> \"/a\" rw noidmap why \"y\" }"), "medium"),
        (kept("none"), kept("keep sys_nice"), "high"),
        (kept("none"), kept("keep sys_boot"), "high"),
        // Written by one name and executed by another.
        (
            body("mounts { bind \"/srv/x\" -> \"/a\" ro exec }"),
            body("mounts { bind \"/srv/x\" -> \"/a\" ro exec\n bind \"/srv/x\" -> \"/b\" rw }"),
            "high",
        ),
        (
            body("mounts { bind \"/srv/x\" -> \"/b\" rw }"),
            body("mounts { bind \"/srv/x\" -> \"/b\" rw\n bind \"/srv/x\" -> \"/a\" ro exec }"),
            "high",
        ),
        // Nothing maps what is read, so it isn't executed.
        (
            unmapped("files { exec \"/usr\"; write \"/srv\" }"),
            unmapped("files { exec \"/usr\"; write \"/srv\"; read \"/srv\" }"),
            "low",
        ),
        (called(""), called("allow unshare(unshare_flags only [CLONE_FILES, CLONE_FS])"), "low"),
        (called(""), called("allow unshare(unshare_flags only [CLONE_FILES, CLONE_NEWNET])"), "high"),
        // Refused before and after.
        (called("kill bpf"), called(""), "low"),
        (called("kill bpf"), called("log bpf"), "high"),
        // An image lies among the others, and is the machine's own.
        (body("root image \"x\" rw\nmounts { mask \"/srv/x\" }"), body("root image \"x\" rw"), "medium"),
        // Who may go anywhere reaches no metadata but by name.
        (net(""), net("connect tcp 80"), "low"),
        (net(""), net("connect tcp 80 to fd00:c1::a9fe:a9fe"), "high"),
        // Other names of the same thing.
        (called(""), called("allow quotactl_fd"), "high"),
        (net(""), net("connect tcp 80 to 168.63.129.16"), "high"),
        (net(""), net("connect tcp 80 to fd00:ec2::254"), "high"),
        (net(""), net("connect tcp 80 to 100.64.0.0/10"), "high"),
        (net(""), net("connect tcp 80 to 168.63.129.17"), "low"),
        (none.clone(), shown("/var/lib/dpkg/info"), "critical"),
        (none.clone(), shown("/var/spool/at"), "critical"),
        (none.clone(), shown("/var/lib/extensions"), "critical"),
        (none.clone(), shown("/nix/store"), "critical"),
        (none.clone(), variable("_JAVA_OPTIONS"), "medium"),
        (none.clone(), variable("GLIBC_TUNABLES"), "medium"),
        (none.clone(), variable("LANG"), "low"),
    ] {
        assert_eq!(risk(&old, &new), expected, "{new}");
    }
}

/// What is said in words and was so before changes nothing, and neither does a check that holds more.
#[test]
fn what_was_so_before_is_no_change() {
    let root = "  root dir \"/srv/m\" ro";
    let with = |line: &str| format!("{root}\n  {line}");
    let never = |claims: &str| with(&format!("assert {{ never {} }}", claims.replace("; ", "\n    never ")));
    let path = "set PATH \"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"";
    let asserted = "syscall socket(family == AF_KCM); write \"/etc/a\"; connect tcp 80 to 192.0.2.1; connect udp 53";
    for (old, new) in [
        (root.to_owned(), with("hostname m")),
        (root.to_owned(), with(&format!("environment {{ {path}; set container \"stockade\" }}"))),
        (with("mounts { tmpfs \"/t\" }"), with("mounts { tmpfs \"/t\" owner=root }")),
        (root.to_owned(), with("umask 022")),
        (
            with("mounts { bind \"/srv/a\" -> \"/a\" ro }"),
            with("mounts { bind \"/srv/a\" -> \"/a\" ro; bind \"/srv/a/x\" -> \"/a/x\" ro }"),
        ),
        (never(asserted), never("syscall socket(family in [AF_KCM, AF_VSOCK]); write \"/etc\"; connect any")),
        (never(asserted), never("syscall socket; write \"/\"; connect tcp any; connect udp any")),
    ] {
        assert_eq!(effects(&old, &new), Vec::<String>::new(), "{new}");
    }
    for (old, new, expected) in [
        (root.to_owned(), with("hostname other"), "changed"),
        (root.to_owned(), with("environment { set PATH \"/usr/bin\" }"), "changed"),
        (with("environment { set PATH \"/opt\" }"), root.to_owned(), "changed"),
        (root.to_owned(), with("umask 077"), "narrowed"),
        (with("umask 077"), with("umask 070"), "widened"),
        (with("umask 077"), with("umask 0"), "widened"),
        (with("umask 027"), with("umask 072"), "widened"),
        // A mount in another is more where it shows other files, lets more, or undoes what covers the place.
        (
            with("mounts { bind \"/srv/a\" -> \"/a\" ro }"),
            with("mounts { bind \"/srv/a\" -> \"/a\" ro; bind \"/srv/b/x\" -> \"/a/x\" ro }"),
            "widened",
        ),
        (
            with("mounts { bind \"/srv/a\" -> \"/a\" ro }"),
            with("mounts { bind \"/srv/a\" -> \"/a\" ro; bind \"/srv/a/x\" -> \"/a/x\" rw }"),
            "widened",
        ),
        (
            with("mounts { bind \"/srv/a\" -> \"/a\" ro; tmpfs \"/a/x\" }"),
            with("mounts { bind \"/srv/a\" -> \"/a\" ro; tmpfs \"/a/x\"; bind \"/srv/a/x/y\" -> \"/a/x/y\" ro }"),
            "widened",
        ),
        (never(asserted), never("syscall socket(family == AF_VSOCK); write \"/etc\"; connect any"), "changed"),
        (never(asserted), never("syscall socket; write \"/etc/a/b\"; connect any"), "changed"),
        (never(asserted), never("syscall socket; exec \"/etc\"; connect any"), "changed"),
        (never(asserted), never("syscall socket; write \"/etc\"; connect tcp any"), "changed"),
        (never(asserted), never("syscall socket; write \"/etc\"; connect udp 53; connect tcp 81"), "changed"),
        (never(asserted), never("syscall socket; write \"/etc\"; connect udp 53; listen tcp any"), "changed"),
        (never("connect tcp 80"), never("connect tcp 80 to 192.0.2.1"), "changed"),
    ] {
        assert_eq!(effects(&old, &new), [expected], "{old}\n{new}");
    }
}

/// A mount within another shows the same files otherwise: it is a row when it comes and when it goes.
#[test]
fn a_mount_in_a_mount_is_never_silent() {
    let with = |list: &str| format!("  root dir \"/srv/m\" ro\n  mounts {{\n{list}\n  }}");
    for (around, inner, gone, risk, came) in [
        ("bind \"/srv/a\" -> \"/a\" rw", "bind \"/srv/a/c\" -> \"/a/c\" ro", "widened", "medium", "narrowed"),
        ("bind \"/srv/a\" -> \"/a\" rw exec", "bind \"/srv/a/c\" -> \"/a/c\" rw", "widened", "high", "narrowed"),
        ("bind \"/srv/a\" -> \"/a\" rw suid", "bind \"/srv/a/c\" -> \"/a/c\" rw", "widened", "high", "narrowed"),
        ("bind \"/\" -> \"/h\" rw", "bind \"/etc\" -> \"/h/etc\" ro", "widened", "critical", "narrowed"),
        ("bind \"/srv/a\" -> \"/a\" rw", "bind \"/srv/a/c\" -> \"/a/c\" rw noidmap", "widened", "medium", "narrowed"),
    ] {
        let around = format!("{around} why \"x\"");
        let (outer, both) = (with(&around), with(&format!("{around}\n{inner} why \"x\"")));
        let (m, shown) = between(&both, &outer);
        assert_eq!(
            (m["rows"][0]["effect"].as_str(), m["rows"][0]["risk"].as_str()),
            (Some(gone), Some(risk)),
            "{shown}"
        );
        assert_eq!(effects(&outer, &both), [came], "{inner}");
    }
    // More than one path above it says, where a path has other names or is moved.
    let old = "bind \"/srv/run\" -> \"/run\" ro\n  }\n  assert { never write \"/var/run/app\" ";
    let new = "bind \"/srv/run\" -> \"/run\" rw\n  }\n  assert { never write \"/var\" ";
    assert_eq!(effects(&with(old), &with(new)), ["changed", "widened"]);
}

/// What a new machine is denied is no widening, and of several calls of a line the gravest names its way and reason.
#[test]
fn a_row_is_of_what_it_says() {
    let dir = Dir::new("new");
    let (old, new) = (dir.0.join("old"), dir.0.join("new"));
    let text = |body: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\ngroup @a {{\n  allow [getpid, fallocate]\n  allow [getgid, ptrace]\n}}\nmachine m {{\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n{body}\n}}\n"
        )
    };
    for d in [&old, &new] {
        std::fs::create_dir(d).unwrap();
    }
    let strict = "  syscalls { allow @start\n kill [bpf, init_module] }\n  limits { memory 64MiB }\n  mounts { hide \"/etc/shadow\" }";
    std::fs::write(new.join("m.stockade"), text(strict)).unwrap();
    let (o, n) = (old.to_str().unwrap(), new.to_str().unwrap());
    assert_eq!(call(&["diff", o, n, "--fail-on", "widened>=high"]).code, 0, "{}", call(&["diff", o, n]).out);
    let v = json(&["diff", o, n, "--format", "json"]);
    let rows = v["machines"][0]["rows"].as_array().unwrap();
    for part in ["kill bpf", "hide", "memory"] {
        let row = rows.iter().find(|r| r["text"].as_str().unwrap().contains(part)).unwrap();
        assert_eq!(row["effect"], "narrowed", "{row}");
    }
    let gone = json(&["diff", n, o, "--format", "json"]);
    let mut texts: Vec<String> = gone["machines"][0]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| format!("{} {}", r["text"], r["line"]))
        .collect();
    let all = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), all, "{texts:?}");
    let a = dir.write("a.stockade", &text("  syscalls { allow @start }"));
    let b = dir.write("b.stockade", &text("  syscalls { allow [@start, @a] }"));
    let v = json(&["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--format", "json"]);
    let row = &v["machines"][0]["rows"][0];
    let via = row["via"].to_string();
    assert!(row["text"].as_str().unwrap().starts_with("allow ptrace") && via.contains("b.stockade:6"), "{row}");
    // An init sets its own mask, so it is none of the policy's.
    let init = |line: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/os\"\nprofile c {{ extends std/os; umask 027; chdir \"/tmp\" }}\nmachine m {{ extends std/os; root dir \"/srv/m\" ephemeral; boot; {line} }}\n"
        )
    };
    let ran = call(&["check", dir.write("c.stockade", &init("within c")).to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

/// A line is without effect when nothing of it is in a row: neither what a new one replaces, nor what is taken first.
#[test]
fn rows_have_all_their_lines() {
    let root = "  root dir \"/srv/m\" ro";
    let head = |old: &str, new: &str| {
        let (m, shown) = between(old, new);
        (m["lines_without_effect"].as_u64().unwrap(), m["rows"].clone(), shown)
    };
    let rules = format!("{root}\n  files {{\n    exec \"/usr\"\n    read \"/etc\"\n  }}");
    for (old, new, gone) in [(rules.as_str(), root, true), (root, rules.as_str(), false)] {
        let (left, rows, shown) = head(old, new);
        assert_eq!(left, 0, "{shown}");
        for row in rows.as_array().unwrap() {
            assert!(row["line"].as_str().unwrap().ends_with(".stockade:11") && row["gone"] == gone, "{row}");
        }
    }
    let narrow = format!(
        "{root}\n  network {{\n    private\n    connect tcp 443 to 192.0.2.0/24\n    listen tcp 80 from 192.0.2.1\n  }}"
    );
    let wide = narrow.replace(" to 192.0.2.0/24", "").replace(" from 192.0.2.1", "");
    for (old, new) in [(&narrow, &wide), (&wide, &narrow)] {
        assert_eq!(head(old, new).0, 0, "{}", head(old, new).2);
    }
    // What was killed before runs by two lines.
    let killed = format!("{root}\n  syscalls {{ allow @start }}");
    let lifted = format!("{root}\n  syscalls {{\n    override kill reboot why \"w3\"\n    allow reboot\n  }}");
    let (left, rows, shown) = head(&killed, &lifted);
    let row = rows.as_array().unwrap().iter().find(|r| r["text"] == "allow reboot").unwrap();
    assert!(row["via"].to_string().contains("b.stockade:11") && row["why"] == "w3", "{shown}");
    assert_eq!(left, 1, "the line of the old one: {shown}");
    // A limit of one device that is gone.
    let (_, rows, _) = head(&format!("{root}\n  limits {{ io \"/dev/sda\" read=1MiB }}"), root);
    assert_eq!((rows[0]["was"].as_str(), rows[0]["now"].as_str()), (Some("io-read /dev/sda 1MiB"), Some("no bound")));
}

/// What a pull request chooses, a name, a reason, a revision, is text, and one thing is told from another.
#[test]
fn results_are_told_apart_and_are_text() {
    let dir = Dir::new("apart");
    let machine = |why: &str| server(&format!("  environment {{ set A \"{why}\" }}"));
    for folder in ["prod", "staging"] {
        std::fs::create_dir(dir.0.join(folder)).unwrap();
        dir.write(&format!("{folder}/m.stockade"), &server(""));
    }
    let all = dir.0.to_str().unwrap();
    let prints = |arguments: &[&str]| {
        let v = json(arguments);
        let mut prints: Vec<String> =
            v["runs"][0]["results"].as_array().unwrap().iter().map(|r| r["partialFingerprints"].to_string()).collect();
        let count = prints.len();
        prints.sort();
        prints.dedup();
        (count, prints.len())
    };
    for asked in [
        &["kernel", "6.18", "--format", "sarif", all][..],
        &["who", "can read \"/usr\"", all, "--format", "sarif"],
        &["query", "m can capability [chown, sys_admin]", &format!("{all}/prod/m.stockade"), "--format", "sarif"],
    ] {
        let (count, different) = prints(asked);
        assert!(count > 1 && count == different, "{asked:?}: {count} {different}");
    }
    let a = dir.write("a.stockade", &machine("x"));
    let b = dir.write("it's; echo `b`.stockade", &machine("[reviewed](https://evil.example) {0}"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let sarif = json(&["diff", a, b, "--format", "sarif"]);
    let text = sarif["runs"][0]["results"][0]["message"]["text"].as_str().unwrap();
    assert!(text.contains("[reviewed\\](https") && text.contains("{{0}"), "{text}");
    let markdown = call(&["diff", a, b, "--format", "markdown"]).out;
    let folder = std::path::Path::new(b).parent().unwrap().display();
    let made = format!("Made by `` stockade diff {a} '{folder}/it'\\''s; echo `b`.stockade' ``");
    assert!(markdown.contains(&made), "{made}\n{markdown}");
    // What the library says is found where it is used: its files are in no repository.
    let dated = dir.write("l.stockade", &server("  syscalls { deny init_module }"));
    for format in [["check", "sarif"], ["lint", "sarif"]] {
        let found = call(&[format[0], dated.to_str().unwrap(), "--format", format[1]]).out;
        assert!(!found.contains("stockade:std"), "{found}");
    }
    // The same lines in another order are another lock, and that is said.
    let m = dir.0.join("prod/m.stockade");
    assert_eq!(call(&["lock", m.to_str().unwrap()]).code, 0);
    let lock = m.with_extension("lock");
    let text = std::fs::read_to_string(&lock).unwrap().replace('\n', "\r\n");
    std::fs::write(&lock, text).unwrap();
    let ran = call(&["check", "--locked", m.to_str().unwrap()]);
    assert!(ran.code == 2 && ran.err.contains("other ends (CR LF)"), "{}{}", ran.out, ran.err);
    // What the shell took the quotes from.
    assert_eq!(call(&["why", a, "m", "write", "/etc"]).code, 1);
    assert_eq!(call(&["why", a, "m", "see", "/etc"]).code, 0);
    // A waiver of one finding is none of another.
    let waived = server(
        "  waive W0801 why \"x\"\n  network { private; listen tcp 80 until 2090-01-01 }\n  syscalls { allow bpf }",
    );
    let ran = call(&["lint", dir.write("w.stockade", &waived).to_str().unwrap()]);
    assert!(ran.code == 1 && ran.err.contains("W0701"), "{}", ran.err);
    // An option counts or is refused.
    assert_eq!(call(&["report", a, b, "--machine", "none"]).code, 2);
    assert_eq!(call(&["check", a, "--format", "sarif", "--json"]).code, 2);
    assert_eq!(call(&["check", a, "--json"]).code, 0);
    // What this host lacks isn't an error of the policy, whoever asks.
    let lacking =
        server("  mounts { bind \"/srv/none-such\" -> \"/mnt\" ro }").replace("root dir \"/srv/m\" ro", "root host");
    let file = dir.write("u.stockade", &lacking);
    let file = file.to_str().unwrap();
    let plan = call(&["plan", file]);
    for target in ["oci", "systemd"] {
        let ran = call(&["export", target, file]);
        assert_eq!(ran.code, plan.code, "{target}: {}", ran.err);
    }
    assert_eq!(plan.code, 3, "{}", plan.err);
}

/// A revision is of its folder, whatever else a hook, a mask or a slash says; what is wrong in one names it.
#[test]
fn a_revision_is_of_its_folder() {
    let dir = Dir::new("hooked");
    let git = |arguments: &str| {
        let mut c = std::process::Command::new("git");
        c.args(["-c", "user.email=a@example.org", "-c", "user.name=a"]).args(arguments.split(' ')).current_dir(&dir.0);
        assert!(c.output().unwrap().status.success(), "{arguments}");
    };
    git("init -q -b main .");
    std::fs::create_dir_all(dir.0.join("a/policies")).unwrap();
    dir.write("a/policies/m.stockade", &server(""));
    dir.write("z.stockade", &server("").replace("machine m", "machine z"));
    git("add .");
    git("commit -qm 1");
    let run = |arguments: &[&str], before: &str| -> Ran {
        let mut c = std::process::Command::new("sh");
        let own = env!("CARGO_BIN_EXE_stockade");
        c.arg("-c").arg(format!("{before} exec {own} \"$@\"")).arg("sh").args(arguments).current_dir(&dir.0);
        c.output().unwrap().into()
    };
    for before in ["export GIT_DIR=$PWD/.git GIT_PREFIX=a/;", "umask 0;", ""] {
        for folder in ["a/policies", "./a/policies/"] {
            let ran = run(&["diff", "--git", folder, "HEAD", "--format", "json"], before);
            let v: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{before}: {}", ran.err));
            let machines = v["machines"].as_array().unwrap();
            assert!(machines.len() == 1 && machines[0]["rows"] == serde_json::json!([]), "{before} {folder}: {v}");
            assert_eq!(machines[0]["place"], "a/policies/m.stockade:4");
        }
    }
    dir.write("a/policies/m.stockade", "policy 1\nkernel 6.12\nmachine m {\n}\n");
    git("commit -qam 2");
    let ran = run(&["diff", "--git", "a/policies", "HEAD~1..HEAD"], "");
    assert!(
        ran.code == 2 && ran.err.contains("in `HEAD`:") && ran.err.contains("a/policies/m.stockade:3"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains("/tmp/stockade-diff"), "{}", ran.err);
    // The folder is gone from the work tree, or was never there.
    git("rm -qr a");
    git("commit -qm 3");
    let ran = run(&["diff", "--git", "a/policies", "HEAD~2"], "");
    assert!(ran.code == 0 && ran.out.contains("narrowed"), "{}{}", ran.out, ran.err);
    assert_eq!(run(&["diff", "--git", "a/policies", "HEAD~2..HEAD"], "").code, 0);
    let ran = run(&["diff", "--git", "a/nowhere", "HEAD"], "");
    assert!(ran.code == 2 && ran.err.contains("a/nowhere"), "{}", ran.err);
}

/// The same addresses and ports, written otherwise.
#[test]
fn what_is_written_otherwise_is_the_same() {
    let root = "  root dir \"/srv/m\" ro\n  network";
    for (a, b) in [
        ("private\n    connect tcp 443 to 10.0.0.0/8", "private\n    connect tcp 443 to [10.0.0.0/9, 10.128.0.0/9]"),
        (
            "private\n    connect tcp 443 to 192.0.2.0/30",
            "private\n    connect tcp 443 to [192.0.2.0, 192.0.2.1]\n    connect tcp 443 to 192.0.2.2/31",
        ),
        (
            "private\n    listen tcp [80, 81]\n    publish tcp 8080-8081 -> 80-81",
            "private\n    listen tcp [80, 81]\n    publish tcp 8080 -> 80\n    publish tcp 8081 -> 81",
        ),
    ] {
        let net = |words: &str| format!("{root} {{\n    {words}\n  }}");
        assert!(effects(&net(a), &net(b)).is_empty(), "{a} | {b}: {}", between(&net(a), &net(b)).1);
        assert!(effects(&net(b), &net(a)).is_empty(), "{b} | {a}: {}", between(&net(b), &net(a)).1);
    }
    let net = |words: &str| format!("{root} {{\n    private\n    connect tcp 443 to {words}\n  }}");
    assert_eq!(effects(&net("[10.0.0.0/9, 10.128.0.0/10]"), &net("10.0.0.0/8")), ["widened"]);
    assert_eq!(effects(&net("10.0.0.0/8"), &net("[10.0.0.0/9, 10.128.0.0/10]")), ["narrowed"]);
    let anybody = net("0.0.0.0/0").replace(" to 0.0.0.0/0", "");
    assert_eq!(effects(&anybody, &net("0.0.0.0/0")), ["narrowed", "widened"], "link-local is meant now, IPv6 isn't");
    assert!(effects(&anybody, &anybody.replace("443", "443\n    connect tcp 443 to 192.0.2.0/24")).is_empty());
}

/// A line explains something or it doesn't, for the machine that it is written in.
#[test]
fn lines_without_effect_are_counted_by_machine() {
    let count = |old: &str, new: &str| {
        let (m, shown) = between(old, new);
        (m["lines_without_effect"].as_u64().unwrap(), shown)
    };
    let root = "  root dir \"/srv/m\" ro";
    let with = |text: &str| format!("{root}\n{text}");
    let (n, shown) = count(&with("  limits {\n    nofile 10\n  }"), &with("  limits {\n    nofile 20\n  }"));
    assert_eq!(n, 0, "the old line and the new one are one change: {shown}");
    let (n, shown) = count(&with("  syscalls { deny chroot }"), &with("  syscalls { deny chroot errno EIO }"));
    assert_eq!(n, 0, "{shown}");
    let (n, shown) = count(root, &with("  syscalls { allow read }"));
    assert_eq!(n, 1, "it is allowed already: {shown}");
    let optional = |o: &str| with(&format!("  files {{\n    exec \"/usr\"\n    read {o}\"/etc/x\"\n  }}"));
    let (m, shown) = between(&optional("optional "), &optional(""));
    let row = &m["rows"][0];
    assert_eq!((row["effect"].as_str(), row["risk"].as_str()), (Some("changed"), Some("low")), "{shown}");
    assert!(shown.contains("doesn't start") && m["lines_without_effect"] == 0, "{shown}");
    // Two machines in one file: each has its own lines.
    let dir = Dir::new("two");
    let machine = |name: &str, files: &str| {
        format!(
            "machine {name} {{\n  extends std/daemon\n  root dir \"/srv/m\" ro\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  limits {{ nofile {files} }}\n}}\n"
        )
    };
    let text = |a: &str, b: &str| {
        format!("policy 1\nkernel 6.12\nimport \"std/daemon\"\n{}{}", machine("a", a), machine("b", b))
    };
    let old = dir.write("old.stockade", &text("10", "20"));
    let new = dir.write("new.stockade", &text("0xa", "30"));
    let v = json(&["diff", old.to_str().unwrap(), new.to_str().unwrap(), "--format", "json"]);
    let of = |i: usize| {
        (v["machines"][i]["rows"].as_array().unwrap().len(), v["machines"][i]["lines_without_effect"].as_u64())
    };
    assert_eq!((of(0), of(1)), ((0, Some(2)), (1, Some(0))), "{v}");
}

/// A no names the machine's line: a tool that shows places has one to show.
#[test]
fn a_no_has_a_place() {
    let file = policy("nginx");
    let file = file.to_str().unwrap();
    let v = json(&["query", "nginx can bpf", file, "--format", "sarif"]);
    let place = &v["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    let line = line_of(&std::fs::read_to_string(file).unwrap(), "machine nginx {");
    assert_eq!(place["region"]["startLine"].as_u64(), Some(line as u64), "{v}");
    assert!(place["artifactLocation"]["uri"].as_str().unwrap().ends_with("nginx.stockade"), "{v}");
}

/// What a machine can do below a path is what its tree shows there: the last mount, those below it, what every machine
/// has, and the rules that open it.
#[test]
fn paths_are_answered_by_what_is_seen() {
    let dir = Dir::new("paths");
    let ask = |body: &str, question: &str| {
        let text = format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine web {{\n  extends std/net-server\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n{body}\n}}\n"
        );
        let file = dir.write("web.stockade", &text);
        let ran = call(&["query", &format!("web can {question}"), file.to_str().unwrap()]);
        assert!(ran.code < 2, "{body} {question}: {}{}", ran.out, ran.err);
        // An assertion is decided as the question is.
        let asserted =
            text.replace("  user nobody", &format!("  user nobody\n  assert {{\n    never {question}\n  }}"));
        let file = dir.write("asserted.stockade", &asserted);
        assert_eq!(call(&["check", file.to_str().unwrap()]).code == 2, ran.code == 0, "{body} {question}");
        ran.code == 0
    };
    let rw = "  root dir \"/srv/r\" rw";
    let ro = "  root dir \"/srv/r\" ro";
    let host = "  root host";
    let with = |root: &str, mounts: &str| format!("{root}\n  mounts {{\n{mounts}\n  }}");
    let one = with(rw, "bind \"/srv/a\" -> \"/data/x\" ro");
    let over = with(ro, "bind \"/srv/a\" -> \"/srv\" ro\nbind \"/srv/b\" -> \"/srv/x\" rw why \"w\"");
    let two = with(ro, "bind \"/srv/a\" -> \"/data/x\" ro\nbind \"/srv/b\" -> \"/data/y\" rw why \"w\"");
    let tmp = with(ro, "tmpfs \"/t\" size=1MiB\nbind \"/srv/a\" -> \"/t/d\" ro exec why \"x\"");
    let masked = with(rw, "mask \"/data\"\nhide \"/srv\"");
    let files = format!("{ro}\n  files {{ exec \"/usr\"; read \"/etc\" }}");
    let device = format!("{files}\n  devices {{ allow \"/dev/fuse\" why \"x\" }}");
    let opened = format!("{files}\n  mounts {{ bind \"/srv/a\" -> \"/usr/local\" rw exec why \"x\" }}");
    let written = opened.replace("exec \"/usr\";", "exec \"/usr\"; write \"/usr/local/bin\" why \"w\";");
    let twice = format!(
        "{}\n  files {{ write \"/a\"; exec \"/usr\" }}",
        with(ro, "bind \"/srv/d\" -> \"/a\" ro\nbind \"/srv/d/x\" -> \"/b\" rw why \"w\"")
    );
    let named = with(ro, "bind \"/srv/d\" -> \"/a\" rw why \"w\"\nbind \"/srv/d\" -> \"/b\" ro exec why \"x\"");
    let into = with(ro, "bind \"/srv/r/opt\" -> \"/data\" rw why \"w\"");
    let nodes = with(ro, "bind \"/srv/n\" -> \"/nodes\" ro dev why \"y\"");
    let links = with(ro, "bind \"/srv/up\" -> \"/usr/bin\" rw exec why \"x\"");
    let old = format!("{rw}\n  require landlock 2 why \"an old host\"\n  files {{ exec \"/usr\" }}");
    // Names that lead to other files after a rename, and what keeps them.
    let conf = with(rw, "bind \"/srv/c\" -> \"/etc/app/conf\" ro");
    let held = format!("{conf}\n  files {{ write \"/var\"; exec \"/usr\" }}");
    let loose = format!("{conf}\n  files {{ create \"/etc\"; write \"/etc\" why \"w\"; exec \"/usr\" }}");
    let top = with(rw, "bind \"/srv/c\" -> \"/conf\" ro");
    let chained = with(rw, "bind \"/srv/x\" -> \"/t/a\" ro\nbind \"/srv/c\" -> \"/t/a/conf\" ro");
    let tmpfs = with(ro, "tmpfs \"/t\" size=1MiB\nbind \"/srv/c\" -> \"/t/a/conf\" ro");
    // Rules stay with the files: another folder takes the name of one that is moved aside, by whatever way to it.
    let aside = format!("{rw}\n  files {{ read \"/\"; exec \"/usr\"; create \"/srv\"; write \"/srv/b\" why \"w\" }}");
    let below = format!(
        "{}\n  files {{ read \"/\"; exec \"/usr\"; create \"/opt\"; write \"/opt/x\" why \"w\" }}",
        with(rw, "bind \"/srv/c\" -> \"/opt/app/c\" ro")
    );
    let other = with(ro, "bind \"/srv/r/etc\" -> \"/mnt\" rw why \"w\"\nbind \"/srv/c\" -> \"/etc/app/conf\" ro");
    let moved = format!("{rw}\n  files {{ read \"/\"; create \"/srv\"; exec \"/srv/bin\" }}");
    let far = moved.replace("exec \"/srv/bin\"", "exec \"/usr\"");
    // One folder of the host by two names.
    let linked = with(ro, "bind \"/var/run/x\" -> \"/a\" ro\nbind \"/run\" -> \"/b\" rw why \"w\"");
    let merged = with(host, "bind \"/bin\" -> \"/x\" rw why \"w\"");
    let kernel = with(ro, "bind \"/proc/sys\" -> \"/x\" rw noidmap why \"w\"");
    let exporter = with(ro, "bind \"/proc\" -> \"/host/proc\" ro");
    let standard = format!("{}\n  files {{ read \"/etc\" }}", with(ro, "bind \"/dev\" -> \"/x\" ro dev why \"y\""));
    // A rule above what a mount shows opens nothing in it; a layer has files of its own.
    let layered = format!(
        "{}\n  files {{ write \"/b\"; exec \"/usr\" }}",
        with(ro, "overlay \"/srv/d\" -> \"/a\" size=1MiB\nbind \"/srv/d\" -> \"/b\" ro")
    );
    let within = twice.replace("write \"/a\"", "write \"/a/x/y\"");
    let memory = format!("{ro}\n  syscalls {{ allow memfd_create }}");
    // File rules hold execve, and not the loader that maps what it reads.
    let unmapped = |body: &str| {
        format!(
            "{body}\n  syscalls {{\n    deny mmap(prot has any [PROT_EXEC])\n    deny mprotect(prot has any [PROT_EXEC])\n  }}"
        )
    };
    let (moved_only, files_only) = (unmapped(&moved), unmapped(&files));
    let far = unmapped(&far);
    let uploads = format!(
        "{}\n  files {{ exec \"/usr\"; read \"/data\"; write \"/data\"; create \"/data\" }}",
        with(ro, "bind \"/srv/x\" -> \"/data\" rw exec why \"x\"")
    );
    let closed = uploads.replace("rw exec why", "rw why");
    let unread = uploads.replace("read \"/data\"; ", "");
    let fault = format!("{ro}\n  syscalls {{ allow userfaultfd }}");
    let filled = unmapped(&fault);
    let again = with(ro, "bind \"/srv/u\" -> \"/uploads\" rw why \"w\"\nbind \"/srv/u\" -> \"/x\" ro exec why \"x\"");
    for (body, question, expected) in [
        (&*one, "write \"/data\"", true),
        // /data can be renamed.
        (&one, "write \"/data/x\"", true),
        (&conf, "write \"/etc/app/conf\"", true),
        (&conf, "create \"/etc/app/conf/x\"", true),
        (&conf, "exec \"/etc/app/conf\"", true),
        (&conf, "read \"/etc/app/conf\"", true),
        (&held, "write \"/etc/app/conf\"", false),
        (&loose, "write \"/etc/app/conf\"", true),
        (&loose, "exec \"/etc/app/conf\"", false),
        (&top, "write \"/conf\"", false),
        (&chained, "write \"/t/a/conf\"", true),
        (&tmpfs, "write \"/t/a/conf\"", true),
        (&tmpfs, "exec \"/t/a/conf\"", false),
        (&aside, "write \"/srv/a\"", true),
        (&aside, "write \"/usr\"", false),
        (&aside, "write \"/proc/sys\"", false),
        (&below, "write \"/opt/app/c\"", true),
        (&below, "write \"/etc\"", false),
        (&other, "write \"/etc/app/conf\"", true),
        (&other, "write \"/usr/app\"", false),
        (&moved, "exec \"/srv/up\"", true),
        (&moved, "exec \"/opt\"", true),
        (&moved_only, "exec \"/srv/up\"", true),
        (&moved_only, "exec \"/opt\"", false),
        (&far, "exec \"/srv/up\"", false),
        (&linked, "write \"/a\"", true),
        (&merged, "write \"/usr/bin\"", true),
        (&merged, "write \"/usr/lib\"", false),
        (&kernel, "write \"/proc/sys\"", true),
        (&exporter, "write \"/host/proc\"", false),
        (&standard, "write \"/x\"", true),
        (&layered, "write \"/a\"", false),
        (&within, "write \"/b\"", true),
        (&memory, "wx", true),
        (&one, "write \"/data/y\"", true),
        (&over, "write \"/srv\"", true),
        (&over, "write \"/srv/y\"", false),
        (&two, "write \"/data\"", true),
        (&tmp, "exec \"/t\"", true),
        (&tmp, "exec \"/t/e\"", false),
        (&tmp, "wx", false),
        (&masked, "read \"/data\"", false),
        (&masked, "see \"/srv/x\"", false),
        (&files, "read \"/usr/bin/true\"", true),
        (&files, "read \"/etc\"", true),
        (&files, "read \"/srv\"", false),
        (&files, "exec \"/etc\"", true),
        (&files, "exec \"/srv\"", false),
        (&files_only, "exec \"/etc\"", false),
        (&uploads, "exec \"/data\"", true),
        (&uploads, "wx", true),
        (&closed, "exec \"/data\"", false),
        (&closed, "wx", false),
        (&unread, "exec \"/data\"", false),
        (&unread, "wx", false),
        (&fault, "wx", true),
        (&filled, "wx", false),
        (&again, "exec \"/uploads\"", true),
        (&again, "write \"/x\"", true),
        (&files, "write \"/dev/null\"", true),
        (&files, "write \"/dev/shm\"", false),
        (&device, "write \"/dev/fuse\"", true),
        (&device, "see \"/dev/fuse\"", true),
        (&files, "see \"/dev/fuse\"", false),
        (&opened, "wx", false),
        (&written, "wx", true),
        // The same files by two names, and devices below a mount that is read-only.
        (&twice, "write \"/b\"", false),
        (&twice, "write \"/a\"", false),
        (&twice, "wx", false),
        (&named, "write \"/b\"", true),
        (&named, "wx", true),
        (&into, "write \"/opt/x\"", true),
        (&into, "write \"/usr\"", false),
        (&nodes, "write \"/nodes\"", true),
        (&nodes, "create \"/nodes\"", false),
        (&nodes, "wx", false),
        // Links that lead elsewhere.
        (host, "exec \"/bin/sh\"", true),
        (&links, "write \"/bin\"", true),
        (&links, "wx", true),
        (host, "see \"/dev/ptmx\"", true),
        (host, "write \"/dev/ptmx\"", true),
        (&old, "ioctl \"/srv\"", true),
        (&old, "write \"/srv\"", true),
        (&old, "create \"/srv\"", false),
        (host, "write \"/dev/shm\"", true),
        (host, "write \"/proc\"", true),
        (host, "write \"/proc/sys\"", false),
        (host, "write \"/sys\"", false),
        (host, "see \"/proc\"", true),
        (host, "see \"/home\"", false),
        (host, "read \"/dev/pts\"", true),
        (host, "read \"/proc/kcore\"", false),
        (host, "write \"/etc\"", false),
        (host, "wx", false),
        (rw, "wx", true),
        (ro, "wx", false),
    ] {
        assert_eq!(ask(body, question), expected, "{body}\n{question}");
    }
}

/// Who may mount covers any name, and in the host's user namespace undoes any mount.
#[test]
fn who_may_mount_decides_what_is_seen() {
    let dir = Dir::new("mounting");
    let ask = |body: &str, question: &str| {
        let text = format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\nmachine m {{\n  root dir \"/srv/r\" ro\n  exec \"/usr/bin/true\"\n  user 0 group 0\n{body}\n}}\n"
        );
        let file = dir.write("m.stockade", &text);
        let ran = call(&["query", &format!("m can {question}"), file.to_str().unwrap()]);
        assert!(ran.code < 2, "{body} {question}: {}{}", ran.out, ran.err);
        ran.code == 0
    };
    let none = "  capabilities { none }";
    let admin = "  capabilities { keep sys_admin why \"x\" }";
    let search = "  capabilities { keep dac_read_search why \"x\" }";
    let calls = |list: &str| format!("  syscalls {{ allow @start; {list} }}");
    let mount = calls("allow mount");
    let both = calls("allow mount; allow unshare(unshare_flags has any [CLONE_NEWUSER])");
    let files = "  files { exec \"/usr\" }";
    let identity = "  userns identity why \"y\"\n  mounts { hide \"/etc/app\" }";
    for (body, question, expected) in [
        (format!("{none}\n{mount}"), "write \"/etc\"", false),
        (format!("{none}\n{both}"), "write \"/etc\"", true),
        (format!("{none}\n{both}"), "exec \"/proc/sys\"", false),
        (format!("{none}\n{both}"), "wx", true),
        (format!("{none}\n{both}\n{files}"), "write \"/etc\"", false),
        (format!("{none}\n{both}\n{files}"), "wx", false),
        (format!("{none}\n{}", calls("allow clone; allow move_mount")), "write \"/etc\"", true),
        (format!("{none}\n{}", calls("allow unshare; allow mount(flags == 0)")), "write \"/etc\"", true),
        (
            format!("{none}\n{}", calls("allow unshare(unshare_flags == CLONE_NEWUTS); allow mount")),
            "write \"/etc\"",
            false,
        ),
        (format!("{admin}\n{mount}"), "write \"/etc\"", true),
        (format!("{admin}\n{mount}"), "write \"/proc/sys\"", false),
        (format!("{admin}\n{}", calls("")), "write \"/etc\"", false),
        (format!("{admin}\n{mount}\n{identity}"), "write \"/proc/sys\"", true),
        (format!("{admin}\n{mount}\n{identity}"), "read \"/etc/app\"", true),
        (format!("{admin}\n{}\n{identity}", calls("allow umount2")), "see \"/etc/app\"", true),
        (format!("{none}\n{both}\n{identity}"), "read \"/etc/app\"", false),
        (format!("{admin}\n{}\n{identity}", calls("allow open_tree")), "read \"/etc/app\"", true),
        (format!("{none}\n{both}").replace("allow mount", "allow fsmount"), "wx", true),
        (format!("{search}\n{}\n{identity}", calls("allow open_by_handle_at")), "read \"/etc/app\"", true),
        // File rules stop neither mount_setattr(2) nor what is opened past the mounts.
        (format!("{admin}\n{}\n{identity}\n{files}", calls("allow mount_setattr")), "write \"/etc\"", true),
        (format!("{admin}\n{}\n{identity}\n{files}", calls("allow mount_setattr")), "wx", true),
        (format!("{admin}\n{mount}\n{identity}\n{files}"), "write \"/etc\"", false),
        (format!("{admin}\n{}\n{files}", calls("allow mount_setattr")), "write \"/etc\"", false),
        (format!("{search}\n{}\n{identity}\n{files}", calls("allow open_by_handle_at")), "write \"/etc\"", true),
        (format!("{search}\n{}", calls("allow open_by_handle_at")), "write \"/etc\"", false),
    ] {
        assert_eq!(ask(&body, question), expected, "{body}\n{question}");
    }
}

/// The work on a question grows with what a policy may hold, and that is bounded.
#[test]
fn many_mounts_are_answered_soon() {
    let dir = Dir::new("many");
    let text = |count: usize| {
        let binds: String = (0..count).map(|i| format!("    bind \"/s\" -> \"/a{i}\" rw why \"w\"\n")).collect();
        let rules: String = (0..count).map(|i| format!("    write \"/z{i}\" why \"w\"\n")).collect();
        format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\nmachine m {{\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  syscalls {{ allow @start }}\n  mounts {{\n{binds}  }}\n  files {{\n    exec \"/usr\"\n{rules}  }}\n  assert {{ never wx }}\n}}\n"
        )
    };
    let check = |count| call(&["check", dir.write("many.stockade", &text(count)).to_str().unwrap()]);
    assert_eq!(check(512).code, 0);
    let ran = check(513);
    assert!(ran.code == 2 && ran.err.contains("E0316"), "{}", ran.err);
}

/// Found by a hostile review: each was missed, graded too low, or said untruly.
#[test]
fn widenings_that_hide() {
    let root = "  root dir \"/srv/m\" ro";
    let with = |text: &str| format!("{root}\n{text}");
    let rows = |old: &str, new: &str| {
        let (m, shown) = between(old, new);
        let list: Vec<(String, String, String)> = m["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| ["effect", "risk", "text"].map(|k| r[k].as_str().unwrap().to_owned()).into())
            .collect();
        (list, shown)
    };
    let identity = "userns identity why \"i\"";
    for (old, new, effect, risk, text) in [
        // What isn't written is the caller's, not unlimited.
        (root.to_owned(), with("  limits { rtprio 99 }"), "widened", "high", "rtprio 99"),
        (root.to_owned(), with("  limits { nice 40 }"), "widened", "medium", "nice 40"),
        (root.to_owned(), with("  limits { nofile 1048576 }"), "changed", "medium", "nofile 1048576"),
        (root.to_owned(), with("  limits { memlock unlimited }"), "widened", "medium", "memlock unlimited"),
        (root.to_owned(), with("  limits { nofile 1024 }"), "narrowed", "low", "nofile 1024"),
        (with("  limits { nofile 64 }"), root.to_owned(), "widened", "medium", "nofile as the caller has it"),
        // A root is a place of the host as well.
        (
            "  root dir \"/srv/m\" rw".to_owned(),
            "  root dir \"/\" rw".to_owned(),
            "changed",
            "critical",
            "root dir \"/\" rw",
        ),
        (
            with(&format!("  {identity}")),
            with(&format!("  {identity}")).replace("/srv/m", "/etc"),
            "changed",
            "high",
            "root dir \"/etc\" ro",
        ),
        // Where a machine is.
        (with("  network { zone a }"), with("  network { zone prod }"), "changed", "medium", "zone prod"),
        (
            with("  network { bridge br0; address 192.0.2.7/24 }"),
            with("  network { bridge br1; address 192.0.2.7/24 }"),
            "changed",
            "medium",
            "bridge br1",
        ),
        // A grant that ends later, or never.
        (
            with("  syscalls { allow ptrace until 2090-01-01 why \"x\" }"),
            with("  syscalls { allow ptrace until 2099-01-01 why \"x\" }"),
            "widened",
            "high",
            "allow ptrace until 2099-01-01",
        ),
        (
            with("  syscalls { allow ptrace until 2090-01-01 why \"x\" }"),
            with("  syscalls { allow ptrace why \"x\" }"),
            "widened",
            "high",
            "allow ptrace without an end",
        ),
        (
            with("  syscalls { allow ptrace why \"x\" }"),
            with("  syscalls { allow ptrace until 2090-01-01 why \"x\" }"),
            "narrowed",
            "high",
            "allow ptrace until 2090-01-01",
        ),
        (
            with("  mounts { bind \"/srv/a\" -> \"/b\" ro until 2090-01-01 }"),
            with("  mounts { bind \"/srv/a\" -> \"/b\" ro }"),
            "widened",
            "low",
            "bind \"/srv/a\" -> \"/b\" ro without an end",
        ),
        (
            root.to_owned(),
            with("  environment { set LD_PRELOAD \"/srv/x.so\" }"),
            "changed",
            "medium",
            "set LD_PRELOAD \"/srv/x.so\"",
        ),
        (
            root.to_owned(),
            with("  mounts { bind \"/srv/a\" -> \"/b\" rw noidmap why \"x\" }"),
            "widened",
            "medium",
            "bind \"/srv/a\" -> \"/b\" rw noidmap",
        ),
        // Whoever is listened to without a word of whom is everybody.
        (
            with("  network { private; listen tcp 80 }"),
            with("  network { private; listen tcp 80 from 169.254.0.0/16 }"),
            "narrowed",
            "low",
            "listen tcp 80",
        ),
    ] {
        let (found, shown) = rows(&old, &new);
        let wanted = (effect.to_owned(), risk.to_owned(), text.to_owned());
        assert!(found.contains(&wanted), "{old}\n{new}\n{wanted:?}\n{shown}");
    }
    // Less of it, and for ever: narrower today, wider from that day on.
    let until = "until 2090-01-01 why \"x\"";
    let dated = format!(
        "{root}\n  syscalls {{ allow ptrace {until} }}\n  network {{ private; connect tcp 443 {until} }}\n  files {{ exec \"/usr\"; read \"/etc\" {until} }}"
    );
    let narrow = dated
        .replace("allow ptrace until 2090-01-01", "allow ptrace(request == PTRACE_TRACEME)")
        .replace("443 until 2090-01-01", "443 to 10.0.0.0/8")
        .replace("\"/etc\" until 2090-01-01", "\"/etc/ssl\"");
    let (found, shown) = rows(&dated, &narrow);
    for text in
        ["allow ptrace(request == PTRACE_TRACEME) without an end", "connect tcp 443 to 10.0.0.0/8", "read \"/etc/ssl\""]
    {
        let hit = |(effect, _, t): &(String, String, String)| effect == "widened" && t == text;
        assert!(found.iter().any(hit), "{text}\n{found:?}\n{shown}");
    }
    assert!(found.iter().any(|(effect, ..)| effect == "narrowed"), "{shown}");
    // Less writing is less.
    let mounted = |access: &str| with(&format!("  mounts {{ bind \"/etc\" -> \"/x\" {access} why \"x\" }}"));
    let (found, shown) = rows(&mounted("rw"), &mounted("ro"));
    assert!(found.len() == 1 && found[0].0 == "narrowed" && found[0].2.contains("\"/x\" ro"), "{shown}");
    let dir = Dir::new("groups");
    let text = |user: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/net-server\n{root}\n  exec \"/usr/bin/true\"\n  {user}\n  {identity}\n  capabilities {{ none }}\n}}\n"
        )
    };
    let a = dir.write("a.stockade", &text("user nobody"));
    let b = dir.write("b.stockade", &text("user nobody groups [disk]"));
    let ran = call(&["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--fail-on", "widened>=critical"]);
    assert!(ran.code == 1 && ran.out.contains("+ process      group disk"), "{}{}", ran.out, ran.err);
}

/// A machine `m` of one server, with more statements.
fn server(body: &str) -> String {
    format!(
        "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/net-server\n  root dir \"/srv/m\" ro\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n{body}\n}}\n"
    )
}

/// A denial that is gone: it was refused, it runs now, and each form says so.
#[test]
fn what_is_gone_is_said_to_be_gone() {
    let root = "  root dir \"/srv/m\" ro";
    let denied = format!("{root}\n  syscalls {{ deny getpid }}");
    let (m, shown) = between(&denied, root);
    let row = &m["rows"][0];
    assert_eq!(
        (row["was"].as_str(), row["now"].as_str(), row["gone"].as_bool()),
        (Some("errno EPERM"), Some("allow"), Some(true))
    );
    assert!(shown.contains("was: errno EPERM    now: allow"), "{shown}");
    let dir = Dir::new("gone");
    let a = dir.write("a.stockade", &server("  syscalls { deny getpid }"));
    let b = dir.write("b.stockade", &server(""));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let markdown = call(&["diff", a, b, "--format", "markdown"]).out;
    assert!(markdown.contains("`errno EPERM getpid` (gone)"), "{markdown}");
    let result = json(&["diff", a, b, "--format", "sarif"])["runs"][0]["results"][0].clone();
    let message = result["message"]["text"].as_str().unwrap();
    assert!(message.contains("(gone, it was") && message.contains("Was: errno EPERM, now: allow"), "{message}");
    let uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap().to_owned();
    assert!(uri.ends_with("b.stockade"), "the line isn't there any more: {uri}");
}

/// A ceiling that speaks of less bounds less; one that speaks of more bounds more.
#[test]
fn a_ceiling_is_raised_by_silence() {
    let dir = Dir::new("ceiling");
    let text = |ceiling: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nprofile top {{\n  extends std/net-server\n{ceiling}\n}}\nmachine m {{\n  extends std/net-server\n  within top\n  root dir \"/srv/m\" ro\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n}}\n"
        )
    };
    let raised = |old: &str, new: &str| {
        let (a, b) = (dir.write("a.stockade", &text(old)), dir.write("b.stockade", &text(new)));
        let ran = call(&["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--fail-on", "widened>=high"]);
        assert!(ran.code < 2, "{}{}", ran.out, ran.err);
        (ran.code == 1) == ran.out.contains("the ceiling top grants more") && ran.code == 1
    };
    let net = "  network { private; listen tcp any; publish tcp 127.0.0.1:8080 -> 8080 }";
    let mounts = "  mounts { bind \"/srv\" -> \"/srv\" ro }";
    for (old, new, expected) in [
        (net, "  network { private; listen tcp any }", true),
        ("  network { private; listen tcp any }", net, false),
        ("", mounts, false),
        (mounts, "", true),
        ("  limits { nofile 100 }", "", true),
        ("", "  limits { nofile 100 }", false),
        ("  limits { nofile 100 }", "  limits { nofile 200 }", true),
        ("  limits { nofile 200 }", "  limits { nofile 100 }", false),
        ("", "  capabilities { keep chown why \"x\" }", true),
        ("  capabilities { keep chown until 2090-01-01 why \"x\" }", "  capabilities { keep chown why \"x\" }", true),
        ("  syscalls { allow ptrace until 2090-01-01 why \"x\" }", "  syscalls { allow ptrace why \"x\" }", true),
        ("  syscalls { allow ptrace why \"x\" }", "  syscalls { allow ptrace until 2090-01-01 why \"x\" }", false),
    ] {
        assert_eq!(raised(old, new), expected, "{old} | {new}");
    }
}

/// What stands in a policy is text in every answer for a pull request, and one comment holds it.
#[test]
fn answers_fit_a_comment_as_text() {
    let dir = Dir::new("comment");
    let hostile = "![x](https://evil.example) @octocat <img src=x>";
    let file = dir.write("web.stockade", &server(&format!("  syscalls {{ allow ioctl why \"{hostile}\" }}")));
    let ran = call(&["query", "--format", "markdown", "m can ioctl(cmd == TIOCSTI)", file.to_str().unwrap()]);
    let outside: String = ran.out.split('`').step_by(2).collect();
    assert!(ran.code == 0 && ran.out.contains(hostile) && !outside.contains("evil"), "{}", ran.out);
    assert!(ran.out.contains("| machine | answer |") && ran.out.contains("<details>") && ran.out.contains("Made by"));
    let ports: Vec<String> = (1..1500).map(|n| format!("    connect tcp {n} to 10.1.2.0/24")).collect();
    let many = format!("  network {{\n    private\n{}\n  }}", ports.join("\n"));
    let a = dir.write("a.stockade", &server("  network {\n    private\n  }"));
    let b = dir.write("b.stockade", &server(&many));
    let long = call(&["diff", "--format", "markdown", a.to_str().unwrap(), b.to_str().unwrap()]).out;
    assert!(
        long.len() < 65_536 && long.contains("doesn't fit a comment") && long.contains("1499 widened"),
        "{}",
        long.len()
    );
    // All rows, and as many of the details as fit, in a fold that is closed.
    let some: Vec<String> = (1..350).map(|n| format!("    connect tcp {n} to 10.1.2.0/24")).collect();
    dir.write("b.stockade", &server(&format!("  network {{\n    private\n{}\n  }}", some.join("\n"))));
    let part = call(&["diff", "--format", "markdown", a.to_str().unwrap(), b.to_str().unwrap()]).out;
    let details = part.matches("; was: ").count();
    assert_eq!(part.matches("| + |").count(), 349);
    assert!(details > 0 && details < 349 && part.contains("doesn't fit a comment"), "{details}");
    assert_eq!((part.matches("<details>").count(), part.matches("</details>").count()), (1, 1));
}

/// A folder of the user's that is named like the library is a place in the repository all the same.
#[test]
fn only_the_library_has_its_scheme() {
    let dir = Dir::new("mystd");
    std::fs::create_dir(dir.0.join("std")).unwrap();
    dir.write("std/mine.stockade", &server("  syscalls { allow ptrace }"));
    let ran = stockade().current_dir(&dir.0).args(["lint", "--format", "sarif", "std/mine.stockade"]).output().unwrap();
    let out = String::from_utf8(ran.stdout).unwrap();
    assert!(out.contains("\"std/mine.stockade\"") && !out.contains("stockade:std/mine"), "{out}");
}

/// The hook of docs/review.md looks at what is about to be committed, whichever file was changed.
#[test]
fn the_hook_holds_a_commit_back() {
    let dir = Dir::new("hook");
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/review.md")).unwrap();
    let hook = docs.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let git = |arguments: &[&str]| {
        let program = stockade().get_program().to_owned();
        let path = format!("{}:{}", Path::new(&program).parent().unwrap().display(), std::env::var("PATH").unwrap());
        Command::new("git")
            .arg("-C")
            .arg(&dir.0)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .env("PATH", path)
            .output()
            .unwrap()
    };
    assert!(git(&["init", "-q"]).status.success());
    std::fs::create_dir_all(dir.0.join("policies")).unwrap();
    let base = |n: u32| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\n\nprofile base {{\n  extends std/daemon\n  limits {{\n    nofile {n}\n  }}\n}}\n"
        )
    };
    dir.write("policies/base.stockade", &base(100));
    let machine = dir.write(
        "policies/m.stockade",
        "policy 1\nkernel 6.12\nimport \"base\"\n\nmachine m {\n  extends base\n  root host\n  exec \"/usr/bin/true\"\n  user nobody\n  capabilities { none }\n}\n",
    );
    let path = dir.write(".git/hooks/pre-commit", hook);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let commit = || {
        assert!(git(&["add", "-A"]).status.success());
        let out = git(&["commit", "-qm", "x"]);
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (passed, said) = commit();
    assert!(!passed && said.contains("no lock for"), "{said}");
    assert_eq!(call(&["lock", machine.to_str().unwrap()]).code, 0);
    let (passed, said) = commit();
    assert!(passed, "{said}");
    // What a machine imports is changed, and the lock isn't.
    dir.write("policies/base.stockade", &base(200));
    let (passed, said) = commit();
    assert!(!passed && said.contains("+ limits nofile 200"), "{said}");
    // What lies in the folder counts when it is committed, and not before.
    assert_eq!(call(&["lock", machine.to_str().unwrap()]).code, 0);
    assert!(git(&["add", "policies/base.stockade"]).status.success());
    assert!(!git(&["commit", "-qm", "x"]).status.success(), "the lock isn't part of it");
    let (passed, said) = commit();
    assert!(passed, "{said}");
    std::fs::remove_file(&machine).unwrap();
    let (passed, said) = commit();
    assert!(!passed && said.contains("locks nothing"), "{said}");
}

/// Found by the third review: missed, or graded by what is gone instead of by what is seen then.
#[test]
fn what_is_uncovered_is_graded() {
    let highest = |old: &str, new: &str| {
        let (m, shown) = between(old, new);
        let widened = |r: &&Value| r["effect"] == "widened";
        let rows: Vec<&Value> = m["rows"].as_array().unwrap().iter().filter(widened).collect();
        let order = ["critical", "high", "medium", "low"];
        let found = order.iter().find(|risk| rows.iter().any(|r| r["risk"] == **risk));
        (found.map_or("none", |r| *r).to_owned(), shown)
    };
    let root =
        |folder: &str, access: &str, mounts: &str| format!("  root dir \"{folder}\" {access}\n  mounts {{ {mounts} }}");
    let tmpfs = "tmpfs \"/etc\" size=1MiB ro";
    for (old, new, expected) in [
        (root("/", "rw", tmpfs), root("/", "rw", ""), "critical"),
        (root("/", "ro", tmpfs), root("/", "ro", ""), "high"),
        (root("/srv/img", "rw", tmpfs), root("/srv/img", "rw", ""), "medium"),
        (root("/srv/img", "ro", tmpfs), root("/srv/img", "ro", ""), "medium"),
        (root("/srv/img", "rw", "bind \"/srv/c\" -> \"/etc/app\" ro"), root("/srv/img", "rw", ""), "medium"),
        // Flags never lower a rank.
        (root("/srv/img", "ro", ""), root("/srv/img", "ro", "bind \"/etc\" -> \"/e\" rw suid why \"x\""), "critical"),
        (
            root("/srv/img", "ro", ""),
            root("/srv/img", "ro", "bind \"/dev/sda\" -> \"/d\" rw dev why \"x\""),
            "critical",
        ),
        (root("/srv/img", "ro", ""), root("/srv/img", "ro", "bind \"/srv/c\" -> \"/e\" ro suid why \"x\""), "high"),
        (
            root("/srv/img", "ro", ""),
            root("/srv/img", "ro", "bind \"/var/lib/containerd\" -> \"/e\" rw why \"x\""),
            "critical",
        ),
        // A volatile root shows /usr and nothing else.
        (root("/", "volatile", ""), root("/", "ro", ""), "high"),
        (root("/srv/img", "volatile", ""), root("/srv/img", "ro", ""), "medium"),
        (
            "  root dir \"/srv/img\" rw\n  userns map 0 -> 100000 count 1".into(),
            "  root dir \"/srv/img\" rw".into(),
            "medium",
        ),
        (
            "  root host\n  network { private; egress any why \"x\" }".into(),
            "  root host\n  network { private; resolver host; connect tcp 443 }".into(),
            "none",
        ),
    ] {
        let (risk, shown) = highest(&old, &new);
        assert_eq!(risk, expected, "{old}\n{new}\n{shown}");
    }
    // Whose group it is, and what an init is.
    let dir = Dir::new("who");
    let machine = |body: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\nmachine m {{\n  root dir \"/srv/img\" ro\n{body}\n  syscalls {{ allow @os }}\n}}\n"
        )
    };
    let ranks = |old: &str, new: &str| {
        let (a, b) = (dir.write("a.stockade", &machine(old)), dir.write("b.stockade", &machine(new)));
        let m = json(&["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--format", "json"])["machines"][0].clone();
        let rows = m["rows"].as_array().unwrap().clone();
        let widened = rows.iter().filter(|r| r["effect"] == "widened");
        widened.map(|r| format!("{} {}", r["risk"].as_str().unwrap(), r["text"].as_str().unwrap())).collect::<Vec<_>>()
    };
    let exec = "  exec \"/bin/true\"\n  user nobody\n  capabilities { bounding sys_admin why \"x\" }";
    let boot = "  boot\n  capabilities { bounding sys_admin why \"x\" }";
    let found = ranks(exec, boot);
    assert!(found.contains(&"medium boot, as root".to_owned()), "{found:?}");
    assert!(found.contains(&"high sys_admin bounding".to_owned()), "{found:?}");
    let own = "  exec \"/bin/true\"\n  userns identity why \"x\"\n  capabilities { none }\n  user 0";
    assert_eq!(ranks(&format!("{own} group 1000"), own), ["high group of the account 0"]);
}

/// What a difference costs grows with the text.
#[test]
fn many_machines_are_compared_soon() {
    let dir = Dir::new("machines");
    let text = |user: u32| {
        let one = |i| {
            format!(
                "machine m{i} {{ root host; exec \"/usr/bin/true\"; user {user} group 1; capabilities {{ none }} }}\n"
            )
        };
        format!("policy 1\nkernel 6.12\n{}", (0..100).map(one).collect::<String>())
    };
    let (a, b) = (dir.write("a.stockade", &text(1)), dir.write("b.stockade", &text(2)));
    let start = std::time::Instant::now();
    let m = json(&["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--format", "json"]);
    assert_eq!(m["machines"].as_array().unwrap().len(), 100);
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
}

/// A folder's policies are found wherever they lie: a hidden folder hides none, and what is too deep is said.
#[test]
fn a_folder_hides_no_policy() {
    let dir = Dir::new("hidden");
    std::fs::create_dir_all(dir.0.join(".ci/.git")).unwrap();
    dir.write("a.stockade", &server(""));
    dir.write(".ci/b.stockade", "policy 9\n");
    dir.write(".ci/.git/c.stockade", "nothing of the work tree");
    let ran = call(&["check", dir.0.to_str().unwrap()]);
    assert!(ran.code == 2 && ran.out.contains("b.stockade") && !ran.out.contains("c.stockade"), "{}", ran.out);
    let deep = dir.0.join(["d"; 34].join("/"));
    std::fs::create_dir_all(&deep).unwrap();
    let ran = call(&["check", dir.0.to_str().unwrap()]);
    assert!(ran.code == 2 && ran.err.contains("folders deep"), "{}", ran.err);
}

/// Every grave call that a line brings is named, and none of them is anywhere left out.
#[test]
fn a_row_names_every_grave_call() {
    let dir = Dir::new("grave");
    let with =
        |name: &str, calls: &str| dir.write(name, &server(&format!("  syscalls {{ allow [{calls}] why \"x\" }}")));
    let a = dir.write("a.stockade", &server(""));
    let few = "add_key, bpf, perf_event_open, process_vm_readv, ptrace, userfaultfd";
    let b = with("b.stockade", &format!("{few}, chown, lchown, fchown, fchownat, alarm, sync"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let v: Value = serde_json::from_str(&call(&["diff", a, b, "--format", "json"]).out).unwrap();
    let rows = v["machines"][0]["rows"].as_array().unwrap();
    let row = rows.iter().find(|r| r["text"].as_str().unwrap().contains("add_key")).unwrap();
    for name in few.split(", ") {
        assert!(row["text"].as_str().unwrap().contains(name), "{name}: {row}");
    }
    let all = format!("{} {}", row["text"], row["others"]);
    for name in ["fchownat", "alarm", "sync"] {
        let refused = !all.contains(name);
        // What the server had before isn't new.
        assert!(!refused || call(&["query", &format!("m can {name}"), a]).code == 0, "{name}: {all}");
    }
    // Two lines that differ in one call are two findings.
    let print = |calls: &str| {
        let file = with("c.stockade", calls);
        let out = call(&["diff", a, file.to_str().unwrap(), "--format", "sarif"]).out;
        let v: Value = serde_json::from_str(&out).unwrap();
        v["runs"][0]["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["partialFingerprints"].to_string())
            .collect::<String>()
    };
    assert_ne!(print("bpf, add_key, ptrace, kcmp, sched_setattr"), print("bpf, add_key, ptrace, kcmp, userfaultfd"));
    // Of a line's calls the gravest is the one that lint asks about.
    let lint = |calls: &str| {
        let text = format!(
            "policy 1\nkernel 6.12\nimport \"std/groups\"\nmachine m {{\n root host\n exec \"/usr/bin/true\"\n user nobody\n capabilities {{ none }}\n syscalls {{ allow @system-service\n {calls} }}\n}}\n"
        );
        call(&["lint", dir.write("d.stockade", &text).to_str().unwrap()]).err
    };
    assert!(lint("allow [add_key, iopl]").contains("`allow iopl`"));
    // What a stricter line takes away gives nothing.
    assert!(lint("allow [add_key, iopl]\n kill iopl").contains("`allow add_key`"));
    assert!(lint("allow ioctl").contains("keystrokes"));
    assert!(!lint("allow ioctl\n deny ioctl(cmd in [TIOCSTI, TIOCLINUX])").contains("W0801"));
}

/// The new line that takes an inherited one away is the cause, and not the inherited line, which is still there.
#[test]
fn an_override_is_the_line_that_widens() {
    let dir = Dir::new("override");
    let text = |own: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nprofile p {{\n  mounts {{ hide \"/opt\" }}\n  syscalls {{ deny ptrace }}\n}}\n\
             machine m {{\n  extends std/net-server, p\n  root dir \"/srv/r\" ro\n  exec \"/x\"\n  user nobody\n  capabilities {{ none }}\n\
             {own}\n  syscalls {{ allow ptrace why \"y\" }}\n}}\n"
        )
    };
    let a = dir.write("a.stockade", &text(""));
    for (own, shown) in [
        ("  syscalls { override deny ptrace why \"for a debugger\" }", "override ptrace"),
        ("  mounts { remove \"/opt\" why \"for a debugger\" }", "remove hide \"/opt\""),
    ] {
        let b = dir.write("b.stockade", &text(own));
        let out = call(&["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--format", "json"]).out;
        let v: Value = serde_json::from_str(&out).unwrap();
        let m = &v["machines"][0];
        let row = m["rows"].as_array().unwrap().iter().find(|r| r["effect"] == "widened").unwrap();
        assert_eq!(row["text"], shown, "{out}");
        assert!(row["line"].as_str().unwrap().ends_with("b.stockade:14"), "{out}");
        assert_eq!((&row["why"], &row["gone"]), (&Value::from("for a debugger"), &Value::from(false)), "{out}");
        assert_eq!(m["lines_without_effect"], 0, "{out}");
    }
}

/// What a read-only mount covered and is written to or executed now is widened, also where a layer takes the writes.
#[test]
fn what_a_layer_takes_is_uncovered_too() {
    let dir = Dir::new("layer");
    let raised = |top: &str, gone: &str| {
        let text = |more: &str| {
            format!(
                "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine m {{\n  extends std/daemon\n  root dir \"/srv/r\" ro\n  exec \"/x\"\n  \
                 user nobody\n  capabilities {{ none }}\n  mounts {{\n    {top}\n    {more}\n  }}\n}}\n"
            )
        };
        let (a, b) = (dir.write("a.stockade", &text(gone)), dir.write("b.stockade", &text("")));
        call(&["diff", a.to_str().unwrap(), b.to_str().unwrap(), "--fail-on", "widened>=medium"]).code
    };
    assert_eq!(raised("overlay \"/h/o\" -> \"/var\" exec why \"x\"", "bind \"/h/p\" -> \"/var/p\" ro"), 1);
    assert_eq!(raised("tmpfs \"/var\" size=1MiB", "bind \"/h/p\" -> \"/var/p\" ro"), 1);
    assert_eq!(raised("bind \"/h/o\" -> \"/var\" ro", "bind \"/h/p\" -> \"/var/p\" ro"), 0);
    assert_eq!(raised("bind \"/h/o\" -> \"/var\" ro exec", "bind \"/h/p\" -> \"/var/p\" ro"), 1);
}

/// A revision of a folder is the files of its repository: what it can't show isn't passed over.
#[test]
fn a_revision_passes_nothing_over() {
    let dir = Dir::new("modules");
    let git = |arguments: &[&str]| {
        let fixed = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "protocol.file.allow=always"];
        let out = Command::new("git").arg("-C").arg(&dir.0).args(fixed).args(arguments).output().unwrap();
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    let diff = || call(&["diff", "--git", dir.0.join("p").to_str().unwrap(), "HEAD~1..HEAD"]);
    std::fs::create_dir(dir.0.join("p")).unwrap();
    dir.write("p/a.stockade", &server(""));
    git(&["init", "-q", "."]);
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    std::os::unix::fs::symlink("/etc/passwd", dir.0.join("p/b.stockade")).unwrap();
    git(&["add", "."]);
    git(&["commit", "-qm", "two"]);
    let ran = diff();
    assert!(ran.code == 2 && ran.err.contains("symbolic link"), "{}", ran.err);
    git(&["rm", "-q", "p/b.stockade"]);
    git(&["submodule", "--quiet", "add", dir.0.join(".git").to_str().unwrap(), "p/sub"]);
    git(&["commit", "-qm", "three"]);
    git(&["commit", "--allow-empty", "-qm", "four"]);
    let ran = diff();
    assert!(ran.code == 2 && ran.err.contains("submodule"), "{}", ran.err);
    git(&["rm", "-qf", "p/sub"]);
    // A name is bytes.
    let odd = dir.0.join("p").join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"b\xff.stockade"));
    std::fs::write(&odd, server("")).unwrap();
    git(&["add", "."]);
    git(&["commit", "-qm", "five"]);
    std::fs::write(&odd, server("  syscalls { allow chroot }")).unwrap();
    git(&["commit", "-qam", "six"]);
    let ran = diff();
    assert!(
        ran.code == 0 && ran.out.contains("1 widened") && ran.out.contains("allow chroot"),
        "{}{}",
        ran.out,
        ran.err
    );
    let file = call(&["diff", "--git", dir.0.join("p/a.stockade").to_str().unwrap(), "HEAD"]);
    assert!(file.code == 2 && file.err.contains("is a file: name its folder"), "{}", file.err);
    assert_eq!(call(&["diff", "", ""]).code, 2, "an unset variable is no policy");
}

/// What a repository brings along in the place of a lock is neither followed nor waited for.
#[test]
fn a_lock_is_a_file() {
    let dir = Dir::new("locks");
    let policy = dir.write("a.stockade", &server(""));
    let lock = dir.0.join("a.lock");
    let check = || call(&["check", "--locked", policy.to_str().unwrap()]);
    for bad in ["link", "pipe", "device"] {
        match bad {
            "link" => std::os::unix::fs::symlink("/dev/zero", &lock).unwrap(),
            "pipe" => assert!(Command::new("mkfifo").arg(&lock).status().unwrap().success()),
            _ => std::fs::create_dir(&lock).unwrap(),
        }
        assert_eq!(check().code, 2, "{bad}");
        match bad {
            "device" => std::fs::remove_dir(&lock).unwrap(),
            _ => std::fs::remove_file(&lock).unwrap(),
        }
    }
    // Also to what would be the right one: the next commit may lead it elsewhere.
    assert_eq!(call(&["lock", policy.to_str().unwrap()]).code, 0);
    std::fs::rename(&lock, dir.0.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &lock).unwrap();
    assert_eq!(check().code, 2);
    std::fs::remove_file(&lock).unwrap();
    // Whatever lies beside it stays what it was.
    let victim = dir.write("victim", "kept");
    std::os::unix::fs::symlink(&victim, dir.0.join("a.lock.tmp")).unwrap();
    std::os::unix::fs::symlink(&victim, &lock).unwrap();
    assert_eq!(call(&["lock", policy.to_str().unwrap()]).code, 0);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
    assert_eq!(check().code, 0);
}

/// What a newer baseline grants is told, also where a condition takes some of it away.
#[test]
fn a_newer_baseline_is_told_by_what_runs() {
    let dir = Dir::new("newer");
    let text = server("  syscalls {\n    allow pidfd_getfd why \"x\"\n    deny pidfd_getfd(flags == 7)\n  }");
    let file = dir
        .write("a.stockade", &text.replace("kernel 6.12", "kernel 5.5").replace("allow pidfd_getfd", "allow @debug"));
    let ran = call(&["kernel", "6.12", file.to_str().unwrap()]);
    assert!(ran.out.contains("allow pidfd_getfd; errno EPERM pidfd_getfd(flags == 7)"), "{}{}", ran.out, ran.err);
}

/// One machine's waiver is its own, and one yes of several answers is a yes.
#[test]
fn each_machine_answers_for_itself() {
    let dir = Dir::new("each");
    let both = format!(
        "{}machine b {{\n  extends std/net-server\n  root host\n  exec \"/x\"\n  user nobody\n  capabilities {{ keep [net_raw, syslog] }}\n}}\n",
        server("  waive W0801 why \"x\"\n  syscalls { allow ptrace }")
    );
    let file = dir.write("a.stockade", &both);
    let ran = call(&["lint", file.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.err.contains("net_raw"), "{}{}", ran.out, ran.err);
    let asked = |q: &str| call(&["query", q, file.to_str().unwrap()]).code;
    assert_eq!(asked("b can capability [sys_admin, syslog]"), 0);
    assert_eq!(asked("b can capability [sys_admin, sys_chroot]"), 1);
}

/// The gravest machine comes first in a comment that holds not all.
#[test]
fn a_comment_begins_with_the_gravest() {
    let dir = Dir::new("first");
    let all = |calls: &str, last: &str| {
        let one = |name: &str, calls: &str| {
            format!(
                "machine {name} {{\n  extends std/net-server\n  root host\n  exec \"/x\"\n  user nobody\n  capabilities {{ none }}\n  \
                 syscalls {{ {calls} }}\n}}\n"
            )
        };
        let many: String = (0..40).map(|i| one(&format!("a{i}"), calls)).collect();
        format!("policy 1\nkernel 6.12\nimport \"std/daemon\"\n{many}{}", one("zzz", last))
    };
    let a = dir.write("a.stockade", &all("allow alarm", "allow alarm"));
    let b = dir.write("b.stockade", &all("allow [alarm, chroot]", "allow [alarm, ptrace]"));
    let out = call(&["diff", "--format", "markdown", a.to_str().unwrap(), b.to_str().unwrap()]).out;
    assert!(
        out.contains("max risk **HIGH**.\n\n**`zzz`**") || out.contains("max risk **high**.\n\n**`zzz`**"),
        "{out}"
    );
}

/// An answer about a policy that nothing runs under says so; the answer and its exit code stay what was asked for.
#[test]
fn an_answer_about_a_refused_policy_says_so() {
    let dir = Dir::new("refused");
    let text = |end: &str| {
        let head = "policy 1\nkernel 6.18\nmachine a {\n  root host\n  user root\n  capabilities { none }\n";
        let rest =
            "  network { none }\n  syscalls {\n    allow write\n    allow exit_group\n  }\n  exec \"/bin/true\"\n";
        format!("{head}{rest}{end}}}\n")
    };
    let fine = dir.write("a.stockade", &text(""));
    let bad = dir.write("b.stockade", &text("  assert {\n    never syscall write\n  }\n"));
    let (fine, bad) = (fine.to_str().unwrap(), bad.to_str().unwrap());
    let said = |arguments: &[&str]| call(arguments).err;
    assert!(
        said(&["query", "can write", bad]).contains("`stockade check` refuses a (E0703)"),
        "{}",
        said(&["query", "can write", bad])
    );
    assert_eq!(call(&["query", "can write", bad]).code, 0);
    assert!(said(&["diff", fine, bad]).contains("refuses a"), "{}", said(&["diff", fine, bad]));
    assert_eq!(said(&["diff", bad, fine]), "", "only the new side is to be run");
    assert_eq!(said(&["query", "can write", fine]), "");
}

/// Without a filter no check was tried: each counted as passed, and the exit code was 0.
#[test]
fn a_test_of_what_is_no_policy_passes_nothing() {
    let dir = Dir::new("untried");
    let calls = "allow [execve, exit_group, openat2]\n    allow openat(flags == O_RDONLY)";
    let head =
        "policy 1\nkernel 6.18\nmachine a {\n  root host\n  user root\n  capabilities { none }\n  exec \"/bin/true\"\n";
    let text = format!(
        "{head}  syscalls {{\n    {calls}\n  }}\n  assert {{ never syscall getpid }}\n}}\ntest \"t\" on a {{\n  allow syscall execve\n}}\n"
    );
    let file = dir.write("a.stockade", &text);
    let ran = call(&["test", file.to_str().unwrap()]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("FAIL  a: t (1 checks)") && ran.out.contains("0 checks and assertions passed, 2 failed"));
    let ran = call(&["test", "--json", file.to_str().unwrap()]);
    assert!(ran.code == 2 && ran.err.contains("E0410"), "{}", ran.err);
    let file = dir.write("b.stockade", "policy 1\nkernel 6.18\nmachine b {\n}\n");
    let ran = call(&["test", "--json", file.to_str().unwrap()]);
    assert!(ran.code == 2 && ran.err.contains("E0221"), "{}", ran.err);
}

/// SARIF of a question had the reason in small letters, other paths and constants than the policy's.
#[test]
fn sarif_keeps_the_letters_of_a_reason_and_tells_files_apart() {
    let dir = Dir::new("letters");
    let text = |name: &str| {
        format!(
            "policy 1\nkernel 6.18\nmachine {name} {{\n  root host\n  user root\n  capabilities {{ none }}\n  exec \"/bin/true\"\n  syscalls {{\n    allow [execve, exit_group]\n    allow ptrace\n    allow socket(family == AF_ALG)\n  }}\n}}\n"
        )
    };
    let (a, b) = (dir.write("a.stockade", &text("a")), dir.write("b.stockade", &text("b")));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let v = json(&["query", "can socket(family == AF_ALG)", a, "--format", "sarif"]);
    let message = v["runs"][0]["results"][0]["message"]["text"].as_str().unwrap().to_owned();
    assert!(message.starts_with("a: yes: ") && message.contains("AF_ALG"), "{message}");
    let v = json(&["lint", a, b, "--format", "sarif"]);
    let results = v["runs"][0]["results"].as_array().unwrap();
    let mut prints: Vec<String> = results.iter().map(|r| r["partialFingerprints"].to_string()).collect();
    let all = prints.len();
    prints.sort();
    prints.dedup();
    assert!(all > 1 && prints.len() == all, "{prints:?}");
}

/// Help for a reader who went away isn't a finding, and names in arguments move no cursor.
#[test]
fn help_and_messages_are_for_any_reader() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = stockade().arg("--version").stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(3));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(stockade().args(["check", "--help"]).stdout(writer).status().unwrap().code(), Some(0));
    for arguments in [["groups", "\u{1b}[31mx"], ["status", "\u{1b}[31mx"], ["new", "\u{1b}[31mx"]] {
        let ran = call(&arguments);
        assert!(ran.err.contains("\\u{1b}[31mx") && !ran.err.contains('\u{1b}'), "{}", ran.err);
    }
}
