"""Makes tests/goldens/onnx/*: small model files of the writers that people use. Run by hand, never by the tests.

    python tests/goldens/make/onnx_files.py

Seeds are fixed: run twice, it writes the same bytes. The script stops if ONNX Runtime does not compute from the
functions what they are meant to say. (ONNX 1.23's own inliner loses the default of a nested function's attribute.)
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper

FOLDER = Path(__file__).parent.parent / "onnx"


class Net(torch.nn.Module):
    """A convolution, batch norm, pooling and a linear layer: what a small vision model has."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.head = torch.nn.Linear(4, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(x.mean(dim=(2, 3)))


def strip(name):
    """Takes out the exporter's stack traces: they name paths of the machine that made the file."""
    model = onnx.load(FOLDER / name)
    for holder in [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]:
        del holder.metadata_props[:]
    onnx.save(model, FOLDER / name)


def export(name, **options):
    torch.manual_seed(0)
    net = Net().eval()
    example = (torch.zeros(2, 3, 8, 8),)
    if options.get("dynamo"):
        options["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    else:
        options["dynamic_axes"] = {"x": {0: "batch"}, "y": {0: "batch"}}
    torch.onnx.export(net, example, FOLDER / name, input_names=["x"], output_names=["y"], opset_version=18, **options)
    strip(name)


def functions():
    """Nested local functions, references to attributes with a default, an omitted optional input, a sub-graph in a
    function and a call in a sub-graph."""
    domain = "local"
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]

    leaky = helper.make_node("LeakyRelu", ["x"], ["t"], name="leaky")
    reference = onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    leaky.attribute.append(reference)
    clip = helper.make_node("Clip", ["t", "low", "high"], ["y"], name="clip")
    activate = helper.make_function(
        domain, "Activate", ["x", "low", "high"], ["y"], [leaky, clip], imports,
        attribute_protos=[helper.make_attribute("slope", 0.5)],
    )

    # Block(x, w) = (Activate(x · w, no low, high = 3), −x)
    three = helper.make_node("Constant", [], ["t"], name="three", value_float=3.0)
    product = helper.make_node("MatMul", ["x", "w"], ["p"], name="product")
    negative = helper.make_node("Neg", ["x"], ["s"])
    inner = helper.make_node("Activate", ["p", "", "t"], ["y"], name="act", domain=domain)
    inner.attribute.append(onnx.AttributeProto(name="slope", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope"))
    block = helper.make_function(domain, "Block", ["x", "w"], ["y", "s"], [three, product, inner, negative], imports, ["slope"])

    # Choose(c, x): If with sub-graphs that read the function's input.
    def branch(name, op):
        node = helper.make_node(op, ["x"], ["t"], name=f"{op}_node")
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)])

    choose = helper.make_function(
        domain, "Choose", ["c", "x"], ["y"],
        [helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch("a", "Neg"), else_branch=branch("b", "Abs"))],
        imports,
    )

    # A call in a sub-graph of the model.
    call = helper.make_node("Activate", ["m"], ["u"], name="in_branch", domain=domain, slope=0.125)
    keep = helper.make_node("Identity", ["m"], ["u2"], name="keep")
    then = helper.make_graph([call], "then", [], [helper.make_tensor_value_info("u", TensorProto.FLOAT, None)])
    other = helper.make_graph([keep], "other", [], [helper.make_tensor_value_info("u2", TensorProto.FLOAT, None)])

    weight = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Block", ["x", "w"], ["a", "minus"], name="one", domain=domain, slope=0.25),
        helper.make_node("Block", ["a", "w"], ["b", "idle"], name="two", domain=domain),
        helper.make_node("Choose", ["c", "b"], ["m0"], domain=domain),
        helper.make_node("Add", ["m0", "minus"], ["m"], name="add"),
        helper.make_node("If", ["c"], ["y"], name="last", then_branch=then, else_branch=other),
    ]
    graph = helper.make_graph(
        nodes, "functions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
         helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=imports, functions=[activate, block, choose], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, FOLDER / "functions.onnx")


def passing():
    """A function that hands an input through and gives one value twice, and whose caller takes only some outputs."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    body = [helper.make_node("Neg", ["x"], ["n"])]
    function = helper.make_function("local", "Pass", ["x", "unused"], ["x", "n", "n2"], body, imports)
    function.node.append(helper.make_node("Identity", ["n"], ["n2"]))
    graph = helper.make_graph(
        [helper.make_node("Pass", ["x"], ["same", "", "y"], domain="local")], "passing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, ["n"]),
         helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=8)
    onnx.save(model, FOLDER / "passing.onnx")


def typed():
    """Every typed data field of TensorProto, as old writers use them, each an output of its own."""
    kinds = {
        TensorProto.FLOAT: [1.5, -2.0], TensorProto.DOUBLE: [1.5, -2.0], TensorProto.INT64: [-1, 2**40],
        TensorProto.INT32: [-1, 7], TensorProto.INT16: [-1, 7], TensorProto.INT8: [-1, 7], TensorProto.UINT8: [255, 7],
        TensorProto.UINT16: [65535, 7], TensorProto.UINT32: [2**32 - 1, 7], TensorProto.UINT64: [2**64 - 1, 7],
        TensorProto.BOOL: [True, False], TensorProto.FLOAT16: [1.5, -2.0], TensorProto.BFLOAT16: [1.5, -2.0],
        TensorProto.UINT4: [15, 7], TensorProto.INT4: [-8, 7],
    }
    tensors, outputs = [], []
    for kind, values in kinds.items():
        name = TensorProto.DataType.Name(kind).lower()
        tensors.append(helper.make_tensor(name, kind, [2], values))
        outputs.append(helper.make_tensor_value_info(name, kind, [2]))
    graph = helper.make_graph([], "typed", [], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, FOLDER / "typed.onnx")


def agree():
    """ONNX Runtime computes from the functions what they are meant to say."""
    model = onnx.load(FOLDER / "functions.onnx")
    w = onnx.numpy_helper.to_array(model.graph.initializer[0])
    x = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32) * 3
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def leaky(x, slope):
        return np.where(x < 0, slope * x, x)

    for c in (True, False):
        a = np.minimum(leaky(x @ w, 0.25), 3)
        b = np.minimum(leaky(a @ w, 0.5), 3)
        m = (-b if c else np.abs(b)) - x
        y = leaky(m, 0.125) if c else m
        np.testing.assert_allclose(session.run(None, {"x": x, "c": np.array(c)})[0], y, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    export("torchscript.onnx", dynamo=False)
    export("dynamo.onnx", dynamo=True, optimize=False, external_data=False)
    model = onnx.load(FOLDER / "torchscript.onnx")
    (FOLDER / "external.data").unlink(missing_ok=True)  # it would be appended to
    onnx.save(model, FOLDER / "external.onnx", save_as_external_data=True, location="external.data", size_threshold=0)
    functions()
    passing()
    typed()
    agree()
