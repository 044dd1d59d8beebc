//! `edgetune delta merge`.

use crate::cli::deltas::{File, write};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use crate::delta;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// Average deltas of one base and one recipe
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune delta merge A.edelta B.edelta --weights 3,1 --out M.edelta\n\nLoRA's factors are put \
                  beside each other, which is exact: the rank is the sum of the ranks. Ranks, alphas and layers may differ."
)]
pub struct Args {
    /// The deltas
    #[arg(required = true, num_args = 2..)]
    deltas: Vec<PathBuf>,
    /// Weight of each delta in the average [default: the number of samples that it has learned from]
    #[arg(long, value_name = "W,W…", value_delimiter = ',')]
    weights: Vec<f32>,
    /// Where the average goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    replacing: Replacing,
}

pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let paths = Files::default().reads("the delta", &args.deltas).writes("--out", [&args.out], Kind::Delta);
    paths.check(args.replacing)?;
    let files = args.deltas.iter().map(|path| File::read(path)).collect::<Result<Vec<_>>>()?;
    let deltas = files.iter().map(File::parsed).collect::<Result<Vec<_>>>()?;
    let mut weights = args.weights.clone();
    if weights.is_empty() {
        weights = deltas.iter().map(|delta| delta.header().samples as f32).collect();
    }
    if weights.len() != deltas.len() || !weights.iter().all(|weight| *weight > 0.0 && weight.is_finite()) {
        bail!("--weights {weights:?}: give one number above 0 for each of the {} deltas", deltas.len());
    }
    write(&args.out, &delta::merge(&deltas, &weights).context("merging")?, printer)
}
