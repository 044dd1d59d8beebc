//! Execution providers: asked for by name, registered or refused, never replaced in silence.

use super::{Error, Result};
use ort::ep::ExecutionProviderDispatch;
use std::fmt;
use std::str::FromStr;

/// Where a session computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Provider {
    /// ONNX Runtime's own CPU kernels; part of every build.
    #[default]
    Cpu,
    /// NVIDIA GPUs through CUDA and cuDNN.
    Cuda,
    /// NVIDIA GPUs through TensorRT (Jetson's JetPack).
    TensorRt,
    /// XNNPACK's CPU kernels (ARM).
    Xnnpack,
}

impl Provider {
    /// All providers that edgetune knows.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Cuda, Self::TensorRt, Self::Xnnpack];

    /// The name in a recipe and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::Xnnpack => "xnnpack",
        }
    }

    /// The name that ONNX Runtime lists it under.
    pub fn ort_name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
            Self::TensorRt => "TensorrtExecutionProvider",
            Self::Xnnpack => "XnnpackExecutionProvider",
        }
    }

    /// The registration for a session; fails rather than falling back when the session is built.
    ///
    /// # Errors
    /// [`Error::ProviderNotBuilt`] if edgetune was built without it, [`Error::ProviderAbsent`] if the loaded ONNX Runtime
    /// (which lists `available`) was.
    pub(super) fn registration(self, arena: bool, available: &[String]) -> Result<ExecutionProviderDispatch> {
        let registration = match self {
            Self::Cpu => Some(ort::ep::CPU::default().with_arena_allocator(arena).build()),
            #[cfg(feature = "cuda")]
            Self::Cuda => Some(ort::ep::CUDA::default().build()),
            #[cfg(feature = "tensorrt")]
            Self::TensorRt => Some(ort::ep::TensorRT::default().build()),
            #[cfg(feature = "xnnpack")]
            Self::Xnnpack => Some(ort::ep::XNNPACK::default().build()),
            #[allow(unreachable_patterns)]
            _ => None,
        };
        let registration = registration.ok_or(Error::ProviderNotBuilt { provider: self })?;
        if !available.iter().any(|name| name == self.ort_name()) {
            return Err(Error::ProviderAbsent { provider: self, available: available.join(", ") });
        }
        Ok(registration.error_on_failure())
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Provider {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|provider| provider.name() == name)
            .ok_or_else(|| Error::UnknownProvider { name: name.into() })
    }
}
