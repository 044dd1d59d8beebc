//! `edgetune delta convert`.

use crate::cli::args::{Compute, Global};
use crate::cli::deltas::{Bound, File, write};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use crate::cli::sample_args::ReadingArgs;
use crate::delta;
use crate::engine;
use crate::recipe::EncodingName;
use crate::train::artifact::Adapter;
use crate::train::low_rank;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::str::FromStr;

/// Store a delta's values in another way
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune delta convert A.edelta --encoding int4 --out B.edelta\n  edgetune delta convert \
                  A.edelta --encoding auto --model model.onnx --data photos/val --out B.edelta"
)]
pub struct Args {
    /// The delta
    delta: PathBuf,
    /// The delta that is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// fp16, int8, int4, sign, sparse:PERCENT; auto, the smallest file that --max-loss-increase allows; or low-rank:R, the change
    /// of whole layers of --model as LoRA factors
    #[arg(long, value_name = "ENCODING")]
    encoding: Option<Target>,
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
    reading: ReadingArgs,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    compute: Compute,
}

/// What the values become.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    Encoding(EncodingName),
    /// Factors of this rank.
    LowRank(u32),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(rank) = text.strip_prefix("low-rank:") else {
            return text.parse().map(Self::Encoding);
        };
        let rank = rank.parse().ok().filter(|rank| *rank > 0);
        rank.map(Self::LowRank).ok_or("no rank; write low-rank:R with R of 1 or more, such as low-rank:8")
    }
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let files = Files::default().reads("the delta", [&args.delta]).reads("the model", &args.model).cache(global);
    let files = files.reads("--tokenizer", &args.reading.tokenizer).data("--data", &args.data);
    files.writes("--out", [&args.out], Kind::Delta).check(args.replacing)?;
    let (file, bound) = (File::read(&args.delta)?, args.max_loss_increase);
    let wanted = match args.encoding {
        Some(Target::LowRank(rank)) => return low_rank(args, rank, global, printer),
        Some(Target::Encoding(name)) => Some(name),
        None => bound.map(|_| EncodingName::Auto),
    };
    let converted = match (wanted, &args.model, &args.data) {
        (Some(EncodingName::Of(choice)), ..) if bound.is_some() => {
            bail!("--max-loss-increase: --encoding {choice} is stored whatever it costs; write --encoding auto")
        }
        (Some(EncodingName::Of(choice)), ..) => {
            delta::convert(&file.parsed()?, choice).with_context(|| args.delta.display().to_string())?
        }
        (Some(EncodingName::Auto), Some(model), Some(data)) => {
            let Args { reading, compute, .. } = args;
            let reading = &reading.clone().into();
            Bound { model, data, reading, compute, increase_max: bound }.smallest(&file, global, printer)?
        }
        _ => bail!("say how: --encoding ENCODING, or --encoding auto with --model and --data"),
    };
    write(&args.out, &converted, printer)
}

fn low_rank(args: &Args, rank: u32, global: &Global, printer: &Printer) -> Result<()> {
    if args.max_loss_increase.is_some() || args.data.is_some() {
        bail!("--encoding low-rank measures nothing; remove --max-loss-increase and --data, and use `edgetune eval`");
    }
    let model = args.model.as_deref().context("--encoding low-rank: name the delta's base with --model FILE")?;
    engine::load(&global.choice())?;
    let file = File::read(&args.delta)?;
    let base = Adapter::from_bytes(&args.delta, &file.bytes)?.base(model)?;
    let made = low_rank::refactor(&base, &args.delta, &file.bytes, rank)?;
    for (name, lost) in &made.lost {
        printer.note(format!("{name}: rank {rank} loses {:.2} % of the change", 100.0 * lost));
    }
    write(&args.out, &made.bytes, printer)
}
