//! The service: a loop that looks about once a second, takes in samples, trains when the policy allows, compares what was
//! learned with what is in use, and puts the better to use.
//!
//! It holds no state of its own that matters: all of it lies in files, so it may be killed at any moment and goes on where
//! it was. Clock, processes' end and free space arrive in [`World`].

use super::adapters::{self, Event};
use super::api::{self, listen::Socket};
use super::board::{Board, Found, lock};
use super::conditions::{Processors, memory_pressure, on_battery, temperature_c};
use super::config::{self, Config};
use super::feedback::falls_short;
use super::flash::{Ledger, Meter};
use super::gate::Accepted;
use super::member::{self, Syncing};
use super::notify::Notifier;
use super::policy::{Conditions, Reason, hinders_start, hinders_training};
use super::samples;
use super::training::{self, Next, Run};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the service looks about.
const TICK: Duration = Duration::from_millis(500);
/// Parts of the rest between two looks, after each of which it may end.
const SLICES: u32 = 10;
/// How long a trainer may take to write its checkpoint when the service ends.
const GRACE: Duration = Duration::from_millis(1400);
/// The exit code of a trainer that was asked to stop and wrote a checkpoint.
const PAUSED: i32 = 130;
const DAY_S: i64 = 24 * 3600;
/// How often what was written is written down.
const LEDGER_S: f64 = 900.0;

/// A moment, by three clocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Seconds since 1970.
    pub unix_s: i64,
    /// Minute of the local day.
    pub minute_of_day: u16,
    /// Seconds of the clock that nobody sets.
    pub steady_s: f64,
}

/// The outside world.
pub struct World<'a> {
    /// edgetune's own program, which trains and predicts.
    pub program: PathBuf,
    /// The root of the file system, for the kernel's files.
    pub root: PathBuf,
    /// The clocks.
    pub now: &'a dyn Fn() -> Moment,
    /// Bytes of memory that may be taken.
    pub memory_free: &'a dyn Fn() -> Option<u64>,
    /// Bytes that a folder's file system has left.
    pub disk_free: &'a dyn Fn(&Path) -> Option<u64>,
    /// A number drawn evenly from 0…1.
    pub chance: &'a dyn Fn() -> f64,
    /// Asks a process to end (SIGTERM).
    pub terminate: &'a dyn Fn(u32),
    /// Raised to end the service.
    pub stop: &'a AtomicBool,
    /// Raised to read the configuration again.
    pub reload: &'a AtomicBool,
    /// The service manager.
    pub notifier: Notifier,
    /// Megabytes that may be written a day, in place of the configuration's.
    pub flash_budget_mb: Option<u64>,
}

impl World<'_> {
    fn read(&self, file: &Path) -> Result<Config, config::Error> {
        let mut config = Config::read(file)?;
        config.storage.flash_budget_mb_per_day = self.flash_budget_mb.or(config.storage.flash_budget_mb_per_day);
        Ok(config)
    }
}

/// Serves until it is stopped, and answers on the configuration's socket and those of the service manager.
///
/// # Errors
/// A configuration or a state that cannot be used; another agent on the same state.
pub fn serve(file: &Path, world: &World<'_>, mut sockets: Vec<Socket>) -> Result<()> {
    let config = world.read(file)?;
    fs::create_dir_all(&config.state).with_context(|| config.state.display().to_string())?;
    fs::create_dir_all(&config.spool).with_context(|| config.spool.display().to_string())?;
    let lock = File::create(config.state.join("agent.lock"))?;
    if lock.try_lock().is_err() {
        bail!("{}: another agent works on this state; stop it, or name another `state`", config.state.display());
    }
    if let Some(address) = &config.api.listen {
        sockets.push(api::listen::bind(address)?);
    }
    let mut service = Service::new(config, world)?;
    let api = (!sockets.is_empty()).then(|| Answering::start(sockets, &service.board, &world.program)).transpose()?;
    world.notifier.ready();
    tracing::info!(state = %service.config.state.display(), spool = %service.config.spool.display(), "serving");
    service.serve(file);
    world.notifier.stopping();
    if let Some(api) = &api {
        api.running.stop();
    }
    let ended = service.end();
    if let Some(api) = api {
        api.join(&service.board);
    }
    ended
}

/// The API's threads.
struct Answering {
    running: api::Running,
    keeper: JoinHandle<()>,
}

impl Answering {
    fn start(sockets: Vec<Socket>, board: &Arc<Board>, program: &Path) -> Result<Self> {
        let (program, keeping) = (program.to_path_buf(), board.clone());
        let keep = move || {
            let start = |adapter: &Path| training::predictor(&program, &keeping.config(), adapter);
            keeping.predictor.keep(start);
        };
        let keeper = std::thread::Builder::new().name("predictor".into()).spawn(keep)?;
        Ok(Self { running: api::start(sockets, board.clone())?, keeper })
    }

    fn join(self, board: &Board) {
        self.running.join();
        board.predictor.end();
        if self.keeper.join().is_err() {
            tracing::error!("the thread that keeps the predictor panicked");
        }
    }
}

/// Until the next look, or until the service is to end.
fn rest(stop: &AtomicBool) {
    for _ in 0..SLICES {
        if !stop.load(Ordering::Relaxed) {
            std::thread::sleep(TICK / SLICES);
        }
    }
}

/// A process of the run, and what it is for.
struct Work {
    child: Child,
    next: Next,
    began_s: f64,
    asked_to_pause: bool,
}

struct Service<'a> {
    config: Config,
    world: &'a World<'a>,
    processors: Processors,
    history: Vec<Event>,
    board: Arc<Board>,
    meter: Meter,
    ledger: Ledger,
    /// When what was written was last written down.
    ledger_s: f64,
    work: Option<Work>,
    syncing: Syncing,
    status: String,
    warned: Warned,
}

/// What was said of the adapter in use, once.
#[derive(Debug, Default)]
struct Warned {
    drift: bool,
    falls_short: bool,
}

impl<'a> Service<'a> {
    fn new(config: Config, world: &'a World<'a>) -> Result<Self> {
        let history = adapters::history(&config.state)?;
        if training::current(&config.state)?.is_none() {
            training::end(&config.state)?;
        }
        Ok(Self {
            board: Arc::new(Board::read(&config)?),
            ledger: Ledger::read(&config.state),
            config,
            world,
            processors: Processors::default(),
            history,
            meter: Meter::default(),
            ledger_s: (world.now)().steady_s,
            work: None,
            syncing: Syncing::default(),
            status: String::new(),
            warned: Warned::default(),
        })
    }

    fn serve(&mut self, file: &Path) {
        while !self.world.stop.load(Ordering::Relaxed) {
            if self.world.reload.swap(false, Ordering::Relaxed) {
                self.reload(file);
            }
            // A full disk may have room again at the next look; nothing is lost until then.
            if let Err(error) = self.look() {
                self.tell(&format!("cannot go on: {error:#}"));
            }
            self.world.notifier.watchdog();
            rest(self.world.stop);
        }
    }

    /// A configuration that cannot be used leaves the old one.
    fn reload(&mut self, file: &Path) {
        self.world.notifier.reloading((((self.world.now)().steady_s) * 1e6) as u64);
        match self.world.read(file) {
            Ok(new) if new.state != self.config.state => {
                tracing::error!("the new configuration has another `state`; restart the service to use it");
            }
            Ok(new) => {
                if new.fleet != self.config.fleet {
                    let _ = self.syncing.end();
                    self.syncing = Syncing::default();
                }
                if new.api != self.config.api {
                    tracing::warn!("[api] has changed; restart the service to listen elsewhere or to more at a time");
                }
                *lock(&self.board.config) = Arc::new(new.clone());
                self.config = new;
                tracing::info!("read the configuration again");
            }
            Err(error) => tracing::error!(%error, "the old configuration stays"),
        }
        self.world.notifier.ready();
    }

    /// One look about.
    fn look(&mut self) -> Result<()> {
        self.take_in();
        let now = (self.world.now)();
        self.sync(now);
        let written = self.count_writes(now);
        let conditions = self.conditions(now, written);
        if let Some(ended) = self.poll()? {
            self.ended(ended, now)?;
        }
        let line = match (&mut self.work, training::current(&self.config.state)?) {
            (Some(work), run) => {
                let reason = hinders_training(&self.config.policy, &conditions, false);
                if let (Next::Train, Some(reason), false) = (&work.next, reason, work.asked_to_pause) {
                    work.asked_to_pause = true;
                    (self.world.terminate)(work.child.id());
                    tracing::info!(reason = reason.text(), "pausing the training");
                }
                let samples = run.map_or(0, |run| run.samples);
                match work.next {
                    Next::Train => format!("training on {samples} samples"),
                    _ => "comparing the new adapter".to_string(),
                }
            }
            (None, Some(run)) => self.go_on(&run, &conditions, now)?,
            (None, None) => self.begin(&conditions, now)?,
        };
        self.show(&line, &conditions, written)?;
        self.watch(now)?;
        self.tell(&line);
        Ok(())
    }

    /// Talks to the fleet where there is one. What goes wrong with it hinders nothing else.
    fn sync(&mut self, now: Moment) {
        let Some(fleet) = &self.config.fleet else { return };
        let cache = training::cache(&self.config);
        if let Err(error) = self.syncing.look(&self.world.program, &cache, fleet, now, (self.world.chance)()) {
            tracing::error!("the fleet: {error:#}");
        }
    }

    fn sync_soon(&mut self, now: Moment) {
        if let Some(fleet) = &self.config.fleet {
            self.syncing.soon(fleet, now, (self.world.chance)());
        }
    }

    /// Begins what is to be done next, if anything is: to try what the fleet offers, else to train.
    fn begin(&mut self, conditions: &Conditions, now: Moment) -> Result<String> {
        let last = self.config.fleet.as_ref().and_then(|fleet| member::last(&self.history, &fleet.channel));
        let offer = self.syncing.offer();
        let untried = offer.filter(|offer| last.is_none_or(|(version, _)| offer.release.version > version));
        if let Some(offer) = untried {
            let version = offer.release.version;
            let held_out = lock(&self.board.inventory).counts()[1];
            let needed = self.config.gate.held_out_min.max(1);
            if held_out >= needed {
                training::try_release(&self.config.state, offer, now.unix_s)?;
                tracing::info!(version, "trying the fleet's release");
                return Ok(format!("trying release {version}"));
            }
        }
        if let Some(reason) = self.hinders_start(conditions) {
            let waits = untried.map(|offer| format!("; release {} waits for held-out samples", offer.release.version));
            return Ok(format!("{}{}", reason.text(), waits.unwrap_or_default()));
        }
        // Learning goes on from what the fleet has, unless that is bad here.
        let from = offer.filter(|offer| {
            let accepted = last.filter(|(version, _)| *version == offer.release.version).and_then(|(_, how)| how);
            accepted.is_some_and(|how| how != Accepted::Rejected)
        });
        let run = {
            // No sample changes its class under the snapshot.
            let _inventory = lock(&self.board.inventory);
            training::begin(&self.config.state, from, now.unix_s)?
        };
        tracing::info!(samples = run.samples, round = run.round, "a training begins");
        Ok(format!("training on {} samples", run.samples))
    }

    /// Bytes written in the last 24 hours. To be asked before an ended process is waited for, whose count goes with it.
    fn count_writes(&mut self, now: Moment) -> Option<u64> {
        let mut processes = vec![std::process::id()];
        processes.extend(self.work.as_ref().map(|work| work.child.id()));
        processes.extend(self.syncing.process());
        processes.extend(self.board.predictor.processes());
        let more = self.meter.look(&self.world.root, &processes)?;
        self.ledger.add(now.unix_s, more);
        if now.steady_s - self.ledger_s >= LEDGER_S {
            self.keep_ledger(now);
        }
        Some(self.ledger.day(now.unix_s))
    }

    fn keep_ledger(&mut self, now: Moment) {
        self.ledger_s = now.steady_s;
        if let Err(error) = self.ledger.write(&self.config.state) {
            tracing::error!(%error, "cannot keep what was written");
        }
    }

    /// Puts on the board what this look found.
    fn show(&mut self, doing: &str, conditions: &Conditions, written_bytes: Option<u64>) -> Result<()> {
        let active = adapters::active(&self.config.state)?;
        let promise = active.as_deref().and_then(|active| adapters::promise(&self.history, active)).copied();
        let tally = active.as_deref().map(|active| lock(&self.board.feedback).of(active)).unwrap_or_default();
        let counted = tally.counted(self.config.feedback.unanswered);
        let falls_short =
            promise.is_some_and(|promise| falls_short(&promise, counted, self.config.feedback.confidence));
        *lock(&self.board.found) = Found {
            doing: doing.into(),
            active,
            promise,
            falls_short,
            training: training::current(&self.config.state)?,
            trained_s: conditions.trained_s,
            written_bytes,
            load: conditions.load,
            temperature_c: conditions.temperature_c,
        };
        Ok(())
    }

    /// Takes back an adapter that does not keep what its verdict promised, where there is one to go back to.
    fn watch(&mut self, now: Moment) -> Result<()> {
        let found = lock(&self.board.found).clone();
        let Some(active) = found.active else { return Ok(()) };
        if let Some(drift) = lock(&self.board.confidences).of(&active).filter(|drift| drift.beyond_chance)
            && !std::mem::replace(&mut self.warned.drift, true)
        {
            tracing::warn!(drop = drift.drop, "predictions are less sure than on held-out samples: label new ones");
        }
        let (true, Some(promise)) = (found.falls_short, found.promise) else { return Ok(()) };
        let (right, of) = lock(&self.board.feedback).of(&active).counted(self.config.feedback.unanswered);
        let reason = format!("right on {right} of {of}, where {} of {} were promised", promise.right, promise.samples);
        let Some(instead) = adapters::fallback(&self.history).map(String::from) else {
            if !std::mem::replace(&mut self.warned.falls_short, true) {
                tracing::warn!(active, reason, "the adapter is bad, and no other was in use before it");
            }
            return Ok(());
        };
        tracing::warn!(active, instead, reason, "the adapter is taken back");
        adapters::withdraw(&self.config.state, &instead, reason, now.unix_s)?;
        self.history = adapters::history(&self.config.state)?;
        self.warned = Warned::default();
        Ok(())
    }

    fn tell(&mut self, line: &str) {
        let [train, held_out] = lock(&self.board.inventory).counts();
        let line = format!("{line}; {train} samples, {held_out} held out");
        if line != self.status {
            self.world.notifier.status(&line);
            tracing::info!(status = line);
            self.status = line;
        }
    }

    /// A spool that cannot be read now may be later: it is said, and nothing else suffers.
    fn take_in(&mut self) {
        let (limits, held_out) = (&self.config.samples, self.config.gate.held_out);
        match samples::take_in(&self.config.spool, &self.config.state, limits, held_out, &self.board.inventory) {
            Ok(found) => {
                for (file, reason) in &found.refused {
                    tracing::warn!(file = %file.display(), reason, "refused a sample");
                }
                if found.full && found.taken > 0 {
                    tracing::warn!("samples.total-max-mb is reached; what comes now waits in the spool");
                }
            }
            Err(error) => tracing::error!(%error, "cannot take in samples"),
        }
    }

    fn conditions(&mut self, now: Moment, written_bytes: Option<u64>) -> Conditions {
        let (root, state) = (&self.world.root, &self.config.state);
        let ours = self.work.as_ref().map(|work| work.child.id());
        let learned = |event: &Event| match event {
            Event::Judged { samples, release: None, .. } | Event::Failed { samples, release: None, .. } => {
                Some(*samples)
            }
            _ => None,
        };
        let seen = self.history.iter().rev().find_map(learned).unwrap_or(0);
        let trained = |event: &Event| match event {
            Event::Trained { at, seconds } if *at > now.unix_s - DAY_S && *at <= now.unix_s => *seconds,
            _ => 0,
        };
        let running = self.work.as_ref().map_or(0.0, |work| now.steady_s - work.began_s);
        let budget = self.config.storage.flash_budget_mb_per_day.map(|budget| budget * 1_000_000);
        let ended = |event: &&Event| learned(event).is_some();
        Conditions {
            now_unix_s: now.unix_s,
            minute_of_day: now.minute_of_day,
            new_samples: lock(&self.board.inventory).counts()[0].saturating_sub(seen),
            load: self.processors.others(root, ours, now.steady_s),
            temperature_c: temperature_c(root),
            on_battery: on_battery(root),
            memory_free_bytes: (self.world.memory_free)(),
            memory_pressure: memory_pressure(root),
            disk_free_bytes: (self.world.disk_free)(state),
            last_ended_unix_s: self.history.iter().rev().find(ended).map(Event::at),
            trained_s: self.history.iter().map(trained).sum::<u64>() + running as u64,
            flash_left_bytes: budget.zip(written_bytes).map(|(budget, written)| budget.saturating_sub(written)),
        }
    }

    /// Without enough to compare on, or with one class, nothing could be learned or shown.
    fn hinders_start(&self, conditions: &Conditions) -> Option<Reason> {
        let inventory = lock(&self.board.inventory);
        if inventory.counts()[1] < self.config.gate.held_out_min || inventory.classes() < 2 {
            return Some(Reason::Samples);
        }
        hinders_start(&self.config.policy, conditions)
    }

    /// The next step of a run without a process.
    fn go_on(&mut self, run: &Run, conditions: &Conditions, now: Moment) -> Result<String> {
        let next = training::next(&self.config.state)?;
        let program = &self.world.program;
        let child = match &next {
            Next::Train => match hinders_training(&self.config.policy, conditions, true) {
                Some(reason) => return Ok(format!("training paused: {}", reason.text())),
                None => training::train(program, &self.config, run)?,
            },
            Next::Predict { adapter, .. } => training::predict(program, &self.config, adapter)?,
            Next::Judge => {
                let (adapter, verdict) = training::conclude(&self.config, run, now.unix_s)?;
                self.history = adapters::history(&self.config.state)?;
                self.warned = Warned::default();
                self.keep_ledger(now);
                self.sync_soon(now);
                let counted = verdict.counted;
                tracing::info!(adapter, better = verdict.better, p = verdict.p, ?counted, "judged");
                let outcome = if verdict.better { "put to use" } else { "not better than what is in use" };
                return Ok(format!("adapter {adapter} {outcome}"));
            }
        };
        let line =
            if next == Next::Train { format!("training on {} samples", run.samples) } else { "comparing".into() };
        self.work = Some(Work { child, next, began_s: now.steady_s, asked_to_pause: false });
        Ok(line)
    }

    fn poll(&mut self) -> Result<Option<(Work, ExitStatus)>> {
        let Some(work) = &mut self.work else { return Ok(None) };
        let status = work.child.try_wait()?;
        Ok(status.and_then(|status| Some((self.work.take()?, status))))
    }

    fn ended(&mut self, (work, status): (Work, ExitStatus), now: Moment) -> Result<()> {
        let state = self.config.state.clone();
        if work.next == Next::Train {
            let seconds = (now.steady_s - work.began_s).ceil() as u64;
            self.record(Event::Trained { at: now.unix_s, seconds })?;
        }
        match (&work.next, status.code()) {
            (Next::Predict { answers, .. }, Some(0)) => training::answered(&state, answers)?,
            (_, Some(0)) => {}
            (Next::Train, Some(PAUSED)) => {}
            // Killed from outside, as by the kernel for its memory: the next look goes on from the checkpoint, if it was us.
            (Next::Train, None) if work.asked_to_pause => {}
            _ => {
                let reason = format!("{status}: {}", training::last_words(&state));
                tracing::error!(reason, "a training failed");
                let run = training::current(&state)?;
                let (samples, release) = run.map_or((0, None), |run| (run.samples, run.release));
                if let (Some(fleet), Some(release)) = (&self.config.fleet, &release) {
                    member::tell(fleet, release, None, None)?;
                    self.sync_soon(now);
                }
                self.record(Event::Failed { at: now.unix_s, samples, reason, release })?;
                training::end(&state)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, event: Event) -> Result<()> {
        adapters::record(&self.config.state, &event)?;
        self.history.push(event);
        Ok(())
    }

    /// Lets a process write its checkpoint, but not for long.
    fn end(&mut self) -> Result<()> {
        self.keep_ledger((self.world.now)());
        self.syncing.end()?;
        let Some(mut work) = self.work.take() else { return Ok(()) };
        (self.world.terminate)(work.child.id());
        let began = (self.world.now)().steady_s;
        while work.child.try_wait()?.is_none() {
            if (self.world.now)().steady_s - began > GRACE.as_secs_f64() {
                work.child.kill()?;
                work.child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if work.next == Next::Train {
            let now = (self.world.now)();
            self.record(Event::Trained { at: now.unix_s, seconds: (now.steady_s - work.began_s).ceil() as u64 })?;
        }
        Ok(())
    }
}
