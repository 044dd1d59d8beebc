//! The private memory that a run would take, before anything of it is loaded.

use super::{liveness, weights};
use crate::graph::{Dim, Graph, TensorType};
use crate::train::body::CHUNK;
use crate::train::error::Error;
use crate::train::evaluate;
use crate::train::features::LIMITS;
use crate::train::loss::Loss;
use crate::train::optimizer::Optimizer;
use crate::train::prepare::Divided;
use crate::train::step::Again;
use std::collections::BTreeMap;

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
    /// Bytes of weights up to which a session gets copies of them ([`Options::packed_bytes_max`](crate::engine::Options::packed_bytes_max)).
    pub packed_bytes_max: u64,
    /// Samples whose features stay in memory: all of a run without a cache on disk, else none.
    pub kept_samples: u64,
    /// Whether there are samples to validate on: only then is the tail loaded.
    pub validates: bool,
    /// Sizes of the named dimensions but the batch (a text's length).
    pub dims: &'a BTreeMap<String, u64>,
}

/// Private memory of a run by what takes it, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// The body's and the step's session at the moment when they have just been made and nothing has run: the body's weights
    /// are there twice where they are computed from others.
    pub loading: u64,
    /// The body's session: weights as its kernels want them, and the arena of a chunk of samples with their inputs.
    pub body: u64,
    /// The step's session: weights and arena of a batch, features included.
    pub step: u64,
    /// The evaluation's session: weights and arena, features included; 0 without samples to validate on.
    pub tail: u64,
    /// Parameters, gradients and the optimiser's state.
    pub parameters: u64,
    /// The best values so far, which are first copied after an evaluation.
    pub best: u64,
    /// Features that are kept in memory for want of a disk.
    pub features: u64,
}

/// Chunks of decoded samples besides the one in the body: two that wait and one in the making.
const DECODED_AHEAD: u64 = 3;

/// What a session takes besides weights and arena: threads, and for each node of its graph names, types and a kernel.
const SESSION_BYTES: u64 = 1 << 20;
const NODE_BYTES: u64 = 7 << 10;

impl Memory {
    /// The peak of the run. The body is given back before the first evaluation.
    pub fn peak_bytes(&self) -> u64 {
        self.loading.max(self.features + self.step + self.parameters + self.body.max(self.tail + self.best))
    }
}

/// Estimates a run.
///
/// # Errors
/// No step graph, or ONNX Runtime's refusal.
pub fn estimate(divided: &Divided, demand: &Demand<'_>) -> Result<Memory, Error> {
    let step = divided.step(demand.loss, Again::within(demand.packed_bytes_max))?;
    // Where everything learns there is no body.
    let body = match divided.body.nodes.is_empty() {
        true => divided.body.clone(),
        false => liveness::bind(&divided.body, &sizes(&divided.body, CHUNK as u64, demand.dims))?,
    };
    let arena = |graph: &Graph, batch: u64| -> Result<u64, Error> {
        let sized = with_rows_of(graph, &body);
        let bound = liveness::bind(&sized, &sizes(&sized, batch, demand.dims))?;
        Ok(liveness::arena_bytes(&bound) + fed_bytes(&bound))
    };
    let copies_of = |graph: &Graph| weights::copies(graph, demand.packed_bytes_max);
    let values: u64 = divided.adapted.parameters.iter().map(|parameter| parameter.initial.len() as u64).sum();
    // First values, the bound inputs, their gradients and the copy that is saved; in sums where several runs are averaged.
    let copies = 4 + u64::from(demand.accumulate > 1);
    let state = demand.optimizer.state_bytes_per_element() as u64;
    let feature: u64 = body.outputs.iter().filter_map(|id| liveness::bytes_of(body.ty(*id)?)).sum();
    let session = |graph: &Graph| SESSION_BYTES + NODE_BYTES * graph.nodes.len() as u64 + copies_of(graph).kept_bytes;
    let (mut body_loaded, mut body_running) = (0, 0);
    if !body.nodes.is_empty() {
        body_loaded = session(&body);
        body_running = body_loaded + liveness::arena_bytes(&body) + (1 + DECODED_AHEAD) * fed_bytes(&body);
        body_loaded += copies_of(&body).loading_bytes;
    }
    Ok(Memory {
        // The first values, the copy that is saved and the bound inputs; gradients and state are not written to yet.
        loading: body_loaded + session(&step) + values * 4 * 3,
        body: body_running,
        step: session(&step) + arena(&step, demand.batch)? - values * 4,
        tail: match demand.validates {
            true => session(&divided.tail) + arena(&divided.tail, evaluate::BATCH as u64)?,
            false => 0,
        },
        parameters: values * (4 * copies + state),
        best: values * 4,
        features: demand.kept_samples.saturating_mul(feature / CHUNK as u64).min(LIMITS.memory_bytes),
    })
}

/// Bytes of a bound graph's inputs.
fn fed_bytes(graph: &Graph) -> u64 {
    graph.inputs.iter().filter_map(|id| liveness::bytes_of(graph.ty(*id)?)).sum()
}

/// The graph with what crosses the cut as large as the bound body gives it, but for the batch: a size that is computed (a
/// text's length from the shape of its mask) has no name that could be given a number.
fn with_rows_of(graph: &Graph, body: &Graph) -> Graph {
    let mut sized = graph.clone();
    for id in graph.inputs.clone() {
        let given = body.find(graph.value_name(id)).and_then(|id| body.ty(id)).and_then(TensorType::fixed_shape);
        let shape = sized.values[id.index()].ty.as_mut().and_then(|ty| ty.shape.as_mut());
        for (dim, size) in shape.into_iter().flatten().zip(given.into_iter().flatten()).skip(1) {
            *dim = Dim::Fixed(size);
        }
    }
    sized
}

/// Sizes by name: first dimensions are the batch.
fn sizes(graph: &Graph, batch: u64, dims: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut sizes = dims.clone();
    for name in crate::cut::batch_names(graph) {
        sizes.entry(name).or_insert(batch);
    }
    sizes
}
