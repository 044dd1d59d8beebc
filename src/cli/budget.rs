//! `--train auto` and its budgets: amounts with units, and the plan as a table.

use super::print::{Printer, bytes};
use super::recipe::Recipe;
use crate::train::plan::Plan;
use crate::train::plan::choice::{Budgets, Verdict};
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

/// Every candidate with its costs, and the choice.
pub fn print(plan: &Plan, printer: &Printer) {
    printer.note(format!(
        "{:<30} {:>10} {:>10} {:>5} {:>10} {:>9} {:>8} {:>9}",
        "candidate", "values", "delta", "batch", "memory", "ms/step", "run", "gain"
    ));
    for row in &plan.rows {
        let or_dash = |value: Option<f64>, decimals: usize| value.map_or("-".into(), |v| format!("{v:.decimals$}"));
        let run = row.run_s.map_or("-".into(), |seconds| format!("{seconds:.0} s"));
        printer.note(format!(
            "{:<30} {:>10} {:>10} {:>5} {:>10} {:>9} {:>8} {:>9}  {}",
            row.name,
            row.parameters,
            bytes(row.delta_bytes),
            row.batch,
            bytes(row.memory_bytes),
            or_dash(row.step_ms, 1),
            run,
            or_dash(row.gain, 4),
            match row.verdict {
                _ if row.chosen => "chosen",
                Verdict::Fits => "fits",
                Verdict::TooMuchMemory => "over --budget-memory",
                Verdict::TooSlow => "over --budget-time",
                Verdict::TooLargeDelta => "over --budget-delta",
            }
        ));
    }
    let chosen = plan.chosen();
    let train: Vec<String> = chosen.train.iter().map(|text| format!("--train {}", quoted(text))).collect();
    printer.note(format!("the same without a plan: {} --batch {}", train.join(" "), chosen.batch));
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
    fn names_are_quoted_for_a_shell() {
        assert_eq!(quoted("last:2"), "last:2");
        assert_eq!(quoted("onnx::Conv_1 *'"), r"'onnx::Conv_1 *'\'''");
    }
}
