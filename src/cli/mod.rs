//! The command line: clap structs, the printer, one file per command. Nothing imports this module.
//!
//! Takes the process's arguments and environment; gives exit codes: 0 done, 1 failed, 2 wrong usage, 3 a file in use
//! went away, 4 more would be forgotten than allowed, 5 a gate refuses what was learned, 130 interrupted with a checkpoint written. It is the only place that prints, reads the clock and reads the environment.

mod answering;
mod args;
mod benchmark;
mod change;
mod costs;
mod commands;
mod delta_args;
mod delta_report;
mod deltas;
mod flags;
#[cfg(feature = "fleet")]
pub mod fleet;
mod gate_args;
mod generation;
mod health;
mod identities;
mod inputs;
mod inspection;
#[cfg(feature = "fleet")]
mod limiting;
#[cfg(feature = "fleet")]
mod locked;
mod masks;
mod membership;
mod moments;
mod outputs;
mod page;
#[cfg(feature = "fleet")]
mod place;
mod precedence;
mod predictions;
mod print;
mod recipe;
mod retention_args;
mod sample_args;
mod short_help;
mod sifting;
mod stop;
mod summary;
mod suspects;
mod usage;
mod values;

use crate::{engine, mapped, priority, recipe as library};
use args::Global;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use print::{LogWriter, Printer};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Fine-tunes a frozen ONNX model on the device that runs it.
#[derive(Debug, Parser)]
#[command(
    name = "edgetune",
    version,
    disable_help_subcommand = true,
    after_help = "Examples:\n  edgetune train model.onnx --data photos/ \
                  --train last:2 --out A.edelta\n  edgetune predict model.onnx --adapter A.edelta photo.jpg\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a file in use went away, \
                  4 more would be forgotten than --keep-base allows, 5 a gate refuses what \
                  was learned, 130 stopped by Ctrl-C or SIGTERM.\nEDGETUNE_LOG=info \
                  (or debug) logs what is done to standard error."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(commands::demo::Args),
    Inspect(commands::inspect::Args),
    Check(commands::check::Args),
    Data(Box<commands::data::Args>),
    Prepare(commands::prepare::Args),
    Train(Box<commands::train::Args>),
    Retention(commands::retention::Args),
    #[cfg(feature = "workstation")]
    Board(commands::board::Args),
    #[cfg(feature = "workstation")]
    Report(commands::report::Args),
    Eval(commands::eval::Args),
    Predict(commands::predict::Args),
    EnrollIdentity(Box<commands::enroll_identity::Args>),
    Delta(Box<commands::delta::Args>),
    Moments(Box<commands::moments::Args>),
    Export(commands::export::Args),
    Import(Box<commands::import::Args>),
    Runtime(commands::runtime::Args),
    Ops(commands::ops::Args),
    Tasks(commands::tasks::Args),
    Agent(commands::agent::Args),
    Forget(commands::forget::Args),
    Ledger(commands::ledger::Args),
    Fleet(commands::fleet::Args),
    Doctor(commands::doctor::Args),
    Cache(commands::cache::Args),
    #[cfg(feature = "workstation")]
    Completions(commands::shell::Completions),
    #[cfg(feature = "workstation")]
    #[command(hide = true)]
    Man(commands::shell::Man),
}

/// How a command ended, apart from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// Everything that was asked for.
    Fully,
    /// Stopped by a signal; a checkpoint lets it go on.
    Interrupted,
}

/// Runs the command named in the process's arguments.
pub fn main() -> ExitCode {
    engine::configure_own_process();
    let cli: Cli = parsed();
    // A service tells what it does; what its processes say last is taken for the reason where one fails.
    log_to_stderr(if matches!(&cli.command, Command::Agent(args) if !args.works()) { "info" } else { "warn" });
    mapped::exit_on_lost_file();
    let printer = Printer::new(cli.global.json);
    let works_for_agent = std::env::var("EDGETUNE_PARENT").ok();
    // `agent work` decides by itself, for somebody may wait for what it does.
    if works_for_agent.is_some() && !matches!(cli.command, Command::Agent(_)) {
        priority::stand_back();
    }
    if let Some(Err(error)) = works_for_agent.map(|parent| stop::end_with(&parent)) {
        printer.failed(&error);
        return ExitCode::FAILURE;
    }
    match dispatch(cli, &printer) {
        Ok(Done::Fully) => ExitCode::SUCCESS,
        Ok(Done::Interrupted) => ExitCode::from(stop::INTERRUPTED),
        Err(error) => {
            printer.failed(&error);
            match error.downcast_ref() {
                Some(library::Error::Forgets(_)) => ExitCode::from(FORGETS),
                Some(library::Error::Gate(_)) => ExitCode::from(GATE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// The exit code of a training that would have forgotten more than it may.
const FORGETS: u8 = 4;
/// The exit code of a training whose result does not meet a gate.
const GATE: u8 = 5;

/// The program's commands, options and help.
fn program<C: CommandFactory>() -> clap::Command {
    short_help::with_short_help(C::command())
}

/// The process's arguments; wrong ones, and those that ask for help, end the process here.
fn parsed<C: CommandFactory + FromArgMatches>() -> C {
    let matches = program::<C>().try_get_matches().unwrap_or_else(|error| usage::end(&error));
    C::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut program::<C>()).exit())
}

/// Logs as `EDGETUNE_LOG` asks (`info`, `debug`, `edgetune::cli=trace`), else at `level`. ONNX Runtime's own messages come only where
/// `ort` is named: what stops a run is in the error of the command, with what helps.
fn log_to_stderr(level: &str) {
    let asked = std::env::var("EDGETUNE_LOG").unwrap_or_default();
    let filter = targets(if asked.is_empty() { level } else { &asked }).unwrap_or_else(|problem| {
        eprintln!("warning: {problem}");
        targets(level).expect("a level is a filter")
    });
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(LogWriter::default).with_ansi(colours).without_time();
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}

/// Which logs are written.
///
/// # Errors
/// What is no filter, with how one is written.
fn targets(asked: &str) -> Result<Targets, String> {
    let whole = if asked.contains("ort") { asked.into() } else { format!("ort=off,{asked}") };
    whole.parse().map_err(|error| {
        format!("EDGETUNE_LOG={asked}: {error}; write a level (error, warn, info, debug, trace) or parts with levels, such as info,edgetune::cli=debug")
    })
}

fn dispatch(cli: Cli, printer: &Printer) -> anyhow::Result<Done> {
    let Cli { global, command } = cli;
    match command {
        Command::Demo(args) => commands::demo::run(&args, &global, printer),
        Command::Inspect(args) => commands::inspect::run(&args, &global, printer),
        Command::Check(args) => commands::check::run(&args, &global, printer),
        Command::Prepare(args) => commands::prepare::run(&args, &global, printer),
        Command::Train(args) => commands::train::run(&args, &global, printer),
        Command::Eval(args) => commands::eval::run(&args, &global, printer),
        Command::Predict(args) => commands::predict::run(&args, &global, printer),
        Command::EnrollIdentity(args) => commands::enroll_identity::run(&args, &global, printer),
        Command::Delta(args) => commands::delta::run(&args, &global, printer),
        Command::Data(args) => commands::data::run(&args, &global, printer),
        Command::Retention(args) => commands::retention::run(&args, &global, printer),
        Command::Moments(args) => commands::moments::run(&args, &global, printer),
        Command::Export(args) => commands::export::run(&args, &global, printer),
        Command::Import(args) => commands::import::run(&args, &global, printer),
        Command::Runtime(args) => commands::runtime::run(&args, &global, printer),
        Command::Ops(args) => commands::ops::run(&args, printer),
        #[cfg(feature = "workstation")]
        Command::Report(args) => commands::report::run(&args, printer),
        #[cfg(feature = "workstation")]
        Command::Board(args) => commands::board::run(&args, printer),
        Command::Tasks(args) => commands::tasks::run(&args, printer),
        Command::Agent(args) => commands::agent::run(&args, &global, printer),
        Command::Forget(args) => commands::forget::run(&args, printer),
        Command::Ledger(args) => commands::ledger::run(&args, printer),
        Command::Fleet(args) => commands::fleet::run(&args, &global, printer),
        Command::Doctor(args) => commands::doctor::run(&args, &global, printer),
        Command::Cache(args) => commands::cache::run(&args, &global, printer),
        #[cfg(feature = "workstation")]
        Command::Completions(args) => commands::shell::completions(&args, program::<Cli>(), printer),
        #[cfg(feature = "workstation")]
        Command::Man(args) => commands::shell::man(&args, program::<Cli>(), printer),
    }
}
