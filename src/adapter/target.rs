//! The layers that a method can be put on, with the module names that PEFT would give them.

use super::method::Places;
use crate::cut::{self, glob, names_module};
use crate::graph::{DType, Graph, Node, ValueId};
use crate::nearest::suggestion;
use std::collections::{HashMap, HashSet};

/// What a layer computes with its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerForm {
    /// `x W` with `W: [in, out]` (`MatMul`, `Gemm`).
    Linear,
    /// `x Wᵀ` with `W: [out, in]` (`Gemm` with `transB`).
    LinearTransposed,
    /// A convolution of one group with `W: [out, in, k…]`.
    Conv,
}

/// A linear layer or convolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Index of its node in [`Graph::nodes`].
    pub node: usize,
    /// Index of the node that gives the layer's output: the `Add` of a bias that an exporter wrote as its own node, or
    /// [`Target::node`].
    pub last: usize,
    /// The module's name: `encoder.layer.0.attention.self.query`.
    pub module: String,
    /// What the layer reads.
    pub input: ValueId,
    /// The bias that its node adds itself.
    pub bias: Option<ValueId>,
    /// The weight: an initializer, or what a `DequantizeLinear` makes of one.
    pub weight: ValueId,
    /// The weight as the node reads it, which is behind a `Cast` or `Transpose` where the file has one.
    pub read: ValueId,
    /// How it is applied.
    pub form: LayerForm,
    /// Sizes of the weight as the node reads it; `[in, out]` where it is packed.
    pub shape: Vec<u64>,
    /// Whether the weight is multiplied as it is quantised: no value of the graph is its floats.
    pub packed: bool,
    /// Element type of the layer's input and output.
    pub dtype: DType,
    /// The other places where the model uses this module with this weight: what is learned holds for all of them. They have none of
    /// their own.
    pub also: Vec<Target>,
}

impl Target {
    /// All places where the module is used, the first one first.
    pub fn uses(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(self).chain(&self.also)
    }

    /// Columns or channels that the layer reads.
    pub fn inputs(&self) -> u64 {
        if self.form == LayerForm::Linear { self.shape[0] } else { self.shape[1] }
    }

    /// Columns or channels that the layer gives.
    pub fn outputs(&self) -> u64 {
        if self.form == LayerForm::Linear { self.shape[1] } else { self.shape[0] }
    }

    /// Whether the initializer behind the weight is PyTorch's, `[out, in]`, transposed.
    pub fn is_transposed(&self, graph: &Graph) -> bool {
        let producers = graph.producers();
        let (mut id, mut transposed) = (self.read, self.form == LayerForm::Linear);
        while let Some(node) = producers.get(&id).map(|index| &graph.nodes[*index]) {
            transposed ^= node.op == "Transpose";
            id = node.inputs[0].expect("a view reads something");
        }
        transposed
    }

    /// Whether another layer multiplies with the same weight in the same way.
    fn has_the_weight_of(&self, other: &Target, graph: &Graph) -> bool {
        let how = |target: &Target| (target.weight, target.form, target.packed, target.is_transposed(graph));
        how(self) == how(other) && self.shape == other.shape
    }

    /// Sizes of the kernel; none for a linear layer.
    pub fn kernel(&self) -> &[u64] {
        if self.form == LayerForm::Conv { &self.shape[2..] } else { &[] }
    }
}

/// All layers of a typed graph that `output` depends on and that a method can be put on, in topological order, each with
/// the number of its layer among [`cut::layers`]. A module that is used at several places is one target, where it is used first.
pub fn all(graph: &Graph, output: ValueId) -> Vec<(usize, Target)> {
    let layers = cut::uses(graph, output);
    let numbers = cut::numbers(graph, &layers);
    let consumers = graph.consumers();
    let producers = graph.producers();
    let (modules, paths) = (cut::modules(graph, &layers), cut::paths(graph, &layers));
    let mut found: Vec<(usize, Target)> = Vec::new();
    for ((place, layer), module) in layers.iter().enumerate().zip(modules) {
        let Some(mut target) = plain(graph, &producers, layer).or_else(|| packed(layer)) else { continue };
        let dtype = graph.ty(target.input).map_or(DType::Float, |ty| ty.dtype);
        if !dtype.is_float() {
            continue;
        }
        target.last = bias_node(graph, &producers, &consumers, layer, target.weight).unwrap_or(layer.node);
        (target.module, target.dtype) = (module, dtype);
        // Exporters unite tensors that are equal, so that a shared weight alone does not make one module of two.
        let once_more = |(first, known): &&mut (usize, Target)| {
            paths[*first] == paths[place] && known.has_the_weight_of(&target, graph)
        };
        match found.iter_mut().find(once_more) {
            Some((_, known)) => known.also.push(target),
            None => found.push((place, target)),
        }
    }
    found.into_iter().map(|(place, target)| (numbers[place], target)).collect()
}

/// A layer whose weight is a value of the graph. Module, last node and element type are to be filled in.
fn plain(graph: &Graph, producers: &HashMap<ValueId, usize>, layer: &cut::Layer) -> Option<Target> {
    let node = &graph.nodes[layer.node];
    let (form, read) = form(graph, node)?;
    let weight = cut::constant_source(graph, producers, read)?;
    let shape = shape_read(graph, producers, read, weight)?;
    let fits = shape.len() == 2 || (form == LayerForm::Conv && shape.len() > 2);
    fits.then(|| Target {
        node: layer.node,
        last: layer.node,
        module: String::new(),
        input: node.inputs[0].expect("a layer reads something"),
        bias: node.inputs.get(2).copied().flatten(),
        weight,
        read,
        form,
        shape,
        packed: false,
        dtype: DType::Float,
        also: Vec::new(),
    })
}

/// As [`plain`] for a packed weight.
fn packed(layer: &cut::Layer) -> Option<Target> {
    let packed = layer.packed?;
    Some(Target {
        node: layer.node,
        last: layer.node,
        module: String::new(),
        input: packed.input,
        bias: packed.bias,
        weight: packed.weight,
        read: packed.weight,
        form: LayerForm::Linear,
        shape: vec![packed.columns.0, packed.columns.1],
        packed: true,
        dtype: DType::Float,
        also: Vec::new(),
    })
}

/// Those of [`all`] that the patterns name. `spared` are weights that learn as a whole, or make the model's output.
///
/// # Errors
/// The first pattern that names no such layer, and what was probably meant.
pub fn chosen(
    graph: &Graph,
    output: ValueId,
    places: &Places<'_>,
    whole: &HashSet<ValueId>,
    head: &[ValueId],
) -> Result<Vec<Target>, (String, String)> {
    let count = cut::layers(graph, output).len();
    let first = places.last.map_or(0, |last| count.saturating_sub(last));
    let within: Vec<Target> = all(graph, output)
        .into_iter()
        .filter(|(number, target)| *number >= first && !whole.contains(&target.weight))
        .map(|(_, target)| target)
        .collect();
    if places.targets.is_empty() {
        return Ok(within.into_iter().filter(|target| !head.contains(&target.weight)).collect());
    }
    let hit = |pattern: &String| within.iter().any(|target| named(graph, target, pattern));
    if let Some(missed) = places.targets.iter().find(|pattern| !hit(pattern)) {
        let parts = || within.iter().flat_map(|target| [target.module.as_str(), last_part(&target.module)]);
        let other = unfit(graph, output, missed);
        if let Some((module, what)) = other {
            let hint = format!("; `{module}` is {what}, which learns as a whole with setting `train = {module}`");
            return Err((missed.clone(), hint));
        }
        let hint = joined(missed, parts()).unwrap_or_else(|| suggestion(missed, parts()));
        return Err((missed.clone(), hint));
    }
    Ok(within.into_iter().filter(|target| any_names(graph, target, places.targets)).collect())
}

/// A layer of that name that no factors can be put on, with what it is.
pub fn unfit(graph: &Graph, output: ValueId, name: &str) -> Option<(String, String)> {
    let uses = cut::uses(graph, output);
    let named = |(_, module): &(&cut::Layer, String)| cut::names_module(name, module);
    let (layer, module) = uses.iter().zip(cut::modules(graph, &uses)).find(named)?;
    let node = &graph.nodes[layer.node];
    let what = match (node.op.as_str(), node.int("group", 1)) {
        ("Conv", groups) if groups > 1 => format!("a convolution of {groups} groups"),
        ("Conv" | "Gemm" | "MatMul", _) => return None,
        ("Gather", _) => "a table of embeddings".into(),
        (op, _) if op.ends_with("Normalization") => "a normalisation".into(),
        (op, _) => format!("a layer of the operator {op}"),
    };
    Some((module, what))
}

/// Layers that exporters and some models make one of, each with the names of the layer that it is part of.
const JOINED: [(&[&str], &[&str], &str); 2] = [
    (
        &["q_proj", "k_proj", "v_proj", "query", "key", "value", "to_q", "to_k", "to_v"],
        &["qkv_proj", "qkv", "query_key_value", "Wqkv", "c_attn", "in_proj"],
        "queries, keys and values",
    ),
    (&["gate_proj", "up_proj"], &["gate_up_proj"], "gate_proj and up_proj"),
];

/// A sentence for a layer that is there as a part of another.
fn joined<'a>(missed: &str, parts: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    JOINED.iter().filter(|(apart, _, _)| apart.contains(&last_part(missed))).find_map(|(_, as_one, what)| {
        let name = parts.clone().find(|part| as_one.contains(part))?;
        Some(format!("; in this file {what} are one layer: name `{name}`"))
    })
}

/// What a module is called within its parent, as the setting `adapter.targets` takes it.
fn last_part(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

/// Whether one of the patterns names the layer.
pub fn any_names(graph: &Graph, target: &Target, patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| named(graph, target, pattern))
}

fn named(graph: &Graph, target: &Target, pattern: &str) -> bool {
    let wild = pattern.contains(['*', '?']);
    let names = [&graph.nodes[target.node].name, graph.value_name(target.weight)];
    names_module(pattern, &target.module) || (wild && names.into_iter().any(|name| glob(pattern, name)))
}

fn form(graph: &Graph, node: &Node) -> Option<(LayerForm, ValueId)> {
    let read = node.inputs.get(1).copied().flatten()?;
    // A weight in the first place would be no input of the layer.
    if node.inputs[0].is_none_or(|id| graph.initializers.contains_key(&id)) || !node.domain.is_empty() {
        return None;
    }
    match node.op.as_str() {
        "MatMul" => Some((LayerForm::Linear, read)),
        "Gemm" if node.int("transA", 0) == 0 && node.float("alpha", 1.0) == 1.0 => {
            Some((if node.int("transB", 0) == 1 { LayerForm::LinearTransposed } else { LayerForm::Linear }, read))
        }
        "Conv" if node.int("group", 1) == 1 => Some((LayerForm::Conv, read)),
        _ => None,
    }
}

/// The weight's sizes as the node reads it: from its type, or through the views between it and the initializer.
fn shape_read(graph: &Graph, producers: &HashMap<ValueId, usize>, read: ValueId, weight: ValueId) -> Option<Vec<u64>> {
    if read == weight {
        return cut::weight_type(graph, weight).map(|(_, shape)| shape.to_vec());
    }
    if let Some(shape) = graph.ty(read).and_then(|ty| ty.fixed_shape()) {
        return Some(shape);
    }
    let node = &graph.nodes[*producers.get(&read)?];
    let below = shape_read(graph, producers, node.inputs.first().copied().flatten()?, weight)?;
    match node.op.as_str() {
        "Cast" | "Identity" => Some(below),
        "Transpose" if below.len() == 2 && node.ints("perm").is_none_or(|perm| perm == [1, 0]) => {
            Some(vec![below[1], below[0]])
        }
        _ => None,
    }
}

/// The `Add` behind a layer's node that holds its bias.
fn bias_node(
    graph: &Graph,
    producers: &HashMap<ValueId, usize>,
    consumers: &HashMap<ValueId, Vec<usize>>,
    layer: &cut::Layer,
    weight: ValueId,
) -> Option<usize> {
    let output = graph.nodes[layer.node].outputs.first().copied().flatten()?;
    let [reader] = consumers.get(&output)?.as_slice() else { return None };
    let source = |id| cut::constant_source(graph, producers, id);
    let holds = |id: ValueId| source(id).is_some_and(|bias| bias != weight && layer.weights.contains(&bias));
    (graph.nodes[*reader].op == "Add" && graph.nodes[*reader].reads().any(holds)).then_some(*reader)
}
