//! The first page: how the fleet is, at a glance.

use super::audit::listed;
use super::failure::Failure;
use super::frame::{Part, cell, empty, figure, page, pages, table};
use super::outcomes::{devices, mean};
use super::visitor::{Fields, Visitor};
use super::words::{SILENT_MS, channel_link, count, device_link, mark, moment, percent};
use crate::fleet::Fleet;
use crate::fleet::db::{Channel, Kept, Logged, Outcome, Place, Reported, Role, Seen, Word};
use crate::sync::wire::ReleaseVerdict;
use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use std::sync::Arc;

/// Channels on the page.
const CHANNELS: i64 = 20;
/// Reports and lines of the log on the page.
const LATEST: i64 = 8;

/// A channel, the deltas that count in its round, and what devices say of its release.
struct Row {
    channel: Channel,
    deltas: i64,
    outcomes: Vec<Outcome>,
}

/// The overview.
pub(super) async fn show(
    State(fleet): State<Arc<Fleet>>,
    visitor: Visitor,
    asked: Fields,
) -> Result<Html<String>, Failure> {
    let (db, now_ms, after) = (&fleet.db, fleet.now_ms(), asked.get("after"));
    let seen = db.devices_seen(now_ms - SILENT_MS).await?;
    let mut rows: Vec<Row> = Vec::new();
    for channel in db.channels_after(after, CHANNELS).await? {
        let deltas = db.count_in(&channel.name, channel.round).await?;
        let outcomes = db.outcomes(&channel.name, channel.version, channel.version).await?;
        rows.push(Row { channel, deltas, outcomes });
    }
    let troubles = db.troubles(LATEST).await?;
    let lines = db.audited_by("", &Place::first(), LATEST).await?;
    let counts = db.channels_counted().await?;
    let glance = Glance { seen, counts, rows, after, now_ms, troubles, lines };
    Ok(page(&visitor, Part::Overview, "Overview", markup(&visitor, &glance)))
}

/// What the page shows.
struct Glance<'a> {
    seen: Seen,
    /// Channels, and deltas that wait in their rounds.
    counts: [i64; 2],
    rows: Vec<Row>,
    /// The channel behind which the rows begin.
    after: &'a str,
    now_ms: i64,
    /// Releases that devices do not use.
    troubles: Vec<Reported>,
    /// The last lines of the audit log.
    lines: Vec<Kept<Logged>>,
}

fn markup(visitor: &Visitor, glance: &Glance<'_>) -> Markup {
    let Glance { seen, counts: [channels, waiting], rows, after, now_ms, troubles, lines } = glance;
    let now_ms = *now_ms;
    let next = rows.last().filter(|_| rows.len() as i64 == CHANNELS).map(|last| last.channel.name.clone());
    let heads = ["Channel", "#Version", "Round", "#Deltas", "#Accuracy", "Verdicts"];
    let silent = seen.enrolled - seen.lately;
    let trouble_heads = ["Device", "Channel", "#Version", "Verdict", "When"];
    let trouble = |report: &Reported| {
        let (device, channel) = (device_link(&report.device, &report.name), channel_link(&report.channel));
        [device, channel, cell(report.version), mark(report.verdict.word()), moment(report.at_ms, now_ms)]
    };
    html! {
        h1 { "Overview" }
        dl.tiles {
            (figure("Devices", seen.enrolled, &format!("{} revoked", seen.revoked)))
            (figure("Seen in 7 days", seen.lately, &format!("{silent} silent")))
            (figure("Channels", channels, ""))
            (figure("Deltas in their rounds", waiting, ""))
        }
        @if seen.enrolled + seen.revoked == 0 {
            (empty("No device has enrolled yet.", html! { p { a href="/devices" { "Enrol the first device" } } }))
        }
        section #channels aria-labelledby="channels-title" data-live="10" {
            h2 #channels-title { "Channels" }
            @if rows.is_empty() {
                (empty("There is no channel yet.", first_channel(visitor)))
            } @else {
                (table("Channels and their current release", heads, rows.iter().map(channel)))
                (pages("/", &[], "after", after, next))
                @if visitor.role == Role::Operator { p { a href="/new-channel" { "New channel" } } }
            }
        }
        section aria-labelledby="troubles" {
            h2 #troubles { "Releases that devices do not use" }
            @if troubles.is_empty() {
                p.quiet { "No device has rejected a release, or failed to try one." }
            } @else {
                (table("The last reports of that kind", trouble_heads, troubles.iter().map(trouble)))
            }
        }
        section aria-labelledby="latest" {
            h2 #latest { "What happened last" }
            (listed(lines, "The last lines of the audit log", now_ms))
            p { a href="/audit" { "All of the audit log" } }
        }
    }
}

fn channel(Row { channel, deltas, outcomes }: &Row) -> [Markup; 6] {
    [
        html! {
            (channel_link(&channel.name))
            @if !channel.problem.is_empty() { div.problem { (channel.problem) } }
        },
        cell(channel.version),
        html! { (channel.round) " " (mark(channel.state.word())) },
        cell(deltas),
        cell(percent(mean(outcomes, 1))),
        html! {
            @if outcomes.is_empty() { span.quiet { "no report yet" } }
            @else {
                (count(devices(outcomes, ReleaseVerdict::Activated), "device uses it", "devices use it"))
                @for verdict in [ReleaseVerdict::Kept, ReleaseVerdict::Rejected, ReleaseVerdict::Failed] {
                    @let said = devices(outcomes, verdict);
                    @if said > 0 { ", " (said) " " (verdict.word()) }
                }
            }
        },
    ]
}

/// How a channel is made.
fn first_channel(visitor: &Visitor) -> Markup {
    html! {
        p {
            "A channel is what devices of one kind learn together. It begins with an adapter, such as one that "
            code { "edgetune train" } " has written."
        }
        @if visitor.role == Role::Operator {
            p { a href="/new-channel" { "Make the first channel" } ", or on the server's machine:" }
            pre tabindex="0" { code { "edgetune-fleet channel create NAME --from A.edelta" } }
        } @else {
            p { "Ask an operator to make one." }
        }
    }
}
