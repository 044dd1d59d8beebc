"""Writes ../newest/: small models as torch's default exporter writes them at operator sets 23 and 24, with dimensions of 1 that the standard
spreads and ONNX Runtime 1.32 refuses, and the losses of PyTorch's own training. README.md in the folder above tells the format.

Usage: python newest.py
"""

import json
import logging
import pathlib
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import exporters

OUT = pathlib.Path(__file__).resolve().parent.parent / "newest"
BATCH, POSITIONS, WIDTH, HEADS, SIZE = exporters.BATCH, 10, 16, 2, 8


class Turned(nn.Module):
    """Angles of all positions as `[1, positions, half]`."""

    def __init__(self):
        super().__init__()
        self.below, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, exporters.CLASSES)
        angles = torch.arange(POSITIONS)[:, None] * 10.0 ** -torch.arange(SIZE // 2)
        self.register_buffer("cos", angles.cos()[None])
        self.register_buffer("sin", angles.sin()[None])

    def forward(self, x):
        y = self.below(x)
        if torch.onnx.is_in_onnx_export():
            y = torch.onnx.ops.rotary_embedding(y, self.cos, self.sin, num_heads=HEADS)
        else:
            y = y.unflatten(2, (HEADS, SIZE))
            one, other = y.chunk(2, -1)
            cos, sin = self.cos.to(y.dtype)[:, :, None], self.sin.to(y.dtype)[:, :, None]
            y = torch.cat([one * cos - other * sin, other * cos + one * sin], -1).flatten(2)
        return self.head(torch.tanh(y).mean(1))


class Masked(nn.Module):
    """The mask of keys alone, `[batch, 1, 1, keys]`."""

    def __init__(self, floats):
        super().__init__()
        self.floats = floats
        self.below, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, exporters.CLASSES)

    def forward(self, x, attention_mask):
        kept = attention_mask[:, None, None, :]
        y = self.below(x).unflatten(2, (HEADS, SIZE)).transpose(1, 2)
        mask = (1 - kept.to(y.dtype)) * -1e4 if self.floats else kept > 0
        y = F.scaled_dot_product_attention(y, y, y, attn_mask=mask)
        return self.head(y.transpose(1, 2).flatten(2).mean(1))


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    OUT.mkdir(exist_ok=True)
    entries, arrays = [], {}
    cases = [("turned", Turned, ()), ("masked_bool", Masked, (False,)), ("masked_float", Masked, (True,))]
    for name, kind, arguments in cases:
        for opset in (23, 24):
            torch.manual_seed(0)
            model = exporters.perturbed(kind(*arguments))
            inputs = ["x"] if name == "turned" else ["x", "attention_mask"]
            batches = []
            for number in range(exporters.BATCHES):
                random = np.random.default_rng(number)
                mask = np.ones((BATCH, POSITIONS), np.int64)
                mask[::2, 6:] = 0
                labels = np.arange(BATCH) % exporters.CLASSES
                x = (random.normal(size=(BATCH, POSITIONS, WIDTH)) + labels[:, None, None] * 0.5).astype(np.float32)
                batches.append({"x": x, "attention_mask": mask, "labels": labels})
            path = OUT / f"{name}_{opset}.onnx"
            given = tuple(torch.tensor(batches[0][key]) for key in inputs)
            torch.onnx.export(model, given, path, input_names=inputs, output_names=["logits"], opset_version=opset, dynamo=True, verbose=False,
                              external_data=False, dynamic_shapes=tuple({0: "batch"} for _ in inputs))
            exporters.cleaned(path)
            kept = exporters.places(path, model)
            trains = [place["parameter"] for place in kept]
            losses = exporters.train(model, batches, inputs, trains)
            entries.append({"name": path.stem, "model": path.name, "arrays": "arrays.npz", "prefix": f"{name}/", "batches": exporters.BATCHES,
                            "parameters": kept, "runs": [{"name": "deep", "trains": trains, "learning_rate": exporters.RATE, "losses": losses,
                                                          "optimizer": {"kind": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}}]})
            print(f"{path.stem:18} {len(kept)} parameters  {losses[0]:.4f} → {losses[-1]:.4f}")
        for key in [*inputs, "labels"]:
            arrays[f"{name}/{key}"] = np.stack([batch[key] for batch in batches])
    np.savez_compressed(OUT / "arrays.npz", **arrays)
    (OUT / "newest.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
