//! The service's processes: what is to be done next, and what follows when one has ended.
//!
//! One at a time, besides the one that reads recipe and model. What a process leaves lies in `STATE/run`, so that a service that was killed
//! finds it again.

use super::Service;
use crate::agent::judge::failing::trouble;
use crate::agent::judge::gate::Accepted;
use crate::agent::judge::policy::{Conditions, hinders_training};
use crate::agent::locks::lock;
use crate::agent::moment::Moment;
use crate::agent::record::adapters::Event;
use crate::agent::record::asked;
use crate::agent::record::membership::{self, Offer};
use crate::agent::record::run::{self, Next, Run};
use crate::agent::record::sample_name::{self, name_of};
use crate::agent::work::conclusion;
use crate::agent::work::request::Unusable;
use crate::agent::work::training;
use crate::amounts::counted;
use anyhow::Result;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};

/// The exit code of a trainer that was asked to stop and wrote a checkpoint.
const PAUSED: i32 = 130;
/// Those of one whose result its recipe refuses: more is forgotten than allowed, or a gate is not met.
const REFUSED: [i32; 2] = [4, 5];

/// What a process is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// To learn.
    Train,
    /// To predict the held-out samples, into a file.
    Predict(PathBuf),
    /// To find samples from which nothing can be learned, after something has failed for this reason; and whether that was the training.
    Sift { reason: String, training: bool },
}

/// A process of the run, and what it is for.
pub(super) struct Work {
    pub child: Child,
    pub task: Task,
    pub began_s: f64,
    asked_to_pause: bool,
}

impl Work {
    fn line(&self, samples: u64) -> String {
        match &self.task {
            Task::Train => format!("training on {}", counted(samples, "sample")),
            Task::Predict(_) => "comparing the new adapter".into(),
            Task::Sift { .. } => "a training failed: looking for samples that nothing can be learned from".into(),
        }
    }
}

impl Service<'_> {
    /// Lets the run go on, or begins one; gives what the service does, and what it waits for.
    pub(super) fn go_on_or_begin(&mut self, conditions: &Conditions, now: Moment) -> Result<(String, Vec<String>)> {
        let policy = self.known()?.policy();
        match (&mut self.work, run::current(&self.config.state)?) {
            (Some(work), run) => {
                let reason = hinders_training(&policy, conditions, false);
                if let (Task::Train, Some(reason), false) = (&work.task, reason, work.asked_to_pause) {
                    work.asked_to_pause = true;
                    (self.world.terminate)(work.child.id());
                    tracing::info!(reason = reason.text(&policy, conditions), "pausing the training");
                }
                Ok((work.line(run.map_or(0, |run| run.samples)), Vec::new()))
            }
            (None, Some(run)) => Ok((self.go_on(&run, conditions, now)?, Vec::new())),
            (None, None) => self.begin(conditions, now),
        }
    }

    /// Begins what is to be done next, if anything is: to try what the fleet offers, else to train.
    fn begin(&mut self, conditions: &Conditions, now: Moment) -> Result<(String, Vec<String>)> {
        let last = self.config.fleet.as_ref().and_then(|fleet| membership::last(&self.history, &fleet.channel));
        let offer = self.syncing.offer();
        let untried = offer.filter(|offer| last.is_none_or(|(number, _)| offer.release.number() > number));
        if let Some(offer) = untried
            && conditions.held_out[0] >= self.config.gate.held_out_min.max(1)
        {
            let number = offer.release.number();
            run::try_release(&self.config.state, offer, now.unix_s)?;
            tracing::info!(%number, "trying the fleet's release");
            return Ok((format!("trying release {number}"), Vec::new()));
        }
        let mut waits = self.known()?.waits(conditions);
        if let Some(offer) = untried {
            waits.push(format!("release {} waits for held-out samples", offer.release.number()));
        }
        // Learning goes on from what the fleet has, unless that is bad here.
        let from = offer.filter(|offer| {
            let accepted = last.filter(|(number, _)| *number == offer.release.number()).and_then(|(_, how)| how);
            accepted.is_some_and(|how| how != Accepted::Rejected)
        });
        let from = from.cloned();
        if self.checking.is_some() {
            return Ok(("reading the recipe and the model".into(), waits));
        }
        if let Some(text) = self.trouble(now) {
            return Ok((text, waits));
        }
        if !waits.is_empty() {
            return Ok((format!("waiting: {}", waits.join("; ")), waits));
        }
        if self.backlog_s.is_some_and(|since| now.steady_s - since < super::BACKLOG_S) {
            return Ok(("taking in samples".into(), waits));
        }
        let run = self.begin_training(from.as_ref(), now)?;
        Ok((format!("training on {}", counted(run.samples, "sample")), Vec::new()))
    }

    fn begin_training(&mut self, from: Option<&Offer>, now: Moment) -> Result<Run> {
        // No sample changes its class under the snapshot.
        let _inventory = lock(&self.board.store.inventory);
        // What begins with a release is learned for others, too.
        let fleet = self.config.fleet.as_ref().filter(|_| from.is_some());
        let samples_min = fleet.map_or(0, |fleet| fleet.samples_min_shared());
        let run = run::begin(&self.config.state, from, samples_min, now.unix_s)?;
        tracing::info!(samples = run.samples, round = run.round, "a training begins");
        Ok(run)
    }

    /// What keeps the device from learning now, in words; nothing once it is time to try again.
    fn trouble(&mut self, now: Moment) -> Option<String> {
        let cause = self.cause(now);
        let trouble = trouble(&self.history)?;
        let new = lock(&self.board.store.inventory).added.saturating_sub(self.added_at_failure);
        let new_min = self.config.policy.new_samples_min.unwrap_or(1);
        let asked = self.again || asked::training(&self.config.state).is_ok_and(|asked| asked.is_some());
        if !trouble.at_check && (asked || trouble.is_over(&cause, new, new_min, now.unix_s)) {
            return None;
        }
        if trouble.at_check && trouble.is_over(&cause, 0, 1, now.unix_s) {
            self.check();
            return Some("reading the recipe and the model".into());
        }
        let known = self.known().ok()?;
        Some(known.trouble(&cause, now.minute_of_day, now.unix_s).unwrap_or_else(|| trouble.text()))
    }

    /// [`super::World::cause`], asked now and then.
    pub(super) fn cause(&mut self, now: Moment) -> String {
        if now.steady_s - self.cause.1 > super::CAUSE_S {
            self.cause = ((self.world.cause)(&self.config), now.steady_s);
        }
        self.cause.0.clone()
    }

    /// Starts to read recipe and model, in another process: what is wrong with them is told now and not after some nights.
    pub(super) fn check(&mut self) {
        if let Some(mut old) = self.checking.take() {
            let _ = old.kill().and_then(|()| old.wait());
        }
        match training::check(&self.world.program, &self.config) {
            Ok(child) => self.checking = Some(child),
            Err(error) => tracing::error!("recipe and model cannot be read: {error:#}"),
        }
    }

    /// What the process that reads recipe and model has found, once it has ended.
    pub(super) fn checked(&mut self, now: Moment) -> Result<()> {
        let Some(status) = self.checking.as_mut().map(Child::try_wait).transpose()?.flatten() else { return Ok(()) };
        self.checking = None;
        let cause = self.cause(now);
        let before = trouble(&self.history);
        if status.success() {
            let was_wrong = before.is_some_and(|trouble| trouble.at_check);
            return if was_wrong { self.record(Event::Checked { at: now.unix_s }) } else { Ok(()) };
        }
        let reason = training::check_words(&self.config.state);
        let told = before.is_some_and(|trouble| {
            trouble.at_check && trouble.reason == reason && !trouble.is_over(&cause, 0, 1, now.unix_s)
        });
        tracing::error!(reason, "recipe and model cannot be used");
        self.again = false;
        if told {
            return Ok(());
        }
        self.record(Event::Failed { at: now.unix_s, samples: 0, reason, release: None, cause: Some(cause) })
    }

    /// The next step of a run without a process.
    fn go_on(&mut self, run: &Run, conditions: &Conditions, now: Moment) -> Result<String> {
        let next = run::next(&self.config.state, run)?;
        let program = &self.world.program;
        let policy = self.known()?.policy();
        let (child, task) = match next {
            Next::Train => match hinders_training(&policy, conditions, true) {
                Some(reason) => return Ok(format!("training paused: {}", reason.text(&policy, conditions))),
                None => (training::train(program, &self.config, run)?, Task::Train),
            },
            Next::Predict { adapter, base, answers } => {
                (training::predict(program, &self.config, &adapter, base)?, Task::Predict(answers))
            }
            Next::Judge => return self.judge(run, now),
        };
        let work = Work { child, task, began_s: now.steady_s, asked_to_pause: false };
        let line = work.line(run.samples);
        self.work = Some(work);
        Ok(line)
    }

    fn judge(&mut self, run: &Run, now: Moment) -> Result<String> {
        let (adapter, verdict) = match conclusion::conclude(&self.config, run, now.unix_s) {
            Ok(found) => found,
            // A full disk may have room again; what cannot be read never will be.
            Err(error) if error.downcast_ref::<serde_json::Error>().is_some() => {
                self.failed(format!("{error:#}"), now)?;
                return Ok("the comparison failed".into());
            }
            Err(error) => return Err(error),
        };
        self.read_history()?;
        if run.release.is_none() {
            lock(&self.board.store.inventory).read_learned(&self.config.state)?;
            self.again = false;
        }
        self.warned = super::Warned::default();
        self.keep_written(now);
        self.sync_soon(now);
        let counted = verdict.counted;
        tracing::info!(adapter, better = verdict.better, p = verdict.p, ?counted, "judged");
        let outcome = if verdict.better { "put to use" } else { "not better than what is in use" };
        Ok(format!("adapter {adapter} {outcome}"))
    }

    pub(super) fn poll(&mut self) -> Result<Option<(Work, ExitStatus)>> {
        let Some(work) = &mut self.work else { return Ok(None) };
        let status = work.child.try_wait()?;
        Ok(status.and_then(|status| Some((self.work.take()?, status))))
    }

    pub(super) fn ended(&mut self, (work, status): (Work, ExitStatus), now: Moment) -> Result<()> {
        let state = self.config.state.clone();
        if work.task == Task::Train {
            let seconds = (now.steady_s - work.began_s).ceil() as u64;
            self.record(Event::Trained { at: now.unix_s, seconds })?;
        }
        match (work.task, status.code()) {
            (Task::Predict(answers), Some(0)) => run::answered(&state, &answers),
            (Task::Sift { reason, training }, Some(0)) => {
                let found = training::sifted(&state)?;
                self.set_aside(&found, (reason, training), now)
            }
            (Task::Sift { reason, .. }, _) => self.failed(reason, now),
            (Task::Train, Some(0 | PAUSED)) => Ok(()),
            // Killed from outside, as by the kernel for its memory: the next look goes on from the checkpoint, if it was us.
            (Task::Train, None) if work.asked_to_pause => Ok(()),
            // No sample is at fault.
            (Task::Train, Some(code)) if REFUSED.contains(&code) => self.failed(training::last_words(&state), now),
            (task, _) => {
                let reason = format!("{status}: {}", training::last_words(&state));
                self.sift(reason, task == Task::Train, now)
            }
        }
    }

    /// Something failed. Perhaps one sample is the reason: it is looked for before the rest is given up.
    fn sift(&mut self, reason: String, training: bool, now: Moment) -> Result<()> {
        tracing::warn!(reason, "a training failed; its samples are looked at");
        match training::sift(&self.world.program, &self.config) {
            Ok(child) => {
                let task = Task::Sift { reason, training };
                self.work = Some(Work { child, task, began_s: now.steady_s, asked_to_pause: false });
                Ok(())
            }
            Err(error) => self.failed(format!("{reason} ({error:#})"), now),
        }
    }

    /// Goes on without what nothing can be learned from, where that was the reason.
    fn set_aside(&mut self, found: &[Unusable], (reason, training): (String, bool), now: Moment) -> Result<()> {
        let [first, ..] = found else { return self.failed(reason, now) };
        let all = lock(&self.board.store.inventory).counts().iter().sum::<u64>();
        let count = found.len() as u64;
        if count * 2 > all {
            let many = "so it is not one of them: look at the recipe's preprocessing";
            return self.failed(
                format!(
                    "{reason}; of {count} of {} ({}) nothing can be learned, {many}",
                    counted(all, "sample"),
                    first.reason
                ),
                now,
            );
        }
        let mut sides = [false; 2];
        for sample in found {
            tracing::warn!(sample = %sample.input.display(), reason = sample.reason, "set a sample aside");
            if let Some(side) = self.board.store.set_aside(&name_of(&sample.input), &sample.reason, now.unix_s)? {
                sides[side] = true;
            }
        }
        if sides == [false, false] {
            return self.failed(reason, now);
        }
        let sample = sample_name::text(&name_of(&first.input));
        self.record(Event::SetAside { at: now.unix_s, count, sample, reason: first.reason.clone() })?;
        // What was learned without the bad ones stays; what was to be learned from them begins anew.
        if training {
            run::end(&self.config.state)?;
            self.again = true;
        }
        Ok(())
    }

    /// A run that came to nothing. Its samples are as new as before.
    fn failed(&mut self, reason: String, now: Moment) -> Result<()> {
        tracing::error!(reason, "a training failed");
        let state = self.config.state.clone();
        let run = run::current(&state)?;
        let (samples, release) = run.map_or((0, None), |run| (run.samples, run.release));
        if let (Some(fleet), Some(release)) = (&self.config.fleet, &release) {
            membership::tell(fleet, release, None, None)?;
            self.sync_soon(now);
        }
        self.again = false;
        self.added_at_failure = lock(&self.board.store.inventory).added;
        self.cause.1 = f64::NEG_INFINITY;
        let cause = Some(self.cause(now));
        if release.is_none() {
            asked::trained(&state)?;
        }
        self.record(Event::Failed { at: now.unix_s, samples: samples.max(1), reason, release, cause })?;
        run::end(&state)
    }
}
