"""Writes ../genai/: small Llama, Qwen2 and Qwen3 decoders in the files of onnxruntime-genai's model builder, float32 and int4, batches with
padding, and the losses and texts of PyTorch's own runs. What an int4 file is compared with is the decoder of its dequantised weights.

Weights are random with a fixed seed. README.md in the folder above tells the format. Needs `requirements-genai.txt`.

Usage: python genai.py
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

sys.path.remove(str(pathlib.Path(__file__).resolve().parent))  # `transformers.py` would be found in the place of the package
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

OUT = pathlib.Path(__file__).resolve().parent.parent / "genai"
SIZES = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}
KINDS = {"llama": (LlamaConfig, LlamaForCausalLM, {}), "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
         "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16})}
BATCHES, BATCH, STEPS, IGNORED = 4, 3, 10, -100
SGD = {"kind": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
PROMPT = [1, 7, 11, 32]


def decoder(kind):
    torch.manual_seed(3)
    config, model, more = KINDS[kind]
    made = model(config(**SIZES, **more)).eval()
    for name, parameter in made.named_parameters():
        # Wide enough that each token matters; no two norms alike.
        torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.1 if "norm" in name else 0.25)
    return made


def tokenizer():
    words = {chr(33 + place): place for place in range(SIZES["vocab_size"])}
    made = Tokenizer(models.WordLevel(words, unk_token="!"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="!")


def built(model, precision, path):
    """The builder's file, with its weights inside. An int4 product of the Qwens multiplies with floats, where the builder's default, which the
    Llama has, quantises those as well."""
    with tempfile.TemporaryDirectory() as scratch:
        given, made = pathlib.Path(scratch) / "given", pathlib.Path(scratch) / "made"
        model.save_pretrained(given)
        tokenizer().save_pretrained(given)
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", given, "-o", made, "-p", precision, "-e", "cpu"]
        if precision == "int4" and not path.name.startswith("llama"):
            command += ["--extra_options", "accuracy_level=1"]
        subprocess.run([str(part) for part in command], check=True, capture_output=True)
        whole = onnx.load(made / "model.onnx")
    # They hold paths of the machine that built it.
    whole.doc_string = ""
    for holder in [whole, *whole.graph.node]:
        holder.doc_string = ""
        del holder.metadata_props[:]
    path.write_bytes(whole.SerializeToString())


def dequantised(path):
    """`{layer: [out, in]}`: (nibble − zero point) · scale of each MatMulNBits, two nibbles a byte, the lower one first."""
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type != "MatMulNBits":
            continue
        sizes = {attribute.name: attribute.i for attribute in node.attribute}
        packed, scales = stored[node.input[1]], stored[node.input[2]].reshape(sizes["N"], -1, 1)
        nibbles = np.stack([packed & 15, packed >> 4], -1).reshape(sizes["N"], -1, sizes["block_size"]).astype(np.float32)
        zero = 8.0
        if len(node.input) > 3 and node.input[3]:
            points = stored[node.input[3]].reshape(sizes["N"], -1)
            zero = np.stack([points & 15, points >> 4], -1).reshape(sizes["N"], -1)[:, : scales.shape[1], None].astype(np.float32)
        found[node.name] = ((nibbles - zero) * scales).reshape(sizes["N"], -1)[:, : sizes["K"]]
    return found


def with_weights_of(model, path):
    """The decoder with the dequantised weights of an int4 file in place of its own."""
    config = model.config
    size = config.hidden_size // config.num_attention_heads
    bounds = np.cumsum([config.num_attention_heads * size, config.num_key_value_heads * size])
    own = dict(model.named_parameters())
    put = lambda name, value: own[name].data.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    for name, value in dequantised(path).items():
        # /model/layers.0/attn/qkv_proj/MatMul_Q4, /lm_head/MatMul_Q4
        parts = name.strip("/").split("/")
        if parts[0] == "lm_head":
            put("lm_head.weight", value)
            continue
        layer, block, module = parts[1], {"attn": "self_attn"}.get(parts[2], parts[2]), parts[3]
        split = zip(["q_proj", "k_proj", "v_proj"], np.split(value, bounds)) if module == "qkv_proj" else [(module, value)]
        for one, part in split:
            put(f"model.{layer}.{block}.{one}.weight", part)
    return model


def batches():
    """Walks through the words with small steps, of different lengths, padded to the right."""
    rng = np.random.default_rng(6)
    made = []
    for width in [12, 9, 12, 7]:
        lengths = rng.integers(4, width + 1, BATCH)
        lengths[0] = width
        place = np.arange(width)
        mask = (place < lengths[:, None]).astype(np.int64)
        ids = (3 + np.cumsum(rng.integers(0, 3, (BATCH, width)), 1)) * mask
        following = np.concatenate([ids[:, 1:], np.zeros((BATCH, 1), np.int64)], 1)
        made.append((ids, mask, np.where(place + 1 < lengths[:, None], following, IGNORED)))
    return made


def run(name, model, trains, learning_rate):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    for key, parameter in parameters.items():
        parameter.requires_grad_(key in trains)
    steps = torch.optim.SGD([parameters[key] for key in trains], learning_rate, momentum=SGD["momentum"])
    losses, data = [], batches()
    for step in range(STEPS):
        ids, mask, labels = (torch.tensor(array) for array in data[step % BATCHES])
        logits = model(input_ids=ids, attention_mask=mask).logits
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    model.load_state_dict(before)
    print(name, f"{losses[0]:.4f} -> {losses[-1]:.4f}")
    return {"name": name, "loss": "next-token", "trains": trains, "optimizer": SGD, "learning_rate": learning_rate, "losses": losses}


def greedy(model, count):
    ids = list(PROMPT)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(PROMPT):]


def initializer(parameter):
    """What the builder calls a parameter: queries, keys and values are one, and the norms are numbered through."""
    name = parameter.replace("self_attn", "attn").replace("model.norm.weight", "model.layers.2.final_norm_layernorm.weight")
    name = re.sub(r"\.[qkv]_proj", ".qkv_proj", name)
    kind = name.rsplit(".", 1)[1]
    if "proj" in name or "lm_head" in name:
        name = name.rsplit(".", 1)[0] + (".MatMul.weight" if kind == "weight" else ".Add.bias")
    return name


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    arrays, jobs, texts = {}, [], {}
    for number, (ids, mask, labels) in enumerate(batches()):
        arrays |= {f"input_ids/{number}": ids, f"attention_mask/{number}": mask, f"labels/{number}": labels}
    for kind in KINDS:
        for precision in ["fp32", "int4"]:
            name = f"{kind}_{precision}"
            path, model = OUT / f"{name}.onnx", decoder(kind)
            built(model, precision, path)
            stored = {tensor.name for tensor in onnx.load(path).graph.initializer}
            if precision == "int4":
                with_weights_of(model, path)
            own = [key for key, _ in model.named_parameters() if key.startswith(("model.layers.", "model.norm", "lm_head"))]
            # The queries' and keys' own norms of Qwen3 are attributes of no layer that learns alone.
            trains = [key for key in own if initializer(key) in stored and "q_norm" not in key and "k_norm" not in key]
            places = [{"parameter": key, "initializer": initializer(key)} for key in trains]
            jobs.append({"name": name, "model": path.name, "arrays": "genai.npz", "batches": BATCHES, "parameters": places,
                         "runs": [run(f"{name} deep", model, trains, 0.02 if precision == "fp32" else 0.005) | {"name": "deep"}]})
            texts[name] = greedy(model, 16)
    np.savez_compressed(OUT / "genai.npz", **arrays)
    (OUT / "genai.json").write_text(json.dumps(jobs, indent=1) + "\n")
    tokenizer().backend_tokenizer.save(str(OUT / "tokenizer.json"))
    (OUT / "greedy.json").write_text(json.dumps({"prompt": PROMPT, "generated": texts}) + "\n")


if __name__ == "__main__":
    main()
