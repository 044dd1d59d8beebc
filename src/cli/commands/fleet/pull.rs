//! `edgetune fleet pull`.

use crate::atomic::write_atomically;
use crate::cli::args::Global;
use crate::cli::membership::{Patience, State};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::{Printer, bytes};
use crate::delta::Delta;
use crate::sync::client::{Client, Error, pull};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Fetch the adapter that a channel's devices are to use
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune fleet pull --channel photos --out B.edelta\n  edgetune predict model.onnx --adapter \
                  B.edelta photo.jpg\n  edgetune fleet pull --channel photos --recipe recipe.toml\n\nNothing is fetched where nothing is new; a fetch goes on where it was cut off. The adapter \
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
    /// The file that the channel's recipe is written to; `edgetune train RECIPE` trains by it
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    state: State,
    #[command(flatten)]
    patience: Patience,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    Error::unless_channel(&args.channel)?;
    let folder = args.state.open(global)?;
    let files = Files::default().reads("the adapter that was fetched last,", [&folder.adapter(&args.channel)]);
    files
        .writes("--out", &args.out, Kind::Delta)
        .writes("--recipe", &args.recipe, Kind::Recipe)
        .check(args.replacing)?;
    let _lock = folder.lock()?;
    let mut client = Client::open(&folder, args.patience.outside())?;
    let pulled = pull(&mut client, &folder, &args.channel)?;
    let path = args.out.as_ref().unwrap_or(&pulled.path);
    let adapter = std::fs::read(&pulled.path).with_context(|| pulled.path.display().to_string())?;
    if let Some(out) = &args.out {
        write(out, &adapter)?;
    }
    if let Some(file) = &args.recipe {
        write(file, recipe(&adapter, &args.channel)?.as_bytes())?;
    }
    let release = &pulled.release;
    printer.document(&json!({
        "channel": release.channel, "epoch": release.epoch, "version": release.version, "round": release.round, "base": release.base,
        "adapter": release.adapter, "bytes": release.length, "fetched_bytes": pulled.fetched, "new": pulled.is_new,
        "path": path, "recipe": args.recipe,
    }));
    let how = if pulled.is_new { format!("{} fetched", bytes(pulled.fetched)) } else { "nothing new".into() };
    printer.text(format!("{}: release {} ({how})", release.channel, release.number()));
    printer.text(format!("base     {}", release.base));
    if let Some(round) = release.round {
        printer.text(format!("round    {round} is open: edgetune train … --round {round}"));
    }
    printer.text(format!("adapter  {}", path.display()));
    if let Some(file) = &args.recipe {
        printer.text(format!("recipe   {0}: edgetune train {0} --model model.onnx --data …", file.display()));
    }
    Ok(())
}

/// What the channel's deltas are trained by, as a recipe's file.
fn recipe(adapter: &[u8], channel: &str) -> Result<String> {
    let delta = Delta::parse(adapter).context("the adapter")?;
    let text = delta.header().recipe_text;
    if text.is_empty() {
        bail!(
            "the adapter of {channel} does not hold the recipe that it was trained by; ask who made the channel for the recipe's file"
        );
    }
    Ok(format!(
        "# The recipe of the channel {channel}; what is not here is at its default. Name the model and the data:\n\
         # model = \"model.onnx\"\n# data = \"photos\"\n\n{text}"
    ))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written: std::io::Result<()> = write_atomically(path, |file| file.write_all(bytes));
    written.with_context(|| path.display().to_string())
}
