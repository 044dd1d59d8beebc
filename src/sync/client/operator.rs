//! What an operator asks of a server from a terminal: by the token of its first start, once, and told whatever goes wrong.

use super::Error;
use super::asking::{JSON_BYTES_MAX, plain};
use super::line::{Line, Request};
use super::pace::Pace;
use crate::sync::wire::Problem;
use std::io::Read;
use std::thread;

/// An operator's line to a server.
#[derive(Debug)]
pub struct Operator {
    line: Line,
    authorization: String,
}

impl Operator {
    /// A line to `url`, by the text of `operator.token`; `ca` is PEM of whom the server's certificate must be from. Connects to nobody yet.
    ///
    /// # Errors
    /// An address or a certificate that is none.
    pub fn new(url: &str, ca: Option<&str>, token: &str) -> Result<Self, Error> {
        Ok(Self { line: Line::new(url, ca, None)?, authorization: format!("Bearer {}", token.trim()) })
    }

    /// Where the server is.
    pub fn url(&self) -> &str {
        &self.line.url
    }

    /// Asks, and gives the answer's body. `path` holds the parts of the path, `query` names and values, as they are.
    ///
    /// # Errors
    /// A server that is not reached, or refuses; [`Error::Refused`] says why in the server's words.
    pub fn ask(
        &self,
        method: &'static str,
        path: &[&str],
        query: &[(&str, String)],
        body: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let path: Vec<String> = path.iter().map(|part| super::escaped(part)).collect();
        let pairs: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={}", super::escaped(value))).collect();
        let mark = if pairs.is_empty() { "" } else { "?" };
        let target = format!("/v1/admin/{}{mark}{}", path.join("/"), pairs.join("&"));
        let request = Request { method, target: &target, headers: &[], body };
        let answer =
            self.line.send(&request, &self.authorization, Pace { bytes_per_s: None, sleep: &thread::sleep })?;
        let status = answer.status();
        let mut text = Vec::new();
        let read = answer.reader().take(JSON_BYTES_MAX).read_to_end(&mut text);
        read.map_err(|error| Error::Unreachable { url: self.line.url.clone(), problem: error.to_string() })?;
        if (200..300).contains(&status) {
            return Ok(text);
        }
        match serde_json::from_slice::<Problem>(&text) {
            Ok(problem) => Err(Error::Refused { status, detail: plain(&problem.detail) }),
            Err(_) => {
                let problem = format!("the answer is {status} without a reason");
                Err(Error::Answer { url: self.line.url.clone(), problem })
            }
        }
    }
}
