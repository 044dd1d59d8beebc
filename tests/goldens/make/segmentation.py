"""Writes ../tasks/segmentation.npz and ../tasks/masks.json: a class for each pixel, as PyTorch and scikit-learn have it.

segmentation.npz: `output` (float32, [samples, classes, height, width]), `masks` (uint8, of another size; 255 does not count) and `small` (of
the output's own size), `weights`; `loss` (float64) and `gradient` (for the output) of cross-entropy on bilinearly enlarged output, and the same
behind `small_` (no enlarging), `weighted_` and `dice_` (the soft Dice loss is added).

masks.json: 200 random masks and answers, a digit a pixel and `-` where none counts, with the accuracy and the mean IoU of the classes that are in
either, from scikit-learn's confusion matrix.

Usage: python segmentation.py
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix, jaccard_score

OUT = pathlib.Path(__file__).resolve().parent.parent / "tasks"


def gradient_of(output, loss_of):
    """The loss of an output and its gradient, in float64."""
    output = torch.tensor(output.astype(np.float64), requires_grad=True)
    loss = loss_of(output)
    loss.backward()
    return np.float64(loss.item()), output.grad.numpy()


def dice_loss(logits, labels, classes):
    """1 - the mean Dice of the classes that are there, over all pixels that count."""
    counts = (labels != 255).unsqueeze(1)
    targets = F.one_hot(torch.where(labels == 255, 0, labels), classes).permute(0, 3, 1, 2) * counts
    shares = logits.softmax(1) * counts
    both, all_ = (shares * targets).sum((0, 2, 3)), (shares + targets).sum((0, 2, 3))
    there = targets.sum((0, 2, 3)) > 0
    return 1 - (2 * both / all_)[there].mean()


def segmentation():
    rng = np.random.default_rng(29)
    classes, size = 4, (9, 13)
    output = rng.normal(0, 2, (3, classes, 5, 6)).astype(np.float32)
    # The last class is nowhere.
    masks = rng.integers(0, classes - 1, (3, *size)).astype(np.uint8)
    masks[rng.random(masks.shape) < 0.2] = 255
    small = rng.integers(0, classes, (3, 5, 6)).astype(np.uint8)
    weights = np.array([0.25, 1.0, 2.5, 0.5])
    large = lambda o: F.interpolate(o, size=size, mode="bilinear", align_corners=False)
    labels, of_small = (torch.tensor(m.astype(np.int64)) for m in (masks, small))
    found = dict(output=output, masks=masks, small=small, weights=weights.astype(np.float32))
    losses = {
        "": lambda o: F.cross_entropy(large(o), labels, ignore_index=255),
        "small_": lambda o: F.cross_entropy(o, of_small, ignore_index=255),
        "weighted_": lambda o: F.cross_entropy(large(o), labels, weight=torch.tensor(weights), ignore_index=255),
        "dice_": lambda o: F.cross_entropy(large(o), labels, ignore_index=255) + dice_loss(large(o), labels, classes),
    }
    for name, loss_of in losses.items():
        found[f"{name}loss"], found[f"{name}gradient"] = gradient_of(output, loss_of)
    return found


def cases():
    rng = np.random.default_rng(30)
    for number in range(200):
        classes, pixels = int(rng.integers(2, 8)), int(rng.integers(4, 60))
        expected = rng.integers(0, rng.integers(1, classes + 1), pixels)
        answered = np.where(rng.random(pixels) < 0.6, expected, rng.integers(0, rng.integers(1, classes + 1), pixels))
        ignored = rng.random(pixels) < (0.3 if number % 3 == 0 else 0.0)
        ignored[0] = False
        counted = ~ignored
        matrix = confusion_matrix(expected[counted], answered[counted], labels=range(classes))
        right, either = np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
        mean = float((right[either > 0] / either[either > 0]).mean())
        assert abs(mean - jaccard_score(expected[counted], answered[counted], average="macro")) < 1e-12
        text = lambda values: "".join("-" if i else str(v) for v, i in zip(values, ignored))
        yield {"classes": classes, "expected": text(expected), "answered": "".join(map(str, answered)),
               "mean_iou": mean, "accuracy": float(right.sum() / matrix.sum())}


def main():
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    np.savez_compressed(OUT / "segmentation.npz", **segmentation())
    (OUT / "masks.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases()) + "\n]\n")


if __name__ == "__main__":
    main()
