"""Writes ../tasks/average_precision.json and ../tasks/boxes.npz.

average_precision.json has 200 random cases of a few photographs: objects that are there and boxes that were found, and pycocotools'
AP at an overlap of 0.5 and over all ten (maxDets 100, all areas). A case is a list of photographs; a photograph is
`[there, found]`; an object is `[class, left, top, right, bottom, crowd]`, a box `[class, left, top, right, bottom, thousandths of its
score]`. Where no class has an object, pycocotools gives -1.

boxes.npz has the output of a detector for three photographs of 64 x 48 pixels, objects in them (`objects`: photograph, class, left,
top, right, bottom), and what PyTorch in float64 says: `labels` (what each cell is to tell), `loss` and `gradient` of the loss for
`output`. The assignment is written here a second time, with tensors of all cells and all objects.

Usage: python detection.py, with numpy, torch and pycocotools of requirements-detection.txt
"""

import contextlib
import io
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

OUT = pathlib.Path(__file__).resolve().parent.parent / "tasks"
CLASSES = 3
LEVELS = [(8, 6), (4, 3)]
STRIDES = [8, 16]
BINS = 6
PICTURE = (64, 48)


def case(rng):
    """Photographs with objects, and boxes near them or anywhere."""
    photographs = []
    for _ in range(rng.integers(1, 5)):
        there, found = [], []
        for _ in range(rng.integers(0, 7)):
            left, top = rng.integers(0, 80, 2)
            width, height = rng.integers(4, 60, 2)
            there.append([rng.integers(0, CLASSES), left, top, left + width, top + height, rng.random() < 0.12])
        for object in there:
            for _ in range(rng.integers(0, 3)):
                moved = np.array(object[1:5]) + rng.integers(-6, 7, 4)
                if moved[2] > moved[0] and moved[3] > moved[1]:
                    kind = object[0] if rng.random() < 0.85 else rng.integers(0, CLASSES)
                    found.append([kind, *moved, rng.integers(1, 1000)])
        for _ in range(rng.integers(0, 4)):
            left, top = rng.integers(0, 80, 2)
            width, height = rng.integers(4, 60, 2)
            found.append([rng.integers(0, CLASSES), left, top, left + width, top + height, rng.integers(1, 20) * 50])
        photographs.append([[[int(v) for v in row] for row in rows] for rows in (there, found)])
    return photographs


def by_pycocotools(photographs):
    images, annotations, found = [], [], []
    for number, (there, boxes) in enumerate(photographs, 1):
        images.append(dict(id=number))
        for kind, left, top, right, bottom, crowd in there:
            box = [left, top, right - left, bottom - top]
            annotations.append(dict(id=len(annotations) + 1, image_id=number, category_id=kind + 1, bbox=box,
                                    area=box[2] * box[3], iscrowd=crowd))
        for kind, left, top, right, bottom, score in boxes:
            found.append(dict(image_id=number, category_id=kind + 1, score=score / 1000,
                              bbox=[left, top, right - left, bottom - top]))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(images=images, annotations=annotations,
                             categories=[dict(id=kind + 1, name=str(kind)) for kind in range(CLASSES)])
        truth.createIndex()
        answered = COCO()
        answered.dataset = dict(truth.dataset, annotations=[
            dict(box, id=number, area=box["bbox"][2] * box["bbox"][3], iscrowd=0)
            for number, box in enumerate(found, 1)])
        answered.createIndex()
        measured = COCOeval(truth, answered, "bbox")
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    return [float(measured.stats[1]), float(measured.stats[0])]


def average_precision():
    rng = np.random.default_rng(31)
    cases = [dict(photographs=photographs, ap=by_pycocotools(photographs))
             for photographs in (case(rng) for _ in range(200))]
    # One with more boxes of a class than count.
    many = [[[[0, 10, 10, 30, 30, 0], [0, 60, 60, 90, 90, 0]],
             [[0, i % 50, i % 40, i % 50 + 20, i % 40 + 20, (i * 37) % 999 + 1] for i in range(150)]]]
    cases[0] = dict(photographs=many, ap=by_pycocotools(many))
    return dict(classes=CLASSES, cases=cases)


def centres():
    each = [((column + 0.5) * stride, (row + 0.5) * stride, stride)
            for (columns, rows), stride in zip(LEVELS, STRIDES) for row in range(rows) for column in range(columns)]
    return torch.tensor(each, dtype=torch.float64)


def edges_of(output):
    spread = output[..., CLASSES:].reshape(*output.shape[:-1], 4, BINS)
    return (spread.softmax(-1) * torch.arange(BINS, dtype=torch.float64)).sum(-1)


def iou(one, other):
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area = lambda box: (box[..., 2:] - box[..., :2]).prod(-1)
    return both / (area(one) + area(other) - both)


def labels_of(output, objects):
    """Class, score and edges for each cell of one photograph; TOOD, section 3.2."""
    cells = centres()
    told = torch.full((len(cells), 6), 0.0, dtype=torch.float64)
    told[:, 0] = -1
    if not len(objects):
        return told
    kinds, boxes = objects[:, 0].long(), objects[:, 1:]
    edges = edges_of(output) * cells[:, 2:]
    predicted = torch.cat([cells[:, :2] - edges[:, :2], cells[:, :2] + edges[:, 2:]], 1)
    overlaps = iou(predicted[None], boxes[:, None])
    from_edges = torch.cat([cells[None, :, :2] - boxes[:, None, :2], boxes[:, None, 2:] - cells[None, :, :2]], 2)
    inside = from_edges.min(-1).values > 0
    aligned = output[:, :CLASSES].sigmoid()[:, kinds].T * overlaps ** 6 * inside
    best = torch.zeros_like(inside)
    best.scatter_(1, aligned.topk(min(13, len(cells)), 1).indices, True)
    mine = best & (aligned > 0)
    owner = torch.where(mine, overlaps, -1.0).argmax(0)
    mine &= torch.arange(len(boxes))[:, None] == owner
    aligned, overlaps = aligned * mine, overlaps * mine
    score = aligned / aligned.max(1, keepdim=True).values.clamp(min=1e-300) * overlaps.max(1, keepdim=True).values
    for cell in mine.any(0).nonzero().flatten():
        told[cell] = torch.cat([kinds[owner[cell]].double()[None], score[owner[cell], cell][None],
                                from_edges[owner[cell], cell] / cells[cell, 2]])
    return told


def loss_of(output, labels):
    kind, score, wanted = labels[..., 0], labels[..., 1], labels[..., 2:]
    targets = F.one_hot(kind.clamp(min=0).long(), CLASSES) * score[..., None]
    classes = F.binary_cross_entropy_with_logits(output[..., :CLASSES], targets, reduction="sum")
    told = edges_of(output)
    box = lambda edges: torch.cat([-edges[..., :2], edges[..., 2:]], -1)
    area = lambda edges: (edges[..., 0] + edges[..., 2]) * (edges[..., 1] + edges[..., 3])
    both, hull = area(torch.minimum(told, wanted)), area(torch.maximum(told, wanted))
    union = area(told) + area(wanted) - both
    is_box = score > 0
    overlap = iou(box(told), box(wanted))[is_box]
    assert torch.allclose(overlap, (both / union)[is_box])
    boxes = (score[is_box] * (1 - overlap + ((hull - union) / hull)[is_box])).sum()
    inside = wanted[is_box].clamp(0, BINS - 1 - 0.01)
    left = inside.floor()
    log = output[..., CLASSES:].reshape(*output.shape[:-1], 4, BINS)[is_box].log_softmax(-1)
    pick = lambda at: log.gather(-1, at.long()[..., None])[..., 0]
    spread = -(pick(left) * (left + 1 - inside) + pick(left + 1) * (inside - left)).mean(-1)
    edges = (score[is_box] * spread).sum()
    return (classes + 2.5 * boxes + 0.5 * edges) / score.sum().clamp(min=1)


def boxes():
    rng = np.random.default_rng(32)
    cells = sum(columns * rows for columns, rows in LEVELS)
    output = rng.normal(0, 1.5, (3, cells, CLASSES + 4 * BINS)).astype(np.float32)
    # Two photographs with objects that overlap, and one without.
    objects = np.array([[0, 0, 2, 3, 40, 30], [0, 2, 10, 6, 36, 44], [0, 1, 44, 20, 63, 47], [1, 1, 20, 8, 60, 40],
                        [1, 0, 1, 1, 7, 7]], np.float32)
    tensor = torch.tensor(output.astype(np.float64), requires_grad=True)
    of = lambda number: torch.tensor(objects[objects[:, 0] == number][:, 1:].astype(np.float64))
    with torch.no_grad():
        labels = torch.stack([labels_of(tensor[number], of(number)) for number in range(3)])
    assert (labels[0, :, 1] > 0).sum() > 10 and (labels[1, :, 1] > 0).sum() > 5 and not labels[2, :, 1].any()
    loss = loss_of(tensor, labels)
    loss.backward()
    return dict(output=output, objects=objects, labels=labels.numpy(), loss=np.float64(loss.item()),
                gradient=tensor.grad.numpy())


if __name__ == "__main__":
    (OUT / "average_precision.json").write_text(json.dumps(average_precision(), separators=(",", ":")) + "\n")
    np.savez(OUT / "boxes.npz", **boxes())
