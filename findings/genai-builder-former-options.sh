#!/bin/sh
# onnxruntime-genai 0.18.0's model builder, the former names of its options for int4.
#
# One would guess, as its --help says: "the former int4_-prefixed names are deprecated aliases that still work".
# Seen: `--extra_options int4_block_size=64 int4_accuracy_level=1` ends with 0 and without a word, and the file has the defaults, blocks of 32 and
# accuracy_level 4. The names without the prefix do what they say. Scripts that were written for earlier releases build another model than they ask for:
# with accuracy_level 4 what the weights are multiplied with is quantised to eight bits, too.
# For who builds: use the names without a prefix, and read block_size and accuracy_level of the MatMulNBits nodes afterwards.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/python"
"$folder/python/bin/pip" install --quiet --disable-pip-version-check onnxruntime-genai==0.18.0 onnxruntime==1.32.0 onnx==1.23.2 onnx-ir==1.1.0 \
    torch==2.15.0 transformers==5.24.0 tokenizers==0.23.3 numpy==2.4.6
cat >"$folder/case.py" <<'PYTHON'
import pathlib
import subprocess
import sys

import onnx
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = pathlib.Path(sys.argv[1])
torch.manual_seed(0)
sizes = dict(vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2)
LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder / "llama")
words = Tokenizer(models.WordLevel({str(number): number for number in range(64)}, unk_token="0"))
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="0").save_pretrained(folder / "llama")


def built(*options):
    """Block size and accuracy level of the products of a file that is built with these options, and what the builder said of them."""
    out = folder / f"out-{len(list(folder.iterdir()))}"
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", folder / "llama", "-o", out, "-p", "int4", "-e", "cpu"]
    if options:
        command += ["--extra_options", *options]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    said = run.stdout + run.stderr
    model = onnx.load(out / "model.onnx", load_external_data=False)
    nodes = [{a.name: a.i for a in node.attribute} for node in model.graph.node if node.op_type == "MatMulNBits"]
    return run.returncode, {(node["block_size"], node["accuracy_level"]) for node in nodes}, "deprecated" in said.lower()


cases = [(), ("block_size=64", "accuracy_level=1"), ("int4_block_size=64", "int4_accuracy_level=1")]
seen = [built(*case) for case in cases]
for case, (code, found, told) in zip(cases, seen):
    print(f"{' '.join(case) or 'no option'}: exit code {code}, (block_size, accuracy_level) {found}, {'a' if told else 'no'} word of deprecation")
expected = [(0, {(32, 4)}, False), (0, {(64, 1)}, False), (0, {(32, 4)}, False)]
raise SystemExit(0 if seen == expected else "changed: this is no longer what was seen")
PYTHON
OMP_NUM_THREADS=1 "$folder/python/bin/python" "$folder/case.py" "$folder"
