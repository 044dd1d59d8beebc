//! The classifier: which output, where its weights are, replacing it by a fresh one, appending one.

use super::{Error, pooling};
use crate::cut;
use crate::graph::{Attr, DType, Dim, Graph, Node, Tensor, TensorType, ValueId};

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

/// The output that was asked for, or the one that looks most like a result: a float of rank 2, one whose name says
/// logits, the first.
pub(super) fn choose_output(graph: &Graph, name: Option<&str>) -> Result<ValueId, Error> {
    let known = || graph.outputs.iter().map(|id| graph.value_name(*id)).collect::<Vec<_>>().join(", ");
    if let Some(name) = name {
        let wanted = graph.outputs.iter().copied().find(|id| graph.value_name(*id) == name);
        return wanted.ok_or_else(|| Error::Output { name: name.into(), known: known() });
    }
    let score = |id: &ValueId| {
        let float = graph.ty(*id).is_some_and(|ty| ty.dtype.is_float());
        let matrix = graph.ty(*id).and_then(|ty| ty.rank()) == Some(2);
        let named = graph.value_name(*id).to_lowercase().contains("logits");
        (float, named, matrix)
    };
    // The first of the best: `max_by_key` would take the last.
    let best = graph.outputs.iter().rev().copied().max_by_key(|id| score(id));
    best.ok_or_else(|| Error::Output { name: "(default)".into(), known: known() })
}

/// The value before a final activation or quantisation: losses are computed on logits, and what is quantised to the range
/// of the old ones would clip new ones.
pub(super) fn logits(graph: &Graph, output: ValueId) -> ValueId {
    let producer = graph.nodes.iter().find(|node| node.writes().any(|id| id == output));
    match producer {
        Some(node)
            if matches!(node.op.as_str(), "Softmax" | "LogSoftmax" | "Sigmoid" | "Identity") || quantises(node) =>
        {
            logits(graph, node.inputs[0].expect("a unary operator has an input"))
        }
        _ => output,
    }
}

fn quantises(node: &Node) -> bool {
    matches!(node.op.as_str(), "QuantizeLinear" | "DequantizeLinear")
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
            _ if quantises(node) => value = input(0)?,
            "ReduceMean" if graph.ty(value)?.rank() == Some(2) => value = input(0)?,
            _ => return None,
        }
    }
}

/// Sees to it that the output has `width` columns: keeps, replaces or appends the head.
pub(super) fn place(
    graph: &mut Graph,
    output: ValueId,
    width: Option<u64>,
    choice: HeadChoice,
) -> Result<Placed, Error> {
    // A classifier gives one row a sample; anything of higher rank is an embedding that is pooled.
    let matrix = graph.ty(output).and_then(TensorType::rank).is_none_or(|rank| rank == 2);
    let found = if choice == HeadChoice::Append || !matrix { None } else { classifier(graph, output) };
    let name = graph.value_name(output).to_lowercase();
    let embedding =
        choice == HeadChoice::Auto && ["embed", "feature", "hidden", "pool"].iter().any(|word| name.contains(word));
    let refuse = |reason: String| {
        let ty = graph.ty(output).map_or("type unknown".into(), ToString::to_string);
        Err(Error::Head { output: graph.value_name(output).into(), ty, reason })
    };
    match (found, width) {
        (Some(found), Some(width)) if !embedding => {
            let had = cut::weight_type(graph, found.weight).map_or(0, |(_, shape)| shape[found.axis]);
            match choice {
                HeadChoice::Keep if had > width => refuse(format!(
                    "it has {had} columns, more than the {width} classes; name all its classes with --classes, or use --head replace"
                )),
                HeadChoice::Keep if had < width => {
                    change(graph, &found, width, true);
                    Ok(Placed::changed(output, &found, false, format!("kept: {had} outputs, and {} new", width - had)))
                }
                HeadChoice::Auto | HeadChoice::Keep if had == width => {
                    Ok(Placed::kept(output, found.weights(), format!("kept: {width} outputs")))
                }
                _ => {
                    change(graph, &found, width, false);
                    Ok(Placed::changed(output, &found, true, format!("replaced: {had} → {width} outputs")))
                }
            }
        }
        (Some(found), None) if !embedding => Ok(Placed::kept(output, found.weights(), "kept".into())),
        (None, Some(width)) if choice == HeadChoice::Keep => match own_width(graph, output) == Some(width) {
            true => Ok(Placed::kept(output, vec![], format!("kept: {width} outputs"))),
            false => refuse(format!(
                "no linear layer makes it, so it cannot get {width} columns; use --head append, or data with its own classes"
            )),
        },
        (None, Some(_)) if choice == HeadChoice::Replace => {
            refuse("no linear layer makes this output, so there is nothing to replace; use --head append".into())
        }
        (_, Some(width)) => {
            let (output, appended, weights) = append(graph, output, width)?;
            let note = format!("appended to `{}`: {} → {width}", appended.value, appended.features);
            Ok(Placed { output, weights, fresh: true, must_learn: true, appended: Some(appended), note })
        }
        (_, None) => Ok(Placed::kept(output, vec![], "none".into())),
    }
}

/// Columns of the output, where it is one row a sample.
pub(super) fn own_width(graph: &Graph, output: ValueId) -> Option<u64> {
    match graph.ty(output)?.shape.as_deref()? {
        [_, width] => width.fixed(),
        _ => None,
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

/// Appends `Gemm(features, weight, bias)`, after the mean of [`pooling::mean`] where the value has a rank above 2.
pub(super) fn append(
    graph: &mut Graph,
    value: ValueId,
    classes: u64,
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
        .ok_or_else(|| refuse("its shape is unknown; pick another with --output"))?;
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

pub(super) fn push(
    graph: &mut Graph,
    name: &str,
    op: &str,
    inputs: &[ValueId],
    attributes: &[(&str, i64)],
    ty: Option<TensorType>,
) -> ValueId {
    let name = format!("edgetune.head/{name}");
    let output = graph.add_value(&name, ty);
    graph.nodes.push(Node {
        name,
        op: op.into(),
        inputs: inputs.iter().map(|id| Some(*id)).collect(),
        outputs: vec![Some(output)],
        attributes: attributes.iter().map(|(name, value)| (name.to_string(), Attr::Int(*value))).collect(),
        ..Node::default()
    });
    output
}
