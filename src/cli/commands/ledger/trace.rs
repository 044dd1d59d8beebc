//! `edgetune ledger trace`: from the base to an adapter, and where that went.

use super::events;
use crate::agent::record::adapters::{Event, Learned};
use crate::cli::Done;
use crate::cli::commands::agent::history::line;
use crate::cli::print::Printer;
use anyhow::{Result, bail};
use serde::Serialize;
use std::path::Path;

/// Show where an adapter comes from and where it went: base, training or release, verdict, use
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  edgetune ledger trace\n  edgetune ledger trace 3f2a9c1d0b7e4a55 --json")]
pub(super) struct Args {
    /// The adapter, as `edgetune agent history` names it [default: the one that was put to use last]
    adapter: Option<String>,
}

/// One adapter of the chain, with all that happened to it.
#[derive(Debug, Serialize)]
pub(super) struct Link<'a> {
    pub adapter: &'a str,
    pub events: Vec<&'a Event>,
}

pub(super) fn run(args: &Args, path: &Path, printer: &Printer) -> Result<Done> {
    let events = events(path)?;
    let Some(adapter) = args.adapter.as_deref().or_else(|| used_last(&events)) else {
        bail!("{}: no adapter was put to use; `edgetune ledger show` tells what happened", path.display());
    };
    let chain = chain(&events, adapter);
    if chain.iter().all(|link| link.events.is_empty()) {
        bail!("{}: nothing is told of adapter {adapter}; `edgetune agent history` names adapters", path.display());
    }
    let base = chain.iter().find_map(|link| learned(&link.events)?.base.as_deref());
    printer.document(&serde_json::json!({ "base": base, "chain": chain }));
    printer.text(format!("base {}", base.unwrap_or("not told: none of these adapters was learned here")));
    for link in &chain {
        printer.text(format!("adapter {}", link.adapter));
        for event in &link.events {
            printer.text(format!("  {}", line(event)));
            if let Event::Learned(Learned { list, recipe, .. }) = event {
                printer.text(format!("      samples {list}"));
                printer.text(format!("      recipe  {}", recipe.as_deref().unwrap_or("not told")));
            }
        }
    }
    Ok(Done::Fully)
}

/// The adapter that was put to use last.
pub(super) fn used_last(events: &[Event]) -> Option<&str> {
    events.iter().rev().find_map(|event| match event {
        Event::Activated { adapter, .. } => Some(adapter.as_str()),
        _ => None,
    })
}

/// An adapter behind those that it was learned from, one from another.
pub(super) fn chain<'a>(events: &'a [Event], adapter: &'a str) -> Vec<Link<'a>> {
    let mut chain: Vec<Link<'a>> = Vec::new();
    let mut next = Some(adapter);
    while let Some(adapter) = next.filter(|adapter| chain.iter().all(|link| link.adapter != *adapter)) {
        let events: Vec<&Event> = events.iter().filter(|event| concerns(event, adapter)).collect();
        next = learned(&events).and_then(|learned| learned.from.as_deref());
        chain.push(Link { adapter, events });
    }
    chain.reverse();
    chain
}

fn learned<'a>(events: &[&'a Event]) -> Option<&'a Learned> {
    events.iter().rev().find_map(|event| match event {
        Event::Learned(learned) => Some(learned),
        _ => None,
    })
}

fn concerns(event: &Event, name: &str) -> bool {
    match event {
        Event::Learned(learned) => learned.adapter == name,
        Event::Activated { adapter, before, .. } => adapter == name || before.as_deref() == Some(name),
        Event::Withdrawn { before, .. } => before == name,
        Event::Judged { adapter, .. } | Event::Shared { adapter, .. } => adapter == name,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_stands_behind_what_it_was_learned_from() {
        let learned = |adapter: &str, from: Option<&str>| {
            Event::Learned(Learned { adapter: adapter.into(), from: from.map(String::from), ..Learned::default() })
        };
        let used = |adapter: &str, before: Option<&str>| Event::Activated {
            at: 1,
            adapter: adapter.into(),
            before: before.map(String::from),
            by: "gate".into(),
            reason: None,
        };
        let events =
            [learned("a", None), used("a", None), learned("b", Some("a")), used("b", Some("a")), used("x", None)];
        let names =
            |adapter| chain(&events, adapter).iter().map(|link| (link.adapter, link.events.len())).collect::<Vec<_>>();
        assert_eq!(names("b"), [("a", 3), ("b", 2)]);
        assert_eq!(names("x"), [("x", 1)], "a release was not learned here");
        assert_eq!(used_last(&events), Some("x"));
        let circle = [learned("a", Some("b")), learned("b", Some("a"))];
        assert_eq!(chain(&circle, "a").len(), 2);
    }
}
