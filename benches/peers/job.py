"""How every peer is measured: arguments, times, memory, and the line of JSON at the end. `samples.py` says what is learned."""

import argparse
import json
import os
import pathlib
import statistics
import sys
import threading
import time

WORKLOADS = ("head", "tail", "lora-encoder", "lora-lm")


def parse(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("workload", choices=WORKLOADS, help="what learns, and from what: README.md")
    parser.add_argument("data", type=pathlib.Path, help="a folder with a folder of images a class; JSONL; a text")
    parser.add_argument("--test", type=pathlib.Path, help="data of the same form, for the accuracy or loss after all")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="the base, as ONNX")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="tokenizer.json, for texts")
    parser.add_argument("--cache", action="store_true", help="run the frozen part once a sample only")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=32, help="tokens of a sample")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["prepare", "train"], help=argparse.SUPPRESS)
    parser.add_argument("--prepared", type=pathlib.Path, help=argparse.SUPPRESS)
    return parser


def in_two(args, prepare, train):
    """What another machine could have made beforehand is made in a process of its own: neither its time nor its memory
    counts."""
    if args.only == "prepare":
        return prepare(args, args.prepared)
    if args.only == "train":
        return train(args, args.prepared)
    import subprocess
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        again = [sys.executable, *sys.argv, "--prepared", folder, "--only"]
        made = subprocess.run([*again, "prepare"], capture_output=True, text=True)
        if made.returncode:
            raise SystemExit(f"cannot prepare: {made.stderr[-2000:]}")
        raise SystemExit(subprocess.run([*again, "train"]).returncode)


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

    def step(self, run, *batch):
        """One forward, backward and update, without the decoding of samples."""
        start = time.perf_counter()
        loss = run(*batch)
        self.steps.append(time.perf_counter() - start)
        if self.first_step_s is None:
            self.first_step_s = since_process_start()
        return loss

    def epochs_of(self, count, batches, step):
        """Trains `count` times on what `batches()` gives, by `step(inputs, labels)`, which returns the loss."""
        for _ in range(count):
            start = time.perf_counter()
            losses = [self.step(step, *batch) for batch in batches()]
            self.epochs.append(time.perf_counter() - start)
            loss = sum(losses) / len(losses)
            print(f"epoch {len(self.epochs)}: {self.epochs[-1]:.2f} s, loss {loss:.4f}", file=sys.stderr)
        return self.training_ended()

    def training_ended(self):
        """What the training cost; the test data come after it."""
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


def installed_bytes():
    """What the environment of this script takes on disk."""
    return sum(p.stat().st_size for p in pathlib.Path(sys.prefix).rglob("*") if p.is_file() and not p.is_symlink())


def report(peer, version, args, samples, cost, tested):
    """`tested`: share of right answers, or the mean loss of a token, on the test data; None without them."""
    print(json.dumps({
        "peer": peer + ("-cache" if args.cache else ""), "version": version, "workload": args.workload,
        "threads": args.threads, "epochs": args.epochs, "batch": args.batch, "samples": samples, **cost,
        "tested": tested, "installed_bytes": installed_bytes(),
    }))
