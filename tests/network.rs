//! Networks of machines, on real kernels: what reaches a machine, what it reaches, and what is left of it.
//!
//! Everything happens in network namespaces that a test makes: one stands for the host, one for another host
//! beside it. Nothing leaves this computer.
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

use harness::{Dir, Ran, debian, root};
use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// One at a time: forwarding of the state folder is shared, and so is the clock.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|e| e.into_inner())
}

/// A host and another one beside it, 198.51.100.1 and .2, 2001:db8:1::1 and ::2 (RFC 5737, RFC 3849).
struct Net {
    host: String,
    peer: String,
}

fn sh(line: &str) -> String {
    let out = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

impl Net {
    fn new() -> Net {
        let id = std::process::id();
        let net = Net { host: format!("sk-h{id}"), peer: format!("sk-p{id}") };
        let (h, p) = (&net.host, &net.peer);
        sh(&format!(
            "ip netns add {h}; ip netns add {p}
             ip -n {h} link set lo up; ip -n {p} link set lo up
             ip -n {h} link add out type veth peer name out netns {p}
             ip -n {h} addr add 198.51.100.1/24 dev out; ip -n {p} addr add 198.51.100.2/24 dev out
             ip -n {h} addr add 2001:db8:1::1/64 dev out nodad; ip -n {p} addr add 2001:db8:1::2/64 dev out nodad
             ip -n {h} addr add 169.254.7.1/16 dev out; ip -n {p} addr add 169.254.7.2/16 dev out
             ip -n {p} addr add 168.63.129.16/32 dev out; ip -n {p} addr add fd00:ec2::254/128 dev out nodad
             ip -n {h} link set out up; ip -n {p} link set out up
             ip -n {h} route add 168.63.129.16 dev out; ip -n {h} route add fd00:ec2::254 dev out"
        ));
        net
    }

    /// Runs something there; the file system stays the real host's.
    fn at(&self, namespace: &str, program: &str) -> Command {
        let mut c = Command::new("nsenter");
        c.arg(format!("--net=/run/netns/{namespace}")).arg(program).stdin(Stdio::null());
        c
    }

    fn stockade(&self) -> Command {
        self.at(&self.host, env!("CARGO_BIN_EXE_stockade"))
    }

    /// What a script of Python prints there.
    fn python(&self, namespace: &str, script: &str) -> String {
        let out = self.at(namespace, "python3").args(["-c", &format!("{HELP}\n{script}")]).output().unwrap();
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    fn server(&self, namespace: &str, script: &str) -> Server {
        let mut c = self.at(namespace, "python3");
        Server::of(c.args(["-c", &format!("{HELP}\n{script}; stay()")]))
    }

    fn host(&self, line: &str) -> String {
        sh(&format!("nsenter --net=/run/netns/{} sh -ec '{line}'", self.host))
    }

    /// Links, tables and addresses of the host: what may not change.
    fn snapshot(&self) -> String {
        // The state of forwarding is part of it.
        self.host("ip -br link; ip -br addr; nft list tables; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv6/conf/out/accept_ra")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for n in [&self.host, &self.peer] {
            let _ended = Command::new("ip").args(["netns", "del", n]).status();
        }
    }
}

struct Server(Child);

impl Server {
    /// Started, and bound to its ports: it says so.
    fn of(command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let _n = std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "up\n", "a server of the test's own didn't start");
        Server(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// What scripts of Python share: a server of both families, attempts that name their errno, and answers, which are
/// waited for: on a busy host, or an emulated one, the first packet may be a second late.
const HELP: &str = r#"
import socket, sys, errno, time, os, threading
def attempt(kind, where, port, data=b"x", wait=1.5):
    family = socket.AF_INET6 if ":" in where else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.settimeout(wait)
    try:
        s.connect((where, port))
        s.send(data)
        return s.recv(100).decode()
    except socket.timeout: return "timeout"
    except OSError as e: return errno.errorcode.get(e.errno, str(e.errno))
    finally: s.close()
def answer(kind, where, port):
    # Tries and time: an emulator that stood still for a while has the one without the other.
    end, tries = time.monotonic() + 20, 0
    while True:
        said = attempt(kind, where, port, wait=1.5 if tries < 5 else 4)
        tries += 1
        gone_by = tries >= 8 and time.monotonic() > end
        if said not in ("timeout", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH") or gone_by: return said
        time.sleep(0.05)
def stay():
    print("up", flush=True)
    time.sleep(120)
def serve(kind, port, name, family=socket.AF_INET6, at="::"):
    s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind((at, port))
    def loop():
        if kind == "tcp": s.listen(64)
        while True:
            try:
                if kind == "tcp":
                    c, _ = s.accept(); c.recv(100); c.send(name.encode()); c.close()
                else:
                    _, a = s.recvfrom(100); s.sendto(name.encode(), a)
            except OSError: pass
    threading.Thread(target=loop, daemon=True).start()
"#;

/// A machine that runs a script of Python.
struct Machine {
    dir: Dir,
    name: String,
    file: PathBuf,
}

impl Machine {
    fn new(name: &str, network: &str, script: &str) -> Machine {
        Machine::with(name, network, "", script)
    }

    fn with(name: &str, network: &str, more: &str, script: &str) -> Machine {
        let dir = Dir::new("net");
        let name =
            if name.contains('.') { name.replace('.', "") } else { format!("{name}-{}", std::process::id() % 10_000) };
        dir.write("t.py", &format!("{HELP}\n{script}"));
        let capabilities = if more.contains("capabilities") { "" } else { "capabilities { none }" };
        let extends = if more.contains("@system-service") { "" } else { "extends std/net-server" };
        let text = format!(
            "policy 1\nkernel 6.18\nimport \"std/daemon\"\nimport \"std/groups\"\nmachine {name} {{\n  {extends}\n  root host\n  \
             exec \"/usr/bin/python3\" \"-u\" \"/t/t.py\"\n  user nobody\n  {capabilities}\n  \
             mounts {{ bind \"{}\" -> \"/t\" ro }}\n  network {{\n{network}\n  }}\n  {more}\n}}\n",
            dir.0.display()
        );
        let file = dir.write("t.stockade", &text);
        Machine { dir, name, file }
    }

    /// To its end.
    fn run(&self, net: &Net) -> Ran {
        net.stockade().arg("run").arg(&self.file).output().unwrap().into()
    }

    fn start(&self, net: &Net) -> Running {
        let log = std::fs::File::create(self.dir.0.join("log")).unwrap();
        let mut c = net.stockade();
        let child = c.arg("run").arg(&self.file).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Running { child, log: self.dir.0.join("log"), name: self.name.clone() }
    }
}

/// A machine in the background.
struct Running {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Running {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it says this.
    fn says(&self, text: &str) -> &Running {
        let end = Instant::now() + Duration::from_secs(60);
        // A whole line: a traceback may quote it.
        while !self.said().lines().any(|l| l == text) {
            assert!(Instant::now() < end, "{} never said {text}:\n{}", self.name, self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
        self
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn stop(mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.child.wait().unwrap();
    }

    /// kill -9 of the supervisor.
    fn crash(mut self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

const SERVES: &str = "serve('tcp', 8080, 'web'); serve('udp', 5353, 'names'); print('ready'); time.sleep(60)";

#[test]
fn published_ports_answer_everywhere_and_only_where_they_are_asked_to() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let before = net.snapshot();
    let everywhere = Machine::new(
        "pub",
        "private\npublish tcp 8088 -> 8080\npublish udp 5300 -> 5353\npublish tcp 9000-9002 -> 8080-8082\nlisten tcp 8080-8082\nlisten udp 5353",
        SERVES,
    );
    let m = everywhere.start(&net);
    m.says("ready");
    for address in ["127.0.0.1", "::1", "198.51.100.1", "2001:db8:1::1"] {
        let script = format!(
            "print(answer('tcp','{address}',8088), answer('udp','{address}',5300), answer('tcp','{address}',9000))"
        );
        assert_eq!(net.python(&net.host, &script), "web names web", "{address} from the host itself\n{}", m.said());
        if !address.ends_with("::1") || address.starts_with("2001") {
            let theirs = if address == "127.0.0.1" { continue } else { &script };
            assert_eq!(net.python(&net.peer, theirs), "web names web", "{address} from another host");
        }
    }
    // A port that isn't published isn't reached, neither through the host nor by a route to the machine itself.
    assert_eq!(net.python(&net.peer, "print(attempt('tcp','198.51.100.1',8080))"), "ECONNREFUSED");
    let own = net
        .host("ip -br addr")
        .lines()
        .find(|l| l.starts_with("ve-"))
        .unwrap()
        .split_whitespace()
        .nth(2)
        .unwrap()
        .to_owned();
    let machine = own
        .split('/')
        .next()
        .unwrap()
        .rsplit_once('.')
        .map(|(a, b)| format!("{a}.{}", b.parse::<u8>().unwrap() + 1))
        .unwrap();
    sh(&format!("ip -n {} route add {machine} via 198.51.100.1", net.peer));
    assert_eq!(net.python(&net.peer, &format!("print(attempt('tcp','{machine}',8080))")), "timeout");
    assert_eq!(net.python(&net.host, &format!("print(answer('tcp','{machine}',8080))")), "web", "the host itself may");
    // The ports are taken for everybody else.
    let taken = "s = socket.socket(); s.bind(('0.0.0.0', 8088)); s.listen(1)";
    let out = net.at(&net.host, "python3").args(["-c", &format!("{HELP}\n{taken}")]).output().unwrap();
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("Address already in use"));
    let second = Machine::new("pub2", "private\npublish tcp 8088 -> 8080\nlisten tcp 8080", SERVES);
    let ran = second.run(&net);
    assert!(ran.code == 125 && ran.err.contains("another program of this host has it"), "{}", ran.err);
    assert!(ran.err.contains("t.stockade:14"), "the line is named: {}", ran.err);
    assert!(ran.err.contains("end the other program"), "{}", ran.err);
    let away = Machine::new("away", "private\npublish tcp 203.0.113.9:8090 -> 8080\nlisten tcp 8080", SERVES);
    let ran = away.run(&net);
    assert!(ran.code == 125 && ran.err.contains("no link of this host has this address"), "{}", ran.err);
    assert!(ran.err.contains("publish on an address of this host"), "{}", ran.err);
    m.stop();

    let bound = Machine::new(
        "bound",
        "private\npublish tcp 127.0.0.1:8088 -> 8080\npublish tcp \"[2001:db8:1::1]:8089\" -> 8080\nlisten tcp 8080",
        SERVES,
    );
    let m = bound.start(&net);
    m.says("ready");
    assert_eq!(net.python(&net.host, "print(answer('tcp','127.0.0.1',8088))"), "web");
    for (from, place, port) in [
        (&net.host, "198.51.100.1", 8088),
        (&net.peer, "198.51.100.1", 8088),
        (&net.host, "::1", 8088),
        (&net.host, "127.0.0.1", 8089),
    ] {
        assert_eq!(
            net.python(from, &format!("print(attempt('tcp','{place}',{port}))")),
            "ECONNREFUSED",
            "{place} {port}"
        );
    }
    assert_eq!(net.python(&net.peer, "print(answer('tcp','2001:db8:1::1',8089))"), "web");
    m.stop();
    let far = Machine::new("far", "private\npublish tcp 192.0.2.200:8088 -> 8080\nlisten tcp 8080", SERVES);
    let ran = far.run(&net);
    assert!(ran.code == 125 && ran.err.contains("no link of this host has this address"), "{}", ran.err);
    assert_eq!(net.snapshot(), before, "nothing is left");
}

#[test]
fn a_machine_reaches_what_is_written_and_nothing_else() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let peer = net.server(&net.peer, "serve('tcp', 443, 'peer'); serve('tcp', 80, 'peer'); serve('udp', 53, 'dns')");
    let _local = net.server(
        &net.host,
        "serve('tcp', 22, 'lo', socket.AF_INET, '127.0.0.1'); serve('tcp', 25, 'host'); serve('udp', 25, 'host')",
    );
    let tries = "
for kind, where, port in [('tcp','198.51.100.2',443),('tcp','2001:db8:1::2',443),('tcp','198.51.100.2',80),('udp','198.51.100.2',53),
                          ('tcp','169.254.7.2',443),('tcp','198.51.100.1',25),('udp','198.51.100.1',25),('tcp','127.0.0.1',22)]:
    print(kind, where, port, attempt(kind, where, port), flush=True)
try:
    gateway = [l.split()[2] for l in open('/proc/net/route').readlines()[1:] if l.split()[1] == '00000000'][0]
    gateway = '.'.join(str(int(gateway[i:i+2], 16)) for i in (6,4,2,0))
    print('gateway 25', attempt('tcp', gateway, 25), 'gateway 22', attempt('tcp', gateway, 22))
except Exception as e: print(e)
";
    let said = |m: &Machine| {
        let ran = m.run(&net);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        ran.out
    };
    // Nothing is written: Landlock refuses TCP before a packet is made, the host's rules refuse the rest.
    let out = said(&Machine::new("none", "private\nlisten tcp 8080", tries));
    for line in [
        "tcp 198.51.100.2 443 EACCES",
        "tcp 2001:db8:1::2 443 EACCES",
        "udp 198.51.100.2 53 EHOSTUNREACH",
        "tcp 169.254.7.2 443 EACCES",
        "udp 198.51.100.1 25 EHOSTUNREACH",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    // One block and one port of it; the packet filter holds what Landlock can't say.
    let out = said(&Machine::new(
        "some",
        "private\nconnect tcp 443 to 198.51.100.0/24\nconnect udp 53 to 198.51.100.2",
        tries,
    ));
    for line in [
        "tcp 198.51.100.2 443 peer",
        "tcp 2001:db8:1::2 443 EACCES",
        "tcp 198.51.100.2 80 EACCES",
        "udp 198.51.100.2 53 dns",
        "tcp 169.254.7.2 443 EHOSTUNREACH",
        "udp 198.51.100.1 25 EHOSTUNREACH",
    ] {
        assert!(
            out.contains(line)
                || line.contains("2001") && out.contains("tcp 2001:db8:1::2 443 EACCES")
                || out.contains(&line.replace("EACCES", "EHOSTUNREACH")),
            "{line}\n{out}"
        );
    }
    assert!(!out.contains("2001:db8:1::2 443 peer") && !out.contains("80 peer"), "{out}");
    // Everything: but neither the host's loopback nor link-local addresses.
    let out = said(&Machine::new("all", "private\negress any\nresolver none", tries));
    for line in [
        "tcp 198.51.100.2 443 peer",
        "tcp 2001:db8:1::2 443 peer",
        "tcp 198.51.100.2 80 peer",
        "udp 198.51.100.2 53 dns",
        "tcp 169.254.7.2 443 EHOSTUNREACH",
        "tcp 198.51.100.1 25 host",
        "tcp 127.0.0.1 22 ECONNREFUSED",
        "gateway 25 host gateway 22 ECONNREFUSED",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    // What it asks for counts, whatever the host makes of it: the proxies of clouds' metadata are made so.
    let theirs = "table ip theirs { chain p { type nat hook prerouting priority -100; ip daddr 169.254.7.9 tcp dport 443 dnat to 198.51.100.1:25; }; }";
    net.host(&format!("nft \"{theirs}\""));
    let ask = "print(attempt('tcp','169.254.7.9',443), attempt('tcp','198.51.100.1',25))";
    assert_eq!(said(&Machine::new("proxy", "private\negress any\nresolver none", ask)).trim(), "EHOSTUNREACH host");
    net.host("nft delete table ip theirs");
    // The host's loopback, by a translation of the host's own: for others it leads nowhere (route_localnet).
    let theirs =
        "table ip theirs { chain p { type nat hook prerouting priority -100; tcp dport 8000 dnat to 127.0.0.1:22; }; }";
    net.host(&format!("nft \"{theirs}\""));
    let ask = "print(attempt('tcp','198.51.100.1',8000), attempt('tcp','198.51.100.2',8000))";
    for network in ["egress any\nresolver none", "connect tcp 8000 to 0.0.0.0/0", "connect tcp 8000"] {
        let said = said(&Machine::new("loop", &format!("private\n{network}"), ask));
        assert_eq!(said.trim(), "EHOSTUNREACH EHOSTUNREACH", "{network}");
    }
    net.host("nft delete table ip theirs");
    // What is for all of a network is reached by name only.
    let heard = Dir::new("heard");
    let file = heard.write("heard", "");
    let _listener = net.server(
        &net.host,
        &format!(
            "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 26))
def loop():
    while True:
        said = s.recvfrom(9)[0].decode()
        with open('{}', 'a') as f: f.write(said + ' ')
threading.Thread(target=loop, daemon=True).start()",
            file.display()
        ),
    );
    let ask = "
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
def send(what, to):
    try: s.sendto(what, (to, 26))
    except OSError: pass
send(b'all', '198.51.100.255'); send(b'one', '198.51.100.1'); time.sleep(0.3)";
    said(&Machine::new("wide", "private\nconnect udp 26", ask));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one ");
    // Nor does a name lead there: which address is a network's own the host decides, not the policy.
    said(&Machine::new("named", "private\nconnect udp 26 to 198.51.100.0/24", ask));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one one ");
    // A link-local source, which who administers the link can give itself, is nobody's.
    let ask = "
if os.fork() == 0: os.execv('/sbin/ip', 'ip address add fe80::5/64 dev host0 nodad'.split())
os.wait()
for what, source in [(b'far', '::'), (b'near', 'fe80::5')]:
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind((source, 0, 0, socket.if_nametoindex('host0') if what == b'near' else 0))
    s.sendto(what, ('2001:db8:1::1', 26))
time.sleep(0.3)";
    let more = "capabilities { keep net_admin why \"the test\" }\n  syscalls { allow [@system-service, @inet, @netlink-route] }";
    said(&Machine::with("near", "private\nconnect udp 26", more, ask));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one one far ");
    // What clouds keep at other addresses, too, by name.
    let asks = "for where in ('168.63.129.16', 'fd00:ec2::254'): print(attempt('tcp', where, 443))";
    let out = said(&Machine::new("cloud", "private\negress any\nresolver none", asks));
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["EHOSTUNREACH", "EACCES"]);
    let named = "private\nconnect tcp 443 to [168.63.129.16, fd00:ec2::254]";
    let out = said(&Machine::new("cloud", named, &asks.replace("attempt", "answer")));
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["peer"; 2]);
    // Link-local addresses by name.
    let out = said(&Machine::new("meta", "private\nconnect tcp 443 to 169.254.7.2", tries));
    assert!(out.contains("tcp 169.254.7.2 443 peer") && !out.contains("198.51.100.2 443 peer"), "{out}");
    drop(peer);
}

/// With raw sockets in hand: another's address, a router's voice, the host's loopback.
#[test]
fn d61_nobody_speaks_in_anothers_name() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let raw = "
import struct
def checksum(b):
    if len(b) % 2: b += b'\\0'
    s = sum(struct.unpack('!%dH' % (len(b)//2), b)); s = (s >> 16) + (s & 0xffff); return ~(s + (s >> 16)) & 0xffff
def packet(source, to, port):
    payload = b'spoofed'
    udp = struct.pack('!HHHH', 4000, port, 8 + len(payload), 0) + payload
    ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 7, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(to))
    return ip[:10] + struct.pack('!H', checksum(ip)) + ip[12:] + udp
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x800))
route = [l.split() for l in open('/proc/net/route').readlines()[1:]]
gateway = [r[2] for r in route if r[1] == '00000000'][0]
gateway = '.'.join(str(int(gateway[i:i+2], 16)) for i in (6,4,2,0))
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'wake', (gateway, 9))
time.sleep(0.3)
mac = [l.split()[3] for l in open('/proc/net/arp').readlines()[1:] if l.split()[0] == gateway][0]
mac = bytes(int(x, 16) for x in mac.split(':'))
own = [int(x) for x in gateway.split('.')]; own[3] += 1; own = '.'.join(map(str, own))
for source, to in [('192.0.2.99','198.51.100.2'), ('198.51.100.1','198.51.100.2'), ('127.0.0.1','198.51.100.1'), (own,'127.0.0.1')]:
    s.sendto(packet(source, to, 7777), ('host0', 0x800, 0, 0, mac))
s.sendto(packet(own, '198.51.100.2', 7777), ('host0', 0x800, 0, 0, mac))
ra = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
ra.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
try: ra.sendto(bytes([134,0,0,0,64,0,7,8]) + bytes(8), ('ff02::1', 0, 0, socket.if_nametoindex('host0')))
except OSError as e: print(e)
print('sent')
time.sleep(0.5)
";
    // Its own profile: std/daemon asserts that nobody does this.
    let more = "capabilities { keep net_raw why \"the test\" }\n  syscalls {\n    allow socket(family in [AF_PACKET, AF_INET6], type & SOCK_TYPE_MASK in [SOCK_RAW, SOCK_DGRAM])\n    override deny socket why \"the test\"\n  }";
    let more = more
        .replace("\n    override deny socket why \"the test\"", "")
        .replace("allow socket(", "allow [@system-service, @inet]\n    allow socket(");
    let listen = "
import json
found = []
def hear(at):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((at, 7777)); s.settimeout(6)
    try:
        while True: found.append((at, s.recvfrom(100)[1][0]))
    except OSError: pass
ts = [threading.Thread(target=hear, args=(a,)) for a in AT]
[t.start() for t in ts]; [t.join() for t in ts]
print(json.dumps(found))
";
    let hear = |namespace: &str, at: &str| {
        let script = format!("{HELP}\nAT={at}\n{listen}");
        net.at(namespace, "python3").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap()
    };
    let (peer, host) = (hear(&net.peer, "['198.51.100.2']"), hear(&net.host, "['127.0.0.1', '198.51.100.1']"));
    let routes = || net.host("grep -v ^f[ef] /proc/net/ipv6_route | cut -c1-70,140- | sort");
    let before = routes();
    let m = Machine::with("spoof", "private\nconnect udp 7777 to 198.51.100.2\nconnect udp 9", &more, raw);
    let ran = m.run(&net);
    assert!(ran.code == 0 && ran.out.contains("sent"), "{}{}", ran.out, ran.err);
    let heard = |c: Child| String::from_utf8_lossy(&c.wait_with_output().unwrap().stdout).trim().to_owned();
    // Its own packet came, as the host's; no other did.
    assert_eq!(heard(peer), "[[\"198.51.100.2\", \"198.51.100.1\"]]");
    assert_eq!(heard(host), "[]");
    assert_eq!(routes(), before, "no route was learnt");
}

#[test]
fn members_of_a_zone_talk_by_name_and_strangers_do_not() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let before = net.snapshot();
    let db = Machine::new(
        "db",
        "zone backend\nlisten tcp 5432",
        "serve('tcp', 5432, 'rows'); print('ready'); time.sleep(60)",
    );
    let other =
        Machine::new("lone", "private\nlisten tcp 5432", "serve('tcp', 5432, 'rows'); print('ready'); time.sleep(60)");
    let (m, o) = (db.start(&net), other.start(&net));
    m.says("ready");
    o.says("ready");
    let lone = sh("cat /run/stockade/machines/lone-*/state.json");
    assert!(lone.contains("lone"), "{lone}");
    let ask = format!(
        "for f in (socket.AF_INET, socket.AF_INET6):
    for info in socket.getaddrinfo('{}', 5432, f, socket.SOCK_STREAM):
        print(info[4][0], answer('tcp', info[4][0], 5432), attempt('tcp', info[4][0], 5433))",
        db.name
    );
    let app = Machine::new("app", "zone backend\nconnect tcp 5432", &ask);
    let ran = app.run(&net);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines.len() == 2 && lines.iter().all(|l| l.ends_with("rows EACCES")), "{}{}", ran.out, ran.err);
    let address = lines[0].split(' ').next().unwrap();
    // Another zone, and none at all: no name, and no way even by the address.
    for network in ["zone elsewhere\negress any\nresolver none", "private\negress any\nresolver none"] {
        let script = format!(
            "print(attempt('tcp', '{address}', 5432))\ntry: print(socket.gethostbyname('{}'))\nexcept OSError: print('unknown')",
            db.name
        );
        let ran = Machine::new("strange", network, &script).run(&net);
        assert_eq!(ran.out.trim(), "timeout\nunknown", "{}", ran.err);
    }
    // The one machine of its own doesn't reach the other of its own.
    let theirs = net
        .host("ip -br addr")
        .lines()
        .filter(|l| l.starts_with("ve-lone"))
        .map(|l| l.split_whitespace().nth(2).unwrap().to_owned())
        .next()
        .unwrap();
    let (start, last) = theirs
        .split('/')
        .next()
        .unwrap()
        .rsplit_once('.')
        .map(|(a, b)| (a.to_owned(), b.parse::<u8>().unwrap()))
        .unwrap();
    let script = format!("print(attempt('tcp', '{start}.{}', 5432))", last + 1);
    let ran = Machine::new("alike", "private\negress any\nresolver none", &script).run(&net);
    assert_eq!(ran.out.trim(), "timeout", "{}", ran.err);
    // A member that comes later is known to those that are there.
    assert!(std::path::Path::new("/run/stockade/zones/backend/hosts").exists());
    m.stop();
    o.stop();
    assert!(!std::path::Path::new("/run/stockade/zones/backend").exists(), "gone with its last member");
    assert_eq!(net.snapshot(), before);
}

/// The host's own chain that drops forwarded packets is named before anybody wonders.
#[test]
fn a_host_that_drops_forwarded_packets_is_told() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    net.host("nft add table ip theirs; nft \"add chain ip theirs FORWARD { type filter hook forward priority 0; policy drop; }\"");
    let m = Machine::new("warned", "private\nconnect tcp 443", "print('ran')");
    let ran = m.run(&net);
    assert!(
        ran.code == 0 && ran.err.contains("warning[W0602]") && ran.err.contains("ip theirs FORWARD"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("t.stockade:13"), "{}", ran.err);
    assert!(net.host("nft list table ip theirs").contains("policy drop"), "it isn't touched");
}

/// Every way out leaves nothing after the next command, and nothing of others is touched.
#[test]
fn d65_nothing_is_left_on_any_way_out() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    net.host(
        "nft add table inet theirs; nft add chain inet theirs c; ip link add dummy0 type bridge; ip link set dummy0 up",
    );
    let before = net.snapshot();
    let network = "zone leftovers\npublish tcp 8088 -> 8080\nlisten tcp 8080\negress any";
    let m = Machine::with("left", network, "limits { memory 64MiB; tasks 16; cpu 100% }", SERVES);
    let again = Machine::new("again", "private", "print('ran')");
    let groups = || sh("find /sys/fs/cgroup -path '*stockade/left-*' -type d");
    // An end of its own; asked to; killed; its init killed; killed in the middle of coming up.
    for way in 0..8 {
        let running = m.start(&net);
        match way {
            0 => {
                running.says("ready");
                assert!(!groups().is_empty());
                running.stop();
            }
            1 => {
                running.says("ready");
                running.crash();
            }
            2 => {
                running.says("ready");
                let text = std::fs::read_to_string(format!("/run/stockade/machines/{}/state.json", m.name)).unwrap();
                let record: serde_json::Value = serde_json::from_str(&text).unwrap();
                let program = record["program"].as_i64().unwrap();
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(program as i32), nix::sys::signal::Signal::SIGKILL)
                    .unwrap();
                drop(running);
            }
            n => {
                std::thread::sleep(Duration::from_millis(20 * n));
                running.crash();
            }
        }
        std::thread::sleep(Duration::from_millis(100));
        let ran = again.run(&net);
        assert_eq!((ran.code, ran.out.trim()), (0, "ran"), "{}", ran.err);
        assert_eq!(net.snapshot(), before, "way {way}");
        assert_eq!(groups(), "", "way {way}");
        assert!(!std::path::Path::new("/run/stockade/zones/leftovers").exists(), "way {way}");
        assert_eq!(sh("ls -A /run/stockade/subnets /run/stockade/machines | grep -c left- || true").trim(), "0");
    }
}

/// Names that begin with the same twenty letters, many at once: fifty, or as many as STOCKADE_MACHINES says (two
/// hundred take a minute and a half, most of it the kernel's).
#[test]
fn d64_many_machines_with_names_alike() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let before = net.snapshot();
    let dir = Dir::new("many");
    let wait = harness::probe("witness");
    let count: usize = std::env::var("STOCKADE_MACHINES").map_or(50, |n| n.parse().unwrap());
    let mut all = Vec::new();
    for n in 0..count {
        let text = format!(
            "policy 1\nkernel 6.18\nmachine twenty-letters-alike-{n} {{\n  root host\n  exec \"/usr/bin/sleep\" \"120\"\n  user nobody\n  \
             capabilities {{ none }}\n  network {{ private; publish tcp {} -> 80; listen tcp 80 }}\n  \
             syscalls {{ allow [execve, brk, access, openat, newfstatat, fstat, mmap, close, read, pread64, arch_prctl, set_tid_address, \
             set_robust_list, rseq, mprotect, munmap, prlimit64, getrandom, clock_nanosleep, exit_group, write] }}\n}}\n",
            20_000 + n
        );
        let file = dir.write(&format!("{n}.stockade"), &text);
        let err = std::fs::File::create(dir.0.join(format!("{n}.err"))).unwrap();
        let child = net.stockade().arg("run").arg(&file).stdout(Stdio::null()).stderr(err).spawn().unwrap();
        all.push(Server(child));
    }
    let _unused = wait;
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let running = sh(
            "grep -l '\"digest\":\"[0-9a-f]' /run/stockade/machines/twenty-letters-alike-*/state.json 2>/dev/null | wc -l || true",
        );
        if running.trim() == count.to_string() {
            break;
        }
        let said: String =
            (0..200).map(|n| std::fs::read_to_string(dir.0.join(format!("{n}.err"))).unwrap_or_default()).collect();
        assert!(Instant::now() < end, "{running}\n{said}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let links = net.host("ip -br link");
    let names: BTreeSet<&str> =
        links.lines().filter_map(|l| l.strip_prefix("ve-")).map(|l| l.split('@').next().unwrap()).collect();
    assert_eq!(names.len(), count, "{links}");
    let addresses = net.host("ip -br addr");
    let own: BTreeSet<&str> =
        addresses.lines().filter(|l| l.starts_with("ve-")).filter_map(|l| l.split_whitespace().nth(2)).collect();
    assert_eq!(own.len(), count);
    drop(all);
    std::thread::sleep(Duration::from_millis(500));
    let ran = Machine::new("after", "private", "print('ran')").run(&net);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(net.snapshot(), before);
}

/// Whoever manages links takes a `ve-*` for its own (80-container-ve.network of systemd); one that is the machine's is
/// seen as such from its first sight on.
#[test]
fn a_link_is_never_seen_without_its_second_name() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let mut c = net.at(&net.host, "ip");
    let monitor = c.args(["-o", "monitor", "link"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let ran = Machine::new("seen", "private", "print('ran')").run(&net);
    assert_eq!(ran.code, 0, "{}", ran.err);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(monitor.id() as i32), nix::sys::signal::SIGTERM).unwrap();
    let said = String::from_utf8_lossy(&monitor.wait_with_output().unwrap().stdout).into_owned();
    let machines: Vec<&str> = said.lines().filter(|l| l.contains("group 21332")).collect();
    assert!(machines.iter().any(|l| l.contains(": ve-seen")), "{said}");
    for line in machines {
        assert!(line.contains(": stockade-") || line.contains("altname stockade-seen"), "{said}");
    }
}

/// From its first instruction to its last it knocks where it may not; not one packet arrives.
#[test]
fn d63_no_packet_passes_while_a_machine_comes_and_goes() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let p = &net.peer;
    sh(&format!(
        "ip netns exec {p} nft 'add table inet count; add chain inet count c {{ type filter hook prerouting priority -400; }}; add rule inet count c udp dport 7777 counter; add rule inet count c tcp dport 7777 counter; add rule inet count c udp dport 53 counter'"
    ));
    let knock = "
import itertools
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + 0.6
n = 0
while time.monotonic() < end:
    for to in ('198.51.100.2',):
        try: s.sendto(b'knock', (to, 7777)); n += 1
        except OSError: n += 1
    if n % 10 == 0:
        try: s.sendto(b'allowed', ('198.51.100.2', 53))
        except OSError: pass
    time.sleep(0.001)
print(n)
";
    let m = Machine::new("knock", "private\nconnect udp 53 to 198.51.100.2", knock);
    let mut knocks = 0;
    for n in 0..12 {
        if n % 3 == 2 {
            let running = m.start(&net);
            std::thread::sleep(Duration::from_millis(150 + 40 * n));
            running.crash();
            std::thread::sleep(Duration::from_millis(50));
        } else {
            let ran = m.run(&net);
            assert_eq!(ran.code, 0, "{}", ran.err);
            knocks += ran.out.trim().parse::<u64>().unwrap();
        }
    }
    assert!(knocks > 2000, "{knocks}");
    let seen = sh(&format!("ip netns exec {p} nft list chain inet count c"));
    let counts: Vec<&str> =
        seen.lines().filter_map(|l| l.split("packets ").nth(1)).map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(&counts[..2], ["0", "0"], "{seen}");
    assert_ne!(counts[2], "0", "what is granted passes: {seen}");
}

/// On the host's own links: a bridge, a macvlan and, where the kernel has it, an ipvlan. STOCKADE_IPVLAN=1 says that
/// it has to have it: tests/vm does, with another kernel than this one's.
#[test]
fn bridges_macvlans_and_ipvlans_hold_the_same_rules() {
    if !root() {
        return;
    }
    let _one = alone();
    // These are looked up below /sys, which shows the namespace of who mounted it: here the real host's.
    let id = std::process::id();
    let (br, peer) = (format!("skb{id}"), format!("sk-l{id}"));
    struct Gone(String, String);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _a = Command::new("ip").args(["link", "del", &self.0]).status();
            let _b = Command::new("ip").args(["netns", "del", &self.1]).status();
        }
    }
    let _gone = Gone(br.clone(), peer.clone());
    sh(&format!(
        "ip netns add {peer}; ip -n {peer} link set lo up; ip link add {br} type bridge; ip link set {br} up
         ip link add {br}p type veth peer name lan netns {peer}; ip link set {br}p master {br}; ip link set {br}p up
         ip -n {peer} addr add 203.0.113.9/24 dev lan; ip -n {peer} link set lan up"
    ));
    let there = |script: &str| {
        let out = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{peer}"))
            .args(["python3", "-c", &format!("{HELP}\n{script}")])
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    let mut c = Command::new("nsenter");
    c.arg(format!("--net=/run/netns/{peer}"));
    c.args(["python3", "-c", &format!("{HELP}\nserve('tcp', 443, 'lan'); serve('udp', 53, 'lan'); stay()")]);
    let _server = Server::of(&mut c);
    let script = "serve('tcp', 8080, 'web'); serve('udp', 8081, 'hidden'); print(answer('tcp','203.0.113.9',443), attempt('udp','203.0.113.9',53)); print('ready'); time.sleep(60)";
    let mut ip = Command::new("ip");
    let ipvlan = ip.args(["link", "add", "link", &br, "name", &format!("{br}i"), "type", "ipvlan"]);
    let ipvlan = ipvlan.status().unwrap().success();
    assert!(ipvlan || std::env::var("STOCKADE_IPVLAN").is_err(), "no ipvlan");
    let kinds: &[&str] = if ipvlan { &["bridge", "macvlan", "ipvlan"] } else { &["bridge", "macvlan"] };
    if ipvlan {
        sh(&format!("ip link del {br}i"));
    } else {
        let m = Machine::new("lan-ipvlan", &format!("ipvlan {br}\naddress 203.0.113.7/24"), "print('ran')");
        let out = harness::stockade().arg("run").arg(&m.file).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(125) && err.contains("help: the kernel has no such links"), "{err}");
    }
    for kind in kinds {
        let network =
            format!("{kind} {br}\naddress 203.0.113.7/24\nlisten tcp 8080\nconnect tcp 443 to 203.0.113.0/24");
        let m = Machine::new(&format!("lan-{kind}"), &network, script);
        let log = std::fs::File::create(m.dir.0.join("log")).unwrap();
        let child =
            harness::stockade().arg("run").arg(&m.file).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let running = Running { child, log: m.dir.0.join("log"), name: m.name.clone() };
        running.says("ready");
        // How the frames went, for whoever reads that they didn't arrive.
        let frames = || {
            let look = format!(
                "ip -s link show master {br}; bridge fdb show br {br}; ip -n {peer} neigh; ip -n {peer} -s link show lan"
            );
            let out = Command::new("sh").arg("-c").arg(look).output().unwrap();
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        assert!(
            running.said().contains("lan EPERM")
                || running.said().contains("lan timeout")
                || running.said().contains("lan EHOSTUNREACH"),
            "{kind}: {}\n{}",
            running.said(),
            frames()
        );
        assert_eq!(
            there(
                "print(answer('tcp','203.0.113.7',8080), attempt('udp','203.0.113.7',8081), attempt('tcp','203.0.113.7',22))"
            ),
            "web timeout timeout",
            "{kind}"
        );
        running.stop();
    }
    // Whoever may send any frame speaks IPv4, IPv6 and ARP with its own address all the same.
    let hear = format!(
        "{HELP}\ns = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.settimeout(6)
heard = set()
try:
    while True:
        f = s.recv(200)
        heard.add(f[6:12].hex() + ' ' + f[12:14].hex())
        heard.update(m.decode() for m in (b'MARK', b'HIDE') if m in f)
        if b'the end' in f: break
except OSError: pass
print(sorted(heard))"
    );
    let mut c = Command::new("nsenter");
    c.arg(format!("--net=/run/netns/{peer}")).args(["python3", "-c", &hear]);
    let ear = c.stdout(Stdio::piped()).spawn().unwrap();
    let frames = "
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(('host0', 0))
mac = s.getsockname()[4]; time.sleep(1.5)
for kind in ['88b5', '8100000188b6', '810000010800', '8100000181000002', '88a8000108004500']:
    s.send(bytes([255] * 6) + mac + bytes.fromhex(kind) + bytes(60))
# Fragments: of a datagram, and of a router's advertisement whose protocol stands in the second one.
def fragment(after, offset, payload):
    part = bytes([after, 0]) + (offset | (offset == 0)).to_bytes(2, 'big') + bytes(4) + payload
    head = bytes.fromhex('60000000') + len(part).to_bytes(2, 'big') + bytes([44, 255])
    head += socket.inet_pton(socket.AF_INET6, '2001:db8:5::7') + socket.inet_pton(socket.AF_INET6, 'ff02::1')
    s.send(bytes.fromhex('333300000001') + mac + bytes.fromhex('86dd') + head + part)
fragment(17, 0, bytes.fromhex('0fa0 0009 0014 0000') + b'MARK' + bytes(4))
fragment(60, 0, bytes([58, 0, 1, 4]) + b'HIDE')
fragment(60, 8, bytes([134, 0, 0, 0, 64, 0, 7, 8]) + b'HIDE' + bytes(4))
print(mac.hex())
time.sleep(0.5)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.sendto(b'the end', ('203.0.113.9', 9))
time.sleep(0.5)
";
    let more = "capabilities { keep net_raw why \"the test\" }\n  syscalls {\n    allow [@system-service, @inet]\n    \
                allow socket(family == AF_PACKET, type & SOCK_TYPE_MASK == SOCK_RAW)\n  }";
    let network = format!(
        "bridge {br}\naddress 203.0.113.7/24\naddress 2001:db8:5::7/64\nlisten tcp any\nlisten udp any\negress any\nresolver none"
    );
    let m = Machine::with("frames", &network, more, frames);
    let ran: Ran = harness::stockade().arg("run").arg(&m.file).output().unwrap().into();
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let heard = ear.wait_with_output().unwrap().stdout;
    let heard = String::from_utf8_lossy(&heard).into_owned();
    let (mac, own) = (ran.out.trim(), format!("{} ", ran.out.trim()));
    let of_it: Vec<&str> = heard.split('\'').filter_map(|h| h.strip_prefix(&own)).collect();
    assert!(of_it.contains(&"0800"), "{mac} {heard}");
    assert!(heard.contains("MARK") && !heard.contains("HIDE"), "{mac} {heard}");
    assert!(of_it.iter().all(|t| ["0800", "0806", "86dd"].contains(t)), "{mac} {heard}");
    assert!(!sh("nft list tables").contains("stockade-lan"), "{}", sh("nft list tables; ls /run/stockade/machines"));
    let ran = Machine::new("nolink", "macvlan nosuchlink\naddress 203.0.113.7/24", "pass");
    let ran: Ran = harness::stockade().arg("plan").arg(&ran.file).output().unwrap().into();
    assert!(
        ran.code == 3 && ran.err.contains("error[E0611]") && ran.err.contains("no link `nosuchlink`"),
        "{}",
        ran.err
    );
}

/// A booted Debian with its own networkd running, and without: the addresses are the plan's.
#[test]
fn a_booted_debian_has_its_network_with_and_without_networkd() {
    if !root() || debian().is_none() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let _peer = net.server(&net.peer, "serve('tcp', 443, 'peer')");
    let dir = Dir::new("boot");
    let name = format!("booted-{}", std::process::id() % 10_000);
    let text =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/debian.stockade"))
            .unwrap();
    let text = text.replace("machine debian", &format!("machine {name}")).replace("on debian", &format!("on {name}"));
    let text = text
        .replace("    listen tcp any\n", "    listen tcp any\n    resolver 198.51.100.2\n    publish tcp 2222 -> 22\n");
    let file = dir.write("t.stockade", &text);
    let log = std::fs::File::create(dir.0.join("log")).unwrap();
    let child = net.stockade().arg("run").arg(&file).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let running = Running { child, log: dir.0.join("log"), name: name.clone() };
    let state = format!("/run/stockade/machines/{name}/state.json");
    let end = Instant::now() + Duration::from_secs(30);
    let pid = loop {
        let v: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&state).unwrap_or_default()).unwrap_or_default();
        match v["program"].as_i64().filter(|p| *p > 0) {
            Some(p) => break p,
            None => assert!(Instant::now() < end, "{}", running.said()),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let inside = |line: &str| {
        let out = Command::new("nsenter").args(["-t", &pid.to_string(), "-a", "/bin/sh", "-c", line]).output().unwrap();
        (String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)).trim().to_owned()
    };
    while !["running", "degraded"].contains(&inside("systemctl is-system-running").as_str()) {
        assert!(Instant::now() < end + Duration::from_secs(40), "{}", running.said());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(inside("systemctl is-system-running"), "running", "{}", inside("systemctl --failed"));
    let addresses = || {
        inside("ip -br addr show host0")
            .split_whitespace()
            .filter(|a| a.contains('.') || a.starts_with("fd"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let reach = "timeout 3 bash -c 'exec 3<>/dev/tcp/198.51.100.2/443; echo x >&3; head -c 4 <&3'";
    let before = addresses();
    assert_eq!(before.len(), 2, "{before:?}");
    assert_eq!(inside(reach), "peer");
    assert!(inside("cat /etc/resolv.conf").contains("nameserver 198.51.100.2"));
    let started = inside(
        "systemctl start systemd-networkd && networkctl wait-online --help >/dev/null 2>&1; sleep 2; systemctl is-active systemd-networkd",
    );
    assert!(started.ends_with("active"), "{started}");
    assert_eq!(addresses(), before, "its own networkd leaves them: {}", inside("networkctl status host0"));
    assert_eq!(inside(reach), "peer");
    assert!(
        inside("networkctl status host0").contains("/run/systemd/network/10-host0.network"),
        "{}",
        inside("networkctl status host0")
    );
    // Its root can't change what holds it, although it may administer its own namespace.
    let flush = inside(
        "nft flush ruleset 2>&1 || true; ip link set host0 mtu 1400; ip addr add 198.51.100.77/32 dev host0; ping -c1 -W1 198.51.100.2 2>&1 | tail -1",
    );
    assert!(net.host("nft list tables").contains(&format!("stockade-{name}")), "{flush}");
    running.stop();
}

/// A port for this host's own programs stays theirs, whatever a neighbour writes into its packets.
#[test]
fn d62_what_is_published_on_loopback_is_not_reached_from_outside() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    for place in ["127.0.0.1:8088", "8088"] {
        let network = format!("private\npublish tcp {place} -> 8080\nlisten tcp 8080");
        let m = Machine::new("lo", &network, "serve('tcp', 8080, 'web'); print('ready'); time.sleep(60)");
        let running = m.start(&net);
        running.says("ready");
        assert_eq!(net.python(&net.host, "print(answer('tcp','127.0.0.1',8088))"), "web");
        // A neighbour that routes 127.0.0.1 here.
        let p = &net.peer;
        sh(&format!(
            "nsenter --net=/run/netns/{p} sh -ec 'echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; ip route flush table local proto kernel dev lo 2>/dev/null || true
             ip route del local 127.0.0.0/8 dev lo table local 2>/dev/null || true; ip route del local 127.0.0.1 dev lo table local 2>/dev/null || true
             ip route replace 127.0.0.1/32 via 198.51.100.1'"
        ));
        let script = "
s = socket.socket(); s.settimeout(1.5); s.bind(('198.51.100.2', 0))
try: s.connect(('127.0.0.1', 8088)); s.send(b'x'); print(s.recv(9))
except OSError as e: print('no')";
        let machine = net.host("nft list ruleset | grep -o \"dnat ip to [0-9.]*\" | head -n1");
        let machine = machine.trim().trim_start_matches("dnat ip to ").to_owned();
        net.host(&format!(
            "nft add table ip control; nft \"add chain ip control f {{ type filter hook forward priority -20; }}\"; nft add rule ip control f ip daddr {machine} tcp dport 8080 counter"
        ));
        let passed = || !net.host("nft list chain ip control f").contains("packets 0 ");
        net.python(&net.peer, script);
        assert!(!passed(), "{place}");
        // With a rule that lets them the same packets get there: the neighbour's way is a real one.
        net.host(&format!(
            "nft \"add chain ip control c {{ type nat hook prerouting priority -110; }}\"; nft add rule ip control c tcp dport 8088 dnat to {machine}:8080"
        ));
        net.python(&net.peer, script);
        assert!(passed(), "{place}");
        net.host("nft delete table ip control");
        running.stop();
    }
}

/// What is published is translated on its way from the host's own programs too, before anybody asks who they are.
#[test]
fn d62_who_may_come_is_asked_of_the_hosts_own_programs() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    net.host("ip addr add 203.0.113.5/32 dev lo");
    let network = "private\npublish tcp 8088-8090 -> 8080-8082\npublish udp 8088 -> 5353
        listen tcp 8080 from 203.0.113.0/24\nlisten tcp [8081, 8082]\nlisten udp 5353 from 203.0.113.0/24";
    let serves = "serve('tcp', 8080, 'web'); serve('tcp', 8081, 'open'); serve('udp', 5353, 'names')";
    let m = Machine::new("from", network, &format!("{serves}; print('ready'); time.sleep(60)"));
    let running = m.start(&net);
    running.says("ready");
    let ask = "
for where in ['127.0.0.1', '::1', '198.51.100.1', '2001:db8:1::1']:
    print(answer('tcp', where, 8089), attempt('tcp', where, 8088), attempt('udp', where, 8088))
print(answer('tcp', '203.0.113.5', 8088), answer('udp', '203.0.113.5', 8088))";
    let refused = "open timeout EPERM\n".repeat(4);
    assert_eq!(net.python(&net.host, ask), format!("{refused}web names"));
    running.stop();
    // Each part of the range is told with who reaches it.
    let told: Ran = net.stockade().arg("explain").arg(&m.file).output().unwrap().into();
    let whoever = "of every address of this host, loopback included: whoever reaches this host";
    for line in [format!("tcp 8088 {whoever}, of them 203.0.113.0/24"), format!("tcp 8089-8090 {whoever}")] {
        assert!(
            told.out.lines().any(|l| l.contains(&line) && l.contains(", of them") == line.contains(", of them")),
            "{}",
            told.out
        );
    }
}

/// What the host routes for others goes on, and its settings are afterwards what they were.
#[test]
fn a_host_that_routes_already_goes_on_routing() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let third = format!("sk-t{}", std::process::id());
    struct Gone(String);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _gone = Command::new("ip").args(["netns", "del", &self.0]).status();
        }
    }
    let _gone = Gone(third.clone());
    let h = &net.host;
    sh(&format!(
        "ip netns add {third}; ip -n {third} link set lo up; ip -n {h} link add lan type veth peer name lan netns {third}
         ip -n {h} addr add 203.0.113.1/24 dev lan; ip -n {third} addr add 203.0.113.2/24 dev lan
         ip -n {h} link set lan up; ip -n {third} link set lan up
         ip -n {third} route add default via 203.0.113.1; ip -n {} route add 203.0.113.0/24 via 198.51.100.1",
        net.peer
    ));
    let settings = "sysctl -a 2>/dev/null | grep -E \"net.ipv[46].conf.(all|default|lan|out)[.](forwarding|accept_redirects|accept_ra|rp_filter)|ip_forward =\"";
    net.host("sysctl -qw net.ipv4.conf.all.accept_redirects=0");
    let _server = net.server(&net.peer, "serve('tcp', 443, 'peer')");
    let reach = |wanted: &str| assert_eq!(net.python(&third, "print(attempt('tcp','198.51.100.2',443))"), wanted);
    let m = Machine::new(
        "beside",
        "private\negress any\nresolver none",
        "print(answer('tcp','198.51.100.2',443)); print('ready'); time.sleep(60)",
    );
    for forwards in [false, true] {
        net.host(&format!(
            "sysctl -qw net.ipv4.ip_forward={0}; sysctl -qw net.ipv4.conf.all.accept_redirects=0
             sysctl -qw net.ipv6.conf.default.forwarding={0}",
            u8::from(forwards)
        ));
        let before = net.host(settings);
        let wanted = if forwards { "peer" } else { "timeout" };
        reach(wanted);
        let running = m.start(&net);
        running.says("ready");
        assert!(running.said().contains("peer"), "{}", running.said());
        reach(wanted);
        running.stop();
        reach(wanted);
        assert_eq!(net.host(settings), before);
    }
}

/// Links of others may have such a name too.
#[test]
fn somebody_elses_link_is_neither_taken_nor_removed() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let m = Machine::new("nsp", "private\npublish tcp 8088 -> 80\nlisten tcp 80", "print('ran')");
    net.host(&format!("ip link add ve-{} type bridge", m.name));
    let ran = m.run(&net);
    assert!(
        ran.code == 125 && ran.err.contains(&format!("this host has a link `ve-{}` already", m.name)),
        "{}",
        ran.err
    );
    assert!(net.host("ip -br link").contains(&format!("ve-{}", m.name)));
    // Before rules are loaded that would judge the packets of that link as the machine's.
    assert!(ran.err.contains("lock the name"), "{}", ran.err);
    let ran = Machine::new("other", "private", "print('ran')").run(&net);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(net.host("ip -br link").contains(&format!("ve-{}", m.name)));
}

/// As a reload of nftables.service does it: `flush ruleset`.
#[test]
fn d63_rules_that_are_taken_away_come_back_and_nothing_passes() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let _server = net.server(&net.peer, "serve('udp', 53, 'dns'); serve('udp', 7777, 'secret')");
    let knock = "
serve('tcp', 8080, 'web')
print('ready', flush=True)
end = time.monotonic() + 8
seen = set()
while time.monotonic() < end:
    seen.add(attempt('udp','198.51.100.2',7777, wait=0.05))
    seen.add('granted ' + attempt('udp','198.51.100.2',53, wait=0.5))
print(sorted(seen), flush=True)
time.sleep(30)
";
    let m = Machine::new(
        "flushed",
        "private\npublish tcp 8088 -> 8080\nlisten tcp 8080\nconnect udp 53 to 198.51.100.2",
        knock,
    );
    let running = m.start(&net);
    running.says("ready");
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(700));
        net.host("nft flush ruleset");
    }
    std::thread::sleep(Duration::from_secs(1));
    let tables = net.host("nft list tables");
    assert!(tables.contains(&format!("stockade-{}", m.name)) && tables.contains("stockade.forwarding"), "{tables}");
    for address in ["127.0.0.1", "::1", "198.51.100.1"] {
        assert_eq!(net.python(&net.host, &format!("print(answer('tcp','{address}',8088))")), "web", "{address}");
    }
    let end = Instant::now() + Duration::from_secs(20);
    while !running.said().contains("granted dns") {
        assert!(Instant::now() < end, "{}", running.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!running.said().contains("'secret'"), "{}", running.said());
    assert!(running.said().contains("are back"), "it is told: {}", running.said());
    running.stop();
}

/// Between the kernel's flush and the link's fall packets pass: what was connected then doesn't go on. A flush that
/// comes while the rules are brought back is found as well, and two machines don't take each other's repairs for
/// losses.
#[test]
fn d63_what_got_through_while_the_rules_were_gone_is_cut_off() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let _server = net.server(&net.host, "serve('udp', 7070, 'secret')");
    let knock = "
gateway = [l.split()[2] for l in open('/proc/net/route') if l.split()[1] == '00000000'][0]
gateway = socket.inet_ntoa(bytes.fromhex(gateway)[::-1])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 4444)); s.setblocking(False)
print('ready', flush=True)
answers, turn = 0, 0
while True:
    try: s.sendto(b'x', (gateway, 7070))
    except OSError: pass
    try: s.recv(99); answers += 1
    except OSError: pass
    time.sleep(0.0003)
    turn += 1
    if turn % 500 == 0: print('answers', answers, flush=True)
";
    let m = Machine::new("cut", "private\nlisten tcp 8080", knock);
    let other = Machine::new(
        "beside",
        "private\npublish tcp 8089 -> 8080\nlisten tcp 8080",
        "
serve('tcp', 8080, 'web')
print('ready', flush=True); time.sleep(60)",
    );
    // Nobody reads what the second one's supervisor says: it looks after its machine all the same.
    let (_unread, full) = nix::unistd::pipe().unwrap();
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&full, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    while nix::unistd::write(&full, &[b'.'; 4096]).is_ok() {}
    nix::fcntl::fcntl(&full, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
    let log = std::fs::File::create(other.dir.0.join("log")).unwrap();
    let child = net.stockade().arg("run").arg(&other.file).stdout(log).stderr(full).spawn().unwrap();
    let beside = Running { child, log: other.dir.0.join("log"), name: other.name.clone() };
    let running = m.start(&net);
    running.says("ready");
    beside.says("ready");
    // Connections are tracked all the time, as with a firewall of the host's own.
    std::fs::write(
        m.dir.0.join("own.nft"),
        "flush ruleset\ntable inet own { chain input { type filter hook input priority 10; ct state established accept; }; }\n",
    )
    .unwrap();
    let told = || running.said().matches("are back").count();
    let whole = || {
        let end = Instant::now() + Duration::from_secs(10);
        for name in [&*format!("stockade-{}", m.name), &*format!("stockade-{}", other.name), "stockade.forwarding"] {
            while !net.host("nft list tables").contains(name) {
                assert!(Instant::now() < end, "{name} is gone");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    };
    // A line for each 500 questions: how many answers came until then.
    let answers = || -> Vec<u32> {
        running.said().lines().filter_map(|l| l.strip_prefix("answers ")?.trim().parse().ok()).collect()
    };
    // The second flush meets the repair at each of its stages.
    for pause in [0, 2, 4, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60] {
        net.host(&format!("nft -f {0}/own.nft; sleep 0.0{pause:02}; nft -f {0}/own.nft", m.dir.0.display()));
        std::thread::sleep(Duration::from_millis(400));
        whole();
    }
    let before = told();
    assert!((1..=26).contains(&before), "{before}");
    // The guard is everybody's: replaced at once, as for another machine, it is nobody's loss.
    let guard = m.dir.0.join("guard.nft");
    net.host(&format!(
        "(echo delete table inet stockade.forwarding; nft list table inet stockade.forwarding) >{0}; nft -f {0}",
        guard.display()
    ));
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(told(), before, "nothing was lost");
    whole();
    let until = answers().len() + 4;
    let end = Instant::now() + Duration::from_secs(20);
    while answers().len() < until {
        assert!(Instant::now() < end, "{}", running.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    let last: Vec<u32> = answers().split_off(until - 3);
    println!("{last:?}");
    assert!(last.windows(2).all(|w| w.first() == w.last()), "a connection of the moment between goes on: {last:?}");
    assert_eq!(told(), before, "they mend each other");
    assert_eq!(net.python(&net.host, "print(answer('tcp','127.0.0.1',8089))"), "web");
    running.stop();
    beside.stop();
}

/// The kernel takes up a connection in its middle as if it were new: where the machine listens it has to begin.
#[test]
fn d63_a_connection_begins_at_its_beginning() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let m =
        Machine::new("middle", "private\nlisten tcp 8080", "serve('tcp', 8080, 'web'); print('ready'); time.sleep(60)");
    let running = m.start(&net);
    running.says("ready");
    let own = net.host(&format!("ip -4 -br addr show ve-{}", m.name));
    let host = own.split_whitespace().find_map(|w| w.strip_suffix("/30")).unwrap().to_owned();
    // Raw, so that the host's own TCP knows nothing of it: what comes back, by the flags that are sent.
    let script = format!(
        "import struct
host = '{host}'; machine = host.rsplit('.', 1)[0] + '.' + str(int(host.rsplit('.', 1)[1]) + 1)
def checksum(b):
    s = sum(struct.unpack('!%dH' % (len(b)//2), b)); s = (s >> 16) + (s & 0xffff); return ~(s + (s >> 16)) & 0xffff
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP); s.settimeout(0.1)
def answer(port, flags):
    tcp = struct.pack('!HHIIBBHHH', port, 8080, 1000, 2000, 0x50, flags, 1000, 0, 0)
    pseudo = socket.inet_aton(host) + socket.inet_aton(machine) + struct.pack('!BBH', 0, 6, len(tcp))
    try: s.sendto(tcp[:16] + struct.pack('!H', checksum(pseudo + tcp)) + tcp[18:], (machine, 0))
    except OSError as e: return errno.errorcode[e.errno]
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try: p = s.recv(200)
        except OSError: continue
        tcp = p[(p[0] & 15) * 4:]
        if struct.unpack('!HH', tcp[:4]) == (8080, port): return tcp[13]
print([answer(5000 + flags, flags) for flags in (2, 16, 24, 17, 18)])"
    );
    // SYN is answered by SYN and ACK; ACK, PSH with ACK, FIN with ACK and SYN with ACK don't leave the host.
    assert_eq!(net.python(&net.host, &script), "[18, 'EPERM', 'EPERM', 'EPERM', 'EPERM']");
    running.stop();
}

/// Who gets the addresses of a machine that is gone doesn't get its connections.
#[test]
fn connections_of_a_machine_that_is_gone_are_not_its_successors() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let _server = net.server(&net.peer, "serve('udp', 5000, 'peer')");
    let script = "
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); s.bind(('', 4444))
try: s.connect(('198.51.100.2', 5000)); s.send(b'x'); print(s.recv(9).decode())
except OSError as e: print(errno.errorcode.get(e.errno, 'timeout'))";
    let first = Machine::new("heir", "private\nconnect udp 5000 to 198.51.100.2", script);
    assert_eq!(first.run(&net).out.trim(), "peer");
    let second = Machine::new("heir", "private", script);
    assert_eq!(first.name, second.name);
    assert_eq!(second.run(&net).out.trim(), "EHOSTUNREACH");
}

/// What is sent to a service of the host is never led to a machine that spoke by the same port before, and what was
/// led to a machine isn't led anywhere when it is gone.
#[test]
fn a_machine_takes_no_port_of_the_host() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    // The peer says by which port it was asked, and asks that port and 5700 from its own when it is told to.
    let _peer = net.server(
        &net.peer,
        "
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('198.51.100.2', 5700))
def loop():
    while True:
        data, a = s.recvfrom(100)
        if data == b'own': s.sendto(str(a[1]).encode(), a)
        else: s.sendto(b'for the host', ('198.51.100.1', int(data)))
threading.Thread(target=loop, daemon=True).start()",
    );
    let asked = |port: &str| {
        net.python(
            &net.host,
            &format!(
                "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', {port})); s.settimeout(3)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'{port}', ('198.51.100.2', 5700))
try: print(s.recv(100).decode())
except socket.timeout: print('nothing')"
            ),
        )
    };
    let script = "
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.bind(('', 5700)); s.connect(('198.51.100.2', 5700))
s.send(b'own'); print('by', s.recv(100).decode()); print('ready'); time.sleep(60)";
    let m = Machine::new("shadow", "private\nconnect udp 5700 to 198.51.100.2", script);
    for ends in [Running::stop as fn(Running), Running::crash] {
        let running = m.start(&net);
        running.says("ready");
        let said = running.said();
        let by = said.lines().find_map(|l| l.strip_prefix("by ")).unwrap().to_owned();
        assert!(by.parse::<u16>().unwrap() >= 52000, "{said}");
        assert_eq!(asked("5700"), "for the host");
        ends(running);
        let status: Ran = net.stockade().arg("status").output().unwrap().into();
        assert_eq!(status.code, 0, "{}", status.err);
        assert_eq!(asked(&by), "for the host", "the kernel still leads it to {}", m.name);
        assert!(!net.host("nft list tables").contains("shadow"), "{}", status.out);
    }
    let high = Machine::new("high", "private\npublish udp 52000 -> 5000\nlisten udp 5000", "pass").run(&net);
    assert!(high.code == 125 && high.err.contains("E0519"), "{}", high.err);
    let own = Machine::new("high", "private\npublish udp 127.0.0.1:52000 -> 5000\nlisten udp 5000", "pass").run(&net);
    assert_eq!(own.code, 0, "{}", own.err);
}

/// The kernel has one table of neighbours for all namespaces: a machine has no more than its few places in it, whomever
/// it looks for, and whomever it says to be.
#[test]
fn a_machine_does_not_fill_the_tables_of_neighbours() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    // `entries` of all namespaces, in hexadecimal (neigh_stat_seq_show(), net/core/neighbour.c).
    let entries = || -> usize {
        ["arp", "ndisc"]
            .iter()
            .map(|t| std::fs::read_to_string(format!("/proc/net/stat/{t}_cache")).unwrap())
            .map(|t| usize::from_str_radix(t.lines().nth(1).unwrap().split_whitespace().next().unwrap(), 16).unwrap())
            .sum()
    };
    let looks = "
import random
own = [l.split() for l in open('/proc/net/if_inet6') if l.split()[5] == 'host0'][0][0]
for near in (own[:16], 'fe80' + '0' * 12):
    for n in range(600):
        s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.setblocking(False)
        to = bytes.fromhex(near) + random.randbytes(8)
        try: s.sendto(b'x', (socket.inet_ntop(socket.AF_INET6, to), 9, 0, socket.if_nametoindex('host0')))
        except OSError: pass
print('ready'); time.sleep(60)";
    let says = "
import random
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(('host0', 0)); mac = s.getsockname()[4]
route = [l.split() for l in open('/proc/net/route').readlines()[1:]]
gateway = bytes.fromhex([r[2] for r in route if r[1] == '00000000'][0])[::-1]
own = bytes.fromhex([l.split() for l in open('/proc/net/if_inet6') if l.split()[5] == 'host0'][0][0])
host = own[:15] + bytes([1])
group = bytes.fromhex('ff0200000000000000000001ff') + host[13:]
def total(b):
    n = sum(int.from_bytes(b[i:i+2], 'big') for i in range(0, len(b), 2)); n = (n >> 16) + (n & 65535)
    return (~(n + (n >> 16)) & 65535).to_bytes(2, 'big')
for n in range(600):
    s.send(bytes([255] * 6) + mac + bytes.fromhex('0806000108000604 0001') + mac + random.randbytes(4) + bytes(6) + gateway)
    source = bytes.fromhex('fe80000000000000') + random.randbytes(8)
    text = bytes([135, 0, 0, 0, 0, 0, 0, 0]) + host + bytes([1, 1]) + mac
    text = text[:2] + total(source + group + len(text).to_bytes(4, 'big') + bytes([0, 0, 0, 58]) + text) + text[4:]
    s.send(bytes.fromhex('3333ff') + host[13:] + mac + bytes.fromhex('86dd60000000') + len(text).to_bytes(2, 'big') + bytes([58, 255]) + source + group + text)
# What the kernel doesn't follow would leave under the machine's own address.
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
for kind in (130, 143, 135, 136):
    try: raw.sendto(bytes([kind, 0, 0, 0]) + bytes(20), ('2001:db8:1::2', 0))
    except OSError: pass
print('ready'); time.sleep(60)";
    let raw = "capabilities { keep net_raw why \"the test\" }\n  syscalls {\n    allow [@system-service, @inet]\n    \
               allow socket(family in [AF_PACKET, AF_INET6], type & SOCK_TYPE_MASK == SOCK_RAW)\n  }";
    let hear = format!(
        "{HELP}\ns = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86dd)); s.settimeout(8)
try:
    while True:
        f = s.recv(200)
        if f[8:12].hex() == 'fd53746f': print('heard', f[6], f[40])
except OSError: pass"
    );
    for (more, script) in [("", looks), (raw, says)] {
        let ear = net.at(&net.peer, "python3").args(["-c", &hear]).stdout(Stdio::piped()).spawn().unwrap();
        let before = entries();
        let m = Machine::with("neighbours", "private\negress any why \"the test\"", more, script);
        let running = m.start(&net);
        running.says("ready");
        let now = entries();
        assert!(now < before + 100, "{before} -> {now}");
        assert_eq!(net.python(&net.host, "print(attempt('udp', '198.51.100.2', 9))"), "ECONNREFUSED");
        running.stop();
        let heard = ear.wait_with_output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&heard), "");
    }
}

/// Members see who asks; a thousand ports fit under the usual limit of open files.
#[test]
fn members_know_each_other_and_many_ports_fit() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let who = "
s = socket.socket(socket.AF_INET); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 5432)); s.listen(5)
print('ready', flush=True)
while True:
    c, a = s.accept(); c.send(a[0].encode()); c.close()
";
    let db = Machine::new("seen", "zone seers\nlisten tcp 5432", who);
    let running = db.start(&net);
    running.says("ready");
    let ask = format!(
        "a = socket.getaddrinfo('{}', 5432, socket.AF_INET)[0][4]; s = socket.create_connection(a); print(s.recv(99).decode(), s.getsockname()[0])",
        db.name
    );
    let ran = Machine::new("asker", "zone seers\nconnect tcp 5432", &ask).run(&net);
    let pair: Vec<&str> = ran.out.split_whitespace().collect();
    assert!(pair.len() == 2 && pair[0] == pair[1], "{}{}", ran.out, ran.err);
    running.stop();

    let many = Machine::new(
        "many",
        "private\npublish tcp 20000-20999 -> 30000-30999\nlisten tcp 30000-30999",
        "
import resource
serve('tcp', 30998, 'late'); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0]); print('ready'); time.sleep(60)",
    );
    let log = std::fs::File::create(many.dir.0.join("log")).unwrap();
    let mut c = Command::new("prlimit");
    c.args([
        "--nofile=1024:8192",
        "nsenter",
        &format!("--net=/run/netns/{}", net.host),
        env!("CARGO_BIN_EXE_stockade"),
        "run",
    ]);
    let child = c.arg(&many.file).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let running = Running { child, log: many.dir.0.join("log"), name: many.name.clone() };
    running.says("ready");
    assert!(running.said().contains("1024"), "the machine's own limit is what it was: {}", running.said());
    assert_eq!(net.python(&net.host, "print(answer('tcp','127.0.0.1',20998))"), "late");
    running.stop();
}

/// One machine's leftovers that can't be removed, and a record that can't be read, are nobody else's trouble.
#[test]
fn what_is_damaged_or_stuck_stops_nobody() {
    if !root() {
        return;
    }
    let _one = alone();
    let net = Net::new();
    let m = Machine::with("torn", "zone torn\nlisten tcp 80", "limits { tasks 16 }", "print('ready'); time.sleep(60)");
    let running = m.start(&net);
    running.says("ready");
    running.crash();
    std::fs::write(format!("/run/stockade/machines/{}/state.json", m.name), "{half").unwrap();
    // What was forwarded before isn't known any more: nothing is guessed, and what to do is said.
    let before = std::path::Path::new("/run/stockade/forwarding/before.json");
    std::fs::write(before, "{half").unwrap();
    let ran = Machine::new("unsure", "private", "print('ran')").run(&net);
    std::fs::remove_file(before).unwrap();
    assert!(ran.code == 125 && ran.out.is_empty() && ran.err.contains("before.json is damaged"), "{}", ran.err);
    assert!(ran.err.contains("delete the table inet stockade.forwarding, then the file"), "{}", ran.err);
    let stuck = std::path::Path::new("/run/stockade/machines/stuck-here");
    std::fs::create_dir_all(stuck.join("unexpected")).unwrap();
    let ran = Machine::new("goes-on", "private", "print('ran')").run(&net);
    let said = ran.err.clone();
    let _cleared = std::fs::remove_dir_all(stuck);
    assert_eq!((ran.code, ran.out.trim()), (0, "ran"), "{said}");
    assert!(said.contains("machine `stuck-here`"), "{said}");
    assert!(!net.host("nft list tables").contains("stockade-torn"), "found by its name alone");
    assert!(!std::path::Path::new("/run/stockade/zones/torn").exists());
    assert_eq!(sh(&format!("find /sys/fs/cgroup -path '*stockade/{}' -type d", m.name)), "");
}
