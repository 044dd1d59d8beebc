//! The audit log: who has done what, and what was refused.

use super::LINES;
use super::failure::Failure;
use super::frame::{Part, cell, empty, page, pages, table};
use super::visitor::{Fields, Visitor};
use super::words::{device_link, link, moment, place_of, place_text, short};
use crate::fleet::Fleet;
use crate::fleet::db::{Audited, Kept, Logged};
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

fn markup(lines: &[Kept<Logged>], who: &str, before: &str, now_ms: i64) -> Markup {
    let next = lines.last().filter(|_| lines.len() as i64 == LINES).map(|last| place_text(&last.place));
    // Devices are logged under their keys.
    let name = lines.first().map(|kept| kept.line.device.as_str()).filter(|name| !name.is_empty()).unwrap_or(who);
    html! {
        h1 { "Audit log" }
        @if !who.is_empty() { p { "What " strong { (name) } " has done. " a href="/audit" { "Show everybody" } } }
        @if lines.is_empty() {
            (empty("Nothing is logged here.", html! {
                p { "Enrolments, deltas, releases, refusals and what operators do will be." }
            }))
        } @else {
            (listed(lines, "Audit log, newest first", now_ms))
            (pages("/audit", &[("who", who)], "before", before, next))
        }
    }
}

/// Lines of the log as a table.
pub(super) fn listed(lines: &[Kept<Logged>], caption: &str, now_ms: i64) -> Markup {
    table(
        caption,
        ["When", "Who", "What", "Detail"],
        lines.iter().map(|Kept { line, .. }| {
            let Audited { at_ms, who, what, detail } = &line.audited;
            [moment(*at_ms, now_ms), somebody(who, &line.device), cell(what), shortened(detail)]
        }),
    )
}

/// A device by a link to it, everybody else by a link to what they did.
fn somebody(who: &str, device: &str) -> Markup {
    match device.is_empty() {
        false => device_link(who, device),
        true => html! { a href=(link("/audit", &[("who", who)])) { (who) } },
    }
}

/// A text whose hashes and keys are short.
fn shortened(detail: &str) -> Markup {
    html! { span.long {
        @for word in detail.split_inclusive(' ') {
            @let hash = word.get(..64).filter(|digits| digits.parse::<Hex<32>>().is_ok());
            @if let Some(hash) = hash { (short(hash)) (word[64..]) } @else { (word) }
        }
    } }
}
