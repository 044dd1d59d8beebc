//! What operators do with releases: publish, look at their rollout, and steer it.

use super::asked::Operator;
use super::operator::sent;
use super::{Answer, Problem, Refused, Shared};
use crate::fleet::Fleet;
use crate::fleet::channels;
use crate::fleet::db::{Channel, Word};
use crate::fleet::rollouts::{self, Act, Steered};
use crate::sync::wire::is_name;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Rows of one answer.
const ROWS: i64 = 100;

/// A release, for people.
#[derive(Serialize, ToSchema)]
pub(super) struct ReleaseRow {
    version: i64,
    adapter: String,
    length: i64,
    created_ms: i64,
    /// Devices whose deltas are in it; 0 for an operator's.
    devices: i64,
    /// `rolling`, `done`, `halted`, `replaced` or `back` (an older adapter again).
    outcome: String,
    /// Why it was halted.
    reason: Option<String>,
    /// What devices have said of it.
    reports: Reports,
}

/// Reports of a release; of the newest, those of devices that are offered it.
#[derive(Serialize, ToSchema)]
pub(super) struct Reports {
    /// Devices that are offered it; the newest release's alone.
    offered: Option<u64>,
    activated: u64,
    /// Devices that keep what they have learned themselves.
    kept: u64,
    /// Rejected by their own gate, or failed.
    refused: u64,
    /// Devices whose accuracy is higher than before.
    better: u64,
    /// Devices whose accuracy is lower.
    worse: u64,
}

/// What is done to a rollout.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// Take no further step; who has the release keeps it.
    Pause,
    /// Go on.
    Resume,
    /// Begin the next stage now, or finish behind the last.
    Advance,
    /// Give all devices the adapter of `version`, or of the last release that all had.
    Rollback,
    /// Hold new releases back.
    Pin,
    /// Let new releases go out, and one that was held begin.
    Unpin,
}

/// Which of them, and to what.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// What is to be done.
    #[serde(rename = "do")]
    #[param(rename = "do", inline)]
    action: Action,
    /// For `rollback`.
    version: Option<i64>,
}

async fn channel_of(fleet: &Fleet, name: String) -> Answer<Channel> {
    let none = || Problem::not_found("this channel");
    let name = Some(name).filter(|name| is_name(name)).ok_or_else(none)?;
    fleet.db.channel(&name).await?.ok_or_else(none)
}

fn changed() -> Problem {
    Problem::conflict("the channel has changed meanwhile, or is not in a state for this; look at it again")
}

/// Publish a delta as a channel's next release, which is rolled out
#[utoipa::path(post, path = "/v1/admin/channels/{name}/release", params(("name" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 202, description = "It is on its way to the first devices"), Refused))]
pub(super) async fn publish(
    State(fleet): Shared,
    Path(name): Path<String>,
    _: Operator,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let channel = channel_of(&fleet, name).await?;
    let _room = fleet.room.acquire().await.ok();
    channels::publish(&fleet, &channel, &sent(&fleet, &headers, body).await?, "operator").await?;
    Ok(StatusCode::ACCEPTED)
}

/// The last releases of a channel, newest first, and how far the newest is
#[utoipa::path(get, path = "/v1/admin/channels/{name}/releases", params(("name" = String, Path)),
    responses((status = 200, description = "Releases, newest first", body = Vec<ReleaseRow>), Refused))]
pub(super) async fn releases(
    State(fleet): Shared,
    Path(name): Path<String>,
    _: Operator,
) -> Answer<Json<Vec<ReleaseRow>>> {
    let channel = channel_of(&fleet, name).await?;
    let mut rows = Vec::new();
    for release in fleet.db.releases(&channel.name, i64::MAX, ROWS).await? {
        let (tally, offered) = match release.version == channel.version {
            true => (rollouts::tally(&fleet, &channel).await?, Some(rollouts::members(&fleet, &channel).await?)),
            false => (rollouts::tally_of_all(&fleet, &channel.name, release.version).await?, None),
        };
        rows.push(ReleaseRow {
            version: release.version,
            adapter: release.adapter,
            length: release.length,
            created_ms: release.created_ms,
            devices: release.devices,
            outcome: release.state.word().into(),
            reason: Some(release.reason).filter(|reason| !reason.is_empty()),
            reports: Reports {
                offered,
                activated: tally.activated,
                kept: tally.kept,
                refused: tally.refused,
                better: tally.better,
                worse: tally.worse,
            },
        });
    }
    Ok(Json(rows))
}

/// Pause, resume, advance or roll back what is rolled out; pin a channel
#[utoipa::path(post, path = "/v1/admin/channels/{name}/rollout", params(("name" = String, Path), Wanted),
    responses((status = 204, description = "It is done"), Refused))]
pub(super) async fn steer(
    State(fleet): Shared,
    Path(name): Path<String>,
    _: Operator,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer<StatusCode> {
    let Query(Wanted { action, version }) = wanted.map_err(Problem::form)?;
    let channel = channel_of(&fleet, name).await?;
    let act = match action {
        Action::Pause => Act::Pause,
        Action::Resume => Act::Resume,
        Action::Advance => Act::Advance,
        Action::Rollback => Act::Rollback(version),
        Action::Pin => Act::Pin,
        Action::Unpin => Act::Unpin,
    };
    match rollouts::steer(&fleet, &channel, act, "operator").await? {
        Steered::Done => Ok(StatusCode::NO_CONTENT),
        Steered::Changed => Err(changed()),
        Steered::NoVersion => Err(Problem::not_found("this version; look at the releases")),
    }
}
