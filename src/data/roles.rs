//! Which columns of a series' table hold what: those that were named, else those of usual names, else what the first row holds.
//!
//! Takes the first row, gives positions.

use super::columns::{self, GROUPS, LABELS};
use super::records::Row;
use super::series::CHANNELS_MAX;
use super::times::TimeUnit;
use super::{Error, Options};
use crate::nearest::suggestion;
use std::borrow::Cow;
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
    /// So many rows are enough; 0: all are read.
    pub rows_max: usize,
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

/// A cell with a decimal point, where the table writes decimal commas.
pub(super) fn pointed<'r>(row: &'r Row, place: usize) -> Cow<'r, str> {
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
        let meant = || suggestion(name, self.row.columns.iter().map(String::as_str));
        self.find(name).ok_or_else(|| self.lacks(format!("no {what} column `{name}`{}", meant())))
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
    pub fn find(
        path: &Path,
        row: &Row,
        asked: &SeriesColumns,
        (options, labelled): (&Options, bool),
    ) -> Result<Self, Error> {
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
