//! Several deltas → their weighted mean.
//!
//! Takes parsed deltas of one base, gives the bytes of a new one, unsigned: who signs it answers for it. What is averaged is
//! what the deltas do to the base's weights. Where that is linear in the tensors (whole tensors, biases, IA³'s scales, LoRA-FA's
//! `B` over one `A`), the tensors are averaged. LoRA's change is a product, and the mean of products is no product of
//! means: there the factors are put beside each other, which is exact but for the rounding to fp16:
//!
//! ```text
//! Σ cᵢ·sᵢ·Bᵢ Aᵢ = s · [q₁·B₁ q₂·B₂ …] [A₁; A₂; …]   with s = max cᵢ·sᵢ, qᵢ = cᵢ·sᵢ / s ≤ 1, cᵢ the share of delta i
//! ```
//!
//! The rank becomes the sum of the ranks, alpha what makes the scale `s` of it. The delta that counts most keeps its factors
//! to the last bit. DoRA divides by a norm of its factors, so there is no exact mean, and it is refused.

use super::chain::{Made, owned, written};
use super::encode::encode;
use super::header::{Encoding, Header, Label, Method, MethodKind, ensure};
use super::read::{Delta, TensorView};
use super::{Error, VALUES_MAX};
use crate::order::gathered;
use std::collections::BTreeSet;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

/// What PEFT calls LoRA's factors: `[rank, in…]` and `[out, rank…]`.
const FACTORS: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

/// The weighted mean of deltas that stand alone, in fp16: value by value, but for the factors of LoRA and rsLoRA, which may
/// differ in rank, alpha and layers and are put beside each other. Header and labels are the first one's, with the samples
/// summed, and without what was measured: nobody has measured the mean.
///
/// # Errors
/// [`Error::Unlike`] for other bases, outputs, labels, methods, tensors, or weights that are not positive;
/// [`Error::Factors`] for DoRA; what [`super::write`] refuses, where the ranks' sum makes a delta too long.
pub fn merge(deltas: &[Delta], weights: &[f32]) -> Result<Vec<u8>, Error> {
    let [first, others @ ..] = deltas else { return Err(Error::TensorCount(0)) };
    let total: f32 = weights.iter().sum();
    let positive = weights.iter().all(|weight| *weight > 0.0) && total.is_finite();
    ensure(positive && weights.len() == deltas.len(), Error::Unlike)?;
    ensure(deltas.iter().all(|delta| kind(delta) != Some(MethodKind::Dora)), Error::Factors)?;
    ensure(others.iter().all(|other| alike(first, other)), Error::Unlike)?;
    let shares: Vec<f32> = weights.iter().map(|weight| weight / total).collect();
    let mut made = means(deltas, &shares)?;
    let mut method = first.header().method;
    if is_product(first) {
        let beside = Beside::new(deltas, &shares)?;
        method = Some(beside.method());
        made.extend(beside.made(deltas)?);
    }
    let samples = deltas.iter().fold(0u64, |sum, delta| sum.saturating_add(delta.header().samples));
    let header = Header {
        created_unix_s: None,
        device: "",
        method,
        metrics: Default::default(),
        gate: None,
        samples,
        ..first.header().clone()
    };
    let summed = |(index, label): (usize, Label<'_>)| {
        let others = others.iter().filter_map(|other| other.labels().nth(index));
        others.fold(label.samples, |sum, other| sum.saturating_add(other.samples))
    };
    let counts: Vec<u32> = first.labels().enumerate().map(summed).collect();
    let labels: Vec<Label> = first.labels().zip(counts).map(|(label, samples)| Label { samples, ..label }).collect();
    written(&header, &labels, &made)
}

fn kind(delta: &Delta) -> Option<MethodKind> {
    delta.header().method.as_ref().map(|method| method.kind)
}

/// Whether what is learned is the product of two factors, and nothing else is done with it.
fn is_product(delta: &Delta) -> bool {
    matches!(kind(delta), Some(MethodKind::Lora | MethodKind::RsLora))
}

/// Whether the mean of two deltas means something. Factors are compared when they are put together.
fn alike(a: &Delta, b: &Delta) -> bool {
    let (first, second) = (a.header(), b.header());
    let averaged =
        |delta: &Delta| averaged(delta).map(|t| (t.entry.name.to_string(), t.entry.shape)).collect::<Vec<_>>();
    first.base == second.base
        && first.output == second.output
        && first.head == second.head
        && (first.method == second.method || (is_product(a) && is_product(b)))
        // The frozen factors of LoRA-FA are made from the seed.
        && (kind(a) != Some(MethodKind::LoraFa) || first.seed == second.seed)
        && a.labels().map(|label| label.name).eq(b.labels().map(|label| label.name))
        && averaged(a) == averaged(b)
}

/// The tensors whose values are averaged.
fn averaged<'d>(delta: &'d Delta) -> impl Iterator<Item = TensorView<'d>> {
    let product = is_product(delta);
    delta.tensors().filter(move |tensor| !product || module(tensor.entry.name).is_none())
}

fn means(deltas: &[Delta], shares: &[f32]) -> Result<Vec<Made>, Error> {
    let mut made = Vec::new();
    for tensor in averaged(&deltas[0]) {
        let mut mean = vec![0f32; tensor.len()];
        for (delta, share) in deltas.iter().zip(shares) {
            let values = owned(&delta.tensor(tensor.entry.name).ok_or(Error::Unlike)?)?;
            mean.iter_mut().zip(values).for_each(|(mean, value)| *mean += value * share);
        }
        made.push(Made::like(&tensor, encode(&mean, Encoding::Fp16)?));
    }
    Ok(made)
}

/// The module that a factor belongs to.
fn module(name: &str) -> Option<&str> {
    FACTORS.iter().find_map(|suffix| name.strip_suffix(suffix))
}

/// Factors of several deltas beside each other.
struct Beside {
    kind: MethodKind,
    /// Of the mean.
    rank: u32,
    /// Of each delta.
    ranks: Vec<usize>,
    /// What `B A` of the mean is multiplied by.
    scale: f64,
    /// What each delta's `B` is multiplied by before.
    factors: Vec<f32>,
}

impl Beside {
    fn new(deltas: &[Delta], shares: &[f32]) -> Result<Self, Error> {
        let methods: Option<Vec<&Method>> = deltas.iter().map(|delta| delta.header().method.as_ref()).collect();
        let methods = methods.ok_or(Error::Unlike)?;
        ensure(methods.iter().all(|method| method.rank > 0 && method.alpha > 0.0), Error::Unlike)?;
        let scales = methods
            .iter()
            .zip(shares)
            .map(|(method, share)| f64::from(*share) * f64::from(method.alpha) / divisor(method.kind, method.rank));
        let scales: Vec<f64> = scales.collect();
        let scale = scales.iter().copied().fold(0.0, f64::max);
        Ok(Self {
            kind: methods[0].kind,
            rank: methods.iter().fold(0, |sum: u32, method| sum.saturating_add(method.rank)),
            ranks: methods.iter().map(|method| method.rank as usize).collect(),
            scale,
            factors: scales.iter().map(|each| (each / scale) as f32).collect(),
        })
    }

    /// The mean's, with the alpha that gives the scale at its rank.
    fn method(&self) -> Method {
        let (kind, rank) = (self.kind, self.rank);
        Method { kind, rank, alpha: (self.scale * divisor(kind, rank)) as f32 }
    }

    fn made(&self, deltas: &[Delta]) -> Result<Vec<Made>, Error> {
        let entries = deltas.iter().flat_map(|delta| delta.head().entries());
        let modules: BTreeSet<&str> = gathered(entries.filter_map(|located| module(located.entry.name)));
        let mut made = Vec::new();
        for module in modules {
            made.extend(self.of_module(module, deltas)?);
        }
        Ok(made)
    }

    /// `A: [rank, in…]` and `B: [out, rank…]` of the mean. A delta that left the module as it is has zeros there.
    fn of_module(&self, module: &str, deltas: &[Delta]) -> Result<[Made; 2], Error> {
        let names = FACTORS.map(|suffix| [module, suffix].concat());
        let pairs = deltas.iter().map(|delta| match names.each_ref().map(|name| delta.tensor(name)) {
            [Some(a), Some(b)] => Ok(Some((a, b))),
            [None, None] => Ok(None),
            _ => Err(Error::Unlike),
        });
        let pairs = pairs.collect::<Result<Vec<_>, Error>>()?;
        let (a, b) = pairs.iter().flatten().next().expect("a module of one of the deltas");
        let (mut a_shape, mut b_shape) = (a.entry.shape.to_vec(), b.entry.shape.to_vec());
        ensure(a_shape.len() > 1 && b_shape.len() > 1, Error::Unlike)?;
        let size = |sizes: &[u32]| sizes.iter().map(|size| *size as usize).product::<usize>();
        let (columns, rows, kernel) = (size(&a_shape[1..]), b_shape[0] as usize, size(&b_shape[2..]));
        // A delta without this module may say any rank.
        let count = u64::from(self.rank).saturating_mul((columns + rows * kernel) as u64);
        ensure(count <= VALUES_MAX as u64, Error::ValueCount)?;
        let mut wide = Vec::with_capacity(self.rank as usize * columns);
        let mut tall = vec![0f32; rows * self.rank as usize * kernel];
        let mut begin = 0;
        for ((pair, rank), factor) in pairs.iter().zip(&self.ranks).zip(&self.factors) {
            let (stride, width) = (self.rank as usize * kernel, rank * kernel);
            match pair {
                Some((a, b)) => {
                    (a_shape[0], b_shape[1]) = (*rank as u32, *rank as u32);
                    ensure(*a.entry.shape == *a_shape && *b.entry.shape == *b_shape, Error::Unlike)?;
                    wide.extend(owned(a)?);
                    for (to, from) in tall.chunks_exact_mut(stride).zip(owned(b)?.chunks_exact(width)) {
                        to[begin..begin + width].iter_mut().zip(from).for_each(|(to, from)| *to = factor * from);
                    }
                }
                None => wide.extend(core::iter::repeat_n(0.0, rank * columns)),
            }
            begin += width;
        }
        (a_shape[0], b_shape[1]) = (self.rank, self.rank);
        let [a_name, b_name] = names;
        Ok([
            Made { name: a_name, shape: a_shape, payload: encode(&wide, Encoding::Fp16)? },
            Made { name: b_name, shape: b_shape, payload: encode(&tall, Encoding::Fp16)? },
        ])
    }
}

/// What alpha is divided by to give the scale of `B A`.
fn divisor(kind: MethodKind, rank: u32) -> f64 {
    if kind == MethodKind::RsLora { f64::from(rank).sqrt() } else { f64::from(rank) }
}
