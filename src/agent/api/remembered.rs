//! Predictions that feedback may still come for: their samples, the newest ones, bounded by their bytes.
//!
//! They are in memory alone, so that a prediction costs no write; a restart forgets them. Pure but for what it holds.

use bytes::Bytes;
use std::collections::VecDeque;

/// A prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// What feedback names it by: hash of the sample, and the adapter's name.
    pub id: String,
    /// The adapter that predicted.
    pub adapter: String,
    /// The likeliest class.
    pub class: String,
    /// What was predicted.
    pub sample: Bytes,
    /// Whether somebody said that it was right or wrong.
    pub answered: Option<bool>,
}

/// The newest predictions.
#[derive(Debug, Default)]
pub struct Remembered {
    all: VecDeque<Prediction>,
    bytes: usize,
}

impl Remembered {
    /// Keeps a prediction, and forgets the oldest beyond `bytes_max`. What was answered for the same one stays known.
    pub fn keep(&mut self, mut prediction: Prediction, bytes_max: usize) {
        if let Some(place) = self.all.iter().position(|known| known.id == prediction.id) {
            let known = self.all.remove(place).expect("a place that was found");
            self.bytes -= known.sample.len();
            prediction.answered = known.answered;
        }
        self.bytes += prediction.sample.len();
        self.all.push_back(prediction);
        while self.bytes > bytes_max
            && let Some(oldest) = self.all.pop_front()
        {
            self.bytes -= oldest.sample.len();
        }
    }

    /// The prediction of that name, while it is remembered.
    pub fn find(&mut self, id: &str) -> Option<&mut Prediction> {
        self.all.iter_mut().find(|known| known.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_within_their_bytes() {
        let prediction = |id: &str, bytes: usize| Prediction {
            id: id.into(),
            adapter: "a".into(),
            class: "cat".into(),
            sample: vec![0; bytes].into(),
            answered: None,
        };
        let mut remembered = Remembered::default();
        for id in ["one", "two", "three"] {
            remembered.keep(prediction(id, 40), 100);
        }
        assert!(remembered.find("one").is_none() && remembered.find("three").is_some());
        remembered.find("two").unwrap().answered = Some(true);
        remembered.keep(prediction("two", 40), 100);
        assert_eq!(remembered.find("two").unwrap().answered, Some(true), "asked again, answered before");
        remembered.keep(prediction("four", 40), 100);
        assert!(remembered.find("three").is_none() && remembered.find("two").is_some(), "the oldest goes first");
        remembered.keep(prediction("large", 101), 100);
        assert_eq!((remembered.all.len(), remembered.bytes), (0, 0), "what is larger than all is not remembered");
    }
}
