"""Writes ../language/: a small decoder of the Llama kind as users export it, without and with a cache of keys and values,
its tokenizer, batches with padding and prompts, and the losses and texts of PyTorch's own runs.

Weights are random with a fixed seed; the tokenizer is byte-level with a few merges. README.md in the folder above tells
the format.

Usage: python language.py
"""

import json
import math
import pathlib
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

from training import ADAMW, SGD, clean, initializers_of

OUT = pathlib.Path(__file__).resolve().parent.parent / "language"
VOCABULARY, HIDDEN, HEADS, KEYS, INNER, LAYERS, POSITIONS = 320, 32, 4, 2, 64, 2, 64
BATCHES, BATCH, STEPS, IGNORED = 8, 4, 16, -100
SPECIAL = ["<|endoftext|>", "<s>", "</s>"]
PROMPT = [1, 70, 111, 32, 97]


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotated(x, angles):
    """x: [batch, heads, sequence, size]; angles: [batch, 1, sequence, size]"""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * angles.cos() + turned * angles.sin()


class Layer(nn.Module):
    """Grouped-query attention with rotary positions; SwiGLU network."""

    def __init__(self):
        super().__init__()
        size = HIDDEN // HEADS
        self.q, self.o = nn.Linear(HIDDEN, HIDDEN, bias=False), nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.k, self.v = (nn.Linear(HIDDEN, KEYS * size, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(HIDDEN, INNER, bias=False) for _ in range(2))
        self.down = nn.Linear(INNER, HIDDEN, bias=False)
        self.before, self.between = Norm(), Norm()

    def forward(self, x, angles, bias, past):
        split = lambda y, heads: y.view(y.shape[0], y.shape[1], heads, -1).transpose(1, 2)
        normed = self.before(x)
        q = rotated(split(self.q(normed), HEADS), angles)
        k, v = rotated(split(self.k(normed), KEYS), angles), split(self.v(normed), KEYS)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        wide = lambda y: y.repeat_interleave(HEADS // KEYS, 1)
        scores = q @ wide(k).transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias
        mixed = (torch.softmax(scores, -1) @ wide(v)).transpose(1, 2).reshape(x.shape)
        x = x + self.o(mixed)
        normed = self.between(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed)), (k, v)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm()
        self.head = nn.Linear(HIDDEN, VOCABULARY, bias=False)
        size = HIDDEN // HEADS
        frequencies = 10000.0 ** (-torch.arange(0, size, 2) / size)
        angles = torch.arange(POSITIONS)[:, None] * frequencies
        self.register_buffer("angles", torch.cat([angles, angles], -1))

    def forward(self, input_ids, attention_mask, position_ids=None, past=None):
        length, total = input_ids.shape[1], attention_mask.shape[1]
        places = torch.arange(length)[None] if position_ids is None else position_ids
        x = self.words(input_ids)
        causal = torch.arange(total)[None, :] > torch.arange(total - length, total)[:, None]
        hidden = causal[None, None] | (attention_mask == 0)[:, None, None, :]
        bias = hidden.to(x.dtype) * -10000.0
        angles = self.angles[places][:, None].to(x.dtype)
        present = []
        for index, layer in enumerate(self.layers):
            x, kept = layer(x, angles, bias, None if past is None else past[index])
            present.append(kept)
        return self.head(self.norm(x)), present


class Alone(nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids, attention_mask):
        return self.decoder(input_ids, attention_mask)[0]


class Cached(Alone):
    def forward(self, input_ids, attention_mask, position_ids, *past):
        pairs = list(zip(past[::2], past[1::2]))
        logits, present = self.decoder(input_ids, attention_mask, position_ids, pairs)
        return logits, *(tensor for pair in present for tensor in pair)


def decoder():
    torch.manual_seed(5)
    model = Decoder()
    for name, parameter in model.named_parameters():
        # No two alike: exporters store equal initializers once.
        if name.endswith(("norm.weight", "before.weight", "between.weight")):
            nn.init.normal_(parameter, 1.0, 0.1)
        else:
            nn.init.normal_(parameter, std=0.25)
    return model.eval()


def tokenizer():
    """Bytes and a few merges; a text begins with <s> and ends with </s> by config.json alone."""
    text = ["the king and the queen of the land", "what is the matter with thee", "to be or not to be", "hear the sea"]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(text, trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False,
                                                       initial_alphabet=alphabet))
    assert made.get_vocab_size() <= VOCABULARY
    made.save(str(OUT / "tokenizer.json"))
    (OUT / "config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}) + "\n")


def batches():
    """Sequences of different lengths, padded to the right, whose first tokens are a prompt that is not learned."""
    rng = np.random.default_rng(6)
    made = []
    for number in range(BATCHES):
        width = [12, 9, 12, 7, 10, 12, 5, 11][number]
        lengths = rng.integers(4, width + 1, BATCH)
        lengths[0] = width
        prompts = rng.integers(0, 3, BATCH)
        place = np.arange(width)
        mask = (place < lengths[:, None]).astype(np.int64)
        # A walk through the words with small steps, so that there is something to learn.
        ids = (10 + np.cumsum(rng.integers(0, 3, (BATCH, width)), 1)) * mask
        following = np.concatenate([ids[:, 1:], np.zeros((BATCH, 1), np.int64)], 1)
        counts = (place + 1 < lengths[:, None]) & (place >= prompts[:, None])
        made.append((ids, mask, np.where(counts, following, IGNORED)))
    return made


def train(trains, optimizer, learning_rate, dtype):
    model = decoder().to(dtype)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trains)
    learning = [parameters[name] for name in trains]
    if optimizer["kind"] == "sgd":
        steps = torch.optim.SGD(learning, learning_rate, momentum=optimizer["momentum"])
    else:
        steps = torch.optim.AdamW(learning, learning_rate, betas=(optimizer["beta1"], optimizer["beta2"]),
                                  eps=optimizer["epsilon"], weight_decay=optimizer["weight_decay"])
    losses, data = [], batches()
    for step in range(STEPS):
        ids, mask, labels = (torch.tensor(a) for a in data[step % BATCHES])
        logits = model(ids, mask)[0]
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    return losses


def run(name, trains, optimizer, learning_rate):
    losses = train(trains, optimizer, learning_rate, torch.float32)
    exact = train(trains, optimizer, learning_rate, torch.float64)
    assert sum(losses[-4:]) < sum(losses[:4]), losses
    print(name, f"{losses[0]:.4f} -> {losses[-1]:.4f}, float32 off float64 by at most",
          max(abs(a - b) for a, b in zip(losses, exact)))
    return {"name": name, "loss": "next-token", "trains": trains, "optimizer": optimizer,
            "learning_rate": learning_rate, "losses": losses}


def export(model, path, cached):
    ids = torch.tensor([PROMPT, PROMPT])
    size = HIDDEN // HEADS
    inputs, outputs = ["input_ids", "attention_mask"], ["logits"]
    arguments = [ids, torch.ones_like(ids)]
    axes = {"input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "sequence"},
            "logits": {0: "batch", 1: "sequence"}}
    if cached:
        axes["attention_mask"][1] = "total"
        inputs.append("position_ids")
        axes["position_ids"] = axes["input_ids"]
        arguments = [ids, torch.ones(2, 8, dtype=torch.int64), torch.arange(5)[None].expand(2, 5) + 3]
        for layer in range(LAYERS):
            for kind in ("key", "value"):
                inputs.append(f"past_key_values.{layer}.{kind}")
                outputs.append(f"present.{layer}.{kind}")
                axes[inputs[-1]] = {0: "batch", 2: "past"}
                axes[outputs[-1]] = {0: "batch", 2: "total"}
                arguments.append(torch.randn(2, KEYS, 3, size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export((Cached if cached else Alone)(model), tuple(arguments), path, dynamo=False, opset_version=17,
                          input_names=inputs, output_names=outputs, dynamic_axes=axes)
    clean(path)


def export_dynamo(model, path):
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=POSITIONS)}
    ids = torch.tensor([PROMPT, PROMPT])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Alone(model), (ids, torch.ones_like(ids)), path, dynamo=True, opset_version=18,
                          input_names=["input_ids", "attention_mask"], output_names=["logits"],
                          dynamic_shapes=(dims, dims), external_data=False, verbose=False)
    clean(path)


def greedy(model, count):
    ids = list(PROMPT)
    with torch.no_grad():
        for _ in range(count):
            logits = model(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64))[0]
            ids.append(int(logits[0, -1].argmax()))
    return ids[len(PROMPT):]


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    OUT.mkdir(exist_ok=True)
    tokenizer()
    model = decoder()
    size, arrays = HIDDEN // HEADS, {}
    for number, (ids, mask, labels) in enumerate(batches()):
        places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        arrays |= {f"input_ids/{number}": ids, f"attention_mask/{number}": mask, f"labels/{number}": labels,
                   f"position_ids/{number}": np.ascontiguousarray(places)}
    for layer in range(LAYERS):
        for kind in ("key", "value"):
            arrays[f"past_key_values.{layer}.{kind}"] = np.zeros((BATCHES, BATCH, KEYS, 0, size), np.float32)
    block = [n for n, _ in model.named_parameters() if n.startswith(("layers.1.", "norm", "head"))]
    runs = [run("block_sgd", block, SGD, 0.02), run("block_adamw", block, ADAMW, 0.002),
            run("head_adamw", ["head.weight"], ADAMW, 0.01)]
    jobs = []
    for name, cached in (("decoder", False), ("decoder_cache", True), ("decoder_dynamo", False)):
        path = OUT / f"{name}.onnx"
        export_dynamo(model, path) if name == "decoder_dynamo" else export(model, path, cached)
        weights = [p for p in model.named_parameters() if p[0] in block]
        jobs.append({"name": name, "model": path.name, "arrays": "language.npz", "parameters":
                     initializers_of(path, weights), "runs": runs})
    np.savez_compressed(OUT / "language.npz", **arrays)
    (OUT / "language.json").write_text(json.dumps(jobs, indent=1) + "\n")
    (OUT / "greedy.json").write_text(json.dumps({"prompt": PROMPT, "generated": greedy(model, 24)}) + "\n")


if __name__ == "__main__":
    main()
