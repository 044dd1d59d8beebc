//! A client that can also do what no decent one does: any header, any body, any clock.

use edgetune::delta::KeyPair;
use edgetune::sync::wire::{CHUNK_BYTES, Enrol, Enrolled, Signed, Times, Upload, UploadState};
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An answer of the server.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        assert!(self.status < 300, "{} {}", self.status, String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The last word of the problem's type.
    #[track_caller]
    pub fn problem(&self) -> (u16, String) {
        assert!(self.head.to_lowercase().contains("content-type: application/problem+json"), "{self:?}");
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        (self.status, problem["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let line =
            self.head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)));
        line.map(|(_, value)| value)
    }
}

/// Sends a request as it is given and reads the answer to its end.
pub fn raw(address: &str, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // A server that has refused already may close before all is sent.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    parsed(&bytes)
}

pub fn parsed(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {bytes:?}"));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = bytes[end + 4..].to_vec();
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        return Answer { status, head, body: unchunked(&body) };
    }
    Answer { status, head, body }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        body.extend(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 2 + length + 2..];
    }
    body
}

/// The bytes of a request.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    if !body.is_empty() || ["POST", "PUT"].contains(&method) {
        text += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

pub fn clock_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A device of the tests.
pub struct Device {
    pub address: String,
    pub key: KeyPair,
    pub fleet: String,
    pub times: Times,
    /// How wrong its clock is.
    pub clock_ms: fn() -> u64,
}

impl Device {
    pub fn new(address: &str, seed: u8) -> Self {
        let key = KeyPair::from_secret(&[seed; 32]);
        Self { address: address.into(), key, fleet: String::new(), times: Times::default(), clock_ms }
    }

    pub fn signed(&mut self, method: &str, target: &str, body: &[u8]) -> Signed {
        let time_ms = self.times.next((self.clock_ms)());
        Signed::new(&self.key, &self.fleet, method, target, time_ms, body)
    }

    pub fn ask_with(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let signed = self.signed(method, target, body).to_string();
        let headers = [headers, &[("authorization", signed.as_str())]].concat();
        raw(&self.address, &request(method, target, &headers, body))
    }

    pub fn ask(&mut self, method: &str, target: &str, body: &[u8]) -> Answer {
        self.ask_with(method, target, &[], body)
    }

    pub fn enrol(&mut self, token: &str, name: &str) -> Answer {
        self.enrol_as(&Enrol { token: token.into(), name: name.into(), replace: false, consent: None })
    }

    pub fn enrol_as(&mut self, enrol: &Enrol) -> Answer {
        let body = serde_json::to_vec(enrol).unwrap();
        self.fleet.clear();
        let answer = self.ask("POST", "/v1/enrol", &body);
        if answer.status == 200 {
            self.fleet = answer.json::<Enrolled>().fleet;
        }
        answer
    }

    pub fn begin(&mut self, channel: &str, delta: &[u8]) -> Answer {
        let hash = edgetune::sync::wire::Hex(blake3::hash(delta).into());
        let body = serde_json::to_vec(&Upload { channel: channel.into(), hash, length: delta.len() as u64 }).unwrap();
        self.ask("POST", "/v1/uploads", &body)
    }

    /// Sends a delta from where the server has it; gives the first refusal, or the last answer.
    pub fn push(&mut self, channel: &str, delta: &[u8]) -> Answer {
        let mut answer = self.begin(channel, delta);
        while answer.status == 200 {
            let state: UploadState = answer.json();
            if state.accepted {
                return answer;
            }
            let from = state.received as usize;
            let to = (from + CHUNK_BYTES as usize).min(delta.len());
            answer = self.ask("PUT", &format!("/v1/uploads/{}/{from}", state.hash), &delta[from..to]);
        }
        answer
    }
}
