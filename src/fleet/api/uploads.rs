//! How devices come in, and their deltas after them.

use super::asked::{Device, Peer, Stranger};
use super::{Answer, Problem, Refused, Shared};
use crate::aggregate::Current;
use crate::fleet::db::{Accepted, Came, Channel, DeltaState, Enrolment, Newcomer, Worth};
use crate::fleet::limit::Source;
use crate::fleet::store::chunk_key;
use crate::fleet::verify::{Expected, Fault, Verified, Verifier};
use crate::fleet::{Counts, Fleet, VALUES_FACTOR, retention};
use crate::sync::wire::{self, CHUNK_BYTES, Enrol, Enrolled, Hex, UploadState, is_name};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Instant;
use utoipa::IntoParams;

/// Bytes of a JSON body.
pub(super) const JSON_BYTES_MAX: usize = 16 << 10;
/// Uploads of a device that may be on their way at once.
const RECEIVING_MAX: usize = 4;

/// Why a delta is not taken under a hash that another one has.
const OTHERWISE: &str = "a delta of this hash has begun with another length or channel; send that one";

/// JSON of one of the types of `wire`.
pub(super) fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Answer<T> {
    serde_json::from_slice(body).map_err(|error| Problem::form(format!("the body: {error}")))
}

/// A hash in a path.
pub(super) fn hash(text: &str) -> Answer<Hex<32>> {
    text.parse().map_err(|error| Problem::form(format!("the hash in the path: {error}")))
}

/// Enrol a device
#[utoipa::path(post, path = "/v1/enrol", request_body = Enrol,
    responses((status = 200, description = "The device is in", body = Enrolled), Refused))]
pub(super) async fn enrol(
    State(fleet): Shared,
    Peer(address): Peer,
    Stranger { signed, body }: Stranger<JSON_BYTES_MAX>,
) -> Answer<Json<Enrolled>> {
    let Enrol { token, name, replace, consent } = json(&body)?;
    if !is_name(&name) {
        return Err(Problem::form("`name` is empty, over 64 bytes or has control characters; give a plain name"));
    }
    let consent = consent.filter(|consent| consent.is_for(signed.key, &token, &name));
    let consent = consent.map_or(String::new(), |consent| consent.key.to_string());
    let (token, key) = (blake3::hash(token.as_bytes()).to_string(), signed.key.to_string());
    let (now_ms, time_ms) = (fleet.now_ms(), signed.time_ms as i64);
    let newcomer = Newcomer { token: &token, key: &key, name: &name, replaces: replace, consent: &consent, time_ms };
    let replaced = match fleet.db.enrol(&newcomer, now_ms).await? {
        Enrolment::Done(replaced) => Ok(replaced),
        Enrolment::Token => {
            Err(Problem::identity("the token is none, was used or is too old; ask an operator for a new one"))
        }
        Enrolment::Revoked => Err(Problem::identity("this key was revoked; enrol with a new key")),
        Enrolment::Name(made_for) => Err(Problem::name(format!(
            "the token was made for the device `{made_for}`; enrol with setting `name = {made_for:?}`, or ask for another token"
        ))),
        Enrolment::Taken => Err(Problem::name(format!(
            "a device is called `{name}`; give another name (setting `name`), or take its place (setting `replace`)"
        ))),
        Enrolment::Unasked => Err(Problem::name(format!(
            "a device is called `{name}`, and this token is not for taking its place; ask an operator for a token of that name \
             (edgetune-fleet token {name:?}), or revoke the other device"
        ))),
    };
    let replaced = match replaced {
        Ok(replaced) => replaced,
        Err(problem) => {
            let who = address.to_string();
            fleet.refused(Source::from_address(address), &who, "enrolment refused", problem.detail()).await;
            return Err(problem);
        }
    };
    if let Some(other) = replaced {
        fleet.audit(&key, "replaced", &format!("{name}: {other}")).await;
    }
    fleet.audit(&key, "enrolled", &name).await;
    let current = fleet.current();
    let (key, release_key, root) = (signed.key, Hex(current.key.public()), current.root.clone());
    Ok(Json(Enrolled { fleet: fleet.name.clone(), key, release_key, root, time_ms: now_ms as u64 }))
}

/// Begin to send a delta, or learn how far it is
#[utoipa::path(post, path = "/v1/uploads", request_body = wire::Upload,
    responses((status = 200, description = "How far the upload is", body = UploadState), Refused))]
pub(super) async fn begin(
    State(fleet): Shared,
    Device { key, body }: Device<JSON_BYTES_MAX>,
) -> Answer<Json<UploadState>> {
    let wire::Upload { channel, hash, length } = json(&body)?;
    let device = key.to_string();
    if length == 0 || length > fleet.current().limits.delta_bytes_max {
        fleet.refused(Source::Device(key.0), &device, "upload refused", &format!("{length} bytes")).await;
        return Err(Problem::too_long(fleet.current().limits.delta_bytes_max));
    }
    channel_of(&fleet, &channel).await?;
    fleet.db.take_part(&channel, &device, fleet.now_ms()).await?;
    let text = hash.to_string();
    if fleet.db.upload(&device, &text).await?.is_none() {
        is_due(&fleet, key)?;
        make_room(&fleet, &device).await?;
    }
    let upload = fleet.db.begin_upload(&device, &text, &channel, length as i64, fleet.now_ms()).await?;
    let upload = upload.ok_or_else(|| Problem::conflict("the upload is gone; begin it again"))?;
    if upload.length != length as i64 || upload.channel != channel {
        return Err(Problem::conflict(OTHERWISE));
    }
    upload_state(hash, upload.received, upload.state)
}

/// Whether a device may begin another delta: each is a row for ever, and most are verified in full.
fn is_due(fleet: &Fleet, key: Hex<32>) -> Answer<()> {
    fleet.deltas.take(Source::Device(key.0), Instant::now()).map_err(Problem::too_many)
}

/// Gives up what a device has begun and left, the oldest first: what it sends now is newer.
async fn make_room(fleet: &Fleet, device: &str) -> Answer<()> {
    let unfinished = fleet.db.receiving(device).await?;
    let beyond = (unfinished.len() + 1).saturating_sub(RECEIVING_MAX);
    for upload in unfinished.into_iter().take(beyond) {
        retention::give_up(fleet, &upload).await?;
    }
    Ok(())
}

/// How far an upload is
#[utoipa::path(get, path = "/v1/uploads/{hash}", params(("hash" = String, Path)),
    responses((status = 200, description = "How far the upload is", body = UploadState), Refused))]
pub(super) async fn state(
    State(fleet): Shared,
    Path(text): Path<String>,
    Device { key, .. }: Device<0>,
) -> Answer<Json<UploadState>> {
    let hash = hash(&text)?;
    let upload = fleet.db.upload(&key.to_string(), &hash.to_string()).await?;
    let upload = upload.ok_or_else(|| Problem::not_found("this hash; begin the upload first"))?;
    upload_state(hash, upload.received, upload.state)
}

fn upload_state(hash: Hex<32>, received: i64, state: DeltaState) -> Answer<Json<UploadState>> {
    match state {
        DeltaState::Receiving => Ok(Json(UploadState { hash, received: received as u64, accepted: false })),
        DeltaState::Accepted | DeltaState::Superseded => {
            Ok(Json(UploadState { hash, received: received as u64, accepted: true }))
        }
        DeltaState::Refused => Err(Problem::delta("this delta was refused, and is not taken again; train a new one")),
    }
}

async fn channel_of(fleet: &Fleet, name: &str) -> Answer<Channel> {
    let none = || Problem::not_found("this channel; ask an operator which there are");
    if !is_name(name) {
        return Err(none());
    }
    fleet.db.channel(name).await?.ok_or_else(none)
}

/// Send the next chunk of a delta; with the last one it is verified, and counts
#[utoipa::path(put, path = "/v1/uploads/{hash}/{offset}", params(("hash" = String, Path), ("offset" = u64, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "How far the upload is", body = UploadState), Refused))]
pub(super) async fn chunk(
    State(fleet): Shared,
    Path((text, offset)): Path<(String, String)>,
    Device { key, body }: Device<{ CHUNK_BYTES as usize }>,
) -> Answer<Json<UploadState>> {
    let hash = hash(&text)?;
    let offset: u64 = offset.parse().map_err(|_| Problem::form("the offset in the path is no number of bytes"))?;
    let (device, text) = (key.to_string(), hash.to_string());
    let upload = fleet.db.upload(&device, &text).await?;
    let upload = upload.ok_or_else(|| Problem::not_found("this hash; begin the upload first"))?;
    let (length, received) = (upload.length as u64, upload.received as u64);
    if upload.state != DeltaState::Receiving || offset < received {
        // Sent once more, because the answer was lost.
        return upload_state(hash, upload.received, upload.state);
    }
    let end = offset.saturating_add(CHUNK_BYTES).min(length);
    if offset != received || offset.saturating_add(body.len() as u64) != end || body.is_empty() {
        let detail =
            format!("the next chunk begins at {received} and has {} bytes", CHUNK_BYTES.min(length - received));
        return Err(Problem::conflict(detail));
    }
    if end < length {
        fleet.store.put(&chunk_key(&device, &text, offset), body).await?;
        fleet.db.received(&device, &text, received as i64, end as i64, fleet.now_ms()).await?;
        return upload_state(hash, end as i64, DeltaState::Receiving);
    }
    let channel = channel_of(&fleet, &upload.channel).await?;
    let came = Came { device: &device, hash: &text, channel: &upload.channel, length: upload.length, at_ms: 0 };
    finished(&fleet, &channel, key, hash, came, body).await
}

/// What is sent at once.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Whole {
    /// The channel that it was learned for.
    channel: String,
}

/// Send all of a delta that is no longer than a chunk, without announcing it; it is verified, and counts
#[utoipa::path(put, path = "/v1/uploads/{hash}", params(("hash" = String, Path), Whole),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "The delta counts", body = UploadState), Refused))]
pub(super) async fn whole(
    State(fleet): Shared,
    Path(text): Path<String>,
    whole: Result<Query<Whole>, QueryRejection>,
    Device { key, body }: Device<{ CHUNK_BYTES as usize }>,
) -> Answer<Json<UploadState>> {
    let hash = hash(&text)?;
    let Query(Whole { channel }) = whole.map_err(Problem::form)?;
    let (device, text, length) = (key.to_string(), hash.to_string(), body.len() as u64);
    if length == 0 || length > fleet.current().limits.delta_bytes_max {
        fleet.refused(Source::Device(key.0), &device, "upload refused", &format!("{length} bytes")).await;
        return Err(Problem::too_long(fleet.current().limits.delta_bytes_max));
    }
    let known = channel_of(&fleet, &channel).await?;
    fleet.db.take_part(&channel, &device, fleet.now_ms()).await?;
    if let Some(upload) = fleet.db.upload(&device, &text).await? {
        if upload.length as u64 != length || upload.channel != channel {
            return Err(Problem::conflict(OTHERWISE));
        }
        if upload.state != DeltaState::Receiving {
            // Sent once more, because the answer was lost.
            return upload_state(hash, upload.received, upload.state);
        }
    } else {
        is_due(&fleet, key)?;
    }
    let came = Came { device: &device, hash: &text, channel: &channel, length: length as i64, at_ms: 0 };
    finished(&fleet, &known, key, hash, came, body).await
}

/// All of a delta is there: `last` is its last chunk, the others are stored. It is verified, and counts or is refused.
async fn finished(
    fleet: &Arc<Fleet>,
    channel: &Channel,
    key: Hex<32>,
    hash: Hex<32>,
    came: Came<'_>,
    last: Bytes,
) -> Answer<Json<UploadState>> {
    let Came { device, hash: text, length, .. } = came;
    let before = length as u64 - last.len() as u64;
    // Waiting is the sender's; the semaphore is never closed.
    let room = fleet.room.acquire().await.ok();
    match verified(fleet, channel, key, hash, length as u64, last.clone()).await? {
        Ok(Verified { weight, identity, .. }) => {
            fleet.store.put(&chunk_key(device, text, before), last).await?;
            drop(room);
            let (name, round, came) = (&channel.name, channel.round, Came { at_ms: fleet.now_ms(), ..came });
            let detail = format!("{text} in round {round} of {name}");
            let (line, id) = fleet.line(device, "accepted", &detail)?;
            let worth = Worth { round, weight, identity: Hex(identity).to_string() };
            match fleet.db.accept_upload(&came, &worth, (&line, &id)).await? {
                Accepted::Counts => {}
                Accepted::Late => {
                    return Err(Problem::conflict("the round has closed in between; send the last chunk again"));
                }
                Accepted::Twice(whose) => return Err(twice(fleet, key, &came, &whose).await?),
            }
            tracing::info!(who = device, what = "accepted", detail);
            Counts::add(&fleet.counts.accepted, 1);
            Counts::add(&fleet.counts.bytes, length as u64);
            upload_state(hash, length, DeltaState::Accepted)
        }
        Err(fault) => {
            forgotten(fleet, &came).await?;
            fleet.refused(Source::Device(key.0), device, "delta refused", &format!("{text}: {fault}")).await;
            Err(Problem::delta(fault))
        }
    }
}

/// The same delta counts for another device: this one never will.
async fn twice(fleet: &Fleet, key: Hex<32>, came: &Came<'_>, whose: &str) -> Answer<Problem> {
    forgotten(fleet, came).await?;
    let detail = format!(
        "this delta counts in the round already, as one of the device `{whose}`; send what this device has learned itself"
    );
    fleet.refused(Source::Device(key.0), came.device, "delta refused", &format!("{}: {detail}", came.hash)).await;
    Ok(Problem::twice(detail))
}

/// A delta is refused, and its bytes go. In the database first: what is then left in the store is never read.
async fn forgotten(fleet: &Fleet, came: &Came<'_>) -> Answer<()> {
    fleet.db.refuse_upload(&Came { at_ms: fleet.now_ms(), ..*came }).await?;
    for offset in (0..came.length as u64).step_by(CHUNK_BYTES as usize) {
        fleet.store.delete(&chunk_key(came.device, came.hash, offset)).await?;
    }
    Ok(())
}

/// Looks at all of a delta: the chunks that are stored, then the last one.
async fn verified(
    fleet: &Arc<Fleet>,
    channel: &Channel,
    device: Hex<32>,
    hash: Hex<32>,
    length: u64,
    last: Bytes,
) -> Answer<Result<Verified, Fault>> {
    let known = fleet.known(channel).await?;
    let before = length - last.len() as u64;
    let (fleet, runtime) = (fleet.clone(), tokio::runtime::Handle::current());
    let base: Hex<32> = channel.base.parse().map_err(Problem::form)?;
    let round = u32::try_from(channel.round).unwrap_or(u32::MAX);
    let task = tokio::task::spawn_blocking(move || {
        let mut verifier = Verifier::new(Expected {
            signer: device.0,
            length,
            hash: hash.0,
            form: &known.form,
            current: Current { base: base.0, round },
            staleness: fleet.current().limits.staleness,
            values_max: known.values.saturating_mul(VALUES_FACTOR),
            norm_max: fleet.current().limits.norm_max,
        });
        for offset in (0..before).step_by(CHUNK_BYTES as usize) {
            let key = chunk_key(&device.to_string(), &hash.to_string(), offset);
            let chunk = runtime.block_on(fleet.store.get(&key))?.ok_or(crate::fleet::Error::Lost(key))?;
            if let Err(fault) = verifier.push(&chunk) {
                return Ok(Err(fault));
            }
        }
        Ok(verifier.push(&last).and_then(|()| verifier.finish()))
    });
    task.await
        .map_err(|error| crate::fleet::Error::Combine(error.to_string()))?
        .map_err(|error: crate::fleet::Error| error.into())
}
