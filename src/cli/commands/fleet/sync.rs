//! `edgetune fleet sync`.

use crate::cli::args::Global;
use crate::cli::membership::{Demand, Patience, State};
use crate::cli::print::{Printer, bytes};
use crate::sync::client::{Client, Error, deliver, deliver_reports, pull};
use anyhow::{Result, bail};
use serde_json::json;

/// Send what waits, tell what became of releases, and fetch what a channel's devices are to use
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune fleet sync --channel photos\n\nWhat the agent does by itself where its configuration has a \
                  [fleet]. Each part is done whatever became of the others; exit code 1 if one was refused or still waits."
)]
pub struct Args {
    /// The channel
    #[arg(long, value_name = "NAME")]
    channel: String,
    #[command(flatten)]
    demand: Demand,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    patience: Patience,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    Error::unless_channel(&args.channel)?;
    let folder = args.state.open(global)?;
    let _lock = folder.lock()?;
    let mut client = Client::open(&folder, args.patience.outside())?;
    args.demand.to(&mut client, &folder)?;
    let (mut sent, mut told, mut failed) = (Vec::new(), 0, Vec::new());
    deliver(&mut client, &folder.queue(), &mut |channel, done| match done {
        Ok(delivered) => sent.push(delivered),
        Err(error) => failed.push(format!("{channel}: {error}")),
    })?;
    deliver_reports(&mut client, &folder.reports(), &mut |channel, done| match done {
        Ok(()) => told += 1,
        Err(error) => failed.push(format!("{channel}: report: {error}")),
    })?;
    let pulled = pull(&mut client, &folder, &args.channel);
    let release = pulled.as_ref().ok().map(|pulled| {
        json!({ "epoch": pulled.release.epoch, "version": pulled.release.version, "new": pulled.is_new, "fetched_bytes": pulled.fetched, "path": pulled.path })
    });
    printer.document(&json!({
        "channel": args.channel, "release": release, "reported": told, "failed": failed,
        "delivered": sent.iter().map(|sent| json!({ "channel": sent.channel, "hash": sent.hash, "sent_bytes": sent.sent }))
            .collect::<Vec<_>>(),
    }));
    for sent in &sent {
        printer.text(format!("{}: delivered, {} sent", sent.channel, bytes(sent.sent)));
    }
    match pulled {
        Ok(pulled) => {
            let how = if pulled.is_new { format!("{} fetched", bytes(pulled.fetched)) } else { "nothing new".into() };
            printer.text(format!("{}: release {} ({how})", args.channel, pulled.release.number()));
        }
        Err(error) => failed.push(error.to_string()),
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}
