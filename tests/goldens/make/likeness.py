"""Writes ../tasks/likeness.npz and ../tasks/compared.json: losses of likeness as PyTorch has them, figures as scikit-learn and SciPy.

likeness.npz: `output` (float32, [samples, width]) and `identities` (int32) of samples without roles; `loss` (float64) and `gradient` for the output behind
`supervised_` (SupConLoss of pytorch-metric-learning, temperature 0.1), `triplet_` (batch hard on unit vectors, margin 0.2) and `negatives_`
(MultipleNegativesRankingLoss of sentence-transformers, scale 20, on rows of `triplets`: anchor, positive, negative) and `cosine_`
(CosineSimilarityLoss of sentence-transformers, on rows of two with `scores`).

compared.json: 200 random sets of numbers with 0 and 1, and a second set of numbers: the area under the ROC curve of scikit-learn, Spearman's rank
correlation of SciPy. `recall`: sets of vectors with identities, and recall@1 by scikit-learn's NearestNeighbors without the sample itself.

Usage: python likeness.py
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

OUT = pathlib.Path(__file__).resolve().parent.parent / "tasks"


def gradient_of(output, loss_of):
    """The loss of an output and its gradient, in float64."""
    output = torch.tensor(output.astype(np.float64), requires_grad=True)
    loss = loss_of(F.normalize(output, dim=1))
    loss.backward()
    return np.float64(loss.item()), output.grad.numpy()


def supervised(identities):
    def loss_of(unit):
        same = identities[:, None] == identities[None]
        others = ~torch.eye(len(identities), dtype=bool)
        logits = unit @ unit.T / 0.1
        log = logits - torch.logsumexp(logits.masked_fill(~others, -torch.inf), 1, keepdim=True)
        each = [log[i][same[i] & others[i]].mean() for i in range(len(identities)) if (same[i] & others[i]).any()]
        return -torch.stack(each).mean()

    return loss_of


def batch_hard(identities):
    def loss_of(unit):
        same = identities[:, None] == identities[None]
        others = ~torch.eye(len(identities), dtype=bool)
        distance = torch.sqrt(torch.clamp(2 - 2 * unit @ unit.T, min=1e-12))
        each = []
        for i in range(len(identities)):
            if (same[i] & others[i]).any() and (~same[i]).any():
                each.append(F.relu(distance[i][same[i] & others[i]].max() - distance[i][~same[i]].min() + 0.2))
        return torch.stack(each).mean()

    return loss_of


def negatives(unit):
    """Rows of anchor, positive and negative: the positives and negatives of all rows are candidates."""
    anchors, positives, hard = unit[0::3], unit[1::3], unit[2::3]
    scores = 20 * anchors @ torch.cat([positives, hard]).T
    return F.cross_entropy(scores, torch.arange(len(anchors)))


def cosine(scores):
    return lambda unit: F.mse_loss((unit[0::2] * unit[1::2]).sum(1), torch.tensor(scores))


def losses():
    rng = np.random.default_rng(41)
    output = rng.normal(0, 1, (12, 6)).astype(np.float32)
    # The last identity has one sample: nothing is like it, and all are told from it.
    identities = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 4], dtype=np.int32)
    scores = rng.uniform(-1, 1, 6)
    found = dict(output=output, identities=identities, scores=scores.astype(np.float32))
    kinds = torch.tensor(identities)
    scores = scores.astype(np.float32).astype(np.float64)
    for name, loss_of in {
        "supervised_": supervised(kinds),
        "triplet_": batch_hard(kinds),
        "negatives_": negatives,
        "cosine_": cosine(scores),
    }.items():
        found[f"{name}loss"], found[f"{name}gradient"] = gradient_of(output, loss_of)
    return found


def cases():
    rng = np.random.default_rng(42)
    for number in range(200):
        count = int(rng.integers(4, 40))
        digits = int(rng.integers(1, 4))  # Few digits make ties.
        one, other = np.round(rng.normal(0, 1, count), digits), np.round(rng.normal(0, 1, count), digits)
        other = np.round(other + one * (number % 3), digits)
        alike = rng.random(count) < 0.4
        alike[:2] = [True, False]
        yield {"one": one.tolist(), "other": other.tolist(), "alike": alike.tolist(),
               "auc": float(roc_auc_score(alike, one)), "spearman": float(spearmanr(one, other).statistic)}


def searches():
    rng = np.random.default_rng(43)
    for _ in range(200):
        count = int(rng.integers(4, 20))
        identities = rng.integers(0, rng.integers(2, 5), count)
        identities[:2] = 0
        given = np.round(rng.normal(0, 1, (count, 4)) + identities[:, None], 3)
        vectors = given.astype(np.float32)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        near = NearestNeighbors(n_neighbors=2).fit(unit).kneighbors(unit, return_distance=False)
        other = [row[0] if row[0] != i else row[1] for i, row in enumerate(near)]
        asked = [i for i in range(count) if (identities == identities[i]).sum() > 1]
        same, pairs = [], []
        for i in range(count):
            for j in range(i + 1, count):
                same.append(identities[i] == identities[j])
                pairs.append(unit[i].astype(np.float64) @ unit[j].astype(np.float64))
        auc = roc_auc_score(same, pairs) if 0 < sum(same) < len(same) else 0.5
        yield {"vectors": [[round(value, 3) for value in row] for row in given.tolist()], "identities": identities.tolist(), "auc": float(auc),
               "recall": float(np.mean([identities[other[i]] == identities[i] for i in asked]))}


def main():
    torch.set_num_threads(1)
    np.savez_compressed(OUT / "likeness.npz", **losses())
    found = {"numbers": list(cases()), "searches": list(searches())}
    lines = lambda rows: ",\n".join(json.dumps(row) for row in rows)
    text = "{\"numbers\": [\n" + lines(found["numbers"]) + "\n], \"searches\": [\n" + lines(found["searches"]) + "\n]}\n"
    (OUT / "compared.json").write_text(text)


if __name__ == "__main__":
    main()
