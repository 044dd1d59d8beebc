//! Photographs with boxes around objects: COCO's JSON, YOLO's folders and Pascal VOC's XML → one form.
//!
//! Takes a path and gives photographs, each with its size in pixels and its boxes. What reaches beyond a photograph is cut off at
//! its edge and told; a photograph without boxes is a sample, too.

mod coco;
mod grid;
mod voc;
mod xml;
mod yaml;
mod yolo;

pub use grid::{Cell, Grid};

use super::classes::Names;
use super::filesystem::{read_limited, visible};
use super::folder::Files;
use super::labels::{Labels, unknown_class};
use super::{Error, Options, ReadingReport, image};
use std::path::{Path, PathBuf};

/// An object in a photograph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Object {
    /// The place of its class among the names.
    pub class: u32,
    /// Left, top, right and bottom edge in pixels, from the photograph's upper left corner.
    pub corners: [f32; 4],
    /// Whether it is many objects that nobody has told apart: it is neither learned nor missed.
    pub crowd: bool,
}

/// A photograph's size and the objects in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Width and height in pixels.
    pub size: [u32; 2],
    /// What was marked.
    pub objects: Vec<Object>,
}

/// Where something stands that may be wrong.
enum At {
    /// A line of a file, from 1.
    Line(PathBuf, u64),
    /// A field of a file.
    Field(PathBuf, String),
}

impl At {
    fn refuse(&self, problem: &str) -> Error {
        match self {
            Self::Line(path, line) => Error::line(path, *line, problem),
            Self::Field(path, field) => Error::content(path, format!("{field}: {problem}")),
        }
    }
}

/// A box as a file has it.
struct Told {
    class: String,
    /// Left, top, right, bottom: in pixels, or as shares of the photograph.
    corners: [f64; 4],
    crowd: bool,
    at: At,
}

/// A photograph as a file has it.
struct Marked {
    path: PathBuf,
    /// Where it is named.
    at: At,
    boxes: Vec<Told>,
}

/// All that a reader has found.
struct ReadBoxes {
    pictures: Vec<Marked>,
    /// The classes in the file's order, also those without a box.
    names: Vec<String>,
    /// Whether corners are shares of the photograph instead of pixels.
    shares: bool,
}

/// Which form data have.
enum BoxFormat {
    Coco(PathBuf),
    Yolo(yolo::Layout),
    Voc(PathBuf),
}

/// The form of data with boxes, by names and by what a file begins with; `None` for other data.
fn form(path: &Path) -> Option<BoxFormat> {
    let ends = |path: &Path, known: &[&str]| {
        path.extension().is_some_and(|found| known.iter().any(|known| found.eq_ignore_ascii_case(known)))
    };
    if path.is_file() {
        if ends(path, &["json"]) {
            return coco::is_coco(path).then(|| BoxFormat::Coco(path.into()));
        }
        return yolo::layout_of_yaml(path).filter(|_| ends(path, &["yaml", "yml"])).map(BoxFormat::Yolo);
    }
    let entries = visible(path).ok()?;
    if let Some(layout) = yolo::layout_of_folder(path, &entries) {
        return Some(BoxFormat::Yolo(layout));
    }
    let mut tables = entries.iter().filter(|entry| ends(entry, &["json"]) && coco::is_coco(entry));
    if let (Some(table), None) = (tables.next(), tables.next()) {
        return Some(BoxFormat::Coco(table.clone()));
    }
    let marks = entries.iter().find(|entry| entry.is_dir() && entry.ends_with("Annotations")).cloned();
    let marks = marks.or_else(|| entries.iter().any(|entry| ends(entry, &["xml"])).then(|| path.into()))?;
    visible(&marks).ok()?.iter().any(|entry| voc::is_voc(entry)).then_some(BoxFormat::Voc(marks))
}

/// Whether data are photographs with boxes around objects.
pub fn holds_boxes(path: &Path) -> bool {
    form(path).is_some()
}

/// Photographs with their boxes.
///
/// # Errors
/// A file that cannot be read or names a photograph that is not there; a box that is none, lies outside of its photograph, or is of a
/// class that is not in `options.classes`.
pub(super) fn open(path: &Path, options: &Options) -> Result<(Files, Labels, ReadingReport), Error> {
    let Some(grid) = options.grid.clone() else {
        return Err(Error::content(path, "boxes are learned by a detector alone; give such a model"));
    };
    let found = match form(path) {
        Some(BoxFormat::Coco(table)) => coco::read(&table, &options.limits)?,
        Some(BoxFormat::Yolo(layout)) => yolo::read(&layout, &options.limits)?,
        Some(BoxFormat::Voc(marks)) => voc::read(&marks, &options.limits)?,
        None => {
            std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
            return Err(Error::content(
                path,
                "no boxes in a form that is known; give COCO's JSON, a YOLO folder (images, labels, data.yaml) or Pascal VOC's Annotations",
            ));
        }
    };
    let names = options.classes.clone().unwrap_or_else(|| found.names.clone());
    let known = Names::new(&names);
    let (mut files, mut pictures, mut report) = (Files::default(), Vec::new(), ReadingReport::default());
    let mut cut = Vec::new();
    for marked in &found.pictures {
        let bytes = read_limited(&marked.path, &options.limits)
            .map_err(|error| marked.at.refuse(&format!("{}: {error}; add the photograph", marked.path.display())))?;
        let size = match image::probe(&bytes, &options.limits).and_then(|()| image::size(&bytes, &options.limits)) {
            Ok(size) => size,
            Err(reason) => {
                report.skipped.push((marked.path.clone(), reason));
                continue;
            }
        };
        let mut object = |told: &Told| -> Result<Object, Error> {
            let class = known.find(&told.class).ok_or_else(|| told.at.refuse(&unknown_class(&told.class, &names)))?;
            let (corners, was_cut) =
                within(told.corners, size, found.shares).map_err(|problem| told.at.refuse(&problem))?;
            if was_cut {
                cut.push(marked.path.clone());
            }
            Ok(Object { class: class as u32, corners, crowd: told.crowd })
        };
        let objects = marked.boxes.iter().map(&mut object).collect::<Result<_, _>>()?;
        files.paths.push(&marked.path);
        files.keys.push(*blake3::hash(&bytes).as_bytes());
        pictures.push(Picture { size, objects });
    }
    if pictures.is_empty() {
        return Err(Error::content(path, "no photograph that can be read; add some"));
    }
    report.notes.extend(describe(&pictures, &cut));
    drop(known);
    Ok((files, Labels::Boxes { names, pictures, grid }, report))
}

/// What there is, and what was cut off at the edges.
fn describe(pictures: &[Picture], cut: &[PathBuf]) -> Vec<String> {
    let boxes: usize = pictures.iter().map(|picture| picture.objects.len()).sum();
    let empty = pictures.iter().filter(|picture| picture.objects.is_empty()).count();
    let mut notes = vec![format!("boxes     {boxes} in {} photographs, {empty} of them without any", pictures.len())];
    if let [first, ..] = cut {
        let count = cut.len();
        notes.push(format!(
            "note: {count} of the boxes reach beyond their photographs and are cut off at the edge, such as in {}",
            first.display()
        ));
    }
    notes
}

/// A box's corners in pixels, cut off at the photograph's edges; and whether that has changed them by more than rounding.
fn within(corners: [f64; 4], size: [u32; 2], shares: bool) -> Result<([f32; 4], bool), String> {
    let [width, height] = size.map(f64::from);
    let ends = [width, height, width, height];
    let scaled: Vec<f64> =
        corners.iter().zip(ends).map(|(corner, end)| if shares { corner * end } else { *corner }).collect();
    if let Some(number) = scaled.iter().find(|number| !number.is_finite()) {
        return Err(format!("a box with {number}; give finite numbers"));
    }
    let [left, top, right, bottom] = scaled[..] else { unreachable!("four corners") };
    if right <= left || bottom <= top {
        let (across, down) = (right - left, bottom - top);
        return Err(format!("a box of {across}×{down} pixels; give it a width and a height above 0, or remove it"));
    }
    let cut: Vec<f64> = scaled.iter().zip(ends).map(|(corner, end)| corner.clamp(0.0, end)).collect();
    if cut[2] <= cut[0] || cut[3] <= cut[1] {
        return Err(format!(
            "the box from ({left}, {top}) to ({right}, {bottom}) lies outside of its photograph of {width}×{height} pixels; correct or \
             remove it"
        ));
    }
    let was_cut = scaled.iter().zip(&cut).any(|(before, after)| (before - after).abs() > 1.0);
    Ok(([cut[0], cut[1], cut[2], cut[3]].map(|corner| corner as f32), was_cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_cut_off_at_the_edges_and_those_outside_refused() {
        assert_eq!(within([1.0, 2.0, 9.0, 8.0], [10, 10], false), Ok(([1.0, 2.0, 9.0, 8.0], false)));
        assert_eq!(within([0.5, 0.0, 1.0, 0.5], [20, 10], true), Ok(([10.0, 0.0, 20.0, 5.0], false)));
        assert_eq!(within([-3.0, 2.0, 13.0, 8.0], [10, 10], false), Ok(([0.0, 2.0, 10.0, 8.0], true)));
        assert!(!within([-0.5, 0.0, 10.5, 10.0], [10, 10], false).unwrap().1, "rounding is not told");
        for (corners, word) in [
            ([12.0, 0.0, 14.0, 5.0], "outside"),
            ([3.0, 3.0, 3.0, 5.0], "0×2 pixels"),
            ([5.0, 3.0, 3.0, 5.0], "-2×2"),
            ([f64::NAN, 0.0, 1.0, 1.0], "NaN"),
            ([0.0, 0.0, f64::INFINITY, 1.0], "inf"),
        ] {
            let refused = within(corners, [10, 10], false).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
