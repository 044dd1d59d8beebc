//! When a reading was taken: a cell of a table → seconds, and back for a person to read.
//!
//! Takes numbers in a unit that is said, or dates with the time as ISO 8601 writes them. Pure; knows no clock and no time zone but the
//! one that a date states.

use serde::{Deserialize, Serialize};

/// What a number in a column of time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TimeUnit {
    /// Seconds.
    #[default]
    Seconds,
    /// Thousandths.
    Milliseconds,
    /// Millionths.
    Microseconds,
    /// Billionths.
    Nanoseconds,
}

impl TimeUnit {
    const ALL: [(&'static str, Self, f64); 4] = [
        ("s", Self::Seconds, 1.0),
        ("ms", Self::Milliseconds, 1e3),
        ("us", Self::Microseconds, 1e6),
        ("ns", Self::Nanoseconds, 1e9),
    ];

    /// By its sign: `s`, `ms`, `us` or `ns`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, ..)| *known == name).map(|(_, unit, _)| *unit)
    }

    /// Its sign.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }

    /// How many of it are a second.
    fn in_a_second(self) -> f64 {
        Self::ALL[self as usize].2
    }

    /// The unit that a column's name ends with, as `t_ms` and `time (us)` do.
    pub(super) fn of_column(name: &str) -> Option<Self> {
        let last = name.trim_end_matches([')', ']']).rsplit([' ', '_', '(', '[']).next()?;
        Self::named(&last.to_lowercase()).filter(|_| last.len() < name.len())
    }
}

/// When something was: in seconds from any beginning, or as a date in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Time {
    pub seconds: f64,
    pub is_date: bool,
}

/// Reads a number in a unit, or a date.
pub(super) fn parse(cell: &str, unit: TimeUnit) -> Option<Time> {
    let cell = cell.trim();
    match cell.parse::<f64>() {
        Ok(number) if number.is_finite() => Some(Time { seconds: number / unit.in_a_second(), is_date: false }),
        Ok(_) => None,
        Err(_) => date(cell).map(|seconds| Time { seconds, is_date: true }),
    }
}

/// Seconds since 1970 of `2024-05-01T12:30:00.25+02:00`; the time of day, its seconds and the zone may be left out.
fn date(text: &str) -> Option<f64> {
    let (day, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let [year, month, of_month] = whole(day, '-')?[..] else { return None };
    let fits = (1..=12).contains(&month) && (1..=31).contains(&of_month) && (0..=9999).contains(&year);
    let days = days_since_1970(year, month, of_month);
    // What has no such day, as the 31st of June, is another day when it is written again.
    if !fits || civil(days) != (year, month, of_month) {
        return None;
    }
    let (time, zone) = match time.trim_end().strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => match time.rfind(['+', '-']) {
            Some(place) => (&time[..place], zone(&time[place..])?),
            None => (time, 0),
        },
    };
    let (clock, fraction) = time.trim().split_once(['.', ',']).unwrap_or((time.trim(), "0"));
    let (hours, minutes, seconds) = match whole(clock, ':')?[..] {
        [hours, minutes] => (hours, minutes, 0),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    let fits = (0..=24).contains(&hours) && (0..60).contains(&minutes) && (0..=60).contains(&seconds);
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let fraction: f64 = format!("0.{fraction}").parse().ok()?;
    let of_day = (hours * 60 + minutes) * 60 + seconds - zone;
    (fits && is_fraction).then(|| (days * 86_400 + of_day) as f64 + fraction)
}

/// Numbers without a sign between separators.
fn whole(text: &str, separator: char) -> Option<Vec<i64>> {
    let number = |part: &str| part.parse().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()));
    text.split(separator).map(number).collect()
}

/// Seconds that a zone such as `+02:00` is ahead.
fn zone(text: &str) -> Option<i64> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text[1..].replace(':', "");
    let number: i64 = digits.parse().ok().filter(|_| digits.len() == 4 || digits.len() == 2)?;
    let minutes = if digits.len() == 2 { number * 60 } else { number / 100 * 60 + number % 100 };
    Some(sign * minutes * 60)
}

/// Days from 1970-01-01 in the Gregorian calendar: whole years, counted from March so that a leap day ends one.
fn days_since_1970(year: i64, month: i64, of_month: i64) -> i64 {
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    // Months from March on have 31, 30, 31, 30, 31 days in turn.
    let before = (153 * months + 2) / 5;
    365 * years + leaps + before + of_month - 1 - 719_468
}

/// The year, month and day of a number of days from 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    // A year at or before the right one: all years are between 365 and 366 days long.
    let guess = 1970 + days.div_euclid(if days < 0 { 365 } else { 366 });
    let year = (guess..).take_while(|year| days_since_1970(*year, 1, 1) <= days).last().unwrap_or(guess);
    let month = (1..=12).take_while(|month| days_since_1970(year, *month, 1) <= days).last().unwrap_or(1);
    (year, month, days - days_since_1970(year, month, 1) + 1)
}

/// A time for a person: a date to the thousandth of a second, or seconds.
pub(super) fn format_time(time: Time) -> String {
    let thousandths = (time.seconds * 1000.0).round() as i64;
    if !time.is_date {
        return number(time.seconds);
    }
    let (days, of_day) = (thousandths.div_euclid(86_400_000), thousandths.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (seconds, fraction) = (of_day / 1000, of_day % 1000);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:03}") };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}{fraction}")
}

/// A number without the digits that a sum of fractions leaves behind.
pub(super) fn number(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    if rounded == 0.0 { "0".into() } else { rounded.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        for (text, seconds) in [
            ("1970-01-01", 0.0),
            ("1970-01-01T00:00:01Z", 1.0),
            ("2024-02-29 12:30", 1_709_209_800.0),
            ("2024-05-01T12:30:00.25+02:00", 1_714_559_400.25),
            ("2000-03-01T00:00:00-0130", 951_874_200.0),
            ("1969-12-31T23:59:59,5", -0.5),
        ] {
            assert_eq!(parse(text, TimeUnit::Milliseconds).map(|time| time.seconds), Some(seconds), "{text}");
        }
        for text in ["2023-02-29", "2024-13-01", "2024-06-31", "noon", "12:30", "2024-05-01T12", "NaN", "", "2024-5"] {
            assert_eq!(parse(text, TimeUnit::Seconds), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(
            any in ".{0,24}", like in "[0-9]{1,4}-[0-9]{1,2}-[0-9]{1,2}[T ]?[0-9:.,Z+-]{0,16}", unit in 0usize..4,
        ) {
            for text in [any, like] {
                let time = parse(&text, TimeUnit::ALL[unit].1);
                prop_assert!(time.is_none_or(|time| time.seconds.is_finite() && !format_time(time).is_empty()));
            }
        }
    }

    #[test]
    fn every_day_is_written_as_it_is_read() {
        for days in (-200_000..200_000).step_by(37) {
            let text = format_time(Time { seconds: days as f64 * 86_400.0 + 3661.5, is_date: true });
            if !text.starts_with('-') {
                assert_eq!(date(&text), Some(days as f64 * 86_400.0 + 3661.5), "{text}");
            }
        }
    }

    #[test]
    fn numbers_are_in_the_unit_that_is_said_or_that_a_name_ends_with() {
        assert_eq!(parse("1500", TimeUnit::Milliseconds).unwrap().seconds, 1.5);
        assert_eq!(parse(" 2e6", TimeUnit::Microseconds).unwrap().seconds, 2.0);
        assert_eq!(TimeUnit::of_column("t_ms"), Some(TimeUnit::Milliseconds));
        assert_eq!(TimeUnit::of_column("Time (us)"), Some(TimeUnit::Microseconds));
        assert_eq!(TimeUnit::of_column("ms"), None, "a name of its own");
        assert_eq!(TimeUnit::of_column("times"), None);
        assert_eq!(number(0.1 + 0.2), "0.3");
        assert_eq!(TimeUnit::ALL.map(|(name, unit, _)| unit.name() == name), [true; 4]);
    }
}
