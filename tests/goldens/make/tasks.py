"""Writes ../tasks/: for each task's loss, outputs, labels, PyTorch's loss and gradient, and the metrics by scikit-learn.

NAME.npz holds `output` (float32, what a model gives), the labels as the task has them, `loss` (float64, the mean over the
batch), `gradient` (float64, of the loss for `output`) and metrics by their names.

entities.json has 200 random pairs of texts with tags, expected and answered, and what seqeval says of them. `tags` are the
names; a text is a list of places among them.

Usage: python tasks.py
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from seqeval.metrics import f1_score, precision_score, recall_score
from sklearn.metrics import accuracy_score, mean_absolute_error
from sklearn.metrics import f1_score as f1_of_classes

OUT = pathlib.Path(__file__).resolve().parent.parent / "tasks"


def gradient_of(output, loss_of):
    """The loss of an output and its gradient, in float64."""
    output = torch.tensor(output.astype(np.float64), requires_grad=True)
    loss = loss_of(output)
    loss.backward()
    return np.float64(loss.item()), output.grad.numpy()


def coral_loss(logits, levels):
    """As coral-pytorch 1.4.0 has it (`coral_pytorch.losses.coral_loss` with reduction "mean")."""
    log = F.logsigmoid(logits)
    return (-torch.sum(log * levels + (log - logits) * (1 - levels), dim=1)).mean()


def classification():
    rng = np.random.default_rng(23)
    # One class is never answered nor there, one is answered and never there.
    classes = rng.choice(6, 40, p=[0.5, 0.3, 0.1, 0.1, 0, 0])
    output = rng.normal(0, 2, (40, 6)).astype(np.float32)
    output[:, 5] = -20
    output[np.arange(40), classes] += 2
    loss, gradient = gradient_of(output, lambda o: F.cross_entropy(o, torch.tensor(classes)))
    answered = output.argmax(-1)
    assert (answered == 4).any()
    return dict(output=output, classes=classes, loss=loss, gradient=gradient,
                accuracy=np.float64(accuracy_score(classes, answered)),
                macro_f1=np.float64(f1_of_classes(classes, answered, average="macro")))


def regression():
    rng = np.random.default_rng(24)
    values = rng.normal(0, 2, (17, 3)).astype(np.float32)
    output = (values + rng.normal(0, 1.5, (17, 3))).astype(np.float32)
    wanted = torch.tensor(values.astype(np.float64))
    loss, gradient = gradient_of(output, lambda o: F.mse_loss(o, wanted))
    return dict(output=output, values=values, loss=loss, gradient=gradient,
                mean_absolute_error=np.float64(mean_absolute_error(values, output)))


def ordinal():
    rng = np.random.default_rng(20)
    classes = rng.integers(0, 5, 23)
    output = rng.normal(0, 3, (23, 4)).astype(np.float32)
    levels = torch.tensor((classes[:, None] > np.arange(4)).astype(np.float64))
    loss, gradient = gradient_of(output, lambda logits: coral_loss(logits, levels))
    # coral-pytorch's `proba_to_label`.
    answered = (torch.sigmoid(torch.tensor(output)) > 0.5).sum(dim=1).numpy()
    return dict(output=output, classes=classes, loss=loss, gradient=gradient,
                accuracy=np.float64(accuracy_score(classes, answered)),
                mean_absolute_error=np.float64(mean_absolute_error(classes, answered)))


def tokens():
    rng = np.random.default_rng(21)
    classes = rng.integers(0, 5, (6, 9))
    classes[rng.random((6, 9)) < 0.4] = -100
    output = rng.normal(0, 3, (6, 9, 5)).astype(np.float32)
    weights = np.array([0.25, 1.0, 2.0, 0.5, 3.0])
    labels = torch.tensor(classes).reshape(-1)
    loss, gradient = gradient_of(output, lambda o: F.cross_entropy(o.reshape(-1, 5), labels))
    weighted, weighted_gradient = gradient_of(
        output, lambda o: F.cross_entropy(o.reshape(-1, 5), labels, weight=torch.tensor(weights)))
    counts = classes != -100
    return dict(output=output, classes=classes, loss=loss, gradient=gradient, weights=weights.astype(np.float32),
                weighted_loss=weighted, weighted_gradient=weighted_gradient,
                accuracy=np.float64(accuracy_score(classes[counts], output.argmax(-1)[counts])))


def entities():
    rng = np.random.default_rng(22)
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-LOC", "B-geo-loc", "I-geo-loc", "B", "I"]
    cases = []
    for number in range(200):
        count = [3, 5, 7, len(tags)][number % 4]
        texts = [int(n) for n in rng.integers(1, 9, int(rng.integers(1, 4)))]
        expected = [[int(t) for t in rng.integers(0, count, n)] for n in texts]
        # Half of the tags are answered rightly.
        answered = [[t if rng.random() < 0.5 else int(rng.integers(0, count)) for t in text] for text in expected]
        named = [[[tags[t] for t in text] for text in side] for side in (expected, answered)]
        scores = [float(score(*named, zero_division=0)) for score in (f1_score, precision_score, recall_score)]
        cases.append({"expected": expected, "answered": answered, "f1": scores[0], "precision": scores[1], "recall": scores[2]})
    return {"tags": tags, "cases": cases}


def main():
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    np.savez_compressed(OUT / "classification.npz", **classification())
    np.savez_compressed(OUT / "regression.npz", **regression())
    np.savez_compressed(OUT / "ordinal.npz", **ordinal())
    np.savez_compressed(OUT / "tokens.npz", **tokens())
    found = entities()
    lines = ",\n".join(json.dumps(case) for case in found["cases"])
    (OUT / "entities.json").write_text(f'{{"tags": {json.dumps(found["tags"])}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
