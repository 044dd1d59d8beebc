"""Writes ../adapters/adapters.json: ten steps of every adapter method by Hugging Face's PEFT, on models that training.py,
families.py and transformers.py have exported.

The models are built again with the same seed, and their outputs compared with the committed ONNX files'. LoRA's `A` starts
with edgetune's own first values, computed here once more from their definition; so nothing but losses is stored. DoRA is
trained by the paper's formula with its gradient exact, where PEFT takes the norm for a constant; PEFT's outputs are compared
with it. BitFit is no method of PEFT's: the biases alone learn. README.md in the folder above tells the format.

Usage: python adapters.py
"""

import copy
import importlib.util
import json
import math
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.remove(str(HERE))  # transformers.py would be found in the place of the package

import numpy as np
import onnxruntime as ort
import torch
import torch.nn.functional as F
from blake3 import blake3
from peft import IA3Config, LNTuningConfig, LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from torch import nn

GOLDENS = HERE.parent
OUT = GOLDENS / "adapters"
BATCHES, STEPS, RANK, ALPHA, SEED = 2, 10, 4, 8, 7
SGD = {"kind": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
# IA³'s scale and DoRA's magnitude are kept as changes by edgetune, which weight decay would pull to other places.
ADAM = {"kind": "adamw", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0}
ADAMW = ADAM | {"weight_decay": 0.01}


def script(name):
    """Another script of this folder as a module."""
    sys.path.insert(0, str(HERE))  # transformers.py takes it away again
    spec = importlib.util.spec_from_file_location(f"make_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = [folder for folder in sys.path if folder != str(HERE)]
    return module


training, families, transformers = script("training"), script("families"), script("transformers")


# ---------------------------------------------------------------------------------------------------------- the models


class Source:
    """A model, its committed ONNX file and archive, and its batches: arrays by name, `labels` among them, that the archive
    has under `prefix`."""

    def __init__(self, name, folder, model, archive, names, prefix=""):
        self.name, self.model, self.names, self.prefix = name, model, names, prefix
        self.path, self.archive = GOLDENS / folder / f"{name}.onnx", GOLDENS / folder / f"{archive}.npz"
        arrays = np.load(self.archive)
        batch = lambda key, number: arrays[f"{key}/{number}"] if f"{key}/{number}" in arrays else arrays[key][number]
        keys = (*names, "labels")
        self.batches = [{key: batch(prefix + key, number) for key in keys} for number in range(BATCHES)]

    def file_agrees(self):
        session = ort.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        for batch in self.batches:
            want = self.model(*(torch.tensor(batch[name]) for name in self.names)).detach().numpy()
            got = session.run(None, {name: batch[name] for name in self.names})[0]
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5)


def sources():
    text = ["input_ids", "attention_mask"]
    gpt2 = lambda: transformers.model_of(transformers.gpt2, transformers.TEXT, "eager", False)
    normed = training.mobilenet()
    (pictures,), labels = families.images()
    seed = 20 + list(families.FAMILIES).index("convnext")
    convnext = training.folded(families.settled(families.conv_next, list(zip(pictures, labels)), seed))
    return [
        Source("encoder_torchscript", "training", training.encoder(), "encoder", text),
        Source("encoder_dynamo", "training", training.encoder(), "encoder", text),
        Source("mobilenet_bn", "training", normed, "mobilenet", ["input"]),
        Source("mobilenet_folded", "training", training.folded(normed), "mobilenet", ["input"]),
        Source("convnext", "families", convnext, "families", ["input"], "images/"),
        Source("gpt2", "transformers", gpt2(), "next", text),
        Source("gpt2_dynamo", "transformers", gpt2(), "next", text),
    ]


# --------------------------------------------------------------------------------------------------------- the methods


def first_values(name, shape):
    """edgetune's: uniform in ±1/√fan_in, 24 bits of BLAKE3's output over seed and name a value."""
    stream = blake3(b"edgetune lora_A" + SEED.to_bytes(8, "little") + name.encode()).digest(length=4 * math.prod(shape))
    share = (np.frombuffer(stream, "<u4") >> 8) / float(1 << 24)
    return torch.tensor(((2 * share - 1) / math.sqrt(math.prod(shape[1:]))).reshape(shape).astype(np.float32))


class Dora(nn.Module):
    """m · V / ‖V‖ with V = W + s·B A, the norm over an output's weights: equation 5 of arXiv 2402.09353."""

    def __init__(self, base, name):
        super().__init__()
        self.base, out, rest = base, base.weight.shape[0], base.weight.shape[1:]
        self.lora_A = nn.Parameter(first_values(f"{name}.lora_A.weight", (RANK, *rest)))
        self.lora_B = nn.Parameter(torch.zeros(out, RANK))
        self.lora_magnitude_vector = nn.Parameter(base.weight.detach().flatten(1).norm(dim=1))

    def forward(self, x):
        weight, each = self.base.weight, (-1, *[1] * (self.base.weight.dim() - 1))
        v = weight + ALPHA / RANK * (self.lora_B @ self.lora_A.flatten(1)).reshape(weight.shape)
        v = v * (self.lora_magnitude_vector / v.flatten(1).norm(dim=1)).reshape(each)
        if isinstance(self.base, nn.Conv2d):
            return self.base._conv_forward(x, v, self.base.bias)
        return F.linear(x, v, self.base.bias)


def with_dora(model, targets):
    """The model with `Dora` in its layers, and the names of what learns."""
    model, learns = copy.deepcopy(model), {}
    for name, module in list(model.named_modules()):
        if any(name == target or name.endswith(f".{target}") for target in targets):
            parent, _, leaf = name.rpartition(".")
            layer = Dora(module, name)
            setattr(model.get_submodule(parent), leaf, layer)
            learns |= {f"{name}.lora_A.weight": layer.lora_A, f"{name}.lora_B.weight": layer.lora_B,
                       f"{name}.lora_magnitude_vector": layer.lora_magnitude_vector}
    return model, learns


def lora_values(model):
    """Sets every `A` of a model of PEFT's to edgetune's first values."""
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            parameter.data = first_values(name.replace(".default", ""), tuple(parameter.shape))


def dora_agrees(source, ours, learns, targets):
    """PEFT's outputs with the same factors and magnitudes, all of them moved away from their first values."""
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, use_dora=True)
    peft = inject_adapter_in_model(config, copy.deepcopy(source.model)).eval()
    ours, own = copy.deepcopy(ours), {}
    for (name, _), (_, parameter) in zip(learns.items(), [p for p in ours.named_parameters() if "lora_" in p[0]]):
        own[name] = parameter
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in own.values():
            parameter.mul_(1.1).add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for name, parameter in peft.named_parameters():
            name = name.replace(".default", "").replace("magnitude_vector.weight", "magnitude_vector")
            if "lora_" in name:
                parameter.copy_(own[name].reshape(parameter.shape))
    inputs = [torch.tensor(source.batches[0][name]) for name in source.names]
    torch.testing.assert_close(ours(*inputs), peft(*inputs), rtol=1e-4, atol=1e-4)


def changed(source, method, targets, feedforward):
    """The model under a method, and its learned tensors by the names that PEFT saves them under."""
    if method == "dora":
        model, learns = with_dora(source.model, targets)
        dora_agrees(source, model, learns, targets)
        return model, learns
    model = copy.deepcopy(source.model)
    if method == "bitfit":
        return model, {name: p for name, p in model.named_parameters() if name.endswith(".bias")}
    if method == "norm":
        norms = (nn.LayerNorm, nn.BatchNorm2d)
        named = [name for name, module in model.named_modules() if isinstance(module, norms)]
        config = LNTuningConfig(target_modules=named)
    elif method == "ia3":
        config = IA3Config(target_modules=targets + feedforward, feedforward_modules=feedforward)
    else:
        fused = {"fan_in_fan_out": True} if source.name.startswith("gpt2") else {}
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, use_rslora=method == "rslora", **fused)
    # Evaluation: BatchNorm keeps its statistics.
    model = inject_adapter_in_model(config, model).eval()
    lora_values(model)
    kept = get_peft_model_state_dict(model)
    learns = {}
    for name, parameter in model.named_parameters():
        name = name.replace(".default", "").replace("ln_tuning_layers.", "")
        if parameter.requires_grad and not (method == "lora-fa" and ".lora_A." in name):
            learns[name] = parameter
    assert method in ("lora-fa", "norm") or set(learns) == set(kept), set(learns) ^ set(kept)
    return model, learns


# ----------------------------------------------------------------------------------------------------------- training


def train(source, method, targets, feedforward, optimizer, rate, dtype, moved=0.0):
    """The losses of every step, before its update, and the names of what learns. Inputs that are numbers are larger by the
    share `moved`."""
    model, learns = changed(source, method, targets, feedforward)
    model = model.to(dtype)  # the parameters stay the same objects
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in learns.values():
        parameter.requires_grad_(True)
    if optimizer["kind"] == "sgd":
        steps = torch.optim.SGD(learns.values(), rate, momentum=optimizer["momentum"])
    else:
        steps = torch.optim.AdamW(learns.values(), rate, betas=(optimizer["beta1"], optimizer["beta2"]),
                                  eps=optimizer["epsilon"], weight_decay=optimizer["weight_decay"])
    losses = []
    for step in range(STEPS):
        batch = source.batches[step % BATCHES]
        inputs = [torch.tensor(batch[name]) for name in source.names]
        inputs = [i.to(dtype) * (1 + moved) if i.is_floating_point() else i for i in inputs]
        loss = F.cross_entropy(model(*inputs), torch.tensor(batch["labels"]))
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    return losses, list(learns)


# Model's family: targets, and IA³'s feed-forward layers.
PLACES = {
    "encoder": (["query", "value"], ["output"]),
    # Convolutions of 1×1; the lower ones would take thousands of activations over ReLU6's kinks, where rounding decides.
    "mobilenet": (["features.4.conv.2", "features.5.0", "classifier.1"], []),
    # Convolutions with kernels of 4×4 and 2×2 and as large a stride, and linear layers.
    "convnext": (["features.0.0", "features.2.1", "features.4.1", "features.5.0.block.3", "classifier.2"],
                 ["features.5.0.block.5"]),
    "gpt2": (["c_attn"], ["mlp.c_proj"]),
}
# Model's family: method: learning rates of SGD and AdamW; another share of it where a run comes so near to a kink of ReLU6 that
# rounding decides on which side it is.
RATES = {
    "encoder": {"lora": (0.5, 0.02), "rslora": (0.2, 0.02), "dora": (0.5, 0.02), "lora-fa": (0.5, 0.02), "ia3": (5.0, 0.05),
                "bitfit": (0.05, 0.01), "norm": (0.1, 0.01)},
    "mobilenet": {"lora": (0.02, 0.005), "rslora": (0.005, 0.002), "dora": (0.02, 0.002), "lora-fa": (0.02, 0.005),
                  "ia3": (0.1, 0.01), "bitfit": (0.05, 0.005), "norm": (0.05, 0.005)},
    "convnext": {"lora": (0.02, 0.005), "rslora": (0.01, 0.005), "dora": (0.02, 0.005), "lora-fa": (0.02, 0.005),
                 "ia3": (5.0, 0.1), "bitfit": (0.05, 0.02), "norm": (2.0, 0.1)},
    "gpt2": {"lora": (0.05, 0.01), "ia3": (0.1, 0.02), "norm": (0.05, 0.01)},
}


def run(source, method, kind):
    family = source.name.split("_")[0]
    targets, feedforward = PLACES[family]
    low_rank = method not in ("ia3", "bitfit", "norm")
    spec = SGD if kind == "sgd" else ADAM if method in ("ia3", "dora") else ADAMW
    for share in (1.0, 0.75, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0):
        rate = share * RATES[family][method][kind == "adamw"]
        given = (source, method, targets, feedforward, spec, rate)
        losses, learns = train(*given, torch.float32)
        exact, *others = (train(*given, torch.float64, moved)[0] for moved in (0.0, 2e-7, -2e-7))
        off = max(abs(a - b) / b for other in (losses, *others) for a, b in zip(other, exact))
        print(f"{source.name} {method} {kind} {rate:g}: off by {off:.1e}", *(f"{loss:.3f}" for loss in losses), flush=True)
        if off < 1e-5:
            break
    assert off < 1e-5 and sum(losses[-BATCHES:]) < 0.95 * sum(losses[:BATCHES])
    adapter = {"method": method, "rank": RANK if low_rank else 0, "alpha": ALPHA if low_rank else 0, "seed": SEED,
               "targets": targets if low_rank or method == "ia3" else [],
               "feedforward": feedforward if method == "ia3" else []}
    return {"name": f"{method}_{kind}", "adapter": adapter, "trains": learns, "optimizer": spec, "learning_rate": rate,
            "losses": losses, "losses_float64": exact}


def methods_of(source):
    if source.name == "mobilenet_folded":  # without normalisations, with biases behind every convolution
        return ["lora", "dora", "bitfit"]
    return list(RATES[source.name.split("_")[0]])


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    OUT.mkdir(exist_ok=True)
    entries = []
    for source in sources():
        source.file_agrees()
        runs = [run(source, method, kind) for method in methods_of(source) for kind in ("sgd", "adamw")]
        names = sorted({name for run in runs for name in run["trains"]})
        relative = lambda path: f"../{path.relative_to(GOLDENS)}"
        entries.append({"name": source.name, "model": relative(source.path), "arrays": relative(source.archive),
                        "prefix": source.prefix, "batches": BATCHES,
                        "parameters": [{"parameter": n, "initializer": n} for n in names], "runs": runs})
    (OUT / "adapters.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
