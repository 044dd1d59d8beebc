//! What devices are to use, and what they say of it.

use super::asked::Device;
use super::uploads::{JSON_BYTES_MAX, hash, json};
use super::{Answer, Problem, Refused, Shared};
use crate::fleet::store::{Pieces, adapter_key};
use crate::fleet::{rollouts, rounds};
use crate::sync::wire::{Hex, Release, ReleaseReport, Unchanged, is_name};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The release of a channel that this device is to use
#[utoipa::path(get, path = "/v1/releases/{channel}", params(("channel" = String, Path)),
    responses(
        (status = 200, description = "The release, signed", body = Release),
        (status = 304, description = "It is the one of `if-none-match`; the header `edgetune-unchanged` is the signed word for it"),
        Refused))]
pub(super) async fn current(
    State(fleet): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    device: Device<0>,
) -> Answer<Response> {
    let none = || Problem::not_found("this channel; ask an operator which there are");
    if !is_name(&name) {
        return Err(none());
    }
    let channel = fleet.db.channel(&name).await?.ok_or_else(none)?;
    fleet.db.take_part(&name, &device.key.to_string(), fleet.now_ms()).await?;
    let devices_min = rounds::devices_min(&fleet, &channel)?;
    let (version, adapter, length) = match rollouts::is_offered(&fleet, &channel, &device.key.to_string()) {
        true => (channel.version, channel.adapter, channel.length),
        false => {
            let previous = fleet.db.release(&name, channel.previous).await?.ok_or_else(none)?;
            (previous.version, previous.adapter, previous.length)
        }
    };
    let parsed = |text: &str| text.parse::<Hex<32>>().map_err(|error| Problem::form(format!("the database: {error}")));
    let current = fleet.current();
    let life_ms = u64::try_from(current.limits.release_life.as_millis()).unwrap_or(u64::MAX);
    let told_ms = fleet.now_ms() as u64;
    let release = Release {
        base: parsed(&channel.base)?,
        adapter: parsed(&adapter)?,
        epoch: fleet.epoch,
        version: version as u64,
        length: length as u64,
        round: u32::try_from(channel.round).ok(),
        devices_min,
        root: current.root.clone().map(Box::new),
        channel: channel.name,
        told_ms,
        expires_ms: told_ms.saturating_add(life_ms),
        signature: Hex([0; 64]),
    };
    let tag = release.tag();
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes()) {
        let word = Unchanged::sign(&release.channel, &tag, told_ms, &current.key).to_string();
        let word = [(HeaderName::from_static(Unchanged::HEADER), word)];
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)], word).into_response());
    }
    Ok(([(header::ETAG, tag)], Json(release.signed(&current.key))).into_response())
}

/// The bytes of an adapter that is or was released
#[utoipa::path(get, path = "/v1/adapters/{hash}", params(("hash" = String, Path)),
    responses(
        (status = 200, description = "All of the adapter", content_type = "application/octet-stream"),
        (status = 206, description = "The part of `range`"),
        (status = 307, description = "The store has it at that address"),
        Refused))]
pub(super) async fn adapter(
    State(fleet): Shared,
    Path(text): Path<String>,
    headers: HeaderMap,
    _device: Device<0>,
) -> Answer<Response> {
    let hash = hash(&text)?.to_string();
    let none = || Problem::not_found("this hash; ask for the channel's release");
    let length = fleet.db.released(&hash).await?.ok_or_else(none)? as u64;
    let key = adapter_key(&hash);
    if let Some(address) = fleet.store.address(&key).await? {
        let told = [(header::LOCATION, address), (header::CACHE_CONTROL, "no-store".to_owned())];
        return Ok((StatusCode::TEMPORARY_REDIRECT, told).into_response());
    }
    let common = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, format!("\"{hash}\"")),
    ];
    let Some(range) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        let Pieces { length, body } = fleet.store.read(&key, None).await?.ok_or_else(none)?;
        return Ok((common, [(header::CONTENT_LENGTH, length)], body).into_response());
    };
    let Some((begin, end)) = range_of(range, length) else {
        let problem = Problem::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "range",
            "There are no such bytes",
            format!("the adapter has {length} bytes; ask for `bytes=FROM-` or `bytes=FROM-TO`"),
        );
        return Ok(([(header::CONTENT_RANGE, format!("bytes */{length}"))], problem).into_response());
    };
    let part = fleet.store.read(&key, Some(begin..end)).await?.ok_or_else(none)?;
    let told = [(header::CONTENT_RANGE, format!("bytes {begin}-{}/{length}", end - 1))];
    Ok((StatusCode::PARTIAL_CONTENT, common, told, [(header::CONTENT_LENGTH, part.length)], part.body).into_response())
}

/// One range of RFC 9110, section 14.1.2, with a first byte: what goes on with a download asks for nothing else.
fn range_of(range: &str, length: u64) -> Option<(u64, u64)> {
    let (begin, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let begin: u64 = begin.parse().ok()?;
    let end = if last.is_empty() { length } else { last.parse::<u64>().ok()?.checked_add(1)?.min(length) };
    (begin < end).then_some((begin, end))
}

/// What became of a release on a device
#[utoipa::path(post, path = "/v1/reports", request_body = ReleaseReport,
    responses((status = 204, description = "It is kept"), Refused))]
pub(super) async fn report(State(fleet): Shared, Device { key, body }: Device<JSON_BYTES_MAX>) -> Answer<StatusCode> {
    let ReleaseReport { channel, epoch, version, verdict, accuracy } = json(&body)?;
    let is_part = |value: &f32| (0.0..=1.0).contains(value);
    if !is_name(&channel) || !accuracy.iter().flatten().all(is_part) {
        return Err(Problem::form("`channel` is no name, or `accuracy` is not two parts from 0 to 1"));
    }
    let version = i64::try_from(version).map_err(|_| Problem::form("`version` is no release's"))?;
    let accuracy = accuracy.map(|[before, after]| [f64::from(before), f64::from(after)]);
    // Before the server was set back, another release may have had the number.
    let is_known = epoch == fleet.epoch;
    if !is_known || !fleet.db.report(&key.to_string(), &channel, version, verdict, accuracy, fleet.now_ms()).await? {
        return Err(Problem::not_found("this channel and version; report on a release"));
    }
    fleet.db.take_part(&channel, &key.to_string(), fleet.now_ms()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_within_the_bytes() {
        assert_eq!(range_of("bytes=0-", 10), Some((0, 10)));
        assert_eq!(range_of("bytes=4-6", 10), Some((4, 7)));
        assert_eq!(range_of("bytes=4-99", 10), Some((4, 10)));
        for wrong in [
            "bytes=10-",
            "bytes=-5",
            "bytes=6-4",
            "bytes=0-1,3-4",
            "items=0-",
            "bytes=a-",
            "bytes=0-18446744073709551615",
        ] {
            assert_eq!(range_of(wrong, 10), None, "{wrong}");
        }
    }
}
