//! Walks over a graph: order, reachability, pruning, extraction of a part.

use super::{Graph, Node, ValueId};
use std::collections::{BTreeMap, HashMap, HashSet};

impl Graph {
    /// The index of the node that writes each value; graph inputs and initializers have none.
    pub fn producers(&self) -> HashMap<ValueId, usize> {
        self.nodes.iter().enumerate().flat_map(|(index, node)| node.writes().map(move |id| (id, index))).collect()
    }

    /// The indices of the nodes that read each value.
    pub fn consumers(&self) -> HashMap<ValueId, Vec<usize>> {
        let mut readers: HashMap<ValueId, Vec<usize>> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for id in node.reads() {
                let indices = readers.entry(id).or_default();
                if indices.last() != Some(&index) {
                    indices.push(index);
                }
            }
        }
        readers
    }

    /// All values that depend on one of `roots`, the roots included.
    pub fn descendants(&self, roots: impl IntoIterator<Item = ValueId>) -> HashSet<ValueId> {
        let mut reached: HashSet<ValueId> = roots.into_iter().collect();
        for node in &self.nodes {
            if node.reads().any(|id| reached.contains(&id)) {
                reached.extend(node.writes());
            }
        }
        reached
    }

    /// All values that one of `roots` depends on, the roots included.
    pub fn ancestors(&self, roots: impl IntoIterator<Item = ValueId>) -> HashSet<ValueId> {
        let mut reached: HashSet<ValueId> = roots.into_iter().collect();
        for node in self.nodes.iter().rev() {
            if node.writes().any(|id| reached.contains(&id)) {
                reached.extend(node.reads());
            }
        }
        reached
    }

    /// Brings the nodes into topological order, keeping the given order where it is free.
    ///
    /// # Errors
    /// The name of a node on a cycle, or that reads a value nobody writes.
    pub fn sort(&mut self) -> Result<(), String> {
        let producers = self.producers();
        let mut pending: Vec<usize> = Vec::with_capacity(self.nodes.len());
        let mut readers: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let before: HashSet<usize> = node.reads().filter_map(|id| producers.get(&id).copied()).collect();
            pending.push(before.len());
            for producer in before {
                readers.entry(producer).or_default().push(index);
            }
        }
        let mut ready: std::collections::BTreeSet<usize> = (0..pending.len()).filter(|i| pending[*i] == 0).collect();
        let mut order = Vec::with_capacity(pending.len());
        while let Some(index) = ready.pop_first() {
            order.push(index);
            for reader in readers.get(&index).into_iter().flatten() {
                pending[*reader] -= 1;
                if pending[*reader] == 0 {
                    ready.insert(*reader);
                }
            }
        }
        if let Some(index) = (0..pending.len()).find(|index| pending[*index] > 0) {
            return Err(self.nodes[index].name.clone());
        }
        let mut nodes: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|index| nodes[index].take()).collect();
        Ok(())
    }

    /// Puts the nodes that depend on no graph input (weights widened from fp16, dequantised, transposed) before all others,
    /// in their order. ONNX Runtime runs the inputs of a node beginning with the one written last, so it then makes each such
    /// value just before it is used; otherwise it makes all of them before the first other node, and they live together.
    pub fn constants_first(&mut self) {
        let fed = self.descendants(self.inputs.iter().copied());
        let is_fed = |node: &Node| node.writes().any(|id| fed.contains(&id));
        self.nodes.sort_by_key(is_fed);
    }

    /// Removes nodes and initializers that no output depends on. Graph inputs stay.
    pub fn prune(&mut self) {
        let needed = self.ancestors(self.outputs.iter().copied());
        self.nodes.retain(|node| node.writes().any(|id| needed.contains(&id)));
        self.initializers.retain(|id, _| needed.contains(id));
    }

    /// A new graph with only the nodes whose outputs are needed for `outputs` when `inputs` are fed, values renumbered.
    /// Names and types are kept. Initializers that the part reads come along (their bytes are shared); what is in
    /// `inputs` is an input of the part even where this graph has it as an initializer or node output.
    pub fn extract(&self, name: &str, inputs: &[ValueId], outputs: &[ValueId]) -> Graph {
        let fed: HashSet<ValueId> = inputs.iter().copied().collect();
        let mut needed: HashSet<ValueId> = outputs.iter().copied().collect();
        let mut kept: Vec<&Node> = Vec::new();
        for node in self.nodes.iter().rev() {
            if node.writes().any(|id| needed.contains(&id) && !fed.contains(&id)) {
                needed.extend(node.reads());
                kept.push(node);
            }
        }
        let mut part = Graph::new(name, self.opset);
        part.domains = self.domains.clone();
        let mut ids: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        let mut import = |part: &mut Graph, id: ValueId| {
            *ids.entry(id).or_insert_with(|| {
                let value = &self.values[id.index()];
                part.add_value(&value.name, value.ty.clone())
            })
        };
        for id in inputs {
            let new = import(&mut part, *id);
            part.inputs.push(new);
        }
        for (id, tensor) in &self.initializers {
            if needed.contains(id) && !fed.contains(id) {
                let new = import(&mut part, *id);
                part.initializers.insert(new, tensor.clone());
            }
        }
        for node in kept.into_iter().rev() {
            let mut copy = node.clone();
            for id in copy.inputs.iter_mut().chain(copy.outputs.iter_mut()).flatten() {
                *id = import(&mut part, *id);
            }
            for attribute in copy.attributes.values_mut() {
                for id in attribute.captures_mut() {
                    *id = import(&mut part, *id);
                }
            }
            part.nodes.push(copy);
        }
        for id in outputs {
            let new = import(&mut part, *id);
            part.outputs.push(new);
        }
        part
    }
}
