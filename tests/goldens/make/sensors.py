"""Goldens for src/data/readings.rs, series.rs and windows.rs: what NumPy makes of two sensor series.

`steady.csv` has 25 rows in a second, times with a little jitter, and a label a row; `unsteady.csv` has steps between 10 and 70 ms.
`sensors.npz` holds, all float32 but for the labels:

| array | what it is |
|---|---|
| `windows` | `sliding_window_view` of the channels of steady.csv: 16 rows every 6, `[windows, 16, 3]` |
| `mean`, `std` | `mean` and `std` of its windows 0, 2, 4… over windows and rows |
| `scaled` | `(windows - mean) / std`, a constant channel divided by 1 |
| `labels` | the label that most rows of a window have, of several the one that comes first (`0`: still, `1`: moving, `2`: shaking) |
| `interpolated` | the channels of unsteady.csv at 40 rows in a second by `numpy.interp`, `[rows, 2]` |

    python sensors.py          # NumPy alone
"""

import collections
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "sensors"
NAMES = ["still", "moving", "shaking"]


def write(name: str, header: str, rows: list[str]) -> None:
    (OUT / name).write_text("\n".join([header, *rows]) + "\n")


def main() -> None:
    OUT.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    rows = 150
    times = np.round(np.arange(rows) / 25 + random.uniform(-0.008, 0.008, rows), 4)
    # One channel is constant, and one lies far from 0.
    values = np.stack([random.normal(size=rows).cumsum(), 1e4 + random.normal(size=rows), np.full(rows, 9.81)], 1)
    values = np.array([[float(f"{value:.6g}") for value in row] for row in values], "f4")
    labels = np.repeat([0, 1, 2, 0, 1], [38, 22, 33, 9, 48])
    cells = [[f"{value:.6g}" for value in row] for row in values]
    write("steady.csv", "time,a,b,c,label", [f"{t},{','.join(c)},{NAMES[n]}" for t, c, n in zip(times, cells, labels)])

    windows = np.lib.stride_tricks.sliding_window_view(values, 16, axis=0)[::6].transpose(0, 2, 1)
    trained = windows[::2].astype("f8")
    mean, std = trained.mean((0, 1)), trained.std((0, 1))
    std[2] = 1.0
    majority = []
    for window in np.lib.stride_tricks.sliding_window_view(labels, 16)[::6]:
        # `most_common` keeps the order of first appearance among equals.
        majority.append(collections.Counter(window.tolist()).most_common(1)[0][0])

    steps = np.round(random.uniform(0.01, 0.07, 80), 3)
    moments = np.round(np.concatenate([[2.5], 2.5 + steps.cumsum()]), 3)
    readings = np.array([[float(f"{value:.6g}") for value in row] for row in random.normal(size=(81, 2))])
    write("unsteady.csv", "t_ms,u,v", [f"{round(t * 1000)},{u:.6g},{v:.6g}" for t, (u, v) in zip(moments, readings)])
    grid = moments[0] + np.arange(int((moments[-1] - moments[0]) * 40 + 1e-6) + 1) / 40
    interpolated = np.stack([np.interp(grid, moments, readings[:, channel]) for channel in range(2)], 1)

    arrays = dict(windows=windows, mean=mean, std=std, scaled=(windows - mean) / std, interpolated=interpolated)
    arrays = {name: np.ascontiguousarray(array, "f4") for name, array in arrays.items()}
    np.savez_compressed(OUT / "sensors.npz", labels=np.array(majority, "i8"), **arrays)


main()
