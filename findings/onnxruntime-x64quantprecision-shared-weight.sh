#!/bin/sh
# onnxruntime 1.32.0's session option session.x64quantprecision, with a model whose quantised weight is used twice, as tied layers have it
# after quantize_dynamic. On x86-64.
#
# One would guess: the option, which makes products of signed 8-bit weights exact where they would saturate, changes numbers, not which
# models load.
# Seen: the model loads and answers without the option; with it, session creation ends in "Attempt to replace the existing tensor", for the
# weight is rewritten as unsigned once for each of its two uses, under one name. With unsigned weights (QUInt8) both load.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat >"$folder/case.py" <<'PYTHON'
import logging
import platform
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

logging.disable(logging.WARNING)
if platform.machine() != "x86_64":
    raise SystemExit("this finding is about x86-64")
random = np.random.default_rng(0)
weight = numpy_helper.from_array(random.normal(size=(16, 16)).astype(np.float32), "weight")
nodes = [helper.make_node("MatMul", [x, "weight"], [y], name=y) for x, y in (("x", "hidden"), ("hidden", "y"))]
value = lambda name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 16])
plain = f"{sys.argv[1]}/plain.onnx"
graph = helper.make_graph(nodes, "tied", [value("x")], [value("y")], [weight])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), plain)


def loaded(file, exact):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the kind of error differs between versions
        return "refused: " + str(error).strip().splitlines()[-1][-60:]
    return f"loaded, {session.run(None, {'x': np.ones((1, 16), np.float32)})[0].shape}"


print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
seen = {}
for kind in (QuantType.QInt8, QuantType.QUInt8):
    file = f"{sys.argv[1]}/{kind}.onnx"
    quantize_dynamic(plain, file, weight_type=kind)
    for exact in (False, True):
        seen[str(kind), exact] = loaded(file, exact)
        print(f"{kind}, x64quantprecision {'on' if exact else 'off'}: {seen[str(kind), exact]}")
refused = seen.pop(("QInt8", True))
expected = "Attempt to replace the existing tensor" in refused and all("loaded" in told for told in seen.values())
raise SystemExit(0 if expected else "changed: this is no longer what was seen")
PYTHON
"$folder/python/bin/python" "$folder/case.py" "$folder"
