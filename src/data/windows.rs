//! Data sets of sensor series: which files there are, which windows lie in them, and what the label and the group of each is.
//!
//! Takes a table, a folder of tables and arrays, class folders of them, or a table that names parts of files; gives windows as samples.

use super::columns::NO_GROUPS;
use super::groups::{self, Groups};
use super::labels::{self, Cells, Labels, Target};
use super::names::{Names, Paths};
use super::readings::{self, APART, Readings, Roles, SeriesColumns};
use super::series::{SeriesPreprocessing, Window, Windows};
use super::times::TimeUnit;
use super::{Dataset, Error, Options, Report, Samples, folder, only_input, records, table};
use crate::graph::Tensor;
use std::path::{Path, PathBuf};

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
struct Source {
    file: PathBuf,
    /// The class whose folder it lies in.
    class: Option<String>,
}

/// Whether the data are series by what they are called: a table with a column of time, several tables, or class folders of tables.
pub fn holds_series(path: &Path) -> bool {
    let has_time = |file: &Path| {
        let mut found = false;
        if let Some(format) = records::format(file).filter(|_| readings::has_name(file)) {
            let _ = records::read(file, format, Options::default().limits.table_bytes_max, &mut |row| {
                found = readings::has_time(&row);
                Err(Error::content(file, ""))
            });
        }
        found
    };
    let first = sources(path, false).ok().and_then(|(sources, _)| sources.into_iter().next());
    first.is_some_and(|first| has_time(&first.file))
}

/// Looks at the first file of the series at `path`; `None` where no file is called as one of readings is.
///
/// # Errors
/// A folder or the first file that cannot be read.
pub fn survey_series(path: &Path, asked: &SeriesColumns, options: &Options) -> Result<Option<SeriesSurvey>, Error> {
    let (sources, _) = sources(path, false)?;
    // Arrays have neither names nor times: a table tells both, where there is one.
    let place = sources.iter().position(|source| !folder::has_array_name(&source.file)).unwrap_or(0);
    let Some(Source { file, .. }) = sources.into_iter().nth(place) else { return Ok(None) };
    let asked = SeriesColumns { has_group: !path.is_dir(), ..asked.clone() };
    let (readings, roles, _) = readings::read(&file, &asked, (options, false))?;
    let time = roles.time.map(|place| {
        let own = || table::header(&file).ok().and_then(|columns| columns.get(place).cloned());
        let name = if folder::has_array_name(&file) { None } else { own() };
        (name.unwrap_or_else(|| place.to_string()), roles.unit)
    });
    let rate = readings::rate(&readings);
    Ok(Some(SeriesSurvey { channels: readings.names, aside: roles.aside, time, rate, file }))
}

/// What the model is fed of one window that lies in a file's bytes: a `.npy` array `[rows, channels]`, or a table as CSV with a header.
///
/// # Errors
/// Why it is none, with what to do about it.
pub fn decode_window(bytes: &[u8], series: &SeriesPreprocessing) -> Result<Tensor, String> {
    let name = if bytes.starts_with(b"\x93NUMPY") { "window.npy" } else { "window.csv" };
    let file = Path::new(name);
    let options = Options::default();
    let told = |error: Error| error.to_string();
    let (readings, ..) =
        readings::read_bytes(file, bytes.to_vec(), &columns(series), (&options, false)).map_err(told)?;
    readings::refuse_unsteady(file, &readings, (series.rate, series.rows, series.resampled)).map_err(told)?;
    let is_resampled = series.resampled && !readings.times.is_empty();
    let part = is_resampled.then(|| readings::at_rate(&readings, [0, readings.rows()], series.rate));
    let readings = part.as_ref().unwrap_or(&readings);
    match readings.rows() == series.rows as usize && readings.names.len() == series.channels.len() {
        true => Ok(series.tensor(&readings.values)),
        false => Err(format!(
            "{} rows, where a window has {}; send one window of the channels {}",
            readings.rows(),
            series.rows,
            series.channels.join(", ")
        )),
    }
}

/// The columns that a delta or a training has settled.
fn columns(series: &SeriesPreprocessing) -> SeriesColumns {
    SeriesColumns {
        time: Some(series.time.clone().unwrap_or_else(|| readings::NO_TIME.into())),
        unit: Some(series.unit),
        channels: series.channels.clone(),
        has_group: false,
    }
}

/// Opens the windows of series, labelled by column or by class folder.
///
/// # Errors
/// What `readings` refuses; no label; no file as long as a window.
pub(super) fn open(
    path: &Path,
    series: &SeriesPreprocessing,
    options: &Options,
    labelled: bool,
) -> Result<(Dataset, Report), Error> {
    open_many(&[path.to_path_buf()], series, options, labelled)
}

/// As [`open`], of several files and folders.
///
/// # Errors
/// As [`open`].
pub(super) fn open_many(
    paths: &[PathBuf],
    series: &SeriesPreprocessing,
    options: &Options,
    labelled: bool,
) -> Result<(Dataset, Report), Error> {
    series.validate()?;
    let mut opening = Opening::new(series, options, labelled);
    for path in paths {
        let by_folder = labelled && options.label.is_empty();
        opening.columns.has_group = options.splits && !path.is_dir();
        let (sources, rest) = sources(path, by_folder)?;
        opening.report.skipped.extend(rest.into_iter().map(|file| (file, "no table or array of readings".into())));
        for source in sources {
            opening.add(&source)?;
        }
    }
    opening.done(&paths[0])
}

/// The files of readings at a path, with those that are none. `by_folder`: whether folders are classes, where there are some.
fn sources(path: &Path, by_folder: bool) -> Result<(Vec<Source>, Vec<PathBuf>), Error> {
    if !path.is_dir() {
        std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
        return Ok((vec![Source { file: path.into(), class: None }], Vec::new()));
    }
    // A folder with `train.csv` stands for it.
    if let Ok(Some(file)) = table::resolve(path, true)
        && records::format(&file).is_some()
    {
        return Ok((vec![Source { file, class: None }], Vec::new()));
    }
    let (files, rest): (Vec<PathBuf>, Vec<PathBuf>) =
        folder::below(path)?.into_iter().partition(|file| readings::has_name(file));
    let class = |file: &PathBuf| {
        let inside = file.strip_prefix(path).ok()?;
        inside.parent().filter(|folder| by_folder && !folder.as_os_str().is_empty())?;
        Some(inside.iter().next()?.to_string_lossy().into_owned())
    };
    Ok((files.into_iter().map(|file| Source { class: class(&file), file }).collect(), rest))
}

/// A data set that is being read.
struct Opening<'a> {
    series: &'a SeriesPreprocessing,
    options: &'a Options,
    labelled: bool,
    columns: SeriesColumns,
    windows: Windows,
    paths: Paths,
    cells: Cells,
    /// For each window its file's line, or `None` where that has none.
    lines: Vec<Option<u32>>,
    groups: Option<Groups>,
    files: usize,
    in_folders: bool,
    report: Report,
}

impl<'a> Opening<'a> {
    fn new(series: &'a SeriesPreprocessing, options: &'a Options, labelled: bool) -> Self {
        let columns = columns(series);
        let windows = Windows { preprocessing: series.clone(), series: Vec::new(), windows: Vec::new() };
        Self {
            series,
            options,
            labelled,
            columns,
            windows,
            paths: Paths::default(),
            cells: Cells::default(),
            lines: Vec::new(),
            groups: None,
            files: 0,
            in_folders: false,
            report: Report::default(),
        }
    }

    /// The windows of a file.
    fn add(&mut self, source: &Source) -> Result<(), Error> {
        let file = &source.file;
        let by_column = self.labelled && source.class.is_none();
        let (readings, roles, notes) = readings::read(file, &self.columns, (self.options, by_column))?;
        if by_column && readings.labels.is_empty() {
            let problem = "an array holds no labels; put the files of each class into a folder named after it";
            return Err(Error::content(file, problem));
        }
        self.report.notes.extend(notes);
        self.tell(source, &roles, &readings);
        let SeriesPreprocessing { rate, rows, resampled, .. } = *self.series;
        readings::refuse_unsteady(file, &readings, (rate, rows, resampled))?;
        self.files += 1;
        self.in_folders |= source.class.is_some();
        let before = self.windows.windows.len();
        for [start, end] in readings.series() {
            let resampled = self.series.resampled && !readings.times.is_empty();
            let part = resampled.then(|| readings::at_rate(&readings, [start, end], self.series.rate));
            match &part {
                Some(part) => self.add_series(source, part, [0, part.rows()])?,
                None => self.add_series(source, &readings, [start, end])?,
            }
        }
        if self.windows.windows.len() == before {
            let reason = format!(
                "no part of its {} rows is a window of {} rows with a label",
                readings.rows(),
                self.series.rows
            );
            self.report.skipped.push((file.clone(), reason));
        }
        Ok(())
    }

    /// Says once which columns were taken without being named.
    fn tell(&mut self, source: &Source, roles: &Roles, readings: &Readings) {
        if self.files > 0 || folder::has_array_name(&source.file) {
            return;
        }
        let Ok(columns) = table::header(&source.file) else { return };
        let name = |place: &usize| columns.get(*place).cloned().unwrap_or_default();
        let label = roles.label.first().filter(|_| self.options.label.is_empty() && self.labelled);
        let group = roles.group.as_ref().filter(|_| self.options.group.is_none() && self.options.splits);
        let by_folder = source.class.is_some();
        let mut said = Vec::new();
        said.extend(
            label
                .filter(|_| !by_folder)
                .map(|place| format!("label: column {}; setting `samples.label` COLUMN to change", name(place))),
        );
        said.extend(
            group.map(|place| format!("group: column {}; setting `samples.group` COLUMN to change", name(place))),
        );
        self.report.notes.extend(said.into_iter().map(|said| format!("columns   {said}")));
        if let Some(place) = roles.group.filter(|_| self.options.splits && !readings.groups.is_empty()) {
            self.groups = Some(Groups::new(format!("column `{}`", name(&place))));
        }
    }

    /// The windows of one series, the rows from `start` to `end` of some readings.
    fn add_series(&mut self, source: &Source, readings: &Readings, [start, end]: [usize; 2]) -> Result<(), Error> {
        let (rows, hop, channels) = (self.series.rows as usize, self.series.hop as usize, self.series.channels.len());
        if end - start < rows {
            return Ok(());
        }
        let place = self.windows.series.len();
        self.windows.series.push(readings.values[start * channels..end * channels].to_vec());
        for row in (start..=end - rows).step_by(hop) {
            let label = match (&source.class, self.labelled) {
                (_, false) => String::new(),
                (Some(class), true) => class.clone(),
                (None, true) => self.label(&source.file, readings, [row, row + rows])?,
            };
            if self.labelled && label.is_empty() {
                continue;
            }
            self.cells.push(label.split(APART));
            self.paths.push(&source.file);
            self.lines.push(readings.lines.get(row).copied());
            if let Some(groups) = &mut self.groups {
                let Some(group) = readings.group(row).filter(|group| !group.is_empty()) else {
                    return Err(readings.at(&source.file, row, "no group; fill it in or remove the rows"));
                };
                groups.push(group);
            }
            let seconds = |row: usize| readings.times.get(row).copied();
            let step = if self.series.rate > 0.0 { 1.0 / self.series.rate } else { 1.0 };
            let from = seconds(row).unwrap_or((row - start) as f64 * step);
            // It ends where the row behind it would begin.
            let to = seconds(row + rows - 1).map_or(from + rows as f64 * step, |last| last + step);
            let is_date = readings.is_date;
            self.windows.windows.push(Window { series: place, row: row - start, from, to, is_date });
        }
        Ok(())
    }

    /// The label of some rows: the one that most of them have, of several the one that comes first; of numbers their mean. Empty
    /// where most rows have none.
    fn label(&self, file: &Path, readings: &Readings, [start, end]: [usize; 2]) -> Result<String, Error> {
        if self.options.target == Target::Values {
            return mean_label(file, readings, [start, end]);
        }
        let mut counts: Vec<(u32, usize)> = Vec::new();
        for label in &readings.labels[start..end] {
            match counts.iter_mut().find(|(known, _)| known == label) {
                Some((_, count)) => *count += 1,
                None => counts.push((*label, 1)),
            }
        }
        let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let first = counts.iter().find(|(_, count)| *count == most).map(|(label, _)| *label);
        Ok(first.map_or_else(String::new, |place| readings.texts[place as usize].clone()))
    }

    /// The data set of all windows.
    fn done(mut self, path: &Path) -> Result<(Dataset, Report), Error> {
        if self.windows.windows.is_empty() {
            let first =
                self.report.skipped.first().map(|(file, reason)| format!(", such as {} ({reason})", file.display()));
            let problem = format!(
                "no window of {} rows in {} files{}; give longer series or a shorter setting `samples.window`",
                self.series.rows,
                self.files,
                first.unwrap_or_default()
            );
            return Err(Error::content(path, problem));
        }
        let labels = match self.labelled {
            false => Labels::Unlabelled(self.windows.windows.len()),
            true => {
                let at = |window: usize, problem: String| {
                    let file = self.paths.path(window);
                    match self.lines[window].filter(|_| !self.in_folders) {
                        Some(line) => Error::line(file, line.into(), problem),
                        None => Error::content(file, problem),
                    }
                };
                labels::read(&self.cells, self.options.target, self.options.classes.as_deref(), &at)?
            }
        };
        let groups = self.groups(path)?;
        let (input, keys) = (only_input(self.options), self.windows.keys());
        let samples = Samples::Windows { input, windows: self.windows };
        Ok((Dataset { samples, labels, keys, names: Names::Files(self.paths), groups }, self.report))
    }

    /// What belongs together: what a column says, or the names of the files, or else each file.
    fn groups(&mut self, path: &Path) -> Result<Option<Groups>, Error> {
        match self.options.group.as_deref() {
            _ if !self.options.splits || !self.labelled => Ok(None),
            Some(NO_GROUPS) => Ok(None),
            Some(_) | None if self.groups.is_some() => Ok(self.groups.take()),
            Some(told) => groups::of_files(path, usize::from(self.in_folders), &self.paths, told).map(Some),
            None => {
                let mut groups = Groups::new("file (setting `samples.group` none to change)".into());
                (0..self.paths.len()).for_each(|window| groups.push(&self.paths.path(window).to_string_lossy()));
                Ok(Some(groups))
            }
        }
    }
}

/// The mean of labels that are numbers, column by column.
fn mean_label(file: &Path, readings: &Readings, [start, end]: [usize; 2]) -> Result<String, Error> {
    let mut sums: Vec<f64> = Vec::new();
    for row in start..end {
        let cells = readings.label(row).unwrap_or_default();
        for (place, cell) in cells.split(APART).enumerate() {
            let number = cell.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(|| {
                readings.at(file, row, format!("label `{cell}` is no finite number; fill it in or remove the rows"))
            })?;
            sums.resize(sums.len().max(place + 1), 0.0);
            sums[place] += number / (end - start) as f64;
        }
    }
    Ok(sums.iter().map(|mean| (*mean as f32).to_string()).collect::<Vec<_>>().join(&APART.to_string()))
}
