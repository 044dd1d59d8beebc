"""What validation says of new people, with their windows on both sides of the split and with all windows of a person on one side.

    python groups.py EDGETUNE DATA SCRATCH

Spoken words of four speakers a language, each clip cut into overlapping windows of a speech embedding. One speaker at a time is left out as the
new person; `edgetune train` learns the words from the others, once with `--group none` and once by default, which finds the array `group`.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import soundfile
from onnx import TensorProto, helper, numpy_helper

RATE, WINDOW, HOP, TOGETHER = 16_000, 76, 8, 3


def windows(mel, embedding, file):
    """`[samples, 3 * 96]`: three windows one after the other, of each place in the clip, with a quarter of a second of silence around."""
    sound, rate = soundfile.read(file, dtype="float32")
    assert rate == RATE, file
    silence = np.zeros(RATE // 4, np.float32)
    sound = np.concatenate([silence, sound, silence]) * 32767
    frames = mel.run(None, {mel.get_inputs()[0].name: sound[None]})[0].reshape(-1, 32) / 10 + 2
    starts = range(0, max(1, len(frames) - WINDOW + 1), HOP)
    cut = np.stack([np.pad(frames[at : at + WINDOW], ((0, max(0, at + WINDOW - len(frames))), (0, 0))) for at in starts])
    found = embedding.run(None, {embedding.get_inputs()[0].name: cut[..., None].astype(np.float32)})[0].reshape(-1, 96)
    found = np.concatenate([found, np.repeat(found[-1:], TOGETHER, 0)])
    return np.stack([found[at : at + TOGETHER].reshape(-1) for at in range(len(found) - TOGETHER)])


def base(path, classes):
    """A fresh head on the windows."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(TOGETHER * 96, classes)).astype(np.float32) / 100
    nodes = [
        helper.make_node("Identity", ["x"], ["features"]),
        helper.make_node("MatMul", ["features", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["y"]),
    ]
    value = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
    initializers = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.zeros(classes, np.float32), "b")]
    graph = helper.make_graph(nodes, "words", [value("x", TOGETHER * 96)], [value("y", classes)], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def train(program, scratch, more):
    command = [program, "train", "base.onnx", "--data", "train.npz", "--test", "test.npz", "--out", "a.edelta", *more]
    command += ["--cache", "cache", "--force", "--json"]
    run = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr)
    report = json.loads(run.stdout)
    return report["validation"]["after"]["accuracy"], report["test"]["after"]["accuracy"]


def main():
    program, data, scratch = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    scratch.mkdir(parents=True, exist_ok=True)
    mel, embedding = (onnxruntime.InferenceSession(data / "audio" / name) for name in ["melspectrogram.onnx", "speech_embedding.onnx"])
    print("| words of | split | validation | a new speaker |\n|---|---|---:|---:|")
    for language in ["en", "de"]:
        speakers = sorted((data / "audio/words").glob(f"{language}-*"))
        words = sorted(set.intersection(*({file.stem for file in speaker.glob("*.wav")} for speaker in speakers)))
        clips = {(speaker, word): windows(mel, embedding, speaker / f"{word}.wav") for speaker in speakers for word in words}
        base(scratch / "base.onnx", len(words))
        found = {"windows at random (`--group none`)": [], "people kept whole (default)": []}
        for new in speakers:
            for part, chosen in [("train", [s for s in speakers if s != new]), ("test", [new])]:
                rows = [(clip, words.index(word), speakers.index(s)) for (s, word), c in clips.items() if s in chosen for clip in c]
                x, y, group = (np.array(column) for column in zip(*rows))
                np.savez(scratch / f"{part}.npz", x=x.astype(np.float32), y=y, group=group)
            for (name, values), more in zip(found.items(), [["--group", "none"], []]):
                values.append(train(program, scratch, more))
        for name, values in found.items():
            validation, test = 100 * np.mean(values, 0)
            print(f"| {len(words)} words, {language} | {name} | {validation:.1f} % | {test:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
