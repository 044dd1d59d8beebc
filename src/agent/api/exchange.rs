//! What every route needs: what all connections share, a request's values and its body, an answer as JSON, and work that blocks done
//! on another thread.

use super::metrics::Requests;
use super::problem::Problem;
use super::remembered::Remembered;
use crate::agent::board::Board;
use crate::agent::config::Samples;
use crate::agent::judge::questions::Questions;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Request, StatusCode};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bodies of the largest size that may be in memory at the same time.
const BODIES: u64 = 4;
const JSON: &str = "application/json";

/// What all connections share.
pub(super) struct Api {
    /// What the service knows.
    pub(super) board: Arc<Board>,
    /// Predictions that may still be answered.
    pub(super) remembered: Mutex<Remembered>,
    /// Samples whose label would teach most.
    pub(super) questions: Mutex<Questions>,
    /// What was asked, counted.
    pub(super) requests: Mutex<Requests>,
    /// Kilobytes of bodies that may be read.
    room: Arc<Semaphore>,
    room_kb: u32,
}

impl Api {
    pub(super) fn new(board: Arc<Board>) -> Self {
        let room_kb = (board.config().samples.each_max_kb * BODIES).clamp(1, u32::MAX.into()) as u32;
        let room = Arc::new(Semaphore::new(room_kb as usize));
        Self {
            board,
            remembered: Mutex::default(),
            questions: Mutex::default(),
            requests: Mutex::default(),
            room,
            room_kb,
        }
    }
}

/// An answer's status, kind and text.
pub(super) type Reply = (StatusCode, &'static str, Vec<u8>);

pub(super) fn json_reply(status: StatusCode, value: &Value) -> Reply {
    (status, JSON, value.to_string().into_bytes())
}

/// A value behind the path's `?`.
pub(super) fn asked(request: &Request<Incoming>, name: &'static str) -> Result<Option<String>, Problem> {
    let query = request.uri().query().unwrap_or_default();
    let mut found = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name).map(|(_, value)| value);
    let first = found.next().map(String::from);
    match found.next() {
        Some(_) => Err(Problem::new(StatusCode::BAD_REQUEST, name, format!("{name} is given twice; give it once"))),
        None => Ok(first),
    }
}

pub(super) fn missing(name: &'static str, example: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, name, format!("{name} is missing; write {example}"))
}

/// The recording or person that a sample is said to be of; it must be said where `samples.group` is set, for bytes have no name.
pub(super) fn grouped(said: Option<String>, limits: &Samples, example: &str) -> Result<Option<String>, Problem> {
    let said = said.filter(|group| !group.is_empty());
    match limits.group.is_some() && said.is_none() {
        true => Err(missing("group", example)),
        false => Ok(said),
    }
}

/// The request's body, and its share of the memory for bodies.
pub(super) async fn body(
    api: &Api,
    request: Request<Incoming>,
    bytes_max: u64,
) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    let Some(bytes) = request.body().size_hint().exact() else {
        let detail = "the body's size is not announced; send content-length, not chunks";
        return Err(Problem::new(StatusCode::LENGTH_REQUIRED, "content-length", detail));
    };
    if bytes > bytes_max {
        let detail = format!("{bytes} bytes are more than {bytes_max}; send less, or raise samples.each-max-kb");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body", detail));
    }
    let room = (bytes / 1000 + 1).min(api.room_kb.into()) as u32;
    let Ok(room) = api.room.clone().try_acquire_many_owned(room) else {
        let detail = "other bodies take all the memory that there is for them; send it again in a second";
        return Err(Problem::again(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let seconds = api.board.config().api.timeout_s;
    let read = Limited::new(request.into_body(), bytes_max as usize).collect();
    match timeout(Duration::from_secs(seconds), read).await {
        Ok(Ok(body)) => Ok((body.to_bytes(), room)),
        Ok(Err(error)) => {
            let detail = format!("the body did not arrive ({error}); send it again");
            Err(Problem::new(StatusCode::BAD_REQUEST, "body", detail))
        }
        Err(_) => {
            let detail = format!("the body did not arrive within api.timeout-s = {seconds}; send it again");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body", detail))
        }
    }
}

/// Does on another thread what blocks.
pub(super) async fn blocking(work: impl FnOnce() -> Result<Reply, Problem> + Send + 'static) -> Result<Reply, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request's thread ended");
        let detail = "the service failed; its log tells why";
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, None, detail))
    })
}
