//! Stage 7, the optimiser: one fused pass over a parameter, its gradient and its state.
//!
//! Takes parameters and gradients as flat `f32` slices and updates the parameters in place. It imports no other module,
//! does no I/O, draws no random numbers and reads no clock. Every operation is IEEE-754 without contraction and in a
//! fixed order, so the same inputs give the same bits on every machine.

use serde::{Deserialize, Serialize};

/// Which update is made. The learning rate comes with every step, from [`Schedule`](super::schedule::Schedule).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    /// Adam with decoupled weight decay (Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019,
    /// algorithm 2), in the arithmetic of `torch.optim.AdamW`: decay is multiplied by the learning rate, and epsilon is
    /// added after the bias correction of the second moment.
    AdamW {
        /// Decay of the first moment, in [0, 1).
        beta1: f64,
        /// Decay of the second moment, in [0, 1).
        beta2: f64,
        /// Added to the denominator.
        epsilon: f64,
        /// Fraction of the parameter, times the learning rate, that is taken away at each step.
        weight_decay: f64,
    },
    /// Stochastic gradient descent with momentum (Sutskever et al., "On the importance of initialization and momentum in
    /// deep learning", 2013), in the arithmetic of `torch.optim.SGD` with no dampening.
    Sgd {
        /// Share of the previous velocity that is kept; 0 keeps no velocity at all.
        momentum: f64,
        /// Whether the gradient is looked up one velocity ahead.
        nesterov: bool,
        /// Fraction of the parameter that is added to its gradient (L2 penalty).
        weight_decay: f64,
    },
}

/// What the optimiser remembers about one parameter between steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// AdamW: running mean of the gradient. SGD: velocity; empty without momentum. Otherwise as long as the parameter.
    pub first: Vec<f32>,
    /// AdamW: running mean of the squared gradient, as long as the parameter. SGD: empty.
    pub second: Vec<f32>,
    /// Updates made so far.
    pub step: u64,
}

impl State {
    /// The state before the first step of a parameter of `len` elements.
    pub fn new(optimizer: &Optimizer, len: usize) -> Self {
        let (first, second) = optimizer.state_lens(len);
        Self { first: vec![0.0; first], second: vec![0.0; second], step: 0 }
    }

    /// Whether this state (from a checkpoint, say) belongs to that optimiser and a parameter of `len` elements.
    pub fn fits(&self, optimizer: &Optimizer, len: usize) -> bool {
        (self.first.len(), self.second.len()) == optimizer.state_lens(len)
    }
}

impl Optimizer {
    /// AdamW with the defaults of `torch.optim.AdamW`: β₁ 0.9, β₂ 0.999, ε 1e-8, decay 0.01.
    pub const ADAMW: Self = Self::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };

    /// Plain gradient descent: no momentum, no decay.
    pub const SGD: Self = Self::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

    /// The lengths of [`State::first`] and [`State::second`] for a parameter of `len` elements.
    fn state_lens(&self, len: usize) -> (usize, usize) {
        match self {
            Self::AdamW { .. } => (len, len),
            Self::Sgd { momentum, .. } if *momentum != 0.0 => (len, 0),
            Self::Sgd { .. } => (0, 0),
        }
    }

    /// Bytes of state for each element of a parameter: what a memory budget must count besides parameter and gradient.
    pub fn state_bytes_per_element(&self) -> usize {
        let (first, second) = self.state_lens(1);
        (first + second) * size_of::<f32>()
    }

    /// One step: updates `parameter` and `state` in place with the gradient `gradient_scale · gradient`
    /// (see [`gradient_scale`]). Each vector is read and written once.
    ///
    /// # Panics
    ///
    /// If the lengths of `parameter`, `gradient` and `state` do not belong together: check what comes from a file with
    /// [`State::fits`] before.
    pub fn update(
        &self,
        parameter: &mut [f32],
        gradient: &[f32],
        gradient_scale: f32,
        learning_rate: f64,
        state: &mut State,
    ) {
        assert_eq!(parameter.len(), gradient.len(), "a gradient of another parameter");
        assert!(state.fits(self, parameter.len()), "a state of another parameter or optimiser");
        state.step += 1;
        match *self {
            Self::AdamW { beta1, beta2, epsilon, weight_decay } => {
                let correction1 = 1.0 - power(beta1, state.step);
                let correction2 = 1.0 - power(beta2, state.step);
                let factors = AdamWFactors {
                    keep: (1.0 - learning_rate * weight_decay) as f32,
                    new1: (1.0 - beta1) as f32,
                    old2: beta2 as f32,
                    new2: (1.0 - beta2) as f32,
                    correction2_sqrt: correction2.sqrt() as f32,
                    epsilon: epsilon as f32,
                    step_size: (learning_rate / correction1) as f32,
                };
                adamw(parameter, gradient, gradient_scale, &mut state.first, &mut state.second, factors);
            }
            Self::Sgd { momentum, nesterov, weight_decay } => {
                let (rate, momentum, decay) = (learning_rate as f32, momentum as f32, weight_decay as f32);
                if state.first.is_empty() {
                    sgd(parameter, gradient, gradient_scale, decay, rate);
                } else {
                    // The velocity weighs 1 and the gradient 0, or μ and 1: one loop without a branch for both kinds.
                    let (of_velocity, of_gradient) = if nesterov { (momentum, 1.0) } else { (1.0, 0.0) };
                    let factors = MomentumFactors { momentum, of_velocity, of_gradient, decay, rate };
                    sgd_momentum(parameter, gradient, gradient_scale, &mut state.first, factors);
                }
            }
        }
    }
}

/// What is the same for all elements in one step of AdamW.
#[derive(Clone, Copy)]
struct AdamWFactors {
    keep: f32,
    new1: f32,
    old2: f32,
    new2: f32,
    correction2_sqrt: f32,
    epsilon: f32,
    step_size: f32,
}

fn adamw(parameter: &mut [f32], gradient: &[f32], scale: f32, first: &mut [f32], second: &mut [f32], by: AdamWFactors) {
    for (((p, g), m), v) in parameter.iter_mut().zip(gradient).zip(first).zip(second) {
        let g = g * scale;
        *m += by.new1 * (g - *m);
        *v = by.old2 * *v + by.new2 * g * g;
        *p = *p * by.keep - by.step_size * *m / (v.sqrt() / by.correction2_sqrt + by.epsilon);
    }
}

fn sgd(parameter: &mut [f32], gradient: &[f32], scale: f32, decay: f32, rate: f32) {
    for (p, g) in parameter.iter_mut().zip(gradient) {
        *p -= rate * (g * scale + decay * *p);
    }
}

/// What is the same for all elements in one step of SGD with momentum.
#[derive(Clone, Copy)]
struct MomentumFactors {
    momentum: f32,
    of_velocity: f32,
    of_gradient: f32,
    decay: f32,
    rate: f32,
}

fn sgd_momentum(parameter: &mut [f32], gradient: &[f32], scale: f32, velocity: &mut [f32], by: MomentumFactors) {
    for ((p, g), v) in parameter.iter_mut().zip(gradient).zip(velocity) {
        let g = g * scale + by.decay * *p;
        *v = by.momentum * *v + g;
        *p -= by.rate * (by.of_gradient * g + by.of_velocity * *v);
    }
}

/// `base` to the power `exponent` by repeated squaring. Unlike `powi` it has the same bits on every platform.
fn power(base: f64, exponent: u64) -> f64 {
    let (mut result, mut square, mut rest) = (1.0, base, exponent);
    while rest > 0 {
        if rest & 1 == 1 {
            result *= square;
        }
        square *= square;
        rest >>= 1;
    }
    result
}

/// Euclidean norm of all gradients together, summed in `f64` in a fixed order. Not finite if any element is not.
pub fn global_norm<'a>(gradients: impl IntoIterator<Item = &'a [f32]>) -> f64 {
    gradients.into_iter().map(square_sum).sum::<f64>().sqrt()
}

fn square_sum(values: &[f32]) -> f64 {
    // Independent lanes: one running sum would chain every addition to the one before it.
    const LANES: usize = 8;
    let mut lanes = [0.0_f64; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    let rest: f64 = chunks.remainder().iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    lanes.iter().sum::<f64>() + rest
}

/// The factor on gradients that were summed over `accumulated` batches: their mean, and, where `norm_max` is given, no
/// longer than that (`torch.nn.utils.clip_grad_norm_`: the mean's norm plus 1e-6 is what is compared).
///
/// `norm` is the [`global_norm`] of the sums. A norm that is not finite gives a factor that is not finite or is 0:
/// check the norm before the step.
pub fn gradient_scale(norm: f64, accumulated: u32, norm_max: Option<f64>) -> f32 {
    let mean = 1.0 / f64::from(accumulated.max(1));
    let clip = norm_max.map_or(1.0, |norm_max| (norm_max / (norm * mean + 1e-6)).min(1.0));
    (mean * clip) as f32
}
