//! `edgetune agent status`: what there is, and what training waits for, found from the state's files.

use super::history::{line, time};
use super::moment;
use crate::agent::config::Config;
use crate::agent::judge::gate::Accepted;
use crate::agent::judge::policy::Conditions;
use crate::agent::judge::waiting::Known;
use crate::agent::record::adapters;
use crate::agent::record::aside::Why;
use crate::agent::record::asked;
use crate::agent::record::flash::WrittenBytes;
use crate::agent::record::inventory::Inventory;
use crate::agent::record::membership;
use crate::agent::record::refused::{self, REFUSED, Refused, RefusedFiles};
use crate::agent::record::run;
use crate::agent::record::sample_name::{Name, text};
use crate::amounts::counted;
use crate::cache;
use crate::cli::Done;
use crate::cli::args::Global;
use crate::cli::print::Printer;
use crate::cli::sifting;
use crate::host::{available_bytes, memory_pressure, on_battery, temperature_c};
use anyhow::Result;
use serde_json::json;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Instant;

/// Samples that were set aside, and files that were refused, that are shown.
const SHOWN: usize = 3;

pub(super) fn run(config: &Config, global: &Global, printer: &Printer) -> Result<Done> {
    let state = &config.state;
    let inventory = Inventory::count_in(state)?;
    let ([train, held_out], classes) = (inventory.counts(), inventory.classes());
    let (active, run, history) = (adapters::active(state)?, run::current(state)?, adapters::history(state)?);
    let known = Known { config, history: &history, asked: asked::training(state)? };
    let now = moment(Instant::now());
    let conditions = known.conditions(&inventory, device(config), 0);
    let waits = if run.is_none() { known.waits(&conditions) } else { vec![] };
    let trouble = known.trouble(&sifting::cause(&config.recipe, global), now.minute_of_day, now.unix_s);
    let aside = inventory.aside.latest();
    let served = is_served(config)?;
    let shown: Vec<_> = aside.iter().take(SHOWN).collect();
    let samples_min = config.fleet.as_ref().map_or(0, |fleet| fleet.samples_min_shared());
    let few = inventory.few(samples_min);
    let refused = refused::read(state, &config.spool);
    let latest_refused: Vec<_> = refused.latest.iter().take(SHOWN).collect();
    printer.document(&json!({
        "fleet": fleet(config, &history)?.map(|fleet| fleet.0), "served": served,
        "not_shared": few.iter().map(|(class, count)| json!({ "class": class, "samples": count })).collect::<Vec<_>>(),
        "samples": { "train": train, "held_out": held_out, "new": inventory.unlearned(), "classes": inventory.names() },
        "aside": { "count": aside.len(), "latest": shown.iter().map(|(name, why)| of_aside(name, why)).collect::<Vec<_>>() },
        "refused": { "count": refused.count, "latest": latest_refused },
        "active": active, "training": run, "waits": waits, "trouble": trouble, "last": history.last(),
    }));
    printer.text(format!(
        "samples   {train} to train ({} of them new), {held_out} held out, {}",
        inventory.unlearned(),
        counted(classes, "class")
    ));
    tell_aside(&aside, printer);
    tell_refused(&refused, &config.spool, printer);
    printer.text(format!("adapter   {}", active.as_deref().unwrap_or("none yet")));
    if let Some(trouble) = &trouble {
        printer.text(format!("trouble   {trouble}"));
    }
    match &run {
        Some(run) => {
            printer.text(format!("training  on {}, since {}", counted(run.samples, "sample"), time(run.began)))
        }
        // When it is tried again has been said.
        None if waits.is_empty() && trouble.is_some() => {}
        None if waits.is_empty() => printer.text("training  begins at the next look"),
        None => printer.text(format!("waits     {}", waits.join("; "))),
    }
    if !served {
        printer.text("service   none works on this state; `edgetune agent run` starts one");
    }
    if let Some((_, text)) = fleet(config, &history)? {
        printer.text(format!("fleet     {text}"));
    }
    tell_few(&few, samples_min, printer);
    if let Some(event) = history.last() {
        printer.text(format!("last      {}", line(event)));
    }
    Ok(Done::Fully)
}

/// A sample that was set aside, for a program.
fn of_aside(name: &Name, why: &Why) -> serde_json::Value {
    json!({ "sample": text(name), "label": why.label, "reason": why.reason, "at": why.at })
}

/// Tells which samples were set aside, and why.
fn tell_aside(aside: &[(Name, &Why)], printer: &Printer) {
    if !aside.is_empty() {
        let samples = counted(aside.len(), "sample");
        printer.text(format!("aside     {samples} from which nothing can be learned, such as"));
    }
    for (name, why) in aside.iter().take(SHOWN) {
        printer.text(format!("          {} ({}): {}", text(name), why.label, why.reason));
    }
}

/// Tells which files of the spool were refused, and why.
fn tell_refused(refused: &RefusedFiles, spool: &Path, printer: &Printer) {
    if refused.count == 0 {
        return;
    }
    let (files, folder) = (counted(refused.count, "file"), spool.join(REFUSED));
    let such = if refused.latest.is_empty() { "" } else { ", such as" };
    printer.text(format!("refused   {files} of the spool, now in {}{such}", folder.display()));
    for Refused { file, kept, reason, .. } in refused.latest.iter().take(SHOWN) {
        let other = file.file_name().is_none_or(|name| name.to_string_lossy() != *kept);
        let kept = if other { format!(" (there {kept})") } else { String::new() };
        printer.text(format!("          {}{kept}: {reason}", file.display()));
    }
}

/// Tells which classes are left out of what is sent.
fn tell_few(few: &[(&str, u64)], samples_min: u64, printer: &Printer) {
    if !few.is_empty() {
        let few: Vec<String> = few.iter().map(|(class, count)| format!("{class} ({count})")).collect();
        let few = few.join(", ");
        printer
            .text(format!("unshared  {few}: classes of fewer than {samples_min} samples are left out of what is sent"));
    }
}

/// What the device is like, as far as one look can tell.
fn device(config: &Config) -> Conditions {
    let (root, now) = (Path::new("/"), moment(Instant::now()));
    let budget = config.storage.flash_budget_mb_per_day.map(|budget| budget * 1_000_000);
    let written = WrittenBytes::read(&config.state).day(now.unix_s);
    Conditions {
        now_unix_s: now.unix_s,
        minute_of_day: now.minute_of_day,
        temperature_c: temperature_c(root),
        on_battery: on_battery(root),
        memory_free_bytes: available_bytes(root),
        memory_pressure: memory_pressure(root),
        disk_free_bytes: cache::free_bytes(&config.state).ok(),
        flash_left_bytes: budget.map(|budget| budget.saturating_sub(written)),
        ..Conditions::default()
    }
}

/// Whether an agent works on the state.
pub(in crate::cli::commands) fn is_served(config: &Config) -> Result<bool> {
    let Ok(lock) = File::open(config.state.join("agent.lock")) else { return Ok(false) };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// The fleet and what became of its release here, for a program and for a person.
fn fleet(config: &Config, history: &[adapters::Event]) -> Result<Option<(serde_json::Value, String)>> {
    let Some(fleet) = &config.fleet else { return Ok(None) };
    let release = membership::offer(fleet)?.map(|offer| offer.release.number());
    let last = membership::last(history, &fleet.channel).filter(|(number, _)| release == Some(*number));
    let became = last.map(|(_, accepted)| accepted);
    let document = json!({
        "channel": fleet.channel, "release": release.map(|number| number.version), "tried": became.is_some(), "accepted": became.flatten(),
    });
    let release = release.map_or("no release heard of yet".into(), |number| format!("release {number}"));
    let became = match became {
        None => "",
        Some(Some(Accepted::Activated)) => ", put to use",
        Some(Some(Accepted::Kept)) => ", not put to use: what was learned here is better",
        Some(Some(Accepted::Rejected)) => ", refused: it is worse here",
        Some(None) => ", which could not be tried",
    };
    Ok(Some((document, format!("{}: {release}{became}", fleet.channel))))
}
