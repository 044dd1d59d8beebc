"""Writes ../grad_quant.json and ../grad_quant.npz: cases as those of grad.py, of quantised arithmetic.

What rounds has PyTorch's straight-through gradient (`FakeQuantize`: the identity where nothing was clipped, else zero);
weights in blocks are dequantised in float64. Integers of 8 bits are kept as float64, so that they can have gradients. Signed
weights stay within 7 bits: beyond, ONNX Runtime's product of unsigned and signed bytes saturates on x86 without VNNI.

Usage: python grad_quant.py
"""

import numpy as np
import torch
import torch.nn.functional as F

from grad import NONE, In, case, const, const_x, floats, write, x

MS = dict(opset=1, domain="com.microsoft")


def whole(kind, value, learns=False):
    return In(kind=kind, needs_grad=learns, value=np.asarray(value, np.float64))


def u8(value, **more):
    return whole("uint8", value, **more)


def i8(value, **more):
    return whole("int8", value, **more)


def const_u8(value):
    return whole("const_uint8", value)


def const_i8(value):
    return whole("const_int8", value)


def drawn(seed, lo, hi, *shape):
    return np.random.default_rng(seed).integers(lo, hi, shape, endpoint=True)


def clipped(a, scale, zero, lo, hi):
    """clip(round(a / scale) + zero) with the gradient of a / scale where nothing was clipped."""
    rounded = torch.round(a / scale) + zero
    inside = ((rounded >= lo) & (rounded <= hi)).double()
    real = a / scale * inside
    return real + (rounded.clamp(lo, hi) - real).detach()


def activations():
    row = const(np.linspace(0.011, 0.017, 4))
    for domain in ("", "com.microsoft"):
        name = f"{domain}.".lstrip(".")
        more = dict(MS) if domain else {}
        q = dict(kink=True, **more)
        # A scale of 0.0107 clips beyond 1.36; the inputs reach 2.
        case(f"{name}QuantizeLinear", [x(3, 4).dyn(0), const(0.0107), const_i8(3)],
             lambda a, s, z: clipped(a, s, z, -128, 127), out="int8", **q)
        case(f"{name}QuantizeLinear_unsigned", [x(3, 4).dyn(0), const(0.0107), const_u8(100)],
             lambda a, s, z: clipped(a, s, z, 0, 255), out="uint8", **q)
        case(f"{name}QuantizeLinear_axis", [x(2, 4, 3).dyn(0), row, const_i8([0, 5, -9, 1])],
             lambda a, s, z: clipped(a, s[:, None], z[:, None], -128, 127), out="int8", axis=1, **q)
        case(f"{name}DequantizeLinear", [i8(drawn(1, -128, 127, 3, 4), learns=True).dyn(0), const(0.125), const_i8(3)],
             lambda q, s, z: (q - z) * s, **q)
        case(f"{name}DequantizeLinear_axis", [u8(drawn(2, 0, 255, 3, 4), learns=True).dyn(0), row, const_u8([1, 9, 128, 0])],
             lambda q, s, z: (q - z) * s, axis=-1 if not domain else 1, **q)
    case("QuantizeLinear_no_zero", [x(3, 4).dyn(0), const(0.0107)], lambda a, s: clipped(a, s, 0, 0, 255), out="uint8",
         kink=True)
    # What rounds to the last number that a type holds passes; what rounds beyond it does not.
    edges = lambda lo, hi: floats([lo - 7, lo - 0.75, lo - 0.25, lo, lo + 0.75, 0.0, hi - 0.75, hi, hi + 0.25, hi + 0.75, hi + 7])
    for kind, lo, hi, opset in (("int8", -128, 127, 17), ("uint8", 0, 255, 17), ("int16", -32768, 32767, 21),
                                ("uint16", 0, 65535, 21)):
        case(f"QuantizeLinear_edges_{kind}", [edges(lo, hi), const(1.0), whole(f"const_{kind}", 0)],
             lambda a, s, z, lo=lo, hi=hi: clipped(a, s, z, lo, hi), out=kind, opset=opset, kink=True)
    case("QuantizeLinear_one", [x(3, 4).dyn(0), const([0.0107]), const_u8([128])],
         lambda a, s, z: clipped(a, s, z, 0, 255), out="uint8", kink=True)
    case("DequantizeLinear_no_zero", [i8(drawn(3, -128, 127, 3, 4), learns=True).dyn(0), const(0.125)], lambda q, s: q * s,
         kink=True)


def moved():
    """What only moves or picks elements has the gradient of floats for integers that stand for such."""
    q = dict(out="uint8", kink=True)
    case("Flatten_quantised", [u8(drawn(13, 0, 255, 2, 3, 2), learns=True).dyn(0)], lambda a: a.flatten(1), **q)
    case("Transpose_quantised", [u8(drawn(14, 0, 255, 2, 3, 2), learns=True).dyn(0)], lambda a: a.permute(0, 2, 1),
         perm=[0, 2, 1], **q)
    case("Concat_quantised", [u8(drawn(15, 0, 255, 2, 3), learns=True).dyn(0), u8(drawn(16, 0, 255, 2, 2), learns=True).dyn(0)],
         lambda a, b: torch.cat([a, b], 1), axis=1, **q)
    picked = np.random.default_rng(17).permutation(2 * 2 * 5 * 4).reshape(2, 2, 5, 4)
    case("MaxPool_quantised", [u8(picked, learns=True)], lambda a: F.max_pool2d(a, 2, 1), kernel_shape=[2, 2], **q)


def dynamic(a):
    """What `DynamicQuantizeLinear` computes, in float32 as it does."""
    low, high = a.min().clamp(max=0).float(), a.max().clamp(min=0).float()
    scale = (high - low) / np.float32(255.0)
    zero = torch.round(-low / scale).clamp(0, 255)
    scale, zero = scale.double().detach(), zero.double().detach()
    return clipped(a, scale, zero, 0, 255), scale, zero


def dynamics():
    case("DynamicQuantizeLinear", [x(3, 4).dyn(0)], dynamic, opset=11, unused=(1, 2), out=["uint8", "float", "uint8"],
         kink=True)
    case("DynamicQuantizeLinear_positive", [x(3, 4, lo=0.5).dyn(0)], dynamic, opset=11, unused=(1, 2),
         out=["uint8", "float", "uint8"], kink=True)

    weight, bytes_ = const_i8(drawn(4, -63, 63, 4, 5)), drawn(5, 0, 255, 3, 4)
    whole_numbers = dict(out="int32", kink=True)
    case("MatMulInteger", [u8(bytes_, learns=True).dyn(0), weight, const_u8(100), const_i8(3)],
         lambda a, b, z, w: (a - z) @ (b - w), **whole_numbers)
    case("MatMulInteger_no_zero", [u8(bytes_, learns=True).dyn(0), weight], lambda a, b: a @ b, **whole_numbers)
    case("MatMulInteger_batches", [u8(drawn(6, 0, 255, 2, 3, 4), learns=True).dyn(0, 1), weight, u8(17).frozen(), const_i8(3)],
         lambda a, b, z, w: (a - z) @ (b - w), **whole_numbers)
    case("MatMulInteger_columns", [u8(bytes_, learns=True).dyn(0), weight, const_u8(100), const_i8([1, 2, -3, 0, 7])],
         lambda a, b, z, w: (a - z) @ (b - w), **whole_numbers)
    case("MatMulInteger_both", [u8(drawn(7, 0, 255, 2, 3, 4), learns=True).dyn(0), u8(drawn(8, 0, 255, 2, 4, 3), learns=True).dyn(0),
                                const_u8(100), const_u8(3)],
         lambda a, b, z, w: (a - z) @ (b - w), **whole_numbers)
    case("MatMulInteger_both_matrices", [u8(bytes_, learns=True).dyn(0), u8(drawn(9, 0, 255, 4, 3), learns=True)],
         lambda a, b: a @ b, **whole_numbers)

    kernel = const_u8(drawn(10, 0, 255, 3, 2, 3, 3))
    image = u8(drawn(11, 0, 255, 1, 2, 5, 4), learns=True).dyn(0)
    case("ConvInteger", [image, kernel, const_u8(100), const_u8(130)],
         lambda a, w, z, v: F.conv2d(a - z, w - v, padding=1), pads=[1, 1, 1, 1], **whole_numbers)
    case("ConvInteger_strides", [image, kernel, const_u8(100)], lambda a, w, z: F.conv2d(a - z, w, stride=2),
         strides=[2, 2], **whole_numbers)
    case("ConvInteger_no_zero", [image, kernel], lambda a, w: F.conv2d(a, w), **whole_numbers)

    name = "com.microsoft.MatMulIntegerToFloat"
    scales = const(np.linspace(0.02, 0.05, 5))
    case(name, [u8(bytes_, learns=True).dyn(0), weight, const(0.125), const(0.03), const_u8(100), const_i8(3), x(5)],
         lambda a, b, s, t, z, w, c: (a - z) @ (b - w) * s * t + c, kink=True, **MS)
    case(f"{name}_columns", [u8(drawn(12, 0, 255, 2, 3, 4), learns=True).dyn(0, 1), weight, const(0.125), scales, const_u8(100)],
         lambda a, b, s, t, z: (a - z) @ b * s * t, kink=True, **MS)

    name = "com.microsoft.DynamicQuantizeMatMul"

    def dynamic_product(a, b, t, w=None, c=None):
        q, scale, zero = dynamic(a)
        y = (q - zero) * scale @ ((b - (0 if w is None else w)) * t)
        return y if c is None else y + c

    case(name, [x(3, 4).dyn(0), weight, const(0.03), const_i8(3), x(5)], dynamic_product, kink=True, **MS)
    case(f"{name}_columns", [x(2, 3, 4).dyn(0, 1), weight, scales, const_i8([1, 2, -3, 0, 7])], dynamic_product, kink=True,
         **MS)
    case(f"{name}_no_zero", [x(3, 4).dyn(0), weight, const(0.03), NONE, x(5)], dynamic_product, kink=True, **MS)


def dynamic_lstm():
    """An LSTM whose weights, inputs and hidden states are rounded to 8 bits: the gradient is that of the LSTM with the rounded weights,
    inputs as they are and the hidden states that were given."""
    name, size = "com.microsoft.DynamicQuantizeLSTM", 2

    def real(a):
        q, scale, zero = dynamic(a)
        return ((q - zero) * scale if scale > 0 else a).detach()

    def layer(directions, reverse=False):
        def fn(a, w, r, b, lens, h0, c0, p, ws, wz, rs, rz):
            steps, batch = a.shape[:2]
            rounded, ys, hs, cs = real(a), [], [], []
            for d in range(directions):
                weight, states = (w[d] - wz[d]) * ws[d], (r[d] - rz[d]) * rs[d]
                bias = b[d, : 4 * size] + b[d, 4 * size :]
                h, c = (torch.zeros(batch, size, dtype=a.dtype) if first is None else first[d] for first in (h0, c0))
                exact, y = c.detach(), [None] * steps
                for t in reversed(range(steps)) if reverse or d == 1 else range(steps):
                    gates = lambda x, h: (x @ weight + h @ states + bias).split(size, -1)
                    cell = lambda i, o, f, g, c: f.sigmoid() * c + i.sigmoid() * g.tanh()
                    ours, theirs = gates(a[t], h), gates(rounded[t], real(h))
                    c, exact = cell(*ours, c), cell(*theirs, exact).detach()
                    smooth, given = ours[1].sigmoid() * c.tanh(), (theirs[1].sigmoid() * exact.tanh()).detach()
                    h = y[t] = smooth + (given - smooth).detach()
                ys.append(torch.stack(y))
                hs.append(h)
                cs.append(c + (exact - c).detach())
            return torch.stack(ys, 1), torch.stack(hs), torch.stack(cs)
        return fn

    def inputs(directions, states=0, columns=False):
        weights = lambda seed, rows: const_i8(drawn(seed, -63, 63, directions, rows, 4 * size))
        scales = const(np.linspace(0.011, 0.017, directions * 4 * size).reshape(directions, -1)) if columns else const([0.013] * directions)
        zeros = const_i8(np.zeros((directions, 4 * size) if columns else directions))
        first = [x(directions, 2, size, lo=-0.75, hi=0.75).dyn(1) if states else NONE for _ in range(2)]
        return [x(4, 2, 3, lo=-1.0, hi=1.0).dyn(0, 1), weights(20, 3), weights(21, size), x(directions, 8 * size, lo=-1.0, hi=1.0), NONE,
                *first, NONE, scales, zeros, scales, zeros]

    more = dict(kink=True, hidden_size=size, **MS)
    case(name, inputs(1), layer(1), **more)
    case(f"{name}_columns", inputs(1, columns=True), layer(1), **more)
    case(f"{name}_bidirectional", inputs(2, 2), layer(2), direction="bidirectional", **more)


def packed(q, bits):
    """Numbers of `bits` along the last axis, two a byte (the first low), rows padded to whole bytes."""
    if bits == 8:
        return q
    q = np.concatenate([q, np.zeros((*q.shape[:-1], q.shape[-1] % 2), q.dtype)], -1)
    return q[..., ::2] | q[..., 1::2] << 4


def blocks():
    name = "com.microsoft.MatMulNBits"

    def blockwise(variant, rows, columns, block, bits, shape, zero="none", bias=False, seed=0, **more):
        count = -(-columns // block)
        q = drawn(100 + seed, 0, 2**bits - 1, rows, count, block)
        scale = const_x(rows, count, lo=0.01, hi=0.1)
        z = {"none": np.full((rows, count), 2 ** (bits - 1)), "packed": drawn(200 + seed, 0, 2**bits - 1, rows, count),
             "float": drawn(300 + seed, 0, 8, rows, count) + 0.5}[zero]
        zeros = {"none": lambda: NONE, "packed": lambda: const_u8(packed(z, bits)), "float": lambda: const(z)}[zero]()
        inputs = [x(*shape, columns).dyn(*range(len(shape))), const_u8(packed(q, bits)), scale]
        if zero != "none" or bias:
            inputs.append(zeros)
        if bias:
            inputs += [NONE, x(rows)]

        def fn(a, _, s, __=None, ___=None, c=None):
            w = ((torch.tensor(q) - torch.tensor(z)[..., None]) * s[..., None]).flatten(1)[:, :columns]
            return a @ w.T + (0 if c is None else c)

        case(f"{name}_{variant}", inputs, fn, K=columns, N=rows, bits=bits, block_size=block, **more, **MS)

    blockwise("4_bits", 4, 32, 16, 4, (3,))
    blockwise("4_bits_zero", 4, 32, 16, 4, (2, 3), "packed", seed=1)
    blockwise("4_bits_odd", 5, 40, 16, 4, (3,), "packed", seed=2)
    blockwise("4_bits_padded", 3, 24, 16, 4, (3,), "none", seed=3)
    blockwise("4_bits_bias", 4, 32, 32, 4, (3,), "none", True, seed=4)
    blockwise("4_bits_zero_bias", 4, 32, 32, 4, (3,), "packed", True, seed=5)
    blockwise("4_bits_float_zero", 4, 32, 16, 4, (3,), "float", seed=6)
    blockwise("4_bits_64", 3, 64, 64, 4, (2,), "packed", seed=7)
    blockwise("4_bits_128", 3, 128, 128, 4, (1,), "packed", seed=8)
    blockwise("8_bits", 4, 32, 16, 8, (3,), seed=9)
    blockwise("8_bits_zero", 4, 32, 32, 8, (2, 3), "packed", seed=10)
    blockwise("8_bits_odd", 3, 40, 16, 8, (3,), "packed", seed=11)


if __name__ == "__main__":
    write("grad_quant", activations, moved, dynamics, dynamic_lstm, blocks)
