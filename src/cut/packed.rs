//! Linear layers that multiply with a weight as it is quantised: no node gives it as floats.

use crate::graph::{Graph, Node, ValueId};
use std::collections::HashMap;

/// A linear layer with a packed weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Index of the node that multiplies.
    pub node: usize,
    /// What the layer reads, before it is quantised where it is.
    pub input: ValueId,
    /// The packed weight, an initializer.
    pub weight: ValueId,
    /// The bias that the node adds itself.
    pub bias: Option<ValueId>,
    /// Columns of the layer's input and output.
    pub columns: (u64, u64),
}

impl Packed {
    /// The layer whose output `node` gives:
    ///
    /// - `MatMulNBits(x, W)` and `DynamicQuantizeMatMul(x, W)` (`com.microsoft`),
    /// - `MatMulIntegerToFloat(q(x), W)` (`com.microsoft`) and `Mul(Cast(MatMulInteger(q(x), W)), scale)`, where q is a
    ///   `DynamicQuantizeLinear`.
    pub fn find(graph: &Graph, producers: &HashMap<ValueId, usize>, node: &Node) -> Option<Self> {
        let index = producers.get(&node.outputs.first().copied().flatten()?)?;
        let input = |node: &Node, i: usize| node.inputs.get(i).copied().flatten();
        let giver = |id: ValueId| producers.get(&id).map(|index| (*index, &graph.nodes[*index]));
        let quantised = |node: &Node| {
            let (_, quantiser) = giver(input(node, 0)?)?;
            (quantiser.op == "DynamicQuantizeLinear").then(|| input(quantiser, 0))?
        };
        let matrix = |id: ValueId| match *graph.initializers.get(&id)?.shape {
            [rows, columns] => Some((rows, columns)),
            _ => None,
        };
        let with_matrix = |index: usize, node: &Node, from: ValueId, bias: Option<ValueId>| {
            let weight = input(node, 1)?;
            Some(Self { node: index, input: from, weight, bias, columns: matrix(weight)? })
        };
        match (node.domain.as_str(), node.op.as_str()) {
            ("com.microsoft", "MatMulNBits") => {
                let size = |name: &str| u64::try_from(node.int(name, 0)).ok();
                let weight = input(node, 1).filter(|id| graph.initializers.contains_key(id))?;
                let columns = (size("K")?, size("N")?);
                Some(Self { node: *index, input: input(node, 0)?, weight, bias: input(node, 5), columns })
            }
            ("com.microsoft", "DynamicQuantizeMatMul") => with_matrix(*index, node, input(node, 0)?, input(node, 4)),
            ("com.microsoft", "MatMulIntegerToFloat") => with_matrix(*index, node, quantised(node)?, input(node, 6)),
            ("", "Mul") => [0, 1].into_iter().find_map(|i| {
                let (_, cast) = giver(input(node, i)?).filter(|(_, node)| node.op == "Cast")?;
                let (index, product) = giver(input(cast, 0)?).filter(|(_, node)| node.op == "MatMulInteger")?;
                with_matrix(index, product, quantised(product)?, None)
            }),
            _ => None,
        }
    }
}
