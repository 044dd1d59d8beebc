"""What happens where folders sort otherwise than the base's own classes: the head that is there would be wrong on nearly all of them.

    python names.py EDGETUNE DATA SCRATCH

A base that knows ten classes is made first: a head trained on photographs and merged. Then more photographs of the same ten come, once in folders
of the base's own names and once in folders whose names sort in another order and that the base does not know, as a newcomer's do.
"""

import json
import pathlib
import shutil
import statistics
import subprocess
import sys

import numpy as np

SEEDS = range(5)
PER_CLASS = 20


def run(program, *command):
    done = subprocess.run([program, *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def copied(source, target, names, chosen):
    """A folder a class, of the chosen files (all where `chosen` is None)."""
    for folder in sorted(source.iterdir()):
        files = sorted(folder.iterdir())
        kept = files if chosen is None else [files[place] for place in chosen]
        to = target / names[folder.name]
        to.mkdir(parents=True, exist_ok=True)
        for file in kept:
            shutil.copy(file, to / file.name)
    return target


def main():
    program, data, scratch = sys.argv[1], pathlib.Path(sys.argv[2]) / "vision/cifar10-subset", pathlib.Path(sys.argv[3])
    base = pathlib.Path(__file__).parents[2] / "models/efficientnet_lite0/model.onnx"
    classes = sorted(folder.name for folder in (data / "train").iterdir())
    found = {"own names": [], "other names": []}
    with_cache = ["--cache", scratch / "cache", "--force", "--json"]
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(400)
        own = {name: name for name in classes}
        here = scratch / f"names-{seed}"
        first = copied(data / "train", here / "first", own, order[:PER_CLASS])
        run(program, "train", base, "--data", first, "--out", here / "first.edelta", *with_cache)
        run(program, "export", "--model", base, "--adapter", here / "first.edelta", "--to", "onnx", "--out", here / "known.onnx", "--force")
        # Dinghy, moggy …: none is a name that the base knows, and their order is another one.
        other = {name: f"{'zyxwvutsrq'[place]}-mine" for place, name in enumerate(classes)}
        for kind, names in [("own names", own), ("other names", other)]:
            train = copied(data / "train", here / kind / "train", names, order[PER_CLASS : 2 * PER_CLASS])
            test = copied(data / "test", here / kind / "test", names, None)
            out = here / f"{kind}.edelta"
            report = json.loads(run(program, "train", here / "known.onnx", "--data", train, "--test", test, "--out", out, *with_cache))
            found[kind].append(report["test"]["after"]["accuracy"])
    print("| folders | edgetune |\n|---|---:|")
    for kind, values in found.items():
        print(f"| {kind} | {100 * statistics.mean(values):.1f} ± {100 * statistics.pstdev(values):.1f} |")


if __name__ == "__main__":
    main()
