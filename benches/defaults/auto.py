"""What `--train auto` reaches, beside `--train head` and `--train last:5`, each at its defaults.

    python auto.py EDGETUNE DATA SCRATCH [NAME ...]

DATA is as `run.py` has it. Each row is three draws of the training samples (seeds 0 to 2), measured on all test samples.
"""

import json
import pathlib
import subprocess
import sys
import time

import numpy as np

from run import draw, opened

SEEDS = range(3)
CHOICES = ["head", "last:5", "auto"]
NAMES = [
    "photographs, 10 a class",
    "questions (trec6), 14 a class",
    "instruments (sounds), 10 a class",
    "power demand (sensors), 20 a class",
]


def train(program, base, train, test, out, seed, cache, choice):
    """The accuracy on the test samples, and the seconds that it took."""
    command = [program, "train", base, "--data", train, "--test", test, "--train", choice, "--seed", seed, "--out", out]
    command = [str(part) for part in [*command, "--cache", cache, "--force", "--json"]]
    began = time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)}\n{run.stderr}")
    return json.loads(run.stdout)["test"]["after"]["accuracy"], time.monotonic() - began


def row(name, program, data, scratch):
    there = opened(name, data, scratch)
    if there is None:
        return
    of, per_class, test = there
    found = {choice: [] for choice in CHOICES}
    for seed in SEEDS:
        chosen = draw(of.labels("train"), per_class, seed)
        samples = of.write("train", chosen, scratch / name / f"train-{seed}")
        for choice in CHOICES:
            out = scratch / name / f"{seed}-{choice.replace(':', '')}.edelta"
            found[choice].append(train(program, of.base, samples, test, out, seed, scratch / "cache", choice))
    cells = [
        f"{100 * np.mean([a for a, _ in runs]):.1f} ± {100 * np.std([a for a, _ in runs]):.1f} ({np.mean([s for _, s in runs]):.0f} s)"
        for runs in found.values()
    ]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main():
    program, data, scratch = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    scratch.mkdir(parents=True, exist_ok=True)
    print(f"| data | {' | '.join(CHOICES)} |\n|---|{'---:|' * len(CHOICES)}")
    for name in sys.argv[4:] or NAMES:
        row(name, program, data, scratch)


if __name__ == "__main__":
    main()
