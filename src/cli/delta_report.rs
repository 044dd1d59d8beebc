//! What a delta says of itself, for a program and for a person.

use super::print::{Printer, bytes};
use crate::amounts::counted;
use crate::data;
use crate::delta::{Delta, Measured, owned};
use crate::train::artifact::preprocessing_from_wire;
use crate::train::prepare::hex;
use anyhow::{Context, Result};
use serde::Serialize;

/// A delta without its values.
#[derive(Debug, Serialize)]
pub struct DeltaReport {
    pub bytes: usize,
    pub identity: String,
    pub signer: Option<String>,
    pub base: String,
    pub parent: Option<String>,
    pub tool: String,
    pub created_unix_s: Option<u64>,
    pub device: String,
    pub round: Option<u32>,
    pub recipe: Option<String>,
    pub recipe_text: String,
    pub task: String,
    pub loss: String,
    pub output: String,
    pub head: Option<Head>,
    pub method: Option<Method>,
    pub preprocessing: serde_json::Value,
    pub validation: Option<BeforeAfter>,
    pub test: Option<BeforeAfter>,
    pub gate: Option<Gate>,
    pub seed: u64,
    pub samples: u64,
    pub licence: String,
    pub notes: String,
    pub labels: Vec<Label>,
    pub tensors: Vec<Tensor>,
}

/// A head that the base does not have.
#[derive(Debug, Serialize)]
pub struct Head {
    pub value: String,
    pub features: u32,
    pub classes: u32,
}

/// How the base was changed, where tensors do not replace its own.
#[derive(Debug, Serialize)]
pub struct Method {
    pub kind: String,
    pub rank: u32,
    pub alpha: f32,
}

/// What was measured before and after training.
#[derive(Debug, Serialize)]
pub struct BeforeAfter {
    pub loss: [f32; 2],
    pub accuracy: Option<[f32; 2]>,
}

/// What the gates have said.
#[derive(Debug, Serialize)]
pub struct Gate {
    pub passed: bool,
    pub reason: String,
}

/// A class, and the samples of it that were learned from.
#[derive(Debug, Serialize)]
pub struct Label {
    pub name: String,
    pub samples: u32,
}

/// One of its tensors, without the values.
#[derive(Debug, Serialize)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<u32>,
    pub encoding: String,
    pub coded: bool,
    pub difference: bool,
    pub bytes: u32,
}

/// What a delta says of itself; `size` is the file's.
pub fn describe(delta: &Delta<'_>, size: usize) -> DeltaReport {
    let header = delta.header();
    let measured = |measured: Measured| BeforeAfter { loss: measured.loss, accuracy: measured.accuracy };
    let tensors = delta.tensors().map(|tensor| Tensor {
        name: tensor.entry.name.into(),
        shape: tensor.entry.shape.to_vec(),
        encoding: format!("{:?}", tensor.entry.encoding).to_lowercase(),
        coded: tensor.entry.packing == crate::delta::Packing::Coded,
        difference: tensor.entry.difference,
        bytes: tensor.entry.length,
    });
    DeltaReport {
        bytes: size,
        identity: hex(delta.identity()),
        signer: delta.head().signer().map(|key| hex(key)),
        base: hex(&header.base),
        parent: header.parent.map(|parent| hex(&parent)),
        tool: header.tool.into(),
        created_unix_s: header.created_unix_s,
        device: header.device.into(),
        round: header.round,
        recipe: header.recipe.map(|recipe| hex(&recipe)),
        recipe_text: header.recipe_text.into(),
        task: format!("{:?}", header.task),
        loss: header.loss.into(),
        output: header.output.into(),
        head: header.head.map(|head| Head { value: head.value.into(), features: head.features, classes: head.classes }),
        method: header.method.map(|method| Method {
            kind: format!("{:?}", method.kind),
            rank: method.rank,
            alpha: method.alpha,
        }),
        preprocessing: match preprocessing_from_wire(&header.preprocessing) {
            // Its scaler lies as bytes in the header.
            series @ data::Preprocessing::Series(_) => serde_json::to_value(series).unwrap_or_default(),
            _ => serde_json::to_value(&header.preprocessing).unwrap_or_default(),
        },
        validation: header.metrics.validation.map(measured),
        test: header.metrics.test.map(measured),
        gate: header.gate.map(|gate| Gate { passed: gate.passed, reason: gate.reason.into() }),
        seed: header.seed,
        samples: header.samples,
        licence: header.licence.into(),
        notes: header.notes.into(),
        labels: delta.labels().map(|label| Label { name: label.name.into(), samples: label.samples }).collect(),
        tensors: tensors.collect(),
    }
}

/// The report for a person.
pub fn print(report: &DeltaReport, printer: &Printer) {
    let line = |name: &str, value: String| {
        if !value.is_empty() {
            printer.text(format!("{name:<14} {value}"));
        }
    };
    let optional = |value: &Option<String>| value.clone().unwrap_or_default();
    line("identity", report.identity.clone());
    line("signed by", report.signer.clone().unwrap_or("nobody".into()));
    line("base", report.base.clone());
    line("difference to", optional(&report.parent));
    line("written by", format!("edgetune {}", report.tool));
    line("at", report.created_unix_s.map_or(String::new(), utc));
    line("device", report.device.clone());
    line("round", report.round.map_or(String::new(), |round| round.to_string()));
    line("recipe", optional(&report.recipe));
    report.recipe_text.lines().for_each(|text| line("", text.into()));
    line("task", format!("{}, loss {}, output `{}`", report.task, report.loss, report.output));
    let head = report.head.as_ref();
    line(
        "head",
        head.map_or(String::new(), |head| format!("{} → {} on `{}`", head.features, head.classes, head.value)),
    );
    let method = report.method.as_ref();
    line("method", method.map_or(String::new(), |m| format!("{}, rank {}, alpha {}", m.kind, m.rank, m.alpha)));
    for (name, measured) in [("validation", &report.validation), ("test", &report.test)] {
        let text = |measured: &BeforeAfter| {
            let accuracy = measured.accuracy.map_or(String::new(), |[a, b]| format!(", accuracy {a:.4} → {b:.4}"));
            format!("loss {:.4} → {:.4}{accuracy}", measured.loss[0], measured.loss[1])
        };
        line(name, measured.as_ref().map_or(String::new(), text));
    }
    let said = |gate: &Gate| format!("{} {}", if gate.passed { "passed" } else { "failed" }, gate.reason);
    line("gate", report.gate.as_ref().map_or(String::new(), said));
    line("learned from", format!("{}, seed {}", counted(report.samples, "sample"), report.seed));
    line("licence", report.licence.clone());
    line("notes", report.notes.clone());
    let labels: Vec<String> = report.labels.iter().map(|label| format!("{} {}", label.name, label.samples)).collect();
    line("labels", labels.join(", "));
    line("size", bytes(report.bytes as u64));
    for tensor in &report.tensors {
        let difference = if tensor.difference { ", added" } else { "" };
        let packing = if tensor.coded { ", coded" } else { "" };
        let (name, shape) = (&tensor.name, &tensor.shape);
        printer.text(format!("  {name} {shape:?} {}{packing}{difference}: {} B", tensor.encoding, tensor.bytes));
    }
}

/// Seconds since 1970 as a date and time, `2023-11-14 22:13:20 UTC`. The calendar is Howard Hinnant's `civil_from_days`
/// (howardhinnant.github.io/date_algorithms.html): years of 400-year eras that begin on 1 March 0000.
pub fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

/// How far a tensor has moved.
#[derive(Debug, Serialize)]
pub struct Moved {
    name: String,
    /// `same`, `changed`, `added` or `removed`.
    what: &'static str,
    /// Largest change of a value.
    change_max: Option<f32>,
    /// Euclidean norm of the change over that of the older values.
    change_relative: Option<f64>,
}

/// What differs between two deltas.
pub fn compared(old: &Delta<'_>, new: &Delta<'_>) -> Result<Vec<Moved>> {
    let mut moved = Vec::new();
    for tensor in new.tensors() {
        let name = tensor.entry.name.to_string();
        let known = old.tensor(&name).filter(|known| known.entry.shape == tensor.entry.shape);
        let Some(known) = known else {
            moved.push(Moved { name, what: "added", change_max: None, change_relative: None });
            continue;
        };
        let before = owned(&known).context("the older delta")?;
        let after = owned(&tensor).context("the newer delta")?;
        let pairs = || before.iter().zip(&after);
        let change_max = pairs().fold(0f32, |most, (before, after)| most.max((after - before).abs()));
        let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let (change, size) = (norm(&mut pairs().map(|(b, a)| a - b)), norm(&mut before.iter().copied()));
        let what = if change_max == 0.0 { "same" } else { "changed" };
        let change_relative = Some(change / size.max(f64::MIN_POSITIVE));
        moved.push(Moved { name, what, change_max: Some(change_max), change_relative });
    }
    let gone = old.tensors().filter(|tensor| new.tensor(tensor.entry.name).is_none());
    moved.extend(gone.map(|tensor| Moved {
        name: tensor.entry.name.into(),
        what: "removed",
        change_max: None,
        change_relative: None,
    }));
    Ok(moved)
}

/// [`compared`] for a person.
pub fn print_compared(report: &[Moved], printer: &Printer) {
    for moved in report {
        let numbers = match (moved.change_max, moved.change_relative) {
            (Some(most), Some(relative)) => format!(", at most {most:.6}, {:.2} % of the norm", 100.0 * relative),
            _ => String::new(),
        };
        printer.text(format!("{}: {}{numbers}", moved.name, moved.what));
    }
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn seconds_are_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_700_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
        // What a hostile delta may say.
        assert!(utc(u64::MAX).ends_with("UTC"));
    }
}
