//! `--encoding` and what a delta says of itself: the options, and the time.

use crate::recipe::{DeltaSettings, EncodingName};
use anyhow::{Context, Result};
use clap::Args;
use std::ffi::OsString;
use std::time::{SystemTime, UNIX_EPOCH};

/// How the delta is stored, and what it says of itself.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Delta")]
pub struct DeltaArgs {
    /// How values are stored: fp16, int8, int4, sign, sparse:PERCENT, or auto, the smallest that validation allows [default:
    /// fp16, or auto with --max-loss-increase]
    #[arg(long, value_name = "ENCODING")]
    pub encoding: Option<EncodingName>,
    /// By how much the validation loss may grow with --encoding auto [default: 0.01, for numbers 1 % of the loss]
    #[arg(long, value_name = "LOSS")]
    pub max_loss_increase: Option<f64>,
    /// Name of this device
    #[arg(long, value_name = "NAME", env = "EDGETUNE_DEVICE_ID", hide_env_values = true)]
    pub device_id: Option<String>,
    /// The turn of the fleet that the delta belongs to
    #[arg(long, value_name = "N")]
    pub round: Option<u32>,
    /// Under what terms the delta may be used, such as CC-BY-4.0
    #[arg(long, value_name = "TERMS")]
    pub licence: Option<String>,
    /// Where the data came from, and what else a reader should know
    #[arg(long, value_name = "TEXT")]
    pub notes: Option<String>,
}

impl From<DeltaArgs> for DeltaSettings {
    fn from(typed: DeltaArgs) -> Self {
        let DeltaArgs { encoding, max_loss_increase, device_id, round, licence, notes } = typed;
        Self { encoding, max_loss_increase, device_id, round, licence, notes }
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
