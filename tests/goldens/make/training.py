"""Writes ../training/: small ONNX models as users export them, batches, and the losses of PyTorch's own training runs.

Two models: a MobileNetV2 (torchvision's, few and narrow layers; BatchNorm kept, and folded into the convolutions) and a
BERT-like encoder (from the TorchScript exporter at opset 17, and from the dynamo exporter at opset 18). Weights are
random with a fixed seed. Only the tail learns; BatchNorm always uses its frozen statistics, dropout is off. README.md
in the folder above tells the format.

Usage: python training.py
"""

import copy
import json
import math
import pathlib
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.mobilenetv2 import MobileNetV2

OUT = pathlib.Path(__file__).resolve().parent.parent / "training"
BATCHES, BATCH, STEPS = 8, 8, 20
SGD = {"kind": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
ADAMW = {"kind": "adamw", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}


# ---------------------------------------------------------------------------------------------------------- the models


def mobilenet():
    """4 blocks and the head; the tail is the last group (the second block of it has the residual) and the head."""
    torch.manual_seed(1)
    blocks = [[1, 16, 1, 1], [6, 32, 1, 2], [6, 48, 2, 1]]
    model = MobileNetV2(num_classes=5, width_mult=0.5, inverted_residual_setting=blocks)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, std=0.1)
            module.momentum = None  # a plain mean over what follows
    nn.init.normal_(model.classifier[1].weight, std=0.05)
    images, _ = image_batches()
    with torch.no_grad():
        for _ in range(2):
            for batch in images:
                model.train()(torch.tensor(batch))
    return model.eval()


def folded(model):
    """The same function without BatchNorm nodes."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        names = list(parent._modules)
        for name, after in zip(names, names[1:]):
            if isinstance(parent._modules[after], nn.BatchNorm2d):
                parent._modules[name] = fuse_conv_bn_eval(parent._modules[name], parent._modules[after])
                parent._modules[after] = nn.Identity()
    return model


class Layer(nn.Module):
    """BERT's encoder layer: attention, residual, LayerNorm; GELU network, residual, LayerNorm."""

    def __init__(self, hidden, heads, inner):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.attention_output = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden)
        self.intermediate = nn.Linear(hidden, inner)
        self.output = nn.Linear(inner, hidden)
        self.output_norm = nn.LayerNorm(hidden)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, bias, fused):
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        if fused:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            mixed = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias, -1) @ v
        mixed = mixed.transpose(1, 2).reshape(x.shape)
        x = self.attention_norm(x + self.attention_output(mixed))
        return self.output_norm(x + self.output(F.gelu(self.intermediate(x))))


class Encoder(nn.Module):
    """Embeddings, 2 layers, mean over the words that the mask keeps, classifier."""

    def __init__(self, vocabulary=50, positions=16, hidden=32, heads=4, inner=64, classes=4):
        super().__init__()
        self.words = nn.Embedding(vocabulary, hidden)
        self.positions = nn.Embedding(positions, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(Layer(hidden, heads, inner) for _ in range(2))
        self.classifier = nn.Linear(hidden, classes)
        self.fused = False

    def forward(self, input_ids, attention_mask):
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.norm(self.words(input_ids) + self.positions(places))
        kept = attention_mask.to(x.dtype)
        bias = (1.0 - kept[:, None, None, :]) * -10000.0
        for layer in self.layers:
            x = layer(x, bias, self.fused)
        pooled = (x * kept[:, :, None]).sum(1) / kept.sum(1, keepdim=True).clamp(min=1e-9)
        return self.classifier(pooled)


def encoder():
    torch.manual_seed(2)
    model = Encoder()
    for name, parameter in model.named_parameters():
        # No two alike: exporters store equal initializers once.
        if "norm" in name:
            nn.init.normal_(parameter, 1.0 if name.endswith("weight") else 0.0, 0.1)
        elif parameter.dim() == 1:
            nn.init.normal_(parameter, std=0.05)
    return model.eval()


# ------------------------------------------------------------------------------------------------------------ the data


def image_batches():
    """[batches, 8, 3, 16, 16]: a coloured wave a class, under noise; multiples of 1/64."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 5, (BATCHES, BATCH))
    y, x = np.mgrid[0:16, 0:16] / 16.0
    waves = np.stack([[np.sin(2 * np.pi * ((k + 1) * x * (c + 1) + k * y)) for c in range(3)] for k in range(5)])
    images = waves[labels] + rng.normal(0, 0.7, (BATCHES, BATCH, 3, 16, 16))
    return (np.round(images * 64) / 64).astype(np.float32), labels.astype(np.int64)


def text_batches():
    """Batches of different widths; a class prefers its own words. Padding is word 0 with mask 0."""
    rng = np.random.default_rng(4)
    batches = []
    for number in range(BATCHES):
        width = [12, 9, 12, 7, 10, 12, 5, 11][number]
        labels = rng.integers(0, 4, BATCH)
        lengths = rng.integers(3, width + 1, BATCH)
        lengths[0] = width
        mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
        own = 2 + labels[:, None] * 12 + rng.integers(0, 12, (BATCH, width))
        ids = np.where(rng.random((BATCH, width)) < 0.5, own, rng.integers(2, 50, (BATCH, width))) * mask
        batches.append((ids.astype(np.int64), mask, labels.astype(np.int64)))
    return batches


# ------------------------------------------------------------------------------------------------------------- export


def clean(path):
    """Without the exporter's stack traces: they hold paths of the machine that exported."""
    model = onnx.load(path)
    holders = [model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info,
               *model.graph.initializer, *model.functions]
    for holder in holders:
        holder.doc_string = ""
        if hasattr(holder, "metadata_props"):
            del holder.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def export(model, arguments, path, names, dynamo=False):
    axes = {name: {0: "batch"} | ({1: "sequence"} if name in ("input_ids", "attention_mask") else {}) for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            dims = {"batch": torch.export.Dim("batch"), "sequence": torch.export.Dim("sequence", max=16)}
            shapes = tuple({axis: dims[dim] for axis, dim in axes[name].items()} for name in names)
            torch.onnx.export(model, arguments, path, dynamo=True, opset_version=18, input_names=names,
                              output_names=["logits"], dynamic_shapes=shapes, external_data=False, verbose=False)
        else:
            # PRESERVE keeps BatchNormalization as nodes of its own; the model is in evaluation mode already.
            torch.onnx.export(model, arguments, path, dynamo=False, opset_version=17, input_names=names,
                              output_names=["logits"], dynamic_axes=axes | {"logits": {0: "batch"}},
                              training=torch.onnx.TrainingMode.PRESERVE)
    clean(path)


def initializers_of(path, parameters):
    """For each parameter: the initializer with its values, as it is or transposed."""
    arrays = {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    found = []
    for name, parameter in parameters:
        value = parameter.detach().numpy()
        hits = [(key, False) for key, array in arrays.items() if np.array_equal(array, value)]
        hits += [(key, True) for key, array in arrays.items() if value.ndim == 2 and np.array_equal(array, value.T)]
        assert len(hits) == 1, (path, name, hits)
        found.append({"parameter": name, "initializer": hits[0][0], "transposed": hits[0][1]})
    return found


def value_of(path, feeds, wanted):
    """The name of the value that holds those numbers: where the body ends."""
    model = onnx.load(path)
    names = [name for node in model.graph.node for name in node.output if name]
    known = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for name, got in zip(names, session.run(names, feeds)):
        if got.shape == wanted.shape and np.allclose(got, wanted, rtol=1e-4, atol=1e-5):
            return name
    raise AssertionError(f"{path}: no value has the features")


# ----------------------------------------------------------------------------------------------------------- training


def train(model, batches, trains, optimizer, learning_rate, dtype, loss_of=F.cross_entropy, count=STEPS):
    """The losses of every step (before its update), first gradients, and last values of what learns."""
    model = copy.deepcopy(model).to(dtype)
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trains)
    learning = [parameters[name] for name in trains]
    if optimizer["kind"] == "sgd":
        steps = torch.optim.SGD(learning, learning_rate, momentum=optimizer["momentum"])
    else:
        steps = torch.optim.AdamW(learning, learning_rate, betas=(optimizer["beta1"], optimizer["beta2"]),
                                  eps=optimizer["epsilon"], weight_decay=optimizer["weight_decay"])
    losses, first = [], {}
    for step in range(count):
        tensors = (torch.tensor(a) for a in batches[step % len(batches)])
        *inputs, labels = (t.to(dtype) if t.is_floating_point() else t for t in tensors)
        loss = loss_of(model(*inputs), labels)
        steps.zero_grad()
        loss.backward()
        if step == 0:
            first = {name: parameters[name].grad.numpy().copy() for name in trains}
        steps.step()
        losses.append(loss.item())
    return losses, first, {name: parameters[name].detach().numpy() for name in trains}


def short(array):
    """What is stored of a large tensor: every n-th element, at most 256 of them."""
    flat = array.reshape(-1)
    return flat[:: -(-flat.size // 256)].astype(np.float32)


def run(arrays, prefix, model, batches, trains, optimizer, learning_rate):
    losses, first, last = train(model, batches, trains, optimizer, learning_rate, torch.float32)
    exact, _, _ = train(model, batches, trains, optimizer, learning_rate, torch.float64)
    assert sum(losses[-4:]) < sum(losses[:4]), (prefix, losses)
    # The bias of attention's keys changes nothing; its gradient is rounding noise that AdamW would blow up.
    told = [name for name in trains if np.abs(first[name]).max() > 1e-6]
    assert set(trains) - set(told) <= {"layers.1.key.bias"}
    arrays |= {f"{prefix}/gradient/{name}": short(first[name]) for name in told}
    arrays |= {f"{prefix}/last/{name}": short(last[name]) for name in told}
    print(prefix, f"{losses[0]:.4f} -> {losses[-1]:.4f}, float32 off float64 by at most",
          max(abs(a - b) for a, b in zip(losses, exact)))
    return {"name": prefix.split("/")[-1], "trains": trains, "optimizer": optimizer, "learning_rate": learning_rate,
            "losses": losses, "losses_float64": exact}


def logits_agree(path, model, batches, inputs):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for *batch, _ in batches:
        want = model(*(torch.tensor(b) for b in batch)).detach().numpy()
        np.testing.assert_allclose(session.run(None, dict(zip(inputs, batch)))[0], want, rtol=1e-4, atol=1e-5)


def make_mobilenet():
    images, labels = image_batches()
    batches = list(zip(images, labels))
    arrays, jobs = {"input": images, "labels": labels}, []
    normed = mobilenet()
    with torch.no_grad():
        features = torch.stack([normed.features[:3](torch.tensor(b)) for b in images]).numpy()
    arrays["features"] = features
    for name, model in (("mobilenet_bn", normed), ("mobilenet_folded", folded(normed))):
        path = OUT / f"{name}.onnx"
        export(model, (torch.tensor(images[0]),), path, ["input"])
        logits_agree(path, model, batches, ["input"])
        tail = [n for n, _ in model.named_parameters() if n.startswith("classifier") or int(n.split(".")[1]) >= 3]
        head = [n for n in tail if n.startswith("classifier")]
        runs = [run(arrays, f"{name}/tail_sgd", model, batches, tail, SGD, 0.005),
                run(arrays, f"{name}/classifier_sgd", model, batches, head, SGD, 0.02)]
        weights = [p for p in model.named_parameters() if p[0] in tail]
        jobs.append({"name": name, "model": path.name, "arrays": "mobilenet.npz", "inputs": ["input"],
                     "features": value_of(path, {"input": images[0]}, features[0]),
                     "parameters": initializers_of(path, weights), "runs": runs})
    return arrays, jobs


def make_encoder():
    model = encoder()
    batches, names = text_batches(), ["input_ids", "attention_mask"]
    arrays, jobs, features = {}, [], {}
    model.layers[0].register_forward_hook(lambda _m, _i, out: features.update(out=out.detach().numpy()))
    for number, (ids, mask, labels) in enumerate(batches):
        model(torch.tensor(ids), torch.tensor(mask))
        arrays |= {f"input_ids/{number}": ids, f"attention_mask/{number}": mask, f"labels/{number}": labels,
                   f"features/{number}": features["out"]}
    model.layers[0]._forward_hooks.clear()
    tail = [n for n, _ in model.named_parameters() if n.startswith(("layers.1.", "classifier"))]
    head = [n for n in tail if n.startswith("classifier")]
    runs = [run(arrays, "encoder/tail_sgd", model, batches, tail, SGD, 0.02),
            run(arrays, "encoder/tail_adamw", model, batches, tail, ADAMW, 0.002),
            run(arrays, "encoder/classifier_adamw", model, batches, head, ADAMW, 0.02)]
    for name, dynamo in (("encoder_torchscript", False), ("encoder_dynamo", True)):
        path = OUT / f"{name}.onnx"
        model.fused = dynamo  # attention as one PyTorch call in one, as separate ones in the other
        export(model, tuple(torch.tensor(a) for a in batches[0][:2]), path, names, dynamo)
        logits_agree(path, model, batches, names)
        weights = [p for p in model.named_parameters() if p[0] in tail]
        feeds = dict(zip(names, batches[0][:2]))
        jobs.append({"name": name, "model": path.name, "arrays": "encoder.npz", "inputs": names,
                     "features": value_of(path, feeds, arrays["features/0"]),
                     "parameters": initializers_of(path, weights), "runs": runs})
    return arrays, jobs


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    OUT.mkdir(exist_ok=True)
    image_arrays, image_jobs = make_mobilenet()
    text_arrays, text_jobs = make_encoder()
    np.savez_compressed(OUT / "mobilenet.npz", **image_arrays)
    np.savez_compressed(OUT / "encoder.npz", **text_arrays)
    (OUT / "training.json").write_text(json.dumps(image_jobs + text_jobs, indent=1) + "\n")


if __name__ == "__main__":
    main()
