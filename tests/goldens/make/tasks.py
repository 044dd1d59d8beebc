"""Writes ../tasks/: for each task's loss, outputs, labels, PyTorch's loss and gradient, and the metrics by scikit-learn.

NAME.npz holds `output` (float32, what a model gives), the labels as the task has them, `loss` (float64, the mean over the
batch), `gradient` (float64, of the loss for `output`) and metrics by their names.

Usage: python tasks.py
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, mean_absolute_error

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


def main():
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    np.savez_compressed(OUT / "ordinal.npz", **ordinal())


if __name__ == "__main__":
    main()
