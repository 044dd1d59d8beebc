//! The processes of a run: one that trains, one that predicts the held-out samples, one that looks for samples from which nothing
//! can be learned; and the one that reads recipe and model beforehand. What they said when they have ended.
//!
//! Takes what lies in `STATE/run`; what a process prints goes to `out` and `err` there.

use super::process::start;
use super::request::{Request, Training, Unusable};
use crate::agent::config::Config;
use crate::agent::record::run::{DATA, FROM, Run, candidate, folder};
use anyhow::Result;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Characters of a reason that a process gives.
const REASON_CHARS_MAX: usize = 1000;

/// The trainer's process.
///
/// # Errors
/// A program that cannot be started.
pub fn train(program: &Path, config: &Config, of: &Run) -> Result<Child> {
    let run = folder(&config.state);
    let training = Training {
        recipe: config.recipe.clone(),
        data: run.join(DATA),
        out: candidate(&config.state),
        from: Some(run.join(FROM)).filter(|from| from.exists()),
        round: of.round,
    };
    start_of_run(program, config, &Request::Train(training))
}

/// The process that predicts the held-out samples.
///
/// # Errors
/// A program that cannot be started.
pub fn predict(program: &Path, config: &Config, adapter: &Path, base: bool) -> Result<Child> {
    let (recipe, samples) = (config.recipe.clone(), config.state.join("samples/held-out"));
    start_of_run(program, config, &Request::Predict { recipe, adapter: adapter.into(), base, samples })
}

/// The process that looks for samples from which nothing can be learned, and tells them with the reason.
///
/// # Errors
/// A program that cannot be started.
pub fn sift(program: &Path, config: &Config) -> Result<Child> {
    let (recipe, samples) = (config.recipe.clone(), config.state.join("samples"));
    start_of_run(program, config, &Request::Sift { recipe, samples })
}

/// The process that reads recipe and model, and says on standard error what is wrong with them.
///
/// # Errors
/// A program that cannot be started.
pub fn check(program: &Path, config: &Config) -> Result<Child> {
    let err = File::create(checked(&config.state))?;
    let mut child =
        start(program, config, &Request::Check { recipe: config.recipe.clone() }, (Stdio::null(), err.into()))?;
    child.stdin = None;
    Ok(child)
}

/// What the process that reads recipe and model has said.
fn checked(state: &Path) -> PathBuf {
    state.join("check.err")
}

/// What [`sift`] found.
///
/// # Errors
/// The system's; an answer that cannot be read.
pub fn sifted(state: &Path) -> Result<Vec<Unusable>> {
    Ok(serde_json::from_slice(&fs::read(folder(state).join("out"))?)?)
}

/// What a process prints goes to files: a pipe that nobody reads would stop it.
fn start_of_run(program: &Path, config: &Config, request: &Request) -> Result<Child> {
    let run = folder(&config.state);
    let (out, err) = (File::create(run.join("out"))?, File::create(run.join("err"))?);
    let mut child = start(program, config, request, (out.into(), err.into()))?;
    // It was asked once.
    child.stdin = None;
    Ok(child)
}

/// The last line that the run's process printed to standard error: its reason, where it failed.
pub fn last_words(state: &Path) -> String {
    last_line(&folder(state).join("err"))
}

/// The same of the process that read recipe and model.
pub fn check_words(state: &Path) -> String {
    last_line(&checked(state))
}

/// What stands behind the last `error: `, in one line; else the last line.
fn last_line(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let said = text.rfind("error: ").map_or(last, |place| &text[place + "error: ".len()..]);
    let words: Vec<&str> = said.split_whitespace().collect();
    words.join(" ").chars().take(REASON_CHARS_MAX).collect()
}
