//! How what learns is fitted where nobody has said it: a fresh linear head in closed form, everything else by gradient steps.
//!
//! Pure functions of sizes and settings, so that the same command decides alike on every device.

use super::{Linear, Settings, Solver};
use crate::data::{Labels, Split};
use crate::train::loss::Loss;
use crate::train::prepare::Bundle;

/// Samples times inputs times outputs up to which L-BFGS is worth its time. It takes four to twelve times as long as ten epochs of steps,
/// about 20 s at this product on two busy cores, and is right on up to nine points more of what is held out
/// (`benches/defaults/closed_form.py`).
const WORK_MAX: u64 = 1_000_000_000;
/// Bytes that a solver may hold, a quarter of a small device's memory: features of all samples, and what L-BFGS or the normal
/// equations keep.
const BYTES_MAX: u64 = 128 << 20;
/// Vectors as long as the layer's values that L-BFGS keeps: pairs, places and gradients.
const VECTORS: u64 = 28;

/// The solver that fits a bundle's fresh linear head best; `None` where what learns has no closed form, or one that would take
/// more time or memory than gradient steps.
pub fn solver(bundle: &Bundle, labels: &Labels, split: &Split, loss: &Loss) -> Option<Settings> {
    if let Loss::Normality { .. } = loss {
        let loss = loss.clone();
        return Some(Settings { solver: Solver::Normality, l2: None, loss, known: 0, refit: false, below: false });
    }
    let linear = Linear::fresh_head(bundle).ok()?;
    let samples = (split.train.len() + split.validation.len()) as u64;
    let (inputs, outputs) = (linear.inputs as u64, linear.outputs as u64);
    let layer_bytes = 8 * outputs * (inputs + 1);
    let ridge_bytes = 16 * inputs.min(samples).pow(2) + 4 * inputs * inputs.min(samples) + 4 * layer_bytes;
    let lbfgs_bytes = 4 * samples * inputs + VECTORS * layer_bytes;
    let small = samples * inputs * outputs <= WORK_MAX && lbfgs_bytes <= BYTES_MAX;
    let solver = match loss {
        Loss::NextToken
        | Loss::Coral
        | Loss::TokenCrossEntropy { .. }
        | Loss::PixelCrossEntropy { .. }
        | Loss::Boxes { .. }
        | Loss::Ctc
        | Loss::Likeness { .. }
        | Loss::Normality { .. }
        | Loss::File(_) => return None,
        Loss::MeanSquaredError if ridge_bytes <= BYTES_MAX => Solver::Ridge,
        Loss::CrossEntropy { .. } if one_each(labels, split) => Solver::Imprint,
        Loss::CrossEntropy { .. } | Loss::BinaryCrossEntropy | Loss::Huber { .. } if small => Solver::Lbfgs,
        _ => return None,
    };
    Some(Settings { solver, l2: None, loss: loss.clone(), known: 0, refit: true, below: false })
}

/// How a trained head goes on where samples of what it knows are learned again: at once, and no further from what it is than the samples
/// ask for. `None` where it is no linear layer, or where gradient steps would take less time or memory.
pub fn kept(bundle: &Bundle, samples: u64, labels: &Labels, loss: &Loss) -> Option<Settings> {
    let linear = Linear::find(bundle).ok()?;
    let (inputs, outputs) = (linear.inputs as u64, linear.outputs as u64);
    let bytes = 4 * samples * inputs + VECTORS * 8 * outputs * (inputs + 1);
    let small = samples * inputs * outputs <= WORK_MAX && bytes <= BYTES_MAX;
    let fits = matches!((loss, labels), (Loss::CrossEntropy { .. }, Labels::Classes { .. }));
    let settings = Settings {
        solver: Solver::Lbfgs,
        l2: None,
        loss: loss.clone(),
        known: linear.outputs,
        refit: true,
        below: false,
    };
    (fits && small).then_some(settings)
}

/// Whether no class has two samples to tell a good penalty from a bad one by.
fn one_each(labels: &Labels, split: &Split) -> bool {
    let Labels::Classes { index, names } = labels else { return false };
    let mut seen = vec![false; names.len()];
    let mut all = split.train.iter().chain(&split.validation);
    all.all(|sample| !std::mem::replace(&mut seen[index[*sample] as usize], true))
}
