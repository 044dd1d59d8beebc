//! The pace of a series: how many rows there are in a second, whether they come evenly, and rows at another rate.
//!
//! Takes readings whose times rise. Pure.

use super::Error;
use super::readings::Readings;
use super::times;
use std::path::Path;

/// A step that is off the usual one by more than this share of it is another.
const STEP_OFF_MAX: f64 = 0.5;
/// A rate that is off by more than this share is another.
const RATE_OFF_MAX: f64 = 0.02;

/// The rows in a second, by the usual step from one row to the next; `None` where nothing tells.
pub(super) fn rate(readings: &Readings) -> Option<f64> {
    let mut steps: Vec<f64> = Vec::new();
    if !readings.times.is_empty() {
        readings.series().iter().for_each(|[start, end]| {
            steps.extend(readings.times[*start..*end].windows(2).map(|pair| pair[1] - pair[0]));
        });
    }
    let middle = steps.len() / 2;
    let median = *steps.clone().select_nth_unstable_by(middle.min(steps.len().checked_sub(1)?), f64::total_cmp).1;
    // Times that are rounded have their rate in the mean.
    let usual: Vec<f64> = steps.into_iter().filter(|step| (step / median - 1.0).abs() <= STEP_OFF_MAX).collect();
    let rate = usual.len() as f64 / usual.iter().sum::<f64>();
    let whole = rate.round();
    Some(if (rate / whole - 1.0).abs() < 1e-3 { whole } else { rate })
}

/// Refuses rows of another rate than the one that is expected, a step that changes, and a gap that is longer than a window.
///
/// # Errors
/// The line where it is so.
pub(super) fn refuse_unsteady(
    path: &Path,
    readings: &Readings,
    (expected, rows, resampled): (f64, u32, bool),
) -> Result<(), Error> {
    let Some(own) = rate(readings).filter(|_| expected > 0.0) else { return Ok(()) };
    if !resampled && (own / expected - 1.0).abs() > RATE_OFF_MAX {
        let (own, expected) = (times::number(own), times::number(expected));
        let problem = format!(
            "{own} rows in a second, where {expected} are expected; give files of one rate, or train with setting \
             `samples.sample-rate = {expected}`, to which all are interpolated then"
        );
        return Err(Error::content(path, problem));
    }
    let window = f64::from(rows) / expected;
    for [start, end] in readings.series() {
        for row in start + 1..end {
            let step = readings.times[row] - readings.times[row - 1];
            if step > window {
                let problem = format!(
                    "a gap of {} s, longer than a window of {} s; divide the recording there: into two files, or by a column that \
                     setting `samples.group` names",
                    times::number(step),
                    times::number(window)
                );
                return Err(readings.at(path, row, problem));
            }
            if !resampled && (step * own - 1.0).abs() > STEP_OFF_MAX {
                let problem = format!(
                    "{} s after the row before it, where the usual step is {} s; write the rows evenly, or train with setting \
                     `samples.sample-rate = {}`, to which they are interpolated then",
                    times::number(step),
                    times::number(1.0 / own),
                    times::number(own)
                );
                return Err(readings.at(path, row, problem));
            }
        }
    }
    Ok(())
}

/// The rows from `start` to `end` at a rate, by linear interpolation; labels, groups and lines are those of the row before.
pub(super) fn at_rate(readings: &Readings, [start, end]: [usize; 2], rate: f64) -> Readings {
    let channels = readings.names.len();
    let times = &readings.times[start..end];
    let mut at = Readings {
        names: readings.names.clone(),
        is_date: readings.is_date,
        texts: readings.texts.clone(),
        ..Readings::default()
    };
    let length = times[times.len() - 1] - times[0];
    // What a sum of steps is short of the end by rounding still is a row.
    let count = (length * rate + 1e-6).floor() as usize + 1;
    let mut row = 0;
    for place in 0..count {
        let time = times[0] + place as f64 / rate;
        while row + 1 < times.len() && times[row + 1] <= time {
            row += 1;
        }
        let next = (row + 1).min(times.len() - 1);
        let share = if next > row { ((time - times[row]) / (times[next] - times[row])).min(1.0) } else { 0.0 };
        for channel in 0..channels {
            let [one, other] = [row, next].map(|row| f64::from(readings.values[(start + row) * channels + channel]));
            at.values.push((one + share * (other - one)) as f32);
        }
        at.times.push(time);
        let of_row = |of: &[u32]| of.get(start + row).copied();
        at.labels.extend(of_row(&readings.labels));
        at.groups.extend(of_row(&readings.groups));
        at.lines.extend(of_row(&readings.lines));
    }
    at
}
