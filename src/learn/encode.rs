//! The fifth stage: the learned values as they ship, measured as they ship.

use super::answered::Answered;
use super::compared::BeforeAfter;
use super::encoding::{self, Shipped};
use super::fitting::Learned;
use super::forward::Forward;
use super::gates::{Paired, Shown};
use super::label_errors::{LabelError, label_errors};
use super::more_samples::{curve_line, curve_of};
use super::prepare::Prepared;
use super::retention::Retention;
use crate::data::Labels;
use crate::engine::Session;
use crate::recipe::Error;
use crate::train;
use crate::train::baseline;
use crate::train::evaluate::{self, Metrics, Tally};
use crate::train::features::{Features, Pass};
use crate::train::fit::{End, Outcome};
use crate::train::loss::Loss;
use crate::train::solve::moments::{self, Set};
use crate::train::solve::{self, LearningCurve, Solved};

/// Samples whose features are held at the same time to judge labels by.
const SAMPLES_JUDGED_MAX: usize = 20_000;

/// What is seen in the samples that were learned from.
#[derive(Default)]
pub(super) struct Judged {
    /// Labels that are probably wrong.
    pub(super) label_errors: Vec<LabelError>,
    /// What more samples would give.
    pub(super) learning_curve: Option<LearningCurve>,
}

/// A training whose values are encoded and measured, or that was stopped on the way.
pub struct Encoded<'a> {
    pub(super) prepared: Prepared<'a>,
    pub(super) outcome: Outcome,
    pub(super) solved: Option<Solved>,
    /// The values; `None` where the training was stopped before there were any.
    pub(super) shipped: Option<Shipped>,
    pub(super) validation: Option<BeforeAfter>,
    pub(super) test: Option<BeforeAfter>,
    /// What was answered to the test samples, else to those that validate.
    pub(super) answers: Option<Answered>,
    /// What the samples that were learned from show, where that was asked for.
    pub(super) judged: Judged,
    /// What is left of what the base knew.
    pub(super) retention: Option<Retention>,
    /// What its gates are judged by besides.
    pub(super) shown: Shown,
    /// Whether it was stopped.
    pub(super) interrupted: bool,
    /// What the body did.
    pub(super) pass: Pass,
    pub(super) cache_bytes: u64,
}

impl<'a> Learned<'a> {
    /// Encodes the values, and measures them on the validation and the test samples.
    ///
    /// # Errors
    /// Values that are not finite; a sample that cannot be loaded; what ONNX Runtime refuses.
    pub fn encode(self) -> Result<Encoded<'a>, Error> {
        let Learned { prepared, mut features, mut outcome, mut solved, earlier, mut warnings, watched } = self;
        let mut interrupted = outcome.end == End::Interrupted;
        let (mut judged, mut retention) = (Judged::default(), None);
        let (mut shipped, mut validation, mut test, mut answers) = (None, None, None, None);
        let mut shown = Shown::default();
        if !interrupted {
            shown.temperature = prepared.calibrate(&mut features, &mut outcome, &mut solved)?;
            let (values, measured) = prepared.encode(&mut features, &outcome, solved.as_ref())?;
            if prepared.opened.data.test.is_none() {
                answers = prepared.answers(&mut features, &values, solved.as_ref())?;
                shown.paired = prepared.paired_validation(&mut features, &values.values, solved.as_ref())?;
            }
            shown.difference = prepared.difference(&mut features, &outcome, &values.values, solved.as_ref())?;
            retention = prepared.retention(&mut features, watched, &values.values)?;
            (shipped, validation) = (Some(values), measured);
            judged = prepared.judged(&mut features)?;
            if let Some(curve) = &judged.learning_curve {
                prepared.opened.context.observer.note(&format!("more data {}", curve_line(curve)));
            }
        }
        warnings.extend(features.take_warnings());
        let (mut pass, cache_bytes) = (earlier.plus(features.pass()), features.bytes());
        drop(features);
        if let (Some(shipped), true) = (&shipped, prepared.opened.data.test.is_some()) {
            match prepared.test(&shipped.values)? {
                Some(tested) => {
                    (test, answers, shown.paired) = (Some(tested.measured), tested.answers, tested.paired);
                    pass = pass.plus(tested.pass);
                    warnings.extend(tested.warnings);
                }
                None => interrupted = true,
            }
        }
        if let Some(shipped) = shipped.as_ref().filter(|_| !interrupted) {
            shown.latency_ms = prepared.latency_ms(&shipped.values)?;
        }
        prepared.opened.context.observer.warn_once(&warnings);
        Ok(Encoded {
            prepared,
            outcome,
            solved,
            shipped,
            validation,
            test,
            answers,
            judged,
            retention,
            shown,
            interrupted,
            pass,
            cache_bytes,
        })
    }
}

impl Prepared<'_> {
    /// The values before training, in fp16.
    pub(super) fn first_values(&self) -> Vec<Vec<f32>> {
        self.bundle.parameters.iter().map(|parameter| evaluate::rounded(&parameter.initial)).collect()
    }

    /// The learned values as they will ship, and what the first ones and these show on the validation samples.
    fn encode(
        &self,
        features: &mut Features,
        outcome: &Outcome,
        solved: Option<&Solved>,
    ) -> Result<(Shipped, Option<BeforeAfter>), Error> {
        let opened = &self.opened;
        let (split, parameters, loss) = (&opened.data.learning(), &self.bundle.parameters, &opened.settings.loss);
        let left_out = solved.and_then(|solved| solved.left_out.clone());
        let samples = if left_out.is_some() { &split.train } else { &opened.data.split.validation };
        let mut tail = match samples.is_empty() {
            true => None,
            false => Some(Session::from_file(&self.bundle.tail, &opened.options)?),
        };
        let mut measure = |values: &[Vec<f32>]| -> Result<Option<Metrics>, Error> {
            let Some(tail) = &mut tail else { return Ok(None) };
            let fed = evaluate::fed(parameters, values);
            Ok(Some(evaluate::evaluate(tail, features, samples, &fed, opened.data.labels(), loss)?))
        };
        let before = measure(&self.first_values())?;
        let validated = solved.and_then(|solved| solved.validated.as_ref());
        let rounded = |values: &Vec<Vec<f32>>| -> Vec<Vec<f32>> {
            values.iter().map(|values| evaluate::rounded(values)).collect()
        };
        let validated = validated.map(|values| measure(&rounded(values))).transpose()?.flatten();
        let asked = &opened.job.recipe.delta;
        let how = (asked.encoding(), asked.max_loss_increase, loss);
        let shipped = encoding::encode(&outcome.parameters, how, &mut measure, opened.context.observer)?;
        let after = left_out.or(validated).or(shipped.metrics.clone());
        let measured = (opened.data.labels(), &samples[..]);
        Ok((shipped, before.zip(after).map(|(before, after)| self.compared(before, after, measured))))
    }

    /// What was measured on some samples with the first values and the last, beside what the commonest answer shows.
    fn compared(&self, first: Metrics, after: Metrics, measured: (&Labels, &[usize])) -> BeforeAfter {
        let data = &self.opened.data;
        let trained = (data.labels(), &data.split.train[..]);
        let commonest = baseline::constant(trained, measured, &self.opened.settings.loss);
        BeforeAfter::new(first, after, commonest, self.starts_from_nothing())
    }

    /// What the values that were validated, or that ship, answer to the validation samples; `None` where there are none, where samples
    /// were left out in turn, and where they have not one class each.
    fn answers(
        &self,
        features: &mut Features,
        shipped: &Shipped,
        solved: Option<&Solved>,
    ) -> Result<Option<Answered>, Error> {
        let (data, parameters) = (&self.opened.data, &self.bundle.parameters);
        let samples = &data.split.validation;
        if samples.is_empty() || !matches!(data.labels(), Labels::Classes { .. }) {
            return Ok(None);
        }
        let mut tail = Session::from_file(&self.bundle.tail, &self.opened.options)?;
        let mut outputs =
            |values: &[Vec<f32>]| evaluate::outputs(&mut tail, features, samples, &evaluate::fed(parameters, values));
        let validated = solved.and_then(|solved| solved.validated.as_ref());
        let rounded = validated.map(|values| values.iter().map(|values| evaluate::rounded(values)).collect::<Vec<_>>());
        let after = outputs(rounded.as_ref().unwrap_or(&shipped.values))?;
        let before = if self.starts_from_nothing() { None } else { Some(outputs(&self.first_values())?) };
        Ok(Answered::from_logits(&data.train, samples, &after, before.as_deref()))
    }

    /// What heads that have not learned from them say of the samples, on the features as the base gives them. Nothing where nobody asked, where
    /// there is no fresh head to judge by, and where the features are too many to compare.
    fn judged(&self, features: &mut Features) -> Result<Judged, Error> {
        let (opened, data) = (&self.opened, &self.opened.data);
        let samples = &data.split.train;
        let are_judged = matches!(data.labels(), Labels::Classes { .. } | Labels::Values(_));
        if !opened.job.judges_samples || !are_judged || samples.len() > SAMPLES_JUDGED_MAX {
            return Ok(Judged::default());
        }
        let (stop, clock) = (opened.context.stop, &*opened.context.clock);
        let mut set = Set { bundle: &self.bundle, features, labels: data.labels(), samples, options: &opened.options };
        let mut around = solve::Around { until_s: None, stop, clock, tell: &mut |_| {} };
        match moments::features(&mut set, &mut around) {
            Ok(Some(rows)) => Ok(opened.context.observer.during("judging the samples", || Judged {
                learning_curve: curve_of(&data.train, samples, &rows, stop),
                label_errors: label_errors(&data.train, samples, rows).unwrap_or_default(),
            })),
            Ok(None) | Err(train::Error::NoClosedForm { .. }) => Ok(Judged::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the head is one that has learned nothing before.
    pub(super) fn starts_from_nothing(&self) -> bool {
        // Vectors begin with the model's own likeness.
        let of_vectors = matches!(self.opened.settings.loss, Loss::Likeness { .. });
        !of_vectors && self.bundle.parameters.iter().any(|parameter| parameter.fresh)
    }

    /// Before and after on the test samples; `None` if it was stopped, or where there are no test samples.
    fn test(&self, after: &[Vec<f32>]) -> Result<Option<Tested>, Error> {
        let opened = &self.opened;
        let Some((set, samples)) = &opened.data.test else { return Ok(None) };
        let forward = Forward {
            context: opened.context,
            bundle: &self.bundle,
            options: &opened.options,
            preprocessing: &opened.data.preprocessing,
        };
        let (first, loss) = (self.first_values(), &opened.settings.loss);
        let sets: [&[Vec<f32>]; 2] = [&first, after];
        let labels = set.labels();
        let start = Tally::new(labels, loss);
        let start = if self.wants_gain() { start.scoring() } else { start };
        let (tallies, answers, pass, warnings) = if let Labels::Classes { .. } = labels {
            let Some(ran) = forward.run("testing", set, samples, &sets)? else { return Ok(None) };
            let known = (!self.starts_from_nothing()).then_some(&ran.found[0][..]);
            let answers = Answered::from_logits(set, samples, &ran.found[1], known);
            let tally = |rows: &Vec<Vec<f32>>| {
                let mut tally = start.clone();
                rows.iter().zip(samples).for_each(|(row, sample)| tally.add(row, &[*sample]));
                tally
            };
            (ran.found.iter().map(tally).collect(), answers, ran.pass, ran.warnings)
        } else {
            let Some(ran) = forward.tally("testing", set, samples, (&sets, start))? else { return Ok(None) };
            (ran.found, None, ran.pass, ran.warnings)
        };
        let [before, after]: [Tally<'_>; 2] = tallies.try_into().expect("as many as sets of values");
        let measured = self.compared(before.metrics(), after.metrics(), (labels, samples));
        let paired = || self.paired((labels, samples), before.into_scores(), after.into_scores());
        let paired = self.wants_gain().then(paired);
        Ok(Some(Tested { measured, answers, paired, pass, warnings }))
    }
}

/// What the test samples showed.
struct Tested {
    measured: BeforeAfter,
    answers: Option<Answered>,
    paired: Option<Paired>,
    pass: Pass,
    warnings: Vec<String>,
}
