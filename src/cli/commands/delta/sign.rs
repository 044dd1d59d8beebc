//! `edgetune delta sign`.

use crate::cli::deltas::{File, write};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use crate::delta::{self, KeyPair};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Sign a delta
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune delta sign A.edelta --key K.pem --out B.edelta")]
pub struct Args {
    /// The delta
    delta: PathBuf,
    /// The secret key, from `keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the signed delta goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    replacing: Replacing,
}

pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let files = Files::default().reads("the delta", [&args.delta]).reads("--key", [&args.key]);
    files.writes("--out", [&args.out], Kind::Delta).check(args.replacing)?;
    let file = File::read(&args.delta)?;
    let text = std::fs::read_to_string(&args.key).with_context(|| args.key.display().to_string())?;
    let key = KeyPair::from_pem(&text).with_context(|| args.key.display().to_string())?;
    let signed = delta::sign(&file.bytes, &key).with_context(|| args.delta.display().to_string())?;
    write(&args.out, &signed, printer)
}
