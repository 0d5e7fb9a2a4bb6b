//! The `stockade` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    if nix::unistd::getuid() != nix::unistd::geteuid() || nix::unistd::getgid() != nix::unistd::getegid() {
        eprintln!("stockade: it must not be installed set-user-ID or set-group-ID");
        return ExitCode::from(125);
    }
    // What the caller left open is nobody's business here, least of all a machine's.
    if let Err(e) = stockade::sys::process::close_from(3, false) {
        eprintln!("stockade: can't close inherited descriptors (close_range needs Linux 5.9): {}", e.desc());
        return ExitCode::from(125);
    }
    stockade::cli::run()
}
