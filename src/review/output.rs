//! Reviews for people and machines: text, Markdown for a pull request, SARIF 2.1.0.

use super::diff::{Machine, Row};
use super::risk::Risk;
use crate::policy::loader;
use crate::proof::order::Effect;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Something found at a place, in the words of SARIF.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Stable name of the rule.
    pub rule: String,
    /// `error`, `warning` or `note`.
    pub level: &'static str,
    /// What was found.
    pub message: String,
    /// `file:line`, where there is one.
    pub place: Option<String>,
    /// What identifies it when lines move: no line numbers in it.
    pub identity: String,
}

/// A log of SARIF 2.1.0 (OASIS). The fingerprint is made of what was found and not of where, so that moved
/// lines keep their history.
pub fn sarif(findings: &[Finding]) -> Value {
    let mut rules: Vec<&str> = findings.iter().map(|f| f.rule.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    // What is found twice is two findings.
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut results: Vec<Value> = Vec::with_capacity(findings.len());
    for f in findings {
        let nth = seen.entry(&f.identity).or_default();
        *nth += 1;
        let location = |place: &String| {
            let (file, line) = place.rsplit_once(':').unwrap_or((place, "1"));
            let line = line.parse::<u64>().unwrap_or(1).max(1);
            json!({ "physicalLocation": {
                "artifactLocation": { "uri": uri(file) },
                "region": { "startLine": line },
            }})
        };
        results.push(json!({
            "ruleId": f.rule,
            "level": f.level,
            "message": { "text": plain(&f.message) },
            "locations": f.place.iter().map(location).collect::<Vec<_>>(),
            "partialFingerprints": { "stockade/v1": hex(&format!("{} {nth}", f.identity)) },
        }));
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "stockade",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|r| json!({ "id": r })).collect::<Vec<_>>(),
            }},
            "columnKind": "utf16CodeUnits",
            "results": results,
        }],
    })
}

/// Text as a message of SARIF, in which links and numbered arguments stand for something (3.11.5 and 3.11.6).
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            (']', Some('(')) => out.push_str("\\]"),
            ('{', Some(d)) if d.is_ascii_digit() => out.push_str("{{"),
            _ => out.push(c),
        }
    }
    out
}

/// A command line as a shell reads it, of the words after the program's name.
pub fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-._/=:@%+,^".contains(c);
    let quoted = |w: &str| match !w.is_empty() && w.chars().all(bare) {
        true => w.to_owned(),
        false => format!("'{}'", w.replace('\'', "'\\''")),
    };
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    format!("stockade {}", words.join(" "))
}

/// Is it a place in a file that somebody wrote, and not in the library?
pub fn is_written(place: &str) -> bool {
    !loader::library().any(|name| name == file_of(place))
}

/// The file of a place: machines of one name are told apart by it.
pub fn file_of(place: &str) -> &str {
    place.rsplit_once(':').map_or(place, |(file, _)| file)
}

/// A path as a URI reference (RFC 3986); the library's files have a scheme of their own.
fn uri(file: &str) -> String {
    let mut out = String::from(if loader::library().any(|name| name == file) { "stockade:" } else { "" });
    for b in file.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

/// The first 16 bytes of a SHA-256, in hex.
pub fn hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// A review's rows as findings.
pub fn findings(machines: &[Machine]) -> Vec<Finding> {
    let one = |m: &Machine, r: &Row| Finding {
        rule: format!("{}/{}", effect(r.effect), r.domain.word()),
        level: match (r.effect, r.risk) {
            (Effect::Narrowed, _) => "note",
            (_, Risk::High | Risk::Critical) => "error",
            (_, Risk::Medium) => "warning",
            _ => "note",
        },
        message: format!(
            "{} {}: {}{} ({}). Was: {}, now: {}. {}.{}{}",
            m.name,
            effect(r.effect),
            r.text,
            elsewhere(r),
            r.risk.word(),
            r.was,
            r.now,
            r.consequence,
            r.why.as_ref().map(|w| format!(" Why: \"{}\".", w.escape_debug())).unwrap_or_default(),
            if r.via.is_empty() { String::new() } else { format!(" Through {}.", r.via.join(" > ")) },
        ),
        // A line that is gone has no place in what is looked at.
        place: Some(if r.gone || !is_written(&r.line) { m.place.clone() } else { r.line.clone() }),
        identity: format!(
            "{} {} {:?} {} {} {}",
            file_of(&m.place),
            m.name,
            r.effect,
            r.domain.word(),
            r.text,
            r.others.join(", ")
        ),
    };
    let undecided = |m: &Machine| {
        m.undecided.as_ref().map(|why| Finding {
            rule: "undecided/syscalls".into(),
            level: "error",
            message: format!("{} can't be compared: {why}", m.name),
            place: Some(m.place.clone()),
            identity: format!("{} {} undecided", file_of(&m.place), m.name),
        })
    };
    machines.iter().flat_map(|m| undecided(m).into_iter().chain(m.rows.iter().map(move |r| one(m, r)))).collect()
}

fn elsewhere(r: &Row) -> String {
    match r.gone {
        true => format!(" (gone, it was {})", r.line),
        false if !is_written(&r.line) => format!(" (by {})", r.line),
        false => String::new(),
    }
}

fn effect(e: Effect) -> &'static str {
    match e {
        Effect::Widened => "widened",
        Effect::Changed => "changed",
        Effect::Narrowed => "narrowed",
    }
}

fn sign(e: Effect) -> char {
    match e {
        Effect::Widened => '+',
        Effect::Changed => '~',
        Effect::Narrowed => '-',
    }
}

pub(super) fn heading(m: &Machine) -> String {
    let mut parts = Vec::new();
    for e in [Effect::Widened, Effect::Changed, Effect::Narrowed] {
        match m.count(e) {
            0 => {}
            n => parts.push(format!("{n} {}", effect(e))),
        }
    }
    if m.lines_without_effect > 0 {
        let s = if m.lines_without_effect == 1 { "" } else { "s" };
        parts.push(format!("{} line{s} without effect", m.lines_without_effect));
    }
    // What isn't decided is no proof of anything.
    if m.undecided.is_some() {
        parts.insert(0, "cannot decide".into());
    }
    if parts.is_empty() {
        parts.push("no effect".into());
    }
    parts.join("  ")
}

fn proof(m: &Machine) -> String {
    match (&m.undecided, m.state, m.calls_proved_equal) {
        (Some(why), ..) => format!("cannot decide: {why}"),
        (None, "both", true) => "calls proved equal for all 2^512 inputs of a filter".into(),
        (None, "both", false) => "differences of calls are complete: proved by diagrams of both".into(),
        _ => "only one side has this machine".into(),
    }
}

/// The machines that a reader has to look at, the gravest first, and those where nothing at all is to be seen.
pub(super) fn apart(machines: &[Machine]) -> (Vec<&Machine>, Vec<&Machine>) {
    let alike = |m: &&Machine| m.calls_proved_equal && m.state == "both" && m.undecided.is_none();
    let (quiet, mut loud): (Vec<_>, Vec<_>) =
        machines.iter().partition(|m| alike(m) && m.rows.is_empty() && m.lines_without_effect == 0);
    loud.sort_by_key(|m| std::cmp::Reverse((m.undecided.is_some(), m.gravest(), m.rows.len().min(1))));
    (loud, quiet)
}

/// How many machines there are, and the gravest of what changed in any of them.
pub(super) fn summary(machines: &[Machine]) -> Option<(usize, Risk)> {
    let worst = machines.iter().filter_map(Machine::gravest).max();
    worst.map(|w| (machines.len(), w)).filter(|(count, _)| *count > 1)
}

/// What is said of machines where nothing changed: their names, so many that a reader still reads them.
fn quiet(machines: &[&Machine], name: impl Fn(&str) -> String) -> (String, String) {
    const NAMED: usize = 20;
    let names: Vec<String> = machines.iter().take(NAMED).map(|m| name(&m.name)).collect();
    match machines.len() {
        1 => (names.concat(), "no effect".into()),
        n if n > NAMED => (format!("{n} machines"), format!("no effect ({} and {} more)", names.join(", "), n - NAMED)),
        n => (format!("{n} machines"), format!("no effect ({})", names.join(", "))),
    }
}

/// For a terminal: one screen.
pub fn text(machines: &[Machine]) -> String {
    let mut out = String::new();
    let (loud, alike) = apart(machines);
    for m in loud {
        let gravest = m.gravest().map(|r| format!("        max risk {}", r.word().to_uppercase())).unwrap_or_default();
        out.push_str(&format!("{}   {}{gravest}\n", m.name, heading(m)));
        for r in &m.rows {
            let risk = if r.effect == Effect::Narrowed { String::new() } else { r.risk.word().to_uppercase() };
            let gone = if r.gone { " (gone)" } else { "" };
            out.push_str(&format!(
                "  {risk:<8} {} {:<12} {}   {}{gone}\n",
                sign(r.effect),
                r.domain.word(),
                r.text,
                r.line
            ));
            if r.effect != Effect::Narrowed {
                out.push_str(&format!("             {} ({})\n", r.consequence, r.reference));
            }
            let mut notes = Vec::new();
            notes.extend(r.why.as_ref().map(|w| format!("why \"{}\"", w.escape_debug())));
            notes.push(format!("was: {}", r.was));
            if r.gone {
                notes.push(format!("now: {}", r.now));
            }
            if !r.via.is_empty() {
                notes.push(format!("through {}", r.via.join(" > ")));
            }
            notes.extend(r.witness.iter().map(|w| format!("shown by {w}")));
            out.push_str(&format!("             {}\n", notes.join("    ")));
        }
        let modelled = m.rows.iter().any(|r| r.domain.is_modelled());
        out.push_str(&format!("  proof    {}{}\n", proof(m), if modelled { "; paths are modelled" } else { "" }));
    }
    if let Some(first) = alike.first() {
        let (who, what) = quiet(&alike, str::to_owned);
        out.push_str(&format!("{who}   {what}\n  proof    {}\n", proof(first)));
    }
    out
}

/// Text of a policy in Markdown: as code, where nothing of it is a link, a mention or markup.
pub fn code(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // What encloses code is longer than any run of it in there (CommonMark 6.1).
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let (fence, space) = ("`".repeat(longest + 1), if longest > 0 { " " } else { "" });
    format!("{fence}{space}{text}{space}{fence}")
}

/// The same in a cell of a table, where a bar would end it.
pub fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// One comment of a pull request is at most 65,536 characters, of up to four bytes.
const MOST_MARKDOWN: usize = 60_000;

/// A document in Markdown that stops where a comment is full, and says so.
pub struct Comment {
    text: String,
    full: bool,
}

impl Comment {
    /// Begins with a heading.
    pub fn new(heading: &str) -> Comment {
        Comment { text: format!("### {heading}\n\n"), full: false }
    }

    /// Would a part fit as a whole?
    fn has_room(&self, part: &str) -> bool {
        !self.full && self.text.len() + part.len() <= MOST_MARKDOWN
    }

    /// Adds a part whole, or none of it and of what follows.
    pub fn push(&mut self, part: &str) {
        self.full = !self.has_room(part);
        if !self.full {
            self.text.push_str(part);
        }
    }

    /// Details that a reader opens, a line each; those that fit.
    pub fn fold(&mut self, summary: &str, details: &str) {
        const END: &str = "\n</details>\n\n";
        if details.is_empty() {
            return;
        }
        self.push(&format!("\n<details><summary>{summary}</summary>\n\n"));
        let opened = !self.full;
        for line in details.split_inclusive('\n') {
            self.push(line);
        }
        if opened {
            // What a comment takes is more than the bound by far.
            self.text.push_str(END);
        }
    }

    /// Ends with the command that makes it again.
    pub fn end(self, command: &str) -> String {
        let more = if self.full { "\nThe rest doesn't fit a comment: run the command below.\n" } else { "" };
        format!("{}{more}\nMade by {}\n", self.text, code(command))
    }
}

/// A machine's rows.
fn table(m: &Machine) -> String {
    let rows: String = m.rows.iter().map(|r| line(r, "")).collect();
    format!("{}\n\n| | risk | domain | what | line |\n|---|---|---|---|---|\n{rows}\n", code(&m.name))
}

/// A row of a table, with the cell of its machine where the table is of several.
fn line(r: &Row, machine: &str) -> String {
    let risk = if r.effect == Effect::Narrowed { "" } else { r.risk.word() };
    let (domain, what, gone) = (r.domain.word(), cell(&r.text), if r.gone { " (gone)" } else { "" });
    format!("| {} | {risk} |{machine} {domain} | {what}{gone} | {} |\n", sign(r.effect), cell(&r.line))
}

/// For a pull request: summary, table, details folded, and the command that makes it again.
pub fn markdown(machines: &[Machine], command: &str) -> String {
    let mut out = Comment::new("Policy review");
    // What matters comes first: the gravest machine, all summaries, then the rows, then what is said of them.
    let worst = summary(machines);
    let (machines, alike) = apart(machines);
    if let Some((count, worst)) = worst {
        out.push(&format!("{count} machines, max risk **{}**.\n\n", worst.word()));
    }
    for m in &machines {
        let gravest = m.gravest().map(|r| format!(", max risk **{}**", r.word())).unwrap_or_default();
        out.push(&format!("**{}**: {}{gravest}. {}.\n\n", code(&m.name), heading(m).replace("  ", ", "), proof(m)));
    }
    if let Some(first) = alike.first() {
        let (who, what) = quiet(&alike, code);
        out.push(&format!("**{who}**: {what}. {}.\n\n", proof(first)));
    }
    let mut rows: Vec<(&Machine, &Row)> = machines.iter().flat_map(|m| m.rows.iter().map(move |r| (*m, r))).collect();
    let tables: String = machines.iter().filter(|m| !m.rows.is_empty()).map(|m| table(m)).collect();
    if out.has_room(&tables) {
        out.push(&tables);
    } else {
        // Of what is cut off nothing is graver than what is shown, whichever machine it is of.
        rows.sort_by_key(|(_, r)| std::cmp::Reverse((r.effect != Effect::Narrowed).then_some(r.risk)));
        out.push("| | risk | machine | domain | what | line |\n|---|---|---|---|---|---|\n");
        rows.iter().for_each(|(m, r)| out.push(&line(r, &format!(" {} |", cell(&m.name)))));
        out.push("\n");
    }
    let mut details = String::new();
    for (m, r) in rows {
        let why = r.why.as_ref().map(|w| format!(", why: {}", code(w))).unwrap_or_default();
        let shown = r.witness.as_ref().map(|w| format!(", shown by {}", code(w))).unwrap_or_default();
        let through = if r.via.is_empty() { String::new() } else { format!(", through {}", code(&r.via.join(" > "))) };
        let others = if r.others.is_empty() { String::new() } else { format!(", also {}", code(&r.others.join(", "))) };
        details.push_str(&format!(
            "- {} {} {}: {} ({}); was: {}, now: {}{why}{through}{shown}{others}\n",
            sign(r.effect),
            code(&m.name),
            code(&r.text),
            r.consequence,
            r.reference,
            code(&r.was),
            code(&r.now)
        ));
    }
    out.fold("Consequences and reasons", &details);
    out.end(command)
}
