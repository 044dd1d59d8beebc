//! What an adapter must meet before it is written: measured, compared, and told where it is refused.

use super::prepare::Prepared;
use crate::amounts::{bytes, number, percent};
use crate::data::Labels;
use crate::engine::Session;
use crate::evidence::paired::{Comparison, loss_gain_at_least};
use crate::recipe::Error;
use crate::train::baseline;
use crate::train::evaluate::{self, Score};
use crate::train::features::Features;
use crate::train::fit::Outcome;
use crate::train::loss::Loss;
use crate::train::single::Single;
use crate::train::solve::Solved;
use crate::train::trial::spread;
use serde::Serialize;

/// Samples by which it is looked whether the outputs are others than before.
const ACTS_SAMPLES: usize = 16;
/// Answers that are timed, and those before them, while caches fill and the runtime allocates.
const TIMED: usize = 21;
const UNTIMED: usize = 3;

/// A gate with what was measured for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    /// Which.
    pub name: &'static str,
    /// What it wants: at least this of `gain` (a share), at most this of all others (`latency`: milliseconds, `size`: bytes); null where
    /// it wants no number.
    pub wanted: Option<f64>,
    /// What there is, in the same unit; null where nothing could be measured.
    pub measured: Option<f64>,
    /// Whether it is met.
    pub passed: bool,
}

/// What gates are judged by besides a training's report.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// What the last layer was divided by.
    pub temperature: Option<f64>,
    /// The largest difference between outputs with the values before and those that ship, of the first sample that has one; `None` where
    /// nothing was learned.
    pub difference: Option<f64>,
    /// What held-out samples showed before and after, where a gain is wanted.
    pub paired: Option<Paired>,
    /// How long an answer takes, where that is asked for.
    pub latency_ms: Option<f64>,
}

/// The same samples before and after.
#[derive(Debug, Clone)]
pub(super) struct Paired {
    /// Whether a sample has one answer, which is right or wrong.
    pub one_answer: bool,
    pub old: Vec<Score>,
    pub new: Vec<Score>,
}

impl Paired {
    /// The gain at least, with a confidence: of right answers, else the share by which the loss falls.
    pub fn gain_at_least(&self, confidence: f64) -> f64 {
        if !self.one_answer {
            let losses = |scores: &[Score]| scores.iter().map(|score| score.loss).collect::<Vec<_>>();
            return loss_gain_at_least(&losses(&self.old), &losses(&self.new), confidence);
        }
        let mut counted = Comparison::default();
        for (old, new) in self.old.iter().zip(&self.new) {
            match new.right.cmp(&old.right) {
                std::cmp::Ordering::Greater => counted.wins += 1,
                std::cmp::Ordering::Less => counted.losses += 1,
                std::cmp::Ordering::Equal => counted.ties += 1,
            }
        }
        counted.gain_at_least(confidence)
    }
}

impl Prepared<'_> {
    /// Whether a gain is wanted, so that each held-out sample is looked at by itself.
    pub(super) fn wants_gain(&self) -> bool {
        self.opened.recipe.gates.gain_min.is_some()
    }

    /// What samples showed before, beside what they show now. Before is what a training's report takes for it: the base, or the commonest
    /// answer where the head started from nothing.
    pub(super) fn paired(&self, (labels, samples): (&Labels, &[usize]), first: Vec<Score>, new: Vec<Score>) -> Paired {
        let data = &self.opened.data;
        let commonest =
            || baseline::scores((data.labels(), &data.split.train), (labels, samples), &self.opened.settings.loss);
        let old = if self.starts_from_nothing() { commonest().unwrap_or(first) } else { first };
        Paired { one_answer: matches!(labels, Labels::Classes { .. } | Labels::Ordinal { .. }), old, new }
    }

    /// The same on the validation samples, where a gain is wanted and enough of them validate.
    pub(super) fn paired_validation(
        &self,
        features: &mut Features,
        shipped: &[Vec<f32>],
        solved: Option<&Solved>,
    ) -> Result<Option<Paired>, Error> {
        let (data, samples) = (&self.opened.data, &self.opened.data.split.validation);
        // What was left out in turn is not kept sample by sample.
        if !self.wants_gain() || samples.is_empty() || solved.is_some_and(|solved| solved.left_out.is_some()) {
            return Ok(None);
        }
        let validated = solved.and_then(|solved| solved.validated.as_ref());
        let rounded = validated.map(|values| values.iter().map(|values| evaluate::rounded(values)).collect::<Vec<_>>());
        let mut tail = Session::from_file(&self.bundle.tail, &self.opened.options)?;
        let judged = (data.labels(), &self.opened.settings.loss);
        let mut scores = |values: &[Vec<f32>]| {
            let fed = evaluate::fed(&self.bundle.parameters, values);
            evaluate::scores(&mut tail, features, samples, &fed, judged)
        };
        let new = scores(rounded.as_deref().unwrap_or(shipped))?;
        let first = scores(&self.first_values())?;
        Ok(Some(self.paired((data.labels(), samples), first, new)))
    }

    /// The largest difference between outputs with the values before and those that ship, of the first sample that has one.
    pub(super) fn difference(
        &self,
        features: &mut Features,
        outcome: &Outcome,
        shipped: &[Vec<f32>],
        solved: Option<&Solved>,
    ) -> Result<Option<f64>, Error> {
        let split = &self.opened.data.split;
        let samples = spread(if split.validation.is_empty() { &split.train } else { &split.validation }, ACTS_SAMPLES);
        // A fresh layer of vectors begins with a projection, which may be what is best.
        let is_projection = matches!(self.opened.settings.loss, Loss::Likeness { .. }) && outcome.best_epoch == 0;
        // Of normal samples nothing may be left: what they are is answered with what was answered before anything was learned.
        let is_normality = matches!(self.opened.settings.loss, Loss::Normality { .. });
        if is_projection || is_normality || (outcome.steps == 0 && solved.is_none()) {
            return Ok(None);
        }
        let mut tail = Session::from_file(&self.bundle.tail, &self.opened.options)?;
        let sets = [&self.first_values()[..], shipped].map(|values| evaluate::fed(&self.bundle.parameters, values));
        for sample in samples {
            let [before, now] = [&sets[0], &sets[1]].map(|set| evaluate::outputs(&mut tail, features, &[sample], set));
            let differences = before?.concat().into_iter().zip(now?.concat()).map(|(before, now)| (before - now).abs());
            let largest = differences.fold(0.0, f32::max);
            if largest > 0.0 {
                return Ok(Some(largest.into()));
            }
        }
        Ok(Some(0.0))
    }

    /// Milliseconds from a sample's tensors to its answer, by body and tail as a prediction runs them: the median of some. `None` where
    /// nobody asked.
    pub(super) fn latency_ms(&self, shipped: &[Vec<f32>]) -> Result<Option<f64>, Error> {
        let opened = &self.opened;
        let Some(sample) = opened.data.split.train.first() else { return Ok(None) };
        if opened.recipe.gates.latency_ms()?.is_none() {
            return Ok(None);
        }
        let inputs = opened.data.train.load(*sample).map_err(Error::from)?;
        let named = |(name, _): &(String, crate::graph::TensorType)| {
            inputs.iter().find(|(input, _)| input == name).map(|(_, tensor)| tensor.clone())
        };
        let inputs: Vec<_> = self.bundle.inputs.iter().filter_map(named).collect();
        let mut single = Single::new(&self.bundle, shipped, &opened.options)?;
        let (clock, mut times) = (&opened.context.clock, Vec::with_capacity(TIMED));
        for run in 0..UNTIMED + TIMED {
            let began = clock();
            single.tensor(inputs.clone())?;
            if run >= UNTIMED {
                times.push(1e3 * (clock() - began));
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(Some(times[TIMED / 2]))
    }
}

impl Gate {
    /// A number of this gate as a person reads it.
    pub fn shown(&self, value: f64) -> String {
        match self.name {
            "gain" => format!("{:+.1} %", 100.0 * value),
            "retention" | "calibration" => percent(value),
            "latency" => format!("{} ms", number(value)),
            "size" => bytes(value as u64),
            _ => number(value),
        }
    }

    /// What was found and what is wanted, as a person reads it.
    pub fn line(&self) -> String {
        let measured = self.measured.map(|value| self.shown(value));
        let bound = self.wanted.map(|wanted| self.shown(wanted));
        match (self.name, measured, bound) {
            ("finite", ..) => "all values are numbers".into(),
            ("acts", Some(difference), _) => format!("outputs differ from those before by {difference}"),
            ("gain", Some(gain), Some(least)) => format!("{gain} at least, {least} wanted"),
            (_, Some(measured), Some(most)) => format!("{measured}, at most {most} wanted"),
            (_, _, bound) => format!("not measured, {} wanted", bound.unwrap_or_default()),
        }
    }

    /// Why nothing is written, and what helps.
    pub(super) fn refusal(&self) -> String {
        let setting = |name: &str| format!("setting `gates.{name}`");
        let told = self.line();
        let unmeasured = "too few samples were held out to measure it; name more with setting `val` or setting `test`";
        let remedy = match (self.name, self.measured) {
            ("finite", _) => "the values hold infinity or no number (NaN); lower setting `lr`, or limit gradients with setting `clip-norm`".into(),
            ("acts", _) => "every output is what it was before to the last bit, so the adapter would do nothing; train longer with setting `epochs`, \
                            or with a higher setting `lr`; setting `gates.allow-idle` writes it all the same"
                .into(),
            ("gain" | "calibration", None) => unmeasured.into(),
            ("gain", _) => format!("learn from more data, hold out more samples to measure by, or lower {}", setting("gain-min")),
            ("calibration", _) => format!("add setting `calibrate`, hold out more samples, or raise {}", setting("calibration-max")),
            ("latency", _) => format!("use a smaller model or another provider, or raise {}", setting("latency-max")),
            ("size", _) => format!("store values smaller with setting `delta.encoding`, let less learn, or raise {}", setting("size-max")),
            _ => "see what is wanted of it".into(),
        };
        match (self.name, self.measured) {
            ("finite" | "acts", _) | ("gain" | "calibration", None) => {
                format!("the gate `{}` refuses what was learned: {remedy}. Nothing was written", self.name)
            }
            _ => format!("the gate `{}` refuses what was learned: {told}. Nothing was written; {remedy}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(right: usize, loss: f64) -> Score {
        Score { loss, right }
    }

    #[test]
    fn a_gain_is_of_right_answers_or_of_the_loss() {
        let (old, new): (Vec<Score>, Vec<Score>) =
            (0..100).map(|place| (score(usize::from(place < 40), 1.0), score(usize::from(place < 80), 0.5))).unzip();
        let answers = Paired { one_answer: true, old: old.clone(), new: new.clone() }.gain_at_least(0.95);
        assert!((0.28..0.4).contains(&answers), "{answers}");
        let losses = Paired { one_answer: false, old, new }.gain_at_least(0.95);
        assert!((losses - 0.5).abs() < 1e-9, "{losses}");
    }

    #[test]
    fn a_refusal_names_gate_measure_and_remedy() {
        let gate = |name, wanted, measured| Gate { name, wanted, measured, passed: false }.refusal();
        let gain = gate("gain", Some(0.02), Some(-0.013));
        for part in ["`gain`", "-1.3 % at least", "+2.0 % wanted", "Nothing was written", "setting `gates.gain-min`"] {
            assert!(gain.contains(part), "{part}: {gain}");
        }
        assert!(gate("gain", Some(0.02), None).contains("setting `test`"));
        assert!(gate("acts", None, Some(0.0)).contains("would do nothing"));
        assert!(gate("size", Some(1024.0), Some(4096.0)).contains("at most"));
    }
}
