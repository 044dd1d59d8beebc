//! What a ledger says of a device's model, gathered for a card, and the card as Markdown.
//!
//! Articles are those of Regulation (EU) 2024/1689 (AI Act) and Regulation (EU) 2016/679 (GDPR).

use super::trace::used_last;
use crate::agent::judge::gate::Promise;
use crate::agent::record::adapters::{Event, Learned};
use crate::agent::record::ledger::{self, Walked};
use crate::amounts::{counted, percent};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What a ledger says, for a card.
#[derive(Debug, Serialize)]
pub(super) struct Card {
    /// Lines, head and keys of the ledger.
    ledger: Walked,
    /// When its first and its last event happened, in seconds since 1970.
    period: Option<[i64; 2]>,
    /// The adapter that was put to use last.
    adapter: Option<String>,
    /// What that one was learned from, if it was learned on this device.
    learned: Option<Learned>,
    /// Samples by class that it was learned from; empty where their list is missing.
    samples: BTreeMap<String, u64>,
    /// What it showed on held-out samples, and what it was compared with.
    promise: Option<(Promise, String)>,
    /// Adapters that were learned or tried, and how many of them were put to use.
    judged: u64,
    activated: u64,
    /// Times that an adapter was taken out of use, by whom.
    taken_back: BTreeMap<String, u64>,
    /// Times that a person decided: by `accept` or `rollback`.
    by_persons: u64,
    /// Predictions that people said were right, and wrong.
    answers: [u64; 2],
    failed: u64,
    set_aside: u64,
    deleted: u64,
    /// Adapters that were handed over, by the fleet's channel.
    shared: BTreeMap<String, u64>,
}

impl Card {
    pub fn new(events: &[Event], ledger: Walked, path: &Path) -> Self {
        let adapter = used_last(events).map(String::from);
        let learned = events.iter().rev().find_map(|event| match event {
            Event::Learned(learned) if Some(&learned.adapter) == adapter.as_ref() => Some(learned.clone()),
            _ => None,
        });
        let promise = events.iter().rev().find_map(|event| match event {
            Event::Judged { adapter: judged, promise: Some(promise), against, .. }
                if Some(judged) == adapter.as_ref() =>
            {
                Some((*promise, against.clone()))
            }
            _ => None,
        });
        let mut card = Self {
            ledger,
            period: events.first().zip(events.last()).map(|(first, last)| [first.at(), last.at()]),
            samples: learned.as_ref().map(|learned| by_class(path, &learned.list)).unwrap_or_default(),
            adapter,
            learned,
            promise,
            judged: 0,
            activated: 0,
            taken_back: BTreeMap::new(),
            by_persons: 0,
            answers: [0, 0],
            failed: 0,
            set_aside: 0,
            deleted: 0,
            shared: BTreeMap::new(),
        };
        events.iter().for_each(|event| card.count(event));
        card
    }

    fn count(&mut self, event: &Event) {
        let is_person = |by: &str| matches!(by, "accept" | "rollback");
        match event {
            Event::Judged { .. } => self.judged += 1,
            Event::Activated { by, .. } => {
                self.activated += 1;
                self.by_persons += u64::from(is_person(by));
                if matches!(by.as_str(), "feedback" | "rollback") {
                    *self.taken_back.entry(by.clone()).or_default() += 1;
                }
            }
            Event::Withdrawn { by, .. } => {
                self.by_persons += u64::from(is_person(by));
                *self.taken_back.entry(by.clone()).or_default() += 1;
            }
            Event::Answered { right, instead_of, .. } => {
                if let Some(before) = instead_of {
                    let place = &mut self.answers[usize::from(!before)];
                    *place = place.saturating_sub(1);
                }
                self.answers[usize::from(!right)] += 1;
            }
            Event::Failed { .. } => self.failed += 1,
            Event::SetAside { count, .. } => self.set_aside += count,
            Event::Forgotten { samples, .. } => self.deleted += samples.len() as u64,
            Event::Shared { channel, .. } => *self.shared.entry(channel.clone()).or_default() += 1,
            Event::Trained { .. } | Event::Checked { .. } | Event::Learned(_) => {}
        }
    }
}

/// Samples of a list by class.
fn by_class(path: &Path, list: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let text = fs::read_to_string(ledger::list(path, list)).unwrap_or_default();
    for class in text.lines().filter_map(|line| line.split('\t').nth(1)) {
        *counts.entry(class.to_string()).or_default() += 1;
    }
    counts
}

/// A day, as people write it.
pub(super) fn day(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(|_| unix_s.to_string(), |time| time.strftime("%Y-%m-%d").to_string())
}

const TO_ADD: &str = "*to be added by a person*";

/// The card as Markdown.
pub(super) fn markdown(card: &Card) -> String {
    [model(card), data(card), performance(card), articles(card)].join("\n")
}

fn model(card: &Card) -> String {
    let learned = card.learned.as_ref();
    let or_unknown = |text: Option<&str>| text.map_or("not learned on this device".into(), |text| format!("`{text}`"));
    let period = card.period.map_or("no event".into(), |[from, to]| format!("{} to {}", day(from), day(to)));
    format!(
        "# Model card\n\n| | |\n|---|---|\n| adapter in use last | {} |\n| base (BLAKE3) | {} |\n| recipe (BLAKE3) | {} |\n| period of this \
         record | {period} |\n| ledger | {}, head `{}` |\n| intended purpose | {} |\n| who provides and who deploys it | {TO_ADD} |\n",
        card.adapter.as_ref().map_or("none".into(), |adapter| format!("`{adapter}`")),
        or_unknown(learned.and_then(|learned| learned.base.as_deref())),
        or_unknown(learned.and_then(|learned| learned.recipe.as_deref())),
        counted(card.ledger.lines, "line"),
        card.ledger.head,
        learned.and_then(|learned| learned.purpose.as_deref()).unwrap_or(TO_ADD),
    )
}

fn data(card: &Card) -> String {
    let Some(learned) = &card.learned else { return "## Data\n\nThe adapter was not learned on this device.\n".into() };
    let classes: String = card.samples.iter().map(|(class, count)| format!("| {class} | {count} |\n")).collect();
    let days =
        learned.keep_days.map_or("no limit was set".into(), |days| format!("deleted {days} days after they came"));
    format!(
        "## Data\n\n{} of {}, named by content in the list `{}`. What allows their use: {}. Retention: {days}.\n\n| class | samples |\n\
         |---|---|\n{classes}",
        counted(learned.samples, "sample"),
        counted(learned.classes, "class"),
        learned.list,
        learned.consent.as_deref().unwrap_or(TO_ADD),
    )
}

fn performance(card: &Card) -> String {
    let measured = card.promise.as_ref().map_or("not measured on this device".into(), |(promise, against)| {
        let share = promise.right as f64 / promise.samples.max(1) as f64;
        format!(
            "{} of {} held-out samples right ({}), compared with {against}",
            promise.right,
            promise.samples,
            percent(share)
        )
    });
    let [right, wrong] = card.answers;
    let taken_back: u64 = card.taken_back.values().sum();
    format!(
        "## Performance\n\n- Before use: {measured}.\n- In use: people said of {} that {right} were right and {wrong} wrong.\n- {} judged, {} \
         put to use, {taken_back} taken back.\n",
        counted(right + wrong, "prediction"),
        counted(card.judged, "adapter"),
        card.activated,
    )
}

/// What each article asks for, and what the ledger has for it.
fn articles(card: &Card) -> String {
    let shared: Vec<String> =
        card.shared.iter().map(|(channel, count)| format!("{channel} ({})", counted(count, "adapter"))).collect();
    let shared = if shared.is_empty() { "nobody".into() } else { shared.join(", ") };
    let events = format!(
        "{}: trainings, verdicts, adapters in use, failures ({}), samples set aside ({}) and deleted ({})",
        counted(card.ledger.lines, "event"),
        card.failed,
        card.set_aside,
        card.deleted
    );
    format!(
        "## For the record\n\nThe AI Act's obligations for high-risk systems apply from 2 December 2027, for those inside regulated products from \
         2 August 2028. This is a record, no legal advice.\n\n| article | asks for | here |\n|---|---|---|\n\
         | AI Act 12 | events recorded automatically over the lifetime | {events} |\n\
         | AI Act 19 | the provider keeps these logs for six months at least | the agent never deletes the ledger; copy it before a device is \
         taken out of service |\n\
         | AI Act 26 | the deployer keeps logs, watches over operation, uses input data that fit | decisions by people: {}; held-out samples and \
         feedback are compared with what an adapter promised; why input data fit: {TO_ADD} |\n\
         | AI Act 72 | data on performance in use, gathered over the lifetime | see Performance; what is done with it: {TO_ADD} |\n\
         | GDPR 17 | erasure | {} deleted; `edgetune ledger export --sample NAME` tells what became of one |\n\
         | GDPR 30 | purpose, recipients, time limits | recipients of what was learned: {shared}; samples never leave the device |\n",
        card.by_persons,
        counted(card.deleted, "sample"),
    )
}
