"""The samples of each workload, as arrays: `inputs`, a dictionary by the model's input names, and `labels`.

Every text has the same length, that of the longest, because edgetune pads so too and ONNX graphs are made for one shape.
"""

import json
import random

import numpy as np

SIZE = 224
BEGIN = "<|im_start|>"


class Photographs:
    """`<class>/<file>`; each batch is decoded when asked for."""

    def __init__(self, folder):
        self.classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
        self.files = [(file, label) for label, name in enumerate(self.classes) for file in sorted((folder / name).iterdir())]

    def __len__(self):
        return len(self.files)

    def batch(self, chosen):
        images = np.stack([load(self.files[i][0]) for i in chosen])
        return {"input": images}, np.array([self.files[i][1] for i in chosen], np.int64)


def load(file):
    """[3, 224, 224] float32, as the model's publisher trained it: (value - 127) / 128."""
    from PIL import Image
    image = Image.open(file).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return ((np.asarray(image, np.float32) - 127.0) / 128.0).transpose(2, 0, 1).copy()


class Texts:
    """Lines of `{"text", "label"}`."""

    def __init__(self, file, tokenizer, length):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        self.classes = sorted({str(line["label"]) for line in lines})
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding()
        tokens = tokenizer.encode_batch([line["text"] for line in lines])
        self.ids = np.array([t.ids for t in tokens], np.int64)
        self.mask = np.array([t.attention_mask for t in tokens], np.int64)
        self.labels = np.array([self.classes.index(str(line["label"])) for line in lines], np.int64)

    def __len__(self):
        return len(self.labels)

    def batch(self, chosen):
        ids, mask = self.ids[chosen], self.mask[chosen]
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}, self.labels[chosen]


class Blocks:
    """A text as blocks of `length` tokens, each led by the token that begins a text; the labels are the tokens after the
    first, [n, length - 1]."""

    classes = ()

    def __init__(self, file, tokenizer, length):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        ids = tokenizer.encode(file.read_text(), add_special_tokens=False).ids
        count = len(ids) // (length - 1)
        blocks = np.array(ids[:count * (length - 1)], np.int64).reshape(count, length - 1)
        self.ids = np.concatenate([np.full((count, 1), tokenizer.token_to_id(BEGIN)), blocks], axis=1)

    def __len__(self):
        return len(self.ids)

    def batch(self, chosen):
        return {"input_ids": self.ids[chosen]}, self.ids[chosen][:, 1:]


def read(args, path):
    if args.workload in ("head", "tail"):
        return Photographs(path)
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    if args.workload == "lora-lm":
        return Blocks(path, tokenizer, args.length)
    texts = Texts(path, tokenizer, args.length)
    args.length = texts.ids.shape[1]
    return texts


class Features:
    """What the frozen part gives for each sample, in memory."""

    def __init__(self, samples, size, body):
        parts = [(body(inputs), labels) for inputs, labels in batches(samples, size)]
        self.inputs = {name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]}
        self.labels = np.concatenate([labels for _, labels in parts])

    def __len__(self):
        return len(self.labels)

    def batch(self, chosen):
        return {name: values[chosen] for name, values in self.inputs.items()}, self.labels[chosen]


def batches(samples, size, shuffle=None):
    """Every sample once, in `shuffle`'s order; only the last batch may be smaller."""
    order = list(range(len(samples)))
    if shuffle is not None:
        shuffle.shuffle(order)
    for start in range(0, len(order), size):
        yield samples.batch(order[start:start + size])


def shuffler(seed):
    return random.Random(seed)


def tested(args, logits):
    """Share of right answers, or mean loss of a token, of `logits(inputs)` on the test data."""
    if not args.test:
        return None
    samples, value, count = read(args, args.test), 0.0, 0
    for inputs, labels in batches(samples, args.batch):
        if len(labels) < args.batch:  # graphs of one shape take whole batches only
            break
        scores = logits(inputs)
        if args.workload == "lora-lm":
            scores = scores.reshape(-1, scores.shape[-1])
            scores = scores - scores.max(1, keepdims=True)
            losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(labels.size), labels.reshape(-1)]
            value += losses.sum()
        else:
            value += (scores.argmax(1) == labels).sum()
        count += labels.size
    return float(value / count)
