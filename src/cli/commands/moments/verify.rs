//! `edgetune moments verify`.

use crate::cli::Done;
use crate::cli::moments::File;
use crate::cli::print::Printer;
use crate::delta;
use crate::moments::View;
use crate::train::prepare::hex;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::path::PathBuf;

/// Check that moments can come from data, who has signed them, and that others were taken away; anything else ends with exit code 1
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune moments verify A.emoments --public K.pub.pem\n  edgetune moments verify E.emoments --from \
                  C.emoments --removed B.emoments\n\nThe second one recomputes the sums: E must be C without B, to the bit."
)]
pub struct Args {
    /// The moments
    moments: PathBuf,
    /// The public key of the signer whom you trust
    #[arg(long, value_name = "FILE")]
    public: Option<PathBuf>,
    /// The moments before something was taken away
    #[arg(long, value_name = "FILE", requires = "removed")]
    from: Option<PathBuf>,
    /// The moments of what was taken away
    #[arg(long, value_name = "FILE", requires = "from")]
    removed: Option<PathBuf>,
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let file = File::read(&args.moments)?;
    let view = file.view()?;
    let name = args.moments.display();
    let mut said = format!("{name}: whole, and such as data give");
    if let Some(path) = &args.public {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let key = delta::public_key(&text).with_context(|| path.display().to_string())?;
        view.verify(&key).with_context(|| name.to_string())?;
        said += &format!(", signed by {}", path.display());
    }
    if let (Some(from), Some(removed)) = (&args.from, &args.removed) {
        let (whole, part) = (File::read(from)?, File::read(removed)?);
        let mut left = whole.moments.clone();
        left.subtract(&part.moments).with_context(|| format!("{} without {}", from.display(), removed.display()))?;
        let encoded = left.encode().context("nothing is left")?;
        if View::parse(&encoded)?.identity() != view.identity() {
            bail!("{name}: not what {} is without {}; do not trust it", from.display(), removed.display());
        }
        said += &format!(", and to the bit {} without {}", from.display(), removed.display());
    }
    let removed = args.removed.is_some();
    printer.document(
        &json!({ "identity": hex(view.identity()), "signer": view.signer().map(|key| hex(key)), "removed": removed }),
    );
    printer.text(said);
    Ok(Done::Fully)
}
