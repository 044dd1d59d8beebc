//! What people say of predictions: `STATE/feedback.jsonl` has a line for each answer, only ever appended.

use super::events::Event;
use super::ledger;
use super::lines::{append, whole_lines};
use crate::agent::judge::feedback::Tally;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::path::Path;

const FILE: &str = "feedback.jsonl";

/// One answer to a prediction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The adapter that predicted.
    pub adapter: String,
    /// Whether it was right.
    pub right: bool,
    /// What an earlier answer to the same prediction said, which this one replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<bool>,
    /// Predictions of that adapter so far.
    pub predicted: u64,
}

impl Line {
    /// Adds this answer to what is known of its adapter.
    fn add_to(&self, tally: &mut Tally) {
        match self.instead_of {
            Some(true) => tally.right = tally.right.saturating_sub(1),
            Some(false) => tally.wrong = tally.wrong.saturating_sub(1),
            None => {}
        }
        if self.right {
            tally.right += 1
        } else {
            tally.wrong += 1
        }
        tally.predicted = tally.predicted.max(self.predicted);
    }
}

/// All answers, added up by adapter.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Feedback(HashMap<String, Tally>);

impl Feedback {
    /// What the state knows.
    ///
    /// # Errors
    /// The system's; a line that is no answer, with its number.
    pub fn read(state: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        for line in whole_lines::<Line>(&state.join(FILE))? {
            line.add_to(found.0.entry(line.adapter.clone()).or_default());
        }
        Ok(found)
    }

    /// What is known of an adapter.
    pub fn tally(&self, adapter: &str) -> Tally {
        self.0.get(adapter).copied().unwrap_or_default()
    }

    /// Counts one prediction more.
    pub fn predicted(&mut self, adapter: &str) {
        match self.0.get_mut(adapter) {
            Some(tally) => tally.predicted += 1,
            None => drop(self.0.insert(adapter.into(), Tally { predicted: 1, ..Tally::default() })),
        }
    }

    /// Keeps an answer; it is on the disk when this returns.
    ///
    /// # Errors
    /// The system's.
    pub fn answered(
        &mut self,
        state: &Path,
        adapter: &str,
        (right, instead_of): (bool, Option<bool>),
        at: i64,
    ) -> io::Result<()> {
        ledger::write(state, &Event::Answered { at, adapter: adapter.into(), right, instead_of })?;
        let predicted = self.tally(adapter).predicted;
        let line = Line { adapter: adapter.into(), right, instead_of, predicted };
        append(state, FILE, &line)?;
        line.add_to(self.0.entry(adapter.into()).or_default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config::Unanswered;

    #[test]
    fn answers_are_kept_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let mut feedback = Feedback::read(state).unwrap();
        (0..10).for_each(|_| feedback.predicted("a"));
        feedback.answered(state, "a", (true, None), 1).unwrap();
        feedback.answered(state, "a", (false, None), 1).unwrap();
        feedback.answered(state, "a", (false, Some(true)), 1).unwrap();
        feedback.answered(state, "b", (true, None), 1).unwrap();
        let tally = Tally { predicted: 10, right: 0, wrong: 2 };
        assert_eq!((feedback.tally("a"), feedback.tally("c")), (tally, Tally::default()));
        assert_eq!(Feedback::read(state).unwrap(), feedback);
        assert_eq!((tally.counted(Unanswered::Right), tally.counted(Unanswered::Ignored)), ((8, 10), (0, 2)));
    }
}
