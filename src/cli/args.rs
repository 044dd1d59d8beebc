//! Arguments that several commands share, and what they mean.

use super::print::Printer;
use crate::engine::{self, LibraryChoice, Provider};
use crate::host::Folders;
use crate::learn::{Computing, Context};
use crate::recipe::MemoryName;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

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
    #[arg(skip)]
    folders: Arc<OnceLock<Folders>>,
}

impl Global {
    /// Where the ONNX Runtime library is looked for, and where what it infers is kept: beside the bundles.
    pub fn choice(&self) -> LibraryChoice {
        let types_folder = self.folders().ok().map(|folders| folders.cache().join("types"));
        LibraryChoice { types_folder, ..LibraryChoice::new(self.onnxruntime.clone(), |name| std::env::var_os(name)) }
    }

    /// Where what can be made again is kept.
    pub fn folders(&self) -> Result<Folders> {
        if let Some(folders) = self.folders.get() {
            return Ok(folders.clone());
        }
        let folders = Folders::new(self.cache.as_deref())?;
        Ok(self.folders.get_or_init(|| folders).clone())
    }

    /// The folder of everything that can be made again.
    pub fn cache_root(&self) -> Result<PathBuf> {
        Ok(self.folders()?.cache().into())
    }

    /// Where bundles are kept: in the cache, or where that is read-only in a temporary folder, with a warning.
    ///
    /// # Errors
    /// No cache named and no home; a temporary folder that cannot be made either.
    pub fn bundles(&self) -> Result<PathBuf> {
        Ok(self.folders()?.bundles()?)
    }

    /// The world around a command that trains or predicts. `began` is when the process did.
    ///
    /// # Errors
    /// No cache named and no home.
    pub fn context<'a>(
        &self,
        compute: &Compute,
        began: Instant,
        stop: &'a AtomicBool,
        printer: &'a Printer,
    ) -> Result<Context<'a>> {
        Ok(Context {
            folders: self.folders()?,
            runtime: self.choice(),
            computing: compute.computing(),
            keeps_features: true,
            stop,
            clock: Arc::new(move || began.elapsed().as_secs_f64()),
            observer: printer,
        })
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
    /// How frozen weights are held; less memory makes the body slower [default: balanced]
    #[arg(long, value_enum)]
    pub memory: Option<MemoryName>,
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

impl Compute {
    /// How ONNX Runtime is asked to compute.
    pub fn computing(&self) -> Computing {
        Computing {
            threads: self.threads.unwrap_or(0),
            provider: match self.provider {
                None | Some(ProviderName::Cpu) => Provider::Cpu,
                Some(ProviderName::Cuda) => Provider::Cuda,
                Some(ProviderName::Tensorrt) => Provider::TensorRt,
                Some(ProviderName::Xnnpack) => Provider::Xnnpack,
            },
            memory: self.memory,
        }
    }

    /// The engine's options on this machine.
    pub fn options(&self) -> engine::Options {
        self.computing().options()
    }
}
