//! Going on from a text: one token after the other, with the parameters that would ship.
//!
//! Takes a base, with or without what was learned on it, and tokens; gives the tokens that follow. The whole model runs as
//! one session. Where it takes past keys and values and gives present ones, each token is read once; else the sequence is
//! read again for every token. Never sees text.

use super::error::Error;
use super::evaluate::{fed, largest, softmax};
use super::names::is_present_of;
use super::prepare::{Base, Bundle, whole};
use crate::data::{TextRole, text_role};
use crate::engine::{Options, Session};
use crate::graph::{DType, Tensor, TensorType};
use std::collections::HashMap;
use std::path::Path;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Only so many of the likeliest tokens are drawn from.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together have this probability are drawn from (Holtzman et al., 2019).
    pub top_p: Option<f32>,
    /// Decides what is drawn.
    pub seed: u64,
}

impl Sampling {
    /// Whether each value is in its range.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first that is not.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |setting, problem: &str| Err(Error::Setting { setting, problem: problem.into() });
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return refuse("temperature", "must be 0 (always the likeliest token) or more, such as 0.8");
        }
        if self.top_k == Some(0) {
            return refuse("top-k", "0 tokens leave nothing to choose from; give 1 or more");
        }
        if self.top_p.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
            return refuse("top-p", "must be above 0 and at most 1, such as 0.9");
        }
        Ok(())
    }

    /// The next token by its logits, one a token of the vocabulary.
    pub fn choose(&self, logits: &[f32], random: &mut fastrand::Rng) -> u32 {
        if self.temperature == 0.0 {
            return largest(logits) as u32;
        }
        let scaled: Vec<f32> = logits.iter().map(|logit| logit / self.temperature).collect();
        let mut likely: Vec<(usize, f32)> = softmax(&scaled).into_iter().enumerate().collect();
        likely.sort_by(|one, other| other.1.total_cmp(&one.1));
        likely.truncate(self.top_k.unwrap_or(likely.len()));
        if let Some(share) = self.top_p {
            let share = share * likely.iter().map(|(_, probability)| probability).sum::<f32>();
            let mut sum = 0.0;
            let enough = likely.iter().position(|(_, probability)| {
                sum += probability;
                sum >= share
            });
            likely.truncate(enough.map_or(likely.len(), |last| last + 1));
        }
        let mut left = random.f32() * likely.iter().map(|(_, probability)| probability).sum::<f32>();
        let drawn = likely.iter().find(|(_, probability)| {
            left -= probability;
            left < 0.0
        });
        drawn.or(likely.last()).map_or(0, |(token, _)| *token as u32)
    }
}

/// What follows a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continued {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Where the model would not take a sequence of so many tokens, though it took one less: that number, and ONNX
    /// Runtime's words.
    pub refused: Option<(usize, String)>,
}

/// A model ready to go on from tokens.
#[derive(Debug)]
pub struct Generator {
    session: Session,
    /// The model's inputs with what each is told.
    inputs: Vec<(String, TensorType, TextRole)>,
    /// The learned values as further inputs.
    parameters: Vec<(String, Tensor)>,
    /// For each input of past keys or values, the output that holds them afterwards; empty for a model without a cache.
    kept: Vec<(String, usize)>,
}

impl Generator {
    /// Loads a base, with the values that were learned in a bundle of it.
    ///
    /// # Errors
    /// An input that cannot be made from text, an output that is not `[batch, sequence, vocabulary]`, a model that ONNX
    /// Runtime refuses.
    pub fn new(
        base: &Base,
        learned: Option<(&Bundle, &[Vec<f32>])>,
        bundles: &Path,
        options: &Options,
    ) -> Result<Self, Error> {
        let whole = whole(base, learned.map(|(bundle, _)| bundle), bundles)?;
        let mut inputs = Vec::new();
        for (name, ty) in whole.inputs {
            let role = text_role(&name, &ty).ok_or_else(|| Error::Setting {
                setting: "MODEL",
                problem: format!("its input `{name}` ({ty}) cannot be made from text; give a language model"),
            })?;
            inputs.push((name, ty, role));
        }
        let session = Session::from_file(&whole.path, options)?;
        let kept = kept(&inputs, &session);
        let parameters = learned.map(|(bundle, values)| fed(&bundle.parameters, values)).unwrap_or_default();
        Ok(Self { session, inputs, parameters, kept })
    }

    /// Whether tokens are read once only.
    pub fn has_cache(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Up to `count` tokens that follow `prompt`, without the one that `ends` them. Each is told as it comes; `tell` gives
    /// `false` to stop.
    ///
    /// # Errors
    /// A prompt that the model does not take: it is too long, or ONNX Runtime has another reason.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        count: usize,
        sampling: &Sampling,
        ends: &dyn Fn(u32) -> bool,
        tell: &mut dyn FnMut(u32) -> bool,
    ) -> Result<Continued, Error> {
        let mut random = fastrand::Rng::with_seed(sampling.seed);
        let mut sequence = prompt.to_vec();
        let mut past = Past::default();
        for _ in 0..count {
            let length = sequence.len();
            let unread = &sequence[past.read..];
            let logits = match self.read(unread, &mut past) {
                Ok(logits) => logits,
                Err(Error::Engine(error)) if length == prompt.len() => {
                    let problem = format!("{length} tokens are not taken; is it too long for the model? ({error})");
                    return Err(Error::Setting { setting: "prompt", problem });
                }
                Err(Error::Engine(error)) => {
                    let tokens = sequence.split_off(prompt.len());
                    return Ok(Continued { tokens, refused: Some((length, error.to_string())) });
                }
                Err(other) => return Err(other),
            };
            let token = sampling.choose(&logits, &mut random);
            if ends(token) {
                break;
            }
            sequence.push(token);
            if !tell(token) {
                break;
            }
        }
        Ok(Continued { tokens: sequence.split_off(prompt.len()), refused: None })
    }

    /// Reads tokens behind those of `past`; gives the logits of what follows the last.
    fn read(&mut self, tokens: &[u32], past: &mut Past) -> Result<Vec<f32>, Error> {
        let mut fed: Vec<(&str, Tensor)> = Vec::with_capacity(self.inputs.len());
        for (name, ty, role) in &self.inputs {
            let all = past.read + tokens.len();
            let tensor = match role {
                TextRole::Ids => integers(ty.dtype, tokens.iter().map(|token| i64::from(*token))),
                TextRole::Mask => integers(ty.dtype, (0..all).map(|_| 1)),
                TextRole::Types => integers(ty.dtype, tokens.iter().map(|_| 0)),
                TextRole::Positions => integers(ty.dtype, (past.read..all).map(|place| place as i64)),
                TextRole::Past => match past.tensors.get(name) {
                    Some(tensor) => tensor.clone(),
                    None => no_past(name, ty)?,
                },
            };
            fed.push((name, tensor));
        }
        let parameters = self.parameters.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let all: Vec<(&str, &Tensor)> = fed.iter().map(|(name, tensor)| (*name, tensor)).chain(parameters).collect();
        let outputs = self.session.run(&all)?;
        if !self.kept.is_empty() {
            past.read += tokens.len();
            past.tensors = self.kept.iter().map(|(name, output)| (name.clone(), outputs[*output].clone())).collect();
        }
        Ok(last_row(&outputs[0]))
    }
}

/// What a model has read.
#[derive(Debug, Default)]
struct Past {
    /// Tokens; 0 for ever where nothing is kept.
    read: usize,
    /// Keys and values by the names of the inputs that take them.
    tensors: HashMap<String, Tensor>,
}

/// The pairs of past and present: all of a model's, or none where one lacks its other half.
fn kept(inputs: &[(String, TensorType, TextRole)], session: &Session) -> Vec<(String, usize)> {
    let pasts = inputs.iter().filter(|(_, _, role)| *role == TextRole::Past);
    let pair = |(name, _, _): &(String, TensorType, TextRole)| {
        let output = session.outputs().iter().position(|(output, _)| is_present_of(output, name))?;
        Some((name.clone(), output))
    };
    pasts.map(pair).collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// A row `[1, n]`.
fn integers(dtype: DType, values: impl Iterator<Item = i64>) -> Tensor {
    let values: Vec<i64> = values.collect();
    let shape = [1, values.len() as u64];
    match dtype {
        DType::Int32 => Tensor::from_vec(&shape, values.into_iter().map(|value| value as i32).collect()),
        _ => Tensor::from_vec(&shape, values),
    }
}

/// Keys or values of no token: `[1, heads, 0, size]`.
fn no_past(name: &str, ty: &TensorType) -> Result<Tensor, Error> {
    let failed = || Error::Setting {
        setting: "MODEL",
        problem: format!("input `{name}` ({ty}): its heads and their size must be fixed; export the model with them"),
    };
    let mut shape = ty.empty_row().ok_or_else(failed)?;
    shape.insert(0, 1);
    Ok(Tensor { dtype: ty.dtype, shape, data: Default::default() })
}

/// The last of `[1, sequence, vocabulary]`.
fn last_row(logits: &Tensor) -> Vec<f32> {
    let width = logits.shape.last().copied().unwrap_or(1);
    let bytes = width as usize * logits.dtype.bits() / 8;
    let data = logits.data.slice(logits.data.len() - bytes..);
    Tensor { dtype: logits.dtype, shape: vec![width], data }.to_f32().expect("logits are floats")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: None, top_p: None, seed: 0 };

    fn drawn(sampling: &Sampling, logits: &[f32]) -> Vec<usize> {
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts = vec![0; logits.len()];
        (0..2000).for_each(|_| counts[sampling.choose(logits, &mut random) as usize] += 1);
        counts
    }

    #[test]
    fn tokens_are_drawn_by_their_probability() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let counts = drawn(&Sampling { temperature: 1.0, ..GREEDY }, &logits);
        for (count, expected) in counts.iter().zip([1000, 600, 400]) {
            assert!(count.abs_diff(expected) < 80, "{counts:?}");
        }
        assert_eq!(drawn(&GREEDY, &logits), [2000, 0, 0]);
        assert_eq!(drawn(&Sampling { temperature: 1.0, top_k: Some(2), ..GREEDY }, &logits)[2], 0);
        assert_eq!(drawn(&Sampling { temperature: 1.0, top_p: Some(0.6), ..GREEDY }, &logits)[2], 0);
        let cold = drawn(&Sampling { temperature: 0.1, ..GREEDY }, &logits);
        assert!(cold[0] > 1950, "{cold:?}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for (bad, flag) in [
            (Sampling { temperature: -1.0, ..GREEDY }, "setting `temperature`"),
            (Sampling { temperature: f32::NAN, ..GREEDY }, "setting `temperature`"),
            (Sampling { top_k: Some(0), ..GREEDY }, "setting `top-k`"),
            (Sampling { top_p: Some(0.0), ..GREEDY }, "setting `top-p`"),
        ] {
            assert!(bad.check().unwrap_err().to_string().starts_with(flag));
        }
    }
}
