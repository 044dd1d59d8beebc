"""What is kept of a base's knowledge, and what is learned, with and without each counter-measure against forgetting.

    python run.py EDGETUNE SCRATCH [vision|text ...]

SCRATCH holds what `features.py` wrote. A base is a linear head over the features, fitted by scikit-learn on samples of its own; what is learned
are 20 samples of each class. Two questions: *classes* (the base knows half of them, the other half is new) and *domain* (the same classes in
another domain). Five draws each. `kept` is the accuracy on test samples of what the base knew, over that of the base; `new` the accuracy on test
samples of what was learned.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

SEEDS = range(5)
NEW, KNOWN = 20, 30
KEPT = ["--retention", "base.retention"]
NO_WAY_BACK = ["--rewind", "1"]
WAYS = {
    "nothing": NO_WAY_BACK,
    "default": KEPT,
    "replay": KEPT + NO_WAY_BACK,
    "rewind": KEPT + ["--replay", "0"],
    "L2-SP 10": NO_WAY_BACK + ["--l2-sp", "10"],
    "EWC 10": KEPT + ["--replay", "0", "--ewc", "10"] + NO_WAY_BACK,
    "distill 1": NO_WAY_BACK + ["--distill", "1"],
    "replay, distill 1": KEPT + NO_WAY_BACK + ["--distill", "1"],
    "replay, L2-SP 10": KEPT + NO_WAY_BACK + ["--l2-sp", "10"],
}


def head(folder, x, y, classes):
    """A base of these classes, and its names beside it."""
    fitted = LogisticRegression(max_iter=3000, C=1.0).fit(x, y)
    weights = fitted.coef_.astype(np.float32).T
    node = helper.make_node("Gemm", ["features", "w", "b"], ["y"])
    value = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
    initializers = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(fitted.intercept_.astype(np.float32), "b")]
    nodes = [helper.make_node("Identity", ["x"], ["features"]), node]
    graph = helper.make_graph(nodes, "head", [value("x", x.shape[1])], [value("y", len(classes))], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "base.onnx")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in fitted.classes_))
    return fitted


def edgetune(program, folder, *command):
    done = subprocess.run([program, *command], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout)


def drawn(random, y, classes, each, without=()):
    rest = np.setdiff1d(np.arange(len(y)), without)
    return np.concatenate([random.permutation(rest[y[rest] == one])[:each] for one in classes])


def save(folder, name, x, y):
    np.savez(folder / f"{name}.npz", x=x.astype(np.float32), y=y)


def question(kind, data, seed, folder):
    """Writes base and data; gives the accuracy of the base on what it knows."""
    random = np.random.default_rng(seed)
    classes = np.unique(data["train_y"])
    y, test_y = data["train_y"], data["test_y"]
    if kind == "classes":
        order = random.permutation(classes)
        old, new = np.sort(order[: len(classes) // 2]), np.sort(order[len(classes) // 2 :])
        learned, tested = data["train_x"], data["test_x"]
    else:
        old, new = classes, classes
        learned, tested = data["train_shifted"], data["test_shifted"]
    fresh = drawn(random, y, new, NEW)
    own = np.setdiff1d(np.flatnonzero(np.isin(y, old)), fresh)
    fitted = head(folder, data["train_x"][own], y[own], old)
    known = drawn(random, y, old, KNOWN, fresh)
    save(folder, "known", data["train_x"][known], y[known])
    save(folder, "new", learned[fresh], y[fresh])
    for name, x, of in [("test-old", data["test_x"], old), ("test-new", tested, new)]:
        chosen = np.isin(test_y, of)
        save(folder, name, x[chosen], test_y[chosen])
    chosen = np.isin(test_y, old)
    return fitted.score(data["test_x"][chosen], test_y[chosen])


def row(program, scratch, name, kind, ways):
    data = np.load(scratch / f"{name}.npz")
    found = {way: [] for way in ways}
    for seed in SEEDS:
        folder = scratch / f"{name}-{kind}-{seed}"
        folder.mkdir(exist_ok=True)
        before = question(kind, data, seed, folder)
        common = ["--cache", "cache", "--force", "--json", "--threads", "1"]
        edgetune(program, folder, "retention", "make", "base.onnx", "--data", "known.npz", *common)
        for way, options in ways.items():
            train = ["train", "base.onnx", "--data", "new.npz", "--classes", "labels.txt", "--out", "a.edelta", "--seed", str(seed)]
            report = edgetune(program, folder, *train, *options, *common)
            measured = [
                edgetune(program, folder, "eval", "base.onnx", "--adapter", "a.edelta", "--data", f"test-{part}.npz", "--json", "--cache", "cache")
                for part in ["old", "new"]
            ]
            old, new = (one["accuracy"] for one in measured)
            found[way].append((100 * old / before, 100 * new, (report["retention"] or {}).get("way", 1.0)))
    for way, runs in found.items():
        (kept, new, back), spread = np.mean(runs, 0), np.std(runs, 0)
        print(f"| {name}, {kind} | {way} | {kept:.1f} ± {spread[0]:.1f} | {new:.1f} ± {spread[1]:.1f} | {back:.2f} |", flush=True)


def main():
    program, scratch = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    names = [name for name in sys.argv[3:] if name in ("vision", "text")] or ["vision", "text"]
    print("| data, question | against forgetting | kept, % of the base | new, % | way |\n|---|---|---:|---:|---:|")
    for name in names:
        for kind in ["classes", "domain"]:
            row(program, scratch, name, kind, WAYS)


if __name__ == "__main__":
    main()
