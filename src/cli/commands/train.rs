//! `edgetune train`: learn an adapter and write it as a delta.

use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::delta_args::created_unix_s;
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::page;
use crate::cli::print::{Printer, document};
use crate::cli::recipe::{RecipeArgs, with_file, with_parts};
use crate::cli::stop::flag_on_signals;
use crate::cli::summary;
use crate::learn::{self, Context, Job, checkpoint_path};
use crate::recipe::Error;
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

/// Train a model on labelled data and write what was learned as a delta
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune train model.onnx --data photos/ --train last:2 --epochs 10 --out A.edelta\n  \
                  edgetune train recipe.toml --out A.edelta --report R.html\n  edgetune train model.onnx --data \
                  texts.jsonl --tokenizer tokenizer.json --out A.edelta\n  edgetune train model.onnx --data photos/ --solver \
                  ridge --out A.edelta\n  edgetune train model.onnx --data more/ --solver imprint --from A.edelta \
                  --out B.edelta\n  edgetune train model.onnx --data sensors.csv --window 2s --hop 1s --group subject --out A.edelta\n\nCtrl-C and SIGTERM save a checkpoint \
                  beside the delta; the same command with --resume goes on from it."
)]
pub struct Args {
    /// The model, or a recipe that names it
    #[arg(value_name = "MODEL|RECIPE.toml")]
    file: PathBuf,
    /// The file that is written: what was learned
    #[arg(long, value_name = "FILE", default_value = "adapter.edelta", display_order = 8)]
    pub out: PathBuf,
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Write everything that was measured: as a page for a browser (.html), else as JSON
    #[arg(long, help_heading = "Run", value_name = "FILE")]
    report: Option<PathBuf>,
    /// Go on from the checkpoint of an interrupted run
    #[arg(long, help_heading = "Run")]
    pub resume: bool,
    /// Keep features in memory for this run only
    #[arg(long, help_heading = "Run")]
    no_cache: bool,
    /// End where a sample cannot be read: the agent finds out then what is wrong with it
    #[arg(long, hide = true)]
    pub no_skip: bool,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let began = Instant::now();
    let created_unix_s = created_unix_s(std::env::var_os("SOURCE_DATE_EPOCH"), SystemTime::now())?;
    let recipe = with_parts(with_file(args.recipe.clone().into(), &args.file, printer)?, printer)?;
    let files = Files::of_recipe(&recipe).reads("the recipe", [&args.file]).cache(global);
    let files = files.writes("--out", [&args.out], Kind::Delta).writes("--report", &args.report, kind(&args.report));
    let checkpoint = checkpoint_path(&args.out);
    // What is gone on from is looked at by whoever reads it.
    files.writes("--out", (!args.resume).then_some(&checkpoint), Kind::Checkpoint).check(args.replacing)?;
    if args.resume && !recipe.closed_form() && !checkpoint.exists() {
        bail!(
            "--resume: there is no checkpoint {} to go on from; leave --resume out to begin anew",
            checkpoint.display()
        );
    }
    let model = recipe.model.clone().unwrap_or_default();
    let stop = flag_on_signals()?;
    let Args { compute, out, resume, no_cache, no_skip, .. } = args;
    let (resume, no_skip) = (*resume, *no_skip);
    let judges_samples = args.report.is_some();
    let job = Job { recipe, out: Some(out.clone()), resume, no_skip, judges_samples, created_unix_s, ..Job::default() };
    let context = global.context(compute, began, &stop, printer)?;
    let context = Context { keeps_features: !no_cache, ..context };
    let Some(trained) = learn::train(&job, &context)? else { return Ok(Done::Interrupted) };
    if let Some(path) = &args.report {
        let text = match kind(&args.report) {
            Kind::Page => {
                let thumbnails = page::thumbnails(page::shown(&trained.report));
                page::page(&trained.report, &model, &thumbnails)
            }
            _ => document(&trained.report),
        };
        crate::train::artifact::save(path, text.as_bytes())?;
    }
    printer.document(&trained.report);
    if trained.interrupted {
        let checkpoint = checkpoint_path(out);
        if !checkpoint.exists() {
            printer.note("stopped; the same command goes on with the features that are in the cache");
            return Ok(Done::Interrupted);
        }
        printer.note(format!("stopped; the checkpoint is {}, go on with --resume", checkpoint.display()));
        return Ok(Done::Interrupted);
    }
    summary::trained(&trained, out, printer);
    match trained.refused {
        Some(refusal) => Err(Error::Gate(refusal).into()),
        None => Ok(Done::Fully),
    }
}

/// What `--report` writes, by its file's name.
fn kind(report: &Option<PathBuf>) -> Kind {
    let extension = report.as_ref().and_then(|path| path.extension()).and_then(|extension| extension.to_str());
    match extension.map(str::to_lowercase).as_deref() {
        Some("html" | "htm") => Kind::Page,
        _ => Kind::Report,
    }
}
