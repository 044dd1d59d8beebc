//! Integers that a file computes from sizes, as they are for the file's own batch.

use super::Walk;
use super::carry::Carry;
use crate::graph::{Attr, Node, Tensor, ValueId};

/// Numbers computed one from another, at most: a mask's places take a handful.
const STEPS_MAX: usize = 64;

impl Walk<'_> {
    /// What a value holds for the batch in the file: a constant, a size, or a sum or product of such.
    pub fn numbers(&self, id: ValueId) -> Option<(Vec<u64>, Vec<i64>)> {
        self.numbers_within(id, &mut { STEPS_MAX })
    }

    fn numbers_within(&self, id: ValueId, steps: &mut usize) -> Option<(Vec<u64>, Vec<i64>)> {
        *steps = steps.checked_sub(1)?;
        if let Some(tensor) = self.graph.initializers.get(&id) {
            return Some((tensor.shape.clone(), tensor.to_i64()?));
        }
        let node = self.nodes.iter().rev().find(|node| node.writes().any(|written| written == id))?;
        let read = |place: usize| node.inputs.get(place).copied().flatten();
        match node.op.as_str() {
            "Shape" if node.int("start", 0) == 0 && !node.attributes.contains_key("end") => {
                let sizes: Vec<i64> = self.shape(read(0)?).ok()?.iter().map(|size| *size as i64).collect();
                Some((vec![sizes.len() as u64], sizes))
            }
            "Cast" | "Identity" => self.numbers_within(read(0)?, steps),
            "Unsqueeze" | "Squeeze" | "Reshape" => {
                let (_, values) = self.numbers_within(read(0)?, steps)?;
                Some((self.shape(id).ok()?, values))
            }
            "Gather" if node.int("axis", 0) == 0 => {
                let (from, values) = self.numbers_within(read(0)?, steps)?;
                let (shape, places) = self.numbers_within(read(1)?, steps)?;
                let at = |place: &i64| values.get(place.rem_euclid(values.len() as i64) as usize).copied();
                let picked = places.iter().map(at).collect::<Option<_>>()?;
                (from.len() == 1).then_some((shape, picked))
            }
            op @ ("Add" | "Sub" | "Mul") => {
                let (one, other) = (self.numbers_within(read(0)?, steps)?, self.numbers_within(read(1)?, steps)?);
                let shape = self.shape(id).ok()?;
                let pairs = spread(&one, &shape)?.into_iter().zip(spread(&other, &shape)?);
                let of = |(a, b): (i64, i64)| match op {
                    "Add" => a.checked_add(b),
                    "Sub" => a.checked_sub(b),
                    _ => a.checked_mul(b),
                };
                Some((shape, pairs.map(of).collect::<Option<_>>()?))
            }
            _ => None,
        }
    }

    /// Places in a table whose rows are those of all samples, one sample's after the other, as torch's older exporter widens masks
    /// (`x.flatten()[sample · length + place]`): the table is given its batch again, and the places are those within a sample.
    pub fn gather_flat(&mut self, node: &mut Node, data: ValueId, length: u64) -> Option<()> {
        let (shape, places) = self.numbers(node.inputs.get(1).copied().flatten()?)?;
        let [rows, within @ ..] = shape.as_slice() else { return None };
        let each = within.iter().product::<u64>() as usize;
        let own = places.get(..each)?.to_vec();
        let begins = |sample: usize| sample as i64 * length as i64;
        let all = places.iter().enumerate().all(|(at, place)| *place == begins(at / each) + own[at % each]);
        let inside = own.iter().all(|place| (0..length as i64).contains(place));
        if *rows != self.batch || each == 0 || !all || !inside {
            return None;
        }
        let output = self.with_samples(node, data, length)?;
        let own = self.graph.add_initializer(&format!("{}/places", node.name), Tensor::from_i64(within, &own));
        node.inputs = vec![Some(output), Some(own)];
        node.attributes = [("axis".into(), Attr::Int(1))].into();
        Some(())
    }

    /// The table with its batch again: `[batch · length, …]` → `[batch, length, …]`.
    fn with_samples(&mut self, node: &Node, data: ValueId, length: u64) -> Option<ValueId> {
        let rest = self.shape(data).ok()?[1..].to_vec();
        let sizes: Vec<i64> = [-1, length as i64].into_iter().chain(rest.iter().map(|size| *size as i64)).collect();
        let name = format!("{}/samples", node.name);
        let target =
            self.graph.add_initializer(&format!("{name}/sizes"), Tensor::from_i64(&[sizes.len() as u64], &sizes));
        Some(self.made(&name, "Reshape", vec![Some(data), Some(target)]))
    }

    fn made(&mut self, name: &str, op: &str, inputs: Vec<Option<ValueId>>) -> ValueId {
        let output = self.graph.add_value(name, None);
        let (name, outputs) = (self.graph.value_name(output).to_string(), vec![Some(output)]);
        self.nodes.push(Node { name, op: op.into(), inputs, outputs, ..Node::default() });
        output
    }

    /// Whether a sum is a place within each sample and where the sample begins, `place + sample · length`; it is then remembered for
    /// who picks by it. With a batch of 1 the beginnings are one zero, of which nobody knows what it was.
    pub fn places_of_all(&mut self, node: &Node) -> bool {
        let [Some(one), Some(other)] = node.inputs[..] else { return false };
        let carried = |id: ValueId| self.carries.get(&id) == Some(&Carry { axis: 0, outer: 1, inner: 1 });
        let (places, begins) = match (carried(one), carried(other)) {
            (true, false) if !self.carries.contains_key(&other) => (one, other),
            (false, true) if !self.carries.contains_key(&one) => (other, one),
            _ => return false,
        };
        let Some((shape, begins)) = self.numbers(begins) else { return false };
        let length = begins.get(1).copied().unwrap_or(0);
        let each = begins.iter().enumerate().all(|(sample, begin)| *begin == sample as i64 * length);
        if shape != [self.batch] || !each || self.shape(places) != Ok(vec![self.batch]) {
            return false;
        }
        for id in node.writes() {
            self.carries.insert(id, Carry { axis: 0, outer: 1, inner: 1 });
            self.flat.insert(id, (places, length as u64));
        }
        true
    }

    /// Whether pairs of a sample's number and a place within it are put together, `[batch, 2]`, as torch's default exporter writes
    /// `x[range(batch), places]`; the places are remembered for who picks by them.
    pub fn pairs_of_all(&mut self, node: &Node) -> bool {
        let [Some(samples), Some(places)] = node.inputs[..] else { return false };
        let carried = self.carries.get(&places) == Some(&Carry { axis: 0, outer: 1, inner: 1 });
        let column = self.shape(places) == Ok(vec![self.batch, 1]) && [1, -1].contains(&node.int("axis", 0));
        if !carried || !column || self.carries.contains_key(&samples) {
            return false;
        }
        let Some((shape, numbers)) = self.numbers(samples) else { return false };
        let all = numbers.iter().enumerate().all(|(at, number)| *number == at as i64);
        if shape != [self.batch, 1] || !all {
            return false;
        }
        for id in node.writes() {
            self.carries.insert(id, Carry { axis: 0, outer: 1, inner: 1 });
            self.pairs.insert(id, places);
        }
        true
    }

    /// One row of each sample's own, picked from the rows of all samples by `place + sample · length`, as torch's older exporter writes
    /// `x[range(batch), places]`: picked by the place alone from the table with its batch.
    pub fn gather_own(&mut self, node: &mut Node, data: ValueId, length: u64) -> Option<()> {
        let (places, found) = *self.flat.get(&node.inputs.get(1).copied().flatten()?)?;
        if self.batch > 1 && found != length {
            return None;
        }
        let table = self.with_samples(node, data, length)?;
        let last = self.graph.add_initializer(&format!("{}/last", node.name), Tensor::from_i64(&[1], &[-1]));
        let rows = self.made(&format!("{}/places", node.name), "Unsqueeze", vec![Some(places), Some(last)]);
        node.op = "GatherND".into();
        node.inputs = vec![Some(table), Some(rows)];
        node.attributes = [("batch_dims".into(), Attr::Int(1))].into();
        Some(())
    }
}

/// Numbers broadcast to a shape.
fn spread((from, values): &(Vec<u64>, Vec<i64>), to: &[u64]) -> Option<Vec<i64>> {
    let missing = to.len().checked_sub(from.len())?;
    let count = to.iter().product::<u64>();
    let place = |mut at: u64| {
        let (mut place, mut stride) = (0, 1);
        for axis in (0..to.len()).rev() {
            let index = at % to[axis];
            at /= to[axis];
            if axis >= missing && from[axis - missing] > 1 {
                place += index * stride;
                stride *= from[axis - missing];
            }
        }
        place as usize
    };
    (0..count).map(|at| values.get(place(at)).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn numbers_are_spread_as_onnx_broadcasts() {
        let row = (vec![1, 3], vec![1, 2, 3]);
        assert_eq!(spread(&row, &[2, 3]), Some(vec![1, 2, 3, 1, 2, 3]));
        let column = (vec![2, 1], vec![1, 2]);
        assert_eq!(spread(&column, &[2, 3]), Some(vec![1, 1, 1, 2, 2, 2]));
        assert_eq!(spread(&(vec![], vec![7]), &[2]), Some(vec![7, 7]));
        assert_eq!(spread(&column, &[2]), None);
    }
}
