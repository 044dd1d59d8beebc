//! The command line of `edgetune-fleet`: the same habits, another program.

use super::commands::{backup, channel, root, serve, shell, simulate};
use super::print::Printer;
use super::{Done, log_to_stderr, parsed, program, stop};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The server of a fleet: collects what edgetune devices learn, combines it and rolls it out to them.
#[derive(Debug, Parser)]
#[command(
    name = "edgetune-fleet",
    version,
    after_help = "Examples:\n  edgetune-fleet serve\n  edgetune-fleet channel create photos --from A.edelta\n  edgetune-fleet token\n\nEDGETUNE_LOG=info (or debug) logs what is done to standard error."
)]
struct Cli {
    /// Print one JSON document on standard output instead of text
    #[arg(long, global = true, display_order = 1000, help_heading = "Everywhere")]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Channel(channel::Args),
    Token(channel::Token),
    Root(root::Args),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Simulate(Box<simulate::Args>),
    /// The OpenAPI document of the server's interface
    #[command(after_help = "Example:\n  edgetune-fleet openapi > openapi.json")]
    Openapi,
    #[command(
        after_help = "Example:\n  edgetune-fleet completions bash > ~/.local/share/bash-completion/completions/edgetune-fleet"
    )]
    Completions(shell::Completions),
    #[command(
        after_help = "Examples:\n  edgetune-fleet man | man -l -\n  edgetune-fleet man --out ~/.local/share/man/man1"
    )]
    Man(shell::Man),
}

/// Runs the command named in the process's arguments.
pub fn main() -> ExitCode {
    crate::engine::configure_own_process();
    let cli: Cli = parsed();
    log_to_stderr("info");
    let printer = Printer::new(cli.json);
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args, &printer),
        Command::Channel(args) => channel::run(&args, &printer),
        Command::Token(args) => channel::token(&args, &printer),
        Command::Root(args) => root::run(&args, &printer),
        Command::Backup(args) => backup::run(&args, &printer),
        Command::Restore(args) => backup::restore(&args, &printer),
        Command::Simulate(args) => simulate::run(&args, &printer),
        Command::Openapi => {
            printer.raw(crate::fleet::openapi().as_bytes());
            Ok(Done::Fully)
        }
        Command::Completions(args) => shell::completions(&args, program::<Cli>(), &printer),
        Command::Man(args) => shell::man(&args, program::<Cli>(), &printer),
    };
    match done {
        Ok(Done::Fully) => ExitCode::SUCCESS,
        Ok(Done::Interrupted) => ExitCode::from(stop::INTERRUPTED),
        Err(error) => {
            printer.failed(&error);
            ExitCode::FAILURE
        }
    }
}
