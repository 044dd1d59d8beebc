//! A retention set among the data: which of its samples are learned again, and which measure.

use super::observer::Observer;
use super::samples;
use crate::data::{self, Dataset, Labels, Matched, Split};
use crate::recipe::{Error, Recipe, refuse};
use crate::train::prepare::Base;
use crate::train::retention::{self as file, Header};
use crate::train::trial::spread;

/// Samples of each class that are learned again, where nothing else is said.
const REPLAY: usize = 10;
/// Samples that measure what is kept, at most; of texts, whose samples are many decisions each.
pub(super) const MEASURED_MAX: usize = 1000;
const TEXTS_MEASURED_MAX: usize = 64;

/// A retention set that was read and is not yet among the data.
pub(super) struct Set {
    dataset: Dataset,
    /// What the file says, where it is one of features.
    header: Option<Header>,
}

/// Which samples of the data are the retention set's.
#[derive(Debug, Clone, Default)]
pub(super) struct Retained {
    /// Those that are learned beside the new ones.
    pub replayed: Vec<usize>,
    /// How often each of them is, so that its class weighs as much as one that is learned.
    pub times: usize,
    /// Those that only measure.
    pub measured: Vec<usize>,
    pub header: Option<Header>,
}

impl Set {
    /// Reads the file or the data that are named; `None` where nothing is.
    pub(super) fn open(
        recipe: &Recipe,
        base: &Base,
        options: &data::Options,
        context: (&mut data::ReadingReport, &dyn Observer),
    ) -> Result<Option<Self>, Error> {
        let Some(path) = recipe.retention.set.as_deref() else { return Ok(None) };
        if file::is_one(path) {
            let (header, dataset) = file::read(path, &base.hash)?;
            return Ok(Some(Self { dataset, header: Some(header) }));
        }
        let (skipped, observer) = context;
        let dataset = samples::open_beside(path, options, None, skipped, observer)?;
        Ok(Some(Self { dataset, header: None }))
    }

    /// The classes of its samples.
    pub(super) fn names(&self) -> &[String] {
        self.dataset.labels().names()
    }

    /// Puts the samples behind those of the data, whose classes hold the set's.
    pub(super) fn behind(
        self,
        train: Dataset,
        split: &Split,
        recipe: &Recipe,
        preprocessing: &[u8],
    ) -> Result<(Dataset, Retained), Error> {
        let names = train.labels().names().to_vec();
        let unknown = Matched::new(&names, self.names()).new;
        if let Some(class) = unknown.first() {
            refuse!(
                "setting `retention.set`: `{class}` is none of the classes that are learned ({}): the base has no answer that could be kept; \
                 name the base's own classes with setting `classes`",
                names.join(", ")
            );
        }
        if self.header.as_ref().is_some_and(|header| !header.is_of(preprocessing)) {
            refuse!(
                "setting `retention.set`: its samples were made ready for the model otherwise than those of setting `data`; give both the \
                 same settings of samples"
            );
        }
        let first = train.len();
        let set = if names.is_empty() { self.dataset } else { self.dataset.with_names(names) };
        let (replayed, mut measured) = divided(set.labels(), recipe.retention.replay);
        let most = if set.labels().of_positions() { TEXTS_MEASURED_MAX } else { MEASURED_MAX };
        measured = spread(&measured, most);
        let times = times(train.labels(), &split.train, set.labels(), &replayed);
        let behind = |samples: Vec<usize>| samples.into_iter().map(|sample| first + sample).collect();
        let (replayed, measured) = (behind(replayed), behind(measured));
        let train = train.with_retained(set)?;
        Ok((train, Retained { replayed, times, measured, header: self.header }))
    }
}

/// Which samples are learned again, and which measure: of each class some that lie evenly among all of it. Of few samples half measure.
fn divided(labels: &Labels, replay: Option<u32>) -> (Vec<usize>, Vec<usize>) {
    let mut strata = vec![Vec::new(); labels.names().len().max(1)];
    let of_classes = matches!(labels, Labels::Classes { .. } | Labels::Ordinal { .. });
    for sample in 0..labels.len() {
        let class = match labels {
            Labels::Classes { index, .. } | Labels::Ordinal { index, .. } => index[sample] as usize,
            _ => 0,
        };
        strata[class].push(sample);
    }
    let asked = replay.map_or(if of_classes { REPLAY } else { usize::MAX }, |count| count as usize);
    let again = |stratum: &Vec<usize>| spread(stratum, asked.min(stratum.len() / 2));
    let mut replayed: Vec<usize> = strata.iter().flat_map(again).collect();
    replayed.sort_unstable();
    let measured = (0..labels.len()).filter(|sample| replayed.binary_search(sample).is_err()).collect();
    (replayed, measured)
}

/// How often a sample is learned again where a class of the new ones has more samples than one of the old ones.
fn times(labels: &Labels, train: &[usize], kept: &Labels, replayed: &[usize]) -> usize {
    let (Labels::Classes { index, names }, Labels::Classes { index: of_kept, .. }) = (labels, kept) else { return 1 };
    let mean = |classes: &mut dyn Iterator<Item = u32>| {
        let mut counts = vec![0usize; names.len()];
        classes.for_each(|class| counts[class as usize] += 1);
        let there = counts.iter().filter(|count| **count > 0).count();
        counts.iter().sum::<usize>() as f64 / there.max(1) as f64
    };
    let new = mean(&mut train.iter().map(|sample| index[*sample]));
    let old = mean(&mut replayed.iter().map(|sample| of_kept[*sample]));
    (new / old.max(1.0)).round().max(1.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_each_class_are_learned_again_and_the_others_measure() {
        let index = [vec![0; 30], vec![1; 30], vec![2; 3]].concat();
        let labels = Labels::Classes { names: ["a", "b", "c"].map(String::from).to_vec(), index: index.clone() };
        let (replayed, measured) = divided(&labels, None);
        let of = |samples: &[usize], class: u32| samples.iter().filter(|sample| index[**sample] == class).count();
        assert_eq!([0, 1, 2].map(|class| of(&replayed, class)), [10, 10, 1]);
        assert_eq!([0, 1, 2].map(|class| of(&measured, class)), [20, 20, 2]);
        assert!(replayed.iter().all(|sample| !measured.contains(sample)));
        assert_eq!(divided(&labels, Some(0)).0, Vec::<usize>::new());
        assert_eq!(times(&labels, &(0..60).collect::<Vec<_>>(), &labels, &replayed[..20]), 3);
    }
}
