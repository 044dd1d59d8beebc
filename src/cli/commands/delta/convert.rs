//! `edgetune delta convert`.

use crate::cli::args::{Compute, Global};
use crate::cli::deltas::{Bound, File, write};
use crate::cli::encoding::EncodingName;
use crate::cli::print::Printer;
use crate::cli::samples::Reading;
use crate::delta;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// Store a delta's values in another way
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune delta convert A.edelta --encoding int4 --out B.edelta\n  edgetune delta convert \
                  A.edelta --encoding auto --model model.onnx --data photos/val --out B.edelta"
)]
pub struct Args {
    /// The delta
    delta: PathBuf,
    /// Where the other delta goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// fp16, int8, int4, sign, sparse:PERCENT, or auto, the smallest file that --max-loss-increase allows
    #[arg(long, value_name = "ENCODING")]
    encoding: Option<EncodingName>,
    /// By how much the loss on --data may grow with auto [default: 0.01, for numbers 1 % of the loss]
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
    let bound = args.max_loss_increase;
    let wanted = args.encoding.or(bound.map(|_| EncodingName::Auto));
    let converted = match (wanted, &args.model, &args.data) {
        (Some(EncodingName::Of(choice)), ..) if bound.is_some() => {
            bail!("--max-loss-increase: --encoding {choice} is stored whatever it costs; write --encoding auto")
        }
        (Some(EncodingName::Of(choice)), ..) => {
            delta::convert(&file.parsed()?, choice).with_context(|| args.delta.display().to_string())?
        }
        (Some(EncodingName::Auto), Some(model), Some(data)) => {
            let Args { reading, compute, .. } = args;
            Bound { model, data, reading, compute, increase_max: bound }.smallest(&file, global, printer)?
        }
        _ => bail!("say how: --encoding ENCODING, or --encoding auto with --model and --data"),
    };
    write(&args.out, &converted, printer)
}
