"""The job that every peer does, and how it is measured: arguments, images, memory, and the line of JSON at the end.

The job: learn to sort a folder of images (`<class>/<file>`) with EfficientNet-Lite0, where all but the last layers are
frozen, without augmentation; then count how many images of another folder are sorted right.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import sys
import threading
import time

import numpy as np
from PIL import Image

SIZE = 224


def parse(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("train", type=pathlib.Path, help="folder with a folder of images a class")
    parser.add_argument("--test", type=pathlib.Path, help="folder of the same form, to count right answers (after all)")
    parser.add_argument("--mode", choices=["head", "tail"], default="head",
                        help="head: the classifier learns; tail: the last convolution too")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def listing(folder):
    """Files and labels, classes in the order of their names."""
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
    files = [(file, label) for label, name in enumerate(classes) for file in sorted((folder / name).iterdir())]
    return files, classes


def load(file):
    """[3, 224, 224] float32, as the model's publisher trained it: (value - 127) / 128."""
    image = Image.open(file).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return ((np.asarray(image, np.float32) - 127.0) / 128.0).transpose(2, 0, 1).copy()


def batches(files, size, shuffle=None):
    """Images and labels of each batch, decoded when asked for; the last one may be smaller."""
    order = list(range(len(files)))
    if shuffle is not None:
        shuffle.shuffle(order)
    for start in range(0, len(order), size):
        chosen = [files[i] for i in order[start:start + size]]
        yield np.stack([load(file) for file, _ in chosen]), np.array([label for _, label in chosen], np.int64)


def since_process_start():
    """Seconds since the kernel started this process: imports count (resolution 10 ms)."""
    ticks = int(pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    return float(pathlib.Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def status_bytes(field):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}: Linux 4.5 or newer is needed")


class Measure:
    """Times epochs and steps; a thread looks at the private memory every 20 ms."""

    def __init__(self):
        self.epochs, self.steps, self.first_step_s = [], [], None
        self.private, self.imported = 0, None
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.done.wait(0.02):
            self.private = max(self.private, status_bytes("RssAnon"))

    def imports_done(self):
        """Remembers what the libraries alone take."""
        self.imported = status_bytes("RssAnon")

    def step(self, run):
        """One forward, backward and update, without the decoding of images."""
        start = time.perf_counter()
        loss = run()
        self.steps.append(time.perf_counter() - start)
        if self.first_step_s is None:
            self.first_step_s = since_process_start()
        return loss

    def epoch(self, run):
        start = time.perf_counter()
        loss = run()
        self.epochs.append(time.perf_counter() - start)
        print(f"epoch {len(self.epochs)}: {self.epochs[-1]:.2f} s, loss {loss:.4f}", file=sys.stderr)

    def training_ended(self):
        """What the training cost; call it before the test images are looked at."""
        self.private = max(self.private, status_bytes("RssAnon"))
        self.done.set()
        return {
            "seconds_total": round(since_process_start(), 3),
            "seconds_epochs": [round(s, 3) for s in self.epochs],
            "step_ms_median": round(statistics.median(self.steps) * 1e3, 3),
            "first_step_s": round(self.first_step_s, 3),
            "peak_rss_bytes": status_bytes("VmHWM"),
            "peak_private_bytes": self.private,
            "imported_private_bytes": self.imported,
        }


def accuracy(files, size, classify):
    """Share of the files whose highest logit is their label's; `classify` takes images and gives [n, classes]."""
    right = sum(int((classify(images).argmax(1) == labels).sum()) for images, labels in batches(files, size))
    return right / len(files)


def installed_bytes():
    """What the environment of this script takes on disk."""
    return sum(p.stat().st_size for p in pathlib.Path(sys.prefix).rglob("*") if p.is_file() and not p.is_symlink())


def report(peer, version, args, files, cost, right):
    print(json.dumps({
        "peer": peer, "version": version, "mode": args.mode, "threads": args.threads, "epochs": args.epochs,
        "batch": args.batch, "images": len(files), **cost, "accuracy": right, "installed_bytes": installed_bytes(),
    }))


def shuffler(seed):
    return random.Random(seed)
