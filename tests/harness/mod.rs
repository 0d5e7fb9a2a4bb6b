//! What the tests with real machines share. No mocks: real namespaces, real kernels, real Debian.
#![allow(unreachable_pub, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where root file systems are kept between runs (made by `tests/make-root`).
pub const CACHE: &str = "/var/cache/stockade";

/// Says that a check was skipped and why; a failure where STOCKADE_REQUIRE=all is set (CI).
pub fn skip(reason: &str) {
    if std::env::var("STOCKADE_REQUIRE").is_ok_and(|v| v == "all") {
        panic!("skipped, and skips are failures here: {reason}");
    }
    eprintln!("SKIP: {reason}");
}

/// True for root; says so otherwise.
pub fn root() -> bool {
    let yes = nix::unistd::geteuid().is_root();
    if !yes {
        skip("needs root");
    }
    yes
}

/// The Debian root of the cache, if it was made.
pub fn debian() -> Option<PathBuf> {
    let path = Path::new(CACHE).join("debian");
    if path.join("usr/lib/systemd/systemd").exists() {
        return Some(path);
    }
    skip("no Debian root: run tests/make-root first");
    None
}

/// The sample site in the cache, as the policies' parameters name it.
pub fn site() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/site/.");
    let to = Path::new(CACHE).join("site");
    std::fs::create_dir_all(to.join("results")).unwrap();
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

/// The command under test.
pub fn stockade() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_stockade"));
    c.stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
    c
}

/// A folder that is removed with the value. Root-owned, mode 0755, below /tmp.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new(name: &str) -> Dir {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("stockade-test-{}-{n}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    /// Writes a file below the folder and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ignored = std::fs::remove_dir_all(&self.0);
    }
}

/// What a run of a machine gave.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(o: Output) -> Ran {
        use std::os::unix::process::ExitStatusExt as _;
        Ran {
            code: o.status.code().unwrap_or_else(|| 1000 + o.status.signal().unwrap_or(0)),
            out: String::from_utf8_lossy(&o.stdout).into_owned(),
            err: String::from_utf8_lossy(&o.stderr).into_owned(),
        }
    }
}

/// `stockade VERB FILE` on policy text.
pub fn verb(verb: &str, policy: &str) -> Ran {
    let dir = Dir::new("policy");
    let file = dir.write("test.stockade", policy);
    stockade().arg(verb).arg(file).output().unwrap().into()
}

/// Runs a machine in the foreground.
pub fn run(policy: &str) -> Ran {
    verb("run", policy)
}

/// A name that no other test uses at the same time.
pub fn name(prefix: &str) -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{prefix}-{}-{n}", std::process::id())
}

/// A policy of one program on the host's /usr, with `body` added to the machine.
pub fn host_machine(exec: &str, body: &str) -> String {
    format!(
        "policy 1\nkernel 6.18\nimport \"std/daemon\"\nmachine {} {{\n  extends std/daemon\n  root host\n  exec {exec}\n{body}\n}}\n",
        name("t")
    )
}

/// The static probe, compiled once from tests/probe/NAME.c.
pub fn probe(source: &str) -> PathBuf {
    use std::sync::Mutex;
    static LOCK: Mutex<()> = Mutex::new(());
    let _one = LOCK.lock().unwrap_or_else(|e| e.into_inner());
    let c = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe").join(format!("{source}.c"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{source}-{}", std::process::id()));
    if !out.exists() {
        let done =
            Command::new("cc").args(["-static", "-O1", "-Wall", "-Werror", "-o"]).arg(&out).arg(&c).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    out
}

/// Holds a JSON document against a schema, by a validator that isn't ours; false when there is none.
pub fn json_schema(schema: &Path, document: &str) -> bool {
    if !Command::new("/usr/bin/python3").args(["-c", "import jsonschema"]).status().is_ok_and(|s| s.success()) {
        skip("no python3-jsonschema");
        return false;
    }
    let script = "import json,sys,jsonschema\njsonschema.validate(json.load(sys.stdin),json.load(open(sys.argv[1])))";
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(schema)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(document.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}: {}\n{document}", schema.display(), String::from_utf8_lossy(&out.stderr));
    true
}
