//! Which samples train and which only measure: stratified, repeatable, and without the same content on both sides.
//!
//! Pure functions of labels, content keys and a seed.

use super::same::Same;
use super::{Error, Labels};

/// Two disjoint sets of sample numbers, each in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Samples to learn from.
    pub train: Vec<usize>,
    /// Samples that only measure.
    pub validation: Vec<usize>,
}

/// Labels of samples, and which of the samples learn and which measure.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// A label for each sample.
    pub labels: &'a Labels,
    /// Numbers of the samples.
    pub split: &'a Split,
}

/// Parts the samples so that about `fraction` (0..1, 1 excluded) of each class validates.
///
/// Samples with equal `keys` (equal content) stay together, and each class that occurs keeps at least one training
/// sample. Sets of classes are stratified by their rarest class; numbers are not stratified. The same arguments give the
/// same split on every machine.
///
/// # Errors
/// A fraction outside 0..1, or a count of keys other than of labels.
pub fn split(labels: &Labels, keys: &[[u8; 32]], fraction: f64, seed: u64) -> Result<Split, Error> {
    refuse_fraction(fraction)?;
    if keys.len() != labels.len() {
        return Err(Error::setting("keys", keys.len(), format!("there are {} labels", labels.len())));
    }
    let same = Same::new(keys);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut validates = vec![false; keys.len()];
    // Rounding the running sum instead of each stratum keeps the whole at the asked share when classes are small.
    let (mut wanted, mut taken) = (0.0, 0);
    for mut groups in strata(labels, &same) {
        random.shuffle(&mut groups);
        let size: usize = groups.iter().map(|first| same.from(*first).count()).sum();
        wanted += size as f64 * fraction;
        let share = (wanted.round() as usize).saturating_sub(taken);
        taken += share;
        let mut room = share.min(size.saturating_sub(1));
        for first in groups {
            let count = same.from(first).count();
            if count <= room {
                room -= count;
                same.from(first).for_each(|sample| validates[sample] = true);
            }
        }
    }
    keep_one_to_train(labels, keys, &mut validates);
    let (validation, train) = (0..keys.len()).partition(|sample| validates[*sample]);
    Ok(Split { train, validation })
}

/// # Errors
/// A share of the samples that is outside 0..1.
pub(super) fn refuse_fraction(fraction: f64) -> Result<(), Error> {
    match (0.0..1.0).contains(&fraction) {
        true => Ok(()),
        false => Err(Error::setting("val-fraction", fraction, "write a share from 0 to below 1, such as 0.2")),
    }
}

/// At most `count` samples of each class out of `samples`, chosen by `seed`, in ascending order.
///
/// # Errors
/// Labels that are not one class a sample.
pub fn per_class(labels: &Labels, samples: &[usize], count: usize, seed: u64) -> Result<Vec<usize>, Error> {
    let (Labels::Classes { names, index } | Labels::Ordinal { names, index }) = labels else {
        return Err(Error::setting("per-class", count, "needs data with one class a sample"));
    };
    let mut order = samples.to_vec();
    order.sort_unstable();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    let mut left = vec![count; names.len()];
    order.retain(|sample| {
        let left = &mut left[index[*sample] as usize];
        let keep = *left > 0;
        *left = left.saturating_sub(1);
        keep
    });
    order.sort_unstable();
    Ok(order)
}

/// Hands the classes that a sample counts for to `each`, in ascending order.
pub(super) fn classes_of(labels: &Labels, sample: usize, mut each: impl FnMut(usize)) {
    match labels {
        Labels::Classes { index, .. } | Labels::Ordinal { index, .. } => each(index[sample] as usize),
        Labels::MultiLabel { rows, .. } => {
            rows.row(sample).iter().enumerate().filter(|(_, value)| **value > 0.0).for_each(|(class, _)| each(class));
        }
        Labels::Values(_)
        | Labels::Boxes { .. }
        | Labels::OfLoss(_)
        | Labels::NextTokens(_)
        | Labels::Tokens { .. }
        | Labels::Pixels { .. }
        | Labels::Lines { .. }
        | Labels::Identities { .. }
        | Labels::Anomalies(_)
        | Labels::Unlabelled(_) => {}
    }
}

/// First samples of their content by their rarest class; those without any class come first.
fn strata(labels: &Labels, same: &Same) -> Vec<Vec<u32>> {
    let mut counts = vec![0usize; labels.names().len()];
    (0..labels.len()).for_each(|sample| classes_of(labels, sample, |class| counts[class] += 1));
    let mut strata = vec![Vec::new(); counts.len() + 1];
    for first in same.firsts() {
        let mut rarest: Option<usize> = None;
        classes_of(labels, first as usize, |class| {
            if rarest.is_none_or(|other| counts[class] < counts[other]) {
                rarest = Some(class);
            }
        });
        strata[rarest.map_or(0, |class| class + 1)].push(first);
    }
    strata
}

/// Hands one group back to training for each class that would have none there (conflicting duplicates and sets of
/// classes can cause it).
fn keep_one_to_train(labels: &Labels, keys: &[[u8; 32]], validates: &mut [bool]) {
    let mut trains = vec![false; labels.names().len()];
    // Of each class, the first sample.
    let mut firsts = vec![None; trains.len()];
    for (sample, validates) in validates.iter().enumerate() {
        classes_of(labels, sample, |class| {
            trains[class] |= !validates;
            firsts[class].get_or_insert(sample);
        });
    }
    for (class, first) in firsts.into_iter().enumerate() {
        let Some(sample) = first.filter(|_| !trains[class]) else { continue };
        for same in (0..keys.len()).filter(|other| keys[*other] == keys[sample]) {
            validates[same] = false;
            classes_of(labels, same, |class| trains[class] = true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn classes(index: Vec<u32>) -> Labels {
        let count = index.iter().max().map_or(0, |most| most + 1);
        Labels::Classes { names: (0..count).map(|class| class.to_string()).collect(), index }
    }

    fn key(content: u64) -> [u8; 32] {
        *blake3::hash(&content.to_le_bytes()).as_bytes()
    }

    proptest! {
        #[test]
        fn disjoint_complete_repeatable_and_stratified(
            index in prop::collection::vec(0u32..5, 0..200), fraction in 0.0..0.95f64, seed: u64,
        ) {
            let keys: Vec<_> = (0..index.len() as u64).map(key).collect();
            let labels = classes(index.clone());
            let split = super::split(&labels, &keys, fraction, seed).unwrap();
            prop_assert_eq!(&split, &super::split(&labels, &keys, fraction, seed).unwrap());
            let mut all = [split.train.clone(), split.validation.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..index.len()).collect::<Vec<_>>());
            for class in 0..5 {
                let of = |samples: &[usize]| samples.iter().filter(|sample| index[**sample] == class).count();
                let (train, validation) = (of(&split.train), of(&split.validation));
                prop_assert!(train + validation == 0 || train >= 1);
                let ideal = (train + validation) as f64 * fraction;
                prop_assert!((validation as f64 - ideal).abs() <= 1.0, "class {}: {} of {}", class, validation, ideal);
            }
        }

        #[test]
        fn equal_content_never_leaks(
            samples in prop::collection::vec((0u32..4, 0u64..12), 1..80), fraction in 0.0..0.95f64, seed: u64,
        ) {
            let keys: Vec<_> = samples.iter().map(|(_, content)| key(*content)).collect();
            let index: Vec<u32> = samples.iter().map(|(class, _)| *class).collect();
            let split = super::split(&classes(index.clone()), &keys, fraction, seed).unwrap();
            for sample in &split.validation {
                prop_assert!(split.train.iter().all(|other| keys[*other] != keys[*sample]));
                prop_assert!(split.train.iter().any(|other| index[*other] == index[*sample]));
            }
        }
    }

    #[test]
    fn seeds_differ_and_shares_are_met() {
        let labels = classes((0..300).map(|sample| sample % 3).collect());
        let keys: Vec<_> = (0..300).map(key).collect();
        let one = super::split(&labels, &keys, 0.2, 1).unwrap();
        assert_eq!(one.validation.len(), 60);
        assert_ne!(one, super::split(&labels, &keys, 0.2, 2).unwrap());
        assert!(super::split(&labels, &keys, 0.0, 1).unwrap().validation.is_empty());
    }

    #[test]
    fn a_seed_means_the_same_split_in_every_version() {
        let labels = classes((0..12).map(|sample| sample % 2).collect());
        let keys: Vec<_> = (0..12).map(key).collect();
        assert_eq!(super::split(&labels, &keys, 0.34, 42).unwrap().validation, [3, 4, 8, 11]);
    }

    #[test]
    fn sets_of_classes_keep_their_rare_classes_on_both_sides() {
        // Class 1 occurs in every tenth sample, class 0 in all.
        let rows = ndarray::Array2::from_shape_fn((100, 2), |(row, class)| f32::from(class == 0 || row % 10 == 0));
        let labels = Labels::MultiLabel { names: vec!["a".into(), "b".into()], rows };
        let keys: Vec<_> = (0..100).map(key).collect();
        let split = super::split(&labels, &keys, 0.2, 3).unwrap();
        assert_eq!(split.validation.len(), 20);
        assert_eq!(split.validation.iter().filter(|sample| *sample % 10 == 0).count(), 2);
    }

    #[test]
    fn bad_fractions_are_refused() {
        let labels = Labels::Unlabelled(1);
        for fraction in [1.0, -0.1, f64::NAN] {
            assert!(super::split(&labels, &[key(0)], fraction, 0).is_err());
        }
        assert!(super::split(&labels, &[], 0.5, 0).is_err());
    }

    #[test]
    fn subsets_are_balanced_and_repeatable() {
        let labels = classes((0..100).map(|sample| u32::from(sample % 10 == 0)).collect());
        let samples: Vec<usize> = (0..100).collect();
        let chosen = per_class(&labels, &samples, 5, 7).unwrap();
        assert_eq!(chosen.iter().filter(|sample| *sample % 10 == 0).count(), 5);
        assert_eq!(chosen.len(), 10);
        assert_eq!(chosen, per_class(&labels, &samples, 5, 7).unwrap());
        assert_eq!(per_class(&labels, &samples, 50, 7).unwrap().len(), 60);
        assert!(per_class(&Labels::Unlabelled(3), &[0], 1, 0).is_err());
    }
}
