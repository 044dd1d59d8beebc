//! What goes over the wire between a device and the fleet's server: JSON for what is said, raw bytes for deltas.
//!
//! # Who may ask
//!
//! A device makes its Ed25519 key itself and enrols the public half with a one-time token. From then on every request carries,
//! in `authorization`, a signature over all that it means ([`Signed`]):
//!
//! ```text
//! edgetune request 1
//! FLEET            the server's name for itself, so that a request to one fleet is worth nothing at another
//! METHOD TARGET    path and query, byte by byte as sent
//! TIME             milliseconds since 1970
//! BODY             BLAKE3 of the body in hexadecimal digits
//! ```
//!
//! The signature is checked before the body is read; whether the body is the one that was signed, as it comes in.
//!
//! # No request counts twice, and no clock locks a device out
//!
//! A request counts if its time is later than that of the device's last one, and within [`CLOCK_TOLERANCE_MS`] of the server's
//! clock ([`admit`]). So what was recorded is refused when it is sent again, and what was held back dies in minutes. The server
//! keeps one number a device for it, in its database, so all replicas agree. A refusal for the time says the server's time and
//! the device's last one, and [`Times`] on the device takes that as its clock: a device whose battery let it wake up in 1970 is
//! refused once, and its second request counts. What the server says so is not signed, and serves for that alone: a liar on a line
//! that is not TLS can have requests refused, and that is all.
//!
//! # What is to be used is the fleet's own word, and a fresh one
//!
//! What the server says of a channel ([`Release`]) is signed by the key that it told at enrolment, or that the root has named since, so a line that is not TLS, a
//! proxy or a store cannot put words into its mouth:
//!
//! ```text
//! edgetune release 3
//! CHANNEL
//! EPOCH            counts up where the server goes on from a backup: stands before the version, so that devices go on, too
//! VERSION          counts up, also where the fleet goes back to an older adapter: what is lower than was seen is refused (rollback)
//! BASE             what the adapter belongs to
//! ADAPTER          BLAKE3 of its bytes: what is downloaded is this or nothing (mix and match)
//! LENGTH           so that nobody can send without end
//! ROUND            that devices learn for; `-` for none
//! DEVICES          that a round has at least before it is combined, so that a device can demand it
//! ROOT             BLAKE3 of the root that it comes with ([`Root`]), which says whose word counts; `-` for none
//! TOLD             when it was said, in milliseconds since 1970
//! EXPIRES          milliseconds since 1970: who holds newer words back is found out by then (freeze)
//! ```
//!
//! What time it is then is the latest of three ([`Clocks`]): the device's own clock, what the server has said of the time, and the
//! last time that the fleet has signed, which the device keeps. So an old word is not made new by setting one of them back. A signed
//! time is believed up to a year ahead of what was known, for the server's clock may be wrong, too.
//!
//! These are the ideas of The Update Framework (its sections on attacks name them), with one role and one file for its four: the
//! server makes releases while it runs, so its key is online whatever is signed with it, and an adapter is signed itself. The
//! crate `tough` reads TUF's repositories of files with their root, snapshot and timestamp; it would be the larger part of the
//! client. An answer that nothing has changed (304) carries a time of its own, signed together with the channel's
//! state ([`Unchanged`]); it makes no word last longer, and once that has ended, a device asks for the whole.
//!
//! Nothing here is secret: the line is to be TLS all the same, for the sake of what is learned.

mod clocks;
mod hex;
mod messages;
mod number;
mod release;
mod root;
mod signed;

pub use clocks::{Clocks, Whose};
pub use hex::Hex;
pub use messages::{
    CHANNEL_RULE, CHUNK_BYTES, Consent, Enrol, Enrolled, NAME_BYTES_MAX, PROBLEM, Problem, ReleaseReport,
    ReleaseVerdict, TWICE, TimeRefused, Upload, UploadState, is_channel, is_name,
};
pub use number::Number;
pub(crate) use number::is_zero;
pub use release::{Distrusted, Release, Unchanged};
pub use root::{Root, RootSignature, Uprooted};
pub use signed::{CLOCK_TOLERANCE_MS, Refused, Signed, Times, admit};
