//! What is not needed any more: the bytes of deltas whose round is over, uploads that nobody goes on with, refusals of long ago.
//!
//! What a delta was that counted, and in which round, stays in the database; so does the audit log of what was done.

use super::db::Bytes;
use super::store::chunk_key;
use super::{Error, Fleet};
use crate::sync::wire::CHUNK_BYTES;

/// How often is looked.
pub const LOOKED_MS: i64 = 5 * 60 * 1000;
/// How long an upload may rest before it is given up.
const RESTS_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// How long refusals are kept, and what is known of deltas that did not come to count.
const REFUSALS_MS: i64 = 90 * 24 * 60 * 60 * 1000;
/// What is looked at in one go, so that rounds do not wait for it.
const AT_ONCE: i64 = 200;

/// Clears away a part of it. Whether there may be more.
///
/// # Errors
/// Database or store; what is left is found again.
pub async fn sweep(fleet: &Fleet) -> Result<bool, Error> {
    let now_ms = fleet.now_ms();
    let spent = fleet.db.spent(fleet.current().limits.keep_rounds, AT_ONCE).await?;
    for delta in &spent {
        // In the store first: what the database takes for stored is looked for again.
        delete(fleet, delta).await?;
        fleet.db.not_stored(&delta.device, &delta.hash).await?;
    }
    let abandoned = fleet.db.abandoned(now_ms - RESTS_MS, AT_ONCE).await?;
    for upload in &abandoned {
        give_up(fleet, upload).await?;
    }
    let mut more = fleet.db.forget_refusals(now_ms - REFUSALS_MS, AT_ONCE).await?;
    more |= fleet.db.forget_uploads(now_ms - REFUSALS_MS, AT_ONCE).await?;
    Ok(more || [spent.len(), abandoned.len()].contains(&(AT_ONCE as usize)))
}

/// Gives up an upload that is on its way, if nobody has gone on with it meanwhile.
///
/// # Errors
/// Database or store.
pub async fn give_up(fleet: &Fleet, upload: &Bytes) -> Result<(), Error> {
    // In the database first: what is then left in the store is never read.
    if fleet.db.give_up(upload).await? {
        delete(fleet, upload).await?;
    }
    Ok(())
}

/// All chunks that there can be: one may have been stored before the database was told.
async fn delete(fleet: &Fleet, upload: &Bytes) -> Result<(), Error> {
    for offset in (0..upload.length as u64).step_by(CHUNK_BYTES as usize) {
        fleet.store.delete(&chunk_key(&upload.device, &upload.hash, offset)).await?;
    }
    Ok(())
}
