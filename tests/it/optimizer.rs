//! The optimiser against `torch.optim` (tests/goldens/optimizer.*), its bits, and the schedule.

use edgetune::train::optimizer::{Optimizer, State, global_norm, gradient_scale};
use edgetune::train::schedule::Schedule;
use ndarray::{Array1, Array2};
use ndarray_npy::NpzReader;
use serde::Deserialize;
use std::fs::File;
use std::path::Path;

/// One line of `optimizer.json`.
#[derive(Deserialize)]
struct Case {
    name: String,
    optimizer: OptimizerSpec,
    learning_rate: f64,
    accumulate: u32,
    norm_max: Option<f64>,
    schedule: ScheduleSpec,
    learning_rates: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum OptimizerSpec {
    AdamW { beta1: f64, beta2: f64, epsilon: f64, weight_decay: f64 },
    Sgd { momentum: f64, nesterov: bool, weight_decay: f64 },
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum ScheduleSpec {
    Constant { warmup_steps: u64 },
    Cosine { warmup_steps: u64, total_steps: u64, end_share: f64 },
}

impl Case {
    fn optimizer(&self) -> Optimizer {
        match self.optimizer {
            OptimizerSpec::AdamW { beta1, beta2, epsilon, weight_decay } => {
                Optimizer::AdamW { beta1, beta2, epsilon, weight_decay }
            }
            OptimizerSpec::Sgd { momentum, nesterov, weight_decay } => {
                Optimizer::Sgd { momentum, nesterov, weight_decay }
            }
        }
    }

    fn schedule(&self) -> Schedule {
        match self.schedule {
            ScheduleSpec::Constant { warmup_steps } => Schedule::Constant { warmup_steps },
            ScheduleSpec::Cosine { warmup_steps, total_steps, end_share } => {
                Schedule::Cosine { warmup_steps, total_steps, end_share }
            }
        }
    }
}

/// The goldens: cases, starting parameters, a row of gradients a batch for each parameter, and the archive.
struct Goldens {
    cases: Vec<Case>,
    starts: Vec<Vec<f32>>,
    gradients: Vec<Array2<f32>>,
    archive: NpzReader<File>,
}

fn goldens() -> Goldens {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let cases = serde_json::from_slice(&std::fs::read(folder.join("optimizer.json")).unwrap()).unwrap();
    let mut archive = NpzReader::new(File::open(folder.join("optimizer.npz")).unwrap()).unwrap();
    let starts = (0..3).map(|i| archive.by_name::<_, _>(&format!("p{i}")).unwrap());
    let starts = starts.map(|start: Array1<f32>| start.to_vec()).collect();
    let gradients = (0..3).map(|i| archive.by_name(&format!("g{i}")).unwrap()).collect();
    Goldens { cases, starts, gradients, archive }
}

/// Parameters and their states on the way through one case.
#[derive(Clone)]
struct Run {
    parameters: Vec<Vec<f32>>,
    states: Vec<State>,
}

impl Run {
    fn new(case: &Case, starts: &[Vec<f32>]) -> Self {
        let states = starts.iter().map(|start| State::new(&case.optimizer(), start.len())).collect();
        Self { parameters: starts.to_vec(), states }
    }

    fn step(&mut self, case: &Case, gradients: &[Array2<f32>], step: usize) {
        let batches = step * case.accumulate as usize..(step + 1) * case.accumulate as usize;
        let sums: Vec<Vec<f32>> = gradients
            .iter()
            .map(|rows| batches.clone().fold(Array1::zeros(rows.ncols()), |sum, batch| sum + rows.row(batch)).to_vec())
            .collect();
        let scale = gradient_scale(global_norm(sums.iter().map(Vec::as_slice)), case.accumulate, case.norm_max);
        let rate = case.schedule().learning_rate(case.learning_rate, step as u64);
        for ((parameter, state), gradient) in self.parameters.iter_mut().zip(&mut self.states).zip(&sums) {
            case.optimizer().update(parameter, gradient, scale, rate, state);
        }
    }
}

#[test]
fn every_step_of_every_case_equals_pytorch() {
    let mut goldens = goldens();
    assert!(goldens.cases.len() >= 13);
    for case in &goldens.cases {
        let wants: Vec<Array2<f32>> =
            (0..3).map(|i| goldens.archive.by_name(&format!("{}/p{i}", case.name)).unwrap()).collect();
        let mut run = Run::new(case, &goldens.starts);
        for step in 0..wants[0].nrows() {
            run.step(case, &goldens.gradients, step);
            for (got, want) in run.parameters.iter().zip(&wants) {
                for (got, want) in got.iter().zip(want.row(step)) {
                    let off = (got - want).abs() / want.abs().max(1.0);
                    assert!(off <= 1e-6, "{} step {step}: {got} instead of {want}", case.name);
                }
            }
        }
    }
}

#[test]
fn every_learning_rate_equals_pytorch() {
    for case in &goldens().cases {
        for (step, want) in case.learning_rates.iter().enumerate() {
            let got = case.schedule().learning_rate(case.learning_rate, step as u64);
            assert!((got - want).abs() <= 1e-12, "{} step {step}: {got} instead of {want}", case.name);
        }
    }
}

#[test]
fn a_state_that_went_through_bytes_goes_on_bit_for_bit() {
    let goldens = goldens();
    for case in &goldens.cases {
        let steps = 30 / case.accumulate as usize;
        let mut whole = Run::new(case, &goldens.starts);
        let mut halves = whole.clone();
        for step in 0..steps {
            whole.step(case, &goldens.gradients, step);
            halves.step(case, &goldens.gradients, step);
            let bytes = postcard::to_stdvec(&halves.states).unwrap();
            halves.states = postcard::from_bytes(&bytes).unwrap();
        }
        let bits = |run: &Run| run.parameters.concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&whole), bits(&halves), "{}", case.name);
        assert_eq!(whole.states[0].step, steps as u64);
    }
}

#[test]
fn a_state_fits_only_its_own_parameter_and_optimiser() {
    let state = State::new(&Optimizer::ADAMW, 5);
    assert!(state.fits(&Optimizer::ADAMW, 5));
    assert!(!state.fits(&Optimizer::ADAMW, 4));
    assert!(!state.fits(&Optimizer::SGD, 5));
    assert_eq!(Optimizer::ADAMW.state_bytes_per_element(), 8);
    assert_eq!(Optimizer::SGD.state_bytes_per_element(), 0);
}

#[test]
fn the_scale_is_the_mean_unless_the_mean_is_too_long() {
    let (a, b) = ([3.0_f32; 9], [4.0_f32; 9]);
    let norm = global_norm([a.as_slice(), b.as_slice()]);
    assert_eq!(norm, 15.0);
    assert_eq!(gradient_scale(norm, 4, None), 0.25);
    assert_eq!(gradient_scale(norm, 1, Some(20.0)), 1.0);
    assert!((gradient_scale(norm, 1, Some(5.0)) * 15.0 - 5.0).abs() < 1e-5);
    assert!((gradient_scale(norm, 3, Some(1.0)) * 15.0 - 1.0).abs() < 1e-5);
    assert!(global_norm([[1.0, f32::NAN].as_slice()]).is_nan());
}
