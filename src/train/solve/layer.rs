//! Whether all that a bundle learns is one linear layer that reads the features themselves, and where its numbers go.

use super::ridge::Layer;
use crate::adapter::fp16;
use crate::graph::{Attr, Graph, Node, Tensor, ValueId};
use crate::train::error::Error;
use crate::train::prepare::Bundle;
use ndarray::{Array2, ArrayView2};

/// A linear layer in the tail: output = α·x·Wᵀ + β·b.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Place of the weight among the bundle's parameters.
    weight: usize,
    /// The weight's axis of the classes.
    axis: usize,
    /// Place of the bias, if there is one.
    bias: Option<usize>,
    alpha: f64,
    beta: f64,
    /// Whether the layer is a 1×1 convolution whose output is averaged over the image's places.
    convolution: bool,
    /// Classes or values.
    pub outputs: usize,
    /// What it reads of a sample.
    pub inputs: usize,
    /// The value that it reads.
    pub reads: ValueId,
}

impl Linear {
    /// Finds the layer in a bundle's tail.
    ///
    /// # Errors
    /// [`Error::NoClosedForm`] with what the tail has besides one linear layer.
    pub fn find(bundle: &Bundle) -> Result<Self, Error> {
        let names: Vec<Option<&str>> =
            bundle.parameters.iter().map(|parameter| Some(parameter.name.as_str())).collect();
        Self::among(bundle, &names)
    }

    /// Finds the fresh head in a bundle's tail, whatever else learns below it.
    ///
    /// # Errors
    /// As [`Linear::find`].
    pub fn fresh_head(bundle: &Bundle) -> Result<Self, Error> {
        let fresh: Vec<Option<&str>> =
            bundle.parameters.iter().map(|parameter| parameter.fresh.then_some(parameter.name.as_str())).collect();
        Self::among(bundle, &fresh)
    }

    /// Places among a bundle's parameters of all that makes the last layer, where all of it learns: what divides them divides the output.
    ///
    /// # Errors
    /// [`Error::NoClosedForm`] with what the output is made of besides.
    pub fn last(bundle: &Bundle) -> Result<Vec<usize>, Error> {
        let names: Vec<Option<&str>> =
            bundle.parameters.iter().map(|parameter| Some(parameter.name.as_str())).collect();
        let found = walk(bundle.tail_graph(), &names)?;
        Ok(std::iter::once(found.weight).chain(found.bias).collect())
    }

    /// The layer that is made of all the parameters that have a name here.
    fn among(bundle: &Bundle, names: &[Option<&str>]) -> Result<Self, Error> {
        let mut found = walk(bundle.tail_graph(), names)?;
        let learned: Vec<&str> = names.iter().copied().flatten().collect();
        if learned.len() != 1 + usize::from(found.bias.is_some()) {
            return Err(refuse(format!(
                "{} tensors learn ({}), but only one linear layer has a closed form",
                learned.len(),
                learned.join(", ")
            )));
        }
        let weight = &bundle.parameters[found.weight];
        if weight.shape.iter().skip(2).any(|size| *size != 1) {
            return Err(refuse(format!(
                "the convolution with `{}` {:?} is not linear in one place",
                weight.name, weight.shape
            )));
        }
        let sizes: Vec<u64> = weight.shape.iter().copied().take(2).collect();
        let [Some(outputs), Some(inputs)] = [sizes.get(found.axis), sizes.get(1 - found.axis)] else {
            return Err(refuse(format!("the weight `{}` has shape {:?}, but a matrix is needed", weight.name, sizes)));
        };
        (found.outputs, found.inputs) = (*outputs as usize, *inputs as usize);
        if let Some(bias) = found.bias.map(|bias| &bundle.parameters[bias])
            && bias.initial.len() != found.outputs
        {
            return Err(refuse(format!("the bias `{}` has {} values", bias.name, bias.initial.len())));
        }
        Ok(found)
    }

    /// Whether the layer reads what crosses the cut, only in another shape. What it reads otherwise is made in the tail.
    pub fn reads_the_feature(&self, bundle: &Bundle) -> bool {
        let graph = bundle.tail_graph();
        let producers = graph.producers();
        let mut id = self.reads;
        while let Some(node) = producers.get(&id).map(|index| &graph.nodes[*index]) {
            let turns = matches!(node.op.as_str(), "Identity" | "Flatten" | "Squeeze" | "Reshape" | "Dropout");
            match node.inputs.first().copied().flatten().filter(|_| turns) {
                Some(below) => id = below,
                None => return false,
            }
        }
        bundle.features.len() == 1 && graph.value_name(id) == bundle.features[0].0
    }

    /// Whether the layer has a bias.
    pub fn has_bias(&self) -> bool {
        self.bias.is_some()
    }

    /// What the layer reads, from the feature that crosses the cut: `[samples, inputs]`.
    ///
    /// # Errors
    /// A feature of another shape.
    pub fn rows(&self, feature: &Tensor) -> Result<Array2<f32>, Error> {
        let samples = feature.shape.first().copied().unwrap_or(0) as usize;
        let values = feature.to_f32().unwrap_or_default();
        let places = values.len() / (samples * self.inputs).max(1);
        if values.len() != samples * self.inputs * places || (places != 1 && !self.convolution) {
            return Err(refuse(format!(
                "the layer reads {} numbers a sample, but the cut hands over {:?}",
                self.inputs, feature.shape
            )));
        }
        if places == 1 {
            return Ok(Array2::from_shape_vec((samples, self.inputs), values).expect("the sizes were compared"));
        }
        let mean = |place: &[f32]| place.iter().sum::<f32>() / places as f32;
        let means = values.chunks_exact(places).map(mean).collect();
        Ok(Array2::from_shape_vec((samples, self.inputs), means).expect("the sizes were compared"))
    }

    /// Weights and biases as the bundle's parameters hold them.
    pub fn place(&self, layer: &Layer) -> Vec<Vec<f32>> {
        let weights = layer.weights.mapv(|w| (w / self.alpha) as f32);
        let weights = if self.axis == 0 { weights } else { weights.reversed_axes() };
        let bias = layer.bias.mapv(|b| (b / self.beta) as f32).to_vec();
        self.in_order(weights.iter().copied().collect(), bias)
    }

    /// The weights `[outputs, inputs]` and biases as they are stored in parameters, α and β left aside.
    pub fn stored(&self, values: &[Vec<f32>]) -> (Array2<f32>, Vec<f32>) {
        let weight = &values[self.weight];
        let shape = if self.axis == 0 { (self.outputs, self.inputs) } else { (self.inputs, self.outputs) };
        let weight = ArrayView2::from_shape(shape, weight).expect("the weight has the bundle's shape");
        let weight = if self.axis == 0 { weight } else { weight.reversed_axes() };
        (weight.to_owned(), self.bias.map_or_else(Vec::new, |bias| values[bias].clone()))
    }

    /// The opposite of [`Linear::stored`].
    pub fn store(&self, weights: &Array2<f32>, bias: Vec<f32>) -> Vec<Vec<f32>> {
        let weights = if self.axis == 0 { weights.view() } else { weights.t() };
        self.in_order(weights.iter().copied().collect(), bias)
    }

    /// A bundle's values with those of this layer in their places, the others as they are.
    pub fn among_all(&self, bundle: &Bundle, values: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut all: Vec<Vec<f32>> = bundle.parameters.iter().map(|parameter| parameter.initial.clone()).collect();
        let mut places: Vec<usize> = [Some(self.weight), self.bias].into_iter().flatten().collect();
        places.sort_unstable();
        places.into_iter().zip(values).for_each(|(place, values)| all[place].clone_from(values));
        all
    }

    /// α and β, by which stored weights and biases are multiplied.
    pub fn factors(&self) -> (f64, f64) {
        (self.alpha, self.beta)
    }

    fn in_order(&self, weights: Vec<f32>, bias: Vec<f32>) -> Vec<Vec<f32>> {
        match self.bias {
            None => vec![weights],
            Some(place) if place < self.weight => vec![bias, weights],
            Some(_) => vec![weights, bias],
        }
    }
}

/// The refusal that every tail without a closed form gets.
pub fn refuse(problem: String) -> Error {
    let remedy = "choose setting `train = head`, with setting `head = append` where the model's own is not one linear layer, or setting `solver = steps` to train \
                  by gradient steps";
    Error::NoClosedForm { problem, remedy }
}

/// The refusal of a sample whose features are not finite.
pub fn not_finite(sample: usize) -> Error {
    let problem = format!(
        "the model gives infinity or no number (NaN) for sample {sample} of the data, counted from 0; remove it, or check the \
         preprocessing (setting `samples.scale`, setting `samples.mean`, setting `samples.std`)"
    );
    Error::Setting { setting: "data", problem }
}

/// Follows the output back to the layer.
fn walk(graph: &Graph, names: &[Option<&str>]) -> Result<Linear, Error> {
    let producers = graph.producers();
    let (mut value, mut bias) = (graph.outputs[0], None);
    loop {
        let Some(node) = producers.get(&value).map(|index| &graph.nodes[*index]) else {
            return Err(refuse(format!("no layer that learns makes `{}`", graph.value_name(value))));
        };
        match made_by(graph, names, node, bias) {
            Some(Made::Layer(layer)) => return Ok(layer),
            Some(Made::Biased(below, added)) => (value, bias) = (below, Some(added)),
            Some(Made::Same(below)) => value = below,
            None => {
                return Err(refuse(format!(
                    "between what learns and the output is node `{}` ({}), which is not linear in it",
                    node.name, node.op
                )));
            }
        }
    }
}

/// How a node on the way from the layer to the output makes its value.
enum Made {
    /// It is the layer.
    Layer(Linear),
    /// It adds a bias that learns, the parameter of this place, to a value.
    Biased(ValueId, usize),
    /// It leaves a value's numbers as they are, or averages them.
    Same(ValueId),
}

/// What a node does, where the layer's output goes through it: `bias` was added behind it. `None` where that is not linear.
fn made_by(graph: &Graph, names: &[Option<&str>], node: &Node, bias: Option<usize>) -> Option<Made> {
    let input = |place: usize| node.inputs.get(place).copied().flatten();
    let parameter = |place: usize| learned(graph, names, input(place));
    let linear = |axis: usize, (weight, turned): (usize, bool), bias| {
        let axis = if turned { 1 - axis } else { axis };
        let (alpha, beta, reads) = (1.0, 1.0, input(0)?);
        Some(Linear { weight, axis, bias, alpha, beta, convolution: false, outputs: 0, inputs: 0, reads })
    };
    let own = parameter(2).map(|(bias, _)| bias);
    // A bias that does not learn is none that could be solved for.
    let whole = input(2).is_some() == own.is_some();
    match node.op.as_str() {
        "Gemm" if node.int("transA", 0) == 0 && whole => {
            let axis = if node.int("transB", 0) == 1 { 0 } else { 1 };
            let alpha = node.float("alpha", 1.0).into();
            let beta = if own.is_some() { node.float("beta", 1.0).into() } else { 1.0 };
            linear(axis, parameter(1)?, own.or(bias)).map(|layer| Made::Layer(Linear { alpha, beta, ..layer }))
        }
        "MatMul" => linear(1, parameter(1)?, bias).map(Made::Layer),
        "Conv" if pointwise(node) && whole => {
            let layer = linear(0, parameter(1)?, own.or(bias))?;
            Some(Made::Layer(Linear { convolution: true, ..layer }))
        }
        "Add" if bias.is_none() => {
            let (constant, rest) = if parameter(1).is_some() { (1, 0) } else { (0, 1) };
            Some(Made::Biased(input(rest)?, parameter(constant)?.0))
        }
        "Identity" | "Flatten" | "Squeeze" | "Dropout" | "Cast" | "GlobalAveragePool" | "ReduceMean" | "Reshape" => {
            input(0).map(Made::Same)
        }
        _ => None,
    }
}

/// The parameter behind a value, through nodes that only turn or convert it, and whether it is transposed.
fn learned(graph: &Graph, names: &[Option<&str>], id: Option<ValueId>) -> Option<(usize, bool)> {
    let mut id = id?;
    let producers = graph.producers();
    let mut turned = false;
    loop {
        if let Some(place) = names.iter().position(|name| *name == Some(graph.value_name(id))) {
            return Some((place, turned));
        }
        let node = &graph.nodes[*producers.get(&id)?];
        match node.op.as_str() {
            "Cast" | "Identity" => {}
            "Transpose" if node.ints("perm").is_none_or(|perm| perm == [1, 0]) => turned = !turned,
            _ => return None,
        }
        id = node.inputs.first().copied().flatten()?;
    }
}

/// A convolution that sees one place at a time.
fn pointwise(node: &Node) -> bool {
    let all = |name: &str, value: i64| node.ints(name).is_none_or(|values| values.iter().all(|v| *v == value));
    let padded = matches!(node.attributes.get("auto_pad"), Some(Attr::Str(pad)) if pad != "NOTSET" && pad != "VALID");
    all("kernel_shape", 1) && all("strides", 1) && all("pads", 0) && node.int("group", 1) == 1 && !padded
}

/// What is beyond fp16 would be another value in the delta.
pub fn refuse_too_large(parameters: &[Vec<f32>]) -> Result<(), Error> {
    let worst = parameters.iter().flatten().find(|value| value.is_nan() || value.abs() > fp16::LARGEST);
    worst.map_or(Ok(()), |value| {
        Err(refuse(format!(
            "a value of {value} would be learned, which fp16 does not hold (its features are too small)"
        )))
    })
}
