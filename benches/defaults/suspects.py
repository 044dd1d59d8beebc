"""Wrong labels: what `edgetune data check` finds of them, beside cleanlab on the same features.

    python suspects.py EDGETUNE DATA SCRATCH [NAME ...]

A tenth of the labels of up to 1,000 training samples are changed at random (seeds 0 to 4). Recall is the share of the changed labels that
are named, precision the share of the named that were changed. cleanlab (`filter.find_label_issues` at its defaults) gets the
probabilities of a five-fold cross-validated LogisticRegression on standardised features, as its documentation proposes; its
seconds are those of both. edgetune's are of the whole command with features in the cache: reading, comparing all pairs for duplicates and
outliers, and the labels. One thread each.
"""

import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import run
from cleanlab.filter import find_label_issues
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SAMPLES = 1000


def changed(labels, classes, seed):
    """Labels of which a tenth are another class, and which those are."""
    random = np.random.default_rng(seed)
    wrong = random.random(len(labels)) < 0.1
    other = (labels + random.integers(1, classes, len(labels))) % classes
    return np.where(wrong, other, labels), wrong


def written(of, chosen, labels, folder):
    """The samples with these labels as edgetune reads them: one array a sample."""
    folder.mkdir(parents=True, exist_ok=True)
    feeds = {name: value[chosen] for name, value in of.feeds("train").items()}
    np.savez(folder / "data.npz", **feeds, y=labels)
    return folder / "data.npz"


def edgetune(program, base, data, cache):
    command = [program, "data", "check", data, "--model", base, "--cache", cache, "--threads", 1, "--json"]
    command = [str(part) for part in command]
    for _ in range(2):  # the second time features are in the cache
        began = time.perf_counter()
        ran = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if ran.returncode:
            raise SystemExit(f"{' '.join(command)}\n{ran.stderr}")
    found = json.loads(ran.stdout)["label_errors"]
    return [int(one["sample"].rsplit("[", 1)[1].rstrip("]")) for one in found], seconds


def cleanlab(x, labels):
    began = time.perf_counter()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=400))
    answers = cross_val_predict(model, x, labels, cv=5, method="predict_proba")
    return np.flatnonzero(find_label_issues(labels, answers)), time.perf_counter() - began


def main():
    program, data, scratch = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    print("| data | samples | edgetune: recall, precision, s | cleanlab: recall, precision, s |\n|---|---:|---:|---:|")
    for name in sys.argv[4:] or run.KINDS:
        of = run.ROWS[name][0](data, scratch)
        features = run.kept_features(of, name, scratch)["train"]
        found = {"edgetune": [], "cleanlab": []}
        for seed in range(5):
            chosen = np.random.default_rng(seed).permutation(len(features))[:SAMPLES]
            right = np.unique(of.labels("train")[chosen], return_inverse=True)[1]
            labels, wrong = changed(right, right.max() + 1, seed)
            file = written(of, chosen, labels, scratch / name / f"suspects-{seed}")
            for peer, (named, seconds) in {
                "edgetune": edgetune(program, of.base, file, scratch / "cache"),
                "cleanlab": cleanlab(features[chosen], labels),
            }.items():
                hits = wrong[named].sum()
                found[peer].append((hits / wrong.sum(), hits / max(len(named), 1), seconds))
            file.unlink()
        cells = [np.array(found[peer]).mean(0) for peer in ["edgetune", "cleanlab"]]
        cells = " | ".join(f"{100 * recall:.0f} %, {100 * precision:.0f} %, {seconds:.1f}" for recall, precision, seconds in cells)
        print(f"| {name.split(',')[0]} | {len(chosen)} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
