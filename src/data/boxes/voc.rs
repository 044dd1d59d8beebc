//! Pascal VOC: an XML file for each photograph, which lies beside it or in `JPEGImages`.

use super::xml::{self, Element};
use super::{At, Marked, ReadBoxes, Told};
use crate::data::filesystem::{below, has_image_name, read_at_most, visible};
use crate::data::{Error, Limits};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

fn is_xml(path: &Path) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case("xml"))
}

/// Whether a file is such an XML file.
pub(super) fn is_voc(path: &Path) -> bool {
    let read = || read_at_most(path, Limits::default().file_bytes_max).ok();
    is_xml(path) && read().is_some_and(|bytes| String::from_utf8_lossy(&bytes).contains("<annotation"))
}

/// Reads all XML files of a folder.
///
/// # Errors
/// XML that is damaged; an object without a name or a box; a photograph that is not there.
pub(super) fn read(marks: &Path, limits: &Limits) -> Result<ReadBoxes, Error> {
    let folders = [
        Some(marks.to_path_buf()),
        marks.parent().map(|root| root.join("JPEGImages")),
        marks.parent().map(|root| root.join("images")),
    ];
    let photographs: HashMap<PathBuf, PathBuf> = folders
        .into_iter()
        .flatten()
        .filter_map(|folder| visible(&folder).ok())
        .flatten()
        .filter(|path| has_image_name(path))
        .map(|path| (path.file_stem().unwrap_or_default().into(), path))
        .collect();
    let (mut pictures, mut names) = (Vec::new(), BTreeSet::new());
    for file in below(marks)?.into_iter().filter(|path| is_xml(path)) {
        let bytes = read_at_most(&file, limits.file_bytes_max).map_err(|source| Error::io(&file, source))?;
        let root = xml::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|(line, problem)| Error::line(&file, line, problem))?;
        let named = root.get("filename").map(|element| PathBuf::from(&element.text));
        let stems = [named.as_deref().and_then(Path::file_stem), file.file_stem()];
        let photograph = stems.into_iter().flatten().find_map(|stem| photographs.get(Path::new(stem)));
        let Some(path) = photograph.cloned() else {
            let shown = named.unwrap_or_default();
            let problem =
                format!("its photograph `{}` is neither beside it nor in `JPEGImages`; add it", shown.display());
            return Err(Error::content(&file, problem));
        };
        let boxes: Vec<Told> = root.all("object").map(|object| one(&file, object)).collect::<Result<_, _>>()?;
        names.extend(boxes.iter().map(|told| told.class.clone()));
        pictures.push(Marked { path, at: At::Line(file, root.line), boxes });
    }
    Ok(ReadBoxes { pictures, names: names.into_iter().collect(), shares: false })
}

/// An object's name and box. Annotators differ in whether pixels count from 0 or from 1: corners are taken as they are.
fn one(file: &Path, object: &Element) -> Result<Told, Error> {
    let at = |element: &Element| At::Line(file.into(), element.line);
    let lacks = |of: &Element, name: &str| at(of).refuse(&format!("<{}> without <{name}>; add it", of.name));
    let name = object.get("name").filter(|name| !name.text.is_empty()).ok_or_else(|| lacks(object, "name"))?;
    let bounds = object.get("bndbox").ok_or_else(|| lacks(object, "bndbox"))?;
    let mut corners = [0.0; 4];
    for (corner, name) in corners.iter_mut().zip(["xmin", "ymin", "xmax", "ymax"]) {
        let element = bounds.get(name).ok_or_else(|| lacks(bounds, name))?;
        *corner = element.text.trim().parse::<f64>().map_err(|_| {
            at(element).refuse(&format!("<{name}> is `{}`, which is no number; correct it", element.text))
        })?;
    }
    Ok(Told { class: name.text.clone(), corners, crowd: false, at: at(object) })
}
