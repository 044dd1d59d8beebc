//! `edgetune moments basis`.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::moments::{BasisArgs, Model, Reads, Summing, directions_name, key};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::{Printer, bytes};
use crate::moments::sign_basis;
use crate::train::artifact;
use crate::train::prepare::hex;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

/// Learn once, on a workstation, the range and directions of features: a small file that devices use with `moments add --basis`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune moments basis model.onnx --data photos/ --coordinates 96 --out model.ebasis\n\nThe file holds the \
                  mean of the features and the step that each coordinate is rounded to; directions follow from the model. It is needed \
                  where features are so large or small that the usual steps clip or blur them, and makes files of moments smaller. All that are \
                  to be merged need the same one."
)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// Data such as the devices will see, two samples or more
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Where the basis goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A secret key, from `delta keygen`, that signs it
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    #[command(flatten)]
    asked: BasisArgs,
    #[command(flatten)]
    reads: Reads,
    #[command(flatten)]
    replacing: Replacing,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let files = Files::default().reads("the model", [&args.model]).reads("--key", &args.key);
    let files = files.data("--data", [&args.data]).cache(global);
    files.writes("--out", [&args.out], Kind::Basis).check(args.replacing)?;
    let key = key(args.key.as_ref())?;
    let model = Model::read(&args.model, args.reads.output.as_deref(), global, printer)?;
    let summing = Summing {
        model: &model,
        data: &args.data,
        reads: &args.reads,
        known: None,
        basis_file: None,
        asked: &args.asked,
        global,
        printer,
    };
    let Some(basis) = summing.learned_basis()? else { return Ok(Done::Interrupted) };
    let mut encoded = basis.encode()?;
    if let Some(key) = &key {
        encoded = sign_basis(&encoded, key)?;
    }
    artifact::save(&args.out, &encoded)?;
    let (coordinates, directions) = (basis.coordinates(), directions_name(basis.kind()));
    printer.document(&json!({
        "basis": args.out, "bytes": encoded.len(), "hash": hex(&basis.hash()), "coordinates": coordinates,
        "features": basis.features(), "directions": directions, "bits": basis.bits(),
    }));
    let size = bytes(encoded.len() as u64);
    printer.text(format!(
        "{}: {size}, {coordinates} of {} features, {directions}",
        args.out.display(),
        basis.features()
    ));
    Ok(Done::Fully)
}
