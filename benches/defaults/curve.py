"""What twice as many samples give, beside what `edgetune data check` has foretold.

    python curve.py EDGETUNE DATA SCRATCH [NAME ...]

Of all samples of a row N are drawn (seeds 0 to 4), and N more. `data check` sees the first N and says how many points of accuracy twice as many would
add. What they add is what `edgetune train` without any option reaches with all 2·N, less what it reaches with N, on the samples that were
in neither (3,000 at most). Both get the features that the base's body gives, as arrays before a linear layer.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import run
from onnx import TensorProto, helper

SEEDS = range(5)
COUNTS = [120, 240, 480]
TESTED = 3000
POINTS = 3.0


def pooled(name, data, scratch):
    """All samples of a row: features `[samples, features]` and classes."""
    of = run.ROWS[name][0](data, scratch)
    x = run.kept_features(of, name, scratch)
    y = np.concatenate([of.labels("train"), of.labels("test")])
    return np.concatenate([x["train"], x["test"]]), np.unique(y, return_inverse=True)[1]


def base(width, classes, path):
    """A linear layer of zeros for the features."""
    weights = helper.make_tensor("head.weight", TensorProto.FLOAT, [classes, width], np.zeros(classes * width, np.float32))
    bias = helper.make_tensor("head.bias", TensorProto.FLOAT, [classes], np.zeros(classes, np.float32))
    node = helper.make_node("Gemm", ["x", "head.weight", "head.bias"], ["logits"], transB=1)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", w]) for n, w in [("x", width), ("logits", classes)]]
    graph = helper.make_graph([node], "head", ends[:1], ends[1:], [weights, bias])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def answer(program, *command):
    command = [str(part) for part in [program, *command, "--threads", 2, "--json"]]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)}\n{ran.stderr}")
    return json.loads(ran.stdout)


def case(program, x, y, chosen, folder):
    """Foretold and come, in points; None where `data check` tells nothing."""
    few, many, rest = chosen
    for name, samples in [("few", few), ("many", many), ("rest", rest)]:
        np.savez(folder / f"{name}.npz", x=x[samples], y=y[samples])
    model = folder / "head.onnx"
    base(x.shape[1], int(y.max()) + 1, model)
    cache = ["--cache", folder / "cache"]
    curve = answer(program, "data", "check", folder / "few.npz", "--model", model, *cache)["learning_curve"]
    if curve is None:
        return None
    reached = []
    for name in ["few", "many"]:
        out = ["--out", folder / "out.edelta", "--force", *cache]
        told = answer(program, "train", model, "--data", folder / f"{name}.npz", "--test", folder / "rest.npz", *out)
        reached.append(told["test"]["after"]["accuracy"])
    return 100 * curve["gain_of_twice"], 100 * (reached[1] - reached[0]), curve["accuracy"]


def main():
    program, data, scratch = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    print(f"| data | samples | foretold | came | within {POINTS:.0f} points |\n|---|---:|---:|---:|---:|")
    within = cases = 0
    for name in sys.argv[4:] or run.KINDS:
        x, y = pooled(name, data, scratch)
        folder = scratch / "curve" / name
        folder.mkdir(parents=True, exist_ok=True)
        for count in [count for count in COUNTS if 2 * count + 200 <= len(y)]:
            found = []
            for seed in SEEDS:
                order = np.random.default_rng(seed).permutation(len(y))
                chosen = order[:count], order[: 2 * count], order[2 * count :][:TESTED]
                found.append(case(program, x, y, chosen, folder))
            told = [one for one in found if one is not None]
            good = sum(abs(foretold - came) <= POINTS for foretold, came, _ in told)
            within, cases = within + good, cases + len(told)
            cells = [" ".join(f"{one[column]:.1f}" for one in told) for column in [0, 1]]
            print(f"| {name.split(',')[0]} | {count} | {cells[0]} | {cells[1]} | {good} of {len(told)} |", flush=True)
            print([[round(float(v), 4) for v in one[2]] for one in told], file=sys.stderr)
    print(f"\n{within} of {cases} cases are within {POINTS:.0f} points.")


if __name__ == "__main__":
    main()
