//! From settings to a server that answers, and its end.

use super::connections::{self, Bounds, Door};
use super::keys::{self, Keys};
use super::limit::Limiter;
use super::readiness::Readiness;
use super::tls::{Identity, choose_cryptography};
use super::{Chance, Clock, Counts, Current, Error, Fleet, Folder, Limits, Store, api, retention, rollouts, rounds};
use crate::amounts::counted;
use crate::sync::wire::Hex;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How a server is to be.
pub struct Settings {
    /// Where the server's own files are: its keys, and with the defaults the database and the deltas.
    pub folder: Folder,
    /// `sqlite:…` or `postgres://…`.
    pub database: String,
    /// Where deltas lie.
    pub store: Store,
    /// What may change while it runs.
    pub tuning: Tuning,
    /// Milliseconds since 1970.
    pub clock: Clock,
    /// Random bytes.
    pub chance: Chance,
}

/// What a server reads again when it is told to.
pub struct Tuning {
    /// Certificate and key; none speaks HTTP.
    pub identity: Option<Identity>,
    /// What devices may send.
    pub limits: Limits,
    /// Proxies whose word on where a request comes from is taken.
    pub proxies: Vec<IpAddr>,
}

/// What a server is told while it runs.
#[derive(Debug, Clone, Copy)]
pub struct Signals<'a> {
    /// To end.
    pub stop: &'a AtomicBool,
    /// To read again what may change, once.
    pub reload: &'a AtomicBool,
}

/// Deltas that are held in memory at once; others wait.
const ROOM: usize = 16;
/// How often a replica looks for closed rounds.
const LOOKED: Duration = Duration::from_millis(500);
/// Rollouts are looked at with every so many of these looks: it takes all devices of a channel.
const ROLLOUTS: u64 = 4;
/// How long requests may go on after the end has been asked for.
const GRACE: Duration = Duration::from_secs(20);
/// Requests of an address at once, in seconds of its rate.
const BURST_S: f64 = 2.0;
/// Attempts of an address to sign in: a second in the long run, and at once.
const SIGN_INS_PER_S: f64 = 0.2;
const SIGN_INS_AT_ONCE: f64 = 10.0;
/// Refusals of an address or a device that are written down.
const REFUSALS_PER_S: f64 = 0.1;
const REFUSALS_AT_ONCE: f64 = 200.0;
/// How long before its end the log tells of a root.
const ROOT_ENDS_MS: u64 = 30 * 24 * 3600 * 1000;
/// Seconds of a day.
const DAY_S: f64 = 24.0 * 3600.0;
/// How long a replica waits after it could not turn a round: twice as long each time.
const TROUBLE_MAX: Duration = Duration::from_secs(60);

/// How often the flag that ends the server is looked at.
const FLAG: Duration = Duration::from_millis(50);

/// Serves from this moment until it is told to stop, and then until the requests that are under way have been answered. `ready` is
/// called once everything is open and the first request can come; `again` gives what it is to be like each time that it is told to reload,
/// or why it stays as it is.
///
/// # Errors
/// A database, a store or a file that is not as it should be; the socket's.
pub fn serve(
    settings: Settings,
    listener: TcpListener,
    ready: impl FnOnce(),
    signals: Signals<'_>,
    again: &dyn Fn() -> Result<Tuning, String>,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Socket)?;
    runtime.block_on(async {
        let server = Server::open(settings, listener).await?;
        ready();
        server.run(signals, again).await
    })
}

/// A server with its database and its keys, listening.
struct Server {
    fleet: Arc<Fleet>,
    door: watch::Sender<Door>,
    listener: TcpListener,
    /// Held for as long as the server is there.
    folder: Folder,
}

impl Server {
    /// Opens everything. `listener` is bound already, so the address is known before the first request.
    ///
    /// # Errors
    /// A database, a store or a file that is not as it should be.
    async fn open(settings: Settings, listener: TcpListener) -> Result<Self, Error> {
        choose_cryptography();
        let Settings { mut folder, database, store, tuning, clock, chance } = settings;
        let is_tls = tuning.identity.is_some();
        let random = || {
            let mut bytes = [0; 32];
            chance(&mut bytes).map(|()| bytes).map_err(Error::Random)
        };
        let scheme = if is_tls { "https" } else { "http" };
        folder.tell(scheme, listener.local_addr().map_err(Error::Socket)?)?;
        let db = super::db::Db::open(&database).await?;
        if db.is_new().await? {
            keys::make(folder.path(), &random)?;
        }
        let current = current(folder.path(), &tuning, clock())?;
        let name = db.setting("fleet", &Hex(random()?).to_string()).await?;
        let secret = db.setting("rollout", &Hex(random()?).to_string()).await?;
        let epoch = db.epoch().await?;
        let limits = tuning.limits;
        let fleet = Fleet {
            db,
            store,
            name,
            epoch,
            secret,
            current: RwLock::new(Arc::new(current)),
            clock,
            chance,
            limiter: Limiter::new(limits.requests_per_s, BURST_S * limits.requests_per_s),
            sign_ins: Limiter::new(SIGN_INS_PER_S, SIGN_INS_AT_ONCE),
            devices: Limiter::new(limits.requests_per_s, BURST_S * limits.requests_per_s),
            deltas: Limiter::new(f64::from(limits.deltas_per_day) / DAY_S, limits.deltas_per_day.into()),
            refusals: Limiter::new(REFUSALS_PER_S, REFUSALS_AT_ONCE),
            is_tls,
            room: Arc::new(Semaphore::new(ROOM)),
            counts: Counts::default(),
            known: Mutex::default(),
            readiness: Readiness::new(folder.path()),
        };
        Ok(Self { fleet: Arc::new(fleet), door: watch::Sender::new(door(&tuning)?), listener, folder })
    }

    /// Serves until it is told to stop, and then until the requests that are under way have been answered.
    ///
    /// # Errors
    /// The socket's.
    async fn run(self, signals: Signals<'_>, again: &dyn Fn() -> Result<Tuning, String>) -> Result<(), Error> {
        let Self { fleet, door, listener, folder } = self;
        let (tell, stopped) = watch::channel(false);
        let served = connections::serve(listener, door.subscribe(), api::router(fleet.clone()), stopped, GRACE);
        let worked = work(fleet.clone());
        let told = async {
            while !signals.stop.load(Ordering::Relaxed) {
                tokio::time::sleep(FLAG).await;
                if signals.reload.swap(false, Ordering::Relaxed) {
                    match again().and_then(|tuning| reload(&fleet, &door, folder.path(), &tuning)) {
                        Ok(()) => fleet.audit("server", "reloaded", "").await,
                        Err(problem) => tracing::error!("nothing is reloaded, and all stays as it was: {problem}"),
                    }
                }
            }
        };
        let mut served = pin!(served);
        let ended = tokio::select! {
            ended = &mut served => Some(ended),
            () = worked => None,
            () = told => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                let _ = tell.send(true);
                served.await
            }
        };
        fleet.db.close().await;
        ended.map_err(Error::Socket)
    }
}

/// What is new counts from the next request and the next connection on; all of it, or nothing.
fn reload(fleet: &Fleet, open: &watch::Sender<Door>, folder: &Path, tuning: &Tuning) -> Result<(), String> {
    let new = door(tuning).and_then(|door| Ok((door, current(folder, tuning, (fleet.clock)())?)));
    let (door, current) = new.map_err(|error| error.to_string())?;
    open.send_replace(door);
    let limits = current.limits;
    *fleet.current.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(current);
    for limiter in [&fleet.limiter, &fleet.devices] {
        limiter.tune(limits.requests_per_s, BURST_S * limits.requests_per_s);
    }
    fleet.deltas.tune(f64::from(limits.deltas_per_day) / DAY_S, limits.deltas_per_day.into());
    Ok(())
}

fn current(folder: &Path, tuning: &Tuning, now_ms: u64) -> Result<Current, Error> {
    let Keys { key, operator, root } = keys::read(folder)?;
    if let Some(root) = root.as_ref().filter(|root| root.expires_ms < now_ms.saturating_add(ROOT_ENDS_MS)) {
        let days = root.expires_ms.saturating_sub(now_ms) / (24 * 3600 * 1000);
        tracing::warn!(
            "the root ends in {}, and devices then believe no release: edgetune-fleet root rotate, and sign",
            counted(days, "day")
        );
    }
    Ok(Current { key, operator, root, limits: tuning.limits, proxies: tuning.proxies.clone() })
}

fn door(tuning: &Tuning) -> Result<Door, Error> {
    let Limits { connections_max: all, connections_per_address: network, .. } = tuning.limits;
    let bounds = Bounds { all, network, proxies: tuning.proxies.clone() };
    Ok(Door { acceptor: tuning.identity.as_ref().map(Identity::acceptor).transpose()?, bounds })
}

/// Turns closed rounds and rollouts, and clears away what is over, for ever.
async fn work(fleet: Arc<Fleet>) {
    let (mut wait, mut swept_ms) = (LOOKED, i64::MIN);
    for look in 0u64.. {
        match rounds::turn(&fleet).await {
            Ok(turned) => {
                wait = LOOKED;
                if turned {
                    // Deltas may be needed no more.
                    swept_ms = i64::MIN;
                    continue;
                }
            }
            Err(error) => {
                wait = (wait * 2).min(TROUBLE_MAX);
                tracing::error!("a round: {error}; once more in {} s", wait.as_secs());
            }
        }
        if look.is_multiple_of(ROLLOUTS)
            && let Err(error) = rollouts::turn(&fleet).await
        {
            tracing::error!("a rollout: {error}");
        }
        let now_ms = fleet.now_ms();
        if now_ms >= swept_ms.saturating_add(retention::LOOKED_MS) {
            match retention::sweep(&fleet).await {
                Ok(true) => {}
                Ok(false) => swept_ms = now_ms,
                Err(error) => {
                    swept_ms = now_ms;
                    tracing::error!("clearing away: {error}");
                }
            }
        }
        tokio::time::sleep(wait).await;
    }
}
