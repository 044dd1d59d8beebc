//! Data sets of sensor series: which files there are, which windows lie in them, and what the label and the group of each is.
//!
//! Takes a table, a folder of tables and arrays, class folders of them, or a table that names parts of files; gives windows as samples.

use super::columns::NO_GROUPS;
use super::groups::{self, Groups};
use super::intervals::Interval;
use super::labels::{self, Cells, Labels, Target};
use super::names::{Names, Paths};
use super::readings::{self, APART, Readings};
use super::recordings::{Source, sources};
use super::roles::{NO_TIME, Roles, SeriesColumns};
use super::series::{SeriesPreprocessing, Window, Windows};
use super::times;
use super::{Dataset, Error, Options, ReadingReport, Samples, filesystem, only_input, pace, table};
use crate::amounts::counted;
use crate::graph::Tensor;
use crate::order::Order;
use std::path::{Path, PathBuf};

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
    pace::refuse_unsteady(file, &readings, (series.rate, series.rows, series.resampled)).map_err(told)?;
    let is_resampled = series.resampled && !readings.times.is_empty();
    let part = is_resampled.then(|| pace::at_rate(&readings, [0, readings.rows()], series.rate));
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

/// Whether bytes are readings of a series, with the ending of such a file's name: a table as CSV with a header, or a `.npy` array
/// `[rows, channels]`.
///
/// # Errors
/// Why not.
pub fn is_series(bytes: &[u8]) -> Result<&'static str, String> {
    let extension = if bytes.starts_with(b"\x93NUMPY") { "npy" } else { "csv" };
    let file = PathBuf::from(format!("sample.{extension}"));
    let (columns, options) = (SeriesColumns::default(), Options::default());
    let read = readings::read_bytes(&file, bytes.to_vec(), &columns, (&options, false));
    read.map(|_| extension).map_err(|error| error.to_string())
}

/// The columns that a delta or a training has settled.
fn columns(series: &SeriesPreprocessing) -> SeriesColumns {
    SeriesColumns {
        time: Some(series.time.clone().unwrap_or_else(|| NO_TIME.into())),
        unit: Some(series.unit),
        channels: series.channels.clone(),
        has_group: false,
        rows_max: 0,
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
) -> Result<(Dataset, ReadingReport), Error> {
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
) -> Result<(Dataset, ReadingReport), Error> {
    series.validate()?;
    let mut opening = Opening::new(series, options, labelled);
    for path in paths {
        let by_folder = labelled && options.label.is_empty();
        let (sources, rest) = sources(path, options, (labelled, by_folder))?;
        opening.report.skipped.extend(rest.into_iter().map(|file| (file, "no table or array of readings".into())));
        opening.single = !path.is_dir();
        opening.in_folders |= sources.iter().any(|source| source.table.is_none() && !source.parts.is_empty());
        for source in sources {
            opening.add(&source)?;
        }
    }
    opening.done(&paths[0])
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
    /// For each window, where its label stands.
    said: Vec<Said>,
    groups: Option<Groups>,
    files: usize,
    /// Whether one file was named, whose groups no other file's name can tell.
    single: bool,
    in_folders: bool,
    report: ReadingReport,
}

/// Where a window's label stands.
enum Said {
    /// In this line of its file.
    Row(u32),
    /// In this line of the table that names its file.
    Listed(u32),
    /// In the name of its file's folder.
    Folder,
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
            said: Vec::new(),
            groups: None,
            files: 0,
            single: false,
            in_folders: false,
            report: ReadingReport::default(),
        }
    }

    /// The windows of a file.
    fn add(&mut self, source: &Source) -> Result<(), Error> {
        let file = &source.file;
        let by_column = self.labelled && source.parts.is_empty();
        self.columns.has_group = self.options.splits && source.table.is_none() && self.single;
        let (readings, roles, notes) = readings::read(file, &self.columns, (self.options, by_column))?;
        if by_column && readings.labels.is_empty() {
            let problem = "an array holds no labels; put the files of each class into a folder named after it";
            return Err(Error::content(file, problem));
        }
        self.report.notes.extend(notes);
        self.tell(source, &roles);
        self.group_by(source, &roles, &readings)?;
        let SeriesPreprocessing { rate, rows, resampled, .. } = *self.series;
        pace::refuse_unsteady(file, &readings, (rate, rows, resampled))?;
        self.files += 1;
        let spans = self.spans(source, &readings)?;
        let before = self.windows.windows.len();
        let mut found = vec![false; spans.len()];
        for [start, end] in readings.series() {
            let resampled = resampled && !readings.times.is_empty();
            let part = resampled.then(|| pace::at_rate(&readings, [start, end], rate));
            let (readings, rows) = match &part {
                Some(part) => (part, [0, part.rows()]),
                None => (&readings, [start, end]),
            };
            for (place, span) in spans.iter().enumerate() {
                let count = self.windows.windows.len();
                let rows = self.within(readings, rows, *span);
                self.add_series(source, readings, rows, source.parts.get(place))?;
                found[place] |= self.windows.windows.len() > count;
            }
        }
        self.skip(source, &readings, (&found, before));
        Ok(())
    }

    /// Lists a file or parts of it in which there is no window.
    fn skip(&mut self, source: &Source, readings: &Readings, (found, before): (&[bool], usize)) {
        let rows = self.series.rows;
        match &source.table {
            Some(table) => {
                let empty = source.parts.iter().zip(found).filter(|(_, found)| !**found);
                let named = empty.map(|(part, _)| {
                    let reason = format!("no window of {rows} rows of {} lies in this part", source.file.display());
                    (format!("{}:{}", table.display(), part.line).into(), reason)
                });
                self.report.skipped.extend(named);
            }
            None if self.windows.windows.len() == before => {
                let reason = format!("no part of its {} rows is a window of {rows} rows with a label", readings.rows());
                self.report.skipped.push((source.file.clone(), reason));
            }
            None => {}
        }
    }

    /// From when to when the parts of a file are; all of it where nothing says parts.
    fn spans(&self, source: &Source, readings: &Readings) -> Result<Vec<Option<[f64; 2]>>, Error> {
        let Some(table) = &source.table else { return Ok(vec![None]) };
        let mut spans = Vec::new();
        for part in &source.parts {
            let Some([start, end]) = &part.span else {
                spans.push(None);
                continue;
            };
            let bad = |problem: String| Error::line(table, part.line.into(), problem);
            let read = |cell: &String| {
                let time = times::parse(cell, self.series.unit);
                let time = time.filter(|time| readings.times.is_empty() || time.is_date == readings.is_date);
                time.map(|time| time.seconds).ok_or_else(|| {
                    bad(format!(
                        "`{cell}` is no time as those in {}; write start and end as there",
                        source.file.display()
                    ))
                })
            };
            let span = [read(start)?, read(end)?];
            if span[1] <= span[0] {
                return Err(bad(format!("the part ends at {end}, which is not behind its start at {start}")));
            }
            spans.push(Some(span));
        }
        refuse_overlap(table, &source.parts, &spans)?;
        Ok(spans)
    }

    /// The rows of `start` to `end` that lie in a part.
    fn within(&self, readings: &Readings, [start, end]: [usize; 2], span: Option<[f64; 2]>) -> [usize; 2] {
        let Some(span) = span else { return [start, end] };
        let place = |time: f64| match readings.times.get(start..end) {
            // What a start is short of its row by rounding is that row.
            Some(times) => start + times.partition_point(|row| *row < time - 1e-9 * time.abs().max(1.0)),
            None => {
                let row = if self.series.rate > 0.0 { time * self.series.rate } else { time };
                (start + row.round().max(0.0) as usize).min(end)
            }
        };
        let [from, to] = span.map(place);
        [from, to.max(from)]
    }

    /// Says once which columns were taken without being named.
    fn tell(&mut self, source: &Source, roles: &Roles) {
        if self.files > 0 || filesystem::has_array_name(&source.file) {
            return;
        }
        let Ok(columns) = table::header(&source.file) else { return };
        let name = |place: &usize| columns.get(*place).cloned().unwrap_or_default();
        let is_labelled = self.labelled && source.parts.is_empty() && self.options.label.is_empty();
        let label = roles.label.first().filter(|_| is_labelled).map(name);
        let group = roles.group.as_ref().filter(|_| self.options.group.is_none() && self.options.splits).map(name);
        let said = [("label", label), ("group", group)].into_iter().filter_map(|(what, name)| Some((what, name?)));
        let said = said
            .map(|(what, name)| format!("columns   {what}: column {name}; setting `samples.{what}` COLUMN to change"));
        self.report.notes.extend(said);
    }

    /// Sees whether a file tells groups, as all do or none.
    fn group_by(&mut self, source: &Source, roles: &Roles, readings: &Readings) -> Result<(), Error> {
        let listed = source.parts.first().is_some_and(|part| part.group.is_some());
        let tells = self.options.splits && (listed || !readings.groups.is_empty());
        if self.files == 0 && tells {
            let own = || table::header(&source.file).ok().and_then(|columns| columns.get(roles.group?).cloned());
            let source = match (listed, own()) {
                (false, Some(name)) => format!("column `{name}`"),
                _ => "the table's column of groups".into(),
            };
            self.groups = Some(Groups::new(source));
        }
        match self.files > 0 && tells != self.groups.is_some() {
            true => Err(Error::content(
                &source.file,
                "some files tell groups by a column and some do not; add the column to all, or give setting `samples.group`",
            )),
            false => Ok(()),
        }
    }

    /// The windows of one series, the rows from `start` to `end` of some readings; `part`: what is said of them elsewhere.
    fn add_series(
        &mut self,
        source: &Source,
        readings: &Readings,
        [start, end]: [usize; 2],
        part: Option<&Interval>,
    ) -> Result<(), Error> {
        let (rows, hop, channels) = (self.series.rows as usize, self.series.hop as usize, self.series.channels.len());
        if end - start < rows {
            return Ok(());
        }
        let place = self.windows.series.len();
        self.windows.series.push(readings.values[start * channels..end * channels].to_vec());
        for row in (start..=end - rows).step_by(hop) {
            let label = match (part, self.labelled) {
                (_, false) => String::new(),
                (Some(part), true) => part.label.clone(),
                (None, true) => self.label(&source.file, readings, [row, row + rows])?,
            };
            if self.labelled && label.is_empty() {
                continue;
            }
            self.cells.push(label.split(APART));
            self.paths.push(&source.file);
            self.said.push(match (&source.table, part) {
                (Some(_), Some(part)) => Said::Listed(part.line),
                (_, Some(_)) => Said::Folder,
                (_, None) => readings.lines.get(row).map_or(Said::Folder, |line| Said::Row(*line)),
            });
            if let Some(groups) = &mut self.groups {
                let group = part.and_then(|part| part.group.as_deref()).or_else(|| readings.group(row));
                let Some(group) = group.filter(|group| !group.is_empty()) else {
                    return Err(readings.at(&source.file, row, "no group; fill it in or remove the rows"));
                };
                groups.push(group);
            }
            let step = if self.series.rate > 0.0 { 1.0 / self.series.rate } else { 1.0 };
            let time = |row: usize| readings.times.get(row).copied().unwrap_or(row as f64 * step);
            // It ends where the row behind it would begin.
            let (from, to) = (time(row), time(row + rows - 1) + step);
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
    fn done(mut self, path: &Path) -> Result<(Dataset, ReadingReport), Error> {
        if self.windows.windows.is_empty() {
            let first =
                self.report.skipped.first().map(|(file, reason)| format!(", such as {} ({reason})", file.display()));
            let problem = format!(
                "no window of {} in {}{}; give longer series or a shorter setting `samples.window`",
                counted(self.series.rows, "row"),
                counted(self.files, "file"),
                first.unwrap_or_default()
            );
            return Err(Error::content(path, problem));
        }
        let labels = match self.labelled {
            false => Labels::Unlabelled(self.windows.windows.len()),
            true => {
                let at = |window: usize, problem: String| match &self.said[window] {
                    Said::Row(line) => Error::line(self.paths.path(window), (*line).into(), problem),
                    Said::Listed(line) => Error::line(path, (*line).into(), problem),
                    Said::Folder => Error::content(self.paths.path(window), problem),
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

/// Refuses parts of one file that share a time.
fn refuse_overlap(table: &Path, parts: &[Interval], spans: &[Option<[f64; 2]>]) -> Result<(), Error> {
    let mut order: Vec<(usize, [f64; 2])> =
        spans.iter().enumerate().filter_map(|(place, span)| Some((place, (*span)?))).collect();
    order.order_by(|(_, one), (_, other)| one[0].total_cmp(&other[0]));
    let overlap = order.windows(2).find(|pair| pair[1].1[0] < pair[0].1[1]);
    match overlap {
        Some([(one, _), (other, _)]) => {
            let (one, other) = (parts[*one].line.min(parts[*other].line), parts[*one].line.max(parts[*other].line));
            let problem = format!("overlaps the part of line {one} in the same file; a time has one label");
            Err(Error::line(table, other.into(), problem))
        }
        _ => Ok(()),
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
