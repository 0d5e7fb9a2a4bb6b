//! Reviews for people and machines: text, Markdown for a pull request, SARIF 2.1.0.

use super::diff::{Machine, Row};
use super::risk::Risk;
use crate::proof::grants::Effect;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

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
    let result = |f: &Finding| {
        let location = |place: &String| {
            let (file, line) = place.rsplit_once(':').unwrap_or((place, "1"));
            let line = line.parse::<u64>().unwrap_or(1).max(1);
            json!({ "physicalLocation": {
                "artifactLocation": { "uri": uri(file) },
                "region": { "startLine": line },
            }})
        };
        json!({
            "ruleId": f.rule,
            "level": f.level,
            "message": { "text": f.message },
            "locations": f.place.iter().map(location).collect::<Vec<_>>(),
            "partialFingerprints": { "stockade/v1": hex(&f.identity) },
        })
    };
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
            "results": findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

/// A path as a URI reference (RFC 3986); the library's files have a scheme of their own.
fn uri(file: &str) -> String {
    let mut out = String::from(if file.starts_with("std/") { "stockade:" } else { "" });
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
            "{} {}: {} ({}). Was: {}. {}",
            m.name,
            effect(r.effect),
            r.text,
            r.risk.word(),
            r.was,
            r.consequence
        ),
        place: Some(r.line.clone()),
        identity: format!("{} {:?} {} {}", m.name, r.effect, r.domain.word(), r.text),
    };
    machines.iter().flat_map(|m| m.rows.iter().map(move |r| one(m, r))).collect()
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

fn heading(m: &Machine) -> String {
    let mut parts = Vec::new();
    for e in [Effect::Widened, Effect::Changed, Effect::Narrowed] {
        match m.count(e) {
            0 => {}
            n => parts.push(format!("{n} {}", effect(e))),
        }
    }
    if m.lines_without_effect > 0 {
        parts.push(format!("{} lines without effect", m.lines_without_effect));
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

/// For a terminal: one screen.
pub fn text(machines: &[Machine]) -> String {
    let mut out = String::new();
    for m in machines {
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
            if !r.via.is_empty() {
                notes.push(format!("through {}", r.via.join(" > ")));
            }
            notes.extend(r.witness.iter().map(|w| format!("shown by {w}")));
            out.push_str(&format!("             {}\n", notes.join("    ")));
        }
        let modelled = m.rows.iter().any(|r| r.domain.is_modelled());
        out.push_str(&format!("  proof    {}{}\n", proof(m), if modelled { "; paths are modelled" } else { "" }));
    }
    out
}

/// Text of a policy in Markdown: as code, where nothing of it is a link, a mention or markup.
pub fn code(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| {
            if c == '`' {
                '\''
            } else if c.is_control() {
                ' '
            } else {
                c
            }
        })
        .collect();
    format!("`{}`", plain.replace('|', "\\|"))
}

/// What a review is called at its end: one comment of a pull request is at most 65,536 characters.
const MOST_MARKDOWN: usize = 60_000;

/// For a pull request: summary, table, details folded, and the command that makes it again.
pub fn markdown(machines: &[Machine], command: &str) -> String {
    let mut out = String::from("### Policy review\n\n");
    for m in machines {
        let gravest = m.gravest().map(|r| format!(", max risk **{}**", r.word())).unwrap_or_default();
        out.push_str(&format!("**{}**: {}{gravest}. {}.\n\n", code(&m.name), heading(m).replace("  ", ", "), proof(m)));
        if m.rows.is_empty() {
            continue;
        }
        out.push_str("| | risk | domain | what | line |\n|---|---|---|---|---|\n");
        let mut details = String::new();
        for r in &m.rows {
            let risk = if r.effect == Effect::Narrowed { "" } else { r.risk.word() };
            out.push_str(&format!(
                "| {} | {risk} | {} | {} | {} |\n",
                sign(r.effect),
                r.domain.word(),
                code(&r.text),
                code(&r.line)
            ));
            let why = r.why.as_ref().map(|w| format!(", why: {}", code(w))).unwrap_or_default();
            let shown = r.witness.as_ref().map(|w| format!(", shown by {}", code(w))).unwrap_or_default();
            details.push_str(&format!(
                "- {} {}: {} ({}); was: {}{why}{shown}\n",
                sign(r.effect),
                code(&r.text),
                r.consequence,
                r.reference,
                code(&r.was)
            ));
        }
        if out.len() + details.len() > MOST_MARKDOWN {
            details = "More than fits a comment: run the command below.\n".into();
        }
        out.push_str(&format!("\n<details><summary>Consequences and reasons</summary>\n\n{details}\n</details>\n\n"));
        if out.len() > MOST_MARKDOWN {
            out.push_str("The rest doesn't fit a comment.\n\n");
            break;
        }
    }
    out.push_str(&format!("Made by `{command}`\n"));
    out
}
