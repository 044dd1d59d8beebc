#!/bin/sh
# torch 2.15.0, its two ONNX exporters, and a BatchNorm2d without running statistics in a model that is in eval().
#
# One would guess: a file that was exported after model.eval() answers for each sample by itself; and what looks at the batch can be told by
# the attribute training_mode of BatchNormalization.
# Seen: track_running_stats=False takes the batch's own statistics in eval(), too. The default exporter writes a BatchNormalization in its form
# for inference (no training_mode), whose mean and variance are inputs that ReduceMean nodes compute from the batch. So the answer for
# a sample changes with its neighbours, exactly as it does in torch, and no attribute says so. The older exporter (dynamo=False)
# raises an AssertionError for the same model where the batch is open, and writes training_mode=1 where it is a number.
# For who deploys models: compare one sample alone with the same sample in a batch.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
cat >"$folder/case.py" <<'PYTHON'
import contextlib
import io
import logging
import sys
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import torch

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
torch.manual_seed(0)
norm = torch.nn.BatchNorm2d(8, track_running_stats=False)
model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), norm, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
example, path = (torch.randn(2, 3, 8, 8),), sys.argv[1]


def modes():
    """training_mode of each BatchNormalization in the file; None where the attribute is not there."""
    nodes = [node for node in onnx.load(path).graph.node if node.op_type == "BatchNormalization"]
    return [next((a.i for a in node.attribute if a.name == "training_mode"), None) for node in nodes]


torch.onnx.export(model, example, path, input_names=["x"], dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False)
default = modes()
session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
x = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32) * np.array([1, 5, 5, 5], np.float32)[:, None, None, None]
together = session.run(None, {"x": x})[0]
alone = session.run(None, {"x": x[:1]})[0]
neighbours = float(abs(together[0] - alone[0]).max())
as_torch = float(abs(together - model(torch.tensor(x)).detach().numpy()).max())
try:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the whole graph
        torch.onnx.export(model, example, path, input_names=["x"], dynamic_axes={"x": {0: "batch"}}, dynamo=False)
    older_open = "exported"
except AssertionError:
    older_open = "AssertionError"
torch.onnx.export(model, example, path, input_names=["x"], dynamo=False)
older_fixed = modes()
print("torch", torch.__version__, "onnx", onnx.__version__, "onnxruntime", ort.__version__)
print("default exporter: training_mode", default)
print(f"  the first sample's answer changes by {neighbours:.3f} with its neighbours; from torch's own by {as_torch:.1e}")
print("older exporter, open batch:", older_open, "| fixed batch: training_mode", older_fixed)
seen = (default == [None], neighbours > 0.05, as_torch < 1e-5, older_open == "AssertionError", older_fixed == [1])
raise SystemExit(0 if all(seen) else f"changed: this is no longer what was seen: {seen}")
PYTHON
"$folder/python/bin/python" "$folder/case.py" "$folder/model.onnx" 2>"$folder/said" || { cat "$folder/said"; exit 1; }
