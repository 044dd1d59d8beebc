//! Signing in with an access token, or with the one of the server's first start; and out again.

use super::document::bare;
use super::failure::Failure;
use super::visitor::{Fields, FormToken, Posted, SESSION_MS, Visitor, cookie, cookie_of, form, is_secure};
use super::way_back::page_of_ours;
use crate::fleet::Fleet;
use crate::fleet::limit::Source;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::{Markup, html};
use std::sync::Arc;
use std::time::Instant;

/// How long the form may lie open.
const FORM_S: i64 = 60 * 60;
/// The cookie of the form, which nobody has a session for yet.
const FORM: &str = "sign-in";

/// The form.
pub(super) async fn show(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    query: Fields,
    visitor: Result<Visitor, Failure>,
) -> Result<Response, Failure> {
    let to = page_of_ours(query.get("to"));
    if visitor.is_ok() {
        return Ok(Redirect::to(to).into_response());
    }
    asked(&fleet, &headers, to, StatusCode::OK, None)
}

fn asked(
    fleet: &Fleet,
    headers: &HeaderMap,
    to: &str,
    status: StatusCode,
    problem: Option<&str>,
) -> Result<Response, Failure> {
    let is_secure = is_secure(fleet, headers);
    let secret = match cookie_of(headers, FORM, is_secure) {
        Some(secret) => secret,
        None => fleet.random_name()?,
    };
    let page = bare("Sign in", markup(&FormToken::from_secret(&secret), to, problem)).into_string();
    Ok((status, [(header::SET_COOKIE, cookie(FORM, &secret, FORM_S, is_secure))], Html(page)).into_response())
}

fn markup(token: &FormToken, to: &str, problem: Option<&str>) -> Markup {
    html! {
        h1 { "Sign in" }
        @if let Some(problem) = problem { p.problem role="alert" id="problem" { (problem) } }
        form.stacked method="post" action="/sign-in" {
            (token.field())
            input type="hidden" name="to" value=(to);
            label for="secret" { "Access token" }
            input #secret type="password" name="secret" required maxlength="200" autocomplete="current-password"
                aria-describedby=[problem.map(|_| "problem")] aria-invalid=[problem.map(|_| "true")];
            button type="submit" { "Sign in" }
        }
        p.quiet {
            "The server's first start has written one to " code { "operator.token" } " in its folder ("
            code { "--data" } "); with it you can make others, for people who only look and for those who act."
        }
    }
}

/// Begins a session, if the token is one.
pub(super) async fn begin(State(fleet): State<Arc<Fleet>>, request: Request) -> Result<Response, Failure> {
    let (headers, address, fields) = form(&fleet, request).await?;
    let (source, who) = (Source::from_address(address), address.to_string());
    fleet.sign_ins.take(source, Instant::now()).map_err(Failure::TooMany)?;
    let (is_secure, to) = (is_secure(&fleet, &headers), page_of_ours(fields.get("to")));
    let opened = cookie_of(&headers, FORM, is_secure);
    if !opened.is_some_and(|secret| FormToken::from_secret(&secret).is_in(&fields)) {
        fleet.refused(source, &who, "sign-in refused", "the form is none of this server, or too old").await;
        let problem = "The form has lain open for too long, or the browser keeps no cookies. Try once more.";
        return asked(&fleet, &headers, to, StatusCode::FORBIDDEN, Some(problem));
    }
    let hash = blake3::hash(fields.get("secret").trim().as_bytes());
    let access = match hash == fleet.current().operator {
        true => Some((String::new(), "operator".to_owned())),
        false => fleet.db.access(&hash.to_string()).await?.map(|a| (a.id, format!("access {}", a.name))),
    };
    let Some((access, who)) = access else {
        fleet.refused(source, &who, "sign-in refused", "the token is none, or was revoked").await;
        let problem = "This token is none, or was revoked. Ask an operator for a new one.";
        return asked(&fleet, &headers, to, StatusCode::FORBIDDEN, Some(problem));
    };
    // Twice 128 bits: whoever has it is whoever signed in.
    let secret = fleet.random_name()? + &fleet.random_name()?;
    let (session, now_ms) = (blake3::hash(secret.as_bytes()).to_string(), fleet.now_ms());
    fleet.db.begin_session(&session, &access, now_ms, now_ms + SESSION_MS).await?;
    fleet.audit(&who, "signed in", &format!("from {address}")).await;
    let kept = cookie("session", &secret, SESSION_MS / 1000, is_secure);
    let dropped = cookie(FORM, "", 0, is_secure);
    let mut response = Redirect::to(to).into_response();
    for line in [kept, dropped] {
        let line = line.parse().map_err(|error| Failure::form(format!("the cookie: {error}")))?;
        response.headers_mut().append(header::SET_COOKIE, line);
    }
    Ok(response)
}

/// Ends the session.
pub(super) async fn end(
    State(fleet): State<Arc<Fleet>>,
    headers: HeaderMap,
    Posted { visitor }: Posted,
) -> Result<Response, Failure> {
    fleet.db.end_session(&visitor.session).await?;
    fleet.audit(&visitor.who, "signed out", "").await;
    let dropped = cookie("session", "", 0, is_secure(&fleet, &headers));
    Ok(([(header::SET_COOKIE, dropped)], Redirect::to("/sign-in")).into_response())
}
