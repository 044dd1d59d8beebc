//! `edgetune delta apply`.

use crate::cli::args::Global;
use crate::cli::deltas::{File, is_delta, write};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use crate::delta;
use crate::engine;
use crate::train::artifact::Adapter;
use crate::train::export;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Join a model and a delta to a model, or a delta and a difference to it to a delta
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune delta apply model.onnx A.edelta --out merged.onnx\n  edgetune delta apply \
                  OLD.edelta D.edelta --out NEW.edelta"
)]
pub struct Args {
    /// The model, or the delta that the other one is a difference to
    #[arg(value_name = "MODEL|DELTA")]
    base: PathBuf,
    /// What is applied to it
    delta: PathBuf,
    /// The file that is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Put the weights of a model into a file beside it
    #[arg(long)]
    external_weights: bool,
    #[command(flatten)]
    replacing: Replacing,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let files = Files::default().reads("the delta", [&args.delta]);
    if is_delta(&args.base)? {
        let files = files.reads("the older delta", [&args.base]).writes("--out", [&args.out], Kind::Delta);
        files.check(args.replacing)?;
        let (parent, difference) = (File::read(&args.base)?, File::read(&args.delta)?);
        let joined = delta::join(&parent.parsed()?, &difference.parsed()?);
        return write(&args.out, &joined.with_context(|| args.delta.display().to_string())?, printer);
    }
    let weights = args.external_weights.then(|| export::beside(&args.out));
    let files = files.reads("the model", [&args.base]).writes("--out", [&args.out], Kind::Model);
    files.writes("--out", &weights, Kind::Weights).check(args.replacing)?;
    let adapter = Adapter::read(&args.delta)?;
    engine::load(&global.choice())?;
    export::merged_model(&args.out, &adapter.base(&args.base)?, &adapter, args.external_weights)?;
    printer.document(&serde_json::json!({ "model": args.out }));
    printer.text(format!("{}: the model with {} in it", args.out.display(), args.delta.display()));
    Ok(())
}
