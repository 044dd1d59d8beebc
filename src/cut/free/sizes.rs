//! What is put in the place of sizes that a file holds as numbers.

use super::Walk;
use super::carry::Carry;
use crate::graph::{Attr, Dim, Node, Tensor, ValueId};

impl Walk<'_> {
    /// `Expand` to sizes that hold the batch: those of what is expanded stand for it, for a size of 1 leaves them as they are. What
    /// has no row a sample is repeated where it is read.
    pub fn expand(&mut self, node: &mut Node) -> Result<(), String> {
        let data = node.inputs.first().copied().flatten().ok_or("lacks an input")?;
        let (from, to) = (self.shape(data)?, self.gives(node)?);
        let carry = self.carries.get(&data).map(|carry| Carry { axis: carry.axis + to.len() - from.len(), ..*carry });
        let axis = carry.map(|carry| carry.axis);
        // What is the same for all samples, such as the masks of windows, repeated by sizes that are right at run time.
        let repeats =
            |at: &usize| carry.is_none() && (at + from.len()).checked_sub(to.len()).is_none_or(|at| from[at] == 1);
        if let Some(axis) = self.batch_among(node, 1).filter(repeats) {
            self.carries.extend(node.writes().map(|id| (id, Carry { axis, outer: 1, inner: 1 })));
            return Ok(());
        }
        self.exchange_sizes(node, 1, &to, |at, size| if Some(at) == axis { 1 } else { size });
        if let Some(carry) = carry {
            self.carries.extend(node.writes().map(|id| (id, carry)));
        }
        Ok(())
    }

    /// `Resize` to constant sizes: the first of them is the batch.
    pub fn resize(&mut self, node: &mut Node, carry: Carry) -> Result<(), String> {
        let sizes = node.inputs.get(3).copied().flatten();
        if sizes.is_none() || node.ints("axes").is_some_and(|axes| !axes.contains(&0)) {
            return Ok(());
        }
        if !carry.is_pure() {
            return Err("gives sizes that hold more than the batch".into());
        }
        let rest: Vec<i64> = self.gives(node)?.iter().skip(1).map(|size| *size as i64).collect();
        node.inputs[3] = Some(self.with_batch(&node.name, &[], &rest));
        Ok(())
    }

    /// Puts constant sizes in the place of a node's input.
    pub fn exchange_sizes(&mut self, node: &mut Node, input: usize, sizes: &[u64], of: impl Fn(usize, i64) -> i64) {
        let sizes: Vec<i64> = sizes.iter().enumerate().map(|(axis, size)| of(axis, *size as i64)).collect();
        let tensor = Tensor::from_i64(&[sizes.len() as u64], &sizes);
        node.inputs[input] = Some(self.graph.add_initializer(&format!("{}/sizes", node.name), tensor));
    }

    /// The one row of what is the same for each sample of the batch: of a constant, or of what is computed from such.
    pub fn one_row(&mut self, id: ValueId, axis: usize) -> Result<ValueId, String> {
        let name = self.graph.value_name(id).to_string();
        let differs = || format!("reads `{name}`, which has a row for each sample of the batch");
        if self.shape(id)?[axis] != self.batch {
            return Err(differs());
        }
        if let Some(tensor) = self.graph.initializers.get(&id) {
            let row = first_row(tensor, axis).ok_or_else(differs)?;
            return Ok(self.graph.add_initializer(&format!("{name}/row"), row));
        }
        let made = self.nodes.iter().rev().find(|node| node.writes().any(|written| written == id)).cloned();
        let mut node = made.ok_or_else(differs)?;
        match node.op.as_str() {
            "Expand" => {
                let sizes = self.shape(id)?;
                self.exchange_sizes(&mut node, 1, &sizes, |at, size| if at == axis { 1 } else { size });
            }
            // A table's rows by indices that are the same for each sample, such as positions.
            "Gather" if axis == 0 && node.int("axis", 0) == 0 => {
                let indices = node.inputs[1].ok_or_else(differs)?;
                node.inputs[1] = Some(self.one_row(indices, 0)?);
            }
            "Cast" | "Identity" => {
                let read = node.inputs[0].ok_or_else(differs)?;
                node.inputs[0] = Some(self.one_row(read, axis)?);
            }
            _ => return Err(differs()),
        }
        let mut ty = self.graph.ty(id).cloned();
        if let Some(shape) = ty.as_mut().and_then(|ty| ty.shape.as_mut()) {
            shape[axis] = Dim::Fixed(1);
        }
        let output = self.graph.add_value(&format!("{name}/row"), ty);
        (node.name, node.outputs) = (self.graph.value_name(output).to_string(), vec![Some(output)]);
        self.nodes.push(node);
        Ok(output)
    }

    /// A constant with the same rows for each sample of the batch, several of them, as the masks of a picture's windows: the rows of one sample,
    /// once for each sample that there is.
    pub fn rows_of_each(&mut self, id: ValueId, carry: Carry) -> Result<ValueId, String> {
        let name = self.graph.value_name(id).to_string();
        let differs = || format!("reads `{name}`, which has rows for each sample of the batch");
        let Carry { axis, outer, inner } = carry;
        let shape = self.shape(id)?;
        if shape[axis] != outer * self.batch * inner {
            return Err(differs());
        }
        let tensor = self.graph.initializers.get(&id).ok_or_else(differs)?;
        let apart = [&shape[..axis], &[outer, self.batch, inner], &shape[axis + 1..]].concat();
        let apart = Tensor { dtype: tensor.dtype, shape: apart, data: tensor.data.clone() };
        let one = first_row(&apart, axis + 1).ok_or_else(differs)?;
        let one = self.graph.add_initializer(&format!("{name}/sample"), one);
        let spread = self.repeated(one, Carry { axis: axis + 1, outer: 1, inner: 1 })?;
        let joined: Vec<i64> =
            shape.iter().enumerate().map(|(at, size)| if at == axis { -1 } else { *size as i64 }).collect();
        let joined = Tensor::from_i64(&[joined.len() as u64], &joined);
        let joined = self.graph.add_initializer(&format!("{name}/joined"), joined);
        let ty = self.graph.ty(id).cloned();
        let rows = self.graph.add_value(&format!("{name}/rows"), ty);
        let name = self.graph.value_name(rows).to_string();
        let (inputs, outputs) = (vec![Some(spread), Some(joined)], vec![Some(rows)]);
        self.nodes.push(Node { name, op: "Reshape".into(), inputs, outputs, ..Node::default() });
        Ok(rows)
    }

    /// What has no row a sample, such as a class token, once for each of them.
    pub fn repeated(&mut self, id: ValueId, carry: Carry) -> Result<ValueId, String> {
        let mut shape = self.shape(id)?;
        let mut id = id;
        if shape[carry.axis] != 1 {
            id = self.one_row(id, carry.axis)?;
            shape[carry.axis] = 1;
        }
        if !carry.is_pure() {
            return Err("joins a constant to samples of which each has several rows".into());
        }
        let sizes: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
        let name = format!("{}/repeated", self.graph.value_name(id));
        let target = self.with_batch(&name, &sizes[..carry.axis], &sizes[carry.axis + 1..]);
        let ty = self.graph.ty(id).cloned();
        let output = self.graph.add_value(&name, ty);
        let name = self.graph.value_name(output).to_string();
        let (inputs, outputs) = (vec![Some(id), Some(target)], vec![Some(output)]);
        self.nodes.push(Node { name, op: "Expand".into(), inputs, outputs, ..Node::default() });
        Ok(output)
    }

    /// Sizes with the batch's among them, as the run has it.
    fn with_batch(&mut self, name: &str, before: &[i64], after: &[i64]) -> ValueId {
        let batch = self.batch_size();
        let constant = |walk: &mut Self, sizes: &[i64]| {
            let tensor = Tensor::from_i64(&[sizes.len() as u64], sizes);
            walk.graph.add_initializer(&format!("{name}/sizes"), tensor)
        };
        let mut parts = Vec::new();
        if !before.is_empty() {
            parts.push(Some(constant(self, before)));
        }
        parts.push(Some(batch));
        if !after.is_empty() {
            parts.push(Some(constant(self, after)));
        }
        self.computed(&format!("{name}/shape"), "Concat", parts)
    }

    /// The first size of the model's first input.
    fn batch_size(&mut self) -> ValueId {
        if let Some(size) = self.size {
            return size;
        }
        let input = self.graph.inputs[0];
        let shape = self.computed("edgetune.batch/shape", "Shape", vec![Some(input)]);
        let first = self.graph.add_initializer("edgetune.batch/first", Tensor::from_i64(&[1], &[0]));
        let size = self.computed("edgetune.batch/size", "Gather", vec![Some(shape), Some(first)]);
        self.size = Some(size);
        size
    }

    /// A node on integers along their one axis; gives its output.
    fn computed(&mut self, name: &str, op: &str, inputs: Vec<Option<ValueId>>) -> ValueId {
        let output = self.graph.add_value(name, None);
        let name = self.graph.value_name(output).to_string();
        let mut node = Node { name, op: op.into(), inputs, outputs: vec![Some(output)], ..Node::default() };
        if op != "Shape" {
            node.attributes.insert("axis".into(), Attr::Int(0));
        }
        self.nodes.push(node);
        output
    }
}

/// The first entry along an axis, where all are the same.
fn first_row(tensor: &Tensor, axis: usize) -> Option<Tensor> {
    let size = *tensor.shape.get(axis)? as usize;
    let before = tensor.shape[..axis].iter().product::<u64>() as usize;
    let length = tensor.data.len().checked_div(before * size)?;
    if length == 0 {
        return None;
    }
    let mut data = Vec::with_capacity(before * length);
    for block in tensor.data.chunks_exact(size * length) {
        let first = &block[..length];
        if block.chunks_exact(length).any(|row| row != first) {
            return None;
        }
        data.extend_from_slice(first);
    }
    let mut shape = tensor.shape.clone();
    shape[axis] = 1;
    Some(Tensor { dtype: tensor.dtype, shape, data: data.into() })
}
