"""Peer: onnxsim's graph_grad, which writes the gradient as ONNX nodes too, on stock ONNX Runtime; its Adam is in the graph."""

import job

measure = job.Measure()

import importlib.metadata  # noqa: E402

import samples  # noqa: E402


def prepare(args, folder):
    """The model with its loss, of one shape, which this peer needs; with --cache the body's too."""
    import bases
    import numpy as np
    import onnx
    import onnxsim
    from onnx import helper

    # One shape first, constants folded by its own simplifier: it wants every shape as a number, and knows neither
    # Flatten nor Pow. LoRA comes after, since the simplifier makes equal values, such as factors of zeros, one.
    classes = len(samples.read(args, args.data).classes)
    model = bases.fixed(onnx.load(args.model), args)
    flat = bases.add(model, "flat", np.array([args.batch, -1], np.int64))
    for node in model.graph.node:
        if node.op_type == "Flatten":
            node.CopyFrom(helper.make_node("Reshape", [node.input[0], flat], node.output, name=node.name))
        elif node.op_type == "Pow":  # a square, in RMSNorm
            node.CopyFrom(helper.make_node("Mul", [node.input[0]] * 2, node.output, name=node.name))
    model, right = onnxsim.simplify(model)
    assert right, "the simplified model answers differently"
    args.model = folder / "base.onnx"
    onnx.save(model, args.model)

    model, learns, logits, cut = bases.for_workload(args, classes)
    if args.cache:
        model = bases.apart(model, cut, folder)
    rows = args.batch * (args.length - 1) if args.workload == "lora-lm" else args.batch
    columns = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    model.graph.input.append(helper.make_tensor_value_info("one_hot", onnx.TensorProto.FLOAT, [rows, columns]))
    # Cross entropy of the operators that it differentiates.
    bases.add(model, "axis", np.array([1], np.int64))
    for op, inputs, output, attributes in (
        ("Softmax", [logits], "probabilities", {"axis": 1}), ("Log", ["probabilities"], "logs", {}),
        ("Mul", ["logs", "one_hot"], "chosen", {}), ("ReduceSum", ["chosen", "axis"], "likelihood", {"keepdims": 0}),
        ("ReduceMean", ["likelihood"], "mean", {"keepdims": 0, "axes": [0]}), ("Neg", ["mean"], "loss", {}),
    ):
        model.graph.node.append(helper.make_node(op, inputs, [output], name=output, **attributes))
    model.graph.output.append(helper.make_tensor_value_info("loss", onnx.TensorProto.FLOAT, []))
    onnx.save(bases.fixed(model, args), folder / "model.onnx")
    (folder / "logits").write_text(logits)
    (folder / "classes").write_text(str(columns))
    (folder / "learns").write_text("\n".join(learns))


def train(args, folder):
    import numpy as np
    import onnx
    import onnxruntime
    import onnxsim

    data = samples.read(args, args.data)
    measure.imports_done()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    body = None
    if args.cache:
        frozen = onnxruntime.InferenceSession(str(folder / "body.onnx"), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in frozen.get_outputs()]
        body = lambda inputs: dict(zip(names, frozen.run(None, inputs)))  # noqa: E731
        data = samples.Features(data, args.batch, body)
    loop = onnxsim.compile_training_loop(onnx.load(folder / "model.onnx"), "loss", (folder / "learns").read_text().split("\n"))

    classes = int((folder / "classes").read_text())

    def step(inputs, labels):
        one_hot = np.zeros((labels.size, classes), np.float32)
        one_hot[np.arange(labels.size), labels.reshape(-1)] = 1
        return float(np.asarray(loop({**inputs, "one_hot": one_hot}, lr=args.lr)))

    shuffle = samples.shuffler(args.seed)
    cost = measure.epochs_of(args.epochs, lambda: samples.batches(data, args.batch, shuffle), step)

    right = None
    if args.test:
        learned, name = loop.export(), (folder / "logits").read_text()
        onnx.save(learned, folder / "learned.onnx")
        inputs = [value.name for value in learned.graph.input if value.name != "one_hot"]
        onnx.utils.extract_model(str(folder / "learned.onnx"), str(folder / "logits.onnx"), inputs, [name])
        session = onnxruntime.InferenceSession(str(folder / "logits.onnx"), options, providers=["CPUExecutionProvider"])
        right = samples.tested(args, lambda inputs: session.run(None, body(inputs) if body else inputs)[0])
    job.report("onnxsim-graph-grad", importlib.metadata.version("onnxsim"), args, len(data), cost, right)


if __name__ == "__main__":
    job.in_two(job.parse(__doc__.splitlines()[0]).parse_args(), prepare, train)
