//! One page in HTML, of a machine or of a change: nothing is fetched, and it works without its script.

use super::diff::{Machine, Row};
use super::facts;
use super::output;
use super::risk::{self, Risk};
use crate::policy::Policy;
use crate::policy::syscalls::{Action, Rule};
use crate::proof::grants::{self, Domain, What};
use crate::proof::order::Effect;
use crate::source::{Sources, Span};
use std::collections::BTreeMap;

/// What a machine may do, one line of the policy a row.
struct Grant {
    domain: Domain,
    risk: Risk,
    text: String,
    more: Vec<String>,
    consequence: &'static str,
    reference: &'static str,
    line: String,
    why: Option<String>,
}

/// The page of one machine.
pub fn machine(policy: &Policy, sources: &Sources) -> String {
    let mut list = grants_of(policy, sources);
    list.sort_by(|a, b| (b.risk, a.domain, &a.line, &a.text).cmp(&(a.risk, b.domain, &b.line, &b.text)));
    let mut body = String::new();
    if let Some(about) = &policy.about {
        body.push_str(&format!("<p>{}</p>", escape(about)));
    }
    body.push_str(&format!(
        "<p>Reviewed against the calls of Linux {}.{}. What isn't listed is denied.</p>",
        policy.kernel.0, policy.kernel.1
    ));
    body.push_str(&picture_of_risks(&list));
    for domain in DOMAINS {
        let rows: Vec<&Grant> = list.iter().filter(|g| g.domain == *domain).collect();
        body.push_str(&format!("<section><h2>{}</h2>", title(*domain)));
        if rows.is_empty() {
            body.push_str("<p class=none>nothing</p></section>");
            continue;
        }
        body.push_str("<table><thead><tr><th>risk</th><th>what</th><th>line</th></tr></thead><tbody>");
        for g in rows {
            let mut what = format!("<code>{}</code>", escape(&g.text));
            if !g.more.is_empty() {
                let all: Vec<String> = g.more.iter().map(|t| format!("<code>{}</code>", escape(t))).collect();
                what.push_str(&format!("<details><summary>all {}</summary>{}</details>", g.more.len(), all.join(" ")));
            }
            what.push_str(&note(g.consequence, g.reference, g.why.as_deref(), &[]));
            body.push_str(&row(g.risk.word(), g.risk.word(), &what, &g.line));
        }
        body.push_str("</tbody></table></section>");
    }
    page(&format!("machine {}", policy.name), &body)
}

/// The page of a change.
pub fn change(machines: &[Machine]) -> String {
    let mut body = String::new();
    if let Some((count, worst)) = output::summary(machines) {
        let worst = worst.word();
        body.push_str(&format!("<p>{count} machines, max risk <strong class={worst}>{worst}</strong></p>"));
    }
    let (loud, quiet) = output::apart(machines);
    for m in loud.into_iter().chain(quiet) {
        let gravest = m.gravest().map(|r| format!(", max risk <strong class={0}>{0}</strong>", r.word()));
        body.push_str(&format!(
            "<section><h2>{}</h2><p>{}{} <span class=line>{}</span></p>",
            escape(&m.name),
            output::heading(m).replace("  ", ", "),
            gravest.unwrap_or_default(),
            escape(&m.place)
        ));
        if let Some(why) = &m.undecided {
            body.push_str(&format!("<p class=critical><strong>cannot decide</strong>: {}</p>", escape(why)));
        }
        if m.state != "both" {
            body.push_str("<p>only one side has this machine</p>");
        } else if m.calls_proved_equal && m.undecided.is_none() {
            body.push_str("<p class=none>every call is proved to be treated the same</p>");
        }
        if m.rows.is_empty() {
            body.push_str("</section>");
            continue;
        }
        body.push_str(&picture_of_change(&m.rows));
        body.push_str("<table><thead><tr><th>risk</th><th>what</th><th>line</th></tr></thead><tbody>");
        for r in &m.rows {
            let (class, word) = match r.effect {
                Effect::Narrowed => ("narrowed", "narrowed".to_owned()),
                Effect::Changed => (r.risk.word(), format!("{}, changed", r.risk.word())),
                Effect::Widened => (r.risk.word(), format!("{}, widened", r.risk.word())),
            };
            let gone = if r.gone { " <em>(gone)</em>" } else { "" };
            let mut what = format!("{} <code>{}</code>{gone}", r.domain.word(), escape(&r.text));
            let mut notes = vec![format!("was: {}", r.was)];
            if r.gone {
                notes.push(format!("now: {}", r.now));
            }
            if !r.via.is_empty() {
                notes.push(format!("through {}", r.via.join(" > ")));
            }
            notes.extend(r.witness.iter().map(|w| format!("shown by {w}")));
            if !r.others.is_empty() {
                notes.push(format!("also {}", r.others.join(", ")));
            }
            let (consequence, reference) =
                if r.effect == Effect::Narrowed { ("less than before", "") } else { (r.consequence, r.reference) };
            what.push_str(&note(consequence, reference, r.why.as_deref(), &notes));
            body.push_str(&row(class, &word, &what, &r.line));
        }
        body.push_str("</tbody></table></section>");
    }
    page("policy review", &body)
}

const DOMAINS: &[Domain] = &[
    Domain::Process,
    Domain::Capabilities,
    Domain::Syscalls,
    Domain::Files,
    Domain::Mounts,
    Domain::Network,
    Domain::Devices,
    Domain::Limits,
    Domain::Environment,
];

/// What a person asks of a domain.
fn title(d: Domain) -> &'static str {
    match d {
        Domain::Syscalls => "May call (proved)",
        Domain::Capabilities => "Holds: capabilities",
        Domain::Process => "Is: root, program, user",
        Domain::Mounts => "Sees: mounts",
        Domain::Files => "Reaches: files (modelled)",
        Domain::Network => "Reaches: network",
        Domain::Devices => "Reaches: devices",
        Domain::Limits => "Uses at most: limits",
        Domain::Environment => "Is told: environment",
    }
}

fn grants_of(policy: &Policy, sources: &Sources) -> Vec<Grant> {
    let mut out = Vec::new();
    let mut lines: BTreeMap<(Span, Action), Vec<&Rule>> = BTreeMap::new();
    for r in &policy.syscalls {
        lines.entry((r.span, r.action)).or_default().push(r);
    }
    for ((span, action), rules) in lines {
        let graded = rules.iter().map(|r| (risk::rule(policy, r), r));
        let Some((grade, first)) = graded.max_by_key(|(g, _)| g.risk) else { continue };
        let denial = action > Action::Log;
        let names: Vec<String> = rules.iter().map(ToString::to_string).collect();
        let text = match names.len() {
            1 => format!("{} {first}", action.word()),
            n => format!("{} {first} and {} more", action.word(), n - 1),
        };
        out.push(Grant {
            domain: Domain::Syscalls,
            risk: if denial { Risk::Low } else { grade.risk },
            text,
            more: if names.len() > 1 { names } else { Vec::new() },
            consequence: if denial { "refused" } else { grade.consequence },
            reference: grade.reference,
            line: sources.cite(span),
            why: first.meta.why.clone(),
        });
    }
    for f in grants::of_machine(policy) {
        let restricts = matches!(f.what, What::Hidden(_) | What::Rank(0)) && f.domain != Domain::Limits;
        let grade = facts::fact(&f, policy);
        out.push(Grant {
            domain: f.domain,
            risk: if restricts { Risk::Low } else { grade.risk },
            text: f.text.clone(),
            more: Vec::new(),
            consequence: if restricts { "as strict as it gets" } else { grade.consequence },
            reference: grade.reference,
            line: sources.cite(f.span),
            why: f.why.clone(),
        });
    }
    out.dedup_by(|a, b| a.domain == b.domain && a.text == b.text && a.line == b.line);
    out
}

fn note(consequence: &str, reference: &str, why: Option<&str>, more: &[String]) -> String {
    let mut out = format!("<small>{} <span class=ref>{}</span>", escape(consequence), escape(reference));
    for m in more {
        out.push_str(&format!(" · {}", escape(m)));
    }
    out.push_str("</small>");
    if let Some(w) = why {
        out.push_str(&format!("<small class=why>why: {}</small>", escape(w)));
    }
    out
}

fn row(class: &str, risk: &str, what: &str, line: &str) -> String {
    format!(
        "<tr><td><span class=\"risk {class}\">{risk}</span></td><td>{what}</td><td class=line>{}</td></tr>",
        escape(line)
    )
}

/// Bars of how many lines there are of each risk.
fn picture_of_risks(list: &[Grant]) -> String {
    let count = |r: Risk| list.iter().filter(|g| g.risk == r).count();
    let rows = [Risk::Critical, Risk::High, Risk::Medium, Risk::Low]
        .map(|r| (r.word().to_owned(), vec![(r.word(), count(r))]));
    bars("Lines by risk", &rows)
}

/// Bars of what each domain gains and loses.
fn picture_of_change(rows: &[Row]) -> String {
    let mut list = Vec::new();
    for d in DOMAINS {
        let of = |risk: Option<Risk>| {
            rows.iter()
                .filter(|r| r.domain == *d)
                .filter(|r| match risk {
                    Some(risk) => r.effect != Effect::Narrowed && r.risk == risk,
                    None => r.effect == Effect::Narrowed,
                })
                .count()
        };
        let mut parts: Vec<(&str, usize)> = [Risk::Critical, Risk::High, Risk::Medium, Risk::Low]
            .map(|r| (r.word(), of(Some(r))))
            .into_iter()
            .collect();
        parts.push(("narrowed", of(None)));
        if parts.iter().any(|(_, n)| *n > 0) {
            list.push((d.word().to_owned(), parts));
        }
    }
    bars("The change by domain", &list)
}

/// An SVG of labelled bars whose parts stand side by side.
fn bars(name: &str, rows: &[(String, Vec<(&str, usize)>)]) -> String {
    let most = rows.iter().map(|(_, p)| p.iter().map(|(_, n)| n).sum::<usize>()).max().unwrap_or(0).max(1);
    let height = rows.len() * 24 + 8;
    let mut out = format!(
        "<svg viewBox=\"0 0 640 {height}\" role=img aria-label=\"{}\"><title>{}</title>",
        escape(name),
        escape(name)
    );
    for (i, (label, parts)) in rows.iter().enumerate() {
        let y = i * 24 + 4;
        out.push_str(&format!("<text x=\"0\" y=\"{}\">{}</text>", y + 15, escape(label)));
        let mut x = 110;
        for (class, n) in parts.iter().filter(|(_, n)| *n > 0) {
            let width = (n * 480 / most).max(6);
            out.push_str(&format!(
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"18\" rx=\"3\"><title>{n} {class}</title></rect>"
            ));
            x += width + 2;
        }
        let total: usize = parts.iter().map(|(_, n)| n).sum();
        out.push_str(&format!("<text x=\"{}\" y=\"{}\">{total}</text>", x + 6, y + 15));
    }
    out.push_str("</svg>");
    out
}

/// Text as HTML: what a policy says is never markup.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2024;--dim:#60666d;--paper:#fff;--line:#d9dde1;--code:#f2f4f6;
--critical:#a4133c;--high:#c2410c;--medium:#a16207;--low:#4b6a88;--narrowed:#2f7d4f}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8ea;--dim:#9aa1a8;--paper:#15181b;--line:#343a40;--code:#22272c;
--critical:#ff6b8f;--high:#ff9d5c;--medium:#e5c452;--low:#8fb4d6;--narrowed:#6fcf97}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1.5rem;font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.5rem;margin:0 0 .5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
table{width:100%;border-collapse:collapse}th{text-align:left;color:var(--dim);font-weight:500}
td,th{padding:.45rem .6rem .45rem 0;border-bottom:1px solid var(--line);vertical-align:top}
code{background:var(--code);border-radius:4px;padding:.1rem .35rem;font-size:.88em;overflow-wrap:anywhere}
code,.line{unicode-bidi:bidi-override;direction:ltr}p,small{overflow-wrap:anywhere}
small{display:block;color:var(--dim);unicode-bidi:isolate}small.why{color:var(--ink)}.ref{font-style:italic}
.line{font:12px/1.9 ui-monospace,monospace;color:var(--dim);overflow-wrap:anywhere;min-width:14rem}
.risk{font-weight:600;white-space:nowrap}
.critical{color:var(--critical);fill:var(--critical)}.high{color:var(--high);fill:var(--high)}
.medium{color:var(--medium);fill:var(--medium)}.low{color:var(--low);fill:var(--low)}
.narrowed{color:var(--narrowed);fill:var(--narrowed)}.none{color:var(--dim)}
svg{width:100%;max-width:44rem;margin:.5rem 0}svg text{font:13px system-ui,sans-serif;fill:var(--ink)}
input{width:100%;max-width:30rem;padding:.5rem .7rem;font:inherit;color:inherit;background:var(--code);border:1px solid var(--line);border-radius:6px}
details code{margin:.1rem}
";

const SCRIPT: &str = "
const box=document.getElementById('find'),count=document.getElementById('count');
box.hidden=false;
box.addEventListener('input',()=>{
  const words=box.value.toLowerCase().split(/\\s+/).filter(Boolean);let n=0;
  for(const tr of document.querySelectorAll('tbody tr')){
    const hit=words.every(w=>tr.textContent.toLowerCase().includes(w));tr.hidden=!hit;if(hit)n++;
  }
  count.textContent=words.length?n+' rows':'';
});
";

fn page(name: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <meta name=viewport content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style></head>\n\
         <body><h1>{0}</h1>\n<p><input id=find type=search placeholder=\"search: words, calls, lines\" aria-label=search hidden> <span id=count></span></p>\n{body}\n\
         <p class=none>stockade {1}</p>\n<script>{SCRIPT}</script></body></html>\n",
        escape(name),
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_of_a_policy_is_markup() {
        assert_eq!(super::escape("<b>\"&'"), "&lt;b&gt;&quot;&amp;&#39;");
    }
}
