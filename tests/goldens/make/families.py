"""Writes ../families/: one small model of each family of architectures, a few batches, and PyTorch's losses.

Weights are random with a fixed seed, no two tensors alike (exporters store equal ones once). Every weight learns unless
the table says otherwise; BatchNorm keeps its statistics, dropout is off. README.md in the folder above tells the format.

Usage: python families.py [NAME …]
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
import training
from onnx import numpy_helper
from torch import nn
from torchvision.models import convnext, densenet, efficientnet, mobilenetv3, regnet, resnet, shufflenetv2
from training import ADAMW, SGD, export, folded, initializers_of, train

OUT = training.OUT.parent / "families"
STEPS, BATCHES, BATCH, CLASSES = 10, 2, 8, 5


# ------------------------------------------------------------------------------------------------------------ the data


def rounded(array, unit=16):
    return (np.round(array * unit) / unit).astype(np.float32)


def images(size=32):
    """A coloured wave a class, under noise."""
    rng = np.random.default_rng(11)
    labels = rng.integers(0, CLASSES, (BATCHES, BATCH))
    y, x = np.mgrid[0:size, 0:size] / size
    waves = np.stack([[np.sin(2 * np.pi * ((k + 1) * x * (c + 1) + k * y)) for c in range(3)] for k in range(CLASSES)])
    return [rounded(waves[labels] + rng.normal(0, 0.5, (BATCHES, BATCH, 3, size, size)))], labels


def channels_last():
    """[batch, height, width, colours], as TensorFlow has images."""
    (pictures,), labels = images()
    return [np.ascontiguousarray(pictures.transpose(0, 1, 3, 4, 2))], labels


def numbers():
    """8 numbers a sample, as the ones that scikit-learn's models were fitted on."""
    rng = np.random.default_rng(17)
    x = rounded(rng.normal(1.0, 2.0, (BATCHES, BATCH, 8)))
    return [x], 2 - np.argmax(x[:, :, :3], 2)


def segments():
    """16×16 images of a bright disc under noise; the label is the disc's mask."""
    rng = np.random.default_rng(12)
    y, x = np.mgrid[0:16, 0:16]
    centre = rng.uniform(4, 12, (2, BATCHES, BATCH, 1, 1))
    mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 16
    noise = rng.normal(0, 0.5, (BATCHES, BATCH, 3, 16, 16))
    return [rounded(mask[:, :, None] + noise)], mask.reshape(BATCHES, BATCH, 256).astype(np.float32)


def boxes():
    """32×32 images; targets for each of 5 numbers at each of 16 + 4 places."""
    (pictures,), _ = images()
    rng = np.random.default_rng(13)
    return [pictures], rounded(rng.uniform(0, 1, (BATCHES, BATCH, 100)))


def series(channels=4, length=48):
    """A wave of its own frequency a class."""
    rng = np.random.default_rng(14)
    labels = rng.integers(0, CLASSES, (BATCHES, BATCH))
    time, phase = np.arange(length) / length, rng.uniform(0, 1, (BATCHES, BATCH, channels, 1))
    wave = np.sin(2 * np.pi * ((labels[:, :, None, None] + 1) * 2 * time + phase))
    return [rounded(wave + rng.normal(0, 0.3, wave.shape))], labels


def mel():
    """Power of 24 mel bands over 20 frames: a chirp a class. The model takes the logarithm."""
    rng = np.random.default_rng(15)
    labels = rng.integers(0, CLASSES, (BATCHES, BATCH))
    band, frame = np.mgrid[0:24, 0:20]
    slope = labels[:, :, None, None]
    power = np.exp(-0.1 * (band - 4 - slope * frame / 5) ** 2) + rng.uniform(0, 0.2, (BATCHES, BATCH, 24, 20))
    return [rounded(power, 64)[:, :, None]], labels


def words():
    """Word numbers [8, 12]; a class prefers its own."""
    rng = np.random.default_rng(16)
    labels = rng.integers(0, CLASSES, (BATCHES, BATCH))
    own = labels[:, :, None] * 5 + rng.integers(0, 5, (BATCHES, BATCH, 12))
    return [np.where(rng.random(own.shape) < 0.6, own, rng.integers(0, 30, own.shape)).astype(np.int64)], labels


# ---------------------------------------------------------------------------------------------------------- the models


def narrow_resnet(block):
    """torchvision's ResNet, one block a stage, a sixteenth of its width."""

    class Narrow(resnet.ResNet):
        def _make_layer(self, block, planes, *rest, **options):
            self.inplanes = 4 if planes == 64 else self.inplanes
            return super()._make_layer(block, planes // 16, *rest, **options)

    model = Narrow(block, [1, 1, 1, 1], num_classes=CLASSES)
    model.conv1, model.bn1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4)
    model.fc = nn.Linear(32 * block.expansion, CLASSES)
    return model


def mobilenet_v3():
    def block(*values):
        return mobilenetv3.InvertedResidualConfig(*values, 1, 1.0)

    blocks = [block(16, 3, 16, 16, True, "RE", 2), block(16, 3, 32, 16, False, "RE", 1),
              block(16, 5, 32, 24, True, "HS", 2), block(24, 5, 48, 24, True, "HS", 1)]
    return mobilenetv3.MobileNetV3(blocks, 48, num_classes=CLASSES, dropout=0.0)


def efficient_net():
    blocks = [efficientnet.FusedMBConvConfig(2, 3, 1, 8, 8, 1), efficientnet.MBConvConfig(4, 3, 2, 8, 16, 2),
              efficientnet.MBConvConfig(4, 5, 2, 16, 24, 1)]
    return efficientnet.EfficientNet(blocks, 0.0, stochastic_depth_prob=0.0, num_classes=CLASSES, last_channel=48)


def shuffle_net():
    return shufflenetv2.ShuffleNetV2([2, 1, 1], [8, 16, 24, 32, 48], num_classes=CLASSES)


def conv_next():
    blocks = [convnext.CNBlockConfig(8, 16, 1), convnext.CNBlockConfig(16, 24, 1), convnext.CNBlockConfig(24, None, 1)]
    return convnext.ConvNeXt(blocks, layer_scale=1.0, num_classes=CLASSES)


def reg_net():
    parameters = regnet.BlockParams([1, 2], [16, 24], [8, 8], [1.0, 1.0], [2, 2], se_ratio=0.25)
    return regnet.RegNet(parameters, num_classes=CLASSES, stem_width=8)


def dense_net():
    return densenet.DenseNet(growth_rate=6, block_config=(2, 3), num_init_features=12, bn_size=2, num_classes=CLASSES)


def conv_norm(inputs, outputs, kernel=3, stride=1, activation=nn.ReLU):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), activation())


class UNet(nn.Module):
    """Two levels down and up again; one level up by a transposed convolution, one by bilinear resizing. Gives a logit a
    pixel, flattened to [batch, 256], for binary cross-entropy."""

    def __init__(self):
        super().__init__()
        self.in1, self.in2, self.bottom = conv_norm(3, 8), conv_norm(8, 16), conv_norm(16, 24)
        self.up2, self.out2 = nn.ConvTranspose2d(24, 16, 2, 2), conv_norm(32, 16)
        self.out1, self.mask = conv_norm(24, 8), nn.Conv2d(8, 1, 1)

    def forward(self, x):
        first = self.in1(x)
        second = self.in2(F.max_pool2d(first, 2))
        up = self.out2(torch.cat([self.up2(self.bottom(F.max_pool2d(second, 2))), second], 1))
        up = F.interpolate(up, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.mask(self.out1(torch.cat([up, first], 1))).flatten(1)


class Yolo(nn.Module):
    """As YOLOv5 to v8: split-and-concat blocks, pooled pyramid, top-down Resize, heads at two scales, decoded to boxes
    by sigmoid, grid and anchor. [batch, 20 places, 5] flattened to [batch, 100] in units of the image, for MSE."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 8, 3, 2, nn.SiLU), conv_norm(8, 16, 3, 2, nn.SiLU))
        self.part, self.whole = conv_norm(8, 8, 3, 1, nn.SiLU), conv_norm(24, 16, 1, 1, nn.SiLU)
        self.down, self.pooled = conv_norm(16, 16, 3, 2, nn.SiLU), conv_norm(48, 16, 1, 1, nn.SiLU)
        self.merge, self.lower = conv_norm(32, 16, 3, 1, nn.SiLU), conv_norm(16, 16, 3, 2, nn.SiLU)
        self.heads = nn.ModuleList(nn.Conv2d(16, 5, 1) for _ in range(2))

    def decode(self, head, x, size, anchor):
        y = head(x).sigmoid().flatten(2).transpose(1, 2)
        places = torch.arange(size, device=x.device)
        down, across = torch.meshgrid(places, places, indexing="ij")
        grid = torch.stack([across, down], -1).view(1, size * size, 2).to(x.dtype)
        middle, extent, score = y.split((2, 2, 1), -1)
        return torch.cat([(middle * 2.0 - 0.5 + grid) / size, (extent * 2.0) ** 2 * anchor, score], -1)

    def forward(self, x):
        a, b = self.stem(x).chunk(2, 1)
        fine = self.whole(torch.cat([a, b, self.part(b)], 1))
        coarse = self.down(fine)
        once = F.max_pool2d(coarse, 3, 1, 1)
        coarse = self.pooled(torch.cat([coarse, once, F.max_pool2d(once, 3, 1, 1)], 1))
        fine = self.merge(torch.cat([F.interpolate(coarse, size=(8, 8), mode="nearest"), fine], 1))
        coarse = self.lower(fine)
        both = [self.decode(self.heads[0], F.max_pool2d(fine, 2), 4, 0.25),
                self.decode(self.heads[1], F.avg_pool2d(coarse, 2), 2, 0.5)]
        return torch.cat(both, 1).flatten(1)


class Causal(nn.Module):
    """Bai et al. 2018: two dilated convolutions that see the past alone, beside a 1×1 one."""

    def __init__(self, inputs, outputs, dilation):
        super().__init__()
        self.past = 2 * dilation
        self.first = nn.Conv1d(inputs, outputs, 3, dilation=dilation)
        self.second = nn.Conv1d(outputs, outputs, 3, dilation=dilation, padding=self.past)
        self.beside = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x):
        y = F.relu(self.first(F.pad(x, (self.past, 0))))
        y = F.relu(self.second(y)[:, :, : -self.past])
        return F.relu(y + self.beside(x))


class Tcn(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Causal(4, 12, 1), Causal(12, 16, 2), Causal(16, 16, 4))
        self.classifier = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.classifier(self.blocks(x)[:, :, -1])


class AudioCnn(nn.Module):
    """Log-mel with mean and deviation of each clip, convolutions over bands and frames, attention over frames."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(conv_norm(1, 8), nn.AvgPool2d(2), conv_norm(8, 16, 3, 1, nn.ELU), nn.MaxPool2d((4, 1)))
        self.attention, self.classifier = nn.Conv1d(48, 1, 1), nn.Linear(96, CLASSES)

    def forward(self, x):
        x = torch.log(x.clamp(min=1e-3))
        x = (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True, unbiased=False) + 1e-5)
        x = self.body(x).flatten(1, 2)
        weighed = (x * torch.softmax(self.attention(x), -1)).sum(-1)
        return self.classifier(torch.cat([weighed, x.amax(-1)], 1))


class Recurrent(nn.Module):
    """Embedding, a recurrent layer in both directions, and above it a small network over mean and last state."""

    def __init__(self, kind):
        super().__init__()
        self.words, self.recurrent = nn.Embedding(30, 12), kind(12, 10, batch_first=True, bidirectional=True)
        self.hidden, self.norm, self.classifier = nn.Linear(40, 24), nn.LayerNorm(24), nn.Linear(24, CLASSES)

    def forward(self, x):
        states, _ = self.recurrent(self.words(x))
        pooled = torch.cat([states.mean(1), states[:, -1]], 1)
        return self.classifier(F.gelu(self.norm(self.hidden(pooled))))


def two(kind):
    """Two of the layers, one above the other."""
    return lambda *sizes, **options: kind(*sizes, num_layers=2, **options)


class Mirror(nn.Module):
    """What a converter wrote, in PyTorch: the file's float initializers are the parameters, under their own names."""

    def __init__(self, path, forward):
        super().__init__()
        arrays = {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
        self.names = [name for name, array in arrays.items() if array.dtype == np.float32 and array.size > 1]
        self.values = nn.ParameterList(nn.Parameter(torch.tensor(arrays[name])) for name in self.names)
        self.compute = forward

    def forward(self, x):
        return self.compute(x, list(self.values))


def keras(x, w):
    depth, last, last_bias, dense, dense_bias, conv, conv_bias, stem, stem_bias, depth_weight = w
    x = F.conv2d(F.pad(x.permute(0, 3, 1, 2), (0, 1, 0, 1)), stem, stem_bias, 2)
    x = F.leaky_relu(F.conv2d(F.relu6(x), depth_weight, depth, 1, 1, 1, 8), 0.1)
    x = F.selu(F.conv2d(F.max_pool2d(x, 2), conv, conv_bias)).mean((2, 3))
    return F.silu(x @ dense + dense_bias) @ last + last_bias


def paddle(x, w):
    x = F.conv2d(x, w[0], None, 2, 1) + w[1]
    x = F.hardswish(F.batch_norm(x, w[4].detach(), w[5].detach(), w[2], w[3]))
    x = F.conv2d(x, w[6], None, 1, 1, 1, 8) + w[7]
    x = F.relu6(F.batch_norm(x, w[10].detach(), w[11].detach(), w[8], w[9]))
    gate = F.hardsigmoid(F.relu(x.mean((2, 3)) @ w[12] + w[13]) @ w[14] + w[15])
    x = F.max_pool2d(F.relu(F.conv2d(x * gate[:, :, None, None], w[16]) + w[17]), 2)
    return x.mean((2, 3)) @ w[18] + w[19]


def sklearn_mlp(x, w):
    scaler = next(node for node in onnx.load(OUT / "sklearn_mlp.onnx").graph.node if node.op_type == "Scaler")
    offset, scale = (torch.tensor(a.floats, dtype=torch.float32).to(x.dtype) for a in sorted(scaler.attribute, key=lambda a: a.name))
    x = F.relu((x - offset) * scale @ w[0] + w[1])
    return F.relu(x @ w[2] + w[3]) @ w[4] + w[5]


def settled(make, batches, seed):
    """The model in evaluation mode: no two parameters alike, BatchNorm's statistics those of the batches."""
    torch.manual_seed(seed)
    model = make()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            scale = name.endswith("weight")
            nn.init.normal_(parameter, 1.0 if scale else 0.0, 0.1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over what follows
    with torch.no_grad():
        for *inputs, _ in batches:
            model.train()(*(torch.tensor(i) for i in inputs))
    return model.eval()


# ----------------------------------------------------------------------------------------------------------- the table


def above(*names):
    return lambda parameter: parameter.startswith(names)


def but(*numbers):
    return lambda parameter: parameter not in [f"values.{number}" for number in numbers]


def everything(_):
    return True


# name: model, data, loss, exporter, what learns (here and as edgetune's selection), learning rate
FAMILIES = {
    "resnet_basic": (lambda: narrow_resnet(resnet.BasicBlock), images, "cross-entropy", "torchscript", everything, "*", 0.004),
    "resnet_bottleneck": (lambda: narrow_resnet(resnet.Bottleneck), images, "cross-entropy", "dynamo", everything, "*", 0.0005),
    "mobilenet_v3": (mobilenet_v3, images, "cross-entropy", "torchscript", everything, "*", 0.05),
    "efficientnet": (efficient_net, images, "cross-entropy", "torchscript", everything, "*", 0.01),
    "shufflenet": (shuffle_net, images, "cross-entropy", "torchscript", everything, "*", 0.01),
    "convnext": (conv_next, images, "cross-entropy", "dynamo", everything, "*", 0.01),
    "regnet": (reg_net, images, "cross-entropy", "dynamo", everything, "*", 0.01),
    "densenet": (dense_net, images, "cross-entropy", "torchscript", everything, "*", 0.01),
    "unet": (UNet, segments, "binary-cross-entropy", "torchscript", everything, "*", 0.05),
    "yolo": (Yolo, boxes, "mean-squared-error", "torchscript", everything, "*", 0.1),
    "tcn": (Tcn, series, "cross-entropy", "dynamo", everything, "*", 0.1),
    "audio_cnn": (AudioCnn, mel, "cross-entropy", "torchscript", everything, "*", 0.02),
    "lstm": (lambda: Recurrent(nn.LSTM), words, "cross-entropy", "torchscript", everything, "*", 0.05),
    "gru": (lambda: Recurrent(nn.GRU), words, "cross-entropy", "dynamo", everything, "*", 0.05),
    "keras": (keras, channels_last, "cross-entropy", "converter", everything, "*", 0.05),
    "paddle": (paddle, images, "cross-entropy", "converter", but(4, 5, 10, 11), "*", 0.05),
    "sklearn_mlp": (sklearn_mlp, numbers, "cross-entropy", "converter", everything, "*", 0.05),
    "lstm_stacked": (lambda: Recurrent(two(nn.LSTM)), words, "cross-entropy", "dynamo", everything, "*", 0.005),
    "gru_stacked": (lambda: Recurrent(two(nn.GRU)), words, "cross-entropy", "torchscript", everything, "*", 0.05),
    "rnn_stacked": (lambda: Recurrent(two(nn.RNN)), words, "cross-entropy", "torchscript", everything, "*", 0.05),
}
OPTIMIZERS = {"lstm_stacked": ADAMW}  # all others learn by SGD
LOSSES = {"cross-entropy": F.cross_entropy, "binary-cross-entropy": F.binary_cross_entropy_with_logits,
          "mean-squared-error": F.mse_loss}


def entry(name, arrays):
    make, data, loss, exporter, learns, selection, rate = FAMILIES[name]
    inputs, labels = data()
    batches = list(zip(*inputs, labels.astype(np.int64) if loss == "cross-entropy" else labels))
    arrays |= {f"{data.__name__}/input": inputs[0], f"{data.__name__}/labels": batches_of(batches)}
    path = OUT / f"{name}.onnx"
    if exporter == "converter":
        model = Mirror(path, make)
    else:
        model = settled(make, batches, 20 + list(FAMILIES).index(name))
        # The dynamo exporter folds BatchNorm where it can; PyTorch then must train what is left.
        model = folded(model) if exporter == "dynamo" else model
        export(model, tuple(torch.tensor(i) for i in batches[0][:-1]), path, ["input"], exporter == "dynamo")
    agree(path, model, batches)
    trains = [(n, p) for n, p in model.named_parameters() if learns(n)]
    names = [n for n, _ in trains]
    optimizer = OPTIMIZERS.get(name, SGD)
    runs = [train(model, batches, names, optimizer, rate, dtype, LOSSES[loss], STEPS)[0]
            for dtype in (torch.float32, torch.float64)]
    noise = max(abs(a - b) / abs(b) for a, b in zip(*runs))
    print(f"{name}: {path.stat().st_size // 1024} KiB, {runs[1][0]:.4f} → {runs[1][-1]:.4f}, float32 off by {noise:.1e}")
    assert runs[1][-1] < 0.9 * runs[1][0] and noise < 2e-4, name
    return {"name": name, "exporter": exporter, "data": data.__name__, "loss": loss, "train": selection,
            "trains": learning(path, trains), "optimizer": optimizer,
            "learning_rate": rate, "losses": runs[0], "losses_float64": runs[1]}


def learning(path, trains):
    """The initializers that learn; a recurrent node has its gates in another order, and those of all directions in one."""
    recurrent = [n for n in onnx.load(path).graph.node if n.op_type in ("LSTM", "GRU", "RNN")]
    plain = [(n, p) for n, p in trains if not n.startswith("recurrent.")]
    inside = [name for node in recurrent for name in node.input[1:4]] if len(plain) < len(trains) else []
    return sorted(inside + [p["initializer"] for p in initializers_of(path, plain)])


def batches_of(batches):
    return np.stack([labels for *_, labels in batches])


def agree(path, model, batches):
    """PyTorch's outputs are ONNX Runtime's, after the activation that a converter leaves at the end."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for x, _ in batches:
        got = session.run([session.get_outputs()[-1].name], {session.get_inputs()[0].name: x})[0]
        want = model(torch.tensor(x)).detach()
        want = want.softmax(-1) if session.get_outputs()[-1].name == "probabilities" else want
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    OUT.mkdir(exist_ok=True)
    arrays, entries = {}, []
    for name in sys.argv[1:] or FAMILIES:
        entries.append(entry(name, arrays))
    if not sys.argv[1:]:
        np.savez_compressed(OUT / "families.npz", **arrays)
        (OUT / "families.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
