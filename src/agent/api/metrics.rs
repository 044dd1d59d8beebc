//! What the service tells of itself: `GET /status` as JSON, `GET /metrics` as the text that Prometheus reads.
//!
//! Reads the board and changes nothing.

use crate::agent::board::{Board, ServiceState};
use crate::agent::judge::drift::Drift;
use crate::agent::judge::feedback::Tally;
use crate::agent::locks::lock;
use crate::agent::record::refused::RefusedFiles;
use crate::agent::record::sample_name::text as text_of;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Samples that were set aside, and files that were refused, that are told of with their reasons.
const SHOWN: usize = 10;

/// Requests so far, by route and status.
#[derive(Debug, Default)]
pub(super) struct Requests {
    counts: BTreeMap<(&'static str, u16), u64>,
    /// Seconds that those took which were answered well.
    seconds: BTreeMap<&'static str, (u64, f64)>,
}

impl Requests {
    pub(super) fn count(&mut self, route: &'static str, status: u16, took: Duration) {
        *self.counts.entry((route, status)).or_default() += 1;
        if status < 300 {
            let (count, seconds) = self.seconds.entry(route).or_default();
            (*count, *seconds) = (*count + 1, *seconds + took.as_secs_f64());
        }
    }
}

/// What both tell.
struct Seen {
    found: ServiceState,
    samples: [u64; 2],
    classes: u64,
    new: u64,
    aside: usize,
    latest_aside: Vec<Value>,
    refused: RefusedFiles,
    bytes: u64,
    tally: Tally,
    /// Right ones and all of those that count.
    counted: (u64, u64),
    drift: Option<Drift>,
    lost: u64,
}

fn seen(board: &Board) -> Seen {
    let found = lock(&board.found).clone();
    let inventory = lock(&board.store.inventory);
    let (samples, classes, bytes) = (inventory.counts(), inventory.classes(), inventory.bytes);
    let (new, aside) = (inventory.unlearned(), inventory.aside.count());
    let latest_aside = inventory.aside.latest().into_iter().take(SHOWN);
    let latest_aside = latest_aside
        .map(|(name, why)| json!({ "sample": text_of(&name), "label": why.label, "reason": why.reason, "at": why.at }));
    let latest_aside = latest_aside.collect();
    drop(inventory);
    let active = found.active.clone().unwrap_or_default();
    let tally = lock(&board.feedback).tally(&active);
    let counted = tally.counted(board.config().feedback.unanswered);
    let drift = lock(&board.confidences).last_block(&active);
    let lost = board.predictor.lost();
    let refused = lock(&board.refused).clone();
    Seen { found, samples, classes, new, aside, latest_aside, refused, bytes, tally, counted, drift, lost }
}

/// Accuracy by feedback, once there is any.
fn accuracy(tally: &Tally, (right, of): (u64, u64)) -> Option<f64> {
    (tally.right + tally.wrong > 0).then(|| right as f64 / of as f64)
}

/// `GET /status`.
pub(super) fn status(board: &Board) -> Value {
    let config = board.config();
    let Seen { found, samples, classes, new, aside, latest_aside, refused, bytes, tally, counted, drift, .. } =
        seen(board);
    let latest_refused: Vec<_> = refused.latest.iter().take(SHOWN).collect();
    let accuracy = accuracy(&tally, counted);
    json!({
        "doing": found.doing, "waits": found.waits, "trouble": found.trouble,
        "samples": {
            "train": samples[0], "held_out": samples[1], "new": new, "classes": classes, "bytes": bytes,
            "bytes_max": config.samples.total_max_mb.map(|most| most.saturating_mul(1_000_000)),
        },
        "aside": { "count": aside, "latest": latest_aside },
        "refused": { "count": refused.count, "latest": latest_refused },
        "adapter": {
            "active": found.active, "promise": found.promise, "falls_short": found.falls_short,
            "feedback": tally, "accuracy": accuracy, "drift": drift,
        },
        "training": found.training,
        "day": {
            "trained_s": found.trained_s, "trained_s_max": config.policy.training_per_day_max_min.map(|minutes| minutes * 60),
            "written_bytes": found.written_bytes,
            "written_bytes_max": config.storage.flash_budget_mb_per_day.map(|budget| budget * 1_000_000),
        },
        "load": found.load, "temperature_c": found.temperature_c,
    })
}

/// `GET /metrics`.
pub(super) fn text(board: &Board, requests: &Requests) -> String {
    let Seen { found, samples, new, aside, refused, bytes, tally, counted, drift, lost, .. } = seen(board);
    let mut text = Text::default();
    text.family("samples", "gauge", "Samples, by side.");
    text.value("samples{side=\"train\"}", samples[0] as f64);
    text.value("samples{side=\"held-out\"}", samples[1] as f64);
    text.one("samples_bytes", "gauge", "Bytes of all samples.", Some(bytes as f64));
    text.one("samples_new", "gauge", "Samples to train on that nothing has learned from.", Some(new as f64));
    text.one("samples_aside", "gauge", "Samples set aside: nothing can be learned from them.", Some(aside as f64));
    let refused = Some(refused.count as f64);
    text.one("files_refused", "gauge", "Files that were refused and lie in the spool's folder .refused.", refused);
    let trouble = f64::from(u8::from(found.trouble.is_some()));
    text.one("trouble", "gauge", "1 where something keeps the device from learning; /status says what.", Some(trouble));
    text.one("training", "gauge", "1 while a training is not finished.", Some(found.training.is_some().into()));
    text.one("trained_seconds_day", "gauge", "Seconds of training in 24 hours.", Some(found.trained_s as f64));
    let written = found.written_bytes.map(|bytes| bytes as f64);
    text.one("written_bytes_day", "gauge", "Bytes written to disks in 24 hours.", written);
    let budget = board.config().storage.flash_budget_mb_per_day.map(|budget| budget as f64 * 1e6);
    text.one("written_bytes_day_max", "gauge", "Bytes that may be written in 24 hours.", budget);
    text.one("load_ratio", "gauge", "Share of the processors' time that others use.", found.load.map(f64::from));
    let heat = found.temperature_c.map(f64::from);
    text.one("temperature_celsius", "gauge", "The hottest thermal zone.", heat);
    if let Some(active) = &found.active {
        text.family("adapter_info", "gauge", "The adapter in use.");
        text.value(&format!("adapter_info{{adapter=\"{active}\"}}"), 1.0);
        text.one("adapter_predictions", "gauge", "Its predictions.", Some(tally.predicted as f64));
        text.family("adapter_feedback", "gauge", "What people said of them.");
        text.value("adapter_feedback{answer=\"right\"}", tally.right as f64);
        text.value("adapter_feedback{answer=\"wrong\"}", tally.wrong as f64);
        let accuracy = accuracy(&tally, counted);
        text.one("adapter_accuracy_ratio", "gauge", "Its accuracy by feedback.", accuracy);
        let promised = found.promise.map(|promise| promise.right as f64 / promise.samples.max(1) as f64);
        text.one("adapter_promised_ratio", "gauge", "Its accuracy on held-out samples.", promised);
        text.one("adapter_falls_short", "gauge", "1 where it is worse than promised.", Some(found.falls_short.into()));
        let drop = drift.map(|drift| drift.drop);
        text.one("confidence_drop_ratio", "gauge", "Confidence on held-out samples less that of the last block.", drop);
        let beyond = drift.map(|drift| drift.beyond_chance.into());
        text.one("drift", "gauge", "1 where that is more than chance explains.", beyond);
    }
    text.one("predictors_lost_total", "counter", "Processes that predict and ended.", Some(lost as f64));
    text.family("requests_total", "counter", "Requests, by route and status.");
    for ((route, status), count) in &requests.counts {
        text.value(&format!("requests_total{{route=\"{route}\",status=\"{status}\"}}"), *count as f64);
    }
    text.family("request_seconds", "summary", "Time of requests that were answered well.");
    for (route, (count, seconds)) in &requests.seconds {
        text.value(&format!("request_seconds_sum{{route=\"{route}\"}}"), *seconds);
        text.value(&format!("request_seconds_count{{route=\"{route}\"}}"), *count as f64);
    }
    text.0
}

/// Lines of Prometheus's text format.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP edgetune_{name} {help}\n# TYPE edgetune_{name} {kind}");
    }

    fn value(&mut self, name: &str, value: f64) {
        let _ = writeln!(self.0, "edgetune_{name} {value}");
    }

    /// A family of one value; nothing where that is not known.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.family(name, kind, help);
            self.value(name, value);
        }
    }
}
