//! The command line: one small file for each verb.

mod doctor;
mod effective;
mod export;
mod front;
mod import;
mod language;
mod locks;
mod new;
mod places;
mod review;
mod revision;
mod run;
mod status;

use clap::{Parser, Subcommand};
use review::Format;
use std::path::PathBuf;
use std::process::ExitCode;

/// Boots Linux machines under a policy that was reviewed before it was enforced.
#[derive(Parser)]
#[command(name = "stockade", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    /// Say what is done, on standard error; twice for details
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 clean, 1 findings, 2 policy or usage error, 3 this host can't.
`run` exits as its program does (128+n for signal n); 125 means that nothing was run,
126 that the program can't be executed, 127 that it wasn't found.";

#[derive(Subcommand)]
enum Verb {
    /// Write a commented starter policy
    New {
        /// The machine's name
        name: String,
        /// One network daemon of this host (the default)
        #[arg(long, group = "kind")]
        daemon: bool,
        /// A whole system with its init
        #[arg(long, group = "kind")]
        os: bool,
        /// An untrusted build
        #[arg(long, group = "kind")]
        build: bool,
    },
    /// Check policies: shape, meaning, assertions, tests, filters
    Check {
        /// Policy files or folders of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Warnings are errors
        #[arg(long)]
        strict: bool,
        /// Each file's lock must be what the policy comes to
        #[arg(long)]
        locked: bool,
        /// Print the result as JSON
        #[arg(long, conflicts_with = "format")]
        json: bool,
        /// How the result is printed
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Compare by meaning: two files, two folders, or two git revisions of a folder
    Diff {
        /// The old file or folder; with --git a revision, or A..B
        old: String,
        /// The new one; with --git, left out, the folder as it is
        new: Option<String>,
        /// Compare revisions of this folder of a git repository
        #[arg(long, value_name = "FOLDER")]
        git: Option<PathBuf>,
        /// Exit with 1 when met: widened, changed, narrowed or any, then >= and a risk
        #[arg(long, value_parser = review::fail_on, value_name = "EFFECT>=RISK")]
        fail_on: Option<review::FailOn>,
        /// How the result is printed
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Say what a reviewer would ask about
    Lint {
        /// Policy files or folders of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How the result is printed
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Ask what a machine can do: "nginx can socket(family == AF_ALG)"
    #[command(after_help = "Exit codes: 0 yes, 1 no, 3 unknown.")]
    Query {
        /// The question
        question: String,
        /// Policy file
        file: PathBuf,
        /// How the result is printed
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Ask which machines can do something: "can capability sys_admin"
    #[command(after_help = "Exit codes: 0 somebody, 1 nobody, 3 unknown.")]
    Who {
        /// The question
        question: String,
        /// Policy files or folders of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How the result is printed
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Say which lines let a machine do something, or keep it from it
    Why {
        /// Policy file
        file: PathBuf,
        /// The machine
        machine: String,
        /// A call, `capability X`, `write "/etc"`, `connect tcp 5432`, ...
        #[arg(required = true)]
        what: Vec<String>,
        /// How the result is printed
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Print one page of HTML: of a machine, or of a change when a second side is named
    Report {
        /// Policy file; or the old side of a change, as in `diff`
        old: String,
        /// The new side of a change
        new: Option<String>,
        /// The machine, when the file has several
        #[arg(long)]
        machine: Option<String>,
        /// Compare revisions of this folder of a git repository
        #[arg(long, value_name = "FOLDER")]
        git: Option<PathBuf>,
    },
    /// Write what policies come to into a lock beside each, to be committed
    Lock {
        /// Policy files or folders of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Say what raising the kernel baseline would add
    Kernel {
        /// The release, as in 6.18
        #[arg(value_parser = review::release)]
        version: (u16, u16),
        /// Policy files or folders of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How the result is printed
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Write policies in their canonical form
    Fmt {
        /// Policy files or folders of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Only say which files would change
        #[arg(long)]
        check: bool,
    },
    /// Explain a diagnostic's code, or what a machine may do on this host
    Explain {
        /// A code like E0204, or a policy file
        subject: String,
        /// The machine, when the file has several
        machine: Option<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Run the tests of policies on the compiled filters
    Test {
        /// Policy files or folders of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// List groups of system calls, built in or of a policy
    Groups {
        /// A group, to list its rules
        group: Option<String>,
        /// A policy file whose groups count
        #[arg(long)]
        file: Option<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a policy of another program's file, on standard output
    Import {
        #[command(subcommand)]
        from: Import,
    },
    /// Write a machine's part for another program to standard output, what is lost to standard error
    #[command(after_help = "Exit codes: 0 nothing is lost, 1 something is, and named.")]
    Export {
        #[command(subcommand)]
        to: Export,
    },
    /// Say what this host has and lacks for policies, with the fix
    #[command(after_help = "Exit codes: 0 nothing is lacking, 1 something is.")]
    Doctor {
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the numbered steps that `run` would take
    Plan {
        /// Policy file
        file: PathBuf,
        /// The machine, when the file has several
        machine: Option<String>,
        /// Print the plan as JSON
        #[arg(long)]
        json: bool,
    },
    /// Say which machines run, who reaches them, and which limits they met; remove what killed ones left
    #[command(after_help = "Exit codes: 0, and 1 when the machine that is named doesn't run.")]
    Status {
        /// One machine
        machine: Option<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Boot a machine in the foreground, under exactly its plan
    Run(Run),
}

#[derive(clap::Args)]
struct Run {
    /// Policy file
    file: PathBuf,
    /// The machine, when the file has several
    machine: Option<String>,
    /// Write how it ended and which limits it met to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

// `run` by itself: a start needn't make the command lines of all the other verbs first.
/// Boot a machine in the foreground, under exactly its plan
#[derive(Parser)]
#[command(name = "run", bin_name = "stockade run", max_term_width = 100)]
struct Alone {
    #[command(flatten)]
    run: Run,
    /// Say what is done, on standard error; twice for details
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn arguments() -> Result<Arguments, clap::Error> {
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "run") {
        let Alone { run, verbose } = Alone::try_parse_from(std::env::args_os().skip(1))?;
        return Ok(Arguments { verbose, verb: Verb::Run(run) });
    }
    Arguments::try_parse()
}

#[derive(Subcommand)]
enum Import {
    /// A seccomp profile of Docker, Podman or Kubernetes
    Docker {
        /// The profile, JSON
        profile: PathBuf,
        /// How entries with several comparisons are read
        #[arg(long = "as", value_enum, default_value = "intent", value_name = "READING")]
        reading: import::As,
        /// Capabilities that the profile's conditions see, Docker's own 14 unless said; `none` for none
        #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
        caps: Option<Vec<String>>,
        /// The reviewed release, as in 6.12; else that of the newest call named
        #[arg(long, value_parser = review::release)]
        kernel: Option<(u16, u16)>,
    },
    /// A .nspawn file
    Nspawn {
        /// The file; its name is the machine's
        file: PathBuf,
        /// The folder that is the root, else the one of that name in /var/lib/machines
        #[arg(long)]
        root: Option<PathBuf>,
    },
    /// The service of a unit of systemd
    Systemd {
        /// The unit; its name is the machine's
        unit: PathBuf,
    },
}

#[derive(Subcommand)]
enum Export {
    /// config.json of an OCI bundle, for runc, crun and the like
    Oci {
        /// Policy file
        file: PathBuf,
        /// The machine, when the file has several
        machine: Option<String>,
    },
    /// The calls as a seccomp profile of Docker's format, for Docker, Podman and Kubernetes
    Docker {
        /// Policy file
        file: PathBuf,
        /// The machine, when the file has several
        machine: Option<String>,
    },
    /// A unit of systemd
    Systemd {
        /// Policy file
        file: PathBuf,
        /// The machine, when the file has several
        machine: Option<String>,
    },
    /// A Pod with its security context; its seccomp profile is `export docker`
    Kubernetes {
        /// Policy file
        file: PathBuf,
        /// The machine, when the file has several
        machine: Option<String>,
        /// The image that stands for the root
        #[arg(long)]
        image: String,
    },
    /// The proved filter as seccomp(2) takes it, for bubblewrap's --add-seccomp-fd
    Bpf {
        /// Policy file
        file: PathBuf,
        /// The machine, when the file has several
        machine: Option<String>,
    },
}

/// Runs the command; the result is the process's exit code.
pub fn run() -> ExitCode {
    let arguments = match arguments() {
        Ok(a) => a,
        Err(e) => {
            let code = if e.use_stderr() { 2 } else { 0 };
            return match e.print() {
                Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::from(3),
                _ => ExitCode::from(code),
            };
        }
    };
    trace(arguments.verbose);
    let result = match arguments.verb {
        Verb::New { name, os, build, .. } => new::new(&name, os, build),
        Verb::Check { files, strict, locked, json, format } => {
            language::check(&files, strict, locked, if json { Format::Json } else { format })
        }
        Verb::Diff { old, new, git, fail_on, format } => {
            review::compare(&review::Diff { old: &old, new: new.as_deref(), git: git.as_deref(), format, fail_on })
        }
        Verb::Lint { files, format } => review::lint(&files, format),
        Verb::Query { question, file, format } => review::ask(&question, &[file], false, format),
        Verb::Who { question, files, format } => review::ask(&question, &files, true, format),
        Verb::Why { file, machine, what, format } => {
            // What the shell took the quotes from is a text of the language again.
            let word = |w: String| if w.starts_with('/') { format!("\"{}\"", w.escape_debug()) } else { w };
            let what: Vec<String> = what.into_iter().map(word).collect();
            review::ask(&format!("{machine} can {}", what.join(" ")), &[file], false, format)
        }
        Verb::Report { old, new, machine, git } => {
            let d = review::Diff {
                old: &old,
                new: new.as_deref(),
                git: git.as_deref(),
                format: Format::Human,
                fail_on: None,
            };
            review::page(&d, machine.as_deref())
        }
        Verb::Lock { files } => locks::write_locks(&files),
        Verb::Kernel { version, files, format } => review::kernel(version, &files, format),
        Verb::Fmt { files, check } => language::fmt(&files, check),
        Verb::Explain { subject, machine, json } => language::explain(&subject, machine.as_deref(), json),
        Verb::Test { files, json } => language::test(&files, json),
        Verb::Groups { group, file, json } => language::groups(group.as_deref(), file.as_deref(), json),
        Verb::Import { from: Import::Docker { profile, reading, caps, kernel } } => {
            import::docker(&profile, reading, caps.as_deref(), kernel)
        }
        Verb::Export { to: Export::Bpf { file, machine } } => export::bpf(&file, machine.as_deref()),
        Verb::Import { from: Import::Nspawn { file, root } } => import::nspawn(&file, root.as_deref()),
        Verb::Import { from: Import::Systemd { unit } } => import::systemd(&unit),
        Verb::Export { to: Export::Oci { file, machine } } => export::oci(&file, machine.as_deref()),
        Verb::Export { to: Export::Docker { file, machine } } => export::docker(&file, machine.as_deref()),
        Verb::Export { to: Export::Systemd { file, machine } } => export::systemd(&file, machine.as_deref()),
        Verb::Export { to: Export::Kubernetes { file, machine, image } } => {
            export::kubernetes(&file, machine.as_deref(), &image)
        }
        Verb::Doctor { json } => doctor::doctor(json),
        Verb::Plan { file, machine, json } => run::plan(&file, machine.as_deref(), json),
        Verb::Status { machine, json } => status::status(machine.as_deref(), json),
        Verb::Run(Run { file, machine, report }) => run::run(&file, machine.as_deref(), report.as_deref()),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            front::say(&format!("{e}"));
            ExitCode::from(e.code)
        }
    }
}

fn trace(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    let colour = front::colour();
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(colour)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
}

#[cfg(test)]
mod tests {
    use super::{Alone, Arguments};
    use clap::{CommandFactory as _, Parser as _};

    /// `run` by itself is what it is among the others.
    #[test]
    fn run_has_one_command_line() {
        let mut all = Arguments::command();
        all.build();
        let among = all.find_subcommand_mut("run").unwrap();
        assert_eq!(among.render_long_help().to_string(), Alone::command().render_long_help().to_string());
        assert_eq!(among.render_help().to_string(), Alone::command().render_help().to_string());
        for wrong in [&[][..], &["--repot", "x", "f"], &["f", "m", "n"], &["--report"], &["--version"]] {
            let among = Arguments::try_parse_from([&["stockade", "run"], wrong].concat()).err().unwrap();
            let alone = Alone::try_parse_from([&["run"], wrong].concat()).err().unwrap();
            assert_eq!(among.to_string(), alone.to_string());
        }
    }
}
