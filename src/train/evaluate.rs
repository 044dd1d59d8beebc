//! Measuring: the tail over features, with the parameters that would ship.

use super::error::Error;
use super::features::Features;
use super::own_loss::Measure;
use crate::adapter::{Parameter, fp16};
use crate::data::Labels;
use crate::engine::{Options, Session};
use crate::graph::Tensor;
use crate::task::{self, Counts, Loss};
pub use crate::task::{largest, softmax};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Samples in one run of the tail, at most. Every sample more holds its intermediate values in the tail's arena, next to
/// the step's; larger batches were no faster.
pub const BATCH: usize = 16;
/// Bytes of a language model's logits in one run of the tail, where a sample alone does not take more.
const LOGITS_BYTES: usize = 16 << 20;

/// What a set of samples showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean loss a sample, unweighted and without label smoothing; for a language model, a token.
    pub loss: f64,
    /// The share of right answers: of samples for classes, of single decisions for label sets, none for values.
    pub accuracy: Option<f64>,
    /// For a language model: e to the loss, the number of equally likely tokens that it chooses among.
    pub perplexity: Option<f64>,
    /// The number of samples.
    pub samples: usize,
    /// For a language model: the tokens that the loss is the mean of.
    pub tokens: Option<usize>,
    /// What the task tells besides, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
    /// For classes: each with its samples and the share of them that was recognised.
    pub per_class: Vec<ClassMetrics>,
}

impl Metrics {
    /// Whether these are better than what a simpler choice showed on the same samples by more than chance: the loss is
    /// lower and the accuracy, where there is one, higher by more than one standard error of the simpler's (the rule of
    /// Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984, section 3.4.3).
    pub fn better_beyond_chance(&self, simpler: &Self) -> bool {
        let surely = match (self.accuracy, simpler.accuracy) {
            (Some(accuracy), Some(known)) => accuracy > known + simpler.accuracy_error(known),
            _ => true,
        };
        self.loss < simpler.loss && surely
    }

    /// Standard error of an accuracy on these samples: √(a (1 − a) / n), with `a` by the rule of succession
    /// ((n·accuracy + 1) / (n + 2)), so that a few samples that are all right do not look certain.
    pub fn accuracy_error(&self, accuracy: f64) -> f64 {
        let samples = self.samples.max(1) as f64;
        let expected = (accuracy * samples + 1.0) / (samples + 2.0);
        (expected * (1.0 - expected) / samples).sqrt()
    }
}

/// One class's share of [`Metrics`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// The class.
    pub name: String,
    /// Samples of it; of masks, pixels.
    pub samples: usize,
    /// The share of them that was recognised.
    pub recall: f64,
    /// Of masks: its pixels that were recognised over those that have it in the mask or in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iou: Option<f64>,
}

/// Values in training as they would ship in fp16, as the tail's inputs: evaluation is always on what ships.
pub fn shipped(parameters: &[Parameter], values: &[Vec<f32>]) -> Vec<(String, Tensor)> {
    let rounded: Vec<_> = values.iter().map(|values| rounded(values)).collect();
    fed(parameters, &rounded)
}

/// Values rounded to what fp16 holds.
pub fn rounded(values: &[f32]) -> Vec<f32> {
    let mut rounded = vec![0.0; values.len()];
    fp16::round_into(values, &mut rounded);
    rounded
}

/// Values of a delta as the tail's inputs, to the last bit: those of int8 and int4 are no fp16 numbers.
pub fn fed(parameters: &[Parameter], values: &[Vec<f32>]) -> Vec<(String, Tensor)> {
    let tensor = |(parameter, values): (&Parameter, &Vec<f32>)| {
        (parameter.name.clone(), Tensor::from_vec(&parameter.shape, values.clone()))
    };
    parameters.iter().zip(values).map(tensor).collect()
}

/// The tail's output for some samples, row by row: `[samples, width]`.
///
/// # Errors
/// ONNX Runtime's refusal, a record that is no longer in the cache.
pub fn outputs(
    tail: &mut Session,
    features: &mut Features,
    samples: &[usize],
    parameters: &[(String, Tensor)],
) -> Result<Vec<Vec<f32>>, Error> {
    let mut rows = Vec::with_capacity(samples.len());
    for chunk in samples.chunks(BATCH) {
        let values = floats(&output(tail, features, chunk, parameters)?);
        let width = values.len() / chunk.len();
        rows.extend(values.chunks_exact(width).map(<[f32]>::to_vec));
    }
    Ok(rows)
}

/// The same in the shape that the tail gives it: `[samples, …]`.
///
/// # Errors
/// As [`outputs`].
pub fn output(
    tail: &mut Session,
    features: &mut Features,
    samples: &[usize],
    parameters: &[(String, Tensor)],
) -> Result<Tensor, Error> {
    let batch = features.batch(samples)?;
    let mut fed: Vec<(&str, &Tensor)> = batch.iter().map(|(name, tensor)| (*name, tensor)).collect();
    fed.extend(parameters.iter().map(|(name, tensor)| (name.as_str(), tensor)));
    Ok(tail.run(&fed)?.remove(0))
}

/// The mean divergence Σ p·ln(p/q) of the second of two sets of values from the first, over the positions of samples whose next token is
/// known, in nats.
///
/// # Errors
/// As [`outputs`].
pub fn divergence(
    tail: &mut Session,
    features: &mut Features,
    samples: &[usize],
    sets: [&[(String, Tensor)]; 2],
    labels: &Labels,
) -> Result<f64, Error> {
    let Labels::NextTokens(rows) = labels else { return Ok(0.0) };
    let (mut sum, mut count) = (0.0, 0usize);
    for sample in samples {
        let [base, now] = sets.map(|set| output(tail, features, &[*sample], set).map(|output| floats(&output)));
        let (base, now) = (base?, now?);
        let tokens = rows.row(*sample);
        let width = base.len() / tokens.len().max(1);
        let positions = base.chunks_exact(width.max(1)).zip(now.chunks_exact(width.max(1)));
        for ((base, now), _) in positions.zip(&tokens).filter(|(_, token)| **token >= 0) {
            let (p, q) = (softmax(base), softmax(now));
            let term = |(p, q): (&f32, &f32)| match (f64::from(*p), f64::from(*q)) {
                (0.0, _) => 0.0,
                (p, q) => p * (p / q.max(f64::MIN_POSITIVE)).ln(),
            };
            sum += p.iter().zip(&q).map(term).sum::<f64>();
            count += 1;
        }
    }
    Ok(sum / count.max(1) as f64)
}

pub(super) fn floats(output: &Tensor) -> Vec<f32> {
    output.to_f32().expect("the tail's output is a float")
}

/// Outputs as labels measure them: scores of pixels for each pixel of a mask.
fn as_labelled(output: &Tensor, labels: &Labels) -> Vec<f32> {
    match (labels, &output.shape[..]) {
        (Labels::Pixels { masks, .. }, [_, _, height, width]) => {
            task::enlarge(&floats(output), [*height, *width], masks.size())
        }
        _ => floats(output),
    }
}

/// Loss and accuracy of the tail on some samples.
///
/// # Errors
/// As [`outputs`].
pub fn evaluate(
    tail: &mut Session,
    features: &mut Features,
    samples: &[usize],
    parameters: &[(String, Tensor)],
    labels: &Labels,
    loss: &Loss,
) -> Result<Metrics, Error> {
    let mut tally = Tally::new(labels, loss);
    tally.measure(tail, features, samples, parameters)?;
    Ok(tally.metrics())
}

/// What the tail shows on each of some samples.
///
/// # Errors
/// As [`outputs`].
pub fn scores(
    tail: &mut Session,
    features: &mut Features,
    samples: &[usize],
    parameters: &[(String, Tensor)],
    (labels, loss): (&Labels, &Loss),
) -> Result<Vec<Score>, Error> {
    let mut tally = Tally::new(labels, loss).scoring();
    tally.measure(tail, features, samples, parameters)?;
    Ok(tally.into_scores())
}

/// What one sample showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The losses of its answers together.
    pub loss: f64,
    /// Right ones among its answers.
    pub right: usize,
}

/// Metrics of samples that come in pieces. Only sums are kept: the logits of a language model's data set would not fit
/// into memory.
#[derive(Debug, Clone)]
pub struct Tally<'a> {
    labels: &'a Labels,
    loss: &'a Loss,
    /// A loss of the user's own, loaded with its first samples.
    own: Option<Rc<RefCell<Measure>>>,
    samples: usize,
    counts: Counts,
    /// Each sample by itself, where that was asked for.
    scores: Option<Vec<Score>>,
}

impl<'a> Tally<'a> {
    /// No sample yet.
    pub fn new(labels: &'a Labels, loss: &'a Loss) -> Self {
        Self { labels, loss, own: None, samples: 0, counts: Counts::new(labels), scores: None }
    }

    /// The same, that keeps what each sample shows by itself, too.
    pub fn scoring(self) -> Self {
        Self { scores: Some(Vec::new()), ..self }
    }

    /// What each sample has shown; nothing where it was not asked for.
    pub fn into_scores(self) -> Vec<Score> {
        self.scores.unwrap_or_default()
    }

    /// Runs the tail over some samples and adds what it gives.
    ///
    /// # Errors
    /// As [`outputs`].
    pub fn measure(
        &mut self,
        tail: &mut Session,
        features: &mut Features,
        samples: &[usize],
        parameters: &[(String, Tensor)],
    ) -> Result<(), Error> {
        let mut batch = if self.labels.of_positions() { 1 } else { BATCH };
        let mut rest = samples;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(batch.min(rest.len()));
            let values = as_labelled(&output(tail, features, chunk, parameters)?, self.labels);
            self.add_own(&values, chunk)?;
            self.add(&values, chunk);
            // The first sample has told how large the logits of one are.
            batch = (LOGITS_BYTES / (4 * values.len() / chunk.len()).max(1)).clamp(1, BATCH);
            rest = after;
        }
        Ok(())
    }

    /// Adds what a loss of the user's own says of samples: the mean that it takes over them, as often as there are samples.
    fn add_own(&mut self, values: &[f32], samples: &[usize]) -> Result<(), Error> {
        let Loss::File(loss) = self.loss else { return Ok(()) };
        let Some(task) = task::of_labels(self.labels) else { return Ok(()) };
        let own = match &self.own {
            Some(own) => own,
            None => self.own.insert(Rc::new(RefCell::new(Measure::new(loss, &Options::default())?))),
        };
        let shape = [samples.len() as u64, (values.len() / samples.len().max(1)) as u64];
        let mean = own.borrow_mut().value(&Tensor::from_f32(&shape, values), &(task.tensor)(self.labels, samples))?;
        self.counts.sum += mean * samples.len() as f64;
        Ok(())
    }

    /// Adds samples with their outputs, one after the other in `values`.
    pub fn add(&mut self, values: &[f32], samples: &[usize]) {
        let width = values.len() / samples.len().max(1);
        for (logits, sample) in values.chunks_exact(width.max(1)).zip(samples) {
            self.add_one(logits, *sample);
        }
    }

    fn add_one(&mut self, logits: &[f32], sample: usize) {
        self.samples += 1;
        let (sum, right) = (self.counts.sum, self.counts.right);
        if let Some(task) = task::of_labels(self.labels) {
            (task.measure)(&mut self.counts, self.labels, self.loss, logits, sample);
        }
        if let Some(scores) = &mut self.scores {
            scores.push(Score { loss: self.counts.sum - sum, right: self.counts.right - right });
        }
    }

    /// What the samples so far have shown.
    pub fn metrics(&self) -> Metrics {
        let class = |(name, (samples, hits)): (&String, &(usize, usize))| ClassMetrics {
            name: name.clone(),
            samples: *samples,
            recall: if *samples == 0 { 0.0 } else { *hits as f64 / *samples as f64 },
            iou: None,
        };
        let counts = &self.counts;
        let tokens = matches!(self.labels, Labels::NextTokens(_)).then_some(counts.positions);
        let counted = tokens.or((counts.positions > 0).then_some(counts.positions));
        let mean = match counts.weight {
            0.0 => counts.sum / counted.unwrap_or(self.samples).max(1) as f64,
            weight => counts.sum / weight.max(1.0),
        };
        let loss = mean + counts.beside_mean();
        let figures = task::of_labels(self.labels).map_or(Vec::new(), |task| (task.figures)(counts));
        Metrics {
            loss,
            accuracy: (counts.decisions > 0).then(|| counts.right as f64 / counts.decisions as f64),
            perplexity: tokens.map(|_| loss.exp()),
            samples: self.samples,
            tokens,
            figures: figures.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
            per_class: match self.labels {
                Labels::Classes { names, .. } | Labels::Ordinal { names, .. } => {
                    names.iter().zip(&counts.classes).map(class).collect()
                }
                Labels::Pixels { names, .. } => {
                    let classes = names.iter().zip(&counts.classes).map(class);
                    classes.zip(task::ious(counts)).map(|(class, iou)| ClassMetrics { iou, ..class }).collect()
                }
                _ => Vec::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;
    use std::collections::BTreeMap;

    fn metrics(loss: f64, accuracy: Option<f64>, samples: usize) -> Metrics {
        let figures = BTreeMap::new();
        Metrics { loss, accuracy, perplexity: None, samples, tokens: None, figures, per_class: Vec::new() }
    }

    #[test]
    fn better_is_a_lower_loss_and_an_accuracy_beyond_its_error() {
        let head = metrics(0.8, Some(0.79), 100);
        let better = |loss, accuracy| metrics(loss, Some(accuracy), 100).better_beyond_chance(&head);
        assert!(better(0.6, 0.84));
        assert!(!better(0.6, 0.83), "four of a hundred are within the error of 4.1");
        assert!(!better(0.9, 0.95), "the loss is higher");
        assert!(!better(0.6, 0.79));
        assert!(metrics(0.6, Some(0.83), 400).better_beyond_chance(&metrics(0.8, Some(0.79), 400)));
    }

    #[test]
    fn few_samples_prove_little_and_values_have_only_a_loss() {
        assert!(!metrics(0.1, Some(1.0), 2).better_beyond_chance(&metrics(0.9, Some(1.0), 2)));
        assert!(!metrics(0.1, Some(0.5), 2).better_beyond_chance(&metrics(0.9, Some(0.5), 2)));
        assert!(metrics(0.1, Some(0.1), 1).accuracy_error(1.0) > 0.1);
        assert!(metrics(0.5, None, 3).better_beyond_chance(&metrics(0.6, None, 3)));
        assert!(!metrics(0.6, None, 3).better_beyond_chance(&metrics(0.6, None, 3)));
    }
}
