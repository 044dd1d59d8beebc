"""Writes ../transformers/: one small model of every family of transformers, as its exporter writes it, and the losses of
PyTorch's own training of (nearly) all its weights.

The models are Hugging Face's, with random weights of a fixed seed and few of them; `*_ort` are what ONNX Runtime's
transformer optimiser makes of an exported one, and `llama_genai` is a decoder in the nodes that onnxruntime-genai's
model builder writes. README.md in the folder above tells the format.

Usage: python transformers.py
"""

import copy
import json
import pathlib
import sys
import warnings

sys.path.remove(str(pathlib.Path(__file__).resolve().parent))  # it would be found in the place of the package

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
import transformers as hf
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from torch import nn

OUT = pathlib.Path(__file__).resolve().parent.parent / "transformers"
BATCHES, BATCH, STEPS, VOCABULARY, CLASSES = 5, 4, 10, 40, 4
SGD = {"kind": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
TEXT = {"input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "sequence"}}


# ---------------------------------------------------------------------------------------------------------- the models


class Logits(nn.Module):
    """The model with tensors in and [batch, classes] out: a classifier's logits, or a decoder's of the next word.

    With `counted`, positions are those of the words that the mask keeps, as text generation gives them.
    """

    def __init__(self, model, names, counted):
        super().__init__()
        self.model, self.names, self.counted = model, tuple(names), counted

    def forward(self, *inputs):
        inputs = dict(zip(self.names, inputs))
        if self.counted:
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        logits = self.model(**inputs).logits
        return logits[:, -1] if logits.dim() == 3 else logits


SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
DECODER = dict(SMALL, num_key_value_heads=2, vocab_size=VOCABULARY, max_position_embeddings=32, use_cache=False,
               tie_word_embeddings=False)
ENCODER = dict(SMALL, vocab_size=VOCABULARY, max_position_embeddings=24, num_labels=CLASSES, hidden_dropout_prob=0.0,
               attention_probs_dropout_prob=0.0, classifier_dropout=0.0)


def bert():
    return hf.BertForSequenceClassification(hf.BertConfig(**ENCODER))


def roberta():
    return hf.RobertaForSequenceClassification(hf.RobertaConfig(**ENCODER, type_vocab_size=1, pad_token_id=1))


def distilbert():
    return hf.DistilBertForSequenceClassification(hf.DistilBertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=24, dim=32, n_layers=2, n_heads=4, hidden_dim=48, dropout=0.0,
        attention_dropout=0.0, seq_classif_dropout=0.0, num_labels=CLASSES))


def gpt2():
    return hf.GPT2LMHeadModel(hf.GPT2Config(
        vocab_size=VOCABULARY, n_positions=24, n_embd=32, n_layer=2, n_head=4, n_inner=48, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, use_cache=False, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0))


def llama():
    return hf.LlamaForCausalLM(hf.LlamaConfig(**DECODER))


def llama_classifier():
    """Of heads of 16, the smallest that GroupQueryAttention turns."""
    return hf.LlamaForSequenceClassification(hf.LlamaConfig(
        **DECODER | dict(num_attention_heads=2, num_key_value_heads=1), num_labels=CLASSES, pad_token_id=1))


def qwen2():
    return hf.Qwen2ForCausalLM(hf.Qwen2Config(**DECODER))


def qwen3():
    return hf.Qwen3ForCausalLM(hf.Qwen3Config(**DECODER, head_dim=8))


def vit():
    return hf.ViTForImageClassification(hf.ViTConfig(
        **SMALL, image_size=16, patch_size=4, num_labels=CLASSES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))


def swin():
    return hf.SwinForImageClassification(hf.SwinConfig(
        image_size=16, patch_size=2, embed_dim=16, depths=[2, 1], num_heads=[2, 4], window_size=4, mlp_ratio=2.0,
        drop_path_rate=0.0, num_labels=CLASSES))


def whisper():
    return hf.WhisperForAudioClassification(hf.WhisperConfig(
        vocab_size=VOCABULARY, num_mel_bins=8, d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=48,
        decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=48, max_source_positions=12, num_labels=CLASSES,
        classifier_proj_size=16, pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0))


# Name: model, its inputs' dynamic axes, archive, attention, exporter and opset.
MODELS = {
    "bert": (bert, TEXT, "text", "eager", "torchscript", 17),
    "roberta": (roberta, TEXT, "text", "sdpa", "dynamo", 18),
    "distilbert": (distilbert, TEXT, "text", "sdpa", "torchscript", 18),
    "gpt2": (gpt2, TEXT, "next", "eager", "torchscript", 17),
    "gpt2_dynamo": (gpt2, TEXT, "next", "sdpa", "dynamo", 18),
    "llama": (llama, TEXT, "next", "sdpa", "dynamo", 18),
    "llama_eager": (llama, TEXT, "next", "eager", "torchscript", 17),
    "llama_23": (llama, TEXT, "next", "sdpa", "dynamo", 23),
    "qwen2": (qwen2, TEXT, "next", "eager", "torchscript", 18),
    "qwen3": (qwen3, TEXT, "next", "sdpa", "dynamo", 23),
    "vit": (vit, {"pixel_values": {0: "batch"}}, "image", "sdpa", "dynamo", 18),
    "swin": (swin, {"pixel_values": {0: "batch"}}, "image", "eager", "torchscript", 17),
    "whisper": (whisper, {"input_features": {0: "batch"}}, "audio", "sdpa", "dynamo", 18),
}
# Name: what it is made of, the optimiser's name for that kind, and whether to fuse to MultiHeadAttention.
FUSED = {
    "bert_ort": ("bert", "bert", False),
    "bert_mha": ("bert", "bert", True),
    "gpt2_ort": ("gpt2", "gpt2", False),
    "llama_ort": ("llama_eager", "gpt2", False),
}
GENAI = "llama_genai"
RATE = 0.02


def model_of(build, axes, attention, counted):
    torch.manual_seed(5)
    model = build()
    model.set_attn_implementation(attention)
    for key, parameter in model.named_parameters():
        # No two alike: exporters store equal initializers once. Larger than Hugging Face's, so that all are felt.
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3 if "embed" in key or "wte" in key else 0.15)
        else:
            nn.init.normal_(parameter, 1.0 if "norm" in key.lower() and key.endswith("weight") or ".ln_" in key and
                            key.endswith("weight") else 0.0, 0.1)
    return Logits(model.eval(), axes, counted)


# ------------------------------------------------------------------------------------------------------------ the data


def text(rng, number):
    """Of different widths; a class prefers its own words. Padding is word 1 with mask 0."""
    width = [9, 6, 8, 5, 7][number]
    labels = rng.permutation(CLASSES)
    mask = (np.arange(width) < rng.integers(3, width + 1, BATCH)[:, None]).astype(np.int64)
    mask[0] = 1
    ids = 4 + labels[:, None] * 9 + rng.integers(0, 9, (BATCH, width))
    return {"input_ids": np.where(mask == 1, ids, 1), "attention_mask": mask, "labels": labels}


def following(rng, number):
    """Of different widths; the next word is one of few and told by the last one. Padding, word 1, is on the left."""
    width = [9, 6, 8, 5, 7][number]
    mask = (np.arange(width) >= rng.integers(0, 4, BATCH)[:, None]).astype(np.int64)
    ids = np.where(mask == 1, rng.integers(2, VOCABULARY, (BATCH, width)), 1)
    return {"input_ids": ids, "attention_mask": mask, "labels": ids[:, -1] % 4}


def image(rng, number):
    """A coloured wave a class, under noise; multiples of 1/64."""
    labels = rng.permutation(CLASSES)
    y, x = np.mgrid[0:16, 0:16] / 16.0
    waves = np.stack([[np.sin(2 * np.pi * ((k + 1) * x * (c + 1) + k * y)) for c in range(3)] for k in range(CLASSES)])
    pixels = waves[labels] + rng.normal(0, 0.5, (BATCH, 3, 16, 16))
    return {"pixel_values": np.round(pixels * 64) / 64, "labels": labels}


def audio(rng, number):
    """A band a class, under noise, 24 frames of 8; multiples of 1/64."""
    labels = rng.permutation(CLASSES)
    bands = np.repeat(np.eye(CLASSES)[labels], 2, 1)[:, :, None] * np.sin(np.arange(24) / 2.0)
    return {"input_features": np.round((bands * 2 + rng.normal(0, 0.3, (BATCH, 8, 24))) * 64) / 64, "labels": labels}


def batches_of(archive):
    rng = np.random.default_rng(6)
    make = {"text": text, "next": following, "image": image, "audio": audio}[archive]
    kinds = lambda a: a.astype(np.float32 if a.dtype.kind == "f" else np.int64)
    return [{key: kinds(a) for key, a in make(rng, number).items()} for number in range(BATCHES)]


# ------------------------------------------------------------------------------------------------------------- export


def clean(model):
    """Without the exporter's stack traces: they hold paths of the machine that exported."""
    holders = [model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info,
               *model.graph.initializer, *model.functions]
    for holder in holders:
        holder.doc_string = ""
        if hasattr(holder, "metadata_props"):
            del holder.metadata_props[:]
    del model.graph.value_info[:]  # edgetune asks ONNX Runtime
    return model


def export(name, model, path):
    _, axes, archive, _, exporter, opset = MODELS[name]
    example = batches_of(archive)[0]
    arguments = tuple(torch.tensor(example[key]) for key in axes)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            shapes = tuple({axis: torch.export.Dim.DYNAMIC for axis in dims} for dims in axes.values())
            torch.onnx.export(model, arguments, path, dynamo=True, opset_version=opset, input_names=list(axes),
                              output_names=["logits"], dynamic_shapes=(shapes,), external_data=False, verbose=False)
        else:
            torch.onnx.export(model, arguments, path, dynamo=False, opset_version=opset, input_names=list(axes),
                              output_names=["logits"], dynamic_axes=axes | {"logits": {0: "batch"}})
    path.write_bytes(clean(onnx.load(path)).SerializeToString())


def fuse(source, kind, heads_apart, path):
    """The model as ONNX Runtime's transformer optimiser rewrites it."""
    options = FusionOptions(kind)
    options.use_multi_head_attention = heads_apart
    fused = optimize_model(str(source), kind, num_heads=SMALL["num_attention_heads"], hidden_size=SMALL["hidden_size"],
                           optimization_options=options, opt_level=0)
    fused.save_model_to_file(str(path))  # which declares com.microsoft too
    path.write_bytes(clean(onnx.load(path)).SerializeToString())


def genai(model, path):
    """The classifying decoder in the nodes of onnxruntime-genai's model builder, without past keys: queries, keys and
    values are packed in the first layer and apart in the second."""
    llama, weights = model.model.model, {}
    config, nodes = llama.config, []

    def weight(name, tensor):
        weights[name] = tensor.detach().numpy()
        return name

    def node(op, inputs, outputs=None, domain="", **attributes):
        outputs = outputs or [f"{op}_{len(nodes)}"]
        nodes.append(helper.make_node(op, inputs, outputs, f"{op}_{len(nodes)}", domain=domain, **attributes))
        return outputs[0]

    def linear(x, name, *layers):
        return node("MatMul", [x, weight(name, torch.cat([layer.weight.T for layer in layers], 1))])

    def skipped(name, x, skip, norm):
        outputs = [f"{name}.output", "", "", f"{name}.sum"]
        node("SkipSimplifiedLayerNormalization", [x, skip, weight(f"{name}.weight", norm.weight)], outputs, "com.microsoft",
             epsilon=norm.variance_epsilon)
        return outputs[0], outputs[3]

    angles = torch.outer(torch.arange(16).float(), llama.rotary_emb.inv_freq)
    caches = [weight("cos_cache", angles.cos()), weight("sin_cache", angles.sin())]
    one, last = weight("one", torch.tensor([1])), weight("minus_one", torch.tensor([-1]))
    ends = node("Sub", [node("ReduceSum", ["attention_mask", one], keepdims=0), one])
    lengths = node("Cast", [ends], to=TensorProto.INT32)
    width = node("Gather", [node("Shape", ["attention_mask"]), weight("axis", torch.tensor(1))], axis=0)
    total = node("Cast", [width], to=TensorProto.INT32)
    skip = node("Gather", [weight("embed", llama.embed_tokens.weight), "input_ids"])
    first = llama.layers[0].input_layernorm
    x = node("SimplifiedLayerNormalization", [skip, weight("norm.0", first.weight)], axis=-1,
             epsilon=first.variance_epsilon, stash_type=1)
    for number, layer in enumerate(llama.layers):
        name, attention, mlp = f"layers.{number}", layer.self_attn, layer.mlp
        apart = [attention.q_proj, attention.k_proj, attention.v_proj]
        if number == 0:
            qkv = [linear(x, f"{name}.qkv", *apart), "", ""]
        else:
            qkv = [linear(x, f"{name}.{letter}", part) for letter, part in zip("qkv", apart)]
        outputs = [f"{name}.attention", f"{name}.present_key", f"{name}.present_value"]
        x = node("GroupQueryAttention", [*qkv, "", "", lengths, total, *caches], outputs, "com.microsoft",
                 num_heads=config.num_attention_heads, kv_num_heads=config.num_key_value_heads, do_rotary=1)
        x, skip = skipped(f"{name}.post", linear(x, f"{name}.o", attention.o_proj), skip, layer.post_attention_layernorm)
        gate = linear(x, f"{name}.gate", mlp.gate_proj)
        gate = node("Mul", [gate, node("Sigmoid", [gate])])
        x = linear(node("Mul", [gate, linear(x, f"{name}.up", mlp.up_proj)]), f"{name}.down", mlp.down_proj)
        after = llama.layers[1].input_layernorm if number == 0 else llama.norm
        x, skip = skipped(f"{name}.next", x, skip, after)
    ends = node("Unsqueeze", [ends, last])
    node("GatherND", [linear(x, "score", model.model.score), ends], ["logits"], batch_dims=1)
    words = lambda name: helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])
    graph = helper.make_graph(nodes, "main_graph", [words("input_ids"), words("attention_mask")], [logits],
                              [numpy_helper.from_array(array, name) for name, array in weights.items()])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def holds(array, parameters):
    """The parameters that an initializer holds: one, as it is, transposed or with sizes of 1 more; or several side by
    side, each transposed. Empty where it holds none."""
    squeezed = np.squeeze(array)
    for name, value in parameters.items():
        if squeezed.size == value.size > 1 and any(np.array_equal(squeezed, v) for v in (np.squeeze(value), value.T)):
            return [name]
    found, at = [], 0
    while array.ndim and at < array.shape[-1]:
        rest = array[..., at:]
        fits = [name for name, value in parameters.items() if value.ndim == array.ndim and value.T.shape[:-1] ==
                rest.shape[:-1] and value.T.shape[-1] <= rest.shape[-1] and
                np.array_equal(rest[..., : value.T.shape[-1]], value.T)]
        if len(fits) != 1:
            return []
        found.append(fits[0])
        at += parameters[fits[0]].T.shape[-1]
    return found


def places(path, model):
    """Which initializer holds which of PyTorch's parameters, and the parameters that are in none, or in two."""
    parameters = {name: p.detach().numpy() for name, p in model.named_parameters()}
    found = []
    for initializer in onnx.load(path).graph.initializer:
        array = numpy_helper.to_array(initializer)
        if array.dtype == np.float32 and array.size > 1:
            found += [(name, initializer.name) for name in holds(array, parameters)]
    count = {name: sum(name == other for other, _ in found) for name in parameters}
    kept = [{"parameter": name, "initializer": initializer} for name, initializer in found if count[name] == 1]
    return kept, [name for name in parameters if count[name] != 1]


# ----------------------------------------------------------------------------------------------------------- training


def train(model, batches, names, trains, rate, dtype):
    model = copy.deepcopy(model).to(dtype)
    if dtype == torch.float64:  # where a word may look nowhere, "eager" gives NaN in float64
        model.model.set_attn_implementation("sdpa")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trains)
    steps = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate, momentum=SGD["momentum"])
    losses = []
    for step in range(STEPS):
        batch = batches[step % BATCHES]
        inputs = [torch.tensor(batch[name]) for name in names]
        inputs = [i.to(dtype) if i.is_floating_point() else i for i in inputs]
        loss = F.cross_entropy(model(*inputs), torch.tensor(batch["labels"]))
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    return losses


def logits_agree(path, model, batches):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in batches:
        feeds = {i.name: batch[i.name] for i in session.get_inputs()}
        want = model(*(torch.tensor(batch[name]) for name in model.names)).detach().numpy()
        np.testing.assert_allclose(session.run(None, feeds)[0], want, rtol=1e-4, atol=2e-5)


def entry(name, path, model, archive):
    batches = batches_of(archive)
    logits_agree(path, model, batches)
    where, missing = places(path, model)
    trains = sorted({place["parameter"] for place in where})
    losses = train(model, batches, model.names, trains, RATE, torch.float32)
    exact = train(model, batches, model.names, trains, RATE, torch.float64)
    off = max(abs(a - b) / b for a, b in zip(losses, exact))
    ops = sorted({node.op_type for node in onnx.load(path).graph.node})
    print(f"{name}: {path.stat().st_size} bytes, {len(trains)} learn, not in the file once: {missing}\n  losses",
          *(f"{loss:.3f}" for loss in losses), f"float32 off by {off:.1e}\n  {ops}")
    assert off < 1e-4 and losses[-1] < 0.85 * losses[0], (name, off, losses)
    run = {"name": "deep", "trains": trains, "optimizer": SGD, "learning_rate": RATE, "losses": losses,
           "losses_float64": exact}
    return {"name": name, "model": path.name, "arrays": f"{archive}.npz", "batches": BATCHES, "parameters": where,
            "runs": [run]}


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    OUT.mkdir(exist_ok=True)
    for archive in ("text", "next", "image", "audio"):
        arrays = {f"{key}/{n}": a for n, batch in enumerate(batches_of(archive)) for key, a in batch.items()}
        np.savez_compressed(OUT / f"{archive}.npz", **arrays)
    entries = []
    path = lambda name: OUT / f"{name}.onnx"
    for name, (build, axes, archive, attention, _, opset) in MODELS.items():
        # At opset 23 the exporter writes RotaryEmbedding, which wants positions of every sample.
        model = model_of(build, axes, attention, opset == 23)
        export(name, model, path(name))
        entries.append(entry(name, path(name), model, archive))
        for fused, (source, kind, heads_apart) in FUSED.items():
            if source == name:
                fuse(path(name), kind, heads_apart, path(fused))
                entries.append(entry(fused, path(fused), model, archive))
    model = model_of(llama_classifier, TEXT, "eager", False)
    genai(model, path(GENAI))
    entries.append(entry(GENAI, path(GENAI), model, "text"))
    (OUT / "transformers.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
