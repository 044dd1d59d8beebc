//! How the delta is stored, and what it says of itself, as a recipe says it.

use super::error::{Error, refuse};
use crate::delta::{EncodingChoice, NAME_BYTES_MAX, WORD_BYTES_MAX};
use crate::train::artifact::Provenance;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the delta is stored, and what it says of itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct DeltaSettings {
    /// How values are stored: fp16, int8, int4, sign, sparse:PERCENT, or auto, the smallest that validation allows [default:
    /// fp16, or auto with --max-loss-increase]
    pub encoding: Option<EncodingName>,
    /// By how much the validation loss may grow with --encoding auto [default: 0.01, for numbers 1 % of the loss]
    pub max_loss_increase: Option<f64>,
    /// Name of this device
    #[serde(skip_serializing)]
    pub device_id: Option<String>,
    /// The turn of the fleet that the delta belongs to
    #[serde(skip_serializing)]
    pub round: Option<u32>,
    /// Under what terms the delta may be used, such as CC-BY-4.0
    #[serde(skip_serializing)]
    pub licence: Option<String>,
    /// Where the data came from, and what else a reader should know
    #[serde(skip_serializing)]
    pub notes: Option<String>,
}

impl DeltaSettings {
    /// These settings, with what they leave open taken from `other`.
    pub fn or(self, other: Self) -> Self {
        Self {
            encoding: self.encoding.or(other.encoding),
            max_loss_increase: self.max_loss_increase.or(other.max_loss_increase),
            device_id: self.device_id.or(other.device_id),
            round: self.round.or(other.round),
            licence: self.licence.or(other.licence),
            notes: self.notes.or(other.notes),
        }
    }

    /// What is asked for.
    pub fn encoding(&self) -> EncodingName {
        let otherwise = if self.max_loss_increase.is_some() { EncodingName::Auto } else { EncodingName::default() };
        self.encoding.unwrap_or(otherwise)
    }

    /// Refuses what the format has no place for, and a bound without effect; `validates` says whether any samples validate.
    ///
    /// # Errors
    /// The first such option, with the remedy.
    pub fn check(&self, validates: bool) -> Result<(), Error> {
        let texts = [
            ("delta.device-id", &self.device_id, WORD_BYTES_MAX),
            ("delta.licence", &self.licence, WORD_BYTES_MAX),
            ("delta.notes", &self.notes, NAME_BYTES_MAX),
        ];
        for (setting, text, bytes_max) in texts {
            let text = text.as_deref().unwrap_or_default();
            if text.len() > bytes_max || text.contains(char::is_control) {
                let bytes = text.len();
                refuse!(
                    "setting `{setting}`: {bytes} bytes; write one line of at most {bytes_max} bytes, without control characters"
                );
            }
        }
        if let Some(most) = self.max_loss_increase {
            if !(most >= 0.0 && most.is_finite()) {
                refuse!("setting `delta.max-loss-increase = {most}`: write a number of 0 or more, such as 0.01");
            }
            if let EncodingName::Of(choice) = self.encoding() {
                refuse!(
                    "setting `delta.max-loss-increase`: setting `delta.encoding = {choice}` is stored whatever it costs; write setting `delta.encoding = auto`"
                );
            }
        }
        if self.encoding() == EncodingName::Auto && !validates {
            refuse!(
                "setting `delta.encoding = auto`: without validation nothing tells the encodings apart; raise setting `val-fraction` above 0"
            );
        }
        Ok(())
    }

    /// What the delta's header says of its origin.
    pub fn provenance<'a>(&'a self, created_unix_s: u64, recipe: &'a str) -> Provenance<'a> {
        Provenance {
            created_unix_s: Some(created_unix_s),
            device: self.device_id.as_deref().unwrap_or_default(),
            round: self.round,
            recipe: Some(recipe),
            licence: self.licence.as_deref().unwrap_or_default(),
            notes: self.notes.as_deref().unwrap_or_default(),
        }
    }
}

/// An encoding, or the smallest within a bound.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum EncodingName {
    /// The smallest whose loss stays within the bound.
    Auto,
    /// This one, whatever it costs.
    Of(EncodingChoice),
}

impl Default for EncodingName {
    fn default() -> Self {
        Self::Of(EncodingChoice::Fp16)
    }
}

impl FromStr for EncodingName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let otherwise = "no encoding; there are auto, fp16, int8, int4, sign and sparse:PERCENT, such as sparse:10";
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Of).map_err(|_| otherwise) }
    }
}

impl TryFrom<String> for EncodingName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EncodingName> for String {
    fn from(name: EncodingName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for EncodingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(choice) => choice.fmt(f),
        }
    }
}
