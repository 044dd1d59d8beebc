//! What operators do: tokens, devices, channels, rounds, and the log of it all.

use super::asked::{Operator, whole};
use super::uploads::hash;
use super::{Answer, Problem, Refused, Shared};
use crate::fleet::channels::{self, Plan};
use crate::fleet::db::{Channel, RolloutState, Word};
use crate::fleet::{Fleet, rollouts, rounds};
use crate::sync::wire::is_name;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How long a token can be used.
pub(in crate::fleet) const TOKEN_MS: i64 = 24 * 60 * 60 * 1000;
/// Rows of one answer.
const ROWS: i64 = 1000;

/// A token for one device.
#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    /// What the device is given.
    token: String,
    /// Until when it can be used, in milliseconds since 1970.
    expires_ms: i64,
}

/// A device, for people.
#[derive(Serialize, ToSchema)]
pub(super) struct DeviceRow {
    key: String,
    name: String,
    enrolled_ms: i64,
    revoked_ms: Option<i64>,
    last_ms: i64,
}

/// A channel, for people.
#[derive(Serialize, ToSchema)]
pub(super) struct ChannelRow {
    name: String,
    base: String,
    adapter: String,
    version: i64,
    round: i64,
    state: String,
    rule: String,
    /// Deltas that count in the round.
    deltas: usize,
    /// Why the last round came to nothing, or the last release was taken back.
    problem: Option<String>,
    /// How far the newest release is: `rolling`, `paused`, `held` or `done`.
    rollout: String,
    /// The part of the devices that is offered it; none where it is held.
    percent: u8,
    /// Whether new releases are held.
    pinned: bool,
}

/// A line of the audit log.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditRow {
    at_ms: i64,
    who: String,
    what: String,
    detail: String,
}

/// Where a list goes on.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Behind {
    /// The key of the last device that is known.
    #[serde(default)]
    after: String,
}

/// How a channel is to be.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct NewChannel {
    /// `mean`, `median`, `trimmed:PART`, with `,clip` for a bound of the norms.
    #[serde(default = "rule")]
    rule: String,
    /// Parts of the devices that get a new release one after another, in per cent; `100` is all at once.
    #[serde(default = "stages")]
    stages: String,
    /// Seconds that a stage lasts at least.
    #[serde(default = "stage_s")]
    stage_s: u32,
    /// Devices that must have reported before the next stage, where as many have the release.
    #[serde(default = "stage_reports")]
    stage_reports: u32,
    /// Share of the devices that may refuse a release without it being halted, 0 to below 1.
    #[serde(default = "tolerated")]
    tolerated: f64,
}

fn rule() -> String {
    Plan::default().rule
}

fn stages() -> String {
    Plan::default().stages
}

fn stage_s() -> u32 {
    Plan::default().stage_s
}

fn stage_reports() -> u32 {
    Plan::default().stage_reports
}

fn tolerated() -> f64 {
    Plan::default().tolerated
}

/// Which device a token is for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Invited {
    /// A device of this name alone, which may take the place of the one that has it; without it, any whose name is free.
    #[serde(default)]
    name: String,
}

/// Make a one-time token for a device
#[utoipa::path(post, path = "/v1/admin/tokens", params(Invited),
    responses((status = 200, description = "The token, told this once", body = Token), Refused))]
pub(super) async fn add_token(
    State(fleet): Shared,
    _: Operator,
    invited: Result<Query<Invited>, QueryRejection>,
) -> Answer<Json<Token>> {
    let Query(Invited { name }) = invited.map_err(Problem::form)?;
    if !name.is_empty() && !is_name(&name) {
        return Err(Problem::form("`name` is over 64 bytes or has control characters; give a plain name"));
    }
    let token = fleet.random_name()?;
    let now_ms = fleet.now_ms();
    let expires_ms = now_ms + TOKEN_MS;
    fleet.db.add_token(&blake3::hash(token.as_bytes()).to_string(), &name, now_ms, expires_ms).await?;
    fleet.audit("operator", "token made", &name).await;
    Ok(Json(Token { token, expires_ms }))
}

/// The devices, a thousand at a time
#[utoipa::path(get, path = "/v1/admin/devices", params(Behind),
    responses((status = 200, description = "Devices in the order of their keys", body = Vec<DeviceRow>), Refused))]
pub(super) async fn devices(
    State(fleet): Shared,
    _: Operator,
    behind: Result<Query<Behind>, QueryRejection>,
) -> Answer<Json<Vec<DeviceRow>>> {
    let Query(Behind { after }) = behind.map_err(Problem::form)?;
    let devices = fleet.db.devices(&without_nul(after)?, ROWS).await?.into_iter().map(|device| DeviceRow {
        key: device.key,
        name: device.name,
        enrolled_ms: device.enrolled_ms,
        revoked_ms: Some(device.revoked_ms).filter(|at| *at != 0),
        last_ms: device.last_ms,
    });
    Ok(Json(devices.collect()))
}

/// PostgreSQL has no texts with a NUL.
fn without_nul(text: String) -> Answer<String> {
    Some(text).filter(|text| !text.contains('\0')).ok_or_else(|| Problem::form("the text holds a NUL"))
}

/// Shut a device out
#[utoipa::path(delete, path = "/v1/admin/devices/{key}", params(("key" = String, Path)),
    responses((status = 204, description = "It is out"), Refused))]
pub(super) async fn revoke(State(fleet): Shared, Path(text): Path<String>, _: Operator) -> Answer<StatusCode> {
    let key = hash(&text)?.to_string();
    if !fleet.db.revoke(&key, fleet.now_ms()).await? {
        return Err(Problem::not_found("this key, or it was revoked before"));
    }
    fleet.audit("operator", "revoked", &key).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Make a channel, whose first release is the delta that is sent
#[utoipa::path(post, path = "/v1/admin/channels/{name}", params(("name" = String, Path), NewChannel),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "The channel", body = ChannelRow), Refused))]
pub(super) async fn add_channel(
    State(fleet): Shared,
    Path(name): Path<String>,
    _: Operator,
    new: Result<Query<NewChannel>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ChannelRow>> {
    let Query(NewChannel { rule, stages, stage_s, stage_reports, tolerated }) = new.map_err(Problem::form)?;
    let plan = Plan { rule, stages, stage_s, stage_reports, tolerated };
    let _room = fleet.room.acquire().await.ok();
    let channel = channels::make(&fleet, &name, plan, &sent(&fleet, &headers, body).await?, "operator").await?;
    Ok(Json(row(channel, 0)))
}

/// All of a delta that an operator sends. Memory has room for as many as are held at once.
pub(super) async fn sent(fleet: &Fleet, headers: &HeaderMap, body: Body) -> Answer<Bytes> {
    let bytes_max = fleet.current().limits.delta_bytes_max;
    whole(body, headers, bytes_max as usize).await?.ok_or_else(|| Problem::too_long(bytes_max))
}

fn row(channel: Channel, deltas: usize) -> ChannelRow {
    let percent =
        if channel.rollout == RolloutState::Done { 100 } else { rollouts::stages(&channel).percent(channel.stage) };
    let Channel { name, base, adapter, version, round, state, rule, problem, rollout, pinned, .. } = channel;
    let problem = Some(problem).filter(|problem| !problem.is_empty());
    let (state, rollout) = (state.word().into(), rollout.word().into());
    ChannelRow { name, base, adapter, version, round, state, rule, deltas, problem, rollout, percent, pinned }
}

/// The channels
#[utoipa::path(get, path = "/v1/admin/channels",
    responses((status = 200, description = "All channels", body = Vec<ChannelRow>), Refused))]
pub(super) async fn channels(State(fleet): Shared, _: Operator) -> Answer<Json<Vec<ChannelRow>>> {
    let mut rows = Vec::new();
    for channel in fleet.db.channels().await? {
        let deltas = fleet.db.counted(&channel.name, channel.round).await?.len();
        rows.push(row(channel, deltas));
    }
    Ok(Json(rows))
}

/// Close a channel's round: its deltas are combined and released
#[utoipa::path(post, path = "/v1/admin/channels/{name}/close", params(("name" = String, Path)),
    responses((status = 202, description = "It is being combined"), Refused))]
pub(super) async fn close_round(State(fleet): Shared, Path(name): Path<String>, _: Operator) -> Answer<StatusCode> {
    let none = || Problem::not_found("this channel");
    let name = Some(name).filter(|name| is_name(name)).ok_or_else(none)?;
    let channel = fleet.db.channel(&name).await?.ok_or_else(none)?;
    if let Some(reason) = rounds::too_few(&fleet, &channel).await? {
        return Err(Problem::too_few(reason));
    }
    if !fleet.db.close_round(&name, channel.round).await? {
        return Err(Problem::conflict("the round is closed already"));
    }
    fleet.audit("operator", "round closed", &format!("{name}: {}", channel.round)).await;
    Ok(StatusCode::ACCEPTED)
}

/// The last lines of the audit log
#[utoipa::path(get, path = "/v1/admin/audit",
    responses((status = 200, description = "The last lines, newest first", body = Vec<AuditRow>), Refused))]
pub(super) async fn audit(State(fleet): Shared, _: Operator) -> Answer<Json<Vec<AuditRow>>> {
    let lines = fleet.db.audited(ROWS).await?.into_iter().map(|line| AuditRow {
        at_ms: line.at_ms,
        who: line.who,
        what: line.what,
        detail: line.detail,
    });
    Ok(Json(lines.collect()))
}
