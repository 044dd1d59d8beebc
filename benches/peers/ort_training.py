"""Peer: ONNX Runtime Training 1.19.2, its last release: artifacts made beforehand, then its on-device API.

Artifacts and training each get a process of their own, as if the artifacts came from another machine: neither the time
nor the memory of making them counts.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import types

import job

measure = job.Measure()

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

# The package's own __init__ imports PyTorch (which it does not declare) for parts that are not used here. Standing in
# for it is kind to this peer: PyTorch would cost it gigabytes of disk and some 300 MB of memory.
package = types.ModuleType("onnxruntime.training")
package.__path__ = [os.path.join(os.path.dirname(onnxruntime.__file__), "training")]
sys.modules["onnxruntime.training"] = package


def make_artifacts(base, folder, mode, classes, seed):
    """Gives the model a new classifier and has the gradient graphs built."""
    import onnx
    from onnx import numpy_helper
    from onnxruntime.training import artifacts

    model = onnx.load(base)
    initializers = {i.name: i for i in model.graph.initializer}
    classifier = model.graph.node[-1]
    weight, bias = classifier.input[1:3]
    width = initializers[weight].dims[1]
    bound = width ** -0.5
    rng = np.random.default_rng(seed)
    for name, shape in ((weight, (classes, width)), (bias, (classes,))):
        values = rng.uniform(-bound, bound, shape).astype(np.float32)
        initializers[name].CopyFrom(numpy_helper.from_array(values, name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = classes
    del model.graph.value_info[:]
    learns = [weight, bias]
    if mode == "tail":
        learns += [n for n in model.graph.node if n.op_type == "Conv"][-1].input[1:]
    frozen = [name for name, i in initializers.items() if name not in learns and i.dims and i.data_type == 1]
    artifacts.generate_artifacts(model, requires_grad=learns, frozen_params=frozen, artifact_directory=folder,
                                 loss=artifacts.LossType.CrossEntropyLoss, optimizer=artifacts.OptimType.AdamW)

def train(args, folder):
    from onnxruntime.training.api import CheckpointState, Module, Optimizer

    files, _ = job.listing(args.train)
    measure.imports_done()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.inter_op_num_threads = 1
    state = CheckpointState.load_checkpoint(f"{folder}/checkpoint")
    module = Module(f"{folder}/training_model.onnx", state, f"{folder}/eval_model.onnx", session_options=options)
    optimizer = Optimizer(f"{folder}/optimizer_model.onnx", module)
    optimizer.set_learning_rate(args.lr)
    module.train()
    shuffle = job.shuffler(args.seed)

    def step(images, labels):
        loss = module(images, labels)
        optimizer.step()
        module.lazy_reset_grad()
        return float(loss)

    def epoch():
        losses = [measure.step(lambda: step(*batch)) for batch in job.batches(files, args.batch, shuffle)]
        return sum(losses) / len(losses)

    for _ in range(args.epochs):
        measure.epoch(epoch)
    cost = measure.training_ended()

    right = None
    if args.test:
        module.eval()
        module.export_model_for_inferencing(f"{folder}/inference.onnx", ["logits"])
        session = onnxruntime.InferenceSession(f"{folder}/inference.onnx", options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        right = job.accuracy(job.listing(args.test)[0], args.batch, lambda x: session.run(None, {name: x})[0])
    job.report("onnxruntime-training", onnxruntime.__version__, args, files, cost, right)


def main():
    parser = job.parse(__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="EfficientNet-Lite0 as ONNX")
    parser.add_argument("--only", choices=["prepare", "train"], help=argparse.SUPPRESS)
    parser.add_argument("--artifacts", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only == "prepare":
        make_artifacts(str(args.model), args.artifacts, args.mode, len(job.listing(args.train)[1]), args.seed)
    elif args.only == "train":
        train(args, args.artifacts)
    else:
        with tempfile.TemporaryDirectory() as folder:
            again = [sys.executable, *sys.argv, "--artifacts", folder, "--only"]
            made = subprocess.run([*again, "prepare"], capture_output=True, text=True)
            if made.returncode:
                raise SystemExit(f"no artifacts: {made.stderr[-2000:]}")
            raise SystemExit(subprocess.run([*again, "train"]).returncode)


if __name__ == "__main__":
    main()
