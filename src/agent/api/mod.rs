//! The API: applications send samples, corrections and what is to be predicted, over a Unix socket or HTTP on this machine.
//!
//! Takes sockets that listen and the [`Board`]; gives answers. One thread, whose connections, bodies and waiting
//! requests are bounded, so that no client can take the service's memory; what blocks is done by threads beside it. It never
//! trains, and never answers another machine: on a port it refuses what a browser was talked into by any page but its own (`label`).

mod arrays;
mod descriptor;
mod exchange;
mod label;
pub mod listen;
mod metrics;
mod problem;
mod questions;
mod remembered;
mod routes;
mod stored;

use crate::agent::board::Board;
use anyhow::{Context, Result};
use exchange::Api;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use listen::{Listener, Socket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// A connection's life; a client that needs longer connects again.
const LIFE: Duration = Duration::from_secs(300);
/// How long a connection may take to end what it does.
const ENDING: Duration = Duration::from_secs(1);
/// Threads for what blocks: writing samples, waiting for predictions.
const THREADS_MAX: usize = 32;
/// How long to wait where the system gives no more connections.
const EXHAUSTED: Duration = Duration::from_millis(100);

const COME_BACK: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 133\r\n\r\n\
    {\"status\":503,\"title\":\"Service Unavailable\",\"detail\":\"api.connections-max are in use; \
    close one, or connect again in a second      \"}";

/// The API's thread.
pub struct Running {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// Begins to answer on these sockets.
///
/// # Errors
/// A thread that cannot be started.
pub fn start(sockets: Vec<Socket>, board: Arc<Board>) -> Result<Running> {
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(THREADS_MAX)
        .build()
        .context("cannot start the API")?;
    let answer = move || {
        runtime.block_on(serve(sockets, board, stopped));
        runtime.shutdown_timeout(ENDING / 4);
    };
    let thread = std::thread::Builder::new().name("api".into()).spawn(answer).context("cannot start the API")?;
    Ok(Running { stop, thread })
}

impl Running {
    /// Takes no more connections, and lets the others end what they do, but not for long.
    pub fn stop(&self) {
        let _ = self.stop.send(true);
    }

    /// Waits for the end; [`Running::stop`] comes before.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the API's thread panicked");
        }
    }
}

async fn serve(sockets: Vec<Socket>, board: Arc<Board>, mut stopped: watch::Receiver<bool>) {
    let connections_max = board.config().api.connections_max;
    let api = Arc::new(Api::new(board));
    let connections = Arc::new(Semaphore::new(connections_max as usize));
    for socket in sockets {
        match Listener::new(socket) {
            Ok(listener) => {
                let (api, connections, stopped) = (api.clone(), connections.clone(), stopped.clone());
                tokio::spawn(accept(listener, api, connections, stopped));
            }
            Err(error) => tracing::error!(%error, "a socket cannot be listened on"),
        }
    }
    // An error is the service's end, too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
    let _ = timeout(ENDING, connections.acquire_many(connections_max)).await;
}

async fn accept(listener: Listener, api: Arc<Api>, connections: Arc<Semaphore>, mut stopped: watch::Receiver<bool>) {
    // As many again may be told to come back at the same time; beyond these, connections wait in the kernel's queue.
    let refusals = Arc::new(Semaphore::new(connections.available_permits()));
    let heard = stopped.clone();
    let accepting = async {
        loop {
            let refusal = refusals.clone().acquire_owned().await;
            match listener.accept().await {
                Ok(stream) => match connections.clone().try_acquire_owned() {
                    Ok(permit) => {
                        let (api, stopped) = (api.clone(), heard.clone());
                        let on_port = listener.is_port();
                        tokio::spawn(async move {
                            talk(stream, api, on_port, stopped).await;
                            drop(permit);
                        });
                    }
                    Err(_) => {
                        tokio::spawn(async move {
                            turn_away(stream).await;
                            drop(refusal);
                        });
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    api: Arc<Api>,
    on_port: bool,
    mut stopped: watch::Receiver<bool>,
) {
    let head_time = Duration::from_secs(api.board.config().api.timeout_s);
    let service = service_fn(|request| routes::answer(api.clone(), on_port, request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_time).max_buf_size(HEAD_BYTES_MAX);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stopped.wait_for(|stopped| *stopped) => None,
        () = tokio::time::sleep(LIFE) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            // What is being answered is answered; who does not read is left.
            timeout(head_time * 2, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Says that there are too many, and reads what the client sends until it has heard.
async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let told = async {
        stream.write_all(COME_BACK).await?;
        stream.shutdown().await?;
        let mut heard = [0; 1024];
        while stream.read(&mut heard).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = timeout(ENDING, told).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_to_too_many_is_whole() {
        let text = std::str::from_utf8(COME_BACK).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], 503);
    }
}
