"""Likeness in PyTorch: a linear layer on the frozen features of a model, for `docs/likeness.md`.

The same layer, start, steps and data as `edgetune train --loss multiple-negatives`: cosines times 20, each query's own passage among the passages of
the batch; AdamW.

Usage: python likeness.py MODEL.onnx TRAIN TEST EPOCHS LR BATCH SEEDS [DIMENSIONS]
TRAIN and TEST are tables with the columns query and passage: JSONL of texts (with tokenizer.json beside the model), or CSV of pictures.
"""

import csv
import json
import pathlib
import sys

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F


def rows(path):
    path = pathlib.Path(path)
    if path.suffix == ".jsonl":
        found = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        found = list(csv.DictReader(path.open()))
    return [row["query"] for row in found], [row["passage"] for row in found]


def of_texts(model, texts):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(pathlib.Path(model).parent / "tokenizer.json"))
    tokenizer.no_padding()
    session = onnxruntime.InferenceSession(model)
    found = []
    for text in texts:
        encoded = tokenizer.encode(text)
        ids = np.array([encoded.ids], dtype=np.int64)
        fed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        found.append(session.run(["sentence_embedding"], fed)[0][0])
    return np.stack(found)


def of_pictures(model, files):
    import onnx
    from PIL import Image

    graph = onnx.load(model)
    features = next(node for node in reversed(graph.graph.node) if node.op_type == "Gemm").input[0]
    graph.graph.output.append(onnx.ValueInfoProto(name=features))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    found = []
    for file in files:
        image = Image.open(file).convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB").resize((224, 224), Image.BICUBIC)
        pixels = (np.asarray(image, dtype=np.float32) - 127) / 128
        found.append(session.run([features], {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]})[0][0])
    return np.stack(found)


def recall(queries, passages):
    near = F.normalize(queries, dim=1) @ F.normalize(passages, dim=1).T
    return (near.argmax(1) == torch.arange(len(near))).double().mean().item()


def main():
    model, train, test, epochs, lr, batch, seeds, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    of = of_texts if train.endswith(".jsonl") else of_pictures
    sets = [torch.tensor(of(model, side)) for path in (train, test) for side in rows(path)]
    anchors, positives, queries, passages = sets
    inputs = anchors.shape[1]
    outputs = int(rest[0]) if rest else inputs
    print(f"frozen: recall@1 {recall(queries, passages):.4f}")
    for seed in range(int(seeds)):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(inputs, outputs)
        with torch.no_grad():
            if inputs == outputs:
                layer.weight.copy_(torch.eye(inputs))
                layer.bias.zero_()
            else:
                both = torch.cat([anchors, positives])
                mean = both.mean(0)
                layer.weight.copy_(torch.linalg.svd(both - mean, full_matrices=False).Vh[:outputs])
                layer.bias.copy_(-layer.weight @ mean)
        first = recall(layer(queries), layer(passages))
        optimizer = torch.optim.AdamW(layer.parameters(), lr=float(lr), weight_decay=0.01)
        pairs = int(batch) // 2
        for _ in range(int(epochs)):
            for chosen in torch.randperm(len(anchors)).split(pairs):
                one, other = (F.normalize(layer(side[chosen]), dim=1) for side in (anchors, positives))
                loss = F.cross_entropy(20 * one @ other.T, torch.arange(len(chosen)))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        print(f"seed {seed}: recall@1 {first:.4f} -> {recall(layer(queries), layer(passages)):.4f}", flush=True)


if __name__ == "__main__":
    main()
