//! How a delta comes to the server: announced, then in chunks from where the server has it, so that nothing is sent twice.

use super::line::Request;
use super::{Client, Error, Queue, escaped};
use crate::delta;
use crate::sync::wire::{CHUNK_BYTES, Hex, Upload, UploadState};

/// A delta of so many bytes is sent at once: to ask first whether a part of it is there would cost more than it saves.
const WHOLE_BYTES_MAX: usize = 128 << 10;
/// How often a delta is begun anew because something has happened in between, such as the end of a round.
const BEGUN_MAX: u32 = 3;

/// A delta that the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// For this channel.
    pub channel: String,
    /// BLAKE3 of its bytes as they were sent, signed by the device.
    pub hash: Hex<32>,
    /// Its bytes.
    pub length: u64,
    /// Those that were sent now; fewer where a part, or all, had been sent before.
    pub sent: u64,
}

/// Delivers all that waits, in the order of the channels' names. What the server has, or will never take, waits no longer; where
/// it is not reached, the rest stays.
///
/// # Errors
/// Each delta's own; one for all if the queue cannot be read.
pub fn deliver(
    client: &mut Client<'_>,
    queue: &Queue,
    told: &mut dyn FnMut(&str, Result<Delivered, Error>),
) -> Result<(), Error> {
    for waiting in queue.list()? {
        let channel = waiting.channel;
        // Another program may have settled it meanwhile.
        let Some(bytes) = queue.get(&channel)? else { continue };
        let done = push(client, &channel, &bytes);
        let is_settled = done.as_ref().map_or_else(Error::is_final, |_| true);
        let is_offline = done.as_ref().is_err_and(Error::is_temporary);
        if is_settled {
            queue.remove(&channel, &bytes)?;
        }
        told(&channel, done);
        if is_offline {
            break;
        }
    }
    Ok(())
}

/// Sends one delta, signed by the device whoever has signed it before.
fn push(client: &mut Client<'_>, channel: &str, bytes: &[u8]) -> Result<Delivered, Error> {
    client.may_send(channel)?;
    let signed = delta::sign(bytes, &client.key)
        .map_err(|error| Error::Refused { status: 422, detail: format!("{error}; what waited was damaged") })?;
    let hash = Hex(blake3::hash(&signed).into());
    let mut delivered = Delivered { channel: channel.into(), hash, length: signed.len() as u64, sent: 0 };
    for begun in 1.. {
        match send(client, &mut delivered, &signed) {
            Err(Error::Refused { status: 409, .. }) if begun < BEGUN_MAX => {}
            Err(error) => return Err(error),
            Ok(()) => break,
        }
    }
    Ok(delivered)
}

fn send(client: &mut Client<'_>, delivered: &mut Delivered, signed: &[u8]) -> Result<(), Error> {
    let Delivered { channel, hash, length, .. } = delivered.clone();
    if signed.len() <= WHOLE_BYTES_MAX {
        let target = format!("/v1/uploads/{hash}?channel={}", escaped(&channel));
        let headers = [("content-type", "application/octet-stream")];
        let state: UploadState =
            client.ask_json(&Request { method: "PUT", target: &target, headers: &headers, body: signed })?;
        delivered.sent += length;
        return state.accepted.then_some(()).ok_or_else(|| client.odd("it does not count"));
    }
    let body = serde_json::to_vec(&Upload { channel, hash, length }).map_err(|error| client.odd(error))?;
    let headers = [("content-type", "application/json")];
    let begin = Request { method: "POST", target: "/v1/uploads", headers: &headers, body: &body };
    let mut state: UploadState = client.ask_json(&begin)?;
    while !state.accepted {
        let from = state.received;
        let chunk = usize::try_from(from).ok().and_then(|from| signed.get(from..)).filter(|rest| !rest.is_empty());
        let chunk = chunk.ok_or_else(|| client.odd(format!("the server has {from} of {length} bytes")))?;
        let chunk = &chunk[..chunk.len().min(CHUNK_BYTES as usize)];
        let target = format!("/v1/uploads/{hash}/{from}");
        let headers = [("content-type", "application/octet-stream")];
        let request = Request { method: "PUT", target: &target, headers: &headers, body: chunk };
        let next: UploadState = client.ask_json(&request)?;
        delivered.sent += chunk.len() as u64;
        if !next.accepted && next.received <= from {
            return Err(client.odd("the upload does not come further"));
        }
        state = next;
    }
    Ok(())
}
