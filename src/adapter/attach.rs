//! A method's nodes beside a layer: LoRA and its family, IA³.
//!
//! Whatever is attached gives exactly the layer's own output before the first step: `B`, the magnitude's change and the
//! scale's change start at zero.

use super::method::{Kind, Method};
use super::target::{LayerForm, Target};
use crate::factor::first_values;
use crate::graph::{Attr, Builder, DType, Graph, Tensor, Val, ValueId};

/// What PEFT calls the learned tensors of a module.
pub const LORA_A: &str = ".lora_A.weight";
/// Ending of the name of the factor `B`, behind its module's.
pub const LORA_B: &str = ".lora_B.weight";
/// DoRA's magnitude, here as the change from the base's own.
pub const MAGNITUDE: &str = ".lora_magnitude_vector";
/// IA³'s scale, here as the change from 1.
pub const IA3: &str = ".ia3_l";

/// Puts `method` on a layer, at all places where it is used; gives the values that learn. The layer's output keeps its name; nodes are
/// appended, so the graph is to be sorted. `feedforward` scales the input instead of the output (IA³).
pub fn attach(graph: &mut Graph, target: &Target, method: &Method, feedforward: bool, seed: u64) -> Vec<ValueId> {
    match method.kind {
        Kind::Ia3 => vec![scaled(graph, target, feedforward)],
        _ => low_rank(graph, target, method, seed),
    }
}

/// Sizes of `A`: `[rank, in]`, or `[rank, in, k…]` for a convolution.
pub fn shape_a(target: &Target, rank: u64) -> Vec<u64> {
    [rank, target.inputs()].into_iter().chain(target.kernel().iter().copied()).collect()
}

/// Sizes of `B`: `[out, rank]`, or `[out, rank, 1…]` for a convolution.
pub fn shape_b(target: &Target, rank: u64) -> Vec<u64> {
    [target.outputs(), rank].into_iter().chain(target.kernel().iter().map(|_| 1)).collect()
}

/// Which dimension of a tensor of this name is the rank: LoRA's factors `[rank, in]` and `[out, rank]`.
pub fn axis_of_rank(name: &str) -> Option<usize> {
    [(LORA_A, 0), (LORA_B, 1)].into_iter().find_map(|(ending, axis)| name.ends_with(ending).then_some(axis))
}

/// Sizes of IA³'s scale: `[out, 1]`, or `[1, in]` where the input is scaled.
pub fn shape_ia3(target: &Target, feedforward: bool) -> Vec<u64> {
    if feedforward { vec![1, target.inputs()] } else { vec![target.outputs(), 1] }
}

fn low_rank(graph: &mut Graph, target: &Target, method: &Method, seed: u64) -> Vec<ValueId> {
    let named = |suffix: &str| format!("{}{suffix}", target.module);
    let rank = method.rank.into();
    let (a_name, shape) = (named(LORA_A), shape_a(target, rank));
    let values = first_values(seed, &a_name, &shape);
    let a = graph.add_initializer(&a_name, Tensor::from_vec(&shape, values));
    let b = graph.add_initializer(&named(LORA_B), zeros(&shape_b(target, rank)));
    let m = (method.kind == Kind::Dora).then(|| graph.add_initializer(&named(MAGNITUDE), zeros(&[target.outputs()])));
    target.uses().for_each(|place| low_rank_beside(graph, place, (a, b, m), method.scale()));
    let learns = if method.kind == Kind::LoraFa { vec![b] } else { vec![a, b] };
    learns.into_iter().chain(m).collect()
}

/// The factors `a` and `b`, and the magnitude's change, beside one place where a layer is used.
fn low_rank_beside(graph: &mut Graph, target: &Target, (a, b, m): (ValueId, ValueId, Option<ValueId>), scale: f64) {
    let (read, bias) = (target.input, target.bias);
    let attributes = graph.nodes[target.node].attributes.clone();
    rewired(graph, target.node, |builder, base| {
        let (a, b) = (builder.val(a), builder.val(b));
        let x = builder.val(read).cast(DType::Float);
        let change = match target.form {
            // A linear layer's factors lie as PEFT keeps them: A [rank, in], B [out, rank].
            LayerForm::Linear | LayerForm::LinearTransposed => {
                (x.matmul(a.transpose(&[1, 0])) * scale).matmul(b.transpose(&[1, 0]))
            }
            LayerForm::Conv => {
                let kept = ["auto_pad", "dilations", "pads", "strides"];
                let kept: Vec<(&str, Attr)> =
                    kept.iter().filter_map(|name| Some((*name, attributes.get(*name)?.clone()))).collect();
                builder.op("Conv", &[builder.op("Conv", &[x, a], &kept) * scale, b], &[])
            }
        };
        let Some(m) = m else { return base + change.cast(target.dtype) };
        // y = base + (m/‖V‖ − 1)·(base − bias) + m/‖V‖·change, as PEFT's DoraLinearLayer has it, V = W + s·B A.
        let (base_norm, norm) = norms(builder, target, a, b, scale);
        let ratio = along_outputs(target, (base_norm + builder.val(m)) / norm);
        let whole = base.cast(DType::Float);
        let linear = match bias {
            Some(bias) => whole - along_outputs(target, builder.val(bias).cast(DType::Float)),
            None => whole,
        };
        (whole + (ratio - 1.0) * linear + ratio * change).cast(target.dtype)
    });
}

/// A vector of one value an output, in a shape that broadcasts over the layer's output: channels are the second dimension
/// of a convolution's values, the last of a linear layer's.
fn along_outputs<'b>(target: &Target, vector: Val<'b>) -> Val<'b> {
    match target.form {
        LayerForm::Conv => vector.reshape_to(&[&[1, -1][..], &vec![1; target.kernel().len()]].concat()),
        _ => vector.reshape_to(&[-1]),
    }
}

/// ‖W‖ and ‖W + s·B A‖ over each output's weights, `[out]` f32, without writing either sum down:
/// ‖W + s·B A‖² = ‖W‖² + 2s·Σ B∘(W Aᵀ) + s²·Σ (B A Aᵀ)∘B. PEFT lets
/// no gradient pass the second, which saves it a sum of W's size (DoRA's section 4.3); here it costs products of rank
/// `rank`, so the gradient is exact.
fn norms<'b>(builder: &'b Builder, target: &Target, a: Val<'b>, b: Val<'b>, scale: f64) -> (Val<'b>, Val<'b>) {
    let weight = builder.val(target.read).cast(DType::Float);
    let rows = |value: Val<'b>, count: u64| value.reshape_to(&[count as i64, -1]);
    // [out, in]
    let w = match target.form {
        LayerForm::Linear => weight.transpose(&[1, 0]),
        LayerForm::LinearTransposed => weight,
        LayerForm::Conv => rows(weight, target.outputs()),
    };
    let rank = a.ty().and_then(|ty| ty.fixed_shape()).expect("factors have a shape")[0];
    let (a, b) = (rows(a, rank), rows(b, target.outputs()));
    let base = (w * w).reduce_sum(&[1], false);
    let at = a.transpose(&[1, 0]);
    let change =
        (b * w.matmul(at) * (2.0 * scale) + b.matmul(a.matmul(at)) * b * (scale * scale)).reduce_sum(&[1], false);
    (base.sqrt(), (base + change).sqrt())
}

fn scaled(graph: &mut Graph, target: &Target, feedforward: bool) -> ValueId {
    let scale = graph.add_initializer(&format!("{}{IA3}", target.module), zeros(&shape_ia3(target, feedforward)));
    for place in target.uses() {
        if !feedforward {
            rewired(graph, place.last, |builder, base| base * factor(builder, place, scale));
            continue;
        }
        let builder = Builder::new(std::mem::take(graph), "edgetune.adapter/");
        let x = (builder.val(place.input) * factor(&builder, place, scale)).id();
        *graph = builder.finish();
        graph.nodes[place.node].inputs[0] = Some(x);
    }
    scale
}

/// 1 + the learned change, shaped for the layer's channels.
fn factor<'b>(builder: &'b Builder, target: &Target, scale: ValueId) -> Val<'b> {
    along_outputs(target, (builder.val(scale) + 1.0).cast(target.dtype))
}

/// Gives a node's output to `build` and its result to those who read that output, under the output's own id and name.
fn rewired(graph: &mut Graph, node: usize, build: impl for<'b> FnOnce(&'b Builder, Val<'b>) -> Val<'b>) {
    let output = graph.nodes[node].outputs[0].expect("a layer gives something");
    let ty = graph.ty(output).cloned();
    let name = format!("{}/base", graph.value_name(output));
    let base = graph.add_value(&name, ty);
    graph.nodes[node].outputs[0] = Some(base);
    let builder = Builder::new(std::mem::take(graph), "edgetune.adapter/");
    let result = build(&builder, builder.val(base)).id();
    *graph = builder.finish();
    let last = graph.nodes.last_mut().expect("the result's node is the last");
    assert_eq!(last.outputs, [Some(result)], "the result's node is the last");
    last.outputs[0] = Some(output);
}

fn zeros(shape: &[u64]) -> Tensor {
    Tensor::from_vec(shape, vec![0.0f32; shape.iter().product::<u64>() as usize])
}
