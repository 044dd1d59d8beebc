"""Anomalies by scikit-learn: what the principal directions of normal samples leave, and nearest neighbours, for `docs/anomalies.md`.

Usage: python anomalies.py MODEL.onnx GOOD TEST [DIRECTIONS]
GOOD is a folder of normal pictures; TEST holds a folder `good` and others. The features are what the model's last Gemm reads.
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors


def features_of(model, files):
    graph = onnx.load(model)
    value = next(node for node in reversed(graph.graph.node) if node.op_type == "Gemm").input[0]
    graph.graph.output.append(onnx.ValueInfoProto(name=value))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    found = []
    for file in files:
        image = Image.open(file).convert("RGB").resize((224, 224), Image.BICUBIC)
        pixels = (np.asarray(image, dtype=np.float32) - 127) / 128
        found.append(session.run([value], {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]})[0][0])
    return np.stack(found).astype(np.float64)


def main():
    model, good, test, *rest = sys.argv[1:]
    pictures = lambda folder: sorted(pathlib.Path(folder).rglob("*.*"))
    train = features_of(model, pictures(good))
    tested = pictures(test)
    wrong = np.array([file.relative_to(test).parts[0] != "good" for file in tested])
    found = features_of(model, tested)
    for count in [int(rest[0])] if rest else [20, 40, 60, 64]:
        pca = PCA(count).fit(train)
        residual = np.linalg.norm(found - pca.inverse_transform(pca.transform(found)), axis=1)
        print(f"PCA residual, {count} directions: AUROC {roc_auc_score(wrong, residual):.4f}; "
              f"Mahalanobis {roc_auc_score(wrong, -pca.score_samples(found)):.4f}")
    near = NearestNeighbors(n_neighbors=1).fit(train).kneighbors(found)[0][:, 0]
    print(f"nearest neighbour: AUROC {roc_auc_score(wrong, near):.4f}")


if __name__ == "__main__":
    main()
