//! One channel: its round, its releases, and what devices say of them.

use super::LINES;
use super::chart::{Bar, Series, bars, lines};
use super::failure::Failure;
use super::frame::{Part, careful, cell, empty, page, pages, table};
use super::known::channel_of;
use super::outcomes::{VERDICTS, devices, mean, of_release};
use super::visitor::{Acting, Fields, Visitor};
use super::words::{bytes, count, device_link, mark, moment, path, percent, place_of, place_text, points, short};
use super::{releasing, rollout};
use crate::fleet::Fleet;
use crate::fleet::db::{Channel, Kept, Outcome, Reported, Role, RoundState, Sent, Version, Word};
use crate::fleet::{rollouts, rounds};
use axum::extract::{Path, State};
use axum::response::{Html, Redirect};
use maud::{Markup, html};
use std::sync::Arc;

/// Releases of a page, and of its charts.
const RELEASES: i64 = 20;
/// What a page shows.
struct Shown {
    channel: Channel,
    deltas: i64,
    members: i64,
    /// Devices that are offered the current release, and those of them that have reported on it.
    offered: (u64, u64),
    /// What devices say of the current release.
    current: Vec<Outcome>,
    sent: Vec<Kept<Sent>>,
    releases: Vec<Version>,
    outcomes: Vec<Outcome>,
    reports: Vec<Reported>,
    /// Bytes of an adapter that is published.
    bytes_max: u64,
    /// Where the lists of releases and of deltas begin, as in the address.
    at: [String; 2],
}

/// The channel of a name.
pub(super) async fn show(
    State(fleet): State<Arc<Fleet>>,
    visitor: Visitor,
    Path(name): Path<String>,
    asked: Fields,
) -> Result<Html<String>, Failure> {
    let db = &fleet.db;
    let channel = channel_of(&fleet, &name).await?;
    let at = ["releases", "sent"].map(|name| asked.get(name).to_owned());
    let deltas = db.count_in(&name, channel.round).await?;
    let sent = db.sent_in(&name, channel.round, &place_of(&at[1]), LINES).await?;
    let releases = db.releases(&name, at[0].parse().unwrap_or(i64::MAX), RELEASES).await?;
    let versions = |release: Option<&Version>| release.map_or(0, |release| release.version);
    let outcomes = db.outcomes(&name, versions(releases.last()), versions(releases.first())).await?;
    let current = db.outcomes(&name, channel.version, channel.version).await?;
    let members = db.count_members(&name).await?;
    let reports = db.reports_on(&name, channel.version, LINES).await?;
    let offered = (rollouts::members(&fleet, &channel).await?, rollouts::tally(&fleet, &channel).await?.reports());
    let bytes_max = fleet.current().limits.delta_bytes_max;
    let shown = Shown { channel, deltas, members, offered, current, sent, releases, outcomes, reports, bytes_max, at };
    Ok(page(&visitor, Part::Overview, &name, markup(&visitor, &shown, fleet.now_ms())))
}

fn markup(visitor: &Visitor, shown: &Shown, now_ms: i64) -> Markup {
    let channel = &shown.channel;
    html! {
        p.trail { a href="/" { "Overview" } }
        h1 { (channel.name) }
        dl.facts {
            div { dt { "Version" } dd { (channel.version) } }
            div { dt { "Combined by" } dd { code { (channel.rule) } } }
            div { dt { "Adapter" } dd { (short(&channel.adapter)) ", " (bytes(channel.length)) } }
            div { dt { "Base" } dd { (short(&channel.base)) } }
        }
        (progress(visitor, shown, now_ms))
        @if visitor.role == Role::Operator { (releasing::form(visitor, channel, shown.bytes_max)) }
        (round(visitor, shown, now_ms))
        (releases(shown, now_ms))
        (reports(shown, now_ms))
    }
}

/// How far the current release has come; tells by itself how it goes on.
fn progress(visitor: &Visitor, shown: &Shown, now_ms: i64) -> Markup {
    let Shown { channel, members, offered, current, releases, .. } = shown;
    let said = VERDICTS.map(|verdict| devices(current, verdict));
    let waiting = (members - said.iter().sum::<i64>()).max(0);
    let parts = VERDICTS.iter().zip(said).map(|(verdict, count)| (verdict.word(), count as f64));
    let bar = Bar {
        name: format!("v {}", channel.version),
        parts: parts.chain([("waiting", waiting as f64)]).collect(),
        note: format!("{} of {}", said[0], said.iter().sum::<i64>() + waiting),
    };
    let [activated, kept, rejected, failed] = said;
    html! { section #progress aria-labelledby="progress-title" data-live=(if waiting > 0 { 3 } else { 10 }) {
        h2 #progress-title { "Version " (channel.version) " on its devices" }
        @if !channel.problem.is_empty() { p.problem { (channel.problem) } }
        (rollout::section(visitor, channel, *offered, releases, now_ms))
        @if *members == 0 {
            (empty("No device takes part in this channel yet.", html! {
                p { "A device does once it has asked for the channel's release: " code { "edgetune fleet pull" } ", or its agent." }
            }))
        } @else {
            p role="status" {
                (count(activated, "device uses it", "devices use it")) ", "
                @if kept > 0 { (kept) " kept what they learned themselves, " }
                (rejected) " rejected it, " (failed) " failed to try it, "
                (count(waiting, "has not reported yet.", "have not reported yet."))
            }
            div.charts { figure {
                figcaption {
                    @for verdict in VERDICTS { span class={ "key " (verdict.word()) } { (verdict.word()) } " " }
                    span.key.waiting { "waiting" }
                }
                (bars("how-far", "How far the release has come", "Devices by what they say of it.", &[bar]))
            } }
        }
    } }
}

fn round(visitor: &Visitor, Shown { channel, deltas, sent, at, .. }: &Shown, now_ms: i64) -> Markup {
    let next = sent.last().filter(|_| sent.len() as i64 == LINES).map(|last| place_text(&last.place));
    let is_open = channel.state == RoundState::Open;
    let heads = ["Device", "Delta", "#Weight", "#Size", "When"];
    let rows = sent.iter().map(|Kept { line, .. }| {
        let (weight, when) = (cell(format!("{:.0}", line.weight)), moment(line.changed_ms, now_ms));
        [device_link(&line.device, &line.name), short(&line.hash), weight, cell(bytes(line.length)), when]
    });
    let listed = table("Deltas that count in this round, newest first", heads, rows);
    html! { section #round aria-labelledby="round-title" data-live=(if is_open { 10 } else { 2 }) {
        h2 #round-title { "Round " (channel.round) " " (mark(channel.state.word())) }
        p role="status" {
            @if is_open { (count(*deltas, "delta counts so far.", "deltas count so far.")) }
            @else { (count(*deltas, "delta is being combined.", "deltas are being combined.")) }
        }
        @if is_open && *deltas > 0 && visitor.role == Role::Operator {
            (careful(visitor, &path(&["channels", &channel.name, "close"]), "Close the round", html! {
                p {
                    (count(*deltas, "delta is", "deltas are")) " combined into version " (channel.version + 1)
                    ", and the next round opens."
                }
            }, html! { input type="hidden" name="round" value=(channel.round); }))
        }
        @if sent.is_empty() {
            @if at[1].is_empty() { (empty("No delta has come in this round.", html! {
                p { "Devices that are enrolled, train by the channel's recipe and pass their gates send theirs." }
            })) }
        } @else {
            (listed)
        }
        (pages(&path(&["channels", &channel.name]), &[], "sent", &at[1], next))
    } }
}

fn releases(shown: &Shown, now_ms: i64) -> Markup {
    let Shown { channel, releases, outcomes, at, .. } = shown;
    let next = releases.last().filter(|last| last.version > 1 && releases.len() as i64 == RELEASES);
    let here = path(&["channels", &channel.name]);
    let heads = [
        "Version",
        "Adapter",
        "#Size",
        "#Deltas",
        "#Before",
        "#After",
        "#In use",
        "#Kept own",
        "#Rejected",
        "#Failed",
        "Made",
    ];
    let rows = releases.iter().map(|it| row(it, &of_release(outcomes, it.version), channel.version, now_ms));
    let listed = table("Releases, newest first", heads, rows);
    html! { section aria-labelledby="releases" {
        h2 #releases { "Releases" }
        (charts(outcomes))
        (listed)
        (pages(&here, &[], "releases", &at[0], next.map(|last| last.version.to_string())))
        @if releases.len() > 1 { p { a href={ (here) "/compare" } { "Compare two releases" } } }
    } }
}

fn row(release: &Version, said: &[Outcome], current: i64, now_ms: i64) -> [Markup; 11] {
    let [activated, kept, rejected, failed] = VERDICTS.map(|verdict| cell(devices(said, verdict)));
    [
        html! {
            (release.version) " "
            @if release.version == current { (mark("current")) } @else { (mark(release.state.word())) }
            @if !release.reason.is_empty() { div.problem { (release.reason) } }
        },
        short(&release.adapter),
        cell(bytes(release.length)),
        cell(release.devices),
        cell(percent(mean(said, 0))),
        cell(percent(mean(said, 1))),
        activated,
        kept,
        rejected,
        failed,
        moment(release.created_ms, now_ms),
    ]
}

/// Accuracy and verdicts over the releases of the page; nothing where nobody has said anything.
fn charts(outcomes: &[Outcome]) -> Markup {
    let mut versions: Vec<i64> = outcomes.iter().map(|outcome| outcome.version).collect();
    versions.dedup();
    let measured: Vec<(i64, [f64; 2])> = versions
        .iter()
        .filter_map(|version| {
            let said = of_release(outcomes, *version);
            Some((*version, [mean(&said, 0)?, mean(&said, 1)?]))
        })
        .collect();
    let column = |which: usize| -> Vec<f64> { measured.iter().map(|(_, both)| both[which]).collect() };
    let (before, after) = (column(0), column(1));
    let of_which: Vec<i64> = measured.iter().map(|(version, _)| *version).collect();
    // The last ten, so that a bar is a line of text high.
    let rows: Vec<Bar> =
        versions.iter().rev().take(10).map(|version| bar(*version, &of_release(outcomes, *version))).collect();
    let described = "For each release, how many devices use it, kept their own, rejected it or failed to try it.";
    html! { div.charts {
        @if measured.len() > 1 { figure {
            figcaption { "Mean accuracy of the devices that have measured it" }
            (lines("accuracy", "Mean accuracy by release", &of_which, [
                Series { name: "before", values: &before },
                Series { name: "after", values: &after },
            ]))
        } }
        @if !rows.is_empty() { figure {
            figcaption { "Verdicts: " @for verdict in VERDICTS { span class={ "key " (verdict.word()) } { (verdict.word()) } " " } }
            (bars("verdicts", "Verdicts by release", described, &rows))
        } }
    } }
}

fn bar(version: i64, said: &[Outcome]) -> Bar {
    let counts = VERDICTS.map(|verdict| (verdict, devices(said, verdict)));
    let note: Vec<String> = counts.iter().map(|(_, count)| count.to_string()).collect();
    let parts = counts.iter().map(|(verdict, count)| (verdict.word(), *count as f64)).collect();
    Bar { name: format!("v {version}"), parts, note: note.join("/") }
}

fn reports(Shown { channel, reports, .. }: &Shown, now_ms: i64) -> Markup {
    let heads = ["Device", "Verdict", "#Before", "#After", "#Change", "When"];
    let rows = reports.iter().map(|report| {
        let [before, after] = [0, 1].map(|which| cell(percent(report.accuracy.map(|both| both[which]))));
        let (device, when) = (device_link(&report.device, &report.name), moment(report.at_ms, now_ms));
        [device, mark(report.verdict.word()), before, after, cell(points(report.accuracy)), when]
    });
    let listed = table("Reports, those of devices that do not use it first", heads, rows);
    html! { section aria-labelledby="reports" {
        h2 #reports { "What devices say of version " (channel.version) }
        @if reports.is_empty() {
            (empty("No device has reported on it yet.", html! {
                p { "Devices fetch a release when they next ask, and report when they have tried it." }
            }))
        } @else {
            (listed)
            @if reports.len() as i64 == LINES {
                p.quiet { "The first " (LINES) " of them; each device's page has its own." }
            }
        }
    } }
}

/// Closes the round that the form was made for.
pub(super) async fn close(
    State(fleet): State<Arc<Fleet>>,
    Path(name): Path<String>,
    Acting { visitor, fields }: Acting,
) -> Result<Redirect, Failure> {
    let channel = channel_of(&fleet, &name).await?;
    let round = fields.get("round").parse().map_err(|_| Failure::form("The form names no round."))?;
    if let Some(reason) = rounds::too_few(&fleet, &channel).await? {
        return Err(Failure::Conflict(reason));
    }
    if !fleet.db.close_round(&name, round).await? {
        return Err(Failure::Conflict(format!("Round {round} is closed already.")));
    }
    fleet.audit(&visitor.who, "round closed", &format!("{name}: {round}")).await;
    Ok(Redirect::to(&path(&["channels", &channel.name])))
}
