"""Goldens for src/data/arrays.rs and src/data/npy.rs: files as NumPy writes them.

    python arrays.py          # numpy 2.x
"""

import pathlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "arrays"


def main() -> None:
    OUT.mkdir(exist_ok=True)
    x = np.arange(6, dtype=np.float64).reshape(3, 2) / 4
    np.savez_compressed(
        OUT / "packed.npz",
        x=x,
        half=x.astype(np.float16),
        ids=np.arange(12, dtype=np.int32).reshape(3, 4) - 5,
        y=np.array([10, 9, 10], dtype=np.uint8),
        sets=np.array([[1, 0], [0, 0], [1, 1]], dtype=bool),
        targets=np.array([[0.5], [-1.0], [2.0]], dtype=np.float32),
    )
    # Zeros pack a thousandfold: small on disk, large in memory.
    np.savez_compressed(OUT / "bomb.npz", x=np.zeros((1000, 100), np.float32), y=np.zeros(1000, np.int64))
    # As np.savez writes: not packed, so that it can be used where it lies.
    stored = np.array([[0.5, -1.0], [2.0, 3.0], [4.0, 8.0]], dtype=np.float32)
    np.savez(OUT / "stored.npz", x=stored, y=np.array([1, 0, 1]))
    np.save(OUT / "columns-first.npy", np.asfortranarray(x))
    np.save(OUT / "big-endian.npy", x.astype(">f4"))
    np.save(OUT / "texts.npy", np.array(["a", "bc"]))
    # Names of classes instead of numbers, as characters and as bytes, beside samples with the first axis fastest.
    names = np.array(["cat", "Hündin", "cat"])
    np.savez(OUT / "names.npz", x=np.asfortranarray(x), y=names, raw=np.array([b"a", b"bcd", b"a"]))


if __name__ == "__main__":
    main()
