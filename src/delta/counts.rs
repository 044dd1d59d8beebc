//! What a delta says of how many samples it was learned from, made less exact before it leaves a device.
//!
//! Takes a parsed delta; gives the bytes of a new one, which is unsigned and differs in its header alone.

use super::Error;
use super::chain::{Made, written};
use super::header::{Header, Label};
use super::read::Delta;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};
use std::string::{String, ToString};
use std::vec::Vec;

/// What counts are rounded up to a multiple of.
const STEP: u64 = 10;

/// How exactly samples are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Counting {
    /// As they are.
    #[default]
    Exact,
    /// All counts are rounded up to multiples of ten; none stays none.
    Rounded,
    /// Classes have no counts, and their sum is rounded up. The sum stays, for a round weighs by it.
    LeftOut,
}

const NAMES: [(&str, Counting); 3] =
    [("exact", Counting::Exact), ("rounded", Counting::Rounded), ("none", Counting::LeftOut)];

impl FromStr for Counting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, counting)| *counting).ok_or("no way to count; there are exact, rounded and none")
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, counting)| counting == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl TryFrom<String> for Counting {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Counting> for String {
    fn from(counting: Counting) -> Self {
        counting.to_string()
    }
}

/// The delta with its samples counted so.
///
/// # Errors
/// What [`super::write`] refuses.
pub fn counted(delta: &Delta, counting: Counting) -> Result<Vec<u8>, Error> {
    let up = |samples: u64| samples.div_ceil(STEP).saturating_mul(STEP);
    let label = |label: Label<'_>| match counting {
        Counting::Exact => label.samples,
        Counting::Rounded => u32::try_from(up(label.samples.into())).unwrap_or(u32::MAX),
        Counting::LeftOut => 0,
    };
    let samples = if counting == Counting::Exact { delta.header().samples } else { up(delta.header().samples) };
    let counts: Vec<u32> = delta.labels().map(label).collect();
    let labels: Vec<Label> = delta.labels().zip(counts).map(|(label, samples)| Label { samples, ..label }).collect();
    let made: Vec<Made> = delta.tensors().map(|tensor| Made::kept(&tensor)).collect();
    written(&Header { samples, ..delta.header().clone() }, &labels, &made)
}

#[cfg(test)]
mod tests {
    use super::super::{Encoding, TensorValues, encode, write};
    use super::*;

    #[test]
    fn nothing_but_the_counts_is_another() {
        let payload = encode(&[0.5, -2.0], Encoding::Fp16).unwrap();
        let tensors = [TensorValues { name: "w", shape: &[2], payload: &payload }];
        let labels = [("cat", 1), ("dog", 20), ("owl", 0)].map(|(name, samples)| Label { name, samples });
        let header = Header { loss: "cross_entropy", output: "y", samples: 21, ..Header::default() };
        let bytes = write(&header, &labels, &tensors).unwrap();
        let delta = Delta::parse(&bytes).unwrap();
        for (text, sum, counts) in [("exact", 21, [1, 20, 0]), ("rounded", 30, [10, 20, 0]), ("none", 30, [0, 0, 0])] {
            let counting: Counting = text.parse().unwrap();
            assert_eq!(counting.to_string(), text);
            let made = counted(&delta, counting).unwrap();
            let made = Delta::parse(&made).unwrap();
            assert_eq!(made.labels().map(|label| label.samples).collect::<Vec<_>>(), counts, "{text}");
            assert_eq!(*made.header(), Header { samples: sum, ..header.clone() }, "{text}");
            assert_eq!(made.tensor("w").unwrap().values().collect::<Vec<_>>(), [0.5, -2.0]);
        }
        assert_eq!(counted(&delta, Counting::Exact).unwrap(), bytes);
        assert!("some".parse::<Counting>().is_err());
    }
}
