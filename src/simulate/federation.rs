//! Rounds: every device learns from where the last round has led, and what they send becomes one adapter.

use super::{Attack, Error};
use crate::aggregate::{self, bound, combine};
use crate::data::{Labelled, Labels, Preprocessing, Split};
use crate::delta::EncodingChoice;
use crate::engine::{self, Session};
use crate::moments::Basis;
use crate::train::artifact::{self, About, Adapter, Provenance};
use crate::train::evaluate::{self, Metrics};
use crate::train::features::Features;
use crate::train::fit::{self, Around, End, Settings};
use crate::train::prepare::Bundle;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A way of learning together, or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arm {
    /// Each device keeps what it has learned to itself.
    Alone,
    /// The weighted mean of the learned tensors (FedAvg, arXiv 1602.05629); of LoRA's factors one by one, whose product is not
    /// the mean of the products.
    TensorMean,
    /// As the server combines: what the deltas do, coordinate by coordinate.
    Combined(aggregate::Options),
    /// One round of moments ([`crate::moments`]): sums of features, and a head that is solved for. Needs [`World::basis`].
    Moments,
    /// All samples in one place: what no federation can surpass by much.
    Together,
}

/// What is simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Samples of each device.
    pub parts: Vec<Vec<usize>>,
    /// Turns of learn, send, combine.
    pub rounds: u32,
    /// How a device learns in one round.
    pub settings: Settings,
    /// The first so many devices are poisoned.
    pub poisoned: usize,
    /// What poisoned devices do.
    pub attack: Option<Attack>,
}

/// What is trained, and on what it is measured.
pub struct World<'a> {
    /// The tail, whose first values every arm begins with.
    pub bundle: &'a mut Bundle,
    /// Features of the training samples.
    pub train: &'a mut Features,
    /// Their labels: one class a sample.
    pub labels: &'a Labels,
    /// Features of the test samples.
    pub test: &'a mut Features,
    /// Their labels.
    pub test_labels: &'a Labels,
    /// Which of them are measured on.
    pub test_samples: &'a [usize],
    /// What was done to the samples; deltas say so.
    pub preprocessing: &'a Preprocessing,
    /// The coordinates of [`Arm::Moments`]; none where the bundle has no fresh linear head.
    pub basis: Option<&'a Basis>,
    /// How ONNX Runtime computes.
    pub options: &'a engine::Options,
    /// Raised to end.
    pub stop: &'a AtomicBool,
    /// Told of every device that has learned.
    pub tell: &'a mut dyn FnMut(Progress),
}

/// One device has learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Round, from 1.
    pub round: u32,
    /// Device, from 1.
    pub device: usize,
}

/// What the adapters of a round reach on the test samples.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Measured {
    /// Round, from 1; 0 is before the first.
    pub round: u32,
    /// Share of right answers; alone, the mean over the honest devices.
    pub accuracy: f64,
    /// The same with classes as frequent as on the devices themselves: the mean over the honest ones.
    pub own_accuracy: f64,
}

/// What an arm reached, after each round; alone only after the last.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// In order.
    pub rounds: Vec<Measured>,
    /// Bytes that all devices have sent in all rounds; 0 where nothing is sent.
    pub sent_bytes: u64,
}

type Values = Vec<Vec<f32>>;

/// Runs one arm; `None` if it was stopped.
///
/// # Errors
/// A training's; deltas that do not go together.
pub fn run(world: &mut World<'_>, setting: &Setting, arm: Arm) -> Result<Option<Outcome>, Error> {
    let first: Values = world.bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
    let outcome = Federation { world, setting, first: &first }.run(arm);
    put(world.bundle, &first);
    outcome
}

fn put(bundle: &mut Bundle, values: &[Vec<f32>]) {
    bundle.parameters.iter_mut().zip(values).for_each(|(parameter, values)| parameter.initial.clone_from(values));
}

struct Federation<'a, 'w> {
    world: &'a mut World<'w>,
    setting: &'a Setting,
    first: &'a Values,
}

impl Federation<'_, '_> {
    fn run(&mut self, arm: Arm) -> Result<Option<Outcome>, Error> {
        let mut tail =
            Session::from_file(&self.world.bundle.tail, self.world.options).map_err(crate::train::Error::from)?;
        let everybody = [self.setting.parts.concat()];
        let honest = Setting { parts: everybody.into(), poisoned: 0, ..self.setting.clone() };
        match arm {
            Arm::Alone => self.alone(&mut tail),
            Arm::Moments => self.moments(&mut tail),
            Arm::Together => {
                let mut one = Federation { world: &mut *self.world, setting: &honest, first: self.first };
                one.together(&mut tail, Arm::TensorMean, &self.setting.parts)
            }
            arm => self.together(&mut tail, arm, &self.setting.parts),
        }
    }

    /// Rounds that begin where the last one has led. `owners` are the parts that own accuracy is the mean of.
    fn together(&mut self, tail: &mut Session, arm: Arm, owners: &[Vec<usize>]) -> Result<Option<Outcome>, Error> {
        let mut global = self.first.clone();
        let honest = self.setting.poisoned.min(owners.len());
        let mut sent_bytes = 0;
        let mut rounds = vec![self.measured(tail, 0, &global, &owners[honest..])?];
        for round in 1..=self.setting.rounds {
            let mut sent = Vec::with_capacity(self.setting.parts.len());
            for device in 0..self.setting.parts.len() {
                let Some(learned) = self.learned(&global, device, round)? else { return Ok(None) };
                sent.push(learned);
            }
            let (combined, bytes) = self.combined(arm, &global, sent, round)?;
            (global, sent_bytes) = (combined, sent_bytes + bytes);
            rounds.push(self.measured(tail, round, &global, &owners[honest..])?);
        }
        Ok(Some(Outcome { rounds, sent_bytes }))
    }

    fn moments(&mut self, tail: &mut Session) -> Result<Option<Outcome>, Error> {
        let basis = self.world.basis.ok_or(crate::train::Error::Moments(crate::moments::Error::OtherBasis))?;
        put(self.world.bundle, self.first);
        let Some((values, sent_bytes)) = super::moments::solved(self.world, &self.setting.parts, basis)? else {
            return Ok(None);
        };
        // What learns below the head stays as it is: its first values are the base's.
        let fresh = self.world.bundle.parameters.iter().map(|parameter| parameter.fresh);
        let (mut all, mut solved) = (self.first.clone(), values.into_iter());
        all.iter_mut()
            .zip(fresh)
            .filter(|(_, fresh)| *fresh)
            .zip(&mut solved)
            .for_each(|((to, _), values)| *to = values);
        let rounds = vec![self.measured(tail, 1, &all, &self.setting.parts)?];
        Ok(Some(Outcome { rounds, sent_bytes }))
    }

    fn alone(&mut self, tail: &mut Session) -> Result<Option<Outcome>, Error> {
        let (mut accuracy, mut own_accuracy) = (0.0, 0.0);
        let honest = self.setting.poisoned..self.setting.parts.len();
        let share = 1.0 / honest.len().max(1) as f64;
        for device in honest {
            let mut values = self.first.clone();
            for round in 1..=self.setting.rounds {
                let Some(learned) = self.learned(&values, device, round)? else { return Ok(None) };
                values = learned;
            }
            let own = [self.setting.parts[device].clone()];
            let measured = self.measured(tail, self.setting.rounds, &values, &own)?;
            accuracy += share * measured.accuracy;
            own_accuracy += share * measured.own_accuracy;
        }
        let rounds = vec![Measured { round: self.setting.rounds, accuracy, own_accuracy }];
        Ok(Some(Outcome { rounds, sent_bytes: 0 }))
    }

    /// What a device sends that began with `start`.
    fn learned(&mut self, start: &Values, device: usize, round: u32) -> Result<Option<Values>, Error> {
        let attack = self.setting.attack.filter(|_| device < self.setting.poisoned);
        let World { bundle, train, labels, options, stop, tell, .. } = &mut *self.world;
        put(bundle, start);
        let labels = attack.map(|attack| attack.labels(labels)).unwrap_or_else(|| labels.clone());
        let split = Split { train: self.setting.parts[device].clone(), validation: Vec::new() };
        let learned = Labelled { labels: &labels, split: &split };
        // Another order for each device and round.
        let mixed = (u64::from(round) << 32) + device as u64;
        let settings =
            Settings { seed: self.setting.settings.seed.wrapping_add(mixed), ..self.setting.settings.clone() };
        let mut around = Around {
            checkpoint: None,
            resume: false,
            keep_start: false,
            first: None,
            until_s: None,
            stop,
            clock: &|| 0.0,
            tell: &mut |_| {},
        };
        let outcome = fit::fit(bundle, train, learned, &settings, options, &mut around)?;
        if outcome.end == End::Interrupted {
            return Ok(None);
        }
        tell(Progress { round, device: device + 1 });
        Ok(Some(match attack {
            Some(attack) => attack.sent(start, outcome.parameters),
            None => outcome.parameters,
        }))
    }

    /// What the devices' values become, and the bytes of their deltas.
    fn combined(&self, arm: Arm, start: &Values, sent: Vec<Values>, round: u32) -> Result<(Values, u64), Error> {
        let mut weights: Vec<f64> = self.setting.parts.iter().map(|part| part.len() as f64).collect();
        bound(&mut weights);
        let delta = |values: &Values, device: usize| self.delta(values, device, round);
        let deltas: Vec<Vec<u8>> =
            sent.iter().enumerate().map(|(device, values)| delta(values, device)).collect::<Result<_, _>>()?;
        let bytes = if sent.len() > 1 { deltas.iter().map(|delta| delta.len() as u64).sum() } else { 0 };
        let Arm::Combined(options) = arm else { return Ok((mean(&sent, &weights), bytes)) };
        let reference = delta(start, 0)?;
        let mut read = |index: usize, bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(&deltas[index]);
            Ok(())
        };
        let combined = combine(&weights, &mut read, Some(&reference), &options)?;
        let mut adapter = Adapter::from_bytes(Path::new("(combined)"), &combined.bytes)?;
        // What is combined says its whole scale in the factors; the bundle's has one of its own.
        adapter.scale_as(self.world.bundle.method);
        let found = |name: &str| adapter.tensors.iter().find(|(known, _, _)| known == name);
        let parameters = self.world.bundle.parameters.iter().zip(start);
        let values = parameters
            .map(|(p, start)| found(&p.name).map_or_else(|| start.clone(), |(_, _, values)| values.clone()))
            .collect();
        Ok((values, bytes))
    }

    /// A device's delta as it would be sent.
    fn delta(&self, values: &Values, device: usize, round: u32) -> Result<Vec<u8>, Error> {
        let payloads = artifact::payloads(values, EncodingChoice::Fp16)?;
        let about = About {
            loss: &self.setting.settings.loss,
            preprocessing: self.world.preprocessing,
            labels: self.world.labels,
            train: &self.setting.parts[device],
            validation: None,
            test: None,
            provenance: Provenance {
                device: &format!("device-{}", device + 1),
                round: Some(round),
                ..Provenance::default()
            },
        };
        Ok(artifact::encode(self.world.bundle, &payloads, &about)?)
    }

    fn measured(
        &mut self,
        tail: &mut Session,
        round: u32,
        values: &Values,
        owners: &[Vec<usize>],
    ) -> Result<Measured, Error> {
        let fed = evaluate::shipped(&self.world.bundle.parameters, values);
        let (labels, loss) = (self.world.test_labels, &self.setting.settings.loss);
        let metrics = evaluate::evaluate(tail, self.world.test, self.world.test_samples, &fed, labels, loss)?;
        let own = owners.iter().map(|part| own_accuracy(&metrics, self.world.labels, part)).sum::<f64>();
        let accuracy = metrics.accuracy.unwrap_or(0.0);
        Ok(Measured { round, accuracy, own_accuracy: own / owners.len().max(1) as f64 })
    }
}

/// Recall of each class, weighed by how often a device has it.
fn own_accuracy(metrics: &Metrics, labels: &Labels, part: &[usize]) -> f64 {
    let Labels::Classes { index, .. } = labels else { return 0.0 };
    let recall = |sample: &usize| metrics.per_class.get(index[*sample] as usize).map_or(0.0, |class| class.recall);
    part.iter().map(recall).sum::<f64>() / part.len().max(1) as f64
}

/// The weighted mean of each value.
fn mean(sent: &[Values], weights: &[f64]) -> Values {
    let whole: f64 = weights.iter().sum();
    let one = |tensor: usize| {
        let mut sums = vec![0.0f64; sent[0][tensor].len()];
        for (values, weight) in sent.iter().zip(weights) {
            sums.iter_mut().zip(&values[tensor]).for_each(|(sum, value)| *sum += weight / whole * f64::from(*value));
        }
        sums.into_iter().map(|sum| sum as f32).collect()
    };
    (0..sent[0].len()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_weighs_by_samples() {
        let sent = [vec![vec![1.0, 0.0]], vec![vec![4.0, 8.0]]];
        assert_eq!(mean(&sent, &[2.0, 1.0]), [[2.0, 8.0 / 3.0]]);
    }
}
