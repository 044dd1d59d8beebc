//! What a trained model answers to the samples that it is measured by: which classes it takes for which, how sure it is, and where it
//! is most wrong.

use crate::data::{Dataset, Labels};
use crate::order::Order;
use crate::train::evaluate::{largest, softmax};
use serde::Serialize;
use std::collections::BTreeMap;

/// Mistakes that are kept.
const MISTAKES: usize = 24;
/// Equal parts of the probabilities from 0 to 1 in which sureness is compared with rightness.
const BINS: usize = 10;

/// Answered to samples with one class each.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    /// Samples that were answered.
    pub samples: usize,
    /// Of each pair of classes that came up, how often; the most frequent first.
    pub confusion: Vec<Confusion>,
    /// The same before the training, where the classes were known.
    pub confusion_before: Option<Vec<Confusion>>,
    /// How sure answers are beside how right they are.
    pub calibration: Calibration,
    /// Wrong answers, the surest first.
    pub mistakes: Vec<Mistake>,
}

/// How often a class was answered where another, or the same, was right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// The class that was right.
    pub given: String,
    /// The class that was answered.
    pub answered: String,
    /// How often.
    pub samples: usize,
}

/// How far probabilities are from shares of right answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// The expected calibration error: the mean difference of sureness and rightness over ten equal bins, weighed by their samples
    /// (Guo et al. 2017, arXiv 1706.04599, equation 3).
    pub expected_error: f64,
    /// The bins that have samples.
    pub bins: Vec<Bin>,
}

/// Answered that are about equally sure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// The mean probability of what was answered.
    pub sureness: f64,
    /// The share that was right.
    pub accuracy: f64,
    /// How many there are.
    pub samples: usize,
}

/// A wrong answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mistake {
    /// The sample's file, or file and line.
    pub sample: String,
    /// The class that was right.
    pub given: String,
    /// The class that was answered.
    pub answered: String,
    /// The probability of what was answered.
    pub probability: f32,
}

impl Answered {
    /// Sums up logits `[samples, classes]` and, where the classes were known before, those of before. `None` where samples have not one class
    /// each.
    pub fn from_logits(
        dataset: &Dataset,
        samples: &[usize],
        after: &[Vec<f32>],
        before: Option<&[Vec<f32>]>,
    ) -> Option<Self> {
        let Labels::Classes { names, index } = dataset.labels() else { return None };
        if samples.is_empty() || after.iter().any(|row| row.len() != names.len()) {
            return None;
        }
        let given: Vec<usize> = samples.iter().map(|sample| index[*sample] as usize).collect();
        let answered: Vec<(usize, f32)> = after.iter().map(|row| answer(row)).collect();
        let wrong = |(place, (answered, _)): &(usize, &(usize, f32))| *answered != given[*place];
        let mut mistakes: Vec<Mistake> = (answered.iter().enumerate().filter(wrong))
            .map(|(place, (answered, probability))| Mistake {
                sample: dataset.name(samples[place]),
                given: names[given[place]].clone(),
                answered: names[*answered].clone(),
                probability: *probability,
            })
            .collect();
        mistakes.order_by(|one, other| other.probability.total_cmp(&one.probability));
        mistakes.truncate(MISTAKES);
        let before = before.map(|rows| rows.iter().map(|row| answer(row)).collect::<Vec<_>>());
        Some(Self {
            samples: samples.len(),
            confusion: confusion(names, &given, &answered),
            confusion_before: before.map(|before| confusion(names, &given, &before)),
            calibration: calibration(&given, &answered),
            mistakes,
        })
    }

    /// Pairs of different classes, the most frequent first.
    pub fn confused(&self) -> impl Iterator<Item = &Confusion> {
        self.confusion.iter().filter(|one| one.given != one.answered)
    }
}

/// The likeliest class with its probability. One logit is that of the second of two classes.
fn answer(logits: &[f32]) -> (usize, f32) {
    let class = largest(logits);
    (class, softmax(logits)[class])
}

fn confusion(names: &[String], given: &[usize], answered: &[(usize, f32)]) -> Vec<Confusion> {
    let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    given.iter().zip(answered).for_each(|(given, (answered, _))| *counts.entry((*given, *answered)).or_default() += 1);
    let one = |((given, answered), samples): ((usize, usize), usize)| Confusion {
        given: names[given].clone(),
        answered: names[answered].clone(),
        samples,
    };
    let mut found: Vec<Confusion> = counts.into_iter().map(one).collect();
    found.order_by_key(|one| std::cmp::Reverse(one.samples));
    found
}

fn calibration(given: &[usize], answered: &[(usize, f32)]) -> Calibration {
    let mut bins = vec![(0.0, 0usize, 0usize); BINS];
    for (given, (answered, probability)) in given.iter().zip(answered) {
        let (sureness, right, samples) = &mut bins[((probability * BINS as f32) as usize).min(BINS - 1)];
        *sureness += f64::from(*probability);
        *right += usize::from(given == answered);
        *samples += 1;
    }
    let bin = |(sureness, right, samples): (f64, usize, usize)| Bin {
        sureness: sureness / samples as f64,
        accuracy: right as f64 / samples as f64,
        samples,
    };
    let bins: Vec<Bin> = bins.into_iter().filter(|(.., samples)| *samples > 0).map(bin).collect();
    let error = |bin: &Bin| (bin.sureness - bin.accuracy).abs() * bin.samples as f64 / given.len() as f64;
    Calibration { expected_error: bins.iter().map(error).sum(), bins }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sureness_is_compared_with_rightness() {
        // Of four answers at 0.95 three are right, of two at 0.55 one is: 4/6 · 0.2 + 2/6 · 0.05.
        let answered = [(0, 0.95), (0, 0.95), (1, 0.95), (1, 0.95), (0, 0.55), (1, 0.55)];
        let found = calibration(&[0, 0, 1, 0, 0, 0], &answered);
        assert_eq!(found.bins.iter().map(|bin| bin.samples).collect::<Vec<_>>(), [2, 4]);
        assert!((found.expected_error - (4.0 / 6.0 * 0.2 + 2.0 / 6.0 * 0.05)).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn the_most_frequent_pair_comes_first() {
        let names = ["cat", "dog"].map(String::from);
        let found = confusion(&names, &[0, 0, 1, 1, 1], &[(1, 0.9), (0, 0.9), (1, 0.9), (1, 0.9), (1, 0.9)]);
        let told = |one: &Confusion| (one.given.clone(), one.answered.clone(), one.samples);
        assert_eq!(told(&found[0]), ("dog".into(), "dog".into(), 3));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn an_answer_is_the_likeliest_class() {
        assert_eq!(answer(&[0.0, 2.0]).0, 1);
        assert!((answer(&[0.0, 0.0, 0.0]).1 - 1.0 / 3.0).abs() < 1e-6);
    }
}
