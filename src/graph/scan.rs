//! Loops over the first dimension: ONNX's `Scan`, whose step is written as maths, too.

use super::{Attr, Builder, Graph, TensorType, Val, ValueId};
use std::sync::Arc;

/// What a loop goes over.
#[derive(Clone, Copy)]
pub struct Steps<'a, 'b> {
    /// What each step hands to the next, as it is before the first.
    pub states: &'a [Val<'b>],
    /// Values of which each step sees one element of the first dimension: `[steps, …]`.
    pub sequences: &'a [Val<'b>],
    /// Values that every step sees as they are.
    pub whole: &'a [Val<'b>],
    /// Whether the last element comes first. What the steps give lies in the sequences' order all the same.
    pub backwards: bool,
}

impl Builder {
    /// Appends a loop: `step` makes, from the states, the elements and the whole values, the next states and what the step
    /// gives. The loop's values are the last states, then for each value of a step all of them, `[steps, …]`.
    pub fn scan<'b>(
        &'b self,
        over: Steps<'_, 'b>,
        step: impl for<'i> Fn(&[Val<'i>], &[Val<'i>], &[Val<'i>]) -> (Vec<Val<'i>>, Vec<Val<'i>>),
    ) -> Vec<Val<'b>> {
        let name = format!("{}scan_{}", self.prefix(), self.graph().nodes.len());
        let body = Builder::new(Graph::new(&name, self.graph().opset), &format!("{name}/"));
        let like = |value: &Val<'b>| TensorType { dtype: value.dtype(), shape: None };
        // A sub-graph's first values stand for what it captures.
        let whole: Vec<Val<'_>> = over.whole.iter().map(|value| body.value("whole", like(value))).collect();
        let states: Vec<Val<'_>> = over.states.iter().map(|value| body.inner_input("state", like(value))).collect();
        let elements: Vec<Val<'_>> =
            over.sequences.iter().map(|value| body.inner_input("element", like(value))).collect();
        let (next, given) = step(&states, &elements, &whole);
        assert_eq!(next.len(), states.len(), "a step hands on as many states as it takes");
        let outputs = states.len() + given.len();
        body.inner_outputs(next.into_iter().chain(given).collect());
        let direction = |values: usize| Attr::Ints(vec![over.backwards.into(); values]);
        let attributes = [
            ("num_scan_inputs", Attr::Int(over.sequences.len() as i64)),
            ("scan_input_directions", direction(over.sequences.len())),
            ("scan_output_directions", direction(outputs - over.states.len())),
            (
                "body",
                Attr::Body {
                    captures: over.whole.iter().map(|value| value.id()).collect(),
                    graph: Arc::new(body.finish()),
                },
            ),
        ];
        let inputs: Vec<_> = over.states.iter().chain(over.sequences).map(|value| Some(*value)).collect();
        self.node("Scan", &inputs, outputs, &attributes)
    }

    fn value(&self, name: &str, ty: TensorType) -> Val<'_> {
        let id = self.change(|graph| graph.add_value(&format!("{}/{name}", graph.name), Some(ty)));
        self.val(id)
    }

    fn inner_input(&self, name: &str, ty: TensorType) -> Val<'_> {
        let id = self.change(|graph| graph.add_input(&format!("{}/{name}", graph.name), ty));
        self.val(id)
    }

    /// A sub-graph's outputs. A value that is given twice, or as it came, needs a node for it.
    fn inner_outputs(&self, values: Vec<Val<'_>>) {
        let mut outputs: Vec<ValueId> = Vec::with_capacity(values.len());
        for value in values {
            let written = self.graph().nodes.iter().any(|node| node.writes().any(|id| id == value.id()));
            let alone = written && !outputs.contains(&value.id());
            outputs.push(if alone { value.id() } else { value.unary("Identity").id() });
        }
        self.change(|graph| graph.outputs = outputs);
    }
}
