//! Two releases of a channel beside each other: how far each has gone, how far they are apart, how they did.

use super::chart::{Bar, groups};
use super::failure::Failure;
use super::frame::{Part, cell, empty, page, table};
use super::known::channel_of;
use super::outcomes::{devices, mean};
use super::visitor::{Fields, Visitor};
use super::words::{bytes, count, moment, path, percent, short};
use crate::aggregate::{self, Compared};
use crate::fleet::Fleet;
use crate::fleet::db::{Channel, Outcome, Version};
use crate::fleet::store::adapter_key;
use crate::sync::wire::ReleaseVerdict;
use axum::extract::{Path, State};
use axum::response::Html;
use maud::{Markup, html};
use std::sync::Arc;

/// Releases to choose from: the last ones, and those that the address names.
const CHOICES: i64 = 50;
/// Tensors in the table, and in the chart: those that differ most.
const ROWS: usize = 200;
const GROUPS: usize = 12;

/// Two releases, what devices say of them, and what differs; or why that cannot be told.
struct Pair {
    releases: [Version; 2],
    outcomes: [Vec<Outcome>; 2],
    compared: Result<Vec<Compared>, String>,
}

/// The releases `from` and `to`, or the last two.
pub(super) async fn show(
    State(fleet): State<Arc<Fleet>>,
    visitor: Visitor,
    Path(name): Path<String>,
    asked: Fields,
) -> Result<Html<String>, Failure> {
    let channel = channel_of(&fleet, &name).await?;
    let choices = fleet.db.releases(&name, i64::MAX, CHOICES).await?;
    let newest = choices.first().map_or(0, |release| release.version);
    let version = |field: &str, otherwise: i64| asked.get(field).parse().unwrap_or(otherwise);
    let versions = [version("from", newest - 1), version("to", newest)];
    let pair = if choices.len() > 1 { Some(pair(&fleet, &name, versions).await?) } else { None };
    let content = markup(&channel, &choices, pair.as_ref(), fleet.now_ms());
    Ok(page(&visitor, Part::Overview, &format!("Compare releases of {name}"), content))
}

async fn pair(fleet: &Fleet, channel: &str, versions: [i64; 2]) -> Result<Pair, Failure> {
    let none = Failure::NotFound("one of these versions");
    let mut releases = Vec::new();
    for version in versions {
        let found = fleet.db.releases(channel, version.saturating_add(1), 1).await?;
        releases.extend(found.into_iter().filter(|release| release.version == version));
    }
    let releases: [Version; 2] = releases.try_into().map_err(|_| none)?;
    let of = |version| fleet.db.outcomes(channel, version, version);
    let outcomes = [of(versions[0]).await?, of(versions[1]).await?];
    let compared = compared(fleet, &releases).await?;
    Ok(Pair { releases, outcomes, compared })
}

/// What differs between two adapters; both are held in memory meanwhile, and of their values a tensor at a time.
async fn compared(fleet: &Fleet, releases: &[Version; 2]) -> Result<Result<Vec<Compared>, String>, Failure> {
    let bytes_max = fleet.current().limits.delta_bytes_max;
    if let Some(large) = releases.iter().find(|release| release.length as u64 > bytes_max) {
        let length = bytes(large.length);
        return Ok(Err(format!(
            "version {} has {length}, more than is compared here (setting `delta-bytes-max`)",
            large.version
        )));
    }
    // Waiting is the visitor's; the semaphore is never closed.
    let _room = fleet.room.acquire_many(2).await.ok();
    let mut both = Vec::new();
    for release in releases {
        match fleet.store.get(&adapter_key(&release.adapter)).await? {
            Some(bytes) => both.push(bytes),
            None => return Ok(Err(format!("the store has lost version {}; restore it", release.version))),
        }
    }
    let task = tokio::task::spawn_blocking(move || aggregate::compare([&both[0], &both[1]]));
    let compared = task.await.map_err(|error| crate::fleet::Error::Combine(error.to_string()))?;
    Ok(compared.map_err(|error| error.to_string()))
}

fn markup(channel: &Channel, choices: &[Version], pair: Option<&Pair>, now_ms: i64) -> Markup {
    let here = path(&["channels", &channel.name]);
    html! {
        p.trail { a href="/" { "Overview" } " / " a href=(here) { (channel.name) } }
        h1 { "Compare releases" }
        @if let Some(pair) = pair {
            form.row action={ (here) "/compare" } {
                (choice("from", "This version", choices, pair.releases[0].version))
                (choice("to", "with this one", choices, pair.releases[1].version))
                button type="submit" { "Compare" }
            }
            (facts(pair, now_ms))
            (tensors(pair))
        } @else {
            (empty("There is nothing to compare yet.", html! {
                p { "The channel has its first release only; a round makes the next one." }
            }))
        }
    }
}

fn choice(name: &str, label: &str, choices: &[Version], chosen: i64) -> Markup {
    let is_listed = choices.iter().any(|release| release.version == chosen);
    html! { div {
        label for=(name) { (label) }
        select id=(name) name=(name) {
            @for version in choices.iter().map(|release| release.version) {
                option value=(version) selected[version == chosen] { (version) }
            }
            @if !is_listed { option value=(chosen) selected { (chosen) } }
        }
    } }
}

fn facts(Pair { releases, outcomes, .. }: &Pair, now_ms: i64) -> Markup {
    let row = |(release, said): (&Version, &Vec<Outcome>)| {
        [
            cell(release.version),
            short(&release.adapter),
            cell(bytes(release.length)),
            cell(release.devices),
            cell(percent(mean(said, 0))),
            cell(percent(mean(said, 1))),
            cell(devices(said, ReleaseVerdict::Activated)),
            cell(devices(said, ReleaseVerdict::Rejected) + devices(said, ReleaseVerdict::Failed)),
            moment(release.created_ms, now_ms),
        ]
    };
    let heads = [
        "Version",
        "Adapter",
        "#Size",
        "#Deltas",
        "#Accuracy before",
        "#Accuracy after",
        "#In use",
        "#Rejected or failed",
        "Made",
    ];
    table("The two releases", heads, releases.iter().zip(outcomes).map(row))
}

fn tensors(Pair { releases, compared, .. }: &Pair) -> Markup {
    let compared = match compared {
        Ok(compared) => compared,
        Err(problem) => return html! { p.problem { "The adapters cannot be compared: " (problem) "." } },
    };
    let mut most: Vec<&Compared> = compared.iter().collect();
    most.sort_by(|one, other| other.difference.total_cmp(&one.difference));
    let [one, other] = releases.each_ref().map(|release| release.version);
    let rows: Vec<Bar> = most.iter().take(GROUPS).map(|part| bar(part)).collect();
    let described = "For each tensor three bars: its norm in both releases, and that of their difference.";
    let norms = [format!("Norm in {one}"), format!("Norm in {other}")];
    let heads =
        ["Tensor", "#Values", &format!("#{}", norms[0]), &format!("#{}", norms[1]), "#Norm of difference", "#Cosine"];
    let parts = most.iter().take(ROWS).map(|part| {
        let [one, other] = part.norms.map(|norm| cell(format!("{norm:.4}")));
        let cosine = part.cosine().map_or("–".into(), |cosine| format!("{cosine:.3}"));
        let name = html! { span.long { (part.name) } };
        [name, cell(part.values), one, other, cell(format!("{:.4}", part.difference)), cell(cosine)]
    });
    let listed = table("Tensors, those that differ most first", heads, parts);
    html! {
        section aria-labelledby="tensors" {
            h2 #tensors { "What they change in the base" }
            p.quiet {
                "By tensor, those that differ most first; of low-rank factors, what their product does. A cosine of 1: both pull \
                 the same way."
            }
            div.charts { figure {
                figcaption {
                    "Norms: " span.key.first { "version " (one) } " " span.key.second { "version " (other) } " "
                    span.key.apart { "difference" }
                }
                (groups("norms", "Norms by tensor", described, &rows))
            } }
            (listed)
            @if most.len() > ROWS {
                p.quiet { (count((most.len() - ROWS) as i64, "tensor differs", "tensors differ")) " less than these." }
            }
        }
    }
}

fn bar(part: &Compared) -> Bar {
    let signs: Vec<char> = part.name.chars().collect();
    // The end of a long name tells more than its beginning.
    let name = if signs.len() > 52 {
        format!("…{}", signs[signs.len() - 51..].iter().collect::<String>())
    } else {
        part.name.clone()
    };
    let parts = vec![("first", part.norms[0]), ("second", part.norms[1]), ("apart", part.difference)];
    Bar { name, parts, note: String::new() }
}
