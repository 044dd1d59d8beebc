//! `edgetune predict`: answers of the model with an adapter.

use crate::cli::Done;
use crate::cli::args::{Compute, Global};
use crate::cli::generation::{self, Generating};
use crate::cli::identities::{self, IdentitiesArgs};
use crate::cli::inputs::{self, Asked};
use crate::cli::masks::{self, MaskArgs};
use crate::cli::outputs::Files;
use crate::cli::predictions;
use crate::cli::print::Printer;
use crate::cli::sample_args::ReadingArgs;
use crate::cli::stop::flag_on_signals;
use crate::data::{self, Dataset, Preprocessing, Target};
use crate::delta::Task;
use crate::engine;
use crate::learn::samples::{self, inputs_of};
use crate::learn::{Context, adapter_of};
use crate::predict::{Prediction, Samples};
use crate::recipe::Reading;
use crate::task;
use crate::train::artifact::Adapter;
use crate::train::prepare::Base;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Predict with a model and an adapter
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune predict model.onnx --adapter A.edelta photo.jpg other.png --top 3\n  edgetune \
                  predict lm.onnx --adapter A.edelta --tokenizer tokenizer.json --prompt \"Once upon\" --temperature 0.8\n  \
                  edgetune predict text.onnx --adapter A.edelta \"what a film\"\n  edgetune predict text.onnx --adapter A.edelta \
                  --csv - < texts.txt\n  edgetune predict merged.onnx photos/\n  edgetune predict model.onnx --adapter A.edelta readings.csv --csv\n  \
                  edgetune predict unet.onnx --adapter A.edelta pages/ --masks masks/"
)]
pub struct Args {
    /// The model that the adapter was trained on
    model: PathBuf,
    /// The adapter [default: none, for a model that says what its outputs are]
    ///
    /// A model that `edgetune export` has written says it in its metadata, others by the names of their classes in or beside them
    /// (labels.txt). A language model goes on from a prompt without an adapter.
    #[arg(long, value_name = "FILE")]
    pub adapter: Option<PathBuf>,
    /// Images or folders of them, one table, text or array file; texts themselves, or - for standard input
    ///
    /// A model of text also takes the texts themselves, and - for texts on standard input, a line each.
    #[arg(required_unless_present = "prompt", value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Classes to show for each sample
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// With the base's own values in place of what was learned; nothing where the base has no such classes: the agent asks for it
    #[arg(skip)]
    pub untrained: bool,
    /// Print a CSV table: a row a sample
    #[arg(long)]
    csv: bool,
    /// Keep features of a folder in memory for this run only
    #[arg(long, help_heading = "Run")]
    no_cache: bool,
    /// End where a sample cannot be read: the agent finds out then what is wrong with it
    #[arg(long, hide = true)]
    pub no_skip: bool,
    #[command(flatten)]
    identities: IdentitiesArgs,
    #[command(flatten)]
    masks: MaskArgs,
    #[command(flatten)]
    generating: Generating,
    #[command(flatten)]
    pub reading: ReadingArgs,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let began = Instant::now();
    let (base, adapter) = read(args, global, printer)?;
    let stop = flag_on_signals()?;
    let context = global.context(&args.compute, began, &stop, printer)?;
    if generation::is_asked(adapter.as_ref(), &args.generating)? {
        refuse_table(args)?;
        let inputs = inputs::asked(&args.inputs, true, &mut std::io::stdin())?;
        let asked = (&args.generating, &inputs, &Reading::from(args.reading.clone()));
        return generation::generate((&base, adapter.as_ref()), asked, &context, printer);
    }
    let takes_text = data::takes_text(&samples::named_types(&inputs_of(&base)));
    let asked = inputs::asked(&args.inputs, takes_text, &mut std::io::stdin())?;
    let adapter = match adapter {
        Some(adapter) => adapter,
        None => adapter_of(&base, first_of(&asked), &global.bundles()?, printer)?,
    };
    let Some(predictions) = predicted(args, &asked, (&base, &adapter), context, printer)? else {
        return Ok(Done::Interrupted);
    };
    if args.csv && !global.json {
        printer.raw(&predictions::table(&predictions, adapter.task == Task::MultiLabel)?);
        return Ok(Done::Fully);
    }
    printer.document(&predictions);
    predictions.iter().for_each(|prediction| printer.text(prediction.line()));
    Ok(Done::Fully)
}

/// What an adapter, or the base without what it learned, says of samples: for the agent, which compares them. `None` if it was stopped.
///
/// # Errors
/// As [`run`]; an adapter of a language model, whose answers are no classes.
pub fn of_adapter(args: &Args, global: &Global, printer: &Printer) -> Result<Option<Vec<Prediction>>> {
    let began = Instant::now();
    let (base, adapter) = read(args, global, printer)?;
    let adapter = adapter.filter(|adapter| adapter.task != Task::LanguageModel);
    let adapter = adapter.context("the agent compares adapters by their classes; this one is of a language model")?;
    let stop = flag_on_signals()?;
    let context = global.context(&args.compute, began, &stop, printer)?;
    let adapter = if args.untrained { adapter.untrained(&base, &global.bundles()?)? } else { Some(adapter) };
    let Some(adapter) = adapter else { return Ok(Some(Vec::new())) };
    predicted(args, &Asked::Paths(args.inputs.clone()), (&base, &adapter), context, printer)
}

/// The model, and the adapter if one is named.
fn read(args: &Args, global: &Global, printer: &Printer) -> Result<(Base, Option<Adapter>)> {
    let given: Vec<PathBuf> = args.inputs.iter().map(PathBuf::from).collect();
    Files::default().data("INPUT", &given).cache(global).check(args.masks.replacing)?;
    let adapter = args.adapter.as_deref().map(Adapter::read).transpose()?;
    // Refused before the model is read.
    generation::is_asked(adapter.as_ref(), &args.generating)?;
    engine::load(&global.choice())?;
    let batch_axis = adapter.as_ref().and_then(|adapter| adapter.batch_axis);
    let base = printer.during("reading the model", || Base::read_with(&args.model, batch_axis))?;
    Ok((base, adapter))
}

/// The answers to what is asked; `None` if it was stopped.
fn predicted(
    args: &Args,
    asked: &Asked,
    (base, adapter): (&Base, &Adapter),
    context: Context<'_>,
    printer: &Printer,
) -> Result<Option<Vec<Prediction>>> {
    masks::refuse_without(adapter, &args.masks)?;
    let (dataset, preprocessing) = opened(asked, adapter, (base, args), printer)?;
    // Photographs that come one by one do not come again: the features of a folder alone are kept.
    let context = Context { keeps_features: asked.is_folder() && !args.no_cache, ..context };
    let (dataset, top) = (Arc::new(dataset), args.top.into());
    let samples = Samples { base, adapter, preprocessing, dataset, top };
    let predicted = match adapter.task {
        Task::Segmentation => masks::predict(&samples, &args.masks, &context)?,
        _ => samples.predict(&context)?,
    };
    let Some(mut predictions) = predicted else { return Ok(None) };
    identities::recognise(&args.identities, (base, adapter), &mut predictions)?;
    Ok(Some(predictions))
}

/// Where what is asked about begins.
fn first_of(asked: &Asked) -> &Path {
    match asked {
        Asked::Paths(paths) => &paths[0],
        Asked::Texts { origin, .. } => Path::new(origin),
    }
}

/// What is asked about, as the adapter's model takes it.
fn opened(
    asked: &Asked,
    adapter: &Adapter,
    (base, args): (&Base, &Args),
    printer: &Printer,
) -> Result<(Dataset, Preprocessing)> {
    let preprocessing = samples::of_adapter(&adapter.preprocessing, first_of(asked), printer);
    let reading =
        samples::with_tokenizer(args.reading.clone().into(), base, (args.adapter.as_deref(), &preprocessing), printer);
    let target = match task::of_wire(adapter.task).target {
        Target::Tokens => Target::Tokens,
        // What the others' labels are is nothing to a sample without any.
        _ => Target::Classes,
    };
    let options = samples::options(preprocessing.clone(), reading, &inputs_of(base), target, None);
    let paths = match asked {
        Asked::Paths(paths) => paths,
        Asked::Texts { origin, texts } => {
            let dataset = Dataset::of_texts(origin, texts, &options)?;
            dataset.cut_texts().iter().for_each(|line| printer.note(line));
            return Ok((dataset, preprocessing));
        }
    };
    let (dataset, skipped) = printer.during("reading the inputs", || Dataset::open_unlabelled(paths, &options))?;
    // An answer that is missing is missed: each is told.
    samples::tell_skipped(&skipped, usize::MAX, printer);
    samples::refuse_skipped(&skipped, args.no_skip)?;
    dataset.cut_texts().iter().for_each(|line| printer.note(line));
    Ok((dataset, preprocessing))
}

fn refuse_table(args: &Args) -> Result<()> {
    ensure!(!args.csv, "--csv: a language model goes on with texts, which are no table; remove it, or use --json");
    Ok(())
}
