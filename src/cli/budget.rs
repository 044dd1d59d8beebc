//! `--train auto` and its budgets: amounts with units, and the plan as a table.

use super::print::{Printer, bytes, percent};
use super::recipe::Recipe;
use crate::train::fit::{Outcome, Settings};
use crate::train::plan::Plan;
use crate::train::plan::choice::{Budgets, Row, Verdict};
use anyhow::{Result, bail};

/// The word that leaves to the plan what learns.
pub const AUTO: &str = "auto";

const BYTE_UNITS: &[(&str, f64)] = &[
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("KiB", 1024.0),
    ("MiB", 1024.0 * 1024.0),
    ("GiB", 1024.0 * 1024.0 * 1024.0),
];
const TIME_UNITS: &[(&str, f64)] = &[("s", 1.0), ("min", 60.0), ("h", 3600.0)];

/// The recipe's budgets; `None` where the selection is not left to the plan.
///
/// # Errors
/// An amount without a unit or of nothing, `auto` beside other selections, a budget without `auto`.
pub fn budgets(recipe: &Recipe) -> Result<Option<Budgets>> {
    let given = [
        ("--budget-memory", &recipe.budget_memory),
        ("--budget-time", &recipe.budget_time),
        ("--budget-delta", &recipe.budget_delta),
    ];
    if !recipe.train.iter().any(|text| text == AUTO) {
        return match given.iter().find(|(_, text)| text.is_some()) {
            Some((flag, _)) => bail!("{flag}: only --train auto chooses by it; add --train auto, or remove {flag}"),
            None => Ok(None),
        };
    }
    if recipe.train.len() > 1 {
        bail!("--train auto: it chooses everything that learns; remove the other --train, or auto");
    }
    let amount = |index: usize, units, example| match given[index] {
        (flag, Some(text)) => parse(flag, text, units, example).map(Some),
        (_, None) => Ok(None),
    };
    let whole = |amount: f64| amount as u64;
    Ok(Some(Budgets {
        memory_bytes: amount(0, BYTE_UNITS, "256MiB")?.map(whole),
        time_s: amount(1, TIME_UNITS, "10min")?,
        delta_bytes: amount(2, BYTE_UNITS, "64KiB")?.map(whole),
    }))
}

/// An amount of bytes with its unit, for an option.
///
/// # Errors
/// Anything but a positive number and a unit.
pub fn bytes_of(option: &str, text: &str) -> Result<u64> {
    Ok(parse(option, text, BYTE_UNITS, "500MB")? as u64)
}

/// `<number><unit>`, a space between them allowed.
fn parse(flag: &str, text: &str, units: &[(&str, f64)], example: &str) -> Result<f64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim())).map(|(_, factor)| *factor);
    match (number.parse::<f64>(), factor) {
        (Ok(number), Some(factor)) if number > 0.0 && (number * factor).is_finite() => Ok(number * factor),
        _ => {
            let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
            bail!("{flag} `{text}`: write a positive number and its unit ({}), such as {example}", names.join(", "))
        }
    }
}

/// Says what a run needs beside what is free.
pub fn compare(needed_bytes: u64, available_bytes: Option<u64>, printer: &Printer) {
    let free = available_bytes.map_or(String::new(), |free| format!(", {} are free", bytes(free)));
    printer.note(format!("memory    about {} are needed{free}", bytes(needed_bytes)));
}

/// A run that would be killed for its memory is refused before it begins.
///
/// # Errors
/// More bytes needed than available, with what would need less; nothing where it is unknown how many are available.
pub fn refuse_beyond(needed_bytes: u64, available_bytes: Option<u64>) -> Result<()> {
    match available_bytes {
        Some(available) if needed_bytes > available => bail!(
            "this run takes about {} of memory, but {} are available: stop other programs, give --memory low, a \
             smaller --batch or fewer layers with --train, or let --train auto choose what fits",
            bytes(needed_bytes),
            bytes(available)
        ),
        _ => Ok(()),
    }
}

/// Every candidate with its costs, and the choice. `settings` are those of the run that follows.
pub fn print(plan: &Plan, settings: &Settings, printer: &Printer) {
    printer.note(format!(
        "{:<30} {:>10} {:>10} {:>5} {:>10} {:>9} {:>8} {:>9}",
        "candidate", "values", "delta", "batch", "memory", "ms/step", "run", "gain"
    ));
    for row in &plan.rows {
        let or_dash = |value: Option<f64>, decimals: usize| value.map_or("-".into(), |v| format!("{v:.decimals$}"));
        let estimated = |text: String| if row.memory_bytes.is_some() { text } else { "-".into() };
        let run = row.run_s.map_or("-".into(), |seconds| format!("{seconds:.0} s"));
        printer.note(format!(
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
    let chosen = plan.chosen();
    let train: Vec<String> = chosen.train.iter().map(|text| format!("--train {}", quoted(text))).collect();
    let rates = match plan.rows[0].chosen {
        true => String::new(),
        false => format!(" --lr {} --head-rate {}", settings.learning_rate, settings.head_rate),
    };
    printer.note(format!("the same without a plan: {} --batch {}{rates}", train.join(" "), chosen.batch));
}

/// What the plan says of a row.
fn said(row: &Row) -> String {
    match row.verdict {
        _ if row.chosen => "chosen".into(),
        Verdict::Fits => "fits".into(),
        Verdict::TooMuchMemory => "too much memory".into(),
        Verdict::TooSlow => "over --budget-time".into(),
        Verdict::TooLargeDelta => "over --budget-delta".into(),
        Verdict::Failed => format!("cannot be trained: {}", row.problem.as_deref().unwrap_or_default()),
    }
}

/// Whether what learned below the trained head is kept, and by which numbers.
pub fn print_verdict(outcome: &Outcome, printer: &Printer) {
    let Some(head) = &outcome.start else { return };
    let margin = head.accuracy.map(|accuracy| (accuracy, percent(head.accuracy_error(accuracy)), head.samples));
    let rule = match margin {
        Some((accuracy, error, samples)) => format!(
            "a validation loss below {:.4} and an accuracy above {} by more than its standard error of {error}, on {samples} samples",
            head.loss,
            percent(accuracy)
        ),
        None => format!("a validation loss below {:.4}", head.loss),
    };
    printer.note(match outcome.best_epoch {
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

    fn of(memory: &str) -> Result<Option<Budgets>> {
        budgets(&Recipe { train: vec![AUTO.into()], budget_memory: Some(memory.into()), ..Recipe::default() })
    }

    #[test]
    fn amounts_have_units() {
        for (text, expected) in [("256MiB", 256 << 20), ("1.5 kb", 1500), ("10B", 10), ("2GiB", 2 << 30)] {
            assert_eq!(of(text).unwrap().unwrap().memory_bytes, Some(expected), "{text}");
        }
        for text in ["", "256", "MiB", "-1MiB", "0MiB", "1min", "1e3MiB", "nanMiB"] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains("--budget-memory") && error.contains("256MiB"), "{text}: {error}");
        }
        assert_eq!(parse("--budget-time", "1.5min", TIME_UNITS, "10min").unwrap(), 90.0);
    }

    #[test]
    fn a_budget_needs_auto_and_auto_stands_alone() {
        let recipe = |train: &[&str], delta: Option<&str>| Recipe {
            train: train.iter().map(ToString::to_string).collect(),
            budget_delta: delta.map(Into::into),
            ..Recipe::default()
        };
        assert_eq!(budgets(&recipe(&["head"], None)).unwrap(), None);
        assert_eq!(budgets(&recipe(&["auto"], None)).unwrap(), Some(Budgets::default()));
        assert!(budgets(&recipe(&["last:2"], Some("1KiB"))).unwrap_err().to_string().contains("add --train auto"));
        assert!(budgets(&recipe(&["auto", "head"], None)).unwrap_err().to_string().contains("remove the other"));
    }

    #[test]
    fn a_run_beyond_the_available_memory_is_refused_with_what_needs_less() {
        refuse_beyond(1 << 30, Some(1 << 30)).unwrap();
        refuse_beyond(1 << 30, None).unwrap();
        let error = refuse_beyond(900_000_000, Some(300_000_000)).unwrap_err().to_string();
        for part in ["900.0 MB", "300.0 MB", "--memory low", "--batch", "--train auto"] {
            assert!(error.contains(part), "`{part}`: {error}");
        }
    }

    #[test]
    fn names_are_quoted_for_a_shell() {
        assert_eq!(quoted("last:2"), "last:2");
        assert_eq!(quoted("onnx::Conv_1 *'"), r"'onnx::Conv_1 *'\'''");
    }
}
