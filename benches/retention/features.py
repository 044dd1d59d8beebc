"""The features that the tables of `run.py` are made of: EfficientNet-Lite0 over photographs, MiniLM over questions.

    python features.py DATA SCRATCH

DATA holds `vision/cifar10-subset`, `text/minilm` and `text/trec6` as `benches/defaults/README.md` describes them. Writes `vision.npz` and `text.npz` into
SCRATCH: `x`, `y` and `shifted` of the training and the test part. `shifted` are the same samples as another domain shows them: photographs
darkened with noise, questions without their first two words.
"""

import json
import pathlib
import sys

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

BATCH = 32


def session(path, output=None):
    """A session on one thread, with an inner value as its output where one is named."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if output is None:
        return onnxruntime.InferenceSession(path, options)
    import onnx

    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def photographs(data):
    run = session(data / "vision/efficientnet_lite0.onnx", "/Flatten_output_0")
    name = run.get_inputs()[0].name
    random = np.random.default_rng(0)
    found = {}
    for part, each in [("train", 100), ("test", 50)]:
        folders = sorted(folder for folder in (data / "vision/cifar10-subset" / part).iterdir())
        files = [(file, place) for place, folder in enumerate(folders) for file in sorted(folder.iterdir())[:each]]
        rows = {"x": [], "shifted": []}
        for start in range(0, len(files), BATCH):
            images = [Image.open(file).convert("RGB").resize((224, 224), Image.BILINEAR) for file, _ in files[start : start + BATCH]]
            plain = np.stack([np.asarray(image, np.float32) for image in images])
            dark = np.clip(plain * 0.35 + random.normal(0, 12, plain.shape), 0, 255).astype(np.float32)
            for kind, pixels in [("x", plain), ("shifted", dark)]:
                rows[kind].append(run.run(None, {name: ((pixels - 127) / 128).transpose(0, 3, 1, 2)})[0])
        found.update({f"{part}_{kind}": np.concatenate(parts) for kind, parts in rows.items()})
        found[f"{part}_y"] = np.array([place for _, place in files])
    return found


def questions(data):
    folder = data / "text/minilm"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    run = session(next(folder.glob("*.onnx")))
    inputs = [value.name for value in run.get_inputs()]
    outputs = [value.name for value in run.get_outputs()]

    def embed(text):
        encoded = tokenizer.encode(text)
        given = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
        return run.run(["sentence_embedding"], {name: np.array([given[name]], np.int64) for name in inputs})[0][0]

    assert "sentence_embedding" in outputs
    found, names = {}, None
    for part in ["train", "test"]:
        rows = [json.loads(line) for line in next((data / "text/trec6").glob(f"{part}*.jsonl")).read_text().splitlines()]
        names = names or sorted({row["label"] for row in rows}, key=str)
        found[f"{part}_y"] = np.array([names.index(row["label"]) for row in rows])
        found[f"{part}_x"] = np.stack([embed(row["text"]) for row in rows])
        cut = [" ".join(row["text"].split()[2:]) or row["text"] for row in rows]
        found[f"{part}_shifted"] = np.stack([embed(text) for text in cut])
    return found


def main():
    data, scratch = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    scratch.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[3:] or ["text", "vision"]
    for name, make in [("text", questions), ("vision", photographs)]:
        if name in wanted:
            np.savez(scratch / f"{name}.npz", **make(data))
            print(f"wrote {name}.npz", flush=True)


if __name__ == "__main__":
    main()
