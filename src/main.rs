//! The `stockade` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // What the caller left open is nobody's business here, least of all a machine's.
    if stockade::sys::process::close_from(3, false).is_err() {
        return ExitCode::from(125);
    }
    stockade::cli::run()
}
