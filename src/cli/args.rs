//! Arguments that several commands share, and what they mean.

use crate::engine::{self, Choice, Provider};
use crate::train::prepare::Base;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Print one JSON document on standard output instead of text
    #[arg(long, global = true, display_order = 1000)]
    pub json: bool,
    /// The ONNX Runtime library to use [default: the device's own, then edgetune's copy]
    #[arg(long, global = true, display_order = 1000, value_name = "PATH")]
    pub onnxruntime: Option<PathBuf>,
    /// Where bundles and features are kept [default: $XDG_CACHE_HOME/edgetune or ~/.cache/edgetune]
    #[arg(
        long,
        global = true,
        display_order = 1000,
        value_name = "DIR",
        env = "EDGETUNE_CACHE",
        hide_env_values = true
    )]
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
#[command(next_help_heading = "Computing")]
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
const PREPACKED_BYTES_MAX: usize = 256 << 20;

impl Compute {
    /// The engine's options for a base.
    pub fn options(&self, base: &Base) -> engine::Options {
        let weights_bytes: usize = base.graph.initializers.values().map(|tensor| tensor.data.len()).sum();
        engine::Options {
            threads: self.threads.unwrap_or(0),
            provider: match self.provider {
                None | Some(ProviderName::Cpu) => Provider::Cpu,
                Some(ProviderName::Cuda) => Provider::Cuda,
                Some(ProviderName::Tensorrt) => Provider::TensorRt,
                Some(ProviderName::Xnnpack) => Provider::Xnnpack,
            },
            prepacking: weights_bytes <= PREPACKED_BYTES_MAX,
            // A device has other work: waiting threads that spin took twice the time for a step where another process
            // wanted the cores, and save 8 % of it where none does.
            spinning: false,
            ..engine::Options::default()
        }
    }
}
