//! COCO's JSON: `images`, `annotations` and `categories` in one file (<https://cocodataset.org/#format-data>).

use super::{At, Marked, ReadBoxes, Told};
use crate::data::filesystem::read_at_most;
use crate::data::{Error, Limits};
use crate::order::Order;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What is looked for to tell the form; all else is passed over.
#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "images")]
    _images: Vec<IgnoredAny>,
    #[serde(rename = "annotations")]
    _annotations: Vec<IgnoredAny>,
    #[serde(rename = "categories")]
    _categories: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Table {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: i64,
    category_id: i64,
    bbox: [f64; 4],
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
    #[serde(default)]
    supercategory: String,
}

/// Whether a JSON file has COCO's three lists, also one that is damaged behind their names: its reader then says where.
pub(super) fn is_coco(path: &Path) -> bool {
    let Ok(bytes) = read_at_most(path, Limits::default().table_bytes_max) else { return false };
    let has = |word: &str| bytes.windows(word.len()).any(|found| found == word.as_bytes());
    serde_json::from_slice::<Shape>(&bytes).is_ok()
        || ["\"images\"", "\"annotations\"", "\"categories\"", "\"bbox\""].into_iter().all(has)
}

/// Reads the file; photographs lie beside it, or in a folder that COCO's own file names go by.
///
/// # Errors
/// JSON that is damaged or of another form; a box of a photograph or a class that the file does not have.
pub(super) fn read(path: &Path, limits: &Limits) -> Result<ReadBoxes, Error> {
    let bytes = read_at_most(path, limits.table_bytes_max).map_err(|source| Error::io(path, source))?;
    let table: Table = serde_json::from_slice(&bytes).map_err(|error| {
        let problem = format!("no COCO JSON (column {}: {error}); correct the file", error.column());
        Error::line(path, error.line() as u64, problem)
    })?;
    let field = |list: &str, place: usize| At::Field(path.into(), format!("{list}[{place}]"));
    let mut pictures = Vec::with_capacity(table.images.len());
    let mut places = HashMap::new();
    for (place, image) in table.images.iter().enumerate() {
        if places.insert(image.id, place).is_some() {
            return Err(field("images", place).refuse(&format!("id {} is there twice; give each its own", image.id)));
        }
        let at = At::Field(path.into(), format!("images[{place}].file_name"));
        pictures.push(Marked { path: found(path, &image.file_name), at, boxes: Vec::new() });
    }
    let mut classes = HashMap::new();
    for (place, category) in table.categories.iter().enumerate() {
        if classes.insert(category.id, category.name.as_str()).is_some() {
            return Err(
                field("categories", place).refuse(&format!("id {} is there twice; give each its own", category.id))
            );
        }
    }
    for (place, annotation) in table.annotations.iter().enumerate() {
        let at = At::Field(path.into(), format!("annotations[{place}]"));
        let Some(picture) = places.get(&annotation.image_id) else {
            let problem =
                format!("image_id {} is not among `images`; add it there, or remove this", annotation.image_id);
            return Err(at.refuse(&problem));
        };
        let Some(class) = classes.get(&annotation.category_id) else {
            let id = annotation.category_id;
            return Err(at.refuse(&format!("category_id {id} is not among `categories`; add it there, or correct it")));
        };
        let [left, top, width, height] = annotation.bbox;
        let corners = [left, top, left + width, top + height];
        let crowd = annotation.iscrowd != 0;
        pictures[*picture].boxes.push(Told { class: class.to_string(), corners, crowd, at });
    }
    Ok(ReadBoxes { pictures, names: names(&table), shares: false })
}

/// The classes by their ids. A category that others are of, and no box, is a heading.
fn names(table: &Table) -> Vec<String> {
    let is_heading = |category: &Category| {
        !table.annotations.iter().any(|annotation| annotation.category_id == category.id)
            && table.categories.iter().any(|other| other.id != category.id && other.supercategory == category.name)
    };
    let mut kept: Vec<&Category> = table.categories.iter().filter(|category| !is_heading(category)).collect();
    kept.order_by_key(|category| category.id);
    kept.iter().map(|category| category.name.clone()).collect()
}

/// Where a photograph lies: beside the file, in `images` there or one above, or in a folder above that is called as the file's name
/// ends (`annotations/instances_train2017.json` and `train2017/`). The first place, where it is nowhere.
fn found(table: &Path, name: &str) -> PathBuf {
    let folder = table.parent().unwrap_or(Path::new(""));
    let above = folder.parent().unwrap_or(Path::new(""));
    let stem = table.file_stem().unwrap_or_default().to_string_lossy();
    let part = stem.rsplit('_').next().unwrap_or_default();
    let folders = [
        folder.to_path_buf(),
        folder.join("images"),
        above.join(part),
        above.join("images"),
        above.join("images").join(part),
        above.to_path_buf(),
    ];
    let places = folders.iter().map(|folder| folder.join(name));
    places.clone().find(|place| place.is_file()).unwrap_or_else(|| folder.join(name))
}
