//! Every gradient rule against what is known to be right: one node a case, from `tests/goldens/grad*.json`.
//!
//! A case passes if, with ONNX Runtime's graph optimisation off and on, its outputs and gradients are PyTorch's float64
//! ones, and if the gradient predicts how the outputs really change along a direction.

mod case;
mod golden;

use edgetune::grad::{self, Action, rules};
use golden::{Golden, golden};
use std::collections::BTreeSet;

/// The operators of the goldens by the file that has their rules.
#[rustfmt::skip]
const FAMILIES: &[(&str, &[&str])] = &[
    ("linear", &["MatMul", "Gemm", "Einsum", "FusedMatMul"]),
    ("elementwise", &[
        "Add", "Sub", "Mul", "Div", "Mod", "Neg", "Pow", "Sqrt", "Exp", "Log", "Erf", "Abs", "Reciprocal", "Sin", "Cos",
        "Identity", "Dropout", "Cast", "Sum", "Mean", "Min", "Max", "Where",
    ]),
    ("activation", &[
        "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Softplus",
        "Softsign", "Elu", "Selu", "Celu", "Mish", "ThresholdedRelu", "BiasGelu", "FastGelu", "QuickGelu", "Swish",
    ]),
    ("softmax", &["Softmax", "LogSoftmax"]),
    ("reduce", &[
        "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare", "ReduceSum", "ReduceL1",
        "ReduceLogSum", "CumSum", "ReduceProd",
    ]),
    ("conv", &["Conv"]),
    ("pool", &["GlobalAveragePool", "AveragePool", "MaxPool", "GlobalMaxPool"]),
    ("norm", &[
        "BatchNormalization", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization",
        "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    ]),
    ("shape", &[
        "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Concat", "Split", "Trilu", "Slice", "Pad",
        "Tile", "DepthToSpace", "SpaceToDepth",
    ]),
    ("trigonometric", &["Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"]),
    ("attention", &["Attention", "MultiHeadAttention"]),
    ("rotary", &["RotaryEmbedding"]),
    ("grouped", &["GroupQueryAttention"]),
    ("embed", &["EmbedLayerNormalization"]),
    ("index", &["Gather", "GatherElements"]),
    ("scatter", &["GatherND", "ScatterND", "ScatterElements", "TopK"]),
    ("transposed", &["ConvTranspose"]),
    ("instance", &["InstanceNormalization", "GroupNormalization", "LpNormalization", "GlobalLpPool"]),
    ("resize", &["Resize"]),
    ("quant", &[
        "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger",
        "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM",
    ]),
    ("blockwise", &["MatMulNBits"]),
    ("recurrent", &["LSTM", "GRU", "RNN"]),
];

/// Runs the cases of one family; one message tells all that failed.
fn check(family: &str) {
    let (_, ops) = FAMILIES.iter().find(|(name, _)| *name == family).expect("a family of the table");
    crate::engine::runtime();
    let Golden { cases, arrays } = golden();
    let cases: Vec<_> = cases.iter().filter(|case| ops.contains(&case.op.as_str())).collect();
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|case| Some((case, case::check(case, arrays).err()?)))
        .map(|(case, what)| format!("{} ({}): {what}", case.name, case.op))
        .collect();
    assert!(!cases.is_empty(), "no case for {family}");
    assert!(failed.is_empty(), "{} of {} cases failed:\n  {}\n", failed.len(), cases.len(), failed.join("\n  "));
}

macro_rules! families {
    ($($family:ident),*) => {$(
        #[test]
        fn $family() {
            check(stringify!($family));
        }
    )*};
}

families!(
    linear,
    elementwise,
    activation,
    softmax,
    reduce,
    conv,
    pool,
    norm,
    shape,
    index,
    trigonometric,
    rotary,
    grouped,
    embed,
    attention,
    scatter,
    transposed,
    instance,
    resize,
    quant,
    blockwise,
    recurrent
);

/// What a rule writes must mean the same in every opset that ONNX Runtime knows: reductions other than `ReduceSum`, for
/// one, took their axes from an attribute until opset 17 and take them from an input since.
#[test]
fn gradients_are_the_same_in_newer_opsets() {
    crate::engine::runtime();
    let Golden { cases, arrays } = golden();
    let relu = cases.iter().find(|case| case.name == "Relu").expect("a case that every opset has");
    let known = |opset: &i64| case::check_in_opset(relu, arrays, *opset).unwrap_or(false);
    let newest = (18..=25).rev().find(known).expect("a newer opset");
    let results: Vec<(&golden::Case, Result<bool, String>)> =
        cases.iter().map(|case| (case, case::check_in_opset(case, arrays, newest))).collect();
    let failed: Vec<String> = results
        .iter()
        .filter_map(|(case, result)| Some(format!("{} ({}): {}", case.name, case.op, result.as_ref().err()?)))
        .collect();
    assert!(failed.is_empty(), "{} cases failed in opset {newest}:\n  {}\n", failed.len(), failed.join("\n  "));
    let run = results.iter().filter(|(_, result)| *result == Ok(true)).count();
    assert!(run * 4 > cases.len() * 3, "only {run} of {} cases are known in opset {newest}", cases.len());
}

#[test]
fn every_case_is_run_and_has_a_rule() {
    let run: BTreeSet<&str> = FAMILIES.iter().flat_map(|(_, ops)| ops.iter().copied()).collect();
    for case in &golden().cases {
        assert!(run.contains(case.op.as_str()), "{}: `{}` is in no family, so no test runs it", case.name, case.op);
        let action = grad::find(&case.op, &case.domain, case.opset).map(|rule| rule.action);
        assert!(matches!(action, Some(Action::Flows(_))), "{}: `{}` has no rule that flows", case.name, case.op);
    }
}

#[test]
fn every_rule_has_a_case() {
    let cases: BTreeSet<(&str, &str)> =
        golden().cases.iter().map(|case| (case.op.as_str(), case.domain.as_str())).collect();
    let unproven: Vec<&str> = rules::all()
        .iter()
        .filter(|rule| matches!(rule.action, Action::Flows(_)) && !cases.contains(&(rule.op, rule.domain)))
        .map(|rule| rule.op)
        .collect();
    assert!(unproven.is_empty(), "rules without a case in tests/goldens/make/grad.py: {}", unproven.join(", "));
}

#[test]
fn the_table_is_sorted_and_unambiguous() {
    for pair in rules::all().windows(2) {
        let key = |rule: &grad::Rule| (rule.op, rule.domain, *rule.opsets.start());
        assert!(key(&pair[0]) < key(&pair[1]), "`{}` stands before `{}`", pair[0].op, pair[1].op);
        let same = (pair[0].op, pair[0].domain) == (pair[1].op, pair[1].domain);
        assert!(!same || pair[0].opsets.end() < pair[1].opsets.start(), "two rows of `{}` overlap", pair[0].op);
    }
    for rule in rules::all() {
        let found = grad::find(rule.op, rule.domain, *rule.opsets.end()).expect("each row is found");
        assert!(std::ptr::eq(found, rule), "`{}` is hidden by another row", rule.op);
        if let Action::Refuses(remedy) = rule.action {
            assert!(remedy.len() > 20, "`{}` is refused without a remedy: {remedy}", rule.op);
        }
    }
}
