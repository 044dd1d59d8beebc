#!/bin/sh
# torch 2.15.0's default ONNX exporter, with attention whose mask is computed from learned values, as T5's and Swin's biases of relative
# positions are.
#
# One would guess: whether gradients are recorded while a model in eval() is exported makes no difference; `torch.export.export` takes the
# model either way.
# Seen: torch.onnx.export ends in a ConversionError ("Cannot view a tensor with shape …") where the mask is computed from a parameter, and works
# inside torch.no_grad(), after requires_grad_(False), with the parameter itself as the mask, and by the older exporter (dynamo=False).
# A mask that needs a gradient has the attention recorded in another form, whose output lies otherwise in memory than the one that it is taken
# apart into later. For who exports models: do it inside torch.no_grad().
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 onnx==1.23.2 onnxscript==0.7.2 numpy==2.4.6
cat >"$folder/case.py" <<'PYTHON'
import contextlib
import io
import logging
import sys
import warnings

import torch
from torch.nn.functional import scaled_dot_product_attention

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)


class Attention(torch.nn.Module):
    """Two heads of four numbers over five positions, with a learned bias for each pair of positions."""

    def __init__(self, computed):
        super().__init__()
        self.computed = computed
        self.project = torch.nn.Linear(8, 8)
        self.bias = torch.nn.Parameter(torch.zeros(1, 2, 5, 5))

    def forward(self, x):
        q = self.project(x).view(x.shape[0], 5, 2, 4).transpose(1, 2)
        bias = 2 * self.bias if self.computed else self.bias
        return scaled_dot_product_attention(q, q, q, attn_mask=bias).transpose(1, 2).reshape(x.shape[0], 5, 8)


def exported(model, dynamo=True):
    """`ok`, or the kind of the error and the first line of its cause."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            torch.onnx.export(model, (torch.zeros(2, 5, 8),), f"{sys.argv[1]}/model.onnx", dynamo=dynamo, opset_version=17 if not dynamo else 20)
        return "ok"
    except Exception as error:
        return f"{type(error).__name__}: {str(error.__cause__ or error).strip().splitlines()[0][:60]}"


print("torch", torch.__version__)
computed = Attention(computed=True).eval()
torch.export.export(computed, (torch.zeros(2, 5, 8),))
seen = {"computed bias": exported(computed)}
with torch.no_grad():
    seen["computed bias, no_grad()"] = exported(computed)
seen["computed bias, dynamo=False"] = exported(computed, dynamo=False)
seen["the parameter itself"] = exported(Attention(computed=False).eval())
seen["computed bias, requires_grad_(False)"] = exported(computed.requires_grad_(False))
for case, outcome in seen.items():
    print(f"{case}: {outcome}")
failed = seen.pop("computed bias")
expected = failed.startswith("ConversionError: Cannot view a tensor") and set(seen.values()) == {"ok"}
raise SystemExit(0 if expected else "changed: this is no longer what was seen")
PYTHON
"$folder/python/bin/python" "$folder/case.py" "$folder"
