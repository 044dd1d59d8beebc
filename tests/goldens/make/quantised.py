"""Writes ../quantised/: small models of the other folders, quantised by ONNX Runtime's tools in each of its formats, and ten
steps of training them, by PyTorch.

PyTorch computes what the file says, node by node, on the file's own numbers: quantised weights dequantised, what rounds with
the straight-through gradient. The script stops if ONNX Runtime's loss before the first step is another. Static quantisation
keeps weights to 7 bits (`reduce_range`), so that no product saturates on x86 without VNNI. README.md in the folder above
tells the format.

Usage: python quantised.py
"""

import json
import logging
import math
import os

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from onnxruntime.quantization.matmul_nbits_quantizer import QuantFormat as NBits

from adapters import ADAMW, ALPHA, GOLDENS, RANK, SEED, SGD, first_values

OUT = GOLDENS / "quantised"
BATCHES, STEPS = 2, 10


# ---------------------------------------------------------------------------------------------------- the quantised files


class Pictures(CalibrationDataReader):
    def __init__(self, arrays):
        self.left = [{"input": array} for array in arrays]

    def get_next(self):
        return self.left.pop() if self.left else None


def static(name, form):
    pictures = np.load(GOLDENS / "training/mobilenet.npz")["input"]
    quantize_static(GOLDENS / "training/mobilenet_folded.onnx", OUT / f"{name}.onnx", Pictures(pictures), quant_format=form,
                    per_channel=True, reduce_range=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def dynamic(name):
    quantize_dynamic(GOLDENS / "training/encoder_torchscript.onnx", OUT / f"{name}.onnx", weight_type=QuantType.QInt8,
                     reduce_range=True, per_channel=True)


def blocks(name, source, bits, symmetric, form=NBits.QOperator):
    config = DefaultWeightOnlyQuantConfig(block_size=16, is_symmetric=symmetric, accuracy_level=0, bits=bits, quant_format=form)
    model = MatMulNBitsQuantizer(onnx.load(GOLDENS / f"language/{source}.onnx"), algo_config=config)
    model.process()
    onnx.save(model.model.model, OUT / f"{name}.onnx")


# ----------------------------------------------------------------------------------------------------- the interpretation


class Through(torch.autograd.Function):
    """round(a) clipped to lo..hi; the gradient of a where nothing was clipped."""

    @staticmethod
    def forward(ctx, a, lo, hi):
        rounded = torch.round(a)
        ctx.save_for_backward((rounded >= lo) & (rounded <= hi))
        return rounded.clamp(lo, hi)

    @staticmethod
    def backward(ctx, dy):
        (inside,) = ctx.saved_tensors
        return dy * inside, None, None


def along(value, x, axis):
    return value if value.dim() == 0 else value.reshape([-1 if d == axis % x.dim() else 1 for d in range(x.dim())])


RANGES = {np.dtype(np.uint8): (0, 255), np.dtype(np.int8): (-128, 127)}


class Model:
    """An ONNX file in PyTorch. Integers that stand for real numbers are float32 tensors."""

    def __init__(self, path):
        self.path, self.graph = path, onnx.load(path).graph
        raw = {i.name: numpy_helper.to_array(i) for i in self.graph.initializer}
        self.dtypes = {name: array.dtype for name, array in raw.items()}
        integers = ("uint8", "int8", "int32", "uint4", "int4")
        real = lambda a: a.astype(np.float32) if str(a.dtype) in integers else a
        self.constants = {name: torch.tensor(real(array)) for name, array in raw.items()}

        # As edgetune does, before what is quantised to the range of the old logits.
        self.logits, given = self.graph.output[0].name, {n.output[0]: n for n in self.graph.node}
        while given[self.logits].op_type in ("QuantizeLinear", "DequantizeLinear"):
            self.logits = given[self.logits].input[0]

    def dequantised(self, name):
        """The weight behind a DequantizeLinear's output."""
        node = next(n for n in self.graph.node if n.output[0] == name)
        return self.node(node, [self.constants[i] if i else None for i in node.input])[0]

    def __call__(self, inputs, learned={}, factors={}):
        values = {**self.constants, **inputs, **learned}
        for node in self.graph.node:
            if any(output in learned for output in node.output):
                continue
            outputs = self.node(node, [values[name] if name else None for name in node.input])
            values.update(zip(node.output, outputs))
            for output in node.output:
                if output in factors:
                    x, a, b = factors[output]
                    values[output] = values[output] + beside(values[x], learned[a], learned[b])
        return values[self.logits]

    def node(self, node, x):
        at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        axis = at.get("axis", 1)
        match node.op_type:
            case "Constant":
                return [torch.tensor(numpy_helper.to_array(at["value"]).copy())]
            case "QuantizeLinear":
                lo, hi = RANGES[self.dtypes[node.input[2]]]
                zero = along(x[2], x[0], axis)
                return [Through.apply(x[0] / along(x[1], x[0], axis) + zero, lo, hi)]
            case "DequantizeLinear" if at.get("block_size"):
                scale, zero = (v.repeat_interleave(at["block_size"], axis) for v in (x[1], x[2] if len(x) > 2 else 0 * x[1]))
                return [(x[0] - zero) * scale]
            case "DequantizeLinear":
                zero = 0 if len(x) < 3 or x[2] is None else along(x[2], x[0], axis)
                return [(x[0] - zero) * along(x[1], x[0], axis)]
            case "DynamicQuantizeLinear":
                low, high = x[0].detach().min().clamp(max=0), x[0].detach().max().clamp(min=0)
                scale = (high - low) / 255
                zero = torch.round(-low / scale).clamp(0, 255)
                return [Through.apply(x[0] / scale + zero, 0, 255), scale, zero]
            case "MatMulInteger":
                return [(x[0] - x[2]) @ (x[1] - x[3])]
            case "MatMulNBits":
                return [x[0] @ self.unpacked(node, at).T]
            case "Conv":
                pads = at.get("pads", [0, 0, 0, 0])
                assert pads[:2] == pads[2:]
                return [F.conv2d(*x, stride=at.get("strides", 1), padding=pads[:2], groups=at.get("group", 1))]
            case "Gemm":
                assert at.get("transB", 0) == 1
                return [F.linear(*x)]
            case "Cast":
                return [x[0].to({1: torch.float32, 7: torch.int64, 9: torch.bool}[at["to"]])]
            case "LayerNormalization":
                return [F.layer_norm(x[0], x[1].shape, x[1], x[2], at["epsilon"])]
            case "Softmax":
                return [x[0].softmax(at.get("axis", -1))]
            case "Shape":
                return [torch.tensor(x[0].shape[at.get("start", 0):at.get("end")])]
            case "Gather":
                return [x[0][(slice(None),) * (at.get("axis", 0) % x[0].dim()) + (x[1],)]]
            case "Concat":
                return [torch.cat([torch.atleast_1d(value) for value in x], axis)]
            case "Unsqueeze":
                y = x[0]
                for place in sorted(place % (y.dim() + len(x[1])) for place in x[1].tolist()):
                    y = y.unsqueeze(place)
                return [y]
            case "Squeeze":
                return [x[0].squeeze(tuple(x[1].tolist())) if len(x) > 1 else x[0].squeeze()]
            case "Expand":
                return [x[0].expand(torch.broadcast_shapes(x[0].shape, tuple(x[1].tolist())))]
            case "GatherND":
                assert at.get("batch_dims", 0) == 0
                return [x[0][tuple(x[1].unbind(-1))]]
            case "Reshape":
                shape = [x[0].shape[i] if size == 0 else size for i, size in enumerate(x[1].tolist())]
                return [x[0].reshape(shape)]
            case "Transpose":
                return [x[0].permute(at["perm"])]
            case "Flatten":
                return [x[0].flatten(1)]
            case "Slice":
                axes = x[3].tolist() if len(x) > 3 else range(len(x[1]))
                index = [slice(None)] * x[0].dim()
                for place, start, end in zip(axes, x[1].tolist(), x[2].tolist()):
                    index[place] = slice(start, end)
                return [x[0][tuple(index)]]
            case "Tile":
                return [x[0].repeat(x[1].tolist())]
            case "Range":
                return [torch.arange(*(value.item() for value in x))]
            case "ReduceMean":
                axes = at["axes"] if "axes" in at else x[1].tolist()
                return [x[0].mean(axes, keepdim=bool(at.get("keepdims", 1)))]
            case "ReduceSum":
                return [x[0].sum(x[1].tolist(), keepdim=bool(at.get("keepdims", 1)))]
            case "GlobalAveragePool":
                return [x[0].mean((2, 3), keepdim=True)]
            case "Clip":
                return [x[0].clamp(*(None if bound is None else bound.item() for bound in x[1:]))]
            case "Div" if not x[0].is_floating_point():
                return [x[0] // x[1]]
            case op:
                simple = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "Pow": torch.pow,
                          "Sqrt": torch.sqrt, "Erf": torch.erf, "Neg": torch.neg, "Sigmoid": torch.sigmoid,
                          "Relu": torch.relu, "Cos": torch.cos, "Sin": torch.sin, "MatMul": torch.matmul,
                          "Greater": torch.gt, "Equal": torch.eq, "Or": torch.logical_or, "Identity": torch.clone,
                          "Reciprocal": torch.reciprocal}
                return [simple[op](*x)]

    def unpacked(self, node, at):
        """[N, K], in float64."""
        rows, columns, block, bits = at["N"], at["K"], at["block_size"], at["bits"]
        whole = lambda name: self.constants[name].long()
        halves = lambda b: b if bits == 8 else torch.stack([b & 15, b >> 4], -1).flatten(-2)
        count = -(-columns // block)
        q = halves(whole(node.input[1]).reshape(rows, count, -1))
        scale = self.constants[node.input[2]].reshape(rows, count, 1).double()
        zero = 2 ** (bits - 1)
        if len(node.input) > 3 and node.input[3]:
            zero = halves(whole(node.input[3]).reshape(rows, -1))[:, :count, None]
        return ((q - zero) * scale).flatten(1)[:, :columns].float()


def beside(x, a, b):
    """LoRA's s·B A x."""
    if a.dim() == 4:
        return F.conv2d(F.conv2d(x, a) * (ALPHA / RANK), b)
    return x @ a.T * (ALPHA / RANK) @ b.T


# ---------------------------------------------------------------------------------------------------------------- the runs


def cross_entropy(logits, labels):
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=-100)


def batches(archive, names, prefix=""):
    arrays = np.load(GOLDENS / archive)
    take = lambda key, n: arrays[f"{key}/{n}"] if f"{key}/{n}" in arrays else arrays[key][n]
    return [{name: take(name, n) for name in (*names, "labels")} for n in range(BATCHES)]


def file_agrees(model, data):
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = ort.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])
    for batch in data:
        got = session.run(None, {i.name: batch[i.name] for i in session.get_inputs()})[0]
        tensors = {name: torch.tensor(array) for name, array in batch.items()}
        want = model(tensors).detach()
        losses = [cross_entropy(torch.as_tensor(y), tensors["labels"]).item() for y in (got, want)]
        print(f"    loss {losses[0]:.6f} of ONNX Runtime, {losses[1]:.6f} of PyTorch")
        assert abs(losses[0] - losses[1]) < 1e-3 * losses[1]


def trained(model, data, learned, factors, optimizer, rate, steps=STEPS):
    learned = {name: value.clone().requires_grad_() for name, value in learned.items()}
    groups = list(learned.values())
    kinds = {"sgd": lambda: torch.optim.SGD(groups, rate, momentum=0.9),
             "adamw": lambda: torch.optim.AdamW(groups, rate, weight_decay=0.01)}
    optimiser, losses = kinds[optimizer["kind"]](), []
    for step in range(steps):
        batch = {name: torch.tensor(array) for name, array in data[step % BATCHES].items()}
        loss = cross_entropy(model(batch, learned, factors), batch["labels"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def entry(name, archive, names, runs, loss=None):
    """`runs`: name → (what learns as it is, factors: output → (module, input), optimiser, rate)."""
    model, data = Model(OUT / f"{name}.onnx"), batches(archive, names)
    print(name)
    file_agrees(model, data)
    parameters, made = set(), []
    for run, (whole, targets, optimizer, rate) in runs(model).items():
        learned = {w: model.constants[w] if w in model.constants else model.dequantised(w) for w in whole}
        factors, modules = {}, []
        for output, (module, x, shape_a, shape_b) in targets.items():
            a, b = f"{module}.lora_A.weight", f"{module}.lora_B.weight"
            learned |= {a: first_values(a, shape_a), b: torch.zeros(shape_b)}
            factors[output] = (x, a, b)
            modules.append(module)
        losses = trained(model, data, learned, factors, optimizer, rate)
        print(f"  {run}: {losses[0]:.4f} → {losses[-1]:.4f}, {len(learned)} tensors")
        parameters |= set(learned)
        told = {"name": run, "trains": sorted(learned), "optimizer": optimizer, "learning_rate": rate, "losses": losses}
        if loss:
            told["loss"] = loss
        if modules:
            told["adapter"] = {"method": "lora", "rank": RANK, "alpha": ALPHA, "seed": SEED, "targets": modules,
                               "feedforward": []}
        made.append(told)
    places = [{"parameter": name, "initializer": name} for name in sorted(parameters)]
    return {"name": name, "model": f"{name}.onnx", "arrays": f"../{archive}", "batches": BATCHES, "parameters": places,
            "runs": made}


def linear(shape):
    columns, rows = shape
    return (RANK, columns), (rows, RANK)


def mobilenet(form):
    def runs(model):
        nodes, weights = model.graph.node, []
        given = {n.output[0]: n for n in nodes}
        taken = lambda n: [i for i in n.input[1:] if i]
        suffix = "" if form == "qdq" else "_quantized"
        for node in nodes:
            if node.op_type in ("Conv", "Gemm"):
                weights.append(taken(node))
        head, deep = weights[-1], [name for pair in weights[-4:] for name in pair]
        conv = next(n for n in reversed(nodes) if n.op_type == "Conv" and not any(a.name == "group" and a.i > 1 for a in n.attribute))
        w = model.dequantised(conv.input[1])
        module = given[conv.input[1]].input[0].removesuffix("_quantized").removesuffix(".weight")
        module = module if not module.startswith("onnx::") else ".".join(p for p in conv.name.split("/") if p).rsplit(".", 1)[0]
        lora = {conv.output[0]: (module, conv.input[0], (RANK, *w.shape[1:]), (w.shape[0], RANK, 1, 1))}
        return {"head": (head, {}, SGD, 0.05), "deep": (deep, {}, SGD, 0.01), "lora": ([], lora, ADAMW, 0.02)}
    return runs


def encoder(model):
    nodes = model.graph.node
    given = {n.output[0]: n for n in nodes}
    whole = [n for n in model.constants if n.endswith((".bias",)) or "norm.weight" in n]
    used = {i for n in nodes for i in n.input}
    whole = [n for n in whole if n in used and "key.bias" not in n]
    lora = {}
    for node in nodes:
        if node.op_type != "Add" or given.get(node.input[1], given.get(node.input[0])) is None:
            continue
        bias = next((i for i in node.input if i.endswith((".query.bias", ".value.bias"))), None)
        if bias:
            scaled = given[next(i for i in node.input if i != bias)]
            product = given[given[next(i for i in scaled.input if given[i].op_type == "Cast")].input[0]]
            x = given[product.input[0]].input[0]
            module = bias.removesuffix(".bias")
            lora[node.output[0]] = (module, x, *linear(model.constants[product.input[1]].shape))
    assert len(lora) == 4, lora
    return {"floats": (whole, {}, ADAMW, 0.005), "lora": ([], lora, ADAMW, 0.01)}


def decoder(model):
    lora = {}
    for node in model.graph.node:
        if node.op_type == "MatMulNBits" and any(part in node.name for part in ("/q/", "/v/", "/down/")):
            at = {a.name: a.i for a in node.attribute}
            module = ".".join(part for part in node.name.split("/")[:-1] if part)
            lora[node.output[0]] = (module, node.input[0], *linear((at["K"], at["N"])))
    assert len(lora) >= 4, [n.name for n in model.graph.node if n.op_type == "MatMulNBits"]
    norms = [name for name in model.constants if name.endswith((".before.weight", ".between.weight", ".norm.weight"))]
    return {"lora": ([], lora, ADAMW, 0.01), "norms": (norms, {}, SGD, 0.05)}


def decoder_of_qdq(model):
    """Factors beside queries, and the head's weight in 4 bits as floats."""
    given = {n.output[0]: n for n in model.graph.node}
    products = [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in given
                and given[n.input[1]].op_type == "DequantizeLinear"]
    lora = {n.output[0]: (n.name, n.input[0], *linear(model.dequantised(n.input[1]).shape)) for n in products[::7][:2]}
    return {"lora": ([], lora, ADAMW, 0.01), "head": ([products[-1].input[1]], {}, SGD, 0.05)}


def main():
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    OUT.mkdir(exist_ok=True)
    static("mobilenet_qdq", QuantFormat.QDQ)
    static("mobilenet_qoperator", QuantFormat.QOperator)
    dynamic("encoder_dynamic")
    blocks("decoder_4_bits", "decoder", 4, False)
    blocks("decoder_8_bits", "decoder", 8, True)
    blocks("decoder_qdq_4_bits", "decoder_dynamo", 4, False, NBits.QDQ)
    text = ["input_ids", "attention_mask"]
    made = [entry("mobilenet_qdq", "training/mobilenet.npz", ["input"], mobilenet("qdq")),
            entry("encoder_dynamic", "training/encoder.npz", text, encoder),
            *(entry(f"decoder_{bits}_bits", "language/language.npz", text, decoder, "next-token") for bits in (4, 8)),
            entry("decoder_qdq_4_bits", "language/language.npz", text, decoder_of_qdq, "next-token")]
    (OUT / "quantised.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
