#!/bin/sh
# onnxruntime 1.32.0's Attention of ai.onnx (operator sets 23 and 24), a mask of the keys alone.
#
# One would guess: attn_mask [batch, 1, 1, keys], the padding of a batch of texts, is spread over heads and queries, as the standard says
# ("must be broadcastable") and onnx's reference implementation does; PyTorch's exporter writes it so for scaled_dot_product_attention.
# Seen: the model loads, and each run is refused ("inconsistent q_sequence_length"), for one sample as well as for two. A dimension of 1 for the
# heads is spread, one for the queries is not. With an Expand to [batch, 1, queries, keys] in front, the answers are the reference's.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat >"$folder/case.py" <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

HEADS, QUERIES, KEYS, SIZE = 2, 5, 5, 4


def model(opset, spread):
    value = lambda name, kind, shape: helper.make_tensor_value_info(name, kind, shape)
    four = ["batch", HEADS, QUERIES, SIZE]
    nodes = [helper.make_node("Attention", ["q", "q", "q", "spread" if spread else "mask"], ["y"])]
    weights = []
    if spread:
        weights.append(numpy_helper.from_array(np.array([1, 1, QUERIES, KEYS]), "shape"))
        nodes.insert(0, helper.make_node("Expand", ["mask", "shape"], ["spread"]))
    inputs = [value("q", TensorProto.FLOAT, four), value("mask", TensorProto.BOOL, ["batch", 1, 1, KEYS])]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", TensorProto.FLOAT, four)], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11)
    onnx.checker.check_model(made)
    return made


def ran(made, batch):
    random = np.random.default_rng(0)
    mask = np.ones((batch, 1, 1, KEYS), bool)
    mask[..., 3:] = False
    given = {"q": random.normal(size=(batch, HEADS, QUERIES, SIZE)).astype(np.float32), "mask": mask}
    right = ReferenceEvaluator(made).run(None, given)[0]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        found = ort.InferenceSession(made.SerializeToString(), options).run(None, given)[0]
    except Exception as error:
        return "refused" if "inconsistent q_sequence_length" in str(error) else str(error)
    return "equal" if np.abs(found - right).max() < 1e-5 else "different"


print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
seen = {}
for opset in (23, 24):
    for batch in (1, 2):
        for spread in (False, True):
            seen[opset, batch, spread] = ran(model(opset, spread), batch)
            print(f"operator set {opset}, {batch} samples, {'with an Expand' if spread else 'as it is'}: {seen[opset, batch, spread]}")
expected = {key: "equal" if key[2] else "refused" for key in seen}
raise SystemExit(0 if seen == expected else "changed: this is no longer what was seen")
PYTHON
"$folder/python/bin/python" "$folder/case.py"
