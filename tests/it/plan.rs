//! What a cut costs before anything runs, and that nothing is computed which no chosen parameter needs.

use crate::engine::runtime;
use edgetune::adapter::{HeadChoice, Positions};
use edgetune::graph::{Builder, DType, Dim, Graph, Tensor, TensorType, ValueId};
use edgetune::train::loss::Loss;
use edgetune::train::plan::candidates::{self, Target};
use edgetune::train::plan::liveness::{arena_bytes, bind, peak};
use edgetune::train::prepare::{Base, divide};
use edgetune::train::step::Again;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// 1024 bytes for a batch of one.
fn row() -> TensorType {
    TensorType::new(DType::Float, vec![Dim::Named("n".into()), Dim::Fixed(256)])
}

fn sizes(batch: u64) -> BTreeMap<String, u64> {
    [("n".to_string(), batch)].into()
}

/// Σ over a chain of steps from `x`, each written by `step`.
fn chain(
    length: usize,
    step: impl for<'b> Fn(&'b Builder, edgetune::graph::Val<'b>) -> edgetune::graph::Val<'b>,
) -> Graph {
    let b = Builder::new(Graph::new("chain", 17), "");
    let mut value = b.input("x", row());
    for _ in 0..length {
        value = step(&b, value);
    }
    b.output("y", value.sum_all());
    b.finish()
}

fn peak_of(graph: &Graph, batch: u64) -> u64 {
    runtime();
    peak(&bind(graph, &sizes(batch)).unwrap()).bytes
}

#[test]
fn a_chain_holds_what_a_node_reads_and_writes() {
    let transposed = chain(5, |_, value| value.transpose(&[1, 0]));
    assert_eq!(peak_of(&transposed, 1), 2 * 1024);
    assert_eq!(peak_of(&transposed, 8), 2 * 8 * 1024, "in proportion to the batch");
    let in_place = chain(5, |_, value| value.unary("Relu"));
    assert_eq!(peak_of(&in_place, 1), 1024 + 256, "an elementwise node writes over its input; the sum has a block");
}

#[test]
fn a_value_lives_until_its_last_reader() {
    let b = Builder::new(Graph::new("skip", 17), "");
    let first = b.input("x", row()).transpose(&[1, 0]);
    let second = first.transpose(&[1, 0]).transpose(&[1, 0]);
    b.output("y", (first * second).sum_all());
    assert_eq!(peak_of(&b.finish(), 1), 3 * 1024);
}

#[test]
fn inputs_weights_and_views_cost_nothing() {
    let b = Builder::new(Graph::new("views", 17), "");
    let weight = b.constant(Tensor::from_f32(&[256], &[0.5; 256]));
    let product = b.input("x", row()) * weight;
    b.output("y", product.reshape(b.ints(&[256, -1])).reshape(b.ints(&[-1])).sum_all());
    assert_eq!(peak_of(&b.finish(), 1), 1024 + 256);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Random graphs of transposes and sums: node `i` reads the nodes that `reads` says.
    #[test]
    fn a_peak_holds_the_largest_node_and_a_later_reader_never_lowers_it(
        reads in prop::collection::vec((0usize..100, 0usize..100), 3..12),
        again in 0usize..100,
    ) {
        let write = |later: bool| {
            let b = Builder::new(Graph::new("random", 17), "");
            let mut values = vec![b.input("x", row()).transpose(&[1, 0])];
            for (left, right) in &reads {
                let (left, right) = (values[left % values.len()], values[right % values.len()]);
                values.push(b.op("Max", &[left, right], &[]));
            }
            let mut result = values.iter().copied().reduce(|sum, value| b.op("Max", &[sum, value], &[])).unwrap();
            if later {
                result = b.op("Max", &[result, values[again % values.len()]], &[]);
            }
            b.output("y", result.sum_all());
            b.finish()
        };
        let (plain, later) = (peak_of(&write(false), 1), peak_of(&write(true), 1));
        prop_assert!(plain >= 3 * 1024, "two inputs and an output live at once: {plain}");
        prop_assert!(later >= plain, "{later} < {plain}");
        let bound = bind(&write(false), &sizes(1)).unwrap();
        prop_assert!(arena_bytes(&bound) + 1024 + 4096 >= plain, "an arena holds all that lives but the output");
    }
}

fn mobilenet() -> Base {
    runtime();
    Base::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/training/mobilenet_folded.onnx")).unwrap()
}

const TARGET: Target<'static> =
    Target { output: None, width: Some(3), head: HeadChoice::Auto, activation: None, positions: Positions::Sample };

/// The step graph of a candidate, with what learns.
fn step(base: &Base, train: &[String]) -> (Graph, Vec<String>) {
    let divided = divide(candidates::install(base, TARGET, train).unwrap()).unwrap();
    let step = divided.step(&Loss::CrossEntropy { label_smoothing: 0.0, class_weights: None }, Again::Cheap).unwrap();
    (step, divided.adapted.parameters.iter().map(|parameter| parameter.name.clone()).collect())
}

#[test]
fn nothing_is_computed_that_no_chosen_parameter_needs() {
    let base = mobilenet();
    let full = candidates::full(&base, TARGET).unwrap();
    let depth = full[full.len() / 2].depth;
    let deepest = full.last().unwrap().depth;
    let (all, learns) = step(&base, &full.last().unwrap().train);
    let sparse = candidates::with_biases(&base, TARGET, depth, deepest).unwrap().expect("convolutions with biases");
    let (pruned, chosen) = step(&base, &sparse.train);
    assert!(chosen.len() < learns.len() && pruned.nodes.len() < all.nodes.len());
    // Every node is needed for the loss or a chosen gradient, and there is no output for anything else.
    let needed = pruned.ancestors(pruned.outputs.iter().copied());
    assert!(pruned.nodes.iter().all(|node| node.writes().any(|id| needed.contains(&id))));
    // The loss, a gradient each, and what orders the nodes.
    assert_eq!(pruned.outputs.len(), 2 + chosen.len());
    // A backward node that reads the frozen weight's input only to make its gradient would have that weight's shape.
    let frozen: HashSet<&String> = learns.iter().filter(|name| !chosen.contains(name)).collect();
    assert!(!frozen.is_empty());
    for name in frozen {
        let gradient = format!("edgetune.gradient/{name}");
        assert!(pruned.find(&gradient).is_none_or(|id| !pruned.outputs.contains(&id)), "{gradient}");
    }
    // Below the lowest chosen parameter nothing flows: with the head alone no node of the backward part reads a layer.
    let (head, _) = step(&base, &full[0].train);
    let inputs: HashSet<ValueId> = head.inputs.iter().copied().collect();
    assert!(head.nodes.len() < 30, "{} nodes", head.nodes.len());
    assert_eq!(inputs.len(), 1 + 1 + 2, "one feature, labels, weight and bias");
}

#[test]
fn a_deeper_cut_takes_no_less_memory() {
    let base = mobilenet();
    let full = candidates::full(&base, TARGET).unwrap();
    let peaks: Vec<u64> = full
        .iter()
        .map(|candidate| {
            let (step, _) = step(&base, &candidate.train);
            let batch = edgetune::cut::batch_names(&step).into_iter().map(|name| (name, 32)).collect();
            peak(&bind(&step, &batch).unwrap()).bytes
        })
        .collect();
    assert!(peaks.windows(2).all(|pair| pair[0] <= pair[1]), "{peaks:?}");
}

#[test]
fn a_step_asked_for_in_its_order_holds_less() {
    runtime();
    let base =
        Base::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/training/encoder_torchscript.onnx"))
            .unwrap();
    let all = candidates::full(&base, TARGET).unwrap().pop().unwrap().train;
    let (ordered, _) = step(&base, &all);
    let mut as_written = ordered.clone();
    as_written.outputs.pop().expect("the node that asks for all others");
    as_written.prune();
    assert!(as_written.nodes.len() < ordered.nodes.len());
    let peak = |step: &Graph| {
        let mut sizes: BTreeMap<String, u64> =
            edgetune::cut::batch_names(step).into_iter().map(|name| (name, 32)).collect();
        sizes.extend(["seq", "sequence", "s"].map(|name| (name.to_string(), 64)));
        peak(&bind(step, &sizes).unwrap()).bytes
    };
    assert!(peak(&ordered) < peak(&as_written), "{} and {} bytes", peak(&ordered), peak(&as_written));
}
