//! `edgetune agent train`, `accept`, `rollback`: what a person decides.

use super::status::is_served;
use crate::agent::config::Config;
use crate::agent::record::adapters;
use crate::agent::record::asked::{self, Ask};
use crate::cli::Done;
use crate::cli::print::Printer;
use anyhow::{Result, bail};
use jiff::Timestamp;
use serde_json::json;

/// Who puts an adapter to use that the gate did not.
const PERSON: &str = "accept";

pub(super) fn train(config: &Config, now: bool, printer: &Printer) -> Result<Done> {
    let served = is_served(config)?;
    asked::put(&config.state, &Ask::Train { now }, 0)?;
    printer.document(&json!({ "asked": true, "now": now, "served": served }));
    printer.text("asked for a training; `edgetune agent status` tells when it begins");
    if !served {
        printer.warn("no agent works on this state; the training begins when one is started");
    }
    Ok(Done::Fully)
}

pub(super) fn accept(config: &Config, adapter: Option<&str>, printer: &Printer) -> Result<Done> {
    let state = &config.state;
    let (history, active) = (adapters::history(state)?, adapters::active(state)?);
    let Some(adapter) = adapter.or_else(|| adapters::judged_last(&history, active.as_deref())) else {
        bail!("{}: no adapter was judged besides the one in use; `edgetune agent train` learns one", state.display());
    };
    let known = adapter.bytes().all(|byte| byte.is_ascii_hexdigit()) && adapters::path(state, adapter).is_file();
    if !known {
        bail!(
            "adapter {adapter}: it is not kept; `edgetune agent history` names adapters, and the last one that was judged stays"
        );
    }
    let before = adapters::activate(state, adapter, PERSON, Timestamp::now().as_second())?;
    printer.document(&json!({ "active": adapter, "before": before }));
    printer.text(format!("adapter {adapter} is in use, in place of {}", before.as_deref().unwrap_or("the base")));
    Ok(Done::Fully)
}

pub(super) fn rollback(config: &Config, base: bool, printer: &Printer) -> Result<Done> {
    let (state, at) = (&config.state, Timestamp::now().as_second());
    let previous = if base { None } else { adapters::previous(state)? };
    let before = match &previous {
        Some(previous) => adapters::activate(state, previous, "rollback", at)?,
        None => adapters::deactivate(state, "rollback", at)?,
    };
    let Some(before) = before else {
        bail!("{}: no adapter is in use; `edgetune agent history` tells what was", state.display());
    };
    printer.document(&json!({ "active": previous, "before": before }));
    match previous {
        Some(previous) => printer.text(format!("adapter {previous} is in use again, in place of {before}")),
        None => printer.text(format!("no adapter is in use: the base stands alone, in place of {before}")),
    }
    Ok(Done::Fully)
}
