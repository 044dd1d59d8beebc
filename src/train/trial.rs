//! What the base itself answers to a few samples, before anything is decided or learned.

use super::error::Error;
use super::evaluate;
use super::features::{Features, Source, Store};
use super::loss::{Loss, Target};
use super::prepare::{self, Base};
use super::solve;
use super::solve::left_out::squared_errors;
use super::solve::moments::{self, Set};
use crate::adapter::{self, Activation, HeadChoice, Request};
use crate::cut::Selection;
use crate::data::{Dataset, Labels, Preprocessing};
use crate::engine::{Options, Session};
use crate::task::{self, Counts};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Samples that are tried at most: enough to tell chance from knowledge, and a second or two on a small device.
pub const SAMPLES: usize = 64;

/// How a base is tried.
pub struct Trial<'a> {
    /// The base.
    pub base: &'a Base,
    /// Which of its outputs.
    pub output: Option<&'a str>,
    /// What the loss puts behind it.
    pub activation: Option<Activation>,
    /// Where bundles lie.
    pub bundles: &'a Path,
    /// Where features are kept.
    pub store: Store<'a>,
    /// How ONNX Runtime computes.
    pub options: &'a Options,
    /// Raised to end.
    pub stop: &'a AtomicBool,
    /// Seconds since some fixed moment.
    pub clock: Arc<dyn Fn() -> f64>,
}

impl Trial<'_> {
    /// The base's outputs for some samples, before a final softmax or sigmoid, as far as [`HeadChoice::Auto`] keeps them for
    /// `width` classes; `None` where it does not, or where it was stopped.
    ///
    /// # Errors
    /// A base that cannot be cut below its last layer, a sample that cannot be loaded, ONNX Runtime's refusal.
    pub fn answers(
        &self,
        dataset: &Arc<Dataset>,
        samples: &[usize],
        preprocessing: &Preprocessing,
        width: Option<u64>,
    ) -> Result<Option<Vec<Vec<f32>>>, Error> {
        let (selections, head) = (&[Selection::Head], HeadChoice::Auto);
        let (output, activation) = (self.output, self.activation);
        let request = Request { output, selections, width, head, activation, ..Request::default() };
        let bundle = prepare::prepare(self.base, &request, self.bundles)?;
        let kept = bundle.head_note.starts_with("kept");
        if !kept || bundle.parameters.iter().any(|parameter| parameter.fresh) {
            return Ok(None);
        }
        let clock = self.clock.clone();
        let source = Source { dataset: dataset.clone(), order: samples, preprocessing };
        let mut features = Features::open(&bundle, source, self.store, self.options, clock)?;
        if !features.ready(samples, self.stop)? {
            return Ok(None);
        }
        let mut tail = Session::from_file(&bundle.tail, self.options)?;
        let values: Vec<Vec<f32>> = bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
        let fed = evaluate::fed(&bundle.parameters, &values);
        Ok(Some(evaluate::outputs(&mut tail, &mut features, samples, &fed)?))
    }
}

impl Trial<'_> {
    /// How far a linear head that has not learned from a sample is from the sample's label, squared, for some samples, on the features
    /// that the base's own head reads; `None` where it was stopped. `dataset` has these samples alone, in their order; `labels` has
    /// them as `samples`.
    ///
    /// # Errors
    /// As [`Self::answers`]; a base that no linear head fits.
    pub fn left_out_errors(
        &self,
        dataset: &Arc<Dataset>,
        (labels, samples): (&Labels, &[usize]),
        preprocessing: &Preprocessing,
        width: u64,
    ) -> Result<Option<Vec<f64>>, Error> {
        let head = if self.replaces(Some(width)) { HeadChoice::Replace } else { HeadChoice::Append };
        let (selections, output) = (&[Selection::Head], self.output);
        let request = Request { output, selections, width: Some(width), head, ..Request::default() };
        let bundle = prepare::prepare(self.base, &request, self.bundles)?;
        let all: Vec<usize> = (0..dataset.len()).collect();
        let clock = self.clock.clone();
        let source = Source { dataset: dataset.clone(), order: &all, preprocessing };
        let mut features = Features::open(&bundle, source, self.store, self.options, clock)?;
        let unlabelled = Labels::Unlabelled(all.len());
        let mut set =
            Set { bundle: &bundle, features: &mut features, labels: &unlabelled, samples: &all, options: self.options };
        let mut around = solve::Around { until_s: None, stop: self.stop, clock: &*self.clock, tell: &mut |_| {} };
        let rows = moments::features(&mut set, &mut around)?;
        Ok(rows.map(|rows| squared_errors(rows, labels, samples, width as usize)))
    }

    /// Whether the base has a classifier that one of `width` classes can take the place of: its weights, or where these are not
    /// plain ones, a new layer on what it reads.
    pub fn replaces(&self, width: Option<u64>) -> bool {
        let request = Request { output: self.output, width, head: HeadChoice::Replace, ..Request::default() };
        adapter::install(self.base.graph.clone(), &request).is_ok()
    }
}

/// How sure each answer is: the likeliest class's probability.
pub fn sureness(answers: &[Vec<f32>]) -> Vec<f64> {
    let likeliest = |answer: &Vec<f32>| evaluate::softmax(answer).into_iter().fold(0.0f32, f32::max);
    answers.iter().map(|answer| f64::from(likeliest(answer))).collect()
}

/// Whether one way's errors are smaller for the same samples than another's beyond chance: the mean difference is above three of
/// its standard errors.
pub fn closer(one: &[f64], other: &[f64]) -> bool {
    let (mean_difference, error) = difference(other, one);
    mean_difference > 3.0 * error && mean_difference > 0.02 * mean(other)
}

/// The mean of what one way has more than another, and its standard error.
fn difference(one: &[f64], other: &[f64]) -> (f64, f64) {
    let differences: Vec<f64> = one.iter().zip(other).map(|(one, other)| one - other).collect();
    let (count, mean_difference) = (differences.len() as f64, mean(&differences));
    let squares: f64 = differences.iter().map(|difference| (difference - mean_difference).powi(2)).sum();
    (mean_difference, (squares / (count - 1.0).max(1.0) / count.max(1.0)).sqrt())
}

/// The mean of numbers; 0 of none.
pub fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len().max(1) as f64
}

/// Whether one way is surer of the same samples than another beyond chance: the mean difference is above two of its standard
/// errors, and a tenth of the other's mean.
pub fn surer(one: &[f64], other: &[f64]) -> bool {
    let (mean_difference, error) = difference(one, other);
    mean_difference > 2.0 * error && mean_difference > 0.1 * mean(other)
}

/// So many of the samples, evenly spread.
pub fn spread(samples: &[usize], count: usize) -> Vec<usize> {
    let count = count.min(samples.len());
    (0..count).map(|place| samples[place * samples.len() / count]).collect()
}

/// The mean loss of answers.
pub fn loss(loss: &Loss, labels: &Labels, samples: &[usize], answers: &[Vec<f32>]) -> f64 {
    let one = |(sample, answer): (&usize, &Vec<f32>)| match labels {
        Labels::Classes { index, .. } => loss.of_row(answer, Target::Class(index[*sample] as usize)),
        Labels::MultiLabel { rows, .. } | Labels::Values(rows) => {
            loss.of_row(answer, Target::Values(rows.row(*sample).as_slice().expect("rows are contiguous")))
        }
        Labels::Ordinal { .. } => {
            let mut counts = Counts::new(labels);
            task::of_labels(labels)
                .into_iter()
                .for_each(|task| (task.measure)(&mut counts, labels, loss, answer, *sample));
            counts.sum
        }
        Labels::Boxes { .. }
        | Labels::OfLoss(_)
        | Labels::NextTokens(_)
        | Labels::Tokens { .. }
        | Labels::Pixels { .. }
        | Labels::Lines { .. }
        | Labels::Identities { .. }
        | Labels::Anomalies(_)
        | Labels::Unlabelled(_) => 0.0,
    };
    samples.iter().zip(answers).map(one).sum::<f64>() / samples.len().max(1) as f64
}

/// The loss of an answer that knows nothing of the classes: all alike, each with a chance of one half where any number may apply.
pub fn chance(labels: &Labels) -> f64 {
    match labels {
        Labels::MultiLabel { .. } => std::f64::consts::LN_2,
        Labels::Ordinal { names, .. } => names.len().saturating_sub(1) as f64 * std::f64::consts::LN_2,
        labels => (labels.names().len() as f64).ln(),
    }
}

/// Whether more answers are right than the commonest class alone would give, by three standard errors. Of anything but one class a sample
/// nothing is known.
pub fn beyond_chance(labels: &Labels, samples: &[usize], answers: &[Vec<f32>]) -> bool {
    let Labels::Classes { index, names } = labels else { return true };
    let mut counts = vec![0usize; names.len()];
    samples.iter().for_each(|sample| counts[index[*sample] as usize] += 1);
    let right =
        samples.iter().zip(answers).filter(|(sample, answer)| evaluate::largest(answer) == index[**sample] as usize);
    let (right, count) = (right.count() as f64, samples.len().max(1) as f64);
    let commonest = counts.into_iter().max().unwrap_or(0) as f64 / count;
    right / count > commonest + 3.0 * (commonest * (1.0 - commonest) / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tried_samples_are_spread_over_all() {
        let all: Vec<usize> = (10..20).collect();
        assert_eq!(spread(&all, 3), [10, 13, 16]);
        assert_eq!(spread(&all, 20), all);
        assert_eq!(spread(&[], 3), [0usize; 0]);
    }

    #[test]
    fn surer_is_what_differs_beyond_chance() {
        let own = [0.3, 0.2, 0.4, 0.3];
        assert!(surer(&[0.5, 0.3, 0.6, 0.4], &own));
        assert!(!surer(&[0.9, 0.1, 0.4, 0.3], &own), "one sample alone");
        assert!(!surer(&[0.31, 0.21, 0.41, 0.31], &own), "too little");
        assert!(!surer(&[], &[]));
        assert_eq!(sureness(&[vec![0.0, 0.0]]), [0.5]);
    }

    #[test]
    fn closer_is_what_differs_beyond_chance() {
        let own = [0.9, 0.7, 1.1, 0.8, 0.9];
        assert!(closer(&[0.5, 0.4, 0.6, 0.3, 0.5], &own));
        assert!(!closer(&[0.1, 0.9, 1.0, 1.2, 0.3], &own), "by chance");
        assert!(!closer(&own.map(|error| error * 0.99), &own), "too little");
        assert!(!closer(&[], &[]));
    }

    #[test]
    fn answers_that_are_right_by_luck_are_not_beyond_chance() {
        let names = vec!["a".to_string(), "b".into()];
        let labels = Labels::Classes { names, index: (0..40).map(|sample| sample % 2).collect() };
        let all: Vec<usize> = (0..40).collect();
        let right = |count: usize| -> Vec<Vec<f32>> {
            let one = |sample: usize| {
                if sample.is_multiple_of(2) == (sample < count) { vec![1.0, 0.0] } else { vec![0.0, 1.0] }
            };
            (0..40).map(one).collect()
        };
        assert!(!beyond_chance(&labels, &all, &right(25)));
        assert!(beyond_chance(&labels, &all, &right(32)));
    }

    #[test]
    fn answers_are_worth_their_loss() {
        let names = vec!["a".to_string(), "b".into()];
        let labels = Labels::Classes { names: names.clone(), index: vec![0, 1, 0] };
        let cross_entropy = Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None };
        let answers = [vec![9.0, 0.0], vec![9.0, 0.0]];
        assert!(loss(&cross_entropy, &labels, &[0, 2], &answers) < 0.01);
        assert!(loss(&cross_entropy, &labels, &[0, 1], &answers) > chance(&labels));
        let rows = ndarray::arr2(&[[1.0, 0.0]]);
        let sets = Labels::MultiLabel { names, rows };
        assert!((loss(&Loss::BinaryCrossEntropy, &sets, &[0], &[vec![0.0, 0.0]]) - chance(&sets)).abs() < 1e-9);
    }
}
