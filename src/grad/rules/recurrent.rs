//! Recurrent layers: backpropagation through time.
//!
//! The layer's node stays as it is. Its output has the hidden state before each step, so the gates of all steps are computed
//! again in two products over the whole sequence, without a loop; only an LSTM's cell needs one, of two elementwise nodes.
//! With the gates, every factor of the way back is known before it is gone, so that one product and a few elementwise nodes
//! a step are left for the loop, ONNX's `Scan`. The gradients of the weights are products over the whole sequence again.
//!
//! `DynamicQuantizeLSTM`, which rounds its weights, inputs and states to 8 bits, has the gradient of an LSTM with the weights as they
//! were rounded, at the hidden states that the node gave.
//!
//! Formulas and the order of the gates: ONNX's specification of `LSTM`, `GRU` and `RNN`.

use super::linear::product;
use crate::grad::{At, Grads};
use crate::graph::{Attr, DType, Node, Steps, Tensor, Val};
use std::cell::OnceCell;

/// What an attribute or input of the node stands in the way of a gradient with; `None` where nothing does.
pub fn refusal(node: &Node) -> Option<String> {
    let export =
        "export the layer without it, or train only what comes after it with a smaller setting `train = last:N`";
    let set = |name: &str| node.int(name, 0) != 0;
    if node.attributes.contains_key("clip") {
        return Some(format!("attribute clip cuts values off inside of its steps; {export}"));
    }
    if set("layout") {
        return Some(format!(
            "attribute layout puts the batch first, which ONNX Runtime's CPU kernel does not run either; {export}"
        ));
    }
    if set("input_forget") {
        return Some(format!("attribute input_forget ties two of its gates; {export}"));
    }
    let lstm = is_lstm(node);
    if lstm && node.inputs.get(7).copied().flatten().is_some() {
        return Some(format!("input P lets its gates look at the cell (peepholes); {export}"));
    }
    let unknown = activations(node).into_iter().enumerate().find(|(index, name)| {
        let known: &[&str] = match node.op.as_str() {
            _ if lstm => [&["sigmoid"], &["tanh"], &["tanh"]][index % 3],
            "GRU" => [&["sigmoid"], &["tanh"]][index % 2],
            _ => &["tanh", "relu"],
        };
        !known.contains(&name.as_str())
    });
    unknown.map(|(_, name)| {
        format!(
            "attribute activations names `{name}`, where only the operator's own activations have a gradient; {export}"
        )
    })
}

fn is_lstm(node: &Node) -> bool {
    ["LSTM", "DynamicQuantizeLSTM"].contains(&node.op.as_str())
}

/// The names of the activations, in lower case: ONNX Runtime takes them in any.
fn activations(node: &Node) -> Vec<String> {
    match node.attributes.get("activations") {
        Some(Attr::Strs(names)) => names.iter().map(|name| name.to_lowercase()).collect(),
        _ => Vec::new(),
    }
}

/// One direction of a layer. Sequences are `[steps, batch, …]`, states `[batch, hidden]`, rows `[steps · batch, …]`.
struct Layer<'n, 'a, 'b> {
    n: &'n At<'a, 'b>,
    /// Which of the directions, of how many.
    direction: (usize, usize),
    hidden: i64,
    reverse: bool,
    /// `[steps, batch, 1]`, true where a sample's sequence has not ended; `None` where all are as long as the input.
    live: Option<Val<'b>>,
    made: Made<'b>,
}

/// What is written once for a direction.
#[derive(Default)]
struct Made<'b> {
    /// `[gates · hidden, inputs]` and `[gates · hidden, hidden]`.
    weights: [OnceCell<Val<'b>>; 2],
    zero: OnceCell<Val<'b>>,
    given: OnceCell<Val<'b>>,
    previous: OnceCell<Val<'b>>,
}

/// What comes back through one direction.
struct Back<'b> {
    /// The gradient of what the inputs' product gives to the gates: `[steps, batch, gates · hidden]`.
    gates: Val<'b>,
    /// That of what the states' product gives to them.
    inner: Val<'b>,
    /// What the last gate's product multiplies in place of the state, if it is something else.
    reset: Option<Val<'b>>,
    /// The gradients of the first states.
    states: Vec<Val<'b>>,
}

type BackFn = for<'n, 'a, 'b> fn(&Layer<'n, 'a, 'b>) -> Result<Back<'b>, String>;

/// i, o, f = σ(x·Wᵀ + h·Rᵀ + b), g = tanh(…);  c′ = f∘c + i∘g;  h′ = o∘tanh(c′)
///
/// With dh′ and dc = dc′ + dh′∘o∘(1 − tanh²(c′)), what the gates get is di = dc∘g, do = dh′∘tanh(c′), df = dc∘c, dg = dc∘i, each
/// times its own slope; dh = d(gates)·R and dc∘f go to the step before.
pub fn lstm<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    through_time(n, |layer| {
        let from_inputs = layer.product(layer.n.x(0), layer.weight(1), layer.bias(4, Bias::Both));
        let gates = layer.split(layer.product(layer.previous(), layer.weight(2), Some(from_inputs)), 4);
        let [i, o] = [0, 1].map(|gate: usize| gates[gate].sigmoid());
        let (f, g) = (layer.unless_ended(gates[2].sigmoid(), 1.0), gates[3].tanh());
        let first = layer.first(6).unwrap_or_else(|| layer.zero());
        let added = layer.unless_ended(i * g, 0.0);
        let over = Steps { states: &[first], sequences: &[f, added], whole: &[], backwards: layer.reverse };
        let cells = layer.n.builder().scan(over, |cell, x, _| {
            let next = x[0] * cell[0] + x[1];
            (vec![next], vec![next])
        })[1];
        let (before, reached) = (layer.before(cells, first), cells.tanh());
        let to_cell = layer.unless_ended(o * (1.0 - reached * reached), 0.0);
        let slopes = [g * i * (1.0 - i), reached * o * (1.0 - o), before * f * (1.0 - f), i * (1.0 - g * g)];
        let slopes = layer.unless_ended(joined(&slopes), 0.0);
        let back = layer.backward_step(2, &[slopes, to_cell, f], &[layer.weight(2)], |d, x, whole| {
            let cell = d[1] + d[0] * x[1];
            let gates = joined(&[cell, d[0], cell, cell]) * x[0];
            (vec![gates.matmul(whole[0]), cell * x[2]], vec![gates])
        });
        Ok(Back { gates: back[2], inner: back[2], reset: None, states: back[..2].to_vec() })
    })
}

/// z, r = σ(x·Wᵀ + h·Rᵀ + b);  n = tanh(x·Wᵀ + (r∘h)·Rᵀ + b), or tanh(x·Wᵀ + b + r∘(h·Rᵀ + b)) with linear_before_reset;
/// h′ = (1 − z)∘n + z∘h
pub fn gru<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    through_time(n, |layer| {
        if layer.n.node().int("linear_before_reset", 0) != 0 { reset_after(layer) } else { reset_before(layer) }
    })
}

/// With q = h·Rᵀ + b of the third gate: dn = dh′∘(1 − z)∘(1 − n²), dq = dn∘r, dr = dn∘q∘r∘(1 − r), dz = dh′∘(h − n)∘z∘(1 − z)
fn reset_after<'b>(layer: &Layer<'_, '_, 'b>) -> Result<Back<'b>, String> {
    let hidden = layer.previous();
    let of_inputs = layer.split(layer.product(layer.n.x(0), layer.weight(1), layer.bias(3, Bias::OfInputs)), 3);
    let of_states = layer.split(layer.product(hidden, layer.weight(2), layer.bias(3, Bias::OfStates)), 3);
    let [z, r] = [0, 1].map(|gate: usize| (of_inputs[gate] + of_states[gate]).sigmoid());
    let (z, q) = (layer.unless_ended(z, 1.0), of_states[2]);
    let new = (of_inputs[2] + r * q).tanh();
    // Where a sequence has ended, 1 − z is zero, and all slopes with it.
    let slope = (1.0 - z) * (1.0 - new * new);
    let slopes = joined(&[(hidden - new) * z * (1.0 - z), slope * q * r * (1.0 - r), slope * r]);
    let back = layer.backward_step(1, &[slopes, z], &[layer.weight(2)], |d, x, whole| {
        let gates = joined(&[d[0], d[0], d[0]]) * x[0];
        (vec![d[0] * x[1] + gates.matmul(whole[0])], vec![gates, d[0]])
    });
    let two = 2 * layer.hidden;
    let gates = joined(&[back[1].slice(&[0], &[two], &[2]), back[2] * slope]);
    Ok(Back { gates, inner: back[1], reset: None, states: vec![back[0]] })
}

/// With s = dn·R of the third gate: dn = dh′∘(1 − z)∘(1 − n²), dr = s∘h∘r∘(1 − r), dz = dh′∘(h − n)∘z∘(1 − z), and dh has s∘r, too.
fn reset_before<'b>(layer: &Layer<'_, '_, 'b>) -> Result<Back<'b>, String> {
    let (hidden, two) = (layer.previous(), 2 * layer.hidden);
    let of_inputs = layer.product(layer.n.x(0), layer.weight(1), layer.bias(3, Bias::Both));
    let (both, last) = (layer.weight(2).slice(&[0], &[two], &[0]), layer.weight(2).slice(&[two], &[i64::MAX], &[0]));
    let of_states = layer.split(layer.product(hidden, both, None), 2);
    let of_inputs = layer.split(of_inputs, 3);
    let [z, r] = [0, 1].map(|gate: usize| (of_inputs[gate] + of_states[gate]).sigmoid());
    let z = layer.unless_ended(z, 1.0);
    let reset = r * hidden;
    let new = (of_inputs[2] + layer.stacked(layer.product(reset, last, None), layer.hidden)).tanh();
    let (of_z, of_n) = ((hidden - new) * z * (1.0 - z), (1.0 - z) * (1.0 - new * new));
    let back = layer.backward_step(1, &[of_z, of_n, reset * (1.0 - r), r, z], &[both, last], |d, x, whole| {
        let new = d[0] * x[1];
        let reset = new.matmul(whole[1]);
        let two = joined(&[d[0] * x[0], reset * x[2]]);
        (vec![d[0] * x[4] + reset * x[3] + two.matmul(whole[0])], vec![joined(&[two, new])])
    });
    Ok(Back { gates: back[1], inner: back[1], reset: Some(reset), states: vec![back[0]] })
}

/// h′ = φ(x·Wᵀ + h·Rᵀ + b), φ = tanh or max(·, 0), whose slope is known from h′
pub fn rnn<'b>(n: &At<'_, 'b>) -> Grads<'b> {
    through_time(n, |layer| {
        let y = layer.given();
        let names = activations(layer.n.node());
        let rectified = names.get(layer.direction.0).is_some_and(|name| name == "relu");
        let slope = if rectified { y.greater(y.scalar_like(0.0)).cast(y.dtype()) } else { 1.0 - y * y };
        let slope = layer.unless_ended(slope, 0.0);
        let back = layer.backward_step(1, &[slope], &[layer.weight(2)], |d, x, whole| {
            let gate = d[0] * x[0];
            (vec![gate.matmul(whole[0])], vec![gate])
        });
        Ok(Back { gates: back[1], inner: back[1], reset: None, states: vec![back[0]] })
    })
}

/// Which of the two biases of each gate: that of the inputs' product, that of the states' product, or their sum.
#[derive(Clone, Copy, PartialEq)]
enum Bias {
    OfInputs,
    OfStates,
    Both,
}

impl<'n, 'a, 'b> Layer<'n, 'a, 'b> {
    fn new(n: &'n At<'a, 'b>, direction: (usize, usize), hidden: i64) -> Self {
        let reverse = n.node().str("direction", "forward") == "reverse" || direction.0 == 1;
        let mut layer = Self { n, direction, hidden, reverse, live: None, made: Made::default() };
        // Step t of a sequence of `length` steps is alive where t < length.
        layer.live = n.has(4).then(|| layer.before_end(0));
        layer
    }

    /// `[steps, batch, 1]`: whether step t + `ahead` is one of the sample's sequence.
    fn before_end(&self, ahead: i64) -> Val<'b> {
        let b = self.n.builder();
        let int = |value| b.constant(Tensor::from_i64(&[], &[value]));
        let steps = self.n.x(0).shape().gather(int(0), 0);
        let numbers = b.op("Range", &[int(ahead), steps + int(ahead), int(1)], &[]);
        numbers.unsqueeze(&[1]).less(self.n.x(4).cast(DType::Int64)).unsqueeze(&[2])
    }

    /// The direction's part of a value that has one for each in dimension `axis`.
    fn part(&self, value: Val<'b>, axis: i64) -> Val<'b> {
        match self.direction {
            (_, 1) => value.squeeze(&[axis]),
            (index, _) => value.gather(self.n.builder().constant(Tensor::from_i64(&[], &[index as i64])), axis),
        }
    }

    /// W (input 1) or R (input 2).
    fn weight(&self, input: usize) -> Val<'b> {
        *self.made.weights[input - 1].get_or_init(|| match self.n.dtype(input).is_float() {
            true => self.part(self.n.x(input), 0),
            false => self.dequantised(input),
        })
    }

    /// The same of integers, which stand the other way: `scale · (integers − zero)`, of the whole or of each gate's row.
    fn dequantised(&self, input: usize) -> Val<'b> {
        let whole = |input| self.part(self.n.x_again(input), 0).cast(DType::Float);
        let (scale, zero) = (self.part(self.n.x(6 + 2 * input), 0), whole(7 + 2 * input));
        ((whole(input) - zero) * scale).transpose(&[1, 0])
    }

    fn bias(&self, gates: i64, which: Bias) -> Option<Val<'b>> {
        let all = self.n.has(3).then(|| self.part(self.n.x(3), 0))?;
        let middle = gates * self.hidden;
        let half = |from: i64, to: i64| all.slice(&[from], &[to], &[0]);
        Some(match which {
            Bias::OfInputs => half(0, middle),
            Bias::OfStates => half(middle, i64::MAX),
            Bias::Both => half(0, middle) + half(middle, i64::MAX),
        })
    }

    /// A first state, where the node has one.
    fn first(&self, input: usize) -> Option<Val<'b>> {
        self.n.has(input).then(|| self.part(self.n.x(input), 0))
    }

    /// A state of zeros.
    fn zero(&self) -> Val<'b> {
        *self.made.zero.get_or_init(|| {
            let (b, hidden) = (self.n.builder(), self.n.builder().ints(&[self.hidden]));
            let batch = match self.n.fixed(0, 1) {
                Ok(batch) => b.ints(&[batch]),
                Err(_) => self.n.x(0).shape().slice(&[1], &[2], &[0]),
            };
            let zero = Tensor { shape: vec![1], ..Tensor::float_scalar(self.n.dtype(0), 0.0) };
            let sizes = b.op("Concat", &[batch, hidden], &[("axis", Attr::Int(0))]);
            b.op("ConstantOfShape", &[sizes], &[("value", Attr::Tensor(zero))])
        })
    }

    /// The hidden states of all steps, `[steps, batch, hidden]`, which the node is asked for where nobody has.
    fn given(&self) -> Val<'b> {
        *self.made.given.get_or_init(|| {
            let written = self.n.node().writes().next().expect("a gradient came through an output");
            self.part(self.n.builder().output_beside(written, 0), 1)
        })
    }

    /// The hidden state before each step.
    fn previous(&self) -> Val<'b> {
        *self.made.previous.get_or_init(|| {
            let first = self.first(5);
            let before = self.before(self.given(), first.unwrap_or_else(|| self.zero()));
            match first {
                // A sequence that ends early begins with its own last step.
                Some(first) if self.reverse && self.n.has(4) => self.before_end(1).select(before, first),
                _ => before,
            }
        })
    }

    /// The value of the step before, for each step.
    fn before(&self, values: Val<'b>, first: Val<'b>) -> Val<'b> {
        let first = first.unsqueeze(&[0]);
        let parts = match self.reverse {
            false => [first, values.slice(&[0], &[-1], &[0])],
            true => [values.slice(&[1], &[i64::MAX], &[0]), first],
        };
        self.n.builder().op("Concat", &parts, &[("axis", Attr::Int(0))])
    }

    /// `value`, or a constant for samples whose sequence has ended.
    fn unless_ended(&self, value: Val<'b>, otherwise: f64) -> Val<'b> {
        self.live.map_or(value, |live| live.select(value, value.scalar_like(otherwise)))
    }

    /// `values`·`weight`ᵀ + `added`, as rows.
    fn product(&self, values: Val<'b>, weight: Val<'b>, added: Option<Val<'b>>) -> Val<'b> {
        let inputs = [Some(rows(values)), Some(weight), added];
        let inputs = if added.is_some() { &inputs[..] } else { &inputs[..2] };
        self.n.builder().node("Gemm", inputs, 1, &[("transB", Attr::Int(1))])[0]
    }

    /// Rows as a sequence.
    fn stacked(&self, rows: Val<'b>, width: i64) -> Val<'b> {
        match (self.n.fixed(0, 0), self.n.fixed(0, 1)) {
            (Ok(steps), _) => rows.reshape_to(&[steps, -1, width]),
            (_, Ok(batch)) => rows.reshape_to(&[-1, batch, width]),
            _ => {
                let (b, sizes) = (self.n.builder(), self.n.x(0).shape().slice(&[0], &[2], &[0]));
                rows.reshape(b.op("Concat", &[sizes, b.ints(&[width])], &[("axis", Attr::Int(0))]))
            }
        }
    }

    /// The gates of rows, each a sequence.
    fn split(&self, rows: Val<'b>, gates: usize) -> Vec<Val<'b>> {
        let (b, all) = (self.n.builder(), self.stacked(rows, self.hidden * gates as i64));
        b.node("Split", &[Some(all), Some(b.ints(&vec![self.hidden; gates]))], gates, &[("axis", Attr::Int(2))])
    }

    /// The way back through all steps. `step` takes the gradients of the `states` that a step gave (that of the hidden state
    /// with what came from above), the elements of `factors` and the `whole` values; it gives the gradients of the states that
    /// the step took, and what is wanted of every step.
    fn backward_step(
        &self,
        states: usize,
        factors: &[Val<'b>],
        whole: &[Val<'b>],
        step: impl for<'i> Fn(&[Val<'i>], &[Val<'i>], &[Val<'i>]) -> (Vec<Val<'i>>, Vec<Val<'i>>),
    ) -> Vec<Val<'b>> {
        let from_last = |state: usize| self.n.dy_if(1 + state).map_or_else(|| self.zero(), |dy| self.part(dy, 0));
        let last: Vec<Val<'b>> = (0..states).map(from_last).collect();
        let from_above = self.n.dy_if(0).map(|dy| self.unless_ended(self.part(dy, 1), 0.0));
        // Where a sequence has ended, the gradient of its last state waits for it; a GRU's z is 1 there and hands it on.
        let ended = self.live.filter(|_| self.n.node().op != "GRU").map(|live| live.unary("Not").cast(self.n.dtype(0)));
        let sequences: Vec<Val<'b>> = factors.iter().copied().chain(from_above).chain(ended).collect();
        let over = Steps { states: &last, sequences: &sequences, whole, backwards: !self.reverse };
        let (above, ended) = (from_above.map(|_| factors.len()), ended.map(|_| sequences.len() - 1));
        self.n.builder().scan(over, |states, elements, whole| {
            let mut states = states.to_vec();
            if let Some(above) = above {
                states[0] = states[0] + elements[above];
            }
            let (mut next, given) = step(&states, elements, whole);
            if let Some(ended) = ended {
                next[0] = next[0] + states[0] * elements[ended];
            }
            (next, given)
        })
    }

    /// The gradient of R: `[gates · hidden, hidden]`.
    fn recurrence_gradient(&self, back: &Back<'b>) -> Val<'b> {
        let Some(reset) = back.reset else { return weight_gradient(back.inner, self.previous()) };
        let two = 2 * self.hidden;
        let first = weight_gradient(back.inner.slice(&[0], &[two], &[2]), self.previous());
        let last = weight_gradient(back.inner.slice(&[two], &[i64::MAX], &[2]), reset);
        self.n.builder().op("Concat", &[first, last], &[("axis", Attr::Int(0))])
    }
}

/// A sequence's steps and samples in one dimension.
fn rows(values: Val<'_>) -> Val<'_> {
    // Every size but the first two is fixed: the weights' are.
    values.builder().op("Flatten", &[values], &[("axis", Attr::Int(2))])
}

/// Σ over steps and samples of gatesᵀ·values
fn weight_gradient<'b>(gates: Val<'b>, values: Val<'b>) -> Val<'b> {
    product(rows(gates), true, rows(values), false, 1.0)
}

/// Values beside each other in the last dimension.
fn joined<'b>(values: &[Val<'b>]) -> Val<'b> {
    values[0].builder().op("Concat", values, &[("axis", Attr::Int(-1))])
}

/// What the directions give, as the gradients of the node's inputs.
fn through_time<'b>(n: &At<'_, 'b>, back: BackFn) -> Grads<'b> {
    let hidden = n.fixed(2, if n.dtype(2).is_float() { 2 } else { 1 })?;
    let directions = if n.node().str("direction", "forward") == "bidirectional" { 2 } else { 1 };
    let layers: Vec<Layer<'_, '_, 'b>> =
        (0..directions).map(|index| Layer::new(n, (index, directions), hidden)).collect();
    let backs = layers.iter().map(back).collect::<Result<Vec<_>, _>>()?;
    let both = || layers.iter().zip(&backs);
    // Of each direction one, in a new first dimension.
    let stack = |parts: Vec<Val<'b>>| {
        let parts: Vec<_> = parts.into_iter().map(|part| part.unsqueeze(&[0])).collect();
        if parts.len() == 1 { parts[0] } else { n.builder().op("Concat", &parts, &[("axis", Attr::Int(0))]) }
    };
    let mut found = vec![None; n.inputs()];
    if n.needs(0) {
        // A product of `[steps, batch, …]` with one matrix is one product of rows.
        found[0] = both().map(|(layer, back)| back.gates.matmul(layer.weight(1))).reduce(|sum, dx| sum + dx);
    }
    if n.needs(1) {
        found[1] = Some(stack(backs.iter().map(|back| weight_gradient(back.gates, n.x(0))).collect()));
    }
    if n.needs(2) {
        found[2] = Some(stack(both().map(|(layer, back)| layer.recurrence_gradient(back)).collect()));
    }
    if n.needs(3) {
        let bias = |back: &Back<'b>| {
            let sum = |value: Val<'b>| value.reduce_sum(&[0, 1], false);
            let gates = sum(back.gates);
            joined(&[gates, if back.inner.id() == back.gates.id() { gates } else { sum(back.inner) }])
        };
        found[3] = Some(stack(backs.iter().map(bias).collect()));
    }
    for (input, state) in [(5, 0), (6, 1)] {
        if n.needs(input) {
            found[input] = Some(stack(backs.iter().map(|back| back.states[state]).collect()));
        }
    }
    Ok(found)
}
