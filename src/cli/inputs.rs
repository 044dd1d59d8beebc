//! What `predict` is asked about: files and folders, lines of standard input, or texts as they stand on the command line.

use anyhow::{Context, Result, bail};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What is predicted.
#[derive(Debug, PartialEq)]
pub enum Asked {
    /// Files and folders.
    Paths(Vec<PathBuf>),
    /// Texts, and what each is called.
    Texts { origin: &'static str, texts: Vec<String> },
}

/// Stands for standard input.
const STANDARD_INPUT: &str = "-";
/// Name endings of files that data come in: what ends so and is not there is a mistyped name and no text.
const ENDINGS: &[&str] = &[
    "bmp", "csv", "gif", "heic", "jpeg", "jpg", "json", "jsonl", "ndjson", "npy", "npz", "onnx", "parquet", "png",
    "tif", "tiff", "toml", "tsv", "txt", "webp", "xlsx", "zip",
];

impl Asked {
    /// Whether a folder is among what is asked about.
    pub fn is_folder(&self) -> bool {
        matches!(self, Self::Paths(paths) if paths.iter().any(|path| path.is_dir()))
    }
}

/// Tells files from texts. `takes_text`: whether the model does.
///
/// # Errors
/// A file that is not there, texts for a model that takes none, files beside texts, standard input without a text.
pub fn asked(inputs: &[PathBuf], takes_text: bool, standard_input: &mut dyn Read) -> Result<Asked> {
    if inputs.iter().any(|input| input.as_os_str() == STANDARD_INPUT) {
        if inputs.len() > 1 {
            bail!("INPUT `-`: standard input is read alone; name files, or `-`, but not both");
        }
        return lines(takes_text, standard_input);
    }
    let texts: Vec<&PathBuf> = inputs.iter().filter(|input| takes_text && is_text(input)).collect();
    if let Some(missing) = inputs.iter().find(|input| !texts.contains(input) && !input.exists()) {
        let help = if takes_text {
            "; a text with such a name can be written to standard input, with `-` as INPUT"
        } else {
            ""
        };
        bail!("INPUT {}: there is no such file or folder; check the path{help}", missing.display());
    }
    match texts.len() {
        0 => Ok(Asked::Paths(inputs.to_vec())),
        count if count < inputs.len() => {
            bail!(
                "INPUT `{}`: no such file, and texts cannot be mixed with files; name files or texts",
                texts[0].display()
            )
        }
        _ => Ok(Asked::Texts {
            origin: "text",
            texts: texts.into_iter().map(|text| text.to_string_lossy().into_owned()).collect(),
        }),
    }
}

/// Whether a text was given and not a name: nothing is there under it, and it looks like no name.
fn is_text(input: &Path) -> bool {
    let text = input.to_string_lossy();
    let ending = input.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let has_ending = ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()));
    let is_path = text.contains('/') && !text.contains(char::is_whitespace);
    !input.exists() && !has_ending && !is_path && !text.trim().is_empty()
}

/// Each line of standard input that is not empty.
fn lines(takes_text: bool, standard_input: &mut dyn Read) -> Result<Asked> {
    if !takes_text {
        bail!(
            "INPUT `-`: standard input holds texts, a line each, and this model takes none; name its inputs as files"
        );
    }
    let mut text = String::new();
    standard_input.read_to_string(&mut text).context("INPUT `-`: standard input is no text as UTF-8; convert it")?;
    let texts: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    if texts.is_empty() {
        bail!("INPUT `-`: standard input holds no text; write one text a line to it");
    }
    Ok(Asked::Texts { origin: STANDARD_INPUT, texts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_for(inputs: &[&str], takes_text: bool, standard_input: &str) -> Result<Asked, String> {
        let inputs: Vec<PathBuf> = inputs.iter().map(PathBuf::from).collect();
        asked(&inputs, takes_text, &mut standard_input.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_no_file_is_a_text_unless_it_looks_like_a_name() {
        let texts = |origin, texts: &[&str]| {
            Ok(Asked::Texts { origin, texts: texts.iter().map(|text| text.to_string()).collect() })
        };
        assert_eq!(asked_for(&["what a film", "awful"], true, ""), texts("text", &["what a film", "awful"]));
        assert_eq!(asked_for(&["good and/or bad"], true, ""), texts("text", &["good and/or bad"]));
        assert_eq!(asked_for(&["-"], true, "one\n\n two \n"), texts("-", &["one", "two"]));
        assert_eq!(asked_for(&["Cargo.toml"], true, ""), Ok(Asked::Paths(vec!["Cargo.toml".into()])));
        for (inputs, takes_text, part) in [
            (&["reviwes.csv"][..], true, "reviwes.csv: there is no such file"),
            (&["my photo.JPG"], true, "no such file"),
            (&["texts/today"], true, "no such file"),
            (&["what a film"], false, "no such file"),
            (&["Cargo.toml", "what a film"], true, "cannot be mixed"),
            (&["-"], false, "takes none"),
            (&["-"], true, "holds no text"),
            (&["-", "Cargo.toml"], true, "not both"),
        ] {
            let refused = asked_for(inputs, takes_text, "").unwrap_err();
            assert!(refused.contains(part), "{inputs:?}: {refused}");
        }
    }
}
