//! What a whole layer has learned, as factors of low rank: W′ − W ≈ B A.
//!
//! Takes a base, whole layers that were learned on it, and a rank; gives factors in the shapes of LoRA's, so that every reader
//! of a LoRA delta takes them. Never looks at data.

use super::attach::{LORA_A, LORA_B, shape_a, shape_b};
use super::merge::{by_outputs, constant, values_of};
use super::target::{self, Target};
use super::{Change, Error, found_output};
use crate::factor::{factors, norm};
use crate::graph::{Graph, Tensor, ValueId};
use ndarray::Array2;
use std::collections::HashMap;

/// A layer's change as LoRA's factors, of which the scale is 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Factored {
    /// The learned tensor in whose place they stand.
    pub weight: String,
    /// Name, sizes and values of A and of B.
    pub factors: [(String, Vec<u64>, Vec<f32>); 2],
    /// ‖W′ − W − B A‖ / ‖W′ − W‖.
    pub error: f64,
}

/// The changes of all whole layers that are larger than their factors of this rank. `values` are the learned tensors' by name.
/// Left out are tensors of another width than the base's (a new classifier), and weights that several nodes read.
///
/// # Errors
/// An output or a value that is not there.
pub fn factored(
    graph: &Graph,
    change: &Change<'_>,
    values: &HashMap<&str, &[f32]>,
    rank: u32,
) -> Result<Vec<Factored>, Error> {
    let targets = target::all(graph, found_output(graph, change.output)?);
    let consumers = graph.consumers();
    let once = |id: ValueId| consumers.get(&id).is_some_and(|readers| readers.len() == 1);
    let mut learned = graph.clone();
    let mut found = Vec::new();
    for tensor in &change.learned {
        let Some(id) = graph.find(tensor.name).filter(|id| once(*id)) else { continue };
        let Some((_, target)) = targets.iter().find(|(_, target)| target.weight == id && once(target.read)) else {
            continue;
        };
        let known = graph.initializers.get(&id).filter(|known| known.dtype.is_float());
        if known.is_none_or(|known| known.shape != tensor.shape) {
            continue;
        }
        let values = values_of(values, tensor.name)?;
        learned.initializers.insert(id, Tensor::from_f32(&tensor.shape, values));
        let (Some(before), Some(after)) = (weight(graph, target), weight(&learned, target)) else { continue };
        let (m, n) = before.dim();
        if rank as usize * (m + n) >= m * n {
            continue;
        }
        let difference = (after - before).mapv(f64::from);
        let (b, a) = factors(difference.view(), rank as usize);
        let left = &difference - &b.dot(&a).mapv(f64::from);
        let error = norm(left.view()) / norm(difference.view()).max(f64::MIN_POSITIVE);
        let named = |suffix: &str, shape: Vec<u64>, values: Array2<f32>| {
            (format!("{}{suffix}", target.module), shape, values.into_iter().collect())
        };
        let factors = [named(LORA_A, shape_a(target, rank.into()), a), named(LORA_B, shape_b(target, rank.into()), b)];
        found.push(Factored { weight: tensor.name.into(), factors, error });
    }
    Ok(found)
}

/// The weight as `[out, in·k…]`.
fn weight(graph: &Graph, target: &Target) -> Option<Array2<f32>> {
    Some(by_outputs(target, constant(graph, &graph.producers(), target.read)?))
}
