"""Peer: ONNX Runtime Training 1.19.2, its last release: artifacts made beforehand, then its on-device API."""

import job

measure = job.Measure()

import os  # noqa: E402
import sys  # noqa: E402
import types  # noqa: E402

import onnxruntime  # noqa: E402

import samples  # noqa: E402

# The package's own __init__ imports PyTorch (which it does not declare) for parts that are not used here. Standing in
# for it is kind to this peer: PyTorch would cost it gigabytes of disk and some 300 MB of memory.
package = types.ModuleType("onnxruntime.training")
package.__path__ = [os.path.join(os.path.dirname(onnxruntime.__file__), "training")]
sys.modules["onnxruntime.training"] = package


def prepare(args, folder):
    """The training graph, the optimiser's and the checkpoint; with --cache the body's too."""
    import bases
    from onnxruntime.training import artifacts

    model, learns, logits, cut = bases.for_workload(args, len(samples.read(args, args.data).classes))
    if args.cache:
        model = bases.apart(model, cut, folder)
    for node in model.graph.node:
        # Its gradient reads the mean and the inverse deviation, which exporters leave out.
        if node.op_type == "LayerNormalization":
            node.output.extend(f"{node.output[0]}.{name}" for name in ("mean", "deviation")[len(node.output) - 1:])
    frozen = [i.name for i in model.graph.initializer if i.name not in learns and i.dims and i.data_type == 1]
    artifacts.generate_artifacts(model, requires_grad=learns, frozen_params=frozen, artifact_directory=str(folder),
                                 loss=artifacts.LossType.CrossEntropyLoss, optimizer=artifacts.OptimType.AdamW)
    (folder / "logits").write_text(logits)


def train(args, folder):
    from onnxruntime.training.api import CheckpointState, Module, Optimizer

    data = samples.read(args, args.data)
    measure.imports_done()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.inter_op_num_threads = 1
    state = CheckpointState.load_checkpoint(f"{folder}/checkpoint")
    module = Module(f"{folder}/training_model.onnx", state, f"{folder}/eval_model.onnx", session_options=options)
    optimizer = Optimizer(f"{folder}/optimizer_model.onnx", module)
    optimizer.set_learning_rate(args.lr)
    module.train()
    body = None
    if args.cache:
        frozen = onnxruntime.InferenceSession(f"{folder}/body.onnx", options, providers=["CPUExecutionProvider"])
        names = [value.name for value in frozen.get_outputs()]
        body = lambda inputs: dict(zip(names, frozen.run(None, inputs)))  # noqa: E731
        data = samples.Features(data, args.batch, body)
    names = [name for name in module.input_names() if name in data.batch([0])[0]]

    def step(inputs, labels):
        loss = module(*(inputs[name] for name in names), labels.reshape(-1))
        optimizer.step()
        module.lazy_reset_grad()
        return float(loss)

    shuffle = samples.shuffler(args.seed)
    cost = measure.epochs_of(args.epochs, lambda: samples.batches(data, args.batch, shuffle), step)

    right = None
    if args.test:
        module.eval()
        module.export_model_for_inferencing(f"{folder}/inference.onnx", [(folder / "logits").read_text()])
        session = onnxruntime.InferenceSession(f"{folder}/inference.onnx", options, providers=["CPUExecutionProvider"])
        wanted = [value.name for value in session.get_inputs()]

        def logits(inputs):
            inputs = body(inputs) if body else inputs
            return session.run(None, {name: inputs[name] for name in wanted})[0]
        right = samples.tested(args, logits)
    job.report("onnxruntime-training", onnxruntime.__version__, args, len(data), cost, right)


if __name__ == "__main__":
    job.in_two(job.parse(__doc__.splitlines()[0]).parse_args(), prepare, train)
