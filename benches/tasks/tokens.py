"""The head that edgetune appends for a class each word, trained by PyTorch on the same features, steps and data.

Usage: python tokens.py MODEL_FOLDER DATA_FOLDER (model.onnx with tokenizer.json; train.jsonl and test.jsonl with `tokens` and `tags`)
"""

import json
import pathlib
import sys

import numpy as np
import onnxruntime as ort
import torch
import torch.nn.functional as F
from seqeval.metrics import f1_score
from tokenizers import Tokenizer

MODEL, DATA = map(pathlib.Path, sys.argv[1:3])
torch.set_num_threads(1)
tk = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
tk.no_padding()
tk.enable_truncation(512)
s = ort.InferenceSession(MODEL / "model.onnx")
rows = {p: [json.loads(l) for l in open(DATA / f"{p}.jsonl")] for p in ("train", "test")}
names = sorted({t for r in rows["train"] for t in r["tags"]})
def features(rs):
    out = []
    for r in rs:
        e = tk.encode(r["tokens"], is_pretokenized=True)
        first, seen = [], set()
        for i, w in enumerate(e.word_ids):
            if w is not None and w not in seen: seen.add(w); first.append((i, w))
        ids = np.array([e.ids]); h = s.run(["last_hidden_state"], {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)})[0][0]
        out.append((torch.tensor(h[[i for i, _ in first]]), torch.tensor([names.index(r["tags"][w]) if r["tags"][w] in names else -1 for _, w in first])))
    return out
tr, te = features(rows["train"]), features(rows["test"])
def score(w, b):
    T, P, n, l, hit = [], [], 0, 0.0, 0
    for x, y in te:
        z = x @ w + b; p = z.argmax(1); T.append([names[i] for i in y]); P.append([names[i] for i in p])
        l += F.cross_entropy(z, y, reduction="sum").item(); n += len(y); hit += (p == y).sum().item()
    return f1_score(T, P), hit / n, l / n
for seed in range(3):
    g = torch.Generator().manual_seed(seed)
    w = torch.zeros(384, len(names), requires_grad=True); b = torch.zeros(len(names), requires_grad=True)
    o = torch.optim.AdamW([w, b], lr=0.003, weight_decay=0.01)
    for epoch in range(20):
        for c in torch.randperm(len(tr), generator=g).split(32):
            x = torch.cat([tr[i][0] for i in c]); y = torch.cat([tr[i][1] for i in c])
            o.zero_grad(); F.cross_entropy(x @ w + b, y).backward(); o.step()
    with torch.no_grad(): print(seed, "f1 %.4f accuracy %.4f loss %.4f" % score(w, b), flush=True)
