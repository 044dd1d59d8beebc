"""What PyTorch reaches with the same layer, steps and data as edgetune on pages with masks (docs/segmentation.md).

A 1×1 convolution learns on the frozen neck of a text detector; its scores are enlarged bilinearly to the mask. The same number of steps of AdamW
at the same rate and batch, in an order of its own for each seed.

Usage: python segmentation.py ppocrv4_det.onnx pages/ [EPOCHS] [RATE] [SEEDS]
"""

import pathlib
import resource
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from PIL import Image

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
NECK, CLASSES, BATCH = "p2o.Concat.1", 6, 4


def read(folder):
    pictures = sorted((folder / "images").iterdir())
    images = [np.asarray(Image.open(path).convert("RGB"), np.float32) / 255 for path in pictures]
    masks = [np.asarray(Image.open(folder / "masks" / path.name), np.int64) for path in pictures]
    return [((image - MEAN) / STD).transpose(2, 0, 1)[None] for image in images], torch.tensor(np.stack(masks))


def confusion(head, features, masks):
    matrix = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
    loss = 0.0
    with torch.no_grad():
        for feature, mask in zip(features, masks):
            scores = F.interpolate(head(feature[None]), size=mask.shape, mode="bilinear", align_corners=False)
            loss += F.cross_entropy(scores, mask[None]).item()
            matrix += torch.bincount(mask.flatten() * CLASSES + scores.argmax(1).flatten(), minlength=CLASSES**2).view(CLASSES, CLASSES)
    right = matrix.diag().double()
    ious = right / (matrix.sum(0) + matrix.sum(1) - matrix.diag())
    return (right.sum() / matrix.sum()).item(), ious, loss / len(masks)


def main(model, data, epochs=10, rate=1e-3, seeds=3):
    graph = onnx.load(model)
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(NECK))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    body = ort.InferenceSession(graph.SerializeToString(), options)
    torch.set_num_threads(2)
    start = time.time()
    sets = []
    for part in ("train", "test"):
        images, masks = read(pathlib.Path(data) / part)
        sets.append(([torch.tensor(body.run([NECK], {"x": image})[0][0]) for image in images], masks))
    (train, labels), (test, test_labels) = sets
    print(f"features: {time.time() - start:.1f} s")
    majority = (test_labels == labels.flatten().mode().values).double().mean().item()
    print(f"always the commonest class: accuracy {majority:.4f}")
    for seed in range(int(seeds)):
        start = time.time()
        torch.manual_seed(seed)
        head = torch.nn.Conv2d(train[0].shape[0], CLASSES, 1)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        optimizer = torch.optim.AdamW(head.parameters(), lr=float(rate))
        steps = []
        for _ in range(int(epochs)):
            for chunk in torch.randperm(len(train)).split(BATCH):
                began = time.process_time()
                scores = F.interpolate(head(torch.stack([train[i] for i in chunk])), size=labels.shape[1:], mode="bilinear", align_corners=False)
                loss = F.cross_entropy(scores, labels[chunk])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                steps.append(time.process_time() - began)
        took = time.time() - start
        accuracy, ious, loss = confusion(head, test, test_labels)
        shown = ", ".join(f"{iou:.3f}" for iou in ious.tolist())
        print(f"seed {seed}: accuracy {accuracy:.4f}, mean IoU {ious.mean():.4f} ({shown}), loss {loss:.4f}; {took:.1f} s, a step {np.median(steps):.3f} s of processor", flush=True)
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
