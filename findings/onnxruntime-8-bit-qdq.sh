#!/bin/sh
# onnxruntime 1.32.0's MatMulNBitsQuantizer, 8 bits, format QDQ.
#
# One would guess: it quantises weights in 4 or 8 bits and writes either format, or raises where it cannot.
# Seen: 4 bits in both formats and 8 bits as QOperator (MatMulNBits) work. 8 bits as QDQ logs one line at level ERROR, raises nothing, and
# process() returns with the model as it was: all weights in float32. A script that does not read its log ships a model of four times the
# size that it believes to be quantised.
# For who quantises: count DequantizeLinear and MatMulNBits nodes afterwards.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 onnx-ir==1.1.0 ml_dtypes==0.6.0
cat >"$folder/case.py" <<'PYTHON'
import logging

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

logging.disable(logging.INFO)


def quantised(bits, form):
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    quantizer = MatMulNBitsQuantizer(model, bits=bits, block_size=32, is_symmetric=False, quant_format=form)
    quantizer.process()
    graph = quantizer.model.model.graph
    return sorted(node.op_type for node in graph.node), sorted({TensorProto.DataType.Name(i.data_type) for i in graph.initializer})


seen = {(bits, form.name): quantised(bits, form) for bits in (4, 8) for form in (QuantFormat.QOperator, QuantFormat.QDQ)}
print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
for (bits, form), (nodes, types) in seen.items():
    print(f"{bits} bits as {form}: nodes {nodes}, initializers of {types}")
expected = {(4, "QOperator"): ["MatMulNBits"], (4, "QDQ"): ["DequantizeLinear", "MatMul"], (8, "QOperator"): ["MatMulNBits"], (8, "QDQ"): ["MatMul"]}
same = {key: nodes for key, (nodes, _) in seen.items()} == expected and seen[(8, "QDQ")][1] == ["FLOAT"]
raise SystemExit(0 if same else "changed: this is no longer what was seen")
PYTHON
"$folder/python/bin/python" "$folder/case.py"
