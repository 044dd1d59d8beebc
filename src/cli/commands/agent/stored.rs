//! `edgetune agent samples`: samples listed, with another label, deleted.
//!
//! While a service runs, its samples are its own: it is asked, by a file in its state.

use super::status::is_served;
use crate::agent::config::Config;
use crate::agent::locks::lock;
use crate::agent::record::asked::{self, Ask};
use crate::agent::record::listing::{Wanted, list};
use crate::agent::record::sample_name::{Name, parse};
use crate::agent::record::samples::{PERSON, Store, class_name};
use crate::amounts::counted;
use crate::cli::Done;
use crate::cli::print::Printer;
use anyhow::{Result, bail};
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long to wait for the service.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// List samples, give them another label, delete them
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// List samples by side (training or held out), label and name, and those that were set aside, with the reason
    #[command(after_help = "Example:\n  edgetune agent samples list --label cat --side held-out")]
    List {
        /// Only samples of this label
        #[arg(long)]
        label: Option<String>,
        /// Of this side alone: train, held-out, or aside
        #[arg(long, value_parser = ["train", "held-out", "aside"])]
        side: Option<String>,
        /// At most so many samples
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: usize,
    },
    /// Give samples another label
    #[command(after_help = "Example:\n  edgetune agent samples relabel 5f0c33a1b2c4d5e6f708192a3b4c5d6e --label dog")]
    Relabel {
        /// Names, as `list` shows them
        #[arg(required = true, value_name = "SAMPLE")]
        samples: Vec<String>,
        /// The label
        #[arg(long)]
        label: String,
    },
    /// Delete samples, also those that were set aside
    #[command(after_help = "Example:\n  edgetune agent samples delete 5f0c33a1b2c4d5e6f708192a3b4c5d6e")]
    Delete {
        /// Names, as `list` shows them
        #[arg(required = true, value_name = "SAMPLE")]
        samples: Vec<String>,
    },
}

pub(super) fn run(action: &Action, config: &Config, printer: &Printer) -> Result<Done> {
    let ask = match action {
        Action::List { label, side, limit } => {
            let wanted = Wanted { label: label.clone(), side: side.clone(), after: None, limit: *limit };
            let found = list(&config.state, &wanted)?;
            printer.document(&found);
            for one in &found {
                let reason = one.reason.as_ref().map_or(String::new(), |reason| format!("  {reason}"));
                printer.text(format!("{}  {:8}  {:>9}  {}{reason}", one.sample, one.side, one.bytes, one.label));
            }
            return Ok(Done::Fully);
        }
        Action::Relabel { samples, label } => {
            class_name(label, &config.samples).map_err(anyhow::Error::msg)?;
            Ask::Relabel { samples: known(samples, config)?, label: label.clone() }
        }
        Action::Delete { samples } => Ask::Delete { samples: known(samples, config)? },
    };
    let count = match &ask {
        Ask::Relabel { samples, .. } | Ask::Delete { samples } | Ask::Forget { samples } => samples.len(),
        Ask::Train { .. } => 0,
    };
    if is_served(config)? {
        wait(config, &ask)?
    } else {
        change(config, &ask)?
    }
    printer.document(&json!({ "changed": count }));
    printer.text(format!("{} changed; `edgetune agent train` learns from what there is now", counted(count, "sample")));
    Ok(Done::Fully)
}

/// Names of samples that there are.
fn known(names: &[String], config: &Config) -> Result<Vec<Name>> {
    let store = Store::read_only(&config.state)?;
    let inventory = lock(&store.inventory);
    let one = |text: &String| match parse(text) {
        Some(name) if inventory.find(&name).is_some() || inventory.aside.why(&name).is_some() => Ok(name),
        _ => bail!("no sample is called `{text}`; `edgetune agent samples list` shows the names"),
    };
    names.iter().map(one).collect()
}

pub(in crate::cli::commands) fn wait(config: &Config, ask: &Ask) -> Result<()> {
    let path = asked::put(&config.state, ask, fastrand::u64(..))?;
    let began = Instant::now();
    while path.exists() {
        if began.elapsed() > PATIENCE {
            bail!("the agent has not done it within {} s; it will, or its log tells why not", PATIENCE.as_secs());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn change(config: &Config, ask: &Ask) -> Result<()> {
    let store = Store::read(&config.state)?;
    match ask {
        Ask::Relabel { samples, label } => {
            samples.iter().try_for_each(|sample| store.relabel(&config.samples, sample, label).map(drop))?
        }
        Ask::Delete { samples } => {
            let at = Timestamp::now().as_second();
            samples.iter().try_for_each(|sample| store.delete(sample, PERSON, at))?
        }
        Ask::Train { .. } | Ask::Forget { .. } => {}
    }
    Ok(())
}
