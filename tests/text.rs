//! Text as an enemy writes it, and the corpus of good and bad policies.
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

use harness::Dir;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stockade::diagnostic::Diagnostics;
use stockade::policy::{loader, resolve};
use stockade::source::Sources;
use stockade::syntax::{self, ast, print};

/// Longest time that any text may take.
/// A second for a release build; a debug build on a busy machine is that much slower.
const TIME: Duration = Duration::from_secs(5);
/// Most address space that `check` may use, in KiB.
const MEMORY: u32 = 256 << 10;

/// What `check` makes of a file under the bound on memory: code, standard error, time.
fn check(file: &Path) -> (Option<i32>, String, Duration) {
    let program = harness::stockade();
    let start = Instant::now();
    let out = Command::new("/bin/sh")
        .args(["-c", &format!("ulimit -v {MEMORY}; exec \"$@\""), "sh"])
        .arg(program.get_program())
        .arg("check")
        .arg(file)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned(), start.elapsed())
}

/// (name, text, what the message must say)
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let head = "policy 1\nkernel 6.18\n";
    let with = |tail: &str| format!("{head}{tail}").into_bytes();
    vec![
        ("a NUL", with("# a\0b\n"), "control character U+0000"),
        ("an escape sequence", with("# \x1b[2J\n"), "control character U+001B"),
        ("a carriage return", with("group @a { allow read }\r\n"), "carriage return"),
        ("a lone carriage return in a string", with("param a string \"x\ry\"\n"), "carriage return"),
        ("a line separator", with("# a\u{2028}b\n"), "U+2028"),
        ("right-to-left override in a comment", with("# \u{202e}daer wolla\n"), "U+202E"),
        ("isolate in a string", with("param a string \"\u{2066}\"\n"), "U+2066"),
        ("zero-width space in a word", with("group @\u{200b}a { }\n"), "U+200B"),
        ("byte-order mark", [b"\xef\xbb\xbf".as_slice(), &with("")].concat(), "U+FEFF"),
        ("a stray byte", [with("# "), vec![0xff, b'\n']].concat(), "not UTF-8"),
        ("an overlong slash", [with("# "), vec![0xc0, 0xaf, b'\n']].concat(), "not UTF-8"),
        ("a surrogate", [with("# "), vec![0xed, 0xa0, 0x80, b'\n']].concat(), "not UTF-8"),
        ("a cut character", [with("# "), vec![0xe2, 0x82]].concat(), "not UTF-8"),
        ("UTF-16", "policy 1\n".encode_utf16().flat_map(u16::to_le_bytes).collect(), "control character U+0000"),
        ("10 MiB", with(&"# long\n".repeat(1_500_000)), "longer than 262144 bytes"),
        ("10 MiB of NUL", vec![0; 10 << 20], "longer than 262144 bytes"),
        ("100,000 {", with(&"a {".repeat(100_000)), "longer than 262144 bytes"),
        ("80,000 {", with(&"a {".repeat(80_000)), "nest deeper than 24"),
        ("blocks and brackets that close none", with(&"{]".repeat(4_000)), "nest deeper than 24"),
        ("100,000 [", with(&format!("a {}", "[".repeat(100_000))), "nest deeper than 24"),
        ("100,000 (", with(&format!("a {}", "(".repeat(100_000))), "nest deeper than 24"),
        ("100,000 of ({[", with(&"({[".repeat(33_334)), "nest deeper than 24"),
        ("9,000 { on lines", with(&"a {\n".repeat(9_000)), "nest deeper than 24"),
        ("a line of 1 MiB", vec![b'a'; 1 << 20], "longer than 262144 bytes"),
        ("a line of 200 KiB", vec![b'a'; 200 << 10], "a line is longer than 16384 bytes"),
        ("a comment of 200 KiB", vec![b'#'; 200 << 10], "a line is longer than 16384 bytes"),
        ("200,000 empty statements", with(&format!("{}\n", ";".repeat(8_000)).repeat(25)), ""),
        ("a million newlines", vec![b'\n'; 1 << 20], "longer than 262144 bytes"),
        ("200,000 newlines", vec![b'\n'; 200_000], "more than 10000 lines"),
        ("9,000 newlines", vec![b'\n'; 9_000], "the file says nothing"),
        ("200 KiB of [", vec![b'['; 200 << 10], "nest deeper than 24"),
        ("200 KiB of \"", vec![b'"'; 200 << 10], "a line is longer than 16384 bytes"),
        ("200 KiB of }", vec![b'}'; 200 << 10], "a line is longer than 16384 bytes"),
        ("\" on lines", "\"\n".repeat(9_990).into_bytes(), "never closed"),
        ("} on lines", "}\n".repeat(9_990).into_bytes(), "closes nothing"),
        ("[ on lines", "[\n".repeat(9_990).into_bytes(), "nest deeper than 24"),
        ("one-letter statements", with(&"a\n".repeat(9_990)), "unknown statement"),
        ("200 KiB of junk", with(&format!("a {}\n", "*".repeat(8_000)).repeat(25)), "has no meaning"),
        ("200 KiB of strings", with(&format!("a {}\n", "\"\" ".repeat(2_600)).repeat(25)), "unknown statement"),
        ("200 KiB of backslashes in strings", with(&format!("a \"{}\"\n", "\\".repeat(8_000)).repeat(25)), ""),
        ("half-open braces", with(&"a {\n}\n}\n".repeat(3_000)), "closes nothing"),
        ("groups of groups", with(&doubling(20)), ""),
        ("an empty file", Vec::new(), "the file says nothing"),
    ]
}

/// Each group names the one before it twice: 2^n rules if they were written out.
fn doubling(n: usize) -> String {
    let mut out = String::from("group @g0 { allow read }\n");
    for i in 1..=n {
        out.push_str(&format!("group @g{i} {{ allow [@g{}, @g{}] }}\n", i - 1, i - 1));
    }
    out
}

#[test]
fn hostile_text_is_refused_quickly_and_in_words() {
    let dir = Dir::new("hostile");
    let mut faults = Vec::new();
    for (what, text, says) in hostile() {
        // What is without fault must still be quick.
        let clean = says.is_empty();
        let file = dir.0.join("hostile.stockade");
        std::fs::write(&file, &text).unwrap();
        let (code, err, time) = check(&file);
        println!("{what}: {code:?} in {} ms, {} bytes of messages", time.as_millis(), err.len());
        let fine = if clean {
            matches!(code, Some(0 | 2))
        } else {
            let help = !says.starts_with("longer than") || err.contains("move parts of it to files of their own");
            code == Some(2) && err.contains(says) && err.contains("error[") && help
        };
        let quiet =
            err.len() < 256 << 10 && !err.chars().any(|c| c.is_control() && c != '\n') && !err.contains("panicked");
        if !fine || !quiet || time >= TIME {
            let start: String = err.chars().take(300).collect();
            faults.push(format!("{what}: code {code:?} in {time:?}, {} bytes of messages: {start}", err.len()));
        }
    }
    assert!(faults.is_empty(), "{} texts\n{}", faults.len(), faults.join("\n\n"));
}

/// The bound on memory is real: what it stops is seen.
#[test]
fn the_bound_on_memory_holds() {
    let out = Command::new("/bin/sh").args(["-c", &format!("ulimit -v {MEMORY} && ulimit -v")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), MEMORY.to_string());
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut todo = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "stockade") {
                out.push(path);
            }
        }
    }
    out.sort();
    assert!(!out.is_empty(), "{folder} is empty");
    out
}

/// Parses text; the tree, and true when its shape is without fault.
fn tree(text: &str) -> (ast::File, bool) {
    let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
    let id = loader::from_text("text", text.as_bytes(), &mut sources, &mut d).unwrap();
    let refused = d.has_errors();
    let tree = syntax::parse(&sources, id, &mut d);
    (tree, !refused && !d.has_errors())
}

#[test]
fn the_canonical_form_keeps_meaning_and_comments() {
    for file in files("policies").into_iter().chain(files("grammar/corpus/accept")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let (first, fine) = tree(&text);
        assert!(fine, "{}", file.display());
        let once = print::print(&first);
        let (second, fine) = tree(&once);
        assert!(fine && ast::same(&first, &second), "{} means something else after fmt:\n{once}", file.display());
        assert_eq!(print::print(&second), once, "{}: fmt isn't stable", file.display());
        assert_eq!(text.matches('#').count(), once.matches('#').count(), "{} lost a comment", file.display());
    }
}

#[test]
fn what_is_to_be_accepted_is() {
    let list = files("grammar/corpus/accept");
    assert!(list.len() >= 12);
    for file in list {
        let out = harness::stockade().arg("check").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(0), "{}: {said}", file.display());
        assert_eq!(said, "", "{}", file.display());
    }
}

#[test]
fn what_is_to_be_refused_is_for_exactly_these_reasons() {
    let list = files("grammar/corpus/reject");
    assert!(list.len() >= 25);
    let mut covered = BTreeSet::new();
    let mut faults = Vec::new();
    for file in list {
        let text = std::fs::read_to_string(&file).unwrap();
        let first = text.lines().next().unwrap();
        let wanted: BTreeSet<String> =
            first.strip_prefix("# expect: ").unwrap().split(' ').map(str::to_owned).collect();
        let out = harness::stockade().args(["check", "--json"]).arg(&file).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let list = json["files"][0]["diagnostics"].as_array().unwrap();
        let got: BTreeSet<String> = list.iter().map(|d| d["code"].as_str().unwrap().to_owned()).collect();
        if got != wanted || out.status.code() != Some(2) {
            faults.push(format!("{}: expected {wanted:?}, got {got:?}, code {:?}", file.display(), out.status.code()));
        }
        for d in list {
            assert!(d["help"].is_string(), "{}: {} without help", file.display(), d["code"]);
            assert!(d["labels"][0]["line"].as_u64().unwrap() >= 1);
        }
        covered.extend(got);
    }
    println!("{} of {} codes have a policy: {covered:?}", covered.len(), stockade::codes::CODES.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(covered.len() >= 60, "only {} codes", covered.len());
}

/// The word of another place, a profile that is an import away, a peer where a port stands.
#[test]
fn a_help_says_what_to_write() {
    let machine = |body: &str| {
        format!(
            "policy 1\nkernel 6.12\nimport \"std/daemon\"\nmachine a {{\n  extends std/daemon\n  root host\n  \
             exec \"/usr/bin/true\"\n  user nobody\n  capabilities {{ none }}\n  files {{ read \"/usr\" }}\n  {body}\n}}\n"
        )
    };
    for (body, help) in [
        ("syscalls { allow syscall ptrace why \"x\" }", "as in `allow ptrace`"),
        ("within std/ceiling/internet-facing", "import \"std/ceiling\""),
        ("extends std/os", "import \"std/os\""),
        ("within std/ceiling/internet-facin", "known are:"),
        ("assert { never connect tcp 10.0.0.1:443 }", "`443 to 10.0.0.1`"),
    ] {
        let ran = harness::verb("check", &machine(body));
        assert_eq!(ran.code, 2, "{body}: {}", ran.err);
        assert!(ran.err.contains(help), "{body}: {}", ran.err);
        assert_eq!(ran.err.matches("error[").count(), 1, "{body}: {}", ran.err);
    }
}

/// splitmix64
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ z >> 31) % u64::try_from(n).unwrap()).unwrap()
    }
}

const TOKENS: &str = "policy 1 kernel 6.18 6.12 import param group profile machine instance test of on extends within override remove \
 about owner root dir image host exec boot user userns auto map identity hostname capabilities none keep bounding mounts bind tmpfs \
 overlay mask hide ro rw suid dev files read write create files network listen connect tcp any syscalls allow deny kill log errno EPERM \
 ENOSYS devices environment set pass limits nofile core assert never can syscall capability why until ref 2027-03-31 in not has all only \
 @a @default @nothing socket(family openat clone ioctl family type cmd flags AF_UNIX AF_INET SOCK_STREAM TIOCSTI NULL 0 1 -1 0x10 0o7 0xffffffff \
 99999999999999999999999999999999999999 65536 16MiB 5min 022 sys_admin a b m std/daemon { } [ ] ( ) { } -> == != < <= > >= = ..= & , ; \
 , , \" \\ # $ ${ ${a} * ' é 漢 ~ - + . .. ... / : % @ _ -> --> <> =>";
/// Operators that stand alone.
const WHOLE: &[&str] = &["->", "==", "!=", "<=", ">=", "<", ">", "=", "..=", "&", ",", "0", "1", "-1"];
const TEXTS: &[&str] = &[
    "\"/srv\"",
    "\"std/daemon\"",
    "\"std/groups\"",
    "\"std/os\"",
    "\"/\"",
    "\"\"",
    "\"a b\"",
    "\"${a}\"",
    "\"\\n\"",
    "\"/a/../b\"",
    "\"#\"",
    "\"{\"",
];

#[test]
fn random_tokens_never_panic_and_the_canonical_form_is_stable() {
    let tokens: Vec<&str> = TOKENS.split(' ').filter(|t| !t.is_empty()).chain(TEXTS.iter().copied()).collect();
    let (mut shaped, mut resolved, mut codes) = (0, 0, BTreeSet::new());
    let mut faults = Vec::new();
    for seed in 0..5_000 {
        let mut rng = Rng(seed);
        let mut text = String::new();
        // Most inputs begin as a policy does, so that the later passes are reached.
        if rng.below(4) > 0 {
            text.push_str("policy 1\nkernel 6.18\n");
        }
        if rng.below(3) == 0 {
            text.push_str("import \"std/groups\"\nparam a path \"/srv\"\n");
        }
        let inside = rng.below(3) == 0;
        if inside {
            text.push_str("machine m {\nroot host\nexec \"/usr/bin/true\"\nuser nobody\ncapabilities { none }\n");
            let sections = [
                "syscalls",
                "mounts",
                "files",
                "network",
                "limits",
                "capabilities",
                "assert",
                "environment",
                "devices",
            ];
            text.push_str(&format!("{} {{\n", sections[rng.below(sections.len())]));
        }
        // Half of the inputs have no fault of shape: words, operators, texts, and brackets in pairs.
        let calm = rng.below(2) == 0;
        for _ in 0..rng.below(60) {
            let token = tokens[rng.below(tokens.len())];
            if !calm {
                text.push_str(token);
                text.push_str([" ", " ", " ", "\n", "", "\t"][rng.below(6)]);
                continue;
            }
            if token.starts_with('"') && token.len() > 1
                || WHOLE.contains(&token)
                || token.chars().all(|c| c.is_ascii_alphanumeric() || "@-/_".contains(c) && token.len() > 2)
            {
                let (open, close) =
                    [("", ""), ("", ""), ("", ""), ("[", "]"), ("(", ")"), ("syscalls { allow ", " }")][rng.below(6)];
                text.push_str(&format!("{open}{token}{close}"));
                text.push_str([" ", " ", " ", "\n", " # said\n", ";"][rng.below(6)]);
            }
        }
        if inside {
            text.push_str("\n}\n}\n");
        }
        let (mut sources, mut d) = (Sources::default(), Diagnostics::default());
        let id = loader::from_text("fuzz", text.as_bytes(), &mut sources, &mut d).unwrap();
        resolve::resolve(id, &mut sources, &mut d, "2026-01-01");
        resolved += usize::from(!d.has_errors());
        codes.extend(d.iter().map(|x| x.code));
        // Whatever is wrong can be shown.
        let shown = d.render(&sources, false);
        assert_eq!(shown.is_empty(), d.iter().next().is_none());
        let (first, fine) = tree(&text);
        if !fine {
            continue;
        }
        shaped += 1;
        let once = print::print(&first);
        let (second, fine) = tree(&once);
        if !fine || !ast::same(&first, &second) {
            faults.push(format!("{seed}: fmt changes the tree of\n{text}\n--- to\n{once}"));
        } else if print::print(&second) != once {
            faults.push(format!(
                "{seed}: fmt isn't stable on\n{text}\n--- once\n{once}\n--- twice\n{}",
                print::print(&second)
            ));
        }
    }
    println!("5000 inputs: {shaped} of good shape, {resolved} resolved; codes met: {codes:?}");
    assert!(shaped > 1_000 && codes.len() >= 20, "the inputs reach too little");
    assert!(
        faults.is_empty(),
        "{} inputs, such as {}",
        faults.len(),
        faults.iter().take(3).cloned().collect::<Vec<_>>().join("\n\n")
    );
}

/// The first policy of the README, made as it says: the starter, its change, and what is printed meanwhile.
#[test]
fn the_readme_tells_the_truth_about_a_first_policy() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let dir = Dir::new("readme");
    let said = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let out = harness::stockade().current_dir(&dir.0).args(&mut words).env("NO_COLOR", "1").output().unwrap();
        String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout)
    };
    // What the README shows after a command, one entry for each time.
    let shown = |command: &str| -> Vec<String> {
        let blocks = readme.split("```console\n").skip(1).map(|b| b.split("```").next().unwrap());
        let commands = blocks.flat_map(|b| b.split("# stockade ").skip(1)).filter_map(|c| c.split_once('\n'));
        commands.filter(|(name, _)| format!("stockade {name}") == command).map(|(_, text)| text.to_owned()).collect()
    };
    assert_eq!([said("stockade new web")], *shown("stockade new web"));
    let file = dir.0.join("web.stockade");
    let mut lines: Vec<String> = std::fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
    let mut at = 0;
    for change in readme.split("```diff\n").nth(1).unwrap().split("```").next().unwrap().lines() {
        if let Some(old) = change.strip_prefix('-') {
            at +=
                lines[at..].iter().position(|l| l == old).unwrap_or_else(|| panic!("the starter has no line {old:?}"));
            lines.remove(at);
        } else {
            lines.insert(at, change.strip_prefix('+').unwrap().to_owned());
            at += 1;
        }
    }
    let check = "stockade check web.stockade";
    let checks = shown(check);
    dir.write("web.stockade", &(lines.join("\n") + "\n"));
    assert_eq!(said(check), checks[0]);
    lines.retain(|l| l != "    connect tcp 443");
    dir.write("web.stockade", &(lines.join("\n") + "\n"));
    assert_eq!(said(check), checks[1]);
    // A plan names the host's own numbers as well; what it says of the filter is the policy's alone.
    if harness::root() {
        let filter = |plan: &str| {
            let line = plan.lines().find(|l| l.contains("program  seccomp filter")).map(str::to_owned);
            line.unwrap().split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        };
        let plan = "stockade plan web.stockade";
        let here = lines.join("\n").replace("/srv/www", dir.0.to_str().unwrap());
        dir.write("web.stockade", &(here + "\n"));
        assert_eq!(filter(&said(plan)), filter(&shown(plan)[0]));
    }
}
