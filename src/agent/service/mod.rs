//! The service: a loop that looks about once a second, takes in samples, trains when the policy allows, compares what was
//! learned with what is in use, and puts the better to use.
//!
//! It holds no state of its own that matters: all of it lies in files, so it may be killed at any moment and goes on where
//! it was. Clock, processes' end and free space arrive in [`World`].

mod keeping;
pub mod notify;
pub mod spool;
mod work;

use super::api::{self, listen::Socket};
use crate::agent::board::{Board, ServiceState};
use crate::agent::config::{self, Config};
use crate::agent::judge::failing;
use crate::agent::judge::feedback::falls_short;
use crate::agent::judge::policy::Conditions;
use crate::agent::judge::waiting::Known;
use crate::agent::locks::lock;
use crate::agent::moment::Moment;
use crate::agent::record::adapters::{self, Event};
use crate::agent::record::asked::{self, Ask};
use crate::agent::record::flash::WrittenBytes;
use crate::agent::record::ledger;
use crate::agent::record::refused::{self, RefusedFile};
use crate::agent::record::run;
use crate::agent::record::sample_name::Name;
use crate::agent::record::samples::{Door, PERSON};
use crate::agent::work::predictor;
use crate::agent::work::process;
use crate::agent::work::sync::Syncing;
use crate::amounts::counted;
use crate::host::{Processors, WriteMeter, memory_pressure, on_battery, temperature_c};
use anyhow::{Context, Result, bail};
use notify::Notifier;
use spool::{Look, Spool};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use work::{Task, Work};

/// How often the service looks about.
const TICK: Duration = Duration::from_millis(500);
/// Parts of the rest between two looks, after each of which it may end.
const SLICES: u32 = 10;
/// How long a trainer may take to write its checkpoint when the service ends.
const GRACE: Duration = Duration::from_millis(1400);
/// How long samples are taken in at one look: the service manager waits for its sign of life meanwhile.
const TAKE_IN_S: f64 = 1.0;
/// How long a training waits for samples that still come out of the spool: where they come without end, it must begin sometime.
const BACKLOG_S: f64 = 600.0;
/// How often recipe, model and ONNX Runtime are looked at for a change while they keep the device from learning.
const CAUSE_S: f64 = 5.0;
/// How often what was written is written down.
const WRITTEN_S: f64 = 900.0;

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
    /// Recipe, model and ONNX Runtime as they are on the disk, summed up: another text where one of them has changed.
    pub cause: &'a dyn Fn(&Config) -> String,
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
    ledger::begin(&config.state)?;
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
            let start = |adapter: &Path| predictor::start(&program, &keeping.config(), adapter);
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

struct Service<'a> {
    config: Config,
    world: &'a World<'a>,
    processors: Processors,
    history: Vec<Event>,
    board: Arc<Board>,
    meter: WriteMeter,
    written: WrittenBytes,
    /// When what was written was last written down.
    written_s: f64,
    spool: Spool,
    /// Since when the spool holds more than a look takes in.
    backlog_s: Option<f64>,
    /// When samples that are too old were last looked for.
    expired_s: f64,
    work: Option<Work>,
    /// The process that reads recipe and model.
    checking: Option<Child>,
    /// Whether to train again at once: what was in the way is gone.
    again: bool,
    /// Samples that had come when the last training failed.
    added_at_failure: u64,
    /// What [`World::cause`] gave last, and when.
    cause: (String, f64),
    /// Bytes of the history when it was read: commands append to it, too.
    history_bytes: u64,
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
        let board = Board::read(&config)?;
        board.unix_s.store((world.now)().unix_s, Ordering::Relaxed);
        if run::current(&config.state)?.is_none() {
            run::end(&config.state)?;
        }
        Ok(Self {
            board: Arc::new(board),
            written: WrittenBytes::read(&config.state),
            config,
            world,
            processors: Processors::default(),
            history,
            meter: WriteMeter::default(),
            written_s: (world.now)().steady_s,
            spool: Spool::default(),
            backlog_s: None,
            expired_s: f64::NEG_INFINITY,
            work: None,
            checking: None,
            again: false,
            added_at_failure: 0,
            cause: (String::new(), f64::NEG_INFINITY),
            history_bytes: 0,
            syncing: Syncing::default(),
            status: String::new(),
            warned: Warned::default(),
        })
    }

    fn serve(&mut self, file: &Path) {
        self.check();
        while !self.world.stop.load(Ordering::Relaxed) {
            if self.world.reload.swap(false, Ordering::Relaxed) {
                self.reload(file);
            }
            // A full disk may have room again at the next look; nothing is lost until then.
            if let Err(error) = self.work_once() {
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
                self.spool.wake();
                tracing::info!("read the configuration again");
            }
            Err(error) => tracing::error!(%error, "the old configuration stays"),
        }
        // A person has done something about what was in the way, perhaps.
        self.again |= failing::trouble(&self.history).is_some_and(|trouble| !trouble.at_check);
        self.cause.1 = f64::NEG_INFINITY;
        self.check();
        self.world.notifier.ready();
    }

    /// Does what is due: one look at the spool, what was asked, the fleet and the training.
    fn work_once(&mut self) -> Result<()> {
        let now = (self.world.now)();
        self.board.unix_s.store(now.unix_s, Ordering::Relaxed);
        self.take_in(now);
        self.read_history()?;
        self.do_asked(now);
        self.delete_expired(now);
        self.sync(now);
        let written = self.count_writes(now);
        let conditions = self.conditions(now, written)?;
        self.checked(now)?;
        if let Some(ended) = self.poll()? {
            self.ended(ended, now)?;
        }
        let (line, waits) = self.go_on_or_begin(&conditions, now)?;
        self.show(&line, waits, &conditions, written)?;
        self.watch(now)?;
        self.tell(&line);
        Ok(())
    }

    /// What commands have appended meanwhile.
    fn read_history(&mut self) -> Result<()> {
        let bytes = fs::metadata(self.config.state.join(adapters::HISTORY)).map_or(0, |file| file.len());
        if bytes != self.history_bytes {
            self.history = adapters::history(&self.config.state)?;
            self.history_bytes = bytes;
        }
        Ok(())
    }

    /// What people have asked for: other labels, deleted samples. A training is asked for until it has ended.
    fn do_asked(&mut self, now: Moment) {
        let asked = asked::pending(&self.config.state).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read what is asked for");
            Vec::new()
        });
        for (path, ask) in asked {
            let done = |samples: &[Name], each: &dyn Fn(&Name) -> Result<(), String>| {
                for sample in samples {
                    if let Err(reason) = each(sample) {
                        tracing::warn!(reason, "what was asked for a sample is not done");
                    }
                }
                asked::done(&path)
            };
            let store = &self.board.store;
            let ended = match &ask {
                Ask::Train { .. } => Ok(()),
                Ask::Relabel { samples, label } => done(samples, &|sample| {
                    store.relabel(&self.config.samples, sample, label).map(drop).map_err(|error| error.to_string())
                }),
                Ask::Forget { samples } => match self.forget(samples, now) {
                    Ok(()) => asked::done(&path),
                    // It stays asked for: the next look tries again.
                    Err(error) => {
                        tracing::error!("samples cannot be forgotten yet: {error:#}");
                        Ok(())
                    }
                },
                Ask::Delete { samples } => {
                    done(samples, &|sample| store.delete(sample, PERSON, now.unix_s).map_err(|error| error.to_string()))
                }
            };
            if let Err(error) = ended {
                tracing::error!(%error, now = now.unix_s, "what is asked for cannot be taken away");
            }
        }
    }

    /// Talks to the fleet where there is one. What goes wrong with it hinders nothing else.
    fn sync(&mut self, now: Moment) {
        let Some(fleet) = &self.config.fleet else { return };
        let cache = process::cache(&self.config);
        if let Err(error) = self.syncing.sync_when_due(&self.world.program, &cache, fleet, now, (self.world.chance)()) {
            tracing::error!("the fleet: {error:#}");
        }
    }

    fn sync_soon(&mut self, now: Moment) {
        if let Some(fleet) = &self.config.fleet {
            self.syncing.soon(fleet, now, (self.world.chance)());
        }
    }

    /// Bytes written in the last 24 hours. To be asked before an ended process is waited for, whose count goes with it.
    fn count_writes(&mut self, now: Moment) -> Option<u64> {
        let mut processes = vec![std::process::id()];
        processes.extend(self.work.as_ref().map(|work| work.child.id()));
        processes.extend(self.syncing.process());
        processes.extend(self.board.predictor.processes());
        let more = self.meter.written_since_last(&self.world.root, &processes)?;
        self.written.add(now.unix_s, more);
        if now.steady_s - self.written_s >= WRITTEN_S {
            self.keep_written(now);
        }
        Some(self.written.day(now.unix_s))
    }

    fn keep_written(&mut self, now: Moment) {
        self.written_s = now.steady_s;
        if let Err(error) = self.written.write(&self.config.state) {
            tracing::error!(%error, "cannot keep what was written");
        }
    }

    /// Puts on the board what this look found.
    fn show(
        &mut self,
        doing: &str,
        waits: Vec<String>,
        conditions: &Conditions,
        written_bytes: Option<u64>,
    ) -> Result<()> {
        let active = adapters::active(&self.config.state)?;
        let promise = active.as_deref().and_then(|active| adapters::promise(&self.history, active)).copied();
        let tally = active.as_deref().map(|active| lock(&self.board.feedback).tally(active)).unwrap_or_default();
        let counted = tally.counted(self.config.feedback.unanswered);
        let falls_short = promise
            .zip(self.config.feedback.confidence)
            .is_some_and(|(promise, confidence)| falls_short(&promise, counted, confidence));
        let known = self.known()?;
        let trouble = known.trouble(&self.cause.0, (self.world.now)().minute_of_day, conditions.now_unix_s);
        *lock(&self.board.found) = ServiceState {
            doing: doing.into(),
            waits,
            trouble,
            active,
            promise,
            falls_short,
            training: run::current(&self.config.state)?,
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
        if let Some(drift) = lock(&self.board.confidences).last_block(&active).filter(|drift| drift.beyond_chance)
            && !std::mem::replace(&mut self.warned.drift, true)
        {
            tracing::warn!(drop = drift.drop, "predictions are less sure than on held-out samples: label new ones");
        }
        let (true, Some(promise)) = (found.falls_short, found.promise) else { return Ok(()) };
        let (right, of) = lock(&self.board.feedback).tally(&active).counted(self.config.feedback.unanswered);
        let reason = format!("right on {right} of {of}, where {} of {} were promised", promise.right, promise.samples);
        let Some(instead) = adapters::fallback(&self.config.state, &self.history).map(String::from) else {
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
        let [train, held_out] = lock(&self.board.store.inventory).counts();
        let line = format!("{line}; {}, {held_out} held out", counted(train, "sample"));
        if line != self.status {
            self.world.notifier.status(&line);
            // A load that goes up and down is no news for the log.
            let words = |line: &str| line.replace(|character: char| character.is_ascii_digit(), "");
            if words(&line) != words(&self.status) {
                tracing::info!(status = line);
            }
            self.status = line;
        }
    }

    /// A spool that cannot be read now may be later: it is said, and nothing else suffers.
    fn take_in(&mut self, now: Moment) {
        let door = Door { limits: &self.config.samples, held_out: self.config.gate.held_out, group: None };
        let world = self.world;
        let ends = || world.stop.load(Ordering::Relaxed) || (world.now)().steady_s - now.steady_s > TAKE_IN_S;
        let look = Look { store: &self.board.store, door, now_s: now.steady_s, ends: &ends };
        match self.spool.take_in(&self.config.spool, &look) {
            Ok(found) => {
                self.backlog_s = found.more.then(|| self.backlog_s.unwrap_or(now.steady_s));
                self.keep_refused(&found.refused, now);
                for (file, reason) in &found.errors {
                    tracing::error!(file = %file.display(), reason, "samples there cannot be taken in");
                }
                if found.full {
                    tracing::warn!("samples.total-max-mb is reached; what comes now waits in the spool");
                }
            }
            Err(error) => tracing::error!(%error, spool = %self.config.spool.display(), "cannot take in samples"),
        }
    }

    /// Remembers why files were refused, for whoever asks; what somebody took out of `.refused` is told no more.
    fn keep_refused(&self, refused: &[RefusedFile], now: Moment) {
        let (state, spool) = (&self.config.state, &self.config.spool);
        for RefusedFile { path, reason, .. } in refused {
            tracing::warn!(file = %path.display(), reason, "refused a sample");
        }
        let all = match refused {
            [] => refused::read(state, spool),
            new => refused::add(state, spool, new, now.unix_s).unwrap_or_else(|error| {
                tracing::error!(%error, "the list of what was refused cannot be written");
                refused::read(state, spool)
            }),
        };
        *lock(&self.board.refused) = all;
    }

    fn known(&self) -> Result<Known<'_>> {
        let asked = asked::training(&self.config.state)?;
        // What was in the way of a training that had begun is gone: it waits for nothing new.
        let asked = asked.or(self.again.then_some(false));
        Ok(Known { config: &self.config, history: &self.history, asked })
    }

    fn conditions(&mut self, now: Moment, written_bytes: Option<u64>) -> Result<Conditions> {
        let (root, state) = (&self.world.root, &self.config.state);
        let ours = self.work.as_ref().map(|work| work.child.id());
        let budget = self.config.storage.flash_budget_mb_per_day.map(|budget| budget * 1_000_000);
        let device = Conditions {
            now_unix_s: now.unix_s,
            minute_of_day: now.minute_of_day,
            load: self.processors.others(root, ours, now.steady_s),
            temperature_c: temperature_c(root),
            on_battery: on_battery(root),
            memory_free_bytes: (self.world.memory_free)(),
            memory_pressure: memory_pressure(root),
            disk_free_bytes: (self.world.disk_free)(state),
            flash_left_bytes: budget.zip(written_bytes).map(|(budget, written)| budget.saturating_sub(written)),
            ..Conditions::default()
        };
        let running = self.work.as_ref().map_or(0.0, |work| now.steady_s - work.began_s) as u64;
        Ok(self.known()?.conditions(&lock(&self.board.store.inventory), device, running))
    }

    fn record(&mut self, event: Event) -> Result<()> {
        adapters::record(&self.config.state, &event)?;
        self.read_history()
    }

    /// Lets a process write its checkpoint, but not for long.
    fn end(&mut self) -> Result<()> {
        self.keep_written((self.world.now)());
        self.syncing.end()?;
        if let Some(mut checking) = self.checking.take() {
            checking.kill()?;
            checking.wait()?;
        }
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
        if work.task == Task::Train {
            let now = (self.world.now)();
            self.record(Event::Trained { at: now.unix_s, seconds: (now.steady_s - work.began_s).ceil() as u64 })?;
        }
        Ok(())
    }
}
