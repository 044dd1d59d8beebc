//! One case: its node as a graph, the gradient appended, both run and compared.

use super::golden::{Array, Case, float_tensor};
use edgetune::engine::{self, Optimisation, Options, Session};
use edgetune::grad;
use edgetune::graph::{Builder, DType, Dim, Graph, Node, Tensor, TensorType, Val, ValueId};
use std::collections::HashMap;

/// What float32 arithmetic may add to PyTorch's float64, relative to the largest number of the array.
const TOLERANCE: f64 = 1e-5;

/// How far each element moves for the directional derivative: less than half of what the goldens keep between a number
/// and the next kink or tie, and enough to stand out from float32's noise.
const STEP: f64 = 1.0 / 128.0;

/// What curvature and float32's noise may add to the directional derivative, relative to the numeric side.
const DIRECTION_TOLERANCE: f64 = 1e-2;

/// The rules write nodes as this opset has them.
const OLDEST_OPSET: i64 = 17;

type Arrays = HashMap<String, Array>;

/// Runs a case in every way; the error tells what differed.
pub fn check(case: &Case, arrays: &Arrays) -> Result<(), String> {
    let graph = with_gradient(case, arrays, one_node(case, arrays, case.opset.max(OLDEST_OPSET))?)?;
    for optimisation in [Optimisation::Off, Optimisation::All] {
        let options = Options { threads: 1, optimisation, ..Options::default() };
        let mut run = Run { case, arrays, session: Session::from_graph(&graph, &options).map_err(|e| e.to_string())? };
        run.values()
            .and_then(|()| if case.kink { Ok(()) } else { run.direction() })
            .map_err(|what| format!("with optimisation {optimisation:?}: {what}"))?;
    }
    Ok(())
}

/// Compares outputs and gradients in a model of a newer `opset`; whether ONNX Runtime knows the node in that opset.
pub fn check_in_opset(case: &Case, arrays: &Arrays, opset: i64) -> Result<bool, String> {
    let Ok(forward) = one_node(case, arrays, opset) else { return Ok(false) };
    let graph = with_gradient(case, arrays, forward)?;
    let options = Options { threads: 1, optimisation: Optimisation::Off, ..Options::default() };
    let session = Session::from_graph(&graph, &options).map_err(|error| error.to_string())?;
    Run { case, arrays, session }.values().map(|()| true)
}

/// The case's node alone.
struct OneNode {
    graph: Graph,
    /// The node's inputs and outputs in their order.
    inputs: Vec<Option<ValueId>>,
    outputs: Vec<ValueId>,
}

/// The case as a graph, its values typed by ONNX Runtime.
fn one_node(case: &Case, arrays: &Arrays, opset: i64) -> Result<OneNode, String> {
    let mut graph = Graph::new(&case.name, opset);
    if !case.domain.is_empty() {
        graph.domains.insert(case.domain.clone(), case.opset);
    }
    let mut inputs = Vec::new();
    for (index, input) in case.inputs.iter().enumerate() {
        let name = format!("x{index}");
        let dtype = match input.kind.trim_start_matches("const_") {
            "int32" => DType::Int32,
            "uint8" => DType::Uint8,
            "int8" => DType::Int8,
            "uint16" => DType::Uint16,
            "int16" => DType::Int16,
            _ => DType::Float,
        };
        let tensor = || arrays[&format!("{}/{name}", case.name)].tensor(dtype);
        inputs.push(match input.kind.as_str() {
            "none" => None,
            kind if kind.starts_with("const_") => Some(graph.add_initializer(&name, tensor())),
            _ => Some(graph.add_input(&name, dynamic(tensor().ty(), &input.dynamic_axes))),
        });
    }
    let outputs: Vec<ValueId> = (0..case.outputs).map(|index| graph.add_value(&format!("y{index}"), None)).collect();
    graph.nodes.push(Node {
        name: case.name.clone(),
        op: case.op.clone(),
        domain: case.domain.clone(),
        inputs: inputs.clone(),
        outputs: outputs.iter().copied().map(Some).collect(),
        attributes: case.attributes(),
        ..Node::default()
    });
    graph.outputs.clone_from(&outputs);
    engine::infer_types(&mut graph).map_err(|error| error.to_string())?;
    Ok(OneNode { graph, inputs, outputs })
}

/// The sizes of `axes` replaced by names that say the size, so that equal names are equal sizes.
fn dynamic(ty: TensorType, axes: &[usize]) -> TensorType {
    let named = |(axis, dim): (usize, Dim)| if axes.contains(&axis) { Dim::Named(format!("d{dim}")) } else { dim };
    let shape = ty.shape.map(|dims| dims.into_iter().enumerate().map(named).collect());
    TensorType { shape, ..ty }
}

/// The graph with cotangents as further inputs and the gradients as further outputs. Not a node may be written in vain:
/// an input that does not learn has no gradient.
fn with_gradient(case: &Case, arrays: &Arrays, forward: OneNode) -> Result<Graph, String> {
    let OneNode { graph: forward, inputs, outputs } = forward;
    let builder = Builder::new(forward, "grad/");
    let with_cotangent = |index: &usize| arrays.contains_key(&format!("{}/w{index}", case.name));
    let cotangents: Vec<(ValueId, Val<'_>)> = (0..outputs.len())
        .filter(with_cotangent)
        .map(|index| {
            let mut ty = builder.val(outputs[index]).ty().expect("ONNX Runtime knows the output's type");
            if !ty.dtype.is_float() {
                // A quantised number stands for a real one.
                ty.dtype = DType::Float;
            }
            (outputs[index], builder.input(&format!("w{index}"), ty))
        })
        .collect();
    let learning = |index: &usize| case.inputs[*index].needs_grad;
    let wanted: Vec<usize> = (0..inputs.len()).filter(learning).collect();
    let ids: Vec<ValueId> = wanted.iter().map(|index| inputs[*index].expect("a learned input is there")).collect();
    let gradients = grad::differentiate_from(&builder, &cotangents, &ids).map_err(|error| error.to_string())?;
    for (index, gradient) in wanted.iter().zip(gradients) {
        builder.output(&format!("dx{index}"), gradient);
    }
    let mut graph = builder.finish();
    let nodes = graph.nodes.clone();
    graph.prune();
    let dead: Vec<&str> =
        nodes.iter().filter(|node| !graph.nodes.contains(node)).map(|node| node.op.as_str()).collect();
    if !dead.is_empty() {
        return Err(format!("nodes were written that no gradient needs: {}", dead.join(", ")));
    }
    Ok(grad::with_faster_nodes(graph))
}

/// A case with its session.
struct Run<'a> {
    case: &'a Case,
    arrays: &'a Arrays,
    session: Session,
}

impl Run<'_> {
    fn array(&self, name: &str) -> Option<&Array> {
        self.arrays.get(&format!("{}/{name}", self.case.name))
    }

    /// What the session is fed: the golden inputs and cotangents.
    fn feeds(&self) -> HashMap<String, Tensor> {
        let inputs = self.session.inputs().iter();
        inputs.map(|(name, ty)| (name.clone(), self.array(name).expect("a golden input").tensor(ty.dtype))).collect()
    }

    /// The session's outputs by name.
    fn outputs(&mut self, feeds: &HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>, String> {
        let fed: Vec<(&str, &Tensor)> = feeds.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let tensors = self.session.run(&fed).map_err(|error| error.to_string())?;
        Ok(self.session.outputs().iter().map(|(name, _)| name.clone()).zip(tensors).collect())
    }

    /// Outputs and gradients are the goldens.
    fn values(&mut self) -> Result<(), String> {
        for (name, tensor) in self.outputs(&self.feeds())? {
            let golden = self.array(&name).expect("a golden for each output");
            let (got, want) = (floats(&tensor), golden.floats());
            let shape = golden.tensor(DType::Float).shape;
            if tensor.shape != shape {
                return Err(format!("{name} has shape {:?}, PyTorch {shape:?}", tensor.shape));
            }
            let scale = want.iter().fold(1.0f64, |most, value| most.max(value.abs()));
            let near = |(got, want): (&f64, &f64)| (got - want).abs() <= TOLERANCE * scale;
            if let Some(index) = got.iter().zip(&want).position(|pair| !near(pair)) {
                return Err(format!(
                    "{name}[{index}] is {}, PyTorch {}\n    {got:?}\n    {want:?}",
                    got[index], want[index]
                ));
            }
        }
        Ok(())
    }

    /// ⟨dx, u⟩ = (⟨f(x + hu), w⟩ − ⟨f(x − hu), w⟩) / 2h for a direction u of all inputs that learn.
    fn direction(&mut self) -> Result<(), String> {
        let feeds = self.feeds();
        let gradients: HashMap<String, Vec<f64>> =
            self.outputs(&feeds)?.iter().map(|(name, tensor)| (name.clone(), floats(tensor))).collect();
        let learning: Vec<String> = (0..self.case.inputs.len())
            .filter(|index| self.case.inputs[*index].needs_grad)
            .map(|index| format!("x{index}"))
            .collect();
        let (direction, analytic) = (0..8)
            .map(|seed| {
                let direction = self.random_direction(seed, &learning);
                let slope = |name: &String| dot(&gradients[&format!("d{name}")], &direction[name]);
                let analytic: f64 = learning.iter().map(slope).sum();
                (direction, analytic)
            })
            .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))
            .expect("there are seeds");
        let above = self.loss(&moved(&feeds, &direction, STEP))?;
        let below = self.loss(&moved(&feeds, &direction, -STEP))?;
        let numeric = (above - below) / (2.0 * STEP);
        let norm = learning.iter().map(|name| &gradients[&format!("d{name}")]).map(|d| dot(d, d)).sum::<f64>().sqrt();
        if numeric.abs() < 0.25 * norm {
            return Err(format!("the outputs change by {numeric} only where the gradient's norm is {norm}"));
        }
        if (analytic - numeric).abs() > DIRECTION_TOLERANCE * numeric.abs() {
            return Err(format!("along a direction the gradient says {analytic}, the outputs {numeric}"));
        }
        Ok(())
    }

    /// A number in ±[½, 1] for each element of each input that learns.
    fn random_direction(&self, seed: u64, learning: &[String]) -> HashMap<String, Vec<f64>> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut element = |_| (0.5 + f64::from(random.u8(..)) / 510.0) * if random.bool() { 1.0 } else { -1.0 };
        let elements = |name: &String| self.array(name).expect("a golden input").floats().len();
        learning.iter().map(|name| (name.clone(), (0..elements(name)).map(&mut element).collect())).collect()
    }

    /// Σ ⟨f(x), w⟩ over the outputs that have a cotangent.
    fn loss(&mut self, feeds: &HashMap<String, Tensor>) -> Result<f64, String> {
        let outputs = self.outputs(feeds)?;
        let cotangent = |index: usize| self.array(&format!("w{index}")).map(|w| (index, w.floats()));
        let weighted = (0..self.case.outputs).filter_map(cotangent);
        Ok(weighted.map(|(index, w)| dot(&floats(&outputs[&format!("y{index}")]), &w)).sum())
    }
}

/// The feeds with every input moved by `step` along its direction.
fn moved(feeds: &HashMap<String, Tensor>, direction: &HashMap<String, Vec<f64>>, step: f64) -> HashMap<String, Tensor> {
    let mut feeds = feeds.clone();
    for (name, along) in direction {
        let tensor = feeds.get_mut(name).expect("a learned input is fed");
        let values: Vec<f64> = floats(tensor).iter().zip(along).map(|(x, u)| x + step * u).collect();
        *tensor = float_tensor(tensor.dtype, &tensor.shape, &values);
    }
    feeds
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The numbers of a tensor without loss.
fn floats(tensor: &Tensor) -> Vec<f64> {
    match tensor.dtype {
        DType::Double => tensor.as_slice::<f64>().expect("aligned").to_vec(),
        DType::Int64 => tensor.as_slice::<i64>().expect("aligned").iter().map(|index| *index as f64).collect(),
        DType::Int32 => tensor.as_slice::<i32>().expect("aligned").iter().map(|index| f64::from(*index)).collect(),
        DType::Uint8 => tensor.data.iter().map(|byte| f64::from(*byte)).collect(),
        DType::Uint16 => {
            tensor.data.chunks_exact(2).map(|two| f64::from(u16::from_le_bytes([two[0], two[1]]))).collect()
        }
        DType::Int16 => {
            tensor.data.chunks_exact(2).map(|two| f64::from(i16::from_le_bytes([two[0], two[1]]))).collect()
        }
        DType::Int8 => tensor.data.iter().map(|byte| f64::from(*byte as i8)).collect(),
        _ => tensor.to_f32().expect("a float tensor").into_iter().map(f64::from).collect(),
    }
}
