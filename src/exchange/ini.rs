//! The files of systemd: sections of `Key=value` lines, quoting, sizes, and the limits that units and .nspawn
//! files write alike (systemd.syntax(7), systemd.exec(5), systemd.resource-control(5)).

use crate::syntax::print::quote;
use std::collections::BTreeMap;

/// One assignment.
#[derive(Clone, Debug)]
pub struct Line {
    /// The section's name.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value as written, without its spaces around.
    pub value: String,
    /// Its line in the file, from 1.
    pub number: usize,
}

/// Most bytes of a line with all that it goes on with (conf-parser.c, LONG_LINE_MAX).
const LONGEST: usize = 1 << 20;

/// A number in decimal digits. systemd reads one with a zero before it as octal (parse-util.c, safe_atou64), which nobody
/// means.
pub fn whole(text: &str) -> Result<u64, String> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(format!("`{text}` is no number, or one that is read as octal"))
}

/// Reads a file; a line that is neither a section, an assignment nor a comment is an error. Lines are joined
/// as systemd joins them (conf-parser.c): by a backslash at their very end that no other one escapes.
pub fn read(text: &str) -> Result<Vec<Line>, String> {
    let mut out: Vec<Line> = Vec::new();
    let mut section = String::new();
    let mut joined: Option<(usize, String)> = None;
    for (number, raw) in (1..).zip(text.split('\n')) {
        // systemd ends lines at some of them.
        if let Some(c) = raw.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(format!("line {number}: it holds the control character {:?}", c));
        }
        let text = raw.trim_start_matches([' ', '\t']);
        let comment = text.starts_with(['#', ';']);
        if comment {
            continue;
        }
        // Each piece begins unescaped: a blank stands between it and the one before.
        let escaped = text.chars().fold(false, |escaped, c| !escaped && c == '\\');
        let (number, mut line) = joined.take().unwrap_or((number, String::new()));
        line.push_str(if escaped { text.strip_suffix('\\').unwrap_or(text) } else { text });
        if line.len() > LONGEST {
            return Err(format!("line {number}: it is longer than {LONGEST} bytes"));
        }
        if escaped {
            line.push(' ');
            joined = Some((number, line));
            continue;
        }
        // Other blanks than these belong to the text (string-util.h, WHITESPACE).
        let line = line.trim_end_matches([' ', '\t']);
        if line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !section.is_empty()) {
            let [key, value] = [key, value].map(|t| t.trim_matches([' ', '\t']).to_owned());
            out.push(Line { section: section.clone(), key, value, number });
        } else {
            return Err(format!("line {number}: `{line}` is neither a section nor `Key=value` in one"));
        }
    }
    match joined {
        Some((number, _)) => Err(format!("line {number}: it goes on beyond the end of the file")),
        None => Ok(out),
    }
}

/// Keys for which an empty value says something of its own.
const EMPTY: &[&str] = &["CapabilityBoundingSet"];

/// The list that a key adds to: older names, and keys of one list (systemd.exec(5)).
fn list_of(key: &str) -> &str {
    match key {
        "ReadWriteDirectories" => "ReadWritePaths",
        "ReadOnlyDirectories" => "ReadOnlyPaths",
        "InaccessibleDirectories" => "InaccessiblePaths",
        "BindReadOnlyPaths" => "BindPaths",
        other => other,
    }
}

/// Goes through a file's assignments; the error has a line for each that was refused. An empty value takes
/// back what was said of its key before where `resets` says so; of any other key it is ignored there or means
/// something that hangs on the version, so it is refused.
pub fn each(
    text: &str,
    resets: impl Fn(&Line) -> bool,
    mut take: impl FnMut(&Line) -> Result<(), String>,
) -> Result<(), String> {
    let mut wrong = Vec::new();
    let lines = read(text)?;
    let mut last: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in lines.iter().filter(|l| l.value.is_empty() && resets(l)) {
        last.insert((&line.section, list_of(&line.key)), line.number);
    }
    for line in &lines {
        let own = EMPTY.contains(&line.key.as_str());
        if line.value.is_empty() && !own && !resets(line) {
            wrong.push(format!(
                "line {}: `{}`: an empty value takes nothing back here: delete it",
                line.number, line.key
            ));
            continue;
        }
        let reset = last.get(&(&line.section, list_of(&line.key))).is_some_and(|n| *n > line.number);
        if reset || line.value.is_empty() && !own {
            continue;
        }
        if let Err(e) = take(line) {
            wrong.push(format!("line {}: `{}`: {e}", line.number, line.key));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n  ")),
    }
}

/// The items of a value of which systemd undoes neither quotes nor escapes: with one of them in it an item is another
/// there than it looks (extract_first_word without flags; systemd 252, src/core/load-fragment.c).
pub fn items(value: &str) -> Result<Vec<String>, String> {
    match value.contains(['"', '\'', '\\']) {
        true => Err("quotes and backslashes belong to the text there: write it without".into()),
        false => Ok(value.split([' ', '\t']).filter(|i| !i.is_empty()).map(str::to_owned).collect()),
    }
}

/// The items of a value of which systemd undoes quotes and no escapes: a backslash stands for what comes after it.
pub fn unquoted(value: &str) -> Result<Vec<String>, String> {
    match value.contains('\\') {
        true => Err("a backslash is no escape there: write it without".into()),
        false => words(value),
    }
}

/// The items of a value, quotes and escapes undone: of command lines and of variables.
pub fn words(value: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut item: Option<String> = None;
    let mut quoted: Option<char> = None;
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match (c, quoted) {
            ('\\', _) => {
                let c = match rest.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('s') => ' ',
                    Some(c @ ('\\' | '"' | '\'')) => c,
                    other => return Err(format!("unknown escape `\\{}`", other.unwrap_or(' '))),
                };
                item.get_or_insert_default().push(c);
            }
            (c, Some(q)) if c == q => quoted = None,
            (c, Some(_)) => item.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quoted = Some(c);
                item.get_or_insert_default();
            }
            (' ' | '\t', None) => out.extend(item.take()),
            (c, None) => item.get_or_insert_default().push(c),
        }
    }
    if quoted.is_some() {
        return Err("a quote isn't closed".into());
    }
    out.extend(item);
    Ok(out)
}

/// A boolean (systemd.syntax(7)).
pub fn boolean(value: &str) -> Result<bool, String> {
    match value.to_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err(format!("`{value}` is neither yes nor no")),
    }
}

/// A path that the language can say, quoted.
pub fn path(value: &str) -> Result<String, String> {
    let odd = |p: &str| p.split('/').skip(1).any(|c| c.is_empty() || c == "." || c == "..");
    let clean = if value.len() > 1 { value.trim_end_matches('/') } else { value };
    // What a backslash stands for differs from key to key.
    match clean.starts_with('/') && (clean == "/" || !odd(clean)) && !clean.contains('\\') {
        true => Ok(quote(clean)),
        false => Err(format!("`{value}` is no plain absolute path")),
    }
}

/// Bytes of a size with systemd's suffixes, to the base of 1024.
fn bytes(value: &str) -> Result<u64, String> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match value.get(digits.len()..).unwrap_or_default() {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("`{value}` is no size")),
    };
    let n: u64 = digits.parse().map_err(|_| format!("`{value}` is no size"))?;
    n.checked_mul(1 << shift).ok_or(format!("`{value}` is too large"))
}

/// A size in the words of the language, in the largest unit that divides it.
fn size(n: u64) -> String {
    [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| n > 0 && n.is_multiple_of(1u64 << shift))
        .map_or(format!("{n}B"), |(unit, shift)| format!("{}{unit}", n >> shift))
}

/// A bare word of the language: a name, or a number.
pub fn word(value: &str) -> Result<&str, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match !value.is_empty() && value.chars().all(plain) && !value.starts_with(['-', '.']) {
        true => Ok(value),
        false => Err(format!("`{value}` is no plain name")),
    }
}

/// A mode or mask, in octal digits.
pub fn octal(value: &str) -> Result<&str, String> {
    match (1..=5).contains(&value.len()) && value.chars().all(|c| c.is_digit(8)) {
        true => Ok(value),
        false => Err(format!("`{value}` is no octal number")),
    }
}

/// The lines of `environment` for `NAME=value` items.
pub fn variables(items: &[String]) -> Result<Vec<String>, String> {
    let each = items.iter().map(|item| {
        let (name, value) = item.split_once('=').ok_or(format!("`{item}` has no `=`"))?;
        Ok(format!("set {} {}", variable(name)?, quote(value)))
    });
    each.collect()
}

/// The name of a variable.
pub fn variable(name: &str) -> Result<&str, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        true => Ok(name),
        false => Err(format!("`{name}` is no name of a variable")),
    }
}

/// Capabilities by the names of the language.
pub fn capabilities(value: &str) -> Result<Vec<String>, String> {
    let each = items(value)?.into_iter().map(|item| {
        // Another word is none there, and a line of such words alone is an empty set.
        let name = item.strip_prefix("CAP_").map(str::to_lowercase);
        match (item.as_str(), name) {
            ("all", _) => Err("`all` grants what nobody looked at: name them".to_owned()),
            (_, Some(name)) if crate::policy::capabilities::number(&name).is_some() => Ok(name),
            _ => Err(format!("unknown capability `{item}`: their names begin with CAP_")),
        }
    });
    each.collect()
}

/// A block of the language, or nothing for no lines.
pub fn block(name: &str, lines: &[String]) -> Vec<String> {
    match lines {
        [] => Vec::new(),
        lines => vec![format!("{name} {{\n    {}\n  }}", lines.join("\n    "))],
    }
}

/// `PATH[:OPTIONS]` as a line of `mounts`.
pub fn tmpfs(value: &str) -> Result<String, String> {
    let (target, options) = value.split_once(':').unwrap_or((value, ""));
    let mut line = format!("tmpfs {}", path(target)?);
    let mut closed = false;
    for o in options.split(',').filter(|o| !o.is_empty()) {
        match o.split_once('=') {
            Some(("size", v)) => {
                let unit = match v.chars().last() {
                    Some('k' | 'K') => "KiB",
                    Some('m' | 'M') => "MiB",
                    Some('g' | 'G') => "GiB",
                    _ => "B",
                };
                let digits = v.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                if digits.len() > 1 && digits.starts_with('0') {
                    return Err(format!("`{o}`: the kernel reads it as octal"));
                }
                digits.parse::<u64>().map_err(|_| format!("`{o}` is no size"))?;
                line.push_str(&format!(" size={digits}{unit}"));
            }
            Some(("mode", v)) => line.push_str(&format!(" mode={}", octal(v)?)),
            None if o == "ro" => closed = true,
            None if ["rw", "nosuid", "nodev", "noexec", "strictatime"].contains(&o) => {}
            _ => return Err(format!("unknown option `{o}`")),
        }
    }
    if closed {
        line.push_str(" ro");
    }
    Ok(line)
}

/// One number with its unit as a duration of the language (systemd.time(7)); only `infinity` is no bound
/// (systemd.service(5), RuntimeMaxSec=).
fn span(value: &str) -> Result<String, String> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = match value.get(digits.len()..).unwrap_or("").trim() {
        "" | "s" | "sec" | "second" | "seconds" => "s",
        "m" | "min" | "minute" | "minutes" => "min",
        "h" | "hr" | "hour" | "hours" => "h",
        "infinity" if digits.is_empty() => return Ok("unlimited".into()),
        _ => return Err(format!("`{value}`: write one number of seconds, minutes or hours")),
    };
    match digits.parse::<u64>() {
        Ok(0) => Err("0 is no time at all there".into()),
        Ok(n) => Ok(format!("{n}{unit}")),
        Err(_) => Err(format!("`{value}` is no time")),
    }
}

/// `LimitNOFILE=` and the like, and the limits of cgroups, which come in pairs.
#[derive(Debug, Default)]
pub struct Limits {
    lines: Vec<String>,
    memory: Option<String>,
    older_memory: Option<String>,
    time: Option<String>,
    high: Option<String>,
    quota: Option<String>,
    weight: Option<String>,
    tasks: Option<String>,
    swap: Option<String>,
}

/// (systemd's name, the language's word, unit: bytes, seconds or a number)
const RLIMITS: &[(&str, &str, char)] = &[
    ("AS", "address-space", 'b'),
    ("CORE", "core", 'b'),
    ("CPU", "cpu-time", 's'),
    ("DATA", "data", 'b'),
    ("FSIZE", "fsize", 'b'),
    ("LOCKS", "locks", 'n'),
    ("MEMLOCK", "memlock", 'b'),
    ("MSGQUEUE", "msgqueue", 'b'),
    ("NICE", "nice", 'n'),
    ("NOFILE", "nofile", 'n'),
    ("NPROC", "nproc", 'n'),
    ("RTPRIO", "rtprio", 'n'),
    ("SIGPENDING", "sigpending", 'n'),
    ("STACK", "stack", 'b'),
];

impl Limits {
    /// Takes a line; false when it is about something else. Soft and hard limit are one here: the soft one,
    /// with a note.
    pub fn take(&mut self, line: &Line, notes: &mut Vec<String>) -> Result<bool, String> {
        match line.key.strip_prefix("Limit") {
            Some(name) => {
                let (_, word, unit) =
                    RLIMITS.iter().find(|(n, ..)| *n == name).ok_or("it has no counterpart".to_owned())?;
                if *word == "locks" {
                    notes.push(format!(
                        "line {}: {}= bounds nothing since Linux 2.4.25: left out",
                        line.number, line.key
                    ));
                    return Ok(true);
                }
                let (soft, hard) = line.value.split_once(':').unwrap_or((&line.value, &line.value));
                if soft != hard {
                    notes.push(format!("line {}: soft and hard limit are one here: {soft}", line.number));
                }
                // As systemd does, which keeps what held before, and that is another line or nothing.
                let amount = |v: &str| match (v, unit) {
                    ("infinity", _) => Ok(u64::MAX),
                    (v, 'b') => bytes(v),
                    // With a sign it is a nice level, without the kernel's number (systemd.exec(5)).
                    (v, _) if *word == "nice" && v.starts_with(['+', '-']) => {
                        match (whole(v.get(1..).unwrap_or_default())?, v.starts_with('-')) {
                            (level @ 0..=20, true) => Ok(20 + level),
                            (level @ 0..=19, false) => Ok(20 - level),
                            _ => Err(format!("`{v}` is no nice level")),
                        }
                    }
                    (v, _) => whole(v),
                };
                if amount(soft)? > amount(hard)? {
                    return Err(format!("`{}`: the soft limit is above the hard one", line.value));
                }
                if *word == "nice" && amount(soft)? > 40 {
                    return Err(format!("`{}` is no nice limit: 0 to 40", line.value));
                }
                let value = match (soft, unit) {
                    ("infinity", _) => "unlimited".to_owned(),
                    (v, 'b') => size(bytes(v)?),
                    (v, 's') => format!("{}s", whole(v)?),
                    (v, _) => amount(v)?.to_string(),
                };
                let start = format!("{word} ");
                self.lines.retain(|l| !l.starts_with(&start));
                match (*word, value.as_str()) {
                    // The library's profiles let no core dump out.
                    ("core", v) if v != "0" => {
                        notes.push(format!("line {}: core dumps of {v} there, none here", line.number));
                    }
                    _ => self.lines.push(format!("{start}{value}")),
                }
                Ok(true)
            }
            None => self.cgroup(line),
        }
    }

    fn cgroup(&mut self, line: &Line) -> Result<bool, String> {
        let value = line.value.as_str();
        let memory = || match value {
            "infinity" => Ok("unlimited".to_owned()),
            v if v.ends_with('%') => Err(format!("`{v}`: a share of the host's memory can't be said")),
            v => bytes(v).map(size),
        };
        let number = || whole(value).map(|n| n.to_string());
        let (slot, text) = match line.key.as_str() {
            "MemoryMax" => (&mut self.memory, memory()?),
            // Of the older hierarchy: where both are written, the newer one counts.
            "MemoryLimit" => (&mut self.older_memory, memory()?),
            "RuntimeMaxSec" => (&mut self.time, span(value)?),
            "MemoryHigh" => (&mut self.high, memory()?),
            "MemorySwapMax" => (&mut self.swap, memory()?),
            "TasksMax" => (&mut self.tasks, if value == "infinity" { "unlimited".into() } else { number()? }),
            "CPUQuota" => {
                let digits = value.strip_suffix('%').ok_or(format!("`{value}` is no share, as in 50%"))?;
                (&mut self.quota, format!("{}%", whole(digits)?))
            }
            "CPUWeight" => (&mut self.weight, number()?),
            _ => return Ok(false),
        };
        *slot = Some(text);
        Ok(true)
    }

    /// The lines of `limits`.
    pub fn lines(&self) -> Vec<String> {
        let mut out = self.lines.clone();
        let with =
            |name: &str, value: &Option<String>| value.as_ref().map_or(String::new(), |v| format!(" {name}={v}"));
        // A newer one that bounds nothing leaves the older in place (systemd 252, unit_has_unified_memory_config).
        let bounds = self.memory.as_ref().filter(|m| *m != "unlimited");
        let memory = bounds.or(self.older_memory.as_ref()).or(self.memory.as_ref());
        if memory.is_some() || self.high.is_some() {
            let most = memory.map_or("unlimited", String::as_str);
            out.push(format!("memory {most}{}", with("high", &self.high)));
        }
        if self.quota.is_some() || self.weight.is_some() {
            let most = self.quota.as_deref().unwrap_or("unlimited");
            out.push(format!("cpu {most}{}", with("weight", &self.weight)));
        }
        out.extend(self.swap.iter().map(|v| format!("swap {v}")));
        out.extend(self.tasks.iter().map(|v| format!("tasks {v}")));
        out.extend(self.time.iter().map(|v| format!("time {v}")));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_undone() {
        assert_eq!(words(r#"a "b c" 'd "e' f\sg """#).unwrap(), ["a", "b c", "d \"e", "f g", ""]);
        assert!(words("\"a").is_err() && words(r"\q").is_err());
    }

    #[test]
    fn lines_are_joined_and_comments_skipped() {
        let lines = read("# c\n[A]\nK = 1 \\\n; inside\n  2\n\n[B]\nL=\n").unwrap();
        let seen: Vec<_> = lines.iter().map(|l| (&*l.section, &*l.key, &*l.value, l.number)).collect();
        assert_eq!(seen, [("A", "K", "1  2", 3), ("B", "L", "", 8)]);
        // A blank after it, or another backslash before it, and it joins nothing.
        for text in ["[A]\nK=1\\ \nL=2\n", "[A]\nK=1\\\\\nL=2\n"] {
            assert_eq!(read(text).unwrap().len(), 2, "{text}");
        }
        for bad in ["K=1\n", "[A]\nnonsense\n", "[A]\nK=1\\", "[A]\n# c\rK=1\n", "[A]\nK=\0\n"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_keep_their_value() {
        for (text, said) in [("4G", "4GiB"), ("1536M", "1536MiB"), ("1000", "1000B"), ("0", "0B")] {
            assert_eq!(size(bytes(text).unwrap()), said);
        }
        assert!(bytes("99999999999T").is_err() && bytes("4Q").is_err() && bytes("").is_err());
    }
}
