#!/bin/sh
# onnx 1.23.2's version converter and linear resizing (the way to bring old segmentation and detection models to a newer operator set).
#
# One would guess: onnx.version_converter.convert_version gives a model that computes the same, or raises.
# Seen: Upsample (set 9) and Resize (set 10) with mode "linear" become Resize without coordinate_transformation_mode. The old operators
# place pixels by x / scale ("asymmetric"), today's default is (x + 0.5) / scale - 0.5 ("half_pixel"), so every interpolated value moves, by up
# to half a pixel: nothing is raised, the checker is content, and onnxruntime gives other numbers than from the file before. With mode
# "nearest" and these factors the numbers stay.
# For who converts: set coordinate_transformation_mode = "asymmetric" on such nodes afterwards, and compare outputs.
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


def run(model, x):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def moved(op, opset, factor, mode):
    """The largest change of a 5x5 ramp 0, 1, … 24, and the mode of coordinates that the converted node has."""
    scales = numpy_helper.from_array(np.array([1, 1, factor, factor], np.float32), "scales")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 5, 5])
    size = int(5 * factor)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, size, size])
    graph = helper.make_graph([helper.make_node(op, ["x", "scales"], ["y"], mode=mode)], "g", [x], [y], [scales])
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)
    onnx.checker.check_model(before, full_check=True)
    after = onnx.version_converter.convert_version(before, 17)
    onnx.checker.check_model(after, full_check=True)
    placed = [a.s.decode() for n in after.graph.node for a in n.attribute if a.name == "coordinate_transformation_mode"]
    ramp = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
    return round(float(np.abs(run(before, ramp) - run(after, ramp)).max()), 3), placed


seen = {case: moved(*case) for case in (
    ("Upsample", 9, 2.0, "linear"), ("Resize", 10, 2.0, "linear"), ("Resize", 10, 0.5, "linear"), ("Resize", 10, 0.5, "nearest"))}
print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
for (op, opset, factor, mode), (change, placed) in seen.items():
    print(f"{op} of set {opset}, factor {factor}, {mode}, converted to 17: values of 0 to 24 move by up to {change}; coordinates: {placed or 'default'}")
linear = [change for (*_, mode), (change, placed) in seen.items() if mode == "linear" and not placed]
same = all(change > 0.5 for change in linear) and len(linear) == 3 and seen[("Resize", 10, 0.5, "nearest")][0] == 0.0
raise SystemExit(0 if same else "changed: this is no longer what was seen")
PYTHON
"$folder/python/bin/python" "$folder/case.py"
