"""Writes ../loss/: losses as torch exports them, a small model, and what PyTorch's own training by them gives.

model.onnx is a linear layer, tanh and a linear layer of three columns; data.npz holds `x` and the arrays that the losses take by the
names of their inputs. focal.onnx, quantile.onnx and coral.onnx are losses; losses.json has for each the loss of 20 steps of
SGD (momentum 0.9) on the last layer over all samples at once, in float64, and the loss after them. model_newer.onnx and
quantile_newer.onnx are of operator set 20.

What is no loss: fixed.onnx has a fixed batch, rows.onnx gives a loss a sample, hard.onnx has a node without a gradient, alone.onnx takes
no labels.

Usage: python loss.py
"""

import copy
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

OUT = pathlib.Path(__file__).resolve().parent.parent / "loss"
SAMPLES, STEPS, RATE = 48, 20, 0.2


class Focal(nn.Module):
    """Lin et al. 2017, with a weight for each sample."""

    def forward(self, logits, target, weight):
        log = F.log_softmax(logits, dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
        return (-weight * (1 - log.exp()) ** 2 * log).mean()


class Quantile(nn.Module):
    """The pinball loss of three quantiles (Koenker and Bassett 1978)."""

    def forward(self, output, y):
        shares = torch.tensor([0.1, 0.5, 0.9], dtype=output.dtype)
        error = y.unsqueeze(1) - output
        return torch.maximum(shares * error, (shares - 1) * error).mean()


class Coral(nn.Module):
    """As coral-pytorch has it, from the class of a sample."""

    def forward(self, logits, grade):
        levels = (grade.unsqueeze(1) > torch.arange(3)).to(logits.dtype)
        log = F.logsigmoid(logits)
        return (-torch.sum(log * levels + (log - logits) * (1 - levels), dim=1)).mean()


class Rows(nn.Module):
    def forward(self, output, y):
        return ((output - y.unsqueeze(1)) ** 2).mean(dim=1)


class Hard(nn.Module):
    """The determinant has no gradient in edgetune."""

    def forward(self, output, y):
        return torch.det(output.T @ output) * y.mean()


class Alone(nn.Module):
    def forward(self, output):
        return (output ** 2).mean()


def export(name, loss, *inputs, names, fixed=False, opset=17):
    axes = None if fixed else {name: {0: "batch"} for name in names}
    torch.onnx.export(loss, inputs, OUT / f"{name}.onnx", input_names=names, output_names=["loss"], dynamic_axes=axes,
                      opset_version=opset, dynamo=False)


def trained(model, loss, x, labels):
    """The loss before each step, and after the last."""
    model, x = copy.deepcopy(model).double(), x.double()
    labels = [label.double() if label.is_floating_point() else label for label in labels]
    update = torch.optim.SGD(model[2].parameters(), lr=RATE, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        update.zero_grad()
        value = loss(model(x), *labels)
        value.backward()
        update.step()
        losses.append(value.item())
    return {"losses": losses, "after": loss(model(x), *labels).item()}


def main():
    OUT.mkdir(exist_ok=True)
    torch.manual_seed(31)
    rng = np.random.default_rng(31)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    x = rng.normal(0, 1, (SAMPLES, 6)).astype(np.float32)
    slope = x @ rng.normal(0, 1, 6)
    arrays = dict(x=x, target=np.digitize(slope, [-1, 1]).astype(np.int64), y=(slope + rng.normal(0, 1, SAMPLES)).astype(np.float32),
                  weight=rng.uniform(0.5, 2, SAMPLES).astype(np.float32), grade=np.digitize(slope, [-2, 0, 2]).astype(np.int64))
    np.savez(OUT / "data.npz", **arrays)
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    for name, opset in [("model", 17), ("model_newer", 20)]:
        torch.onnx.export(model, (tensors["x"],), OUT / f"{name}.onnx", input_names=["x"], output_names=["scores"],
                          dynamic_axes={"x": {0: "batch"}, "scores": {0: "batch"}}, opset_version=opset, dynamo=False)
    output = model(tensors["x"]).detach()
    told = {"steps": STEPS, "samples": SAMPLES, "rate": RATE}
    for name, loss, takes in [("focal", Focal(), ["target", "weight"]), ("quantile", Quantile(), ["y"]), ("coral", Coral(), ["grade"])]:
        labels = [tensors[taken] for taken in takes]
        export(name, loss, output, *labels, names=["logits", *takes])
        told[name] = trained(model, loss, tensors["x"], labels)
    y = tensors["y"]
    export("quantile_newer", Quantile(), output, y, names=["output", "y"], opset=20)
    export("fixed", Quantile(), output, y, names=["output", "y"], fixed=True)
    export("rows", Rows(), output, y, names=["output", "y"])
    export("hard", Hard(), output, y, names=["output", "y"])
    export("alone", Alone(), output, names=["output"])
    (OUT / "losses.json").write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
