//! `edgetune demo`: a real model, real photographs, the whole way.

use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::delta_args::created_unix_s;
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::predictions::show;
use crate::cli::print::Printer;
use crate::cli::stop::flag_on_signals;
use crate::cli::summary;
use crate::engine;
use crate::learn::{self, Job, checkpoint_path};
use crate::recipe::Recipe;
use crate::train::checkpoint;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// Fine-tune the model in `models/` on the photographs beside it and show the gain
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  edgetune demo --json")]
pub struct Args {
    /// The folder with the demo's model, data and recipe
    #[arg(long, value_name = "DIR", default_value = "models")]
    models: PathBuf,
    /// Where the delta goes [default: demo.edelta in the cache folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// One epoch of the head on a few photographs, for slow or emulated machines
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let began = Instant::now();
    let created_unix_s = created_unix_s(std::env::var_os("SOURCE_DATE_EPOCH"), SystemTime::now())?;
    let file = args.models.join(if args.quick { "demo-quick.toml" } else { "demo.toml" });
    let recipe = Recipe::read(&file).context("the demo runs in the project's folder, or with --models DIR")?;
    let model = recipe.model.clone().context("the demo's recipe names no model")?;
    let test = recipe.test.clone().context("the demo's recipe names no test data")?;
    let out = &place(args.out.as_deref(), global)?;
    let mut files = Files::of_recipe(&recipe).reads("the recipe", [&file]);
    if args.out.is_some() {
        files = files.cache(global).writes("--out", [out], Kind::Delta);
        files = files.writes("--out", [&checkpoint_path(out)], Kind::Checkpoint);
    }
    files.check(args.replacing)?;
    printer
        .during("installing ONNX Runtime", || engine::load_or_install(&global.choice(), &mut printer.installing()))?;
    printer.note(format!("model     {}", model.display()));
    let stop = flag_on_signals()?;
    let job = Job { recipe, out: Some(out.clone()), created_unix_s, ..Job::default() };
    let context = global.context(&args.compute, began, &stop, printer)?;
    let Some(trained) = learn::train(&job, &context)? else { return Ok(Done::Interrupted) };
    if trained.interrupted {
        checkpoint::remove(&checkpoint_path(out))?;
        return Ok(Done::Interrupted);
    }
    let Some(shown) = show(out, (&model, &test), &context)? else { return Ok(Done::Interrupted) };
    let paths = (model.as_path(), out.as_path(), test.as_path());
    summary::demonstrated(&trained, &shown, paths, began.elapsed().as_secs_f64(), printer);
    Ok(Done::Fully)
}

/// Where the delta goes: the demo leaves no file in the folder that it is started in.
fn place(out: Option<&Path>, global: &Global) -> Result<PathBuf> {
    if let Some(out) = out {
        return Ok(out.into());
    }
    let bundles = global.bundles()?;
    let folder = bundles.parent().filter(|_| bundles.ends_with("bundles")).unwrap_or(&bundles);
    Ok(folder.join("demo.edelta"))
}
