"""Writes ../grad_attention.json and ../grad_attention.npz: more cases as those of grad.py, of what fuses attention.

Usage: python grad_attention.py
"""

import math

import numpy as np
import torch

from grad import NONE, case, const_x, i32, i64, write, x

MS = dict(opset=1, domain="com.microsoft")


def attend(q, k, v, scale=None, bias=None, causal=False, cap=0.0):
    """Of (batch, heads, positions, size); `bias` is added."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if cap:
        scores = cap * torch.tanh(scores / cap)
    if bias is not None:
        scores = scores + bias
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -math.inf)
    return scores.softmax(-1) @ v


def split(a, heads):
    return a.unflatten(2, (heads, -1)).transpose(1, 2)


def join(a):
    return a.transpose(1, 2).flatten(2)


def kept(mask, keys, filtered=-10000.0):
    """What a mask of com.microsoft adds: lengths, or 1 for what is kept of (batch, keys) or (batch, queries, keys)."""
    if mask.dim() == 1:
        mask = (torch.arange(keys) < mask[:, None]).long()
    mask = mask[:, None, None] if mask.dim() == 2 else mask[:, None]
    return (1 - mask) * filtered


def masks():
    name, q, k, v = "com.microsoft.MultiHeadAttention", x(2, 3, 4).dyn(0, 1), x(2, 5, 4).dyn(0, 1), x(2, 5, 6).dyn(0, 1)
    ms = dict(num_heads=2, **MS)
    flat = lambda q, k, v, **more: join(attend(split(q, 2), split(k, 2), split(v, 2), **more))
    each = np.asarray([[[1, 1, 0, 1, 0], [1, 0, 0, 0, 1], [0, 1, 1, 1, 1]]] * 2)
    each[1] = 1 - each[1]
    forms = {"lengths": i32([4, 2]).dyn(0), "mask": i32([[1, 0, 1, 1, 0], [0, 1, 1, 1, 1]]).dyn(0, 1),
             "mask_each": i32(each).dyn(0, 1)}
    for form, mask in forms.items():
        case(f"{name}_{form}", [q, k, v, NONE, mask], lambda q, k, v, _, m: flat(q, k, v, bias=kept(m, 5)), **ms)
    case(f"{name}_mask_filter", [q, k, v, NONE, forms["mask"]],
         lambda q, k, v, _, m: flat(q, k, v, bias=kept(m, 5, -1.5)), mask_filter_value=-1.5, **ms)
    case(f"{name}_mask_only_values", [q.frozen(), k.frozen(), v, NONE, forms["lengths"]],
         lambda q, k, v, _, m: flat(q, k, v, bias=kept(m, 5)), **ms)

    name = "com.microsoft.Attention"
    a, w, b = x(2, 3, 4).dyn(0, 1), x(4, 12, lo=-1.0, hi=1.0), x(12)

    def projected(a, w, b, widths=(4, 4, 4), **more):
        return flat(*(a @ w + (0.0 if b is None else b)).split(list(widths), 2), **more)

    case(f"{name}_lengths", [a, w, b, i32([3, 2]).dyn(0)], lambda a, w, b, m: projected(a, w, b, bias=kept(m, 3)), **ms)
    case(f"{name}_mask", [a, w, b, i32([[1, 0, 1], [1, 1, 0]]).dyn(0, 1)],
         lambda a, w, b, m: projected(a, w, b, bias=kept(m, 3)), **ms)
    case(f"{name}_mask_causal", [a, w, b, i32([[1, 1, 1], [1, 0, 1]]).dyn(0, 1)],
         lambda a, w, b, m: projected(a, w, b, bias=kept(m, 3, -2.0), causal=True), unidirectional=1,
         mask_filter_value=-2.0, **ms)
    case(f"{name}_bias", [a, w.frozen(), b, NONE, NONE, x(1, 2, 3, 3).frozen()],
         lambda a, w, b, _, __, m: projected(a, w, b, bias=m), **ms)
    case(f"{name}_only_weight", [a.frozen(), w, b.frozen()], projected, **ms)
    case(f"{name}_widths", [a, x(4, 14, lo=-1.0, hi=1.0), x(14)], lambda a, w, b: projected(a, w, b, (4, 4, 6)),
         qkv_hidden_sizes=[4, 4, 6], **ms)


def any_heads():
    q, k, v = x(2, 4, 3, 2).dyn(0, 1, 2), x(2, 2, 5, 2).dyn(0, 1, 2), x(2, 2, 5, 3).dyn(0, 1, 2)
    case("Attention_heads", [q, k, v], attend, opset=23)
    case("Attention_heads_same", [q, x(2, 4, 5, 2).dyn(0, 1), x(2, 4, 5, 2).dyn(0, 1)], attend, opset=23)
    case("Attention_heads_only_values", [q.frozen(), k.frozen(), v], attend, opset=23)
    flat = lambda q, k, v: join(attend(split(q, 4), split(k, 2), split(v, 2)))
    case("Attention_grouped_only_values", [x(2, 3, 8).frozen(), x(2, 5, 4).frozen(), x(2, 5, 6)], flat, opset=23,
         q_num_heads=4, kv_num_heads=2)
    anything = [x(2, 4, 3, 2).dyn(0, 1, 2, 3), x(2, 2, 5, 2).dyn(0, 1, 2, 3), x(2, 2, 5, 3).dyn(0, 1, 2, 3)]
    case("Attention_anything", anything, lambda q, k, v: attend(q, k, v, 0.5), opset=23, scale=0.5)


def grouped():
    name = "com.microsoft.GroupQueryAttention"

    def turned(a, cos, sin, interleaved):
        """Of (batch, heads, positions, size), by the positions 0, 1, …"""
        half, c, s = cos.shape[-1], cos[: a.shape[2]], sin[: a.shape[2]]
        whole, rest = a[..., : 2 * half], a[..., 2 * half :]
        u, v = (whole[..., ::2], whole[..., 1::2]) if interleaved else whole.split(half, -1)
        parts = (u * c - v * s, u * s + v * c)
        whole = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
        return torch.cat((whole, rest), -1)

    def node(queries, keys, rotary=False, interleaved=False, **how):
        def fn(q, k, v, _, __, lengths, total, cos=None, sin=None):
            if k is None:
                size = q.shape[2] // (queries + 2 * keys)
                q, k, v = q.split([queries * size, keys * size, keys * size], 2)
            q, k, v = split(q, queries), split(k, keys), split(v, keys)
            if rotary:
                q, k = turned(q, cos, sin, interleaved), turned(k, cos, sin, interleaved)
            return join(attend(q, k, v, causal=True, **how))
        return fn

    def form(suffix, inputs, queries, keys, fn, half=None, **attributes):
        words = inputs[0].shape[1]
        caches = [] if half is None else [const_x(4, half), const_x(4, half)]
        case(f"{name}{suffix}", [*inputs, NONE, NONE, i32([words - 1]).dyn(0), i32(words), *caches], fn, num_heads=queries,
             kv_num_heads=keys, do_rotary=int(bool(caches)), **attributes, **MS)

    q, k, v = x(1, 3, 32).dyn(0, 1), x(1, 3, 16).dyn(0, 1), x(1, 3, 16).dyn(0, 1)
    form("", [q, k, v], 4, 2, node(4, 2))
    form("_scale_cap", [q, k, v], 4, 2, node(4, 2, scale=0.75, cap=1.5), scale=0.75, softcap=1.5)
    form("_only_values", [q.frozen(), k.frozen(), v], 4, 2, node(4, 2))
    form("_only_keys", [q.frozen(), k, v.frozen()], 4, 2, node(4, 2))
    q, k, v = x(1, 3, 32).dyn(0, 1), x(1, 3, 16).dyn(0, 1), x(1, 3, 16).dyn(0, 1)
    form("_same_heads", [q, q, x(1, 3, 32).dyn(0, 1)], 2, 2, node(2, 2, True), 8)
    form("_same_heads_only_values", [q.frozen(), q.frozen(), x(1, 3, 32).dyn(0, 1)], 2, 2, node(2, 2, True), 8)
    form("_rotary", [q, k, v], 2, 1, node(2, 1, True), 8)
    form("_rotary_part", [x(1, 2, 64), x(1, 2, 32), x(1, 2, 32)], 2, 1, node(2, 1, True), 8)
    form("_rotary_interleaved", [q, k, v], 2, 1, node(2, 1, True, True), 8, rotary_interleaved=1)
    form("_rotary_only_queries", [q, k.frozen(), v.frozen()], 2, 1, node(2, 1, True), 8)
    form("_packed", [x(1, 3, 64).dyn(0, 1), NONE, NONE], 2, 1, node(2, 1, True), 8)
    form("_packed_two", [x(1, 3, 64).dyn(0, 1), NONE, NONE], 4, 2, node(4, 2))
    form("_packed_not_turned", [x(1, 3, 32).dyn(0, 1), NONE, NONE], 2, 1, node(2, 1))


def embed():
    name = "com.microsoft.EmbedLayerNormalization"
    words, types = i32([[3, 1, 1], [0, 4, 2]]).dyn(0, 1), i32([[0, 1, 1], [0, 0, 1]]).dyn(0, 1)

    def fn(eps=1e-12, outputs=2):
        def run(words, types, word, position, kind, scale, shift, _mask=None, positions=None):
            s = word[words] + position[torch.arange(3) if positions is None else positions]
            s = s if kind is None else s + kind[types]
            d = s - s.mean(-1, keepdim=True)
            y = d / torch.sqrt((d * d).mean(-1, keepdim=True) + eps) * scale + shift
            return (y, torch.zeros(2, dtype=torch.int32), s)[:outputs]
        return run

    ms = dict(unused=(1,), **MS)
    tables = lambda: [x(5, 4), x(4, 4), x(2, 4)]
    norm = lambda: [x(4), x(4)]
    case(name, [words, types, *tables(), *norm()], fn(1e-5), epsilon=1e-5, **ms)
    case(f"{name}_epsilon", [words, types, *tables(), *norm()], fn(0.125), epsilon=0.125, **ms)
    case(f"{name}_no_types", [words, NONE, *tables()[:2], NONE, *norm()], fn(), **ms)
    places = i64([[2, 0, 1], [3, 3, 0]])
    case(f"{name}_positions", [words, types, *tables(), *norm(), NONE, i32(places.value).dyn(0, 1)], fn(), **ms)
    case(f"{name}_one_row_of_positions", [words, types, *tables(), *norm(), NONE, i32([[2, 0, 1]]).dyn(1)], fn(), **ms)
    frozen = [table.frozen() for table in tables()]
    case(f"{name}_only_norm", [words, types, *frozen, *norm()], fn(), **ms)
    case(f"{name}_only_shift", [words, types, *frozen, x(4).frozen(), x(4)], fn(), **ms)
    case(f"{name}_only_words", [words, types, x(5, 4), *frozen[1:], x(4).frozen(), x(4).frozen()], fn(), **ms)
    case(f"{name}_only_types", [words, types, *frozen[:2], x(2, 4), x(4).frozen(), x(4).frozen()], fn(), **ms)
    case(f"{name}_sum", [words, types, *tables(), *norm()], fn(1e-5, 3), epsilon=1e-5, **ms)


if __name__ == "__main__":
    write("grad_attention", masks, any_heads, grouped, embed)
