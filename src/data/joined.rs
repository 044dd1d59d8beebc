//! Two data sets behind each other, as one: what trains, and what somebody has kept to validate by.

use super::labels::{IGNORED, Labels};
use super::names::{Names, Paths};
use super::{Dataset, Error, Samples, Scaler};
use ndarray::{Array2, Axis, concatenate, s};

impl Dataset {
    /// What brings some windows of series, each channel by itself, to mean 0 and deviation 1; `None` where samples are no windows.
    pub fn scaler(&self, samples: &[usize]) -> Option<Scaler> {
        match &self.samples {
            Samples::Windows { windows, .. } => Some(windows.scaler(samples)),
            Samples::Joined { first, both } => {
                let samples: Vec<usize> = samples.iter().copied().filter(|sample| sample < first).collect();
                both[0].scaler(&samples)
            }
            _ => None,
        }
    }

    /// Scales windows from now on.
    pub fn scale(&mut self, scaler: &Scaler) {
        match &mut self.samples {
            Samples::Windows { windows, .. } => windows.preprocessing.scaler = Some(scaler.clone()),
            Samples::Joined { both, .. } => both.iter_mut().for_each(|set| set.scale(scaler)),
            _ => {}
        }
    }

    /// These samples with those of another data set behind them, which has the same classes. Groups are forgotten.
    ///
    /// # Errors
    /// Labels of another kind, or another count of numbers to predict.
    pub fn followed_by(mut self, mut other: Self) -> Result<Self, Error> {
        // All texts have the length of the longest, which their keys tell.
        if let (Samples::Tokens(tokens), Samples::Tokens(others)) = (&mut self.samples, &mut other.samples) {
            tokens.width = tokens.width.max(others.width);
            others.width = tokens.width;
            (self.keys, other.keys) = (tokens.keys(), others.keys());
        }
        let labels = joined(&self.labels, &other.labels).map_err(|problem| Error::content(other.name(0), problem))?;
        let keys = [std::mem::take(&mut self.keys), other.keys.clone()].concat();
        let names = Names::Files(Paths::default());
        let first = labels.len() - other.labels.len();
        let samples = Samples::Joined { first, both: Box::new([Self { keys: keys[..first].to_vec(), ..self }, other]) };
        Ok(Self { samples, labels, keys, names, groups: None })
    }
}

fn joined(one: &Labels, other: &Labels) -> Result<Labels, String> {
    const OTHER: &str = "labels of another kind than those of setting `data`; give data of the same form";
    let rows = |one: &Array2<f32>, other: &Array2<f32>| {
        let (expected, found) = (one.ncols(), other.ncols());
        concatenate(Axis(0), &[one.view(), other.view()]).map_err(|_| {
            format!("{found} numbers a sample, where setting `data` has {expected}; give the same columns")
        })
    };
    match (one, other) {
        (Labels::Classes { names, index }, Labels::Classes { index: others, .. }) => {
            Ok(Labels::Classes { names: names.clone(), index: [&index[..], others].concat() })
        }
        (Labels::Ordinal { names, index }, Labels::Ordinal { index: others, .. }) => {
            Ok(Labels::Ordinal { names: names.clone(), index: [&index[..], others].concat() })
        }
        (Labels::Boxes { names, pictures, grid }, Labels::Boxes { pictures: others, .. }) => {
            let pictures = [&pictures[..], others].concat();
            Ok(Labels::Boxes { names: names.clone(), pictures, grid: grid.clone() })
        }
        (Labels::MultiLabel { names, rows: one }, Labels::MultiLabel { rows: other, .. }) => {
            Ok(Labels::MultiLabel { names: names.clone(), rows: rows(one, other)? })
        }
        (Labels::Values(one), Labels::Values(other)) => Ok(Labels::Values(rows(one, other)?)),
        (Labels::OfLoss(one), Labels::OfLoss(other)) => Ok(Labels::OfLoss(rows(one, other)?)),
        (Labels::NextTokens(one), Labels::NextTokens(other)) => Ok(Labels::NextTokens(padded(one, other))),
        (Labels::Tokens { names, rows: one }, Labels::Tokens { rows: other, .. }) => {
            Ok(Labels::Tokens { names: names.clone(), rows: padded(one, other) })
        }
        (Labels::Pixels { names, masks }, Labels::Pixels { masks: others, .. }) => {
            let masks = masks.followed_by(others).ok_or("masks of another size than those of setting `data`")?;
            Ok(Labels::Pixels { names: names.clone(), masks })
        }
        _ => Err(OTHER.into()),
    }
}

/// Rows behind each other, the shorter ones filled up with what does not count.
fn padded(one: &Array2<i64>, other: &Array2<i64>) -> Array2<i64> {
    let width = one.ncols().max(other.ncols());
    let mut all = Array2::from_elem((one.nrows() + other.nrows(), width), IGNORED);
    all.slice_mut(s![..one.nrows(), ..one.ncols()]).assign(one);
    all.slice_mut(s![one.nrows().., ..other.ncols()]).assign(other);
    all
}
