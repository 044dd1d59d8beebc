//! `edgetune moments show`.

use crate::cli::Done;
use crate::cli::moments::{File, directions_name, report};
use crate::cli::print::{Printer, bytes};
use crate::task;
use crate::train::prepare::hex;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

/// Show what a file of moments contains
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune moments show A.emoments --json")]
pub struct Args {
    /// The moments
    moments: PathBuf,
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let file = File::read(&args.moments)?;
    let view = file.view()?;
    let mut report = report(&file.moments, view.identity());
    report["bytes"] = json!(file.bytes.len());
    report["signer"] = json!(view.signer().map(|key| hex(key)));
    printer.document(&report);
    let (about, sums) = (file.moments.about(), file.moments.sums());
    let signer = view.signer().map_or("not signed".into(), |key| format!("signed by {}", hex(key)));
    let lines = [
        ("identity", hex(view.identity())),
        ("signature", signer),
        ("size", bytes(file.bytes.len() as u64)),
        ("base", hex(&about.base)),
        ("output", format!("{}{}", about.output, if about.appended { ", with a head appended to it" } else { "" })),
        ("task", task::of_wire(about.task).name.into()),
        (
            "basis",
            format!("{} of {} features, {}", about.coordinates, about.features, directions_name(about.directions)),
        ),
        ("", hex(&about.basis)),
        ("samples", sums.samples().to_string()),
        ("clipped", format!("{} coordinates", sums.clipped())),
    ];
    for (name, value) in lines {
        printer.text(format!("{name:10} {value}"));
    }
    for (target, name) in file.moments.labels().iter().enumerate() {
        printer.text(format!("{:10} {name}: {}", if target == 0 { "labels" } else { "" }, sums.count(target)));
    }
    Ok(Done::Fully)
}
