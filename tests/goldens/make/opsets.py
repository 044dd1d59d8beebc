"""Makes tests/goldens/opsets/*: one small model for each operator whose form changed between the operator sets 7 and 13, for those of
sets 25 to 28 that ONNX Runtime cannot run, and what ONNX Runtime computes from them. Run by hand, never by the tests.

    python tests/goldens/make/opsets.py

Seeds are fixed: run twice, it writes the same bytes. Where ONNX Runtime has no kernel, numpy gives the right output.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent.parent / "opsets"
RNG = np.random.default_rng(0)
facts, arrays = [], {}


def model(name, opset, nodes, shape, out_rank, constants=None, ir=None):
    constants = {key: np.asarray(value) for key, value in (constants or {}).items()}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape[1:]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None if out_rank is None else [f"d{i}" for i in range(out_rank)])
    initializers = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    # Until IR version 4 initializers are inputs, too.
    inputs = [x] + [helper.make_tensor_value_info(i.name, i.data_type, i.dims) for i in initializers if opset < 9]
    graph = helper.make_graph(nodes, name, inputs, [y], initializers)
    ir = ir or (3 if opset < 9 else 4 if opset < 10 else 6 if opset < 13 else 10)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    onnx.save(proto, FOLDER / f"{name}.onnx")
    return proto


def case(name, opset, nodes, shape=(2, 3, 4), out_rank=None, right=None, constants=None):
    proto = model(name, opset, nodes, shape, out_rank, constants)
    x = RNG.normal(size=shape).astype("f4")
    if right is None:
        session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        y = session.run(None, {"x": x})[0]
    else:
        y = right(x).astype("f4")
    arrays[f"{name}/x"], arrays[f"{name}/y"] = x, y
    facts.append({"name": name, "opset": opset})


def node(op, inputs=("x",), **attributes):
    return [helper.make_node(op, list(inputs), ["y"], name=f"{op}_of_old", **attributes)]


def main():
    FOLDER.mkdir(exist_ok=True)
    case("squeeze", 9, node("Squeeze", axes=[1]), shape=(2, 1, 4))
    case("unsqueeze", 11, node("Unsqueeze", axes=[1, 3]))
    case("reduce_sum", 8, node("ReduceSum", axes=[1], keepdims=0))
    case("split", 11, [helper.make_node("Split", ["x"], ["a", "b"], name="halves", axis=2, split=[1, 3]),
                       helper.make_node("Add", ["a", "b"], ["y"], name="sum")])
    case("top_k", 9, [helper.make_node("TopK", ["x"], ["y", "i"], name="top", axis=-1, k=2)])
    case("slice", 9, node("Slice", starts=[1], ends=[3], axes=[2]))
    case("pad", 10, node("Pad", pads=[0, 1, 0, 0, 0, 2], value=0.5))
    case("clip", 10, node("Clip", min=-0.5, max=0.25))
    case("clip_above", 7, node("Clip", max=0.25))
    case("dropout", 10, [helper.make_node("Dropout", ["x"], ["y", "mask"], name="drop", ratio=0.5)])
    batch_norm = {key: RNG.uniform(0.5, 1.5, 3).astype("f4") for key in ("scale", "bias", "mean", "variance")}
    case("batch_norm", 8, node("BatchNormalization", ("x", *batch_norm)), shape=(2, 3, 4, 4), constants=batch_norm)
    case("upsample_7", 7, node("Upsample", scales=[1.0, 1.0, 2.0, 2.0]), shape=(2, 3, 4, 4))
    scales = {"scales": np.array([1, 1, 2, 3], "f4")}
    case("upsample_9", 9, node("Upsample", ("x", "scales"), mode="linear"), shape=(2, 3, 4, 4), constants=scales)
    case("resize_10", 10, node("Resize", ("x", "scales")), shape=(2, 3, 5, 5), constants={"scales": np.array([1, 1, 0.5, 0.5], "f4")})
    case("scatter", 10, node("Scatter", ("x", "indices", "updates"), axis=1), constants={
        "indices": np.array([[[0, 1, 2, 0]], [[2, 1, 0, 1]]]), "updates": np.full((2, 1, 4), 7, "f4")})
    case("softmax_flat", 11, node("Softmax", axis=1))
    case("softmax_rows", 11, node("Softmax"), shape=(3, 5), out_rank=2)
    case("log_softmax_flat", 12, node("LogSoftmax", axis=0))
    case("einsum_12", 12, node("Einsum", ("x", "w"), equation="bij,jk->bik"), constants={"w": RNG.normal(size=(4, 2)).astype("f4")})
    sigmoid = lambda x: 1 / (1 + np.exp(-x.astype("f8")))
    case("swish_25", 25, node("Swish"), right=lambda x: x * sigmoid(x))
    case("swish_alpha_26", 26, node("Swish", alpha=0.5), right=lambda x: x * sigmoid(0.5 * x))
    case("swiglu_28", 28, [helper.make_node("Neg", ["x"], ["n"], name="other"),
                           helper.make_node("SwiGLU", ["x", "n"], ["y"], name="gated", alpha=2.0)],
         right=lambda x: x * sigmoid(2.0 * x) * -x)
    case("celu_28", 28, node("Celu"))
    (FOLDER / "opsets.json").write_text("[\n" + ",\n".join(json.dumps(fact) for fact in facts) + "\n]\n")
    np.savez(FOLDER / "opsets.npz", **arrays)


main()
