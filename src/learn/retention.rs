//! What the base knows already: learned again beside the new samples, measured before and after, and gone back for where too much of
//! it was lost.
//!
//! Without a set of such samples it is those that validate, else those that train, which the base answers rightly. Going back is along
//! the straight line from the learned values to those at the start.

use super::classes::own_width;
use super::prepare::Prepared;
use super::retained::{MEASURED_MAX, Retained};
use crate::amounts::{counted, number, percent};
use crate::data::{Labels, Split};
use crate::engine::Session;
use crate::recipe::{Error, refuse};
use crate::train::evaluate::{self, Metrics};
use crate::train::features::Features;
use crate::train::fit::{Outcome, Settings};
use crate::train::solve::{Solved, VALIDATION_MIN};
use crate::train::trial::spread;
use serde::Serialize;

/// Samples that measure the gain at each point on the way back.
const GAIN_MAX: usize = 256;
const TEXTS_GAIN_MAX: usize = 32;
/// Points on the way back.
const POINTS: u32 = 20;

/// What became of what the base knew.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Retention {
    /// What was measured.
    pub of: &'static str,
    pub before: Metrics,
    /// With the values as they were learned.
    pub learned: Metrics,
    /// With the values that ship.
    pub after: Metrics,
    /// How far from the start the values are that were taken: 1 is where learning ended.
    pub way: f64,
    /// The share of the gain that they keep, where the way back was tried.
    pub gain_kept: Option<f64>,
    /// For a language model: the mean divergence of its distributions from the base's, in nats a token.
    pub kl: Option<f64>,
}

/// What is watched until the values ship.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    samples: Vec<usize>,
    of: &'static str,
    before: Metrics,
    learned: Metrics,
    way: f64,
    gain_kept: Option<f64>,
}

/// A tail over features, with values that are tried.
pub(super) struct Tried<'t, 'p> {
    pub prepared: &'t Prepared<'p>,
    pub tail: Session,
    pub features: &'t mut Features,
}

impl Tried<'_, '_> {
    pub fn measure(&mut self, samples: &[usize], values: &[Vec<f32>]) -> Result<Metrics, Error> {
        let (opened, parameters) = (&self.prepared.opened, &self.prepared.bundle.parameters);
        let (labels, loss) = (opened.data.labels(), &opened.settings.loss);
        let fed = evaluate::shipped(parameters, values);
        Ok(evaluate::evaluate(&mut self.tail, self.features, samples, &fed, labels, loss)?)
    }
}

/// Values on the straight line from those at the start to those that were learned.
fn on_the_way(start: &[Vec<f32>], learned: &[Vec<f32>], way: f64) -> Vec<Vec<f32>> {
    let between = |(from, to): (&f32, &f32)| from + way as f32 * (to - from);
    let each = |(from, to): (&Vec<f32>, &Vec<f32>)| from.iter().zip(to).map(between).collect();
    start.iter().zip(learned).map(each).collect()
}

/// How much better something has become: by right answers where these are counted, else by the loss.
fn gained(start: &Metrics, now: &Metrics) -> f64 {
    match (start.accuracy, now.accuracy) {
        (Some(before), Some(now)) => now - before,
        _ => start.loss - now.loss,
    }
}

/// What a retention is compared by, the more the better: right answers, else the loss.
fn kept_by(metrics: &Metrics) -> f64 {
    metrics.accuracy.filter(|_| metrics.perplexity.is_none()).unwrap_or(-metrics.loss)
}

/// What is wrong where more is lost than a share: of right answers over all and in each class, beyond chance there; else by how much the
/// perplexity or the loss may grow.
fn beyond(before: &Metrics, now: &Metrics, share: f64) -> Option<String> {
    match (before.accuracy, now.accuracy, before.perplexity, now.perplexity) {
        (_, _, Some(before), Some(now)) if now > (1.0 + share) * before => {
            Some(format!("perplexity {} before, {} now", number(before), number(now)))
        }
        (_, _, Some(_), Some(_)) => None,
        (Some(before), Some(now), ..) if now < (1.0 - share) * before => {
            Some(format!("{} before, {} now", percent(before), percent(now)))
        }
        (Some(_), Some(_), ..) => before.per_class.iter().zip(&now.per_class).find_map(|(old, new)| {
            let (samples, least) = (old.samples as f64, (1.0 - share) * old.recall);
            let expected = (least * samples + 1.0) / (samples + 2.0);
            let error = (expected * (1.0 - expected) / samples.max(1.0)).sqrt();
            let lost = old.samples > 0 && new.recall < least - error;
            lost.then(|| format!("of `{}` {} before, {} now", old.name, percent(old.recall), percent(new.recall)))
        }),
        _ if now.loss > (1.0 + share) * before.loss.abs() => {
            Some(format!("loss {} before, {} now", number(before.loss), number(now.loss)))
        }
        _ => None,
    }
}

impl Prepared<'_> {
    /// The samples by which what the base knows is measured, and what they are; `None` where it has nothing to keep.
    fn to_keep(&self, tried: &mut Tried<'_, '_>) -> Result<Option<(Vec<usize>, &'static str)>, Error> {
        let data = &self.opened.data;
        let known = if self.opened.known.is_some() { "what was known before" } else { "the base's own classes" };
        if let Some(retained) = &data.retained {
            let of = if data.labels().names().is_empty() { "the retention set" } else { known };
            return Ok((!retained.measured.is_empty()).then(|| (retained.measured.clone(), of)));
        }
        let Labels::Classes { index, .. } = data.labels() else { return Ok(None) };
        if self.starts_from_nothing() {
            return Ok(None);
        }
        let Split { train, validation } = &data.split;
        let few = validation.len() < VALIDATION_MIN;
        let samples = spread(if few { train } else { validation }, MEASURED_MAX);
        let fed = evaluate::shipped(&self.bundle.parameters, &self.first_values());
        let rows = evaluate::outputs(&mut tried.tail, tried.features, &samples, &fed)?;
        let is_right = |(row, sample): &(&Vec<f32>, &usize)| evaluate::largest(row) == index[**sample] as usize;
        let right: Vec<usize> = rows.iter().zip(&samples).filter(is_right).map(|(_, sample)| *sample).collect();
        let of = if few { "training samples that were right" } else { "validation samples that were right" };
        Ok((right.len() >= VALIDATION_MIN).then_some((right, of)))
    }

    /// Measures what the base knows before and after, and goes back towards the start where that keeps more of it: as far as the recipe's
    /// share of the gain is kept, and on until no more is lost than it allows.
    ///
    /// # Errors
    /// What ONNX Runtime refuses; [`Error::Forgets`] where nothing on the way loses little enough.
    pub(super) fn rewind(
        &self,
        features: &mut Features,
        outcome: &mut Outcome,
        solved: &mut Option<Solved>,
    ) -> Result<Option<Watched>, Error> {
        let (opened, start) = (&self.opened, self.first_values());
        let wanted = &opened.recipe.retention;
        let tail = Session::from_file(&self.bundle.tail, &opened.options)?;
        let mut tried = Tried { prepared: self, tail, features };
        let Some((samples, of)) = self.to_keep(&mut tried)? else { return Ok(None) };
        let before = tried.measure(&samples, &start)?;
        let learned = tried.measure(&samples, &outcome.parameters)?;
        let mut watched = Watched { samples, of, before, learned: learned.clone(), way: 1.0, gain_kept: None };
        let allowed =
            |now: &Metrics| wanted.keep_base.is_none_or(|share| beyond(&watched.before, now, share).is_none());
        let goes_back = opened.data.retained.is_some() && wanted.rewind() < 1.0;
        if self.starts_from_nothing() || self.plan.is_some() || (!goes_back && allowed(&learned)) {
            return Ok(Some(watched));
        }
        let by = self.gain_samples();
        let values = solved.as_ref().and_then(|solved| solved.validated.as_ref()).unwrap_or(&outcome.parameters);
        let (at_start, at_end) = (tried.measure(&by, &start)?, tried.measure(&by, values)?);
        let whole = gained(&at_start, &at_end);
        let (mut best, mut best_way) = (None, None);
        for point in (1..=POINTS).rev() {
            let way = f64::from(point) / f64::from(POINTS);
            let share = gained(&at_start, &tried.measure(&by, &on_the_way(&start, values, way))?) / whole;
            let enough = whole.is_nan() || whole <= 0.0 || share >= wanted.rewind();
            if best_way.is_some() && !enough {
                break;
            }
            let now = tried.measure(&watched.samples, &on_the_way(&start, &outcome.parameters, way))?;
            let better = best.as_ref().is_none_or(|best| kept_by(&now) > *best);
            if allowed(&now) && better && (goes_back || best_way.is_none()) {
                (best, best_way) = (Some(kept_by(&now)), Some((way, (whole > 0.0).then_some(share))));
            }
        }
        let Some((way, gain_kept)) = best_way else { return Err(self.forgets(&watched.before, &learned)) };
        (watched.way, watched.gain_kept) = (way, gain_kept);
        outcome.parameters = on_the_way(&start, &outcome.parameters, way);
        if let Some(validated) = solved.as_mut().and_then(|solved| solved.validated.as_mut()) {
            *validated = on_the_way(&start, validated, way);
        }
        self.tell_of_way(&watched);
        Ok(Some(watched))
    }

    /// The settings of gradient steps, with what the values are held by: the samples that tell how much depends on each, and how many
    /// outputs had an answer before.
    pub(super) fn holding(&self) -> Result<Settings, Error> {
        let opened = &self.opened;
        let mut settings = opened.settings.clone();
        if settings.hold.distill > 0.0 && self.starts_from_nothing() {
            refuse!(
                "setting `retention.distill`: the head starts from nothing, so there are no answers to keep; remove it, or keep the model's own \
                 head with setting `classes`"
            );
        }
        let retained = opened.data.retained.as_ref();
        let known = retained.map(|Retained { replayed, measured, .. }| [&replayed[..], measured].concat());
        settings.hold.samples = spread(known.as_deref().unwrap_or(&opened.data.split.train), GAIN_MAX);
        let known = opened.known.as_ref().map(|adapter| adapter.labels.len() as u64).filter(|classes| *classes > 0);
        let own = || own_width(&opened.recipe, &opened.base).ok().flatten();
        settings.hold.columns = known.or_else(own).unwrap_or(self.bundle.width);
        Ok(settings)
    }

    /// The samples by which the gain is measured on the way back.
    fn gain_samples(&self) -> Vec<usize> {
        let data = &self.opened.data;
        let most = if data.labels().of_positions() { TEXTS_GAIN_MAX } else { GAIN_MAX };
        spread(if data.split.validation.is_empty() { &data.split.train } else { &data.split.validation }, most)
    }

    fn tell_of_way(&self, watched: &Watched) {
        if watched.way == 1.0 {
            return;
        }
        let kept =
            watched.gain_kept.map_or(String::new(), |share| format!(", which keeps {} of the gain", percent(share)));
        self.opened.context.observer.note(&format!(
            "rewound   to {} of the way from the start{kept}, for {}; setting `retention.rewind = 1` stays at the end",
            percent(watched.way),
            watched.of
        ));
    }

    fn forgets(&self, before: &Metrics, now: &Metrics) -> Error {
        let share = self.opened.recipe.retention.keep_base.unwrap_or_default();
        let lost = beyond(before, now, share).unwrap_or_default();
        Error::Forgets(format!(
            "too much of what the base knows is lost ({lost}), and going back does not help: setting `retention.keep-base = {share}` allows \
             {} of it. Nothing was written; replay more with setting `retention.replay`, or allow more",
            percent(share)
        ))
    }

    /// What is left of it with the values that ship.
    ///
    /// # Errors
    /// As [`Prepared::rewind`].
    pub(super) fn retention(
        &self,
        features: &mut Features,
        watched: Option<Watched>,
        shipped: &[Vec<f32>],
    ) -> Result<Option<Retention>, Error> {
        let Some(Watched { samples, of, before, learned, way, gain_kept }) = watched else { return Ok(None) };
        let opened = &self.opened;
        let mut tail = Session::from_file(&self.bundle.tail, &opened.options)?;
        let fed = evaluate::fed(&self.bundle.parameters, shipped);
        let (labels, loss) = (opened.data.labels(), &opened.settings.loss);
        let after = evaluate::evaluate(&mut tail, features, &samples, &fed, labels, loss)?;
        if opened.recipe.retention.keep_base.is_some_and(|share| beyond(&before, &after, share).is_some()) {
            return Err(self.forgets(&before, &after));
        }
        let first = evaluate::fed(&self.bundle.parameters, &self.first_values());
        let kl = match labels {
            Labels::NextTokens(_) => Some(evaluate::divergence(&mut tail, features, &samples, [&first, &fed], labels)?),
            _ => None,
        };
        Ok(Some(Retention { of, before, learned, after, way, gain_kept, kl }))
    }

    /// Refuses a set whose features are not those that this training's body gives.
    ///
    /// # Errors
    /// What differs.
    pub(super) fn refuse_other_cut(&self, features: &Features) -> Result<(), Error> {
        let Some(header) = self.opened.data.retained.as_ref().and_then(|retained| retained.header.as_ref()) else {
            return Ok(());
        };
        let here = layout(features);
        if header.features == here {
            return Ok(());
        }
        let shown = |features: &[(String, String, u32)]| {
            features.iter().map(|(name, ty, _)| format!("`{name}` {ty}")).collect::<Vec<_>>().join(", ")
        };
        refuse!(
            "setting `retention.set`: it holds {}, and what learns here reads {}: make it for what learns (setting `train`, setting \
             `adapter.method`), or name the data in its place",
            shown(&header.features),
            shown(&here)
        )
    }
}

/// Name, type and bytes of each feature of one sample.
pub(super) fn layout(features: &Features) -> Vec<(String, String, u32)> {
    let one = |(name, ty): &(String, crate::graph::TensorType)| {
        let count: u64 = ty.fixed_shape().unwrap_or_default().iter().product();
        (name.clone(), ty.to_string(), (count * ty.dtype.bits() as u64 / 8) as u32)
    };
    features.layout().iter().map(one).collect()
}

/// How a person reads what became of what the base knew.
pub fn retention_line(retention: &Retention) -> String {
    let Retention { of, before, after, kl, .. } = retention;
    let on = counted(after.samples, "sample");
    let shown: (fn(f64) -> String, f64, f64, &str) = match (before.perplexity, after.perplexity, before.accuracy) {
        (Some(before), Some(now), _) => (number, before, now, "perplexity "),
        (_, _, Some(before)) => (percent, before, after.accuracy.unwrap_or_default(), ""),
        _ => (number, before.loss, after.loss, "loss "),
    };
    let (show, before, now, what) = shown;
    let kl = kl.map_or(String::new(), |kl| format!(", {} nats a token from the base", number(kl)));
    format!("retention {of}: {what}{} before, {} now{kl} on {on}", show(before), show(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::evaluate::ClassMetrics;

    fn metrics(accuracy: f64, recalls: &[f64]) -> Metrics {
        let class = |(place, recall): (usize, &f64)| ClassMetrics {
            name: place.to_string(),
            samples: 20,
            recall: *recall,
            iou: None,
        };
        Metrics {
            loss: 1.0,
            accuracy: Some(accuracy),
            perplexity: None,
            samples: 20 * recalls.len(),
            tokens: None,
            figures: Default::default(),
            per_class: recalls.iter().enumerate().map(class).collect(),
        }
    }

    #[test]
    fn what_is_lost_counts_over_all_and_in_each_class_beyond_chance() {
        let before = metrics(0.9, &[0.9, 0.9]);
        assert_eq!(beyond(&before, &metrics(0.86, &[0.9, 0.82]), 0.05), None);
        assert!(beyond(&before, &metrics(0.85, &[0.85, 0.85]), 0.05).unwrap().contains("90.0 % before, 85.0 % now"));
        let one = beyond(&before, &metrics(0.86, &[1.0, 0.72]), 0.05).unwrap();
        assert!(one.contains("`1`"), "{one}");
        let text = |perplexity| Metrics { perplexity: Some(perplexity), accuracy: None, ..metrics(0.0, &[]) };
        assert!(beyond(&text(40.0), &text(41.9), 0.05).is_none() && beyond(&text(40.0), &text(42.1), 0.05).is_some());
    }

    #[test]
    fn the_way_back_is_straight() {
        let (start, end) = (vec![vec![1.0, 2.0]], vec![vec![3.0, 0.0]]);
        assert_eq!(on_the_way(&start, &end, 0.5), [[2.0, 1.0]]);
        assert_eq!(on_the_way(&start, &end, 1.0), end);
        assert_eq!(on_the_way(&start, &end, 0.0), start);
    }
}
