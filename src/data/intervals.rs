//! A table beside files of readings, which says which parts of them are what: `file,start,end,label`.
//!
//! Takes the table, gives for each file its parts in the order of the rows. Times are as the file's own column of time has them.

use super::columns::{FILES, GROUPS, LABELS, NO_GROUPS};
use super::readings::{self, APART};
use super::records::{self, Row};
use super::roles::OF_SENSORS;
use super::table::{ENDS, STARTS, named_file};
use super::{Error, Options};
use crate::nearest::suggestion;
use std::path::{Path, PathBuf};

/// A part of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Interval {
    /// Start and end as they are written. `None`: all of the file.
    pub span: Option<[String; 2]>,
    /// Empty where none is asked for; the columns of one label are apart by a [`APART`].
    pub label: String,
    pub group: Option<String>,
    /// The table's line.
    pub line: u32,
}

/// A file with its parts.
pub(super) type Listed = (PathBuf, Vec<Interval>);

/// Where a row has what.
#[derive(Clone, Default)]
struct Places {
    file: usize,
    span: Option<[usize; 2]>,
    label: Vec<usize>,
    group: Option<usize>,
}

/// Whether a table names files of readings: its first row tells.
pub(super) fn is_listing(path: &Path, file: Option<&str>) -> bool {
    let mut found = false;
    if let Some(format) = records::format(path).filter(|_| readings::has_name(path)) {
        let bytes_max = Options::default().limits.table_bytes_max;
        let _ = records::read(path, format, bytes_max, &mut |row| {
            let named = place_of_file(&row, file).map(|place| row.cells[place].trim());
            found = named.is_some_and(|cell| readings::has_name(Path::new(cell)));
            Err(Error::content(path, ""))
        });
    }
    found
}

/// The files that a table names, with their parts.
///
/// # Errors
/// Columns or cells that are missing, parts of one file that overlap are found when their times are read.
pub(super) fn read(path: &Path, options: &Options, labelled: bool) -> Result<Vec<Listed>, Error> {
    let Some(format) = records::format(path) else { return Ok(Vec::new()) };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut places: Option<Places> = None;
    let mut listed: Vec<Listed> = Vec::new();
    let notes = records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        let places = match &places {
            Some(places) => places,
            None => places.insert(Places::read(path, &row, options, labelled)?),
        };
        let cell = |place: usize| row.cells[place].trim().to_string();
        let filled = |place: usize| match cell(place) {
            empty if empty.is_empty() => {
                let name = &row.columns[place];
                Err(Error::line(path, row.line, format!("column `{name}` is empty; fill it in or remove the row")))
            }
            filled => Ok(filled),
        };
        let file = named_file(folder, &filled(places.file)?);
        let label: Vec<String> = places.label.iter().map(|place| filled(*place)).collect::<Result<_, _>>()?;
        let part = Interval {
            span: places.span.map(|[start, end]| [cell(start), cell(end)]),
            label: label.join(&APART.to_string()),
            group: places.group.map(&filled).transpose()?,
            line: u32::try_from(row.line).unwrap_or(u32::MAX),
        };
        match listed.iter_mut().find(|(known, _)| *known == file) {
            Some((_, parts)) => parts.push(part),
            None => listed.push((file, vec![part])),
        }
        Ok(())
    });
    notes.map(|_| listed)
}

fn find(row: &Row, name: &str) -> Option<usize> {
    row.columns.iter().position(|column| column.to_lowercase() == name.to_lowercase())
}

fn place_of_file(row: &Row, named: Option<&str>) -> Option<usize> {
    match named {
        Some(name) => find(row, name),
        None => FILES.iter().find_map(|name| find(row, name)),
    }
}

impl Places {
    fn read(path: &Path, row: &Row, options: &Options, labelled: bool) -> Result<Self, Error> {
        let lacks =
            |problem: String| Error::line(path, 1, format!("{problem}; the columns are {}", row.columns.join(", ")));
        let usual = |names: &[&str]| names.iter().find_map(|name| find(row, name));
        let Some(file) = place_of_file(row, options.file.as_deref()) else {
            return Err(lacks("no column of files; name it with setting `samples.file = COLUMN`".into()));
        };
        let span = match (usual(&STARTS), usual(&ENDS)) {
            (Some(start), Some(end)) => Some([start, end]),
            (None, None) => None,
            _ => return Err(lacks("a part of a recording has a column `start` and a column `end`".into())),
        };
        let label: Vec<usize> = match (&options.label[..], labelled) {
            (_, false) => Vec::new(),
            ([], true) => usual(LABELS).or_else(|| usual(OF_SENSORS)).into_iter().collect(),
            (named, true) => {
                let place = |name: &String| {
                    find(row, name).ok_or_else(|| {
                        lacks(format!(
                            "no label column `{name}`{}",
                            suggestion(name, row.columns.iter().map(String::as_str))
                        ))
                    })
                };
                named.iter().map(place).collect::<Result<_, _>>()?
            }
        };
        if labelled && label.is_empty() {
            return Err(lacks(
                "no label column; add a column `label`, or name it with setting `samples.label = COLUMN`".into(),
            ));
        }
        let group = match options.group.as_deref().filter(|_| options.splits) {
            _ if !options.splits => None,
            Some(NO_GROUPS) => None,
            Some(name) => find(row, name),
            None => usual(GROUPS),
        };
        Ok(Self { file, span, label, group })
    }
}
