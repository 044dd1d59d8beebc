//! Arguments that several commands share, and what they mean.

use super::measure::installed_bytes;
use crate::engine::{self, Choice, Provider};
use crate::{atomic, cache};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

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
    scratch: Scratch,
}

/// A folder in the place of a cache that cannot be written; it is made when it is first needed, and goes with the command.
#[derive(Debug, Clone, Default)]
struct Scratch(Arc<OnceLock<Temporary>>);

#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // A folder that cannot be removed is the system's to clear, as all temporary files are.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Global {
    /// Where the ONNX Runtime library is looked for, and where what it infers is kept: beside the bundles.
    pub fn choice(&self) -> Choice {
        let types_folder = self.cache_root().ok().map(|root| root.join("types"));
        Choice { types_folder, ..Choice::new(self.onnxruntime.clone(), |name| std::env::var_os(name)) }
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

    /// Where bundles are kept: in the cache, or where that is read-only in a temporary folder, with a warning.
    ///
    /// # Errors
    /// No cache named and no home; a temporary folder that cannot be made either.
    pub fn bundles(&self) -> Result<PathBuf> {
        let root = self.cache_root()?;
        let bundles = root.join("bundles");
        let probe = fs::create_dir_all(&bundles)
            .and_then(|()| cache::mark(&root))
            .and_then(|()| atomic::probe(&bundles.join("probe")));
        match probe {
            Err(error) if [ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied].contains(&error.kind()) => {
                self.scratch(&bundles, &error)
            }
            // What else is wrong is told by whoever writes, with its file.
            _ => Ok(bundles),
        }
    }

    fn scratch(&self, instead_of: &Path, error: &std::io::Error) -> Result<PathBuf> {
        if let Some(Temporary(folder)) = self.scratch.0.get() {
            return Ok(folder.clone());
        }
        let folder = std::env::temp_dir().join(format!("edgetune-{}", std::process::id()));
        // Not one that is there already: it may be somebody else's.
        DirBuilder::new().mode(0o700).create(&folder).with_context(|| {
            let cache = instead_of.display();
            format!("{cache}: {error}; nor can {} be made: name a writable folder with --cache DIR", folder.display())
        })?;
        tracing::warn!(
            "{}: {error}; the model's weights are written to {} for this command alone. Name a writable folder with --cache DIR",
            instead_of.display(),
            folder.display()
        );
        Ok(self.scratch.0.get_or_init(|| Temporary(folder)).0.clone())
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

/// How frozen weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryName {
    /// In the mapped file alone, shared by all processes: private memory does not grow with the model
    Low,
    /// Copied for speed up to 1/16 of the machine's (or control group's) memory and 256 MiB; else as low
    #[default]
    Balanced,
    /// Always copied into the layout that the kernels prefer
    Fast,
}

/// The share of the machine's memory that the weights of one session may take as copies: there are up to three sessions at
/// the same time, and a machine has other work. Not of what is free just now: copies are computed with in another order, and
/// the same command is to give the same bytes.
const PACKED_SHARE: u64 = 16;
/// However much memory there is, private memory stops growing with the model here.
const PACKED_BYTES_MAX: u64 = 256 << 20;

impl MemoryName {
    /// [`engine::Options::packed_bytes_max`] on a machine of so much memory.
    fn packed_bytes_max(self, installed_bytes: Option<u64>) -> u64 {
        match self {
            Self::Low => 0,
            Self::Balanced => {
                installed_bytes.map_or(PACKED_BYTES_MAX, |bytes| bytes / PACKED_SHARE).min(PACKED_BYTES_MAX)
            }
            Self::Fast => u64::MAX,
        }
    }
}

impl Compute {
    /// Whether how weights are held is left to edgetune.
    pub fn is_balanced(&self) -> bool {
        self.memory.unwrap_or_default() == MemoryName::Balanced
    }

    /// The engine's options on this machine.
    pub fn options(&self) -> engine::Options {
        engine::Options {
            threads: self.threads.unwrap_or(0),
            provider: match self.provider {
                None | Some(ProviderName::Cpu) => Provider::Cpu,
                Some(ProviderName::Cuda) => Provider::Cuda,
                Some(ProviderName::Tensorrt) => Provider::TensorRt,
                Some(ProviderName::Xnnpack) => Provider::Xnnpack,
            },
            packed_bytes_max: self.memory.unwrap_or_default().packed_bytes_max(installed_bytes(Path::new("/"))),
            // A device has other work: waiting threads that spin took twice the time for a step where another process
            // wanted the cores, and save 8 % of it where none does.
            spinning: false,
            ..engine::Options::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_weights_stay_a_small_share_of_the_memory() {
        assert_eq!(MemoryName::Low.packed_bytes_max(Some(u64::MAX)), 0);
        assert_eq!(MemoryName::Fast.packed_bytes_max(Some(0)), u64::MAX);
        assert_eq!(MemoryName::Balanced.packed_bytes_max(Some(512 << 20)), 32 << 20);
        assert_eq!(MemoryName::Balanced.packed_bytes_max(Some(64 << 30)), 256 << 20);
        assert_eq!(MemoryName::Balanced.packed_bytes_max(None), 256 << 20);
    }
}
