//! What is wrong with a request, as RFC 9457 has it: `application/problem+json`, with the field and the remedy.

use crate::agent::record::samples::Refusal;
use crate::agent::work::predictor::Failure;
use hyper::StatusCode;
use serde::Serialize;

/// Seconds after which a client may try again.
const RETRY_S: u32 = 1;
/// The same, where a person has to do something first.
const RETRY_LATER_S: u32 = 60;

/// A request that is not answered as it asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The status.
    #[serde(serialize_with = "number")]
    pub status: StatusCode,
    /// What it is called.
    title: &'static str,
    /// What is wrong, and what to do.
    detail: String,
    /// The part of the request that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    /// Seconds after which to try again.
    #[serde(skip)]
    pub retry_s: Option<u32>,
}

fn number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// About a field of the request, or the request as a whole.
    pub fn new(status: StatusCode, field: impl Into<Option<&'static str>>, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("problem");
        Self { status, title, detail: detail.into(), field: field.into(), retry_s: None }
    }

    /// What is wrong, and what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// One that goes away by itself.
    pub fn again(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { retry_s: Some(RETRY_S), ..Self::new(status, None, detail) }
    }

    /// The disk did not do it, which is none of the client's business but to try again.
    pub fn disk(error: &std::io::Error) -> Self {
        tracing::error!(%error, "a request failed");
        let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::FileTooLarge);
        let status = if full { StatusCode::INSUFFICIENT_STORAGE } else { StatusCode::INTERNAL_SERVER_ERROR };
        let detail =
            "the state cannot be written; the service's log tells which file and why. Try again when that is mended";
        Self { retry_s: Some(RETRY_LATER_S), ..Self::new(status, None, detail) }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Label(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "label", text),
            Refusal::Large { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body", text),
            Refusal::Content(reason) => content(&reason),
            Refusal::Full { .. } => {
                Self { retry_s: Some(RETRY_LATER_S), ..Self::new(StatusCode::INSUFFICIENT_STORAGE, None, text) }
            }
            Refusal::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "sample", text),
            Refusal::Disk(error) => Self::disk(&error),
        }
    }
}

/// A body that is nothing that can be used.
pub fn content(reason: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "body", reason.to_string())
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::NoAdapter => {
                let detail = format!("{text}; GET /status tells how many samples it still waits for");
                Self::new(StatusCode::CONFLICT, None, detail)
            }
            Failure::Busy => Self::again(StatusCode::SERVICE_UNAVAILABLE, format!("{text}; ask again in a second")),
            Failure::NotReady(_) => {
                let detail = format!("{text}; ask again, or look into the service's log if that lasts");
                Self::again(StatusCode::SERVICE_UNAVAILABLE, detail)
            }
            Failure::Lost => {
                let detail = format!("{text}; leave this sample out, and report it if it is a common one");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "body", detail)
            }
        }
    }
}
