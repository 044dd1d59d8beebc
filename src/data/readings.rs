//! Readings of one file of a sensor series: a table with a column of time and columns of channels, or an array `[rows, channels]`.
//!
//! Takes a path and which columns are meant, gives the channels' numbers row by row with times, labels and groups. A number that is
//! missing, a time that does not rise, or a step that changes is an error with its line.

use super::columns::{self, GROUPS, LABELS};
use super::labels::finite;
use super::npy::Array;
use super::records::{self, Format, Row};
use super::series::CHANNELS_MAX;
use super::times::{self, TimeUnit};
use super::{Error, Options, folder};
use std::collections::HashMap;
use std::path::Path;

/// Usual names of the column of time, whatever their case.
const TIMES: &[&str] = &[
    "time",
    "timestamp",
    "t",
    "datetime",
    "date_time",
    "timestamps",
    "time_s",
    "seconds",
    "elapsed",
    "zeit",
    "zeitstempel",
];
/// Names of labels that only sensors' tables have.
pub(super) const OF_SENSORS: &[&str] = &["activity", "gesture", "state", "event", "aktivitaet", "aktivität"];
/// What is given as the column of time where there is none.
pub(super) const NO_TIME: &str = "none";
/// A step that is off the usual one by more than this share of it is another.
const STEP_OFF_MAX: f64 = 0.5;
/// A rate that is off by more than this share is another.
const RATE_OFF_MAX: f64 = 0.02;

/// Which columns are meant, as somebody has said it.
#[derive(Debug, Clone, Default)]
pub struct SeriesColumns {
    /// The column of time; `None`: usual names. `none`: there is none.
    pub time: Option<String>,
    /// What a number in it counts; `None`: what the column's name ends with, or seconds.
    pub unit: Option<TimeUnit>,
    /// The channels; empty: all columns of numbers that are nothing else.
    pub channels: Vec<String>,
    /// Whether a group that is named has to be a column, and cannot be told by the files' names.
    pub has_group: bool,
}

/// What a file's columns are.
#[derive(Debug, Clone, Default)]
pub(super) struct Roles {
    pub time: Option<usize>,
    pub unit: TimeUnit,
    pub label: Vec<usize>,
    pub group: Option<usize>,
    pub channels: Vec<usize>,
    /// Columns that are nothing, by name.
    pub aside: Vec<String>,
}

/// What a file holds, row by row.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// The channels' names.
    pub names: Vec<String>,
    /// `[rows, channels]`.
    pub values: Vec<f32>,
    /// In seconds. Empty: nothing tells them.
    pub times: Vec<f64>,
    pub is_date: bool,
    /// The line of each row. Empty: rows of an array.
    pub lines: Vec<u32>,
    /// For each row the place of its label in `texts`. Empty: no labels.
    pub labels: Vec<u32>,
    /// For each row the place of its group in `texts`. Empty: no groups.
    pub groups: Vec<u32>,
    /// Labels and groups; the columns of one label are apart by a [`APART`].
    pub texts: Vec<String>,
}

/// What stands between the cells of a label of several columns.
pub(super) const APART: char = '\u{1f}';

impl Readings {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.names.len().max(1)
    }

    /// An error at a row.
    pub fn at(&self, path: &Path, row: usize, problem: impl Into<String>) -> Error {
        match self.lines.get(row) {
            Some(line) => Error::line(path, (*line).into(), problem),
            None => Error::content(path, format!("row {row}: {}", problem.into())),
        }
    }

    /// A row's label.
    pub fn label(&self, row: usize) -> Option<&str> {
        self.labels.get(row).map(|place| self.texts[*place as usize].as_str())
    }

    /// A row's group.
    pub fn group(&self, row: usize) -> Option<&str> {
        self.groups.get(row).map(|place| self.texts[*place as usize].as_str())
    }

    /// Rows that belong to one another: where the group changes, another series begins. Each is a start and an end.
    pub fn series(&self) -> Vec<[usize; 2]> {
        let rows = self.rows();
        let begins =
            |row: &usize| *row == 0 || self.groups.get(*row).is_some_and(|group| *group != self.groups[row - 1]);
        let starts: Vec<usize> = (0..rows).filter(begins).collect();
        let ends = starts.iter().skip(1).copied().chain([rows]);
        starts.iter().copied().zip(ends).map(|(start, end)| [start, end]).collect()
    }
}

/// Whether a name is that of a file of readings.
pub(super) fn has_name(path: &Path) -> bool {
    folder::has_array_name(path) || matches!(records::format(path), Some(Format::Separated(_) | Format::JsonLines))
}

/// The readings of a file.
///
/// # Errors
/// A column that is missing, a cell that is no number or no time, times that do not rise.
pub(super) fn read(
    path: &Path,
    asked: &SeriesColumns,
    (options, labelled): (&Options, bool),
) -> Result<(Readings, Roles, Vec<String>), Error> {
    let bytes = folder::read_at_most(path, options.limits.table_bytes_max).map_err(|source| Error::io(path, source))?;
    read_bytes(path, bytes, asked, (options, labelled))
}

/// As [`read`], of bytes that are at hand; `path` is what errors call them, and its ending tells what they are.
///
/// # Errors
/// As [`read`].
pub(super) fn read_bytes(
    path: &Path,
    bytes: Vec<u8>,
    asked: &SeriesColumns,
    (options, labelled): (&Options, bool),
) -> Result<(Readings, Roles, Vec<String>), Error> {
    let (readings, roles, notes) = if folder::has_array_name(path) {
        of_array(path, bytes, asked)?
    } else {
        let Some(format) = records::format(path).filter(|_| has_name(path)) else {
            let remedy = records::remedy(path).unwrap_or("no series; give .csv, .tsv, .jsonl or .npy files");
            return Err(Error::content(path, remedy));
        };
        of_table(path, (format, &bytes), asked, (options, labelled))?
    };
    refuse_disorder(path, &readings)?;
    Ok((readings, roles, notes))
}

fn of_table(
    path: &Path,
    (format, bytes): (Format, &[u8]),
    asked: &SeriesColumns,
    (options, labelled): (&Options, bool),
) -> Result<(Readings, Roles, Vec<String>), Error> {
    let mut readings = Readings::default();
    let mut roles: Option<Roles> = None;
    let mut known = HashMap::new();
    let notes = records::read_bytes(path, format, bytes, &mut |row| {
        let roles = match &roles {
            Some(roles) => roles,
            None => {
                let found = Roles::of(path, &row, asked, (options, labelled))?;
                readings.names = found.channels.iter().map(|place| row.columns[*place].clone()).collect();
                roles.insert(found)
            }
        };
        readings.push(path, &row, roles, &mut known)
    })?;
    Ok((readings, roles.unwrap_or_default(), notes))
}

impl Readings {
    fn push(&mut self, path: &Path, row: &Row, roles: &Roles, known: &mut HashMap<String, u32>) -> Result<(), Error> {
        let bad = |place: usize, problem: String| {
            Error::line(path, row.line, format!("column `{}`: {problem}", row.columns[place]))
        };
        if let Some(place) = roles.time {
            let cell = pointed(row, place);
            let time = times::parse(&cell, roles.unit).ok_or_else(|| {
                bad(place, format!("`{cell}` is no time: write a number or a date such as 2024-05-01T12:30:00.5"))
            })?;
            if !self.times.is_empty() && time.is_date != self.is_date {
                return Err(bad(place, format!("`{cell}`: dates and numbers in one column; write all times alike")));
            }
            self.is_date = time.is_date;
            self.times.push(time.seconds);
        }
        for place in &roles.channels {
            let cell = pointed(row, *place);
            let value = finite(&cell).ok_or_else(|| {
                let remedy = "fill it in, as by the mean of its neighbours, or leave the channel out with setting `samples.channels`";
                bad(*place, format!("`{}` is no finite number; {remedy}", cell.trim()))
            })?;
            self.values.push(value);
        }
        let mut place_of = |text: String| {
            let next = known.len() as u32;
            *known.entry(text).or_insert_with_key(|text| {
                self.texts.push(text.clone());
                next
            })
        };
        if !roles.label.is_empty() {
            let cells: Vec<&str> = roles.label.iter().map(|place| row.cells[*place].trim()).collect();
            self.labels.push(place_of(cells.join(&APART.to_string())));
        }
        if let Some(place) = roles.group {
            self.groups.push(place_of(row.cells[place].trim().to_string()));
        }
        self.lines.push(u32::try_from(row.line).unwrap_or(u32::MAX));
        Ok(())
    }
}

/// A cell with a decimal point, where the table writes decimal commas.
fn pointed<'r>(row: &'r Row, place: usize) -> std::borrow::Cow<'r, str> {
    let cell = &row.cells[place];
    match row.decimal_comma && cell.contains(',') && !cell.contains('.') {
        true => cell.replacen(',', ".", 1).into(),
        false => cell.as_str().into(),
    }
}

/// A table's first row, where its columns are looked for.
struct Header<'r> {
    path: &'r Path,
    row: &'r Row<'r>,
    /// The columns' names in lower case.
    low: Vec<String>,
}

impl Header<'_> {
    fn lacks(&self, problem: impl AsRef<str>) -> Error {
        const SHOWN: usize = 20;
        let columns = self.row.columns;
        let more = if columns.len() > SHOWN { ", …" } else { "" };
        let shown = columns.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        Error::line(self.path, 1, format!("{}; the columns are {shown}{more}", problem.as_ref()))
    }

    /// A column by its name; where no name is the same, one that differs in case alone.
    fn find(&self, name: &str) -> Option<usize> {
        let low = name.to_lowercase();
        let same = self.row.columns.iter().position(|column| column == name);
        same.or_else(|| self.low.iter().position(|column| *column == low))
    }

    fn usual<'n>(&self, names: impl IntoIterator<Item = &'n &'n str>) -> Option<usize> {
        names.into_iter().find_map(|name| self.find(name))
    }

    fn named(&self, what: &str, name: &str) -> Result<usize, Error> {
        self.find(name).ok_or_else(|| self.lacks(format!("no {what} column `{name}`")))
    }

    fn labels(&self, options: &Options, labelled: bool) -> Result<Vec<usize>, Error> {
        match &options.label[..] {
            // An axis is called y more often than a label is.
            [] => Ok(self.usual(LABELS.iter().filter(|name| **name != "y").chain(OF_SENSORS)).into_iter().collect()),
            named if labelled => named.iter().map(|name| self.named("label", name)).collect(),
            named => Ok(named.iter().filter_map(|name| self.find(name)).collect()),
        }
    }

    /// The channels, and what is none because it holds no numbers. `is_other`: whether a column is nothing else.
    fn channels(&self, named: &[String], is_other: &dyn Fn(&usize) -> bool) -> Result<(Vec<usize>, Vec<usize>), Error> {
        let columns = self.row.columns;
        if !named.is_empty() {
            let found: Vec<usize> = named.iter().map(|name| self.named("channel", name)).collect::<Result<_, _>>()?;
            return match found.iter().find(|place| !is_other(place)) {
                Some(place) => {
                    let name = &columns[*place];
                    Err(self.lacks(format!("column `{name}` is the time, the label or the group, so it is no channel")))
                }
                None => Ok((found, Vec::new())),
            };
        }
        let is_number = |place: &usize| {
            let cell = pointed(self.row, *place);
            cell.trim().is_empty() || cell.trim().parse::<f64>().is_ok()
        };
        let (channels, rest): (Vec<usize>, Vec<usize>) = (0..columns.len()).filter(is_other).partition(is_number);
        match channels.is_empty() {
            true => Err(self.lacks("no column of numbers that could be a channel")),
            false => Ok((channels, rest)),
        }
    }
}

impl Roles {
    /// What the columns are, by what was asked for, by usual names and by what the first row holds.
    fn of(path: &Path, row: &Row, asked: &SeriesColumns, (options, labelled): (&Options, bool)) -> Result<Self, Error> {
        let header = Header { path, row, low: row.columns.iter().map(|name| name.to_lowercase()).collect() };
        if asked.channels.is_empty() && row.columns.len() > CHANNELS_MAX {
            let problem = format!("{} columns are more than {CHANNELS_MAX} channels", row.columns.len());
            return Err(header.lacks(format!("{problem}; name them with setting `samples.channels = A,B,C`")));
        }
        let time = match asked.time.as_deref() {
            Some(NO_TIME) => None,
            Some(name) => Some(header.named("time", name)?),
            None => header.usual(TIMES).or_else(|| row.columns.iter().position(|name| is_time(name))),
        };
        let group = match options.group.as_deref() {
            None => header.usual(GROUPS),
            Some(columns::NO_GROUPS) => None,
            Some(name) if asked.has_group => Some(header.named("group", name)?),
            Some(name) => header.find(name),
        };
        let label = header.labels(options, labelled)?;
        let is_other = |place: &usize| Some(*place) != time && Some(*place) != group && !label.contains(place);
        let (channels, rest) = header.channels(&asked.channels, &is_other)?;
        if labelled && label.is_empty() {
            return Err(header.lacks(
                "no label column; add a column `label`, name it with setting `samples.label = COLUMN`, or put the files of each \
                 class into a folder named after it",
            ));
        }
        let unit = asked.unit.or_else(|| TimeUnit::of_column(&row.columns[time?])).unwrap_or_default();
        let aside = rest.iter().map(|place| row.columns[*place].clone()).collect();
        Ok(Self { time, unit, label, group, channels, aside })
    }
}

/// Whether a column's name is a usual one with a unit behind it, as `time_ms`.
fn is_time(name: &str) -> bool {
    let low = name.to_lowercase();
    let stem = low.split([' ', '_', '(', '[']).next().unwrap_or_default();
    TimeUnit::of_column(name).is_some() && TIMES.contains(&stem)
}

/// Whether a table has a column of time by its name.
pub(super) fn has_time(row: &Row) -> bool {
    row.columns.iter().any(|name| TIMES.contains(&name.to_lowercase().as_str()) || is_time(name))
}

/// The columns of an array are called by their numbers.
fn of_array(path: &Path, bytes: Vec<u8>, asked: &SeriesColumns) -> Result<(Readings, Roles, Vec<String>), Error> {
    let fail = |problem: String| Error::content(path, problem);
    let array = Array::parse(&bytes.into()).map_err(fail)?;
    let (rows, columns) = match array.shape[..] {
        [rows] if rows > 0 => (rows as usize, 1),
        [rows, columns] if rows > 0 && columns > 0 => (rows as usize, columns as usize),
        _ => {
            let problem = format!("an array of shape {:?}; a series has the shape [rows, channels]", array.shape);
            return Err(fail(problem));
        }
    };
    let place_of = |name: &String| {
        name.parse::<usize>().ok().filter(|place| *place < columns).ok_or_else(|| {
            fail(format!("no column `{name}` in an array of {columns} columns, which are called 0 to {}", columns - 1))
        })
    };
    let time = match asked.time.as_deref() {
        None | Some(NO_TIME) => None,
        // A table's column of time, for an array that was saved without it.
        Some(name) if name.parse::<usize>().is_err() => None,
        Some(name) => Some(place_of(&name.to_string())?),
    };
    let others: Vec<usize> = (0..columns).filter(|place| Some(*place) != time).collect();
    let numbered = asked.channels.iter().all(|name| name.parse::<usize>().is_ok());
    let channels = match asked.channels.len() {
        0 => others,
        // Names of a table's columns, and as many columns: they are those, in their order.
        count if !numbered && count == others.len() => others,
        _ => asked.channels.iter().map(place_of).collect::<Result<_, _>>()?,
    };
    if channels.len() > CHANNELS_MAX {
        let problem = format!("{} columns are more than {CHANNELS_MAX}; name the channels", channels.len());
        return Err(fail(format!("{problem} with setting `samples.channels = 0,1,2`")));
    }
    let unit = asked.unit.unwrap_or_default();
    let names = channels.iter().map(usize::to_string).collect();
    let mut readings = Readings { names, ..Readings::default() };
    for row in 0..rows {
        for channel in &channels {
            let value = array.number(row * columns + channel) as f32;
            if !value.is_finite() {
                return Err(fail(format!(
                    "row {row}, column {channel}: {value} is no finite number; correct or remove it"
                )));
            }
            readings.values.push(value);
        }
        if let Some(place) = time {
            let seconds = times::parse(&array.number(row * columns + place).to_string(), unit);
            let seconds = seconds.ok_or_else(|| fail(format!("row {row}, column {place}: no time")))?;
            readings.times.push(seconds.seconds);
        }
    }
    Ok((readings, Roles { time, unit, channels, ..Roles::default() }, Vec::new()))
}

/// Refuses times that do not rise within a series.
fn refuse_disorder(path: &Path, readings: &Readings) -> Result<(), Error> {
    if readings.times.is_empty() {
        return Ok(());
    }
    for [start, end] in readings.series() {
        for row in start + 1..end {
            let (before, now) = (readings.times[row - 1], readings.times[row]);
            if now > before {
                continue;
            }
            let problem = match now == before {
                true => "has the time of the row before it; remove one of both",
                false => {
                    "is earlier than the row before it; sort the rows by time, or name the column that tells where another \
                     recording begins with setting `samples.group = COLUMN`"
                }
            };
            return Err(readings.at(path, row, problem));
        }
    }
    Ok(())
}

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
            "{own} rows in a second, where {expected} are expected; give files of one rate, or the rate that all are interpolated to \
             with setting `samples.sample-rate = {expected}`"
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
                    "{} s after the row before it, where the usual step is {} s; give the rate that rows are interpolated to with \
                     setting `samples.sample-rate = {}`",
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
