//! `edgetune export`: an adapter for other programs.

use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::outputs::{Files, Kind, Replacing};
use crate::cli::print::Printer;
use crate::engine;
use crate::train::artifact::Adapter;
use crate::train::{export, peft};
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::path::PathBuf;

/// Write an adapter in a form that other programs read
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune export --adapter A.edelta --model model.onnx --to onnx --out merged.onnx\n  \
                        edgetune export --adapter A.edelta --model model.onnx --to onnx-adapter --out folder/\n  \
                        edgetune export --adapter A.edelta --to safetensors --out folder/\n\n--to onnx writes what the \
                        outputs mean into the model's metadata, where onnxruntime's get_modelmeta().custom_metadata_map shows it: \
                        `names`, class names by their index as Ultralytics has them, `edgetune.task`, `edgetune.output` and \
                        `edgetune.preprocessing`; `edgetune predict` needs no adapter for such a model. The class \
                        names also go into labels.txt beside the model, a line each."
)]
pub struct Args {
    /// The adapter
    #[arg(long, value_name = "FILE")]
    adapter: PathBuf,
    /// The model that it was trained on; for onnx and onnx-adapter
    #[arg(long, value_name = "FILE", required_if_eq_any([("to", "onnx"), ("to", "onnx-adapter")]))]
    model: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum)]
    to: ExportForm,
    /// Where it goes: a file for onnx, else a folder
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Put the weights of a model into a file beside it
    #[arg(long)]
    external_weights: bool,
    #[command(flatten)]
    replacing: Replacing,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExportForm {
    /// The model with the adapter folded into its weights
    Onnx,
    /// ONNX Runtime's adapter.onnx_adapter, and model.onnx: the model that gives its own answers or those of an active adapter
    OnnxAdapter,
    /// PEFT's adapter_model.safetensors and adapter_config.json (LoRA, rsLoRA)
    Safetensors,
}

/// What is read and written.
fn files(args: &Args) -> Files {
    let files = Files::default().reads("--adapter", [&args.adapter]).reads("the model", &args.model);
    let weights = args.external_weights.then_some(("model.onnx.data", Kind::Weights));
    let model = [("adapter.onnx_adapter", Kind::OnnxAdapter), ("model.onnx", Kind::Model)];
    match args.to {
        ExportForm::Onnx => {
            let weights = args.external_weights.then(|| export::beside(&args.out));
            files.writes("--out", [&args.out], Kind::Model).writes("--out", &weights, Kind::Weights)
        }
        ExportForm::OnnxAdapter => {
            files.fills("--out", &args.out, &model.into_iter().chain(weights).collect::<Vec<_>>())
        }
        ExportForm::Safetensors => {
            files.fills("--out", &args.out, &[(peft::CONFIG, Kind::PeftConfig), (peft::TENSORS, Kind::Safetensors)])
        }
    }
}

pub fn run(args: &Args, global: &Global, printer: &Printer) -> Result<Done> {
    files(args).check(args.replacing)?;
    let adapter = Adapter::read(&args.adapter)?;
    let base = || {
        engine::load(&global.choice())?;
        Ok::<_, anyhow::Error>(adapter.base(args.model.as_deref().context("--model: name the model")?)?)
    };
    let write = || match args.to {
        ExportForm::Onnx => anyhow::Ok(export::merged_model(&args.out, &base()?, &adapter, args.external_weights)?),
        ExportForm::OnnxAdapter => {
            export::onnx_adapter(&args.out, &base()?, &adapter, args.external_weights)?;
            Ok(None)
        }
        ExportForm::Safetensors => {
            peft::write(&args.out, &adapter)?;
            Ok(None)
        }
    };
    let labels = printer.during(format!("writing {}", args.out.display()), write)?;
    printer.document(&serde_json::json!({ "written": args.out, "labels": labels }));
    printer.text(format!("{}: written", args.out.display()));
    if let Some(labels) = labels {
        printer.text(format!("{}: the names of the classes", labels.display()));
    }
    Ok(Done::Fully)
}
