//! Predictions with the adapter in use, by a process of their own: one that has the model loaded already, and whose crash
//! is not the service's.
//!
//! A thread of the service keeps that process (and starts it when it is first asked). Where another adapter comes into use, a
//! new process is started; once that is ready it takes over, and the old one finishes what it was asked, so that no
//! request is lost. A process that dies or hangs is replaced, and its request asked once more. It never loads a model itself.

use super::frames::{self, Answer};
use super::process;
use super::request::Request;
use crate::agent::config::Config;
use crate::agent::locks::lock;
use crate::agent::record::adapters;
use anyhow::{Context, Result};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Requests that may wait for their turn.
const WAITING_MAX: usize = 16;
/// How often the keeper looks about while somebody wants predictions.
const LOOK: Duration = Duration::from_millis(100);
/// How long a process may take to load its model.
const START_MAX: Duration = Duration::from_secs(300);
/// How long a process may take for one sample.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long to wait after a process that did not start, doubled each time up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No adapter is in use.
    #[error("no adapter is in use yet")]
    NoAdapter,
    /// Too many wait already.
    #[error("{WAITING_MAX} predictions wait already")]
    Busy,
    /// The process was not ready in time.
    #[error("the model is not loaded: {0}")]
    NotReady(String),
    /// Two processes died of this sample.
    #[error("the process that predicts ended twice without an answer")]
    Lost,
}

/// One process with one adapter.
struct Lane {
    adapter: String,
    process: u32,
    child: Mutex<Child>,
    pipe: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    asked: Mutex<Option<Instant>>,
    dead: AtomicBool,
}

impl Lane {
    fn new(adapter: String, mut child: Child) -> Result<Self> {
        let pipe = child.stdin.take().zip(child.stdout.take()).context("a process without its pipes")?;
        let pipe = Mutex::new((pipe.0, BufReader::new(pipe.1)));
        let process = child.id();
        Ok(Self { adapter, process, child: child.into(), pipe, asked: None.into(), dead: AtomicBool::new(false) })
    }

    /// The first message: nothing from a process that is ready, or why it is not.
    fn hello(&self) -> Result<(), String> {
        match frames::read(&mut lock(&self.pipe).1) {
            Ok(Some(message)) if message.is_empty() => Ok(()),
            Ok(Some(message)) => Err(String::from_utf8_lossy(&message).into_owned()),
            Ok(None) => Err("the process that predicts ended while it loaded the model".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// One sample's answer; nothing where the process is lost.
    fn ask(&self, top: u16, sample: &[u8]) -> Option<Answer> {
        let (to, from) = &mut *lock(&self.pipe);
        *lock(&self.asked) = Some(Instant::now());
        let sent = frames::write(to, &[&top.to_le_bytes(), sample]);
        let answer = sent.and_then(|()| frames::read(from)).ok().flatten();
        *lock(&self.asked) = None;
        answer.and_then(|answer| serde_json::from_slice(&answer).ok())
    }

    fn hangs(&self) -> bool {
        lock(&self.asked).is_some_and(|asked| asked.elapsed() > ANSWER_MAX)
    }

    fn has_ended(&self) -> bool {
        self.dead.load(Ordering::Relaxed) || !matches!(lock(&self.child).try_wait(), Ok(None))
    }

    /// Whoever reads its pipe then finds the end.
    fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
        let _ = lock(&self.child).kill();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.kill();
        let _ = lock(&self.child).wait();
    }
}

#[derive(Default)]
struct Desk {
    wanted: bool,
    ending: bool,
    lane: Option<Arc<Lane>>,
    /// Processes that finish what they were asked.
    leaving: Vec<Weak<Lane>>,
    trouble: Option<String>,
}

/// Starts the process that answers applications with an adapter, over its standard input and output ([`frames`]).
///
/// # Errors
/// A program that cannot be started.
pub fn start(program: &Path, config: &Config, adapter: &Path) -> Result<Child> {
    let request = Request::Answer { recipe: config.recipe.clone(), adapter: adapter.into() };
    process::start(program, config, &request, (Stdio::piped(), Stdio::inherit()))
}

/// Asks for predictions, from any thread.
pub struct Predictor {
    state: PathBuf,
    desk: Mutex<Desk>,
    changed: Condvar,
    waiting: AtomicUsize,
    lost: AtomicU64,
}

/// A process that loads its model.
struct Starting {
    lane: Arc<Lane>,
    since: Instant,
    ready: Receiver<Result<(), String>>,
}

impl Predictor {
    /// For the adapter in use of a state.
    pub fn new(state: &Path) -> Self {
        let (desk, waiting, lost) = (Mutex::default(), AtomicUsize::new(0), AtomicU64::new(0));
        Self { state: state.into(), desk, changed: Condvar::new(), waiting, lost }
    }

    /// The likeliest `top` classes of a sample, and the adapter that says so. Waits `patience` for a process that is ready.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn ask(&self, top: u16, sample: &[u8], patience: Duration) -> Result<(String, Answer), Failure> {
        let _turn = Turn::take(&self.waiting)?;
        let deadline = Instant::now() + patience;
        for _ in 0..2 {
            let lane = self.lane(deadline)?;
            if let Some(answer) = lane.ask(top, sample) {
                return Ok((lane.adapter.clone(), answer));
            }
            lane.kill();
            self.changed.notify_all();
        }
        Err(Failure::Lost)
    }

    /// Processes that died or hung.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The processes that there are.
    pub fn processes(&self) -> Vec<u32> {
        lock(&self.desk).lane.iter().map(|lane| lane.process).collect()
    }

    fn lane(&self, deadline: Instant) -> Result<Arc<Lane>, Failure> {
        let in_use = || adapters::active(&self.state).map_err(|error| Failure::NotReady(error.to_string()));
        if in_use()?.is_none() {
            return Err(Failure::NoAdapter);
        }
        let mut desk = lock(&self.desk);
        if !std::mem::replace(&mut desk.wanted, true) {
            self.changed.notify_all();
        }
        loop {
            if let Some(lane) = desk.lane.as_ref().filter(|lane| !lane.has_ended()) {
                return Ok(lane.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if desk.ending || left.is_zero() {
                let reason = if desk.ending { "the service ends" } else { "it is being loaded" };
                return Err(Failure::NotReady(desk.trouble.clone().unwrap_or_else(|| reason.into())));
            }
            desk = self.changed.wait_timeout(desk, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets [`Predictor::keep`] return.
    pub fn end(&self) {
        lock(&self.desk).ending = true;
        self.changed.notify_all();
    }

    /// Keeps a process for the adapter in use, started by `start` with the adapter's file, until [`Predictor::end`]. To
    /// be called by one thread: a process may end with the thread that started it.
    pub fn keep(self: &Arc<Self>, start: impl Fn(&Path) -> Result<Child>) {
        let mut starting: Option<Starting> = None;
        let (mut pause, mut next_try) = (PAUSES.0, Instant::now());
        let mut desk = lock(&self.desk);
        while !desk.ending {
            self.clear(&mut desk);
            if let Some(done) = starting.as_ref().and_then(Starting::result) {
                let lane = starting.take().expect("something started").lane;
                match done {
                    Ok(()) => {
                        tracing::info!(adapter = lane.adapter, "predicts");
                        let old = desk.lane.replace(lane);
                        desk.leaving.extend(old.as_ref().map(Arc::downgrade));
                        (desk.trouble, pause) = (None, PAUSES.0);
                    }
                    Err(reason) => {
                        tracing::error!(adapter = lane.adapter, reason, "cannot predict");
                        desk.trouble = Some(reason);
                        next_try = Instant::now() + pause;
                        pause = (pause * 2).min(PAUSES.1);
                    }
                }
                self.changed.notify_all();
            }
            if starting.is_none() && desk.wanted && Instant::now() >= next_try {
                let serves = desk.lane.as_ref().map(|lane| lane.adapter.clone());
                drop(desk);
                starting = self.start_other(serves.as_deref(), &start);
                if starting.is_none() {
                    next_try = Instant::now() + LOOK;
                }
                desk = lock(&self.desk);
            }
            // Nobody asks: nothing to look after until somebody does.
            let rest = if desk.wanted { LOOK } else { START_MAX };
            desk = self.changed.wait_timeout(desk, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
        let leaving = desk.leaving.iter().filter_map(Weak::upgrade);
        leaving.chain(desk.lane.clone()).for_each(|lane| lane.kill());
        desk.lane = None;
        self.changed.notify_all();
    }

    /// Takes away what has died or hangs.
    fn clear(&self, desk: &mut Desk) {
        desk.leaving.retain(|lane| lane.strong_count() > 0);
        let leaving = desk.leaving.iter().filter_map(Weak::upgrade);
        leaving.chain(desk.lane.clone()).filter(|lane| lane.hangs()).for_each(|lane| lane.kill());
        if desk.lane.as_ref().is_some_and(|lane| lane.has_ended()) {
            let lane = desk.lane.take().expect("a process that ended");
            tracing::error!(adapter = lane.adapter, "the process that predicts ended; another one is started");
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Starts a process where the adapter in use is another than the one that is served.
    fn start_other(&self, serves: Option<&str>, start: &impl Fn(&Path) -> Result<Child>) -> Option<Starting> {
        let active = adapters::active(&self.state).ok().flatten()?;
        if serves == Some(active.as_str()) {
            return None;
        }
        let child = start(&adapters::path(&self.state, &active));
        let (tell, ready) = channel();
        let lane = match child.and_then(|child| Lane::new(active.clone(), child)) {
            Ok(lane) => Arc::new(lane),
            Err(error) => {
                lock(&self.desk).trouble = Some(format!("{error:#}"));
                tracing::error!(%error, adapter = active, "cannot start the process that predicts");
                return None;
            }
        };
        let starting = lane.clone();
        // Nobody hears it where the service has ended meanwhile.
        std::thread::spawn(move || tell.send(starting.hello()).is_ok());
        Some(Starting { lane, since: Instant::now(), ready })
    }
}

impl Starting {
    /// Whether it is ready, once that is known.
    fn result(&self) -> Option<Result<(), String>> {
        match self.ready.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Disconnected) => Some(Err("the process that predicts was lost".into())),
            Err(TryRecvError::Empty) if self.since.elapsed() > START_MAX => {
                self.lane.kill();
                Some(Err(format!("the model was not loaded within {} s", START_MAX.as_secs())))
            }
            Err(TryRecvError::Empty) => None,
        }
    }
}

/// A place among those that wait.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Failure> {
        if waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Failure::Busy);
        }
        Ok(Self(waiting))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
