//! What a plan may take, as a recipe says it: amounts with units.

use super::Recipe;
use super::error::{Error, refuse};
use crate::train::plan::choice::Budgets;

/// The word that leaves to the plan what learns.
pub const AUTO: &str = "auto";

pub(super) const BYTE_UNITS: &[(&str, f64)] = &[
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("KiB", 1024.0),
    ("MiB", 1024.0 * 1024.0),
    ("GiB", 1024.0 * 1024.0 * 1024.0),
];
const TIME_UNITS: &[(&str, f64)] = &[("s", 1.0), ("min", 60.0), ("h", 3600.0)];

impl Recipe {
    /// The recipe's budgets; `None` where the selection is not left to the plan.
    ///
    /// # Errors
    /// An amount without a unit or of nothing, `auto` beside other selections, a budget without `auto`.
    pub fn budgets(&self) -> Result<Option<Budgets>, Error> {
        let given = [
            ("budget-memory", &self.budget_memory),
            ("budget-time", &self.budget_time),
            ("budget-delta", &self.budget_delta),
        ];
        if !self.train.iter().any(|text| text == AUTO) {
            return match given.iter().find(|(_, text)| text.is_some()) {
                Some((setting, _)) => {
                    refuse!(
                        "setting `{setting}`: only setting `train = auto` chooses by it; add setting `train = auto`, or remove it"
                    )
                }
                None => Ok(None),
            };
        }
        if self.train.len() > 1 {
            refuse!(
                "setting `train = auto`: it chooses everything that learns; remove the other setting `train`, or auto"
            );
        }
        let amount = |index: usize, units, example| match given[index] {
            (setting, Some(text)) => parse(&format!("setting `{setting}`"), text, units, example).map(Some),
            (_, None) => Ok(None),
        };
        let whole = |amount: f64| amount as u64;
        Ok(Some(Budgets {
            memory_bytes: amount(0, BYTE_UNITS, "256MiB")?.map(whole),
            time_s: amount(1, TIME_UNITS, "10min")?,
            delta_bytes: amount(2, BYTE_UNITS, "64KiB")?.map(whole),
        }))
    }
}

/// An amount of bytes with its unit, for an option.
///
/// # Errors
/// Anything but a positive number and a unit.
pub fn amount_bytes(option: &str, text: &str) -> Result<u64, Error> {
    Ok(parse(option, text, BYTE_UNITS, "500MB")? as u64)
}

/// `<number><unit>` for something that is called `what`, a space between them allowed.
pub(super) fn parse(what: &str, text: &str, units: &[(&str, f64)], example: &str) -> Result<f64, Error> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim())).map(|(_, factor)| *factor);
    match (number.parse::<f64>(), factor) {
        (Ok(number), Some(factor)) if number > 0.0 && (number * factor).is_finite() => Ok(number * factor),
        _ => {
            let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
            refuse!("{what} `{text}`: write a positive number and its unit ({}), such as {example}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory_budget(memory: &str) -> Result<Option<Budgets>, Error> {
        Recipe { train: vec![AUTO.into()], budget_memory: Some(memory.into()), ..Recipe::default() }.budgets()
    }

    #[test]
    fn amounts_have_units() {
        for (text, expected) in [("256MiB", 256 << 20), ("1.5 kb", 1500), ("10B", 10), ("2GiB", 2 << 30)] {
            assert_eq!(memory_budget(text).unwrap().unwrap().memory_bytes, Some(expected), "{text}");
        }
        for text in ["", "256", "MiB", "-1MiB", "0MiB", "1min", "1e3MiB", "nanMiB"] {
            let error = memory_budget(text).unwrap_err().to_string();
            assert!(error.contains("setting `budget-memory`") && error.contains("256MiB"), "{text}: {error}");
        }
        assert_eq!(parse("budget-time", "1.5min", TIME_UNITS, "10min").unwrap(), 90.0);
    }

    #[test]
    fn a_budget_needs_auto_and_auto_stands_alone() {
        let recipe = |train: &[&str], delta: Option<&str>| Recipe {
            train: train.iter().map(ToString::to_string).collect(),
            budget_delta: delta.map(Into::into),
            ..Recipe::default()
        };
        assert_eq!(recipe(&["head"], None).budgets().unwrap(), None);
        assert_eq!(recipe(&["auto"], None).budgets().unwrap(), Some(Budgets::default()));
        assert!(
            recipe(&["last:2"], Some("1KiB")).budgets().unwrap_err().to_string().contains("add setting `train = auto`")
        );
        assert!(recipe(&["auto", "head"], None).budgets().unwrap_err().to_string().contains("remove the other"));
    }
}
