"""A detector's last convolutions trained by PyTorch on the data that `edgetune train` learns from, with the same loss and assignment.

    python detection.py convert DOCPAGES OUT          {train,test}.json of pages with boxes → COCO's JSON
    python detection.py features MODEL OUT            what the four convolutions of PicoDet read, for all pages → OUT/features.npz
    python detection.py train OUT LEARNING_RATE EPOCHS [SEED]

`train` prints the loss of each epoch, seconds of the processor a step, and pycocotools' mAP50 and mAP50-95 on the test pages, before
and after. Rows of new classes begin as edgetune's do. Boxes are decoded and suppressed as edgetune does it (`docs/detection.md`).

Needs numpy, onnx, onnxruntime, pillow, pycocotools and torch.
"""

import contextlib
import importlib.util
import io
import json
import pathlib
import sys
import time

import numpy as np

SIZES = [(76, 100), (38, 50), (19, 25), (10, 13)]
STRIDES = [8, 16, 32, 64]
BINS = 8
FEATURES = ["hardswish_96.tmp_0", "hardswish_104.tmp_0", "hardswish_112.tmp_0", "hardswish_120.tmp_0"]
WIDTH, HEIGHT = 608, 800
BATCH = 4


def convert(pages, out):
    out.mkdir(parents=True, exist_ok=True)
    for part in ["train", "test"]:
        told = json.loads((pages / f"{part}.json").read_text())
        images, annotations = [], []
        for number, page in enumerate(told["images"]):
            images.append(dict(id=number, file_name=str((pages / page["file"]).resolve()), width=WIDTH, height=HEIGHT))
            for kind, (left, top, right, bottom) in zip(page["labels"], page["boxes"]):
                box = [left, top, right - left, bottom - top]
                annotations.append(dict(id=len(annotations) + 1, image_id=number, category_id=kind, bbox=box,
                                        area=box[2] * box[3], iscrowd=0))
        categories = [dict(id=kind, name=name) for kind, name in enumerate(told["classes"])]
        found = dict(images=images, annotations=annotations, categories=categories)
        (out / f"{part}.json").write_text(json.dumps(found))


def features(model_file, out):
    import onnx
    import onnxruntime
    from PIL import Image

    model = onnx.load(model_file)
    constants = {node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
                 for node in model.graph.node if node.op_type == "Constant"}
    arrays = {}
    for level, name in enumerate(FEATURES):
        [layer] = [node for node in model.graph.node if node.op_type == "Conv" and node.input[0] == name]
        arrays[f"weight{level}"], arrays[f"bias{level}"] = (constants[value] for value in layer.input[1:3])
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    [names] = [entry.value for entry in model.metadata_props if entry.key == "character"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    mean, std = (np.array(values, np.float32) for values in [(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)])
    for part in ["train", "test"]:
        rows = []
        for image in json.loads((out / f"{part}.json").read_text())["images"]:
            pixels = np.asarray(Image.open(image["file_name"]).convert("RGB"), np.float32) / 255
            rows.append(session.run(FEATURES, {"image": ((pixels - mean) / std).transpose(2, 0, 1)[None]}))
        arrays.update({f"{part}{level}": np.concatenate([row[level] for row in rows]) for level in range(4)})
    np.savez(out / "features.npz", names=np.array(names.split("\n")), **arrays)


def golden():
    """The assignment and the loss of the tests' golden."""
    path = pathlib.Path(__file__).resolve().parents[2] / "tests/goldens/make/detection.py"
    spec = importlib.util.spec_from_file_location("golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.BINS, module.LEVELS, module.STRIDES = BINS, SIZES, STRIDES
    return module


def kept(boxes, scores, overlap_max=0.6):
    order, found = np.argsort(-scores, kind="stable")[:1000], []
    while len(order) and len(found) < 100:
        first, order = order[0], order[1:]
        found.append(first)
        low, high = np.maximum(boxes[order, :2], boxes[first, :2]), np.minimum(boxes[order, 2:], boxes[first, 2:])
        both = np.clip(high - low, 0, None).prod(1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        order = order[both / (areas[order] + areas[first] - both) <= overlap_max]
    return found


def measured(outputs, truth, names, g):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    known = {category["name"]: category["id"] for category in truth["categories"]}
    cells, found = g.centres(), []
    for number, output in enumerate(outputs):
        edges = g.edges_of(output) * cells[:, 2:]
        corners = np.concatenate([cells[:, :2] - edges[:, :2], cells[:, :2] + edges[:, 2:]], 1)
        corners = corners.clip(0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
        scores, rows = output[:, :len(names)].sigmoid().numpy(), []
        for kind in range(len(names)):
            sure = scores[:, kind] >= 0.01
            boxes, its = corners[sure], scores[sure, kind]
            rows += [(its[place], kind, boxes[place]) for place in kept(boxes, its)] if sure.any() else []
        for score, kind, (left, top, right, bottom) in sorted(rows, key=lambda row: -row[0])[:100]:
            if names[kind] in known:
                found.append(dict(image_id=number, category_id=known[names[kind]], score=float(score),
                                  bbox=[left, top, right - left, bottom - top]))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return f"mAP50 {evaluation.stats[1]:.4f}, mAP50-95 {evaluation.stats[0]:.4f}"


def train(out, rate, epochs, seed):
    import torch

    torch.set_num_threads(1)
    arrays = np.load(out / "features.npz")
    truth = {part: json.loads((out / f"{part}.json").read_text()) for part in ["train", "test"]}
    kinds = [category["name"] for category in truth["train"]["categories"]]
    had = len(arrays["names"])
    names = list(arrays["names"]) + [name for name in kinds if name not in arrays["names"]]
    g = golden()
    g.CLASSES = len(names)
    objects = [[] for _ in truth["train"]["images"]]
    for row in truth["train"]["annotations"]:
        left, top, width, height = row["bbox"]
        kind = names.index(kinds[row["category_id"]])
        objects[row["image_id"]].append([kind, left, top, left + width, top + height])
    objects = [torch.tensor(rows, dtype=torch.float64) for rows in objects]
    weights, biases, new = [], [], len(names) - had
    for level, (columns, rows) in enumerate(SIZES):
        weight, bias = (torch.tensor(arrays[f"{name}{level}"]) for name in ["weight", "bias"])
        fresh = torch.full((new,), float(np.log(5 / (len(names) * columns * rows))))
        weight = weight[:, :, 0, 0]
        weights.append(torch.nn.Parameter(torch.cat([weight[:had], torch.zeros(new, weight.shape[1]), weight[had:]])))
        biases.append(torch.nn.Parameter(torch.cat([bias[:had], fresh, bias[had:]])))
    read = {part: [torch.tensor(arrays[f"{part}{level}"]) for level in range(4)] for part in truth}

    def outputs(part, pages):
        levels = zip(read[part], weights, biases)
        return torch.cat([torch.einsum("bchw,oc->bhwo", x[pages], weight).flatten(1, 2) + bias
                          for x, weight, bias in levels], 1)

    def tested():
        with torch.no_grad():
            pages = range(len(truth["test"]["images"]))
            return measured([outputs("test", [page])[0].double() for page in pages], truth["test"], names, g)

    print("before:", tested(), flush=True)
    optimizer = torch.optim.AdamW(weights + biases, lr=rate, weight_decay=0.01)
    random, step_s, assign_s, steps = np.random.default_rng(seed), 0.0, 0.0, 0
    for epoch in range(1, epochs + 1):
        order, sum_of_losses = random.permutation(len(objects)), 0.0
        for first in range(0, len(order), BATCH):
            pages, began = order[first:first + BATCH], time.process_time()
            output = outputs("train", pages)
            forward = time.process_time()
            with torch.no_grad():
                told = torch.stack([g.labels_of(output[place].double(), objects[page])
                                    for place, page in enumerate(pages)])
            assigned = time.process_time()
            loss = g.loss_of(output, told.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step_s += time.process_time() - assigned + forward - began
            assign_s += assigned - forward
            sum_of_losses += loss.item()
            steps += 1
        print(f"epoch {epoch}: loss {sum_of_losses / -(-len(order) // BATCH):.4f}", flush=True)
    print(f"a step: {step_s / steps:.3f} s of the processor, and {assign_s / steps:.3f} s for the assignment")
    print("after:", tested())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["convert", pages, out]:
            convert(pathlib.Path(pages), pathlib.Path(out))
        case ["features", model, out]:
            features(model, pathlib.Path(out))
        case ["train", out, rate, epochs, *seed]:
            train(pathlib.Path(out), float(rate), int(epochs), int(seed[0]) if seed else 0)
        case _:
            sys.exit(__doc__)
