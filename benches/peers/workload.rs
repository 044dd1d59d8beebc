//! What is learned, and from what.

use super::{Args, project};
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// EfficientNet-Lite0's classifier, from photographs
    Head,
    /// Its last convolution too
    Tail,
    /// LoRA on query and value of MiniLM's six layers, and a classifier, from questions
    LoraEncoder,
    /// LoRA on q and v of MiniMind2's eight layers, from Shakespeare
    LoraLm,
}

/// The files of a workload.
pub struct Samples {
    pub model: PathBuf,
    pub tokenizer: Option<PathBuf>,
    pub train: PathBuf,
    pub test: PathBuf,
}

impl Workload {
    pub const ALL: [Self; 4] = [Self::Head, Self::Tail, Self::LoraEncoder, Self::LoraLm];

    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Tail => "tail",
            Self::LoraEncoder => "lora-encoder",
            Self::LoraLm => "lora-lm",
        }
    }

    pub fn is_lora(self) -> bool {
        matches!(self, Self::LoraEncoder | Self::LoraLm)
    }

    pub fn batch(self) -> u32 {
        if self == Self::LoraLm { 4 } else { 32 }
    }

    /// Tokens of a sample, at most.
    pub fn length(self) -> u32 {
        if self == Self::LoraLm { 128 } else { 40 }
    }

    /// edgetune's options that say how samples are read.
    pub fn reading(self) -> &'static [&'static str] {
        match self {
            Self::Head | Self::Tail => &["--size", "224", "--scale", "1", "--mean", "127", "--std", "128"],
            Self::LoraEncoder => &["--max-length", "40"],
            Self::LoraLm => &["--max-length", "128", "--bos-token", "<|im_start|>"],
        }
    }

    /// Of these, what a delta does not carry.
    pub fn testing(self) -> &'static [&'static str] {
        if self == Self::LoraLm { &["--bos-token", "<|im_start|>"] } else { &[] }
    }

    /// edgetune's options that say what learns.
    pub fn learning(self) -> &'static [&'static str] {
        match self {
            Self::Head => &["--train", "head"],
            Self::Tail => &["--train", "last:2"],
            Self::LoraEncoder => &[
                "--adapter",
                "lora",
                "--rank",
                "8",
                "--alpha",
                "16",
                "--targets",
                "*query*",
                "--targets",
                "*value*",
                "--train",
                "head",
            ],
            Self::LoraLm => {
                &["--adapter", "lora", "--rank", "8", "--alpha", "16", "--targets", "*q_proj*", "--targets", "*v_proj*"]
            }
        }
    }

    /// A test result in words.
    pub fn tested(self, value: f64) -> String {
        if self == Self::LoraLm { format!("loss {value:.3}") } else { format!("{:.1} %", value * 100.0) }
    }

    /// Finds the models and makes the samples that all contenders read.
    pub fn samples(self, args: &Args, scratch: &Path) -> Result<Samples> {
        let models = || args.models.clone().context("LoRA needs --models DIR, see benches/peers/README.md");
        let made = scratch.join(self.name());
        match self {
            Self::Head | Self::Tail => {
                photographs(&project("models/cifar10/train"), args.per_class, &made)?;
                let model = project("models/efficientnet_lite0/model.onnx");
                Ok(Samples { model, tokenizer: None, train: made, test: project("models/cifar10/test") })
            }
            Self::LoraEncoder => {
                let (base, questions) = (models()?.join("text/minilm"), models()?.join("text/trec6"));
                let train = made.with_extension("jsonl");
                let all = read(&questions.join("train.jsonl"))?;
                let chosen: Vec<&str> = all.lines().take(args.questions).collect();
                fs::write(&train, chosen.join("\n") + "\n")?;
                let tokenizer = Some(base.join("tokenizer.json"));
                Ok(Samples { model: base.join("model.onnx"), tokenizer, train, test: questions.join("test.jsonl") })
            }
            Self::LoraLm => {
                let base = models()?.join("lm/minimind2");
                let plays = read(&models()?.join("lm/text/tinyshakespeare.txt"))?;
                let (train, test) = (made.with_extension("txt"), scratch.join("lora-lm-test.txt"));
                // The text is ASCII.
                fs::write(&train, &plays[..args.text_bytes.min(plays.len())])?;
                fs::write(&test, &plays[plays.len().saturating_sub(20_000)..])?;
                let tokenizer = Some(base.join("tokenizer.json"));
                Ok(Samples { model: base.join("model_fp16.onnx"), tokenizer, train, test })
            }
        }
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// A folder with the first photographs of each class.
fn photographs(all: &Path, per_class: usize, into: &Path) -> Result<()> {
    for class in fs::read_dir(all)? {
        let class = class?.path();
        let folder = into.join(class.file_name().context("a class has a name")?);
        fs::create_dir_all(&folder)?;
        let mut files: Vec<PathBuf> = fs::read_dir(&class)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        for file in files.into_iter().take(per_class) {
            symlink(&file, folder.join(file.file_name().context("a file has a name")?))?;
        }
    }
    Ok(())
}
