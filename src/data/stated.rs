//! What a model's exporter states about the model: the names of its classes, in its own metadata or in a file beside it.
//!
//! Reads `labels.txt` (a name a line), Hugging Face's `config.json` (`id2label`), timm's `config.json` (`label_names`), and the
//! metadata that Ultralytics (`names`) and others write.

use super::Error;
use super::lines::characters_of as characters_in;
use crate::order::Order;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Something that an exporter states, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated<T> {
    /// What is stated.
    pub value: T,
    /// Where: a file's name, or the model's metadata.
    pub source: String,
}

/// Keys of a model's metadata that hold class names, the surest first.
const METADATA: [&str; 7] = ["labels", "class_names", "classes", "names", "id2label", "label_names", "character"];
/// Files beside a model that hold class names, the surest first; `*` is the model's own name without its extension.
const FILES: [&str; 5] = ["*.labels.txt", "labels.txt", "classes.txt", "class_names.txt", "config.json"];

/// Class names in the order of the model's outputs, as its metadata or a file beside it states them.
///
/// # Errors
/// A file of such a name that cannot be read.
pub fn class_names(model: &Path, metadata: &BTreeMap<String, String>) -> Result<Option<Stated<Vec<String>>>, Error> {
    if let Some(found) = stated_classes(metadata) {
        return Ok(Some(found));
    }
    for path in beside(model, &FILES) {
        if let Some(value) = class_names_of(&path)? {
            return Ok(Some(Stated { value, source: shown(&path) }));
        }
    }
    Ok(None)
}

fn stated_classes(metadata: &BTreeMap<String, String>) -> Option<Stated<Vec<String>>> {
    METADATA.iter().find_map(|key| {
        let value = names_in(metadata.get(*key)?)?;
        Some(Stated { value, source: format!("the model's metadata `{key}`") })
    })
}

/// Class names that a model's metadata state.
pub fn class_names_told(metadata: &BTreeMap<String, String>) -> Option<Vec<String>> {
    stated_classes(metadata).map(|stated| stated.value)
}

/// Class names in a file: a name a line, or JSON with `id2label`, `label_names` or a list. `None` for JSON without.
///
/// # Errors
/// A file that cannot be read.
pub fn class_names_of(path: &Path) -> Result<Option<Vec<String>>, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
    match path.extension().is_some_and(|extension| extension == "json") {
        true => Ok(serde_json::from_str(&text).ok().and_then(|json| named_in(&json))),
        false => Ok(lines(&text)),
    }
}

/// The characters that a model's outputs stand for, as its metadata or a file beside it states them: as [`class_names`], but a line is a
/// character as it stands, which may be a space.
///
/// # Errors
/// A file of such a name that cannot be read.
pub fn characters(model: &Path, metadata: &BTreeMap<String, String>) -> Result<Option<Stated<Vec<String>>>, Error> {
    for key in METADATA {
        let Some(text) = metadata.get(key) else { continue };
        let value = match text.trim_start().starts_with(['{', '[']) && !text.contains('\n') {
            true => names_in(text),
            false => text.contains('\n').then(|| characters_in(text)),
        };
        if let Some(value) = value {
            return Ok(Some(Stated { value, source: format!("the model's metadata `{key}`") }));
        }
    }
    for path in beside(model, &FILES) {
        let value = characters_of(&path)?;
        if !value.is_empty() {
            return Ok(Some(Stated { value, source: shown(&path) }));
        }
    }
    Ok(None)
}

/// Characters in a file: one a line as it stands, or JSON as [`class_names_of`] reads it.
///
/// # Errors
/// A file that cannot be read.
pub fn characters_of(path: &Path) -> Result<Vec<String>, Error> {
    if path.extension().is_some_and(|extension| extension == "json") {
        return Ok(class_names_of(path)?.unwrap_or_default());
    }
    let text = fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
    Ok(characters_in(&text))
}

/// Those of the files that are there: beside the model, or where its folder is called `onnx`, in the folder above, as Hugging
/// Face's repositories have it.
pub(super) fn beside(model: &Path, files: &[&str]) -> Vec<PathBuf> {
    let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above = folder.file_name().filter(|name| *name == "onnx").and_then(|_| folder.parent());
    let above = above.map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    let stem = model.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let in_folder = |folder: &Path| files.iter().map(|file| folder.join(file.replace('*', stem))).collect::<Vec<_>>();
    let all = in_folder(folder).into_iter().chain(above.into_iter().flat_map(in_folder));
    all.filter(|path| path.is_file()).collect()
}

/// A file's name, for a message.
pub(super) fn shown(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Names in a text of metadata: JSON, a Python literal as `str` writes it, or a name a line.
fn names_in(text: &str) -> Option<Vec<String>> {
    match text.trim_start().starts_with(['{', '[']) {
        true => match serde_json::from_str(text) {
            Ok(json) => listed(&json),
            Err(_) => literal(text),
        },
        false if text.trim().contains('\n') => lines(text),
        false => None,
    }
}

/// Names in one of the places where a JSON document holds them.
fn named_in(json: &serde_json::Value) -> Option<Vec<String>> {
    let places = ["id2label", "label_names", "labels", "classes", "class_names"];
    places.iter().find_map(|place| json.get(place).and_then(listed)).or_else(|| listed(json))
}

/// `["a", "b"]`, or `{"0": "a", "1": "b"}` with each number once.
fn listed(json: &serde_json::Value) -> Option<Vec<String>> {
    let pairs: Vec<(usize, &serde_json::Value)> = match json {
        serde_json::Value::Array(names) => names.iter().enumerate().collect(),
        serde_json::Value::Object(names) => {
            names.iter().map(|(key, name)| Some((key.parse().ok()?, name))).collect::<Option<_>>()?
        }
        _ => return None,
    };
    in_order(pairs.into_iter().map(|(key, name)| Some((key, name.as_str()?.to_string()))).collect::<Option<_>>()?)
}

/// Names by their numbers, which are 0, 1, 2 … Those that Transformers writes where nobody gave any, `LABEL_0`, say nothing.
fn in_order(mut pairs: Vec<(usize, String)>) -> Option<Vec<String>> {
    pairs.order_by(Ord::cmp);
    let complete = !pairs.is_empty() && pairs.iter().enumerate().all(|(place, (key, _))| place == *key);
    let made_up = pairs.iter().all(|(key, name)| *name == format!("LABEL_{key}"));
    (complete && !made_up).then(|| pairs.into_iter().map(|(_, name)| name).collect())
}

/// A name a line. Where each line begins with its number, as in `0 cat` or `0: cat`, that is none of the name.
fn lines(text: &str) -> Option<Vec<String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let unnumbered = |(place, line): (usize, &&str)| {
        let rest = line.strip_prefix(&place.to_string())?;
        let name = rest.trim_start_matches([':', ',', ' ', '\t']);
        (name.len() < rest.len() && !name.is_empty()).then(|| name.to_string())
    };
    let unnumbered: Option<Vec<String>> = lines.iter().enumerate().map(unnumbered).collect();
    let names = unnumbered.unwrap_or_else(|| lines.iter().map(|line| line.to_string()).collect());
    (!names.is_empty()).then_some(names)
}

/// A Python literal of strings: `{0: 'cat', 1: "dog"}`, as Ultralytics writes its `names`, or `['cat', 'dog']`.
fn literal(text: &str) -> Option<Vec<String>> {
    let (mut pairs, mut key, mut left) = (Vec::new(), String::new(), text.trim().chars());
    let is_list = left.next()? == '[';
    while let Some(letter) = left.next() {
        match letter {
            '\'' | '"' => {
                let mut name = String::new();
                loop {
                    match left.next()? {
                        '\\' => name.push(left.next()?),
                        end if end == letter => break,
                        other => name.push(other),
                    }
                }
                let number = if is_list { pairs.len() } else { key.parse().ok()? };
                pairs.push((number, name));
                key.clear();
            }
            digit if digit.is_ascii_digit() => key.push(digit),
            ' ' | ',' | ':' | '\n' | ']' | '}' => {}
            _ => return None,
        }
    }
    in_order(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_come_as_json_as_python_or_as_lines() {
        for text in [
            r#"["cat", "dog's"]"#,
            r#"{"1": "dog's", "0": "cat"}"#,
            r#"{0: 'cat', 1: "dog's"}"#,
            r"['cat', 'dog\'s']",
            "cat\ndog's\n",
        ] {
            assert_eq!(names_in(text).unwrap(), ["cat", "dog's"], "{text}");
        }
        for text in
            ["", "cat", "{}", "[1, 2]", "{0: 'cat', 2: 'dog'}", "{'a': 'cat'}", "{0: cat}", "['cat", "{\"a\": 1}"]
        {
            assert_eq!(names_in(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_before_names_are_taken_off_where_each_line_has_its_own() {
        assert_eq!(lines("0 cat\n1: dog\n").unwrap(), ["cat", "dog"]);
        assert_eq!(lines("\u{feff}cat\r\n\r\n 1 dog\r\n").unwrap(), ["cat", "1 dog"]);
        assert_eq!(lines("0\n1\n").unwrap(), ["0", "1"], "names may be numbers");
        assert_eq!(lines(" \n"), None);
    }

    #[test]
    fn files_beside_the_model_are_found_and_what_says_nothing_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("onnx/net.onnx");
        fs::create_dir(folder.path().join("onnx")).unwrap();
        let found = |metadata: &[(&str, &str)]| {
            let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            class_names(&model, &metadata).unwrap().map(|stated| (stated.value.join("|"), stated.source))
        };
        assert_eq!(found(&[("author", "me")]), None);
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("config.json", r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}"#);
        assert_eq!(found(&[]), None, "nobody gave these names");
        write("config.json", r#"{"id2label": {"0": "cat", "1": "dog"}}"#);
        assert_eq!(found(&[]), Some(("cat|dog".into(), "config.json".into())));
        write("onnx/config.json", r#"{"num_classes": 2, "label_names": ["n1", "n2"]}"#);
        assert_eq!(found(&[]), Some(("n1|n2".into(), "config.json".into())), "the folder of the model is nearer");
        write("onnx/labels.txt", "a\nb\n");
        assert_eq!(found(&[]), Some(("a|b".into(), "labels.txt".into())));
        write("onnx/net.labels.txt", "own\nb\n");
        assert_eq!(found(&[]), Some(("own|b".into(), "net.labels.txt".into())));
        let stated = found(&[("names", "{0: 'x', 1: 'y'}")]);
        assert_eq!(stated, Some(("x|y".into(), "the model's metadata `names`".into())));
    }
}
