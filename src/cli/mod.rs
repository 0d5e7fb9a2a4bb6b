//! The command line: one small file for each verb.

mod front;
mod language;
mod new;
mod run;

use clap::{Parser, Subcommand};
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
        /// Policy files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Warnings are errors
        #[arg(long)]
        strict: bool,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write policies in their canonical form
    Fmt {
        /// Policy files
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
        /// Policy files
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
    /// Boot a machine in the foreground, under exactly its plan
    Run {
        /// Policy file
        file: PathBuf,
        /// The machine, when the file has several
        machine: Option<String>,
    },
}

/// Runs the command; the result is the process's exit code.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(a) => a,
        Err(e) => {
            let code = if e.use_stderr() { 2 } else { 0 };
            return if e.print().is_ok() { ExitCode::from(code) } else { ExitCode::FAILURE };
        }
    };
    trace(arguments.verbose);
    let result = match arguments.verb {
        Verb::New { name, os, build, .. } => new::new(&name, os, build),
        Verb::Check { files, strict, json } => language::check(&files, strict, json),
        Verb::Fmt { files, check } => language::fmt(&files, check),
        Verb::Explain { subject, machine, json } => language::explain(&subject, machine.as_deref(), json),
        Verb::Test { files, json } => language::test(&files, json),
        Verb::Groups { group, file, json } => language::groups(group.as_deref(), file.as_deref(), json),
        Verb::Plan { file, machine, json } => run::plan(&file, machine.as_deref(), json),
        Verb::Run { file, machine } => run::run(&file, machine.as_deref()),
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
