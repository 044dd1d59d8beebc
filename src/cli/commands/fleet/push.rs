//! `edgetune fleet push`.

use crate::cli::args::Global;
use crate::cli::deltas::File;
use crate::cli::membership::{Demand, Patience, State};
use crate::cli::print::{Printer, bytes};
use crate::delta::{Counting, counted};
use crate::sync::client::{Client, Delivered, Error, deliver};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::path::PathBuf;

/// Send a delta to the fleet; what cannot be sent now waits on the disk
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune fleet push A.edelta --channel photos\n  edgetune fleet push\n\nThe delta is written to \
                  the queue first, in place of an older one for the same channel, so nothing is lost where the server is not \
                  reached; the next push delivers it. It is signed by this device. Sending goes on where it was cut off, and a \
                  delta that the server has is not sent again. Exit code 1 if anything was refused or still waits."
)]
pub struct Args {
    /// The delta; without one, only what waits is sent
    #[arg(requires = "channel")]
    delta: Option<PathBuf>,
    /// The channel that the delta was learned for
    #[arg(long, value_name = "NAME", requires = "delta")]
    channel: Option<String>,
    /// How many samples it says that it was learned from, by class: exact, rounded (up to multiples of ten), or none (their sum is rounded)
    #[arg(long, value_name = "HOW", requires = "delta", default_value_t)]
    counts: Counting,
    #[command(flatten)]
    demand: Demand,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    patience: Patience,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let folder = args.state.open(global)?;
    let queue = folder.queue();
    if let (Some(path), Some(channel)) = (&args.delta, &args.channel) {
        let file = File::read(path)?;
        let delta = file.parsed()?;
        let bytes = match args.counts {
            Counting::Exact => file.bytes.clone(),
            counting => counted(&delta, counting).with_context(|| path.display().to_string())?,
        };
        queue.put(channel, &bytes)?;
    }
    let before = queue.list()?;
    let waiting = || format!("{} waiting to be sent", before.len());
    let _lock = folder.lock().with_context(waiting)?;
    let mut client = Client::open(&folder, args.patience.outside()).with_context(waiting)?;
    args.demand.to(&mut client, &folder)?;
    let (mut delivered, mut failed) = (Vec::new(), Vec::new());
    deliver(&mut client, &queue, &mut |channel, done| match done {
        Ok(done) => delivered.push(done),
        Err(error) => failed.push((channel.to_owned(), error)),
    })?;
    let waiting = queue.list()?;
    let list: Vec<_> = waiting.iter().map(|waits| json!({ "channel": waits.channel, "bytes": waits.length })).collect();
    let sent = delivered.iter().map(|Delivered { channel, hash, length, sent }| {
        json!({ "channel": channel, "hash": hash, "bytes": length, "sent_bytes": sent })
    });
    let told = |(channel, error): &(String, Error)| json!({ "channel": channel, "error": error.to_string() });
    printer.document(&json!({
        "delivered": sent.collect::<Vec<_>>(), "failed": failed.iter().map(told).collect::<Vec<_>>(), "waiting": list,
    }));
    for Delivered { channel, hash, length, sent } in &delivered {
        let how = if *sent == 0 { "the server had it".into() } else { format!("{} sent", bytes(*sent)) };
        printer.text(format!("{channel}: delivered, {} ({how}), {hash}", bytes(*length)));
    }
    if before.is_empty() {
        printer.text("nothing waits to be sent");
    }
    let reasons: Vec<_> = failed.iter().map(|(channel, error)| format!("{channel}: {error}")).collect();
    match (reasons.is_empty(), waiting.len()) {
        (true, _) => Ok(()),
        (_, 0) => bail!("{}", reasons.join("\n")),
        (_, count) => bail!(
            "{}\n{count} waiting in {}; `edgetune fleet push` sends what waits",
            reasons.join("\n"),
            folder.path().display()
        ),
    }
}
