//! The device's side of the fleet: comes in, sends what was learned, takes what is released.
//!
//! Takes a folder, an address and what is [`Outside`]; gives what has happened. Every call blocks until it is done, refused or out of
//! patience, and may be killed at any moment: what the next one goes on with is in the folder ([`Folder`]).
//!
//! ```text
//! STATE/key.pem       the device's secret key; requests and deltas are signed with it     0600
//! STATE/member.json   where the server is, what it calls itself, the key that releases are signed with
//! STATE/seen.json     the newest release that was taken, channel by channel
//! STATE/queue/        deltas that the server does not have yet, the newest of each channel: CHANNEL.edelta
//! STATE/reports/      what became of releases, where the server does not know it yet: CHANNEL.json
//! STATE/adapters/     the adapter of each channel, CHANNEL.edelta, and what is there of one that is on its way
//! STATE/lock          held while somebody works here
//! ```
//!
//! The server is believed as little as it can be: an adapter is used if the release key has signed it and its hash is the release's,
//! and no release takes the place of a later one. Never trains and never opens a model.

mod backoff;
mod asking;
mod enrol;
mod error;
mod folder;
mod line;
#[cfg(feature = "fleet")]
mod operator;
mod pace;
mod pull;
mod push;
mod queue;
mod report;

pub use asking::{Client, Outside};
pub use backoff::{DELAY_MAX, RETRY_AFTER_MAX, delay};
pub use enrol::{Invitation, Name, enrol};
pub use error::Error;
pub use folder::{Folder, Lock, Member, Seen, Taken};
#[cfg(feature = "fleet")]
pub use operator::Operator;
pub use pull::{Pulled, pull};
pub use push::{Delivered, deliver};
pub use queue::{Queue, Queued};
pub use report::{deliver_reports, keep_report};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All that is escaped in a channel's name: in a path of a URL and in the name of a file nothing else then has a meaning.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// A channel's name as a part of a path.
fn escaped(channel: &str) -> String {
    utf8_percent_encode(channel, ESCAPED).to_string()
}

/// The channel's name back, if [`escaped`] has made the text.
fn unescaped(text: &str) -> Option<String> {
    let channel = percent_decode_str(text).decode_utf8().ok()?.into_owned();
    (escaped(&channel) == text).then_some(channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_channel_leaves_its_folder() {
        for (channel, text) in [("photos", "photos"), ("../é", "%2E%2E%2F%C3%A9"), (".", "%2E"), ("a_b-c", "a_b-c")] {
            assert_eq!(escaped(channel), text);
            assert_eq!(unescaped(text).as_deref(), Some(channel));
        }
        assert_eq!(unescaped("a.b"), None);
        assert_eq!(unescaped("%2e"), None);
        assert_eq!(unescaped("%FF"), None);
    }
}
