//! Refusals, as `application/problem+json` (RFC 9457).

use super::asked::TooSlow;
use crate::fleet::channels::Refusal;
use crate::fleet::{Error, db, store};
use crate::sync::wire::{self, PROBLEM, TWICE, TimeRefused};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::fmt::Display;
use std::time::Duration;
use utoipa::IntoResponses;

/// How every operation may end, in the interface's document.
#[derive(IntoResponses)]
#[response(
    status = "default",
    description = "What is wrong, and what to do",
    content_type = "application/problem+json"
)]
#[allow(dead_code)] // It is only described.
pub(super) struct Refused(wire::Problem);

/// Why a request comes to nothing.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    time: Option<TimeRefused>,
    wait: Option<Duration>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Display) -> Self {
        Self { status, kind, title, detail: detail.to_string(), time: None, wait: None }
    }

    pub(super) fn form(detail: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "form", "The request is not as it should be", detail)
    }

    pub(super) fn delta(detail: impl Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "delta", "The delta does not count", detail)
    }

    pub(super) fn conflict(detail: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Something has happened in between", detail)
    }

    pub(super) fn twice(detail: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, TWICE, "The delta is another device's", detail)
    }

    pub(super) fn too_few(detail: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, "too-few", "The round has too few deltas", detail)
    }

    pub(super) fn name(detail: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, "name", "The name is another device's", detail)
    }

    pub(super) fn identity(detail: impl Display) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "identity", "Nobody who may ask this", detail)
    }

    pub(super) fn time(told: TimeRefused, detail: impl Display) -> Self {
        let title = "The request's time does not count";
        Self { time: Some(told), ..Self::new(StatusCode::UNAUTHORIZED, "time", title, detail) }
    }

    pub(super) fn not_found(what: impl Display) -> Self {
        let detail = format!("there is nothing under {what}; the paths are in /openapi.json");
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    pub(super) fn method() -> Self {
        let detail = "this path has other methods; they are in /openapi.json";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "The path does not take this method", detail)
    }

    pub(super) fn length() -> Self {
        let detail = "a request with a body says how long it is; send `content-length`";
        Self::new(StatusCode::LENGTH_REQUIRED, "length", "The length is missing", detail)
    }

    pub(super) fn too_long(bytes_max: u64) -> Self {
        let detail = format!("at most {bytes_max} bytes are taken here; send less, or train fewer layers");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", "The body is too long", detail)
    }

    pub(super) fn too_slow() -> Self {
        let detail = "the body came too slowly; send it again, over a faster line or in smaller parts";
        Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "The body is late", detail)
    }

    pub(super) fn encoding() -> Self {
        let detail = "bodies are taken as they are; leave `content-encoding` out";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding", "The body is encoded", detail)
    }

    pub(super) fn too_many(wait: Duration) -> Self {
        let detail = "this address or this device asks too often; wait as long as `retry-after` says";
        let title = "Too many requests";
        Self { wait: Some(wait), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", title, detail) }
    }

    /// What the answer says, for the audit log.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        // What went wrong inside is for the operator's log.
        tracing::error!("{error}");
        let detail = "the server cannot do this just now; ask again later";
        let title = "The server has a problem";
        let wait = Some(Duration::from_secs(5));
        Self { wait, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title, detail) }
    }
}

impl From<TooSlow> for Problem {
    fn from(TooSlow: TooSlow) -> Self {
        Self::too_slow()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Form(detail) => Self::form(detail),
            Refusal::Delta(detail) => Self::delta(detail),
            Refusal::Conflict(detail) => Self::conflict(detail),
            Refusal::Failed(error) => error.into(),
        }
    }
}

impl From<db::Error> for Problem {
    fn from(error: db::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        Error::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = wire::Problem {
            r#type: format!("{PROBLEM}{}", self.kind),
            title: self.title.into(),
            status: self.status.as_u16(),
            detail: self.detail,
            time: self.time,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.wait {
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
