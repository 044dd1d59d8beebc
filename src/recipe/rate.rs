//! A learning rate: a number, or the word for the one that a range test finds.

use super::budget::AUTO;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A learning rate as a recipe names it.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Rate {
    /// The one that a range test finds.
    Auto,
    /// This one.
    Of(f64),
}

/// As a file has it.
#[derive(Deserialize, Serialize)]
#[serde(untagged, expecting = "write a number, such as 0.001, or \"auto\"")]
enum Written {
    Number(f64),
    Word(String),
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == AUTO {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Of).map_err(|_| "no rate; write a number, such as 0.001, or auto")
    }
}

impl From<f64> for Rate {
    fn from(rate: f64) -> Self {
        Self::Of(rate)
    }
}

impl TryFrom<Written> for Rate {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Number(rate) => Ok(Self::Of(rate)),
            Written::Word(word) => word.parse(),
        }
    }
}

impl From<Rate> for Written {
    fn from(rate: Rate) -> Self {
        match rate {
            Rate::Auto => Self::Word(AUTO.into()),
            Rate::Of(rate) => Self::Number(rate),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Of(rate) => rate.fmt(f),
        }
    }
}
