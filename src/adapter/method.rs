//! How the base is changed: the methods' names, numbers and scales, as in PEFT.

use std::fmt;

/// A parameter-efficient method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `W + alpha / rank · B A` (LoRA, arXiv 2106.09685).
    Lora,
    /// `W + alpha / √rank · B A` (rank-stabilised LoRA, arXiv 2312.03732).
    RsLora,
    /// Magnitude times the normalised direction of `W + alpha / rank · B A` (DoRA, arXiv 2402.09353).
    Dora,
    /// LoRA whose `A` keeps its first values (LoRA-FA, arXiv 2308.03303).
    LoraFa,
    /// Outputs of layers, or inputs of feed-forward layers, times a learned vector (IA³, arXiv 2205.05638).
    Ia3,
    /// The biases alone (BitFit, arXiv 2106.10199).
    BitFit,
    /// Scales and shifts of normalisations alone (arXiv 2312.11420 tunes a language model so).
    Norm,
}

impl Kind {
    /// Whether the method learns factors of low rank.
    pub fn low_rank(self) -> bool {
        matches!(self, Kind::Lora | Kind::RsLora | Kind::Dora | Kind::LoraFa)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Lora => "lora",
            Kind::RsLora => "rslora",
            Kind::Dora => "dora",
            Kind::LoraFa => "lora-fa",
            Kind::Ia3 => "ia3",
            Kind::BitFit => "bitfit",
            Kind::Norm => "norm",
        })
    }
}

/// A method with its numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Method {
    /// Which.
    pub kind: Kind,
    /// Rank of the factors; 0 where the kind has none.
    pub rank: u32,
    /// Numerator of the factors' scale; 0 where the kind has none.
    pub alpha: f32,
}

impl Method {
    /// The factor of `B A`.
    pub fn scale(&self) -> f64 {
        let rank = f64::from(self.rank.max(1));
        f64::from(self.alpha) / if self.kind == Kind::RsLora { rank.sqrt() } else { rank }
    }
}

/// Where a method is put. Every list of patterns means PEFT's module names: `q_proj` is every layer of that name
/// wherever it stands; with `*` or `?` a pattern is compared with the whole of a layer's module, node or initializer name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Places<'a> {
    /// The layers, by setting `adapter.targets`; none means every linear layer and ungrouped convolution but the model's last one.
    pub targets: &'a [String],
    /// Setting `adapter.layers = last:N`: only among the N last layers that hold weights.
    pub last: Option<usize>,
    /// Setting `adapter.feedforward`: targets of IA³ whose input is scaled instead of their output.
    pub feedforward: &'a [String],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_follows_the_method() {
        let scale = |kind, rank| Method { kind, rank, alpha: 16.0 }.scale();
        assert_eq!((scale(Kind::Lora, 4), scale(Kind::RsLora, 4)), (4.0, 8.0));
    }
}
