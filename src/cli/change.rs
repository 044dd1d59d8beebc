//! `--adapter` and its numbers: how the base is changed besides whole tensors.

use crate::recipe::{Change, MethodName};
use clap::Args;

/// How the base is changed besides what --train selects.
#[derive(Debug, Clone, Default, Args)]
pub struct ChangeArgs {
    /// Learn small changes of many layers, such as lora [default: none]
    ///
    /// Whole layers learn besides only where --train names them.
    /// Example: --adapter lora --rank 8 --layers last:10
    #[arg(long = "adapter", value_enum, value_name = "METHOD", display_order = 4, hide_possible_values = true)]
    pub adapter: Option<MethodName>,
    /// Rank of the factors [default: 8]
    #[arg(long, help_heading = "Adapter", value_name = "N", alias = "lora-r")]
    pub rank: Option<u32>,
    /// Numerator of the factors' scale [default: 2 × rank]
    #[arg(long, help_heading = "Adapter", value_name = "X", allow_negative_numbers = true, alias = "lora-alpha")]
    pub alpha: Option<f32>,
    /// Layers to change, by module name (`q_proj,v_proj`) or a pattern with * and ?; repeatable [default: all linear layers and
    /// convolutions but the last]
    #[arg(long, help_heading = "Adapter", value_name = "PATTERN", value_delimiter = ',', alias = "target-modules")]
    pub targets: Vec<String>,
    /// Change only what is among the N last layers with weights [default: all]
    #[arg(long, help_heading = "Adapter", value_name = "last:N")]
    pub layers: Option<String>,
    /// Layers whose input ia3 scales instead of the output; repeatable
    #[arg(long, help_heading = "Adapter", value_name = "PATTERN", value_delimiter = ',')]
    pub feedforward: Vec<String>,
}

impl From<ChangeArgs> for Change {
    fn from(typed: ChangeArgs) -> Self {
        let ChangeArgs { adapter, rank, alpha, targets, layers, feedforward } = typed;
        Self { adapter, rank, alpha, targets, layers, feedforward }
    }
}
