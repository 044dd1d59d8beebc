//! `--retention` and what is done against forgetting.

use crate::recipe::Retention;
use clap::Args;
use std::path::PathBuf;

/// What is done against forgetting.
#[derive(Debug, Clone, Default, Args)]
pub struct RetentionArgs {
    /// What the base knows: a file of `edgetune retention make`, or data [default: the samples that the base answers rightly]
    ///
    /// Some of its samples are learned again beside the new ones, the others measure how much is kept. Its classes stay.
    #[arg(long, help_heading = "Data", value_name = "PATH")]
    pub retention: Option<PathBuf>,
    /// Samples of each class of --retention that are learned again; of text, samples in all [default: 10; of text, half]
    #[arg(long, help_heading = "Data", value_name = "N")]
    pub replay: Option<u32>,
    /// Share of what the base knows that may be lost, in all and in each class [default: no limit]
    ///
    /// This is a share of the right answers or, for a language model, the share by which the perplexity may grow. A training that loses
    /// more is moved back towards its start until it does not. Where that does not help, the command ends with exit code 4.
    #[arg(long, help_heading = "What learns", value_name = "SHARE")]
    pub keep_base: Option<f64>,
    /// Share of the gain that must stay when a training is moved back towards its start to keep what the base knows; 1 never moves back
    /// [default: 0.9]
    #[arg(long, help_heading = "What learns", value_name = "SHARE")]
    pub rewind: Option<f64>,
    /// How strongly each value is pulled to where it started, instead of weight decay to 0 (L2-SP) [default: 0]
    #[arg(long, help_heading = "What learns", value_name = "X")]
    pub l2_sp: Option<f64>,
    /// As --l2-sp, but stronger for values on which the base's answers depend more (elastic weight consolidation); X is the mean over all
    /// values [default: 0]
    #[arg(long, help_heading = "What learns", value_name = "X")]
    pub ewc: Option<f64>,
    /// Weight of the base's own answers as a second target beside the labels (learning without forgetting) [default: 0]
    #[arg(long, help_heading = "What learns", value_name = "X")]
    pub distill: Option<f64>,
}

impl From<RetentionArgs> for Retention {
    fn from(typed: RetentionArgs) -> Self {
        let RetentionArgs { retention, replay, keep_base, rewind, l2_sp, ewc, distill } = typed;
        Self { set: retention, replay, keep_base, rewind, l2_sp, ewc, distill }
    }
}
