"""What PyTorch reaches with the same layer, steps and data as edgetune on pictures of text lines (docs/transcription.md).

The last layer of a recogniser of lines (a matrix and a bias) learns on what the layers before it make of each picture. The same number of steps of AdamW
at the same rate and batch, in an order of its own for each seed; error rates by jiwer.

Usage: python transcription.py shrink lines/ small/ [HEIGHT]
       python transcription.py train ppocrv4_rec_ascii.onnx small/ WIDTH [EPOCHS] [RATE] [SEEDS]

`shrink` writes the lines, HEIGHT pixels high (11), with their table; `train` takes such a folder, a table labels.csv above train/ and test/.
"""

import csv
import pathlib
import resource
import sys
import time

import jiwer
import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from PIL import Image

HEIGHT, BATCH = 48, 16
FEATURES, WEIGHT, BIAS = "transpose_51.tmp_0", "linear_85.w_0", "linear_85.b_0"


def rows(folder):
    with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shrink(lines, small, height=11):
    lines, small, height = pathlib.Path(lines), pathlib.Path(small), int(height)
    found = rows(lines)
    for row in found:
        picture = Image.open(lines / row["file"]).convert("L")
        path = small / row["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        wide = max(1, round(picture.width * height / picture.height))
        picture.resize((wide, height), Image.Resampling.BOX).save(path)
    with open(small / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, found[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


def read(path, width):
    """As high as the model takes it, its proportions kept, filled up with zeros at the right."""
    picture = Image.open(path).convert("RGB")
    wide = min(width, max(1, -(-HEIGHT * picture.width // picture.height)))
    pixels = np.asarray(picture.resize((wide, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    filled = np.zeros((1, 3, HEIGHT, width), np.float32)
    filled[0, :, :, :wide] = ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)
    return filled


def decoded(logits, characters):
    best = logits.argmax(-1).tolist()
    kept = [one for one, before in zip(best, [0] + best) if one != before and one]
    return "".join(characters[one - 1] for one in kept)


def measured(head, features, texts, targets, characters):
    with torch.no_grad():
        logits = [head(feature[None])[0] for feature in features]
        each = [F.ctc_loss(one.log_softmax(-1)[:, None], target[None], [len(one)], [len(target)]).item()
                for one, target in zip(logits, targets)]
    answers = [decoded(one, characters) for one in logits]
    exact = np.mean([given.strip() == answer.strip() for given, answer in zip(texts, answers)])
    return f"CER {jiwer.cer(texts, answers):.4f}, WER {jiwer.wer(texts, answers):.4f}, exact {exact:.3f}, loss {np.mean(each):.4f}"


def train(model, data, width, epochs=10, rate=1e-3, seeds=3):
    data, width = pathlib.Path(data), int(width)
    graph = onnx.load(model)
    characters = {entry.key: entry.value for entry in graph.metadata_props}["character"].split("\n")
    constants = {node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t) for node in graph.graph.node if node.op_type == "Constant"}
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(FEATURES))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    body = ort.InferenceSession(graph.SerializeToString(), options)
    torch.set_num_threads(2)
    start, sets = time.time(), {}
    for part in ("train", "test"):
        found = [row for row in rows(data) if row["file"].startswith(part)]
        texts = [row["text"].strip() for row in found]
        features = [torch.tensor(body.run([FEATURES], {"x": read(data / row["file"], width)})[0][0]) for row in found]
        targets = [torch.tensor([1 + characters.index(letter) for letter in text]) for text in texts]
        sets[part] = features, texts, targets
    features, _, targets = sets["train"]
    print(f"features: {time.time() - start:.1f} s, {tuple(features[0].shape)}")
    for seed in range(int(seeds)):
        torch.manual_seed(seed)
        head = torch.nn.Linear(*constants[WEIGHT].shape)
        head.weight.data = torch.tensor(constants[WEIGHT].T.copy())
        head.bias.data = torch.tensor(constants[BIAS].copy())
        if seed == 0:
            print("before:", measured(head, *sets["test"], characters))
        optimizer = torch.optim.AdamW(head.parameters(), lr=float(rate))
        steps = []
        for _ in range(int(epochs)):
            for chunk in torch.randperm(len(features)).split(BATCH):
                began = time.process_time()
                log = head(torch.stack([features[one] for one in chunk])).log_softmax(-1).transpose(0, 1)
                lengths = torch.tensor([len(targets[one]) for one in chunk])
                loss = F.ctc_loss(log, torch.cat([targets[one] for one in chunk]), torch.full_like(lengths, len(log)), lengths)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                steps.append(time.process_time() - began)
        print(f"seed {seed}:", measured(head, *sets["test"], characters), f"a step {np.median(steps):.3f} s of processor", flush=True)
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    {"shrink": shrink, "train": train}[sys.argv[1]](*sys.argv[2:])
