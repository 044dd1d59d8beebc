//! Tables: rows of numbers with label columns, and rows that name photographs.
//!
//! Takes a CSV, TSV or JSONL file, gives features as one tensor `[rows, features]` f32, or files, with their labels.

use super::folder::{self, Files, Kind};
use super::labels::{self, Cells, Labels, finite};
use super::names::Names;
use super::npy::Array;
use super::records::{self, Format, Row};
use super::{Error, Options, Report};
use crate::graph::Tensor;
use std::path::{Path, PathBuf};

/// Columns that name a photograph.
const FILE_COLUMNS: [&str; 3] = ["file", "image", "path"];

/// Label cells row by row, with the line that each row came from.
pub(super) struct LabelCells<'a> {
    path: &'a Path,
    cells: Cells,
    lines: Vec<u32>,
}

impl<'a> LabelCells<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self { path, cells: Cells::default(), lines: Vec::new() }
    }

    /// Notes a row; `columns` are positions of its label columns, none for rows without labels.
    pub(super) fn push(&mut self, row: &Row, columns: &[usize]) {
        self.cells.push(columns.iter().map(|column| row.cells[*column].as_str()));
        self.lines.push(u32::try_from(row.line).unwrap_or(u32::MAX));
    }

    /// `file:line` for each row.
    pub(super) fn names(self) -> Names {
        Names::Lines { file: self.path.into(), lines: self.lines }
    }

    pub(super) fn labels(&self, options: &Options, labelled: bool) -> Result<Labels, Error> {
        if !labelled {
            return Ok(Labels::Unlabelled(self.lines.len()));
        }
        let at = |row: usize, problem: String| Error::line(self.path, self.lines[row].into(), problem);
        labels::read(&self.cells, options.target, options.classes.as_deref(), &at)
    }
}

/// The positions of the label columns: those named, else `label`, else the last. Without `labelled` a table need not
/// have any, and only columns of those names are left out of the features.
pub(super) fn label_columns(row: &Row, path: &Path, options: &Options, labelled: bool) -> Result<Vec<usize>, Error> {
    let find = |name: &str| row.columns.iter().position(|column| column == name);
    if !labelled {
        let named = options.label.iter().map(String::as_str).chain(["label"]);
        return Ok(named.filter_map(find).collect());
    }
    if options.label.is_empty() {
        return Ok(vec![find("label").unwrap_or(row.columns.len() - 1)]);
    }
    let missing = |name: &String| {
        Error::line(path, 1, format!("no label column `{name}`; the columns are {}", row.columns.join(", ")))
    };
    options.label.iter().map(|name| find(name).ok_or_else(|| missing(name))).collect()
}

/// Numbers and labels of a table.
///
/// # Errors
/// A cell that is no finite number, a list of another length than the first row's, or what `records` refuses.
pub(super) fn numbers(path: &Path, format: Format, options: &Options, labelled: bool) -> Result<Numbers, Error> {
    let mut found = LabelCells::new(path);
    let mut values: Vec<f32> = Vec::new();
    let mut width = 0;
    let mut label = Vec::new();
    records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        let first = found.lines.is_empty();
        if first {
            label = label_columns(&row, path, options, labelled)?;
        }
        let before = values.len();
        for column in (0..row.columns.len()).filter(|column| !label.contains(column)) {
            push_numbers(&row.cells[column], &mut values).map_err(|cell| {
                let problem = format!("column `{}`: `{cell}` is no finite number", row.columns[column]);
                let remedy = "correct or remove the row (for text, give the model's tokenizer.json)";
                Error::line(path, row.line, format!("{problem}; {remedy}"))
            })?;
        }
        let count = values.len() - before;
        if first {
            width = count;
        }
        if count != width || count == 0 {
            return Err(Error::line(path, row.line, format!("{count} numbers where {} are expected", width.max(1))));
        }
        let cells: &[usize] = if labelled { &label } else { &[] };
        found.push(&row, cells);
        Ok(())
    })?;
    let labels = found.labels(options, labelled)?;
    let shape = vec![found.lines.len() as u64, width as u64];
    let dtype = options.inputs.first().map(|(_, dtype)| *dtype);
    let features = Array::of_floats(shape, values).tensor(dtype);
    let features = features.map_err(|problem| Error::content(path, problem))?;
    Ok(Numbers { features, labels, names: found.names() })
}

/// A table that has been read.
pub(super) struct Numbers {
    /// `[rows, features]`, f32 unless the model's input has another type, in the order of columns.
    pub features: Tensor,
    pub labels: Labels,
    pub names: Names,
}

/// A number, a truth value, or a list of numbers. On failure gives the cell or part that is none.
fn push_numbers(cell: &str, values: &mut Vec<f32>) -> Result<(), String> {
    let cell = cell.trim();
    let list = cell.strip_prefix('[').and_then(|cell| cell.strip_suffix(']'));
    for part in list.unwrap_or(cell).split(',') {
        values.push(match part.trim() {
            "true" => 1.0,
            "false" => 0.0,
            part => finite(part).ok_or(part)?,
        });
    }
    Ok(())
}

/// Photographs that a table names, relative to its folder; those that cannot be used are listed and their rows left out.
///
/// # Errors
/// A table without a column `file`, `image` or `path`, or without one usable photograph.
pub(super) fn images(path: &Path, format: Format, options: &Options) -> Result<(Files, Labels, Report), Error> {
    let mut found = LabelCells::new(path);
    let mut report = Report::default();
    let mut files = Files::default();
    let mut columns = None;
    records::read(path, format, options.limits.table_bytes_max, &mut |row| {
        let (file, label) = match &columns {
            Some(columns) => columns,
            None => columns.insert((file_column(&row, path)?, label_columns(&row, path, options, true)?)),
        };
        let image = path.parent().unwrap_or(Path::new("")).join(&row.cells[*file]);
        match files.push(&image, &mut Kind::Image, &options.limits) {
            Ok(()) => found.push(&row, label),
            Err(reason) => report.skipped.push((image, reason)),
        }
        Ok(())
    })?;
    if files.len() == 0 {
        let problem = format!("none of the {} images that it names can be used", report.skipped.len());
        return Err(Error::content(path, problem));
    }
    let labels = found.labels(options, true)?;
    Ok((files, labels, report))
}

fn file_column(row: &Row, path: &Path) -> Result<usize, Error> {
    let column = row.columns.iter().position(|column| FILE_COLUMNS.contains(&column.as_str()));
    column.ok_or_else(|| Error::line(path, 1, "a table of images needs a column `file` with their paths"))
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
    let visible = folder::visible(path)?;
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
