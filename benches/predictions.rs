//! What `train` is expected to hold (`inspect` says the same of a cut) beside what it then holds, with a cold cache.

use crate::{Args, machine};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// On what.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Folder with the transformers of the design's shared models [default: photographs alone]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
}

/// A base with its samples, and what learns of it in batches of how many.
struct Case {
    name: &'static str,
    model: PathBuf,
    samples: Vec<String>,
    learns: &'static [(&'static [&'static str], u32)],
}

const LORA_ENCODER: &[&str] =
    &["--adapter", "lora", "--rank", "8", "--targets", "*query*", "--targets", "*value*", "--train", "head"];
const LORA_DECODER: &[&str] = &["--adapter", "lora", "--rank", "8", "--targets", "*q_proj*", "--targets", "*v_proj*"];

pub fn predictions(args: &Args, scratch: &Path, options: &Options) -> Result<()> {
    println!("{}\n", machine());
    println!("| base | learns | batch | --memory | predicted | measured | |\n|---|---|---:|---|---:|---:|---:|");
    for case in cases(scratch, options)? {
        for (learns, batch) in case.learns {
            for memory in ["low", "balanced"] {
                let [predicted, measured] = run(args, scratch, &case, learns, *batch, memory)?;
                println!(
                    "| {} | {} | {batch} | {memory} | {:.0} MB | {:.0} MB | {:+.0} % |",
                    case.name,
                    if learns.contains(&"lora") { "LoRA" } else { learns[1] },
                    predicted / 1e6,
                    measured / 1e6,
                    (predicted / measured - 1.0) * 100.0
                );
            }
        }
    }
    Ok(())
}

fn run(args: &Args, scratch: &Path, case: &Case, learns: &[&str], batch: u32, memory: &str) -> Result<[f64; 2]> {
    let cache = scratch.join("cache");
    let mut train = Command::new(env!("CARGO_BIN_EXE_edgetune"));
    train.arg("train").arg(&case.model).args(&case.samples).args(learns).arg("--cache").arg(&cache).arg("--json");
    train.args(["--epochs", "2", "--val-fraction", "0.2", "--memory", memory, "--batch", &batch.to_string()]);
    train.args(["--threads", &args.threads.to_string()]).arg("--out").arg(scratch.join("a.edelta"));
    train.args(args.onnxruntime.iter().flat_map(|path| ["--onnxruntime".as_ref(), path.as_os_str()]));
    let output = train.stderr(Stdio::piped()).output()?;
    ensure!(output.status.success(), "{}: {}", case.name, String::from_utf8_lossy(&output.stderr).trim_end());
    let report: Value = serde_json::from_slice(&output.stdout)?;
    fs::remove_dir_all(cache)?;
    let bytes = |name: &str| report[name].as_f64().with_context(|| format!("the report has no {name}"));
    Ok([bytes("predicted_private_bytes")?, bytes("peak_private_bytes")?])
}

fn cases(scratch: &Path, options: &Options) -> Result<Vec<Case>> {
    let project = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let photographs = scratch.join("photographs");
    few_photographs(&project("models/cifar10/train"), &photographs)?;
    let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
    let from = |path: &Path| ["--data".to_string(), path.display().to_string()];
    let mut cases = vec![Case {
        name: "EfficientNet-Lite0",
        model: project("models/efficientnet_lite0/model.onnx"),
        samples: [&from(&photographs)[..], &words("--size 224 --scale 1 --mean 127 --std 128")].concat(),
        learns: &[
            (&["--train", "head"], 32),
            (&["--train", "last:2"], 32),
            (&["--train", "last:4"], 8),
            (&["--train", "last:8"], 8),
            (&["--train", "last:14"], 4),
        ],
    }];
    let Some(models) = &options.models else { return Ok(cases) };
    let part = |path: &str, name: &str, lines: usize| -> Result<PathBuf> {
        let all = fs::read_to_string(models.join(path)).with_context(|| models.join(path).display().to_string())?;
        let file = scratch.join(name);
        fs::write(&file, all.lines().take(lines).collect::<Vec<_>>().join("\n") + "\n")?;
        Ok(file)
    };
    let tokenizer =
        |folder: &str| ["--tokenizer".into(), models.join(folder).join("tokenizer.json").display().to_string()];
    let questions = part("text/trec6/train.jsonl", "questions.jsonl", 64)?;
    let encoder = [&from(&questions)[..], &tokenizer("text/minilm"), &words("--max-length 40")].concat();
    cases.push(Case {
        name: "MiniLM",
        model: models.join("text/minilm/model.onnx"),
        samples: encoder,
        learns: &[
            (&["--train", "head"], 32),
            (&["--train", "last:2"], 32),
            (&["--train", "last:4"], 8),
            (&["--train", "last:8"], 8),
            (LORA_ENCODER, 32),
        ],
    });
    let plays = part("lm/text/tinyshakespeare.txt", "plays.txt", 300)?;
    let decoder = words("--max-length 128 --bos-token <|im_start|>");
    cases.push(Case {
        name: "MiniMind2",
        model: models.join("lm/minimind2/model_fp16.onnx"),
        samples: [&from(&plays)[..], &tokenizer("lm/minimind2"), &decoder].concat(),
        learns: &[(&["--train", "last:1"], 4), (&["--train", "last:4"], 4), (LORA_DECODER, 4)],
    });
    Ok(cases)
}

/// Three photographs of each class: what a run holds does not depend on how many there are.
fn few_photographs(from: &Path, to: &Path) -> Result<()> {
    for class in fs::read_dir(from)? {
        let class = class?;
        let folder = to.join(class.file_name());
        fs::create_dir_all(&folder)?;
        let mut files = fs::read_dir(class.path())?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
        files.sort();
        for file in files.iter().take(3) {
            fs::copy(file, folder.join(file.file_name().context("a file without a name")?))?;
        }
    }
    Ok(())
}
