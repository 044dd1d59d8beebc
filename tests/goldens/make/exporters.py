"""Writes ../exporters/: small models as torch's two exporters write them by default, which is for the batch of the example, and the
losses of PyTorch's own training of them with batches of another size.

Of each node's metadata only the modules around it are kept. README.md in the folder above tells the format.

Usage: python exporters.py
"""

import copy
import json
import logging
import pathlib
import sys
import warnings

sys.path.remove(str(pathlib.Path(__file__).resolve().parent))  # `transformers.py` would be found in the place of the package

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
import transformers as hf
from onnx import numpy_helper
from torch import nn

OUT = pathlib.Path(__file__).resolve().parent.parent / "exporters"
BATCHES, BATCH, STEPS, CLASSES, RATE = 2, 6, 10, 3, 0.1
SCOPES = "pkg.torch.onnx.name_scopes"


class Net(nn.Module):
    """A body and a linear head over what `pick` takes of it."""

    def __init__(self, body, width, pick):
        super().__init__()
        self.body, self.pick, self.head = body, pick, nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.head(self.pick(self.body(x)))


class SelfAttention(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.attention, self.batch_first = nn.MultiheadAttention(8, 2, batch_first=batch_first), batch_first

    def forward(self, x):
        x = x if self.batch_first else x.transpose(0, 1)
        y = self.attention(x, x, x, need_weights=False)[0]
        return y if self.batch_first else y.transpose(0, 1)


class Patches(nn.Module):
    """A class token and positions before an encoder, as ViT has them."""

    def __init__(self):
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 5, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], 1) + self.positions
        return self.layer(x)


class Windows(nn.Module):
    """Attention within windows that are folded into the batch, as Swin has it, and a pixel shuffle."""

    def __init__(self):
        super().__init__()
        self.conv, self.attention, self.shuffle = nn.Conv2d(3, 8, 2, 2), SelfAttention(True), nn.PixelShuffle(2)

    def forward(self, x):
        x = self.conv(x)
        b, c, h, w = x.shape
        x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        x = self.attention(x).view(b, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
        return self.shuffle(x).flatten(2)


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = hf.BertForSequenceClassification(hf.BertConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12, max_position_embeddings=8,
            num_labels=CLASSES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


class Llama(nn.Module):
    """No biases: the default exporter calls the weights `val_…`, and tells modules in metadata alone."""

    def __init__(self):
        super().__init__()
        self.model = hf.LlamaForCausalLM(hf.LlamaConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=12,
            max_position_embeddings=16, tie_word_embeddings=True, use_cache=False))

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits[:, -1]


class LlamaClasses(nn.Module):
    """Scores of the last token that is no padding: the older exporter picks them by `sample · length + place`."""

    def __init__(self):
        super().__init__()
        self.model = hf.LlamaForSequenceClassification(hf.LlamaConfig(
            vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=12,
            max_position_embeddings=16, num_labels=CLASSES, pad_token_id=0, use_cache=False))

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


class Causal(nn.Module):
    """Convolutions over time that see the past alone: `F.pad`, whose pads the older exporter computes by eight nodes."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv1d(8, 8, 3), nn.Conv1d(8, 8, 3, dilation=2)

    def forward(self, x):
        x = torch.relu(self.one(F.pad(x.transpose(1, 2), (2, 0))))
        return torch.relu(self.two(F.pad(x, (4, 0))))


class Cosine(nn.Module):
    """Scores are cosines: the rows of the weight are brought to length 1 inside of the graph."""

    def __init__(self):
        super().__init__()
        self.below, self.weight = nn.Linear(8, 8), nn.Parameter(torch.randn(CLASSES, 8))

    def forward(self, x):
        return F.linear(F.normalize(self.below(x.mean(1)), dim=1) * 5, F.normalize(self.weight, dim=1))


class Swin(nn.Module):
    """Windows that are shifted: the older exporter computes pads, and masks for each window, by the sizes of the samples."""

    def __init__(self):
        super().__init__()
        self.model = hf.SwinForImageClassification(hf.SwinConfig(
            image_size=8, patch_size=1, embed_dim=8, depths=[2], num_heads=[2], window_size=4, mlp_ratio=1.0, num_labels=CLASSES, drop_path_rate=0.0,
            attn_implementation="eager"))

    def forward(self, x):
        return self.model(x).logits


class Mixes(nn.Module):
    """Takes the batch's mean away: what a sample is answered depends on the others."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(x.mean(1) - x.mean((0, 1)))


class Einsums(nn.Module):
    """Weights that are no module's: a product with a bias, and one that sums over heads, too."""

    def __init__(self):
        super().__init__()
        self.up, self.shift, self.down = nn.Parameter(torch.randn(2, 4, 8)), nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(2, 4, 8))

    def forward(self, x):
        return torch.einsum("bthd,hdo->bto", torch.relu(torch.einsum("bti,hdi->bthd", x, self.up) + self.shift), self.down)


class Packed(nn.Module):
    """Sequences of several lengths, the longest first; what lies behind an end has no part in the answer."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.LSTM(4, 5, batch_first=True, bidirectional=True), nn.Linear(10, CLASSES)

    def forward(self, x, lengths):
        states = self.body(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))[0]
        return self.head(nn.utils.rnn.pad_packed_sequence(states, batch_first=True)[0].mean(1))


mean = lambda y: y.mean(1)
last = lambda y: y[:, -1]
sequence = lambda batch: (torch.randn(batch, 6, 8),)
picture = lambda batch: (torch.randn(batch, 3, 8, 8),)
text = lambda batch: (torch.randint(1, 20, (batch, 6)), torch.ones(batch, 6, dtype=torch.long))
encoder = lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True), 2, enable_nested_tensor=False)
convolution = lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(2))
grouped = lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 8, 2), nn.InstanceNorm2d(8), nn.Flatten(2))
of_rows = lambda y: (y[0] if isinstance(y, tuple) else y)[:, -1]

# Name: how it is built, its example.
MODELS = {
    "cnn": (lambda: Net(convolution(), 8, lambda y: y.mean(2)), picture),
    "attention": (lambda: Net(SelfAttention(True), 8, mean), sequence),
    "attention_second": (lambda: Net(SelfAttention(False), 8, mean), sequence),
    "encoder": (lambda: Net(encoder(), 8, mean), sequence),
    "vit": (lambda: Net(Patches(), 8, lambda y: y[:, 0]), picture),
    "windows": (lambda: Net(Windows(), 64, lambda y: y[:, 0]), picture),
    "lstm": (lambda: Net(nn.LSTM(8, 8, batch_first=True, bidirectional=True), 16, of_rows), sequence),
    "gru": (lambda: Net(nn.GRU(8, 8, batch_first=True), 8, of_rows), sequence),
    "bert": (Bert, text),
    "grouped": (lambda: Net(grouped(), 8, lambda y: y.square().mean(2)), picture),
    "einsum": (lambda: Net(Einsums(), 8, mean), sequence),
    "rnn": (lambda: Net(nn.RNN(8, 8, batch_first=True), 8, of_rows), sequence),
    "causal": (lambda: Net(Causal(), 8, lambda y: y[:, :, -1]), sequence),
    "cosine": (Cosine, sequence),
    "llama_classes": (LlamaClasses, text),
    "swin": (Swin, picture),
}
EXPORTS = [(name, exporter, batch) for name in MODELS if name != "swin" for exporter, batch in (("default", 1), ("default", 2), ("torchscript", 1))]
# The older exporter writes rows picked from a flat table by the numbers of its example's samples, and at opset 14 a mask of two
# constants, of which ONNX Runtime infers no sizes.
EXPORTS += [("llama_classes", "torchscript", 2), ("bert", "torchscript14", 1), ("swin", "torchscript", 1)]


def perturbed(model):
    """Equal tensors, such as fresh biases, would become one in the file."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model.eval()


def export(model, example, names, path, exporter, dynamic=None):
    opset = dict(opset_version=int(exporter.removeprefix("torchscript"))) if exporter[-1].isdigit() else {}
    options = dict(dynamo=False, **opset, dynamic_axes=dynamic and {"x": dynamic, **{name: {0: "batch"} for name in names[1:]}}) if exporter.startswith("torchscript") else dict(dynamo=True, verbose=False, external_data=False, dynamic_shapes=dynamic)
    torch.onnx.export(model, example, path, input_names=names, output_names=["logits"], **options)
    cleaned(path)


def cleaned(path):
    """Of what the exporter tells of itself, the modules around each node."""
    proto = onnx.load(path)
    for node in proto.graph.node:
        node.doc_string = ""
        kept = [(entry.key, entry.value) for entry in node.metadata_props if entry.key == SCOPES]
        del node.metadata_props[:]
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)
    del proto.graph.value_info[:], proto.graph.metadata_props[:], proto.metadata_props[:]
    for value in [*proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
    onnx.checker.check_model(proto)
    onnx.save(proto, path)


def places(path, model):
    """Which initializer holds which parameter, as it is, transposed or for each channel of an image; a parameter that is none of them is left out. A recurrent node has
    those of both directions and both biases in one, with the gates in another order."""
    graph = onnx.load(path).graph
    arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    inside = {kind: name for node in graph.node if node.op_type in ("LSTM", "GRU") for kind, name in zip(("weight_ih", "weight_hh", "bias"), node.input[1:4])}
    found = [{"parameter": name, "initializer": inside[kind]} for name, _ in model.named_parameters() for kind in inside if f".{kind}_" in name]
    for name, parameter in model.named_parameters():
        value = parameter.detach().numpy()
        for initializer, array in arrays.items():
            held = any(array.shape == v.shape and np.array_equal(array, v) for v in {id(v): v for v in (value, value.T, value[..., None, None])}.values())
            if held and array.size > 1:
                found.append({"parameter": name, "initializer": initializer})
                break
    return found


def train(model, batches, names, trains):
    model = copy.deepcopy(model).double()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trains)
    steps = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], RATE, momentum=0.9)
    losses = []
    for step in range(STEPS):
        batch = batches[step % BATCHES]
        inputs = [torch.tensor(batch[name]) for name in names]
        loss = F.cross_entropy(model(*[i.double() if i.is_floating_point() else i for i in inputs]), torch.tensor(batch["labels"]))
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    return losses


def answers_agree(path, model, names, batch, fixed):
    """The file is what it is said to be, in batches of the size that it takes."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options)
    for at in range(0, BATCH, fixed):
        given = {name: batch[name][at : at + fixed] for name in names}
        with torch.no_grad():
            right = model(*[torch.tensor(given[name]) for name in names]).numpy()
        assert np.abs(session.run(None, given)[0] - right).max() < 1e-5, path


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    OUT.mkdir(exist_ok=True)
    entries, arrays = [], {}
    for name, exporter, fixed in EXPORTS:
        build, example = MODELS[name]
        torch.manual_seed(0)
        model = perturbed(build())
        names = ["input_ids", "attention_mask"] if example is text else ["x"]
        file = f"{name}_{exporter}_{fixed}"
        path = OUT / f"{file}.onnx"
        export(model, example(fixed), names, path, exporter)
        batches = []
        for number in range(BATCHES):
            torch.manual_seed(10 + number)
            batch = {key: value.numpy() for key, value in zip(names, example(BATCH))}
            if example is text:
                batch["attention_mask"][::2, 4:] = 0
            batches.append({**batch, "labels": np.arange(BATCH) % CLASSES})
        answers_agree(path, model, names, batches[0], fixed)
        kept = places(path, model)
        trains = [p["parameter"] for p in kept]
        losses = train(model, batches, names, trains)
        assert sum(losses[-BATCHES:]) < 0.98 * sum(losses[:BATCHES]), (file, losses)
        entries.append({"name": file, "model": f"{file}.onnx", "arrays": "arrays.npz", "prefix": f"{name}/", "batches": BATCHES, "parameters": kept,
                        "runs": [{"name": "deep", "trains": trains, "optimizer": {"kind": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
                                  "learning_rate": RATE, "losses": losses}]})
        for key in [*names, "labels"]:
            arrays[f"{name}/{key}"] = np.stack([batch[key] for batch in batches])
    torch.manual_seed(0)
    llama = perturbed(Llama())
    for exporter in ("default", "torchscript"):
        dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
        path = OUT / f"llama_names_{exporter}.onnx"
        fixed = exporter == "torchscript"
        export(llama, text(1 if fixed else 2), ["input_ids", "attention_mask"], path, exporter, None if fixed else (dims, dims))
    dims = {"second_lstm": {1: "batch"}, "second_encoder": {0: "time", 1: "batch"}}
    for name, body in (("second_lstm", nn.LSTM(8, 8)), ("second_encoder", nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0))):
        torch.manual_seed(0)
        model = perturbed(Net(body, 8, lambda y: (y[0] if isinstance(y, tuple) else y)[-1]))
        export(model, (torch.randn(6, 2, 8),), ["x"], OUT / f"{name}.onnx", "torchscript", dims[name])
    torch.manual_seed(0)
    export(perturbed(Packed()), (torch.randn(3, 6, 4), torch.tensor([6, 4, 1])), ["x", "lengths"], OUT / "packed_lstm.onnx", "torchscript", {0: "batch", 1: "time"})
    torch.manual_seed(0)
    export(perturbed(Mixes()), sequence(2), ["x"], OUT / "mixes_default_2.onnx", "default")
    np.savez_compressed(OUT / "arrays.npz", **arrays)
    (OUT / "exporters.json").write_text(json.dumps(entries, indent=1) + "\n")
    for entry in entries:
        print(f"{entry['name']:28} {len(entry['parameters']):3} parameters  {entry['runs'][0]['losses'][0]:.4f} → {entry['runs'][0]['losses'][-1]:.4f}")


if __name__ == "__main__":
    main()
