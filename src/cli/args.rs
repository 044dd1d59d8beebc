//! Arguments that several commands share, and what they mean.

use crate::data::{self, Preprocessing};
use crate::engine::{self, Choice, Provider};
use crate::graph::{DType, Dim, TensorType};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Print one JSON document on standard output instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// The ONNX Runtime library to use [default: the device's own, then edgetune's copy]
    #[arg(long, global = true, value_name = "PATH")]
    pub onnxruntime: Option<PathBuf>,
    /// Where bundles and features are kept [default: $XDG_CACHE_HOME/edgetune or ~/.cache/edgetune]
    #[arg(long, global = true, value_name = "DIR", env = "EDGETUNE_CACHE")]
    pub cache: Option<PathBuf>,
}

impl Global {
    /// Where the ONNX Runtime library is looked for.
    pub fn choice(&self) -> Choice {
        Choice::new(self.onnxruntime.clone(), |name| std::env::var_os(name))
    }

    /// The folder of everything that can be made again.
    pub fn cache_root(&self) -> Result<PathBuf> {
        if let Some(root) = &self.cache {
            return Ok(root.clone());
        }
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
        Ok(cache
            .context("neither HOME nor XDG_CACHE_HOME is set; say where to keep the cache with --cache DIR")?
            .join("edgetune"))
    }

    /// Where bundles are kept.
    pub fn bundles(&self) -> Result<PathBuf> {
        Ok(self.cache_root()?.join("bundles"))
    }
}

/// How ONNX Runtime computes.
#[derive(Debug, Clone, Default, Args)]
pub struct Compute {
    /// Threads of ONNX Runtime [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Execution provider; anything but what was asked for is an error [default: cpu]
    #[arg(long, value_enum)]
    pub provider: Option<ProviderName>,
}

/// Names of execution providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProviderName {
    /// ONNX Runtime's own kernels
    Cpu,
    /// NVIDIA GPUs
    Cuda,
    /// NVIDIA GPUs through TensorRT
    Tensorrt,
    /// XNNPACK's kernels for ARM
    Xnnpack,
}

/// Bases up to this size are copied into the layout that the kernels prefer; larger ones stay mapped.
const PREPACKED_BYTES_MAX: u64 = 256 << 20;

impl Compute {
    /// The engine's options for a base of so many bytes.
    pub fn options(&self, base_bytes: u64) -> engine::Options {
        engine::Options {
            threads: self.threads.unwrap_or(0),
            provider: match self.provider {
                None | Some(ProviderName::Cpu) => Provider::Cpu,
                Some(ProviderName::Cuda) => Provider::Cuda,
                Some(ProviderName::Tensorrt) => Provider::TensorRt,
                Some(ProviderName::Xnnpack) => Provider::Xnnpack,
            },
            prepacking: base_bytes <= PREPACKED_BYTES_MAX,
            ..engine::Options::default()
        }
    }
}

/// How samples become the model's inputs. For images: (pixel × scale − mean) / std.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[command(next_help_heading = "Preprocessing")]
pub struct Samples {
    /// Image size, S or WxH [default: what the model declares]
    #[arg(long, value_name = "S|WxH")]
    pub size: Option<String>,
    /// Shortest side before the centre crop, in pixels [default: --size]
    #[arg(long, value_name = "PIXELS")]
    pub resize: Option<u32>,
    /// Factor for pixels, a number or a fraction [default: 1/255]
    #[arg(long)]
    pub scale: Option<String>,
    /// Subtracted from scaled pixels, one or three numbers [default: 0]
    #[arg(long, value_name = "M[,M,M]", allow_hyphen_values = true)]
    pub mean: Option<String>,
    /// Divides at last, one or three numbers [default: 1]
    #[arg(long, value_name = "S[,S,S]")]
    pub std: Option<String>,
    /// Order of an image's axes [default: what the model declares]
    #[arg(long, value_name = "nchw|nhwc")]
    pub layout: Option<String>,
    /// The model's tokenizer.json, for text
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Tokens of a text, at most [default: what tokenizer.json says, or 512]
    #[arg(long, value_name = "N")]
    pub max_length: Option<u32>,
    /// Label column of a table, repeatable [default: `label`, or the last]
    #[arg(long, value_name = "COLUMN")]
    pub label: Vec<String>,
}

impl Samples {
    /// What these settings leave open is taken from `other` (a recipe's).
    pub fn or(self, other: Self) -> Self {
        Self {
            size: self.size.or(other.size),
            resize: self.resize.or(other.resize),
            scale: self.scale.or(other.scale),
            mean: self.mean.or(other.mean),
            std: self.std.or(other.std),
            layout: self.layout.or(other.layout),
            tokenizer: self.tokenizer.or(other.tokenizer),
            max_length: self.max_length.or(other.max_length),
            label: if self.label.is_empty() { other.label } else { self.label },
        }
    }

    /// Preprocessing for a model's inputs: images where it takes one, text where it takes token ids, else as it is.
    pub fn preprocessing(&self, inputs: &[(String, TensorType)]) -> Result<Preprocessing> {
        if inputs.iter().any(|(name, ty)| ty.dtype == DType::Int64 && name.contains("input_ids")) {
            return Ok(Preprocessing::Text { max_length: self.max_length.unwrap_or(0) });
        }
        match inputs {
            [(name, ty)] if ty.rank() == Some(4) && ty.dtype == DType::Float => {
                Ok(Preprocessing::Image(self.image(name, ty)?))
            }
            _ => Ok(Preprocessing::Plain),
        }
    }

    fn image(&self, name: &str, ty: &TensorType) -> Result<data::ImagePreprocessing> {
        let shape = ty.shape.as_deref().unwrap_or_default();
        let size_of = |axis: usize| shape.get(axis).and_then(Dim::fixed);
        let channels_first = match &self.layout {
            Some(layout) => data::parse_layout(layout)? == data::Layout::Nchw,
            None => matches!(size_of(1), Some(1 | 3)) || !matches!(size_of(3), Some(1 | 3)),
        };
        let [channels, rows, columns] = if channels_first { [1, 2, 3] } else { [3, 1, 2] };
        let (width, height) = match (&self.size, size_of(columns), size_of(rows)) {
            (Some(size), _, _) => data::parse_size(size)?,
            (None, Some(width), Some(height)) => (width as u32, height as u32),
            _ => bail!("input `{name}` ({ty}) leaves the image size open; give it with --size, such as --size 224"),
        };
        let mut image = data::ImagePreprocessing::new(width, height);
        image.layout = if channels_first { data::Layout::Nchw } else { data::Layout::Nhwc };
        image.channels = if size_of(channels) == Some(1) { data::Channels::Grey } else { data::Channels::Rgb };
        if let Some(resize) = self.resize {
            image.resize = resize;
        }
        if let Some(scale) = &self.scale {
            image.scale = data::parse_scale(scale)?;
        }
        if let Some(mean) = &self.mean {
            image.mean = data::parse_channel_values("mean", mean)?;
        }
        if let Some(std) = &self.std {
            image.std = data::parse_channel_values("std", std)?;
        }
        image.validate()?;
        Ok(image)
    }
}

/// What `data::Dataset` is opened with.
pub fn data_options(
    preprocessing: Preprocessing,
    samples: &Samples,
    inputs: &[(String, TensorType)],
    target: data::Target,
    classes: Option<Vec<String>>,
) -> data::Options {
    data::Options {
        preprocessing,
        target,
        inputs: inputs.iter().map(|(name, ty)| (name.clone(), ty.dtype)).collect(),
        label: samples.label.clone(),
        classes,
        tokenizer: samples.tokenizer.clone(),
        ..data::Options::default()
    }
}

/// Bytes of a model file and the weights beside it that belong to it.
pub fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
