"""Changes to an ONNX base before a peer that takes ONNX learns it: a new classifier, LoRA, one shape, body and tail."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

LABELS = "labels"


def initializers(model):
    return {i.name: i for i in model.graph.initializer}


def add(model, name, values):
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return name


def uniform(rng, width, shape):
    return rng.uniform(-width ** -0.5, width ** -0.5, shape).astype(np.float32)


def for_workload(args, classes):
    """The base with what learns: model, names of what learns, name of the logits, what the cut hands to the tail."""
    model, rng = onnx.load(args.model), np.random.default_rng(args.seed)
    if args.workload in ("head", "tail"):
        return photographs(model, args, classes, rng)
    widen(model)
    if args.workload == "lora-encoder":
        learns = lora(model, ("/query/MatMul", "/value/MatMul"), args.rank, rng)
        model.graph.node.append(helper.make_node("Gemm", ["sentence_embedding", "classifier.weight", "classifier.bias"],
                                                 ["logits"], transB=1, name="classifier"))
        learns.append(add(model, "classifier.weight", uniform(rng, 384, (classes, 384))))
        learns.append(add(model, "classifier.bias", np.zeros(classes, np.float32)))
        shape = ["batch", classes]
    else:
        learns = lora(model, ("/q_proj/MatMul", "/v_proj/MatMul"), args.rank, rng)
        # The last token foretells nothing, and a loss takes one row a label.
        ends = [add(model, f"shifted.{name}", np.array([value], np.int64)) for name, value in (("start", 0), ("end", -1), ("axis", 1))]
        rows = add(model, "rows", np.array([-1, 6400], np.int64))
        output = model.graph.output[0].name
        model.graph.node.append(helper.make_node("Slice", [output, *ends], ["shifted"], name="shifted"))
        model.graph.node.append(helper.make_node("Reshape", ["shifted", rows], ["rows_of_logits"], name="rows"))
        shape = ["tokens", 6400]
    name = model.graph.node[-1].output[0]
    del model.graph.output[:]
    del model.graph.value_info[:]
    model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return model, learns, name, None


def photographs(model, args, classes, rng):
    values = initializers(model)
    classifier = model.graph.node[-1]
    weight, bias = classifier.input[1:3]
    width = values[weight].dims[1]
    for name, shape in ((weight, (classes, width)), (bias, (classes,))):
        values[name].CopyFrom(numpy_helper.from_array(uniform(rng, width, shape), name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = classes
    del model.graph.value_info[:]
    learns, cut = [weight, bias], classifier.input[0]
    if args.workload == "tail":
        last = [node for node in model.graph.node if node.op_type == "Conv"][-1]
        learns, cut = learns + list(last.input[1:]), last.input[0]
    return model, learns, model.graph.output[0].name, cut


def lora(model, ends, rank, rng):
    """y = x·W + (x·A)·B·(alpha / rank) with alpha = 2·rank, A uniform as PyTorch's Linear, B zero; A and B of each."""
    learns, values = [], initializers(model)
    scale = add(model, "lora.scale", np.array(2.0, np.float32))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if not node.name.endswith(ends):
            model.graph.node.append(node)
            continue
        (x, weight), y = node.input, node.output[0]
        width, out = values[weight].dims
        a = add(model, f"{node.name}.lora_A", uniform(rng, width, (width, rank)))
        b = add(model, f"{node.name}.lora_B", np.zeros((rank, out), np.float32))
        node.output[0] = f"{y}.base"
        model.graph.node.append(node)
        for op, inputs, output in (("MatMul", [x, a], "xA"), ("MatMul", [f"{y}.xA", b], "xAB"),
                                   ("Mul", [f"{y}.xAB", scale], "scaled"), ("Add", [f"{y}.base", f"{y}.scaled"], None)):
            name = f"{y}.{output}" if output else y
            model.graph.node.append(helper.make_node(op, inputs, [name], name=f"{node.name}.{output or 'sum'}"))
        learns += [a, b]
    return learns


def widen(model):
    """fp16 weights behind a Cast become fp32 initializers of the Cast's name: gradients are fp32, and so are peers."""
    values, kept = initializers(model), []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in values and values[node.input[0]].data_type == onnx.TensorProto.FLOAT16:
            add(model, node.output[0], numpy_helper.to_array(values[node.input[0]]).astype(np.float32))
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    weights = [i for i in model.graph.initializer if i.name in used]
    del model.graph.node[:]
    del model.graph.initializer[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(weights)


def fixed(model, args):
    """Every dimension a number: the batch's, the text's, those that follow."""
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.dim_value:
                dim.dim_value = args.length if dim.dim_param == "seq" else args.batch
    outputs = [value.name for value in model.graph.output]
    del model.graph.output[:]
    del model.graph.value_info[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def apart(model, cut, folder):
    """Saves the frozen part as folder/body.onnx and gives the rest, which begins at `cut`."""
    whole, body, tail = (str(folder / f"{name}.onnx") for name in ("whole", "body", "tail"))
    onnx.save(onnx.shape_inference.infer_shapes(model), whole)
    names = [[value.name for value in values] for values in (model.graph.input, model.graph.output)]
    onnx.utils.extract_model(whole, body, names[0], [cut])
    onnx.utils.extract_model(whole, tail, [cut], names[1])
    return onnx.load(tail)
