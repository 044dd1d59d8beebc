//! `edgetune prepare`: the graphs that a training run would use, as files to look at or to ship.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::print::{Printer, bytes};
use crate::cli::recipe::{LossName, Recipe};
use crate::cli::run;
use crate::cli::settings;
use crate::data::Labels;
use crate::engine;
use crate::train::prepare::{Base, hex};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::path::PathBuf;

/// Split a model into body and tail and write their graphs, with the step graph, beside one weights file
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune prepare model.onnx --train last:2 --classes 10 --out bundle/")]
pub struct Args {
    /// The model
    model: PathBuf,
    /// What learns: head, last:N, or a pattern over node and initializer names; repeatable
    #[arg(long, value_name = "SPEC")]
    train: Vec<String>,
    /// The number of classes, or a file with one class name a line
    #[arg(long, value_name = "N|FILE")]
    classes: String,
    /// What to minimise [default: cross-entropy]
    #[arg(long, value_enum)]
    loss: Option<LossName>,
    /// Which of the model's outputs to train on
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// The folder that is written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    engine::load(&global.choice())?;
    let base = Base::read(&args.model)?;
    let names = class_names(&args.classes)?;
    let recipe = Recipe { train: args.train.clone(), output: args.output.clone(), ..Recipe::default() };
    let labels = Labels::Classes { names, index: vec![] };
    let bundle = run::bundle(&base, &recipe, &labels, &args.out)?;
    let loss = settings::loss(args.loss, None);
    let step = bundle.step(&loss)?;
    let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let weights = bundle.folder.join("weights.bin");
    let files: Vec<PathBuf> = bundle.files().map(PathBuf::from).chain([step, weights]).collect();
    printer.document(&json!({
        "base_hash": hex(&base.hash),
        "output": bundle.output,
        "head": bundle.head_note,
        "features": bundle.features.iter().map(|(name, ty)| json!({ "name": name, "type": ty.to_string() })).collect::<Vec<_>>(),
        "parameters": bundle.parameters.iter().map(|p| json!({ "name": p.name, "shape": p.shape })).collect::<Vec<_>>(),
        "files": files,
    }));
    printer.text(format!("output    {} (head {})", bundle.output, bundle.head_note));
    for (name, ty) in &bundle.features {
        printer.text(format!("feature   {name} {ty}"));
    }
    for parameter in &bundle.parameters {
        printer.text(format!("learns    {} {:?}", parameter.name, parameter.shape));
    }
    for file in &files {
        printer.text(format!("wrote     {} ({})", file.display(), bytes(size(file))));
    }
    Ok(Done::Fully)
}

/// Class names from a file, or numbers as names.
fn class_names(text: &str) -> Result<Vec<String>> {
    if let Ok(count) = text.parse::<usize>() {
        if count == 0 {
            bail!("--classes 0: a classifier needs at least one class");
        }
        return Ok((0..count).map(|class| class.to_string()).collect());
    }
    let content = std::fs::read_to_string(text)
        .with_context(|| format!("--classes `{text}` is neither a number nor a file with one class name a line"))?;
    let names: Vec<String> = content.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    if names.is_empty() {
        bail!("--classes {text}: the file names no class");
    }
    Ok(names)
}
