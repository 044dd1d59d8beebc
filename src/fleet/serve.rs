//! From settings to a server that answers, and its end.

use super::connections::{self, Bounds};
use super::limit::Limiter;
use super::tls::{Identity, choose_cryptography, read_secret, write_secret};
use super::{Chance, Clock, Counts, Error, Fleet, Folder, Limits, Store, api, retention, rollouts, rounds};
use crate::delta::KeyPair;
use crate::sync::wire::Hex;
use std::future::Future;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
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
    /// Certificate and key; none speaks HTTP.
    pub identity: Option<Identity>,
    /// What devices may send.
    pub limits: Limits,
    /// Proxies whose word on where a request comes from is taken.
    pub proxies: Vec<IpAddr>,
    /// Milliseconds since 1970.
    pub clock: Clock,
    /// Random bytes.
    pub chance: Chance,
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
/// Seconds of a day.
const DAY_S: f64 = 24.0 * 3600.0;
/// How long a replica waits after it could not turn a round: twice as long each time.
const TROUBLE_MAX: Duration = Duration::from_secs(60);

/// How often the flag that ends the server is looked at.
const FLAG: Duration = Duration::from_millis(50);

/// Serves from this moment until `stop` is set, and then until the requests that are under way have been answered. `ready` is
/// called once everything is open and the first request can come.
///
/// # Errors
/// A database, a store or a file that is not as it should be; the socket's.
pub fn serve(settings: Settings, listener: TcpListener, ready: impl FnOnce(), stop: &AtomicBool) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Socket)?;
    runtime.block_on(async {
        let server = Server::open(settings, listener).await?;
        ready();
        let stopped = async {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(FLAG).await;
            }
        };
        server.run(stopped).await
    })
}

/// A server with its database and its keys, listening.
struct Server {
    fleet: Arc<Fleet>,
    identity: Option<Identity>,
    listener: TcpListener,
    /// Held for as long as the server is there.
    _folder: Folder,
}

impl Server {
    /// Opens everything. `listener` is bound already, so the address is known before the first request.
    ///
    /// # Errors
    /// A database, a store or a file that is not as it should be.
    async fn open(settings: Settings, listener: TcpListener) -> Result<Self, Error> {
        choose_cryptography();
        let Settings { mut folder, database, store, identity, limits, proxies, clock, chance } = settings;
        let random = || {
            let mut bytes = [0; 32];
            chance(&mut bytes).map(|()| bytes).map_err(Error::Random)
        };
        let key_path = folder.path().join("release.pem");
        let refused =
            |problem: crate::delta::Error| Error::File { path: key_path.clone(), problem: problem.to_string() };
        let pem = kept(&key_path, || KeyPair::from_secret(&random()?).to_pem().map_err(refused))?;
        let key = KeyPair::from_pem(&pem).map_err(refused)?;
        let token = kept(&folder.path().join("operator.token"), || Ok(format!("{}\n", Hex(random()?))))?;
        let scheme = if identity.is_some() { "https" } else { "http" };
        folder.tell(scheme, listener.local_addr().map_err(Error::Socket)?)?;
        let db = super::db::Db::open(&database).await?;
        let name = db.setting("fleet", &Hex(random()?).to_string()).await?;
        let secret = db.setting("rollout", &Hex(random()?).to_string()).await?;
        let epoch = db.setting(super::db::EPOCH, "0").await?;
        let epoch =
            epoch.parse().map_err(|_| Error::Combine(format!("the database's epoch `{epoch}` is no number")))?;
        let fleet = Fleet {
            db,
            store,
            name,
            epoch,
            secret,
            key,
            operator: blake3::hash(token.trim().as_bytes()),
            clock,
            chance,
            limiter: Limiter::new(limits.requests_per_s, BURST_S * limits.requests_per_s),
            sign_ins: Limiter::new(SIGN_INS_PER_S, SIGN_INS_AT_ONCE),
            devices: Limiter::new(limits.requests_per_s, BURST_S * limits.requests_per_s),
            deltas: Limiter::new(f64::from(limits.deltas_per_day) / DAY_S, limits.deltas_per_day.into()),
            refusals: Limiter::new(REFUSALS_PER_S, REFUSALS_AT_ONCE),
            proxies,
            is_tls: identity.is_some(),
            room: Arc::new(Semaphore::new(ROOM)),
            limits,
            counts: Counts::default(),
            known: Mutex::default(),
        };
        Ok(Self { fleet: Arc::new(fleet), identity, listener, _folder: folder })
    }

    /// Serves until `stop` is ready, and then until the requests that are under way have been answered.
    ///
    /// # Errors
    /// The socket's, a certificate that does not fit its key.
    async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let router = api::router(self.fleet.clone());
        let acceptor = self.identity.as_ref().map(Identity::acceptor).transpose()?;
        let Limits { connections_max: all, connections_per_address: network, .. } = self.fleet.limits;
        let bounds = Bounds { all, network, proxies: self.fleet.proxies.clone() };
        let (tell, stopped) = watch::channel(false);
        let served = connections::serve(self.listener, acceptor, router, bounds, stopped, GRACE);
        let worked = work(self.fleet.clone());
        let mut served = pin!(served);
        let ended = tokio::select! {
            ended = &mut served => Some(ended),
            () = worked => None,
            () = stop => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                let _ = tell.send(true);
                served.await
            }
        };
        self.fleet.db.close().await;
        ended.map_err(Error::Socket)
    }
}

/// The secret in a file; made where there is none.
fn kept(path: &Path, made: impl FnOnce() -> Result<String, Error>) -> Result<String, Error> {
    if let Some(text) = read_secret(path)? {
        return Ok(text);
    }
    let text = made()?;
    write_secret(path, text.as_bytes())?;
    Ok(text)
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
