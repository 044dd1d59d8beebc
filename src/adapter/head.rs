//! The classifier: which output, where its weights are, replacing it by a fresh one, appending one.

use super::appended::push;
use super::below::{below, is_packed_below, weights_below};
use super::ending::{Activation, logits, producer, quantises};
use super::positions::{Positions, own_width};
use super::{Error, pooling};
use crate::amounts::counted;
use crate::cut;
use crate::graph::{DType, Dim, Graph, Node, Tensor, TensorType, ValueId};

/// What to do when the data's classes are not the model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeadChoice {
    /// Replace a classifier; append one where the output looks like an embedding.
    #[default]
    Auto,
    /// Keep what gives the model's outputs, also where nothing tells how; with rows for classes that come behind its own.
    Keep,
    /// Replace the last linear layer, also by one of the same width.
    Replace,
    /// Leave the model whole and append a linear layer.
    Append,
}

/// A linear layer behind a model that had no classifier; a delta names it so that a reader can rebuild it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendedHead {
    /// The value of the base that it reads.
    pub value: String,
    /// The width of what it reads.
    pub features: u64,
    /// The width of what it gives.
    pub classes: u64,
}

/// Names of an appended head's parameters.
const APPENDED_WEIGHT: &str = "edgetune.head.weight";
const APPENDED_BIAS: &str = "edgetune.head.bias";

/// The head after [`place`].
pub(super) struct Placed {
    /// The new output.
    pub output: ValueId,
    /// The classifier's weight and bias; empty where the model has none and none was needed.
    pub weights: Vec<ValueId>,
    /// Whether they start anew.
    pub fresh: bool,
    /// Whether they are not the base's own and so must learn.
    pub must_learn: bool,
    /// Set if the head was appended.
    pub appended: Option<AppendedHead>,
    /// A sentence for the report.
    pub note: String,
}

/// The classifier that `output` comes from: its weight, the axis of the classes in it, and its bias.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Classifier {
    weight: ValueId,
    axis: usize,
    bias: Option<ValueId>,
}

impl Classifier {
    fn weights(&self) -> Vec<ValueId> {
        [Some(self.weight), self.bias].into_iter().flatten().collect()
    }
}

impl Placed {
    fn kept(output: ValueId, weights: Vec<ValueId>, note: String) -> Self {
        Self { output, weights, fresh: false, must_learn: false, appended: None, note }
    }

    fn changed(output: ValueId, found: &Classifier, fresh: bool, note: String) -> Self {
        Self { output, weights: found.weights(), fresh, must_learn: true, appended: None, note }
    }
}

/// Walks back from the output through nodes that keep the classes apart, to the layer that makes them.
fn classifier(graph: &Graph, output: ValueId) -> Option<Classifier> {
    let producers = graph.producers();
    let is_weight = |id: &ValueId| cut::weight_type(graph, *id).is_some_and(|(dtype, _)| dtype.is_float());
    // Stored in half precision, a weight is read through a `Cast`.
    let weight_of = |id: ValueId| {
        let widened = producers.get(&id).map(|index| &graph.nodes[*index]).filter(|node| node.op == "Cast");
        [Some(id), widened.and_then(|cast| cast.inputs[0])].into_iter().flatten().find(is_weight)
    };
    let (mut value, mut bias) = (output, None);
    loop {
        let node = &graph.nodes[*producers.get(&value)?];
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        match node.op.as_str() {
            "Gemm" => {
                let weight = input(1).and_then(weight_of)?;
                let axis = if node.int("transB", 0) == 1 { 0 } else { 1 };
                return Some(Classifier { weight, axis, bias: input(2).and_then(weight_of).or(bias) });
            }
            "MatMul" => {
                let weight = input(1).and_then(weight_of)?;
                return Some(Classifier { weight, axis: 1, bias });
            }
            "Conv" => {
                let weight = input(1).and_then(weight_of)?;
                return Some(Classifier { weight, axis: 0, bias: input(2).or(bias) });
            }
            "ConvTranspose" if node.int("group", 1) == 1 => {
                let weight = input(1).and_then(weight_of)?;
                return Some(Classifier { weight, axis: 1, bias: input(2).or(bias) });
            }
            // Scores of pixels that are made larger.
            "Resize" | "Upsample" if graph.ty(value)?.rank() == Some(4) => value = input(0)?,
            "Add" => {
                let (a, b) = (input(0)?, input(1)?);
                let (constant, rest) = match weight_of(b) {
                    Some(constant) => (constant, a),
                    None => (weight_of(a)?, b),
                };
                (bias, value) = (Some(constant), rest);
            }
            "Identity" | "Flatten" | "Squeeze" | "Dropout" | "Cast" | "GlobalAveragePool" | "Reshape" => {
                value = input(0)?
            }
            // The scores of one position, as of a text's last token.
            "GatherND" | "Gather" if picks_rows(graph, node, value) => value = input(0)?,
            _ if quantises(node) => value = input(0)?,
            "ReduceMean" if graph.ty(value)?.rank() == Some(2) => value = input(0)?,
            _ => return None,
        }
    }
}

/// Whether what is picked are whole rows of scores: the last dimension stays.
fn picks_rows(graph: &Graph, node: &Node, picked: ValueId) -> bool {
    let shape = |id: Option<ValueId>| graph.ty(id?)?.shape.as_deref();
    let (Some(from), Some(to)) = (shape(node.inputs[0]), shape(Some(picked))) else { return false };
    let last = from.len() as i64 - 1;
    let axis = node.int("axis", 0);
    let along_columns = node.op == "Gather" && (axis == last || axis == -1);
    let width = |dims: &[Dim]| dims.last().and_then(Dim::fixed);
    !along_columns && from.len() > 1 && width(from).is_some() && width(from) == width(to)
}

/// The classifier's weight as rows `[outputs, features]`, a 1×1 convolution's too.
pub(super) fn classifier_weight(graph: &Graph, scores: ValueId) -> Option<(Vec<f32>, [usize; 2])> {
    let found = classifier(graph, scores)?;
    let weight = cut::weight_floats(graph, found.weight)?;
    let [first, second] = *weight.shape.get(..2)?.first_chunk::<2>()?;
    let (first, second) = (first as usize, second as usize);
    let values = weight.to_f32().filter(|values| values.len() == first * second)?;
    if found.axis == 0 {
        return Some((values, [first, second]));
    }
    let turned = (0..second).flat_map(|column| values.iter().skip(column).step_by(second)).copied().collect();
    Some((turned, [second, first]))
}

/// The refusal of an output that cannot be a head's.
fn refuse(graph: &Graph, scores: ValueId, reason: String) -> Result<Placed, Error> {
    let ty = graph.ty(scores).map_or("type unknown".into(), ToString::to_string);
    Err(Error::Head { output: graph.value_name(scores).into(), ty, reason })
}

/// Sees to it that a linear layer has `width` columns: keeps it, adds columns to it or makes it anew. `kept` is its output where it
/// stays as it is, `scores` where it changes.
fn place_classifier(
    graph: &mut Graph,
    found: &Classifier,
    (kept, scores): (ValueId, ValueId),
    width: u64,
    choice: HeadChoice,
) -> Result<Placed, Error> {
    let had = cut::weight_type(graph, found.weight).map_or(0, |(_, shape)| shape[found.axis]);
    match choice {
        HeadChoice::Keep if had > width => refuse(
            graph,
            scores,
            format!(
                "it has {had} columns, more than the {width} classes; name all its classes with setting `classes`, or use setting `head = replace`"
            ),
        ),
        HeadChoice::Keep if had < width => {
            change(graph, found, width, true);
            let note = format!("kept: {}, and {} new", counted(had, "output"), width - had);
            Ok(Placed::changed(scores, found, false, note))
        }
        HeadChoice::Auto | HeadChoice::Keep if had == width => {
            Ok(Placed::kept(kept, found.weights(), format!("kept: {}", counted(width, "output"))))
        }
        _ => {
            change(graph, found, width, false);
            Ok(Placed::changed(scores, found, true, format!("replaced: {had} → {}", counted(width, "output"))))
        }
    }
}

/// Sees to it that the output has `width` columns: keeps, replaces or appends the head. What is kept is learned on as the model
/// gives it, but for the activation that the loss applies by itself; a new head's scores have no activation of the old ones.
pub(super) fn place(
    graph: &mut Graph,
    given: ValueId,
    (width, choice, activation): (Option<u64>, HeadChoice, Option<Activation>),
    positions: Positions,
) -> Result<Placed, Error> {
    let (kept, scores) = (logits(graph, given, activation), logits(graph, given, None));
    // A classifier gives a row for each of what is classified; anything of higher rank is an embedding that is pooled.
    let matrix = graph.ty(scores).and_then(TensorType::rank).is_none_or(|rank| rank == positions.rank());
    let found = if choice == HeadChoice::Append || !matrix { None } else { classifier(graph, scores) };
    let own = choice != HeadChoice::Append
        && matrix
        && own_width(graph, kept, positions).is_some_and(|own| Some(own) == width);
    let binary = choice != HeadChoice::Append && width == Some(2) && is_binary(graph, (given, activation), positions);
    let embedding = [given, scores].into_iter().any(|value| is_embedding(graph, value));
    match (found, width) {
        (found, Some(_)) if binary && choice != HeadChoice::Replace => {
            let weights = found.map_or_else(|| weights_below(graph, scores), |found| found.weights());
            Ok(Placed::kept(scores, weights, "kept: one output, the second class's".into()))
        }
        (Some(found), Some(width)) if own || choice != HeadChoice::Auto || !embedding => {
            place_classifier(graph, &found, (kept, scores), width, choice)
        }
        (Some(found), None) if choice != HeadChoice::Auto || !embedding => {
            Ok(Placed::kept(kept, found.weights(), "kept".into()))
        }
        (None, Some(width)) if own && choice != HeadChoice::Replace => {
            let weights = weights_below(graph, scores);
            let packed = if is_packed_below(graph, scores) { PACKED } else { "" };
            Ok(Placed::kept(kept, weights, format!("kept: {}{packed}", counted(width, "output"))))
        }
        (None, Some(width)) if choice == HeadChoice::Keep => refuse(
            graph,
            scores,
            format!(
                "no linear layer makes it, so it cannot get {width} columns; use setting `head = append`, or data with its own classes"
            ),
        ),
        (None, Some(_)) if choice == HeadChoice::Replace && (embedding || below(graph, scores).is_none()) => refuse(
            graph,
            scores,
            "no linear layer makes this output, so there is nothing to replace; use setting `head = append`".into(),
        ),
        (found, Some(width)) => {
            let scored =
                found.is_none() && choice != HeadChoice::Append && !embedding && positions == Positions::Sample;
            let old = if scored { below(graph, scores) } else { None };
            let (output, appended, weights) = append(graph, old.unwrap_or(scores), width, positions)?;
            let note = format!("appended to `{}`: {} → {width}", appended.value, appended.features);
            Ok(Placed { output, weights, fresh: true, must_learn: true, appended: Some(appended), note })
        }
        (_, None) => Ok(Placed::kept(kept, vec![], "none".into())),
    }
}

/// Whether a value is called as embeddings are.
fn is_embedding(graph: &Graph, value: ValueId) -> bool {
    let name = graph.value_name(value).to_lowercase();
    ["embed", "feature", "hidden", "pool"].iter().any(|word| name.contains(word))
}

/// Whether cross-entropy over two classes is to be read from one column behind a `Sigmoid`: the second class's share.
fn is_binary(graph: &Graph, (given, activation): (ValueId, Option<Activation>), positions: Positions) -> bool {
    let scores = logits(graph, given, None);
    activation == Some(Activation::Softmax)
        && own_width(graph, scores, positions) == Some(1)
        && logits(graph, given, Some(Activation::Sigmoid)) == scores
        && logits(graph, given, Some(Activation::Identity)) != scores
}

/// Said where the layer that makes the scores multiplies with its weight as it is quantised.
const PACKED: &str = "; its weight stays as it is quantised, LoRA beside it can learn";

/// What cross-entropy is computed on, made from the base's value `answer`: two scores of one column's, whose softmax is its sigmoid;
/// the logarithm of what is a share already; else the value itself.
pub(super) fn read_scores(
    graph: &mut Graph,
    answer: ValueId,
    (width, activation): (Option<u64>, Option<Activation>),
    positions: Positions,
) -> ValueId {
    if activation != Some(Activation::Softmax) {
        return answer;
    }
    if width == Some(2) && own_width(graph, answer, positions) == Some(1) {
        let ty = graph.ty(answer).and_then(|ty| ty.shape.clone()).map(|mut shape| {
            shape[positions.axis()] = Dim::Fixed(2);
            TensorType::new(DType::Float, shape)
        });
        let mut sizes = vec![1; positions.rank()];
        sizes[positions.axis()] = 2;
        let second = graph.add_initializer("edgetune.head.second", Tensor::from_f32(&sizes, &[0.0, 1.0]));
        graph.settings.insert(second);
        return push(graph, "Mul", "Mul", &[answer, second], &[], ty);
    }
    if !gives_shares(graph, answer) {
        return answer;
    }
    let ty = graph.ty(answer).cloned();
    let least = graph.add_initializer("edgetune.head.least", Tensor::from_f32(&[], &[1e-7]));
    let above = push(graph, "Max", "Max", &[answer, least], &[], ty.clone());
    push(graph, "Log", "Log", &[above], &[], ty)
}

/// Whether the rows of a value are shares that sum to one: a softmax, p beside 1 − p, or a mean of such.
fn gives_shares(graph: &Graph, value: ValueId) -> bool {
    let Some(node) = producer(graph, value) else { return false };
    let input = |place: usize| node.inputs.get(place).copied().flatten();
    let lone = |id: Option<ValueId>| {
        let values = id.and_then(|id| graph.initializers.get(&id)).and_then(Tensor::to_f32)?;
        <[f32; 1]>::try_from(values).ok().map(|[value]| value)
    };
    match node.op.as_str() {
        "Softmax" => true,
        "Identity" | "Cast" => input(0).is_some_and(|id| gives_shares(graph, id)),
        "Mean" => node.reads().all(|id| gives_shares(graph, id)),
        // The sum of two, halved.
        "Div" | "Mul" => {
            let halves = if node.op == "Div" { 2.0 } else { 0.5 };
            let sum = input(0).and_then(|id| producer(graph, id));
            lone(input(1)) == Some(halves)
                && sum.is_some_and(|sum| sum.op == "Add" && sum.reads().all(|id| gives_shares(graph, id)))
        }
        "Concat" => {
            let (Some(first), Some(second), None) = (input(0), input(1), input(2)) else { return false };
            let rest = producer(graph, first).filter(|node| node.op == "Sub");
            let share = producer(graph, second).is_some_and(|node| node.op == "Sigmoid");
            share && rest.is_some_and(|node| lone(node.inputs[0]) == Some(1.0) && node.inputs[1] == Some(second))
        }
        _ => false,
    }
}

/// Gives a classifier another width. A fresh one starts at zero: all classes equally likely, whatever the seed. Where its rows
/// are kept, those of the classes behind them are zero.
fn change(graph: &mut Graph, found: &Classifier, width: u64, keep: bool) {
    let sizes = |graph: &Graph, id| cut::weight_type(graph, id).map_or(vec![], |(_, shape)| shape.to_vec());
    let had = sizes(graph, found.weight)[found.axis];
    change_axis(graph, found.weight, Some(found.axis), width, keep);
    if let Some(bias) = found.bias {
        let shape = sizes(graph, bias);
        // A lone number in several dimensions does not tell which of them is the classes'.
        let axis = shape.iter().rposition(|size| *size == had).filter(|_| had > 1 || shape.len() == 1);
        change_axis(graph, bias, axis, width, keep);
    }
}

fn change_axis(graph: &mut Graph, id: ValueId, axis: Option<usize>, width: u64, keep: bool) {
    cut::store_as_floats(graph, id);
    let old = graph.initializers[&id].clone();
    let mut shape = old.shape.clone();
    if let Some(axis) = axis {
        shape[axis] = width;
    }
    resize(graph, id, &shape);
    if let (true, Some(values)) = (keep, old.to_f32()) {
        let values = axis.map_or(values.clone(), |axis| extended(&values, &old.shape, axis, width));
        graph.initializers.insert(id, Tensor::from_vec(&shape, values));
    }
}

/// Values with zeros behind each stretch of an axis, so that it becomes `width` long.
fn extended(values: &[f32], shape: &[u64], axis: usize, width: u64) -> Vec<f32> {
    let inner = shape[axis + 1..].iter().product::<u64>() as usize;
    let zeros = vec![0.0; (width - shape[axis]) as usize * inner];
    let rows = values.chunks_exact(shape[axis] as usize * inner);
    rows.flat_map(|row| row.iter().chain(&zeros).copied()).collect()
}

/// Gives an initializer another shape, all zeros. The types of what depends on it are inferred again, and only theirs: what
/// an exporter wrote of other values, such as the name of an open dimension, no inference would find.
pub(super) fn resize(graph: &mut Graph, id: ValueId, shape: &[u64]) {
    cut::store_as_floats(graph, id);
    let count = shape.iter().product::<u64>() as usize;
    let tensor = Tensor::from_vec(shape, vec![0.0f32; count]);
    for dependent in graph.descendants([id]) {
        graph.values[dependent.index()].ty = None;
    }
    graph.values[id.index()].ty = Some(tensor.ty());
    graph.initializers.insert(id, tensor);
}

/// Appends `Gemm(features, weight, bias)`, after the mean of [`pooling::mean`] where the value has a rank above 2; for tokens and
/// pixels a layer that gives each of them a row.
pub(super) fn append(
    graph: &mut Graph,
    value: ValueId,
    classes: u64,
    positions: Positions,
) -> Result<(ValueId, AppendedHead, Vec<ValueId>), Error> {
    let name = graph.value_name(value).to_string();
    let ty = graph.ty(value).cloned();
    let refuse = |reason: &str| Error::Head {
        output: name.clone(),
        ty: ty.as_ref().map_or("type unknown".into(), ToString::to_string),
        reason: reason.into(),
    };
    let shape = ty
        .as_ref()
        .and_then(|ty| ty.shape.clone())
        .ok_or_else(|| refuse("its shape is unknown; pick another with setting `output`"))?;
    if positions != Positions::Sample {
        return append_to_each(graph, value, (&shape, classes), positions).ok_or_else(|| {
            refuse(match positions {
                Positions::Token | Positions::Cell => "a label for each token needs [batch, sequence, features] with a fixed number of features; name such a value with setting `output`",
                _ => "a label for each pixel needs [batch, features, height, width] with a fixed number of features; name such a value with setting `output`",
            })
        });
    }
    // Channels last where the second dimension is a single pixel.
    let channels_first = shape.len() >= 4 && shape[1].fixed().is_some_and(|size| size > 1);
    let axis = if channels_first { 1 } else { shape.len() - 1 };
    let features = shape.get(axis).and_then(Dim::fixed).filter(|_| shape.len() >= 2);
    let features =
        features.ok_or_else(|| refuse("a head needs [batch, …, features] with a fixed number of features"))?;
    let batch = shape[0].clone();
    let read = if shape.len() > 2 { pooling::mean(graph, value, &shape, axis) } else { value };
    let zeros = |shape: &[u64]| Tensor::from_vec(shape, vec![0.0f32; shape.iter().product::<u64>() as usize]);
    let weight = graph.add_initializer(APPENDED_WEIGHT, zeros(&[features, classes]));
    let bias = graph.add_initializer(APPENDED_BIAS, zeros(&[classes]));
    let ty = TensorType::new(DType::Float, vec![batch, Dim::Fixed(classes)]);
    let output = push(graph, "Gemm", "Gemm", &[read, weight, bias], &[], Some(ty));
    Ok((output, AppendedHead { value: name, features, classes }, vec![weight, bias]))
}

/// Appends a linear layer for each token, or a 1×1 convolution for each pixel; `None` for a value of another form.
fn append_to_each(
    graph: &mut Graph,
    value: ValueId,
    (shape, classes): (&[Dim], u64),
    positions: Positions,
) -> Option<(ValueId, AppendedHead, Vec<ValueId>)> {
    let axis = positions.axis();
    let features = shape.get(axis).and_then(Dim::fixed).filter(|_| shape.len() == positions.rank())?;
    let zeros = |shape: &[u64]| Tensor::from_vec(shape, vec![0.0f32; shape.iter().product::<u64>() as usize]);
    let of_pixels = positions == Positions::Pixel;
    let sizes = if of_pixels { vec![classes, features, 1, 1] } else { vec![features, classes] };
    let weight = graph.add_initializer(APPENDED_WEIGHT, zeros(&sizes));
    let bias = graph.add_initializer(APPENDED_BIAS, zeros(&[classes]));
    let mut shape = shape.to_vec();
    shape[axis] = Dim::Fixed(classes);
    let ty = Some(TensorType::new(DType::Float, shape));
    let output = match of_pixels {
        true => push(graph, "Conv", "Conv", &[value, weight, bias], &[], ty),
        false => {
            let product = push(graph, "MatMul", "MatMul", &[value, weight], &[], ty.clone());
            push(graph, "Add", "Add", &[product, bias], &[], ty)
        }
    };
    let value = graph.value_name(value).to_string();
    Some((output, AppendedHead { value, features, classes }, vec![weight, bias]))
}
