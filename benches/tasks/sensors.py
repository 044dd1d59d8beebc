"""Sensor series: edgetune beside scikit-learn on the features of the same windows.

The data are BasicMotions (accelerometer and gyroscope of a watch, ten rows in a second; 40 recordings of 10 s to train and 40 to test, four
activities), as the package aeon 1.6.0 ships them (`aeon/datasets/data/BasicMotions/*.ts`).

    python sensors.py prepare TS_FOLDER FOLDER    # FOLDER/{train,test}/<class>/*.csv, random.onnx, trained.onnx
    python sensors.py compare FOLDER MODEL.onnx   # scikit-learn on the features of MODEL.onnx

`random.onnx` is a convolutional network of random weights; `trained.onnx` is the same, trained by PyTorch on two of the four activities
(Standing and Badminton) of the training data. Both take `[batch, 6, 20]` and give 64 features.
"""

import csv
import pathlib
import sys

import numpy as np

ROWS, HOP = 20, 10
CHANNELS = ["ax", "ay", "az", "gx", "gy", "gz"]


def prepare(source: pathlib.Path, target: pathlib.Path) -> None:
    import torch

    for part, name in (("train", "TRAIN"), ("test", "TEST")):
        lines = (source / f"BasicMotions_{name}.ts").read_text().split("@data\n")[1].split()
        for number, line in enumerate(lines):
            *channels, label = line.split(":")
            folder = target / part / label
            folder.mkdir(parents=True, exist_ok=True)
            rows = zip(*(channel.split(",") for channel in channels))
            with open(folder / f"{number}.csv", "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["time", *CHANNELS])
                writer.writerows([f"{row / 10:.1f}", *cells] for row, cells in enumerate(rows))

    torch.manual_seed(0)
    body = torch.nn.Sequential(
        torch.nn.Conv1d(6, 64, 5), torch.nn.ReLU(), torch.nn.Conv1d(64, 64, 5), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(),
    )

    def export(name: str) -> None:
        torch.onnx.export(
            body.eval(), (torch.zeros(2, 6, ROWS),), target / name, input_names=["series"], output_names=["features"],
            dynamic_axes={"series": {0: "batch"}, "features": {0: "batch"}}, dynamo=False,
        )

    export("random.onnx")
    x, y, _ = windows(target / "train", ["Standing", "Badminton"])
    x = (x - x.mean((0, 2), keepdims=True)) / x.std((0, 2), keepdims=True)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    head = torch.nn.Linear(64, 2)
    optimizer = torch.optim.AdamW([*body.parameters(), *head.parameters()], 1e-3)
    for _ in range(60):
        for batch in torch.randperm(len(x)).split(32):
            loss = torch.nn.functional.cross_entropy(head(body.train()(x[batch])), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    export("trained.onnx")


def windows(folder: pathlib.Path, names: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows `[windows, channels, rows]`, their classes and the number of the file of each."""
    x, y, files = [], [], []
    for label, name in enumerate(names):
        for file in sorted((folder / name).glob("*.csv")):
            values = np.loadtxt(file, delimiter=",", skiprows=1)[:, 1:]
            for start in range(0, len(values) - ROWS + 1, HOP):
                x.append(values[start : start + ROWS].T)
                y.append(label)
                files.append(f"{name}/{file.name}")
    return np.array(x), np.array(y), np.array(files)


def compare(folder: pathlib.Path, model: str) -> None:
    import onnxruntime
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = sorted(path.name for path in (folder / "train").iterdir())
    (x, y, _), (xt, yt, _) = windows(folder / "train", names), windows(folder / "test", names)
    mean, std = x.mean((0, 2), keepdims=True), x.std((0, 2), keepdims=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    of = lambda x: session.run(None, {"series": ((x - mean) / std).astype("f4")})[0]
    features, tested = of(x), of(xt)
    print(f"{len(y)} windows to train, {len(yt)} to test, commonest class {np.bincount(yt).max() / len(yt):.3f}")
    for what, classifier in {
        "LogisticRegression()": LogisticRegression(max_iter=5000),
        "behind StandardScaler": make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)),
    }.items():
        right = classifier.fit(features, y).predict(tested) == yt
        print(f"{what}: {right.sum()} of {len(right)} ({right.mean():.3f})")
    raw = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(x.reshape(len(x), -1), y)
    right = raw.predict(xt.reshape(len(xt), -1)) == yt
    print(f"on the numbers of the windows themselves: {right.sum()} ({right.mean():.3f})")


if sys.argv[1] == "prepare":
    prepare(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
else:
    compare(pathlib.Path(sys.argv[2]), sys.argv[3])
