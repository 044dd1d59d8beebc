//! What learning down to each layer would cost: for `inspect`, which has a model and neither data nor a recipe.

use super::inspection::Inspection;
use super::recipe::Recipe;
use super::settings;
use crate::adapter::HeadChoice;
use crate::engine;
use crate::graph::Graph;
use crate::train::loss::Loss;
use crate::train::plan::candidates::{self, Target};
use crate::train::plan::memory::{self, Demand};
use crate::train::plan::usefulness;
use crate::train::prepare::{self, Base, Divided};
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

/// Fills in the costs of every layer that can learn and has a cut. They stay null where a size behind the batch is open,
/// as a text's length is before there is a text.
///
/// # Errors
/// A bundle that cannot be written, ONNX Runtime's refusal of a step.
pub fn fill(found: &mut Inspection, base: &Base, run: &Run<'_>) -> anyhow::Result<()> {
    if !is_closed(&base.graph) {
        return Ok(());
    }
    let target = Target { output: run.output, width: None, head: HeadChoice::Auto };
    for layer in found.layers.iter_mut().filter(|layer| layer.trainable && layer.cut.is_some()) {
        let train = [format!("last:{}", layer.last)];
        let Ok(divided) = candidates::install(base, target, &train).and_then(prepare::divide) else { continue };
        let Some((loss, bytes)) = memory_bytes(&divided, run) else { continue };
        layer.memory_bytes = Some(run.process_bytes + bytes);
        if let Some(bundles) = run.bundles {
            let bundle = prepare::write(base, divided, bundles)?;
            let dims = BTreeMap::new();
            let seconds = usefulness::step_seconds(&bundle, &loss, run.batch, &dims, run.options, run.clock)?;
            layer.step_ms = Some(seconds * 1e3);
        }
    }
    Ok(())
}

/// Whether all sizes but the batch are known.
fn is_closed(graph: &Graph) -> bool {
    let closed = |shape: &[crate::graph::Dim]| shape.iter().skip(1).all(|dim| dim.fixed().is_some());
    graph.inputs.iter().all(|id| graph.ty(*id).and_then(|ty| ty.shape.as_deref()).is_some_and(closed))
}

/// The first loss that the output can have, and the private memory of a run with it.
fn memory_bytes(divided: &Divided, run: &Run<'_>) -> Option<(Loss, u64)> {
    let classes = Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None };
    [classes, Loss::NextToken, Loss::MeanSquaredError].into_iter().find_map(|loss| {
        let demand = Demand {
            batch: run.batch,
            accumulate: 1,
            loss: &loss,
            optimizer: &settings::optimizer(&Recipe::default()),
            packed_bytes_max: run.options.packed_bytes_max,
            kept_samples: 0,
            validates: true,
            dims: &BTreeMap::new(),
        };
        let bytes = memory::estimate(divided, &demand).ok()?.peak_bytes();
        Some((loss, bytes))
    })
}
