//! Folders that are no data set of classes, though they look like one: a label for each pixel or word, boxes, and samples that nobody
//! has sorted. Each is told by its names, before anything is read.

use super::{Error, filesystem};
use std::path::{Path, PathBuf};

/// Folders of pictures beside folders of what is marked in them.
const PICTURES: [&str; 7] = ["images", "image", "imgs", "img", "jpegimages", "photos", "leftimg8bit"];
const MASKS: [&str; 9] =
    ["masks", "mask", "segmentation", "segmentationclass", "gt", "ground_truth", "groundtruth", "gtfine", "labelids"];
const BOXES: [&str; 4] = ["labels", "annotations", "annotation", "bboxes"];
/// Folders of samples that nobody has sorted.
const UNSORTED: [&str; 8] =
    ["unlabelled", "unlabeled", "unsorted", "unclassified", "uncategorized", "uncategorised", "nolabel", "tosort"];
/// Folders that may be either: samples that nobody has sorted, or a class of its own.
const PERHAPS_UNSORTED: [&str; 8] = ["unknown", "misc", "other", "others", "undefined", "newfolder", "todo", "inbox"];

/// What a file of tagged words is, and what can be learned instead.
pub(super) const TAGGED: &str = "words with a tag each, which a model learns that gives a row of scores for each token (`[batch, sequence, \
                                 scores]`, setting `loss = token-cross-entropy`); for a class a text, give a table with the columns text \
                                 and label, or lines of label<TAB>text";

/// A folder's name in small letters, without what stands between words.
fn plain(folder: &Path) -> String {
    let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.chars().filter(|letter| !matches!(letter, '-' | '_' | ' ')).collect()
}

fn one_of<'f>(folders: &'f [PathBuf], names: &[&str]) -> Option<&'f PathBuf> {
    folders.iter().find(|folder| names.iter().any(|name| plain(folder) == name.replace('_', "")))
}

/// Files that are looked at, at most.
const LOOKED_AT: usize = 20;

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into()).unwrap_or_default()
}

/// What learns masks.
const BY_SEGMENTER: &str = "a model learns that which gives scores for each pixel (`[batch, scores, height, width]`, setting `loss = pixel-cross-entropy`)";
/// What learns boxes.
const BY_DETECTOR: &str = "a detector's raw outputs learn them (setting `loss = boxes`)";

/// Of some folders, that of pictures and that of their masks: pictures as well.
pub(super) fn pictures_and_masks(folders: &[PathBuf]) -> Option<(&PathBuf, &PathBuf)> {
    let of_images = |marks: &&PathBuf| {
        filesystem::below(marks).is_ok_and(|files| files.iter().any(|file| filesystem::has_image_name(file)))
    };
    let marks = one_of(folders, &MASKS).or_else(|| one_of(folders, &BOXES)).filter(of_images);
    one_of(folders, &PICTURES).zip(marks)
}

/// Pictures with a folder of masks, or of boxes, for each pixel or object.
///
/// # Errors
/// What it is, and what can be learned instead.
pub(super) fn refuse_marked_pictures(root: &Path, folders: &[PathBuf]) -> Result<(), Error> {
    let name = |folder: &PathBuf| folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    let what = |pictures: &Path, marks: &Path| -> Option<(&'static str, &'static str)> {
        let marks = filesystem::below(marks).ok()?;
        if !filesystem::has_image_name(marks.first()?) {
            return Some(("boxes around objects (detection)", BY_DETECTOR));
        }
        // A mask has its picture's name, often with something behind it; a class of pictures has names of its own.
        let pictures: Vec<String> = filesystem::below(pictures).ok()?.iter().map(|path| stem(path)).collect();
        let has_picture = |mark: &PathBuf| pictures.iter().any(|picture| stem(mark).starts_with(picture));
        marks.iter().take(LOOKED_AT).any(has_picture).then_some(("a label for each pixel (segmentation)", BY_SEGMENTER))
    };
    let marks = one_of(folders, &MASKS).or_else(|| one_of(folders, &BOXES));
    let Some((pictures, marks)) = one_of(folders, &PICTURES).zip(marks) else { return Ok(()) };
    let Some((what, how)) = what(pictures, marks) else { return Ok(()) };
    let problem = format!(
        "the folders `{}` and `{}` are pictures with {what}, and no classes; {how}. For a class a picture, give \
         a folder for each class, or a table with the columns file and label",
        name(pictures),
        name(marks)
    );
    Err(Error::content(root, problem))
}

/// Samples that nobody has sorted, in a folder that would be a class; `known`: the classes that the model has.
///
/// # Errors
/// The folder, and what to do with it.
pub(super) fn refuse_unsorted(folders: &[PathBuf], known: Option<&[String]>) -> Result<(), Error> {
    if known.is_some() {
        return Ok(());
    }
    match one_of(folders, &UNSORTED) {
        Some(folder) => Err(Error::content(
            folder,
            "by its name these samples have no class yet, and would be learned as a class of their own; move the folder out of the \
             data, or rename it if it is a class (predict with the trained adapter sorts them)",
        )),
        None => Ok(()),
    }
}

/// What to ask about a folder that may be a class or not.
pub(super) fn perhaps_unsorted(folders: &[PathBuf], known: Option<&[String]>) -> Option<String> {
    let folder = one_of(folders, &PERHAPS_UNSORTED).filter(|_| known.is_none())?;
    let name = folder.file_name()?.to_string_lossy();
    Some(format!(
        "note: `{name}` is learned as a class: if it holds samples that nobody has sorted, move {} out of the data",
        folder.display()
    ))
}

/// Whether lines are words with a tag each, a sentence a block, as CoNLL's shared tasks write them.
pub(super) fn is_conll(text: &str) -> bool {
    const LINES: usize = 200;
    let is_tag = |tag: &str| {
        tag == "O" || tag.split_once('-').is_some_and(|(kind, _)| kind.len() == 1 && "BIESLU".contains(kind))
    };
    let (mut words, mut blank) = (0, 0);
    for line in text.lines().take(LINES) {
        let mut cells = line.split_whitespace();
        match (cells.next(), cells.last()) {
            (None, _) => blank += 1,
            (Some("-DOCSTART-"), _) => {}
            (Some(_), Some(tag)) if is_tag(tag) => words += 1,
            _ => return false,
        }
    }
    words > 1 && blank > 0
}

/// Whether a row of a table holds a label for each word of its text: `cell` is the label's, or a list of words with their tags
/// beside it.
pub(super) fn are_tags(columns: &[String], cell: &str, text: &str) -> bool {
    if columns.iter().any(|name| name == "ner_tags" || name == "pos_tags") {
        return true;
    }
    let Ok(tags) = serde_json::from_str::<Vec<String>>(cell) else { return false };
    // A set of classes has none twice.
    let twice = tags.iter().enumerate().any(|(place, tag)| tags[..place].contains(tag));
    tags.len() == text.split_whitespace().count() && (twice || tags.iter().any(|tag| tag == "O"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_tags_are_told_from_texts_with_labels() {
        assert!(is_conll("-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter B-PER\n"));
        assert!(is_conll("Anna\tB-PER\nlives\tO\n\nBob\tB-PER\n"));
        let named = |columns: &[&str], cell: &str| {
            are_tags(&columns.iter().map(|name| name.to_string()).collect::<Vec<_>>(), cell, "anna lives in rome")
        };
        assert!(named(&["text", "label"], r#"["B-PER", "O", "O", "B-LOC"]"#) && named(&["tokens", "ner_tags"], "[1]"));
        assert!(!named(&["text", "label"], r#"["a", "b", "c", "d"]"#) && !named(&["text", "label"], r#"["a", "a"]"#));
        for text in ["good\tthe lamp is fine\n\nbad\tit is O\n", "O\n\nO\n", "a\tO\nb\tO\n", "", "B-1\tx-ray\n\n"] {
            assert!(!is_conll(text), "{text:?}");
        }
    }
}
