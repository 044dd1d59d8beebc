//! `edgetune import`: an adapter that another program has trained.

use crate::adapter;
use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::deltas::write;
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use crate::cli::sample_args::Pixels;
use crate::data;
use crate::engine;
use crate::graph::TensorType;
use crate::learn::samples::{self, inputs_of};
use crate::recipe::{self, LossName, Samples};
use crate::train::artifact::Adapter;
use crate::train::peft::{self, Fitted, Rename};
use crate::train::prepare::Base;
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Make a delta of a LoRA adapter that Hugging Face's PEFT has saved
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune import folder/ --model model.onnx --out A.edelta\n  edgetune import folder/ --model \
                  lm.onnx --rename self_attn=attn --out A.edelta\n\nThe folder holds adapter_model.safetensors and \
                  adapter_config.json. The values become fp16."
)]
pub struct Args {
    /// The folder that `save_pretrained` has written
    folder: PathBuf,
    /// The model that the adapter was trained on, exported to ONNX without it
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Where the delta goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A part of PEFT's module names, and what the model calls it; repeatable
    #[arg(long, value_name = "FROM=TO", value_parser = rename)]
    rename: Vec<Rename>,
    /// Which of the model's outputs predictions are made from
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// The loss that the adapter was trained with, which decides what the output means [default: what folder and model say]
    #[arg(long, value_enum)]
    loss: Option<LossName>,
    /// A file with one class name a line, or their number [default: numbers as names]
    #[arg(long, value_name = "N|FILE")]
    classes: Option<String>,
    #[command(flatten)]
    pixels: Pixels,
    #[command(flatten)]
    replacing: Replacing,
}

fn rename(text: &str) -> Result<Rename, String> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() => Ok(Rename { from: from.into(), to: to.into() }),
        _ => Err("write FROM=TO, such as self_attn=attn; nothing behind = leaves the part out".into()),
    }
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    let [config, tensors] = [peft::CONFIG, peft::TENSORS].map(|name| args.folder.join(name));
    let classes = args.classes.as_ref().map(PathBuf::from);
    let files = Files::default().reads("the model", [&args.model]).reads("PEFT's", [&config, &tensors]);
    let files = files.reads("--classes", &classes);
    files.writes("--out", [&args.out], Kind::Delta).check(args.replacing)?;
    let saved = peft::read(&args.folder)?;
    engine::load(&global.choice())?;
    let base = printer.during("reading the model", || Base::read(&args.model))?;
    let output = adapter::output(&base.graph, args.output.as_deref())?;
    let Fitted { tensors, width } = peft::fit(&saved, &base, output, &args.rename)?;
    let inputs = inputs_of(&base);
    let of_tokens =
        base.graph.ty(output).and_then(TensorType::rank) == Some(3) && data::takes_text(&samples::named_types(&inputs));
    let causal = saved.task_type.as_deref() == Some("CAUSAL_LM") || of_tokens;
    let loss = args.loss.unwrap_or(if causal { LossName::NextToken } else { LossName::CrossEntropy });
    let labels = args.classes.as_deref().map(samples::class_names).transpose()?.unwrap_or_default();
    if !labels.is_empty() && labels.len() as u64 != width {
        bail!("--classes: {} names, but the model's output has {width} columns; name each", labels.len());
    }
    let adapter = Adapter {
        path: args.folder.clone(),
        base: base.hash,
        labels,
        task: recipe::task(Some(loss)).wire,
        loss: recipe::loss(Some(loss), None),
        output: base.graph.value_name(output).into(),
        head: None,
        method: Some(saved.method),
        seed: 0,
        preprocessing: Samples::from(&args.pixels).preprocessing(&base, &args.folder, printer)?,
        tensors,
        batch_axis: None,
        bytes: 0,
    };
    write(&args.out, &adapter.encoded()?, printer)?;
    Ok(Done::Fully)
}
