//! Where the batch stands in what a node gives, by where it stands in what the node reads.

use super::Walk;
use crate::graph::{Attr, Node, Tensor, ValueId};
use crate::order::Order;

/// What a node does that joins samples.
pub const MIXES: &str = "mixes the samples of a batch";

/// Where the batch stands among a value's sizes: that of `axis` is `outer` · batch · `inner`, the batch's part in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carry {
    pub axis: usize,
    pub outer: u64,
    pub inner: u64,
}

impl Carry {
    /// Whether the axis is the batch and nothing else.
    pub fn is_pure(self) -> bool {
        (self.outer, self.inner) == (1, 1)
    }

    fn at(self, axis: usize) -> Self {
        Self { axis, ..self }
    }
}

/// Where the batch stands when the same numbers are given other sizes; `None` where it would be torn apart. Several places are
/// possible where a size is 1, the likeliest first: an axis of its own, no axis of features, the first factor of an axis.
pub fn reshaped(from: &[u64], carry: Carry, to: &[u64]) -> Vec<Carry> {
    if from.contains(&0) || to.contains(&0) {
        return Vec::new();
    }
    let outer = from[..carry.axis].iter().product::<u64>() * carry.outer;
    let inner = from[carry.axis + 1..].iter().product::<u64>() * carry.inner;
    let batch = from[carry.axis] / (carry.outer * carry.inner);
    let places = (0..to.len()).filter_map(|axis| {
        let (before, after) = (to[..axis].iter().product::<u64>(), to[axis + 1..].iter().product::<u64>());
        let place = Carry { axis, outer: outer / before, inner: inner / after };
        let whole = outer.is_multiple_of(before) && inner.is_multiple_of(after);
        (whole && to[axis] == place.outer * batch * place.inner).then_some(place)
    });
    let mut places: Vec<Carry> = places.collect();
    let unlikely = |place: &Carry| {
        (!place.is_pure(), place.axis + 1 == to.len() && place.axis > 0, place.outer != 1, place.axis != carry.axis)
    };
    places.order_by_key(unlikely);
    places
}

impl Walk<'_> {
    /// The carry of all that the node gives; its baked sizes are rewritten.
    pub fn carry_of(&mut self, node: &mut Node) -> Result<Carry, String> {
        let first = node.inputs.first().copied().flatten().and_then(|id| self.carries.get(&id)).copied();
        match node.op.as_str() {
            "Reshape" => self.reshape(node),
            "Flatten" => self.same_numbers(node),
            "Transpose" => self.transpose(node),
            "Squeeze" | "Unsqueeze" => self.squeeze(node),
            "MatMul" | "MatMulInteger" | "FusedMatMul" => self.product(node),
            "Gemm" => match first {
                Some(carry) if carry.axis == usize::from(node.int("transA", 0) != 0) => Ok(carry.at(0)),
                _ => Err(MIXES.into()),
            },
            "Concat" => self.concat(node),
            "Gather" => self.gather(node),
            "GatherElements" => self.gather_elements(node),
            "GatherND" => self.gather_pairs(node),
            "Einsum" => self.einsum(node),
            "LSTM" | "GRU" | "RNN" => self.recurrent(node),
            "Slice" | "Split" | "Pad" | "Tile" | "CumSum" | "TopK" | "Trilu" | "OneHot" => self.along(node),
            op if op.starts_with("Reduce") || op.starts_with("Arg") => self.reduce(node),
            "Softmax"
            | "LogSoftmax"
            | "Hardmax"
            | "LayerNormalization"
            | "RMSNormalization"
            | "LpNormalization"
            | "SimplifiedLayerNormalization"
            | "SkipLayerNormalization"
            | "SkipSimplifiedLayerNormalization" => self.normalised(node),
            op if ROWS.contains(&op) => self.rows(node),
            op if ELEMENTWISE.contains(&op) => self.elementwise(node),
            _ => self.unknown(node),
        }
    }

    /// Of what is not known, rows go in and rows come out.
    fn unknown(&self, node: &Node) -> Result<Carry, String> {
        let carry = Carry { axis: 0, outer: 1, inner: 1 };
        let rows = |id: ValueId| self.shape(id).is_ok_and(|shape| shape.first() == Some(&self.batch));
        let carried = node.reads().filter_map(|id| self.carries.get(&id)).all(|other| *other == carry);
        let inner = node.attributes.values().any(|attribute| matches!(attribute, Attr::Graph { .. }));
        let moves = ["ScatterND", "ScatterElements", "GatherND", "NonMaxSuppression"].contains(&node.op.as_str());
        if carried && !inner && !moves && node.writes().all(rows) {
            return Ok(carry);
        }
        Err("is not known to treat samples one by one".into())
    }

    fn reads_carry(&self, node: &Node, input: usize) -> Result<(ValueId, Carry), String> {
        let id = node.inputs.get(input).copied().flatten().ok_or("lacks an input")?;
        Ok((id, *self.carries.get(&id).ok_or(MIXES)?))
    }

    fn same_numbers(&mut self, node: &Node) -> Result<Carry, String> {
        let (id, carry) = self.reads_carry(node, 0)?;
        let (from, to) = (self.shape(id)?, self.gives(node)?);
        let places = reshaped(&from, carry, &to);
        self.choice(&places).ok_or_else(|| format!("tears the batch apart ({from:?} to {to:?})"))
    }

    fn reshape(&mut self, node: &mut Node) -> Result<Carry, String> {
        let carry = self.same_numbers(node)?;
        let sizes = self.gives(node)?;
        self.exchange_sizes(node, 1, &sizes, |axis, size| if axis == carry.axis { -1 } else { size });
        Ok(carry)
    }

    fn transpose(&self, node: &Node) -> Result<Carry, String> {
        let (id, carry) = self.reads_carry(node, 0)?;
        let rank = self.shape(id)?.len();
        let axis = match node.ints("perm") {
            Some(perm) => perm.iter().position(|from| *from == carry.axis as i64).ok_or("has no such axis")?,
            None => rank - 1 - carry.axis,
        };
        Ok(carry.at(axis))
    }

    fn squeeze(&self, node: &Node) -> Result<Carry, String> {
        let (id, carry) = self.reads_carry(node, 0)?;
        let (from, to) = (self.shape(id)?.len(), self.gives(node)?.len());
        let longer = from.max(to) as i64;
        let axes = self.integers(node, 1).ok_or("takes away dimensions of size 1, and a batch of 1 is among them")?;
        let axes: Vec<usize> = axes.iter().map(|axis| axis.rem_euclid(longer) as usize).collect();
        if to < from {
            if axes.contains(&carry.axis) {
                return Err("takes the batch's dimension away".into());
            }
            return Ok(carry.at(carry.axis - axes.iter().filter(|axis| **axis < carry.axis).count()));
        }
        let kept = (0..to).filter(|axis| !axes.contains(axis)).nth(carry.axis);
        Ok(carry.at(kept.ok_or("has no such axis")?))
    }

    /// `[…, n, k] · […, k, m]`.
    fn product(&self, node: &Node) -> Result<Carry, String> {
        let rank = self.gives(node)?.len();
        let mut found = None;
        for place in 0..2 {
            let id = node.inputs.get(place).copied().flatten().ok_or("lacks an input")?;
            let Some(carry) = self.carries.get(&id) else { continue };
            let own = self.shape(id)?.len();
            let summed = if place == 0 { own.wrapping_sub(1) } else { own.wrapping_sub(2) };
            if own < 2 || carry.axis == summed || node.int("transA", 0) + node.int("transB", 0) != 0 {
                return Err(MIXES.into());
            }
            found = joined(found, carry.at(carry.axis + rank - own))?;
        }
        let carry = found.ok_or(MIXES)?;
        for id in node.reads().take(2).filter(|id| !self.carries.contains_key(id)) {
            let shape = self.shape(id)?;
            if let Some(at) = (carry.axis + shape.len()).checked_sub(rank).filter(|at| at + 2 < shape.len())
                && shape[at] != 1
            {
                return Err("multiplies with a matrix for each sample of the batch".into());
            }
        }
        Ok(carry)
    }

    /// Constants have one row for all samples, or the same for each; `node` is given that one, or the rows of one sample for each.
    fn elementwise(&mut self, node: &mut Node) -> Result<Carry, String> {
        let rank = self.gives(node)?.len();
        let mut found = None;
        for id in node.reads() {
            if let Some(carry) = self.carries.get(&id) {
                found = joined(found, carry.at(carry.axis + rank - self.shape(id)?.len()))?;
            }
        }
        let carry = found.ok_or(MIXES)?;
        for place in 0..node.inputs.len() {
            let Some(id) = node.inputs[place].filter(|id| !self.carries.contains_key(id)) else { continue };
            let shape = self.shape(id)?;
            let Some(at) = (carry.axis + shape.len()).checked_sub(rank) else { continue };
            if shape[at] != 1 {
                let rows = if carry.is_pure() { self.one_row(id, at) } else { self.rows_of_each(id, carry.at(at)) };
                node.inputs[place] = Some(rows?);
            }
        }
        Ok(carry)
    }

    fn concat(&mut self, node: &mut Node) -> Result<Carry, String> {
        let rank = self.gives(node)?.len();
        let axis = node.int("axis", 0).rem_euclid(rank as i64) as usize;
        let mut found = None;
        for carry in node.reads().filter_map(|id| self.carries.get(&id)) {
            found = joined(found, *carry)?;
        }
        let carry = found.ok_or(MIXES)?;
        if carry.axis == axis {
            return Err(MIXES.into());
        }
        for place in 0..node.inputs.len() {
            if let Some(id) = node.inputs[place].filter(|id| !self.carries.contains_key(id)) {
                node.inputs[place] = Some(self.repeated(id, carry)?);
            }
        }
        Ok(carry)
    }

    fn gather(&mut self, node: &mut Node) -> Result<Carry, String> {
        let [data, indices] = node.inputs[..] else { return Err("lacks an input".into()) };
        let (data, indices) = (data.ok_or("lacks an input")?, indices.ok_or("lacks an input")?);
        let axis = node.int("axis", 0).rem_euclid(self.shape(data)?.len().max(1) as i64) as usize;
        match (self.carries.get(&data), self.carries.get(&indices)) {
            (None, Some(_)) if self.batch > 1 && self.flat.contains_key(&indices) => Err(MIXES.into()),
            (None, Some(carry)) => Ok(carry.at(axis + carry.axis)),
            (Some(carry), None) if carry.axis < axis => Ok(*carry),
            (Some(Carry { axis: 0, outer: 1, inner }), None) if axis == 0 && *inner > 1 => {
                let length = *inner;
                self.gather_flat(node, data, length).ok_or(MIXES)?;
                Ok(Carry { axis: 0, outer: 1, inner: 1 })
            }
            (Some(Carry { axis: 0, outer: 1, inner }), Some(Carry { axis: 0, outer: 1, inner: 1 })) if axis == 0 => {
                let length = *inner;
                self.gather_own(node, data, length).ok_or(MIXES)?;
                Ok(Carry { axis: 0, outer: 1, inner: 1 })
            }
            (Some(carry), None) if carry.axis > axis => Ok(carry.at(carry.axis + self.shape(indices)?.len() - 1)),
            _ => Err(MIXES.into()),
        }
    }

    /// A table and places of the same sizes; one that has no row a sample, as RoBERTa's kinds of token, is repeated for each.
    fn gather_elements(&mut self, node: &mut Node) -> Result<Carry, String> {
        let mut found = None;
        for carry in node.reads().filter_map(|id| self.carries.get(&id)) {
            found = joined(found, *carry)?;
        }
        let carry = found.ok_or(MIXES)?;
        let rank = self.gives(node)?.len().max(1);
        if node.int("axis", 0).rem_euclid(rank as i64) as usize == carry.axis {
            return Err(MIXES.into());
        }
        for place in 0..node.inputs.len() {
            if let Some(id) = node.inputs[place].filter(|id| !self.carries.contains_key(id)) {
                node.inputs[place] = Some(self.repeated(id, carry)?);
            }
        }
        Ok(carry)
    }

    /// `x[rows, places]` with the numbers of all rows, as masks of transformers are widened: `x[:, places]`.
    fn gather_pairs(&mut self, node: &mut Node) -> Result<Carry, String> {
        let (_, carry) = self.reads_carry(node, 0)?;
        let places = node.inputs.get(1).copied().flatten().and_then(|id| self.pairs.get(&id));
        if let Some(places) = places.filter(|_| carry.is_pure() && carry.axis == 0 && node.int("batch_dims", 0) == 0) {
            node.inputs[1] = Some(*places);
            node.attributes = [("batch_dims".into(), Attr::Int(1))].into();
            return Ok(carry);
        }
        let pairs = node.inputs.get(1).copied().flatten().and_then(|id| self.graph.initializers.get(&id));
        let pairs = pairs.ok_or("takes places that are not constant")?;
        let (shape, values) = (pairs.shape.clone(), pairs.to_i64().ok_or("takes places that are no numbers")?);
        let [rows, middle @ .., 2] = shape.as_slice() else { return Err(MIXES.into()) };
        let each = middle.iter().product::<u64>() as usize;
        let row_of = |at: usize| at / each.max(1);
        let all = values
            .chunks_exact(2)
            .enumerate()
            .all(|(at, pair)| pair[0] == row_of(at) as i64 && pair[1] == values[2 * (at % each.max(1)) + 1]);
        if !carry.is_pure() || carry.axis != 0 || *rows != self.batch || !all || node.int("batch_dims", 0) != 0 {
            return Err(MIXES.into());
        }
        let places: Vec<i64> = values.chunks_exact(2).take(each).map(|pair| pair[1]).collect();
        let name = format!("{}/places", node.name);
        node.inputs[1] = Some(self.graph.add_initializer(&name, Tensor::from_i64(middle, &places)));
        node.op = "Gather".into();
        node.attributes = [("axis".into(), Attr::Int(1))].into();
        Ok(carry)
    }

    fn einsum(&self, node: &Node) -> Result<Carry, String> {
        let equation: String = node.str("equation", "").chars().filter(|letter| !letter.is_whitespace()).collect();
        let (terms, result) = equation.split_once("->").ok_or("names no result")?;
        let mut found = None;
        for (id, term) in node.reads().zip(terms.split(',')) {
            let letter = self.carries.get(&id).map(|carry| (carry, term.chars().nth(carry.axis)));
            let Some((carry, letter)) = letter else { continue };
            let axis = letter.and_then(|letter| result.chars().position(|other| other == letter)).ok_or(MIXES)?;
            found = joined(found, carry.at(axis))?;
        }
        found.ok_or_else(|| MIXES.into())
    }

    /// What works along an axis that is not the batch's.
    fn along(&mut self, node: &mut Node) -> Result<Carry, String> {
        let (id, carry) = self.reads_carry(node, 0)?;
        let shape = self.shape(id)?;
        let axis = |axis: i64| axis.rem_euclid(shape.len() as i64) as usize;
        let unknown = "takes places that are not constant";
        let touched = match node.op.as_str() {
            "Slice" => {
                let (starts, ends) = (self.settled(node, 1), self.settled(node, 2));
                let all = || starts.as_ref().map(|starts| (0..starts.len() as i64).collect());
                let axes = self.integers(node, 3).or_else(all).ok_or(unknown)?;
                let number = |list: &Option<Vec<i64>>, at: usize| list.as_ref().and_then(|list| list.get(at)).copied();
                let whole = |at: usize| {
                    number(&starts, at) == Some(0) && number(&ends, at).is_some_and(|end| end >= i64::from(i32::MAX))
                };
                axes.iter().enumerate().any(|(at, along)| axis(*along) == carry.axis && !whole(at))
            }
            "Pad" => {
                let pads =
                    self.settled(node, 1).filter(|_| node.inputs.get(3).copied().flatten().is_none()).ok_or(unknown)?;
                [carry.axis, carry.axis + shape.len()].iter().any(|at| pads.get(*at) != Some(&0))
            }
            "Tile" => self.settled(node, 1).ok_or(unknown)?.get(carry.axis) != Some(&1),
            "CumSum" => self.settled(node, 1).ok_or(unknown)?.iter().any(|along| axis(*along) == carry.axis),
            "Trilu" => carry.axis + 2 >= shape.len(),
            "OneHot" => node.int("axis", -1) != -1,
            _ => axis(node.int("axis", if node.op == "TopK" { -1 } else { 0 })) == carry.axis,
        };
        if touched { Err(MIXES.into()) } else { Ok(carry) }
    }

    fn reduce(&self, node: &Node) -> Result<Carry, String> {
        let (id, carry) = self.reads_carry(node, 0)?;
        let rank = self.shape(id)?.len();
        let axes = match node.op.starts_with("Arg") {
            true => vec![node.int("axis", 0)],
            false => node.ints("axes").map(<[i64]>::to_vec).or_else(|| self.integers(node, 1)).ok_or(MIXES)?,
        };
        let axes: Vec<usize> = axes.iter().map(|axis| axis.rem_euclid(rank as i64) as usize).collect();
        if axes.is_empty() || axes.contains(&carry.axis) {
            return Err(MIXES.into());
        }
        let gone =
            if node.int("keepdims", 1) == 1 { 0 } else { axes.iter().filter(|axis| **axis < carry.axis).count() };
        Ok(carry.at(carry.axis - gone))
    }

    /// What is made of the values along the last axes, or one of them.
    fn normalised(&self, node: &Node) -> Result<Carry, String> {
        let (id, carry) = self.reads_carry(node, 0)?;
        let rank = self.shape(id)?.len();
        let axis = node.int("axis", -1).rem_euclid(rank as i64) as usize;
        let alone = ["Softmax", "LogSoftmax", "Hardmax", "LpNormalization"].contains(&node.op.as_str());
        let skips = node.op.starts_with("Skip");
        let others = node.reads().skip(1).take(usize::from(skips)).all(|id| self.carries.get(&id) == Some(&carry));
        let apart = if alone { axis != carry.axis } else { carry.axis < axis };
        if apart && others { Ok(carry) } else { Err(MIXES.into()) }
    }

    /// What treats each entry of the first axis alone.
    fn rows(&mut self, node: &mut Node) -> Result<Carry, String> {
        let carries: Vec<Carry> = node.reads().filter_map(|id| self.carries.get(&id)).copied().collect();
        let carry = *carries.first().ok_or(MIXES)?;
        let trains = node.op == "BatchNormalization" && node.int("training_mode", 0) == 1;
        if trains || carries.iter().any(|other| other.axis != 0 || *other != carry) {
            return Err(MIXES.into());
        }
        // Attention reads its heads and its mask by the batch; all else knows rows only.
        if !carry.is_pure() && (!node.domain.is_empty() || node.op == "Attention") {
            return Err(MIXES.into());
        }
        if node.op == "Resize" {
            self.resize(node, carry)?;
        }
        Ok(carry)
    }

    /// `X: [sequence, batch, features]`, first states `[directions, batch, features]`.
    fn recurrent(&mut self, node: &mut Node) -> Result<Carry, String> {
        let (_, carry) = self.reads_carry(node, 0)?;
        if carry.axis != 1 || !carry.is_pure() || node.int("layout", 0) != 0 {
            return Err(MIXES.into());
        }
        if node.inputs.get(4).copied().flatten().is_some_and(|id| !self.carries.contains_key(&id)) {
            return Err("has a length for each sample of the batch".into());
        }
        for place in 5..node.inputs.len().min(7) {
            let Some(id) = node.inputs[place] else { continue };
            match self.carries.get(&id) {
                Some(other) if *other == carry => {}
                Some(_) => return Err(MIXES.into()),
                // A first state of zeros is what the operator begins with by itself.
                None if self.is_zero(id) => node.inputs[place] = None,
                None => node.inputs[place] = Some(self.repeated(id, carry)?),
            }
        }
        Ok(carry)
    }

    /// What a recurrent layer gives: `[sequence, directions, batch, features]`, then last states `[directions, batch, features]`.
    pub fn recurrent_outputs(&mut self, node: &Node, carry: Carry) {
        if ["LSTM", "GRU", "RNN"].contains(&node.op.as_str())
            && let Some(id) = node.outputs.first().copied().flatten()
        {
            self.carries.insert(id, carry.at(2));
        }
    }

    fn is_zero(&self, id: ValueId) -> bool {
        if let Some(node) = self.nodes.iter().rev().find(|node| node.writes().any(|written| written == id)) {
            return node.op == "Expand" && node.inputs[0].is_some_and(|id| self.is_zero(id));
        }
        let values = self.graph.initializers.get(&id).and_then(Tensor::to_f32);
        values.is_some_and(|values| values.iter().all(|value| *value == 0.0))
    }
}

/// Two inputs' carries, which have to be the same.
fn joined(known: Option<Carry>, other: Carry) -> Result<Option<Carry>, String> {
    match known {
        Some(known) if known != other => Err(MIXES.into()),
        _ => Ok(Some(other)),
    }
}

/// Operators of `[batch, …]` that treat each row alone.
const ROWS: [&str; 25] = [
    "Attention",
    "AveragePool",
    "BatchNormalization",
    "BiasGelu",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "DepthToSpace",
    "EmbedLayerNormalization",
    "FastGelu",
    "FusedConv",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GroupNorm",
    "GroupNormalization",
    "InstanceNormalization",
    "LRN",
    "LpPool",
    "MaxPool",
    "MultiHeadAttention",
    "Resize",
    "RotaryEmbedding",
    "SpaceToDepth",
    "Upsample",
    "MatMulNBits",
];

/// Operators that give a value for each of their inputs' values, which are aligned at their ends.
#[rustfmt::skip]
pub const ELEMENTWISE: [&str; 62] = [
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Clip", "Cos", "Cosh", "DequantizeLinear",
    "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu",
    "Pow", "QuantizeLinear", "QuickGelu", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt",
    "Sub", "Sum", "Tanh", "Where",
];

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(axis: usize, outer: u64, inner: u64) -> Carry {
        Carry { axis, outer, inner }
    }

    #[test]
    fn the_batch_keeps_its_place_among_the_numbers() {
        for batch in [1, 5] {
            for (from, carry, to, found) in [
                (vec![batch, 12, 16], at(0, 1, 1), vec![batch, 12, 2, 8], at(0, 1, 1)),
                (vec![12, batch, 16], at(1, 1, 1), vec![12, 2 * batch, 8], at(1, 1, 2)),
                (vec![12, 2 * batch, 8], at(1, 1, 2), vec![12, batch, 16], at(1, 1, 1)),
                (vec![12, batch, 16], at(1, 1, 1), vec![12 * batch, 16], at(0, 12, 1)),
                (vec![12 * batch, 16], at(0, 12, 1), vec![12, batch, 16], at(1, 1, 1)),
                (vec![batch, 12, 16], at(0, 1, 1), vec![12 * batch, 16], at(0, 1, 12)),
                (vec![batch, 7], at(0, 1, 1), vec![batch, 1, 1, 7], at(0, 1, 1)),
                (vec![1, batch, 16], at(1, 1, 1), vec![1, batch, 16], at(1, 1, 1)),
                (vec![batch, 8, 1, 1], at(0, 1, 1), vec![batch, 8], at(0, 1, 1)),
                (vec![6, 2 * batch, 4], at(1, 1, 2), vec![6 * batch, 8], at(0, 6, 1)),
                (vec![16 * batch, 8], at(0, 4, 4), vec![4, 4 * batch, 8], at(1, 1, 4)),
            ] {
                assert_eq!(reshaped(&from, carry, &to).first(), Some(&found), "{from:?} to {to:?}");
            }
        }
        assert_eq!(reshaped(&[2, 3], at(0, 1, 1), &[3, 2]), [], "samples are torn apart");
        assert_eq!(reshaped(&[0, 3], at(0, 1, 1), &[3, 0]), []);
    }
}
