//! Weights as a model stores them: floats, or integers that a `DequantizeLinear` turns into floats.
//!
//! A quantised weight is known by the value that its `DequantizeLinear` gives.

use crate::graph::{DType, Graph, Node, Tensor, ValueId};

/// Element type and sizes of a weight, stored in either way. `None` for a value that is computed.
pub fn weight_type(graph: &Graph, id: ValueId) -> Option<(DType, &[u64])> {
    if let Some(tensor) = graph.initializers.get(&id) {
        return Some((tensor.dtype, &tensor.shape));
    }
    let constants = Constants::find(graph, giver(graph, id)?)?;
    Some((constants.scale.dtype, &constants.data.shape))
}

/// The numbers of a weight, stored in either way; a quantised one as `f32`.
pub fn weight_floats(graph: &Graph, id: ValueId) -> Option<Tensor> {
    match graph.initializers.get(&id) {
        Some(tensor) => Some(tensor.clone()),
        None => Constants::find(graph, giver(graph, id)?)?.floats(),
    }
}

/// The name that a weight had before it was quantised, as ONNX Runtime's quantiser keeps it in what it writes.
pub fn weight_name(graph: &Graph, id: ValueId) -> &str {
    let stored = if graph.initializers.contains_key(&id) { None } else { giver(graph, id) };
    let name = graph.value_name(stored.and_then(|node| node.inputs[0]).unwrap_or(id));
    let suffixes = ["_quantized", "_DQ_Q4", "_DQ_Q8", "_Q4", "_Q8"];
    suffixes.into_iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// Whether the node gives a weight: a `DequantizeLinear` of constants.
pub fn gives_weight(graph: &Graph, node: &Node) -> bool {
    Constants::find(graph, node).is_some()
}

/// Stores a weight as floats, if it is not: what learns must be a tensor. Nobody reads its `DequantizeLinear` then; the
/// node stays where it is, so that the others keep their places.
pub fn store_as_floats(graph: &mut Graph, id: ValueId) {
    if graph.initializers.contains_key(&id) {
        return;
    }
    let (Some((dtype, _)), Some(tensor)) = (weight_type(graph, id), weight_floats(graph, id)) else { return };
    let tensor = Tensor::from_floats(dtype, &tensor.shape, &tensor.to_f32().expect("floats"));
    let unread = graph.add_value(&format!("{}/stored", graph.value_name(id)), None);
    for output in graph.nodes.iter_mut().flat_map(|node| &mut node.outputs).filter(|output| **output == Some(id)) {
        *output = Some(unread);
    }
    graph.values[id.index()].ty = Some(tensor.ty());
    graph.initializers.insert(id, tensor);
}

fn giver(graph: &Graph, id: ValueId) -> Option<&Node> {
    graph.nodes.iter().find(|node| node.op == "DequantizeLinear" && node.outputs.first() == Some(&Some(id)))
}

/// What a `DequantizeLinear` of constants reads.
struct Constants<'g> {
    data: &'g Tensor,
    scale: &'g Tensor,
    zero: Option<&'g Tensor>,
    axis: i64,
    block: i64,
}

impl<'g> Constants<'g> {
    fn find(graph: &'g Graph, node: &Node) -> Option<Self> {
        if node.op != "DequantizeLinear" {
            return None;
        }
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let constant = |i: usize| graph.initializers.get(&input(i)?);
        let zero = constant(2);
        if input(2).is_some() && zero.is_none() {
            return None;
        }
        let (axis, block) = (node.int("axis", 1), node.int("block_size", 0));
        Some(Self { data: constant(0)?, scale: constant(1)?, zero, axis, block })
    }

    /// (q − z)·s with a scale for all, for each index along the axis, or for each block along it.
    fn floats(&self) -> Option<Tensor> {
        let (shape, scales) = (&self.data.shape, self.scale.to_f32()?);
        let axis = if self.axis < 0 { self.axis + shape.len() as i64 } else { self.axis };
        let numbers = integers(self.data)?;
        let zeros = match self.zero {
            Some(zero) => integers(zero)?,
            None => vec![0; scales.len()],
        };
        let after: usize = shape.get(axis as usize + 1..).unwrap_or_default().iter().product::<u64>() as usize;
        let along = shape.get(axis as usize).map_or(1, |size| *size as usize);
        let blocks = if self.block > 0 { along.div_ceil(self.block as usize) } else { along };
        let per = |index: usize| match (scales.len(), self.block) {
            (1, 0) => 0,
            (_, 0) => index / after % along,
            _ => (index / after / along * blocks + index / after % along / self.block as usize) * after + index % after,
        };
        let value = |(index, q): (usize, &i64)| {
            let at = per(index);
            Some((*q - zeros.get(at)?) as f32 * scales.get(at)?)
        };
        let values: Vec<f32> = numbers.iter().enumerate().map(value).collect::<Option<_>>()?;
        Some(Tensor::from_vec(shape, values))
    }
}

/// The elements of an integer tensor.
fn integers(tensor: &Tensor) -> Option<Vec<i64>> {
    let bytes = &tensor.data;
    let half = |byte: &u8, high: bool| i64::from(if high { byte >> 4 } else { byte & 15 });
    let signed = |number: i64| if number > 7 { number - 16 } else { number };
    let nibbles = || bytes.iter().flat_map(|byte| [half(byte, false), half(byte, true)]).take(tensor.len());
    Some(match tensor.dtype {
        DType::Uint8 => bytes.iter().map(|byte| i64::from(*byte)).collect(),
        DType::Int8 => bytes.iter().map(|byte| i64::from(*byte as i8)).collect(),
        DType::Uint16 => bytes.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair).into()).collect(),
        DType::Int16 => bytes.as_chunks().0.iter().map(|pair| i16::from_le_bytes(*pair).into()).collect(),
        DType::Uint4 => nibbles().collect(),
        DType::Int4 => nibbles().map(signed).collect(),
        _ => return tensor.to_i64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Builder;

    fn floats(
        data: Tensor,
        scales: &[f32],
        shape: &[u64],
        zero: Option<Tensor>,
        attributes: &[(&str, i64)],
    ) -> Vec<f32> {
        let b = Builder::new(Graph::new("g", 21), "");
        let inputs =
            [Some(b.weight(data)), Some(b.weight(Tensor::from_f32(shape, scales))), zero.map(|zero| b.weight(zero))];
        let attributes: Vec<_> =
            attributes.iter().map(|(name, value)| (*name, crate::graph::Attr::Int(*value))).collect();
        let y = b.node("DequantizeLinear", &inputs, 1, &attributes)[0].id();
        let mut graph = b.finish();
        let found = weight_floats(&graph, y).unwrap().to_f32().unwrap();
        store_as_floats(&mut graph, y);
        graph.outputs = vec![y];
        graph.prune();
        assert!(graph.nodes.is_empty() && graph.initializers.contains_key(&y));
        found
    }

    #[test]
    fn scales_are_for_all_for_an_axis_or_for_blocks() {
        let data = |values: &[i8]| Tensor::from_vec(&[2, values.len() as u64 / 2], values.to_vec());
        assert_eq!(floats(data(&[1, -2, 3, -128]), &[0.5], &[], None, &[]), [0.5, -1.0, 1.5, -64.0]);
        let zero = Tensor::from_vec(&[2], vec![1i8, -1]);
        assert_eq!(
            floats(data(&[1, 2, 3, 4]), &[1.0, 10.0], &[2], Some(zero.clone()), &[("axis", 0)]),
            [0., 1., 40., 50.]
        );
        assert_eq!(floats(data(&[1, 2, 3, 4]), &[1.0, 10.0], &[2], Some(zero), &[("axis", -1)]), [0., 30., 2., 50.]);
        let blocks = floats(
            data(&[1, 2, 3, 4, 5, 6]),
            &[1.0, 10.0, 100.0, 1000.0],
            &[2, 2],
            None,
            &[("axis", 1), ("block_size", 2)],
        );
        assert_eq!(blocks, [1., 2., 30., 400., 500., 6000.]);
        let packed = Tensor { dtype: DType::Int4, shape: vec![3], data: vec![0xf1, 0x08].into() };
        assert_eq!(floats(packed, &[1.0], &[], None, &[]), [1.0, -1.0, -8.0]);
    }
}
