//! The end of a training: the answers of two adapters compared, the verdict in the history, and what follows from it.
//!
//! May be cut off anywhere and done again: the verdict is found once, and what follows is done where it was not.

use super::request::HeldOut;
use crate::agent::config::Config;
use crate::agent::judge::gate::{Accepted, Comparison, PairedVerdict, Promise, accept, judge};
use crate::agent::record::adapters::{self, Event, FLEET, Learned};
use crate::agent::record::asked;
use crate::agent::record::folders::{error_at, file_name, visible};
use crate::agent::record::forgetting;
use crate::agent::record::inventory;
use crate::agent::record::ledger;
use crate::agent::record::membership;
use crate::agent::record::run::{BASE, DATA, FROM, LEFT_OUT, Run, answers, candidate, copy, end, folder, verdict};
use crate::agent::record::sample_name;
use crate::delta::Delta;
use crate::sync::wire::Hex;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a run came to: its adapter, the verdict, and whether that was found now or before a lost power.
struct Judgement {
    name: String,
    verdict: PairedVerdict,
    accepted: Option<Accepted>,
    /// Whether a person or the agent has put something to use after the verdict.
    used: bool,
    history: Vec<Event>,
}

/// Compares the answers, says in the history what came of it, puts a better adapter to use, keeps for the fleet what it is to hear,
/// and ends the run. Gives the verdict and the adapter. May be cut off anywhere and done again: the verdict is found once.
///
/// # Errors
/// Answers that cannot be read, the system's.
pub fn conclude(config: &Config, run: &Run, at: i64) -> Result<(String, PairedVerdict)> {
    let state = &config.state;
    let candidate = candidate(state);
    let judgement = judgement(config, run, at)?;
    let Judgement { name, verdict, .. } = &judgement;
    let kept = candidate.with_extension("kept");
    copy(&candidate, &kept)?;
    adapters::keep(state, &kept, name)?;
    if run.release.is_none() {
        // Those of classes that were left out are not new for that: else they would begin the same training for ever.
        inventory::keep_learned(state, &[DATA, LEFT_OUT].map(|side| folder(state).join(side)))?;
        adapters::forget_unused(state, &judgement.history, name)?;
        // Before the end: what was asked for would be done twice if the power were lost between the two.
        asked::trained(state)?;
    }
    if verdict.better && !judgement.used {
        adapters::activate(state, name, if run.release.is_some() { FLEET } else { "gate" }, at)?;
    }
    forgetting::replaced(state)?;
    tell_fleet(config, run, &judgement, at)?;
    end(state)?;
    Ok((judgement.name, judgement.verdict))
}

/// The verdict that is in the history, or a new one, which then is.
fn judgement(config: &Config, run: &Run, at: i64) -> Result<Judgement> {
    let state = &config.state;
    let name = adapters::name_of(&candidate(state))?;
    let mut history = adapters::history(state)?;
    if let Some((Event::Judged { verdict, accepted, .. }, used)) = verdict(&history, run, &name) {
        let (verdict, accepted) = (*verdict, *accepted);
        return Ok(Judgement { name, verdict, accepted, used, history });
    }
    let found = read_answers(&answers(state, &name))?;
    let new = right(&found);
    let active = adapters::active(state)?;
    let (against, old) = match &active {
        Some(active) => (active.clone(), right(&read_answers(&answers(state, active))?)),
        None => first_to_beat(state, &new)?,
    };
    let counted = compare(&new, &old);
    let (confidence, follows) = (config.gate.confidence, follows(&history, active.as_deref()));
    let must_go = match &active {
        Some(active) => forgetting::to_replace(state)?.contains(active),
        None => false,
    };
    let (verdict, accepted) = match &run.release {
        None if must_go => {
            let (verdict, accepted) = accept(counted, confidence, true);
            (verdict, Some(accepted))
        }
        None => (judge(counted, confidence), None),
        // What was in use here before: the fleet has taken back what came after it.
        Some(_) if follows && adapters::activated_by(&history, &name).is_some() => {
            (PairedVerdict { better: true, ..judge(counted, confidence) }, Some(Accepted::Activated))
        }
        Some(_) => {
            let (verdict, accepted) = accept(counted, confidence, follows);
            (verdict, Some(accepted))
        }
    };
    let judged = Event::Judged {
        at: at.max(run.began),
        adapter: name.clone(),
        against,
        samples: run.samples,
        verdict,
        confidence,
        promise: Some(promise(&found)),
        release: run.release.clone(),
        accepted,
    };
    if run.release.is_none() {
        ledger::write(state, &Event::Learned(learned(config, run, &name, at)?))?;
    }
    adapters::record(state, &judged)?;
    history.push(judged);
    Ok(Judgement { name, verdict, accepted, used: false, history })
}

/// What a training's adapter was learned from.
fn learned(config: &Config, run: &Run, adapter: &str, at: i64) -> Result<Learned> {
    let (state, terms) = (&config.state, &config.samples);
    let classes = visible(&folder(state).join(DATA))?;
    let mut samples = Vec::new();
    for class in &classes {
        let name = |file: &PathBuf| (sample_name::text(&sample_name::name_of(file)), file_name(class));
        samples.extend(visible(class)?.iter().map(name));
    }
    let bytes = fs::read(candidate(state))?;
    let delta = Delta::parse(&bytes).ok();
    let header = delta.as_ref().map(Delta::header);
    let from = folder(state).join(FROM);
    Ok(Learned {
        at,
        adapter: adapter.into(),
        base: header.map(|header| Hex(header.base).to_string()),
        recipe: header.and_then(|header| header.recipe).map(|recipe| Hex(recipe).to_string()),
        from: from.exists().then(|| adapters::name_of(&from)).transpose()?,
        round: run.round,
        samples: run.samples,
        classes: classes.len() as u64,
        list: ledger::keep_list(state, &mut samples)?,
        purpose: terms.purpose.clone(),
        consent: terms.consent.clone(),
        keep_days: terms.keep_days,
    })
}

/// Whether what is in use came from the fleet, or nothing is.
fn follows(history: &[Event], active: Option<&str>) -> bool {
    active.is_none_or(|active| adapters::activated_by(history, active) == Some(FLEET))
}

fn compare(new: &HashMap<String, bool>, old: &HashMap<String, bool>) -> Comparison {
    let mut counted = Comparison::default();
    for (sample, new) in new {
        match (*new, old.get(sample).copied().unwrap_or(false)) {
            (true, false) => counted.wins += 1,
            (false, true) => counted.losses += 1,
            _ => counted.ties += 1,
        }
    }
    counted
}

/// What the first adapter has to beat: the base where that knows the classes, or the answer that is the commonest class, whichever is
/// right more often.
fn first_to_beat(state: &Path, new: &HashMap<String, bool>) -> Result<(String, HashMap<String, bool>)> {
    let base = right(&read_answers(&answers(state, BASE))?);
    let commonest = commonest(state, new.keys())?;
    let count = |right: &HashMap<String, bool>| right.values().filter(|right| **right).count();
    match !base.is_empty() && count(&base) >= count(&commonest) {
        true => Ok(("the base".into(), base)),
        false => Ok(("the commonest class".into(), commonest)),
    }
}

fn tell_fleet(config: &Config, run: &Run, judgement: &Judgement, at: i64) -> Result<()> {
    let Some(fleet) = &config.fleet else { return Ok(()) };
    let Judgement { name, verdict, accepted, history, .. } = judgement;
    let judged = self::verdict(history, run, name);
    let Some((Event::Judged { against, promise: Some(promise), .. }, _)) = judged else { return Ok(()) };
    let counted = verdict.counted;
    let before = (promise.right + counted.losses).saturating_sub(counted.wins);
    let part = |right: u64| right as f32 / counted.samples().max(1) as f32;
    // What was learned here takes part in no comparison of releases: it would count where it loses, and stay where it wins.
    let was_adapter = adapters::activated_by(history, against);
    let follows = was_adapter.is_none_or(|by| by == FLEET);
    let accuracy = (follows || !verdict.better).then(|| [part(before), part(promise.right)]);
    match &run.release {
        Some(release) => membership::tell(fleet, release, *accepted, accuracy),
        // A round is of what was learned from its release.
        None if fleet.share && !run.stays && folder(&config.state).join(FROM).exists() => {
            let counted = of_learned(&config.state, name, against, counted)?;
            match counted.wins >= counted.losses {
                true => membership::share(fleet, &config.state, (name, &candidate(&config.state)), at),
                false => Ok(()),
            }
        }
        None => Ok(()),
    }
}

/// A comparison without the classes that were left out of the training: of those an adapter is not to know anything.
fn of_learned(state: &Path, name: &str, against: &str, counted: Comparison) -> Result<Comparison> {
    let left_out = visible(&folder(state).join(LEFT_OUT))?;
    let before = answers(state, against);
    if left_out.is_empty() || !before.exists() {
        return Ok(counted);
    }
    let is_left_out = |sample: &str| left_out.iter().any(|class| class.ends_with(class_of(sample)));
    let mut new = right(&read_answers(&answers(state, name))?);
    new.retain(|sample, _| !is_left_out(sample));
    Ok(compare(&new, &right(&read_answers(&before)?)))
}

fn read_answers(answers: &Path) -> Result<Vec<HeldOut>> {
    let text = fs::read(answers).map_err(|error| error_at(answers, error))?;
    serde_json::from_slice(&text).with_context(|| answers.display().to_string())
}

/// Whether each answer is the class in whose folder the sample lies.
fn right(found: &[HeldOut]) -> HashMap<String, bool> {
    let right = |answer: &HeldOut| {
        answer.classes.first().is_some_and(|class| class.probability.is_some() && class.name == class_of(&answer.input))
    };
    found.iter().map(|answer| (answer.input.clone(), right(answer))).collect()
}

/// How an adapter did by itself, for its predictions to be held to.
fn promise(found: &[HeldOut]) -> Promise {
    let confidences: Vec<f64> =
        found.iter().filter_map(|answer| Some(f64::from(answer.classes.first()?.probability?))).collect();
    let count = confidences.len().max(1) as f64;
    let confidence = confidences.iter().sum::<f64>() / count;
    let variance = confidences.iter().map(|one| (one - confidence).powi(2)).sum::<f64>() / count;
    let right = right(found).values().filter(|right| **right).count() as u64;
    Promise { samples: found.len() as u64, right, confidence, deviation: variance.sqrt() }
}

/// What always answering the commonest class of the training samples gets right: a model without a head for these classes
/// knows no better.
fn commonest<'a>(state: &Path, inputs: impl Iterator<Item = &'a String>) -> Result<HashMap<String, bool>> {
    let snapshot = folder(state).join(DATA);
    let data = if snapshot.exists() { snapshot } else { state.join("samples/train") };
    let mut largest = (0, String::new());
    for class in visible(&data)? {
        let count = visible(&class)?.len();
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
    use crate::agent::record::run::{self, Next, begin};

    /// A run whose adapter and answers lie there, as after its processes.
    fn place() -> (tempfile::TempDir, Config, Run) {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("state");
        for class in ["cat", "dog"] {
            let folder = state.join("samples/train").join(class);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("a.png"), class).unwrap();
        }
        // The commonest class is one that is never right.
        fs::write(state.join("samples/train/dog/b.png"), "b").unwrap();
        let text = format!("recipe = \"r.toml\"\nstate = {state:?}\nspool = \"spool\"\n");
        let file = root.path().join("edgetune.toml");
        fs::write(&file, text).unwrap();
        let config = Config::read(&file).unwrap();
        let run = begin(&state, None, 0, 7).unwrap();
        fs::write(candidate(&state), "an adapter").unwrap();
        (root, config, run)
    }

    fn answer(state: &Path, adapter: &str, right: usize) {
        let name = |sample| if sample < right { "cat" } else { "dog" };
        let line = |sample| serde_json::json!({"input": format!("/s/cat/{sample}.png"), "classes": [{"name": name(sample), "probability": 0.9}]});
        let text: Vec<_> = (0..10).map(line).collect();
        fs::write(answers(state, adapter), serde_json::to_vec(&text).unwrap()).unwrap();
    }

    fn outcome(state: &Path) -> (usize, usize, Option<String>) {
        let history = adapters::history(state).unwrap();
        let count = |kind: fn(&&Event) -> bool| history.iter().filter(kind).count();
        let judged = count(|event| matches!(event, Event::Judged { .. }));
        let activated = count(|event| matches!(event, Event::Activated { .. }));
        (judged, activated, adapters::active(state).unwrap())
    }

    /// The candidate was in use already, was compared with itself, and found to be no better.
    #[test]
    fn a_lost_power_between_use_and_end_changes_nothing() {
        let (_root, config, run) = place();
        let state = &config.state;
        let name = adapters::name_of(&candidate(state)).unwrap();
        answer(state, &name, 10);
        answer(state, BASE, 2);
        // All but the end: as a lost power leaves it.
        let judged = judgement(&config, &run, 8).unwrap();
        let kept = candidate(state).with_extension("kept");
        copy(&candidate(state), &kept).unwrap();
        adapters::keep(state, &kept, &name).unwrap();
        adapters::activate(state, &name, "gate", 8).unwrap();
        assert!(judged.verdict.better);
        assert_eq!(run::next(state, &run).unwrap(), Next::Judge, "nothing is predicted again");
        let (again, verdict) = conclude(&config, &run, 9).unwrap();
        assert_eq!((again, verdict), (name.clone(), judged.verdict));
        assert_eq!(outcome(state), (1, 1, Some(name)));
        assert_eq!(run::current(state).unwrap(), None);
    }

    #[test]
    fn a_verdict_that_was_cut_off_before_its_use_is_put_to_use() {
        let (_root, config, run) = place();
        let state = &config.state;
        let name = adapters::name_of(&candidate(state)).unwrap();
        answer(state, &name, 10);
        answer(state, BASE, 2);
        judgement(&config, &run, 8).unwrap();
        assert!(conclude(&config, &run, 9).unwrap().1.better);
        assert_eq!(outcome(state), (1, 1, Some(name)));
    }

    #[test]
    fn a_rollback_between_verdict_and_end_stays() {
        let (_root, config, run) = place();
        let state = &config.state;
        let name = adapters::name_of(&candidate(state)).unwrap();
        answer(state, &name, 10);
        answer(state, BASE, 2);
        let kept = state.join("kept");
        copy(&candidate(state), &kept).unwrap();
        adapters::keep(state, &kept, &name).unwrap();
        judgement(&config, &run, 8).unwrap();
        adapters::activate(state, &name, "gate", 8).unwrap();
        adapters::deactivate(state, "rollback", 9).unwrap();
        conclude(&config, &run, 10).unwrap();
        assert_eq!(outcome(state), (1, 1, None), "a person's word counts");
    }

    /// As where a person asks for the same training twice: what it gives is the same adapter, judged twice.
    #[test]
    fn an_adapter_is_not_held_to_classes_that_it_was_not_to_know() {
        let (_root, config, _) = place();
        let state = &config.state;
        answer(state, "new", 4);
        answer(state, "old", 6);
        let counted = Comparison { wins: 0, losses: 2, ties: 8 };
        let of = || of_learned(state, "new", "old", counted).unwrap();
        assert_eq!(of(), counted, "nothing was left out");
        fs::create_dir_all(folder(state).join(LEFT_OUT).join("owl")).unwrap();
        assert_eq!(of(), counted);
        fs::create_dir_all(folder(state).join(LEFT_OUT).join("cat")).unwrap();
        assert_eq!(of(), Comparison::default());
        assert_eq!(of_learned(state, "new", "none", counted).unwrap(), counted);
    }

    #[test]
    fn the_same_adapter_learned_again_in_the_same_second_has_a_verdict_of_its_own() {
        let (_root, config, run) = place();
        let state = &config.state;
        let name = adapters::name_of(&candidate(state)).unwrap();
        answer(state, &name, 10);
        answer(state, BASE, 2);
        conclude(&config, &run, 7).unwrap();
        adapters::deactivate(state, "rollback", 7).unwrap();
        let again = begin(state, None, 0, 7).unwrap();
        fs::write(candidate(state), "an adapter").unwrap();
        answer(state, &name, 10);
        answer(state, BASE, 2);
        conclude(&config, &again, 7).unwrap();
        assert_eq!(outcome(state), (2, 2, Some(name)));
    }

    #[test]
    fn the_first_adapter_has_to_beat_the_base_where_that_knows_the_classes() {
        for (base, better, against) in [(10, false, "the base"), (2, true, "the base")] {
            let (_root, config, run) = place();
            let name = adapters::name_of(&candidate(&config.state)).unwrap();
            answer(&config.state, &name, 10);
            answer(&config.state, BASE, base);
            assert_eq!(conclude(&config, &run, 8).unwrap().1.better, better, "{base} of 10");
            let history = adapters::history(&config.state).unwrap();
            assert!(matches!(&history[0], Event::Judged { against: found, .. } if found == against), "{history:?}");
        }
        let (_root, config, run) = place();
        let name = adapters::name_of(&candidate(&config.state)).unwrap();
        answer(&config.state, &name, 10);
        fs::write(answers(&config.state, BASE), "[]").unwrap();
        conclude(&config, &run, 8).unwrap();
        let history = adapters::history(&config.state).unwrap();
        assert!(
            matches!(&history[0], Event::Judged { against, .. } if against == "the commonest class"),
            "{history:?}"
        );
    }

    /// What is no number is written as null, which could not be read, again and again.
    #[test]
    fn a_probability_that_is_no_number_is_a_wrong_answer() {
        let (_root, config, _run) = place();
        let file = answers(&config.state, "x");
        fs::write(&file, r#"[{"input": "/s/cat/1.png", "classes": [{"name": "cat", "probability": null}]}]"#).unwrap();
        let found = read_answers(&file).unwrap();
        assert!(!right(&found)["/s/cat/1.png"]);
        assert_eq!((promise(&found).right, promise(&found).samples), (0, 1));
    }
}
