//! What the service and its API both know: samples, the configuration, what the last look about found, predictions.
//!
//! Each part has a lock of its own, held only as long as something is read or changed; no part waits for another.

use super::config::Config;
use super::judge::drift::Confidences;
use super::judge::gate::Promise;
use super::locks::lock;
use super::record::feedback::Feedback;
use super::record::refused::{self, RefusedFiles};
use super::record::run::Run;
use super::record::samples::Store;
use super::work::predictor::Predictor;
use serde::Serialize;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

/// What both know.
pub struct Board {
    /// How it is configured now.
    pub config: Mutex<Arc<Config>>,
    /// The samples.
    pub store: Store,
    /// What the last look about found.
    pub found: Mutex<ServiceState>,
    /// What people say of predictions.
    pub feedback: Mutex<Feedback>,
    /// How sure predictions are.
    pub confidences: Mutex<Confidences>,
    /// Files of the spool that were refused.
    pub refused: Mutex<RefusedFiles>,
    /// Who predicts.
    pub predictor: Arc<Predictor>,
    /// Seconds since 1970 at the last look about.
    pub unix_s: AtomicI64,
}

/// What a look about found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ServiceState {
    /// What the service does, or waits for.
    pub doing: String,
    /// What a training waits for, in numbers.
    pub waits: Vec<String>,
    /// What keeps the device from learning.
    pub trouble: Option<String>,
    /// The adapter in use.
    pub active: Option<String>,
    /// What that one showed when it was judged.
    pub promise: Option<Promise>,
    /// Whether feedback shows that it does not keep that.
    pub falls_short: bool,
    /// The training that is not finished.
    pub training: Option<Run>,
    /// Seconds of training in the last 24 hours.
    pub trained_s: u64,
    /// Bytes written in the last 24 hours, where the kernel counts them.
    pub written_bytes: Option<u64>,
    /// Share of the processors' time that others use.
    pub load: Option<f32>,
    /// Degrees Celsius of the hottest thermal zone.
    pub temperature_c: Option<f32>,
}

impl Board {
    /// What a state knows.
    ///
    /// # Errors
    /// The system's, and files of the state that cannot be read.
    pub fn read(config: &Config) -> io::Result<Self> {
        Ok(Self {
            store: Store::read(&config.state)?,
            refused: refused::read(&config.state, &config.spool).into(),
            feedback: Feedback::read(&config.state)?.into(),
            predictor: Arc::new(Predictor::new(&config.state)),
            config: Mutex::new(Arc::new(config.clone())),
            found: ServiceState { doing: "starting".into(), ..ServiceState::default() }.into(),
            confidences: Mutex::default(),
            unix_s: AtomicI64::default(),
        })
    }

    /// The configuration of this moment.
    pub fn config(&self) -> Arc<Config> {
        lock(&self.config).clone()
    }

    /// Seconds since 1970, as the last look about knew them: half a second ago, as a rule.
    pub fn now_s(&self) -> i64 {
        self.unix_s.load(Ordering::Relaxed)
    }
}
