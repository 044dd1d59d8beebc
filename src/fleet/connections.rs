//! The server's connections: taken, bounded, and ended where nothing comes of them.
//!
//! Takes a socket that listens and the service that answers; knows nothing of what is asked. HTTP/1.1 alone, for devices and browsers
//! need no more. Each connection has a time for its handshake, its heads and what it is sent, and there are only so many of them, in all
//! and for each network. Where there is no room, the one that has waited longest without asking anything makes it: whoever opens
//! connections to hold them shuts out nobody but themselves.

use super::limit::Source;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// How long a handshake may take, and a head from its first wait on.
const HEAD: Duration = Duration::from_secs(10);
/// How long somebody may take nothing of what is sent.
const STALLED: Duration = Duration::from_secs(60);
/// A connection's life; what is cut goes on by another.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// How long to wait where the system gives no more connections.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How many connections there may be.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// In all.
    pub all: usize,
    /// Of one network.
    pub network: usize,
    /// Whose connections are those of others.
    pub proxies: Vec<IpAddr>,
}

/// Who is let in, and how.
#[derive(Clone)]
pub struct Door {
    /// What ends TLS; none speaks HTTP.
    pub acceptor: Option<TlsAcceptor>,
    /// How many.
    pub bounds: Bounds,
}

/// Answers on a socket until `stopped`, and then until the requests that are under way have been answered, but no longer than `grace`.
/// The door may change: that is for connections that come afterwards.
///
/// # Errors
/// A socket that cannot be listened on.
pub async fn serve(
    listener: std::net::TcpListener,
    door: watch::Receiver<Door>,
    router: Router,
    stopped: watch::Receiver<bool>,
    grace: Duration,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let open = Arc::new(Open { list: Mutex::default(), left: Notify::new() });
    let mut ended = stopped.clone();
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let Door { acceptor, bounds } = door.borrow().clone();
                    // Where there is no room at all, the connection is closed: whoever is there is being answered.
                    let Some(place) = Open::admit(&open, &bounds, address) else { continue };
                    let (router, stopped) = (router.clone(), stopped.clone());
                    tokio::spawn(async move {
                        let talked = talk(stream, acceptor, router, &place, stopped);
                        tokio::select! {
                            () = talked => {}
                            () = place.connection.leave.notified() => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    sleep(EXHAUSTED).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        // An error is the server's end, too.
        _ = ended.wait_for(|stopped| *stopped) => {}
    }
    drop(listener);
    let _ = timeout(grace, open.emptied()).await;
    Ok(())
}

/// One connection, from its handshake to its end.
async fn talk(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    place: &Place,
    stopped: watch::Receiver<bool>,
) {
    // Answers are small, and somebody waits for each.
    let _ = stream.set_nodelay(true);
    match acceptor {
        Some(acceptor) => match timeout(HEAD, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => answer(stream, router, place, stopped).await,
            Ok(Err(error)) => tracing::debug!(%error, "no handshake"),
            Err(_) => tracing::debug!("a handshake took too long"),
        },
        None => answer(stream, router, place, stopped).await,
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    router: Router,
    place: &Place,
    mut stopped: watch::Receiver<bool>,
) {
    let address = place.connection.address;
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let busy = Busy::begin(&place.connection);
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(address));
        let answered = TowerToHyperService::new(router.clone()).call(request);
        async move {
            let answer: Result<Response, _> = answered.await;
            // Until the last byte of the answer has been taken.
            answer.map(|answer| {
                answer.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        let _ = &busy;
                        frame
                    }))
                })
            })
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(Patient::new(stream)), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stopped.wait_for(|stopped| *stopped) => None,
        () = sleep(LIFE) => return,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// A connection that is open.
struct Connection {
    address: SocketAddr,
    /// Requests that are being answered.
    asked: AtomicU32,
    /// It is to make room.
    leave: Notify,
}

/// A request on its way.
struct Busy(Arc<Connection>);

impl Busy {
    fn begin(connection: &Arc<Connection>) -> Self {
        connection.asked.fetch_add(1, Ordering::AcqRel);
        Self(connection.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.asked.fetch_sub(1, Ordering::AcqRel);
    }
}

/// All that are open, by a number that grows.
struct Open {
    list: Mutex<List>,
    left: Notify,
}

#[derive(Default)]
struct List {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
}

/// A connection's place among all, which it leaves when this is dropped.
struct Place {
    open: Arc<Open>,
    number: u64,
    connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.list().connections.remove(&self.number);
        self.open.left.notify_waiters();
    }
}

impl Open {
    fn list(&self) -> std::sync::MutexGuard<'_, List> {
        // A panic while the lock was held leaves a list behind that is whole.
        self.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A place for a connection, if need be that of the one that has waited longest without asking anything; none where all are busy.
    fn admit(open: &Arc<Self>, bounds: &Bounds, address: SocketAddr) -> Option<Place> {
        let source = Source::from_address(address.ip());
        let is_proxy = bounds.proxies.contains(&address.ip().to_canonical());
        let mut list = open.list();
        let is_of = |connection: &Connection| Source::from_address(connection.address.ip()) == source;
        let of_network = list.connections.values().filter(|connection| is_of(connection)).count();
        if !is_proxy && of_network >= bounds.network {
            list.make_room(is_of)?;
        } else if list.connections.len() >= bounds.all {
            list.make_room(|_| true)?;
        }
        let number = list.next;
        list.next += 1;
        let connection = Arc::new(Connection { address, asked: AtomicU32::new(0), leave: Notify::new() });
        list.connections.insert(number, connection.clone());
        Some(Place { open: open.clone(), number, connection })
    }

    /// Waits until nobody is there any more.
    async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            if self.list().connections.is_empty() {
                return;
            }
            left.await;
        }
    }
}

impl List {
    /// Ends the connection that has waited longest of those that are `meant` and ask nothing. None where there is none.
    fn make_room(&mut self, meant: impl Fn(&Connection) -> bool) -> Option<()> {
        let waits = |connection: &Connection| meant(connection) && connection.asked.load(Ordering::Acquire) == 0;
        let waiting = self.connections.iter().filter(|(_, connection)| waits(connection));
        let oldest = waiting.map(|(number, _)| *number).min()?;
        self.connections.remove(&oldest)?.leave.notify_one();
        Some(())
    }
}

/// A stream that is given up where nobody takes what is sent.
struct Patient<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S) -> Self {
        Self { stream, stalled: None }
    }

    /// What became of a try to send; one that waits for too long has failed.
    fn watched<T>(&mut self, context: &mut Context<'_>, tried: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            self.stalled = None;
            return tried;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + STALLED)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, tried)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watched(context, tried)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.stream).poll_flush(context);
        self.watched(context, tried)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watched(context, tried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(all: usize, network: usize) -> (Arc<Open>, Bounds) {
        let bounds = Bounds { all, network, proxies: vec!["10.0.0.9".parse().unwrap()] };
        (Arc::new(Open { list: Mutex::default(), left: Notify::new() }), bounds)
    }

    fn at(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 1)
    }

    #[test]
    fn who_waits_makes_room_and_who_asks_stays() {
        let (open, bounds) = open(5, 2);
        let admit = |address: &str| Open::admit(&open, &bounds, at(address));
        let is_in = |place: &Place| open.list().connections.contains_key(&place.number);
        let [first, second] = [(); 2].map(|()| admit("10.0.0.1").unwrap());
        let busy = Busy::begin(&first.connection);
        let third = admit("10.0.0.1").unwrap();
        assert!(is_in(&first) && !is_in(&second) && is_in(&third), "the second waited");
        let _busy = Busy::begin(&third.connection);
        assert!(admit("10.0.0.1").is_none(), "both are being answered");
        drop(busy);
        let fourth = admit("10.0.0.1").unwrap();
        assert!(!is_in(&first) && is_in(&fourth));
        let others: Vec<_> = (2..9).map(|last| admit(&format!("10.0.0.{last}")).unwrap()).collect();
        assert_eq!(open.list().connections.len(), 5);
        assert!(is_in(&third) && others[4..].iter().all(is_in), "the newest, and the one that asks");
        drop((first, second, third, fourth, others));
        assert!(open.list().connections.is_empty());
    }

    #[test]
    fn a_trusted_proxy_brings_many() {
        let (open, bounds) = open(9, 2);
        let places: Vec<_> = (0..9).map(|_| Open::admit(&open, &bounds, at("10.0.0.9")).unwrap()).collect();
        assert_eq!((places.len(), open.list().connections.len()), (9, 9));
    }
}
