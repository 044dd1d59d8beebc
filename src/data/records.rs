//! Rows of CSV, TSV and JSONL files (and lines of text), one after the other, as text cells with their line.
//!
//! Takes a path and calls back with each row; keeps nothing. A row with other columns than the first is an error: it is
//! never filled up or cut off.

use super::{Error, folder};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::path::Path;

/// What a row looks like to its reader.
pub(super) struct Row<'a> {
    /// Column names: the header of a CSV file, the first line's keys of a JSONL file.
    pub columns: &'a [String],
    /// One cell a column: text as it is, numbers and lists as JSON writes them, `null` as an empty cell.
    pub cells: &'a [String],
    /// The row's first line, from 1.
    pub line: u64,
}

/// Kinds of files that hold rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Cells separated by this byte, with a header.
    Separated(u8),
    /// One JSON object a line.
    JsonLines,
    /// One text a line.
    Lines,
}

/// The format that a file's name promises.
pub(super) fn format(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" => Some(Format::Separated(b',')),
        "tsv" => Some(Format::Separated(b'\t')),
        "jsonl" | "ndjson" => Some(Format::JsonLines),
        "txt" => Some(Format::Lines),
        _ => None,
    }
}

/// Calls `each` with every row of a file.
///
/// # Errors
/// A file that is unreadable, larger than `bytes_max` or no UTF-8; a row that does not parse or has other columns than
/// the first; no row at all; and whatever `each` returns.
pub(super) fn read(
    path: &Path,
    format: Format,
    bytes_max: u64,
    each: &mut dyn FnMut(Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let bytes = folder::read_at_most(path, bytes_max).map_err(|source| Error::io(path, source))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() as u64;
        Error::line(path, line, "not UTF-8; save the file as UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = 0u64;
    let mut counting = |row: Row| {
        rows += 1;
        each(row)
    };
    match format {
        Format::Separated(separator) => separated(path, text, separator, &mut counting)?,
        Format::JsonLines => json_lines(path, text, &mut counting)?,
        Format::Lines => lines(text, &mut counting)?,
    }
    match rows {
        0 => Err(Error::content(path, "no rows")),
        _ => Ok(()),
    }
}

fn separated(
    path: &Path,
    text: &str,
    separator: u8,
    each: &mut dyn FnMut(Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| Error::line(path, 1, error.to_string()))?;
    let columns: Vec<String> = header.iter().map(|name| name.trim().to_string()).collect();
    if columns.iter().any(|name| name.parse::<f64>().is_ok()) {
        return Err(Error::line(path, 1, "the first line holds numbers; put a line with column names above it"));
    }
    refuse_doubles(path, &columns)?;
    let mut record = csv::StringRecord::new();
    let mut cells = Vec::new();
    loop {
        let line = reader.position().line();
        if !reader.read_record(&mut record).map_err(|error| Error::line(path, line, error.to_string()))? {
            return Ok(());
        }
        // The reader counts blank lines before a record as part of it.
        let start = record.position().map_or(text.len(), |position| position.byte() as usize);
        let blank = text.as_bytes()[start.min(text.len())..]
            .iter()
            .take_while(|byte| b"\r\n".contains(byte))
            .filter(|byte| **byte == b'\n');
        let line = line + blank.count() as u64;
        if record.len() != columns.len() {
            let problem = format!("{} cells in a table of {} columns", record.len(), columns.len());
            return Err(Error::line(path, line, problem));
        }
        cells.clear();
        cells.extend(record.iter().map(str::to_string));
        each(Row { columns: &columns, cells: &cells, line })?;
    }
}

fn json_lines(path: &Path, text: &str, each: &mut dyn FnMut(Row) -> Result<(), Error>) -> Result<(), Error> {
    let mut columns: Vec<String> = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let object: Object = serde_json::from_str(text).map_err(|error| {
            Error::line(path, line, format!("no JSON object such as {{\"text\": \"…\", \"label\": \"…\"}} ({error})"))
        })?;
        let (mut keys, mut cells): (Vec<String>, Vec<String>) = object.0.into_iter().unzip();
        if columns.is_empty() {
            refuse_doubles(path, &keys)?;
            columns = keys;
        } else if keys != columns {
            // The same keys in another order are the same row.
            cells = columns.iter().filter_map(|column| take(&mut keys, &mut cells, column)).collect();
            if cells.len() != columns.len() || !keys.is_empty() {
                return Err(Error::line(
                    path,
                    line,
                    format!("other keys than the first line's ({})", columns.join(", ")),
                ));
            }
        }
        each(Row { columns: &columns, cells: &cells, line })?;
    }
    Ok(())
}

fn take(keys: &mut Vec<String>, cells: &mut Vec<String>, column: &String) -> Option<String> {
    let place = keys.iter().position(|key| key == column)?;
    keys.swap_remove(place);
    Some(cells.swap_remove(place))
}

/// Lines of plain text: `label<TAB>text`, or `text` alone.
fn lines(text: &str, each: &mut dyn FnMut(Row) -> Result<(), Error>) -> Result<(), Error> {
    let columns = ["label".to_string(), "text".to_string()];
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let (label, text) = text.split_once('\t').unwrap_or(("", text));
        each(Row { columns: &columns, cells: &[label.to_string(), text.to_string()], line })?;
    }
    Ok(())
}

fn refuse_doubles(path: &Path, columns: &[String]) -> Result<(), Error> {
    match columns.iter().enumerate().find(|(place, name)| columns[..*place].contains(name)) {
        Some((_, name)) => Err(Error::line(path, 1, format!("two columns are named `{name}`; rename one"))),
        None => Ok(()),
    }
}

/// A JSON object in the order in which it is written: the order of columns is the order of a model's inputs.
struct Object(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, serde_json::Value>()? {
                    let cell = match value {
                        serde_json::Value::Null => String::new(),
                        serde_json::Value::String(text) => text,
                        other => other.to_string(),
                    };
                    pairs.push((key, cell));
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
