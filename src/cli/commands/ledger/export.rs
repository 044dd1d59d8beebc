//! `edgetune ledger export`: a model card of what a device does, and what an erasure request asks.

use super::card::{self, Card};
use super::{broken, open};
use crate::agent::record::adapters::Event;
use crate::agent::record::ledger;
use crate::cli::Done;
use crate::cli::print::Printer;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Write a model card with what the EU AI Act asks for, or what became of one sample
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetune ledger export --out CARD.md\n  edgetune ledger export --json\n  edgetune ledger export --sample \
                  5f0c33a1b2c4d5e6f708192a3b4c5d6e\n\nThe card has what the ledger knows for Articles 12, 19, 26 and 72 of Regulation (EU) \
                  2024/1689, and says what a person has to add. It is a record, no legal advice."
)]
pub(super) struct Args {
    /// Where to write the card [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Tell of this sample alone: what learned from it, where that went, and whether the sample was deleted
    #[arg(long, value_name = "SAMPLE", conflicts_with = "out")]
    sample: Option<String>,
}

pub(super) fn run(args: &Args, path: &Path, printer: &Printer) -> Result<Done> {
    let mut events = Vec::new();
    let walked =
        ledger::walk(open(path)?, &[], &mut |entry| events.push(entry.what)).map_err(|fault| broken(path, &fault))?;
    if let Some(sample) = &args.sample {
        return one_sample(sample, &events, path, printer);
    }
    let card = Card::new(&events, walked, path);
    printer.document(&card);
    let text = card::markdown(&card);
    match &args.out {
        Some(out) => {
            let mut file = fs::File::create_new(out)
                .with_context(|| format!("{}: name a file that is not there", out.display()))?;
            std::io::Write::write_all(&mut file, text.as_bytes()).with_context(|| out.display().to_string())?;
            printer.text(format!("{} is written", out.display()));
        }
        None => printer.text(text.trim_end()),
    }
    Ok(Done::Fully)
}

/// What became of one sample.
#[derive(Debug, Serialize)]
struct Whereabouts<'a> {
    sample: &'a str,
    /// Adapters that learned from it.
    adapters: Vec<&'a str>,
    /// When it was deleted, if it was.
    deleted: Option<i64>,
    /// Channels of the fleet that adapters which learned from it were handed over for.
    shared: Vec<&'a str>,
    /// Adapters whose list of samples is missing: whether they learned from it is not known.
    unknown: Vec<&'a str>,
}

fn one_sample(sample: &str, events: &[Event], path: &Path, printer: &Printer) -> Result<Done> {
    let mut found = Whereabouts { sample, adapters: vec![], deleted: None, shared: vec![], unknown: vec![] };
    for event in events {
        match event {
            Event::Learned(learned) => match fs::read_to_string(ledger::list(path, &learned.list)) {
                Ok(list) if list.lines().any(|line| line.split('\t').next() == Some(sample)) => {
                    found.adapters.push(&learned.adapter)
                }
                Ok(_) => {}
                Err(_) => found.unknown.push(&learned.adapter),
            },
            Event::Forgotten { at, samples, .. } if samples.iter().any(|name| name == sample) => {
                found.deleted = Some(*at)
            }
            Event::Shared { adapter, channel, .. } if found.adapters.contains(&adapter.as_str()) => {
                found.shared.push(channel)
            }
            _ => {}
        }
    }
    printer.document(&found);
    let list = |names: &[&str]| if names.is_empty() { "none".into() } else { names.join(", ") };
    printer.text(format!("sample    {sample}"));
    printer.text(format!("deleted   {}", found.deleted.map_or("no".into(), card::day)));
    printer.text(format!("adapters  {}", list(&found.adapters)));
    printer.text(format!("sent to   {}", list(&found.shared)));
    if !found.unknown.is_empty() {
        printer.warn(format!(
            "the lists of these adapters' samples are missing beside the ledger: {}",
            found.unknown.join(", ")
        ));
    }
    Ok(Done::Fully)
}
