"""Writes ../optimizer.json and ../optimizer.npz: 30 steps of torch.optim on given gradients, in float32.

The same gradients serve every case. optimizer.json lists the cases; optimizer.npz holds `p{i}` (the parameters before
step 0), `g{i}` [steps, len] (their gradients), and for each case `NAME/p{i}` [steps, len] (the parameters after every
step). A case with `accumulate` sums that many consecutive gradients (each of a batch's mean loss) for one step.

Usage: python optimizer.py
"""

import json
import pathlib

import numpy as np
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent
STEPS = 30
LENGTHS = [1, 7, 33]  # none a multiple of a vector register
ADAMW = {"kind": "adamw", "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}
SGD = {"kind": "sgd", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
CONSTANT = {"kind": "constant", "warmup_steps": 0}


def case(name, optimizer, learning_rate, accumulate=1, norm_max=None, schedule=CONSTANT):
    return dict(name=name, optimizer=optimizer, learning_rate=learning_rate, accumulate=accumulate, norm_max=norm_max,
                schedule=schedule)


CASES = [
    case("adamw", ADAMW, 0.01),
    case("adamw_no_decay", ADAMW | {"weight_decay": 0.0}, 0.003),
    case("adamw_all_options", ADAMW | {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3, "weight_decay": 0.5}, 0.02),
    case("adamw_clip", ADAMW, 0.01, norm_max=2.0),
    case("adamw_accumulate_clip", ADAMW, 0.01, accumulate=3, norm_max=1.5),
    case("adamw_warmup_cosine", ADAMW, 0.02,
         schedule={"kind": "cosine", "warmup_steps": 5, "total_steps": 30, "end_share": 0.1}),
    case("sgd", SGD, 0.05),
    case("sgd_decay", SGD | {"weight_decay": 0.1}, 0.05),
    case("sgd_momentum", SGD | {"momentum": 0.9}, 0.02),
    case("sgd_momentum_decay_clip", SGD | {"momentum": 0.9, "weight_decay": 0.05}, 0.02, norm_max=3.0),
    case("sgd_nesterov", SGD | {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, 0.02),
    case("sgd_accumulate", SGD | {"momentum": 0.5}, 0.1, accumulate=2),
    case("sgd_warmup", SGD, 0.05, schedule={"kind": "constant", "warmup_steps": 8}),
]


def torch_optimizer(spec, params, rate):
    if spec["kind"] == "adamw":
        return torch.optim.AdamW(params, rate, betas=(spec["beta1"], spec["beta2"]), eps=spec["epsilon"],
                                 weight_decay=spec["weight_decay"], foreach=False)
    return torch.optim.SGD(params, rate, momentum=spec["momentum"], nesterov=spec["nesterov"],
                           weight_decay=spec["weight_decay"], foreach=False)


def torch_scheduler(spec, optimizer, rate):
    """The schedule put together from PyTorch's own, or None."""
    lrs, warmup = torch.optim.lr_scheduler, spec["warmup_steps"]
    parts = []
    if warmup:
        parts.append(lrs.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1))
    if spec["kind"] == "cosine":
        parts.append(lrs.CosineAnnealingLR(optimizer, spec["total_steps"] - warmup, eta_min=spec["end_share"] * rate))
    return lrs.SequentialLR(optimizer, parts, [warmup]) if len(parts) == 2 else (parts or [None])[0]


def run(c, starts, gradients):
    params = [torch.nn.Parameter(torch.tensor(p)) for p in starts]
    optimizer = torch_optimizer(c["optimizer"], params, c["learning_rate"])
    scheduler = torch_scheduler(c["schedule"], optimizer, c["learning_rate"])
    after, rates = [[] for _ in params], []
    for step in range(STEPS // c["accumulate"]):
        optimizer.zero_grad()
        for batch in range(c["accumulate"]):
            for p, g in zip(params, gradients):
                part = torch.tensor(g[step * c["accumulate"] + batch]) / c["accumulate"]
                p.grad = part if p.grad is None else p.grad + part
        if c["norm_max"]:
            torch.nn.utils.clip_grad_norm_(params, c["norm_max"], foreach=False)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler:
            scheduler.step()
        for kept, p in zip(after, params):
            kept.append(p.detach().numpy().copy())
    return [np.stack(kept) for kept in after], rates


def main():
    torch.set_num_threads(1)
    rng = np.random.default_rng(20)
    # Away from zero, where a relative difference means nothing; gradients drift so that moments do not stay small.
    starts = [(rng.uniform(2.0, 4.0, n) * rng.choice([-1, 1], n)).astype(np.float32) for n in LENGTHS]
    gradients = [(rng.normal(size=(STEPS, n)) * 0.5 + rng.normal(size=n) * 0.3).astype(np.float32) for n in LENGTHS]
    arrays = {f"p{i}": p for i, p in enumerate(starts)} | {f"g{i}": g for i, g in enumerate(gradients)}
    for c in CASES:
        after, rates = run(c, starts, gradients)
        arrays |= {f"{c['name']}/p{i}": p for i, p in enumerate(after)}
        c["learning_rates"] = rates
    np.savez_compressed(OUT / "optimizer.npz", **arrays)
    (OUT / "optimizer.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in CASES) + "\n]\n")


if __name__ == "__main__":
    main()
