//! `edgetune ledger`: what a device did with data and adapters, as evidence that can be checked.

#[cfg(feature = "workstation")]
mod card;
#[cfg(feature = "workstation")]
mod export;
mod show;
mod trace;
mod verify;

use crate::agent::config::Config;
use crate::agent::record::adapters::Event;
use crate::agent::record::ledger;
use crate::cli::Done;
use crate::cli::print::Printer;
use anyhow::{Context, Result, anyhow};
use clap::Subcommand;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Show, check and trace what a device learned from, used and sent
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune ledger show\n  edgetune ledger verify --key device.pub.pem\n  edgetune ledger trace\n\nThe agent \
                  writes a line for each event to STATE/ledger.jsonl. Each line holds the hash of the line before it and a signature by the \
                  device's key, so a changed, moved or missing line is found. What was cut off at the end is found by whoever noted the \
                  head that `verify` tells."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// The agent's configuration, which says where the ledger is
    #[arg(long, value_name = "FILE", default_value = "/etc/edgetune/edgetune.toml", global = true)]
    config: PathBuf,
    /// A ledger.jsonl that was copied from a device, in place of the configuration's
    #[arg(long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show each event, oldest first
    #[command(after_help = "Example:\n  edgetune ledger show --json | jq -c '.[] | select(.event == \"shared\")'")]
    Show,
    Verify(verify::Args),
    Trace(trace::Args),
    #[cfg(feature = "workstation")]
    Export(export::Args),
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let path = match &args.file {
        Some(file) => file.clone(),
        None => Config::read(&args.config)?.state.join(ledger::FILE),
    };
    match &args.action {
        Action::Show => show::run(&path, printer),
        Action::Verify(args) => verify::run(args, &path, printer),
        Action::Trace(args) => trace::run(args, &path, printer),
        #[cfg(feature = "workstation")]
        Action::Export(args) => export::run(args, &path, printer),
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).with_context(|| {
        format!("{}: no ledger; the agent begins one with its first event, or name a copy with --file", path.display())
    })?;
    Ok(BufReader::new(file))
}

/// All events of a ledger that holds together.
fn events(path: &Path) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let walked = ledger::walk(open(path)?, &[], &mut |entry| events.push(entry.what));
    walked.map_err(|fault| broken(path, &fault))?;
    Ok(events)
}

fn broken(path: &Path, fault: &ledger::Fault) -> anyhow::Error {
    anyhow!("{}: {fault}", path.display())
}
