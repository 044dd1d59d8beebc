//! YOLO's folders: `images/`, `labels/` with a text file for each photograph, and `data.yaml` with the classes' names.
//!
//! A row is `class x y width height`, the centre and the sizes as shares of the photograph; or `class x1 y1 x2 y2 …`, an outline.

use super::yaml::{Held, held};
use super::{At, Marked, ReadBoxes, Told};
use crate::data::filesystem::{below, has_image_name, read_at_most};
use crate::data::{Error, Limits};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Where the parts lie.
pub(super) struct Layout {
    images: PathBuf,
    /// `data.yaml`, or a file with a name a line.
    names: Option<PathBuf>,
}

/// Folders above the photographs in which their names are looked for.
const ABOVE: usize = 4;
const IMAGES: &str = "images";
const LABELS: &str = "labels";

/// As `data.yaml` says, whose `train` is what is learned.
pub(super) fn layout_of_yaml(yaml: &Path) -> Option<Layout> {
    let text = std::fs::read_to_string(yaml).ok()?;
    let text_of = |key: &str| match held(&text, key) {
        Ok(Some(Held::Text(value))) => Some(value),
        _ => None,
    };
    let (folder, train) = (yaml.parent()?, text_of("train")?);
    let root = text_of("path").map(|path| folder.join(path)).filter(|path| path.is_dir());
    let roots = [root.as_deref(), Some(folder)];
    // Some programs write `../train/images` for a folder that lies beside the file.
    let names = [train.as_str(), train.trim_start_matches("../")];
    let mut places = roots.into_iter().flatten().flat_map(|root| names.map(|name| root.join(name)));
    let images = places.find(|place| place.is_dir()).unwrap_or_else(|| folder.join(&train));
    Some(Layout { images, names: Some(yaml.into()) })
}

/// A folder that holds `images` and `labels`, or one below `images` that has its fellow below `labels`.
pub(super) fn layout_of_folder(root: &Path, entries: &[PathBuf]) -> Option<Layout> {
    let has = |name: &str| entries.iter().any(|entry| entry.is_dir() && entry.ends_with(name));
    let images = match has(IMAGES) && has(LABELS) {
        true => root.join(IMAGES),
        false => root.to_path_buf(),
    };
    let labels = labels_of(&images).filter(|labels| labels.is_dir() && *labels != images)?;
    let is_text = |path: &PathBuf| path.extension().is_some_and(|found| found.eq_ignore_ascii_case("txt"));
    below(&labels).ok()?.iter().any(is_text).then(|| Layout { names: names_near(&images, &labels), images })
}

/// The folder or file below `labels` that belongs to one below `images`: the last folder of that name is another.
fn labels_of(images: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = images.iter().collect();
    let place = parts.iter().rposition(|part| *part == IMAGES)?;
    let named = parts.iter().enumerate().map(|(at, part)| if at == place { OsStr::new(LABELS) } else { *part });
    Some(named.collect())
}

fn names_near(images: &Path, labels: &Path) -> Option<PathBuf> {
    let listed = labels.join("classes.txt");
    let above = images.ancestors().take(ABOVE);
    let mut files =
        above.flat_map(|folder| ["data.yaml", "data.yml", "dataset.yaml", "classes.txt"].map(|name| folder.join(name)));
    if listed.is_file() { Some(listed) } else { files.find(|file| file.is_file()) }
}

/// Reads the rows of all photographs. One without a file of rows has no object.
///
/// # Errors
/// No photographs, no names that fit, a row that is none.
pub(super) fn read(layout: &Layout, limits: &Limits) -> Result<ReadBoxes, Error> {
    let images: Vec<PathBuf> = below(&layout.images)?.into_iter().filter(|path| has_image_name(path)).collect();
    let mut names = match &layout.names {
        Some(file) => names_of(file)?,
        None => Vec::new(),
    };
    let known = (!names.is_empty()).then_some(names.len());
    let mut pictures = Vec::with_capacity(images.len());
    let mut rows_read = 0;
    for image in images {
        let labels = labels_of(&image).unwrap_or_else(|| image.clone()).with_extension("txt");
        let mut boxes = Vec::new();
        if labels.is_file() {
            rows_read += 1;
            let bytes = read_at_most(&labels, limits.table_bytes_max).map_err(|source| Error::io(&labels, source))?;
            for (line, row) in (1..).zip(String::from_utf8_lossy(&bytes).lines()) {
                if row.trim().is_empty() {
                    continue;
                }
                let at = At::Line(labels.clone(), line);
                let (class, corners) = one(row).map_err(|problem| at.refuse(&problem))?;
                if let Some(count) = known.filter(|count| class >= *count) {
                    return Err(
                        at.refuse(&format!("class {class} is beyond the {count} names, counted from 0; add its name"))
                    );
                }
                while names.len() <= class {
                    names.push(names.len().to_string());
                }
                boxes.push(Told { class: names[class].clone(), corners, crowd: false, at });
            }
        }
        pictures.push(Marked { at: At::Field(layout.images.clone(), "a photograph".into()), path: image, boxes });
    }
    if rows_read == 0 {
        let problem = "none of its photographs has a .txt of its name below `labels`; export them together";
        return Err(Error::content(&layout.images, problem));
    }
    Ok(ReadBoxes { pictures, names, shares: true })
}

/// Classes' numbers are bounded, for each has a name in memory.
const CLASSES_MAX: usize = 100_000;

/// A row's class and corners.
fn one(row: &str) -> Result<(usize, [f64; 4]), String> {
    let cells: Vec<&str> = row.split_whitespace().collect();
    let class = cells[0].parse::<usize>().ok().filter(|class| *class < CLASSES_MAX);
    let class = class.ok_or_else(|| format!("`{}` is no class's number; write it first", cells[0]))?;
    let number = |cell: &&str| cell.parse::<f64>().map_err(|_| format!("`{cell}` is no number; correct the row"));
    let values: Vec<f64> = cells[1..].iter().map(number).collect::<Result<_, _>>()?;
    if let [x, y, width, height] = values[..] {
        return Ok((class, [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]));
    }
    if values.len() < 6 || !values.len().is_multiple_of(2) {
        return Err(format!(
            "{} numbers behind the class; write 4 (centre, width and height) or the points of an outline",
            values.len()
        ));
    }
    let along = |axis: usize| values.iter().skip(axis).step_by(2).copied();
    let (least, most) =
        (|axis| along(axis).fold(f64::INFINITY, f64::min), |axis| along(axis).fold(f64::NEG_INFINITY, f64::max));
    if values.iter().any(|value| value.is_nan()) {
        return Ok((class, [f64::NAN; 4]));
    }
    Ok((class, [least(0), least(1), most(0), most(1)]))
}

fn names_of(file: &Path) -> Result<Vec<String>, Error> {
    let text = std::fs::read_to_string(file).map_err(|source| Error::io(file, source))?;
    if file.extension().is_some_and(|found| found == "txt") {
        return Ok(text.lines().map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect());
    }
    match held(&text, "names").map_err(|(line, problem)| Error::line(file, line, problem))? {
        Some(Held::List(names)) => Ok(names),
        Some(Held::Text(_)) => Err(Error::content(file, "`names` is no list; write `names: [cat, dog]`")),
        None => {
            Err(Error::content(file, "no `names`; write `names: [cat, dog]`, in the order of the classes' numbers"))
        }
    }
}
