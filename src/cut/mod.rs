//! Stage 2: what learns, and the cut below it.
//!
//! Takes a typed graph; says which weights a selection such as `last:2` names, and splits the graph into the frozen body
//! (whose outputs, the *features*, are computed once per sample) and the tail that holds everything that learns. Never
//! reads a file, never runs anything.

mod apart;
mod batch_axis;
mod free;
mod inference;
mod learnable;
mod module;
mod packed;
mod split;
mod spread;
mod stored;
mod widen;

pub use apart::take_apart;
pub use batch_axis::{batch_as_given, batch_first};
pub use free::{Baked, Freed, baked_batch, free_batch, name_freed};
pub use inference::{dropouts_off, random, size_pasts, without_past};
pub use learnable::{constant_source, is_vector};
pub use module::{modules, names_module, paths, united};
pub use packed::Packed;
pub use split::{Cut, batch_names, split};
pub use spread::spread;
pub use stored::{gives_weight, store_as_floats, weight_floats, weight_name, weight_type};
pub use widen::widen;

use crate::graph::{Graph, Node, ValueId};
use crate::nearest::nearest;
use crate::order::gathered;
use learnable::{
    ELEMENTWISE, gives_one, is_angles, is_bias, is_number, learnable, of_positions, raw, scales_groups, sets,
    whole_numbers,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

/// What a user asks to train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// `head`: the classifier alone.
    Head,
    /// `last:N`: the N last layers that hold weights.
    Last(usize),
    /// A module, or a pattern with `*` and `?` over the names of modules, nodes and initializers.
    Names(String),
}

impl Selection {
    /// Reads `head`, `last:N` or a name pattern.
    ///
    /// # Errors
    /// [`Error::Spec`] for `last:` without a positive number, or nothing at all.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let spec = || Error::Spec { text: text.into() };
        match text.split_once(':') {
            _ if text == "head" => Ok(Selection::Head),
            Some(("last", count)) => match count.parse() {
                Ok(count) if count > 0 => Ok(Selection::Last(count)),
                _ => Err(spec()),
            },
            _ if text.is_empty() => Err(spec()),
            _ => Ok(Selection::Names(text.into())),
        }
    }
}

impl FromStr for Selection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selection::Head => f.write_str("head"),
            Selection::Last(count) => write!(f, "last:{count}"),
            Selection::Names(pattern) => f.write_str(pattern),
        }
    }
}

/// Why a selection or a cut is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a selection.
    #[error("setting `train` `{text}`: expected `head`, `last:N` with N ≥ 1, or a name pattern such as '*layer.5*'")]
    Spec {
        /// What was given.
        text: String,
    },
    /// A pattern that names nothing.
    #[error("setting `train` `{pattern}`: no node or initializer with weights has such a name; {hint}")]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// What was probably meant, or where the names stand.
        hint: String,
    },
    /// What was named is a weight that cannot be taken apart from its quantisation.
    #[error(
        "node `{node}` multiplies with `{weight}` as it is quantised, so that weight cannot learn; put factors beside it with \
         setting `adapter.method = lora`, or append a head with setting `classes = N` and setting `head = append`"
    )]
    Packed {
        /// The node's name.
        node: String,
        /// The weight's name.
        weight: String,
    },
    /// Nothing in the model can learn.
    #[error(
        "{made_by} makes output `{output}`, and below it the model holds no layer with weights that a gradient could \
         change; {remedy}"
    )]
    NoLayers {
        /// The output's name.
        output: String,
        /// The node that holds what was learned elsewhere, or else the last one.
        made_by: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// A sub-graph in half precision.
    #[error(
        "node `{node}` ({op}) holds a sub-graph that reads fp16 or bf16 values, which are not widened there; export the model \
         with float32 activations"
    )]
    HalfInside {
        /// The node's name.
        node: String,
        /// Its operator.
        op: String,
    },
    /// A value crosses the cut that is not one row a sample.
    #[error(
        "value `{value}` ({ty}) crosses the cut, but its first dimension is not the batch, so it cannot be kept per \
         sample; train more layers (setting `train = last:N` with a larger N) or fewer, so that the cut lies elsewhere"
    )]
    NotPerSample {
        /// The value's name.
        value: String,
        /// Its type.
        ty: String,
    },
}

/// A node that holds learnable weights, with the bias that an exporter wrote as a node of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Index of the node in [`Graph::nodes`].
    pub node: usize,
    /// What can learn: weight, bias, scale. Initializers, or integers behind a `DequantizeLinear`, known by its output.
    pub weights: Vec<ValueId>,
    /// A weight that is multiplied as it is packed, and so cannot learn itself.
    pub packed: Option<Packed>,
}

/// The layers that hold weights and that `output` depends on, in topological order. One that is used several times is one layer, at
/// its last use: a recurrence that an exporter wrote out step by step, a block that is run again and again.
pub fn layers(graph: &Graph, output: ValueId) -> Vec<Layer> {
    let uses = uses(graph, output);
    let numbers = numbers(graph, &uses);
    let last = |at: &usize| !numbers[at + 1..].contains(&numbers[*at]);
    (0..uses.len()).filter(last).map(|at| uses[at].clone()).collect()
}

/// For each use of a layer, the number of that layer among [`layers`]. Exporters unite tensors that are equal, so that only uses of the
/// same weights by the same module are of one layer.
pub fn numbers(graph: &Graph, uses: &[Layer]) -> Vec<usize> {
    let paths = paths(graph, uses);
    // A recurrence's first step has the bias alone, where its first state is zero.
    let within = |at: usize, later: usize| {
        let packed = |at: usize| uses[at].packed.map(|packed| packed.weight);
        let all = uses[at].weights.iter().all(|id| uses[later].weights.contains(id));
        paths[at] == paths[later] && packed(at) == packed(later) && all
    };
    let last_use: Vec<usize> =
        (0..uses.len()).map(|at| (at..uses.len()).rev().find(|later| within(at, *later)).unwrap_or(at)).collect();
    let before = |last: usize| (0..last).filter(|at| last_use[*at] == *at).count();
    last_use.iter().map(|last| before(*last)).collect()
}

/// Every use of a layer that holds weights and that `output` depends on, in topological order.
pub fn uses(graph: &Graph, output: ValueId) -> Vec<Layer> {
    let needed = graph.ancestors([output]);
    let producers = graph.producers();
    let raw = raw(graph);
    let mut layers: Vec<Layer> = Vec::new();
    let mut layer_of_node: HashMap<usize, usize> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if !node.writes().any(|id| needed.contains(&id)) {
            continue;
        }
        // `MatMul` + `Add` of a vector is one linear layer, also where a `Cast` lies between them.
        let below = node.inputs.iter().flatten().find_map(|id| layer_of_node.get(producers.get(id)?).copied());
        if let (Some(layer), "Cast") = (below, node.op.as_str()) {
            layer_of_node.insert(index, layer);
            continue;
        }
        let single = below.is_some_and(|layer: usize| gives_one(graph, &graph.nodes[layers[layer].node]));
        let mut weights = learnable(graph, &producers, node);
        if node.domain.is_empty() && ELEMENTWISE.contains(&node.op.as_str()) {
            // A lone number is a setting of the model (a scale, an ε), unless it is the bias of a single output.
            let lone =
                |id: &ValueId| weight_type(graph, *id).is_none_or(|(_, shape)| shape.iter().product::<u64>() == 1);
            weights.retain(|id| !lone(id) || (node.op == "Add" && single));
            // Inputs are brought to a range by settings: a mean, a deviation, the ends of a range.
            let of_inputs = node.reads().any(|id| raw.contains(&id));
            weights.retain(|id| !(of_inputs && is_vector(graph, *id)));
            weights.retain(|id| is_vector(graph, *id) || !(whole_numbers(graph, *id) || is_angles(graph, *id)));
        }
        if of_positions(graph, &producers, node)
            || (node.op == "Expand" && (weights.iter().all(|id| is_number(graph, *id)) || sets(graph, node)))
        {
            weights.clear();
        }
        let packed = Packed::find(graph, &producers, node);
        if weights.is_empty() && packed.is_none() {
            continue;
        }
        match below {
            Some(layer) if node.op == "Add" && is_bias(graph, &graph.nodes[layers[layer].node], weights[0]) => {
                layers[layer].weights.extend(weights);
            }
            Some(layer)
                if packed.is_none() && scales_groups(graph, &graph.nodes[layers[layer].node], node, weights[0]) =>
            {
                layers[layer].weights.extend(weights);
                layer_of_node.insert(index, layer);
            }
            _ => {
                layer_of_node.insert(index, layers.len());
                layers.push(Layer { node: index, weights, packed });
            }
        }
    }
    layers
}

/// The weights that the selections name, each once, in the graph's order. `head` gives the classifier's weights
/// where the model has one.
///
/// # Errors
/// A pattern that matches nothing; a model without weights; nothing named but weights that are packed.
pub fn select(
    graph: &Graph,
    output: ValueId,
    selections: &[Selection],
    head: &[ValueId],
) -> Result<Vec<ValueId>, Error> {
    let layers = layers(graph, output);
    if layers.is_empty() {
        return Err(no_layers(graph, output));
    }
    let mut chosen: BTreeSet<ValueId> = gathered(head.iter().copied());
    for selection in selections {
        match selection {
            Selection::Head if head.is_empty() => chosen.extend(&layers[layers.len() - 1].weights),
            Selection::Head => {}
            Selection::Last(count) => {
                chosen.extend(layers.iter().rev().take(*count).flat_map(|layer| layer.weights.iter().copied()));
            }
            Selection::Names(pattern) => chosen.extend(matching(graph, &uses(graph, output), pattern)?),
        }
    }
    if chosen.is_empty()
        && let Some((layer, packed)) = layers.iter().rev().find_map(|layer| Some((layer, layer.packed.as_ref()?)))
    {
        let node = &graph.nodes[layer.node];
        return Err(Error::Packed { node: node.name.clone(), weight: graph.value_name(packed.weight).into() });
    }
    let order = layers.iter().flat_map(|layer| layer.weights.iter().copied());
    let mut seen = HashSet::new();
    Ok(order.filter(|id| chosen.contains(id) && seen.insert(*id)).collect())
}

/// Classical models keep what they learned in attributes of `ai.onnx.ml` nodes, which nothing can be fed into.
fn no_layers(graph: &Graph, output: ValueId) -> Error {
    let needed = graph.ancestors([output]);
    let mut below = graph.nodes.iter().filter(|node| node.writes().any(|id| needed.contains(&id)));
    let classical = |node: &&Node| {
        node.domain == "ai.onnx.ml" && ["Linear", "SVM", "Tree"].iter().any(|kind| node.op.starts_with(kind))
    };
    let named = |node: &Node| format!("node `{}` ({})", node.name, node.op);
    let (made_by, remedy) = match below.clone().find(classical) {
        Some(node) => (
            named(node),
            "its weights are attributes: export the model with weights as tensors (from scikit-learn an MLPClassifier or \
             MLPRegressor instead), or append a head with setting `classes = N` to one of its float inputs with setting `output`",
        ),
        None => (
            below.next_back().map_or("nothing".into(), named),
            "choose another output with setting `output`, or append a head with setting `classes = N` and setting `head = append`",
        ),
    };
    Error::NoLayers { output: graph.value_name(output).into(), made_by, remedy }
}

fn matching(graph: &Graph, layers: &[Layer], pattern: &str) -> Result<Vec<ValueId>, Error> {
    let mut found = Vec::new();
    let mut packed = None;
    for (layer, module) in layers.iter().zip(modules(graph, layers)) {
        let whole = glob(pattern, &graph.nodes[layer.node].name) || names_module(pattern, &module);
        packed = packed.or(layer.packed.as_ref().filter(|packed| {
            whole || glob(pattern, graph.value_name(packed.weight)) || glob(pattern, &graph.nodes[packed.node].name)
        }));
        found.extend(layer.weights.iter().filter(|id| whole || glob(pattern, graph.value_name(**id))));
    }
    match packed {
        _ if !found.is_empty() => Ok(found),
        Some(packed) => Err(Error::Packed {
            node: graph.nodes[packed.node].name.clone(),
            weight: graph.value_name(packed.weight).into(),
        }),
        None => Err(Error::NoMatch { pattern: pattern.into(), hint: hint(graph, layers, pattern) }),
    }
}

/// What was probably meant by a pattern that names nothing.
fn hint(graph: &Graph, layers: &[Layer], pattern: &str) -> String {
    let nodes = layers.iter().map(|layer| graph.nodes[layer.node].name.as_str());
    let weights = layers.iter().flat_map(|layer| &layer.weights).map(|id| graph.value_name(*id));
    let modules = modules(graph, layers);
    let names: Vec<&str> = nodes.chain(weights).chain(modules.iter().map(String::as_str)).collect();
    let bare = pattern.trim_matches('*');
    let within = |name: &&&str| bare.len() > 2 && name.to_lowercase().contains(&bare.to_lowercase());
    if let Some(count) = last_of(pattern) {
        return format!("did you mean last:{count}?");
    }
    if let Some(name) = names.iter().find(within).filter(|_| !bare.contains(['*', '?'])) {
        return format!("to select `{name}` write that, or the pattern '*{bare}*' in the name's own letters");
    }
    match nearest(bare, ["head", "auto"].into_iter().chain(names)) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "`edgetune inspect MODEL --all` lists the names".into(),
    }
}

/// The number of a `last:N` that was written otherwise: `last2`, `last-2`, `Last 2`, `lst:2`.
fn last_of(text: &str) -> Option<usize> {
    let text = text.to_lowercase();
    let text = text.trim_end_matches(|letter: char| !letter.is_alphanumeric());
    let word = text.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let count = text[word.len()..].parse().ok().filter(|count| *count > 0)?;
    let word = word.trim_end_matches(|letter: char| !letter.is_alphanumeric());
    nearest(word, ["last"]).filter(|last| word.len().abs_diff(last.len()) <= 1).map(|_| count)
}

/// Whether `name` matches `pattern`, where `*` stands for any run of characters and `?` for one.
pub fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Tensor;

    #[test]
    fn last_is_understood_in_other_spellings() {
        for text in ["last2", "last-2", "last 2", "last=2", "Last:2", "last(2)", "last_2", "lst:2", "lats2"] {
            assert_eq!(last_of(text), Some(2), "{text}");
        }
        for text in ["last", "last0", "lasting2", "layer2", "2", "l2"] {
            assert_eq!(last_of(text), None, "{text}");
        }
    }

    #[test]
    fn selections_are_read_or_refused() {
        assert_eq!(Selection::parse("head"), Ok(Selection::Head));
        assert_eq!(Selection::parse("last:3"), Ok(Selection::Last(3)));
        assert_eq!(Selection::parse("*layer.5*"), Ok(Selection::Names("*layer.5*".into())));
        for bad in ["", "last:0", "last:", "last:x", "last:-1"] {
            assert!(Selection::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn patterns_match_as_a_shell_does() {
        for (pattern, name) in
            [("*", ""), ("a*c", "abbc"), ("*.5.*", "x.5.y"), ("?b", "ab"), ("a**", "a"), ("/l/x", "/l/x")]
        {
            assert!(glob(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("a", ""), ("a*c", "abcd"), ("?", "ab"), ("*.5.*", "x.55.y")] {
            assert!(!glob(pattern, name), "{pattern} {name}");
        }
    }

    /// tf2onnx writes Keras's DepthwiseConv2D and the BatchNormalization behind it so.
    #[test]
    fn a_scale_and_a_shift_behind_a_depthwise_convolution_belong_to_it() {
        use crate::graph::{Attr, Builder, DType, Dim, TensorType};
        let b = Builder::new(Graph::new("depthwise", 17), "");
        let dims = [Dim::Named("batch".into()), Dim::Fixed(4), Dim::Fixed(6), Dim::Fixed(6)];
        let x = b.input("x", TensorType::new(DType::Float, dims.to_vec()));
        let weight =
            |shape: &[u64]| b.constant(Tensor::from_f32(shape, &vec![0.5; shape.iter().product::<u64>() as usize]));
        let convolved = b.op("Conv", &[x, weight(&[4, 1, 3, 3])], &[("group", Attr::Int(4))]);
        let scaled = convolved * weight(&[1, 4, 1, 1]) + weight(&[1, 4, 1, 1]);
        b.output("y", b.op("Conv", &[scaled.unary("Relu"), weight(&[2, 4, 1, 1])], &[]) * weight(&[1, 2, 1, 1]));
        let graph = b.finish();
        let layers = layers(&graph, graph.outputs[0]);
        let found: Vec<(&str, usize)> =
            layers.iter().map(|layer| (graph.nodes[layer.node].op.as_str(), layer.weights.len())).collect();
        assert_eq!(found, [("Conv", 3), ("Conv", 1), ("Mul", 1)]);
    }

    /// Keras on torch casts what its dense layer gives to the type of the bias.
    #[test]
    fn a_bias_behind_a_cast_belongs_to_its_product() {
        use crate::graph::{Builder, DType, Dim, TensorType};
        let b = Builder::new(Graph::new("cast", 17), "");
        let x = b.input("x", TensorType::new(DType::Float, vec![Dim::Named("batch".into()), Dim::Fixed(4)]));
        let weight = |shape: &[u64], value: f32| {
            b.constant(Tensor::from_f32(shape, &vec![value; shape.iter().product::<u64>() as usize]))
        };
        let cast =
            |value: crate::graph::Val<'_>| b.op("Cast", &[b.val(value.id())], &[("to", crate::graph::Attr::Int(1))]);
        let hidden = (cast(x.matmul(weight(&[4, 3], 0.5))) + weight(&[3], 0.25)).unary("Relu");
        b.output("y", cast(hidden.matmul(weight(&[3, 2], 0.75))) + weight(&[2], 0.125));
        let graph = b.finish();
        let layers = layers(&graph, graph.outputs[0]);
        let found: Vec<(&str, usize)> =
            layers.iter().map(|layer| (graph.nodes[layer.node].op.as_str(), layer.weights.len())).collect();
        assert_eq!(found, [("MatMul", 2), ("MatMul", 2)]);
    }
}
