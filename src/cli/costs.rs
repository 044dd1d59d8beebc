//! What learning down to each layer would cost: for `inspect`, which has a model and neither data nor a recipe.

use super::inspection::{Inspection, Layer};
use crate::adapter::{HeadChoice, Positions};
use crate::engine;
use crate::graph::{Dim, Graph};
use crate::recipe::Recipe;
use crate::train::Error;
use crate::train::check::random_batch;
use crate::train::loss::Loss;
use crate::train::plan::candidates::{self, Target};
use crate::train::plan::memory::{self, Demand};
use crate::train::plan::usefulness;
use crate::train::prepare::{self, Base, Divided};
use crate::train::step::Again;
use std::collections::BTreeMap;
use std::path::Path;

/// What the costs depend on besides the model.
pub struct Run<'a> {
    /// The output to train on.
    pub output: Option<&'a str>,
    /// Samples in one run of the step graph.
    pub batch: u64,
    /// Where bundles are written, if a step of each cut is to be timed; else nothing is.
    pub bundles: Option<&'a Path>,
    /// How ONNX Runtime computes.
    pub options: &'a engine::Options,
    /// Seconds since some fixed moment.
    pub clock: &'a dyn Fn() -> f64,
    /// Private memory of the process before the first session.
    pub process_bytes: u64,
}

/// Fills in the costs of every layer that can learn and has a cut. Where a size behind the batch is open, as a text's
/// length is before there is a text, they stay null unless a step is timed: then they are those of the size that was tried.
///
/// # Errors
/// A bundle that cannot be written.
pub fn fill(found: &mut Inspection, base: &Base, run: &Run<'_>) -> anyhow::Result<()> {
    let closed = is_closed(&base.graph);
    if !closed && run.bundles.is_none() {
        return Ok(());
    }
    for layer in &mut found.layers {
        match costs(layer, base, run, closed) {
            Ok(Costs { memory_bytes, step_ms, open_size }) => {
                (layer.memory_bytes, layer.step_ms) = (memory_bytes, step_ms);
                found.open_size = found.open_size.or(open_size);
            }
            Err(problem) => {
                layer.memory_bytes = problem.memory_bytes;
                layer.time_problem = run.bundles.map(|_| problem.reason);
            }
        }
    }
    Ok(())
}

/// What training from a layer to the top costs.
struct Costs {
    memory_bytes: Option<u64>,
    step_ms: Option<f64>,
    /// The size that was tried where the model leaves one open.
    open_size: Option<u64>,
}

/// Why a step could not be timed, and the memory where that is known all the same.
struct Problem {
    reason: String,
    memory_bytes: Option<u64>,
}

fn costs(layer: &Layer, base: &Base, run: &Run<'_>, closed: bool) -> Result<Costs, Problem> {
    let refused = |reason: String| Problem { reason, memory_bytes: None };
    if !layer.trainable {
        let quantised = "its weights are quantised and stay as they are (--adapter lora learns beside them)";
        let otherwise = if layer.packed { quantised } else { "it holds nothing that could learn" };
        return Err(refused(layer.blocked_by.clone().unwrap_or_else(|| otherwise.into())));
    }
    if layer.cut.is_none() {
        return Err(refused("the model cannot be cut below it".into()));
    }
    let divided = divided(base, run, layer.last).map_err(|error| refused(error.to_string()))?;
    let Some(loss) = loss(&divided) else {
        let reason =
            "its output is of a shape that no loss of edgetune's own is computed on; name another with --output";
        return Err(refused(reason.into()));
    };
    let mut dims = BTreeMap::new();
    let memory = if closed { memory_bytes(&divided, &loss, run, &dims) } else { None };
    let Some(bundles) = run.bundles else { return Ok(Costs { memory_bytes: memory, step_ms: None, open_size: None }) };
    let failed = |reason: String| Problem { reason, memory_bytes: memory };
    let bundle = prepare::write(base, divided, bundles).map_err(|error| failed(error.to_string()))?;
    let timed = random_batch(&bundle, &loss, run.options, run.batch).and_then(|(batch, open)| {
        let seconds = usefulness::step_seconds(&bundle, &loss, &batch, run.options, run.clock)?;
        Ok((seconds, open))
    });
    let (seconds, open) = timed.map_err(|error| failed(error.to_string()))?;
    let step_ms = Some(seconds * 1e3);
    if closed {
        return Ok(Costs { memory_bytes: memory, step_ms, open_size: None });
    }
    dims.extend(open_names(&base.graph).map(|name| (name, open)));
    let memory_bytes = divided_again(base, run, layer.last, &loss, &dims);
    Ok(Costs { memory_bytes, step_ms, open_size: Some(open) })
}

/// The base cut below its last layers.
fn divided(base: &Base, run: &Run<'_>, last: usize) -> Result<Divided, Error> {
    let target = Target {
        output: run.output,
        width: None,
        head: HeadChoice::Auto,
        activation: None,
        positions: Positions::Sample,
    };
    candidates::install(base, target, &[format!("last:{last}")]).and_then(prepare::divide)
}

/// The memory of a cut whose sizes were found out only after its bundle had been written.
fn divided_again(base: &Base, run: &Run<'_>, last: usize, loss: &Loss, dims: &BTreeMap<String, u64>) -> Option<u64> {
    memory_bytes(&divided(base, run, last).ok()?, loss, run, dims)
}

/// Whether all sizes but the batch are known.
fn is_closed(graph: &Graph) -> bool {
    let closed = |shape: &[Dim]| shape.iter().skip(1).all(|dim| dim.fixed().is_some());
    graph.inputs.iter().all(|id| graph.ty(*id).and_then(|ty| ty.shape.as_deref()).is_some_and(closed))
}

/// Names of the inputs' dimensions but the batch.
fn open_names(graph: &Graph) -> impl Iterator<Item = String> {
    let shapes = graph.inputs.iter().filter_map(|id| graph.ty(*id)?.shape.as_deref());
    shapes.flat_map(|shape| shape.iter().skip(1)).filter_map(|dim| match dim {
        Dim::Named(name) => Some(name.clone()),
        _ => None,
    })
}

/// The first loss that the output can have.
fn loss(divided: &Divided) -> Option<Loss> {
    let classes = Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None };
    [classes, Loss::NextToken, Loss::MeanSquaredError].into_iter().find(|loss| divided.step(loss, Again::Cheap).is_ok())
}

/// The private memory of a run.
fn memory_bytes(divided: &Divided, loss: &Loss, run: &Run<'_>, dims: &BTreeMap<String, u64>) -> Option<u64> {
    let demand = Demand {
        batch: run.batch,
        accumulate: 1,
        loss,
        optimizer: &Recipe::default().optimizer(),
        packed_bytes_max: run.options.packed_bytes_max,
        kept_samples: 0,
        validates: true,
        dims,
    };
    Some(run.process_bytes + memory::estimate(divided, &demand).ok()?.peak_bytes())
}
