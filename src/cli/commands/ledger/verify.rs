//! `edgetune ledger verify`.

use super::{broken, open};
use crate::agent::record::ledger;
use crate::amounts::counted;
use crate::cli::Done;
use crate::cli::print::Printer;
use crate::delta::public_key;
use crate::sync::wire::Hex;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// Check that no line was changed, moved or left out, and who signed
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune ledger verify\n  edgetune ledger verify --file ledger.jsonl --key 9c1f… --head 04ab…\n\nExit code 1, \
                  with the line, if the ledger does not hold together. Without --key any key may have signed, also one that somebody put in \
                  the place of the device's."
)]
pub(super) struct Args {
    /// A key that may have signed: 64 hexadecimal digits, or a file with a public key as PEM. May be repeated
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// The head that an earlier `verify` told: that line must still be there
    #[arg(long, value_name = "HASH")]
    head: Option<Hex<32>>,
}

pub(super) fn run(args: &Args, path: &Path, printer: &Printer) -> Result<Done> {
    let keys: Vec<[u8; 32]> = args.key.iter().map(|key| named(key)).collect::<Result<_>>()?;
    let mut has_head = args.head.is_none();
    let walked = ledger::walk(open(path)?, &keys, &mut |entry| has_head |= args.head == Some(entry.follows));
    let walked = walked.map_err(|fault| broken(path, &fault))?;
    has_head |= args.head == Some(walked.head);
    if let Some(head) = args.head.filter(|_| !has_head) {
        bail!(
            "{}: no line has the hash {head}: lines at the end were cut off, or this is another ledger",
            path.display()
        );
    }
    printer.document(&walked);
    printer.text(format!(
        "{}, each as it was signed, in the order in which they were written",
        counted(walked.lines, "line")
    ));
    for (line, key) in &walked.keys {
        printer.text(format!("key   {key} from line {line}"));
    }
    printer.text(format!("head  {}", walked.head));
    if keys.is_empty() && walked.lines > 0 {
        printer.text("next  compare the key with the device's, or name it with --key; note the head to find later whether lines were cut off");
    }
    Ok(Done::Fully)
}

fn named(key: &str) -> Result<[u8; 32]> {
    if let Ok(Hex(key)) = key.parse() {
        return Ok(key);
    }
    let text = fs::read_to_string(key).with_context(|| format!("{key}: neither 64 hexadecimal digits nor a file"))?;
    public_key(&text)
        .with_context(|| format!("{key}: no public key as PEM; `edgetune ledger verify` tells the ledger's own"))
}
