//! Integers that a file computes from sizes, as they are for the file's own batch.

use super::Walk;
use super::carry::Carry;
use crate::graph::{Attr, Node, Tensor, ValueId};

/// Numbers computed one from another, at most: a mask's places take a handful.
const STEPS_MAX: usize = 256;
/// Numbers that are filled in at once, at most.
const NUMBERS_MAX: u64 = 1024;

impl Walk<'_> {
    /// What a value holds for the batch in the file: a constant, a size, or what is computed from such.
    pub fn numbers(&self, id: ValueId) -> Option<(Vec<u64>, Vec<i64>)> {
        self.numbers_within(id, self.batch, &mut { STEPS_MAX })
    }

    /// The integers that a node reads, where they are the same for every batch: a constant, or computed from sizes that do not hold it, as
    /// torch's older exporter writes the pads of pictures that are filled up to whole windows. Computed ones become a constant.
    pub fn settled(&mut self, node: &mut Node, input: usize) -> Option<Vec<i64>> {
        let id = node.inputs.get(input).copied().flatten()?;
        if let Some(tensor) = self.graph.initializers.get(&id) {
            return tensor.to_i64();
        }
        let (shape, values) = self.numbers(id)?;
        let (_, otherwise) = self.numbers_within(id, self.batch + 1, &mut { STEPS_MAX })?;
        if otherwise != values {
            return None;
        }
        let name = format!("{}/settled", self.graph.value_name(id));
        node.inputs[input] = Some(self.graph.add_initializer(&name, Tensor::from_i64(&shape, &values)));
        Some(values)
    }

    /// The axis of the sizes that a node reads which is the batch, alone among them.
    pub fn batch_among(&self, node: &Node, input: usize) -> Option<usize> {
        let id = node.inputs.get(input).copied().flatten()?;
        let (_, now) = self.numbers(id)?;
        let (_, then) = self.numbers_within(id, self.batch + 1, &mut { STEPS_MAX })?;
        if now.len() != then.len() {
            return None;
        }
        let mut other = (0..now.len()).filter(|at| now[*at] != then[*at]);
        let (axis, none) = (other.next()?, other.next().is_none());
        let batch = self.batch as i64;
        (none && (now[axis], then[axis]) == (batch, batch + 1)).then_some(axis)
    }

    /// As [`Walk::numbers`], for any batch.
    fn numbers_within(&self, id: ValueId, batch: u64, steps: &mut usize) -> Option<(Vec<u64>, Vec<i64>)> {
        *steps = steps.checked_sub(1)?;
        if let Some(tensor) = self.graph.initializers.get(&id) {
            return Some((tensor.shape.clone(), tensor.to_i64()?));
        }
        let node = self.nodes.iter().rev().find(|node| node.writes().any(|written| written == id))?;
        let read = |place: usize| node.inputs.get(place).copied().flatten();
        let mut given = |place: usize| self.numbers_within(read(place)?, batch, steps);
        match node.op.as_str() {
            "Shape" => self.sizes_of(node, batch),
            "Cast" | "Identity" => given(0),
            "Unsqueeze" | "Squeeze" | "Reshape" => {
                let (_, values) = given(0)?;
                Some((self.shape(id).ok()?, values))
            }
            "Concat" => {
                let parts = (0..node.inputs.len()).map(&mut given).collect::<Option<Vec<_>>>()?;
                let values: Vec<i64> = parts.iter().flat_map(|(_, values)| values).copied().collect();
                parts.iter().all(|(shape, _)| shape.len() == 1).then_some((vec![values.len() as u64], values))
            }
            "ConstantOfShape" => filled(given(0)?.1, node.attributes.get("value")),
            "Where" => {
                let shape = self.shape(id).ok()?;
                let [chosen, one, other] = [given(0)?, given(1)?, given(2)?].map(|numbers| spread(&numbers, &shape));
                let both = one?.into_iter().zip(other?);
                Some((shape, chosen?.into_iter().zip(both).map(|(c, (a, b))| if c != 0 { a } else { b }).collect()))
            }
            "Slice" => sliced(given(0)?, [given(1)?.1, given(2)?.1], given(3)?.1, given(4).map(|steps| steps.1)),
            "Transpose" => transposed(given(0)?, node.ints("perm")),
            "Gather" if node.int("axis", 0) == 0 => {
                let (from, values) = given(0)?;
                let (shape, places) = given(1)?;
                let at = |place: &i64| values.get(place.checked_rem_euclid(values.len() as i64)? as usize).copied();
                let picked = places.iter().map(at).collect::<Option<_>>()?;
                (from.len() == 1).then_some((shape, picked))
            }
            op @ ("Add" | "Sub" | "Mul" | "Div" | "Mod" | "Equal") => {
                let (one, other) = (given(0)?, given(1)?);
                let shape = self.shape(id).ok()?;
                let pairs = spread(&one, &shape)?.into_iter().zip(spread(&other, &shape)?);
                let of = |(a, b)| arithmetic(op, a, b, node.int("fmod", 0) != 0);
                Some((shape, pairs.map(of).collect::<Option<_>>()?))
            }
            _ => None,
        }
    }

    /// What a `Shape` gives for a batch.
    fn sizes_of(&self, node: &Node, batch: u64) -> Option<(Vec<u64>, Vec<i64>)> {
        let id = node.inputs.first().copied().flatten()?;
        let mut sizes: Vec<i64> = self.shape(id).ok()?.iter().map(|size| *size as i64).collect();
        if let Some(Carry { axis, outer, inner }) = self.carries.get(&id) {
            *sizes.get_mut(*axis)? = (outer * batch * inner) as i64;
        }
        let rank = sizes.len() as i64;
        let place = |name: &str, otherwise: i64| {
            let at = node.int(name, otherwise);
            (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize
        };
        let (start, end) = (place("start", 0), place("end", rank));
        let sizes = sizes.get(start..end.max(start))?.to_vec();
        Some((vec![sizes.len() as u64], sizes))
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

/// Numbers of a shape.
type Numbers = (Vec<u64>, Vec<i64>);

/// One number of two.
fn arithmetic(op: &str, a: i64, b: i64, as_c_has_it: bool) -> Option<i64> {
    match op {
        "Add" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        "Div" => a.checked_div(b),
        "Equal" => Some(i64::from(a == b)),
        // Of whole numbers the sign is the divisor's.
        _ => a
            .checked_rem(b)
            .map(|rest| if !as_c_has_it && rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }),
    }
}

/// The same number everywhere, zero unless the attribute says another.
fn filled(sizes: Vec<i64>, value: Option<&Attr>) -> Option<Numbers> {
    let shape: Vec<u64> = sizes.iter().map(|size| u64::try_from(*size).ok()).collect::<Option<_>>()?;
    let value = match value {
        None => 0,
        Some(Attr::Tensor(tensor)) => *tensor.to_i64()?.first()?,
        Some(_) => return None,
    };
    let count = shape.iter().try_fold(1u64, |count, size| count.checked_mul(*size))?;
    (count <= NUMBERS_MAX).then(|| (shape, vec![value; count as usize]))
}

/// A part along the first axis, as pads are turned round.
fn sliced(
    (shape, values): Numbers,
    [starts, ends]: [Vec<i64>; 2],
    axes: Vec<i64>,
    steps: Option<Vec<i64>>,
) -> Option<Numbers> {
    let ([start], [end], [axis]) = (&starts[..], &ends[..], &axes[..]) else { return None };
    let step = steps.map_or(Some(1), |steps| steps.first().copied())?;
    let (size, rank) = (*shape.first()? as i64, shape.len() as i64);
    if axis.checked_rem_euclid(rank)? != 0 || step == 0 || size == 0 {
        return None;
    }
    let counted = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    // Backwards one begins at the last row at most, and ends before the first at least.
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let (mut at, end) = (counted(*start).clamp(low.max(0), high), counted(*end).clamp(low, high));
    let row = values.len() / size as usize;
    let mut given = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        given.extend_from_slice(values.get(at as usize * row..(at as usize + 1) * row)?);
        at = at.checked_add(step)?;
    }
    let mut shape = shape;
    shape[0] = (given.len() / row.max(1)) as u64;
    Some((shape, given))
}

/// Rows and columns exchanged.
fn transposed((shape, values): Numbers, perm: Option<&[i64]>) -> Option<Numbers> {
    let [rows, columns] = shape[..] else { return (shape.len() == 1).then_some((shape, values)) };
    match perm {
        Some([0, 1]) => return Some((shape, values)),
        Some([1, 0]) | None => {}
        Some(_) => return None,
    }
    let (rows, columns) = (rows as usize, columns as usize);
    let given = (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column));
    Some((vec![columns as u64, rows as u64], given.map(|at| values.get(at).copied()).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::{sliced, spread, transposed};

    #[test]
    fn pads_are_turned_round_as_torch_writes_them() {
        let pads = (vec![4, 2], vec![0, 3, 0, 1, 5, 6, 7, 8]);
        let turned = sliced(pads, [vec![-1], vec![i64::MIN + 1]], vec![0], Some(vec![-1])).unwrap();
        assert_eq!(turned, (vec![4, 2], vec![7, 8, 5, 6, 0, 1, 0, 3]));
        assert_eq!(transposed(turned, Some(&[1, 0])), Some((vec![2, 4], vec![7, 5, 0, 0, 8, 6, 1, 3])));
        let some = sliced((vec![5], vec![1, 2, 3, 4, 5]), [vec![1], vec![-1]], vec![0], None);
        assert_eq!(some, Some((vec![3], vec![2, 3, 4])));
        let every = sliced((vec![5], vec![1, 2, 3, 4, 5]), [vec![9], vec![i64::MIN]], vec![0], Some(vec![-2]));
        assert_eq!(every, Some((vec![3], vec![5, 3, 1])));
        assert_eq!(sliced((vec![2], vec![1, 2]), [vec![0], vec![2]], vec![0], Some(vec![0])), None, "no step");
    }

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
