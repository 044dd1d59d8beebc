//! `edgetune moments merge`.

use crate::cli::Done;
use crate::cli::moments::{File, key, write};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// Put moments of several devices or days together
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune moments merge A.emoments B.emoments --out C.emoments\n\nThe outcome is the file that all samples \
                  in one place give, to the bit. Classes are put together by their names. The same file given twice is refused: its samples \
                  would count twice."
)]
pub struct Args {
    /// The moments
    #[arg(required = true, num_args = 2..)]
    moments: Vec<PathBuf>,
    /// The file of moments that is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A secret key, from `delta keygen`, that signs them
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    replacing: Replacing,
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let files = Files::default().reads("the moments", &args.moments).reads("--key", &args.key);
    files.writes("--out", [&args.out], Kind::Moments).check(args.replacing)?;
    let key = key(args.key.as_ref())?;
    let files = args.moments.iter().map(|path| File::read(path)).collect::<Result<Vec<_>>>()?;
    for (place, file) in files.iter().enumerate() {
        let identity = *file.view()?.identity();
        for other in &files[..place] {
            if *other.view()?.identity() == identity {
                bail!(
                    "{} and {} are the same moments, whose samples would count twice; leave one out",
                    other.path.display(),
                    file.path.display()
                );
            }
        }
    }
    let (first, rest) = files.split_first().context("no moments")?;
    let mut sum = first.moments.clone();
    for file in rest {
        sum.merge(&file.moments).with_context(|| format!("{} and {}", first.path.display(), file.path.display()))?;
    }
    write(&args.out, &sum, key.as_ref(), printer)?;
    Ok(Done::Fully)
}
