//! The audit log: who has done what, and what was refused.

use super::LINES;
use super::failure::Failure;
use super::frame::{Part, empty, page, pages, table};
use super::visitor::{Fields, Visitor};
use super::words::{link, moment, path, place_of, place_text, short};
use crate::fleet::Fleet;
use crate::fleet::db::{Audited, Kept};
use crate::sync::wire::Hex;
use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use std::sync::Arc;

/// The log, newest first; of one `who`, where the address names one.
pub(super) async fn show(
    State(fleet): State<Arc<Fleet>>,
    visitor: Visitor,
    asked: Fields,
) -> Result<Html<String>, Failure> {
    let (who, before) = (asked.get("who"), asked.get("before"));
    let lines = fleet.db.audited_by(who, &place_of(before), LINES).await?;
    Ok(page(&visitor, Part::Audit, "Audit log", markup(&lines, who, before, fleet.now_ms())))
}

fn markup(lines: &[Kept<Audited>], who: &str, before: &str, now_ms: i64) -> Markup {
    let next = lines.last().filter(|_| lines.len() as i64 == LINES).map(|last| place_text(&last.place));
    html! {
        h1 { "Audit log" }
        @if !who.is_empty() { p { "What " (somebody(who)) " has done. " a href="/audit" { "Show everybody" } } }
        @if lines.is_empty() {
            (empty("Nothing is logged here.", html! { p { "Enrolments, deltas, releases, refusals and what operators do will be." } }))
        } @else {
            (listed(lines.iter().map(|kept| &kept.line), "Audit log, newest first", now_ms))
            (pages("/audit", &[("who", who)], "before", before, next))
        }
    }
}

/// Lines of the log as a table.
pub(super) fn listed<'a>(lines: impl Iterator<Item = &'a Audited>, caption: &str, now_ms: i64) -> Markup {
    table(
        caption,
        &["When", "Who", "What", "Detail"],
        html! {
            @for Audited { at_ms, who, what, detail } in lines { tr {
                td { (moment(*at_ms, now_ms)) }
                td { (somebody(who)) }
                td { (what) }
                td.long { (detail) }
            } }
        },
    )
}

/// A device by a link to it, everybody else by a link to what they did.
fn somebody(who: &str) -> Markup {
    match who.parse::<Hex<32>>() {
        Ok(_) => html! { "device " a href=(path(&["devices", who])) { (short(who)) } },
        Err(_) => html! { a href=(link("/audit", &[("who", who)])) { (who) } },
    }
}
