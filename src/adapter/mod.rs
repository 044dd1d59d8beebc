//! Stage 3: what learns is put into the graph and named.
//!
//! Takes a typed graph and what the user asked for; gives the graph with its classifier replaced or appended where the
//! classes demand it, the nodes of a method such as LoRA beside its layers, and the list of parameters with their first
//! values. Parameters are fp32 while they learn and fp16
//! at rest ([`fp16`]). Never runs anything.

mod appended;
mod attach;
mod below;
mod detector;
mod ending;
pub mod fp16;
mod head;
mod low_rank;
mod merge;
mod method;
mod pooling;
mod positions;
mod select;
mod target;

pub use attach::{LORA_B, axis_of_rank};
pub use detector::Detector;
pub use ending::Activation;
pub use head::{AppendedHead, HeadChoice};
pub use low_rank::{Factored, factored};
pub use merge::merge;
pub use method::{Kind, Method, Places};
pub use positions::Positions;
pub use target::Target;

use crate::cut::{self, Selection};
use crate::graph::{Attr, DType, Graph, Node, Tensor, ValueId};
use std::collections::HashSet;

/// A tensor that learns. Its values live outside the graph; in the tail it is an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The value in the graph.
    pub id: ValueId,
    /// The initializer's name; names are what a delta is applied by.
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Vec<u64>,
    /// What it holds before the first step.
    pub initial: Vec<f32>,
    /// Whether it belongs to a head that the base did not have and so starts from nothing.
    pub fresh: bool,
}

/// A graph ready to be cut.
#[derive(Debug, Clone)]
pub struct Adapted {
    /// The base with its head changed where needed.
    pub graph: Graph,
    /// Logits, regression values or an embedding: what the loss is computed on.
    pub output: ValueId,
    /// The base's value that the output is, or is read from; a delta names it.
    pub answer: ValueId,
    /// What learns, in the graph's order.
    pub parameters: Vec<Parameter>,
    /// What has a row of scores each.
    pub positions: Positions,
    /// The head that was appended, if the base had no classifier.
    pub head: Option<AppendedHead>,
    /// What was done to the head, for the report.
    pub head_note: String,
    /// How the base is changed, besides whole tensors.
    pub method: Option<Method>,
    /// What decided the first values of LoRA's `A`.
    pub seed: u64,
}

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// Which of several outputs to train on; `None` takes the default.
    pub output: Option<&'a str>,
    /// The setting `train`, one value or more; none takes the head, or, beside a method, only a head that is fresh.
    pub selections: &'a [Selection],
    /// How the base is changed besides: the setting `adapter`.
    pub method: Option<Method>,
    /// Where `method` is put.
    pub places: Places<'a>,
    /// Decides the first values of LoRA's `A`.
    pub seed: u64,
    /// The number of classes or regression values of the data; `None` keeps the model's own.
    pub width: Option<u64>,
    /// Whether to replace the model's classifier or append one.
    pub head: HeadChoice,
    /// What the loss puts behind the output; `None` takes off whatever activation the model ends in.
    pub activation: Option<Activation>,
    /// What has a row of scores each.
    pub positions: Positions,
}

/// Why an adapter cannot be put into a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A selection that does not fit.
    #[error(transparent)]
    Cut(#[from] cut::Error),
    /// The setting `output` names no output of the model.
    #[error("setting `output` `{name}`: the model has no such output; its outputs are {known}")]
    Output {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The output cannot end in a classifier.
    #[error("output `{output}` ({ty}): {reason}")]
    Head {
        /// The output's name.
        output: String,
        /// Its type.
        ty: String,
        /// What does not fit, and the remedy.
        reason: String,
    },
    /// The setting `adapter.targets` or `adapter.feedforward` names no layer of the model.
    #[error(
        "setting `adapter.{option}` `{pattern}`: no layer that {method} can be put on has such a name there{hint}; `edgetune inspect MODEL --all` lists them"
    )]
    NoTarget {
        /// `targets` or `feedforward`.
        option: &'static str,
        /// What was asked for.
        pattern: String,
        /// The method's name.
        method: String,
        /// What was probably meant; may be empty.
        hint: String,
    },
    /// A method that needs a weight's numbers, on one that is multiplied as it is quantised.
    #[error(
        "setting `adapter.method = {method}`: `{module}` multiplies with its weight as it is quantised, which {method} there would have to \
         change; use setting `adapter.method = lora`, or leave it out of setting `adapter.targets` and setting `adapter.feedforward`"
    )]
    Packed {
        /// The method's name.
        method: String,
        /// The layer's module.
        module: String,
    },
    /// Nothing for a method to be put on.
    #[error(
        "setting `adapter.method = {method}`: the model has no {wanted} there; {}raise setting `adapter.layers`, or choose another setting `adapter.method`",
        if *recurrent { "its recurrent layers learn as a whole, with setting `train = last:N` and no method; else " } else { "" }
    )]
    NoPlace {
        /// The method's name.
        method: String,
        /// What it needs.
        wanted: &'static str,
        /// Whether the model has recurrent layers, on which no method can be put.
        recurrent: bool,
    },
    /// A delta does not fit the model.
    #[error("the delta's tensor `{name}` {reason}; is this the base that it was trained on?")]
    Delta {
        /// The tensor's name.
        name: String,
        /// What does not fit.
        reason: String,
    },
}

/// The value that a loss is computed on: the named output or the one that looks most like a result, before a final
/// softmax or sigmoid.
///
/// # Errors
/// [`Error::Output`] if the model has no such output.
pub fn output(graph: &Graph, name: Option<&str>) -> Result<ValueId, Error> {
    output_of(graph, name, Positions::Sample)
}

/// As [`output`], of scores for each token or pixel where `positions` says so.
///
/// # Errors
/// [`Error::Output`] if the model has no such output.
pub fn output_of(graph: &Graph, name: Option<&str>, positions: Positions) -> Result<ValueId, Error> {
    Ok(ending::logits(graph, positions::choose_output(graph, name, positions)?, None))
}

/// Rows of a matrix, one after the other, with its two sizes.
pub type Rows = (Vec<f32>, [usize; 2]);

/// The weight of the layer that makes the scores of an output, as rows `[outputs, features]`; none where no linear
/// layer of floats makes them.
///
/// # Errors
/// [`Error::Output`] if the model has no such output.
pub fn classifier_weight(graph: &Graph, name: Option<&str>) -> Result<Option<Rows>, Error> {
    Ok(head::classifier_weight(graph, output(graph, name)?))
}

/// Columns of an output that has a row for each of `positions`, where their number is fixed.
pub fn width(graph: &Graph, output: ValueId, positions: Positions) -> Option<u64> {
    positions::own_width(graph, output, positions)
}

/// The layers that `output` depends on and that a method of low rank can be put on, in topological order.
pub fn targets(graph: &Graph, output: ValueId) -> Vec<Target> {
    target::all(graph, output).into_iter().map(|(_, target)| target).collect()
}

/// A layer of that name that `output` depends on and that no method of low rank can be put on: its module, and what it is.
pub fn unfit(graph: &Graph, output: ValueId, name: &str) -> Option<(String, String)> {
    target::unfit(graph, output, name)
}

/// Picks the output, replaces or appends the head, attaches the method, and lists the parameters.
///
/// # Errors
/// An output, selection or target that the model does not have; a head that cannot be changed to the wanted width.
pub fn install(mut graph: Graph, request: &Request<'_>) -> Result<Adapted, Error> {
    if request.positions == Positions::Cell {
        return install_detector(graph, request);
    }
    let given = positions::choose_output(&graph, request.output, request.positions)?;
    let output = ending::logits(&graph, given, None);
    // A replaced head makes types unknown, which tell the targets.
    let typed = request.method.is_some().then(|| graph.clone());
    let wanted = (request.width, request.head, request.activation);
    let mut placed = head::place(&mut graph, given, wanted, request.positions)?;
    let answer = placed.output;
    if !placed.fresh {
        placed.output = head::read_scores(&mut graph, answer, (request.width, request.activation), request.positions);
    }
    let fresh: &[ValueId] = if placed.fresh { &placed.weights } else { &[] };
    let mut chosen = whole(&graph, &placed, request)?;
    if let (Some(method), Some(typed)) = (&request.method, typed) {
        let more = changed(&mut graph, &typed, output, (&chosen, &placed.weights), method, request)?;
        chosen.extend(more);
    }
    let (method, seed, positions) = (request.method, request.seed, request.positions);
    let adapted = adapted(graph, placed.output, &chosen, fresh, placed.appended);
    Ok(Adapted { answer, head_note: placed.note, method, seed, positions, ..adapted })
}

/// As [`install`] for a detector: all its levels become one output.
fn install_detector(mut graph: Graph, request: &Request<'_>) -> Result<Adapted, Error> {
    let detector = Detector::find(&graph)?;
    let typed = request.method.is_some().then(|| detector.joined(&graph));
    let placed = detector.place(&mut graph, request.width.unwrap_or(detector.classes), request.head)?;
    let mut chosen = whole(&graph, &placed, request)?;
    if let (Some(method), Some((typed, all))) = (&request.method, typed) {
        let more = changed(&mut graph, &typed, all, (&chosen, &placed.weights), method, request)?;
        chosen.extend(more);
    }
    // What is left of the base's own outputs would not fit another number of classes.
    graph.outputs = vec![placed.output];
    graph.prune();
    let (method, seed, positions) = (request.method, request.seed, request.positions);
    let adapted = adapted(graph, placed.output, &chosen, &[], None);
    Ok(Adapted { answer: detector.answer(), head_note: placed.note, method, seed, positions, ..adapted })
}

/// The weights that learn as a whole.
fn whole(graph: &Graph, placed: &head::Placed, request: &Request<'_>) -> Result<Vec<ValueId>, Error> {
    let mut selections = request.selections.to_vec();
    if selections.is_empty() && request.method.is_some() {
        return Ok(if placed.must_learn { placed.weights.clone() } else { Vec::new() });
    }
    if selections.is_empty() {
        selections.push(Selection::Head);
    }
    // The layer that makes the scores is the head, and not a scale behind it that turns scores into units.
    let head = placed.must_learn || selections.contains(&Selection::Head);
    Ok(cut::select(graph, placed.output, &selections, if head { &placed.weights } else { &[] })?)
}

/// Puts the method where the request asks for it; gives what learns besides `whole`.
fn changed(
    graph: &mut Graph,
    typed: &Graph,
    output: ValueId,
    (whole, head): (&[ValueId], &[ValueId]),
    method: &Method,
    request: &Request<'_>,
) -> Result<Vec<ValueId>, Error> {
    let places = &request.places;
    let recurrent = typed.nodes.iter().any(select::recurrent);
    let nowhere = |wanted| Error::NoPlace { method: method.kind.to_string(), wanted, recurrent };
    let found = match method.kind {
        Kind::BitFit => select::biases(typed, output, places.last),
        Kind::Norm => select::normalisations(typed, output, places.last),
        _ => {
            let whole: HashSet<ValueId> = whole.iter().copied().collect();
            let missed = |option| {
                let method = method.kind.to_string();
                move |(pattern, hint)| Error::NoTarget { option, pattern, method, hint }
            };
            let mut targets = target::chosen(typed, output, places, &whole, head).map_err(missed("targets"))?;
            let inner = Places { targets: places.feedforward, ..*places };
            if method.kind == Kind::Ia3 && !places.feedforward.is_empty() {
                let more = target::chosen(typed, output, &inner, &whole, head).map_err(missed("feedforward"))?;
                targets.extend(more.into_iter().filter(|more| !targets.contains(more)).collect::<Vec<_>>());
            }
            if targets.is_empty() {
                return Err(nowhere("linear layer or convolution of one group"));
            }
            let inner = |target: &Target| target::any_names(typed, target, places.feedforward);
            let unfit = |target: &&Target| target.packed && (method.kind == Kind::Dora || inner(target));
            if let Some(target) = targets.iter().find(unfit) {
                return Err(Error::Packed { method: method.kind.to_string(), module: target.module.clone() });
            }
            let each = targets.iter().map(|target| (target, inner(target)));
            let learns = each.flat_map(|(target, inner)| attach::attach(graph, target, method, inner, request.seed));
            let learns = learns.collect();
            graph.sort().expect("attached nodes make no cycle");
            return Ok(learns);
        }
    };
    let found: Vec<ValueId> = found.into_iter().filter(|id| !whole.contains(id)).collect();
    match (found.is_empty(), method.kind) {
        (false, _) => Ok(found),
        (true, Kind::BitFit) => Err(nowhere("layer with a bias")),
        (true, _) => Err(nowhere("normalisation with weights")),
    }
}

/// What a delta says of one of its tensors, enough to rebuild the tail that it was learned in.
#[derive(Debug, Clone)]
pub struct Learned<'a> {
    /// The initializer's name, or the module's with PEFT's suffix.
    pub name: &'a str,
    /// Sizes, outermost first.
    pub shape: Vec<u64>,
}

/// What a delta says of the change to its base.
#[derive(Debug, Clone, Default)]
pub struct Change<'a> {
    /// The output that was trained, before an appended head.
    pub output: &'a str,
    /// The appended head, if there is one.
    pub head: Option<&'a AppendedHead>,
    /// The method, if there was one besides whole tensors.
    pub method: Option<Method>,
    /// The run's seed.
    pub seed: u64,
    /// The learned tensors.
    pub learned: Vec<Learned<'a>>,
    /// What its loss puts behind the output, where that is known.
    pub activation: Option<Activation>,
    /// What has a row of scores each.
    pub positions: Positions,
    /// Its classes or values, where they are known.
    pub width: Option<u64>,
}

/// Rebuilds the adapted graph from what a delta names, instead of from a selection.
///
/// # Errors
/// A tensor that the model does not have, or in another shape where the shape is not the head's width.
pub fn from_delta(mut graph: Graph, change: &Change<'_>) -> Result<Adapted, Error> {
    let base_output = found_output(&graph, change.output)?;
    let mut output = base_output;
    let detector = (change.positions == Positions::Cell).then(|| Detector::find(&graph)).transpose()?;
    if let Some(detector) = &detector {
        output = detector.join(&mut graph, change.width.unwrap_or(detector.classes));
    }
    let targets = change.method.map(|_| target::all(&graph, output)).unwrap_or_default();
    if let Some(appended) = change.head {
        output = head::append(&mut graph, output, appended.classes, change.positions)?.0;
    }
    let mut chosen = Vec::new();
    let mut beside: Vec<&Learned> = Vec::new();
    for tensor in &change.learned {
        match graph.find(tensor.name) {
            Some(id) => {
                fit_shape(&mut graph, id, tensor)?;
                chosen.push(id);
            }
            None => beside.push(tensor),
        }
    }
    if let Some(method) = change.method {
        for (_, target) in &targets {
            let Some(inner) = rebuilt(target, &method, &mut beside)? else { continue };
            chosen.extend(attach::attach(&mut graph, target, &method, inner, change.seed));
        }
        graph.sort().expect("attached nodes make no cycle");
    }
    if detector.is_some() {
        graph.outputs = vec![output];
        graph.prune();
    } else if change.head.is_none() {
        output = head::read_scores(&mut graph, output, (change.width, change.activation), change.positions);
    }
    match beside.first() {
        Some(tensor) => Err(Error::Delta { name: tensor.name.into(), reason: "is not in the model".into() }),
        None => {
            let adapted = adapted(graph, output, &chosen, &[], change.head.cloned());
            let (method, seed, positions) = (change.method, change.seed, change.positions);
            Ok(Adapted { answer: base_output, method, seed, positions, ..adapted })
        }
    }
}

fn found_output(graph: &Graph, name: &str) -> Result<ValueId, Error> {
    let known = "others, so the delta belongs to another model".to_string();
    graph.find(name).ok_or_else(|| Error::Output { name: name.into(), known })
}

/// Whether the tensors of a target are among `left`, from which they are taken; then whether its input is scaled.
fn rebuilt(target: &Target, method: &Method, left: &mut Vec<&Learned>) -> Result<Option<bool>, Error> {
    let rank = method.rank.into();
    let mut inner = false;
    let wanted: Vec<(&str, Vec<u64>)> = match method.kind {
        Kind::Lora | Kind::RsLora => {
            vec![(attach::LORA_A, attach::shape_a(target, rank)), (attach::LORA_B, attach::shape_b(target, rank))]
        }
        Kind::LoraFa => vec![(attach::LORA_B, attach::shape_b(target, rank))],
        Kind::Dora => vec![
            (attach::LORA_A, attach::shape_a(target, rank)),
            (attach::LORA_B, attach::shape_b(target, rank)),
            (attach::MAGNITUDE, vec![target.outputs()]),
        ],
        Kind::Ia3 => {
            let name = format!("{}{}", target.module, attach::IA3);
            let shape = attach::shape_ia3(target, true);
            inner = left.iter().any(|tensor| tensor.name == name && tensor.shape == shape);
            vec![(attach::IA3, attach::shape_ia3(target, inner))]
        }
        Kind::BitFit | Kind::Norm => return Ok(None),
    };
    let mut taken = 0;
    for (suffix, shape) in &wanted {
        let name = format!("{}{suffix}", target.module);
        let Some(place) = left.iter().position(|tensor| tensor.name == name) else { continue };
        let tensor = left.swap_remove(place);
        if tensor.shape != *shape {
            let reason = format!("has shape {:?}, {} of rank {} there has {shape:?}", tensor.shape, method.kind, rank);
            return Err(Error::Delta { name, reason });
        }
        taken += 1;
    }
    match taken {
        0 => Ok(None),
        taken if taken == wanted.len() => Ok(Some(inner)),
        _ => Err(Error::Delta { name: target.module.clone(), reason: "lacks one of its factors".into() }),
    }
}

/// Gives an initializer the learned tensor's shape, which may differ in one size: the head's width.
fn fit_shape(graph: &mut Graph, id: ValueId, tensor: &Learned<'_>) -> Result<(), Error> {
    let delta = |reason: String| Error::Delta { name: tensor.name.into(), reason };
    cut::store_as_floats(graph, id);
    let known = graph.initializers.get(&id).ok_or_else(|| delta("is not an initializer of the model".into()))?;
    if known.shape != tensor.shape {
        let differing = known.shape.iter().zip(&tensor.shape).filter(|(a, b)| a != b).count();
        if known.shape.len() != tensor.shape.len() || differing != 1 {
            return Err(delta(format!("has shape {:?}, the model's has {:?}", tensor.shape, known.shape)));
        }
        head::resize(graph, id, &tensor.shape);
    }
    Ok(())
}

fn adapted(
    mut graph: Graph,
    output: ValueId,
    chosen: &[ValueId],
    fresh: &[ValueId],
    head: Option<AppendedHead>,
) -> Adapted {
    for id in chosen {
        cut::store_as_floats(&mut graph, *id);
    }
    let parameters = chosen.iter().map(|id| parameter(&graph, *id, fresh.contains(id))).collect();
    for id in chosen {
        learn_in_fp32(&mut graph, *id);
    }
    graph.outputs = vec![output];
    // What reads the scores may not take another number of them.
    let behind = graph.descendants([output]);
    graph.nodes.retain(|node| !node.reads().any(|id| behind.contains(&id)));
    let positions = Positions::Sample;
    let (answer, head_note) = (output, String::new());
    Adapted { graph, output, answer, parameters, positions, head, head_note, method: None, seed: 0 }
}

fn parameter(graph: &Graph, id: ValueId, fresh: bool) -> Parameter {
    let tensor = &graph.initializers[&id];
    Parameter {
        id,
        name: graph.value_name(id).into(),
        shape: tensor.shape.clone(),
        initial: tensor.to_f32().expect("only float tensors are selected"),
        fresh,
    }
}

/// Parameters are fp32. Where the base computes in another float type, a `Cast` behind the parameter keeps its readers
/// as they are; where it only stores it and casts it to fp32 itself, nothing rounds what is learned.
fn learn_in_fp32(graph: &mut Graph, id: ValueId) {
    let dtype = graph.initializers[&id].dtype;
    if dtype == DType::Float {
        return;
    }
    let mut ty = graph.initializers[&id].ty();
    let name = graph.value_name(id).to_string();
    let cast = graph.add_value(&format!("{name}/cast"), Some(ty.clone()));
    let widens = |node: &Node| node.op == "Cast" && node.int("to", 0) == i64::from(DType::Float.onnx());
    for node in graph.nodes.iter_mut().filter(|node| !widens(node)) {
        node.inputs.iter_mut().filter(|input| **input == Some(id)).for_each(|input| *input = Some(cast));
    }
    graph.nodes.insert(
        0,
        Node {
            name: format!("{name}/cast"),
            op: "Cast".into(),
            inputs: vec![Some(id)],
            outputs: vec![Some(cast)],
            attributes: [("to".into(), Attr::Int(dtype.onnx().into()))].into(),
            ..Node::default()
        },
    );
    ty.dtype = DType::Float;
    let values = graph.initializers[&id].to_f32().expect("a float tensor");
    let shape = graph.initializers[&id].shape.clone();
    graph.initializers.insert(id, Tensor::from_vec(&shape, values));
    graph.values[id.index()].ty = Some(ty);
}
