//! Messages between the service and the process that predicts for it, over a pipe: a length (u32, little-endian), then
//! as many bytes.
//!
//! Of the service, first what is to be done ([`super::request::Request`]). To one that predicts for applications then the number of classes that are asked for (u16, little-endian) and a sample; of the other process, one
//! message when its model is loaded, then one [`Answer`] as JSON for each sample. It never waits longer than the pipe does.

use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};

/// Bytes of one message: a sample is smaller by its own bound.
const BYTES_MAX: usize = 1 << 28;

/// What became of one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was predicted.
    Predicted {
        /// The likeliest classes, the likeliest first; for label sets, every class with its own probability.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        classes: Vec<Class>,
        /// Predicted numbers, for regression.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        values: Vec<f32>,
    },
    /// It cannot be, and why.
    Refused(String),
}

/// A class and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// The class.
    pub name: String,
    /// From 0 to 1.
    pub probability: f32,
}

/// Sends one message, of several parts.
///
/// # Errors
/// The pipe's; a message that is too long.
pub fn write(to: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > BYTES_MAX {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("a message of {length} bytes")));
    }
    to.write_all(&(length as u32).to_le_bytes())?;
    parts.iter().try_for_each(|part| to.write_all(part))?;
    to.flush()
}

/// The next message; `None` where the other side has ended between two.
///
/// # Errors
/// The pipe's; a message that is too long or cut off.
pub fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut length[1..])?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > BYTES_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut message = Vec::new();
    from.take(length as u64).read_to_end(&mut message)?;
    if message.len() < length { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(Some(message)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_as_they_were_sent_and_cuts_are_errors() {
        let mut sent = Vec::new();
        write(&mut sent, &[b"one", b"", b"two"]).unwrap();
        write(&mut sent, &[]).unwrap();
        let mut pipe = sent.as_slice();
        assert_eq!(read(&mut pipe).unwrap().unwrap(), b"onetwo");
        assert_eq!(read(&mut pipe).unwrap().unwrap(), b"");
        assert_eq!(read(&mut pipe).unwrap(), None);
        for cut in 1..4 + 6 {
            assert_eq!(read(&mut &sent[..cut]).unwrap_err().kind(), ErrorKind::UnexpectedEof, "cut at {cut}");
        }
        assert_eq!(read(&mut [255u8; 8].as_slice()).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
