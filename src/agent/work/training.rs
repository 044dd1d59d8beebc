//! The processes of a run: one that trains, one that predicts the held-out samples, one that looks for samples from which nothing
//! can be learned; and the one that reads recipe and model beforehand. What they said when they have ended.
//!
//! Takes what lies in `STATE/run`; what a process prints goes to `out` and `err` there.

use super::process::{cache, edgetune};
use crate::agent::config::Config;
use crate::agent::record::folders::with;
use crate::agent::record::run::{DATA, FROM, Run, candidate, folder};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Characters of a reason that a process gives.
const REASON_CHARS_MAX: usize = 1000;

/// The trainer's process.
///
/// # Errors
/// A program that cannot be started.
pub fn train(program: &Path, config: &Config, of: &Run) -> Result<Child> {
    let run = folder(&config.state);
    let out = candidate(&config.state);
    let mut command = edgetune(program, &cache(config));
    command.arg("train").arg(&config.recipe).arg("--data").arg(run.join(DATA)).arg("--out").arg(&out);
    // One that has changed since it was taken is set aside, and so told; left out in silence it would be of no use for ever.
    command.arg("--no-skip");
    let recipe = named(&config.recipe)?;
    let goes_on = run.join(FROM).exists() && recipe.solver.is_none_or(|solver| solver == "steps");
    if goes_on {
        command.arg("--from").arg(run.join(FROM));
    }
    if let Some(round) = of.round {
        command.arg("--round").arg(round.to_string());
    }
    // A plan may choose differently now, so it begins anew, with the features that it has; a delta to go on from has no plan.
    let plans = !goes_on && recipe.train.iter().any(|text| text == "auto");
    if run.join("candidate.edelta.checkpoint").exists() && !plans {
        command.arg("--resume");
    }
    spawn(command, &run)
}

/// The process that predicts the held-out samples.
///
/// # Errors
/// A program that cannot be started.
pub fn predict(program: &Path, config: &Config, adapter: &Path, base: bool) -> Result<Child> {
    let run = folder(&config.state);
    let mut command = edgetune(program, &cache(config));
    command.arg("predict").arg(model(&config.recipe)?).arg("--adapter").arg(adapter).arg("--json");
    command.arg("--no-skip").args(base.then_some("--untrained"));
    command.args(tokenizer(&config.recipe)?);
    command.arg(config.state.join("samples/held-out"));
    spawn(command, &run)
}

/// The process that looks for samples from which nothing can be learned, and tells them with the reason.
///
/// # Errors
/// A program that cannot be started.
pub fn sift(program: &Path, config: &Config) -> Result<Child> {
    let mut command = edgetune(program, &cache(config));
    command.arg("agent").arg("sift").arg(&config.recipe).arg(config.state.join("samples"));
    spawn(command, &folder(&config.state))
}

/// The process that reads recipe and model, and says on standard error what is wrong with them.
///
/// # Errors
/// A program that cannot be started.
pub fn check(program: &Path, config: &Config) -> Result<Child> {
    let mut command = edgetune(program, &cache(config));
    command.arg("agent").arg("check").arg(&config.recipe);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(checked(&config.state))?);
    command.spawn().with_context(|| format!("cannot start {}", program.display()))
}

/// What the process that reads recipe and model has said.
fn checked(state: &Path) -> PathBuf {
    state.join("check.err")
}

/// A sample from which nothing can be learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusable {
    /// Its file.
    pub input: PathBuf,
    /// Why.
    pub reason: String,
}

/// What [`sift`] found.
///
/// # Errors
/// The system's; an answer that cannot be read.
pub fn sifted(state: &Path) -> Result<Vec<Unusable>> {
    Ok(serde_json::from_slice(&fs::read(folder(state).join("out"))?)?)
}

/// The process that answers applications with an adapter, over its standard input and output ([`super::frames`]).
///
/// # Errors
/// A program that cannot be started.
pub fn predictor(program: &Path, config: &Config, adapter: &Path) -> Result<Child> {
    let mut command = edgetune(program, &cache(config));
    command.arg("agent").arg("predictor").arg(model(&config.recipe)?).arg(adapter).args(tokenizer(&config.recipe)?);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().with_context(|| format!("cannot start {}", program.display()))
}

/// What a process prints goes to files: a pipe that nobody reads would stop it.
fn spawn(mut command: Command, run: &Path) -> Result<Child> {
    let (out, err) = (File::create(run.join("out"))?, File::create(run.join("err"))?);
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().with_context(|| format!("cannot start {program}"))
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

/// What a recipe says that is asked for here.
#[derive(Deserialize)]
struct Named {
    model: Option<PathBuf>,
    solver: Option<String>,
    #[serde(default)]
    train: Vec<String>,
    #[serde(default)]
    samples: NamedSamples,
}

#[derive(Default, Deserialize)]
struct NamedSamples {
    tokenizer: Option<PathBuf>,
}

fn named(recipe: &Path) -> Result<Named> {
    let text = fs::read_to_string(recipe).map_err(|error| with(recipe, error))?;
    toml::from_str(&text).with_context(|| recipe.display().to_string())
}

/// The flag for the tokenizer that a recipe names, if it does.
fn tokenizer(recipe: &Path) -> Result<Vec<OsString>> {
    let named = named(recipe)?.samples.tokenizer;
    let path = named.map(|tokenizer| recipe.parent().unwrap_or(Path::new("")).join(tokenizer));
    Ok(path.map(|path| vec!["--tokenizer".into(), path.into()]).unwrap_or_default())
}

/// The model that a recipe names.
fn model(recipe: &Path) -> Result<PathBuf> {
    match named(recipe)?.model {
        Some(model) => Ok(recipe.parent().unwrap_or(Path::new("")).join(model)),
        None => bail!("{}: it names no model; write `model = \"model.onnx\"`", recipe.display()),
    }
}
