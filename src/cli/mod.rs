//! The command line.
use std::process::ExitCode;

/// Runs the command named in the process's arguments.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
