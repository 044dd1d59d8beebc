//! The data of a run: opened, checked and split before the first step.

use super::Given;
use super::classes::{self, Outputs};
use super::lines;
use super::observer::Observer;
use super::pixels;
use super::retained::{Retained, Set};
use super::samples::{self, inputs_of};
use crate::amounts::counted;
use crate::data::{self, Dataset, Finding, Labels, Preprocessing, ReadingReport, Split, Target};
use crate::recipe::{Error, Reading, Recipe, Samples, refuse};
use crate::task::OwnLoss;
use crate::train::artifact::Adapter;
use crate::train::loss::Loss;
use crate::train::prepare::Base;
use crate::train::solve::VALIDATION_MIN;
use crate::train::trial::Trial;
use std::path::Path;
use std::sync::Arc;

/// All data of a run, opened before the first step: what is wrong with them is told at once.
pub struct Data {
    /// What is learned and validated.
    pub train: Arc<Dataset>,
    /// The test data, and which samples of them are used.
    pub test: Option<(Arc<Dataset>, Vec<usize>)>,
    /// Test samples whose content is in `train`, too.
    pub test_samples_in_data: usize,
    /// Which samples of `train` train.
    pub split: Split,
    /// Which samples of `train` are those of the retention set, where there is one.
    pub(super) retained: Option<Retained>,
    /// What the model's outputs are to the classes.
    outputs: Outputs,
    /// What is done to a sample.
    pub preprocessing: Preprocessing,
    /// What is odd about the data.
    pub findings: Vec<Finding>,
    /// What could not be read.
    pub skipped: ReadingReport,
}

/// What a training's data are found by.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// Names files and folders, and says how they are read.
    pub recipe: &'a Recipe,
    /// What the caller holds in the place of the recipe's data.
    pub given: Option<&'a Given>,
    /// The delta that is gone on from, whose classes come first.
    pub known: Option<&'a Adapter>,
    /// The loss of the user's own, whose inputs name what labels are.
    pub own: Option<&'a OwnLoss>,
    /// The file that the training writes: beside it lies the list of what was left out.
    pub out: Option<&'a Path>,
}

/// What trains, and how more of its kind is read.
struct Read {
    train: Dataset,
    preprocessing: Preprocessing,
    options: data::Options,
    skipped: ReadingReport,
}

impl Sources<'_> {
    fn read(&self, base: &Base, observer: &dyn Observer) -> Result<Read, Error> {
        let Sources { recipe, given, known, own, out } = *self;
        let target = recipe.target();
        if let Some(Given { inputs, labels }) = given {
            if known.is_some() {
                refuse!(
                    "setting `from`: what is gone on from needs data in files; remove it, or write the samples to files"
                );
            }
            let train = Dataset::of_arrays(inputs.clone(), labels.clone())?;
            let options = samples::options(Preprocessing::Plain, Reading::default(), &inputs_of(base), target, None);
            let skipped = ReadingReport::default();
            return Ok(Read { train, preprocessing: Preprocessing::Plain, options, skipped });
        }
        let Some(path) = recipe.data.as_deref() else {
            refuse!("no data: name labelled data with setting `data = PATH`")
        };
        let mut preprocessing = match known {
            Some(adapter) => samples::of_adapter(&adapter.preprocessing, path, observer),
            None if target == Target::Lines => lines::preprocessing(&recipe.samples, base, path, observer)?,
            None => {
                let preprocessing = recipe.samples.preprocessing(base, path, observer)?;
                match target {
                    Target::Boxes => samples::stretched(preprocessing, &recipe.samples, observer)?,
                    _ => preprocessing,
                }
            }
        };
        let learned = (recipe.from.as_deref(), &preprocessing);
        let reading = samples::with_tokenizer(recipe.samples.reading(), base, learned, observer);
        if known.is_none() {
            samples::keep_tokenizer(&mut preprocessing, &reading);
        }
        let mut options = samples::options(preprocessing.clone(), reading, &inputs_of(base), target, None);
        if let Some(own) = own {
            samples::label_for(own, &mut options);
        }
        if target == Target::Boxes {
            samples::boxes_for(base, &mut options)?;
        }
        if target == Target::Lines {
            let output = known.map(|adapter| adapter.output.as_str()).or(recipe.output.as_deref());
            lines::steps_for(base, output, &mut options)?;
        }
        // An order has no place for a new class, and numbers of tags are places among the names.
        let is_fixed = matches!(target, Target::Ordinal | Target::Tokens | Target::Pixels | Target::Lines);
        options.classes = match known {
            Some(adapter) if is_fixed => Some(adapter.labels.clone()),
            Some(adapter) => samples::classes_from(adapter, recipe.closed_form(), path, &options)?,
            None if target == Target::Lines => lines::alphabet(recipe, base, observer)?,
            None if is_fixed => recipe.classes.as_deref().map(samples::class_names).transpose()?,
            None => None,
        };
        options.splits = recipe.val.is_none();
        let mut skipped = ReadingReport::default();
        let train = samples::open_beside(path, &options, out, &mut skipped, observer)?;
        options.splits = false;
        Ok(Read { train, preprocessing, options, skipped })
    }
}

impl Data {
    /// Opens what the recipe names, or takes what the caller holds.
    ///
    /// # Errors
    /// Data that cannot be read, that the model does not take, or that training on would be meaningless.
    pub fn open(sources: Sources<'_>, base: &Base, observer: &dyn Observer) -> Result<Self, Error> {
        let Sources { recipe, known, out, .. } = sources;
        let Read { mut train, mut preprocessing, mut options, mut skipped } = sources.read(base, observer)?;
        let learned = train.len();
        if let Some(path) = &recipe.val {
            train = validated_by(path, train, (&options, out), &mut skipped, observer)?;
        }
        let set = Set::open(recipe, base, &options, (&mut skipped, observer))?;
        let kept = set.as_ref().map_or(&[][..], Set::names);
        let outputs = match known {
            Some(_) => Outputs::Others,
            None => classes::outputs(recipe, base, train.labels(), kept, observer)?,
        };
        if let Some(names) = outputs.names() {
            train = train.with_names(names);
        }
        let added = known.is_some() || matches!(outputs, Outputs::Same(..));
        let findings = samples::check(&train, added, observer)?;
        let seed = recipe.seed.unwrap_or(0);
        let mut split = match recipe.val {
            Some(_) => Split { train: (0..learned).collect(), validation: (learned..train.len()).collect() },
            None => split(&train, (recipe.val_fraction(), seed), &skipped, observer)?,
        };
        if let Labels::Anomalies(anomalous) = train.labels() {
            let (normal, others) = split.train.into_iter().partition(|sample| !anomalous[*sample]);
            split.train = normal;
            split.validation.extend::<Vec<usize>>(others);
            split.validation.sort_unstable();
        }
        split.train = limited(recipe, train.labels(), split.train)?;
        split.validation = limited(recipe, train.labels(), split.validation)?;
        if known.is_none() && scale(&mut train, &mut preprocessing, (&recipe.samples, &split.train), observer)? {
            options.preprocessing = preprocessing.clone();
        }
        let (train, retained) = match set {
            None => (train, None),
            Some(set) => {
                let (train, retained) = set.behind(train, &split, recipe, &preprocessing.wire())?;
                (train, Some(retained))
            }
        };
        let train = Arc::new(train);
        let mut test_samples_in_data = 0;
        let mut test = None;
        if let Some(path) = &recipe.test {
            let (set, samples) = tested(path, (recipe, &train, out), options, &mut skipped, observer)?;
            test_samples_in_data = told_in_both(&train, &set, &samples, observer);
            test = Some((set, samples));
        }
        Ok(Self { train, test, test_samples_in_data, split, retained, outputs, preprocessing, findings, skipped })
    }

    /// Decides what becomes of the model's head.
    ///
    /// # Errors
    /// The setting `head = keep` where the outputs are other classes.
    pub fn settle_head(
        &self,
        recipe: &mut Recipe,
        loss: &Loss,
        trial: &Trial<'_>,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        let is_one_each = !self.train.labels().of_positions();
        if recipe.from.is_none() && is_one_each && recipe.samples.guesses_pixels(trial.base) {
            pixels::warn_of_better(&self.train, &self.split.train, &self.preprocessing, trial, observer);
        }
        let (samples, reads) = ((&self.train, &self.split.train[..]), (loss, &self.preprocessing));
        self.outputs.settle(recipe, samples, reads, trial, observer)
    }

    /// With few samples a share of them would tell too little of the rest: all are learned from, and each is left out in turn
    /// to choose and to measure by. A share that was asked for is kept.
    pub fn learn_from_all_of_few(&mut self, recipe: &Recipe, observer: &dyn Observer) {
        let held_out = self.split.validation.len();
        // One sample left out of its group would be measured by what its own group has taught.
        // Held-out normal samples tell the threshold, which nothing that was learned could.
        let has_threshold = matches!(self.train.labels(), Labels::Anomalies(_));
        let chosen = recipe.val_fraction.is_some() || recipe.val.is_some() || has_threshold;
        if self.train.groups().is_some() || chosen || held_out == 0 || held_out >= VALIDATION_MIN {
            return;
        }
        let Split { train, validation } = &mut self.split;
        train.append(validation);
        train.sort_unstable();
        observer.note(&format!(
            "few       a fifth of the data is {}, too few to validate by: all {} learn, and the accuracy is \
             that of samples left out in turn",
            counted(held_out, "sample"),
            train.len()
        ));
    }

    /// Says where gradient steps have too few validation samples to choose an epoch by.
    pub fn tell_of_few(&self, observer: &dyn Observer) {
        let held_out = self.split.validation.len();
        if (1..VALIDATION_MIN).contains(&held_out) {
            observer.note(&format!(
                "few       {held_out} validation samples are too few to choose an epoch by: what is kept is the last one's; \
                 give more with setting `val-fraction` or setting `val`"
            ));
        }
    }

    /// Which samples are learned from, those of the retention set included, and which validate.
    pub(super) fn learning(&self) -> Split {
        let Split { mut train, mut validation } = self.split.clone();
        let Some(retained) = &self.retained else { return Split { train, validation } };
        let validates = !validation.is_empty();
        for (place, sample) in retained.replayed.iter().enumerate() {
            match validates && place % FIFTH == FIFTH - 1 {
                true => validation.push(*sample),
                false => train.extend(std::iter::repeat_n(*sample, retained.times)),
            }
        }
        Split { train, validation }
    }

    /// The labels of what is learned and validated.
    pub fn labels(&self) -> &Labels {
        self.train.labels()
    }
}

/// As many samples of each class as the recipe takes at most.
fn limited(recipe: &Recipe, labels: &Labels, samples: Vec<usize>) -> Result<Vec<usize>, Error> {
    match recipe.per_class {
        Some(count) => Ok(data::per_class(labels, &samples, count, recipe.seed.unwrap_or(0))?),
        None => Ok(samples),
    }
}

/// The test data, whose classes are those of what trains, and which samples of them are used.
fn tested(
    path: &Path,
    (recipe, train, out): (&Recipe, &Dataset, Option<&Path>),
    options: data::Options,
    skipped: &mut ReadingReport,
    observer: &dyn Observer,
) -> Result<(Arc<Dataset>, Vec<usize>), Error> {
    let classes = (!train.labels().names().is_empty()).then(|| train.labels().names().to_vec());
    let options = data::Options { classes, ..options };
    let test = Arc::new(samples::open_beside(path, &options, out, skipped, observer)?);
    let samples = limited(recipe, test.labels(), (0..test.len()).collect())?;
    Ok((test, samples))
}

/// One of so many that are learned again chooses the penalty or the epoch, as of the new ones.
const FIFTH: usize = 5;

/// Scales windows of series by those that train, where that is wanted. Gives whether there were any.
///
/// # Errors
/// A word for the scale that is none.
pub fn scale(
    train: &mut Dataset,
    preprocessing: &mut Preprocessing,
    (settings, samples): (&Samples, &[usize]),
    observer: &dyn Observer,
) -> Result<bool, Error> {
    let Preprocessing::Series(series) = preprocessing else { return Ok(false) };
    if series.scaler.is_some() {
        return Ok(false);
    }
    let Some(scaler) = train.scaler(samples).filter(|_| settings.standardises().is_ok_and(|yes| yes)) else {
        observer.note("scaled    by nothing: the values are fed as they are");
        return Ok(false);
    };
    let shown = |values: &[f32]| {
        let more = if values.len() > SHOWN { ", …" } else { "" };
        let values: Vec<String> = values.iter().take(SHOWN).map(|value| format!("{value:.4}")).collect();
        format!("{}{more}", values.join(", "))
    };
    let (mean, std) = (shown(&scaler.mean), shown(&scaler.std));
    observer.note(&format!("scaled    by {}: mean {mean}; deviation {std}", counted(samples.len(), "training window")));
    train.scale(&scaler);
    series.scaler = Some(scaler);
    Ok(true)
}

/// Channels whose scales are shown.
const SHOWN: usize = 9;

/// What trains, with what somebody has kept to validate by behind it.
fn validated_by(
    path: &Path,
    train: Dataset,
    (options, out): (&data::Options, Option<&Path>),
    skipped: &mut ReadingReport,
    observer: &dyn Observer,
) -> Result<Dataset, Error> {
    let names = train.labels().names();
    let classes = if names.is_empty() { options.classes.clone() } else { Some(names.to_vec()) };
    let val = samples::open_beside(path, &data::Options { classes, ..options.clone() }, out, skipped, observer)?;
    let all: Vec<usize> = (0..val.len()).collect();
    let both = data::count_of_same(train.keys(), val.keys(), &all);
    if both > 0 {
        observer.warn(&format!(
            "{both} of the {} samples of setting `val` are in setting `data`, too: they have been learned, so they do not tell how new ones will \
             fare; leave them out of one of both",
            all.len()
        ));
    }
    Ok(train.followed_by(val)?)
}

/// Test samples that are also in the data that are learned from, by their content; with a warning, for they tell nothing new.
fn told_in_both(train: &Dataset, test: &Dataset, samples: &[usize], observer: &dyn Observer) -> usize {
    let both = data::count_of_same(train.keys(), test.keys(), samples);
    if both > 0 {
        let all = samples.len();
        observer.warn(&format!(
            "{both} of the {all} test samples are in setting `data`, too: they have been learned, so they do not tell how new ones will fare; \
             leave them out of one of both"
        ));
    }
    both
}

/// Parts the samples, by their groups where there are some; warns where there should be some.
fn split(
    dataset: &Dataset,
    (fraction, seed): (f64, u64),
    report: &ReadingReport,
    observer: &dyn Observer,
) -> Result<Split, Error> {
    let (labels, keys) = (dataset.labels(), dataset.keys());
    let Some(groups) = dataset.groups() else {
        if let (Some((option, seen)), true) = (&report.perhaps_groups, fraction > 0.0) {
            observer.warn(&format!(
                "names suggest samples that belong together ({seen}), such as of one recording or one person. Where some of them \
                 train and others validate, the accuracy shown is better than on new ones: add setting `samples.group = {option}` to keep them \
                 together, or setting `samples.group` none if they are independent"
            ));
        }
        return Ok(data::split(labels, keys, fraction, seed)?);
    };
    let split = data::split_groups(labels, keys, groups, fraction, seed)?;
    let [train, validation] = [&split.train, &split.validation].map(|samples| groups.count_of(samples));
    observer.note(&format!("groups    {} by {}: {train} train, {validation} validate", groups.count(), groups.source));
    if fraction > 0.0 {
        for (class, group) in groups.classes_of_one_group(labels) {
            observer.warn(&format!(
                "class `{class}` is in group `{group}` alone: it trains and is not validated; add data of another group"
            ));
        }
    }
    Ok(split)
}
