//! None of these: how far a sample is from everything that was learned, as a share of the learned samples that are as far.
//!
//! The distance is Mahalanobis's to the nearest class, less that to all samples (Ren et al., arXiv 2106.09022): what is unusual in
//! every way counts less than what is unusual for each of the classes. Both come from the sums alone; what a learned sample's
//! distance would be had it not been learned from, too.

use super::basis::Basis;
use super::error::{Error, Field, ensure};
use super::head::{class_means, total_scatter, within_classes};
use super::owned::Moments;
use super::small::factor;
use crate::delta::Task;
use ndarray::Array2;

/// Distances to what some moments were summed up of.
#[derive(Debug, Clone)]
pub struct Known {
    within: Scatter,
    total: Scatter,
    /// By class: its samples, and its mean where distances within classes are lengths.
    classes: Vec<(f64, Vec<f64>)>,
    samples: f64,
    /// The mean of all where distances among all are lengths.
    mean: Vec<f64>,
    steps: Vec<f64>,
}

/// A scatter whose inverse measures: A + λ = L·D·Lᵀ.
#[derive(Debug, Clone)]
struct Scatter(Vec<f64>);

impl Scatter {
    fn new(scatter: &Array2<f64>, l2: f64) -> Result<Self, Error> {
        let m = scatter.nrows();
        let mut packed: Vec<f64> = (0..m).flat_map(|i| (0..=i).map(move |j| scatter[(i, j)])).collect();
        (0..m).for_each(|i| packed[i * (i + 1) / 2 + i] += l2);
        ensure(factor(&mut packed, m), Error::Penalty)?;
        Ok(Self(packed))
    }

    /// D^−½·L⁻¹·x: the length of what comes out is √(xᵀ(A + λ)⁻¹x).
    fn straighten(&self, mut x: Vec<f64>) -> Vec<f64> {
        let row = |i: usize| &self.0[i * (i + 1) / 2..][..=i];
        for i in 0..x.len() {
            let known: f64 = row(i)[..i].iter().zip(&x).map(|(l, x)| l * x).sum();
            x[i] -= known;
        }
        x.iter_mut().enumerate().for_each(|(i, x)| *x /= row(i)[i].sqrt());
        x
    }
}

fn less(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Known {
    /// Of moments of classes. `l2`: the penalty of their head, which keeps what few samples say of a direction from counting too much.
    ///
    /// # Errors
    /// Another basis, moments of anything but classes, no sample.
    pub fn new(moments: &Moments, basis: &Basis, l2: f64) -> Result<Self, Error> {
        let (about, sums) = (moments.about(), moments.sums());
        ensure(about.basis == basis.hash(), Error::OtherBasis)?;
        ensure(about.task == Task::Classification, Error::Wrong(Field::Task))?;
        ensure(sums.samples() > 0, Error::Wrong(Field::Samples))?;
        ensure(l2 > 0.0 && l2.is_finite(), Error::Penalty)?;
        let within = Scatter::new(&within_classes(moments, basis), l2)?;
        let total = Scatter::new(&total_scatter(moments, basis), l2)?;
        let steps: Vec<f64> = basis.steps().iter().map(|step| f64::from(*step)).collect();
        let samples = sums.samples() as f64;
        let means = class_means(moments, basis);
        let of_class = |class: usize| (sums.count(class) as f64, within.straighten(means.row(class).to_vec()));
        let classes = (0..sums.shape().targets).filter(|class| sums.count(*class) > 0).map(of_class).collect();
        let mean = steps.iter().enumerate().map(|(i, step)| step * sums.sum(i) as f64 / samples).collect();
        let mean = total.straighten(mean);
        Ok(Self { within, total, classes, samples, mean, steps })
    }

    fn unrounded(&self, coordinates: &[i16]) -> Vec<f64> {
        coordinates.iter().zip(&self.steps).map(|(z, step)| f64::from(*z) * step).collect()
    }

    /// How far a sample of these coordinates is from all classes; more is farther.
    pub fn distance(&self, coordinates: &[i16]) -> f64 {
        let x = self.unrounded(coordinates);
        let (near, far) = (self.within.straighten(x.clone()), self.total.straighten(x));
        let of_class = |(_, mean): &(f64, Vec<f64>)| {
            let away = less(&near, mean);
            dot(&away, &away)
        };
        let away = less(&far, &self.mean);
        self.classes.iter().map(of_class).fold(f64::INFINITY, f64::min) - dot(&away, &away)
    }

    /// The same for a sample that was learned from, as the `class`-th of the classes that have samples, had it not been. Both scatters
    /// lose it by a term of rank one (Sherman and Morrison 1950). `None` for the only sample of its class.
    pub fn distance_left_out(&self, coordinates: &[i16], class: usize) -> Option<f64> {
        let x = self.unrounded(coordinates);
        let (near, far) = (self.within.straighten(x.clone()), self.total.straighten(x));
        let (count, own) = self.classes.get(class).filter(|(count, _)| *count > 1.0)?;
        let own = less(&near, own);
        let (share, length) = (count / (count - 1.0), dot(&own, &own));
        let free = (1.0 - share * length).max(f64::EPSILON);
        let of_class = |(place, (_, mean)): (usize, &(f64, Vec<f64>))| {
            if place == class {
                return share * share * length / free;
            }
            let away = less(&near, mean);
            dot(&away, &away) + share * dot(&away, &own).powi(2) / free
        };
        let away = less(&far, &self.mean);
        let (share, length) = (self.samples / (self.samples - 1.0), dot(&away, &away));
        let among_all = share * share * length / (1.0 - share * length).max(f64::EPSILON);
        Some(self.classes.iter().enumerate().map(of_class).fold(f64::INFINITY, f64::min) - among_all)
    }
}

/// Distances of learned samples, each left out, that others are compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration(Vec<f64>);

impl Calibration {
    /// Of distances in any order.
    pub fn new(mut distances: Vec<f64>) -> Self {
        distances.sort_by(f64::total_cmp);
        Self(distances)
    }

    /// Samples that are compared with.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none: then everything is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The share of the learned samples that are as far or farther, the asked one among them: a sample like these gets less than p in
    /// the share p of all cases (Vovk, Gammerman and Shafer 2005, *Algorithmic Learning in a Random World*).
    pub fn known(&self, distance: f64) -> f64 {
        let nearer = self.0.partition_point(|known| *known < distance);
        (self.0.len() - nearer + 1) as f64 / (self.0.len() + 1) as f64
    }
}
