"""Exports small models, puts each through edgetune, and compares what came out with expected.txt. `run` beside it starts it.

Usage: python matrix.py EDGETUNE FOLDER [NAME...]; with KEEP=1 models and adapters stay in FOLDER, and why.txt beside them is unshortened.

Stages of a case, in their order; what comes after one that failed is `-`, but for `check`, which the others do not need:

    export   the exporter writes the model, and ONNX Runtime computes with it what the framework does
    inspect  edgetune reads it, and nothing fixes its batch
    check    the gradient of the two last layers is how the loss moves
    train    two epochs over 32 of 40 samples of three classes (or numbers, or sets of classes)
    merge    `export --to onnx`
    same     the merged model, run by ONNX Runtime on all samples and on each alone, answers what `predict` does
    base     trained without moving and merged, the model answers what the framework does, for a number of samples that no file has seen

A case is MODEL/EXPORTER/OPSET/BATCH. The batch is `open`, or the number that the example has and the file then holds.
"""

import json
import logging
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
import transformers
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
STAGES = ("export", "inspect", "check", "train", "merge", "same", "base")
SAMPLES, CLASSES, LENGTH, WORDS, WIDTH = 40, 3, 12, 99, 16
CASE_SECONDS, COMMAND_SECONDS = 400, 120
# A framework and ONNX Runtime add in different orders; answers are compared relative to the largest.
TOLERANCE = 2e-3

CASES = {}


def case(inputs, *variants, task="classes", width=None, base=True):
    """Registers a function that builds a model, once for each `EXPORTER/OPSET/BATCH`.

    `inputs` maps the names of the model's inputs to `("float", shape)`, `("ids", shape)` or `("mask", shape)`, without the batch. `task` is
    `classes`, `numbers` or `sets`; `width` is how many numbers or sets; `base` is whether the last stage can be run: an output that is no
    classifier gets one, so nothing is left to compare with.
    """

    def add(make):
        for variant in variants:
            exporter, opset, batch = variant.split("/")
            entry = {"make": make, "inputs": inputs, "exporter": exporter, "opset": int(opset), "batch": batch, "task": task,
                     "width": width, "base": base}
            name = make.__name__.strip("_")
            CASES[f"{name}/{exporter}/opset{opset}/{batch}"] = entry
        return make

    return add


def image(size=16, channels=3):
    return {"x": ("float", (channels, size, size))}


def series(length=24, channels=4):
    return {"x": ("float", (length, channels))}


def table(columns=8):
    return {"x": ("float", (columns,))}


def text(length=LENGTH):
    return {"input_ids": ("ids", (length,)), "attention_mask": ("mask", (length,))}


class Chain(nn.Module):
    """A body, a function between, and a head called `head`."""

    def __init__(self, body, between, width, classes=CLASSES):
        super().__init__()
        self.body, self.between, self.head = body, between, nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.between(self.body(x)))


class Through(nn.Module):
    """Any function of modules that are given by name."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


def spatial(x):
    return x.mean((2, 3))


def conv(inside, outside, size=3, stride=1, groups=1):
    return nn.Sequential(nn.Conv2d(inside, outside, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(outside), nn.ReLU())


# Images.


@case(image(), "default/18/open", "default/24/2", "torchscript/11/1", "torchscript/17/open")
def cnn():
    return Chain(nn.Sequential(conv(3, 8, stride=2), conv(8, 16)), spatial, 16)


@case(image(), "default/18/1", "torchscript/13/open")
def flattened_cnn():
    return Chain(nn.Sequential(conv(3, 4, stride=2), nn.MaxPool2d(2)), lambda x: x.view(x.size(0), -1), 64)


@case(image(), "default/20/open")
def depthwise():
    return Chain(nn.Sequential(conv(3, 8), conv(8, 8, groups=8), conv(8, 16, 1)), spatial, 16)


@case(image(), "default/21/2", "torchscript/17/open")
def resnet_block():
    run = lambda m, x: m.head(F.relu(m.two(m.one(m.stem(x))) + m.side(m.stem(x))).mean((2, 3)))
    return Through(run, stem=conv(3, 8), one=conv(8, 12, stride=2), two=nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12)),
                   side=nn.Conv2d(8, 12, 1, 2), head=nn.Linear(12, CLASSES))


@case(image(), "default/20/open", "torchscript/12/1")
def unet():
    def run(m, x):
        high = m.high(x)
        low = m.low(F.max_pool2d(high, 2))
        return m.head(m.join(torch.cat([high, m.up(low)], 1)).mean((2, 3)))

    return Through(run, high=conv(3, 6), low=conv(6, 12), up=nn.ConvTranspose2d(12, 6, 2, 2), join=conv(12, 8), head=nn.Linear(8, CLASSES))


@case(image(), "default/18/open")
def upsampled():
    return Chain(nn.Sequential(conv(3, 4, stride=2), nn.Upsample(scale_factor=2, mode="bilinear"), conv(4, 8)), spatial, 8)


def excite(width):
    run = lambda m, x: x * F.hardsigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(x, 1)))))
    return Through(run, down=nn.Conv2d(width, width // 2, 1), up=nn.Conv2d(width // 2, width, 1))


@case(image(), "default/18/open", "torchscript/14/open")
def mobilenet_se():
    return Chain(nn.Sequential(conv(3, 8), nn.Hardswish(), conv(8, 8, groups=8), excite(8), nn.Conv2d(8, 12, 1)), spatial, 12)


@case(image(), "default/24/open")
def efficientnet():
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8, eps=1e-3), nn.SiLU(), nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.SiLU(), excite(8))
    return Chain(body, lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), 8)


@case(image(), "default/20/open", "torchscript/17/1")
def convnext_block():
    def run(m, x):
        y = m.stem(x)
        z = m.deep(y).permute(0, 2, 3, 1)
        z = m.scale * m.down(F.gelu(m.up(m.norm(z))))
        return m.head((y + z.permute(0, 3, 1, 2)).mean((-2, -1)))

    model = Through(run, stem=nn.Conv2d(3, 8, 4, 4), deep=nn.Conv2d(8, 8, 7, padding=3, groups=8), norm=nn.LayerNorm(8), up=nn.Linear(8, 32),
                    down=nn.Linear(32, 8), head=nn.Linear(8, CLASSES))
    model.scale = nn.Parameter(torch.full((8,), 0.5))
    return model


@case(image(), "default/23/open", "default/20/1")
def vit_torch():
    def run(m, x):
        tokens = m.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([m.token.expand(x.size(0), -1, -1), tokens], 1) + m.places
        return m.head(m.encoder(tokens)[:, 0])

    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True, activation="gelu")
    model = Through(run, patches=nn.Conv2d(3, 16, 4, 4), encoder=nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), head=nn.Linear(16, CLASSES))
    model.token, model.places = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
    return model


@case(image(), "default/20/open", "torchscript/17/2")
def rolled_windows():
    def run(m, x):
        y = torch.roll(m.stem(x).permute(0, 2, 3, 1), (-1, -1), (1, 2))
        b, h, w, c = y.shape
        windows = y.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k, v = m.qkv(windows).chunk(3, -1)
        windows = torch.softmax(q @ k.transpose(1, 2) / 3 + m.bias, -1) @ v
        y = windows.view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h * w, c)
        return m.head(m.norm(y).mean(1))

    model = Through(run, stem=nn.Conv2d(3, 8, 4, 4), qkv=nn.Linear(8, 24), norm=nn.LayerNorm(8), head=nn.Linear(8, CLASSES))
    model.bias = nn.Parameter(torch.randn(4, 4))
    return model


@case(image(), "default/18/open", "torchscript/16/1")
def mixer():
    def run(m, x):
        y = m.patches(x).flatten(2).transpose(1, 2)
        y = y + m.tokens(m.one(y).transpose(1, 2)).transpose(1, 2)
        return m.head((y + m.channels(m.two(y))).mean(1))

    mlp = lambda width: nn.Sequential(nn.Linear(width, 24), nn.GELU(), nn.Linear(24, width))
    return Through(run, patches=nn.Conv2d(3, 8, 4, 4), one=nn.LayerNorm(8), two=nn.LayerNorm(8), tokens=mlp(16), channels=mlp(8), head=nn.Linear(8, CLASSES))


@case(image(), "default/18/open", "default/21/open", "torchscript/18/2")
def group_norm():
    return Chain(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8)), spatial, 8)


@case(image(), "default/18/open", "torchscript/13/1")
def instance_norm():
    return Chain(nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(), nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8)), lambda x: x.amax((2, 3)), 8)


@case(image(), "default/20/open")
def dense_block():
    def run(m, x):
        y = m.one(x)
        y = torch.cat([y, m.two(y)], 1)
        return m.head(torch.cat([y, m.three(y)], 1).mean((2, 3)))

    return Through(run, one=conv(3, 4), two=conv(4, 4), three=conv(8, 4), head=nn.Linear(12, CLASSES))


@case(image(), "default/20/open", "torchscript/15/open")
def shuffled_channels():
    def run(m, x):
        y = m.one(x)
        y = y.view(y.size(0), 2, 4, y.size(2), y.size(3)).transpose(1, 2).reshape(y.shape)
        return m.head(F.pixel_unshuffle(m.two(y), 2).mean((2, 3)))

    return Through(run, one=conv(3, 8), two=conv(8, 8, groups=2), head=nn.Linear(32, CLASSES))


@case(image(), "default/20/open", "torchscript/12/open")
def cosine_head():
    return Cosine()


class Cosine(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.below, self.weight = conv(3, 8), nn.Linear(8, 8), nn.Parameter(torch.randn(CLASSES, 8))

    def forward(self, x):
        return 8 * F.normalize(self.below(spatial(self.body(x)))) @ F.normalize(self.weight).T


class Temperature(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.heat = conv(3, 8), nn.Linear(8, CLASSES), nn.Parameter(torch.tensor([0.7]))

    def forward(self, x):
        return self.head(spatial(self.body(x))) / self.heat.exp()


@case(image(), "default/20/open", "torchscript/17/1")
def temperature_head():
    return Temperature()


@case(image(), "default/18/open", base=False)
def autoencoder():
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(6, 3, 2, 2), nn.Sigmoid())


@case(image(), "default/20/open", base=False)
def probabilities():
    return nn.Sequential(Chain(conv(3, 8), spatial, 8), nn.Softmax(1))


@case(image(), "default/20/open", "torchscript/17/1")
def log_probabilities():
    return nn.Sequential(Chain(conv(3, 8), spatial, 8), nn.LogSoftmax(1))


@case(image(), "default/20/open", "torchscript/17/open")
def spatial_attention_pool():
    def run(m, x):
        y = m.body(x).flatten(2).transpose(1, 2)
        return m.head((torch.softmax(m.score(y), 1) * y).sum(1))

    return Through(run, body=conv(3, 8, stride=2), score=nn.Linear(8, 1), head=nn.Linear(8, CLASSES))


@case(image(), "default/20/open", "torchscript/17/2")
def generalised_mean_pool():
    return Chain(conv(3, 8), lambda x: x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3), 8)


@case(image(), "default/20/open")
def dilated_prelu():
    return Chain(nn.Sequential(nn.Conv2d(3, 8, 3, dilation=2), nn.PReLU(8), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.Mish()), spatial, 8)


@case(image(), "default/20/open", "torchscript/17/open")
def linear_attention():
    def run(m, x):
        y = m.stem(x).flatten(2).transpose(1, 2)
        q, k, v = (F.elu(m.q(y)) + 1), (F.elu(m.k(y)) + 1), m.v(y)
        y = torch.einsum("bnd,bde->bne", q, torch.einsum("bnd,bne->bde", k, v)) / (q @ k.sum(1).unsqueeze(-1))
        return m.head(y.mean(1))

    return Through(run, stem=nn.Conv2d(3, 8, 4, 4), q=nn.Linear(8, 8), k=nn.Linear(8, 8), v=nn.Linear(8, 8), head=nn.Linear(8, CLASSES))


# Series and tables.


@case(series(), "default/20/open", "torchscript/17/1", "torchscript/17/open")
def tcn():
    def run(m, x):
        y = F.relu(m.one(F.pad(x.transpose(1, 2), (2, 0))))
        return m.head((y + F.relu(m.two(F.pad(y, (4, 0))))).amax(2))

    return Through(run, one=nn.Conv1d(4, 8, 3), two=nn.Conv1d(8, 8, 3, dilation=2), head=nn.Linear(8, CLASSES))


class Recurrent(nn.Module):
    def __init__(self, kind, last, **options):
        super().__init__()
        self.last, self.cells = last, kind(4, 8, batch_first=True, **options)
        self.head = nn.Linear(8 * (1 + options.get("bidirectional", False)), CLASSES)

    def forward(self, x):
        y = self.cells(x)[0]
        return self.head(y[:, -1] if self.last else y.mean(1))


@case(series(), "default/18/open", "torchscript/14/2")
def lstm():
    return Recurrent(nn.LSTM, True)


@case(series(), "default/21/open", "torchscript/17/open")
def bidirectional_gru():
    return Recurrent(nn.GRU, False, bidirectional=True)


@case(series(), "torchscript/17/open", "default/18/2")
def two_layer_lstm():
    return Recurrent(nn.LSTM, True, num_layers=2)


@case(series(8), "torchscript/17/open", "default/20/open")
def elman_rnn():
    return Recurrent(nn.RNN, True)


@case(series(), "default/20/open", "torchscript/17/open")
def cnn_lstm():
    def run(m, x):
        return m.head(m.cells(F.relu(m.conv(x.transpose(1, 2))).transpose(1, 2))[1][0][-1])

    return Through(run, conv=nn.Conv1d(4, 6, 3), cells=nn.LSTM(6, 8, batch_first=True), head=nn.Linear(8, CLASSES))


@case(series(12), "default/20/open", "torchscript/17/1", "default/23/2")
def transformer_encoder():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return Chain(nn.Sequential(nn.Linear(4, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)), lambda x: x.mean(1), 16)


@case(series(12), "default/18/open", "torchscript/14/open")
def multihead_attention():
    def run(m, x):
        y = m.below(x)
        return m.head((m.norm(y + m.attention(y, y, y)[0])).mean(1))

    return Through(run, below=nn.Linear(4, 16), attention=nn.MultiheadAttention(16, 2, batch_first=True), norm=nn.LayerNorm(16), head=nn.Linear(16, CLASSES))


@case(series(12), "default/20/open")
def query_pool():
    def run(m, x):
        y = m.below(x)
        return m.head(m.attention(m.query.expand(x.size(0), -1, -1), y, y)[0].squeeze(1))

    model = Through(run, below=nn.Linear(4, 16), attention=nn.MultiheadAttention(16, 2, batch_first=True), head=nn.Linear(16, CLASSES))
    model.query = nn.Parameter(torch.randn(1, 1, 16))
    return model


@case(series(12), "default/24/open", "torchscript/17/open")
def gated_mlp():
    run = lambda m, x: m.head(m.out(F.glu(m.inside(m.norm(x)))).mean(1))
    return Through(run, norm=nn.LayerNorm(4), inside=nn.Linear(4, 32), out=nn.Linear(16, 8), head=nn.Linear(8, CLASSES))


@case(series(12), "default/23/open", "default/20/open")
def rms_norm():
    return Chain(nn.Sequential(nn.Linear(4, 16), nn.RMSNorm(16), nn.SiLU(), nn.Linear(16, 16), nn.RMSNorm(16)), lambda x: x.mean(1), 16)


@case(series(12), "default/20/open")
def fourier_mixing():
    def run(m, x):
        y = m.below(x)
        turn = 2 * torch.pi / 12 * torch.outer(torch.arange(12.0), torch.arange(12.0))
        return m.head(m.norm(y + torch.cos(turn) @ y).amax(1))

    return Through(run, below=nn.Linear(4, 16), norm=nn.LayerNorm(16), head=nn.Linear(16, CLASSES))


@case(series(12), "default/20/open", "torchscript/17/open")
def statistics_pool():
    return Chain(nn.Sequential(nn.Linear(4, 8), nn.Tanh()), lambda x: torch.cat([x.mean(1), x.std(1)], 1), 16)


@case(table(), "default/18/open", "torchscript/11/open", task="numbers", width=2)
def regression_mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


@case(table(), "default/20/open", task="numbers", width=1)
def bounded_regression():
    return nn.Sequential(nn.Linear(8, 16), nn.Softplus(), nn.Linear(16, 1), nn.Sigmoid())


@case(table(), "default/20/open", task="sets", width=4)
def multi_label_logits():
    return nn.Sequential(nn.Linear(8, 16), nn.SELU(), nn.Linear(16, 4))


@case(table(), "default/20/open", "torchscript/13/open", task="sets", width=4)
def multi_label_sigmoid():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU6(), nn.Linear(16, 4), nn.Sigmoid())


@case(table(), "default/20/open", task="sets", width=1)
def one_column():
    return nn.Sequential(nn.Linear(8, 16), nn.Softsign(), nn.Linear(16, 1))


@case(table(), "default/20/open", task="sets", width=1, base=False)
def squeezed_column():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))


@case(table(), "default/20/open", "torchscript/17/open")
def kan_splines():
    """A layer of radial functions of each column, as Kolmogorov-Arnold networks have it."""
    run = lambda m, x: m.head(m.mix(torch.exp(-(x.unsqueeze(-1) - m.centres) ** 2).flatten(1)))
    model = Through(run, mix=nn.Linear(40, 8), head=nn.Linear(8, CLASSES))
    model.register_buffer("centres", torch.linspace(-2, 2, 5))
    return model


@case(table(), "default/20/open")
def mixture_of_experts():
    def run(m, x):
        gates = torch.softmax(m.gate(x), -1)
        return m.head(torch.einsum("be,beh->bh", gates, torch.einsum("bi,eih->beh", x, m.experts)))

    model = Through(run, gate=nn.Linear(8, 4), head=nn.Linear(8, CLASSES))
    model.experts = nn.Parameter(torch.randn(4, 8, 8) / 3)
    return model


@case(table(), "default/20/open")
def top_k_experts():
    def run(m, x):
        scores, places = m.gate(x).topk(2, -1)
        y = torch.stack([expert(x) for expert in m.experts], 1)
        y = y.gather(1, places.unsqueeze(-1).expand(-1, -1, 8))
        return m.head((scores.softmax(-1).unsqueeze(-1) * y).sum(1))

    return Through(run, gate=nn.Linear(8, 4), experts=nn.ModuleList(nn.Linear(8, 8) for _ in range(4)), head=nn.Linear(8, CLASSES))


@case({"left": ("float", (8,)), "right": ("float", (6,))}, "default/20/open", "default/18/1")
def two_towers():
    return Towers()


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(8, 8), nn.Linear(6, 8), nn.Bilinear(8, 8, CLASSES)

    def forward(self, left, right):
        return self.head(torch.tanh(self.one(left)), torch.tanh(self.two(right)))


@case({"words": ("ids", (LENGTH,))}, "default/20/open", "torchscript/17/open")
def embedding_bag():
    return Through(lambda m, words: m.head(torch.relu(m.below(m.table(words).mean(1)))), table=nn.Embedding(WORDS, 8), below=nn.Linear(8, 8),
                   head=nn.Linear(8, CLASSES))


# Texts, sounds and pictures by transformers.

SMALL = {"vocab_size": WORDS, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
         "max_position_embeddings": 32, "num_labels": CLASSES, "pad_token_id": 0}
DECODER = SMALL | {"num_key_value_heads": 1, "head_dim": 8, "use_cache": False, "bos_token_id": 1, "eos_token_id": 2}


class Named(nn.Module):
    """A model of transformers, of which the logits alone are given."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values):
        return self.model(**dict(zip(self.names, values))).logits


class Pooled(nn.Module):
    """An encoder of transformers with a head on the mean over the tokens that the mask keeps."""

    def __init__(self, model, width=WIDTH):
        super().__init__()
        self.model, self.head = model, nn.Linear(width, CLASSES)

    def forward(self, input_ids, attention_mask):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        kept = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return self.head((hidden * kept).sum(1) / kept.sum(1))


def sequence(kind, options=SMALL, **more):
    config = getattr(transformers, kind + "Config")(**(options | more))
    return Named(getattr(transformers, kind + "ForSequenceClassification")(config), ("input_ids", "attention_mask"))


def pictures(kind, **options):
    config = getattr(transformers, kind + "Config")(num_labels=CLASSES, **options)
    return Named(getattr(transformers, kind + "ForImageClassification")(config), ("pixel_values",))


PIXELS = {"pixel_values": ("float", (3, 16, 16))}
PATCHES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 16, "patch_size": 4}


@case(text(), "default/20/open", "torchscript/17/open", "default/23/open", "default/18/2", "torchscript/14/1")
def bert():
    return sequence("Bert")


@case(text(), "default/18/open", "torchscript/17/open")
def distilbert():
    return Named(transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(
        vocab_size=WORDS, dim=WIDTH, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=32, num_labels=CLASSES)), ("input_ids", "attention_mask"))


@case(text(), "default/20/open", "torchscript/17/1")
def roberta():
    return sequence("Roberta")


@case(text(), "default/20/open", "torchscript/17/open")
def deberta_v2():
    return sequence("DebertaV2", relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8, norm_rel_ebd="layer_norm",
                    share_att_key=True, position_biased_input=False, type_vocab_size=0, pooler_hidden_size=WIDTH)


@case(text(), "default/20/open", "torchscript/17/open")
def albert():
    return sequence("Albert", embedding_size=8)


@case(text(), "default/20/2", "torchscript/17/open")
def electra():
    return sequence("Electra", embedding_size=8)


@case(text(), "default/20/open")
def mpnet():
    return sequence("MPNet")


@case(text(), "default/20/open")
def modernbert():
    return sequence("ModernBert", bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)


@case(text(), "default/20/open")
def funnel():
    return sequence("Funnel", {"vocab_size": WORDS, "num_labels": CLASSES, "pad_token_id": 0}, d_model=WIDTH, n_head=2, d_head=8, d_inner=32, block_sizes=[1, 1], num_decoder_layers=1)


@case(text(), "default/20/open", "torchscript/17/open")
def gpt2():
    return sequence("GPT2", {"vocab_size": WORDS, "n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": 32, "num_labels": CLASSES, "pad_token_id": 0,
                             "use_cache": False, "bos_token_id": 1, "eos_token_id": 2})


@case(text(), "default/20/open", "default/23/open", "torchscript/17/1")
def llama():
    return sequence("Llama", DECODER)


@case(text(), "default/20/open")
def qwen2():
    return sequence("Qwen2", DECODER)


@case(text(), "default/24/open", "torchscript/18/open")
def qwen3():
    return sequence("Qwen3", DECODER)


@case(text(), "default/20/open")
def gemma():
    return sequence("Gemma", DECODER)


@case(text(), "default/20/open")
def gemma2():
    return sequence("Gemma2", DECODER, sliding_window=4, query_pre_attn_scalar=8)


@case(text(), "default/20/open", "torchscript/17/open")
def mistral():
    return sequence("Mistral", DECODER, sliding_window=4)


@case(text(), "default/20/open")
def phi():
    return sequence("Phi", DECODER, num_key_value_heads=2, partial_rotary_factor=0.5)


@case(text(), "default/20/open")
def mamba():
    """A state-space model, whose scan the exporter writes out step by step."""
    config = transformers.MambaConfig(vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=1, state_size=4, use_cache=False)
    return Pooled(transformers.MambaModel(config))


@case(text(), "default/20/open", "default/20/2", "no_grad/20/open", "no_grad/20/2", "torchscript/17/open")
def t5_encoder():
    return Pooled(transformers.T5EncoderModel(transformers.T5Config(vocab_size=WORDS, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2)))


@case(text(), "default/20/open")
def t5_encoder_eager():
    return Pooled(transformers.T5EncoderModel(transformers.T5Config(vocab_size=WORDS, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
                                                                    attn_implementation="eager")))


@case(text(), "default/20/open")
def xlm_roberta():
    return sequence("XLMRoberta")


@case({"input_features": ("float", (8, 24))}, "default/20/open", "torchscript/17/1")
def whisper_encoder():
    config = transformers.WhisperConfig(num_mel_bins=8, d_model=WIDTH, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32,
                                        max_source_positions=12, num_labels=CLASSES, classifier_proj_size=8, vocab_size=WORDS, decoder_layers=1,
                                        decoder_attention_heads=2, decoder_ffn_dim=32, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    return Named(transformers.WhisperForAudioClassification(config), ("input_features",))


WAVES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": (8, 8), "conv_stride": (5, 4),
         "conv_kernel": (10, 4), "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "num_labels": CLASSES,
         "classifier_proj_size": 8, "vocab_size": 32}


@case({"input_values": ("float", (400,))}, "default/20/open", "torchscript/17/open")
def wav2vec2():
    return Named(transformers.Wav2Vec2ForSequenceClassification(transformers.Wav2Vec2Config(**WAVES)), ("input_values",))


@case({"input_values": ("float", (400,))}, "default/20/1")
def hubert():
    return Named(transformers.HubertForSequenceClassification(transformers.HubertConfig(**WAVES)), ("input_values",))


@case({"input_values": ("float", (24, 16))}, "default/20/open")
def spectrogram_transformer():
    options = PATCHES | {"max_length": 24, "num_mel_bins": 16, "frequency_stride": 4, "time_stride": 4, "num_labels": CLASSES}
    del options["image_size"]
    return Named(transformers.ASTForAudioClassification(transformers.ASTConfig(**options)), ("input_values",))


@case(PIXELS, "default/20/open", "torchscript/17/1")
def clip_vision():
    class Tower(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.head = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**PATCHES)), nn.Linear(WIDTH, CLASSES)

        def forward(self, pixel_values):
            return self.head(self.model(pixel_values=pixel_values).pooler_output)

    return Tower()


@case(PIXELS, "default/20/open", base=False)
def siglip_embedding():
    class Embedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**PATCHES))

        def forward(self, pixel_values):
            return F.normalize(self.model(pixel_values=pixel_values).pooler_output, dim=-1)

    return Embedding()


@case(PIXELS, "default/20/open", "torchscript/17/2")
def vit():
    return pictures("ViT", **PATCHES)


@case(PIXELS, "default/20/open")
def dinov2():
    return pictures("Dinov2", **PATCHES)


@case(PIXELS, "default/20/open", "default/20/2", "no_grad/20/open", "no_grad/20/2", "torchscript/17/1", "torchscript/17/open")
def swin():
    return pictures("Swin", image_size=16, patch_size=2, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4)


@case(PIXELS, "default/20/open")
def swin_eager():
    return pictures("Swin", image_size=16, patch_size=2, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4, attn_implementation="eager")


@case(PIXELS, "default/20/open", "torchscript/17/open")
def segformer():
    return pictures("Segformer", depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], num_attention_heads=[1, 2], patch_sizes=[3, 3], strides=[2, 2],
                    mlp_ratios=[2, 2], num_encoder_blocks=2, decoder_hidden_size=8)


@case(PIXELS, "default/20/open")
def poolformer():
    return pictures("PoolFormer", depths=[1, 1], hidden_sizes=[8, 16], patch_sizes=[3, 3], strides=[2, 2], padding=[1, 1], num_encoder_blocks=2, mlp_ratio=2.0)


@case(PIXELS, "default/20/open")
def convnext_v2():
    return pictures("ConvNextV2", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=2)


# scikit-learn. The stage `base` compares with predict_proba or predict.


def fitted(kind, options, scaled, numbers):
    from sklearn import linear_model, neural_network, pipeline, preprocessing

    def make():
        model = getattr(linear_model, kind, None) or getattr(neural_network, kind)
        model = model(**options)
        if scaled:
            model = pipeline.make_pipeline(preprocessing.StandardScaler(), model)
        arrays, labels = samples({"inputs": table(6), "task": "numbers" if numbers else "classes", "width": 1}, seed=7)
        return model.fit(arrays["x"], labels.ravel() if numbers else labels)

    return make


def learners():
    hidden = {"hidden_layer_sizes": (8,), "max_iter": 300, "random_state": 0}
    for name, kind, options, scaled, numbers in (
        ("logistic_regression", "LogisticRegression", {}, False, False), ("scaled_logistic_regression", "LogisticRegression", {}, True, False),
        ("mlp_classifier", "MLPClassifier", hidden, False, False), ("scaled_mlp_classifier", "MLPClassifier", hidden | {"activation": "tanh"}, True, False),
        ("linear_regression", "LinearRegression", {}, False, True), ("scaled_mlp_regressor", "MLPRegressor", hidden, True, True),
        ("sgd_classifier", "SGDClassifier", {"loss": "log_loss", "random_state": 0}, True, False),
        ("ridge", "Ridge", {}, True, True),
    ):
        make = fitted(kind, options, scaled, numbers)
        make.__name__ = name
        case(table(6), "skl2onnx/17/open", "skl2onnx/21/open", task="numbers" if numbers else "classes", width=1)(make)


# What is done to a case.


class Failed(Exception):
    pass


def samples(entry, seed=0, count=SAMPLES):
    """Arrays that a model can learn from, and their labels."""
    random = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)
    kinds = np.arange(count) % CLASSES
    arrays = {}
    for name, (kind, shape) in entry["inputs"].items():
        if kind == "float":
            patterns = fixed.normal(size=(CLASSES, *shape))
            arrays[name] = (random.normal(size=(count, *shape)) + patterns[kinds]).astype(np.float32)
        elif kind == "ids":
            low = 3 + kinds * 32
            arrays[name] = (low[:, None] + random.integers(0, 32, (count, *shape))).astype(np.int64)
        else:
            kept = random.integers(shape[0] // 2, shape[0] + 1, count)
            arrays[name] = (np.arange(shape[0]) < kept[:, None]).astype(np.int64)
    if "attention_mask" in arrays:
        arrays["input_ids"] = np.where(arrays["attention_mask"] > 0, arrays["input_ids"], 0)
    if entry["task"] == "numbers":
        targets = fixed.normal(size=(CLASSES, entry["width"]))[kinds] + random.normal(size=(count, entry["width"])) / 10
        return arrays, targets.astype(np.float32)
    if entry["task"] == "sets":
        sets = np.stack([kinds == 0, kinds == 1, kinds != 2, kinds == 2], 1)[:, : entry["width"]]
        return arrays, sets.astype(np.int64)
    return arrays, kinds.astype(np.int64)


def write_model(entry, path):
    """Exports, and gives a function from arrays to what the framework answers."""
    if entry["exporter"] == "skl2onnx":
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType

        model = entry["make"]()
        options = {"zipmap": False} if hasattr(model, "predict_proba") else None
        columns = entry["inputs"]["x"][1][0]
        path.write_bytes(to_onnx(model, initial_types=[("x", FloatTensorType([None, columns]))], options=options, target_opset={"": entry["opset"], "ai.onnx.ml": 3}).SerializeToString())
        answer = model.predict_proba if hasattr(model, "predict_proba") else lambda x: model.predict(x).reshape(len(x), -1)
        return lambda arrays: np.asarray(answer(arrays["x"]), np.float32)
    torch.manual_seed(0)
    model = entry["make"]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    names = list(entry["inputs"])
    opened = entry["batch"] == "open"
    example = tuple(torch.from_numpy(array) for array in samples(entry, count=2 if opened else int(entry["batch"]))[0].values())
    options = {"input_names": names, "output_names": ["logits"], "opset_version": entry["opset"], "dynamo": entry["exporter"] != "torchscript"}
    if opened and options["dynamo"]:
        batch = torch.export.Dim("batch")
        shapes = tuple({0: batch} for _ in names)
        # A forward of *values takes its shapes as one tuple.
        options["dynamic_shapes"] = (shapes,) if isinstance(model, Named) else shapes
    elif opened:
        options["dynamic_axes"] = {name: {0: "batch"} for name in [*names, "logits"]}
    if options["dynamo"]:
        options["verbose"] = False
    # The default exporter refuses attention whose mask is computed from parameters while gradients are recorded
    # (findings/torch-export-learned-attention-bias.sh).
    with torch.set_grad_enabled(entry["exporter"] != "no_grad"):
        torch.onnx.export(model, example, str(path), **options)

    def answer(arrays):
        with torch.no_grad():
            return model(*(torch.from_numpy(arrays[name]) for name in names)).numpy()

    return answer


def compute(path, arrays, output=None, at_once=None):
    """Runs a model by ONNX Runtime, so many samples at once as the file says, or as are asked for."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    fixed = session.get_inputs()[0].shape[0]
    count = len(next(iter(arrays.values())))
    step = fixed if isinstance(fixed, int) else at_once or count
    wanted = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    output = output if output in names else names[-1]
    parts = [session.run([output], {name: array[at : at + step] for name, array in arrays.items() if name in wanted})[0]
             for at in range(0, count - count % step, step)]
    return np.concatenate(parts)


def differ(got, want):
    if got.shape != want.shape:
        return f"shape {list(got.shape)}, not {list(want.shape)}"
    error = float(np.abs(got - want).max() / max(1e-3, np.abs(want).max()))
    return None if error < TOLERANCE else f"differs by {error:.0e} of the largest"


class Case:
    def __init__(self, name, entry, edgetune, folder):
        self.name, self.entry, self.edgetune, self.folder = name, entry, edgetune, folder
        self.model, self.data, self.noise = folder / "model.onnx", folder / "data.npz", None
        self.loss = {"classes": [], "numbers": ["--loss", "mean-squared-error"], "sets": ["--loss", "binary-cross-entropy"]}[entry["task"]]

    def call(self, *arguments):
        words = [self.edgetune, *map(str, arguments), "--cache", str(self.folder / "cache")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS, cwd=self.folder)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        if any("onnxruntime:" in line for line in lines):
            self.noise = next(line for line in lines if "onnxruntime:" in line)
        if done.returncode != 0:
            told = [line for line in lines if line.startswith("error")] or lines[-1:] or done.stdout.splitlines()[-1:]
            raise Failed(f"exit {done.returncode}: " + (told[0] if told else "without a word"))
        return done.stdout

    def export(self):
        self.framework = write_model(self.entry, self.model)
        arrays, labels = samples(self.entry)
        np.savez(self.data, **arrays, y=labels)
        self.arrays = arrays
        problem = differ(compute(self.model, arrays), self.framework(arrays))
        if problem:
            raise Failed(f"ONNX Runtime and the framework: {problem}")

    def inspect(self):
        told = json.loads(self.call("inspect", self.model, "--json"))
        self.output = told["trains_on"].split(" ")[0]
        if told["batch_fixed_by"]:
            raise Failed(f"the batch is fixed by {told['batch_fixed_by']}")

    def check(self):
        told = self.call("check", self.model, "--train", "last:2", "--threads", 1, *self.loss)
        rows = [line for line in told.splitlines()[1:] if line.strip()]
        # A fresh head begins at zero, where the loss of sets may be flat in a bias: as many targets are yes as no.
        bad = [row for row in rows if not row.startswith(("agrees", "flat")) or "NaN" in row]
        if bad or not rows:
            raise Failed(" ".join((bad or ["no parameter"])[0].split()))

    def train(self):
        self.call("train", self.model, "--data", self.data, "--train", "last:2", "--epochs", 2, "--threads", 1, "--out", "A.edelta", *self.loss)

    def merge(self):
        self.merged = self.merge_into("merged", "A.edelta")
        # A head that was appended is an output of its own, behind those of the model.
        before, after = (onnxruntime.InferenceSession(str(path)).get_outputs() for path in (self.model, self.merged))
        added = [value.name for value in after if value.name not in [old.name for old in before]]
        self.answers = added[0] if added else self.output

    def merge_into(self, name, adapter):
        """Each merged model has a folder of its own: labels.txt, which lies beside it, would speak for other models there."""
        place = self.folder / name
        place.mkdir()
        self.call("export", "--adapter", adapter, "--model", self.model, "--to", "onnx", "--out", place / "model.onnx")
        return place / "model.onnx"

    def predicted(self):
        told = json.loads(self.call("predict", self.model, "--adapter", "A.edelta", self.data, "--top", 9, "--threads", 1, "--json"))
        if self.entry["task"] == "numbers":
            return np.array([row.get("numbers") or row.get("values") for row in told], np.float32)
        rows = [sorted(row["classes"], key=lambda one: one["name"]) for row in told]
        return np.array([[one["probability"] for one in row] for row in rows], np.float32)

    def same(self):
        want = self.predicted()
        for at_once in (None, 1):
            got = compute(self.merged, self.arrays, self.answers, at_once)
            got, expected = got.reshape(len(got), -1), want[: len(got)]
            shares = {"classes": lambda x: torch.softmax(torch.from_numpy(x), -1).numpy(), "sets": lambda x: 1 / (1 + np.exp(-x)), "numbers": lambda x: x}
            # A model may end in a softmax or sigmoid of its own.
            problems = [differ(got, expected), differ(shares[self.entry["task"]](got), expected)]
            if all(problems):
                raise Failed(f"merged and predict, {at_once or 'all'} at once: {problems[1]}")
        told = json.loads(self.call("eval", self.model, "--adapter", "A.edelta", "--data", self.data, "--threads", 1, "--json"))
        if self.entry["task"] == "classes":
            right = float(np.mean(want.argmax(1) == np.arange(SAMPLES) % CLASSES))
            if abs(told["accuracy"] - right) > 1e-6:
                raise Failed(f"eval says {told['accuracy']} are right, predict answers {right}")
            if not told["loss"] < np.log(CLASSES):
                raise Failed(f"the loss is {told['loss']:.2f} after training, by chance {np.log(CLASSES):.2f}")

    def base(self):
        if not self.entry["base"]:
            return "-"
        still = ["--lr", "1e-30", "--weight-decay", 0, "--epochs", 1, "--head", "keep", "--solver", "steps", "--allow-idle"]
        self.call("train", self.model, "--data", self.data, "--train", "last:2", "--threads", 1, "--out", "B.edelta", *still, *self.loss)
        still = self.merge_into("still", "B.edelta")
        arrays = {name: array[:7] for name, array in samples(self.entry, seed=5)[0].items()}
        problem = differ(compute(still, arrays, self.output), self.framework(arrays))
        if problem:
            raise Failed(f"unmoved and the framework: {problem}")

    def run(self):
        words, why = {}, []
        for stage in STAGES:
            if why and not (stage == "train" and why[0].startswith("check")) and any(not one.startswith("check") for one in why):
                words[stage] = "-"
                continue
            try:
                words[stage] = getattr(self, stage)() or "ok"
            except subprocess.TimeoutExpired:
                words[stage] = "late"
                why.append(f"{stage}: no answer within {COMMAND_SECONDS} s")
            except Failed as problem:
                words[stage] = "bad"
                why.append(f"{stage}: {problem}")
            except Exception as problem:
                if os.environ.get("TRACE"):
                    traceback.print_exc()
                words[stage] = "bad"
                told = [line.strip() for line in str(problem).splitlines() if line.strip()] or [""]
                why.append(f"{stage}: {type(problem).__name__}: {told[0]}")
        if self.noise:
            why.append(f"noise: {self.noise}")
        return words, "; ".join(why)


def plain(line, folder):
    """What is said without what changes between versions and runs: folders, numbers in names, lengths."""
    line = line.replace(str(folder) + "/", "").replace(str(folder), "")
    line = re.sub(r"\x1b\[[0-9;]*m", "", line)
    return re.sub(r"\d+", "N", re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "N", line))[:300]


def work(name, edgetune, folder, pipe):
    os.setsid()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    if not os.environ.get("TRACE"):
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
    folder.mkdir(parents=True)
    words, why = Case(name, CASES[name], edgetune, folder).run()
    if os.environ.get("KEEP"):
        (folder / "why.txt").write_text(why)
    pipe.send((words, plain(why, folder)))


def line_of(name, words, why):
    return (f"{name:48} " + " ".join(f"{words.get(stage, '-'):4}" for stage in STAGES) + (f" {why}" if why else "")).rstrip()


def stop(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    process.join()


def run_all(names, edgetune, folder, jobs):
    context = multiprocessing.get_context("fork")
    waiting, running, lines = list(names), {}, {}

    def leave(*_):
        for process, *_ in running.values():
            stop(process)
        sys.exit(130)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    while waiting or running:
        while waiting and len(running) < jobs:
            name = waiting.pop(0)
            mine, theirs = context.Pipe(duplex=False)
            place = folder / name.replace("/", "-")
            process = context.Process(target=work, args=(name, edgetune, place, theirs))
            process.start()
            theirs.close()
            running[name] = (process, mine, place, time.monotonic())
        for name, (process, mine, place, since) in list(running.items()):
            late = time.monotonic() - since > CASE_SECONDS
            if not (mine.poll(0.05) or late or not process.is_alive()):
                continue
            try:
                answer = mine.recv() if mine.poll(0) else ({}, "no answer in time" if late else f"ended with code {process.exitcode}")
            except EOFError:
                process.join()
                answer = ({}, f"ended with code {process.exitcode}")
            stop(process)
            del running[name]
            lines[name] = line_of(name, *answer)
            print(lines[name], flush=True)
            if not os.environ.get("KEEP"):
                shutil.rmtree(place, ignore_errors=True)
    return lines


def main():
    edgetune, folder, wanted = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    try:
        import skl2onnx  # noqa: F401
    except ImportError:
        print("skl2onnx is not installed: the models of scikit-learn are left out")
    else:
        learners()
    names = [name for name in CASES if not wanted or any(part in name for part in wanted)]
    if not names:
        raise SystemExit(f"no case has {' or '.join(wanted)} in its name")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, onnxruntime {onnxruntime.__version__}: {len(names)} cases")
    print(f"{'':48} " + " ".join(f"{stage[:4]:4}" for stage in STAGES))
    lines = run_all(names, edgetune, folder, int(os.environ.get("JOBS", "1")))
    path = HERE / "expected.txt"
    if os.environ.get("UPDATE"):
        if wanted and path.exists():
            lines = {line.split()[0]: line for line in path.read_text().splitlines()} | lines
        path.write_text("".join(lines[name] + "\n" for name in CASES if name in lines))
        return
    before = {line.split()[0]: line for line in path.read_text().splitlines() if line.strip()} if path.exists() else {}
    new = [name for name in names if before.get(name) != lines[name]]
    gone = [] if wanted else [name for name in before if name not in lines]
    print(f"\n{len(names)} cases, {sum(' bad' in line or ' late' in line for line in lines.values())} with something bad, {len(new)} new")
    for name in new:
        print(f"new: {lines[name]}" + (f"\nwas: {before[name]}" if name in before else ""))
    for name in gone:
        print(f"gone: {before[name]}")
    raise SystemExit(1 if new or gone else 0)


if __name__ == "__main__":
    main()
