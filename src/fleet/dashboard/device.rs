//! One device: how it is, what releases did for it, what it has sent.

use super::chart::{Series, lines};
use super::failure::Failure;
use super::frame::{Part, careful, cell, empty, page, pages, table};
use super::visitor::{Acting, Fields, Visitor};
use super::words::{
    bytes, channel_link, health, link, mark, moment, path, percent, place_of, place_text, points, short,
};
use super::{LINES, key_of};
use crate::fleet::Fleet;
use crate::fleet::db::{DeltaState, Device, Kept, Place, Reported, Role, Sent, Word};
use axum::extract::{Path, State};
use axum::response::{Html, Redirect};
use maud::{Markup, html};
use std::sync::Arc;

/// Deltas on a page.
const SENT: i64 = 20;

/// What a page shows.
struct Shown {
    device: Device,
    last: Option<Reported>,
    reports: Vec<Kept<Reported>>,
    sent: Vec<Kept<Sent>>,
    /// Where the two lists begin, as in the address.
    at: [String; 2],
}

/// The device of a key.
pub(super) async fn show(
    State(fleet): State<Arc<Fleet>>,
    visitor: Visitor,
    Path(key): Path<String>,
    asked: Fields,
) -> Result<Html<String>, Failure> {
    let key = key_of(&key)?;
    let device = fleet.db.device(&key).await?.ok_or(Failure::NotFound("a device of this key"))?;
    let at = ["reports", "sent"].map(|name| asked.get(name).to_owned());
    let reports = fleet.db.reports_of(&key, &place_of(&at[0]), LINES).await?;
    let sent = fleet.db.sent_by(&key, &place_of(&at[1]), SENT).await?;
    let last = fleet.db.reports_of(&key, &Place::first(), 1).await?.pop().map(|kept| kept.line);
    let title = device.name.clone();
    let shown = Shown { device, last, reports, sent, at };
    Ok(page(&visitor, Part::Devices, &title, markup(&visitor, &shown, fleet.now_ms())))
}

fn markup(visitor: &Visitor, shown: &Shown, now_ms: i64) -> Markup {
    let Shown { device, last, .. } = shown;
    html! {
        p.trail { a href="/devices" { "Devices" } }
        h1 { (device.name) }
        dl.facts {
            div { dt { "State" } dd { (mark(health(device, last.as_ref(), now_ms))) } }
            div { dt { "Last seen" } dd { (moment(device.last_ms, now_ms)) } }
            div { dt { "Enrolled" } dd { (moment(device.enrolled_ms, now_ms)) } }
            @if device.revoked_ms != 0 { div { dt { "Revoked" } dd { (moment(device.revoked_ms, now_ms)) } } }
            div { dt { "Key" } dd { code.long { (device.key) } } }
        }
        p { a href=(link("/audit", &[("who", &device.key)])) { "What it did, in the audit log" } }
        (reported(shown, now_ms))
        (sent(shown, now_ms))
        @if visitor.role == Role::Operator { (revoking(visitor, device)) }
    }
}

fn reported(shown: &Shown, now_ms: i64) -> Markup {
    let Shown { device, reports, at, .. } = shown;
    let next = reports.last().filter(|_| reports.len() as i64 == LINES).map(|last| place_text(&last.place));
    let mut channels: Vec<&str> = reports.iter().map(|kept| kept.line.channel.as_str()).collect();
    channels.sort_unstable();
    channels.dedup();
    let heads = ["Channel", "#Version", "Verdict", "#Before", "#After", "#Change", "When"];
    let rows = reports.iter().map(|Kept { line, .. }| {
        let [before, after] = [0, 1].map(|which| cell(percent(line.accuracy.map(|both| both[which]))));
        let (channel, when) = (channel_link(&line.channel), moment(line.at_ms, now_ms));
        [channel, cell(line.version), mark(line.verdict.word()), before, after, cell(points(line.accuracy)), when]
    });
    let listed = table("Reports, newest first", heads, rows);
    html! { section aria-labelledby="reports" {
        h2 #reports { "What releases did for it" }
        @if reports.is_empty() {
            (empty("It has said nothing of a release yet.", html! {
                p { "A device reports when it has tried one on the samples that it holds out." }
            }))
        } @else {
            div.charts { @for (index, channel) in channels.iter().enumerate() { (accuracy(index, channel, reports)) } }
            (listed)
            (pages(&path(&["devices", &device.key]), &[], "reports", &at[0], next))
        }
    } }
}

/// Accuracy over the versions of one channel; nothing where nothing was measured twice.
fn accuracy(index: usize, channel: &str, reports: &[Kept<Reported>]) -> Markup {
    let mut measured: Vec<(i64, [f64; 2])> = reports
        .iter()
        .filter(|kept| kept.line.channel == channel)
        .filter_map(|kept| Some((kept.line.version, kept.line.accuracy?)))
        .collect();
    measured.sort_unstable_by_key(|(version, _)| *version);
    let versions: Vec<i64> = measured.iter().map(|(version, _)| *version).collect();
    let before: Vec<f64> = measured.iter().map(|(_, [before, _])| *before).collect();
    let after: Vec<f64> = measured.iter().map(|(_, [_, after])| *after).collect();
    let title = format!("Accuracy by release of {channel}");
    html! {
        @if measured.len() > 1 {
            figure {
                figcaption { (title) }
                (lines(&format!("accuracy-{index}"), &title, &versions, [
                    Series { name: "before", values: &before },
                    Series { name: "after", values: &after },
                ]))
            }
        }
    }
}

fn sent(shown: &Shown, now_ms: i64) -> Markup {
    let Shown { device, sent, at, .. } = shown;
    let next = sent.last().filter(|_| sent.len() as i64 == SENT).map(|last| place_text(&last.place));
    let heads = ["Delta", "State", "Channel", "#Round", "#Weight", "#Size", "When"];
    let rows = sent.iter().map(|Kept { line, .. }| {
        let counted = |text: String| cell(if line.round > 0 { text.as_str() } else { "–" });
        [
            short(&line.hash),
            html! { (mark(line.state.word())) @if line.state == DeltaState::Receiving { " " (bytes(line.received)) " so far" } },
            channel_link(&line.channel),
            counted(line.round.to_string()),
            counted(format!("{:.0}", line.weight)),
            cell(bytes(line.length)),
            moment(line.changed_ms, now_ms),
        ]
    });
    let listed = table("Deltas, newest first", heads, rows);
    html! { section aria-labelledby="sent" {
        h2 #sent { "What it has sent" }
        @if sent.is_empty() {
            (empty("It has sent no delta yet.", html! {
                p { "A device sends what it has learned when its gates have let it pass." }
            }))
        } @else {
            (listed)
            (pages(&path(&["devices", &device.key]), &[], "sent", &at[1], next))
        }
    } }
}

fn revoking(visitor: &Visitor, device: &Device) -> Markup {
    html! { section aria-labelledby="shut" {
        @if device.revoked_ms == 0 {
            h2 #shut { "Shut it out" }
            (careful(visitor, &path(&["devices", &device.key, "revoke"]), "Revoke", html! {
                p { "Its key is refused from now on, for ever, and what it has sent in open rounds does not count. To let \
                     the device in again, enrol it with a new key and a new token." }
            }, html! {}))
        } @else {
            h2 #shut { "Let it in again" }
            p {
                "A revoked key stays out. Let the device make a new key, and enrol it with a new token, under its old name if you \
                 like: " a href="/devices#enrol" { "make a token" } "."
            }
        }
    } }
}

/// Shuts a device out.
pub(super) async fn revoke(
    State(fleet): State<Arc<Fleet>>,
    Path(key): Path<String>,
    Acting { visitor, .. }: Acting,
) -> Result<Redirect, Failure> {
    let key = key_of(&key)?;
    if !fleet.db.revoke(&key, fleet.now_ms()).await? {
        return Err(Failure::NotFound("a device of this key, or it was revoked before"));
    }
    fleet.audit(&visitor.who, "revoked", &key).await;
    Ok(Redirect::to(&path(&["devices", &key])))
}
