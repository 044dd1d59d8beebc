//! What is shown where there is nothing to show, each with what to do next.

use super::document::bare;
use super::way_back::sign_in_path;
use crate::fleet::api::TooSlow;
use crate::fleet::channels::Refusal;
use crate::fleet::limit::Source;
use crate::fleet::{Error, Fleet, db, store};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::html;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

/// Why a page comes to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody is signed in; where they were going, if they only wanted to look.
    SignIn(Option<String>),
    /// Somebody is, who may not do this, or another page has asked for it.
    Forbidden(&'static str),
    /// There is no such thing.
    NotFound(&'static str),
    /// The form or the address is not as it should be.
    Form(String),
    /// Something has happened in between.
    Conflict(String),
    /// The form came too slowly.
    Slow,
    /// The address asks too often.
    TooMany(Duration),
    /// The server cannot, just now.
    Unavailable,
}

impl Failure {
    pub(super) fn form(detail: impl Display) -> Self {
        Self::Form(detail.to_string())
    }

    /// Status, title, and what to do.
    fn answer(&self) -> (StatusCode, &'static str, String) {
        match self {
            Failure::SignIn(_) => (StatusCode::SEE_OTHER, "Sign in", String::new()),
            Failure::Forbidden(detail) => (StatusCode::FORBIDDEN, "This is not for you", (*detail).into()),
            Failure::NotFound(what) => {
                (StatusCode::NOT_FOUND, "There is no such page", format!("Nothing is known of {what}."))
            }
            Failure::Form(detail) => (StatusCode::BAD_REQUEST, "That is not as it should be", detail.clone()),
            Failure::Conflict(detail) => (StatusCode::CONFLICT, "Something has happened in between", detail.clone()),
            Failure::Slow => {
                let detail = "The form came too slowly. Send it again, over a faster line.";
                (StatusCode::REQUEST_TIMEOUT, "That took too long", detail.into())
            }
            Failure::TooMany(wait) => {
                let detail = format!("Wait {} s, then try again.", seconds(*wait));
                (StatusCode::TOO_MANY_REQUESTS, "Too many attempts", detail)
            }
            Failure::Unavailable => {
                let detail = "The database or the store does not answer. The server's log says why; try again later.";
                (StatusCode::SERVICE_UNAVAILABLE, "The server has a problem", detail.into())
            }
        }
    }

    /// Goes to the audit log, where it is a refusal.
    pub(super) async fn logged(
        self,
        fleet: &Fleet,
        (address, who): (IpAddr, &str),
        method: &Method,
        uri: &Uri,
    ) -> Self {
        if let Failure::Forbidden(detail) = self {
            let path: String = uri.path().chars().take(200).collect();
            fleet.refused(Source::from_address(address), who, "refused", &format!("{method} {path}: {detail}")).await;
        }
        self
    }
}

fn seconds(wait: Duration) -> u64 {
    wait.as_secs_f64().ceil().max(1.0) as u64
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        tracing::error!("{error}");
        Failure::Unavailable
    }
}

impl From<TooSlow> for Failure {
    fn from(TooSlow: TooSlow) -> Self {
        Failure::Slow
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Form(detail) => Self::Form(sentence(&detail)),
            Refusal::Delta(detail) => Self::Form(format!("The file is no delta that can be released: {detail}.")),
            Refusal::Conflict(detail) => Self::Conflict(sentence(&detail)),
            Refusal::Failed(error) => error.into(),
        }
    }
}

/// What programs are told, for people.
fn sentence(detail: &str) -> String {
    let mut letters = detail.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).chain(['.']).collect())
}

impl From<db::Error> for Failure {
    fn from(error: db::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Error::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if let Failure::SignIn(to) = self {
            return Redirect::to(&sign_in_path(to.as_deref().unwrap_or("/"))).into_response();
        }
        let (status, title, detail) = self.answer();
        let page = bare(
            title,
            html! {
                h1 { (title) }
                p { (detail) }
                p { a href="/" { "To the overview" } }
            },
        );
        let mut response = (status, Html(page.into_string())).into_response();
        if let Failure::TooMany(wait) = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        response
    }
}

/// For an address that asks too often.
pub(in crate::fleet) async fn too_many(wait: Duration) -> Response {
    super::guarded(Failure::TooMany(wait).into_response()).await
}

/// For a path that nothing answers to.
pub(in crate::fleet) async fn no_page() -> Response {
    super::guarded(Failure::NotFound("this address").into_response()).await
}
