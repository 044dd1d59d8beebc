//! The rate of the layers below a trained head: which of two is better is seen after a few steps with each.
//!
//! One rate for every model is too small for some, whose layers then hardly move, and too large for others, which forget what they
//! knew. A trial costs a tenth of a run, and the run that follows begins anew, so that it is the same as one with that rate given.

use super::prepare::Prepared;
use crate::data::Labelled;
use crate::recipe::Error;
use crate::train;
use crate::train::features::Features;
use crate::train::fit::{self, Around, End, Settings};

/// What the rate for layers below a trained head is multiplied by, in a trial each.
const FACTORS: [f64; 2] = [1.0, 10.0];
/// The share of a run's steps that a trial makes, and the fewest and the most of them.
const SHARE: u64 = 10;
const STEPS_MIN: u64 = 4;
const STEPS_MAX: u64 = 40;

impl Prepared<'_> {
    /// Takes the better of two rates where what is below a trained head learns and nobody has named a rate.
    ///
    /// # Errors
    /// As the training.
    pub(super) fn choose_rate(&mut self, features: &mut Features) -> Result<(), Error> {
        let (recipe, resume) = (&self.opened.recipe, self.opened.job.resume);
        let validates = !self.opened.data.split.validation.is_empty();
        if !self.keep_start || !validates || resume || recipe.lr.is_some() || recipe.head_rate.is_some() {
            return Ok(());
        }
        let steps = self.opened.settings.total_steps(self.opened.data.split.train.len()) / SHARE;
        let steps = steps.clamp(STEPS_MIN, STEPS_MAX);
        let mut tried: Vec<(f64, Settings)> = Vec::new();
        for factor in FACTORS {
            let settings = faster(&self.opened.settings, factor);
            if let Some(loss) = self.loss_after(steps as u32, &settings, features)? {
                tried.push((loss, settings));
            }
        }
        // Without a loss of both there was no time for a choice.
        if tried.len() < FACTORS.len() {
            return Ok(());
        }
        let losses: Vec<String> =
            tried.iter().map(|(loss, settings)| format!("{loss:.4} at {}", settings.learning_rate)).collect();
        let best = tried.into_iter().min_by(|(one, _), (other, _)| one.total_cmp(other));
        let Some((_, settings)) = best else { return Ok(()) };
        self.opened.context.observer.note(&format!(
            "rate      setting `lr = {}` setting `head-rate = {}`: after {steps} steps the validation loss is {}",
            settings.learning_rate,
            settings.head_rate,
            losses.join(", ")
        ));
        self.opened.settings = settings;
        Ok(())
    }

    /// The validation loss after so many steps; `None` where they were not all made, or led out of the numbers.
    fn loss_after(&self, steps: u32, settings: &Settings, features: &mut Features) -> Result<Option<f64>, Error> {
        let (opened, context) = (&self.opened, self.opened.context);
        let settings = Settings { max_steps: Some(steps), patience: None, ..settings.clone() };
        let mut around = Around {
            checkpoint: None,
            resume: false,
            keep_start: false,
            first: None,
            until_s: self.until_s,
            stop: context.stop,
            clock: &*context.clock,
            tell: &mut |_| {},
        };
        let learned = Labelled { labels: opened.data.labels(), split: &opened.data.split };
        match fit::fit(&self.bundle, features, learned, &settings, &opened.options, &mut around) {
            Ok(outcome) if outcome.end == End::Finished => {
                Ok(outcome.history.last().and_then(|epoch| epoch.validation_loss))
            }
            Ok(_) => Ok(None),
            // A rate that is far too large is no error of the training that follows: it is not taken.
            Err(train::Error::Diverged { .. }) => Ok(Some(f64::INFINITY)),
            Err(error) => Err(error.into()),
        }
    }
}

/// The settings with that factor for the layers of the base, and the fresh head's own rate as it is.
fn faster(settings: &Settings, factor: f64) -> Settings {
    Settings {
        learning_rate: settings.learning_rate * factor,
        head_rate: settings.head_rate / factor,
        ..settings.clone()
    }
}
