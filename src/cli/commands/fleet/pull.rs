//! `edgetune fleet pull`.

use crate::atomic::write_atomically;
use crate::cli::args::Global;
use crate::cli::membership::{Patience, State};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::{Printer, bytes};
use crate::sync::client::{Client, pull};
use anyhow::{Context, Result};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// Fetch the adapter that a channel's devices are to use
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune fleet pull --channel photos --out B.edelta\n  edgetune predict model.onnx --adapter \
                  B.edelta photo.jpg\n\nNothing is fetched where nothing is new; a fetch goes on where it was cut off. The adapter \
                  must be signed by the release key that the device was told when it was enrolled, and a release that is \
                  older than the last one is refused. Whether it is good here is for `edgetune eval` to say."
)]
pub struct Args {
    /// The channel
    #[arg(long, value_name = "NAME")]
    channel: String,
    /// Where the adapter goes [default: only to the state's folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    patience: Patience,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let folder = args.state.open(global)?;
    let files = Files::default().reads("the adapter that was fetched last,", [&folder.adapter(&args.channel)]);
    files.writes("--out", &args.out, Kind::Delta).check(args.replacing)?;
    let _lock = folder.lock()?;
    let mut client = Client::of(&folder, args.patience.outside())?;
    let pulled = pull(&mut client, &folder, &args.channel)?;
    let path = args.out.as_ref().unwrap_or(&pulled.path);
    if let Some(out) = &args.out {
        let adapter = std::fs::read(&pulled.path).with_context(|| pulled.path.display().to_string())?;
        let written: std::io::Result<()> = write_atomically(out, |file| file.write_all(&adapter));
        written.with_context(|| out.display().to_string())?;
    }
    let release = &pulled.release;
    printer.document(&json!({
        "channel": release.channel, "epoch": release.epoch, "version": release.version, "round": release.round, "base": release.base,
        "adapter": release.adapter, "bytes": release.length, "fetched_bytes": pulled.fetched, "new": pulled.is_new,
        "path": path,
    }));
    let how = if pulled.is_new { format!("{} fetched", bytes(pulled.fetched)) } else { "nothing new".into() };
    printer.text(format!("{}: release {} ({how})", release.channel, release.number()));
    printer.text(format!("base     {}", release.base));
    if let Some(round) = release.round {
        printer.text(format!("round    {round} is open: edgetune train … --round {round}"));
    }
    printer.text(format!("adapter  {}", path.display()));
    Ok(())
}
