//! `edgetune fleet status`.

use crate::cli::args::Global;
use crate::cli::membership::State;
use crate::cli::print::{Printer, bytes};
use crate::sync::client::Taken;
use crate::sync::wire::Hex;
use anyhow::Result;
use serde_json::json;

/// Show this device's place in its fleet, what it has taken and what waits to be sent, without asking the server
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune fleet status --json")]
pub struct Args {
    #[command(flatten)]
    state: State,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let folder = args.state.open(global)?;
    let member = folder.member()?;
    let (key, seen, queue) = (Hex(folder.key()?.public()), folder.seen()?, folder.queue().list()?);
    let reports = folder.reports().list()?;
    let taken = |(channel, Taken { release, .. }): (&String, &Taken)| {
        json!({
            "channel": channel, "epoch": release.epoch, "version": release.version, "base": release.base, "adapter": release.adapter,
            "path": folder.adapter(channel),
        })
    };
    let waiting = queue.iter().map(|waits| json!({ "channel": waits.channel, "bytes": waits.length }));
    printer.document(&json!({
        "state": folder.path(), "url": member.url, "fleet": member.fleet, "name": member.name, "key": key,
        "release_key": member.release_key, "release_keys": member.release_keys(),
        "root": member.root.as_ref().map(|root| json!({ "epoch": root.epoch, "expires_ms": root.expires_ms })), "channels": seen.0.iter().map(taken).collect::<Vec<_>>(),
        "waiting": waiting.collect::<Vec<_>>(),
        "reports": reports.iter().map(|waits| &waits.channel).collect::<Vec<_>>(),
    }));
    printer.text(format!("server       {}", member.url));
    printer.text(format!("device       {} ({key})", member.name));
    member.release_keys().iter().for_each(|key| printer.text(format!("releases by  {key}")));
    if let Some(root) = &member.root {
        printer.text(format!("root         {} of {} keys, epoch {}", root.threshold, root.roots.len(), root.epoch));
    }
    for (channel, Taken { release, .. }) in &seen.0 {
        printer.text(format!("channel      {channel}: release {}, base {}", release.number(), release.base));
    }
    for waits in &queue {
        printer.text(format!("waiting      {}: {}", waits.channel, bytes(waits.length)));
    }
    for waits in &reports {
        printer.text(format!("waiting      {}: what became of its release", waits.channel));
    }
    Ok(())
}
