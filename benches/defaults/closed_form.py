"""How long L-BFGS takes beside ten epochs of gradient steps, and what both reach: what `WORK_MAX` of `choose.rs` rests on.

    python closed_form.py EDGETUNE SCRATCH

A linear head on made-up features: Gaussian clusters with noise three times as large as their distance, so that no head is right on
all. Each row is one draw with a fifth held out, the two solvers one after the other.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZES = [(512, 20, 1000), (512, 100, 2000), (512, 100, 8000), (512, 200, 10000), (256, 20, 40000)]


def model(features):
    """A head of seven classes behind a ReLU; another number of classes replaces it."""
    weights = np.random.default_rng(0).normal(size=(features, 7)).astype(np.float32) / 100
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    value = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
    initializers = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.zeros(7, np.float32), "b")]
    graph = helper.make_graph(nodes, "head", [value("x", features)], [value("y", 7)], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main():
    program, scratch = sys.argv[1], pathlib.Path(sys.argv[2])
    scratch.mkdir(parents=True, exist_ok=True)
    print("| features | classes | samples | product | L-BFGS | steps |\n|---:|---:|---:|---:|---:|---:|")
    for features, classes, samples in SIZES:
        random = np.random.default_rng(0)
        onnx.save(model(features), scratch / "model.onnx")
        centres, y = np.maximum(random.normal(size=(classes, features)), 0), random.integers(0, classes, samples)
        np.savez(scratch / "data.npz", x=(centres[y] + 3 * random.normal(size=(samples, features))).astype(np.float32), y=y)
        cells = []
        for solver in ["lbfgs", "steps"]:
            command = [program, "train", "model.onnx", "--data", "data.npz", "--solver", solver, "--out", "a.edelta"]
            run = subprocess.run([*command, "--cache", "cache", "--force", "--json"], cwd=scratch, capture_output=True, text=True)
            if run.returncode:
                raise SystemExit(run.stderr)
            report = json.loads(run.stdout)
            after = report["validation"]["after"]
            cells.append(f"{report['seconds']:.1f} s, {100 * after['accuracy']:.1f} %, loss {after['loss']:.3f}")
        product = f"{features * classes * samples:.1e}"
        print(f"| {features} | {classes} | {samples} | {product} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
