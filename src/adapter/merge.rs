//! An adapter folded into its base: a model of the same nodes, for runtimes that know nothing of adapters. Beside a weight that is multiplied
//! as it is quantised, what was learned stays two small products.

use super::method::{Kind, Method};
use super::target::{self, LayerForm, Target};
use super::{
    Change, Detector, Error, Learned, Positions, attach, below, ending, fit_shape, found_output, head, positions,
    rebuilt,
};
use crate::cut;
use crate::factor::first_values;
use crate::graph::{Attr, Graph, Node, Tensor, ValueId};
use ndarray::{Array1, Array2, ArrayD, Axis, IxDyn};
use std::collections::{BTreeMap, HashMap};

/// Folds what was learned into the base's weights. `values` are the learned tensors' by name, in the shapes that
/// `change` gives them.
///
/// The graph computes the same as the base with the adapter beside it, up to rounding. It has the base's outputs; an
/// appended head's is added, or takes the place and the name of the scores that it was made instead of.
///
/// # Errors
/// As [`super::from_delta`].
pub fn merge(mut graph: Graph, change: &Change<'_>, values: &HashMap<&str, &[f32]>) -> Result<Graph, Error> {
    let output = found_output(&graph, change.output)?;
    let detector = (change.positions == Positions::Cell).then(|| Detector::find(&graph)).transpose()?;
    let targets = change.method.map(|_| targets(&graph, output, detector.as_ref())).unwrap_or_default();
    if let Some(detector) = &detector {
        detector.refit(&mut graph, change.width.unwrap_or(detector.classes))?;
    }
    let old = change.head.and_then(|_| below::old_scores(&graph, output));
    let (squeezing, mut placed) = (squeezing(&graph, old.unwrap_or(output)), None);
    if let Some(appended) = change.head {
        let logits = head::append(&mut graph, output, appended.classes, change.positions)?.0;
        match old {
            Some(old) => {
                put_in_place(&mut graph, old, logits);
                placed = Some(logits);
            }
            None => graph.outputs.push(logits),
        }
    }
    let mut beside: Vec<&Learned> = Vec::new();
    for tensor in &change.learned {
        let Some(id) = graph.find(tensor.name) else {
            beside.push(tensor);
            continue;
        };
        fit_shape(&mut graph, id, tensor)?;
        let dtype = graph.initializers[&id].dtype;
        graph.initializers.insert(id, Tensor::from_floats(dtype, &tensor.shape, values_of(values, tensor.name)?));
    }
    if let Some(method) = &change.method {
        for (_, target) in &targets {
            let Some(inner) = rebuilt(target, method, &mut beside)? else { continue };
            fold(&mut graph, target, method, inner, (change.seed, values))?;
        }
    }
    if let Some(tensor) = beside.first() {
        return Err(Error::Delta { name: tensor.name.into(), reason: "is not in the model".into() });
    }
    let scores = placed.unwrap_or(output);
    without_last_quantisation(&mut graph, scores);
    // Several columns are no plain list.
    let one = positions::own_width(&graph, scores, Positions::Sample) == Some(1);
    for at in squeezing.into_iter().filter(|_| !one) {
        let node = &mut graph.nodes[at];
        (node.op, node.attributes) = ("Identity".into(), BTreeMap::new());
        node.inputs.truncate(1);
    }
    if detector.is_none() && (change.head.is_none() || placed.is_some()) {
        with_own_activation(&mut graph, scores, change);
    }
    graph.sort().expect("what is put beside a layer makes no cycle");
    graph.prune();
    Ok(graph)
}

/// Gives everything that reads the old scores the new ones, which also take their name: programs ask a model for its output by name.
fn put_in_place(graph: &mut Graph, old: ValueId, new: ValueId) {
    let replace = |id: &mut ValueId| {
        if *id == old {
            *id = new;
        }
    };
    graph.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut()).flatten().for_each(replace);
    graph.outputs.iter_mut().for_each(replace);
    graph.exchange_names(old, new);
    for dependent in graph.descendants([new]) {
        if dependent != new {
            graph.values[dependent.index()].ty = None;
        }
    }
}

/// The nodes that make a plain list of the one column that `scores` has, on its way to the outputs.
fn squeezing(graph: &Graph, scores: ValueId) -> Vec<usize> {
    let producers = graph.producers();
    let mut found = Vec::new();
    for output in graph.outputs.iter().filter(|output| ending::logits(graph, **output, None) == scores) {
        let mut value = *output;
        while value != scores {
            let at = producers[&value];
            found.extend(ending::is_squeezed(graph, &graph.nodes[at]).then_some(at));
            value = graph.nodes[at].inputs[0].expect("a unary operator has an input");
        }
    }
    found
}

/// The layers that factors may stand beside: below an output, or below all levels of a detector.
fn targets(graph: &Graph, output: ValueId, detector: Option<&Detector>) -> Vec<(usize, Target)> {
    let Some(detector) = detector else { return target::all(graph, output) };
    let (joined, all) = detector.joined(graph);
    target::all(&joined, all)
}

/// Puts the activation of the loss in the place of another that the base has between the scores and an output: they were not learned
/// for that.
fn with_own_activation(graph: &mut Graph, scores: ValueId, change: &Change<'_>) {
    let Some(activation) = change.activation else { return };
    // One column behind a sigmoid is the second class's share.
    if change.width == Some(2) && positions::own_width(graph, scores, change.positions) == Some(1) {
        return;
    }
    let producers = graph.producers();
    let mut others = Vec::new();
    for output in graph.outputs.iter().filter(|output| ending::logits(graph, **output, None) == scores) {
        let mut value = *output;
        while value != scores {
            let node = producers[&value];
            if ending::is_activation(&graph.nodes[node].op) && !activation.stands_for(&graph.nodes[node].op) {
                others.push(node);
            }
            value = graph.nodes[node].inputs[0].expect("a unary operator has an input");
        }
    }
    for node in others {
        let node = &mut graph.nodes[node];
        node.op = activation.op().into();
        node.attributes.clear();
        if activation == ending::Activation::Softmax {
            let axis = if change.positions == Positions::Pixel { 1 } else { -1 };
            node.attributes.insert("axis".into(), Attr::Int(axis));
        }
    }
}

/// What was learned may give other numbers than the last quantisation has room for: the output is taken from before it.
fn without_last_quantisation(graph: &mut Graph, logits: ValueId) {
    let reads = |node: &Node, id| node.inputs.first() == Some(&Some(id));
    let quantised = graph.nodes.iter().find(|node| node.op == "QuantizeLinear" && reads(node, logits));
    let Some(Some(quantised)) = quantised.map(|node| node.outputs[0]) else { return };
    let last = |node: &&mut Node| {
        node.op == "DequantizeLinear" && reads(node, quantised) && node.writes().all(|id| graph.outputs.contains(&id))
    };
    if let Some(node) = graph.nodes.iter_mut().find(last) {
        *node = Node {
            name: node.name.clone(),
            op: "Identity".into(),
            inputs: vec![Some(logits)],
            outputs: node.outputs.clone(),
            ..Node::default()
        };
    }
}

pub(super) fn values_of<'v>(values: &HashMap<&str, &'v [f32]>, name: &str) -> Result<&'v [f32], Error> {
    values.get(name).copied().ok_or_else(|| Error::Delta { name: name.into(), reason: "has no values".into() })
}

fn fold(
    graph: &mut Graph,
    target: &Target,
    method: &Method,
    inner: bool,
    (seed, values): (u64, &HashMap<&str, &[f32]>),
) -> Result<(), Error> {
    if target.packed {
        return put_beside(graph, target, method, inner, (seed, values));
    }
    let unreadable = || Error::Delta {
        name: target.module.clone(),
        reason: "belongs to a weight that is computed in a way that cannot be merged".into(),
    };
    let read = constant(graph, &graph.producers(), target.read).ok_or_else(unreadable)?;
    let learned = |suffix: &str| values_of(values, &format!("{}{suffix}", target.module));
    // [out, in·k…]
    let mut weight = by_outputs(target, read);
    if method.kind == Kind::Ia3 {
        let factors: Array1<f32> = learned(attach::IA3)?.iter().map(|change| 1.0 + change).collect();
        if inner {
            weight *= &factors.insert_axis(Axis(0));
        } else {
            target.uses().try_for_each(|place| scale_bias(graph, place, &factors))?;
            weight *= &factors.insert_axis(Axis(1));
        }
    } else {
        let rank = method.rank as usize;
        let shape = attach::shape_a(target, rank as u64);
        let name = format!("{}{}", target.module, attach::LORA_A);
        let a = match method.kind {
            Kind::LoraFa => first_values(seed, &name, &shape),
            _ => learned(attach::LORA_A)?.to_vec(),
        };
        let matrix = |rows: usize, values: Vec<f32>| {
            Array2::from_shape_vec((rows, values.len() / rows), values).expect("the shape was compared")
        };
        let change = matrix(target.outputs() as usize, learned(attach::LORA_B)?.to_vec()).dot(&matrix(rank, a));
        let norms = |weight: &Array2<f32>| weight.map_axis(Axis(1), |row| row.dot(&row).sqrt());
        let before = norms(&weight);
        weight.scaled_add(method.scale() as f32, &change);
        if method.kind == Kind::Dora {
            let magnitude = before + Array1::from_vec(learned(attach::MAGNITUDE)?.to_vec());
            weight *= &(magnitude / norms(&weight)).insert_axis(Axis(1));
        }
    }
    let weight = as_read(target, weight);
    let places: Vec<usize> = target.uses().map(|place| place.node).collect();
    replace(
        graph,
        &places,
        1,
        &format!("{}.weight", target.module),
        Tensor::from_floats(target.dtype, &target.shape, &weight),
    );
    Ok(())
}

/// What was learned of a weight that is multiplied as it is quantised stays beside it: two small products, or a scale.
fn put_beside(
    graph: &mut Graph,
    target: &Target,
    method: &Method,
    inner: bool,
    (seed, values): (u64, &HashMap<&str, &[f32]>),
) -> Result<(), Error> {
    for id in attach::attach(graph, target, method, inner, seed) {
        let learned = values_of(values, graph.value_name(id))?;
        let shape = graph.initializers[&id].shape.clone();
        graph.initializers.insert(id, Tensor::from_vec(&shape, learned.to_vec()));
    }
    Ok(())
}

/// The weight as `[out, rest]`.
pub(super) fn by_outputs(target: &Target, read: ArrayD<f32>) -> Array2<f32> {
    let rows = |count: u64, values: ArrayD<f32>| {
        let values: Vec<f32> = values.iter().copied().collect();
        Array2::from_shape_vec((count as usize, values.len() / count as usize), values).expect("a weight's size")
    };
    match target.form {
        LayerForm::Linear => rows(target.inputs(), read).reversed_axes(),
        LayerForm::LinearTransposed | LayerForm::Conv => rows(target.outputs(), read),
    }
}

/// The values in the order in which the node reads them.
fn as_read(target: &Target, weight: Array2<f32>) -> Vec<f32> {
    let weight = if target.form == LayerForm::Linear { weight.reversed_axes() } else { weight };
    weight.iter().copied().collect()
}

/// IA³ scales the whole output, its bias too.
fn scale_bias(graph: &mut Graph, target: &Target, factors: &Array1<f32>) -> Result<(), Error> {
    let producers = graph.producers();
    let node = &graph.nodes[target.last];
    let constant_at = |place: usize| {
        let id = node.inputs.get(place).copied().flatten()?;
        Some((place, constant(graph, &producers, id)?))
    };
    let places: &[usize] = if target.last == target.node { &[2] } else { &[0, 1] };
    let Some((place, bias)) = places.iter().find_map(|place| constant_at(*place)) else {
        // A bias that is computed would stay as it was, and the merged model would not be the adapter's.
        let computed = places.iter().any(|place| node.inputs.get(*place).copied().flatten().is_some());
        let reason = "belongs to a layer whose bias is computed, so it cannot be merged; use it as a delta".into();
        return if computed { Err(Error::Delta { name: target.module.clone(), reason }) } else { Ok(()) };
    };
    let along = IxDyn(&[factors.len()]);
    let refuse = || Error::Delta {
        name: target.module.clone(),
        reason: "belongs to a layer whose bias has another width".into(),
    };
    let bias: Vec<f32> = bias.iter().copied().collect();
    let spread = ArrayD::from_shape_vec(IxDyn(&[bias.len()]), bias).expect("a vector");
    let spread = spread.broadcast(along).ok_or_else(refuse)?.to_owned() * factors;
    let values: Vec<f32> = spread.iter().copied().collect();
    let shape = [values.len() as u64];
    replace(
        graph,
        &[target.last],
        place,
        &format!("{}.bias", target.module),
        Tensor::from_floats(target.dtype, &shape, &values),
    );
    Ok(())
}

/// A value's numbers, through the views between it and its initializer.
pub(super) fn constant(graph: &Graph, producers: &HashMap<ValueId, usize>, id: ValueId) -> Option<ArrayD<f32>> {
    if let Some(tensor) = cut::weight_floats(graph, id) {
        let shape: Vec<usize> = tensor.shape.iter().map(|size| *size as usize).collect();
        return ArrayD::from_shape_vec(IxDyn(&shape), tensor.to_f32()?).ok();
    }
    cut::constant_source(graph, producers, id)?;
    let node = &graph.nodes[*producers.get(&id)?];
    let below = constant(graph, producers, node.inputs.first().copied().flatten()?)?;
    match node.op.as_str() {
        "Cast" | "Identity" => Some(below),
        "Transpose" => match node.ints("perm") {
            Some(perm) => Some(below.permuted_axes(perm.iter().map(|axis| *axis as usize).collect::<Vec<_>>())),
            None => Some(below.reversed_axes()),
        },
        _ => {
            let shape: Vec<usize> = graph.ty(id)?.fixed_shape()?.iter().map(|size| *size as usize).collect();
            let values: Vec<f32> = below.iter().copied().collect();
            ArrayD::from_shape_vec(IxDyn(&shape), values).ok()
        }
    }
}

/// Gives one input of some nodes a constant of their own: other readers of the old one keep it. The old name is kept where
/// nobody else reads it.
fn replace(graph: &mut Graph, nodes: &[usize], input: usize, name: &str, tensor: Tensor) {
    let old = graph.nodes[nodes[0]].inputs[input].expect("the input that was read");
    let readers = graph.nodes.iter().flat_map(|node| node.reads()).filter(|id| *id == old).count();
    let own = nodes.iter().filter(|node| graph.nodes[**node].inputs[input] == Some(old)).count();
    if readers == nodes.len() && own == nodes.len() && graph.initializers.contains_key(&old) {
        graph.values[old.index()].ty = Some(tensor.ty());
        graph.initializers.insert(old, tensor);
        return;
    }
    let id = graph.add_initializer(name, tensor);
    for node in nodes {
        graph.nodes[*node].inputs[input] = Some(id);
    }
}
