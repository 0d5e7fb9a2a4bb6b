//! What a launch leaves when it is cut short: SIGKILL and errors at every system call of every process.
//!
//! After each fault either nothing of the machine ran, or it ran under exactly its plan; nothing of it is
//! alive without its supervisor; and the next command finds nothing left of it. STOCKADE_FAULTS=all visits
//! every point (`make faults`), otherwise an evenly spread sample is taken.
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
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use stockade::launch::readback;

/// Of the sample: which points are taken, and the random instants.
const SEED: u64 = 0x5EED_0006_0018;
/// The processes of a launch in the order of their making.
const ROLES: [&str; 5] = ["supervisor", "builder", "init", "program", "tree builder"];
const ERRORS: [(i32, &str); 5] = [
    (libc::EPERM, "EPERM"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EIO, "EIO"),
    (libc::ENOSPC, "ENOSPC"),
    (libc::EMFILE, "EMFILE"),
];
/// A machine's processes may be alive so long after their supervisor.
const GRACE: Duration = Duration::from_secs(1);
/// No launch of a test takes so long, whatever is done to it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many occurrences of one call of one process are given errors.
const EACH: usize = 12;

/// The sweeps look at the whole host: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|e| e.into_inner())
}

fn everything() -> bool {
    std::env::var("STOCKADE_FAULTS").is_ok_and(|v| v == "all")
}

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: Duration) -> Duration {
        Duration::from_micros(self.next() % u64::try_from(limit.as_micros()).unwrap())
    }
}

/// `count` of a list, evenly spread; all of it in a whole sweep.
fn sample<T>(list: Vec<T>, count: usize, random: &mut Random) -> Vec<T> {
    if everything() || list.len() <= count {
        return list;
    }
    let (length, offset) = (list.len(), usize::try_from(random.next() % 1024).unwrap());
    let chosen: BTreeSet<usize> = (0..count).map(|i| (i * 1024 + offset) * length / (count * 1024)).collect();
    list.into_iter().enumerate().filter(|(i, _)| chosen.contains(i)).map(|(_, v)| v).collect()
}

/// One launch, in a folder whose name is found nowhere else: it is in the command line of every process of
/// the machine, before its exec as the policy's path and after it as the payload's argument.
struct Trial {
    dir: Dir,
    mark: String,
    machine: String,
    before: Host,
}

/// How a launch went.
struct Ended {
    /// Exit code; 1000 + signal; `None` when it never ended.
    code: Option<i32>,
    /// The payload had left before.
    finished: bool,
}

/// Which machine is launched.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// No network, no limits of a group.
    Plain,
    /// A zone, published ports, name servers, limits of groups.
    Linked,
}

impl Trial {
    fn new(kind: Kind, wait: Duration) -> Trial {
        let dir = Dir::new("fault");
        let mark = dir.0.file_name().unwrap().to_str().unwrap().to_owned();
        let machine = format!("faults-{}", std::process::id());
        let out = dir.0.join("out");
        fs::create_dir(&out).unwrap();
        // Its owner is somebody inside.
        fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
        let payload = |machine: &str, arguments: &str, kind: Kind| {
            let (network, limits) = match kind {
                Kind::Plain => ("none", ""),
                Kind::Linked => (
                    "zone faults; publish tcp 127.0.0.1:28080 -> 80; publish udp 28053 -> 53; listen tcp 80; listen udp 53; resolver 192.0.2.53",
                    "; memory 64MiB; tasks 16; cpu 200%",
                ),
            };
            let (out, probe) = (out.display(), harness::probe("witness"));
            format!(
                "policy 1\nkernel 6.18\nimport \"std/daemon\"\nmachine {machine} {{\n  extends std/daemon\n  root host\n  \
                 exec \"/probe\" {arguments}\n  user nobody\n  userns auto\n  capabilities {{ none }}\n  network {{ {network} }}\n  \
                 mounts {{\n    bind \"{out}\" -> \"/out\" rw\n    bind \"{}\" -> \"/probe\" ro exec\n  }}\n  \
                 files {{\n    exec \"/usr\" \"/probe\"\n    read \"/\"\n    write \"/out\"\n    create \"/out\"\n  }}\n  \
                 limits {{ nofile 1024{limits} }}\n}}\n",
                probe.display()
            )
        };
        dir.write("trial.stockade", &payload(&machine, &format!("\"wait\" \"{mark}\" \"{}\"", wait.as_millis()), kind));
        // Another name: what the first left is cleaned up because it is dead, not because it comes again.
        dir.write("next.stockade", &payload(&format!("{machine}-next"), "\"quiet\"", Kind::Plain));
        Trial { before: Host::now(&machine), dir, mark, machine }
    }

    /// A copy of a policy file of this repository.
    fn of(file: &str, machine: &str) -> Trial {
        let t = Trial {
            machine: machine.to_owned(),
            before: Host::now(machine),
            ..Trial::new(Kind::Plain, Duration::ZERO)
        };
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        t.dir.write("trial.stockade", &text);
        t
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.0.join(name)
    }

    /// Never pipes: what survives would hold them open.
    fn quietly(&self, c: &mut Command, file: &str) {
        let err = fs::File::create(self.path("err")).unwrap();
        c.arg("run").arg(self.path(file)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(err);
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("err")).unwrap_or_default()
    }

    /// Runs the launch to its end, under the hand that disturbs it.
    fn disturbed(&self, arguments: &[String]) -> Ended {
        let mut c = Command::new(harness::probe("witness"));
        c.args(arguments).args(["--", env!("CARGO_BIN_EXE_stockade")]);
        self.quietly(&mut c, "trial.stockade");
        self.ended(&mut c)
    }

    fn ended(&self, c: &mut Command) -> Ended {
        let mut child = c.spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let code = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(code(status));
            }
            if Instant::now() > deadline {
                break None;
            }
            std::thread::sleep(Duration::from_micros(500));
        };
        let finished = self.path("out/finished").exists();
        if code.is_none() {
            self.alive().into_iter().for_each(end);
            child.wait().unwrap();
        }
        Ended { code, finished }
    }

    /// Starts the supervisor alone and kills it at an instant.
    fn killed_after(&self, instant: Duration) -> Ended {
        let mut c = harness::stockade();
        self.quietly(&mut c, "trial.stockade");
        let start = Instant::now();
        let mut child = c.spawn().unwrap();
        std::thread::sleep(instant.saturating_sub(start.elapsed()));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let finished = self.path("out/finished").exists();
        Ended { code: Some(code(status)), finished }
    }

    /// Processes of the machine: by their command line, or by the machine's cgroup.
    fn alive(&self) -> Vec<i32> {
        let mut out = in_cgroup(&cgroup(&self.machine));
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            // One that ended between the two calls is none.
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if line.windows(self.mark.len()).any(|w| w == self.mark.as_bytes()) && !out.contains(&pid) {
                out.push(pid);
            }
        }
        out
    }

    /// What the payload saw of itself, if it ran.
    fn payload(&self, reference: &Confinement) -> Ran {
        if !self.path("out/started").exists() {
            return Ran::No;
        }
        let Ok(status) = fs::read_to_string(self.path("out/status")) else { return Ran::CutOff };
        let seen = readback::observe(&self.path("out"), None).unwrap();
        let has = |line: &str| status.lines().any(|l| l.split_whitespace().eq(line.split(' ')));
        if seen.digest() != reference.digest {
            let (now, then) = (seen.text(), &reference.text);
            let lost = then.lines().filter(|l| !now.lines().any(|m| m == *l)).map(|l| format!("-{l}"));
            let won = now.lines().filter(|l| !then.lines().any(|m| m == *l)).map(|l| format!("+{l}"));
            return Ran::Differently(lost.chain(won).collect::<Vec<_>>().join(", "));
        }
        for line in ["Seccomp: 2", "NoNewPrivs: 1"] {
            if !has(line) {
                return Ran::Differently(format!("no `{line}`"));
            }
        }
        Ran::Same
    }
}

fn code(status: std::process::ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0))
}

/// What a payload saw: the text, and its digest.
#[derive(Default)]
struct Confinement {
    text: String,
    digest: String,
}

enum Ran {
    No,
    /// Killed before its report was whole.
    CutOff,
    Same,
    Differently(String),
}

fn end(pid: i32) {
    // It may have ended by itself.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap_or(());
}

/// True while a process of a launch is being taken down: its command line is gone already, its files, and
/// with them its locks, are not yet.
fn ending() -> bool {
    // linux/sched.h
    const PF_EXITING: u64 = 4;
    let of_a_launch = |stat: &str| {
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let (state, flags) = (fields.next()?, fields.nth(5)?.parse::<u64>().ok()?);
        // The payload's name, or the name of the supervisor whose copies the others are.
        Some(["stockade", "probe"].contains(&name) && !["Z", "X"].contains(&state) && flags & PF_EXITING != 0)
    };
    let stats = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| fs::read_to_string(e.path().join("stat")).ok());
    stats.into_iter().any(|s| of_a_launch(&s) == Some(true))
}

/// The machine's own folder in the unified hierarchy.
fn cgroup(machine: &str) -> PathBuf {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = text.lines().find(|l| l.contains(" - cgroup2 ")).and_then(|l| l.split(' ').nth(4));
    Path::new(mounts.unwrap_or("/sys/fs/cgroup")).join("stockade").join(machine)
}

fn in_cgroup(path: &Path) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut out: Vec<i32> = text.lines().filter_map(|l| l.parse().ok()).collect();
    for e in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        out.extend(in_cgroup(&e.path()));
    }
    out
}

/// What a machine can leave on a host.
struct Host {
    mounts: BTreeSet<String>,
    state: BTreeSet<PathBuf>,
    cgroup: Option<PathBuf>,
    /// Tables, links, forwarding, groups of the older hierarchies.
    network: BTreeSet<String>,
}

/// What of the network a machine of ours could have made.
fn network() -> BTreeSet<String> {
    let lines = |program: &str, arguments: &[&str]| {
        let out = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut all: BTreeSet<String> = lines("nft", &["list", "tables"]).into_iter().collect();
    all.extend(lines("ip", &["-br", "link"]).into_iter().filter_map(|l| Some(l.split(['@', ' ']).next()?.to_owned())));
    for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        all.insert(format!(
            "{file} {}",
            fs::read_to_string(format!("/proc/sys/net/{file}")).unwrap_or_default().trim()
        ));
    }
    all.extend(lines("find", &["/sys/fs/cgroup", "-type", "d", "-path", "*stockade/faults-*"]));
    all
}

impl Host {
    fn now(machine: &str) -> Host {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect();
        // A lock that is held belongs to a running machine: somebody else's.
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let held: BTreeSet<&str> = locks.lines().filter_map(|l| l.split_whitespace().nth(5)).collect();
        // MAJOR:MINOR:INODE
        let place = |m: fs::Metadata| format!("{:02x}:{:02x}:{}", libc::major(m.dev()), libc::minor(m.dev()), m.ino());
        let mut state = BTreeSet::new();
        for (folder, lock) in
            [("/run/stockade/machines", "lock"), ("/run/stockade/ids", ""), ("/run/stockade/subnets", "")]
        {
            for e in fs::read_dir(folder).into_iter().flatten().flatten() {
                let lock = fs::metadata(if lock.is_empty() { e.path() } else { e.path().join(lock) });
                if !lock.is_ok_and(|m| held.contains(place(m).as_str())) {
                    state.insert(e.path());
                }
            }
        }
        let zones = fs::read_dir("/run/stockade/zones").into_iter().flatten().flatten().map(|e| e.path());
        state.extend(zones.filter(|p| p.is_dir()));
        state.extend(Some(PathBuf::from("/run/stockade/forwarding/before.json")).filter(|p| p.exists()));
        Host { mounts, state, cgroup: Some(cgroup(machine)).filter(|c| c.exists()), network: network() }
    }

    /// What is here and wasn't.
    fn since(self, before: &Host) -> Vec<String> {
        let mut out: Vec<String> = self.mounts.difference(&before.mounts).cloned().collect();
        out.extend(before.mounts.difference(&self.mounts).map(|m| format!("gone: {m}")));
        out.extend(self.state.difference(&before.state).map(|p| p.display().to_string()));
        out.extend(self.network.symmetric_difference(&before.network).cloned());
        out.extend(self.cgroup.map(|c| c.display().to_string()));
        out
    }
}

/// One line of the table.
#[derive(Default)]
struct Row {
    sweep: String,
    points: usize,
    ran: usize,
    cut_off: usize,
    /// Payload ran, exit code 125 all the same.
    denied: usize,
    differently: usize,
    survivors: usize,
    left: usize,
    /// Exit code 0 without a payload, or no end at all.
    wrong_end: usize,
    findings: usize,
    start: Option<Instant>,
    took: Duration,
}

impl Row {
    fn new(sweep: &str) -> Row {
        Row { sweep: sweep.to_owned(), start: Some(Instant::now()), ..Row::default() }
    }

    /// Said at once: a whole sweep takes long.
    fn find(&mut self, text: String) {
        println!("{text}");
        self.findings += 1;
    }

    /// A supervisor that was to be killed doesn't end by itself before.
    fn killed(&mut self, point: &str, t: &Trial, ended: &Ended) {
        if ended.code != Some(1000 + libc::SIGKILL) {
            self.wrong_end += 1;
            self.find(format!("{point}: ended by itself: {:?}\n{}", ended.code, t.said()));
        }
    }

    /// Everything that must hold after any fault.
    fn judge(&mut self, point: &str, t: &Trial, ended: &Ended, reference: &Confinement) {
        let said = t.said();
        let text = |what: &str, detail: &str| format!("{point}: {what}: {detail}\n{said}");
        // Nothing of the machine is alive, and nothing of it went on to its own end meanwhile.
        let deadline = Instant::now() + GRACE;
        let mut alive = t.alive();
        while (!alive.is_empty() || ending()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
            alive = t.alive();
        }
        let outlived = !ended.finished && t.path("out/finished").exists();
        if !alive.is_empty() || outlived {
            self.survivors += 1;
            let who: Vec<String> = alive.iter().map(|p| format!("{p} {}", describe(*p))).collect();
            self.find(text(
                "survived",
                &if outlived { "the payload went on to its end".to_owned() } else { who.join(", ") },
            ));
            for pid in alive {
                end(pid);
            }
        }
        self.points += 1;
        let ran = t.payload(reference);
        match &ran {
            Ran::No => {}
            Ran::CutOff => self.cut_off += 1,
            Ran::Same => self.ran += 1,
            Ran::Differently(how) => {
                self.ran += 1;
                self.differently += 1;
                self.find(text("ran differently", how));
            }
        }
        self.denied += usize::from(!matches!(ran, Ran::No) && ended.code == Some(125));
        match ended.code {
            None => {
                self.wrong_end += 1;
                self.find(text("never ended", ""));
            }
            Some(0) if matches!(ran, Ran::No) => {
                self.wrong_end += 1;
                self.find(text("exit code 0", "and no payload ran"));
            }
            _ => {}
        }
        // The next command, at once.
        let mut next = harness::stockade();
        t.quietly(&mut next, "next.stockade");
        let next = t.ended(&mut next);
        let mut left = Host::now(&t.machine).since(&t.before);
        // Others' machines may come and go meanwhile.
        for _ in 0..20 {
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            left = Host::now(&t.machine).since(&t.before);
        }
        if next.code != Some(0) {
            left.push(format!("the next command ends with {:?}: {}", next.code, t.said()));
        }
        if !left.is_empty() {
            self.left += 1;
            self.find(text("left over", &left.join(", ")));
        }
        self.took = self.start.map_or(Duration::ZERO, |s| s.elapsed());
    }

    fn header() {
        println!(
            "{:<34} {:>7} {:>6} {:>8} {:>9} {:>12} {:>10} {:>10} {:>10} {:>8}",
            "sweep",
            "points",
            "ran",
            "cut off",
            "ran, 125",
            "differently",
            "survivors",
            "left-over",
            "wrong end",
            "seconds"
        );
    }

    fn print(&self) {
        println!(
            "{:<34} {:>7} {:>6} {:>8} {:>9} {:>12} {:>10} {:>10} {:>10} {:>8}",
            self.sweep,
            self.points,
            self.ran,
            self.cut_off,
            self.denied,
            self.differently,
            self.survivors,
            self.left,
            self.wrong_end,
            self.took.as_secs()
        );
    }
}

/// Prints the table; the test fails if a column that must be 0 isn't.
fn conclude(rows: &[Row]) {
    println!(
        "\nseed {SEED:#x}, {}",
        if everything() { "every point" } else { "a sample (STOCKADE_FAULTS=all: every point)" }
    );
    Row::header();
    rows.iter().for_each(Row::print);
    let findings: usize = rows.iter().map(|r| r.findings).sum();
    assert!(findings == 0, "{findings} findings, see above");
    assert!(rows.iter().all(|r| r.points > 0), "a sweep without a point shows nothing");
}

fn describe(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// The n-th time that a process of the launch makes a call.
#[derive(Clone)]
struct Point {
    role: usize,
    number: usize,
    name: &'static str,
    nth: usize,
    /// The payload has ended then.
    late: bool,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} number {}", ROLES.get(self.role).unwrap_or(&"another process"), self.name, self.nth)
    }
}

/// An undisturbed launch: the confinement under which the payload ran, and all calls.
struct Reference {
    seen: Confinement,
    points: Vec<Point>,
    length: Duration,
}

fn reference(kind: Kind) -> &'static Reference {
    static ONCE: [OnceLock<Reference>; 2] = [const { OnceLock::new() }; 2];
    ONCE[kind as usize].get_or_init(|| {
        let t = Trial::new(kind, Duration::from_millis(50));
        let mut c = harness::stockade();
        c.arg("-v");
        t.quietly(&mut c, "trial.stockade");
        let start = Instant::now();
        assert_eq!(t.ended(&mut c).code, Some(0), "{}", t.said());
        let length = start.elapsed().saturating_sub(Duration::from_millis(50));
        let observed = readback::observe(&t.path("out"), None).unwrap();
        let (text, digest) = (observed.text(), observed.digest());
        // What the payload saw is what the supervisor compared with the plan.
        assert!(t.said().contains(&format!("digest={digest}")), "{digest}, but: {}", t.said());
        let seen = Confinement { text, digest };
        assert!(matches!(t.payload(&seen), Ran::Same));

        let t = Trial::new(kind, Duration::from_millis(50));
        let log = t.path("log");
        let ended = t.disturbed(&["trace".into(), log.to_str().unwrap().into()]);
        assert_eq!(ended.code, Some(0), "{}", t.said());
        assert!(matches!(t.payload(&seen), Ran::Same), "a traced launch is another one");
        let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        let (mut points, mut late) = (Vec::new(), false);
        for line in fs::read_to_string(&log).unwrap().lines() {
            if line == "end" {
                late = true;
                continue;
            }
            let (role, number) = line.split_once(' ').unwrap();
            let (role, number): (usize, usize) = (role.parse().unwrap(), number.parse().unwrap());
            let nth = counts.entry((role, number)).or_default();
            *nth += 1;
            let name = syscalls::Sysno::new(number).map_or("a call without a name", |s| s.name());
            points.push(Point { role, number, name, nth: *nth, late });
        }
        assert!(late, "the payload's end wasn't seen");
        for call in ["landlock_restrict_self", "seccomp", "execve", "pivot_root", "capset", "clone3", "setresuid"] {
            assert!(points.iter().any(|p| p.name == call), "no process of the launch calls {call}");
        }
        Reference { seen, points, length }
    })
}

/// One fault; `None` when this launch never came to the point.
fn inject(kind: Kind, p: &Point, action: i32, wait: Duration) -> (Trial, Option<Ended>) {
    let t = Trial::new(kind, wait);
    let log = t.path("log");
    let numbers = [p.role, p.number, p.nth].map(|n| n.to_string());
    let mut arguments = vec!["inject".to_owned(), log.to_str().unwrap().to_owned()];
    arguments.extend(numbers);
    arguments.push(action.to_string());
    let ended = t.disturbed(&arguments);
    let hit = fs::read_to_string(&log).is_ok_and(|l| l == "hit\n");
    (t, hit.then_some(ended))
}

#[test]
fn the_supervisor_is_killed_at_each_call() {
    if !harness::root() {
        return;
    }
    let _alone = alone();
    let r = reference(Kind::Plain);
    let mut row = Row::new("kill -9 of the supervisor");
    let all = r.points.iter().filter(|p| p.role == 0).cloned().collect();
    for p in sample(all, 70, &mut Random(SEED)) {
        // Before the payload's end: one that would outlive the grace.
        let wait = if p.late { Duration::from_millis(20) } else { 5 * GRACE };
        if let (t, Some(ended)) = inject(Kind::Plain, &p, 0, wait) {
            row.killed(&p.to_string(), &t, &ended);
            row.judge(&p.to_string(), &t, &ended, &r.seen);
        }
    }
    conclude(&[row]);
}

#[test]
fn a_process_of_the_machine_is_killed_at_each_call() {
    if !harness::root() {
        return;
    }
    let _alone = alone();
    let r = reference(Kind::Plain);
    let mut rows = Vec::new();
    for (role, name) in ROLES.iter().enumerate().skip(1) {
        let mut row = Row::new(&format!("kill -9 of the {name}"));
        let all = r.points.iter().filter(|p| p.role == role).cloned().collect();
        for p in sample(all, 12, &mut Random(SEED)) {
            if let (t, Some(ended)) = inject(Kind::Plain, &p, 0, Duration::from_millis(50)) {
                row.judge(&p.to_string(), &t, &ended, &r.seen);
            }
        }
        rows.push(row);
    }
    conclude(&rows);
}

#[test]
fn the_supervisor_is_killed_at_random_instants() {
    if !harness::root() {
        return;
    }
    let _alone = alone();
    let r = reference(Kind::Plain);
    let mut random = Random(SEED);
    let mut row = Row::new("kill -9 at random instants");
    for _ in 0..if everything() { 300 } else { 60 } {
        let t = Trial::new(Kind::Plain, 5 * GRACE);
        let instant = random.below(r.length + r.length / 2);
        let ended = t.killed_after(instant);
        row.judge(&format!("after {instant:?}"), &t, &ended, &r.seen);
    }
    conclude(&[row]);
}

#[test]
fn each_call_fails_with_each_error() {
    if !harness::root() {
        return;
    }
    let _alone = alone();
    let r = reference(Kind::Plain);
    let mut last: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for p in &r.points {
        last.insert((p.role, p.number), p.nth);
    }
    // These have no failure; close(2) frees the descriptor whatever it returns.
    let never = ["exit", "exit_group", "rt_sigreturn", "restart_syscall", "close"];
    let chosen = |p: &&Point| {
        let count = last[&(p.role, p.number)];
        let first = count <= EACH || (0..EACH).any(|i| 1 + i * (count - 1) / (EACH - 1) == p.nth);
        first && !never.contains(&p.name)
    };
    let mut rows = Vec::new();
    for (role, name) in ROLES.iter().enumerate() {
        let mut row = Row::new(&format!("errors in the {name}"));
        let points = r.points.iter().filter(|p| p.role == role).filter(chosen);
        let all = points.flat_map(|p| ERRORS.map(|e| (p.clone(), e))).collect();
        for (p, (errno, error)) in sample(all, if role == 1 { 8 } else { 24 }, &mut Random(SEED)) {
            if let (t, Some(ended)) = inject(Kind::Plain, &p, errno, Duration::from_millis(50)) {
                row.judge(&format!("{error} in {p}"), &t, &ended, &r.seen);
            }
        }
        rows.push(row);
    }
    conclude(&rows);
}

/// The same for a machine with a network and limits: what it leaves are links, rules, groups, a zone, ports.
#[test]
fn the_supervisor_of_a_linked_machine_meets_the_same_faults() {
    if !harness::root() {
        return;
    }
    let _alone = alone();
    let r = reference(Kind::Linked);
    let mut rows = vec![Row::new("linked: kill -9 of the supervisor")];
    let mine: Vec<Point> = r.points.iter().filter(|p| p.role == 0).cloned().collect();
    for p in sample(mine.clone(), 40, &mut Random(SEED)) {
        let wait = if p.late { Duration::from_millis(20) } else { 5 * GRACE };
        if let (t, Some(ended)) = inject(Kind::Linked, &p, 0, wait) {
            rows[0].killed(&p.to_string(), &t, &ended);
            rows[0].judge(&p.to_string(), &t, &ended, &r.seen);
        }
    }
    let mut row = Row::new("linked: kill -9 at random instants");
    let mut random = Random(SEED);
    for _ in 0..if everything() { 300 } else { 25 } {
        let t = Trial::new(Kind::Linked, 5 * GRACE);
        let instant = random.below(r.length + r.length / 2);
        let ended = t.killed_after(instant);
        row.judge(&format!("after {instant:?}"), &t, &ended, &r.seen);
    }
    rows.push(row);
    let mut row = Row::new("linked: errors in the supervisor");
    let never = ["exit", "exit_group", "rt_sigreturn", "restart_syscall", "close"];
    // A folder of the state that couldn't be listed was once taken for one that has members: at the end, always.
    let (listing, others): (Vec<_>, Vec<_>) = mine
        .into_iter()
        .filter(|p| !never.contains(&p.name) && p.nth <= 4 * EACH)
        .partition(|p| p.late && p.name == "getdents64");
    assert!(!listing.is_empty(), "nothing is listed at the end");
    let each = |points: Vec<Point>| points.into_iter().flat_map(|p| ERRORS.map(|e| (p.clone(), e))).collect::<Vec<_>>();
    let known = sample(each(listing), 24, &mut random);
    for (p, (errno, error)) in known.into_iter().chain(sample(each(others), 40, &mut random)) {
        if let (t, Some(ended)) = inject(Kind::Linked, &p, errno, Duration::from_millis(50)) {
            row.judge(&format!("{error} in {p}"), &t, &ended, &r.seen);
        }
    }
    rows.push(row);
    conclude(&rows);
}

#[test]
fn the_supervisor_of_a_booting_system_is_killed() {
    if !harness::root() || harness::debian().is_none() {
        return;
    }
    let _alone = alone();
    let mut random = Random(SEED);
    let mut row = Row::new("kill -9 of a booting Debian");
    let mut most = 0;
    for _ in 0..if everything() { 30 } else { 5 } {
        let t = Trial::of("policies/debian.stockade", "debian");
        let instant = random.below(Duration::from_secs(3));
        let mut c = harness::stockade();
        t.quietly(&mut c, "trial.stockade");
        let mut child = c.spawn().unwrap();
        std::thread::sleep(instant);
        most = most.max(in_cgroup(&cgroup("debian")).len());
        child.kill().unwrap();
        let ended = Ended { code: Some(code(child.wait().unwrap())), finished: false };
        let point = format!("after {instant:?}");
        row.killed(&point, &t, &ended);
        row.judge(&point, &t, &ended, &Confinement::default());
    }
    conclude(&[row]);
    assert!(most > 1, "no Debian was ever seen booting");
}

/// 125 says that nothing was run: never of a program that ran, whatever the supervisor fails to hear of its start.
#[test]
fn a_program_that_ran_never_ends_in_125() {
    if !harness::root() {
        return;
    }
    let _alone = alone();
    let dir = Dir::new("heard");
    let body = "  user nobody\n  capabilities { none }";
    let file = dir.write("t.stockade", &harness::host_machine("\"/bin/echo\" \"it ran\"", body));
    let (mut ran, mut not) = (0, 0);
    for call in ["ppoll", "recvmsg"] {
        for nth in 1..=9 {
            let inject = format!("inject={call}:error=EIO:when={nth}");
            let mut c = Command::new("strace");
            c.args(["-o", "/dev/null", "-e", &inject, env!("CARGO_BIN_EXE_stockade"), "run"]).arg(&file);
            let out = c.output().unwrap();
            let said = String::from_utf8_lossy(&out.stdout).contains("it ran");
            assert!(!said || out.status.code() != Some(125), "{inject}: {}", String::from_utf8_lossy(&out.stderr));
            (ran, not) = (ran + usize::from(said), not + usize::from(!said));
        }
    }
    assert!(ran > 2 && not > 2, "{ran} ran, {not} didn't");
}
