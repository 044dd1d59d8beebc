//! `edgetune delta convert`.

use crate::cli::args::{Compute, Global};
use crate::cli::deltas::{Bound, File, write};
use crate::cli::print::Printer;
use crate::cli::samples::Reading;
use crate::delta::{self, Choice};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// Store a delta's values in another way
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune delta convert A.edelta --encoding int4 --out B.edelta\n  edgetune delta convert \
                  A.edelta --max-loss-increase 0.01 --model model.onnx --data photos/val --out B.edelta"
)]
pub struct Args {
    /// The delta
    delta: PathBuf,
    /// Where the other delta goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// fp16, int8, int4, sign or sparse:PERCENT
    #[arg(long, value_name = "ENCODING", conflicts_with = "max_loss_increase")]
    encoding: Option<Choice>,
    /// Take the encoding that gives the smallest file while the loss on --data grows by no more than this
    #[arg(long, value_name = "LOSS", requires = "model", requires = "data")]
    max_loss_increase: Option<f64>,
    /// The model that the delta was trained on
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Labelled data, in any form that `train` takes
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let file = File::read(&args.delta)?;
    let converted = match (args.encoding, args.max_loss_increase, &args.model, &args.data) {
        (Some(choice), ..) => {
            delta::convert(&file.parsed()?, choice).with_context(|| args.delta.display().to_string())?
        }
        (None, Some(increase_max), Some(model), Some(data)) => {
            let Args { reading, compute, .. } = args;
            Bound { model, data, reading, compute, increase_max }.smallest(&file, global, printer)?
        }
        _ => bail!("say how: --encoding ENCODING, or --max-loss-increase LOSS with --model and --data"),
    };
    write(&args.out, &converted, printer)
}
