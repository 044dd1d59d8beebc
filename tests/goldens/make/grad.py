"""Writes ../grad.json (the case table of the gradient rules) and ../grad.npz (inputs, cotangents, outputs, gradients).

Each case is one ONNX node. The expected gradients come from PyTorch's float64 autograd on an equivalent written here in
PyTorch's words; the outputs are compared with ONNX Runtime's on the very node that the table describes, so that a
mistake in the table or in the equivalent stops the script. README.md beside this folder tells the format.

Usage: python grad.py  (deterministic: every case has its own random stream, seeded by its name)
"""

import json
import math
import pathlib
import zlib
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

OUT = pathlib.Path(__file__).resolve().parent.parent
FAR = 9223372036854775807  # what exporters write for "to the end"
CASES = []


@dataclass
class In:
    """One input of a node: how its values are drawn, and what the Rust side makes of it."""

    shape: tuple = ()
    draw: str = "uniform"
    args: tuple = (-2.0, 2.0)
    kind: str = "float"
    needs_grad: bool = True
    dynamic: list = field(default_factory=list)
    value: object = None

    def dyn(self, *axes):
        return replace(self, dynamic=list(axes))

    def frozen(self):
        return replace(self, needs_grad=False)

    def make(self, rng):
        if self.kind == "none":
            return None
        if self.value is not None:
            return self.value
        if self.draw == "uniform":
            x = grid(rng.uniform(*self.args, self.shape))
        elif self.draw == "away":  # at least `gap` away from every kink
            reach = max(2.5, max(abs(kink) for kink in self.args) + 1.5)  # both sides of every kink
            x = grid(rng.uniform(-reach, reach, self.shape))
            gap = 0.125
            for kink in self.args:
                near = np.abs(x - kink) < gap
                x = np.where(near, kink + np.where(x >= kink, gap, -gap) * 1.5, x)
            x = grid(x)
        elif self.draw == "distinct":  # all elements differ by at least 1/16, also between inputs of other `args`
            (offset,) = self.args
            n = math.prod(self.shape)
            x = (rng.permutation(n).reshape(self.shape) - n // 2) * 0.125 + offset
        else:
            raise ValueError(self.draw)
        return x.astype(np.float32).astype(np.float64)


def grid(x):
    """Multiples of 1/256: exact in float32, and small when compressed."""
    return np.round(np.asarray(x) * 256.0) / 256.0


def x(*shape, lo=-2.0, hi=2.0):
    return In(shape, args=(lo, hi))


def positive(*shape, lo=0.5, hi=2.5):
    return In(shape, args=(lo, hi))


def away(*shape, kinks=(0.0,)):
    return In(shape, "away", tuple(kinks))


def distinct(*shape, offset=0.0):
    return In(shape, "distinct", (offset,))


def i64(value):
    return In(kind="int64", needs_grad=False, value=np.asarray(value, np.int64))


def i32(value):
    return In(kind="int32", needs_grad=False, value=np.asarray(value, np.int64))


def boolean(value):
    return In(kind="bool", needs_grad=False, value=np.asarray(value, np.bool_))


def ints(*values):
    return In(kind="const_int64", needs_grad=False, value=np.asarray(values, np.int64))


def int_scalar(value):
    return In(kind="const_int64", needs_grad=False, value=np.asarray(value, np.int64))


def const(value):
    return In(kind="const_float", needs_grad=False, value=np.asarray(value, np.float32).astype(np.float64))


def floats(value):
    """An input of these very values."""
    return In(value=np.asarray(value, np.float32).astype(np.float64))


def const_x(*shape, lo=-2.0, hi=2.0):
    return In(shape, args=(lo, hi), kind="const_float", needs_grad=False)


NONE = In(kind="none", needs_grad=False)


def case(name, inputs, fn, opset=17, unused=(), out="float", domain="", kink=False, **attributes):
    """`name` is `Op` or `Op_variant`; `fn` takes a torch tensor (or None) per input and returns one tensor or several.

    Outputs numbered in `unused` get no cotangent: nothing that is differentiated depends on them. At a `kink` the outputs
    do not change as the gradient says; which side's derivative it is, PyTorch decides.
    """
    assert all(c["name"] != name for c in CASES), name
    op = name.split("_")[0].removeprefix(f"{domain}.")
    CASES.append(dict(name=name, op=op, domain=domain, opset=opset, attributes=attributes, inputs=inputs, fn=fn,
                      unused=unused, out=out, kink=kink))


# --------------------------------------------------------------------------------------------------------- the table


def linear():
    mm = torch.matmul
    case("MatMul_2d", [x(3, 4).dyn(0), x(4, 5)], mm)
    case("MatMul_batched", [x(2, 3, 4).dyn(0), x(2, 4, 5).dyn(0)], mm)
    case("MatMul_4d", [x(2, 2, 3, 4).dyn(0, 2), x(2, 2, 4, 3).dyn(0, 3)], mm)
    case("MatMul_3d_2d", [x(2, 3, 4).dyn(0, 1), x(4, 5)], mm)
    case("MatMul_2d_3d", [x(3, 4), x(2, 4, 5).dyn(0)], mm)
    case("MatMul_broadcast_left", [x(1, 3, 4), x(2, 4, 5).dyn(0)], mm)
    case("MatMul_broadcast_right", [x(2, 3, 4).dyn(0), x(1, 4, 5)], mm)
    case("MatMul_broadcast_both", [x(3, 1, 2, 4).dyn(0), x(2, 4, 2)], mm)
    case("MatMul_broadcast_dynamic", [x(2, 3, 4).dyn(0), x(1, 4, 5).dyn(0)], mm)
    case("MatMul_1d_1d", [x(5), x(5)], mm)
    case("MatMul_1d_2d", [x(4), x(4, 5)], mm)
    case("MatMul_2d_1d", [x(3, 4).dyn(0), x(4)], mm)
    case("MatMul_3d_1d", [x(2, 3, 4).dyn(0), x(4)], mm)
    case("MatMul_1d_3d", [x(4), x(2, 4, 3).dyn(0)], mm)

    def gemm(ta=0, tb=0, alpha=1.0, beta=1.0):
        def fn(a, b, c=None):
            y = alpha * ((a.T if ta else a) @ (b.T if tb else b))
            return y if c is None else y + beta * c
        return fn

    for ta in (0, 1):
        for tb in (0, 1):
            a = x(4, 3) if ta else x(3, 4).dyn(0)
            b = x(5, 4) if tb else x(4, 5)
            case(f"Gemm_transA{ta}_transB{tb}", [a, b, x(5)], gemm(ta, tb), transA=ta, transB=tb)
            case(f"Gemm_transA{ta}_transB{tb}_alpha_beta", [a, b, x(3, 5)], gemm(ta, tb, 0.5, 2.0),
                 transA=ta, transB=tb, alpha=0.5, beta=2.0)
    case("Gemm_default", [x(3, 4).dyn(0), x(4, 5), x(5)], gemm())
    case("Gemm_c_1n", [x(3, 4).dyn(0), x(4, 5), x(1, 5)], gemm(beta=0.5), beta=0.5)
    case("Gemm_c_m1", [x(3, 4), x(4, 5), x(3, 1)], gemm())
    case("Gemm_c_m1_dynamic", [x(3, 4).dyn(0), x(4, 5), x(3, 1).dyn(0)], gemm())
    case("Gemm_c_scalar", [x(3, 4).dyn(0), x(4, 5), x()], gemm())
    case("Gemm_c_one", [x(3, 4).dyn(0), x(4, 5), x(1)], gemm())
    def einsum(name, equation, *inputs):
        case(f"Einsum_{name}", list(inputs), lambda *a: torch.einsum(equation, *a), equation=equation)

    einsum("matmul", "ij,jk->ik", x(3, 4).dyn(0), x(4, 2))
    einsum("batched", "bij, bkj -> bik", x(2, 3, 4).dyn(0, 1), x(2, 2, 4).dyn(0))
    einsum("heads", "bhid,bhjd->bhij", x(2, 2, 3, 2).dyn(0), x(2, 2, 4, 2).dyn(0))
    einsum("outer", "bi,bj->bij", x(3, 2).dyn(0), x(3, 4).dyn(0))
    einsum("transpose", "bij->bji", x(2, 3, 4).dyn(0))
    einsum("three", "bi,ij,bj->b", x(3, 2).dyn(0), x(2, 4), x(3, 4).dyn(0))

    def fused(name, a, b, fn, **attributes):
        case(f"com.microsoft.FusedMatMul_{name}", [a, b], fn, opset=1, domain="com.microsoft", **attributes)

    fused("plain", x(2, 3, 4).dyn(0), x(4, 5), torch.matmul)
    fused("transA", x(2, 4, 3).dyn(0), x(2, 4, 5).dyn(0), lambda a, b: a.mT @ b * 0.5, transA=1, alpha=0.5)
    fused("transB", x(2, 2, 3, 4).dyn(0, 2), x(2, 2, 3, 4).dyn(0, 2), lambda a, b: a @ b.mT * 0.25, transB=1, alpha=0.25)
    fused("both", x(2, 4, 3).dyn(0), x(5, 4), lambda a, b: a.mT @ b.mT, transA=1, transB=1)
    case("Gemm_no_c", [x(3, 4).dyn(0), x(5, 4)], gemm(0, 1, 1.5), transB=1, alpha=1.5)


def elementwise():
    binary = {
        "Add": (torch.add, x, x),
        "Sub": (torch.sub, x, x),
        "Mul": (torch.mul, x, x),
        "Div": (torch.div, x, positive),
    }
    for op, (fn, left, right) in binary.items():
        case(f"{op}_same", [left(3, 4).dyn(0), right(3, 4).dyn(0)], fn)
        case(f"{op}_broadcast_right", [left(2, 3, 4).dyn(0), right(4)], fn)
        case(f"{op}_broadcast_left", [left(4), right(2, 3, 4).dyn(0)], fn)
        case(f"{op}_broadcast_both", [left(3, 1).dyn(0), right(1, 4)], fn)
        case(f"{op}_scalar_right", [left(3, 4).dyn(0), right()], fn)
        case(f"{op}_scalar_left", [left(), right(3, 4).dyn(0)], fn)
        case(f"{op}_one_element", [left(3, 4).dyn(0), right(1)], fn)
        case(f"{op}_inner_one", [left(2, 3, 4).dyn(0), right(2, 1, 4).dyn(0)], fn)
        case(f"{op}_rank_different", [left(2, 3, 1, 2).dyn(0), right(3, 4, 1)], fn)
        case(f"{op}_broadcast_dynamic", [left(3, 4).dyn(0), right(1, 4).dyn(0)], fn)
        case(f"{op}_const_right", [left(3, 4).dyn(0), const([0.5, 1.5, 2.0, -0.75])], fn)
        case(f"{op}_const_left", [const(1.5), right(3, 4).dyn(0)], fn)

    case("Neg", [x(3, 4).dyn(0)], torch.neg)
    fmod = lambda a, b: a - b * torch.trunc(a / b).detach()
    case("Mod", [floats([[1.25, -1.75, 2.5], [0.5, -2.25, 1.125]]).dyn(0), floats([0.75, 1.0, -1.5])], fmod, fmod=1)
    case("Mod_frozen", [floats([1.25, -1.75, 2.5]), const([0.75])], fmod, fmod=1)
    case("Pow_tensor", [positive(3, 4).dyn(0), x(3, 4).dyn(0)], torch.pow)
    case("Pow_broadcast", [positive(3, 1).dyn(0), x(4)], torch.pow)
    for value in (2.0, 3.0):  # negative bases too: no logarithm may be taken where the exponent needs no gradient
        case(f"Pow_scalar_{int(value)}", [away(3, 4).dyn(0), const(value)], torch.pow)
    case("Pow_scalar_half", [positive(3, 4).dyn(0), const(0.5)], torch.pow)
    case("Pow_scalar_minus_one", [away(3, 4).dyn(0), const(-1.0)], torch.pow)
    case("Pow_int_exponent", [away(3, 4).dyn(0), int_scalar(2)], torch.pow)
    case("Pow_scalar_learned", [positive(3, 4).dyn(0), x()], torch.pow)
    case("Pow_const_tensor", [away(3, 4).dyn(0), const([2.0, 0.0, 1.0, -2.0])], torch.pow)
    case("Pow_scalar_four", [away(3, 4).dyn(0), const(4.0)], torch.pow)
    case("Pow_at_zero", [floats([0.0, 1.5, 0.0, 2.0]), floats([2.0, 0.0, 1.5, 3.0])], torch.pow, kink=True)
    case("Pow_zero_at_zero", [floats([0.0, 2.0]), floats([0.0, 1.5])], torch.pow, kink=True)
    case("Pow_scalar_zero", [floats([0.0, 2.0]), const(0.0)], torch.pow, kink=True)
    case("Pow_scalar_one", [away(3, 4).dyn(0), const(1.0)], torch.pow)
    case("Sqrt", [positive(3, 4).dyn(0)], torch.sqrt)
    case("Exp", [x(3, 4).dyn(0)], torch.exp)
    case("Log", [positive(3, 4).dyn(0)], torch.log)
    case("Erf", [x(3, 4).dyn(0)], torch.erf)
    case("Abs", [away(3, 4).dyn(0)], torch.abs)
    case("Abs_at_zero", [floats([0.0, 1.5, -1.5])], torch.abs, kink=True)
    case("Reciprocal", [positive(3, 4).dyn(0)], torch.reciprocal)
    case("Sin", [x(3, 4).dyn(0)], torch.sin)
    case("Cos", [x(3, 4).dyn(0)], torch.cos)
    case("Identity", [x(3, 4).dyn(0)], torch.clone)
    case("Dropout", [x(3, 4).dyn(0), const(0.5)], lambda a, ratio: a.clone(), opset=13)
    case("Dropout_data_only", [x(3, 4).dyn(0)], torch.clone, opset=13)
    case("Cast_float", [x(3, 4).dyn(0)], torch.clone, to=int(TensorProto.FLOAT))
    case("Cast_double", [x(3, 4).dyn(0)], torch.clone, out="double", to=int(TensorProto.DOUBLE))

    case("Sum_one", [x(3, 4).dyn(0)], torch.clone)
    case("Sum_broadcast", [x(3, 4).dyn(0), x(4), x(3, 1).dyn(0)], lambda a, b, c: a + b + c)
    case("Mean_broadcast", [x(3, 4).dyn(0), x(4), x(3, 1).dyn(0)], lambda a, b, c: (a + b + c) / 3)
    for op, fn in (("Min", torch.minimum), ("Max", torch.maximum)):
        a, b, c = (lambda *s, offset=offset: distinct(*s, offset=offset) for offset in (0.0, 0.0625, 0.03125))
        case(f"{op}_one", [a(3, 4).dyn(0)], torch.clone)
        case(f"{op}_same", [a(3, 4).dyn(0), b(3, 4).dyn(0)], fn)
        case(f"{op}_broadcast", [a(3, 4).dyn(0), b(4)], fn)
        case(f"{op}_scalar", [a(3, 4).dyn(0), const(0.05)], fn)
        case(f"{op}_ties", [floats([1.0, -2.0, 0.5]), floats([1.0, 3.0, -0.5])], fn, kink=True)
        case(f"{op}_three", [a(3, 4).dyn(0), b(3, 1).dyn(0), c(4)], lambda p, q, r, fn=fn: fn(fn(p, q), r))

    mask = [[True, False, True, True], [False, False, True, False], [True, False, False, True]]
    case("Where_same", [boolean(mask), x(3, 4).dyn(0), x(3, 4).dyn(0)], torch.where)
    case("Where_broadcast", [boolean(mask), x(3, 1).dyn(0), x(4)], torch.where)
    case("Where_condition_broadcast", [boolean(mask[0]), x(3, 4).dyn(0), x(2, 1, 1)], torch.where)
    case("Where_scalar", [boolean(mask), x(3, 4).dyn(0), const(-3.0)], lambda m, a, b: torch.where(m, a, b))


def activation():
    case("Relu", [away(3, 4).dyn(0)], torch.relu)
    case("Relu_at_zero", [floats([0.0, 1.0, -1.0])], torch.relu, kink=True)
    case("LeakyRelu_at_zero", [floats([0.0, 1.0, -1.0])], lambda a: F.leaky_relu(a, 0.01), kink=True)
    case("Clip_at_bounds", [floats([-1.0, 1.5, 0.0, 2.0]), const(-1.0), const(1.5)],
         lambda a, lo, hi: torch.clamp(a, -1.0, 1.5), kink=True)
    case("LeakyRelu", [away(3, 4).dyn(0)], lambda a: F.leaky_relu(a, 0.01))
    case("LeakyRelu_alpha", [away(3, 4).dyn(0)], lambda a: F.leaky_relu(a, 0.25), alpha=0.25)
    case("PRelu_channel", [away(2, 3, 2, 2).dyn(0), x(3, 1, 1)], lambda a, s: torch.where(a > 0, a, a * s))
    case("PRelu_scalar", [away(3, 4).dyn(0), x(1)], lambda a, s: torch.where(a > 0, a, a * s))
    case("PRelu_same", [away(3, 4).dyn(0), x(3, 4).dyn(0)], lambda a, s: torch.where(a > 0, a, a * s))
    case("Clip_min_max", [away(3, 4, kinks=(-1.0, 1.5)).dyn(0), const(-1.0), const(1.5)],
         lambda a, lo, hi: torch.clamp(a, -1.0, 1.5))
    case("Clip_relu6", [away(3, 4, kinks=(0.0, 6.0)).dyn(0), const(0.0), const(6.0)], lambda a, lo, hi: F.relu6(a))
    case("Clip_min", [away(3, 4, kinks=(-0.5,)).dyn(0), const(-0.5)], lambda a, lo: torch.clamp(a, min=-0.5))
    case("Clip_max", [away(3, 4, kinks=(0.75,)).dyn(0), NONE, const(0.75)], lambda a, lo, hi: torch.clamp(a, max=0.75))
    case("Clip_computed_bounds", [away(6, 5, kinks=(-1.0, 1.5)).dyn(0), floats(-1.0), floats(1.5)], torch.clamp)
    case("Clip_computed_low", [away(3, 4, kinks=(-0.5,)).dyn(0).frozen(), floats(-0.5)], lambda a, lo: torch.clamp(a, min=lo))
    case("Clip_none", [x(3, 4).dyn(0)], torch.clone)
    case("Sigmoid", [x(3, 4).dyn(0)], torch.sigmoid)
    case("HardSigmoid", [away(3, 4, kinks=(-2.5, 2.5)).dyn(0)], lambda a: torch.clamp(0.2 * a + 0.5, 0.0, 1.0))
    case("HardSigmoid_alpha_beta", [away(3, 4, kinks=(-0.8, 1.2)).dyn(0)],
         lambda a: torch.clamp(0.5 * a + 0.4, 0.0, 1.0), alpha=0.5, beta=0.4)
    case("HardSwish", [away(3, 4, kinks=(-3.0, 3.0)).dyn(0)], F.hardswish)
    case("Tanh", [x(3, 4).dyn(0)], torch.tanh)
    case("Gelu", [x(3, 4).dyn(0)], F.gelu, opset=20)
    case("Gelu_none", [x(3, 4).dyn(0)], F.gelu, opset=20, approximate="none")
    case("Gelu_tanh", [x(3, 4).dyn(0)], lambda a: F.gelu(a, approximate="tanh"), opset=20, approximate="tanh")
    ms = dict(opset=1, domain="com.microsoft")
    tanh = lambda a: F.gelu(a, approximate="tanh")
    case("com.microsoft.Gelu", [x(3, 4).dyn(0)], F.gelu, **ms)
    case("com.microsoft.BiasGelu", [x(2, 3, 4).dyn(0, 1), x(4)], lambda a, b: F.gelu(a + b), **ms)
    case("com.microsoft.FastGelu", [x(2, 3, 4).dyn(0)], tanh, **ms)
    case("com.microsoft.FastGelu_bias", [x(2, 3, 4).dyn(0, 1), x(4)], lambda a, b: tanh(a + b), **ms)
    case("com.microsoft.QuickGelu", [x(3, 4).dyn(0)], lambda a: a * torch.sigmoid(1.702 * a), **ms)
    case("com.microsoft.QuickGelu_alpha", [x(3, 4).dyn(0)], lambda a: a * torch.sigmoid(0.5 * a), alpha=0.5, **ms)
    case("Swish", [x(3, 4).dyn(0)], F.silu, opset=24)
    case("Swish_alpha", [x(3, 4).dyn(0)], lambda a: a * torch.sigmoid(0.5 * a), opset=24, alpha=0.5)
    case("Softplus", [x(3, 4).dyn(0)], F.softplus)
    case("Softsign", [x(3, 4).dyn(0)], F.softsign)
    case("Elu", [away(3, 4).dyn(0)], F.elu)
    case("Elu_alpha", [away(3, 4).dyn(0)], lambda a: F.elu(a, 0.5), alpha=0.5)
    case("Selu", [away(3, 4).dyn(0)], F.selu)
    case("Selu_alpha_gamma", [away(3, 4).dyn(0)], lambda a: 1.25 * torch.where(a > 0, a, 0.5 * (torch.exp(a) - 1)),
         alpha=0.5, gamma=1.25)
    case("Celu", [away(3, 4).dyn(0)], F.celu)
    case("Celu_alpha", [away(3, 4).dyn(0)], lambda a: F.celu(a, 0.5), alpha=0.5)
    case("Mish", [x(3, 4).dyn(0)], F.mish, opset=18)
    case("ThresholdedRelu", [away(3, 4, kinks=(1.0,)).dyn(0)], lambda a: torch.where(a > 1.0, a, 0.0))
    case("ThresholdedRelu_alpha", [away(3, 4, kinks=(0.5,)).dyn(0)], lambda a: torch.where(a > 0.5, a, 0.0), alpha=0.5)
    for op, fn in (("Softmax", torch.softmax), ("LogSoftmax", torch.log_softmax)):
        case(f"{op}_default", [x(3, 5).dyn(0)], lambda a, fn=fn: fn(a, -1))
        case(f"{op}_axis0", [x(3, 5).dyn(0)], lambda a, fn=fn: fn(a, 0), axis=0)
        case(f"{op}_axis_last_3d", [x(2, 3, 4).dyn(0, 1)], lambda a, fn=fn: fn(a, -1), axis=-1)
        case(f"{op}_axis1_4d", [x(2, 3, 2, 2).dyn(0)], lambda a, fn=fn: fn(a, 1), axis=1)
        case(f"{op}_axis_dynamic", [x(2, 3, 4).dyn(0, 2)], lambda a, fn=fn: fn(a, 2), axis=2)


def trigonometric():
    inside = lambda: x(3, 4, lo=-0.75, hi=0.75).dyn(0)
    for op, fn, a in (
        ("Tan", torch.tan, x(3, 4, lo=-1.0, hi=1.0).dyn(0)),
        ("Asin", torch.asin, inside()),
        ("Acos", torch.acos, inside()),
        ("Atan", torch.atan, x(3, 4).dyn(0)),
        ("Sinh", torch.sinh, x(3, 4).dyn(0)),
        ("Cosh", torch.cosh, x(3, 4).dyn(0)),
        ("Asinh", torch.asinh, x(3, 4).dyn(0)),
        ("Acosh", torch.acosh, x(3, 4, lo=1.5, hi=3.5).dyn(0)),
        ("Atanh", torch.atanh, inside()),
    ):
        case(op, [a], fn)


def same_pads(size, kernel, stride, dilation, upper):
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def padded(a, pads, value=0.0):
    """`pads` as in ONNX: all begins, then all ends, of the spatial dimensions."""
    n = len(pads) // 2
    flat = []
    for axis in reversed(range(n)):
        flat += [pads[axis], pads[n + axis]]
    return F.pad(a, flat, value=value)


def spatial_pads(shape, kernel, strides, dilations, pads, auto_pad):
    n = len(kernel)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        pairs = [same_pads(shape[i], kernel[i], strides[i], dilations[i], auto_pad == "SAME_UPPER") for i in range(n)]
        return [p[0] for p in pairs] + [p[1] for p in pairs]
    return pads or [0] * (2 * n)


def conv():
    def conv_case(name, xs, ws, bias=True, dynamic=(0,), frozen=False, **attributes):
        n = len(ws) - 2
        strides = attributes.get("strides", [1] * n)
        dilations = attributes.get("dilations", [1] * n)
        group = attributes.get("group", 1)
        pads = spatial_pads(xs[2:], ws[2:], strides, dilations, attributes.get("pads"), attributes.get("auto_pad"))
        conv_n = F.conv1d if n == 1 else F.conv2d

        def fn(a, w, b=None):
            return conv_n(padded(a, pads), w, b, stride=strides, dilation=dilations, groups=group)

        inputs = [x(*xs).dyn(*dynamic), const_x(*ws) if frozen else x(*ws)] + ([x(ws[0])] if bias else [])
        case(f"Conv_{name}", inputs, fn, **attributes)

    conv_case("1x1", (2, 3, 2, 3), (4, 3, 1, 1), kernel_shape=[1, 1])
    conv_case("1x1_stride2", (2, 3, 3, 4), (4, 3, 1, 1), kernel_shape=[1, 1], strides=[2, 2])
    conv_case("3x3_pad", (2, 2, 4, 3), (3, 2, 3, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    conv_case("3x3_valid", (2, 2, 4, 5), (2, 2, 3, 3), kernel_shape=[3, 3])
    conv_case("no_attributes", (2, 2, 4, 3), (3, 2, 2, 2))
    conv_case("no_bias", (2, 2, 4, 3), (3, 2, 3, 3), bias=False, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    conv_case("stride2", (2, 2, 5, 5), (2, 2, 3, 3), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    conv_case("stride2_remainder", (1, 2, 6, 4), (3, 2, 3, 3), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    conv_case("stride3_remainder_valid", (1, 2, 7, 4), (3, 2, 2, 2), kernel_shape=[2, 2], strides=[3, 2])
    conv_case("stride_unequal", (1, 2, 6, 5), (2, 2, 3, 2), kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 1, 0])
    conv_case("dilation2", (1, 2, 6, 5), (2, 2, 3, 2), kernel_shape=[3, 2], dilations=[2, 2])
    conv_case("dilation2_stride2_pad", (1, 2, 6, 5), (2, 2, 3, 3), kernel_shape=[3, 3], dilations=[2, 2],
              strides=[2, 2], pads=[2, 2, 2, 2])
    conv_case("groups2", (2, 4, 3, 2), (6, 2, 2, 2), kernel_shape=[2, 2], group=2, pads=[0, 0, 1, 1])
    conv_case("groups2_stride2", (1, 4, 4, 4), (4, 2, 3, 3), kernel_shape=[3, 3], group=2, pads=[1, 1, 1, 1],
              strides=[2, 2])
    conv_case("depthwise", (2, 3, 3, 3), (3, 1, 3, 3), kernel_shape=[3, 3], group=3, pads=[1, 1, 1, 1])
    conv_case("depthwise_stride2", (1, 3, 4, 5), (3, 1, 3, 3), kernel_shape=[3, 3], group=3, pads=[1, 1, 1, 1],
              strides=[2, 2])
    conv_case("depthwise_no_bias", (1, 3, 4, 5), (3, 1, 3, 3), bias=False, kernel_shape=[3, 3], group=3,
              pads=[1, 1, 1, 1])
    conv_case("depthwise_multiplier2", (1, 3, 3, 4), (6, 1, 2, 2), kernel_shape=[2, 2], group=3)
    conv_case("asymmetric_pads", (1, 2, 4, 3), (2, 2, 3, 3), kernel_shape=[3, 3], pads=[0, 1, 2, 1])
    conv_case("1x1_pads", (2, 3, 2, 2), (4, 3, 1, 1), kernel_shape=[1, 1], pads=[1, 1, 1, 1])
    conv_case("depthwise_dilation2", (1, 3, 4, 5), (3, 1, 2, 2), kernel_shape=[2, 2], group=3, dilations=[2, 2])
    conv_case("asymmetric_pads_stride2", (1, 2, 4, 5), (2, 2, 3, 3), kernel_shape=[3, 3], pads=[0, 0, 1, 1],
              strides=[2, 2])
    conv_case("same_upper", (1, 2, 4, 5), (2, 2, 2, 3), kernel_shape=[2, 3], auto_pad="SAME_UPPER")
    conv_case("same_upper_stride2", (1, 2, 5, 4), (2, 2, 3, 3), kernel_shape=[3, 3], auto_pad="SAME_UPPER",
              strides=[2, 2])
    conv_case("same_lower", (1, 2, 4, 5), (2, 2, 2, 3), kernel_shape=[2, 3], auto_pad="SAME_LOWER")
    conv_case("same_lower_stride2", (1, 2, 5, 4), (2, 2, 3, 3), kernel_shape=[3, 3], auto_pad="SAME_LOWER",
              strides=[2, 2])
    conv_case("valid", (1, 2, 4, 5), (2, 2, 3, 2), kernel_shape=[3, 2], auto_pad="VALID")
    conv_case("5x5_on_3x3", (2, 2, 3, 3), (1, 2, 5, 5), kernel_shape=[5, 5], pads=[2, 2, 2, 2])
    conv_case("5x5_depthwise_stride2", (1, 2, 4, 4), (2, 1, 5, 5), kernel_shape=[5, 5], group=2, pads=[2, 2, 2, 2],
              strides=[2, 2])
    conv_case("1d", (2, 3, 6), (4, 3, 3), kernel_shape=[3], pads=[1, 1])
    conv_case("1d_stride2_dilation2", (2, 2, 9), (3, 2, 3), kernel_shape=[3], strides=[2], dilations=[2])
    conv_case("1d_depthwise", (2, 4, 6), (4, 1, 3), kernel_shape=[3], group=4, pads=[2, 0])
    conv_case("1d_depthwise_long", (1, 2, 40), (2, 1, 2), kernel_shape=[2], group=2, pads=[1, 0])
    conv_case("1d_depthwise_long_stride2", (1, 2, 40), (2, 1, 2), kernel_shape=[2], group=2, pads=[1, 0], strides=[2])
    conv_case("1d_long_kernel", (1, 1, 56), (1, 1, 51), kernel_shape=[51], pads=[1, 0])
    conv_case("pads_beyond_kernel", (1, 2, 3, 3), (2, 2, 2, 2), kernel_shape=[2, 2], pads=[2, 2, 2, 2])
    conv_case("frozen_weights", (1, 2, 4, 5), (3, 2, 3, 3), frozen=True, kernel_shape=[3, 3])
    conv_case("dynamic", (2, 2, 4, 3), (3, 2, 3, 3), dynamic=(0, 2, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    conv_case("dynamic_stride2_remainder", (1, 2, 6, 4), (3, 2, 3, 3), dynamic=(0, 2, 3), kernel_shape=[3, 3],
              strides=[2, 2], pads=[1, 1, 1, 1])
    conv_case("dynamic_groups2", (2, 4, 3, 2), (6, 2, 2, 2), dynamic=(0, 2, 3), kernel_shape=[2, 2], group=2,
              pads=[0, 0, 1, 1])
    conv_case("dynamic_depthwise_stride2", (1, 3, 4, 5), (3, 1, 3, 3), dynamic=(0, 2, 3), kernel_shape=[3, 3], group=3,
              pads=[1, 1, 1, 1], strides=[2, 2])
    conv_case("dynamic_same_lower", (1, 2, 4, 5), (2, 2, 2, 3), dynamic=(0, 2, 3), kernel_shape=[2, 3],
              auto_pad="SAME_LOWER")


def pool():
    case("GlobalAveragePool", [x(2, 3, 2, 3).dyn(0)], lambda a: a.mean((2, 3), keepdim=True))
    case("GlobalAveragePool_1d", [x(2, 3, 5).dyn(0)], lambda a: a.mean((2,), keepdim=True))
    case("GlobalAveragePool_dynamic", [x(2, 2, 3, 4).dyn(0, 2, 3)], lambda a: a.mean((2, 3), keepdim=True))

    def out_pads(shape, kernel, strides, dilations, pads, ceil):
        """Further end pads that make every window of ceil_mode a whole one; windows that start in end pads drop out."""
        n = len(kernel)
        more = []
        for i in range(n):
            span = shape[i] + pads[i] + pads[n + i] - ((kernel[i] - 1) * dilations[i] + 1)
            count = (math.ceil(span / strides[i]) if ceil else span // strides[i]) + 1
            if ceil and (count - 1) * strides[i] >= shape[i] + pads[i]:
                count -= 1
            more.append(max((count - 1) * strides[i] - span, 0))
        return more

    def average(name, shape, opset=17, dynamic=(0,), **attributes):
        kernel = attributes["kernel_shape"]
        n = len(kernel)
        strides = attributes.get("strides", [1] * n)
        dilations = attributes.get("dilations", [1] * n)
        pads = spatial_pads(shape[2:], kernel, strides, dilations, attributes.get("pads"), attributes.get("auto_pad"))
        more = out_pads(shape[2:], kernel, strides, dilations, pads, attributes.get("ceil_mode", 0))
        include = attributes.get("count_include_pad", 0)
        conv_n = F.conv1d if n == 1 else F.conv2d

        def window_sums(a):
            taps = torch.ones([a.shape[1], 1] + kernel, dtype=a.dtype)
            return conv_n(a, taps, stride=strides, dilation=dilations, groups=a.shape[1])

        def fn(a):
            ones = torch.ones(shape[2:], dtype=a.dtype)[None, None]
            ones = padded(padded(ones, pads, float(include)), [0] * n + more)
            a = padded(padded(a, pads), [0] * n + more)
            return window_sums(a) / window_sums(ones)

        case(f"AveragePool_{name}", [x(*shape).dyn(*dynamic)], fn, opset=opset, **attributes)

    average("k2s2", (2, 2, 4, 4), kernel_shape=[2, 2], strides=[2, 2])
    average("k2s2_remainder", (1, 2, 5, 5), kernel_shape=[2, 2], strides=[2, 2])
    average("k3s1", (1, 2, 5, 4), kernel_shape=[3, 3])
    average("k3s2p1", (1, 2, 5, 5), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    average("k3s2p1_include_pad", (1, 2, 5, 5), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
            count_include_pad=1)
    average("ceil", (1, 2, 5, 6), opset=19, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    average("ceil_pad", (1, 2, 6, 5), opset=19, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    average("asymmetric_pads", (1, 2, 4, 5), kernel_shape=[3, 2], strides=[2, 2], pads=[0, 1, 1, 0])
    average("same_upper", (1, 2, 5, 4), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    average("unequal", (1, 2, 4, 6), kernel_shape=[2, 3], strides=[1, 3])
    average("1d", (2, 3, 8), kernel_shape=[2], strides=[2])
    average("all", (2, 3, 3, 4), kernel_shape=[3, 4])
    average("k3s1p1_include_pad", (1, 2, 4, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    average("ceil_include_pad", (1, 2, 6, 5), opset=19, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
            ceil_mode=1, count_include_pad=1)
    average("dilation2_pad", (1, 2, 6, 5), opset=19, kernel_shape=[3, 2], dilations=[2, 2], pads=[1, 1, 0, 1])
    average("dynamic", (1, 2, 5, 4), dynamic=(0, 2, 3), kernel_shape=[2, 2], strides=[2, 2])

    def maximum(name, shape, **attributes):
        kernel = attributes["kernel_shape"]
        n = len(kernel)
        strides = attributes.get("strides", [1] * n)
        dilations = attributes.get("dilations", [1] * n)
        pads = spatial_pads(shape[2:], kernel, strides, dilations, attributes.get("pads"), attributes.get("auto_pad"))
        more = out_pads(shape[2:], kernel, strides, dilations, pads, attributes.get("ceil_mode", 0))
        pool_n = F.max_pool1d if n == 1 else F.max_pool2d

        def fn(a):
            a = padded(padded(a, pads, -math.inf), [0] * n + more, -math.inf)
            return pool_n(a, kernel, strides, dilation=dilations)

        case(f"MaxPool_{name}", [distinct(*shape).dyn(0)], fn, **attributes)

    maximum("k2s2", (2, 2, 4, 4), kernel_shape=[2, 2], strides=[2, 2])
    maximum("k2s2_remainder", (1, 2, 5, 5), kernel_shape=[2, 2], strides=[2, 2])
    maximum("k3s2p1", (1, 2, 5, 5), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    maximum("k3s1p1", (1, 2, 4, 4), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    maximum("dilation2", (1, 2, 6, 5), kernel_shape=[2, 2], dilations=[2, 2])
    maximum("ceil", (1, 2, 5, 6), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    maximum("same_upper", (1, 2, 5, 4), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    maximum("1d", (2, 3, 8), kernel_shape=[3], strides=[2], pads=[1, 1])

    case("GlobalMaxPool", [distinct(2, 3, 2, 3).dyn(0)], lambda a: a.amax((2, 3), keepdim=True))
    case("GlobalMaxPool_dynamic", [distinct(2, 2, 3, 4).dyn(0, 2, 3)], lambda a: a.amax((2, 3), keepdim=True))


def norm():
    def batch_norm(eps):
        def fn(a, scale, bias, mean, var):
            s = [1, -1] + [1] * (a.dim() - 2)
            return (a - mean.view(s)) / torch.sqrt(var.view(s) + eps) * scale.view(s) + bias.view(s)
        return fn

    stats = lambda c: [const_x(c), In((c,), args=(0.5, 2.5), kind="const_float", needs_grad=False)]
    case("BatchNormalization", [x(2, 3, 2, 3).dyn(0), x(3), x(3), *stats(3)], batch_norm(1e-5))
    case("BatchNormalization_epsilon", [x(2, 3, 2, 2).dyn(0), x(3), x(3), *stats(3)], batch_norm(0.125), epsilon=0.125)
    case("BatchNormalization_2d", [x(4, 3).dyn(0), x(3), x(3), *stats(3)], batch_norm(1e-5))
    case("BatchNormalization_frozen_scale", [x(2, 3, 4).dyn(0), const_x(3), x(3), *stats(3)], batch_norm(1e-5))

    def layer_norm(axis, eps):
        def fn(a, scale, bias=None):
            dims = list(range(axis % a.dim(), a.dim()))
            m = a.mean(dims, keepdim=True)
            v = ((a - m) ** 2).mean(dims, keepdim=True)
            y = (a - m) / torch.sqrt(v + eps) * scale
            return y if bias is None else y + bias
        return fn

    case("LayerNormalization", [x(3, 5).dyn(0), x(5), x(5)], layer_norm(-1, 1e-5))
    case("LayerNormalization_3d", [x(2, 3, 4).dyn(0, 1), x(4), x(4)], layer_norm(-1, 1e-5), axis=-1, epsilon=1e-5)
    case("LayerNormalization_axis2_epsilon", [x(2, 3, 4).dyn(0), x(4), x(4)], layer_norm(2, 0.125), axis=2,
         epsilon=0.125)
    case("LayerNormalization_axis1", [x(2, 3, 4).dyn(0), x(3, 4), x(3, 4)], layer_norm(1, 1e-5), axis=1)
    case("LayerNormalization_no_bias", [x(2, 3, 4).dyn(0, 1), x(4)], layer_norm(-1, 1e-5), axis=-1)
    case("LayerNormalization_dynamic_axis", [x(2, 3, 4).dyn(0, 1), x(3, 4).dyn(0), x(3, 4).dyn(0)],
         layer_norm(1, 1e-5), axis=1)
    case("LayerNormalization_frozen_scale", [x(2, 3, 4).dyn(0), const_x(4), x(4)], layer_norm(-1, 1e-5))
    case("LayerNormalization_only_scale", [x(2, 3, 4).dyn(0).frozen(), x(4), x(4)], layer_norm(-1, 1e-5))
    case("LayerNormalization_axis1_no_bias", [x(2, 3, 2, 2).dyn(0), x(3, 2, 2)], layer_norm(1, 1e-5), axis=1)


    def rms_norm(axis, eps):
        def fn(a, scale):
            dims = list(range(axis % a.dim(), a.dim()))
            return a / torch.sqrt((a * a).mean(dims, keepdim=True) + eps) * scale
        return fn

    for op, opset in (("RMSNormalization", 23), ("SimplifiedLayerNormalization", 17)):
        case(op, [x(2, 3, 4).dyn(0, 1), x(4)], rms_norm(-1, 1e-5), opset=opset, axis=-1, epsilon=1e-5)
        case(f"{op}_epsilon", [x(3, 5).dyn(0), const_x(5)], rms_norm(1, 0.125), opset=opset, axis=-1, epsilon=0.125)
        case(f"{op}_only_scale", [x(3, 5).dyn(0).frozen(), x(5)], rms_norm(1, 1e-5), opset=opset, axis=-1, epsilon=1e-5)
    case("RMSNormalization_axis1", [x(2, 3, 4).dyn(0), x(3, 4)], rms_norm(1, 1e-5), opset=23, axis=1)
    case("RMSNormalization_default", [x(2, 3, 4).dyn(0), x(4)], rms_norm(-1, 1e-5), opset=23)

    def skip_norm(op, eps, outputs=1):
        def fn(a, skip, scale, *more):
            beta, bias = [*([] if op == "SkipLayerNormalization" else [None]), *more, None, None][:2]
            s = a + skip if bias is None else a + skip + bias
            m = s.mean(-1, keepdim=True) if op == "SkipLayerNormalization" else torch.zeros_like(s[..., :1])
            r = 1 / torch.sqrt(((s - m) ** 2).mean(-1, keepdim=True) + eps)
            y = (s - m) * r * scale
            y = y if beta is None else y + beta
            return (y, m, r, s)[:outputs] if outputs > 1 else y
        return fn

    ms = dict(opset=1, domain="com.microsoft")
    op, a = "SkipLayerNormalization", lambda: x(2, 3, 4).dyn(0, 1)
    case(f"com.microsoft.{op}", [a(), a(), x(4), x(4)], skip_norm(op, 1e-5), epsilon=1e-5, **ms)
    case(f"com.microsoft.{op}_bias", [a(), a(), x(4), x(4), x(4)], skip_norm(op, 0.125), epsilon=0.125, **ms)
    case(f"com.microsoft.{op}_broadcast", [x(2, 3, 4).dyn(0), x(1, 3, 4), x(4)], skip_norm(op, 1e-12), **ms)
    case(f"com.microsoft.{op}_no_beta", [a(), a(), const_x(4), NONE, x(4)], skip_norm(op, 1e-5), epsilon=1e-5, **ms)
    case(f"com.microsoft.{op}_sum", [a(), a(), x(4), x(4), x(4)], skip_norm(op, 1e-5, 4), unused=(1, 2), epsilon=1e-5,
         **ms)
    op = "SkipSimplifiedLayerNormalization"
    case(f"com.microsoft.{op}", [a(), a(), x(4)], skip_norm(op, 1e-5), epsilon=1e-5, **ms)
    case(f"com.microsoft.{op}_bias", [a(), a(), x(4), x(4)], skip_norm(op, 0.125), epsilon=0.125, **ms)
    case(f"com.microsoft.{op}_broadcast", [x(2, 3, 4).dyn(0), x(3, 4), x(4)], skip_norm(op, 1e-12), **ms)
    case(f"com.microsoft.{op}_sum", [a(), a(), x(4), x(4)], skip_norm(op, 1e-5, 4), unused=(1, 2), epsilon=1e-5, **ms)


def rotary():
    def rotated(cos, sin, heads=0, interleaved=0, positions=None):
        def fn(*inputs):
            a, c, s = inputs[0], inputs[cos], inputs[sin]
            if positions is not None:
                p = inputs[positions]
                p = p + torch.arange(a.shape[-2]) if p.dim() == 1 else p
                c, s = c[p], s[p]
            c, s = (c, s) if c.dim() == 3 else (c[None], s[None])
            b = a if a.dim() == 4 else a.unflatten(2, (heads, -1)).transpose(1, 2)
            half = c.shape[-1]
            turned, rest = b[..., : 2 * half], b[..., 2 * half :]
            u, v = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.split(half, -1)
            c, s = c.unsqueeze(1), s.unsqueeze(1)
            parts = (u * c - v * s, u * s + v * c)
            y = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
            y = torch.cat((y, rest), -1)
            return y if a.dim() == 4 else y.transpose(1, 2).flatten(2)
        return fn

    ms = dict(opset=1, domain="com.microsoft")
    name, one, table = "com.microsoft.RotaryEmbedding", i64([1]), i64([[0, 1, 2], [2, 4, 1]])
    caches = lambda: [const_x(5, 2), const_x(5, 2)]
    case(name, [x(2, 2, 3, 4).dyn(0, 2), one, *caches()], rotated(2, 3, positions=1), **ms)
    case(f"{name}_3d", [x(2, 3, 8).dyn(0, 1), table, *caches()], rotated(2, 3, 2, positions=1), **ms)
    case(f"{name}_3d_heads", [x(2, 3, 8).dyn(0), one, *caches()], rotated(2, 3, 2, positions=1), num_heads=2, **ms)
    case(f"{name}_interleaved", [x(2, 2, 3, 4).dyn(0), table, *caches()], rotated(2, 3, 0, 1, 1), interleaved=1, **ms)
    case(f"{name}_part", [x(2, 2, 3, 6).dyn(0, 2), table, *caches()], rotated(2, 3, positions=1), num_heads=2,
         rotary_embedding_dim=4, **ms)
    name, here = "RotaryEmbedding", lambda: [const_x(2, 3, 2), const_x(2, 3, 2)]
    case(name, [x(2, 2, 3, 4).dyn(0), *caches(), table], rotated(1, 2, positions=3), opset=23)
    case(f"{name}_3d", [x(2, 3, 8), *here()], rotated(1, 2, 2), opset=23, num_heads=2)
    case(f"{name}_3d_interleaved", [x(2, 3, 8).dyn(0), *caches(), table], rotated(1, 2, 2, 1, 3), opset=23, num_heads=2,
         interleaved=1)
    case(f"{name}_part", [x(2, 2, 3, 6), *here()], rotated(1, 2), opset=23, rotary_embedding_dim=4)


def attention():
    def attend(q, k, v, scale=None, mask=None, causal=False):
        """Of (batch, heads, positions, size); `mask` is added, or says where to look."""
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        if causal:
            scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -math.inf)
        return scores.softmax(-1) @ v

    split = lambda a, heads: a.unflatten(2, (heads, -1)).transpose(1, 2)
    join = lambda a: a.transpose(1, 2).flatten(2)
    q, k, v = x(2, 2, 3, 4).dyn(0, 2), x(2, 2, 5, 4).dyn(0, 2), x(2, 2, 5, 3).dyn(0, 2)
    name = "Attention"
    case(name, [q, k, v], attend, opset=23)
    case(f"{name}_only_values", [q.frozen(), k.frozen(), v], attend, opset=23)
    case(f"{name}_scale", [q, k.frozen(), v.frozen()], lambda q, k, v: attend(q, k, v, 0.25), opset=23, scale=0.25)
    case(f"{name}_causal", [q, k, v], lambda q, k, v: attend(q, k, v, causal=True), opset=23, is_causal=1)
    masked = lambda q, k, v, m: attend(q, k, v, mask=m)
    case(f"{name}_mask", [q, k, v, x(3, 5).frozen()], masked, opset=23)
    seen = [[[[True, False, True, True, False]] * 3], [[[False, True, True, False, True]] * 3]]
    case(f"{name}_bool_mask", [q, k, v, boolean(seen)], masked, opset=23)
    case(f"{name}_grouped", [x(1, 4, 3, 2), x(1, 2, 3, 2), x(1, 2, 3, 2)], attend, opset=23)
    case(f"{name}_grouped_3d", [x(2, 3, 8).dyn(0, 1), x(2, 5, 4).dyn(0, 1), x(2, 5, 6).dyn(0, 1)],
         lambda q, k, v: join(attend(split(q, 4), split(k, 2), split(v, 2))), opset=23, q_num_heads=4, kv_num_heads=2)
    case(f"{name}_3d", [x(2, 3, 8).dyn(0, 1), x(2, 5, 8).dyn(0, 1), x(2, 5, 6).dyn(0, 1)],
         lambda q, k, v: join(attend(split(q, 2), split(k, 2), split(v, 2))), opset=23, q_num_heads=2, kv_num_heads=2)

    ms = dict(opset=1, domain="com.microsoft", num_heads=2)
    name, q, k, v = "com.microsoft.MultiHeadAttention", x(2, 3, 4).dyn(0, 1), x(2, 5, 4).dyn(0, 1), x(2, 5, 6).dyn(0, 1)
    flat = lambda q, k, v, **more: join(attend(split(q, 2), split(k, 2), split(v, 2), **more))
    case(name, [q, k, v], flat, **ms)
    case(f"{name}_bias", [q, k, v, x(14)], lambda q, k, v, b: flat(q + b[:4], k + b[4:8], v + b[8:]), **ms)
    case(f"{name}_only_bias", [q.frozen(), k.frozen(), v.frozen(), x(14)],
         lambda q, k, v, b: flat(q + b[:4], k + b[4:8], v + b[8:]), **ms)
    case(f"{name}_only_values", [q.frozen(), k.frozen(), v, const_x(14)],
         lambda q, k, v, b: flat(q + b[:4], k + b[4:8], v + b[8:]), **ms)
    case(f"{name}_attention_bias", [q, k, v, NONE, NONE, x(1, 2, 3, 5).frozen()],
         lambda q, k, v, _, __, m: flat(q, k, v, mask=m, scale=0.5), scale=0.5, **ms)
    case(f"{name}_causal", [q, x(2, 3, 4).dyn(0, 1), x(2, 3, 6).dyn(0, 1)],
         lambda q, k, v: flat(q, k, v, causal=True), unidirectional=1, **ms)

    name = "com.microsoft.Attention"

    def projected(a, w, b, causal=False):
        return flat(*(a @ w + b).split(4, 2), causal=causal)

    case(name, [x(2, 3, 4).dyn(0, 1), x(4, 12, lo=-1.0, hi=1.0), x(12)], projected, **ms)
    case(f"{name}_causal", [x(2, 3, 4).dyn(0, 1), x(4, 12, lo=-1.0, hi=1.0).frozen(), x(12).frozen()],
         lambda a, w, b: projected(a, w, b, True), unidirectional=1, **ms)


def reduce():
    def dims_of(axes, a):
        return tuple(axes) if axes else tuple(range(a.dim()))

    def square_sum(a, dims, keep):
        return (a * a).sum(dims, keepdim=keep)

    def product(a, dims, keep):
        for dim in sorted((dim % a.dim() for dim in dims), reverse=True):
            a = a.prod(dim, keepdim=keep)
        return a

    ops = {
        "ReduceMean": (lambda a, d, k: a.mean(d, keepdim=k), x),
        "ReduceMax": (lambda a, d, k: torch.amax(a, d, keepdim=k), distinct),
        "ReduceMin": (lambda a, d, k: torch.amin(a, d, keepdim=k), distinct),
        "ReduceL1": (lambda a, d, k: a.abs().sum(d, keepdim=k), away),
        "ReduceLogSum": (lambda a, d, k: torch.log(a.sum(d, keepdim=k)), positive),
        "ReduceL2": (lambda a, d, k: torch.sqrt(square_sum(a, d, k)), x),
        "ReduceLogSumExp": (lambda a, d, k: torch.logsumexp(a, d, keepdim=k), x),
        "ReduceSumSquare": (square_sum, x),
        "ReduceProd": (product, lambda *shape: positive(*shape, lo=0.5, hi=1.5)),
        "ReduceSum": (lambda a, d, k: a.sum(d, keepdim=k), x),
    }
    variants = [
        ("axis1_keep", [1], 1), ("axis1", [1], 0), ("axis_last", [-1], 0), ("axes_many", [2, 0], 0),
        ("axes_many_keep", [-1, -2], 1), ("axis0", [0], 0), ("all", None, 0), ("all_keep", None, 1),
    ]
    for op, (fn, draw) in ops.items():
        for name, axes, keep in variants:
            def run(a, _axes=None, fn=fn, axes=axes, keep=keep):
                return fn(a, dims_of(axes, a), bool(keep))
            a = draw(2, 3, 4).dyn(0)
            if op == "ReduceSum":
                case(f"{op}_{name}", [a] + ([ints(*axes)] if axes else []), run, keepdims=keep)
                continue
            more = {"axes": axes} if axes else {}
            case(f"{op}_{name}", [a], run, keepdims=keep, **more)
            if name in ("axis1", "axes_many_keep", "all"):
                case(f"{op}_18_{name}", [a] + ([ints(*axes)] if axes else []), run, opset=18, keepdims=keep)
    for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceLogSumExp"):
        fn, draw = ops[op]
        for keep in (0, 1):  # the axes are not known before the run
            case(f"{op}_18_axes_at_run_time_keep{keep}", [draw(2, 3, 4).dyn(0), i64([1, -1])],
                 lambda a, _, fn=fn, keep=keep: fn(a, (1, 2), bool(keep)), opset=18, keepdims=keep)
    case("ReduceProd_zeros", [floats([[1.5, 2.0, -0.5], [0.0, 2.0, -1.5], [0.0, 0.0, 1.0]])],
         lambda a: a.prod(1), axes=[1], keepdims=0)
    tied = floats([[1.0, 2.0, 2.0], [-1.0, -1.0, -1.5]])
    case("ReduceMax_ties", [tied], lambda a: torch.amax(a, 1, keepdim=True), kink=True, axes=[1])
    case("ReduceMin_ties", [tied], lambda a: torch.amin(a, 0), kink=True, axes=[0], keepdims=0)
    case("ReduceL2_at_zero", [floats([[0.0, 0.0], [3.0, 4.0]])], lambda a: torch.linalg.vector_norm(a, dim=1),
         kink=True, axes=[1], keepdims=0)
    case("ReduceMax_18_noop", [x(2, 3).dyn(0)], torch.clone, opset=18, noop_with_empty_axes=1)
    case("CumSum", [x(2, 4).dyn(0), int_scalar(1)], lambda a, _: a.cumsum(1))
    case("CumSum_axis0_reverse", [x(3, 2), int_scalar(0)], lambda a, _: a.flip(0).cumsum(0).flip(0), reverse=1)
    case("CumSum_exclusive", [x(2, 4).dyn(0), int_scalar(-1)], lambda a, _: a.cumsum(1) - a, exclusive=1)
    case("ReduceMean_default", [x(2, 3, 2).dyn(0)], lambda a: a.mean((0, 1, 2), keepdim=True))
    case("ReduceMean_dynamic", [x(2, 3, 4).dyn(0, 1)], lambda a: a.mean(1), axes=[1], keepdims=0)
    case("ReduceSum_noop", [x(2, 3).dyn(0)], torch.clone, noop_with_empty_axes=1)
    case("ReduceSum_noop_empty_axes", [x(2, 3).dyn(0), ints()], lambda a, _: a.clone(), noop_with_empty_axes=1)
    case("ReduceMean_18_noop", [x(2, 3).dyn(0)], torch.clone, opset=18, noop_with_empty_axes=1)


def shape():
    for axis, name in ((0, "axis0"), (1, "axis1"), (2, "axis2"), (-1, "axis_last"), (3, "axis_rank")):
        def flatten(a, axis=axis):
            axis = axis if axis >= 0 else axis + a.dim()
            return a.reshape(math.prod(a.shape[:axis]), -1) if axis else a.reshape(1, -1)
        case(f"Flatten_{name}", [x(2, 3, 4).dyn(0)], flatten, axis=axis)
    case("Flatten_default", [x(2, 3, 2, 2).dyn(0)], lambda a: a.reshape(2, 12))
    case("Reshape_minus_one", [x(2, 3, 4).dyn(0), ints(-1, 6)], lambda a, s: a.reshape(-1, 6))
    case("Reshape_zero", [x(2, 3, 4).dyn(0), ints(0, -1)], lambda a, s: a.reshape(2, -1))
    case("Reshape_heads", [x(2, 3, 8).dyn(0, 1), ints(0, 0, 2, 4)], lambda a, s: a.reshape(2, 3, 2, 4))
    case("Reshape_scalar", [x(1, 1), In(kind="const_int64", needs_grad=False, value=np.zeros(0, np.int64))],
         lambda a, s: a.reshape(()))
    case("Reshape_fixed", [x(2, 6), ints(3, 4)], lambda a, s: a.reshape(3, 4))
    case("Transpose_default", [x(2, 3, 4).dyn(0)], lambda a: a.permute(2, 1, 0))
    case("Transpose_cycle", [x(2, 3, 4).dyn(0)], lambda a: a.permute(1, 2, 0), perm=[1, 2, 0])
    case("Transpose_heads", [x(2, 3, 2, 4).dyn(0, 1)], lambda a: a.permute(0, 2, 1, 3), perm=[0, 2, 1, 3])
    case("Squeeze_axis1", [x(3, 1, 4).dyn(0), ints(1)], lambda a, s: a.squeeze(1))
    case("Squeeze_negative", [x(3, 1, 4, 1).dyn(0), ints(-1, 1)], lambda a, s: a.reshape(3, 4))
    case("Squeeze_no_axes", [x(3, 1, 4, 1)], lambda a: a.reshape(3, 4))
    case("Unsqueeze_axis1", [x(3, 4).dyn(0), ints(1)], lambda a, s: a[:, None])
    case("Unsqueeze_many", [x(3, 4).dyn(0), ints(3, 0)], lambda a, s: a[None, :, :, None])
    case("Unsqueeze_negative", [x(3, 4).dyn(0), ints(-1, 1)], lambda a, s: a[:, None, :, None])
    case("Expand_left", [x(3, 1).dyn(0), ints(2, 1, 4)], lambda a, s: a.expand(2, 3, 4))
    case("Expand_same_rank", [x(3, 1, 2).dyn(0), ints(1, 4, 1)], lambda a, s: a.expand(3, 4, 2))
    case("Expand_scalar", [x(), ints(2, 3)], lambda a, s: a.expand(2, 3))
    case("Expand_lower_rank", [x(2, 3, 4).dyn(0), ints(4)], lambda a, s: a.clone())
    case("Trilu_upper", [x(2, 3, 4).dyn(0)], torch.triu)
    case("Trilu_lower", [x(3, 4), int_scalar(1)], lambda a, k: a.tril(1), upper=0)
    case("Concat_axis0", [x(2, 3), x(1, 3), x(3, 3)], lambda *a: torch.cat(a, 0), axis=0)
    case("Concat_axis0_dynamic", [x(2, 3).dyn(0), x(1, 3).dyn(0), x(3, 3)], lambda *a: torch.cat(a, 0), axis=0)
    case("Concat_axis1", [x(2, 3).dyn(0), x(2, 1).dyn(0), x(2, 4).dyn(0)], lambda *a: torch.cat(a, 1), axis=1)
    case("Concat_axis_last", [x(2, 3, 2).dyn(0), x(2, 3, 1).dyn(0), x(2, 3, 3).dyn(0)], lambda *a: torch.cat(a, -1),
         axis=-1)
    case("Concat_dynamic_along_axis", [x(2, 3).dyn(0, 1), x(2, 4).dyn(0, 1)], lambda *a: torch.cat(a, 1), axis=1)
    case("Concat_frozen_part", [x(2, 3).dyn(0), x(2, 1).dyn(0).frozen(), x(2, 2).dyn(0)], lambda *a: torch.cat(a, 1),
         axis=1)
    case("Concat_one", [x(2, 3).dyn(0)], torch.clone, axis=1)
    case("Split_equal", [x(2, 6).dyn(0)], lambda a: a.split(2, 1), axis=1)  # opset 13: as many as there are outputs
    CASES[-1]["outputs"] = 3
    case("Split_uneven", [x(2, 6).dyn(0), ints(1, 3, 2)], lambda a, s: a.split([1, 3, 2], 1), axis=1)
    case("Split_axis_last", [x(2, 2, 5).dyn(0), ints(2, 3)], lambda a, s: a.split([2, 3], -1), axis=-1)
    case("Split_axis0", [x(5, 2), ints(2, 3)], lambda a, s: a.split([2, 3], 0))
    case("Split_unused", [x(2, 6).dyn(0), ints(1, 3, 2)], lambda a, s: a.split([1, 3, 2], 1), unused=(1,), axis=1)
    case("Split_unused_first", [x(2, 6).dyn(0), ints(1, 3, 2)], lambda a, s: a.split([1, 3, 2], 1), unused=(0, 2),
         axis=1)
    case("Split_18_num_outputs", [x(2, 6).dyn(0)], lambda a: a.split(2, 1), opset=18, axis=1, num_outputs=3)
    case("Split_18_num_outputs_uneven", [x(2, 7).dyn(0)], lambda a: a.split(3, 1), opset=18, axis=1, num_outputs=3)
    case("Tile", [x(2, 3).dyn(0), ints(2, 3)], lambda a, r: a.repeat(2, 3))
    case("Tile_run_time", [x(2, 1, 3).dyn(0, 2), i64([1, 4, 2])], lambda a, r: a.repeat(1, 4, 2))

    def to_space(a, order):  # the channel as its parts (a: rows of the block, b: columns, c: channels), in ONNX's words
        n, c, h, w = a.shape
        parts = {"DCR": (n, 2, 2, c // 4, h, w), "CRD": (n, c // 4, 2, 2, h, w)}[order]
        perm = {"DCR": (0, 3, 4, 1, 5, 2), "CRD": (0, 1, 4, 2, 5, 3)}[order]
        return a.reshape(parts).permute(perm).reshape(n, c // 4, 2 * h, 2 * w)

    def to_depth(a):
        n, c, h, w = a.shape
        return a.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, 4 * c, h // 2, w // 2)

    case("DepthToSpace", [x(1, 8, 2, 3).dyn(0)], lambda a: to_space(a, "DCR"), blocksize=2)
    case("DepthToSpace_crd", [x(1, 8, 2, 3).dyn(0)], lambda a: to_space(a, "CRD"), blocksize=2, mode="CRD")
    case("DepthToSpace_crd_dynamic", [x(2, 8, 1, 3).dyn(0, 2, 3)], lambda a: to_space(a, "CRD"), blocksize=2,
         mode="CRD")
    case("SpaceToDepth", [x(1, 2, 4, 6).dyn(0)], to_depth, blocksize=2)


def index():
    case("Slice_plain", [x(4, 5), ints(1, 0), ints(3, 4)], lambda a, *_: a[1:3, 0:4])
    case("Slice_axes", [x(3, 4, 5).dyn(0), ints(1, 2), ints(3, 5), ints(1, 2)], lambda a, *_: a[:, 1:3, 2:5])
    case("Slice_step2", [x(3, 7).dyn(0), ints(1), ints(7), ints(1), ints(2)], lambda a, *_: a[:, 1:7:2])
    case("Slice_step3_remainder", [x(3, 8).dyn(0), ints(0), ints(FAR), ints(1), ints(3)], lambda a, *_: a[:, ::3])
    case("Slice_negative_step", [x(3, 6).dyn(0), ints(-1), ints(-FAR), ints(1), ints(-1)], lambda a, *_: a.flip(1))
    case("Slice_negative_step2", [x(3, 6).dyn(0), ints(4), ints(0), ints(-1), ints(-2)],
         lambda a, *_: a[:, [4, 2]])
    case("Slice_negative_indices", [x(3, 6).dyn(0), ints(-4), ints(-1), ints(-1)], lambda a, *_: a[:, 2:5])
    case("Slice_to_the_end", [x(3, 6).dyn(0), ints(2), ints(FAR), ints(1)], lambda a, *_: a[:, 2:])
    case("Slice_dynamic_axis", [x(2, 5, 3).dyn(0, 1), ints(0), ints(1), ints(1)], lambda a, *_: a[:, 0:1])
    case("Slice_batch_axis", [x(5, 3).dyn(0), ints(1), ints(FAR), ints(0)], lambda a, *_: a[1:])
    case("Slice_default_axes", [x(4, 5), ints(0, 1), ints(4, 5), NONE, ints(2, 1)], lambda a, *_: a[0:4:2, 1:])
    case("Slice_dynamic_front", [x(2, 5).dyn(0, 1), ints(-2), ints(FAR), ints(1)], lambda a, *_: a[:, -2:])
    case("Slice_dynamic_back", [x(2, 5).dyn(0, 1), ints(0), ints(-1), ints(1)], lambda a, *_: a[:, :-1])
    case("Slice_dynamic_middle", [x(2, 5).dyn(0, 1), ints(1), ints(-1), ints(1)], lambda a, *_: a[:, 1:-1])
    case("Slice_dynamic_from_the_end", [x(2, 5).dyn(0, 1), ints(-3), ints(-1), ints(1)], lambda a, *_: a[:, -3:-1])
    case("Slice_dynamic_step2", [x(2, 5, 2).dyn(0, 1), ints(1), ints(FAR), ints(1), ints(2)], lambda a, *_: a[:, 1::2])
    case("Slice_run_time", [x(2, 5).dyn(0), i64([1]), i64([4]), i64([1])], lambda a, *_: a[:, 1:4])
    case("Slice_run_time_all", [x(2, 5).dyn(0), i64([0, 4]), i64([2, 0]), i64([0, 1]), i64([1, -2])],
         lambda a, *_: a[:, [4, 2]])
    case("Slice_beyond", [x(3, 4).dyn(0), ints(1), ints(100), ints(1)], lambda a, *_: a[:, 1:])

    table = [[0, 3], [2, 0]]
    case("Gather_axis0", [x(5, 3), i64(table)], lambda a, i: a[i])
    case("Gather_axis0_const", [x(5, 3), ints(4, 1)], lambda a, i: a[i], axis=0)
    case("Gather_axis1", [x(2, 4, 3).dyn(0), i64([3, 1])], lambda a, i: a[:, i], axis=1)
    case("Gather_axis_last", [x(2, 3, 4).dyn(0), i64(table)], lambda a, i: a[:, :, i], axis=-1)
    case("Gather_negative", [x(5, 3), i64([-1, -5, 2])], lambda a, i: a[i], axis=0)
    case("Gather_duplicates", [x(5, 3), i64([2, 2, 0, 2])], lambda a, i: a[i], axis=0)
    case("Gather_negative_duplicates_axis1", [x(2, 4).dyn(0), i64([-1, 3, 0])], lambda a, i: a[:, i], axis=1)
    case("Gather_scalar", [x(2, 4, 3).dyn(0), int_scalar(0)], lambda a, i: a[:, 0], axis=1)
    case("Gather_scalar_negative", [x(2, 4).dyn(0), int_scalar(-1)], lambda a, i: a[:, -1], axis=1)
    case("Gather_scalar_axis0", [x(3, 2, 2), int_scalar(1)], lambda a, i: a[1], axis=0)
    case("Gather_vector", [x(6), i64([[5, 0], [1, 1]])], lambda a, i: a[i])
    case("Gather_one", [x(2, 4, 3).dyn(0), ints(2)], lambda a, i: a[:, 2:3], axis=1)
    case("Gather_one_of_matrix", [x(2, 4).dyn(0), In(kind="const_int64", needs_grad=False, value=np.array([[2]]))],
         lambda a, i: a[:, 2].reshape(2, 1, 1), axis=1)
    case("Gather_dynamic_axis_negative", [x(2, 5, 3).dyn(0, 1), int_scalar(-2)], lambda a, i: a[:, -2], axis=1)
    case("Gather_dynamic_axis_many", [x(2, 5, 3).dyn(0, 1), i64([1, -1, 1])], lambda a, i: a[:, i], axis=1)
    case("Gather_run_time_scalar", [x(2, 4, 3).dyn(0), i64(-1)], lambda a, i: a[:, -1], axis=1)
    case("Gather_dynamic_axis", [x(2, 5, 3).dyn(0, 1), int_scalar(0)], lambda a, i: a[:, 0], axis=1)

    case("GatherElements", [x(3, 3).dyn(0), i64([[0, 2, 2], [1, 1, 1], [2, 0, 1]])], lambda a, i: a.gather(1, i), axis=1)
    case("GatherElements_axis0", [x(3, 2), i64([[0, -1], [0, 1]])], lambda a, i: a.gather(0, i % 3))

    case("Pad_constant", [x(2, 3).dyn(0), ints(0, 1, 0, 2), const(1.5)], lambda a, *_: F.pad(a, (1, 2), value=1.5),
         mode="constant")
    case("Pad_default", [x(2, 2, 2, 3).dyn(0), ints(0, 0, 1, 0, 0, 0, 1, 2)], lambda a, *_: F.pad(a, (0, 2, 1, 1)))
    case("Pad_negative", [x(2, 5).dyn(0), ints(0, -1, 0, -2)], lambda a, *_: F.pad(a, (-1, -2)))
    case("Pad_mixed_sign", [x(2, 5).dyn(0), ints(0, 2, 0, -2)], lambda a, *_: F.pad(a, (2, -2)))
    case("Pad_edge", [x(1, 2, 2, 3).dyn(0), ints(0, 0, 1, 2, 0, 0, 1, 1)],
         lambda a, *_: F.pad(a, (2, 1, 1, 1), mode="replicate"), mode="edge")
    case("Pad_reflect", [x(1, 2, 3, 4).dyn(0), ints(0, 0, 1, 2, 0, 0, 2, 1)],
         lambda a, *_: F.pad(a, (2, 1, 1, 2), mode="reflect"), mode="reflect")
    case("Pad_wrap", [x(1, 2, 3).dyn(0), ints(0, 0, 2, 0, 0, 1)], lambda a, *_: F.pad(a, (2, 1), mode="circular"),
         opset=19, mode="wrap")
    case("Pad_reflect_dynamic", [x(1, 2, 4).dyn(0, 2), ints(0, 0, 1, 0, 0, 2)],
         lambda a, *_: F.pad(a, (1, 2), mode="reflect"), mode="reflect")
    case("Pad_18_axes_edge", [x(1, 2, 3).dyn(0), ints(1, 2), NONE, ints(2)],
         lambda a, *_: F.pad(a, (1, 2), mode="replicate"), opset=18, mode="edge")
    case("Pad_run_time", [x(2, 3).dyn(0), i64([0, 1, 0, 2])], lambda a, *_: F.pad(a, (1, 2)))
    case("Pad_18_axes", [x(2, 3, 2).dyn(0), ints(1, 2), NONE, ints(1)], lambda a, *_: F.pad(a, (0, 0, 1, 2)), opset=18)


def transposed():
    def transpose_case(name, xs, ws, bias=True, dynamic=(0,), **attributes):
        n = len(ws) - 2
        group = attributes.get("group", 1)
        pads = attributes.get("pads", [0] * 2 * n)
        extra = attributes.get("output_padding", [0] * n)
        conv_n = F.conv_transpose1d if n == 1 else F.conv_transpose2d

        def fn(a, w, b=None):
            # Without padding, then the padding cut off: PyTorch's padding is symmetric.
            y = conv_n(a, w, None, stride=attributes.get("strides", 1), groups=group,
                       dilation=attributes.get("dilations", 1))
            y = F.pad(y, [width for i in reversed(range(n)) for width in (-pads[i], extra[i] - pads[n + i])])
            return y if b is None else y + b.view([1, -1] + [1] * n)

        inputs = [x(*xs).dyn(*dynamic), x(*ws)] + ([x(ws[1] * group)] if bias else [])
        case(f"ConvTranspose_{name}", inputs, fn, **attributes)

    transpose_case("3x3", (2, 2, 3, 2), (2, 2, 3, 3), kernel_shape=[3, 3])
    transpose_case("2x2_stride2", (2, 3, 2, 3), (3, 2, 2, 2), kernel_shape=[2, 2], strides=[2, 2])
    transpose_case("no_attributes", (2, 2, 3, 2), (2, 3, 2, 2), bias=False)
    transpose_case("stride2_output_padding", (1, 2, 3, 3), (2, 2, 3, 3), kernel_shape=[3, 3], strides=[2, 2],
                   pads=[1, 1, 1, 1], output_padding=[1, 1])
    transpose_case("asymmetric_pads", (1, 2, 3, 4), (2, 2, 3, 3), kernel_shape=[3, 3], pads=[0, 1, 2, 1])
    transpose_case("dilation2_stride3", (1, 2, 2, 3), (2, 2, 2, 2), kernel_shape=[2, 2], dilations=[2, 1],
                   strides=[3, 2], pads=[1, 0, 0, 1])
    transpose_case("groups2", (2, 4, 2, 2), (4, 2, 2, 2), kernel_shape=[2, 2], group=2)
    transpose_case("groups2_stride2", (1, 4, 2, 3), (4, 2, 3, 3), kernel_shape=[3, 3], group=2, strides=[2, 2],
                   pads=[1, 1, 1, 1], output_padding=[1, 0])
    transpose_case("depthwise_stride2", (1, 3, 3, 2), (3, 1, 2, 2), kernel_shape=[2, 2], group=3, strides=[2, 2])
    transpose_case("1d", (2, 3, 4), (3, 2, 3), kernel_shape=[3], strides=[2], pads=[1, 1])
    transpose_case("dynamic", (2, 2, 3, 2), (2, 2, 3, 3), dynamic=(0, 2, 3), kernel_shape=[3, 3], strides=[2, 2],
                   pads=[1, 1, 1, 1], output_padding=[1, 1])
    transpose_case("dynamic_groups2", (1, 4, 2, 3), (4, 2, 2, 2), dynamic=(0, 2, 3), kernel_shape=[2, 2], group=2)


def instance():
    def group_norm(groups, eps=1e-5):
        def fn(a, scale, bias):
            apart = a.reshape(a.shape[0], groups, -1)
            m = apart.mean(2, keepdim=True)
            v = ((apart - m) ** 2).mean(2, keepdim=True)
            normal = ((apart - m) / torch.sqrt(v + eps)).reshape(a.shape)
            each = lambda p: p.repeat_interleave(a.shape[1] // p.shape[0]).view([1, -1] + [1] * (a.dim() - 2))
            return normal * each(scale) + each(bias)
        return fn

    case("InstanceNormalization", [x(2, 3, 2, 3).dyn(0), x(3), x(3)], group_norm(3))
    case("InstanceNormalization_epsilon", [x(2, 2, 5).dyn(0), x(2), x(2)], group_norm(2, 0.125), epsilon=0.125)
    case("InstanceNormalization_dynamic", [x(2, 3, 2, 3).dyn(0, 2, 3), x(3), x(3)], group_norm(3))
    case("InstanceNormalization_frozen_scale", [x(2, 3, 4).dyn(0), const_x(3), x(3)], group_norm(3))
    case("InstanceNormalization_only_scale", [x(2, 3, 4).dyn(0).frozen(), x(3), x(3)], group_norm(3))
    case("GroupNormalization_21", [x(2, 4, 2, 2).dyn(0), x(4), x(4)], group_norm(2), opset=21, num_groups=2)
    case("GroupNormalization_21_epsilon", [x(2, 6, 3).dyn(0, 2), x(6), x(6)], group_norm(3, 0.125), opset=21,
         num_groups=3, epsilon=0.125)

    def lp(p, axis):
        return lambda a: a / (a.abs() ** p).sum(axis, keepdim=True) ** (1 / p)

    case("LpNormalization", [x(3, 4).dyn(0)], lp(2, -1))
    case("LpNormalization_axis1", [x(2, 3, 2).dyn(0)], lp(2, 1), axis=1, p=2)
    case("LpNormalization_p1", [away(3, 4).dyn(0)], lp(1, -1), p=1)
    case("LpNormalization_p1_axis1", [away(2, 3, 2).dyn(0, 1)], lp(1, 1), p=1, axis=1)

    def of_nothing(length):
        """x over its length, 0 where that is 0, and nothing flows."""
        def fn(a):
            empty = length(a) == 0
            return torch.where(empty, torch.zeros_like(a), a / length(torch.where(empty, torch.ones_like(a), a)))
        return fn

    zeros = floats([[0.0, 0.0], [3.0, -4.0]])
    case("LpNormalization_of_zeros", [zeros], of_nothing(lambda a: (a * a).sum(-1, keepdim=True).sqrt()), kink=True)
    case("LpNormalization_p1_of_zeros", [zeros], of_nothing(lambda a: a.abs().sum(-1, keepdim=True)), p=1, kink=True)

    def pool(p):
        return lambda a: (a.abs() ** p).sum((2, 3), keepdim=True) ** (1 / p)

    case("GlobalLpPool", [x(2, 3, 2, 3).dyn(0)], pool(2))
    case("GlobalLpPool_p1", [away(2, 3, 2, 3).dyn(0)], pool(1), p=1)
    case("GlobalLpPool_p3", [away(2, 3, 2, 3).dyn(0, 2)], pool(3), p=3)

    def pool_of_nothing(a):
        empty = (a == 0).all(-1, keepdim=True).all(-2, keepdim=True)
        return torch.where(empty, torch.zeros_like(a[..., :1, :1]), pool(2)(torch.where(empty, torch.ones_like(a), a)))

    case("GlobalLpPool_of_zeros", [floats([[[[0.0, 0.0]], [[3.0, -4.0]]]])], pool_of_nothing, kink=True)


def resize():
    def scaled(*scales):
        return [NONE, const(list(scales))]

    def to_size(*size):
        return [NONE, NONE, ints(*size)]

    def rest(fn):  # the other inputs are not for PyTorch
        return lambda a, *_: fn(a)

    def interpolated(**how):
        return rest(lambda a: F.interpolate(a, **how))

    def linear(a, axis, count, place):  # along one axis, each element of y lying at `place` of x
        n = a.shape[axis]
        rows = torch.zeros(count, n, dtype=a.dtype)
        for i in range(count):
            at = min(max(place(i), 0.0), n - 1.0)
            low = math.floor(at)
            rows[i, low] += 1 - (at - low)
            rows[i, min(low + 1, n - 1)] += at - low
        return torch.tensordot(a, rows, ([axis], [1])).movedim(-1, axis)

    up2 = dict(scale_factor=2.0)
    case("Resize_nearest2", [x(2, 2, 2, 3).dyn(0), *scaled(1, 1, 2, 2)], interpolated(mode="nearest", **up2),
         mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    case("Resize_nearest2_default", [x(2, 2, 2, 3).dyn(0), *scaled(1, 1, 2, 2)],
         interpolated(mode="nearest-exact", **up2))
    case("Resize_nearest_dynamic", [x(2, 1, 2, 3).dyn(0, 2, 3), *scaled(1, 1, 3, 2)],
         rest(lambda a: a.repeat_interleave(3, 2).repeat_interleave(2, 3)), mode="nearest",
         coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    case("Resize_nearest_1d", [x(2, 2, 3).dyn(0), *scaled(1, 1, 3)], interpolated(scale_factor=3.0), mode="nearest",
         coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil")
    case("Resize_nearest_down", [x(1, 2, 4, 6).dyn(0), *scaled(1, 1, 0.5, 0.5)],
         interpolated(scale_factor=0.5, mode="nearest"), mode="nearest", coordinate_transformation_mode="asymmetric",
         nearest_mode="floor")
    case("Resize_nearest_ceil", [x(2, 1, 2, 3).dyn(0), *scaled(1, 1, 1, 2)],
         rest(lambda a: a[..., [0, 1, 1, 2, 2, 2]]), mode="nearest", coordinate_transformation_mode="asymmetric",
         nearest_mode="ceil")
    case("Resize_nearest_sizes", [x(2, 1, 2, 3), *to_size(2, 1, 4, 5)], interpolated(size=(4, 5), mode="nearest"),
         mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    # Three elements at 0, ¾, 1½ and 2¼: what lies between two of them is rounded up or down.
    for rounding, picked in (("round_prefer_ceil", [0, 1, 2, 2]), ("round_prefer_floor", [0, 1, 1, 2])):
        case(f"Resize_nearest_{rounding}", [x(2, 1, 3), *to_size(2, 1, 4)], rest(lambda a, p=picked: a[..., p]),
             mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode=rounding)
    case("Resize_nearest_align_corners", [x(2, 1, 3), *to_size(2, 1, 6)], rest(lambda a: a[..., [0, 0, 1, 1, 2, 2]]),
         mode="nearest", coordinate_transformation_mode="align_corners")
    case("Resize_linear_to_one", [x(2, 2, 3), *to_size(2, 2, 1)], rest(lambda a: a[..., :1]), mode="linear",
         coordinate_transformation_mode="align_corners")
    case("Resize_linear_symmetric", [x(2, 1, 3), *scaled(1, 1, 1.5)],
         rest(lambda a: linear(a, 2, 4, lambda i: 1.5 * (1 - 4 / 4.5) + (i + 0.5) / 1.5 - 0.5)), mode="linear", opset=19,
         coordinate_transformation_mode="half_pixel_symmetric")
    case("Resize_linear2", [x(2, 2, 2, 3).dyn(0), *scaled(1, 1, 2, 2)],
         interpolated(mode="bilinear", align_corners=False, **up2), mode="linear")
    case("Resize_linear_pytorch", [x(2, 1, 2, 3).dyn(0), *scaled(1, 1, 2, 3)],
         interpolated(mode="bilinear", align_corners=False, scale_factor=(2.0, 3.0)), mode="linear",
         coordinate_transformation_mode="pytorch_half_pixel")
    case("Resize_linear_align_corners", [x(2, 1, 2, 3), *to_size(2, 1, 4, 5)],
         interpolated(mode="bilinear", align_corners=True, size=(4, 5)), mode="linear",
         coordinate_transformation_mode="align_corners")
    case("Resize_linear_asymmetric", [x(2, 2, 2, 3).dyn(0), *scaled(1, 1, 2, 2)],
         rest(lambda a: linear(linear(a, 2, 4, lambda i: i / 2), 3, 6, lambda i: i / 2)), mode="linear",
         coordinate_transformation_mode="asymmetric")
    case("Resize_linear_down", [x(1, 1, 6, 4).dyn(0), *scaled(1, 1, 0.5, 0.75)],
         rest(lambda a: linear(linear(a, 2, 3, lambda i: (i + 0.5) * 2 - 0.5), 3, 3,
                               lambda i: (i + 0.5) / 0.75 - 0.5)), mode="linear")
    case("Resize_linear_3d", [x(1, 1, 2, 2, 3).dyn(0), *scaled(1, 1, 2, 1, 2)],
         interpolated(mode="trilinear", align_corners=False, scale_factor=(2.0, 1.0, 2.0)), mode="linear")
    case("Resize_18_axes", [x(2, 2, 2, 3).dyn(0), *scaled(2, 2)], interpolated(mode="nearest", **up2), opset=18,
         axes=[2, 3], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def scatter():
    case("GatherND", [x(3, 4), i64([[0, 1], [2, 3], [0, 1]])], lambda a, i: a[i[:, 0], i[:, 1]])
    case("GatherND_slices", [x(3, 2, 2).dyn(0), i64([[1], [0], [1]])], lambda a, i: a[i[:, 0]])
    case("GatherND_batch", [x(2, 3, 2).dyn(0), i64([[1], [2]])], lambda a, i: a[[0, 1], i[:, 0]], batch_dims=1)

    def put(a, index, u, add=False):
        return a.index_put(index, u, accumulate=add)

    case("ScatterND", [x(4, 3), i64([[0], [2]]), x(2, 3)], lambda a, i, u: put(a, (i[:, 0],), u))
    case("ScatterND_elements", [x(3, 4).dyn(0), i64([[0, 1], [2, 3]]), x(2)],
         lambda a, i, u: put(a, (i[:, 0], i[:, 1]), u))
    case("ScatterND_add", [x(4, 3).dyn(0), i64([[0], [2]]), x(2, 3)], lambda a, i, u: put(a, (i[:, 0],), u, True),
         reduction="add")
    case("ScatterND_frozen_data", [const_x(4, 3), i64([[0], [2]]), x(2, 3)], lambda a, i, u: put(a, (i[:, 0],), u))
    case("ScatterND_frozen_updates", [x(4, 3), i64([[0], [2]]), const_x(2, 3)],
         lambda a, i, u: put(a, (i[:, 0],), u))
    case("ScatterElements", [x(3, 3).dyn(0), i64([[0, 2], [1, 0]]), x(2, 2)], lambda a, i, u: a.scatter(1, i, u),
         axis=1)
    case("ScatterElements_axis0", [x(3, 2), i64([[0, -1], [2, 1]]), x(2, 2)], lambda a, i, u: a.scatter(0, i % 3, u))
    case("ScatterElements_add", [x(3, 3).dyn(0), i64([[0, 0], [1, 2]]), x(2, 2)],
         lambda a, i, u: a.scatter_add(1, i, u), axis=1, reduction="add")

    def top(k, dim=-1, largest=True):
        return lambda a, _: torch.topk(a, k, dim, largest)

    case("TopK", [distinct(3, 5).dyn(0), ints(2)], top(2), unused=(1,))
    case("TopK_smallest_axis1", [distinct(2, 4, 3).dyn(0), ints(3)], top(3, 1, False), unused=(1,), axis=1, largest=0)


# ------------------------------------------------------------------------------------------------- running the table

PROTO = {"float": TensorProto.FLOAT, "double": TensorProto.DOUBLE, "int64": TensorProto.INT64, "int32": TensorProto.INT32,
         "bool": TensorProto.BOOL, "uint8": TensorProto.UINT8, "int8": TensorProto.INT8,
         "uint16": TensorProto.UINT16, "int16": TensorProto.INT16}


def output_kinds(c, ys):
    if isinstance(c["out"], list):
        return c["out"]
    return [c["out"] if y.is_floating_point() else str(y.dtype).removeprefix("torch.") for y in ys]


def onnx_outputs(c, arrays, ys):
    """What ONNX Runtime makes of the node as the table describes it, in float32."""
    infos, initializers, feeds, names = [], [], {}, []
    for n, (spec, array) in enumerate(zip(c["inputs"], arrays)):
        name = "" if spec.kind == "none" else f"x{n}"
        names.append(name)
        if not name:
            continue
        base = spec.kind.removeprefix("const_")
        array = np.asarray(array, {"float": np.float32, "int32": np.int32, "uint8": np.uint8,
                                    "int8": np.int8, "uint16": np.uint16, "int16": np.int16}.get(base))
        if spec.kind.startswith("const_"):
            initializers.append(onnx.numpy_helper.from_array(np.asarray(array), name))
            continue
        dims = [f"d{d}" if axis in spec.dynamic else d for axis, d in enumerate(array.shape)]
        infos.append(helper.make_tensor_value_info(name, PROTO[base], dims))
        feeds[name] = array
    outs = [f"y{n}" for n in range(len(ys))]
    node = helper.make_node(c["op"], names, outs, domain=c["domain"], **c["attributes"])
    kinds = output_kinds(c, ys)
    out_infos = [helper.make_tensor_value_info(o, PROTO[kind], [None] * y.dim()) for o, kind, y in zip(outs, kinds, ys)]
    graph = helper.make_graph([node], c["name"], infos, out_infos, initializers)
    opsets = [helper.make_opsetid(c["domain"], c["opset"])] + ([helper.make_opsetid("", 17)] if c["domain"] else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    if c["op"] != "SimplifiedLayerNormalization":  # ONNX Runtime's own in the domain of ONNX
        onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # DynamicQuantizeLSTM rounds a batch as a whole in one thread, and sample by sample in several
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(outs, feeds)


def run_case(c):
    rng = np.random.default_rng(zlib.crc32(c["name"].encode()))
    arrays = [spec.make(rng) for spec in c["inputs"]]
    tensors = [None if a is None else torch.tensor(a, requires_grad=s.needs_grad) for s, a in zip(c["inputs"], arrays)]
    ys = c["fn"](*tensors)
    ys = [ys] if isinstance(ys, torch.Tensor) else list(ys)
    count = len(ys)
    assert c.get("outputs", count) == count, c["name"]
    saved = {f"x{n}": a for n, a in enumerate(arrays) if a is not None}
    loss = 0.0
    for n, y in enumerate(ys):
        saved[f"y{n}"] = y.detach().numpy() if y.dtype != torch.int32 else y.long().numpy()
        if n in c["unused"]:
            continue
        w = grid(rng.uniform(0.25, 1.0, tuple(y.shape)) * rng.choice([-1.0, 1.0], tuple(y.shape)))
        saved[f"w{n}"] = w
        loss = loss + (y * torch.tensor(w)).sum()
    loss.backward()
    for n, (spec, tensor) in enumerate(zip(c["inputs"], tensors)):
        if spec.needs_grad:
            saved[f"dx{n}"] = tensor.grad.numpy()
    for n, got in enumerate(onnx_outputs(c, arrays, ys)):
        want = saved[f"y{n}"]
        assert got.shape == want.shape, (c["name"], got.shape, want.shape)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=c["name"])
    for key, array in saved.items():
        assert array.size <= 200, (c["name"], key, array.shape)
        assert np.isfinite(array).all(), (c["name"], key)
    for n, spec in enumerate(c["inputs"]):
        if spec.needs_grad:
            nothing = c["kink"] and not saved[f"dx{n}"].any()
            assert nothing or np.abs(saved[f"dx{n}"]).max() > 1e-3, (c["name"], "a gradient of nothing proves nothing")
    return saved, output_kinds(c, ys)


def row(c, kinds):
    inputs = []
    for spec in c["inputs"]:
        entry = {"kind": spec.kind, "needs_grad": spec.needs_grad}
        if spec.dynamic:
            entry["dynamic_axes"] = spec.dynamic
        inputs.append(entry)
    made = {"name": c["name"], "op": c["op"], "domain": c["domain"], "opset": c["opset"],
            "attributes": c["attributes"], "inputs": inputs, "outputs": len(kinds), "output_kinds": kinds}
    return {**made, "kink": True} if c["kink"] else made


def write(name, *families):
    """Runs the cases of these families and writes ../NAME.json and ../NAME.npz."""
    torch.set_num_threads(1)
    for family in families:
        family()
    arrays, rows = {}, []
    wrong = 0
    for c in CASES:
        try:
            saved, kinds = run_case(c)
        except Exception as error:  # one run shows every mistake of the table
            print(f"{c['name']}: {error}")
            wrong += 1
            continue
        rows.append(row(c, kinds))
        arrays.update({f"{c['name']}/{key}": np.ascontiguousarray(a) if a.ndim else a for key, a in saved.items()})
    if wrong:
        raise SystemExit(f"{wrong} cases are wrong; nothing written")
    np.savez_compressed(OUT / f"{name}.npz", **arrays)
    lines = ",\n".join(json.dumps(r) for r in rows)
    (OUT / f"{name}.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(rows)} cases, {len(arrays)} arrays, {(OUT / f'{name}.npz').stat().st_size} bytes")


if __name__ == "__main__":
    write("grad", linear, elementwise, activation, trigonometric, conv, pool, norm, rotary, attention, reduce, shape,
          index, transposed, instance, resize, scatter)
