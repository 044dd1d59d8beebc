"""What edgetune reaches without any option, beside scikit-learn and PyTorch on the same features.

    python run.py EDGETUNE DATA SCRATCH [NAME ...]

DATA holds the bases and data of `README.md` here; what is missing there is left out, and said. Each row is five draws of the
training samples (seeds 0 to 4): `edgetune train` with `--data`, `--test`, `--seed` and `--out` alone; scikit-learn's
LogisticRegression at its defaults (max_iter=5000) and a linear layer of PyTorch trained by Adam at its default rate
(300 epochs, batches of 32), both on the very array of features that the base's body gives.
"""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

SEEDS = range(5)
torch.set_num_threads(2)


# --- the three learners ------------------------------------------------------------------------------------------------


def scikit_learn(train_x, train_y, test_x, test_y, _seed):
    model = LogisticRegression(max_iter=5000).fit(train_x, train_y)
    return float((model.predict(test_x) == test_y).mean())


def scikit_learn_scaled(train_x, train_y, test_x, test_y, seed):
    scaler = StandardScaler().fit(train_x)
    return scikit_learn(scaler.transform(train_x), train_y, scaler.transform(test_x), test_y, seed)


def pytorch(train_x, train_y, test_x, test_y, seed):
    torch.manual_seed(seed)
    x, y = torch.from_numpy(train_x), torch.from_numpy(train_y)
    layer = torch.nn.Linear(x.shape[1], int(max(train_y.max(), test_y.max())) + 1)
    optimizer = torch.optim.Adam(layer.parameters())
    for _ in range(300):
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((layer(torch.from_numpy(test_x)).argmax(1).numpy() == test_y).mean())


def edgetune(program, base, train, test, out, seed, cache):
    command = [program, "train", base, "--data", train, "--test", test, "--seed", seed, "--out", out, "--cache", cache]
    command = [str(part) for part in [*command, "--force", "--json"]]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{' '.join(command)}\n{run.stderr}")
    return json.loads(run.stdout)["test"]["after"]["accuracy"]


# --- features, as the base's body gives them ------------------------------------------------------------------------------


def features(base, output, feeds, batch=32):
    """The value `output` of a model for each sample: the array that all three learners get."""
    model = onnx.load(base)
    if output not in [value.name for value in model.graph.output]:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(output))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = {value.name for value in session.get_inputs()}
    found = []
    for at in range(0, len(next(iter(feeds.values()))), batch):
        part = {name: value[at : at + batch] for name, value in feeds.items() if name in names}
        found.append(session.run([output], part)[0])
    return np.concatenate(found).reshape(len(next(iter(feeds.values()))), -1).astype(np.float32)


def draw(labels, per_class, seed):
    """The indices of so many samples of each class, in a random order."""
    random = np.random.default_rng(seed)
    chosen = [random.choice(np.flatnonzero(labels == label), per_class, replace=False) for label in np.unique(labels)]
    return random.permutation(np.concatenate(chosen))


# --- the data: each gives (base, writer of edgetune's input, train x, y, test x, y) for a draw -------------------------


class Photographs:
    """CIFAR-10's photographs on EfficientNet-Lite0."""

    def __init__(self, data):
        self.base = pathlib.Path(__file__).parents[2] / "models/efficientnet_lite0/model.onnx"
        self.output = "/Flatten_output_0"
        self.parts = {}
        for part in ["train", "test"]:
            files = sorted((data / "vision/cifar10-subset" / part).glob("*/*.png"))
            classes = sorted({file.parent.name for file in files})
            pixels = np.stack([self.pixels(file) for file in files])
            labels = np.array([classes.index(file.parent.name) for file in files])
            self.parts[part] = (files, pixels, labels)

    @staticmethod
    def pixels(file):
        image = Image.open(file).convert("RGB").resize((224, 224), Image.BILINEAR)
        return ((np.asarray(image, np.float32) - 127) / 128).transpose(2, 0, 1)

    def write(self, part, chosen, folder):
        for file in (self.parts[part][0][index] for index in chosen):
            (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file.parent.name / file.name)
        return folder

    def feeds(self, part):
        return {"input": self.parts[part][1]}

    def labels(self, part):
        return self.parts[part][2]


class Texts:
    """Short texts on MiniLM's sentence embedding."""

    def __init__(self, data, name):
        from tokenizers import Tokenizer

        self.base = data / "text/minilm/model.onnx"
        self.output = "sentence_embedding"
        tokenizer = Tokenizer.from_file(str(data / "text/minilm/tokenizer.json"))
        tokenizer.enable_padding()
        self.parts = {}
        for part in ["train", "test"]:
            rows = [json.loads(line) for line in open(data / "text" / name / f"{part}.jsonl", encoding="utf-8")]
            classes = sorted({str(row["label"]) for row in rows})
            encoded = tokenizer.encode_batch([row["text"] for row in rows])
            feeds = {
                "input_ids": np.array([one.ids for one in encoded]),
                "attention_mask": np.array([one.attention_mask for one in encoded]),
                "token_type_ids": np.array([one.type_ids for one in encoded]),
            }
            self.parts[part] = (rows, feeds, np.array([classes.index(str(row["label"])) for row in rows]))

    def write(self, part, chosen, folder):
        folder.mkdir(parents=True, exist_ok=True)
        rows = [self.parts[part][0][index] for index in chosen]
        (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return folder / "texts.jsonl"

    def feeds(self, part):
        return self.parts[part][1]

    def labels(self, part):
        return self.parts[part][2]


class Arrays:
    """What is fed as it is: windows of sensors, clips of sound."""

    def write(self, part, chosen, folder):
        folder.mkdir(parents=True, exist_ok=True)
        feeds, labels = self.feeds(part), self.labels(part)
        np.savez(folder / "data.npz", **{name: value[chosen] for name, value in feeds.items()}, y=labels[chosen])
        return folder / "data.npz"

    def feeds(self, part):
        return {self.input: self.parts[part][0]}

    def labels(self, part):
        return self.parts[part][1]


class Instruments(Arrays):
    """Notes of eleven families of instruments on Basic Pitch's features."""

    def __init__(self, data):
        import soundfile

        self.base = data / "audio/basic_pitch_features.onnx"
        self.input, self.output = "audio", "features"
        self.parts = {}
        for part in ["train", "test"]:
            files = sorted((data / "audio/instruments" / part).glob("*/*.flac"))
            classes = sorted({file.parent.name for file in files})
            clips = np.zeros((len(files), 43844, 1), np.float32)
            for index, file in enumerate(files):
                sound, rate = soundfile.read(file, dtype="float32")
                times = np.arange(int(len(sound) * 22050 / rate)) * rate / 22050
                clip = np.interp(times, np.arange(len(sound)), sound)[:43844]
                clips[index, : len(clip), 0] = clip
            self.parts[part] = (clips, np.array([classes.index(file.parent.name) for file in files]))


class Windows(Arrays):
    """Windows of motion sensors (aeon's BasicMotions: 6 channels, 100 steps, 4 activities) on a frozen random convolution."""

    input, output = "window", "features"

    def __init__(self, data, name, scratch):
        self.base = scratch / f"{name}.onnx"
        self.parts = {part: self.read(data / "series" / f"{name}_{part.upper()}.ts") for part in ["train", "test"]}
        if not self.base.exists():
            convolutions(self.base, self.parts["train"][0].shape[1])

    @staticmethod
    def read(file):
        """A file of the UEA archive: a line for each window, its channels between colons, its class behind the last."""
        lines = file.read_text().split("@data\n")[1].splitlines()
        rows = [line.rsplit(":", 1) for line in lines]
        classes = sorted({label for _, label in rows})
        windows = [[[float(value) for value in channel.split(",")] for channel in row.split(":")] for row, _ in rows]
        return np.array(windows, np.float32), np.array([classes.index(label) for _, label in rows])


def convolutions(path, channels):
    """Random kernels of three widths, each pooled to its maximum and to its share of positive values, as ROCKET has them."""
    torch.manual_seed(0)

    class Kernels(torch.nn.Module):
        def __init__(self):
            super().__init__()
            shapes = [(7, 1), (5, 2), (3, 3)]
            self.layers = torch.nn.ModuleList([torch.nn.Conv1d(channels, 86, width, dilation=d) for width, d in shapes])

        def forward(self, window):
            found = [layer(window) for layer in self.layers]
            return torch.cat([value for one in found for value in (one.amax(2), (one * 10).sigmoid().mean(2))], 1)

    names = {"input_names": ["window"], "output_names": ["features"]}
    axes = {"window": {0: "batch", 2: "time"}, "features": {0: "batch"}}
    torch.onnx.export(
        Kernels(), (torch.zeros(2, channels, 24),), path, **names, dynamic_axes=axes, opset_version=17, dynamo=False
    )


# --- the table ---------------------------------------------------------------------------------------------------------

ROWS = {
    "photographs, 20 a class": (lambda data, _: Photographs(data), 20),
    "photographs, 10 a class": (lambda data, _: Photographs(data), 10),
    "photographs, 3 a class": (lambda data, _: Photographs(data), 3),
    "questions (trec6), 14 a class": (lambda data, _: Texts(data, "trec6"), 14),
    "questions (trec6), 50 a class": (lambda data, _: Texts(data, "trec6"), 50),
    "messages (sms-spam), 100 a class": (lambda data, _: Texts(data, "sms-spam"), 100),
    "instruments (sounds), 10 a class": (lambda data, _: Instruments(data), 10),
    "motions (sensors), 6 a class": (lambda data, scratch: Windows(data, "BasicMotions", scratch), 6),
    "power demand (sensors), 20 a class": (lambda data, scratch: Windows(data, "ItalyPowerDemand", scratch), 20),
}

# One of each kind of data, the largest draw.
KINDS = [
    "photographs, 20 a class",
    "questions (trec6), 50 a class",
    "messages (sms-spam), 100 a class",
    "instruments (sounds), 10 a class",
    "power demand (sensors), 20 a class",
]


def opened(name, data, scratch):
    """The data of a row, how many samples of each class are drawn, and where edgetune's test samples are; None where data are missing."""
    make, per_class = ROWS[name]
    try:
        of = make(data, scratch)
    except (FileNotFoundError, ValueError) as error:
        print(f"{name}: left out ({error})")
        return None
    return of, per_class, of.write("test", range(len(of.labels("test"))), scratch / name / "test")


def kept_features(of, name, scratch):
    """The features of both parts of a row's data, computed once and kept in `scratch`."""
    kept = scratch / f"{of.base.stem}-{'-'.join(name.split(',')[0].split())}.npz"
    if not kept.exists():
        np.savez(kept, **{part: features(of.base, of.output, of.feeds(part)) for part in ["train", "test"]})
    return np.load(kept)


def row(name, program, data, scratch):
    found = opened(name, data, scratch)
    if found is None:
        return
    of, per_class, test = found
    x = kept_features(of, name, scratch)
    found = {"edgetune": [], "scikit-learn": [], "scikit-learn, scaled": [], "PyTorch": []}
    for seed in SEEDS:
        chosen = draw(of.labels("train"), per_class, seed)
        train = of.write("train", chosen, scratch / name / f"train-{seed}")
        out = scratch / name / f"{seed}.edelta"
        found["edgetune"].append(edgetune(program, of.base, train, test, out, seed, scratch / "cache"))
        arrays = (x["train"][chosen], of.labels("train")[chosen], x["test"], of.labels("test"))
        for peer, learn in [("scikit-learn", scikit_learn), ("scikit-learn, scaled", scikit_learn_scaled), ("PyTorch", pytorch)]:
            found[peer].append(learn(*arrays, seed))
    cells = " | ".join(f"{100 * np.mean(values):.1f} ± {100 * np.std(values):.1f}" for values in found.values())
    print(f"| {name} | {cells} |", flush=True)


def main():
    program, data, scratch = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    scratch.mkdir(parents=True, exist_ok=True)
    print("| data | edgetune | scikit-learn | scikit-learn, scaled | PyTorch |\n|---|---:|---:|---:|---:|")
    for name in sys.argv[4:] or ROWS:
        row(name, program, data, scratch)


if __name__ == "__main__":
    main()
