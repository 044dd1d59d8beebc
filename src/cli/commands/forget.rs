//! `edgetune forget`: samples of the agent's that are forgotten for good, with what was learned from them.

use crate::agent::config::Config;
use crate::agent::locks::lock;
use crate::agent::record::adapters;
use crate::agent::record::asked::{self, Ask};
use crate::agent::record::forgetting::{self, came_before};
use crate::agent::record::listing::{Wanted, list};
use crate::agent::record::sample_name::{self, Name, parse};
use crate::agent::record::samples::Store;
use crate::agent::work::process;
use crate::amounts::counted;
use crate::cli::Done;
use crate::cli::commands::agent::{status::is_served, stored};
use crate::cli::print::Printer;
use anyhow::{Context, Result, anyhow, bail};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::json;
use std::path::PathBuf;

/// Erase samples of the agent's, and what was learned from them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune forget 5f0c33a1b2c4d5e6f708192a3b4c5d6e\n  edgetune forget --class visitors --withdraw\n  edgetune forget \
                  --before 2026-01-31\n\nZeros are written over samples and over all cached features before they are removed. Adapters that learned from \
                  the samples are removed, but for the one in use: it stays until a training without the samples has taken its place, which is \
                  asked for, or goes at once with --withdraw. The ledger says what was forgotten. What a flash memory keeps of overwritten \
                  blocks by itself is out of reach; an encrypted disk helps against that."
)]
pub struct Args {
    /// Names, as `edgetune agent samples list` shows them
    #[arg(value_name = "SAMPLE", required_unless_present_any = ["class", "before"])]
    samples: Vec<String>,
    /// All samples of this class
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// All samples that came before this day (2026-01-31, from midnight on) or moment (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "DATE", value_parser = moment)]
    before: Option<Timestamp>,
    /// Take the adapter in use away at once where it learned from them; the base stands alone until the next training
    #[arg(long)]
    withdraw: bool,
    /// The agent's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/edgetune/edgetune.toml")]
    config: PathBuf,
}

fn moment(text: &str) -> Result<Timestamp> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let day: Date =
        text.parse().map_err(|_| anyhow!("write a day, such as 2026-01-31, or a moment with its offset"))?;
    let midnight: Zoned = day.to_zoned(TimeZone::system())?;
    Ok(midnight.timestamp())
}

pub fn run(args: &Args, printer: &Printer) -> Result<Done> {
    let config = Config::read(&args.config)?;
    let state = &config.state;
    let samples = named(args, &config)?;
    if samples.is_empty() {
        printer.document(&json!({ "forgotten": 0, "to_replace": forgetting::to_replace(state)?, "withdrawn": null }));
        printer.text("no sample is such; nothing is forgotten");
        return Ok(Done::Fully);
    }
    let at = Timestamp::now().as_second();
    if is_served(&config)? {
        stored::wait(&config, &Ask::Forget { samples: samples.clone() })?;
    } else {
        let store = Store::read(state)?;
        forgetting::forget(state, &process::cache(&config), &store, &samples, at)
            .with_context(|| state.display().to_string())?;
    }
    let mut withdrawn = None;
    if args.withdraw
        && adapters::active(state)?
            .is_some_and(|active| forgetting::to_replace(state).is_ok_and(|all| all.contains(&active)))
    {
        withdrawn = adapters::deactivate(state, "forget", at)?;
        forgetting::replaced(state)?;
    }
    asked::put(state, &Ask::Train { now: false }, 0)?;
    let to_replace = forgetting::to_replace(state)?;
    printer.document(&json!({ "forgotten": samples.len(), "to_replace": to_replace, "withdrawn": withdrawn }));
    printer.text(format!(
        "{} forgotten, with all cached features; a training without them is asked for",
        counted(samples.len(), "sample")
    ));
    for adapter in &to_replace {
        printer.text(format!("adapter {adapter} learned from them, and stays in use until that training has taken its place; --withdraw takes it away"));
    }
    if let Some(adapter) = &withdrawn {
        printer.text(format!("adapter {adapter} learned from them, and is removed: the base stands alone"));
    }
    Ok(Done::Fully)
}

/// The samples that are meant, each once.
fn named(args: &Args, config: &Config) -> Result<Vec<Name>> {
    let mut names = Vec::new();
    if !args.samples.is_empty() {
        let store = Store::read_only(&config.state)?;
        let inventory = lock(&store.inventory);
        for text in &args.samples {
            match parse(text) {
                Some(name) if inventory.find(&name).is_some() || inventory.aside.why(&name).is_some() => {
                    names.push(name)
                }
                _ => bail!("no sample is called `{text}`; `edgetune agent samples list` shows the names"),
            }
        }
    }
    if let Some(class) = &args.class {
        let wanted = Wanted { label: Some(class.clone()), side: None, after: None, limit: usize::MAX };
        names.extend(list(&config.state, &wanted)?.iter().filter_map(|one| sample_name::parse(&one.sample)));
    }
    if let Some(moment) = args.before {
        names.extend(came_before(&config.state, moment.as_second())?);
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
