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
    /// The share of what the base knows that may be lost, over all and in each class [default: no limit]
    ///
    /// Of right answers this share; of perplexity, the share that it may grow by. A training that loses more is taken back until
    /// it does not, and ends with exit code 4 where even that does not help.
    #[arg(long, help_heading = "What learns", value_name = "SHARE")]
    pub keep_base: Option<f64>,
    /// The share of the gain that going back towards the start keeps, for what the base knows; 1 never goes back [default: 0.9]
    #[arg(long, help_heading = "What learns", value_name = "SHARE")]
    pub rewind: Option<f64>,
    /// Pull of each value towards the start, in the place of weight decay (L2-SP) [default: 0]
    #[arg(long, help_heading = "What learns", value_name = "X")]
    pub l2_sp: Option<f64>,
    /// The same, more where the answers depend more on a value (EWC): X is the mean over all values [default: 0]
    #[arg(long, help_heading = "What learns", value_name = "X")]
    pub ewc: Option<f64>,
    /// Weight of the answers of the base beside the labels (learning without forgetting) [default: 0]
    #[arg(long, help_heading = "What learns", value_name = "X")]
    pub distill: Option<f64>,
}

impl From<RetentionArgs> for Retention {
    fn from(typed: RetentionArgs) -> Self {
        let RetentionArgs { retention, replay, keep_base, rewind, l2_sp, ewc, distill } = typed;
        Self { set: retention, replay, keep_base, rewind, l2_sp, ewc, distill }
    }
}
