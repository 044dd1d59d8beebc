//! Pictures of text lines with what stands in them, as people have them: a table, PaddleOCR's list, or a text beside each picture.
//!
//! Gives files and [`Labels::Lines`], and how wide the widest picture is. Decodes no picture.

use super::columns;
use super::folder::{Files, Kind};
use super::image;
use super::labels::{self, Cells};
use super::records::{self, Format};
use super::table::{self, Told};
use super::usual::TEXTS;
use super::{Error, Options, ReadingReport, filesystem};
use std::path::{Path, PathBuf};

/// What a column of texts is called besides the usual names.
const TRANSCRIPTS: [&str; 9] =
    ["transcription", "transcript", "label", "labels", "words", "word", "ground_truth", "gt", "string"];
/// How the name of a text beside a picture ends in the place of the picture's ending: Tesseract's first.
const BESIDE: [&str; 2] = ["gt.txt", "txt"];
/// How PaddleOCR's lists are called, and what stands for any of them in a folder.
const LISTS: [&str; 3] = ["rec_gt_train.txt", "rec_gt.txt", "labels.txt"];

/// What is said of data that are none of these.
const NONE: &str = "no pictures with texts; give a table with the columns `file` and `text`, a list of path and text with a tab \
                    between them, or pictures with NAME.gt.txt beside each";

/// Where texts are written.
enum Source {
    /// A table, or a list of a path and a text behind a tab; with the folder that they are to lie in where the table tells of others, too.
    Table(PathBuf, Format, Option<PathBuf>),
    /// Pictures, each with a file of its text.
    Beside(Vec<(PathBuf, PathBuf)>),
}

/// Whether data are pictures with a text each.
pub fn holds_lines(path: &Path, options: &Options) -> bool {
    match source(path) {
        Ok(Some(Source::Beside(_))) => true,
        Ok(Some(Source::Table(file, format, _))) => {
            columns_of(&file, format, options).is_ok()
                && table::names_in_first_row(&file, format, &filesystem::has_image_name)
        }
        _ => false,
    }
}

fn source(path: &Path) -> Result<Option<Source>, Error> {
    if path.is_file() {
        return Ok(records::format(path).map(|format| Source::Table(path.into(), format, None)));
    }
    let table = |file: PathBuf| records::format(&file).map(|format| Source::Table(file, format, None));
    if let Some(file) = table_in(path)? {
        return Ok(table(file));
    }
    let pictures = filesystem::below(path)?.into_iter().filter(|file| filesystem::has_image_name(file));
    let found = pictures.filter_map(|picture| {
        let text = BESIDE.map(|ending| picture.with_extension(ending)).into_iter().find(|text| text.is_file());
        Some((picture.clone(), text?))
    });
    let found: Vec<_> = found.collect();
    if !found.is_empty() {
        return Ok(Some(Source::Beside(found)));
    }
    // A part of a data set whose table lies above all parts. What else lies there is no matter of these data.
    let Some(above) = path.parent() else { return Ok(None) };
    let listed = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    let found = table_in(listed).ok().flatten().map(|file| above.join(file.file_name().unwrap_or_default()));
    Ok(found.and_then(|file| records::format(&file).map(|format| Source::Table(file, format, Some(path.into())))))
}

/// The table or list in a folder: the only table there is, the one called `train`, or a list of a usual name.
fn table_in(path: &Path) -> Result<Option<PathBuf>, Error> {
    let visible = filesystem::visible(path)?;
    let lists: Option<&PathBuf> = LISTS.iter().find_map(|name| visible.iter().find(|file| file.ends_with(name)));
    let rows = |file: &&PathBuf| {
        file.is_file() && records::format(file).is_some_and(|format| !matches!(format, Format::Lines | Format::Words))
    };
    let tables: Vec<&PathBuf> = visible.iter().filter(rows).collect();
    let train = tables.iter().find(|file| file.file_stem().is_some_and(|stem| stem == "train"));
    match (&tables[..], train.copied().or(lists)) {
        ([one], _) => Ok(Some((*one).clone())),
        (_, Some(file)) => Ok(Some(file.clone())),
        ([one, other, ..], None) => {
            let problem = format!("several tables, such as {} and {}; give one", one.display(), other.display());
            Err(Error::content(path, problem))
        }
        ([], None) => Ok(None),
    }
}

/// The options with the columns of files and texts, and a line that tells them where they were not named.
fn columns_of(path: &Path, format: Format, options: &Options) -> Result<(Options, Option<String>), Error> {
    if format == Format::Lines {
        // The reader of lines calls what stands before the tab a label.
        let (file, label) = (Some("label".into()), vec!["text".into()]);
        return Ok((Options { file, label, ..options.clone() }, None));
    }
    let header = table::header(path)?;
    let find = |name: &str| header.iter().find(|column| column.eq_ignore_ascii_case(name));
    let named = options.label.first().or(options.text.as_ref());
    let usual = || TEXTS.iter().chain(&TRANSCRIPTS).find_map(|name| find(name)).or_else(|| other(&header, options));
    let Some(text) = named.or_else(usual).cloned() else {
        let problem = format!(
            "no column `text` with what stands in each picture; name it with setting `samples.text = COLUMN`; the columns are {}",
            header.join(", ")
        );
        return Err(Error::line(path, 1, problem));
    };
    let note =
        named.is_none().then(|| format!("columns   text: column {text}; setting `samples.text` COLUMN to change"));
    Ok((Options { label: vec![text], text: None, ..options.clone() }, note))
}

/// The column that is left where there are but two.
fn other<'h>(header: &'h [String], options: &Options) -> Option<&'h String> {
    let is_file = |column: &str| {
        let names = options.file.iter().map(String::as_str).chain(columns::FILES.iter().copied());
        names.into_iter().any(|name| name.eq_ignore_ascii_case(column))
    };
    match header {
        [one, other] if is_file(one) => Some(other),
        [one, other] if is_file(other) => Some(one),
        _ => None,
    }
}

/// Pictures with their texts.
///
/// # Errors
/// No texts; a character that is not among the classes, or a text that needs more steps than the model gives, each with its line.
pub(super) fn open(path: &Path, options: &Options) -> Result<(Files, Told), Error> {
    let source = source(path)?;
    match source {
        Some(Source::Table(file, format, below)) => {
            let (options, note) = columns_of(&file, format, options)?;
            let options = Options { below, ..options };
            let (files, mut told) = table::files(&file, format, &mut Kind::Image, (&options, true))?;
            told.report.notes.extend(note);
            told.report.notes.push(format!(
                "texts     {} pictures with a text each in {}",
                files.len(),
                file.display()
            ));
            Ok((files, told))
        }
        Some(Source::Beside(pairs)) => beside(path, pairs, options),
        None => Err(Error::content(path, NONE)),
    }
}

/// Pictures with a file of its text beside each. One whose text is empty is left out.
fn beside(root: &Path, pairs: Vec<(PathBuf, PathBuf)>, options: &Options) -> Result<(Files, Told), Error> {
    let (mut files, mut cells, mut texts, mut report) =
        (Files::default(), Cells::default(), Vec::new(), ReadingReport::default());
    for (picture, path) in pairs {
        let bytes = filesystem::read_limited(&path, &options.limits).map_err(|source| Error::io(&path, source))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::content(&path, "no UTF-8; save it so"))?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            report.skipped.push((path, "no text; write what stands in the picture, or remove both".into()));
            continue;
        }
        match files.push(&picture, &mut Kind::Image, &options.limits) {
            Ok(()) => cells.push(std::iter::once(text)),
            Err(reason) => {
                report.skipped.push((picture, reason));
                continue;
            }
        }
        texts.push(path);
    }
    if files.len() == 0 {
        return Err(Error::content(root, "no picture with a text that can be read; see what was left out"));
    }
    let at = |row: usize, problem: String| Error::content(&texts[row], problem);
    let labels = labels::lines(&cells, options, &at)?;
    report.notes.push(format!("texts     {} pictures with a file of its text beside each", files.len()));
    let names = super::Names::Files(files.paths.clone());
    Ok((files, Told { labels, names, groups: None, report }))
}

/// Width over height of the widest picture; `None` where none can be read.
///
/// # Errors
/// No texts, or a list of them that cannot be read.
pub fn widest(path: &Path, options: &Options) -> Result<Option<f64>, Error> {
    let pictures: Vec<PathBuf> = match source(path)? {
        Some(Source::Table(file, format, below)) => {
            let (options, _) = columns_of(&file, format, options)?;
            let named = table::named_files(&file, format, &options).into_iter().map(|(picture, _)| picture);
            named.filter(|picture| below.as_ref().is_none_or(|folder| picture.starts_with(folder))).collect()
        }
        Some(Source::Beside(pairs)) => pairs.into_iter().map(|(picture, _)| picture).collect(),
        None => return Err(Error::content(path, NONE)),
    };
    let ratio = |picture: &PathBuf| {
        let bytes = filesystem::map_at_most(picture, options.limits.file_bytes_max).ok()?;
        let [width, height] = image::size(&bytes, &options.limits).ok()?;
        Some(f64::from(width) / f64::from(height))
    };
    Ok(pictures.iter().filter_map(ratio).max_by(f64::total_cmp))
}
