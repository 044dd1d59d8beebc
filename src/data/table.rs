//! Tables: rows of numbers with label columns, and rows that name photographs.
//!
//! Takes a CSV, TSV or JSONL file, gives features as one tensor `[rows, features]` f32, or files, with their labels.

use super::cells::{EMPTY, with_point};
use super::clips::Part;
use super::columns::{self, Columns, Content};
use super::folder::{Files, Kind};
use super::groups::{self, Groups};
use super::labels::{self, Cells, Labels, finite};
use super::names::Names;
use super::npy::Array;
use super::records::{self, Format, Row};
use super::sound;
use super::{Error, Options, ReadingReport, Target, filesystem};
use crate::amounts::counted;
use crate::graph::Tensor;
use std::path::{Path, PathBuf};

/// Rows that are samples: their labels, groups and lines, and what was left out.
pub(super) struct Rows<'a> {
    path: &'a Path,
    options: &'a Options,
    labelled: bool,
    content: Content,
    columns: Option<Columns>,
    cells: Cells,
    lines: Vec<u32>,
    groups: Option<Groups>,
    pub report: ReadingReport,
}

/// What rows tell of their samples besides the content.
pub(super) struct Told {
    pub labels: Labels,
    pub names: Names,
    pub groups: Option<Groups>,
    pub report: ReadingReport,
}

impl<'a> Rows<'a> {
    pub(super) fn new(path: &'a Path, content: Content, options: &'a Options, labelled: bool) -> Self {
        let (cells, report) = (Cells::default(), ReadingReport::default());
        Self { path, options, labelled, content, columns: None, cells, lines: Vec::new(), groups: None, report }
    }

    /// Which columns hold what, as the first row decides. `None` for a row whose label or group is missing: it is listed and left out.
    ///
    /// # Errors
    /// Columns that are missing.
    pub(super) fn columns(&mut self, row: &Row) -> Result<Option<Columns>, Error> {
        let columns = match &self.columns {
            Some(columns) => columns.clone(),
            None => {
                let mut columns = columns::choose(row, self.path, self.content, self.options, self.labelled)?;
                if !self.labelled && self.content == Content::Numbers {
                    let left = leave_out_label(&mut columns, row, self.options);
                    self.report.notes.extend(left.map(|note| format!("columns   {note}")));
                }
                self.report.notes.extend(columns.taken.iter().map(|taken| format!("columns   {taken}")));
                if let Some(group) = columns.group.filter(|_| self.options.splits) {
                    self.groups = Some(Groups::new(format!("column `{}`", row.columns[group])));
                }
                self.columns.insert(columns).clone()
            }
        };
        let empty = |place: &usize| row.cells[*place].trim().is_empty();
        if self.labelled && columns.label.iter().any(empty) {
            let sets =
                if self.options.target == Target::MultiLabel { "write `[]` if no class applies, or " } else { "" };
            self.skip(row, format!("no label; {sets}fill it in or remove the row"));
            return Ok(None);
        }
        if let Some(place) = columns.group.filter(|place| self.groups.is_some() && empty(place)) {
            self.skip(row, format!("no group in column `{}`; fill it in or remove the row", row.columns[place]));
            return Ok(None);
        }
        Ok(Some(columns))
    }

    /// The number of rows that are samples.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Notes a row that is a sample.
    pub(super) fn push(&mut self, row: &Row, columns: &Columns) {
        let label = if self.labelled { &columns.label[..] } else { &[] };
        let decimal = row.decimal_comma && self.options.target == Target::Values;
        let cells = label.iter().map(|column| row.cells[*column].as_str());
        match decimal {
            true => {
                let pointed: Vec<String> = cells.map(|cell| with_point(cell).unwrap_or_else(|| cell.into())).collect();
                self.cells.push(pointed.iter().map(String::as_str));
            }
            false => self.cells.push(cells),
        }
        if let (Some(groups), Some(place)) = (&mut self.groups, columns.group) {
            groups.push(row.cells[place].trim());
        }
        self.lines.push(u32::try_from(row.line).unwrap_or(u32::MAX));
    }

    /// Lists a row that is left out.
    pub(super) fn skip(&mut self, row: &Row, reason: String) {
        self.report.skipped.push((format!("{}:{}", self.path.display(), row.line).into(), reason));
    }

    /// Labels, names and groups of the rows.
    ///
    /// # Errors
    /// No row that is a sample; labels that cannot be read.
    pub(super) fn finish(mut self) -> Result<Told, Error> {
        if self.lines.is_empty() {
            // Each row was left out for a reason; the first tells enough.
            let (row, reason) = self.report.skipped.swap_remove(0);
            return Err(Error::content(row, reason));
        }
        let labels = match self.labelled {
            false => Labels::Unlabelled(self.lines.len()),
            true => {
                let at = |row: usize, problem: String| Error::line(self.path, self.lines[row].into(), problem);
                match self.options.target {
                    Target::Lines => labels::lines(&self.cells, self.options, &at)?,
                    target => labels::read(&self.cells, target, self.options.classes.as_deref(), &at)?,
                }
            }
        };
        if let Some(column) = self.columns.as_ref().and_then(|columns| columns.perhaps_group.as_deref()) {
            self.report.perhaps_groups = Some((column.into(), format!("the column `{column}`")));
        }
        let names = Names::Lines { file: self.path.into(), lines: self.lines };
        Ok(Told { labels, names, groups: self.groups, report: self.report })
    }
}

/// Where a table to predict has one column more than the model takes numbers, its last is the label, as where it was trained on. Gives
/// what a person should know of that.
fn leave_out_label(columns: &mut Columns, row: &Row, options: &Options) -> Option<String> {
    let [Some(shape)] = &options.shapes[..] else { return None };
    let size = shape.iter().try_fold(1u64, |size, side| size.checked_mul((*side)?))?;
    let mut free = (0..row.columns.len()).filter(|place| !columns.sets_aside(*place));
    let (count, last) = (free.clone().count() as u64, free.next_back()?);
    if !columns.label.is_empty() || !options.label.is_empty() || count != size + 1 {
        return None;
    }
    columns.label.push(last);
    let name = &row.columns[last];
    Some(format!(
        "not read: {name}, for the model takes {size} numbers; setting `samples.label` COLUMN leaves out another"
    ))
}

/// Numbers and labels of a table.
///
/// # Errors
/// A cell that is no finite number, a list of another length than the first row's, or what `records` refuses.
pub(super) fn numbers(path: &Path, format: Format, options: &Options, labelled: bool) -> Result<(Tensor, Told), Error> {
    let mut rows = Rows::new(path, Content::Numbers, options, labelled);
    let mut values: Vec<f32> = Vec::new();
    let (mut width, mut shape) = (None, None);
    let mut commas = false;
    let notes = records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        let Some(columns) = rows.columns(&row)? else { return Ok(()) };
        let before = values.len();
        let mut shapes = Vec::new();
        for column in (0..row.columns.len()).filter(|column| !columns.sets_aside(*column)) {
            let (name, cell) = (&row.columns[column], row.cells[column].trim());
            if EMPTY.contains(&cell.to_lowercase().as_str()) {
                values.truncate(before);
                rows.skip(&row, format!("column `{name}`: `{cell}` is no number; fill it in or remove the row"));
                return Ok(());
            }
            let pointed = with_point(cell).filter(|_| row.decimal_comma);
            commas |= pointed.is_some();
            let one = push_numbers(pointed.as_deref().unwrap_or(cell), &mut values, 0).map_err(|problem| {
                let remedy = "correct or remove the row or the column (for text, give the model's tokenizer.json)";
                Error::line(path, row.line, format!("column `{name}`: {problem}; {remedy}"))
            })?;
            shapes.push(one);
        }
        let count = values.len() - before;
        let expected = width.get_or_insert(count);
        if count != *expected || count == 0 {
            let expected = *expected.max(&mut 1);
            return Err(Error::line(
                path,
                row.line,
                format!("{} where {expected} are expected", counted(count, "number")),
            ));
        }
        // One column of lists in lists says the shape of a sample; else the numbers are one behind the other.
        let own = match &shapes[..] {
            [one] if !one.is_empty() => one.clone(),
            _ => vec![count as u64],
        };
        let expected = shape.get_or_insert_with(|| own.clone());
        if *expected != own {
            let problem =
                format!("lists of shape {own:?}, in the rows before {expected:?}; all samples have one shape");
            return Err(Error::line(path, row.line, problem));
        }
        rows.push(&row, &columns);
        Ok(())
    })?;
    rows.report.notes.extend(notes);
    if commas {
        rows.report.notes.push(format!("{}: a comma in a number is its decimal point", path.display()));
    }
    let shape = [vec![rows.len() as u64], shape.unwrap_or_default()].concat();
    let told = rows.finish()?;
    let dtype = options.inputs.first().map(|(_, dtype)| *dtype);
    let features = Array::of_floats(shape, values).tensor(dtype).map_err(|problem| Error::content(path, problem))?;
    Ok((features, told))
}

/// How deep lists may lie in lists.
const DEPTH_MAX: usize = 8;

/// A number, a truth value, or lists of numbers; gives the shape, which of one number is `[]`.
///
/// # Errors
/// What is no number, or lists of different lengths beside each other.
fn push_numbers(cell: &str, values: &mut Vec<f32>, depth: usize) -> Result<Vec<u64>, String> {
    let cell = cell.trim();
    let bare = || (depth == 0 && cell.contains(',')).then_some(cell);
    let list = cell.strip_prefix('[').and_then(|cell| cell.strip_suffix(']')).filter(|_| depth < DEPTH_MAX);
    let Some(list) = list.or_else(bare) else {
        values.push(match cell {
            "true" => 1.0,
            "false" => 0.0,
            number => finite(number).ok_or_else(|| format!("`{number}` is no finite number"))?,
        });
        return Ok(Vec::new());
    };
    let mut shape: Option<Vec<u64>> = None;
    let mut count = 0;
    let mut within = 0usize;
    let parts = list.split(|letter| {
        within = (within + usize::from(letter == '[')).saturating_sub(usize::from(letter == ']'));
        letter == ',' && within == 0
    });
    for part in parts {
        let one = push_numbers(part, values, depth + 1)?;
        if *shape.get_or_insert_with(|| one.clone()) != one {
            return Err("lists of different lengths in a list: each has to have as many numbers".into());
        }
        count += 1;
    }
    Ok([vec![count], shape.unwrap_or_default()].concat())
}

/// The names of a table's columns.
///
/// # Errors
/// A table that cannot be read.
pub(super) fn header(path: &Path) -> Result<Vec<String>, Error> {
    let mut columns = Vec::new();
    let Some(format) = records::format(path) else { return Ok(columns) };
    let read = records::read(path, format, Options::default().limits.table_bytes_max, &mut |row| {
        columns = row.columns.to_vec();
        // One row is enough.
        Err(Error::content(path, ""))
    });
    if columns.is_empty() { read.map(|_| columns) } else { Ok(columns) }
}

/// Whether the first row of a table is numbers, and names no file.
pub(super) fn is_of_numbers(path: &Path, format: Format, options: &Options) -> bool {
    let mut found = false;
    let mut look = |row: &Row| -> Option<()> {
        // A table that names files holds none but them.
        if columns::choose(row, path, Content::Files, options, false).is_ok() {
            return None;
        }
        let columns = columns::choose(row, path, Content::Numbers, options, true).ok()?;
        let mut cells =
            (0..row.cells.len()).filter(|column| !columns.sets_aside(*column)).map(|column| &row.cells[column]);
        found = cells.all(|cell| {
            let pointed = with_point(cell).filter(|_| row.decimal_comma);
            push_numbers(pointed.as_deref().unwrap_or(cell), &mut Vec::new(), 0).is_ok()
        });
        None
    };
    // The first row is enough: an error ends the reading.
    let _ = records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        look(&row);
        Err(Error::content(path, ""))
    });
    found
}

/// Files that a table names, relative to its folder; those that cannot be used are listed and their rows left out.
///
/// # Errors
/// A table without a column of paths, or without one usable file.
pub(super) fn files(
    path: &Path,
    format: Format,
    kind: &mut Kind,
    (options, labelled): (&Options, bool),
) -> Result<(Files, Told), Error> {
    let mut rows = Rows::new(path, Content::Files, options, labelled);
    let mut files = Files::default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut by_name, is_sound) = (false, matches!(kind, Kind::Sound));
    let notes = records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        let Some(columns) = rows.columns(&row)? else { return Ok(()) };
        by_name = columns.group.is_none();
        let cell = row.cells[columns.content.unwrap_or(0)].trim();
        if cell.is_empty() {
            rows.skip(&row, "no file; fill it in or remove the row".into());
            return Ok(());
        }
        let file = named_file(folder, cell);
        if options.below.as_ref().is_some_and(|folder| !file.starts_with(folder)) {
            return Ok(());
        }
        let part = if is_sound { part_in(path, &row)? } else { None };
        if let Some(reason) = part.and_then(|part| behind_the_end(&file, part, options)) {
            rows.skip(&row, reason);
            return Ok(());
        }
        match files.push(&file, kind, &options.limits) {
            Ok(()) => rows.push(&row, &columns),
            Err(reason) => {
                rows.report.skipped.push((file, reason));
                return Ok(());
            }
        }
        files.parts.extend(part);
        Ok(())
    })?;
    rows.report.notes.extend(notes);
    if files.len() == 0 {
        return Err(none_usable(path, &rows.report, kind));
    }
    let mut told = rows.finish()?;
    if let Some(pattern) =
        options.group.as_deref().filter(|told| options.splits && by_name && *told != columns::NO_GROUPS)
    {
        told.groups = Some(groups::of_files(folder, 0, &files.paths, pattern)?);
    }
    if options.splits && options.group.is_none() && told.groups.is_none() && !files.parts.is_empty() {
        told.groups = by_recording(&files);
    }
    Ok((files, told))
}

/// What is said where no file that a table names can be used.
fn none_usable(path: &Path, report: &ReadingReport, kind: &Kind) -> Error {
    let first = report.skipped.first();
    let first = first.map_or_else(String::new, |(file, reason)| format!("{} ({reason})", file.display()));
    let problem = format!(
        "none of the {} {}s that it names can be used, such as {first}; paths in a table are relative to the table's folder",
        report.skipped.len(),
        kind.what()
    );
    Error::content(path, problem)
}

/// Parts of one recording belong together, where there are several of some.
fn by_recording(files: &Files) -> Option<Groups> {
    let mut groups = Groups::new("recording (setting `samples.group` none to change)".into());
    (0..files.len()).for_each(|place| groups.push(&files.paths.path(place).to_string_lossy()));
    (groups.count() > 1 && groups.count() < files.len()).then_some(groups)
}

/// What the columns of an interval are called, in seconds.
pub(super) const STARTS: [&str; 5] = ["start", "start_time", "start_s", "begin", "onset"];
pub(super) const ENDS: [&str; 5] = ["end", "end_time", "end_s", "stop", "offset"];

/// The part of a recording that a row is about; `None` for a table without columns of intervals.
///
/// # Errors
/// One of both columns alone, what is no time, or an end before its start.
fn part_in(path: &Path, row: &Row) -> Result<Option<Part>, Error> {
    let find = |names: &[&str]| row.columns.iter().position(|column| names.contains(&column.to_lowercase().as_str()));
    let (start, end) = match (find(&STARTS), find(&ENDS)) {
        (Some(start), Some(end)) => (start, end),
        (None, None) => return Ok(None),
        _ => {
            return Err(Error::line(
                path,
                1,
                "a part of a recording has a column `start` and a column `end`, in seconds",
            ));
        }
    };
    let seconds = |place: usize| {
        let cell = row.cells[place].trim();
        let time = with_point(cell).filter(|_| row.decimal_comma).unwrap_or_else(|| cell.into()).parse::<f64>();
        time.ok().filter(|time| time.is_finite() && *time >= 0.0).ok_or_else(|| {
            let name = &row.columns[place];
            Error::line(path, row.line, format!("column `{name}`: `{cell}` is no time in seconds, such as 1.5"))
        })
    };
    let (start, end) = (seconds(start)?, seconds(end)?);
    match end > start {
        true => Ok(Some([start, end])),
        false => Err(Error::line(
            path,
            row.line,
            format!("the part ends at {end} s, which is not behind its start at {start} s"),
        )),
    }
}

/// Why a part is none of its recording, where the recording's header tells its length.
fn behind_the_end(file: &Path, [start, _]: Part, options: &Options) -> Option<String> {
    let bytes = filesystem::map_at_most(file, options.limits.file_bytes_max).ok()?;
    let (samples, rate) = sound::length(&bytes)?;
    let seconds = samples as f64 / f64::from(rate.filter(|rate| *rate > 0)?);
    let file = file.display();
    (start >= seconds).then(|| {
        format!("the part starts at {start} s, behind the end of {file} at {seconds} s; correct or remove the row")
    })
}

/// The files that a table names, each with the part that is meant; none of a table that cannot be read.
pub(super) fn named_files(path: &Path, format: Format, options: &Options) -> Vec<(PathBuf, Option<Part>)> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    let _ = records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        let columns = columns::choose(&row, path, Content::Files, options, false)?;
        let cell = row.cells[columns.content.unwrap_or(0)].trim();
        found.push((named_file(folder, cell), part_in(path, &row)?));
        Ok(())
    });
    found
}

/// Whether the first row of a table names an array.
pub(super) fn names_arrays(path: &Path, format: Format) -> bool {
    names_in_first_row(path, format, &filesystem::has_array_name)
}

/// Whether a cell of a table's first row is a file's name that `is` one looked for.
pub(super) fn names_in_first_row(path: &Path, format: Format, is: &dyn Fn(&Path) -> bool) -> bool {
    let mut found = false;
    let _ = records::read(path, format, Options::default().limits.table_bytes_max, &mut |row| {
        found = row.cells.iter().any(|cell| is(Path::new(cell.trim())));
        Err(Error::content(path, ""))
    });
    found
}

/// The file that some cell of a table names and that `is` the one looked for; `None` also where it is no table that can be read.
pub(super) fn file_in(path: &Path, format: Format, bytes_max: u64, is: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut found = None;
    let _ = records::read(path, format, bytes_max, &mut |row| {
        found = row.cells.iter().map(|cell| named_file(folder, cell.trim())).find(|file| is(file));
        match found {
            // Enough is read.
            Some(_) => Err(Error::content(path, "")),
            None => Ok(()),
        }
    });
    found
}

/// The file that a cell names: relative to the table, with the separators of Windows where it was written there.
pub(super) fn named_file(folder: &Path, cell: &str) -> PathBuf {
    let file = folder.join(cell);
    match cell.contains('\\') && !file.exists() {
        true => folder.join(cell.replace('\\', "/")),
        false => file,
    }
}

/// The file to open: `path` itself, or in a folder the one that holds rows or arrays (`train.*`, if there are several).
/// `None` for a folder without such files, and for one with class folders where images are expected.
///
/// # Errors
/// A folder that cannot be read, or several files of which none or more than one is `train.*`.
pub(super) fn resolve(path: &Path, images: bool) -> Result<Option<PathBuf>, Error> {
    if path.is_file() {
        return Ok(Some(path.into()));
    }
    let visible = filesystem::visible(path)?;
    // Notes beside class folders, even in a table, do not make them less of an image folder.
    if images && visible.iter().any(|entry| entry.is_dir()) {
        return Ok(None);
    }
    // A pair of arrays is opened by its folder.
    if visible.iter().any(|file| file.ends_with("x.npy")) {
        return Ok(Some(path.join("x.npy")));
    }
    let holds_rows = |file: &&PathBuf| match records::format(file) {
        // A readme beside class folders is no data set.
        Some(Format::Lines) => file.ends_with("train.txt"),
        Some(_) => true,
        None => file.extension().is_some_and(|extension| extension == "npz"),
    };
    let found: Vec<&PathBuf> = visible.iter().filter(holds_rows).collect();
    let trains: Vec<&PathBuf> =
        found.iter().copied().filter(|file| file.file_stem().is_some_and(|s| s == "train")).collect();
    match (&found[..], &trains[..]) {
        ([], _) => Ok(None),
        ([one], _) | (_, [one]) => Ok(Some((*one).clone())),
        _ => Err(Error::content(path, format!("several data files, such as {}; give one", found[0].display()))),
    }
}
