//! `edgetune data`: what a person should know of samples before anything is learned from them.

use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::moments::{BasisArgs, Model, Reads, Summing};
use crate::cli::outputs::{Files, Replacing};
use crate::cli::print::Printer;
use crate::cli::sample_args::SamplesArgs;
use crate::cli::stop::flag_on_signals;
use crate::cli::suspects;
use crate::data;
use crate::recipe::LossName;
use anyhow::Result;
use clap::Subcommand;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Look for wrong labels, duplicates and outliers in data before learning from them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune data check photos/ --model model.onnx")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Check(Box<Check>),
}

/// List samples with labels that are probably wrong, near-duplicates and outliers
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune data check photos/ --model model.onnx\n  edgetune data check photos/ --model model.onnx --test \
                  held-out/\n  edgetune data check table.csv --model model.onnx --json > found.json\n  edgetune data check photos/ --model \
                  model.onnx --fix set-aside/\n\nEach sample is judged by a linear head on the model's features that has not learned from \
                  it. What is listed is worth a look, not certainly wrong; the clearest comes first. --fix moves files and deletes none."
)]
struct Check {
    /// Labelled data, in any form that `train` takes
    data: PathBuf,
    /// The model whose features tell which samples are alike
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Data that results are measured by: what is nearly the same as a sample to learn from is listed, too [default: `test/` beside `train/`]
    #[arg(long, value_name = "PATH")]
    test: Option<PathBuf>,
    /// Move files with wrong labels and later duplicates into this folder, for a person to sort
    #[arg(long, value_name = "FOLDER")]
    fix: Option<PathBuf>,
    /// Which of the model's outputs has the features [default: the only one, or the one that `edgetune inspect` names]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// What the labels are: cross-entropy for one class a sample, mean-squared-error for numbers [default: cross-entropy]
    #[arg(long, value_enum)]
    loss: Option<LossName>,
    /// Samples of each class that are looked at, at most [default: all]
    #[arg(long, value_name = "N")]
    per_class: Option<usize>,
    #[command(flatten)]
    samples: SamplesArgs,
    /// Keep features in memory for this run only
    #[arg(long, help_heading = "Run")]
    no_cache: bool,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let Action::Check(args) = &args.action;
    let files = Files::default().reads("the model", [&args.model]).data("the data", [&args.data]);
    let files = files.data("--test", &args.test).cache(global);
    let files = match &args.fix {
        Some(folder) => files.fills("--fix", folder, &[]),
        None => files,
    };
    files.check(Replacing { force: false })?;
    let model = Model::read(&args.model, args.output.as_deref(), global, printer)?;
    let (reads, asked) = (args.reads(), BasisArgs::default());
    let features = |data: &Path| {
        let (known, basis_file, asked, reads) = (None, None, &asked, &reads);
        Summing { model: &model, data, reads, known, basis_file, asked, global, printer }.features()
    };
    let Some(looked) = features(&args.data)? else { return Ok(Done::Interrupted) };
    let test = match &args.test {
        Some(test) => Some(test.clone()),
        None => data::parts(&args.data)?.and_then(|parts| parts.test),
    };
    let tested = match test {
        Some(test) => match features(&test)? {
            Some(tested) => Some(tested),
            None => return Ok(Done::Interrupted),
        },
        None => None,
    };
    let stop = flag_on_signals()?;
    let found = printer.during("comparing samples", || suspects::find_suspects(looked, tested, &stop));
    if stop.load(Ordering::Relaxed) {
        return Ok(Done::Interrupted);
    }
    suspects::tell(&found, printer);
    if let Some(folder) = &args.fix {
        suspects::set_aside(&found, folder, printer)?;
    }
    Ok(Done::Fully)
}

impl Check {
    /// How the data are read.
    fn reads(&self) -> Reads {
        Reads {
            output: self.output.clone(),
            head: None,
            loss: self.loss,
            target_step: None,
            per_class: self.per_class,
            seed: 0,
            samples: self.samples.clone(),
            no_cache: self.no_cache,
            compute: self.compute.clone(),
        }
    }
}
