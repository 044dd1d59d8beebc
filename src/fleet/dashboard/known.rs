//! What the path of a page names, if there is such a thing.

use super::failure::Failure;
use crate::fleet::Fleet;
use crate::fleet::db::Channel;
use crate::sync::wire::is_name;

/// The channel of a name in a path.
pub(super) async fn channel_of(fleet: &Fleet, name: &str) -> Result<Channel, Failure> {
    let none = || Failure::NotFound("a channel of this name");
    if !is_name(name) {
        return Err(none());
    }
    fleet.db.channel(name).await?.ok_or_else(none)
}
