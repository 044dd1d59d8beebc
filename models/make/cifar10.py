"""Selects the images of models/cifar10 from an unpacked CIFAR-10: `<source>/{train,test}/<class>/*.png`, 32×32 RGB.

The first 100 files of each class in the order of their names, for each part; copied byte for byte, so that running it
again changes nothing.

    python cifar10.py SOURCE TARGET
"""

import pathlib
import shutil
import sys

PER_CLASS = 100


def main(source: pathlib.Path, target: pathlib.Path) -> None:
    for part in ("train", "test"):
        for folder in sorted((source / part).iterdir()):
            files = sorted(folder.glob("*.png"))[:PER_CLASS]
            assert len(files) == PER_CLASS, f"{folder} holds {len(files)} images"
            into = target / part / folder.name
            into.mkdir(parents=True, exist_ok=True)
            for file in files:
                shutil.copyfile(file, into / file.name)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
