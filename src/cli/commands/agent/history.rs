//! `edgetune agent history`: what was trained, judged and put to use, in words.

use crate::agent::config::Config;
use crate::agent::judge::gate::{Accepted, PairedVerdict, Promise};
use crate::agent::record::adapters::{self, Event};
use crate::amounts;
use crate::cli::Done;
use crate::cli::print::Printer;
use anyhow::Result;
use jiff::Timestamp;

pub(super) fn run(config: &Config, printer: &Printer) -> Result<Done> {
    let events = adapters::history(&config.state)?;
    printer.document(&events);
    events.iter().for_each(|event| printer.text(line(event)));
    Ok(Done::Fully)
}

pub(super) fn time(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(|_| unix_s.to_string(), |time| time.to_string())
}

/// One event, as a person reads it.
pub(in crate::cli::commands) fn line(event: &Event) -> String {
    let what = match event {
        Event::Trained { seconds, .. } => format!("trained for {seconds} s"),
        Event::Judged { adapter, against, samples, verdict, confidence, promise, release, accepted, .. } => {
            let outcome = match (release, accepted) {
                (Some(release), Some(accepted)) => {
                    let outcome = match accepted {
                        Accepted::Activated => "is taken in place of",
                        Accepted::Kept => "does not take the place of",
                        Accepted::Rejected => "is worse than",
                    };
                    format!("release {} of {}, adapter {adapter}, {outcome}", release.number(), release.channel)
                }
                (None, Some(_)) if verdict.better => {
                    format!("adapter {adapter}, of {}, takes the place of", amounts::counted(samples, "sample"))
                }
                _ => {
                    let outcome = if verdict.better { "better" } else { "not better" };
                    format!("adapter {adapter}, of {}, is {outcome} than", amounts::counted(samples, "sample"))
                }
            };
            format!("{outcome} {against}: {}", counted(verdict, promise.as_ref(), *confidence))
        }
        Event::Activated { adapter, before, by, reason, .. } => {
            let instead = before.as_ref().map_or(String::new(), |before| format!(" in place of {before}"));
            let reason = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            format!("adapter {adapter} in use{instead}, by {by}{reason}")
        }
        Event::Withdrawn { before, by, .. } => format!("no adapter in use, in place of {before}, by {by}"),
        Event::Failed { reason, release: Some(release), .. } => {
            format!("release {} of {} could not be tried: {reason}", release.number(), release.channel)
        }
        Event::Failed { samples: 0, reason, .. } => format!("recipe and model cannot be used: {reason}"),
        Event::Failed { samples, reason, .. } => {
            format!("a training of {} failed: {reason}", amounts::counted(samples, "sample"))
        }
        Event::Checked { .. } => "recipe and model can be used again".into(),
        Event::Learned(learned) => format!(
            "adapter {} was learned from {} of {}",
            learned.adapter,
            amounts::counted(learned.samples, "sample"),
            amounts::counted(learned.classes, "class")
        ),
        Event::Forgotten { samples, by, .. } => format!("sample {} deleted, by {by}", samples.join(", ")),
        Event::Answered { adapter, right, .. } => {
            format!("a prediction of adapter {adapter} was {}", if *right { "right" } else { "wrong" })
        }
        Event::Shared { adapter, channel, bytes, .. } => {
            format!("adapter {adapter} handed over for channel {channel}, {}", crate::cli::print::bytes(*bytes))
        }
        Event::SetAside { count: 1, sample, reason, .. } => format!("sample {sample} set aside: {reason}"),
        Event::SetAside { count, sample, reason, .. } => {
            format!("{count} samples set aside, such as {sample}: {reason}")
        }
    };
    format!("{}  {what}", time(event.at()))
}

/// How many were right before and are now, and how sure that is.
fn counted(verdict: &PairedVerdict, promise: Option<&Promise>, confidence: Option<f64>) -> String {
    let of = verdict.counted.samples();
    let right = match promise {
        Some(promise) => {
            let before = (promise.right + verdict.counted.losses).saturating_sub(verdict.counted.wins);
            format!("{} of {of} right, before {before} of {of}", promise.right)
        }
        None => format!("of {of}, right alone on {}, wrong alone on {}", verdict.counted.wins, verdict.counted.losses),
    };
    let needs = confidence.map_or(String::new(), |confidence| format!(", needs < {:.2}", 1.0 - confidence));
    let p = match verdict.p {
        p if p < 0.001 => "p < 0.001".into(),
        p if p < 0.01 => format!("p = {p:.3}"),
        p => format!("p = {p:.2}"),
    };
    format!("{right}; {p}{needs}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::judge::gate::{Comparison, judge};

    #[test]
    fn a_verdict_is_told_in_plain_words() {
        let promise = Promise { samples: 8, right: 7, confidence: 0.9, deviation: 0.1 };
        let verdict = |wins, losses, ties| judge(Comparison { wins, losses, ties }, Some(0.95));
        let told = counted(&verdict(5, 1, 2), Some(&promise), Some(0.95));
        assert_eq!(told, "7 of 8 right, before 3 of 8; p = 0.11, needs < 0.05");
        assert_eq!(counted(&verdict(12, 0, 0), None, None), "of 12, right alone on 12, wrong alone on 0; p < 0.001");
    }
}
