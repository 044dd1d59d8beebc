//! Readings of one file of a sensor series: a table with a column of time and columns of channels, or an array `[rows, channels]`.
//!
//! Takes a path and which columns are meant, gives the channels' numbers row by row with times, labels and groups. A number that is
//! missing, or a time that does not rise, is an error with its line.

use super::labels::finite;
use super::npy::Array;
use super::records::{self, Format, Row};
use super::roles::{NO_TIME, Roles, SeriesColumns, pointed};
use super::series::CHANNELS_MAX;
use super::{Error, Options, filesystem, times};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

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
    pub texts: Arc<Vec<String>>,
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
    filesystem::has_array_name(path) || matches!(records::format(path), Some(Format::Separated(_) | Format::JsonLines))
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
    let bytes =
        filesystem::read_at_most(path, options.limits.table_bytes_max).map_err(|source| Error::io(path, source))?;
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
    let (readings, roles, notes) = if filesystem::has_array_name(path) {
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
    let mut is_enough = false;
    let read = records::read_bytes(path, format, bytes, &mut |row| {
        if asked.rows_max > 0 && readings.rows() >= asked.rows_max {
            is_enough = true;
            return Err(Error::content(path, ""));
        }
        let roles = match &roles {
            Some(roles) => roles,
            // Time, channels and label are found by name, when learned and ever after.
            None if !row.is_named => {
                let problem =
                    "the first line holds no column names; write one above it that names time, channels and label";
                return Err(Error::line(path, 1, problem));
            }
            None => {
                let found = Roles::find(path, &row, asked, (options, labelled))?;
                readings.names = found.channels.iter().map(|place| row.columns[*place].clone()).collect();
                roles.insert(found)
            }
        };
        readings.push(path, &row, roles, &mut known)
    });
    let notes = if is_enough { Vec::new() } else { read? };
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
                Arc::make_mut(&mut self.texts).push(text.clone());
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
