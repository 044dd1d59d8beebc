#!/bin/sh
# onnxruntime 1.32.0's DynamicQuantizeLSTM, which its own quantize_dynamic makes of an LSTM, with several samples in a batch.
#
# One would guess: the number of threads changes how fast the answer comes, not the answer; the plain LSTM gives the same bits with one thread
# and with many.
# Seen: with one thread the hidden states of all samples are rounded to 8 bits by one scale, so a sample's answer follows from its neighbours; with as
# many threads as samples each has a scale of its own, and is answered as if it were alone. The two differ by some thousandths. A model that is
# measured on a machine of one core is another one on a machine of four.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat >"$folder/case.py" <<'PYTHON'
import logging
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

logging.disable(logging.WARNING)
STEPS, SAMPLES, INPUTS, HIDDEN = 20, 4, 8, 16
random = np.random.default_rng(0)


def weight(name, *shape):
    return numpy_helper.from_array((0.4 * random.normal(size=shape)).astype(np.float32), name)


def answers(file, x, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


weights = [weight("W", 1, 4 * HIDDEN, INPUTS), weight("R", 1, 4 * HIDDEN, HIDDEN)]
node = helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=HIDDEN)
value = lambda name, shape: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
graph = helper.make_graph(
    [node], "g", [value("x", ["time", "batch", INPUTS])], [value("y", ["time", 1, "batch", HIDDEN])], weights
)
plain, rounded = f"{sys.argv[1]}/plain.onnx", f"{sys.argv[1]}/rounded.onnx"
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), plain)
quantize_dynamic(plain, rounded, weight_type=QuantType.QInt8)
assert [node.op_type for node in onnx.load(rounded).graph.node] == ["DynamicQuantizeLSTM"]

x = random.uniform(-1, 1, size=(STEPS, SAMPLES, INPUTS)).astype(np.float32)
# The inputs' own scale, which is one for the whole batch, is that of the first sample alone.
x[0, 0, 0], x[0, 0, 1] = 1, -1
furthest = lambda one, other: float(np.abs(one - other).max())
print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
seen = {}
for name, file in (("plain", plain), ("rounded", rounded)):
    seen[name, "threads"] = furthest(answers(file, x, 1), answers(file, x, SAMPLES))
    print(f"{name}: one thread and {SAMPLES} differ by {seen[name, 'threads']:.6f}")
    for threads in (1, SAMPLES):
        together, alone = answers(file, x, threads)[:, :, 0], answers(file, x[:, :1], threads)[:, :, 0]
        seen[name, threads] = furthest(together, alone)
        print(f"{name}, {threads} threads: the first sample in the batch and alone differ by {seen[name, threads]:.6f}")
expected = (
    all(seen["plain", key] < 1e-6 for key in ("threads", 1, SAMPLES))
    and seen["rounded", "threads"] > 5e-4
    and seen["rounded", 1] > 5e-4
    and seen["rounded", SAMPLES] < 1e-6
)
raise SystemExit(0 if expected else "changed: this is no longer what was seen")
PYTHON
"$folder/python/bin/python" "$folder/case.py" "$folder"
