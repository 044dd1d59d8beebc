//! What ONNX Runtime says, with a sentence before it that a reader of the model understands: which node, what is wrong, what helps.
//!
//! Takes its messages, gives texts. Its own words stay at the end, behind "ONNX Runtime says", for whoever reports a fault.

/// What stopped a run.
pub(super) fn while_running(message: &str) -> String {
    let node = || {
        let (_, rest) = message.split_once("while running ")?;
        let (op, rest) = rest.split_once(" node. Name:'")?;
        let (name, reason) = rest.split_once("' Status Message: ")?;
        Some((op, name, reason))
    };
    let full = ["bad_alloc", "Failed to allocate"].iter().any(|words| message.contains(words));
    match node() {
        Some((op, name, reason)) if full => format!(
            "node `{name}` ({op}) needs more memory than is free; lower setting `batch`, or let fewer layers learn. ONNX Runtime says: {reason}"
        ),
        Some((op, name, reason)) => format!(
            "node `{name}` ({op}) does not take what it is fed; give sizes that the model takes, which `edgetune inspect MODEL` lists. ONNX \
             Runtime says: {reason}"
        ),
        None => format!(
            "the model stopped while it ran; `edgetune check MODEL` shows whether it runs on random samples. ONNX Runtime says: {message}"
        ),
    }
}

/// Why a model is not taken: what is wrong and with which node, and what helps.
pub(super) fn refusal(message: &str) -> String {
    let node = node_of(message);
    let what = match &node {
        Some((name, Some(op))) => format!("node `{name}` ({op})"),
        Some((name, None)) => format!("node `{name}`"),
        None => "the model".into(),
    };
    let has = |part: &str| message.contains(part);
    let (wrong, remedy) = if has("Unsupported model IR version") || has("is under development") {
        ("is newer than this ONNX Runtime", "a newer ONNX Runtime may know it: `edgetune runtime install`")
    } else if has("No Op registered for") || has("is not a registered function/op") {
        (
            "has an operator that this ONNX Runtime does not know",
            "a newer ONNX Runtime may know it: `edgetune runtime install`",
        )
    } else if has("cannot get file size") || has("External data") || has("external data") || has("external initializer")
    {
        ("has weights in another file that cannot be read", "keep the weights file in the model's own folder")
    } else if has("NOT_IMPLEMENTED") || has("Could not find an implementation") {
        ("has an element type that this provider has no kernel for", "use a float32 model or another provider")
    } else if has("ShapeInferenceError") || has("Mismatch between number") || has("imension") {
        ("has sizes that do not fit each other", "export the model again, or correct that node's inputs")
    } else if has("Type Error") || has("data type") {
        (
            "reads an element type that its operator does not take",
            "export the model again with one type of floats, float32 at best",
        )
    } else if has("bad_alloc") || has("Failed to allocate") {
        ("needs more memory than is free", "close other programs, or choose a smaller model")
    } else {
        ("is not as its operators want it", "let onnx.checker.check_model say where, and export the model again")
    };
    format!("{what} {wrong}; {remedy}")
}

/// The node that a refusal names, and its operator, where it tells that.
fn node_of(message: &str) -> Option<(&str, Option<&str>)> {
    let between = |before: &str, after: &str| {
        let (_, rest) = message.split_once(before)?;
        rest.split_once(after).filter(|(name, _)| !name.is_empty())
    };
    if let Some((name, rest)) = between("In Node, (\"", "\", ") {
        return Some((name, rest.split(',').next().map(str::trim)));
    }
    if let Some((name, rest)) = between("Node (", ")") {
        let op = rest.strip_prefix(" Op (").and_then(|rest| rest.split_once(')'));
        return Some((name, op.map(|(op, _)| op)));
    }
    if let Some((name, _)) = between("in node (", ")") {
        let op = between("of operator (", ")").map(|(op, _)| op);
        return Some((name, op));
    }
    let (name, _) = between("node with name '", "'")?;
    Some((name, between("implementation for ", "(").map(|(op, _)| op)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_stops_names_its_node_before_the_runtimes_words() {
        let words = "Non-zero status code returned while running GroupQueryAttention node. Name:'/layers.0/attn' Status Message: head_size";
        let told = while_running(words);
        assert!(told.starts_with("node `/layers.0/attn` (GroupQueryAttention) "), "{told}");
        assert!(told.ends_with("ONNX Runtime says: head_size"), "{told}");
        let full = while_running(&words.replace("head_size", "std::bad_alloc"));
        assert!(full.contains("needs more memory than is free"), "{full}");
        assert!(while_running("no memory").ends_with("ONNX Runtime says: no memory"));
    }

    #[test]
    fn a_refusal_names_its_node_and_what_helps() {
        for (message, begins, remedy) in [
            (
                "Node (reshape_7) Op (Reshape) [ShapeInferenceError] Dimension could not be inferred: incompatible shapes",
                "node `reshape_7` (Reshape) has sizes",
                "export the model again",
            ),
            (
                "This is an invalid model. In Node, (\"gemm\", Gemm, \"\", -1) : (\"x\": tensor(float),) -> (\"y\",) , Error Node (gemm) has \
                 input size 1 not in range [min=2, max=3].",
                "node `gemm` (Gemm) is not as",
                "check_model",
            ),
            (
                "Type Error: Type 'tensor(int64)' of input parameter (x) of operator (Gemm) in node (head) is invalid.",
                "node `head` (Gemm) reads an element type",
                "float32",
            ),
            (
                "Could not find an implementation for Conv(11) node with name 'stem'",
                "node `stem` (Conv) has an element type",
                "another provider",
            ),
            (
                "Fatal error: com.mine:Best(-1) is not a registered function/op",
                "the model has an operator",
                "runtime install",
            ),
            ("Unsupported model IR version: 99, max supported IR version: 13", "the model is newer", "runtime install"),
            ("something else", "the model is not as", "check_model"),
        ] {
            let told = refusal(message);
            assert!(told.starts_with(begins) && told.contains(remedy), "{told}");
        }
    }
}
