//! `edgetune moments remove`.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::moments::{BasisArgs, File, Model, Reads, Summing, key, write};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Remove samples that were added: the file is then, to the bit, what it would be without them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune moments remove C.emoments --moments B.emoments --out E.emoments\n  edgetune moments remove \
                  C.emoments --data withdrawn/ --model model.onnx --out E.emoments\n\n`edgetune moments verify E.emoments --from C.emoments \
                  --removed B.emoments` proves it to somebody else. With --data the features are computed anew: on the same machine with the \
                  same ONNX Runtime they are the same; elsewhere keep the moments of what may be withdrawn."
)]
pub struct Args {
    /// The moments
    whole: PathBuf,
    /// Moments of what is taken away
    #[arg(long, value_name = "FILE", required_unless_present = "data", conflicts_with = "data")]
    moments: Option<PathBuf>,
    /// The samples that are taken away, labelled as they were when they were added
    #[arg(long, value_name = "PATH", requires = "model")]
    data: Option<PathBuf>,
    /// The model of the moments, for --data
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// The basis of the moments, where it is a file
    #[arg(long, value_name = "FILE")]
    basis: Option<PathBuf>,
    /// The file of moments that is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A secret key, from `delta keygen`, that signs them
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    reads: Reads,
    #[command(flatten)]
    replacing: Replacing,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let files = Files::default().reads("the moments", [&args.whole]).reads("--moments", &args.moments);
    let files = files.reads("the model", &args.model).reads("--key", &args.key).reads("--basis", &args.basis);
    let files = files.data("--data", &args.data).cache(global);
    files.writes("--out", [&args.out], Kind::Moments).check(args.replacing)?;
    let key = key(args.key.as_ref())?;
    let whole = File::read(&args.whole)?;
    let part = match (&args.moments, &args.data, &args.model) {
        (None, Some(data), Some(path)) => {
            let model = Model::from_moments(path, &whole, global, printer)?;
            let summing = Summing {
                model: &model,
                data,
                reads: &args.reads,
                known: Some(&whole.moments),
                basis_file: args.basis.as_deref(),
                asked: &BasisArgs::default(),
                global,
                printer,
            };
            let Some(part) = summing.moments()? else { return Ok(Done::Interrupted) };
            part
        }
        (moments, ..) => {
            File::read(moments.as_deref().context("name what is removed with --moments or --data")?)?.moments
        }
    };
    let mut left = whole.moments.clone();
    left.subtract(&part).with_context(|| args.whole.display().to_string())?;
    write(&args.out, &left, key.as_ref(), printer)?;
    Ok(Done::Fully)
}
