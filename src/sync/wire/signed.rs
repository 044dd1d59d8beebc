//! The signature of a request, and whether its time counts. See the head of [`super`].

use super::{Hex, TimeRefused};
use crate::delta::{KeyPair, check_statement, sign_statement};
use std::fmt;
use std::str::FromStr;

/// How far a request's time may be from the server's, in milliseconds: five minutes.
pub const CLOCK_TOLERANCE_MS: u64 = 5 * 60 * 1000;

/// What a signature of a request is for.
const PURPOSE: &str = "request 1";
/// What the header begins with.
const SCHEME: &str = "Edgetune ";

/// The header `authorization` of a request: `Edgetune key=…,time=…,body=…,signature=…`, in this order and without spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The device's public key.
    pub key: Hex<32>,
    /// When the request was made, in milliseconds since 1970.
    pub time_ms: u64,
    /// BLAKE3 of the body.
    pub body: Hex<32>,
    /// Ed25519 over the request.
    pub signature: Hex<64>,
}

/// What is signed. No part of it can hold a line end, so no two requests have the same text.
fn text(fleet: &str, method: &str, target: &str, time_ms: u64, body: Hex<32>) -> String {
    format!("{fleet}\n{method} {target}\n{time_ms}\n{body}\n")
}

impl Signed {
    /// Signs a request. `target` is path and query as they are sent, such as `/v1/uploads`; `fleet` is what the server calls
    /// itself, empty while that is not known.
    pub fn new(key: &KeyPair, fleet: &str, method: &str, target: &str, time_ms: u64, body: &[u8]) -> Self {
        let body = Hex(blake3::hash(body).into());
        let signature = sign_statement(PURPOSE, text(fleet, method, target, time_ms, body).as_bytes(), key);
        Self { key: Hex(key.public()), time_ms, body, signature: Hex(signature) }
    }

    /// That the key has signed this request. Whether the body is the one that is meant, and whether the time counts, is
    /// for the caller to look at.
    ///
    /// # Errors
    /// [`Refused::Signature`].
    pub fn verify(&self, fleet: &str, method: &str, target: &str) -> Result<(), Refused> {
        let text = text(fleet, method, target, self.time_ms, self.body);
        check_statement(PURPOSE, text.as_bytes(), &self.key.0, &self.signature.0).map_err(|_| Refused::Signature)
    }
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, time_ms, body, signature } = self;
        write!(f, "{SCHEME}key={key},time={time_ms},body={body},signature={signature}")
    }
}

impl FromStr for Signed {
    type Err = Refused;

    fn from_str(header: &str) -> Result<Self, Refused> {
        parsed(header).filter(|signed| signed.to_string() == header).ok_or(Refused::Form)
    }
}

fn parsed(header: &str) -> Option<Signed> {
    let mut parts = header.strip_prefix(SCHEME)?.split(',');
    let mut next = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=');
    let key = next("key")?.parse().ok()?;
    let time_ms = next("time")?.parse().ok()?;
    let body = next("body")?.parse().ok()?;
    Some(Signed { key, time_ms, body, signature: next("signature")?.parse().ok()? })
}

/// Why a request does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The header is not one of these.
    #[error(
        "the header `authorization` is not `Edgetune key=…,time=…,body=…,signature=…`; update edgetune on the device"
    )]
    Form,
    /// The signature belongs to another request or another key.
    #[error("the signature is not this key's for this request; check the server's address, or enrol the device again")]
    Signature,
    /// The time is too far from the server's, or not later than the last one.
    #[error("the request's time does not count; sign it again with a time after {} and near {}", .0.last_ms, .0.now_ms)]
    Time(TimeRefused),
}

/// Whether a request of this time counts, at the server's time `now_ms`, after one of `last_ms` (0: there was none).
///
/// # Errors
/// [`Refused::Time`] with what the device needs in order to ask again.
pub fn admit(time_ms: u64, last_ms: u64, now_ms: u64) -> Result<(), Refused> {
    let counts = time_ms > last_ms && time_ms.abs_diff(now_ms) <= CLOCK_TOLERANCE_MS;
    counts.then_some(()).ok_or(Refused::Time(TimeRefused { now_ms, last_ms }))
}

/// The times that a device gives to its requests: its clock, moved by what the server has said, and always later than the last.
/// Worth keeping between two starts, but not needed: without it, the first request is refused if the clock is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// The server's clock minus the device's, in milliseconds.
    pub offset_ms: i64,
    /// Time of the last request.
    pub last_ms: u64,
}

impl Times {
    /// The time of the next request, where the device's clock shows `clock_ms`.
    pub fn next(&mut self, clock_ms: u64) -> u64 {
        self.last_ms = clock_ms.saturating_add_signed(self.offset_ms).max(self.last_ms.saturating_add(1));
        self.last_ms
    }

    /// Takes the server's word for what time it is.
    pub fn correct(&mut self, clock_ms: u64, told: TimeRefused) {
        self.offset_ms = i64::try_from(i128::from(told.now_ms) - i128::from(clock_ms)).unwrap_or(i64::MIN);
        self.last_ms = told.last_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> KeyPair {
        KeyPair::from_secret(&[7; 32])
    }

    fn request() -> Signed {
        Signed::new(&key(), "f1", "PUT", "/v1/uploads/ab?offset=0", 1_700_000_000_000, b"body")
    }

    /// The format, held: the vector is from another implementation (Python's `cryptography` and `blake3`).
    #[test]
    fn a_request_has_the_header_that_it_always_had() {
        let header = request().to_string();
        assert_eq!(header, include_str!("signed.txt").trim_end());
        assert_eq!(header.parse(), Ok(request()));
        assert_eq!(request().verify("f1", "PUT", "/v1/uploads/ab?offset=0"), Ok(()));
    }

    #[test]
    fn whatever_is_changed_the_signature_falls() {
        let signed = request();
        let target = "/v1/uploads/ab?offset=0";
        for (fleet, method, target) in [
            ("f2", "PUT", target),
            ("f1", "GET", target),
            ("f1", "PUT", "/v1/uploads/ab?offset=1"),
            ("", "PUT", target),
        ] {
            assert_eq!(signed.verify(fleet, method, target), Err(Refused::Signature), "{fleet} {method} {target}");
        }
        let other = KeyPair::from_secret(&[8; 32]);
        for changed in [
            Signed { time_ms: signed.time_ms + 1, ..signed },
            Signed { body: Hex([0; 32]), ..signed },
            Signed { key: Hex(other.public()), ..signed },
            Signed { key: Hex([0; 32]), ..signed },
            Signed { signature: Hex([0; 64]), ..signed },
        ] {
            assert_eq!(changed.verify("f1", "PUT", target), Err(Refused::Signature), "{changed}");
        }
    }

    /// A delta's signature is one over other words.
    #[test]
    fn what_was_signed_for_something_else_is_no_request() {
        let signed = request();
        let text = text("f1", "PUT", "/", signed.time_ms, signed.body);
        let elsewhere = Hex(sign_statement("release 1", text.as_bytes(), &key()));
        assert_eq!(Signed { signature: elsewhere, ..signed }.verify("f1", "PUT", "/"), Err(Refused::Signature));
    }

    #[test]
    fn a_header_has_one_form() {
        let header = request().to_string();
        for wrong in [
            "".into(),
            "Bearer abc".into(),
            header.replace("Edgetune", "edgetune"),
            header.replace(",time=", ", time="),
            header.replace("time=1", "time=+1"),
            header.replace("time=1", "time=01"),
            header.to_uppercase(),
            format!("{header},"),
            format!("{header}0"),
            header.replace("time=1700000000000", "time=99999999999999999999999"),
            header[..header.len() - 2].into(),
        ] {
            assert_eq!(wrong.parse::<Signed>(), Err(Refused::Form), "{wrong}");
        }
    }

    #[test]
    fn a_request_counts_once_and_only_for_minutes() {
        let now_ms = 1_700_000_000_000;
        let refused = |last_ms| Err(Refused::Time(TimeRefused { now_ms, last_ms }));
        assert_eq!(admit(now_ms, 0, now_ms), Ok(()));
        assert_eq!(admit(now_ms, now_ms - 1, now_ms), Ok(()));
        assert_eq!(admit(now_ms, now_ms, now_ms), refused(now_ms));
        assert_eq!(admit(now_ms - 1, now_ms, now_ms), refused(now_ms));
        assert_eq!(admit(now_ms + CLOCK_TOLERANCE_MS, 0, now_ms), Ok(()));
        assert_eq!(admit(now_ms + CLOCK_TOLERANCE_MS + 1, 0, now_ms), refused(0));
        assert_eq!(admit(now_ms - CLOCK_TOLERANCE_MS - 1, 0, now_ms), refused(0));
        assert_eq!(admit(u64::MAX, 0, now_ms), refused(0));
    }

    proptest! {
        /// Whatever a device's clock shows, its second request counts, and all after it while the clock goes on.
        #[test]
        fn no_clock_locks_a_device_out(clock_ms: u64, now_ms in 1_600_000_000_000u64..4_000_000_000_000, before in 0u64..1000) {
            let (mut times, mut last_ms) = (Times::default(), now_ms - before);
            let clock_ms = clock_ms.min(u64::MAX >> 1);
            if let Err(Refused::Time(told)) = admit(times.next(clock_ms), last_ms, now_ms) {
                times.correct(clock_ms, told);
                let time_ms = times.next(clock_ms);
                prop_assert_eq!(admit(time_ms, last_ms, now_ms), Ok(()));
                last_ms = time_ms;
            }
            for passed in [0, 0, 1, 500, 100_000] {
                let time_ms = times.next(clock_ms + passed);
                prop_assert_eq!(admit(time_ms, last_ms, now_ms + passed), Ok(()));
                last_ms = time_ms;
            }
        }

        #[test]
        fn no_header_makes_it_panic(header in "\\PC*") {
            let _ = header.parse::<Signed>();
        }
    }
}
