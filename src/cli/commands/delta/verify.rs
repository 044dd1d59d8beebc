//! `edgetune delta verify`.

use crate::cli::deltas::File;
use crate::cli::print::Printer;
use crate::delta;
use crate::train::prepare::hex;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::PathBuf;

/// Check that a delta is whole and signed by a key; anything else ends with exit code 1
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune delta verify B.edelta --public K.pub.pem")]
pub struct Args {
    /// The delta
    delta: PathBuf,
    /// The public key of the signer whom you trust
    #[arg(long, value_name = "FILE")]
    public: PathBuf,
}

pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let text = std::fs::read_to_string(&args.public).with_context(|| args.public.display().to_string())?;
    let key = delta::public_key(&text).with_context(|| args.public.display().to_string())?;
    let file = File::read(&args.delta)?;
    let delta = file.parsed()?;
    delta.head().verify(&key).with_context(|| args.delta.display().to_string())?;
    printer.document(&json!({ "identity": hex(delta.identity()), "signer": hex(&key) }));
    printer.text(format!("{}: whole, and signed by {}", args.delta.display(), args.public.display()));
    Ok(())
}
