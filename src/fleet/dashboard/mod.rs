//! The server's pages, for people: how the fleet is, what it has sent and said, and what operators may do about it.
//!
//! Takes requests of those who are signed in (`visitor`), asks the database for a page of what there is, and gives markup made by
//! plain functions of plain values. Whatever a device or a person has called something is escaped by the macro that writes
//! the markup. All that a browser loads is in the program, and the policy below lets it load nothing else: no script and no
//! style can come in by a page. Every page works without its one script, which reads again what is under way.
//!
//! Never speaks SQL, never opens a model.

mod access;
mod audit;
mod channel;
mod chart;
mod compare;
mod device;
mod devices;
mod document;
mod failure;
mod frame;
mod known;
mod outcomes;
mod overview;
mod releasing;
mod rollout;
mod sign_in;
mod visitor;
mod way_back;
mod words;

pub(super) use failure::{no_page, too_many};

use super::Fleet;
use crate::sync::wire::Hex;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;

/// What a page may load and do (Content Security Policy, level 3).
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Lines of a list on a page.
const LINES: i64 = 50;
/// Bytes of a form.
const FORM_BYTES_MAX: usize = 16 << 10;

/// All pages, to be held back by the rate of an address like everything else.
pub(super) fn router() -> Router<Arc<Fleet>> {
    Router::new()
        .route("/", get(overview::show))
        .route("/sign-in", get(sign_in::show).post(sign_in::begin))
        .route("/sign-out", post(sign_in::end))
        .route("/devices", get(devices::show))
        .route("/devices/enrol", post(devices::enrol))
        .route("/devices/{key}", get(device::show))
        .route("/devices/{key}/revoke", post(device::revoke))
        .route("/new-channel", get(releasing::show).post(releasing::make))
        .route("/channels/{name}", get(channel::show))
        .route("/channels/{name}/close", post(channel::close))
        .route("/channels/{name}/release", post(releasing::publish))
        .route("/channels/{name}/rollout/{act}", post(rollout::act))
        .route("/channels/{name}/compare", get(compare::show))
        .route("/audit", get(audit::show))
        .route("/access", get(access::show).post(access::add))
        .route("/access/revoke", post(access::revoke))
        .route("/access/sign-all-out", post(access::sign_all_out))
        // What is read is bounded where it is read.
        .layer(DefaultBodyLimit::disable())
        .layer(map_response(private))
        .route("/assets/style.css", get(|| async { asset("text/css; charset=utf-8", include_str!("style.css")) }))
        .route("/assets/live.js", get(|| async { asset("text/javascript; charset=utf-8", include_str!("live.js")) }))
        .route("/assets/icon.svg", get(|| async { asset("image/svg+xml", include_str!("icon.svg")) }))
        .layer(map_response(guarded))
}

/// The key in a path.
fn key_of(text: &str) -> Result<String, failure::Failure> {
    let key: Result<Hex<32>, _> = text.parse();
    key.map(|key| key.to_string()).map_err(|_| failure::Failure::NotFound("a device of this key"))
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=300")], text)
}

/// What is shown to somebody is nobody else's, and not kept.
async fn private(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What browsers are told of every answer.
async fn guarded(mut response: Response) -> Response {
    let told = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Forms name where they come from, which is asked of them; nobody else is told.
        (header::REFERRER_POLICY, "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in told {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
