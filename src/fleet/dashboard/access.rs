//! Who may see the pages: access tokens, made, listed and revoked by operators.

use super::LINES;
use super::failure::Failure;
use super::frame::{Part, button, careful, cell, empty, page, pages, table};
use super::visitor::{Acting, Fields, Visitor};
use super::words::{count, mark, moment, place_of, place_text};
use crate::fleet::Fleet;
use crate::fleet::db::{Access, Place, Role};
use crate::sync::wire::is_name;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::{Html, Redirect};
use maud::{Markup, html};
use std::sync::Arc;

/// The access tokens, for operators.
pub(super) async fn show(
    State(fleet): State<Arc<Fleet>>,
    visitor: Visitor,
    asked: Fields,
    method: Method,
    uri: Uri,
) -> Result<Html<String>, Failure> {
    if visitor.role != Role::Operator {
        let refused = Failure::Forbidden("Viewers see the fleet, operators also who sees it.");
        return Err(refused.logged(&fleet, (visitor.address, &visitor.who), &method, &uri).await);
    }
    let now_ms = fleet.now_ms();
    let tokens = fleet.db.accesses(&place_of(asked.get("before")), LINES).await?;
    let sessions = fleet.db.sessions(now_ms).await?;
    Ok(page(&visitor, Part::Access, "Access", markup(&visitor, &tokens, sessions, asked.get("before"), now_ms)))
}

fn markup(visitor: &Visitor, tokens: &[Access], sessions: i64, at: &str, now_ms: i64) -> Markup {
    let last = tokens.last().filter(|_| tokens.len() as i64 == LINES);
    let next = last.map(|last| place_text(&Place { at_ms: last.created_ms, id: last.id.clone() }));
    let rows = tokens.iter().map(|token| {
        let made = moment(token.created_ms, now_ms);
        [cell(&token.name), cell(token.role.word()), made, state(visitor, token, now_ms)]
    });
    let listed = table("Access tokens, the newest first", ["Name", "Role", "Made", "State"], rows);
    html! {
        h1 { "Access" }
        section aria-labelledby="make" {
            h2 #make { "Give somebody access" }
            form.row method="post" action="/access" {
                (visitor.token.field())
                div { label for="name" { "Name" } input #name name="name" required maxlength="64" autocomplete="off"; }
                div {
                    label for="role" { "Role" }
                    select #role name="role" {
                        option value="viewer" { "viewer: sees everything but this page" }
                        option value="operator" { "operator: sees and acts" }
                    }
                }
                button type="submit" { "Make a token" }
            }
        }
        section aria-labelledby="tokens" {
            h2 #tokens { "Access tokens" }
            @if tokens.is_empty() && at.is_empty() {
                (empty("No access token was made yet.", html! {
                    p { "You are signed in with the token of the server's first start. Make a token for each person, so that \
                         the audit log tells who did what, and keep that one for emergencies." }
                }))
            } @else {
                (listed)
                (pages("/access", &[], "before", at, next))
            }
        }
        section aria-labelledby="sessions" {
            h2 #sessions { "Sessions" }
            p {
                (count(sessions, "session is open", "sessions are open"))
                ", yours among them. A session ends after 12 hours."
            }
            @if sessions > 1 { (button(visitor, "/access/sign-all-out", "Sign everybody else out")) }
        }
    }
}

fn state(visitor: &Visitor, token: &Access, now_ms: i64) -> Markup {
    if token.revoked_ms != 0 {
        return html! { (mark("revoked")) " " (moment(token.revoked_ms, now_ms)) };
    }
    let said = html! { p { "Whoever uses this token is signed out at once." } };
    careful(visitor, "/access/revoke", "Revoke", said, html! { input type="hidden" name="id" value=(token.id); })
}

/// Makes an access token, and shows it this once.
pub(super) async fn add(
    State(fleet): State<Arc<Fleet>>,
    Acting { visitor, fields }: Acting,
) -> Result<Html<String>, Failure> {
    let name = fields.get("name").trim().to_owned();
    if !is_name(&name) {
        return Err(Failure::form("The name is empty, over 64 bytes or has control characters; give a plain name."));
    }
    let role =
        Role::from_word(fields.get("role")).ok_or_else(|| Failure::form("The role is `viewer` or `operator`."))?;
    let secret = fleet.random_name()? + &fleet.random_name()?;
    let access = Access { id: fleet.random_name()?, name, role, created_ms: fleet.now_ms(), revoked_ms: 0 };
    fleet.db.add_access(&access, &blake3::hash(secret.as_bytes()).to_string()).await?;
    fleet.audit(&visitor.who, "access given", &format!("{}, {}", access.name, role.word())).await;
    let content = html! {
        h1 { "An access token for " (access.name) }
        p { "Hand it over by a way that nobody else reads. It is shown this once; the server keeps only its hash." }
        p { label for="made" { "Access token" } }
        input.secret #made readonly value=(secret);
        p { a href="/access" { "Done" } }
    };
    Ok(page(&visitor, Part::Access, "An access token", content))
}

/// Revokes an access token.
pub(super) async fn revoke(
    State(fleet): State<Arc<Fleet>>,
    Acting { visitor, fields }: Acting,
) -> Result<Redirect, Failure> {
    let revoked = fleet.db.revoke_access(fields.get("id"), fleet.now_ms()).await?;
    let name = revoked.ok_or(Failure::NotFound("this access token, or it was revoked before"))?;
    fleet.audit(&visitor.who, "access revoked", &name).await;
    Ok(Redirect::to("/access"))
}

/// Ends all sessions but the one that asks.
pub(super) async fn sign_all_out(
    State(fleet): State<Arc<Fleet>>,
    Acting { visitor, .. }: Acting,
) -> Result<Redirect, Failure> {
    let ended = fleet.db.end_other_sessions(&visitor.session).await?;
    fleet.audit(&visitor.who, "signed out", &count(ended as i64, "other session", "other sessions")).await;
    Ok(Redirect::to("/access"))
}
