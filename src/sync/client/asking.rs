//! Who asks: signs each request, learns the time, waits and tries again.

use super::line::{Answer, Line, Request};
use super::pace::Pace;
use super::{Error, Folder, Seen, delay};
use crate::delta::KeyPair;
use crate::sync::wire::{Clocks, PROBLEM, Problem, Signed, TWICE, Times};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::time::Duration;

/// How often a request may be refused for its time: once for a wrong clock, and again for another process of the device's.
const CORRECTIONS_MAX: u32 = 4;
/// Bytes of an answer in JSON.
pub(super) const JSON_BYTES_MAX: u64 = 64 << 10;

/// What a device needs of the world around it.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// The device's clock in milliseconds since 1970, however wrong.
    pub clock_ms: &'a dyn Fn() -> u64,
    /// A number drawn evenly from 0…1.
    pub chance: &'a dyn Fn() -> f64,
    /// Waits.
    pub sleep: &'a dyn Fn(Duration),
    /// Failures in a row of one request until it is given up.
    pub tries: u32,
    /// Bytes of bodies that go each way in a second, at most; none is any number.
    pub bytes_per_s: Option<u64>,
}

/// A device that asks its server.
pub struct Client<'a> {
    line: Line,
    /// Signs requests and deltas.
    pub(super) key: KeyPair,
    /// What the server calls itself; empty while that is not known.
    fleet: String,
    times: Times,
    outside: Outside<'a>,
    /// Devices that the rounds must have that this one sends to, and what the fleet has said of them.
    demanded: Option<(u32, Seen)>,
}

impl<'a> Client<'a> {
    /// The member that the folder says this device is. Asks nobody yet.
    ///
    /// # Errors
    /// [`Error::NotEnrolled`]; files that cannot be read.
    pub fn open(folder: &Folder, outside: Outside<'a>) -> Result<Self, Error> {
        let member = folder.member()?;
        let line = Line::new(&member.url, member.ca.as_deref(), member.client_certificate.as_ref())?;
        Ok(Self::new(line, folder.key()?, member.fleet, outside))
    }

    pub(super) fn new(line: Line, key: KeyPair, fleet: String, outside: Outside<'a>) -> Self {
        Self { line, key, fleet, times: Times::default(), outside, demanded: None }
    }

    /// Sends from now on to channels alone whose rounds have as many devices, by the fleet's signed word in this folder.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn demand(&mut self, devices_min: u32, folder: &Folder) -> Result<(), Error> {
        self.demanded = Some((devices_min, folder.seen()?));
        Ok(())
    }

    /// Whether a channel's rounds have as many devices as are demanded.
    pub(super) fn may_send(&self, channel: &str) -> Result<(), Error> {
        let Some((devices_min, seen)) = &self.demanded else { return Ok(()) };
        let problem = match seen.0.get(channel).map(|taken| taken.release.devices_min) {
            Some(devices) if devices >= *devices_min => return Ok(()),
            Some(devices) => format!(
                "its rounds may have {devices} devices, and {devices_min} are demanded here; nothing was sent. Ask an operator for \
                 setting `round-devices-min = {devices_min}`, or demand fewer"
            ),
            None => format!(
                "no release of it was pulled, so nobody knows how many devices its rounds have; `edgetune fleet pull --channel {channel:?}`"
            ),
        };
        Err(Error::Release { channel: channel.into(), problem })
    }

    /// How fast bodies go.
    pub(super) fn pace(&self) -> Pace<'a> {
        Pace { bytes_per_s: self.outside.bytes_per_s, sleep: self.outside.sleep }
    }

    /// What is known of the time, where `signed_ms` is the latest that the fleet has signed.
    pub(super) fn clocks(&self, signed_ms: u64) -> Clocks {
        let own_ms = (self.outside.clock_ms)();
        let told_ms = match self.times.offset_ms {
            0 => 0,
            offset_ms => own_ms.saturating_add_signed(offset_ms),
        };
        Clocks { own_ms, told_ms, signed_ms }
    }

    /// An answer that makes no sense.
    pub(super) fn odd(&self, problem: impl std::fmt::Display) -> Error {
        Error::Answer { url: self.line.url.clone(), problem: problem.to_string() }
    }

    /// That the line broke while an answer came in.
    pub(super) fn broken(&self, error: &std::io::Error) -> Error {
        Error::Unreachable { url: self.line.url.clone(), problem: error.to_string() }
    }

    /// Does something until it succeeds, is refused or has failed `tries` times in a row; in between it waits. `step` gets
    /// the failures so far, and may take them back where it has come further.
    pub(super) fn insist<T>(
        &mut self,
        mut step: impl FnMut(&mut Self, &mut u32) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut failures = 0;
        loop {
            let error = match step(self, &mut failures) {
                Err(error) if error.is_temporary() => error,
                done => return done,
            };
            failures += 1;
            let asked = if let Error::Busy { wait, .. } = &error { *wait } else { None };
            let wait = delay(failures, (self.outside.chance)(), asked).filter(|_| failures < self.outside.tries);
            let Some(wait) = wait else { return Err(error) };
            tracing::warn!("{error}; once more in {:.1} s", wait.as_secs_f64());
            (self.outside.sleep)(wait);
        }
    }

    /// Asks, and asks again while that may help. A request that has already counted is answered as if it had just been made.
    pub(super) fn ask(&mut self, request: &Request<'_>) -> Result<Answer, Error> {
        self.insist(|client, _| client.once(request))
    }

    /// [`ask`](Self::ask) for JSON.
    pub(super) fn ask_json<T: DeserializeOwned>(&mut self, request: &Request<'_>) -> Result<T, Error> {
        self.insist(|client, _| {
            let answer = client.once(request)?;
            client.json(answer)
        })
    }

    /// The JSON of an answer.
    pub(super) fn json<T: DeserializeOwned>(&self, answer: Answer) -> Result<T, Error> {
        let text = self.text(answer)?;
        serde_json::from_slice(&text)
            .map_err(|error| self.odd(format!("the answer is not what was asked for: {error}")))
    }

    fn text(&self, answer: Answer) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        answer.reader().take(JSON_BYTES_MAX).read_to_end(&mut text).map_err(|error| self.broken(&error))?;
        Ok(text)
    }

    /// Asks once, but for the time: who was told what time it is, asks again at once.
    pub(super) fn once(&mut self, request: &Request<'_>) -> Result<Answer, Error> {
        for _ in 0..CORRECTIONS_MAX {
            let clock_ms = (self.outside.clock_ms)();
            let time_ms = self.times.next(clock_ms);
            let Request { method, target, body, .. } = *request;
            let signed = Signed::new(&self.key, &self.fleet, method, target, time_ms, body);
            let answer = self.line.send(request, &signed.to_string(), self.pace())?;
            let (status, wait) = (answer.status(), retry_after(&answer));
            match status {
                200 | 204 | 206 | 304 => return Ok(answer),
                // A body that lies elsewhere, at an address which is itself the permission to fetch it.
                307 if method == "GET" => {
                    let place = answer.header("location").unwrap_or_default().to_owned();
                    return self.fetched(&place, request.headers);
                }
                300..400 => {
                    let place = answer.header("location").unwrap_or("elsewhere").to_owned();
                    return Err(self.odd(format!("the server has moved to `{place}`; enrol with that address")));
                }
                _ => {}
            }
            let text = self.text(answer)?;
            let problem: Option<Problem> = serde_json::from_slice(&text).ok();
            if let Some(told) = problem.as_ref().and_then(|problem| problem.time).filter(|_| status == 401) {
                tracing::info!(now_ms = told.now_ms, clock_ms, "the server has told what time it is");
                self.times.correct((self.outside.clock_ms)(), told);
                continue;
            }
            let is_twice = problem.as_ref().is_some_and(|problem| problem.r#type.strip_prefix(PROBLEM) == Some(TWICE));
            let detail = problem.map(|problem| problem.detail).filter(|detail| !detail.is_empty());
            return Err(match (status, detail) {
                (409, Some(detail)) if is_twice => Error::Twice { detail: plain(&detail) },
                (429 | 500..600, detail) => {
                    Error::Busy { status, detail: detail.unwrap_or_else(|| "it does not say why".into()), wait }
                }
                (_, Some(detail)) => Error::Refused { status, detail: plain(&detail) },
                (_, None) => self.odd(format!("the answer is {status} without a reason")),
            });
        }
        Err(Error::Refused { status: 401, detail: "no time that this device tells counts; set its clock".into() })
    }
}

impl Client<'_> {
    fn fetched(&self, place: &str, headers: &[(&'static str, &str)]) -> Result<Answer, Error> {
        let answer = self.line.fetch(place, headers)?;
        match answer.status() {
            200 | 206 => Ok(answer),
            // An address that is too old is named anew by the next try.
            status => Err(Error::Busy {
                status,
                detail: "the store does not give what the server has there".into(),
                wait: None,
            }),
        }
    }
}

/// How long the server asks to wait. A date, which the server never gives, is not understood: then the back-off alone counts.
fn retry_after(answer: &Answer) -> Option<Duration> {
    answer.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

/// Somebody else's words, harmless on a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
