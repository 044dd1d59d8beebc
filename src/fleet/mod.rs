//! Stage 11: the fleet's server: devices, their deltas, rounds and releases.
//!
//! Takes a configuration, a clock, chance and a listening socket as arguments, and serves until it is told to stop. All that it
//! knows is in the database and the store of deltas, so any number of replicas may run beside each other, and each may be killed
//! at any moment: what a device was told has been accepted is on the disk by then.
//!
//! Never trains, never opens a model; what devices send is hostile until `verify` has seen all of it.

mod api;
mod backup;
mod channels;
mod connections;
mod dashboard;
pub mod db;
mod folder;
mod keys;
mod limit;
mod readiness;
mod retention;
pub mod rollout;
mod rollouts;
mod rounds;
mod serve;
mod store;
mod tls;
pub mod verify;

pub use api::openapi;
pub use backup::{Backup, Place, back_up, restore};
pub use folder::Folder;
pub use rounds::Combining;
pub use serve::{Settings, Signals, Tuning, serve};
pub use store::Store;
pub use tls::Identity;

use crate::aggregate::{RoundForm, Staleness};
use crate::delta::{self, Delta, KeyPair};
use crate::sync::wire::Root;
use db::{Audited, Channel, Db};
use limit::{Limiter, Source};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};
use store::adapter_key;
use tls::choose_cryptography;
use tokio::sync::Semaphore;

/// Why the server cannot start, or not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, or refuses.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// The store of deltas cannot be reached, or refuses.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A chunk that was acknowledged is not in the store.
    #[error("the store of deltas has lost `{0}`; restore it, or revoke the device")]
    Lost(String),
    /// A round that comes to nothing.
    #[error("{0}")]
    Combine(String),
    /// What devices send cannot be taken just now.
    #[error("not ready: {0}")]
    NotReady(String),
    /// A file of the server's own.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another server works in the folder.
    #[error(
        "{lock}: another edgetune-fleet works in this folder, at {address}; end it, or name another folder with setting `data = DIR`"
    )]
    Held {
        /// The file that it holds.
        lock: PathBuf,
        /// Where it listens.
        address: String,
    },
    /// The socket's.
    #[error("cannot serve: {0}")]
    Socket(std::io::Error),
    /// The system has no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// Milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;
/// Bytes from the system's source of randomness.
pub type Chance = Arc<dyn Fn(&mut [u8]) -> Result<(), String> + Send + Sync>;

/// What all requests share.
pub struct Fleet {
    db: Db,
    store: Store,
    /// What the server calls itself in requests.
    name: String,
    /// Counts the backups that this server's state has gone through.
    epoch: u64,
    /// What decides who is offered a release first, and nobody else knows.
    secret: String,
    /// What SIGHUP has read again since.
    current: RwLock<Arc<Current>>,
    clock: Clock,
    chance: Chance,
    limiter: Limiter,
    /// Attempts to sign in, which are fewer.
    sign_ins: Limiter,
    /// Requests of a device, wherever it asks from.
    devices: Limiter,
    /// Deltas that a device begins to send.
    deltas: Limiter,
    /// Refusals that the audit log has room for.
    refusals: Limiter,
    /// Whether it speaks TLS itself.
    is_tls: bool,
    /// Deltas that are held in memory at once.
    room: Arc<Semaphore>,
    counts: Counts,
    known: Mutex<HashMap<String, Arc<Known>>>,
    /// Whether it can take what devices send, as it was found not long ago.
    readiness: readiness::Readiness,
}

/// What can be read again while the server runs.
struct Current {
    /// Signs releases.
    key: KeyPair,
    /// BLAKE3 of the operator's token.
    operator: blake3::Hash,
    /// Whose word counts, where keys that are kept offline say it.
    root: Option<Root>,
    /// What devices may send.
    limits: Limits,
    /// Proxies whose word on where a request comes from is taken.
    proxies: Vec<IpAddr>,
}

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What devices may send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Bytes of a delta.
    pub delta_bytes_max: u64,
    /// Root of the sum of the squares of its values.
    pub norm_max: f64,
    /// Age and samples.
    pub staleness: Staleness,
    /// Connections in all.
    pub connections_max: usize,
    /// Connections of an address, or of a /64 of IPv6.
    pub connections_per_address: usize,
    /// Requests of an address, or of a device, a second in the long run.
    pub requests_per_s: f64,
    /// Deltas that a device may begin to send in a day.
    pub deltas_per_day: u32,
    /// How long devices may believe what they are told of a release.
    pub release_life: Duration,
    /// Devices whose deltas a round must have before it can be closed.
    pub round_devices_min: u32,
    /// Rounds that deltas are kept for after their own.
    pub keep_rounds: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            delta_bytes_max: 16 << 20,
            norm_max: 1e4,
            staleness: Staleness::default(),
            connections_max: 1024,
            connections_per_address: 64,
            requests_per_s: 200.0,
            deltas_per_day: 200,
            release_life: WEEK,
            round_devices_min: 5,
            keep_rounds: 1,
        }
    }
}

/// For `/metrics`.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    accepted: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// What a channel's adapter says of the deltas that belong to it.
#[derive(Debug)]
struct Known {
    form: RoundForm,
    values: usize,
}

/// Values that a delta may have for each of the channel's adapter's, so that ranks may differ.
const VALUES_FACTOR: usize = 4;
/// Adapters that are remembered.
const KNOWN_MAX: usize = 64;

impl Fleet {
    /// Limits and keys as they are now.
    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn now_ms(&self) -> i64 {
        i64::try_from((self.clock)()).unwrap_or(i64::MAX)
    }

    /// A name that nothing else has: 128 random bits.
    fn random_name(&self) -> Result<String, Error> {
        let mut bytes = [0; 16];
        (self.chance)(&mut bytes).map_err(Error::Random)?;
        Ok(crate::sync::wire::Hex(bytes).to_string())
    }

    /// Writes a line of the audit log. That the database does not take it is logged elsewhere, and ends nothing.
    async fn audit(&self, who: &str, what: &str, detail: &str) {
        tracing::info!(who, what, detail);
        let written = match self.line(who, what, detail) {
            Ok((line, id)) => self.db.audit(&line, &id).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::error!(who, what, detail, "not in the audit log: {error}");
        }
    }

    /// Writes down that something was refused, as long as the log has room for refusals of that source: what anybody can make happen must
    /// not fill the disk. `what` is one of [`db::REFUSALS`].
    async fn refused(&self, source: Source, who: &str, what: &'static str, detail: &str) {
        match self.refusals.take(source, Instant::now()) {
            Ok(()) => self.audit(who, what, detail).await,
            Err(_) => tracing::info!(who, what, detail),
        }
    }

    /// A line of the audit log and its name, not written yet.
    fn line(&self, who: &str, what: &str, detail: &str) -> Result<(Audited, String), Error> {
        let line = Audited { at_ms: self.now_ms(), who: who.into(), what: what.into(), detail: detail.into() };
        Ok((line, self.random_name()?))
    }

    /// What the deltas of a channel must be like.
    async fn known(&self, channel: &Channel) -> Result<Arc<Known>, Error> {
        let remembered = || self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) = remembered().get(&channel.adapter) {
            return Ok(known.clone());
        }
        let key = adapter_key(&channel.adapter);
        let bytes = self.store.get(&key).await?.ok_or(Error::Lost(key))?;
        let known = Arc::new(Known::parse(&bytes).map_err(|error| Error::Combine(error.to_string()))?);
        let mut all = remembered();
        if all.len() >= KNOWN_MAX {
            all.clear();
        }
        all.insert(channel.adapter.clone(), known.clone());
        Ok(known)
    }
}

impl Known {
    fn parse(bytes: &[u8]) -> Result<Self, delta::Error> {
        let delta = Delta::parse(bytes)?;
        let values = delta.tensors().map(|tensor| tensor.len()).sum();
        Ok(Self { form: RoundForm::from_head(delta.head())?, values })
    }
}
