//! Which files of readings there are: a table, the tables and arrays of a folder, class folders of them, or those that a table of parts
//! names. And what the first of them looks like, before it is known how all are read.

use super::intervals::{self, Interval};
use super::readings;
use super::roles::{self, SeriesColumns};
use super::times::TimeUnit;
use super::{Error, Options, filesystem, pace, records, table};
use std::path::{Path, PathBuf};

/// So many rows tell the channels and the rate.
const ROWS_SEEN: usize = 10_000;

/// What is there of series, before it is known how they are read.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesSurvey {
    /// The channels that the first file has.
    pub channels: Vec<String>,
    /// Columns of it that are no channels, because they hold no numbers.
    pub aside: Vec<String>,
    /// The column of time, and what a number in it counts.
    pub time: Option<(String, TimeUnit)>,
    /// Rows in a second of the first file; `None` where nothing tells.
    pub rate: Option<f64>,
    /// The file that was looked at.
    pub file: PathBuf,
}

/// A file of readings, and what is said of it outside of it.
pub(super) struct Source {
    pub file: PathBuf,
    /// What is said of its parts, or of all of it. Empty: its own columns say it.
    pub parts: Vec<Interval>,
    /// The table that says it.
    pub table: Option<PathBuf>,
}

impl Source {
    fn plain(file: PathBuf) -> Self {
        Self { file, parts: Vec::new(), table: None }
    }

    /// A file that is of one class.
    fn of_class(file: PathBuf, class: String) -> Self {
        Self { parts: vec![Interval { span: None, label: class, group: None, line: 0 }], ..Self::plain(file) }
    }
}

/// The columns of the first table, where the data are series by what they are called: a table with a column of time, or a folder, class
/// folders or a table of parts with such.
pub fn series_width(path: &Path) -> Option<usize> {
    let width = |file: &Path| {
        let mut found = None;
        if let Some(format) = records::format(file).filter(|_| readings::has_name(file)) {
            let _ = records::read(file, format, Options::default().limits.table_bytes_max, &mut |row| {
                found = roles::has_time(&row).then_some(row.columns.len());
                Err(Error::content(file, ""))
            });
        }
        found
    };
    let options = Options::default();
    let first = sources(path, &options, (false, false)).ok().and_then(|(sources, _)| sources.into_iter().next());
    first.and_then(|first| width(&first.file))
}

/// Looks at the first file of the series at `path`; `None` where no file is called as one of readings is.
///
/// # Errors
/// A folder or the first file that cannot be read.
pub fn survey_series(path: &Path, asked: &SeriesColumns, options: &Options) -> Result<Option<SeriesSurvey>, Error> {
    let (sources, _) = sources(path, options, (false, false))?;
    // Arrays have neither names nor times: a table tells both, where there is one.
    let place = sources.iter().position(|source| !filesystem::has_array_name(&source.file)).unwrap_or(0);
    let Some(Source { file, .. }) = sources.into_iter().nth(place) else { return Ok(None) };
    let asked = SeriesColumns { has_group: file == path, rows_max: ROWS_SEEN, ..asked.clone() };
    let (readings, roles, _) = readings::read(&file, &asked, (options, false))?;
    let time = roles.time.map(|place| {
        let own = || table::header(&file).ok().and_then(|columns| columns.get(place).cloned());
        let name = if filesystem::has_array_name(&file) { None } else { own() };
        (name.unwrap_or_else(|| place.to_string()), roles.unit)
    });
    let rate = pace::rate(&readings);
    Ok(Some(SeriesSurvey { channels: readings.names, aside: roles.aside, time, rate, file }))
}

/// The files of readings at a path, with those that are none. `by_folder`: whether folders are classes, where there are some.
pub(super) fn sources(
    path: &Path,
    options: &Options,
    (labelled, by_folder): (bool, bool),
) -> Result<(Vec<Source>, Vec<PathBuf>), Error> {
    let of_file = |file: PathBuf| match intervals::is_listing(&file, options.file.as_deref()) {
        true => {
            let listed = intervals::read(&file, options, labelled)?.into_iter();
            let sources = listed.map(|(named, parts)| Source { file: named, parts, table: Some(file.clone()) });
            Ok((sources.collect(), Vec::new()))
        }
        false => Ok((vec![Source::plain(file)], Vec::new())),
    };
    if !path.is_dir() {
        std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
        return of_file(path.into());
    }
    // A folder with `train.csv` stands for it.
    if let Ok(Some(file)) = table::resolve(path, true)
        && records::format(&file).is_some()
    {
        return of_file(file);
    }
    let (files, rest): (Vec<PathBuf>, Vec<PathBuf>) =
        filesystem::below(path)?.into_iter().partition(|file| readings::has_name(file));
    let class = |file: &PathBuf| {
        let inside = file.strip_prefix(path).ok()?;
        inside.parent().filter(|folder| by_folder && !folder.as_os_str().is_empty())?;
        Some(inside.iter().next()?.to_string_lossy().into_owned())
    };
    let source = |file: PathBuf| match class(&file) {
        Some(class) => Source::of_class(file, class),
        None => Source::plain(file),
    };
    Ok((files.into_iter().map(source).collect(), rest))
}
