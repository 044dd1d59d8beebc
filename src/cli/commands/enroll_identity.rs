//! `edgetune enroll-identity`: vectors of known identities, in a file beside the adapter that made them.

use crate::atomic::write_atomically;
use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::identities::{delta_hash, refuse_without_vectors};
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use crate::cli::sample_args::ReadingArgs;
use crate::cli::stop::flag_on_signals;
use crate::data::{Labels, Target};
use crate::engine;
use crate::learn::samples::{self, inputs_of};
use crate::learn::{Context, Forward};
use crate::predict::Identities;
use crate::train::artifact::Adapter;
use anyhow::{Result, bail, ensure};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Enrol known identities, to be recognised by `predict`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  edgetune enroll-identity model.onnx --adapter A.edelta --data people/ --out people.knn\n  \
                  edgetune predict model.onnx --adapter A.edelta --identities people.knn photo.jpg"
)]
pub struct Args {
    /// The model that the adapter was trained on
    model: PathBuf,
    /// The adapter, which was trained for likeness
    #[arg(long, value_name = "FILE")]
    adapter: PathBuf,
    /// A folder for each identity
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The file of identities to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Share of the samples that may be taken for another identity while their own is left out: it decides the threshold
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    false_accepts: f64,
    /// Smallest cosine at which somebody is recognised, in place of --false-accepts
    #[arg(long, value_name = "X", conflicts_with = "false_accepts")]
    threshold: Option<f32>,
    /// Keep features in memory for this run only
    #[arg(long, help_heading = "Run")]
    no_cache: bool,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    reading: ReadingArgs,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let began = Instant::now();
    ensure!(
        (0.0..1.0).contains(&args.false_accepts),
        "--false-accepts {}: write a share from 0 to below 1",
        args.false_accepts
    );
    ensure!(args.threshold.is_none_or(|x| (-1.0..=1.0).contains(&x)), "--threshold: a cosine is between -1 and 1");
    let files = Files::default().reads("the model", [&args.model]).reads("--adapter", [&args.adapter]);
    files
        .data("--data", [&args.data])
        .writes("--out", [&args.out], Kind::Identities)
        .cache(global)
        .check(args.replacing)?;
    let adapter = Adapter::read(&args.adapter)?;
    refuse_without_vectors(&adapter)?;
    engine::load(&global.choice())?;
    let base = printer.during("reading the model", || adapter.base(&args.model))?;
    let (bundle, values) = adapter.bundle(&base, &global.bundles()?)?;
    let preprocessing = samples::of_adapter(&adapter.preprocessing, &args.data, printer);
    let reading = args.reading.clone().into();
    let reading = samples::with_tokenizer(reading, &base, (Some(&args.adapter), &preprocessing), printer);
    let options = samples::options(preprocessing.clone(), reading, &inputs_of(&base), Target::Identities, None);
    let (dataset, _) = samples::open(&args.data, &options, printer)?;
    let Labels::Identities { names, members, .. } = dataset.labels().clone() else { bail!("--data: no identities") };
    ensure!(!names.is_empty(), "--data {}: pairs have no names; give a folder for each identity", args.data.display());
    let stop = flag_on_signals()?;
    let context = global.context(&args.compute, began, &stop, printer)?;
    let context = &Context { keeps_features: !args.no_cache, ..context };
    let options = &context.computing.options();
    let forward = Forward { context, bundle: &bundle, options, preprocessing: &preprocessing };
    let all: Vec<usize> = (0..dataset.len()).collect();
    let ran = forward.run("enrolling", &Arc::new(dataset), &all, &[&values])?;
    let Some(mut answers) = ran else { return Ok(Done::Interrupted) };
    context.observer.warn_once(&answers.warnings);
    let vectors = members.iter().map(|member| member.identity).zip(answers.found.remove(0)).collect::<Vec<_>>();
    let made_by = (base.hash, delta_hash(&args.adapter)?);
    let (known, enrolled) = Identities::enrol(made_by, names, &vectors, (args.threshold, args.false_accepts))?;
    let bytes = known.encode();
    write_atomically(&args.out, |file| file.write_all(&bytes))?;
    let identities = known.names.len();
    printer.document(&serde_json::json!({
        "written": args.out, "bytes": bytes.len(), "identities": identities, "threshold": known.threshold,
        "samples": enrolled.samples, "recognised": enrolled.recognised, "false_accepts": enrolled.false_accepts,
    }));
    printer.text(format!(
        "{}: {identities} identities, {} samples, {} bytes",
        args.out.display(),
        enrolled.samples,
        bytes.len()
    ));
    printer.text(format!(
        "above a cosine of {:.4} a sample is recognised: {:.1} % by the others of its identity, {:.1} % as somebody else while its own is left out",
        known.threshold,
        100.0 * enrolled.recognised,
        100.0 * enrolled.false_accepts
    ));
    Ok(Done::Fully)
}
