//! What knowing nothing but the training samples' labels shows: the commonest class, or the mean. An accuracy is worth what
//! it is above this.

use super::evaluate::{Metrics, Score, Tally};
use super::loss::Loss;
use crate::data::Labels;
use crate::task;

/// What the same answer for every sample shows on `samples` of `measured`: the shares of the classes among the training
/// samples (one more counted in each, so that none is impossible), or the mean of the numbers. `None` for a language model.
pub fn constant(trained: (&Labels, &[usize]), measured: (&Labels, &[usize]), loss: &Loss) -> Option<Metrics> {
    let tally = tally(trained, measured, Tally::new(measured.0, loss))?;
    (!measured.1.is_empty()).then(|| tally.metrics())
}

/// What the same answer shows on each sample.
pub fn scores(trained: (&Labels, &[usize]), measured: (&Labels, &[usize]), loss: &Loss) -> Option<Vec<Score>> {
    Some(tally(trained, measured, Tally::new(measured.0, loss).scoring())?.into_scores())
}

fn tally<'l>(trained: (&Labels, &[usize]), measured: (&Labels, &[usize]), mut tally: Tally<'l>) -> Option<Tally<'l>> {
    let answer = (task::of_labels(trained.0)?.commonest)(trained.0, trained.1)?;
    measured.1.iter().for_each(|sample| tally.add(&answer, &[*sample]));
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commonest_class_of_the_training_samples_is_always_answered() {
        let names = ["a", "b", "c"].map(String::from).to_vec();
        let labels = Labels::Classes { names: names.clone(), index: vec![1, 1, 0, 1, 0, 2] };
        let loss = Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None };
        let found = constant((&labels, &[0, 1, 2]), (&labels, &[3, 4, 5]), &loss).unwrap();
        assert_eq!((found.accuracy, found.samples), (Some(1.0 / 3.0), 3));
        assert!(found.loss.is_finite(), "a class without training samples is measured");
        let balanced = Labels::Classes { names, index: vec![0, 1, 2] };
        let found = constant((&balanced, &[0, 1, 2]), (&balanced, &[0, 1, 2]), &loss).unwrap();
        assert!((found.loss - 3f64.ln()).abs() < 1e-6);
        assert!(constant((&balanced, &[0]), (&balanced, &[]), &loss).is_none());
    }

    #[test]
    fn sets_are_answered_class_by_class_and_numbers_by_their_mean() {
        let rows = ndarray::arr2(&[[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]);
        let sets = Labels::MultiLabel { names: vec!["a".into(), "b".into()], rows };
        let found = constant((&sets, &[0, 1, 2]), (&sets, &[0, 3]), &Loss::BinaryCrossEntropy).unwrap();
        assert_eq!(found.accuracy, Some(0.75));
        let values = Labels::Values(ndarray::arr2(&[[1.0], [3.0], [6.0]]));
        let found = constant((&values, &[0, 1]), (&values, &[2]), &Loss::MeanSquaredError).unwrap();
        assert_eq!((found.loss, found.accuracy), (16.0, None));
    }
}
