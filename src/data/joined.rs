//! Two data sets behind each other, as one: what trains, and what somebody has kept to validate by.

use super::labels::{IGNORED, Labels};
use super::members::Member;
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

    /// The tokens of each text, padding included; `None` where samples are no texts.
    fn text_width(&self) -> Option<usize> {
        match &self.samples {
            Samples::Tokens(tokens) => Some(tokens.width),
            Samples::Joined { both, .. } => both.iter().filter_map(Self::text_width).max(),
            _ => None,
        }
    }

    /// Pads texts to so many tokens.
    fn widen(&mut self, width: usize) {
        match &mut self.samples {
            Samples::Tokens(tokens) => {
                tokens.width = width;
                self.keys = tokens.keys();
            }
            Samples::Joined { both, .. } => {
                both.iter_mut().for_each(|set| set.widen(width));
                self.keys = [&both[0].keys[..], &both[1].keys].concat();
            }
            _ => {}
        }
    }

    /// These samples with those of another data set behind them, which has the same classes. Groups are forgotten.
    ///
    /// # Errors
    /// Labels of another kind, or another count of numbers to predict.
    pub fn followed_by(mut self, mut other: Self) -> Result<Self, Error> {
        // All texts have the length of the longest, which their keys tell.
        if let (Some(width), Some(others)) = (self.text_width(), other.text_width()) {
            [&mut self, &mut other].into_iter().for_each(|set| set.widen(width.max(others)));
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
        (Labels::Identities { names, members, scored }, Labels::Identities { members: others, scored: other, .. })
            if scored == other =>
        {
            // Those that validate are compared among themselves: their numbers need only be others.
            let beyond = |of: fn(&Member) -> u32| members.iter().map(of).max().map_or(0, |most| most + 1);
            let (identity, group) = (beyond(|member| member.identity), beyond(|member| member.group));
            let moved = |member: &Member| Member {
                identity: member.identity + identity,
                group: member.group + group,
                ..*member
            };
            let members = members.iter().copied().chain(others.iter().map(moved)).collect();
            Ok(Labels::Identities { names: names.clone(), members, scored: *scored })
        }
        (Labels::Anomalies(one), Labels::Anomalies(other)) => Ok(Labels::Anomalies([&one[..], other].concat())),
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
        (Labels::Lines { names, lines }, Labels::Lines { lines: others, .. }) => {
            let lines = lines.followed_by(others).ok_or(OTHER)?;
            Ok(Labels::Lines { names: names.clone(), lines })
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
