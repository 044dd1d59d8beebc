//! `edgetune delta diff`.

use crate::cli::delta_report;
use crate::cli::deltas::{File, write};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use crate::delta::{self, EncodingChoice};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Compare two deltas of one base, or write the newer one as a difference to the older
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune delta diff OLD.edelta NEW.edelta\n  edgetune delta diff OLD.edelta NEW.edelta \
                  --out D.edelta\n\n`edgetune delta apply OLD.edelta D.edelta --out NEW.edelta` gives it back."
)]
pub struct Args {
    /// The older delta
    old: PathBuf,
    /// The newer delta
    new: PathBuf,
    /// The file that the difference is written to [default: only compare]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How changes are stored: fp16, int8, int4, sign, sparse:PERCENT [default: without any loss]
    #[arg(long, value_name = "ENCODING", requires = "out")]
    encoding: Option<EncodingChoice>,
    #[command(flatten)]
    replacing: Replacing,
}

pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let files = Files::default().reads("the older delta", [&args.old]).reads("the newer delta", [&args.new]);
    files.writes("--out", &args.out, Kind::Delta).check(args.replacing)?;
    let (old, new) = (File::read(&args.old)?, File::read(&args.new)?);
    let (old, new) = (old.parsed()?, new.parsed()?);
    if let Some(out) = &args.out {
        let difference = delta::change(&old, &new, args.encoding);
        return write(out, &difference.with_context(|| args.new.display().to_string())?, printer);
    }
    let report = delta_report::compared(&old, &new)?;
    printer.document(&report);
    delta_report::print_compared(&report, printer);
    Ok(())
}
