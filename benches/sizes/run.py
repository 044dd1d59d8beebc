"""Sizes: trains small adapters of real models, stores each in several encodings, and prints what a delta takes beside other
ways to ship the same values, with what each encoding costs in accuracy. Only Python's standard library is needed.

    python3 benches/sizes/run.py [--models DIR] [--mobilenet FILE] [--ort-training PYTHON] [--only JOB]

README.md beside this file says what each job is, where its model comes from and what the columns mean.
"""

import argparse
import json
import math
import os
import pathlib
import shutil
import subprocess
import tempfile

PROJECT = pathlib.Path(__file__).resolve().parents[2]
PHOTOGRAPHS = PROJECT / "models/cifar10"
# x / 127.5 - 1, as Keras feeds MobileNetV2; (x - 127) / 128, as models/README.md says of EfficientNet-Lite0.
MOBILENET = ["--size", "160", "--scale", "1/127.5", "--mean", "1"]
EFFICIENTNET = ["--size", "224", "--scale", "1", "--mean", "127", "--std", "128"]


def jobs(args, folder):
    """Name, model, training data, test data, options, and what ONNX Runtime Training would have to learn (the
    number of classes, and patterns)."""
    photographs = [str(PHOTOGRAPHS / "train"), str(few(PHOTOGRAPHS / "test", args.test_images, folder / "photographs"))]
    steps = ["--epochs", "5", "--lr", "0.002", "--schedule", "cosine"]
    efficientnet = str(PROJECT / "models/efficientnet_lite0/model.onnx")
    yield "head, EfficientNet-Lite0", efficientnet, *photographs, [*EFFICIENTNET, *steps], [10, "m._fc.*"]
    if args.mobilenet:
        head = [10, "*dense_1*"]
        yield "head, MobileNetV2", args.mobilenet, *photographs, [*MOBILENET, *steps], head
        block = [*MOBILENET, "--train", "last:6", "--epochs", "3", "--lr", "0.0003", "--schedule", "cosine"]
        yield "last block + head, MobileNetV2", args.mobilenet, *photographs, block, head
    if args.models:
        minilm = args.models / "text/minilm"
        questions = [str(lines(args.models / f"text/trec6/{part}.jsonl", folder / f"{part}.jsonl", count))
                     for part, count in (("train", 400), ("test", 500))]
        text = ["--tokenizer", str(minilm / "tokenizer.json"), "--epochs", "3", "--batch", "8"]
        layer = [*text, "--train", "head", "--train", "last:8", "--lr", "0.0003"]
        yield "last layer + head, MiniLM", str(minilm / "model.onnx"), *questions, layer, [0, "*layer.5*"]
        lora = [*text, "--adapter", "lora", "--rank", "8", "--train", "head", "--lr", "0.001"]
        yield "LoRA r8, MiniLM", str(minilm / "model.onnx"), *questions, lora, None
        plays = (args.models / "lm/text/tinyshakespeare.txt").read_text()
        parts = {"plays.txt": plays[:120_000], "plays-test.txt": plays[-30_000:]}
        for name, part in parts.items():
            (folder / name).write_text(part)
        minimind = args.models / "lm/minimind2"
        lora = ["--tokenizer", str(minimind / "tokenizer.json"), "--bos-token", "<|im_start|>", "--max-steps", "60",
                "--val-fraction", "0.1", "--adapter", "lora", "--rank", "8", "--lr", "0.002"]
        paths = [str(folder / name) for name in parts]
        yield "LoRA r8, MiniMind2", str(minimind / "model_fp16.onnx"), *paths, lora, None


def few(photographs, count, into):
    """A folder with `count` photographs of each class."""
    for kind in sorted(photographs.iterdir()):
        (into / kind.name).mkdir(parents=True)
        for file in sorted(kind.iterdir())[:count]:
            (into / kind.name / file.name).symlink_to(file)
    return into


def lines(source, into, count):
    """Every n-th line, so that there are about `count`."""
    whole = source.read_text().splitlines(keepends=True)
    into.write_text("".join(whole[:: max(1, len(whole) // count)]))
    return into


class Edgetune:
    def __init__(self, program, cache):
        self.program, self.cache = program, cache

    def __call__(self, *arguments):
        command = [self.program, *map(str, arguments), "--json", "--cache", str(self.cache)]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise SystemExit(f"{' '.join(command)}:\n{ran.stderr[-2000:]}")
        return json.loads(ran.stdout)


def measure(edgetune, model, data, test, options, folder):
    """Rows: encoding, bytes of the delta, test metrics; then the shapes of the tensors and the encoding that `auto` took."""
    train = lambda encoding, out: edgetune("train", model, "--data", data, "--test", test, *options, "--encoding", encoding,
                                           "--out", out)
    half = folder / "fp16.edelta"
    report = train("fp16", half)
    rows = [("before", None, report["test"]["before"]), ("fp16", half.stat().st_size, report["test"]["after"])]
    reading = options[:2] if "--tokenizer" in options else []
    for encoding in ("int8", "int4"):
        out = folder / f"{encoding}.edelta"
        if "--bos-token" in options:
            # A language model: the same training once more, whose test metrics are of the encoded values.
            metrics = train(encoding, out)["test"]["after"]
            rows.append((encoding, out.stat().st_size, metrics))
            continue
        edgetune("delta", "convert", half, "--encoding", encoding, "--out", out)
        rows.append((encoding, out.stat().st_size, edgetune("eval", model, "--adapter", out, "--data", test, *reading)))
    auto = train("auto", folder / "auto.edelta")
    rows.append((f"auto: {auto['encoding']}", (folder / "auto.edelta").stat().st_size, auto["test"]["after"]))
    shown = edgetune("delta", "show", half)
    return rows, [(tensor["name"], tensor["shape"]) for tensor in shown["tensors"]]


def safetensors_bytes(tensors):
    """A safetensors file of these tensors in fp16: 8 bytes, a header of JSON filled up to a multiple of 8, the values."""
    header, end = {}, 0
    for name, shape in tensors:
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-text // 8) * 8 + end


def checkpoint_bytes(python, model, patterns):
    """ONNX Runtime Training's checkpoint, or the reason why there is none."""
    if python is None:
        return "not measured"
    if patterns is None:
        return "has no LoRA"
    script = pathlib.Path(__file__).with_name("ort_checkpoint.py")
    ran = subprocess.run([python, script, model, *map(str, patterns)], capture_output=True, text=True)
    return int(ran.stdout) if ran.returncode == 0 else f"refused: {(ran.stderr.strip().splitlines() or ['killed'])[-1][:80]}"


def quality(metrics):
    if metrics.get("perplexity"):
        return f"ppl {metrics['perplexity']:.2f}"
    return f"{100 * metrics['accuracy']:.1f} %"


def number(value):
    return f"{value:,}" if isinstance(value, int) else value or ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edgetune", default=str(PROJECT / "target/release/edgetune"), help="the program to measure")
    parser.add_argument("--models", type=pathlib.Path, help="folder with text/minilm, text/trec6 and lm/minimind2")
    parser.add_argument("--mobilenet", help="MobileNetV2 as ONNX, from mobilenet_v2.py")
    parser.add_argument("--ort-training", metavar="PYTHON", help="an interpreter with benches/peers' ort-training packages")
    parser.add_argument("--only", action="append", default=[], metavar="JOB", help="jobs whose name begins so; repeatable")
    parser.add_argument("--test-images", type=int, default=50, help="test photographs of each class")
    args = parser.parse_args()
    if shutil.which(args.edgetune) is None:
        parser.error(f"{args.edgetune} is missing: run `cargo build --release`, or give --edgetune")
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        edgetune = Edgetune(args.edgetune, folder / "cache")
        print("| what | values | the whole ONNX file | ORT checkpoint | safetensors fp16 | encoding | delta | of safetensors | test |")
        print("|---|---:|---:|---:|---:|---|---:|---:|---:|")
        for index, (name, model, data, test, options, patterns) in enumerate(jobs(args, folder)):
            if args.only and not any(name.startswith(only) for only in args.only):
                continue
            own = folder / str(index)
            own.mkdir()
            rows, tensors = measure(edgetune, model, data, test, options, own)
            half = safetensors_bytes(tensors)
            front = [name, number(sum(math.prod(shape) for _, shape in tensors)), number(os.stat(model).st_size),
                     number(checkpoint_bytes(args.ort_training, model, patterns)), number(half)]
            for encoding, size, metrics in rows:
                share = "" if size is None else f"{100 * size / half:.1f} %"
                print("| " + " | ".join([*front, encoding, number(size), share, quality(metrics)]) + " |", flush=True)
                front = [""] * 5


if __name__ == "__main__":
    main()
