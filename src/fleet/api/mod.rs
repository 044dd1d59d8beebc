//! The interface: what may be asked under which path, and what is looked at before anything is read.
//!
//! Every request passes, in this order: the rate of its address; its encoding (only bytes as they are: nothing is ever unpacked);
//! the length that it announces; its signature or token; its time; and only then is a body read, no further than it may be long,
//! and compared with what was signed.

mod asked;
mod health;
mod operator;
mod problem;
mod releases;
mod rollouts;
mod uploads;

use super::limit::Source;
use super::{Counts, Fleet, dashboard};
use crate::sync::wire;
pub(super) use asked::{Peer, TooSlow, whole};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
pub(super) use operator::TOKEN_MS;
use problem::{Problem, Refused};
use std::sync::Arc;
use std::time::Instant;
use utoipa::OpenApi;

type Shared = State<Arc<Fleet>>;
type Answer<T> = Result<T, Problem>;

/// The description of the interface.
#[derive(OpenApi)]
#[openapi(
    info(title = "edgetune-fleet", description = "Collects, combines and rolls out adapters of edgetune devices"),
    components(schemas(wire::Problem, wire::TimeRefused, wire::Root, wire::RootSignature)),
    paths(
        uploads::enrol,
        uploads::begin,
        uploads::state,
        uploads::chunk,
        uploads::whole,
        releases::current,
        releases::adapter,
        releases::report,
        operator::add_token,
        operator::devices,
        operator::revoke,
        operator::add_channel,
        operator::channels,
        operator::close_round,
        rollouts::publish,
        rollouts::releases,
        rollouts::steer,
        operator::audit,
        health::alive,
        health::ready,
        health::metrics,
    )
)]
struct Interface;

/// The OpenAPI document of the interface, as JSON.
pub fn openapi() -> String {
    Interface::openapi().to_pretty_json().expect("a document of plain values")
}

async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi())
}

/// All paths.
pub(super) fn router(fleet: Arc<Fleet>) -> Router {
    let limited = Router::new()
        .route("/v1/enrol", post(uploads::enrol))
        .route("/v1/uploads", post(uploads::begin))
        .route("/v1/uploads/{hash}", get(uploads::state).put(uploads::whole))
        .route("/v1/uploads/{hash}/{offset}", put(uploads::chunk))
        .route("/v1/releases/{channel}", get(releases::current))
        .route("/v1/adapters/{hash}", get(releases::adapter))
        .route("/v1/reports", post(releases::report))
        .route("/v1/admin/tokens", post(operator::add_token))
        .route("/v1/admin/devices", get(operator::devices))
        .route("/v1/admin/devices/{key}", delete(operator::revoke))
        .route("/v1/admin/channels", get(operator::channels))
        .route("/v1/admin/channels/{name}", post(operator::add_channel))
        .route("/v1/admin/channels/{name}/close", post(operator::close_round))
        .route("/v1/admin/channels/{name}/release", post(rollouts::publish))
        .route("/v1/admin/channels/{name}/releases", get(rollouts::releases))
        .route("/v1/admin/channels/{name}/rollout", post(rollouts::steer))
        .route("/v1/admin/audit", get(operator::audit))
        .route("/openapi.json", get(document))
        .merge(dashboard::router())
        .fallback(missing)
        .method_not_allowed_fallback(|| async { Problem::method() })
        .layer(from_fn_with_state(fleet.clone(), guard));
    // What watches the server is not held back by what it watches.
    let watched = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics));
    limited.merge(watched).with_state(fleet)
}

/// Nothing answers to the address: programs are told in their way, people in theirs.
async fn missing(request: Request) -> Response {
    match for_people(&request) {
        true => dashboard::no_page().await,
        false => Problem::not_found("this path").into_response(),
    }
}

/// Whether a browser asks, for something to show.
fn for_people(request: &Request) -> bool {
    let kinds = request.headers().get(header::ACCEPT).and_then(|kinds| kinds.to_str().ok());
    kinds.is_some_and(|kinds| kinds.split(',').any(|kind| kind.trim().starts_with("text/html")))
}

/// What is looked at before all else, and counted after.
async fn guard(State(fleet): Shared, Peer(address): Peer, request: Request, next: Next) -> Response {
    Counts::add(&fleet.counts.requests, 1);
    let response = match fleet.limiter.take(Source::from_address(address), Instant::now()) {
        Err(wait) if for_people(&request) => dashboard::too_many(wait).await,
        Err(wait) => Problem::too_many(wait).into_response(),
        Ok(()) if request.headers().contains_key(header::CONTENT_ENCODING) => Problem::encoding().into_response(),
        Ok(()) => next.run(request).await,
    };
    if response.status().is_server_error() {
        Counts::add(&fleet.counts.failed, 1);
    } else if response.status().is_client_error() {
        Counts::add(&fleet.counts.refused, 1);
    }
    response
}
