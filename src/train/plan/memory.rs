//! The private memory that a run would take, before anything of it is loaded.

use super::liveness;
use crate::graph::{Graph, Node, TensorType, ValueId};
use crate::train::error::Error;
use crate::train::evaluate;
use crate::train::features::{CHUNK, LIMITS};
use crate::train::loss::Loss;
use crate::train::optimizer::Optimizer;
use crate::train::prepare::Divided;
use crate::train::step;
use std::collections::{BTreeMap, HashSet};

/// What of the settings decides how much memory a run takes.
#[derive(Debug, Clone)]
pub struct Demand<'a> {
    /// Samples in one run of the step graph.
    pub batch: u64,
    /// Runs averaged for one optimiser step.
    pub accumulate: u32,
    /// What is minimised.
    pub loss: &'a Loss,
    /// The update.
    pub optimizer: &'a Optimizer,
    /// Bytes of weights up to which a session gets copies of them ([`engine::Options::packed_bytes_max`](crate::engine::Options)).
    pub packed_bytes_max: u64,
    /// Samples whose features stay in memory: all of a run without a cache on disk, else none.
    pub kept_samples: u64,
    /// Sizes of the named dimensions but the batch (a text's length).
    pub dims: &'a BTreeMap<String, u64>,
}

/// Private memory of a run by what takes it, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// The body's session: weights as its kernels want them, and the arena of a chunk of samples with their inputs.
    pub body: u64,
    /// The step's session: weights and arena of a batch, features included.
    pub step: u64,
    /// The evaluation's session: weights and arena, features included.
    pub tail: u64,
    /// Parameters, gradients, the optimiser's state and the best values.
    pub parameters: u64,
    /// Features that are kept in memory for want of a disk.
    pub features: u64,
}

/// Chunks of decoded samples besides the one in the body: two that wait and one in the making.
const DECODED_AHEAD: u64 = 3;

/// What a session takes besides weights and arena: its graph and its kernels.
const SESSION_BYTES: u64 = 2 << 20;

impl Memory {
    /// The peak of the run. The body is given back before the first evaluation.
    pub fn peak_bytes(&self) -> u64 {
        self.features + self.step + self.parameters + self.body.max(self.tail)
    }
}

/// Estimates a run.
///
/// # Errors
/// No step graph, or ONNX Runtime's refusal.
pub fn estimate(divided: &Divided, demand: &Demand<'_>) -> Result<Memory, Error> {
    let step = divided.step(demand.loss)?;
    // Twice: while the kernels' layout is made the original is still there, and its room is not given back to the system
    // (measured: 21 MiB for a session over 12.8 MiB, 13 over 7.1).
    let weights = |graph: &Graph| -> u64 {
        // What a gradient dequantises is a part of the same bytes, and read where it lies.
        let again = |node: &&Node| node.op == "DequantizeLinear" && node.name.starts_with(step::BACKWARD);
        let dequantised = graph.nodes.iter().filter(again);
        let mapped: HashSet<ValueId> = dequantised.filter_map(|node| node.inputs[0]).collect();
        let packed = graph.initializers.iter().filter(|(id, _)| !mapped.contains(id));
        let all: u64 = packed.map(|(_, tensor)| tensor.data.len() as u64).sum();
        if all <= demand.packed_bytes_max { 2 * all } else { 0 }
    };
    let arena = |graph: &Graph, batch: u64| -> Result<u64, Error> {
        let bound = liveness::bind(graph, &sizes(graph, batch, demand.dims))?;
        let fed: u64 = bound.inputs.iter().filter_map(|id| bound.ty(*id)).filter_map(liveness::bytes_of).sum();
        Ok(liveness::arena_bytes(&bound) + fed)
    };
    let values: u64 = divided.adapted.parameters.iter().map(|parameter| parameter.initial.len() as u64).sum();
    // First values, the bound inputs, their gradients, the copy that is saved and the best; in sums where several runs are averaged.
    let feature: u64 = divided.features.iter().filter_map(|(_, ty)| row_bytes(ty, demand.dims)).sum();
    let copies = 5 + u64::from(demand.accumulate > 1);
    let state = demand.optimizer.state_bytes_per_element() as u64;
    let body = if divided.body.nodes.is_empty() {
        0
    } else {
        let inputs: u64 =
            divided.body.inputs.iter().filter_map(|id| row_bytes(divided.body.ty(*id)?, demand.dims)).sum();
        SESSION_BYTES
            + weights(&divided.body)
            + arena(&divided.body, CHUNK as u64)?
            + DECODED_AHEAD * CHUNK as u64 * inputs
    };
    Ok(Memory {
        body,
        step: SESSION_BYTES + weights(&step) + arena(&step, demand.batch)? - values * 4,
        tail: SESSION_BYTES + weights(&divided.tail) + arena(&divided.tail, evaluate::BATCH as u64)?,
        parameters: values * (4 * copies + state),
        features: demand.kept_samples.saturating_mul(feature).min(LIMITS.memory_bytes),
    })
}

/// Sizes by name: first dimensions are the batch.
fn sizes(graph: &Graph, batch: u64, dims: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut sizes = dims.clone();
    for name in crate::cut::batch_names(graph) {
        sizes.entry(name).or_insert(batch);
    }
    sizes
}

fn row_bytes(ty: &TensorType, dims: &BTreeMap<String, u64>) -> Option<u64> {
    let sizes: Option<Vec<u64>> = ty
        .shape
        .as_ref()?
        .iter()
        .skip(1)
        .map(|dim| match dim {
            crate::graph::Dim::Named(name) => dims.get(name).copied(),
            dim => dim.fixed(),
        })
        .collect();
    Some((sizes?.iter().product::<u64>() * ty.dtype.bits() as u64).div_ceil(8))
}
