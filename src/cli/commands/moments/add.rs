//! `edgetune moments add`.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::moments::{BasisArgs, File, Model, Reads, Summing, key, write};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Sum up labelled samples, or add them to moments
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune moments add model.onnx --data photos/ --out A.emoments\n  edgetune moments add model.onnx \
                  --data more/ --to A.emoments --out B.emoments\n  edgetune moments add model.onnx --data rows.csv --label price \
                  --loss mean-squared-error --out P.emoments\n\nThe basis follows from the model, so devices with the same model make \
                  moments that can be merged. With --to everything is as in that file."
)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// Labelled data, in any form that `train` takes
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The moments that the samples are added to [default: none, new ones begin]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// The file of moments that is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A secret key, from `delta keygen`, that signs them
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A basis, from `moments basis` [default: the one that follows from the model]
    #[arg(long, help_heading = "Basis", value_name = "FILE", conflicts_with_all = ["directions", "coordinates", "bits", "basis_seed"])]
    basis: Option<PathBuf>,
    #[command(flatten)]
    asked: BasisArgs,
    #[command(flatten)]
    reads: Reads,
    #[command(flatten)]
    replacing: Replacing,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let files = Files::default().reads("the model", [&args.model]).reads("--to", &args.to).reads("--key", &args.key);
    let files = files.reads("--basis", &args.basis).data("--data", [&args.data]).cache(global);
    files.writes("--out", [&args.out], Kind::Moments).check(args.replacing)?;
    let key = key(args.key.as_ref())?;
    let known = args.to.as_deref().map(File::read).transpose()?;
    let model = match &known {
        Some(file) => Model::from_moments(&args.model, file, global, printer)?,
        None => Model::read(&args.model, args.reads.output.as_deref(), global, printer)?,
    };
    let summing = Summing {
        model: &model,
        data: &args.data,
        reads: &args.reads,
        known: known.as_ref().map(|file| &file.moments),
        basis_file: args.basis.as_deref(),
        asked: &args.asked,
        global,
        printer,
    };
    let Some(mut moments) = summing.moments()? else { return Ok(Done::Interrupted) };
    if let Some(file) = &known {
        moments.merge(&file.moments).with_context(|| file.path.display().to_string())?;
    }
    write(&args.out, &moments, key.as_ref(), printer)?;
    Ok(Done::Fully)
}
