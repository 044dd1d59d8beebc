//! What a process of edgetune's own is asked to do for the agent, and what it answers: types that both sides share.
//!
//! The service starts `edgetune agent work` and sends it one [`Request`] over its standard input, as a message of [`frames`]. What the
//! process is asked to find it prints as JSON: [`HeldOut`] for each sample, [`Unusable`] for each that nothing can be learned from. One that
//! [predicts for applications](Request::Answer) goes on with messages over the same pipes instead.

use super::frames;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "kebab-case")]
pub enum Request {
    /// To learn an adapter.
    Train(Training),
    /// To predict held-out samples: prints [`HeldOut`] for each.
    Predict {
        /// The recipe that the adapter was trained by: it names the model, and the tokenizer for texts.
        recipe: PathBuf,
        /// The adapter.
        adapter: PathBuf,
        /// Whether with the base's own values in place of what the adapter learned; nothing is answered where the base has no such
        /// classes.
        base: bool,
        /// A folder of class folders.
        samples: PathBuf,
    },
    /// To find samples from which nothing can be learned: prints [`Unusable`] for each.
    Sift {
        /// The recipe that learns from them.
        recipe: PathBuf,
        /// The folder of both sides.
        samples: PathBuf,
    },
    /// To read recipe and model, and to fail where they cannot be used.
    Check {
        /// The recipe.
        recipe: PathBuf,
    },
    /// To answer applications with an adapter, until standard input ends.
    Answer {
        /// The recipe that the adapter was trained by.
        recipe: PathBuf,
        /// The adapter.
        adapter: PathBuf,
    },
}

/// What is to be learned, and from what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// The recipe.
    pub recipe: PathBuf,
    /// A folder of class folders, in the place of the recipe's data.
    pub data: PathBuf,
    /// The adapter that is written. A checkpoint beside it is gone on from.
    pub out: PathBuf,
    /// The release of the fleet's that it goes on from, where the recipe's solver can.
    pub from: Option<PathBuf>,
    /// The fleet's round that is learned for.
    pub round: Option<u32>,
}

/// What the model says of a held-out sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The sample's file.
    pub input: String,
    /// The likeliest class; for label sets, every class.
    #[serde(default)]
    pub classes: Vec<HeldOutClass>,
}

/// A class and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOutClass {
    /// The class.
    pub name: String,
    /// From 0 to 1; none where the model gives what is no number, which JSON has no word for.
    pub probability: Option<f32>,
}

/// A sample from which nothing can be learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unusable {
    /// Its file.
    pub input: PathBuf,
    /// Why.
    pub reason: String,
}

impl Request {
    /// Sends it to a process. One that has ended already reads nothing, and says by its end what became of it.
    ///
    /// # Errors
    /// The pipe's; a path that is no UTF-8.
    pub fn send(&self, to: &mut impl Write) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        match frames::write(to, &[&text]) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            sent => sent,
        }
    }

    /// The request that the service has sent.
    ///
    /// # Errors
    /// The pipe's; what is no request.
    pub fn receive(from: &mut impl Read) -> io::Result<Self> {
        let none = || io::Error::new(ErrorKind::UnexpectedEof, "nothing was asked for; `edgetune agent run` asks");
        let text = frames::read(from)?.ok_or_else(none)?;
        serde_json::from_slice(&text).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received() {
        let training = Training {
            recipe: "recipe.toml".into(),
            data: "run/data".into(),
            out: "run/candidate.edelta".into(),
            from: None,
            round: Some(3),
        };
        let requests = [
            Request::Train(training),
            Request::Predict { recipe: "r".into(), adapter: "a".into(), base: true, samples: "s".into() },
            Request::Sift { recipe: "r".into(), samples: "s".into() },
            Request::Check { recipe: "r".into() },
            Request::Answer { recipe: "r".into(), adapter: "a".into() },
        ];
        let mut pipe = Vec::new();
        requests.iter().try_for_each(|request| request.send(&mut pipe)).unwrap();
        let mut pipe = &pipe[..];
        for request in requests {
            assert_eq!(Request::receive(&mut pipe).unwrap(), request);
        }
        assert_eq!(Request::receive(&mut pipe).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    /// A process that ended at once has its reason on its standard error; the pipe's would hide it.
    #[test]
    fn who_has_ended_is_sent_nothing() {
        struct Ended;
        impl Write for Ended {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        Request::Check { recipe: "r".into() }.send(&mut Ended).unwrap();
    }
}
