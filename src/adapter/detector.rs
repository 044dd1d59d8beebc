//! A detector's raw head: where in a graph scores and edges of boxes are made, other classes there, and both as one output.
//!
//! What is known are heads without anchors whose edges are distributions over distances (generalised focal loss, Li et al. 2020,
//! arXiv 2006.04388), level by level: an output of scores behind a sigmoid, `[batch, cells, classes]`, and one of distributions,
//! `[batch, cells, 4 · bins]`, made by the last convolutions, of one that is split or of two. PicoDet is such. YOLOv8 and
//! YOLO11 have the same below one output of decoded boxes, which is looked through.

use super::Error;
use super::head::{HeadChoice, Placed, resize};
use crate::cut;
use crate::graph::{Attr, Dim, Graph, Node, Tensor, ValueId};
use crate::order::Order;
use std::collections::{HashMap, HashSet};

/// Objects that a level is thought to have before anything is known of its classes, of all classes together: their shares of the cells are
/// the first scores (Lin et al. 2017, RetinaNet, section 4.1, with a share that follows the number of cells).
const OBJECTS: f32 = 5.0;

/// Channels of a convolution's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    /// The convolution's node.
    node: usize,
    /// The first channel.
    first: u64,
    /// How many.
    count: u64,
}

/// Scores and edges of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    /// Columns and rows.
    size: [u32; 2],
    scores: Part,
    edges: Part,
}

/// A detector's raw head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detector {
    levels: Vec<Level>,
    /// Classes that have a score each.
    pub classes: u64,
    /// Numbers that tell one edge.
    pub bins: usize,
    /// Width and height of the model's input.
    pub input: [u32; 2],
    /// The base's first output, which deltas name.
    output: ValueId,
}

impl Detector {
    /// The raw head that a graph's outputs come from.
    ///
    /// # Errors
    /// [`Error::Head`] with what is looked for, where there is none.
    pub fn find(graph: &Graph) -> Result<Self, Error> {
        let refuse = |id: Option<&ValueId>, reason: &str| Error::Head {
            output: id.map_or("(none)".into(), |id| graph.value_name(*id).to_string()),
            ty: id.and_then(|id| graph.ty(*id)).map_or("type unknown".into(), ToString::to_string),
            reason: format!(
                "{reason}; boxes are learned on a detector's raw outputs before any box is decoded or dropped: for each level scores \
                 behind a sigmoid [batch, cells, classes] and distributions of edges [batch, cells, 4 · bins], of a fixed image size, \
                 as of PicoDet exported without post-processing, or YOLOv8's and YOLO11's output without nms"
            ),
        };
        let producers = graph.producers();
        let first = graph.outputs.first();
        let mut levels = match graph.outputs[..] {
            [boxes] => below_boxes(graph, &producers, boxes).ok_or_else(|| refuse(first, "it is made otherwise"))?,
            _ => pairs(graph, &producers).map_err(|(id, reason)| refuse(id.as_ref().or(first), reason))?,
        };
        levels.order_by_key(|level| std::cmp::Reverse(level.size));
        let (classes, edge) = (levels[0].scores.count, levels[0].edges.count);
        let alike = |level: &Level| level.scores.count == classes && level.edges.count == edge;
        if !levels.iter().all(alike) || edge % 4 != 0 || edge < 8 {
            return Err(refuse(first, "its levels differ, or a box has no four distributions"));
        }
        let input = image_size(graph).ok_or_else(|| refuse(first, "its image size is open"))?;
        Ok(Self { levels, classes, bins: edge as usize / 4, input, output: graph.outputs[0] })
    }

    /// Columns and rows of each level, the finest first.
    pub fn sizes(&self) -> Vec<[u32; 2]> {
        self.levels.iter().map(|level| level.size).collect()
    }

    /// The value that a delta names.
    pub(super) fn answer(&self) -> ValueId {
        self.output
    }

    /// Gives the head `width` classes, and all levels one output `[batch, cells, width + 4 · bins]` of raw numbers. Rows of edges stay;
    /// rows of classes stay where the head is kept.
    pub(super) fn place(&self, graph: &mut Graph, width: u64, choice: HeadChoice) -> Result<Placed, Error> {
        let had = self.classes;
        let refuse = |reason: &str| Error::Head {
            output: graph.value_name(self.output).into(),
            ty: graph.ty(self.output).map_or("type unknown".into(), ToString::to_string),
            reason: reason.into(),
        };
        let keeps = match choice {
            HeadChoice::Append => {
                return Err(refuse("a detector's head is not appended; use setting `head = replace`"));
            }
            HeadChoice::Keep if had > width => {
                return Err(refuse(
                    "it has more classes than are named; name all with setting `classes`, or use setting `head = replace`",
                ));
            }
            HeadChoice::Keep => true,
            HeadChoice::Replace => false,
            HeadChoice::Auto => had == width,
        };
        let note = match keeps {
            true if had == width => format!("kept: {had} classes"),
            true => format!("kept: {had} classes, and {} new; edges of boxes kept", width - had),
            false => format!("replaced: {had} → {width} classes; edges of boxes kept"),
        };
        let weights =
            self.weights(graph).ok_or_else(|| refuse("a convolution of its head has no weight and bias of numbers"))?;
        let changes = !keeps || had != width;
        if changes {
            self.change(graph, width, if keeps { had } else { 0 });
        }
        let output = self.join(graph, width);
        Ok(Placed { output, weights, fresh: false, must_learn: changes, appended: None, note })
    }

    /// Weights and biases of all levels' convolutions.
    fn weights(&self, graph: &Graph) -> Option<Vec<ValueId>> {
        let mut found = Vec::new();
        for node in self.levels.iter().flat_map(|level| [level.scores.node, level.edges.node]) {
            let inputs = &graph.nodes[node].inputs;
            for id in [inputs.get(1).copied().flatten()?, inputs.get(2).copied().flatten()?] {
                cut::weight_type(graph, id).filter(|(dtype, _)| dtype.is_float())?;
                if !found.contains(&id) {
                    found.push(id);
                }
            }
        }
        Some(found)
    }

    /// Puts `width` rows of classes into the place of the old ones, of which the first `kept` stay.
    fn change(&self, graph: &mut Graph, width: u64, kept: u64) {
        for level in &self.levels {
            let Part { node, first, count } = level.scores;
            let cells = (level.size[0] * level.size[1]) as f32;
            let bias = (OBJECTS / (cells * width as f32)).min(0.5).ln();
            for (input, fresh) in [(1, 0.0), (2, bias)] {
                let Some(id) = graph.nodes[node].inputs[input] else { continue };
                cut::store_as_floats(graph, id);
                let old = graph.initializers[&id].clone();
                let values = old.to_f32().expect("stored as floats");
                let inner = old.shape[1..].iter().product::<u64>() as usize;
                let row = |row: u64| row as usize * inner;
                let new = vec![fresh; row(width - kept)];
                let parts = [&values[..row(first + kept)], &new[..], &values[row(first + count)..]];
                let mut shape = old.shape.clone();
                shape[0] = shape[0] - count + width;
                resize(graph, id, &shape);
                graph.initializers.insert(id, Tensor::from_vec(&shape, parts.concat()));
            }
        }
    }

    /// Lets the base's own outputs go with another number of classes: what splits and shapes the convolutions' outputs has numbers of
    /// the old one. The graph has its old types.
    pub(super) fn refit(&self, graph: &mut Graph, width: u64) -> Result<(), Error> {
        let (had, reached) = (self.classes, self.reached(graph));
        if had == width {
            return Ok(());
        }
        if had == 4 * self.bins as u64 {
            return Err(Error::Head {
                output: graph.value_name(self.output).into(),
                ty: graph.ty(self.output).map_or("type unknown".into(), ToString::to_string),
                reason: "it has as many classes as numbers for the edges, so what belongs to which cannot be told; keep its classes".into(),
            });
        }
        for index in 0..graph.nodes.len() {
            let node = &graph.nodes[index];
            let channels = node.inputs.first().copied().flatten().filter(|id| reached.contains(id));
            let channels = channels.and_then(|id| graph.ty(id)?.shape.as_deref()?.get(1)?.fixed());
            let Some(channels) = channels.filter(|count| [had, had + 4 * self.bins as u64].contains(count)) else {
                continue;
            };
            let (wanted, new) = match node.op.as_str() {
                "Reshape" => (channels as i64, (channels - had + width) as i64),
                "Split" if node.int("axis", 0) == 1 => (had as i64, width as i64),
                _ => continue,
            };
            let values = |values: &[i64]| {
                values.iter().map(|value| if *value == wanted { new } else { *value }).collect::<Vec<_>>()
            };
            if let Some(old) = node.ints("split") {
                let sizes = values(old);
                graph.nodes[index].attributes.insert("split".into(), Attr::Ints(sizes));
            } else if let Some(old) =
                node.inputs.get(1).copied().flatten().and_then(|id| graph.initializers.get(&id)?.to_i64())
            {
                let sizes = values(&old);
                graph.nodes[index].inputs[1] = Some(setting(graph, "sizes", &sizes));
            }
        }
        Ok(())
    }

    /// All values that depend on the convolutions of scores.
    fn reached(&self, graph: &Graph) -> HashSet<ValueId> {
        let outputs = self.levels.iter().flat_map(|level| graph.nodes[level.scores.node].writes());
        let outputs: Vec<ValueId> = outputs.collect();
        graph.descendants(outputs.iter().copied()).into_iter().chain(outputs).collect()
    }

    /// A copy of a graph with all levels as one output of its own classes, and that output: what all layers of the head stand below.
    pub(super) fn joined(&self, graph: &Graph) -> (Graph, ValueId) {
        let mut joined = graph.clone();
        let all = self.join(&mut joined, self.classes);
        (joined, all)
    }

    /// All levels, one behind the other, each cell's scores before its edges.
    pub(super) fn join(&self, graph: &mut Graph, width: u64) -> ValueId {
        let edges = 4 * self.bins as u64;
        let levels: Vec<ValueId> = self
            .levels
            .iter()
            .map(|Level { scores, edges: edge, .. }| {
                if scores.node == edge.node && scores.first == 0 {
                    return cells(graph, scores.node);
                }
                let joint = scores.node == edge.node;
                let all = cells(graph, edge.node);
                let of_scores = if joint { all } else { cells(graph, scores.node) };
                let moved =
                    if joint && edge.first > scores.first { edge.first - scores.count + width } else { edge.first };
                let parts = [part(graph, of_scores, scores.first, width), part(graph, all, moved, edges)];
                append(graph, "Concat", &parts, &[("axis", Attr::Int(2))])
            })
            .collect();
        append(graph, "Concat", &levels, &[("axis", Attr::Int(1))])
    }
}

/// A convolution's output as `[batch, cells, channels]`.
fn cells(graph: &mut Graph, node: usize) -> ValueId {
    let output = graph.nodes[node].outputs[0].expect("a convolution has an output");
    let shape = setting(graph, "cells", &[0, 0, -1]);
    let flat = append(graph, "Reshape", &[output, shape], &[]);
    append(graph, "Transpose", &[flat], &[("perm", Attr::Ints(vec![0, 2, 1]))])
}

/// Appends a node whose name no other has, and gives its output.
fn append(graph: &mut Graph, op: &str, inputs: &[ValueId], attributes: &[(&str, Attr)]) -> ValueId {
    let output = graph.add_value(&format!("edgetune.boxes/{op}"), None);
    let name = graph.value_name(output).to_string();
    let attributes = attributes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    let inputs = inputs.iter().copied().map(Some).collect();
    graph.nodes.push(Node { name, op: op.into(), inputs, outputs: vec![Some(output)], attributes, ..Node::default() });
    output
}

/// Some of the channels.
fn part(graph: &mut Graph, value: ValueId, first: u64, count: u64) -> ValueId {
    let numbers = [("first", first as i64), ("end", (first + count) as i64), ("axis", 2)];
    let [start, end, axis] = numbers.map(|(name, number)| setting(graph, name, &[number]));
    append(graph, "Slice", &[value, start, end, axis], &[])
}

fn setting(graph: &mut Graph, name: &str, values: &[i64]) -> ValueId {
    let id = graph.add_initializer(&format!("edgetune.boxes/{name}"), Tensor::from_i64(&[values.len() as u64], values));
    graph.settings.insert(id);
    id
}

/// What an output is made by.
#[derive(Debug, Clone, Copy)]
struct FoundPart {
    part: Part,
    /// Columns and rows.
    size: [u32; 2],
    /// Whether a sigmoid stands between.
    sigmoid: bool,
}

/// The levels of outputs of scores and outputs of edges.
fn pairs(graph: &Graph, producers: &HashMap<ValueId, usize>) -> Result<Vec<Level>, (Option<ValueId>, &'static str)> {
    let (mut scores, mut edges): (Vec<(ValueId, FoundPart)>, Vec<FoundPart>) = (Vec::new(), Vec::new());
    for id in &graph.outputs {
        let found = below(graph, producers, *id).ok_or((Some(*id), "no convolution makes it"))?;
        if found.sigmoid { scores.push((*id, found)) } else { edges.push(found) }
    }
    if scores.is_empty() || scores.len() != edges.len() {
        return Err((None, "its outputs are no pairs of scores and edges"));
    }
    let level = |(id, score): &(ValueId, FoundPart)| {
        let edge = edges.iter().find(|edge| edge.size == score.size);
        let edge = edge.ok_or((Some(*id), "no output has edges for as many cells"))?;
        Ok(Level { size: score.size, scores: score.part, edges: edge.part })
    };
    scores.iter().map(level).collect()
}

/// The levels of one output of boxes that are decoded already, as YOLOv8 and YOLO11 have it: below it are, for each level, one
/// convolution of scores and one of edges, and a convolution that takes the mean of the distributions.
fn below_boxes(graph: &Graph, producers: &HashMap<ValueId, usize>, boxes: ValueId) -> Option<Vec<Level>> {
    let (mut left, mut seen) = (vec![boxes], HashSet::new());
    let (mut found, mut bins): (Vec<([u32; 2], Part)>, Option<u64>) = (Vec::new(), None);
    while let Some(value) = left.pop() {
        let Some(index) = producers.get(&value).filter(|index| seen.insert(**index)) else { continue };
        let node = &graph.nodes[*index];
        if node.op != "Conv" {
            left.extend(node.reads());
            continue;
        }
        let (_, shape) = cut::weight_type(graph, node.inputs[1]?)?;
        if let [1, count, 1, 1] = *shape
            && node.inputs.get(2).copied().flatten().is_none()
        {
            bins = Some(count);
            left.extend(node.inputs[0]);
            continue;
        }
        found.push((size_of(graph, value)?, Part { node: *index, first: 0, count: shape[0] }));
    }
    let edges = 4 * bins?;
    let of_scores: Vec<&([u32; 2], Part)> = found.iter().filter(|(_, part)| part.count != edges).collect();
    let level = |(size, scores): &&([u32; 2], Part)| {
        let edge = found.iter().find(|(other, part)| other == size && part.count == edges)?;
        Some(Level { size: *size, scores: *scores, edges: edge.1 })
    };
    let levels: Vec<Level> = of_scores.iter().map(level).collect::<Option<_>>()?;
    (!levels.is_empty() && 2 * levels.len() == found.len()).then_some(levels)
}

/// Columns and rows of `[batch, channels, rows, columns]`.
fn size_of(graph: &Graph, value: ValueId) -> Option<[u32; 2]> {
    let [_, _, rows, columns] = graph.ty(value)?.shape.as_deref()? else { return None };
    let side = |dim: &Dim| u32::try_from(dim.fixed()?).ok();
    Some([side(columns)?, side(rows)?])
}

/// Walks from an output to the convolution that makes it, through what only moves numbers.
fn below(graph: &Graph, producers: &HashMap<ValueId, usize>, output: ValueId) -> Option<FoundPart> {
    let (mut value, mut sigmoid, mut channels) = (output, false, None);
    loop {
        let index = *producers.get(&value)?;
        let node = &graph.nodes[index];
        match node.op.as_str() {
            "Conv" => {
                let (first, count) = match channels {
                    Some(channels) => channels,
                    None => (0, graph.ty(value)?.shape.as_deref()?.get(1)?.fixed()?),
                };
                let part = Part { node: index, first, count };
                return Some(FoundPart { part, size: size_of(graph, value)?, sigmoid });
            }
            "Sigmoid" => sigmoid = true,
            "Identity" | "Cast" | "Reshape" | "Transpose" | "Flatten" => {}
            "Split" if channels.is_none() && node.int("axis", 0) == 1 => channels = Some(split(graph, node, value)?),
            _ => return None,
        }
        value = node.inputs[0]?;
    }
}

/// The first channel and the number of channels that a part of a `Split` has.
fn split(graph: &Graph, node: &Node, value: ValueId) -> Option<(u64, u64)> {
    let mut first = 0;
    for part in node.writes() {
        let count = graph.ty(part)?.shape.as_deref()?.get(1)?.fixed()?;
        if part == value {
            return Some((first, count));
        }
        first += count;
    }
    None
}

/// Width and height of the only image that a graph takes, `[batch, channels, height, width]`.
fn image_size(graph: &Graph) -> Option<[u32; 2]> {
    let [input] = graph.inputs[..] else { return None };
    size_of(graph, input)
}
