//! What `edgetune.toml` says: one file for the service, beside the recipe that says how to train.

use super::policy::Policy;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The agent's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// How to train: model, what learns, preprocessing; its `data` are the agent's own.
    pub recipe: PathBuf,
    /// Where samples, adapters and history are kept.
    pub state: PathBuf,
    /// Where applications put samples: one folder a class, a file appears by rename.
    pub spool: PathBuf,
    /// What is taken in.
    #[serde(default)]
    pub samples: Samples,
    /// When to train.
    #[serde(default)]
    pub policy: Policy,
    /// When to use what was learned.
    #[serde(default)]
    pub gate: Gate,
}

/// Bounds of what is taken in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Samples {
    /// Kilobytes of one sample.
    pub each_max_kb: u64,
    /// Megabytes of all. What comes beyond waits in the spool.
    pub total_max_mb: u64,
}

impl Default for Samples {
    fn default() -> Self {
        Self { each_max_kb: 16_000, total_max_mb: 1_000 }
    }
}

/// The condition that a new adapter must meet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Gate {
    /// Share of samples that are never trained on, from 0 to 1, both excluded.
    pub held_out: f64,
    /// Held-out samples without which no training begins.
    pub held_out_min: u64,
    /// How sure it must be that the new adapter is better, from 0.5 to 1, both excluded.
    pub confidence: f64,
}

impl Default for Gate {
    fn default() -> Self {
        Self { held_out: 0.2, held_out_min: 20, confidence: 0.95 }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}; name the configuration with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is not what is expected.
    #[error("{}: line {line}: {problem}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Key and reason.
        problem: String,
    },
    /// A number out of its range.
    #[error("{}: {key} = {value}: {remedy}", path.display())]
    Range {
        /// The file.
        path: PathBuf,
        /// Table and key.
        key: &'static str,
        /// What was given.
        value: f64,
        /// What may be given.
        remedy: &'static str,
    },
}

impl Config {
    /// Reads a file; its relative paths begin where it lies.
    ///
    /// # Errors
    /// [`Error`], naming file, line and key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
            Error::Toml { path: path.into(), line: before.matches('\n').count() + 1, problem: error.message().into() }
        })?;
        let range = |key, value: f64, inside: bool, remedy| match inside {
            true => Ok(()),
            false => Err(Error::Range { path: path.into(), key, value, remedy }),
        };
        let (held_out, confidence) = (config.gate.held_out, config.gate.confidence);
        range(
            "gate.held-out",
            held_out,
            held_out > 0.0 && held_out < 1.0,
            "write a share between 0 and 1, such as 0.2",
        )?;
        let sure = confidence > 0.5 && confidence < 1.0;
        range("gate.confidence", confidence, sure, "write a share between 0.5 and 1, such as 0.95")?;
        let (load, heat) = (config.policy.load_max, config.policy.temperature_max_c);
        range("policy.load-max", load.into(), load > 0.0 && load <= 1.0, "write a share above 0, up to 1")?;
        range("policy.temperature-max-c", heat.into(), heat.is_finite(), "write degrees Celsius, such as 75")?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for path in [&mut config.recipe, &mut config.state, &mut config.spool] {
            *path = folder.join(&*path);
        }
        Ok(config)
    }
}
