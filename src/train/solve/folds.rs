//! Parts of the samples that are left out in turn (cross-validation): with few samples the one way to choose and to measure
//! that takes none of them away.

use super::targets::Targets;
use crate::order::Order;
use ndarray::Array2;
use std::collections::HashMap;

/// Up to as many samples each is a part of its own (leave-one-out).
const SINGLE_MAX: usize = 20;
/// Parts of more samples.
const PARTS: usize = 5;

/// Which part each sample is in.
pub struct Folds {
    /// By place; `None` for one that is never left out, because its class would have no sample then.
    of: Vec<Option<usize>>,
    /// The number of parts.
    pub count: usize,
}

impl Folds {
    /// Parts in which every class has its share. Equal rows are in one part. `None` where fewer than two parts are possible.
    ///
    /// `rows` are the features of `samples`.
    pub fn new(rows: &Array2<f32>, samples: &[usize], targets: &Targets<'_>) -> Option<Self> {
        let mut group_of: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (place, row) in rows.rows().into_iter().enumerate() {
            let key = row.iter().map(|value| value.to_bits()).collect();
            let group = *group_of.entry(key).or_insert(groups.len());
            groups.resize_with(groups.len().max(group + 1), Vec::new);
            groups[group].push(place);
        }
        let class = |group: &Vec<usize>| targets.class(samples[group[0]]);
        let mut count_of: HashMap<Option<usize>, usize> = HashMap::new();
        groups.iter().for_each(|group| *count_of.entry(class(group)).or_default() += 1);
        groups.retain(|group| class(group).is_none() || count_of[&class(group)] > 1);
        // Dealt class after class, so that every class is spread over all parts.
        groups.order_by_key(class);
        let count = if groups.len() <= SINGLE_MAX { groups.len() } else { PARTS };
        let mut of = vec![None; samples.len()];
        for (part, group) in groups.iter().enumerate() {
            group.iter().for_each(|place| of[*place] = Some(part % count));
        }
        (count >= 2).then_some(Self { of, count })
    }

    /// For each part the places that are learned from, and those that are left out.
    pub fn parts(&self) -> impl Iterator<Item = (Vec<usize>, Vec<usize>)> {
        (0..self.count).map(|part| (0..self.of.len()).partition(|place| self.of[*place] != Some(part)))
    }
}

/// The numbers of the samples in these places.
pub fn numbers(samples: &[usize], places: &[usize]) -> Vec<usize> {
    places.iter().map(|place| samples[*place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Labels;

    fn folds(index: &[u32], same: &[(usize, usize)]) -> Option<Folds> {
        let mut rows = Array2::from_shape_fn((index.len(), 2), |(row, column)| (2 * row + column) as f32);
        for (from, to) in same {
            let copy = rows.row(*from).to_owned();
            rows.row_mut(*to).assign(&copy);
        }
        let names = (0..4).map(|class| class.to_string()).collect();
        let labels = Labels::Classes { names, index: index.to_vec() };
        let samples: Vec<usize> = (0..index.len()).collect();
        Folds::new(&rows, &samples, &Targets::new(&labels, 4))
    }

    #[test]
    fn each_of_few_samples_is_left_out_alone_and_of_many_a_share_of_every_class() {
        let parts: Vec<_> = folds(&[0, 0, 0, 1, 1, 1], &[]).unwrap().parts().collect();
        assert_eq!(parts.len(), 6);
        assert!(parts.iter().all(|(kept, left)| (kept.len(), left.len()) == (5, 1)));
        let index: Vec<u32> = (0..100).map(|sample| u32::from(sample < 10)).collect();
        for (kept, left) in folds(&index, &[]).unwrap().parts() {
            assert_eq!((kept.len(), left.len()), (80, 20));
            assert_eq!(left.iter().filter(|place| **place < 10).count(), 2);
        }
    }

    #[test]
    fn equal_rows_leave_together_and_a_class_never_loses_its_only_sample() {
        let folds_of = folds(&[0, 0, 0, 1, 1, 2], &[(0, 1)]).unwrap();
        for (kept, left) in folds_of.parts() {
            assert!(kept.contains(&5), "the only sample of its class was left out");
            assert_eq!(left.contains(&0), left.contains(&1), "equal rows on both sides");
        }
        assert!(folds(&[0, 1, 2], &[]).is_none());
        assert!(folds(&[0, 0], &[(0, 1)]).is_none());
    }
}
