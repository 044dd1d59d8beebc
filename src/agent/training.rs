//! One training from its snapshot of the samples to its verdict, as files: whatever moment the power goes, what lies in
//! `STATE/run` says what is to be done next.
//!
//! `run/` appears by rename, with `run.json` and `data/`, hard links to the samples of that moment, so that a paused
//! training goes on with the same samples. The trainer and the comparison are processes of edgetune's own: their memory
//! is given back, and what kills them does not kill the service.

use super::adapters::{self, Event, FLEET, Release};
use super::config::Config;
use super::feedback::Promise;
use super::frames::Class;
use super::gate::{Accepted, Comparison, Verdict, accept, judge};
use super::member::{self, Offer};
use super::samples::{self, with};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a training is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Samples it learns from.
    pub samples: u64,
    /// Seconds since 1970 when the snapshot was taken.
    pub began: i64,
    /// The release that is tried: then nothing is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// The fleet's round that is learned for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
}

/// What is to be done next for the run in `STATE/run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Train, or go on with it.
    Train,
    /// Predict the held-out samples with an adapter, into a file.
    Predict {
        /// The adapter's file.
        adapter: PathBuf,
        /// Where the answers go.
        answers: PathBuf,
    },
    /// Compare the answers.
    Judge,
}

/// What the run has made.
const CANDIDATE: &str = "candidate.edelta";
/// What it goes on from.
const FROM: &str = "from.edelta";

fn folder(state: &Path) -> PathBuf {
    state.join("run")
}

/// Takes a snapshot of the samples to learn from, and of the release that is learned from, where there is one.
///
/// # Errors
/// The system's.
pub fn begin(state: &Path, offer: Option<&Offer>, at: i64) -> Result<Run> {
    let draft = draft(state)?;
    let mut samples = 0;
    for class in samples::visible(&state.join("samples/train"))? {
        let target = draft.join("data").join(class.file_name().unwrap_or_default());
        fs::create_dir_all(&target)?;
        for file in samples::visible(&class)? {
            fs::hard_link(&file, target.join(file.file_name().unwrap_or_default())).map_err(|e| with(&file, e))?;
            samples += 1;
        }
    }
    if let Some(offer) = offer {
        copy(&offer.adapter, &draft.join(FROM))?;
    }
    let run = Run { samples, began: at, release: None, round: offer.and_then(|offer| offer.round) };
    put_in_place(state, &draft, &run)?;
    Ok(run)
}

/// Begins to try a release: its adapter takes the place of one that was trained.
///
/// # Errors
/// The system's.
pub fn try_release(state: &Path, offer: &Offer, at: i64) -> Result<Run> {
    let draft = draft(state)?;
    fs::create_dir_all(&draft)?;
    copy(&offer.adapter, &draft.join(CANDIDATE))?;
    let run = Run { samples: 0, began: at, release: Some(offer.release.clone()), round: None };
    put_in_place(state, &draft, &run)?;
    Ok(run)
}

/// Where a run is put together; nothing is there yet.
fn draft(state: &Path) -> Result<PathBuf> {
    let draft = state.join(".run.tmp");
    remove(&draft)?;
    // What is left of a run whose end was cut off.
    remove(&folder(state))?;
    Ok(draft)
}

fn put_in_place(state: &Path, draft: &Path, run: &Run) -> Result<()> {
    fs::write(draft.join("run.json"), serde_json::to_vec(run)?)?;
    File::open(draft.join("run.json"))?.sync_all()?;
    fs::rename(draft, folder(state))?;
    Ok(File::open(state)?.sync_all()?)
}

/// Copies a file and brings it to the disk.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map_err(|error| with(from, error))?;
    Ok(File::open(to)?.sync_all()?)
}

/// The run that is not finished.
///
/// # Errors
/// A run whose description cannot be read.
pub fn current(state: &Path) -> Result<Option<Run>> {
    let path = folder(state).join("run.json");
    match fs::read(&path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| path.display().to_string())?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(with(&path, error).into()),
    }
}

/// Ends the run, whatever it has reached.
///
/// # Errors
/// The system's.
pub fn end(state: &Path) -> Result<()> {
    // The description goes first: without it there is no run.
    let description = folder(state).join("run.json");
    if description.exists() {
        fs::remove_file(description)?;
    }
    Ok(remove(&folder(state))?)
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(with(folder, error)),
        _ => Ok(()),
    }
}

/// The adapter that the run has made, once it has.
pub fn candidate(state: &Path) -> PathBuf {
    folder(state).join(CANDIDATE)
}

/// What is to be done next.
///
/// # Errors
/// The system's.
pub fn next(state: &Path) -> Result<Next> {
    let candidate = candidate(state);
    if !candidate.exists() {
        return Ok(Next::Train);
    }
    let mut adapters = vec![(candidate.clone(), adapters::name_of(&candidate)?)];
    if let Some(active) = adapters::active(state)? {
        adapters.push((adapters::path(state, &active), active));
    }
    for (adapter, name) in adapters {
        let answers = answers(state, &name);
        if !answers.exists() {
            return Ok(Next::Predict { adapter, answers });
        }
    }
    Ok(Next::Judge)
}

fn answers(state: &Path, adapter: &str) -> PathBuf {
    folder(state).join(format!("answers-{adapter}.json"))
}

/// The trainer's process.
///
/// # Errors
/// A program that cannot be started.
pub fn train(program: &Path, config: &Config, of: &Run) -> Result<Child> {
    let run = folder(&config.state);
    let out = candidate(&config.state);
    let mut command = edgetune(program, &cache(config));
    command.arg("train").arg(&config.recipe).arg("--data").arg(run.join("data")).arg("--out").arg(&out);
    if run.join(FROM).exists() && named(&config.recipe)?.solver.is_none_or(|solver| solver == "steps") {
        command.arg("--from").arg(run.join(FROM));
    }
    if let Some(round) = of.round {
        command.arg("--round").arg(round.to_string());
    }
    if run.join("candidate.edelta.checkpoint").exists() {
        command.arg("--resume");
    }
    spawn(command, &run)
}

/// The process that predicts the held-out samples.
///
/// # Errors
/// A program that cannot be started.
pub fn predict(program: &Path, config: &Config, adapter: &Path) -> Result<Child> {
    let run = folder(&config.state);
    let mut command = edgetune(program, &cache(config));
    command.arg("predict").arg(model(&config.recipe)?).arg("--adapter").arg(adapter).arg("--json");
    command.args(tokenizer(&config.recipe)?);
    command.arg(config.state.join("samples/held-out"));
    spawn(command, &run)
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

/// edgetune's own program, to work for this state. It ends with this process.
pub(super) fn edgetune(program: &Path, cache: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--cache").arg(cache);
    command.env("EDGETUNE_PARENT", std::process::id().to_string());
    command
}

/// Where its processes keep what they can make again.
pub fn cache(config: &Config) -> PathBuf {
    config.state.join("cache")
}

/// What a process prints goes to files: a pipe that nobody reads would stop it.
fn spawn(mut command: Command, run: &Path) -> Result<Child> {
    let (out, err) = (File::create(run.join("out"))?, File::create(run.join("err"))?);
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().with_context(|| format!("cannot start {program}"))
}

/// The last line that the run's process printed to standard error: its reason, where it failed.
pub fn last_words(state: &Path) -> String {
    let text = fs::read(folder(state).join("err")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_string()
}

/// The answers of a finished prediction, in their place.
///
/// # Errors
/// The system's.
pub fn answered(state: &Path, answers: &Path) -> Result<()> {
    let out = folder(state).join("out");
    File::open(&out)?.sync_all()?;
    Ok(fs::rename(out, answers)?)
}

/// What a recipe says that is asked for here.
#[derive(Deserialize)]
struct Named {
    model: Option<PathBuf>,
    solver: Option<String>,
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

/// Compares the answers, says in the history what came of it, puts a better adapter to use, keeps for the fleet what it is to hear,
/// and ends the run. Gives the verdict and the adapter.
///
/// # Errors
/// Answers that cannot be read, the system's.
pub fn conclude(config: &Config, run: &Run, at: i64) -> Result<(String, Verdict)> {
    let state = &config.state;
    let candidate = candidate(state);
    let name = adapters::name_of(&candidate)?;
    let found = read_answers(&answers(state, &name))?;
    let new = right(&found);
    let active = adapters::active(state)?;
    let old = match &active {
        Some(active) => right(&read_answers(&answers(state, active))?),
        None => commonest(state, new.keys())?,
    };
    let mut counted = Comparison::default();
    for (sample, new) in &new {
        match (*new, old.get(sample).copied().unwrap_or(false)) {
            (true, false) => counted.wins += 1,
            (false, true) => counted.losses += 1,
            _ => counted.ties += 1,
        }
    }
    let history = adapters::history(state)?;
    let follows = active.as_deref().is_none_or(|active| adapters::by(&history, active) == Some(FLEET));
    let (verdict, accepted) = match &run.release {
        None => (judge(counted, config.gate.confidence), None),
        // What was in use here before: the fleet has taken back what came after it.
        Some(_) if follows && adapters::by(&history, &name).is_some() => {
            (Verdict { better: true, ..judge(counted, config.gate.confidence) }, Some(Accepted::Activated))
        }
        Some(_) => {
            let (verdict, accepted) = accept(counted, config.gate.confidence, follows);
            (verdict, Some(accepted))
        }
    };
    let judged = Event::Judged {
        at,
        adapter: name.clone(),
        against: active.unwrap_or_else(|| "the commonest class".into()),
        samples: run.samples,
        verdict,
        promise: Some(promise(&found)),
        release: run.release.clone(),
        accepted,
    };
    // After a lost power the same verdict is found again; it is said once.
    let same =
        |event: &Event| matches!(event, Event::Judged { at, adapter, .. } if *adapter == name && *at >= run.began);
    if !history.iter().any(same) {
        adapters::record(state, &judged)?;
    }
    if verdict.better {
        let kept = candidate.with_extension("kept");
        copy(&candidate, &kept)?;
        adapters::keep(state, &kept, &name)?;
        adapters::activate(state, &name, if run.release.is_some() { FLEET } else { "gate" }, at)?;
    }
    if let Some(fleet) = &config.fleet {
        let part = |right: &HashMap<String, bool>| {
            right.values().filter(|right| **right).count() as f32 / counted.samples().max(1) as f32
        };
        // What was learned here takes part in no comparison of releases: it would count where it loses, and stay where it wins.
        let accuracy = (follows || !verdict.better).then(|| [part(&old), part(&new)]);
        match &run.release {
            Some(release) => member::tell(fleet, release, accepted, accuracy)?,
            // A round is of what was learned from its release.
            None if fleet.share && counted.wins >= counted.losses && folder(state).join(FROM).exists() => {
                member::share(fleet, &candidate)?;
            }
            None => {}
        }
    }
    end(state)?;
    Ok((name, verdict))
}

/// An answer as `edgetune predict --json` gives it.
#[derive(Deserialize)]
struct Found {
    input: String,
    #[serde(default)]
    classes: Vec<Class>,
}

fn read_answers(answers: &Path) -> Result<Vec<Found>> {
    let text = fs::read(answers).map_err(|error| with(answers, error))?;
    serde_json::from_slice(&text).with_context(|| answers.display().to_string())
}

/// Whether each answer is the class in whose folder the sample lies.
fn right(found: &[Found]) -> HashMap<String, bool> {
    let right = |answer: &Found| answer.classes.first().is_some_and(|class| *class.name == class_of(&answer.input));
    found.iter().map(|answer| (answer.input.clone(), right(answer))).collect()
}

/// How an adapter did by itself, for its predictions to be held to.
fn promise(found: &[Found]) -> Promise {
    let confidences: Vec<f64> =
        found.iter().filter_map(|answer| Some(f64::from(answer.classes.first()?.probability))).collect();
    let count = confidences.len().max(1) as f64;
    let confidence = confidences.iter().sum::<f64>() / count;
    let variance = confidences.iter().map(|one| (one - confidence).powi(2)).sum::<f64>() / count;
    let right = right(found).values().filter(|right| **right).count() as u64;
    Promise { samples: found.len() as u64, right, confidence, deviation: variance.sqrt() }
}

/// What always answering the commonest class of the training samples gets right: a model without a head for these classes
/// knows no better.
fn commonest<'a>(state: &Path, inputs: impl Iterator<Item = &'a String>) -> Result<HashMap<String, bool>> {
    let snapshot = folder(state).join("data");
    let data = if snapshot.exists() { snapshot } else { state.join("samples/train") };
    let mut largest = (0, String::new());
    for class in samples::visible(&data)? {
        let count = samples::visible(&class)?.len();
        if count > largest.0 {
            largest = (count, class.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    Ok(inputs.map(|input| (input.clone(), class_of(input) == largest.1)).collect())
}

fn class_of(input: &str) -> String {
    let folder = Path::new(input).parent().and_then(Path::file_name);
    folder.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_cut_off_anywhere_lets_the_next_run_begin() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path();
        fs::create_dir_all(state.join("samples/train/cat")).unwrap();
        fs::write(state.join("samples/train/cat/a.png"), "a").unwrap();
        let run = begin(state, None, 7).unwrap();
        assert_eq!((run.samples, current(state).unwrap()), (1, Some(run)));
        fs::remove_file(folder(state).join("run.json")).unwrap();
        assert_eq!(current(state).unwrap(), None, "without its description it is no run");
        let run = begin(state, None, 8).unwrap();
        assert_eq!(current(state).unwrap(), Some(run));
        // A snapshot that was not finished is made again.
        end(state).unwrap();
        fs::create_dir_all(state.join(".run.tmp/data/dog")).unwrap();
        assert_eq!(begin(state, None, 9).unwrap().samples, 1);
        assert!(!folder(state).join("data/dog").exists());
        assert!(state.join("samples/train/cat/a.png").exists());
    }
}
