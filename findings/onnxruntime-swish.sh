#!/bin/sh
# onnxruntime 1.32.0 and the operator Swish of ONNX 24.
#
# One would guess: Swish entered ONNX with operator set 24 and has not changed since, so a session that runs it in set 24 runs it in
# 25 to 28, too, and with it SwiGLU of set 28, whose definition is made of Swish.
# Seen: it runs in set 24 alone. From set 25 on, which the same onnxruntime loads and runs other operators of, a session with Swish
# or SwiGLU is not made: NOT_IMPLEMENTED, no implementation for Swish(24). Mish, also defined as a function, runs in all of them.
# For who writes models: export with operator set 24 or lower, or write x * Sigmoid(x).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat >"$folder/case.py" <<'PYTHON'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

ort.set_default_logger_severity(4)


def runs(op, inputs, opset):
    node = helper.make_node(op, inputs, ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    try:
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        session.run(None, {"x": np.ones((2, 4), np.float32)})
        return "runs"
    except Exception as error:
        return "NOT_IMPLEMENTED" if "NOT_IMPLEMENTED" in str(error) and "Swish(24)" in str(error) else str(error)


seen = {(op, opset): runs(op, inputs, opset) for op, inputs, sets in (
    ("Mish", ["x"], range(24, 29)), ("Swish", ["x"], range(24, 29)), ("SwiGLU", ["x", "x"], [28])) for opset in sets}
print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
for (op, opset), what in seen.items():
    print(f"{op:7} in operator set {opset}: {what}")
expected = {key: "runs" if key[0] == "Mish" or key == ("Swish", 24) else "NOT_IMPLEMENTED" for key in seen}
raise SystemExit(0 if seen == expected else "changed: this is no longer what was seen")
PYTHON
"$folder/python/bin/python" "$folder/case.py"
