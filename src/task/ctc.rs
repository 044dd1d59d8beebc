//! Connectionist temporal classification (Graves et al. 2006, "Connectionist Temporal Classification: Labelling Unsegmented Sequence
//! Data with Recurrent Neural Networks"): the loss of a text whose characters nobody has aligned to the steps of an output.
//!
//! A path gives each step a character or the blank; its text is what is left when repeats are collapsed and blanks dropped. The loss is −ln
//! of the sum of the probabilities of all paths that give the label. With γ[t, c], the share of those paths that are at c in step t, its
//! gradient for the logits is softmax − γ: that of the cross-entropy Σ −γ·ln softmax, in which γ is constant. So γ is computed here, in f64
//! by sums of logarithms, and the step graph knows nothing but a cross-entropy ([`append`]).

use crate::graph::{Attr, Builder, DType, Tensor, Val};

/// What all paths of a label have in common.
pub(super) struct Occupied {
    /// −ln p(label).
    pub loss: f64,
    /// γ, `[steps, classes]`: each step's shares sum to 1.
    pub shares: Vec<f64>,
    /// The cross-entropy Σ −γ·ln softmax, which is more than the loss by the entropy of the paths: a constant while γ stands.
    pub cross_entropy: f64,
}

/// The paths of a label in an output of `[steps, classes]` logits; `None` where it has too few steps for any.
pub(super) fn occupied(logits: &[f32], classes: usize, label: &[u32], blank: u32) -> Option<Occupied> {
    let log = log_softmax(logits, classes);
    let states = states(label, blank);
    let ahead = forward(&log, classes, &states);
    let loss = -total(&ahead, states.len());
    if !loss.is_finite() {
        return None;
    }
    let behind = backward(&log, classes, &states);
    let mut shares = vec![0.0f64; log.len()];
    let rows = ahead.chunks_exact(states.len()).zip(behind.chunks_exact(states.len()));
    for (step, (ahead, behind)) in rows.enumerate() {
        let row = &mut shares[step * classes..][..classes];
        for ((ahead, behind), state) in ahead.iter().zip(behind).zip(&states) {
            row[*state as usize] += (ahead + behind + loss).exp();
        }
        // What rounding leaves of 1, so that the gradient of each step sums to nothing.
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|share| *share /= sum);
    }
    let terms = shares.iter().zip(&log).filter(|(share, _)| **share > 0.0);
    let cross_entropy = -terms.map(|(share, log)| share * log).sum::<f64>();
    Some(Occupied { loss, shares, cross_entropy })
}

/// −ln p(label), without γ; infinite where the output has too few steps.
pub(super) fn loss(logits: &[f32], classes: usize, label: &[u32], blank: u32) -> f64 {
    let states = states(label, blank);
    -total(&forward(&log_softmax(logits, classes), classes, &states), states.len())
}

/// The label with a blank before, between and behind its characters: what a path goes through in this order.
fn states(label: &[u32], blank: u32) -> Vec<u32> {
    std::iter::once(blank).chain(label.iter().flat_map(|character| [*character, blank])).collect()
}

/// ln softmax of each row.
fn log_softmax(logits: &[f32], classes: usize) -> Vec<f64> {
    let mut log = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(classes.max(1)) {
        let top = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum = row.iter().map(|logit| (f64::from(*logit) - top).exp()).sum::<f64>().ln();
        log.extend(row.iter().map(|logit| f64::from(*logit) - top - sum));
    }
    log
}

/// ln of a sum of numbers whose logarithms these are.
fn log_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY { top } else { top + terms.map(|term| (term - top).exp()).sum::<f64>().ln() }
}

/// Whether a path may come to a state from the one before the last: only past a blank that need not be there.
fn skips(states: &[u32], state: usize) -> bool {
    state >= 2 && states[state] != states[0] && states[state] != states[state - 2]
}

/// ln of the probability of all beginnings of paths that are in a state after a step, that step's included: `[steps, states]`.
fn forward(log: &[f64], classes: usize, states: &[u32]) -> Vec<f64> {
    let steps = log.len() / classes.max(1);
    let mut all = vec![f64::NEG_INFINITY; steps * states.len()];
    for step in 0..steps {
        let (before, now) = all.split_at_mut(step * states.len());
        let before = &before[before.len().saturating_sub(states.len())..];
        for (state, class) in states.iter().enumerate() {
            let reached = match step {
                // A path begins with the blank or with the first character.
                0 if state < 2 => 0.0,
                0 => continue,
                _ => {
                    let first = if skips(states, state) { state - 2 } else { state.saturating_sub(1) };
                    log_sum(before[first..=state].iter().copied())
                }
            };
            now[state] = reached + log[step * classes + *class as usize];
        }
    }
    all
}

/// ln of the probability of all ends of paths that go on from a state after a step, that step's not included: `[steps, states]`.
fn backward(log: &[f64], classes: usize, states: &[u32]) -> Vec<f64> {
    let (steps, count) = (log.len() / classes.max(1), states.len());
    let mut all = vec![f64::NEG_INFINITY; steps * count];
    all[(steps * count).saturating_sub(2.min(count))..].fill(0.0);
    for step in (1..steps).rev() {
        let (before, now) = all.split_at_mut(step * count);
        let row = &log[step * classes..][..classes];
        let on = |state: usize| now[state] + row[states[state] as usize];
        for (state, to) in before[(step - 1) * count..].iter_mut().enumerate() {
            let last = (state + 1 + usize::from(state + 2 < count && skips(states, state + 2))).min(count - 1);
            *to = log_sum((state..=last).map(on));
        }
    }
    all
}

/// ln of the probability of all paths: they end with the last character or with the blank behind it.
fn total(ahead: &[f64], states: usize) -> f64 {
    if ahead.is_empty() {
        return if states == 1 { 0.0 } else { f64::NEG_INFINITY };
    }
    log_sum(ahead[ahead.len() - states.min(2)..].iter().copied())
}

/// The likeliest class of each step with its probability; repeats are collapsed to their surest step, and blanks are dropped.
pub(super) fn greedy(logits: &[f32], classes: usize, blank: u32) -> Vec<(u32, f32)> {
    let mut kept: Vec<(u32, f32)> = Vec::new();
    let mut before = blank;
    for row in logits.chunks_exact(classes.max(1)) {
        let (class, share) = likeliest(row);
        match kept.last_mut() {
            Some((_, surest)) if class == before && class != blank => *surest = surest.max(share),
            _ if class != blank => kept.push((class, share)),
            _ => {}
        }
        before = class;
    }
    kept
}

/// The likeliest class of a step, the first of equals, and its probability.
pub(super) fn likeliest(row: &[f32]) -> (u32, f32) {
    let class = super::largest(row);
    (class as u32, super::softmax(row)[class])
}

/// Σ −γ·ln softmax(logits) + what the loss differs by, over the number of samples. `labels`: `[batch, steps, width + 1]`, γ and behind it
/// that difference, each sample's divided by the length of its text.
pub(super) fn append<'b>(builder: &'b Builder, logits: Val<'b>, labels: Val<'b>, width: u64) -> Val<'b> {
    let width = width as i64;
    let (shares, rest) = (labels.slice(&[0], &[width], &[2]), labels.slice(&[width], &[width + 1], &[2]));
    let log = builder.op("LogSoftmax", &[logits], &[("axis", Attr::Int(-1))]);
    let first = builder.constant(Tensor::from_i64(&[], &[0]));
    let samples = labels.shape().gather(first, 0).cast(DType::Float);
    (rest.sum_all() - (shares * log).sum_all()) / samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::steps_needed;
    use proptest::prelude::*;

    /// All paths one by one.
    fn by_hand(logits: &[f32], classes: usize, label: &[u32], blank: u32) -> (f64, Vec<f64>) {
        let log = log_softmax(logits, classes);
        let steps = log.len() / classes;
        let (mut sum, mut shares) = (0.0, vec![0.0; log.len()]);
        for number in 0..classes.pow(steps as u32) {
            let path: Vec<u32> = (0..steps).map(|step| (number / classes.pow(step as u32) % classes) as u32).collect();
            let mut text = Vec::new();
            let mut before = blank;
            for class in &path {
                if *class != blank && *class != before {
                    text.push(*class);
                }
                before = *class;
            }
            if text == label {
                let each = path.iter().enumerate().map(|(step, class)| log[step * classes + *class as usize]);
                let share = each.sum::<f64>().exp();
                sum += share;
                path.iter().enumerate().for_each(|(step, class)| shares[step * classes + *class as usize] += share);
            }
        }
        shares.iter_mut().for_each(|share| *share /= sum);
        (-sum.ln(), shares)
    }

    proptest! {
        #[test]
        fn all_paths_are_summed(
            logits in prop::collection::vec(-4.0f32..4.0, 15), label in prop::collection::vec(0u32..3, 0..4), blank in 0u32..3,
        ) {
            let label: Vec<u32> = label.into_iter().filter(|character| *character != blank).collect();
            let found = occupied(&logits, 3, &label, blank);
            prop_assert_eq!(found.is_some(), steps_needed(&label) <= 5);
            let Some(found) = found else { return Ok(()) };
            let (expected, shares) = by_hand(&logits, 3, &label, blank);
            prop_assert!((found.loss - expected).abs() < 1e-9, "{} {}", found.loss, expected);
            prop_assert!((loss(&logits, 3, &label, blank) - expected).abs() < 1e-9);
            prop_assert!(found.shares.iter().zip(&shares).all(|(one, other)| (one - other).abs() < 1e-9));
            prop_assert!(found.cross_entropy >= found.loss - 1e-9, "paths have an entropy");
        }
    }

    #[test]
    fn what_has_no_path_is_infinite_and_gives_no_shares() {
        assert!(occupied(&[0.0; 6], 3, &[1, 1], 0).is_none());
        assert!(loss(&[0.0; 6], 3, &[1, 1], 0).is_infinite());
        assert!(occupied(&[0.0; 9], 3, &[1, 1], 0).is_some());
        assert_eq!((loss(&[], 3, &[], 0), loss(&[], 3, &[1], 0)), (0.0, f64::INFINITY));
    }

    #[test]
    fn repeats_are_collapsed_and_blanks_dropped() {
        let row = |class: usize, logit: f32| {
            let mut row = [0.0; 3];
            row[class] = logit;
            row
        };
        let steps = [row(1, 2.0), row(1, 5.0), row(0, 4.0), row(1, 3.0), row(2, 3.0), row(0, 9.0)].concat();
        let kept = greedy(&steps, 3, 0);
        assert_eq!(kept.iter().map(|(class, _)| *class).collect::<Vec<_>>(), [1, 1, 2]);
        assert_eq!(kept[0].1, likeliest(&row(1, 5.0)).1, "the surest of a run");
        assert!(greedy(&row(2, 1.0), 3, 2).is_empty());
    }
}
