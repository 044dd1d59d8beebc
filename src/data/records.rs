//! Rows of CSV, TSV and JSONL files (and lines of text), one after the other, as text cells with their line.
//!
//! Takes a path and calls back with each row; keeps nothing. A row with other columns than the first is an error: it is
//! never filled up or cut off.

use super::first_line::{self, First};
use super::{Error, decoding, filesystem, foreign};
use crate::amounts::counted;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::collections::HashSet;
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
    /// Whether `1,5` is a number, as spreadsheets write it where commas do not separate the cells.
    pub decimal_comma: bool,
    /// Whether the file names its columns; else they are numbered.
    pub is_named: bool,
}

/// Kinds of files that hold rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Cells with a header, separated by this byte unless the file says otherwise.
    Separated(u8),
    /// One JSON object a line.
    JsonLines,
    /// One text a line.
    Lines,
    /// A word a line with its tag, sentences apart by an empty line.
    Words,
}

/// What to do about files that people have and that are not read.
pub(super) fn remedy(path: &Path) -> Option<&'static str> {
    Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "xlsx" | "xls" | "xlsm" | "ods" | "numbers" => {
            "a spreadsheet; save it as CSV (in Excel: Save As, CSV UTF-8) and give that file"
        }
        "parquet" | "feather" | "arrow" => "a table that is not read; write it as CSV or JSONL (pandas: df.to_csv)",
        "json" => {
            "JSON as a whole; write one object a line and name the file .jsonl (pandas: df.to_json(orient='records', lines=True))"
        }
        "pkl" | "pickle" | "pt" | "pth" => "Python objects, which are not read; save arrays with numpy.savez",
        "conllu" => {
            "CoNLL-U, which has several labels a word; write lines of word<TAB>tag with an empty line between sentences, and name the file .conll"
        }
        "zip" | "tar" | "gz" | "tgz" | "7z" | "rar" => "an archive; unpack it and give the folder",
        _ => return None,
    })
}

/// The format that a file's name promises.
pub(super) fn format(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" => Some(Format::Separated(b',')),
        "tsv" => Some(Format::Separated(b'\t')),
        "jsonl" | "ndjson" => Some(Format::JsonLines),
        "txt" => Some(Format::Lines),
        "conll" | "iob" | "iob2" | "bio" => Some(Format::Words),
        _ => None,
    }
}

/// Calls `each` with every row of a file, and gives what a person should know of how it was read.
///
/// # Errors
/// A file that is unreadable, larger than `bytes_max` or no text; a row that does not parse or has other columns than
/// the first; no row at all; and whatever `each` returns.
pub(super) fn read(
    path: &Path,
    format: Format,
    bytes_max: u64,
    each: &mut dyn FnMut(Row) -> Result<(), Error>,
) -> Result<Vec<String>, Error> {
    let bytes = filesystem::read_at_most(path, bytes_max).map_err(|source| Error::io(path, source))?;
    read_bytes(path, format, &bytes, each)
}

/// As [`read`], of bytes that are at hand; `path` is what errors call them.
///
/// # Errors
/// As [`read`].
pub(super) fn read_bytes(
    path: &Path,
    format: Format,
    bytes: &[u8],
    each: &mut dyn FnMut(Row) -> Result<(), Error>,
) -> Result<Vec<String>, Error> {
    let (text, encoding) = decoding::decode(bytes).map_err(|problem| Error::content(path, problem))?;
    let remedy = "if letters are wrong, save the file as UTF-8";
    let mut notes: Vec<String> =
        encoding.map(|encoding| format!("{}: read as {encoding}; {remedy}", path.display())).into_iter().collect();
    let mut rows = 0u64;
    let mut counting = |row: Row| {
        rows += 1;
        each(row)
    };
    match format {
        Format::Separated(usual) => separated(path, &text, usual, &mut notes, &mut counting)?,
        Format::JsonLines => json_lines(path, &text, &mut counting)?,
        Format::Words => return Err(Error::content(path, foreign::TAGGED)),
        Format::Lines if foreign::is_conll(&text) => return Err(Error::content(path, foreign::TAGGED)),
        Format::Lines => lines(&text, &mut counting)?,
    }
    match rows {
        0 => Err(Error::content(path, "no rows")),
        _ => Ok(notes),
    }
}

/// What separates the cells, and how many lines come before the header: what Excel's line `sep=;` says, else what divides the first
/// rows alike, and into most cells.
fn separator(text: &str, usual: u8) -> (u8, usize) {
    const ROWS: usize = 20;
    let first = text.lines().next().unwrap_or_default();
    if let Some(&[said]) = first.strip_prefix("sep=").map(|said| said.trim_end_matches('\r').as_bytes()) {
        return (said, 1);
    }
    let divided = |separator: u8| {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator)
            .flexible(true)
            .has_headers(false)
            .from_reader(text.as_bytes());
        let widths: Vec<usize> = reader.records().take(ROWS).map_while(Result::ok).map(|row| row.len()).collect();
        let width = widths.first().copied().unwrap_or(0);
        let alike = widths.iter().all(|other| *other == width);
        (alike && width > 1, width)
    };
    let mut best = (divided(usual), usual);
    for candidate in [b';', b'\t', b',', b'|'] {
        let found = divided(candidate);
        if found > best.0 {
            best = (found, candidate);
        }
    }
    (best.1, 0)
}

fn separated(
    path: &Path,
    text: &str,
    usual: u8,
    notes: &mut Vec<String>,
    each: &mut dyn FnMut(Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let (separator, before) = separator(text, usual);
    let text = if before == 0 { text } else { text.split_once('\n').map_or("", |(_, rest)| rest) };
    let before = before as u64;
    if separator != usual {
        let what = if separator == b'\t' { "tabs".into() } else { format!("`{}`", char::from(separator)) };
        notes.push(format!("{}: cells are separated by {what}", path.display()));
    }
    let (header, has_names) = header(path, text, separator, before, notes)?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .flexible(true)
        .has_headers(has_names)
        .from_reader(text.as_bytes());
    if has_names {
        // Read here, so that the first row begins where it stands.
        reader.headers().map_err(|error| Error::line(path, 1 + before, error.to_string()))?;
    }
    let kept = named_columns(&header);
    if !header.is_empty() && !kept.contains(&0) {
        notes.push(format!("{}: the first column has no name and is left out, as an index of rows", path.display()));
    }
    // By place: a table may have a million columns.
    let is_kept: HashSet<usize> = kept.iter().copied().collect();
    let columns: Vec<String> = kept.iter().map(|place| header[*place].clone()).collect();
    refuse_doubles(path, &columns)?;
    let mut record = csv::StringRecord::new();
    let mut cells = Vec::new();
    loop {
        let line = reader.position().line();
        if !reader.read_record(&mut record).map_err(|error| Error::line(path, line + before, error.to_string()))? {
            return Ok(());
        }
        let start = record.position().map_or(text.len(), |position| position.byte() as usize);
        let line = line + before + blank_lines(&text.as_bytes()[start.min(text.len())..]);
        refuse_other_width(path, line, record.len(), header.len())?;
        if record.iter().all(|cell| cell.trim().is_empty()) && header.len() > 1 {
            // What a spreadsheet writes for rows that were emptied.
            continue;
        }
        let nameless = |place: &usize| *place > 0 && !is_kept.contains(place) && !record[*place].trim().is_empty();
        if let Some(place) = (0..header.len()).find(nameless) {
            let problem = format!("column {} has no name; write one into the first line", place + 1);
            return Err(Error::line(path, line, problem));
        }
        cells.clear();
        cells.extend(kept.iter().map(|place| record[*place].to_string()));
        each(Row { columns: &columns, cells: &cells, line, decimal_comma: separator != b',', is_named: has_names })?;
    }
}

/// Blank lines before a record, which the reader counts as part of it.
fn blank_lines(bytes: &[u8]) -> u64 {
    bytes.iter().take_while(|byte| b"\r\n".contains(byte)).filter(|byte| **byte == b'\n').count() as u64
}

fn refuse_other_width(path: &Path, line: u64, found: usize, wanted: usize) -> Result<(), Error> {
    if found == wanted {
        return Ok(());
    }
    let (cells, columns) = (counted(found, "cell"), counted(wanted, "column"));
    let problem =
        format!("{cells} in a table of {columns}; fill the row up, or put a text with the separator in it in quotes");
    Err(Error::line(path, line, problem))
}

/// The names of the columns, and whether the first line is what names them: where it is a row, which is told, they are numbered.
///
/// # Errors
/// A first line that cannot be read, or that holds numbers above words.
fn header(
    path: &Path,
    text: &str,
    separator: u8,
    before: u64,
    notes: &mut Vec<String>,
) -> Result<(Vec<String>, bool), Error> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(separator).flexible(true).has_headers(false).from_reader(text.as_bytes());
    let cells = |row: csv::StringRecord| row.iter().map(|cell| cell.trim().to_string()).collect::<Vec<_>>();
    let mut rows = reader.records();
    let line = match rows.next() {
        Some(row) => cells(row.map_err(|error| Error::line(path, 1 + before, error.to_string()))?),
        None => Vec::new(),
    };
    let below: Vec<Vec<String>> = rows.take(first_line::LINES).map_while(Result::ok).map(cells).collect();
    match first_line::first(&line, &below, separator != b',') {
        First::Names => Ok((line, true)),
        First::Unclear => {
            let problem = "the first line holds numbers above words; put a line with column names above it";
            Err(Error::line(path, 1 + before, problem))
        }
        First::Row(reason) => {
            // A separator at the end of each line begins no column.
            let is_used = |place: usize| {
                [&line].into_iter().chain(&below).any(|row| row.get(place).is_some_and(|cell| !cell.is_empty()))
            };
            let name = |place: usize| if is_used(place) { format!("column{}", place + 1) } else { String::new() };
            let names: Vec<String> = (0..line.len()).map(name).collect();
            notes.push(format!(
                "{}: the first line is read as a sample, for {reason}; the columns are called column1 to column{} (a line of names \
                 above it names them)",
                path.display(),
                names.len()
            ));
            Ok((names, false))
        }
    }
}

/// The columns that have a name. The first has none where pandas wrote its index, the last where a line ends with a separator.
fn named_columns(header: &[String]) -> Vec<usize> {
    let is_index = |place: usize| place == 0 && header.len() > 1 && header[0] == "Unnamed: 0";
    let named: Vec<usize> = (0..header.len()).filter(|place| !header[*place].is_empty() && !is_index(*place)).collect();
    if named.is_empty() { (0..header.len()).collect() } else { named }
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
        each(Row { columns: &columns, cells: &cells, line, decimal_comma: false, is_named: true })?;
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
        each(Row {
            columns: &columns,
            cells: &[label.to_string(), text.to_string()],
            line,
            decimal_comma: false,
            is_named: true,
        })?;
    }
    Ok(())
}

fn refuse_doubles(path: &Path, columns: &[String]) -> Result<(), Error> {
    // A table may have a million columns.
    let mut seen = HashSet::new();
    match columns.iter().find(|name| !seen.insert(*name)) {
        Some(name) => Err(Error::line(path, 1, format!("two columns are named `{name}`; rename one"))),
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
