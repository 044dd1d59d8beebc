"""What MiniMind2 keeps of WikiText-2 while it learns Shakespeare, with and without each counter-measure against forgetting.

    python language.py EDGETUNE DATA SCRATCH [SEEDS [NAME ...]]

DATA holds `lm/minimind2` and `lm/text` as `benches/defaults/README.md` describes them. LoRA of the last two blocks, 3 passes over 60 kB of tinyshakespeare; what
is to be kept is told by 60 kB of WikiText-2. Both are measured on other parts of the texts. `rise` is that of the perplexity on WikiText-2;
`gain` the share by which the perplexity on Shakespeare fell, over that of a training without counter-measures.
"""

import json
import pathlib
import subprocess
import sys

PART = 60_000
TEST = 20_000
KEPT = ["--retention", "wiki.txt"]
WAYS = {
    "nothing": ["--rewind", "1"],
    "default": KEPT,
    "replay": KEPT + ["--rewind", "1"],
    "rewind": KEPT + ["--replay", "0"],
    "distill 1": ["--rewind", "1", "--distill", "1"],
    "L2-SP 10": ["--rewind", "1", "--l2-sp", "10"],
}


def run(program, folder, *command):
    done = subprocess.run([program, *map(str, command)], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout)


def main():
    program, data, scratch = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    seeds = int(sys.argv[4]) if len(sys.argv) > 4 else 5
    ways = {name: WAYS[name] for name in sys.argv[5:] or WAYS}
    scratch.mkdir(parents=True, exist_ok=True)
    for name, source in [("new", "tinyshakespeare.txt"), ("wiki", "wikitext2-test.txt")]:
        text = (data / "lm/text" / source).read_text()
        (scratch / f"{name}.txt").write_text(text[:PART])
        (scratch / f"{name}-test.txt").write_text(text[-TEST:])
    model = data / "lm/minimind2/model_fp16.onnx"
    common = ["--tokenizer", data / "lm/minimind2/tokenizer.json", "--max-length", 128, "--bos-token", "<|im_start|>"]
    where = ["--cache", "cache", "--json", "--threads", 1]
    print("| against forgetting | seed | new text | kept text | way |\n|---|---:|---:|---:|---:|", flush=True)
    for seed in range(seeds):
        for name, options in ways.items():
            learn = ["--data", "new.txt", "--adapter", "lora", "--layers", "last:15", "--seed", seed, "--out", "a.edelta", "--force"]
            report = run(program, scratch, "train", model, *learn, *common, *where, *options)
            cells = []
            for part in ["new", "wiki"]:
                adapter = ["--adapter", "a.edelta", "--data", f"{part}-test.txt"]
                now = run(program, scratch, "eval", model, *adapter, "--tokenizer", common[1], *where)["perplexity"]
                cells.append(f"{now:.2f}")
            kept = report["retention"] or {}
            told = f"{kept['before']['perplexity']:.2f} → {kept['after']['perplexity']:.2f}" if kept else ""
            print(f"| {name} | {seed} | {cells[0]} | {cells[1]} | {kept.get('way', 1.0):.2f} {told} |", flush=True)


if __name__ == "__main__":
    main()
