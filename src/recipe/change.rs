//! How the base is changed besides whole tensors, as a recipe says it.

use super::error::{Error, refuse};
use crate::adapter::{Kind, Method, Places};
use crate::cut::Selection;
use serde::{Deserialize, Serialize};

/// Methods by the names that PEFT gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
    /// Low-rank factors: W + alpha/rank · B A
    Lora,
    /// LoRA scaled by alpha/√rank
    Rslora,
    /// LoRA of the direction, with a magnitude for each output
    Dora,
    /// LoRA whose A stays as it began: half the delta
    LoraFa,
    /// A learned factor for each output
    Ia3,
    /// The biases alone
    Bitfit,
    /// Scales and shifts of normalisations alone
    Norm,
}

/// The rank of factors where none is named.
const RANK: u32 = 8;

/// How the base is changed besides what --train selects.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Change {
    /// Learn small changes of many layers, such as lora [default: none]
    ///
    /// Whole layers learn besides only where --train names them.
    /// Example: --adapter lora --rank 8 --layers last:10
    #[serde(rename = "method")]
    pub adapter: Option<MethodName>,
    /// Rank of the factors [default: 8]
    pub rank: Option<u32>,
    /// Numerator of the factors' scale [default: 2 × rank]
    pub alpha: Option<f32>,
    /// Layers to change, by module name (`q_proj,v_proj`) or a pattern with * and ?; repeatable [default: all linear layers and
    /// convolutions but the last]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::one_or_many")]
    pub targets: Vec<String>,
    /// Change only what is among the N last layers with weights [default: all]
    pub layers: Option<String>,
    /// Layers whose input ia3 scales instead of the output; repeatable
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::one_or_many")]
    pub feedforward: Vec<String>,
}

impl Change {
    /// These settings, with what they leave open taken from `other`.
    pub fn or(self, other: Self) -> Self {
        Self {
            adapter: self.adapter.or(other.adapter),
            rank: self.rank.or(other.rank),
            alpha: self.alpha.or(other.alpha),
            targets: if self.targets.is_empty() { other.targets } else { self.targets },
            layers: self.layers.or(other.layers),
            feedforward: if self.feedforward.is_empty() { other.feedforward } else { self.feedforward },
        }
    }

    /// The method with its numbers.
    pub fn method(&self) -> Option<Method> {
        let kind = match self.adapter? {
            MethodName::Lora => Kind::Lora,
            MethodName::Rslora => Kind::RsLora,
            MethodName::Dora => Kind::Dora,
            MethodName::LoraFa => Kind::LoraFa,
            MethodName::Ia3 => Kind::Ia3,
            MethodName::Bitfit => Kind::BitFit,
            MethodName::Norm => Kind::Norm,
        };
        let rank = if kind.low_rank() { self.rank.unwrap_or(RANK) } else { 0 };
        let alpha = if kind.low_rank() { self.alpha.unwrap_or(2.0 * rank as f32) } else { 0.0 };
        Some(Method { kind, rank, alpha })
    }

    /// Where it is put.
    ///
    /// # Errors
    /// A setting `adapter.layers` that is not `last:N`.
    pub fn places(&self) -> Result<Places<'_>, Error> {
        let last = match self.layers.as_deref().map(|text| (text, Selection::parse(text))) {
            None => None,
            Some((_, Ok(Selection::Last(count)))) => Some(count),
            Some((text, _)) => {
                refuse!("setting `adapter.layers` `{text}`: write last:N with N of 1 or more, such as last:6")
            }
        };
        Ok(Places { targets: &self.targets, last, feedforward: &self.feedforward })
    }

    /// Refuses numbers out of their range, and options that the method leaves without effect.
    ///
    /// # Errors
    /// The first such option, with the remedy.
    pub fn check(&self) -> Result<(), Error> {
        self.places()?;
        let Some(method) = self.method() else {
            let given = [
                ("adapter.rank", self.rank.is_some()),
                ("adapter.alpha", self.alpha.is_some()),
                ("adapter.targets", !self.targets.is_empty()),
                ("adapter.layers", self.layers.is_some()),
                ("adapter.feedforward", !self.feedforward.is_empty()),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                Some((setting, _)) => refuse!(
                    "setting `{setting}`: only an adapter has it; add setting `adapter.method = lora`, or remove it"
                ),
                None => Ok(()),
            };
        };
        let kind = method.kind;
        let vectors = matches!(kind, Kind::BitFit | Kind::Norm);
        let given = [
            ("adapter.rank", self.rank.is_some() && !kind.low_rank()),
            ("adapter.alpha", self.alpha.is_some() && !kind.low_rank()),
            ("adapter.targets", !self.targets.is_empty() && vectors),
            ("adapter.feedforward", !self.feedforward.is_empty() && kind != Kind::Ia3),
        ];
        if let Some((setting, _)) = given.into_iter().find(|(_, given)| *given) {
            refuse!(
                "setting `{setting}`: setting `adapter.method = {kind}` has none; remove it, or choose another setting `adapter.method`"
            );
        }
        if self.rank == Some(0) {
            refuse!("setting `adapter.rank = 0` would learn nothing; give 1 or more, such as 8");
        }
        if self.alpha.is_some_and(|alpha| !(alpha > 0.0 && alpha.is_finite())) {
            refuse!("setting `adapter.alpha`: must be a positive number, such as 16");
        }
        Ok(())
    }
}
