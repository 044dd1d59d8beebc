//! Moments of samples: their features, as the fresh head of a bundle reads them, summed up.

use super::layer::refuse;
use super::targets::Targets;
use super::temperature;
use super::{Around, Below, CHUNK, Linear, Rows, Solution, Work};
use crate::data::Labels;
use crate::delta::{KeptPreprocessing, Task};
use crate::engine;
use crate::moments::{self, About, Basis, Directions, Head, LeftOut, Moments, Source, Target, quantise, value_max};
use crate::ridge::Layer;
use crate::task;
use crate::train::error::Error;
use crate::train::evaluate::{Metrics, Tally};
use crate::train::features::Features;
use crate::train::loss::Loss;
use crate::train::prepare::{Base, Bundle};
use ndarray::{Array2, ArrayView2};

/// Samples of a data set, and the head that their features are for.
pub struct Set<'a> {
    /// Body and tail; nothing learns but a fresh head.
    pub bundle: &'a Bundle,
    /// The samples' features.
    pub features: &'a mut Features,
    /// Their labels.
    pub labels: &'a Labels,
    /// Which of them are meant.
    pub samples: &'a [usize],
    /// How ONNX Runtime computes.
    pub options: &'a engine::Options,
}

/// What moments of a bundle's features say of themselves: in the coordinates of a basis, of samples that nothing was done to, with
/// targets in steps of 1.
pub fn about(bundle: &Bundle, basis: &Basis, labels: &Labels) -> About {
    About {
        base: bundle.base_hash,
        basis: basis.hash(),
        directions: basis.kind(),
        output: bundle.output.clone(),
        appended: bundle.head.is_some(),
        features: basis.features() as u32,
        coordinates: basis.coordinates() as u32,
        bits: basis.bits(),
        task: task::of_labels(labels).map_or(Task::Classification, |task| task.wire),
        target_step: 1.0,
        preprocessing: KeptPreprocessing::default(),
    }
}

/// The weight of the base's own classifier, from which a basis can follow.
///
/// # Errors
/// An output that the base does not have.
pub fn classifier(base: &Base, output: Option<&str>) -> Result<Option<Array2<f32>>, Error> {
    let found = crate::adapter::classifier_weight(&base.graph, output)?;
    Ok(found.and_then(|(values, [outputs, features])| Array2::from_shape_vec((outputs, features), values).ok()))
}

/// What a basis follows from.
///
/// # Errors
/// A bundle whose fresh head is not one linear layer with a bias.
pub fn source<'a>(bundle: &'a Bundle, classifier: Option<&'a Array2<f32>>) -> Result<Source<'a>, Error> {
    let features = fresh_head(bundle)?.inputs;
    let classifier = classifier.map(|weight| weight.view()).filter(|weight| weight.ncols() == features);
    Ok(Source { base: &bundle.base_hash, features, classifier })
}

fn fresh_head(bundle: &Bundle) -> Result<Linear, Error> {
    let linear = Linear::fresh_head(bundle)?;
    if linear.has_bias() {
        return Ok(linear);
    }
    Err(refuse(
        "the layer has no bias, which the head of moments needs; setting `head = append` adds a layer that has one"
            .into(),
    ))
}

/// Adds samples to moments; `false` if it was stopped, and then some may be in.
///
/// # Errors
/// Features that cannot be read, labels that the moments do not have.
pub fn add(set: &mut Set<'_>, basis: &Basis, moments: &mut Moments, around: &mut Around<'_>) -> Result<bool, Error> {
    each(set, around, &mut |labels, samples, rows| add_rows(moments, basis, labels, (samples, rows)))
}

fn add_rows(
    moments: &mut Moments,
    basis: &Basis,
    labels: &Labels,
    (samples, rows): (&[usize], ArrayView2<'_, f32>),
) -> Result<(), Error> {
    let places = places(labels, moments)?;
    let (coordinates, clipped) = coordinates(basis, rows)?;
    let rows = targets(labels, samples, moments.about())?;
    let width = moments.sums().shape().targets;
    let of_each = samples.iter().zip(clipped).enumerate().map(|(place, (sample, clipped))| {
        let target = match labels {
            Labels::Classes { index, .. } => Target::Class(places[index[*sample] as usize]),
            _ => Target::Row(&rows[place * width..][..width]),
        };
        (clipped, target)
    });
    Ok(moments.add_all(&coordinates, &of_each.collect::<Vec<_>>())?)
}

/// Tells for each sample what the head would give it had it not been learned from, with its number; `false` if it was stopped.
///
/// # Errors
/// As [`add`].
pub fn leave_one_out(
    set: &mut Set<'_>,
    (basis, moments, head): (&Basis, &Moments, &Head),
    around: &mut Around<'_>,
    told: &mut dyn FnMut(usize, &[f64]),
) -> Result<bool, Error> {
    let left_out = LeftOut::new(moments, basis, head)?;
    each(set, around, &mut |labels, samples, rows| {
        outputs_of_rows(&left_out, (moments, basis), labels, (samples, rows), told)
    })
}

fn outputs_of_rows(
    left_out: &LeftOut<'_>,
    (moments, basis): (&Moments, &Basis),
    labels: &Labels,
    (samples, rows): (&[usize], ArrayView2<'_, f32>),
    told: &mut dyn FnMut(usize, &[f64]),
) -> Result<(), Error> {
    let places = places(labels, moments)?;
    let (about, width) = (moments.about(), moments.sums().shape().targets);
    let (coordinates, _) = coordinates(basis, rows)?;
    let rows = targets(labels, samples, about)?;
    for ((place, sample), z) in samples.iter().enumerate().zip(coordinates.chunks_exact(basis.coordinates())) {
        let mut target = vec![0.0; width];
        match labels {
            Labels::Classes { index, .. } => target[places[index[*sample] as usize]] = 1.0,
            _ => {
                let row = &rows[place * width..][..width];
                let step = f64::from(about.target_step);
                target.iter_mut().zip(row).for_each(|(to, y)| *to = f64::from(*y) * step);
            }
        }
        told(*sample, &left_out.output(z, &target));
    }
    Ok(())
}

/// What each sample shows that is in the moments, had it not been learned from; and the factor by which logits become probabilities of
/// such samples. `None` if it was stopped.
///
/// # Errors
/// As [`add`].
pub fn measured(
    set: &mut Set<'_>,
    solved: (&Basis, &Moments, &Head),
    loss: &Loss,
    around: &mut Around<'_>,
) -> Result<Option<(Metrics, f64)>, Error> {
    let labels = named_alike(set.labels, solved.1)?;
    let (mut logits, width) = (Vec::new(), solved.1.sums().shape().targets);
    let told = &mut |_: usize, outputs: &[f64]| logits.extend(outputs);
    if !leave_one_out(set, solved, around, told)? {
        return Ok(None);
    }
    let mut logits = Array2::from_shape_vec((set.samples.len(), width), logits).expect("a row a sample");
    let mut factor = 1.0;
    if solved.1.about().task != Task::Regression {
        factor = temperature::fit(&logits, set.samples, &Targets::new(&labels, width));
        logits *= factor;
    }
    let mut tally = Tally::new(&labels, loss);
    tally.add(&logits.iter().map(|logit| *logit as f32).collect::<Vec<_>>(), set.samples);
    Ok(Some((tally.metrics(), factor)))
}

/// Labels of the data with the classes of moments, in their order.
fn named_alike(labels: &Labels, moments: &Moments) -> Result<Labels, Error> {
    let places = places(labels, moments)?;
    Ok(match labels {
        Labels::Classes { index, .. } => {
            let index = index.iter().map(|class| places[*class as usize] as u32).collect();
            Labels::Classes { names: moments.labels().to_vec(), index }
        }
        labels => labels.clone(),
    })
}

/// What is told of a sample: its number and its coordinates.
pub type Told<'t> = dyn FnMut(usize, &[i16]) + 't;

/// Tells the coordinates of each sample; `false` if it was stopped.
///
/// # Errors
/// As [`add`].
pub fn tell_coordinates(
    set: &mut Set<'_>,
    basis: &Basis,
    around: &mut Around<'_>,
    told: &mut Told<'_>,
) -> Result<bool, Error> {
    each(set, around, &mut |_, samples, rows| {
        let (coordinates, _) = coordinates(basis, rows)?;
        samples.iter().zip(coordinates.chunks_exact(basis.coordinates())).for_each(|(sample, z)| told(*sample, z));
        Ok(())
    })
}

/// All features of a set as the head reads them; `None` if it was stopped.
///
/// # Errors
/// As [`add`].
pub fn features(set: &mut Set<'_>, around: &mut Around<'_>) -> Result<Option<Array2<f32>>, Error> {
    let mut all = Vec::new();
    let done = each(set, around, &mut |_, _, rows| {
        all.extend(rows.iter());
        Ok(())
    })?;
    let inputs = fresh_head(set.bundle)?.inputs;
    Ok(done.then(|| Array2::from_shape_vec((all.len() / inputs, inputs), all).expect("rows of the layer's width")))
}

/// The values of the bundle's parameters for a head.
///
/// # Errors
/// A bundle whose fresh head is another one, values beyond fp16.
pub fn parameters(bundle: &Bundle, head: &Head) -> Result<Vec<Vec<f32>>, Error> {
    let linear = fresh_head(bundle)?;
    if head.layer.weights.dim() != (linear.outputs, linear.inputs) {
        let (outputs, inputs) = head.layer.weights.dim();
        return Err(refuse(format!("the moments are of {inputs} features and {outputs} targets, the layer is not")));
    }
    let parameters = linear.place(&head.layer);
    super::layer::refuse_too_large(&parameters)?;
    Ok(parameters)
}

/// What is done with a chunk of samples: labels, numbers, rows of features.
type Each<'e> = dyn FnMut(&Labels, &[usize], ArrayView2<'_, f32>) -> Result<(), Error> + 'e;

fn each(set: &mut Set<'_>, around: &mut Around<'_>, each: &mut Each<'_>) -> Result<bool, Error> {
    let linear = fresh_head(set.bundle)?;
    let below =
        if linear.reads_the_feature(set.bundle) { None } else { Some(Below::new(set.bundle, &linear, set.options)?) };
    let mut rows = Rows { features: &mut *set.features, linear: &linear, below, stop: around.stop };
    for (place, chunk) in set.samples.chunks(CHUNK).enumerate() {
        if !rows.features.ready(chunk, around.stop)? {
            return Ok(false);
        }
        let Some(read) = rows.fetch(chunk)? else { return Ok(false) };
        each(set.labels, chunk, read.view())?;
        (around.tell)(place * CHUNK + chunk.len());
    }
    Ok(true)
}

/// Coordinates of rows of features, one behind the other, and how many of each row's were clipped.
fn coordinates(basis: &Basis, rows: ArrayView2<'_, f32>) -> Result<(Vec<i16>, Vec<u32>), Error> {
    let (projection, width) = (basis.projection(), basis.coordinates());
    let (mut all, mut work) = (vec![0; rows.nrows() * width], vec![0.0; width]);
    let mut clipped = Vec::with_capacity(rows.nrows());
    for (row, z) in rows.rows().into_iter().zip(all.chunks_exact_mut(width)) {
        let row = row.to_slice().expect("rows are contiguous");
        clipped.push(projection.apply(row, &mut work, z).map_err(Error::Moments)?);
    }
    Ok((all, clipped))
}

/// Where the data's classes are among the targets of moments.
fn places(labels: &Labels, moments: &Moments) -> Result<Vec<usize>, Error> {
    let place = |name: &String| moments.labels().iter().position(|known| known == name);
    let places: Option<Vec<usize>> = match labels {
        Labels::Classes { names, .. } => names.iter().map(place).collect(),
        _ => Some(Vec::new()),
    };
    places.ok_or(Error::Moments(moments::Error::Target))
}

/// Targets that are rows, as whole numbers of steps; empty for classes.
fn targets(labels: &Labels, samples: &[usize], about: &About) -> Result<Vec<i16>, Error> {
    let rows = match labels {
        Labels::MultiLabel { rows, .. } | Labels::Values(rows) => rows,
        _ => return Ok(Vec::new()),
    };
    let mut all = Vec::with_capacity(samples.len() * rows.ncols());
    for sample in samples {
        for y in rows.row(*sample) {
            let (steps, clipped) = quantise(*y, about.target_step, value_max(16));
            if clipped || !y.is_finite() {
                let problem = format!(
                    "the number {y} of sample {sample} (counted from 0) is beyond the {} that a target can be; give a larger one by setting `target-step`",
                    about.target_step * f32::from(i16::MAX)
                );
                return Err(Error::Setting { setting: "target-step", problem });
            }
            all.push(steps);
        }
    }
    Ok(all)
}

/// Coordinates of a solution that nothing else is to be merged with: the features themselves up to so many, else as many directions.
const COORDINATES: usize = 2048;

impl Work<'_> {
    /// One pass over the samples: their moments, in coordinates whose centre and steps the first of them teach; the head; and what each
    /// sample shows when it is left out.
    pub(super) fn moments(&mut self) -> Result<Option<Solution>, Error> {
        if !self.rows.linear.has_bias() {
            return Err(refuse(
                "the layer has no bias, which the head of moments needs; choose setting `solver = ridge`".into(),
            ));
        }
        let (train, validation) = (self.split.train.clone(), self.split.validation.clone());
        let Some(basis) = self.basis(&train)? else { return Ok(None) };
        let mut moments = Moments::new(self.about(&basis), self.targets.width, self.labels.names())?;
        let Some((layer, metrics, l2)) = self.sum_up(&mut moments, &basis, (&train, &train))? else { return Ok(None) };
        let few = validation.len() < super::VALIDATION_MIN;
        let left_out = few.then(|| (train.len(), metrics.clone()));
        let mut found = Solution { l2: Some(l2), left_out, leave_one_out: Some(metrics), ..Solution::layer(layer) };
        if let Some(everyone) = self.everyone() {
            let added = self.sum_up(&mut moments, &basis, (&validation, &everyone))?;
            let Some((layer, metrics, l2)) = added else { return Ok(None) };
            found.validated = Some(std::mem::replace(&mut found.layer, layer));
            (found.l2, found.leave_one_out) = (Some(l2), Some(metrics));
        }
        Ok(Some(found))
    }

    fn basis(&mut self, train: &[usize]) -> Result<Option<Basis>, Error> {
        let features = self.rows.linear.inputs;
        let source = Source { base: &self.initial.base_hash, features, classifier: None };
        let (directions, count) = match features {
            few if few <= COORDINATES => (Directions::Identity, few),
            _ => (Directions::Orthogonal { seed: 0 }, COORDINATES),
        };
        let basis = Basis::build(source, directions, count, 16)?;
        let Some(rows) = self.rows.fetch(&train[..train.len().min(CHUNK)])? else { return Ok(None) };
        Ok(Some(if rows.nrows() > 1 { basis.learned(rows.view())? } else { basis }))
    }

    fn about(&self, basis: &Basis) -> About {
        let largest = match self.labels {
            Labels::Values(rows) => rows.iter().fold(0.0f32, |largest, y| largest.max(y.abs())),
            _ => 0.0,
        };
        // The finest step with which all of these numbers are in range.
        let target_step = if largest > 0.0 { (largest / 16384.0).log2().ceil().exp2() } else { 1.0 };
        About { target_step, ..about(self.initial, basis, self.labels) }
    }

    /// Adds samples to those that make up all of them now; gives the head, what all show when each is left out, and λ.
    fn sum_up(
        &mut self,
        moments: &mut Moments,
        basis: &Basis,
        (new, samples): (&[usize], &[usize]),
    ) -> Result<Option<(Layer, Metrics, f64)>, Error> {
        for chunk in new.chunks(CHUNK) {
            let Some(rows) = self.rows.fetch(chunk)? else { return Ok(None) };
            add_rows(moments, basis, self.labels, (chunk, rows.view()))?;
        }
        let head = moments::head(moments, basis, self.settings.l2)?;
        let (left_out, mut outputs) = (LeftOut::new(moments, basis, &head)?, Vec::new());
        for chunk in samples.chunks(CHUNK) {
            let Some(rows) = self.rows.fetch(chunk)? else { return Ok(None) };
            let told = &mut |_: usize, output: &[f64]| outputs.extend(output);
            outputs_of_rows(&left_out, (moments, basis), self.labels, (chunk, rows.view()), told)?;
        }
        let order = match self.labels {
            Labels::Classes { .. } => places(self.labels, moments)?,
            _ => (0..self.targets.width).collect(),
        };
        let outputs = Array2::from_shape_vec((samples.len(), self.targets.width), outputs).expect("a row a sample");
        let mut outputs = outputs.select(ndarray::Axis(1), &order);
        let mut head = head.in_order(&order);
        if self.targets.is_classes() {
            let factor = temperature::fit(&outputs, samples, &self.targets);
            outputs *= factor;
            head = head.scaled(factor);
        }
        let mut tally = Tally::new(self.labels, &self.settings.loss);
        super::add_outputs(&mut tally, &outputs, samples);
        Ok(Some((head.layer, tally.metrics(), head.l2)))
    }
}
