//! For what watches the server.

use super::{Answer, Problem, Shared};
use crate::fleet::{Error, readiness};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use std::sync::atomic::Ordering;

/// Whether the process answers
#[utoipa::path(get, path = "/healthz",
    responses((status = 200, description = "The process answers", body = String, content_type = "text/plain")))]
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// Whether what devices send can be taken
#[utoipa::path(get, path = "/readyz",
    responses(
        (status = 200, description = "The database takes writes, and the disk has room", body = String, content_type = "text/plain"),
        (status = 503, description = "The database takes no writes, or the disk is full")))]
pub(super) async fn ready(State(fleet): Shared) -> Answer<&'static str> {
    readiness::check(&fleet).await.map_err(|problem| Problem::from(Error::NotReady(problem)))?;
    Ok("ready\n")
}

/// What the process has done, for Prometheus
#[utoipa::path(get, path = "/metrics",
    responses((status = 200, description = "Counters, for Prometheus", body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(fleet): Shared) -> impl IntoResponse {
    let counts = &fleet.counts;
    let all = [
        ("requests", "Requests under /v1", &counts.requests),
        ("requests_refused", "Requests that were refused (4xx)", &counts.refused),
        ("requests_failed", "Requests that the server could not answer (5xx)", &counts.failed),
        ("deltas_accepted", "Deltas that were verified and count", &counts.accepted),
        ("delta_bytes_accepted", "Their bytes", &counts.bytes),
    ];
    let line = |(name, what, count): &(&str, &str, &std::sync::atomic::AtomicU64)| {
        let count = count.load(Ordering::Relaxed);
        format!(
            "# HELP edgetune_{name}_total {what}\n# TYPE edgetune_{name}_total counter\nedgetune_{name}_total {count}\n"
        )
    };
    let text: String = all.iter().map(line).collect();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
