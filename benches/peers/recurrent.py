"""One step of a recurrent layer and a head, edgetune's and PyTorch's: milliseconds, with the same sizes, batches, threads and AdamW.

Usage: python recurrent.py EDGETUNE [THREADS]   (needs torch, onnx and numpy; ORT_DYLIB_PATH where edgetune has no ONNX Runtime)
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SAMPLES, BATCH, EPOCHS, CLASSES = 320, 16, 4, 10
# Layer, steps, numbers a step, hidden numbers.
SIZES = [("LSTM", 100, 64, 128), ("GRU", 100, 64, 128), ("LSTM", 50, 6, 32), ("GRU", 50, 6, 32)]


class Model(nn.Module):
    def __init__(self, kind, inputs, hidden):
        super().__init__()
        self.recurrent, self.head = getattr(nn, kind)(inputs, hidden, batch_first=True), nn.Linear(hidden, CLASSES)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


def pytorch(model, x, y):
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    times = []
    for _ in range(EPOCHS):
        for at in range(0, SAMPLES, BATCH):
            start = time.perf_counter()
            optimizer.zero_grad()
            F.cross_entropy(model(x[at : at + BATCH]), y[at : at + BATCH]).backward()
            optimizer.step()
            times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def edgetune(program, folder, threads):
    command = [program, "train", "m.onnx", "--data", "d.npz", "--train", "last:2", "--solver", "steps", "--epochs", str(EPOCHS),
               "--batch", str(BATCH), "--threads", str(threads), "--val-fraction", "0", "--cache", "cache", "--out", "a.edelta", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return 1e3 / json.loads(done.stdout)["steps_per_s"]


def main():
    warnings.filterwarnings("ignore")
    program, threads = str(pathlib.Path(sys.argv[1]).resolve()), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    for kind, steps, inputs, hidden in SIZES:
        model, x = Model(kind, inputs, hidden), torch.randn(SAMPLES, steps, inputs)
        y = torch.arange(SAMPLES) % CLASSES
        with tempfile.TemporaryDirectory() as folder:
            torch.onnx.export(model.eval(), (x[:2],), f"{folder}/m.onnx", dynamo=False, input_names=["x"], output_names=["logits"],
                              dynamic_axes={"x": {0: "batch"}})
            np.savez(f"{folder}/d.npz", x=x.numpy(), y=y.numpy())
            ours = edgetune(program, folder, threads)
        theirs = pytorch(model.train(), x, y)
        print(f"{kind} of {steps} steps, {inputs} → {hidden}, batch {BATCH}, {threads} thread(s): edgetune {ours:.2f} ms a step, "
              f"PyTorch {theirs:.2f} ms, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
