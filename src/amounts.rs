//! Amounts as a person reads them: so many of a thing, bytes, shares, numbers, rates and seconds. Pure.

use std::fmt::Display;

/// Bytes for a person.
pub fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

/// A share for a person.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A number for a person: four decimals, fewer for large ones, and powers of ten for what would be a row of digits or of zeros.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size.is_nan() => "not a number".into(),
        f64::INFINITY => if value > 0.0 { "infinite" } else { "-infinite" }.into(),
        size if !(5e-5..1e7).contains(&size) => format!("{value:.2e}"),
        size if size >= 1e5 => format!("{value:.0}"),
        size if size >= 1e3 => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}

/// So many of a thing: `1 sample`, `2 samples`, `3 classes`.
pub fn counted(count: impl Display, what: &str) -> String {
    let count = count.to_string();
    if count == "1" { format!("1 {what}") } else { format!("{count} {}", plural(what)) }
}

/// Several of a thing.
fn plural(what: &str) -> String {
    let ends = |endings: &[&str]| endings.iter().any(|ending| what.ends_with(ending));
    match what.strip_suffix('y') {
        Some(stem) if !ends(&["ay", "ey", "oy"]) => format!("{stem}ies"),
        _ if ends(&["s", "x", "ch", "sh"]) => format!("{what}es"),
        _ => format!("{what}s"),
    }
}

/// How much is done in a second, for a person; `None` where nothing was done or no time passed.
pub fn rate(done: u64, seconds: f64, unit: &str) -> Option<String> {
    let each = done as f64 / seconds;
    match each {
        _ if done == 0 || !each.is_finite() => None,
        each if each >= 10.0 => Some(format!("{each:.0} {unit}s/s")),
        each if each >= 1.0 => Some(format!("{each:.1} {unit}s/s")),
        _ => Some(format!("{:.1} s a {unit}", 1.0 / each)),
    }
}

/// Seconds for a person.
pub fn duration(seconds: f64) -> String {
    match seconds.max(0.0) {
        seconds if seconds < 9.95 => format!("{seconds:.1} s"),
        seconds if seconds < 119.5 => format!("{seconds:.0} s"),
        seconds if seconds < 7_170.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.0} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_neither_rows_of_digits_nor_of_zeros() {
        for (value, text) in [
            (0.0, "0"),
            (0.7531, "0.7531"),
            (-2.5, "-2.5000"),
            (1234.56, "1234.6"),
            (123_456.7, "123457"),
            (99_999_979_767_564_570_000_000.0, "1.00e23"),
            (-3e9, "-3.00e9"),
            (0.000_012_3, "1.23e-5"),
            (f64::INFINITY, "infinite"),
            (f64::NAN, "not a number"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn one_of_a_thing_is_no_plural() {
        for (count, what, text) in [
            (1, "sample", "1 sample"),
            (0, "sample", "0 samples"),
            (2, "class", "2 classes"),
            (1, "class", "1 class"),
            (3, "entry", "3 entries"),
            (2, "day", "2 days"),
        ] {
            assert_eq!(counted(count, what), text);
        }
    }

    #[test]
    fn rates_are_never_nought() {
        assert_eq!(rate(1000, 10.0, "step").unwrap(), "100 steps/s");
        assert_eq!(rate(30, 20.0, "step").unwrap(), "1.5 steps/s");
        assert_eq!(rate(4, 20.0, "step").unwrap(), "5.0 s a step");
        assert_eq!(rate(0, 20.0, "step"), None);
        assert_eq!(rate(3, 0.0, "step"), None);
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        assert_eq!([0.04, 9.9, 61.0, 150.0, 7_300.0].map(duration), ["0.0 s", "9.9 s", "61 s", "2 min", "2 h"]);
    }
}
