//! `--encoding` and what a delta says of itself: the options, their limits, and the time.

use super::encoding::EncodingName;
use crate::delta::{NAME_BYTES_MAX, WORD_BYTES_MAX};
use crate::train::artifact::Provenance;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::time::{SystemTime, UNIX_EPOCH};

/// How the delta is stored, and what it says of itself.
#[derive(Debug, Clone, Default, Args, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[command(next_help_heading = "Delta")]
pub struct DeltaArgs {
    /// How values are stored: fp16, int8, int4, sign, sparse:PERCENT, or auto, the smallest that validation allows [default:
    /// fp16, or auto with --max-loss-increase]
    #[arg(long, value_name = "ENCODING")]
    pub encoding: Option<EncodingName>,
    /// By how much the validation loss may grow with --encoding auto [default: 0.01, for numbers 1 % of the loss]
    #[arg(long, value_name = "LOSS")]
    pub max_loss_increase: Option<f64>,
    /// What this device calls itself
    #[arg(long, value_name = "NAME", env = "EDGETUNE_DEVICE_ID", hide_env_values = true)]
    #[serde(skip_serializing)]
    pub device_id: Option<String>,
    /// The turn of the fleet that the delta belongs to
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing)]
    pub round: Option<u32>,
    /// Under what terms the delta may be used, such as CC-BY-4.0
    #[arg(long, value_name = "TERMS")]
    #[serde(skip_serializing)]
    pub licence: Option<String>,
    /// Where the data came from, and what else a reader should know
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing)]
    pub notes: Option<String>,
}

impl DeltaArgs {
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
    pub fn check(&self, validates: bool) -> Result<()> {
        let texts = [
            ("--device-id", &self.device_id, WORD_BYTES_MAX),
            ("--licence", &self.licence, WORD_BYTES_MAX),
            ("--notes", &self.notes, NAME_BYTES_MAX),
        ];
        for (flag, text, bytes_max) in texts {
            let text = text.as_deref().unwrap_or_default();
            if text.len() > bytes_max || text.contains(char::is_control) {
                let bytes = text.len();
                bail!("{flag}: {bytes} bytes; write one line of at most {bytes_max} bytes, without control characters");
            }
        }
        if let Some(most) = self.max_loss_increase {
            if !(most >= 0.0 && most.is_finite()) {
                bail!("--max-loss-increase {most}: write a number of 0 or more, such as 0.01");
            }
            if let EncodingName::Of(choice) = self.encoding() {
                bail!("--max-loss-increase: --encoding {choice} is stored whatever it costs; write --encoding auto");
            }
        }
        if self.encoding() == EncodingName::Auto && !validates {
            bail!(
                "--encoding auto: without validation nothing tells the encodings apart; raise --val-fraction above 0"
            );
        }
        Ok(())
    }

    /// What the delta's header says of its origin.
    pub fn provenance(&self, created_unix_s: u64, recipe: [u8; 32]) -> Provenance<'_> {
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

/// The time for the header of a delta, in seconds since 1970: the clock's, or what SOURCE_DATE_EPOCH says in its place
/// (reproducible-builds.org/specs/source-date-epoch), so that equal commands give equal bytes.
///
/// # Errors
/// A variable that is no such number.
pub fn created_unix_s(variable: Option<OsString>, clock: SystemTime) -> Result<u64> {
    let Some(text) = variable else {
        // A clock that stands before 1970 knows no better than 1970.
        return Ok(clock.duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs()));
    };
    let text = text.to_string_lossy();
    let what = || format!("SOURCE_DATE_EPOCH `{text}`: write whole seconds since 1970, or unset it");
    text.trim().parse().with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_variable_wins_over_the_clock() {
        let clock = UNIX_EPOCH + Duration::from_millis(7_999);
        assert_eq!(created_unix_s(None, clock).unwrap(), 7);
        assert_eq!(created_unix_s(None, UNIX_EPOCH - Duration::from_secs(5)).unwrap(), 0);
        assert_eq!(created_unix_s(Some("1700000000".into()), clock).unwrap(), 1_700_000_000);
        let refused = created_unix_s(Some("yesterday".into()), clock).unwrap_err().to_string();
        assert!(refused.contains("SOURCE_DATE_EPOCH `yesterday`"), "{refused}");
    }
}
