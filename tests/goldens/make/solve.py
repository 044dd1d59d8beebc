"""Writes ../solve.json and ../solve.npz: what scikit-learn fits in float64 to small float32 features.

Two shapes: `tall` has more samples than features, `wide` fewer. README.md in the folder above tells the format.

Usage: python solve.py
"""

import json
import pathlib

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV

OUT = pathlib.Path(__file__).resolve().parent.parent
GRID = [10.0 ** (quarter / 4) for quarter in range(12, -13, -1)]
CLASSES = 4


def make(name, samples, features, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % CLASSES
    centers = rng.normal(0, 1, (CLASSES, features))
    # An offset, as features behind a ReLU have it.
    x = (2 + centers[labels] * 0.5 + rng.normal(0, 1, (samples, features))).astype(np.float32)
    wide = x.astype(np.float64)
    values = wide @ rng.normal(0, 1, (features, 2)) + rng.normal(0, 2, (samples, 2)) + [3, -1]
    values = values.astype(np.float32).astype(np.float64)
    sets = np.stack([labels % 2, labels // 2, rng.integers(0, 2, samples)], 1)
    arrays = {"x": x, "labels": labels.astype(np.int64), "values": values, "sets": sets.astype(np.float64)}

    ridge = Ridge(alpha=2.5, solver="cholesky").fit(wide, values)
    arrays |= {"ridge/weights": ridge.coef_, "ridge/bias": ridge.intercept_}
    plain = Ridge(alpha=2.5, solver="cholesky", fit_intercept=False).fit(wide, values)
    arrays |= {"ridge_no_bias/weights": plain.coef_}

    # Generalised cross-validation from the hat matrix itself.
    centered = wide - wide.mean(0)
    errors = []
    for alpha in GRID:
        gram = centered.T @ centered + alpha * np.eye(features)
        hat = centered @ np.linalg.solve(gram, centered.T) + 1 / samples
        residual = values - hat @ values
        errors.append((residual**2).sum() / samples / (1 - np.trace(hat) / samples) ** 2)
    arrays |= {"gcv": np.array(errors)}

    # Pareto scaling: divided by the root of each feature's standard deviation, which is 1 in the mean of squares.
    deviations = wide.std(0)
    roots = np.sqrt(deviations / np.sqrt((deviations**2).mean()))
    scaled = wide / roots
    logistic = LogisticRegression(C=1 / 1.5, tol=1e-10, max_iter=10000).fit(scaled, labels)
    arrays |= {"logistic/weights": logistic.coef_ / roots, "logistic/bias": logistic.intercept_}
    each = [LogisticRegression(C=1 / 1.5, tol=1e-10, max_iter=10000).fit(scaled, column) for column in sets.T]
    arrays |= {"binary/weights": np.concatenate([one.coef_ for one in each]) / roots,
               "binary/bias": np.concatenate([one.intercept_ for one in each])}
    chosen = RidgeCV(alphas=GRID).fit(wide, values).alpha_
    return {f"{name}/{key}": value for key, value in arrays.items()}, {
        "name": name, "ridge_lambda": 2.5, "logistic_lambda": 1.5, "grid": GRID, "ridge_cv": float(chosen)}


def main():
    tall, one = make("tall", 60, 7, 1)
    wide, other = make("wide", 24, 40, 2)
    np.savez_compressed(OUT / "solve.npz", **tall, **wide)
    (OUT / "solve.json").write_text(json.dumps([one, other], indent=1) + "\n")
    for case, arrays in ((one, tall), (other, wide)):
        print(case["name"], "RidgeCV", case["ridge_cv"], "GCV", GRID[int(np.argmin(arrays[case["name"] + "/gcv"]))])


if __name__ == "__main__":
    main()
