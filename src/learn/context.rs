//! What every training and prediction is given besides its recipe: folders, the runtime, how to compute, who is told.

use super::observer::Observer;
use crate::engine::{self, Provider};
use crate::host::{self, Folders};
use crate::recipe::MemoryName;
use crate::train::features::Store;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Seconds since some fixed moment.
pub type Clock = Arc<dyn Fn() -> f64>;

/// The world around a training or prediction.
#[derive(Clone)]
pub struct Context<'a> {
    /// Where bundles and features are kept.
    pub folders: Folders,
    /// Where the ONNX Runtime library is looked for.
    pub runtime: engine::LibraryChoice,
    /// How to compute.
    pub computing: Computing,
    /// Whether features stay for the next run; else they are kept in memory for this one.
    pub keeps_features: bool,
    /// Raised to end.
    pub stop: &'a AtomicBool,
    /// Seconds since the process began.
    pub clock: Clock,
    /// Who is told.
    pub observer: &'a dyn Observer,
}

impl Context<'_> {
    /// Where features are kept.
    pub fn store(&self) -> Store<'_> {
        if self.keeps_features { Store::Disk(self.folders.cache()) } else { Store::Memory }
    }

    /// Whether somebody wants an end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// How ONNX Runtime computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Computing {
    /// Threads; 0 for all cores.
    pub threads: usize,
    /// What computes.
    pub provider: Provider,
    /// How frozen weights are held, where that is asked for.
    pub memory: Option<MemoryName>,
}

impl Computing {
    /// Whether how weights are held is left to edgetune.
    pub fn is_balanced(&self) -> bool {
        self.memory.unwrap_or_default() == MemoryName::Balanced
    }

    /// The engine's options on this machine.
    pub fn options(&self) -> engine::Options {
        let installed_bytes = host::installed_bytes(Path::new("/"));
        engine::Options {
            threads: self.threads,
            provider: self.provider,
            packed_bytes_max: self.memory.unwrap_or_default().packed_bytes_max(installed_bytes),
            // A device has other work: waiting threads that spin took twice the time for a step where another process
            // wanted the cores, and save 8 % of it where none does.
            spinning: false,
            ..engine::Options::default()
        }
    }
}
