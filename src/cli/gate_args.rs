//! `--gain-min` and what else an adapter must meet.

use crate::recipe::Gates;
use clap::Args;

/// What an adapter must meet before it is written.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Delta")]
pub struct GateArgs {
    /// Gain over what was there before, at least: of right answers in all, else the share by which the loss falls [default: none]
    ///
    /// It counts with --confidence, on the test samples, else on those that validate. An adapter that does not meet a gate is not
    /// written, and the training ends with exit code 5.
    #[arg(long, value_name = "SHARE")]
    pub gain_min: Option<f64>,
    /// How sure that gain has to be [default: 0.95]
    #[arg(long, value_name = "SHARE")]
    pub confidence: Option<f64>,
    /// Mean difference between probabilities and shares of right answers, at most (expected calibration error) [default: none]
    #[arg(long, value_name = "SHARE")]
    pub calibration_max: Option<f64>,
    /// Time for the answer to one sample on this device, at most, such as 20ms [default: none]
    #[arg(long, help_heading = "Computing", value_name = "TIME")]
    pub latency_max: Option<String>,
    /// Size of the delta, at most, such as 64KiB [default: none]
    #[arg(long, value_name = "BYTES")]
    pub size_max: Option<String>,
    /// Write the adapter also where it changes no output: names of classes may be what it is for
    #[arg(long, help_heading = "Run")]
    pub allow_idle: bool,
}

impl From<GateArgs> for Gates {
    fn from(typed: GateArgs) -> Self {
        let GateArgs { gain_min, confidence, calibration_max, latency_max, size_max, allow_idle } = typed;
        Self { gain_min, confidence, calibration_max, latency_max, size_max, allow_idle }
    }
}
