//! `edgetune delta keygen`: a new signing key.

use crate::cli::deltas::create_new;
use crate::cli::print::Printer;
use crate::delta::KeyPair;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::PathBuf;

/// Make an Ed25519 key that deltas are signed with
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune delta keygen --out K.pem\n\nWrites the secret key (PKCS#8, readable by its owner \
                  alone) and beside it the public one, K.pub.pem. Files that are there stay as they are."
)]
pub struct Args {
    /// The file that the secret key is written to
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("the system gives no random numbers")?;
    let key = KeyPair::from_secret(&secret);
    let public = args.out.with_extension("pub.pem");
    create_new(&args.out, &key.to_pem()?, 0o600)?;
    // Without its public half the secret key is of no use, and in the way of the next try.
    create_new(&public, &key.public_pem()?, 0o644).inspect_err(|_| drop(std::fs::remove_file(&args.out)))?;
    printer.document(&json!({ "secret": args.out, "public": public }));
    printer.text(format!("{}: the secret key; keep it to yourself", args.out.display()));
    printer.text(format!("{}: the public key; give it to who reads your deltas", public.display()));
    Ok(())
}
