//! A learning rate for what is learned here: steps with a rate that grows tell where the loss falls steepest (the range test of Smith,
//! "Cyclical Learning Rates for Training Neural Networks", 2017, arXiv 1506.01186, section 3.3, as fastai made it known).
//!
//! Every step is on the same samples, so that a loss that falls is the rate's doing and not that of easier samples. The steps are thrown away: the run that follows begins with the same values, and is the same as one with the rate given.

use super::prepare::Prepared;
use crate::amounts::number;
use crate::data::{Labelled, Split};
use crate::recipe::Error;
use crate::train;
use crate::train::features::Features;
use crate::train::fit::{self, Around, Event, ScheduleKind, Settings};
use crate::train::loss::Loss;
use crate::train::optimizer::Optimizer;
use crate::train::trial::spread;
use std::sync::atomic::{AtomicBool, Ordering};

/// Steps of a test.
const STEPS: u32 = 100;
/// The largest rate: far beyond what trains. The first is a millionth of it.
const TOP: f64 = 1.0;
/// Momentum's steps are larger the smaller the gradient's scale is, AdamW's are not.
const TOP_OF_SGD: f64 = 10.0;
/// The loss, of the lowest so far, at which a test ends: larger rates can only be worse.
const GROWN: f64 = 4.0;
/// Steps on either side that a loss is averaged with.
const AROUND: usize = 2;
/// By which share the loss has to fall, for a rate to be seen.
const FALLS: f64 = 0.01;
/// The steepest fall is of one step: a run of many is safe with a third of its rate.
const FACTOR: f64 = 1.0 / 3.0;

impl Prepared<'_> {
    /// The rate that a test from these first values finds; where the loss falls at none, the one of the settings.
    ///
    /// # Errors
    /// As the training.
    pub(super) fn rate_of_range(
        &self,
        settings: &Settings,
        first: Option<&[Vec<f32>]>,
        features: &mut Features,
    ) -> Result<f64, Error> {
        let (opened, context) = (&self.opened, self.opened.context);
        let top = if matches!(settings.optimizer, Optimizer::Sgd { .. }) { TOP_OF_SGD } else { TOP };
        let growing = Settings {
            max_steps: Some(STEPS),
            patience: None,
            learning_rate: top,
            schedule: ScheduleKind::Growing,
            warmup_share: 0.0,
            ..settings.clone()
        };
        // What validates has no part in it, and costs no time. Likeness is between samples, of which a few may have no partner.
        let all = opened.data.learning().train;
        let of_a_step = settings.batch as usize * settings.accumulate as usize;
        let train = if matches!(settings.loss, Loss::Likeness { .. }) { all } else { spread(&all, of_a_step) };
        let split = Split { train, validation: Vec::new() };
        let (mut losses, mut lowest, is_over) = (Vec::new(), f64::INFINITY, AtomicBool::new(false));
        let tell = &mut |event: Event<'_>| {
            let Event::Step { loss, .. } = event else { return };
            losses.push(loss);
            lowest = loss.min(lowest);
            if !loss.is_finite() || loss > GROWN * lowest.abs() || context.is_stopped() {
                is_over.store(true, Ordering::Relaxed);
            }
        };
        let (clock, first) = (&*context.clock, first.map(<[_]>::to_vec));
        let (checkpoint, until_s) = (None, self.until_s);
        let mut around =
            Around { checkpoint, resume: false, keep_start: false, first, until_s, stop: &is_over, clock, tell };
        let learned = Labelled { labels: opened.data.labels(), split: &split };
        match fit::fit(&self.bundle, features, learned, &growing, &opened.options, &mut around) {
            // A rate that is too large ends the test, not the training.
            Ok(_) | Err(train::Error::Diverged { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let rate = |step: usize| growing.rate_of_step(split.train.len(), step as u64);
        let usual = settings.learning_rate;
        let Some(step) = steepest(&losses) else {
            context.observer.note(&format!(
                "rate      setting `lr = {usual}`: in {} steps with a growing rate the loss fell at none",
                losses.len()
            ));
            return Ok(usual);
        };
        let found = two_digits(FACTOR * rate(step));
        context.observer.note(&format!(
            "rate      setting `lr = {found}`: in {} steps with a growing rate the loss fell steepest at {}",
            losses.len(),
            number(rate(step))
        ));
        Ok(found)
    }
}

/// The step around which the smoothed losses fall steepest, before the lowest of them; `None` where they fall by less than chance may.
fn steepest(losses: &[f64]) -> Option<usize> {
    let finite = losses.iter().position(|loss| !loss.is_finite()).unwrap_or(losses.len());
    let losses = &losses[..finite];
    let mean = |place: usize| {
        let near = &losses[place.saturating_sub(AROUND)..losses.len().min(place + AROUND + 1)];
        near.iter().sum::<f64>() / near.len() as f64
    };
    let smooth: Vec<f64> = (0..losses.len()).map(mean).collect();
    let lowest = (0..smooth.len()).min_by(|one, other| smooth[*one].total_cmp(&smooth[*other]))?;
    if smooth[0] - smooth[lowest] < FALLS * smooth[0].abs() {
        return None;
    }
    // Rates grow by one factor, so that steps are logarithms of rates.
    let slope = |place: &usize| smooth[(place + 1).min(smooth.len() - 1)] - smooth[place.saturating_sub(1)];
    (0..=lowest).min_by(|one, other| slope(one).total_cmp(&slope(other)))
}

/// A number that is short to write down, so that the same run can be asked for by it.
fn two_digits(rate: f64) -> f64 {
    format!("{rate:.1e}").parse().unwrap_or(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steepest_fall_is_before_the_lowest_loss() {
        // Flat, down between 40 and 60 by a smooth step, flat, and up at the end.
        let loss = |step: usize| {
            let fall = 1.0 / (1.0 + (-(step as f64 - 50.0) / 3.0).exp());
            2.0 - fall + if step > 85 { 0.5 * (step - 85) as f64 } else { 0.0 }
        };
        let mut losses: Vec<f64> = (0..100).map(loss).collect();
        assert!((48..=52).contains(&steepest(&losses).unwrap()), "{:?}", steepest(&losses));
        losses[97] = f64::NAN;
        assert!((48..=52).contains(&steepest(&losses).unwrap()));
        assert_eq!(steepest(&[1.0; 50]), None);
        assert_eq!(steepest(&[]), None);
        assert_eq!(two_digits(0.012_345), 0.012);
    }
}
