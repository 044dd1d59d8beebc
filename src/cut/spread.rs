//! Dimensions of 1 that the standard spreads over all samples or positions and that ONNX Runtime 1.32 refuses to, written out by an `Expand`.

use crate::graph::{Attr, Builder, Dim, Graph, Node, ValueId};

/// An input of a node whose dimension `axis`, of `rank`, is to be as long as a dimension of the node's first input.
struct Short {
    node: usize,
    input: usize,
    axis: usize,
    rank: usize,
    /// Which dimension of the first input.
    like: i64,
}

/// Spreads what PyTorch's exporter writes with a dimension of 1 at operator sets 23 and 24: the caches of `RotaryEmbedding` over the samples
/// (`[1, sequence, half]`), the mask of `Attention` over the queries (`[batch, 1, 1, keys]`). The graph must be typed; gives whether it
/// changed, and then is to be typed again.
pub fn spread(graph: &mut Graph) -> bool {
    let found: Vec<Short> =
        graph.nodes.iter().enumerate().flat_map(|(index, node)| short(graph, index, node)).collect();
    for short in &found {
        put_between(graph, short);
    }
    if !found.is_empty() {
        graph.sort().expect("an Expand before a node makes no cycle");
    }
    !found.is_empty()
}

fn short(graph: &Graph, index: usize, node: &Node) -> Vec<Short> {
    let dims = |input: usize| graph.ty(node.inputs.get(input).copied().flatten()?)?.shape.as_deref();
    let Some(first) = dims(0).filter(|_| node.domain.is_empty()) else { return Vec::new() };
    let is_one = |dim: Option<&Dim>| dim == Some(&Dim::Fixed(1));
    match node.op.as_str() {
        "RotaryEmbedding" if dims(3).is_none() && !is_one(first.first()) => {
            let cache = |input: usize| dims(input).filter(|dims| dims.len() == 3 && is_one(dims.first()));
            let short = |input| cache(input).map(|_| Short { node: index, input, axis: 0, rank: 3, like: 0 });
            [1, 2].into_iter().filter_map(short).collect()
        }
        "Attention" => {
            // [batch, heads, queries, size] or [batch, queries, heads · size]
            let like = if first.len() == 4 { 2 } else { 1 };
            let mask = dims(3).filter(|mask| mask.len() > 1 && is_one(mask.get(mask.len() - 2)));
            let wide = mask.filter(|_| !is_one(first.get(like)));
            let short = |mask: &[Dim]| Short {
                node: index,
                input: 3,
                axis: mask.len() - 2,
                rank: mask.len(),
                like: like as i64,
            };
            wide.map(short).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn put_between(graph: &mut Graph, short: &Short) {
    let read = |graph: &Graph, input: usize| graph.nodes[short.node].inputs[input].expect("its type was seen");
    let (first, value): (ValueId, ValueId) = (read(graph, 0), read(graph, short.input));
    let builder = Builder::new(std::mem::take(graph), "edgetune.spread/");
    let sizes = |value: ValueId, start: i64, end: i64| {
        builder.op("Shape", &[builder.val(value)], &[("start", Attr::Int(start)), ("end", Attr::Int(end))])
    };
    let axis = short.axis as i64;
    let parts =
        [sizes(value, 0, axis), sizes(first, short.like, short.like + 1), sizes(value, axis + 1, short.rank as i64)];
    let shape = builder.op("Concat", &parts, &[("axis", Attr::Int(0))]);
    let whole = builder.val(value).expand(shape).id();
    *graph = builder.finish();
    graph.nodes[short.node].inputs[short.input] = Some(whole);
}
