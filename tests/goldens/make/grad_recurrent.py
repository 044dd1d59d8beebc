"""Writes ../grad_recurrent.json and ../grad_recurrent.npz: more cases as those of grad.py, of recurrent layers.

The equations are those of ONNX's specification; where torch.nn has the same layer, its output has to be the same.

Usage: python grad_recurrent.py
"""

import torch
from torch import nn

from grad import NONE, case, const_x, i32, write, x

T, B, I, H = 4, 2, 3, 2
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def step(op, a, w, r, wb, rb, h, c, reset_after, act):
    """The next hidden state and cell, gates in ONNX's order."""
    size = h.shape[-1]
    if op == "LSTM":
        i, o, f, g = (a @ w.T + h @ r.T + wb + rb).split(size, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
    if op == "RNN":
        return act(a @ w.T + h @ r.T + wb + rb), c
    wx, (rz, rr, rn), (bz, br, bn) = a @ w.T + wb, r.split(size), rb.split(size)
    xz, xr, xn = wx.split(size, -1)
    z, gate = (xz + h @ rz.T + bz).sigmoid(), (xr + h @ rr.T + br).sigmoid()
    n = (xn + gate * (h @ rn.T + bn) if reset_after else xn + (gate * h) @ rn.T + bn).tanh()
    return (1 - z) * n + z * h, c


def layer(op, directions, reset_after=0, acts=(torch.tanh, torch.tanh), reverse=False):
    """Y, Y_h and, of LSTM, Y_c; sequences that end early give zeros from there on and keep their last states."""
    def fn(a, w, r, b=None, lens=None, h0=None, c0=None):
        steps, batch, size = a.shape[0], a.shape[1], r.shape[2]
        b = torch.zeros(directions, 2 * w.shape[1], dtype=a.dtype) if b is None else b
        none = torch.zeros(directions, batch, size, dtype=a.dtype)
        h0, c0 = none if h0 is None else h0, none if c0 is None else c0
        lens = torch.full((batch,), steps) if lens is None else lens
        ys, hs, cs = [], [], []
        for d in range(directions):
            h, c, y = h0[d], c0[d], [None] * steps
            wb, rb = b[d].chunk(2)
            for t in reversed(range(steps)) if reverse or d == 1 else range(steps):
                h2, c2 = step(op, a[t], w[d], r[d], wb, rb, h, c, reset_after, acts[d])
                live = (t < lens)[:, None]
                h, c, y[t] = torch.where(live, h2, h), torch.where(live, c2, c), torch.where(live, h2, 0.0)
            ys.append(torch.stack(y))
            hs.append(h)
            cs.append(c)
        out = torch.stack(ys, 1), torch.stack(hs), torch.stack(cs)
        return out if op == "LSTM" else out[:2]
    return fn


def small(*shape):
    """Numbers that leave the gates where they still move."""
    return x(*shape, lo=-1.0, hi=1.0)


def inputs(op, directions=1, bias=True, lens=None, states=0, dynamic=(0, 1), steps=T):
    gates = GATES[op] * H
    made = [small(steps, B, I).dyn(*dynamic), small(directions, gates, I), small(directions, gates, H)]
    made += [small(directions, 2 * gates) if bias else NONE]
    made += [NONE if lens is None else i32(lens).dyn(*([0] if 1 in dynamic else []))]
    made += [small(directions, B, H).dyn(*([1] if 1 in dynamic else [])) for _ in range(states)]
    while made[-1] is NONE:
        made.pop()
    return made


def recurrent():
    for op, states in (("LSTM", 2), ("GRU", 1), ("RNN", 1)):
        size = dict(hidden_size=H)
        case(op, inputs(op), layer(op, 1), **size)
        case(f"{op}_fixed", inputs(op, dynamic=()), layer(op, 1), **size)
        case(f"{op}_time_open", inputs(op, dynamic=(0,)), layer(op, 1), **size)
        case(f"{op}_batch_open", inputs(op, dynamic=(1,), states=states), layer(op, 1), **size)
        case(f"{op}_states", inputs(op, states=states), layer(op, 1), **size)
        case(f"{op}_no_bias", inputs(op, bias=False), layer(op, 1), **size)
        case(f"{op}_reverse", inputs(op, states=states), layer(op, 1, reverse=True), direction="reverse", **size)
        case(f"{op}_bidirectional", inputs(op, 2, states=states), layer(op, 2), direction="bidirectional", **size)
        case(f"{op}_bidirectional_zeros", inputs(op, 2), layer(op, 2), direction="bidirectional", **size)
        case(f"{op}_one_step", inputs(op, steps=1, states=states), layer(op, 1), **size)
        last = tuple(range(1, states + 1))
        case(f"{op}_only_sequence", inputs(op), layer(op, 1), unused=last, **size)
        case(f"{op}_only_last", inputs(op), layer(op, 1), unused=(0,), **size)
        case(f"{op}_lengths", inputs(op, lens=[4, 2], states=states), layer(op, 1), **size)
        case(f"{op}_lengths_reverse", inputs(op, lens=[1, 3], states=states), layer(op, 1, reverse=True),
             direction="reverse", **size)
        case(f"{op}_lengths_bidirectional", inputs(op, 2, lens=[3, 4], states=states), layer(op, 2),
             direction="bidirectional", **size)
        frozen = inputs(op, states=states)
        case(f"{op}_only_weights", [frozen[0].frozen(), *frozen[1:4], NONE, *(s.frozen() for s in frozen[5:])],
             layer(op, 1), **size)
        gates = GATES[op] * H
        case(f"{op}_frozen_weights", [small(T, B, I).dyn(0, 1), const_x(1, gates, I, lo=-1), const_x(1, gates, H, lo=-1)],
             layer(op, 1), **size)
    case("GRU_reset_after", inputs("GRU"), layer("GRU", 1, 1), hidden_size=H, linear_before_reset=1)
    case("GRU_reset_after_bidirectional", inputs("GRU", 2, states=1), layer("GRU", 2, 1), hidden_size=H,
         linear_before_reset=1, direction="bidirectional")
    case("GRU_reset_after_no_bias", inputs("GRU", bias=False), layer("GRU", 1, 1), hidden_size=H, linear_before_reset=1)
    case("GRU_reset_after_lengths", inputs("GRU", 2, lens=[2, 4], states=1), layer("GRU", 2, 1), hidden_size=H,
         linear_before_reset=1, direction="bidirectional")
    relu = (torch.relu, torch.relu)
    case("RNN_relu", inputs("RNN"), layer("RNN", 1, acts=relu), hidden_size=H, activations=["Relu"])
    case("RNN_relu_and_tanh", inputs("RNN", 2, states=1), layer("RNN", 2, acts=(torch.relu, torch.tanh)), hidden_size=H,
         activations=["Relu", "Tanh"], direction="bidirectional")
    case("LSTM_named_activations", inputs("LSTM"), layer("LSTM", 1), hidden_size=H,
         activations=["Sigmoid", "Tanh", "Tanh"])


def as_torch():
    """The equations above are torch.nn's: its gates in ONNX's order."""
    order = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2], "RNN": [0]}
    a = torch.randn(T, B, I, dtype=torch.float64)
    for op, kind in (("LSTM", nn.LSTM), ("GRU", nn.GRU), ("RNN", nn.RNN)):
        model = kind(I, H, bidirectional=True).double()

        def put(name):
            both = [getattr(model, f"{name}_l0{end}") for end in ("", "_reverse")]
            return torch.stack([torch.cat([p.chunk(GATES[op])[g] for g in order[op]]) for p in both])

        bias = torch.cat([put("bias_ih"), put("bias_hh")], 1)
        ours = layer(op, 2, reset_after=1)(a, put("weight_ih"), put("weight_hh"), bias)
        torch.testing.assert_close(ours[0].transpose(1, 2).flatten(2), model(a)[0])


if __name__ == "__main__":
    torch.manual_seed(0)
    as_torch()
    write("grad_recurrent", recurrent)
