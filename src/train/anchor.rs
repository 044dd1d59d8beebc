//! What holds learned values to those at the start: a pull of each value, and the answers of the start beside the labels.
//!
//! The pull is L2-SP (Li, Grandvalet and Davoine 2018, arXiv 1802.01483), weighted by the diagonal of the empirical Fisher information where
//! that is asked for (EWC: Kirkpatrick et al. 2017, arXiv 1612.00796). It is a proximal step after the optimiser's, as AdamW decouples
//! weight decay: v ← s + (v − s) / (1 + rate·λ), which no λ makes unstable. A value that AdamW pushes one way all the time comes to rest at
//! 1/λ from its start.

use super::error::Error;
use super::features::Features;
use super::fitting_labels::labels_tensor;
use super::step::{LABELS, gradient_name};
use crate::adapter::Parameter;
use crate::data::Labels;
use crate::engine::Bound;
use serde::{Deserialize, Serialize};

/// How values are held.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// λ of the same pull for every value.
    pub l2_sp: f64,
    /// Mean λ of a pull by how much the answers depend on a value.
    pub ewc: f64,
    /// The samples that tell how much they do.
    pub samples: Vec<usize>,
    /// Weight of the answers at the start.
    pub distill: f64,
    /// The outputs that had an answer at the start: the first so many.
    pub columns: u64,
}

impl Hold {
    /// The weight of the answers at the start and the outputs that have one, where they are to be kept to.
    pub fn teacher(&self) -> Option<(f64, u64)> {
        (self.distill > 0.0).then_some((self.distill, self.columns))
    }
}

/// The values at the start, and how strongly each is held there.
pub(super) struct Anchor {
    start: Vec<Vec<f32>>,
    /// Relative to their mean; empty where all are held alike.
    importance: Vec<Vec<f32>>,
    hold: Hold,
}

impl Anchor {
    /// `bound` holds the values at the start; `None` where nothing pulls.
    ///
    /// # Errors
    /// ONNX Runtime's refusal, a sample that cannot be loaded.
    pub(super) fn new(
        bound: &mut Bound,
        (features, labels): (&mut Features, &Labels),
        parameters: &[Parameter],
        start: &[Vec<f32>],
        hold: &Hold,
    ) -> Result<Option<Self>, Error> {
        if hold.l2_sp == 0.0 && hold.ewc == 0.0 {
            return Ok(None);
        }
        let importance = match hold.ewc {
            0.0 => Vec::new(),
            _ => importance(bound, (features, labels), parameters, &hold.samples)?,
        };
        Ok(Some(Self { start: start.to_vec(), importance, hold: hold.clone() }))
    }

    /// Pulls a parameter's values after a step of that rate.
    pub(super) fn pull(&self, index: usize, values: &mut [f32], rate: f64) {
        let (l2_sp, ewc) = ((rate * self.hold.l2_sp) as f32, (rate * self.hold.ewc) as f32);
        let importance = self.importance.get(index);
        for (place, (value, start)) in values.iter_mut().zip(&self.start[index]).enumerate() {
            let pull = l2_sp + importance.map_or(0.0, |importance| ewc * importance[place]);
            *value = start + (*value - start) / (1.0 + pull);
        }
    }
}

/// The mean square of each value's gradient, sample by sample, over the mean of all values.
fn importance(
    bound: &mut Bound,
    (features, labels): (&mut Features, &Labels),
    parameters: &[Parameter],
    samples: &[usize],
) -> Result<Vec<Vec<f32>>, Error> {
    let mut sums: Vec<Vec<f32>> = parameters.iter().map(|parameter| vec![0.0; parameter.initial.len()]).collect();
    for sample in samples {
        for (name, tensor) in features.batch(&[*sample])? {
            bound.set_input(name, &tensor)?;
        }
        bound.set_input(LABELS, &labels_tensor(labels, &[*sample]))?;
        bound.run()?;
        for (sum, parameter) in sums.iter_mut().zip(parameters) {
            let gradient = bound.output::<f32>(&gradient_name(&parameter.name))?;
            sum.iter_mut().zip(gradient).for_each(|(sum, gradient)| *sum += gradient * gradient);
        }
    }
    let count: usize = sums.iter().map(Vec::len).sum();
    let mean = sums.iter().flatten().map(|sum| f64::from(*sum)).sum::<f64>() / count.max(1) as f64;
    let scale = if mean > 0.0 { (1.0 / mean) as f32 } else { 0.0 };
    sums.iter_mut().flatten().for_each(|sum| *sum *= scale);
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_leads_back_to_the_start_and_no_further() {
        let hold = Hold { l2_sp: 1.0, ewc: 1.0, ..Hold::default() };
        let anchor = Anchor { start: vec![vec![1.0, 1.0]], importance: vec![vec![0.0, 2.0]], hold };
        let mut values = [3.0, 3.0];
        anchor.pull(0, &mut values, 1.0);
        assert_eq!(values, [2.0, 1.5]);
        anchor.pull(0, &mut values, 1e9);
        assert!(values.iter().all(|value| (value - 1.0).abs() < 1e-6), "{values:?}");
    }
}
