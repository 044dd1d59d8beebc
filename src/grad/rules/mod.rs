//! The rule table. One row and one small pure function per operator; families as files.
//!
//! A rule reads like the mathematics in a textbook: `x` inputs, `y` outputs, `dy` their gradients. It never sees the
//! batch as a number, never sums a broadcast back (the walk does), and emits only `ai.onnx` operators of opset 17.

mod activation;
mod added;
mod attention;
mod blockwise;
mod conv;
mod depthwise;
mod elementwise;
mod embed;
mod grouped;
mod index;
mod instance;
mod linear;
mod norm;
mod pool;
mod quant;
mod recurrent;
mod reduce;
mod resize;
mod rotary;
mod scatter;
mod shape;
mod softmax;
mod taps;
mod transposed;
mod trigonometric;
mod window;

use super::{Action, At, Rule, RuleFn};
use crate::graph::Val;
use Action::{Flows, Refuses, Stops};
use std::ops::RangeInclusive;

/// A row whose gradients have the inputs' shapes already.
const fn rule(op: &'static str, opsets: RangeInclusive<i64>, action: Action) -> Rule {
    Rule::new(op, opsets, action)
}

/// A row whose gradients have the broadcast shape.
const fn broadcast(op: &'static str, opsets: RangeInclusive<i64>, apply: RuleFn) -> Rule {
    let mut rule = Rule::new(op, opsets, Flows(apply));
    rule.broadcasts = true;
    rule
}

/// A row of a step of quantised arithmetic.
const fn quantised(op: &'static str, opsets: RangeInclusive<i64>, apply: RuleFn) -> Rule {
    let mut rule = Rule::new(op, opsets, Flows(apply));
    rule.quantises = true;
    rule
}

/// The node's only output computed by other nodes, where that is faster; see [`super::with_faster_nodes`].
pub fn faster<'b>(n: &At<'_, 'b>) -> Option<Val<'b>> {
    (n.node().op == "Conv" && n.node().domain.is_empty()).then(|| conv::faster_output(n)).flatten()
}

/// The newest opset that the rules were checked against.
const NEWEST: i64 = 28;

/// All rules, sorted by operator and domain.
pub fn all() -> &'static [Rule] {
    RULES
}

const RECURRENT: &str = "with the operator's own activations, without clip and layout";
const STATE: &str =
    "train only what comes after the layers that carry a state, with a smaller setting `train = last:N`";
const CONTROL: &str =
    "train only what comes after it with a smaller setting `train = last:N`, or export the model without control flow";
const QUANTIZED: &str = "train only what comes after it, with a smaller setting `train = last:N` or setting `adapter.layers = last:N` or an appended \
                         head (setting `classes = N` setting `head = append`), or quantise the model in the format QDQ";
const APART: &str = "where its scales are constants it is taken apart when the model is read, and a gradient passes; quantise the \
                     model with constant scales, or in the format QDQ";
const DETECTION: &str = "it picks positions; put the loss on the scores and boxes before it";

#[rustfmt::skip]
static RULES: &[Rule] = &[
    rule("Abs", 6..=NEWEST, Flows(elementwise::abs)),
    rule("Acos", 7..=NEWEST, Flows(trigonometric::acos)),
    rule("Acosh", 9..=NEWEST, Flows(trigonometric::acosh)),
    broadcast("Add", 7..=NEWEST, elementwise::add),
    rule("And", 1..=NEWEST, Stops),
    rule("ArgMax", 1..=NEWEST, Stops),
    rule("ArgMin", 1..=NEWEST, Stops),
    rule("Asin", 7..=NEWEST, Flows(trigonometric::asin)),
    rule("Asinh", 9..=NEWEST, Flows(trigonometric::asinh)),
    rule("Atan", 7..=NEWEST, Flows(trigonometric::atan)),
    rule("Atanh", 9..=NEWEST, Flows(trigonometric::atanh)),
    rule("Attention", 23..=NEWEST, Flows(attention::attention)).note("with masks and grouped queries; without past keys and softcap"),
    rule("Attention", 1..=NEWEST, Flows(attention::with_projection)).in_domain("com.microsoft").note("with masks of 1 to 3 dimensions; without past keys"),
    rule("AveragePool", 7..=NEWEST, Flows(pool::average_pool)),
    rule("BatchNormalization", 9..=NEWEST, Flows(norm::batch)).note("in inference mode; with training_mode it is refused"),
    rule("Bernoulli", 15..=NEWEST, Stops),
    broadcast("BiasGelu", 1..=NEWEST, activation::bias_gelu).in_domain("com.microsoft"),
    rule("BitCast", 26..=NEWEST, Stops),
    rule("Cast", 6..=NEWEST, Flows(elementwise::cast)).note("between float types; an integer type stops the gradient"),
    rule("CausalConvWithState", 27..=NEWEST, Refuses(STATE)),
    rule("Ceil", 1..=NEWEST, Stops),
    rule("Celu", 12..=NEWEST, Flows(activation::celu)),
    rule("Clip", 11..=NEWEST, Flows(activation::clip)),
    rule("Concat", 4..=NEWEST, Flows(shape::concat)),
    rule("Constant", 1..=NEWEST, Stops),
    rule("ConstantOfShape", 9..=NEWEST, Stops),
    rule("Conv", 1..=NEWEST, Flows(conv::conv)),
    quantised("ConvInteger", 10..=NEWEST, quant::conv_integer).note("for an input that was quantised in the model; the weight is frozen"),
    rule("ConvTranspose", 1..=NEWEST, Flows(transposed::conv_transpose)).note("with pads written out"),
    rule("Cos", 7..=NEWEST, Flows(elementwise::cos)),
    rule("Cosh", 9..=NEWEST, Flows(trigonometric::cosh)),
    rule("CumProd", 26..=NEWEST, Refuses("train only what comes after it, or write it as Exp(CumSum(Log(x)))")),
    rule("CumSum", 11..=NEWEST, Flows(reduce::cumulative)),
    rule("DepthToSpace", 1..=NEWEST, Flows(shape::depth_to_space)),
    rule("DequantizeLinear", 10..=NEWEST, Flows(quant::dequantize)).note("for what was quantised in the model, not block by block; a weight behind it learns as floats"),
    rule("DequantizeLinear", 1..=NEWEST, Flows(quant::dequantize)).in_domain("com.microsoft").note("for what was quantised in the model"),
    broadcast("Div", 7..=NEWEST, elementwise::div),
    rule("Dropout", 7..=NEWEST, Flows(elementwise::dropout)).note("the identity, as in inference; with training_mode it is refused"),
    rule("DynamicQuantizeLSTM", 1..=NEWEST, Flows(recurrent::lstm)).in_domain("com.microsoft").unless(recurrent::refusal).note("as LSTM, straight-through; the weights are frozen, the bias learns"),
    quantised("DynamicQuantizeLinear", 11..=NEWEST, quant::dynamic).note("straight-through estimator (arXiv 1308.3432); scale and zero point count as constants"),
    rule("DynamicQuantizeMatMul", 1..=NEWEST, Flows(quant::dynamic_matmul)).in_domain("com.microsoft").note("straight-through estimator (arXiv 1308.3432); the weight is frozen"),
    rule("Einsum", 12..=NEWEST, Flows(linear::einsum)).unless(linear::einsum_refusal).note("without repeated labels, `...` or a scalar output"),
    rule("Elu", 6..=NEWEST, Flows(activation::elu)),
    rule("EmbedLayerNormalization", 1..=NEWEST, Flows(embed::layer)).in_domain("com.microsoft"),
    rule("Equal", 1..=NEWEST, Stops),
    rule("Erf", 9..=NEWEST, Flows(elementwise::erf)),
    rule("Exp", 6..=NEWEST, Flows(elementwise::exp)),
    broadcast("Expand", 8..=NEWEST, shape::expand),
    rule("EyeLike", 9..=NEWEST, Stops),
    broadcast("FastGelu", 1..=NEWEST, activation::fast_gelu).in_domain("com.microsoft"),
    rule("Flatten", 1..=NEWEST, Flows(shape::reshape)),
    rule("Floor", 1..=NEWEST, Stops),
    rule("FusedMatMul", 1..=NEWEST, Flows(linear::fused_matmul)).in_domain("com.microsoft").note("without transBatchA and transBatchB"),
    rule("GRU", 7..=NEWEST, Flows(recurrent::gru)).unless(recurrent::refusal).note(RECURRENT),
    rule("Gather", 1..=NEWEST, Flows(index::gather)),
    rule("GatherElements", 11..=NEWEST, Flows(index::gather_elements)),
    rule("GatherND", 11..=NEWEST, Flows(scatter::gather_nd)),
    rule("Gelu", 20..=NEWEST, Flows(activation::gelu)),
    rule("Gelu", 1..=NEWEST, Flows(activation::gelu)).in_domain("com.microsoft"),
    rule("Gemm", 7..=NEWEST, Flows(linear::gemm)),
    rule("GlobalAveragePool", 1..=NEWEST, Flows(pool::global_average_pool)),
    rule("GlobalLpPool", 2..=NEWEST, Flows(instance::global_lp_pool)),
    rule("GlobalMaxPool", 1..=NEWEST, Flows(pool::global_max_pool)).note("the first of several largest takes it all"),
    rule("Greater", 1..=NEWEST, Stops),
    rule("GreaterOrEqual", 12..=NEWEST, Stops),
    rule("GroupNormalization", 21..=NEWEST, Flows(instance::group)),
    rule("GroupQueryAttention", 1..=NEWEST, Flows(grouped::grouped_query)).in_domain("com.microsoft").note("without past keys, local window and head sinks"),
    rule("HardSigmoid", 6..=NEWEST, Flows(activation::hard_sigmoid)),
    rule("HardSwish", 14..=NEWEST, Flows(activation::hard_swish)),
    rule("Hardmax", 1..=NEWEST, Stops),
    rule("Identity", 1..=NEWEST, Flows(elementwise::identity)),
    rule("If", 1..=NEWEST, Refuses(CONTROL)),
    rule("InstanceNormalization", 6..=NEWEST, Flows(instance::instance)),
    rule("IsInf", 10..=NEWEST, Stops),
    rule("IsNaN", 9..=NEWEST, Stops),
    rule("LSTM", 7..=NEWEST, Flows(recurrent::lstm)).unless(recurrent::refusal).note("with the operator's own activations, without clip, layout, input_forget and peepholes"),
    broadcast("LayerNormalization", 17..=NEWEST, norm::layer),
    rule("LeakyRelu", 6..=NEWEST, Flows(activation::leaky_relu)),
    rule("Less", 1..=NEWEST, Stops),
    rule("LessOrEqual", 12..=NEWEST, Stops),
    rule("LinearAttention", 27..=NEWEST, Refuses(STATE)),
    rule("Log", 6..=NEWEST, Flows(elementwise::log)),
    rule("LogSoftmax", 13..=NEWEST, Flows(softmax::log_softmax)),
    rule("Loop", 1..=NEWEST, Refuses(CONTROL)),
    rule("LpNormalization", 1..=NEWEST, Flows(instance::lp)),
    rule("MatMul", 1..=NEWEST, Flows(linear::matmul)),
    quantised("MatMulInteger", 10..=NEWEST, quant::matmul_integer).note("for operands that were quantised in the model"),
    rule("MatMulIntegerToFloat", 1..=NEWEST, Flows(quant::matmul_integer_to_float)).in_domain("com.microsoft").note("for the first operand, quantised in the model"),
    rule("MatMulNBits", 1..=NEWEST, Flows(blockwise::product)).in_domain("com.microsoft").note("4 and 8 bits, without g_idx; the weight is frozen"),
    broadcast("Max", 8..=NEWEST, elementwise::extremum).note("inputs that tie share the gradient evenly"),
    rule("MaxPool", 8..=NEWEST, Flows(pool::max_pool)).note("the first of several largest takes it all"),
    rule("MaxRoiPool", 1..=NEWEST, Refuses(DETECTION)),
    broadcast("Mean", 8..=NEWEST, elementwise::mean),
    broadcast("Min", 8..=NEWEST, elementwise::extremum).note("inputs that tie share the gradient evenly"),
    rule("Mish", 18..=NEWEST, Flows(activation::mish)),
    broadcast("Mod", 10..=NEWEST, elementwise::modulo).note("of floats; the factor's steps count as flat"),
    broadcast("Mul", 7..=NEWEST, elementwise::mul),
    rule("MultiHeadAttention", 1..=NEWEST, Flows(attention::multi_head)).in_domain("com.microsoft").note("with masks of 1 to 3 dimensions; without past keys"),
    rule("Multinomial", 7..=NEWEST, Stops),
    rule("Neg", 6..=NEWEST, Flows(elementwise::neg)),
    rule("NonMaxSuppression", 10..=NEWEST, Refuses(DETECTION)),
    rule("NonZero", 9..=NEWEST, Stops),
    rule("Not", 1..=NEWEST, Stops),
    rule("OneHot", 9..=NEWEST, Stops),
    rule("Or", 1..=NEWEST, Stops),
    broadcast("PRelu", 7..=NEWEST, activation::prelu),
    rule("Pad", 11..=NEWEST, Flows(shape::pad)),
    broadcast("Pow", 7..=NEWEST, elementwise::pow),
    rule("QAttention", 1..=NEWEST, Refuses(QUANTIZED)).in_domain("com.microsoft"),
    rule("QGemm", 1..=NEWEST, Refuses(APART)).in_domain("com.microsoft"),
    rule("QLinearAdd", 1..=NEWEST, Refuses(APART)).in_domain("com.microsoft"),
    rule("QLinearAveragePool", 1..=NEWEST, Refuses(APART)).in_domain("com.microsoft"),
    rule("QLinearConv", 10..=NEWEST, Refuses(APART)),
    rule("QLinearGlobalAveragePool", 1..=NEWEST, Refuses(APART)).in_domain("com.microsoft"),
    rule("QLinearLeakyRelu", 1..=NEWEST, Refuses(APART)).in_domain("com.microsoft"),
    rule("QLinearMatMul", 10..=NEWEST, Refuses(APART)),
    rule("QLinearMul", 1..=NEWEST, Refuses(APART)).in_domain("com.microsoft"),
    rule("QLinearSigmoid", 1..=NEWEST, Refuses(APART)).in_domain("com.microsoft"),
    quantised("QuantizeLinear", 10..=NEWEST, quant::quantize).note("straight-through estimator (arXiv 1308.3432), zero where clipped; not block by block"),
    quantised("QuantizeLinear", 1..=NEWEST, quant::quantize).in_domain("com.microsoft").note("straight-through estimator (arXiv 1308.3432), zero where clipped"),
    rule("QuickGelu", 1..=NEWEST, Flows(activation::quick_gelu)).in_domain("com.microsoft"),
    broadcast("RMSNormalization", 23..=NEWEST, norm::root_mean_square),
    rule("RNN", 7..=NEWEST, Flows(recurrent::rnn)).unless(recurrent::refusal).note("of Tanh or Relu, without clip and layout"),
    rule("RandomNormal", 1..=NEWEST, Stops),
    rule("RandomNormalLike", 1..=NEWEST, Stops),
    rule("RandomUniform", 1..=NEWEST, Stops),
    rule("RandomUniformLike", 1..=NEWEST, Stops),
    rule("Range", 11..=NEWEST, Stops),
    rule("Reciprocal", 6..=NEWEST, Flows(elementwise::reciprocal)),
    rule("ReduceL1", 1..=NEWEST, Flows(reduce::l1)),
    rule("ReduceL2", 1..=NEWEST, Flows(reduce::l2)),
    rule("ReduceLogSum", 1..=NEWEST, Flows(reduce::log_sum)),
    rule("ReduceLogSumExp", 1..=NEWEST, Flows(reduce::log_sum_exp)),
    rule("ReduceMax", 1..=NEWEST, Flows(reduce::extremum)).note("elements that tie share the gradient evenly"),
    rule("ReduceMean", 1..=NEWEST, Flows(reduce::mean)),
    rule("ReduceMin", 1..=NEWEST, Flows(reduce::extremum)).note("elements that tie share the gradient evenly"),
    rule("ReduceProd", 1..=NEWEST, Flows(reduce::product)),
    rule("ReduceSum", 13..=NEWEST, Flows(reduce::sum)),
    rule("ReduceSumSquare", 1..=NEWEST, Flows(reduce::sum_square)),
    rule("Relu", 6..=NEWEST, Flows(activation::relu)),
    rule("Reshape", 5..=NEWEST, Flows(shape::reshape)),
    rule("Resize", 11..=NEWEST, Flows(resize::resize)).note("nearest and linear, without antialiasing"),
    rule("RoiAlign", 10..=NEWEST, Refuses(DETECTION)),
    rule("RotaryEmbedding", 23..=NEWEST, Flows(rotary::rotary)).note("for the rotated value; the caches cannot learn"),
    rule("RotaryEmbedding", 1..=NEWEST, Flows(rotary::rotary)).in_domain("com.microsoft").note("for the rotated value; the caches cannot learn"),
    rule("Round", 11..=NEWEST, Stops),
    rule("Scan", 1..=NEWEST, Refuses(CONTROL)),
    rule("ScatterElements", 11..=NEWEST, Flows(scatter::scatter_elements)).note("placed or added; indices may repeat only when added"),
    rule("ScatterND", 11..=NEWEST, Flows(scatter::scatter_nd)).note("placed or added; indices may repeat only when added"),
    rule("Selu", 6..=NEWEST, Flows(activation::selu)),
    rule("Shape", 1..=NEWEST, Stops),
    rule("Sigmoid", 6..=NEWEST, Flows(activation::sigmoid)),
    rule("Sign", 9..=NEWEST, Stops),
    broadcast("SimplifiedLayerNormalization", 1..=NEWEST, norm::root_mean_square),
    rule("Sin", 7..=NEWEST, Flows(elementwise::sin)),
    rule("Sinh", 9..=NEWEST, Flows(trigonometric::sinh)),
    rule("Size", 1..=NEWEST, Stops),
    broadcast("SkipLayerNormalization", 1..=NEWEST, norm::skip_layer).in_domain("com.microsoft"),
    broadcast("SkipSimplifiedLayerNormalization", 1..=NEWEST, norm::skip_root_mean_square).in_domain("com.microsoft"),
    rule("Slice", 10..=NEWEST, Flows(shape::slice)),
    rule("Softmax", 13..=NEWEST, Flows(softmax::softmax)),
    rule("Softplus", 1..=NEWEST, Flows(activation::softplus)),
    rule("Softsign", 1..=NEWEST, Flows(activation::softsign)),
    rule("SpaceToDepth", 1..=NEWEST, Flows(shape::space_to_depth)),
    rule("Split", 13..=NEWEST, Flows(shape::split)),
    rule("Sqrt", 6..=NEWEST, Flows(elementwise::sqrt)),
    rule("Squeeze", 13..=NEWEST, Flows(shape::reshape)),
    broadcast("Sub", 7..=NEWEST, elementwise::sub),
    broadcast("Sum", 8..=NEWEST, elementwise::sum),
    rule("Swish", 24..=NEWEST, Flows(activation::swish)),
    rule("Tan", 7..=NEWEST, Flows(trigonometric::tan)),
    rule("Tanh", 6..=NEWEST, Flows(activation::tanh)),
    rule("ThresholdedRelu", 10..=NEWEST, Flows(activation::thresholded_relu)),
    rule("Tile", 6..=NEWEST, Flows(shape::tile)),
    rule("TopK", 10..=NEWEST, Flows(scatter::top_k)).note("for the values; which are picked counts as fixed"),
    rule("Transpose", 1..=NEWEST, Flows(shape::transpose)),
    rule("Trilu", 14..=NEWEST, Flows(shape::trilu)),
    rule("Unique", 11..=NEWEST, Refuses(DETECTION)),
    rule("Unsqueeze", 13..=NEWEST, Flows(shape::reshape)),
    broadcast("Where", 9..=NEWEST, elementwise::select),
    rule("Xor", 1..=NEWEST, Stops),
];
