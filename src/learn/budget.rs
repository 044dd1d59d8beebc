//! What a run needs of the machine, refused where it is not there; and a plan as a table.

use super::observer::Observer;
use crate::amounts::counted;
use crate::amounts::{bytes, percent};
use crate::recipe::{Error, refuse};
use crate::train::fit::{Outcome, Settings};
use crate::train::plan::Plan;
use crate::train::plan::choice::{BudgetVerdict, Row};

/// Says what a run needs beside what is free.
pub fn compare(needed_bytes: u64, available_bytes: Option<u64>, observer: &dyn Observer) {
    let free = available_bytes.map_or(String::new(), |free| format!(", {} are free", bytes(free)));
    observer.note(&format!("memory    about {} are needed{free}", bytes(needed_bytes)));
}

/// A run that would be killed for its memory is refused before it begins.
///
/// # Errors
/// More bytes needed than available, with what would need less; nothing where it is unknown how many are available.
pub fn refuse_beyond(needed_bytes: u64, available_bytes: Option<u64>) -> Result<(), Error> {
    match available_bytes {
        Some(available) if needed_bytes > available => refuse!(
            "this run takes about {} of memory, but {} are available: stop other programs, give setting `memory = low`, a \
             smaller setting `batch` or fewer layers with setting `train`, or let setting `train = auto` choose what fits",
            bytes(needed_bytes),
            bytes(available)
        ),
        _ => Ok(()),
    }
}

/// Every candidate with its costs, and the choice.
pub fn print(plan: &Plan, observer: &dyn Observer) {
    observer.note(&format!(
        "{:<30} {:>10} {:>10} {:>5} {:>10} {:>9} {:>8} {:>9}",
        "candidate", "values", "delta", "batch", "memory", "ms/step", "run", "gain"
    ));
    for row in &plan.rows {
        let or_dash = |value: Option<f64>, decimals: usize| value.map_or("-".into(), |v| format!("{v:.decimals$}"));
        let estimated = |text: String| if row.memory_bytes.is_some() { text } else { "-".into() };
        let run = row.run_s.map_or("-".into(), |seconds| format!("{seconds:.0} s"));
        observer.note(&format!(
            "{:<30} {:>10} {:>10} {:>5} {:>10} {:>9} {:>8} {:>9}  {}",
            row.name,
            estimated(row.parameters.to_string()),
            estimated(bytes(row.delta_bytes)),
            row.batch,
            row.memory_bytes.map_or("-".into(), bytes),
            or_dash(row.step_ms, 1),
            run,
            or_dash(row.gain, 4),
            said(row)
        ));
    }
}

/// What gives the same without a plan. `steps` are the settings of gradient steps, where what was chosen has learned by them.
pub fn print_same(plan: &Plan, train: &[String], steps: Option<&Settings>, observer: &dyn Observer) {
    let mut given: Vec<String> = train.iter().map(|text| format!("setting `train = {}`", quoted(text))).collect();
    let head = &plan.rows[0];
    match steps {
        None => {}
        Some(_) if train == head.train => given.push(format!("setting `batch = {}`", head.batch)),
        Some(Settings { batch, accumulate, learning_rate, head_rate, .. }) => {
            given.push(format!("setting `batch = {batch}`"));
            if *accumulate > 1 {
                given.push(format!("setting `accumulate = {accumulate}`"));
            }
            given.push(format!("setting `lr = {learning_rate}` setting `head-rate = {head_rate}`"));
        }
    }
    // A head that learned by steps was trained alone first; without a plan it learns together with what is below.
    let alike =
        if train == head.train || plan.head_outcome.history.is_empty() { "the same" } else { "nearly the same" };
    observer.note(&format!("{alike} without a plan: {}", given.join(" ")));
}

/// What the plan says of a row.
fn said(row: &Row) -> String {
    match row.verdict {
        _ if row.chosen => "chosen".into(),
        BudgetVerdict::Fits => "fits".into(),
        BudgetVerdict::TooMuchMemory => "too much memory".into(),
        BudgetVerdict::TooSlow => "over setting `budget-time`".into(),
        BudgetVerdict::TooLargeDelta => "over setting `budget-delta`".into(),
        BudgetVerdict::Failed => format!("cannot be trained: {}", row.problem.as_deref().unwrap_or_default()),
    }
}

/// Whether what learned below the trained head is kept, and by which numbers.
pub fn print_verdict(outcome: &Outcome, observer: &dyn Observer) {
    let Some(head) = &outcome.start else { return };
    let margin = head.accuracy.map(|accuracy| (accuracy, percent(head.accuracy_error(accuracy)), head.samples));
    let rule = match margin {
        Some((accuracy, error, samples)) => format!(
            "a validation loss below {:.4} and an accuracy above {} by more than its standard error of {error}, on {}",
            head.loss,
            percent(accuracy),
            counted(samples, "sample")
        ),
        None => format!("a validation loss below {:.4}", head.loss),
    };
    observer.note(&match outcome.best_epoch {
        0 => format!("the head alone is kept: no epoch of what learned below it had {rule}"),
        epoch => format!("epoch {epoch} is kept: it is better than the head alone, with {rule}"),
    });
}

/// A word as a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/-+".contains(c);
    if text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_beyond_the_available_memory_is_refused_with_what_needs_less() {
        refuse_beyond(1 << 30, Some(1 << 30)).unwrap();
        refuse_beyond(1 << 30, None).unwrap();
        let error = refuse_beyond(900_000_000, Some(300_000_000)).unwrap_err().to_string();
        for part in ["900.0 MB", "300.0 MB", "setting `memory = low`", "setting `batch`", "setting `train = auto`"] {
            assert!(error.contains(part), "`{part}`: {error}");
        }
    }

    #[test]
    fn names_are_quoted_for_a_shell() {
        assert_eq!(quoted("last:2"), "last:2");
        assert_eq!(quoted("onnx::Conv_1 *'"), r"'onnx::Conv_1 *'\'''");
    }
}
