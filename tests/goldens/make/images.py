"""Goldens for src/data/image.rs: what Pillow and torchvision's rules make of real photographs.

Sources are CIFAR-10 test photographs from models/cifar10. For each case the 8-bit pixels after resize (bilinear with
antialiasing unless the case names another filter) and centre crop are written as `<case>.bin`, rows of interleaved RGB (or
luma); the test allows 1 of 255, and 2 where a JPEG was decoded.
Resize follows torchvision: the shortest side becomes `resize`, the other `int(resize * long / short)`; the crop starts at
`round((side - crop) / 2)`.

    python images.py          # pillow 13.0.0
"""

import pathlib

from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
CIFAR = HERE.parent.parent.parent / "models" / "cifar10" / "test"
OUT = HERE.parent / "images"


FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def crop_resize(
    image: Image.Image, resize: int, width: int, height: int, by: Image.Resampling = Image.Resampling.BILINEAR
) -> Image.Image:
    short, long = sorted(image.size)
    sizes = (resize, int(resize * long / short))
    full = sizes if image.width <= image.height else sizes[::-1]
    image = image.resize(full, by)
    left, top = round((full[0] - width) / 2.0), round((full[1] - height) / 2.0)
    return image.crop((left, top, left + width, top + height))


def mosaic() -> Image.Image:
    """Photographs side by side: 5 × 3 of them, 160×96, because one alone is too small to be scaled down."""
    sheet = Image.new("RGB", (160, 96))
    classes = sorted(CIFAR.iterdir())
    for tile in range(15):
        file = sorted(classes[tile % 10].glob("*.png"))[tile // 10]
        sheet.paste(Image.open(file).convert("RGB"), (tile % 5 * 32, tile // 5 * 32))
    return sheet


def other_formats() -> None:
    """One small picture in each other format that is read, all without loss but for the GIF's colours."""
    small = mosaic().crop((0, 0, 48, 32))
    small.save(OUT / "small.png", optimize=True)
    small.save(OUT / "small.bmp")
    small.save(OUT / "small.webp", lossless=True)
    # Of several pages the first is read.
    pages = [Image.new("RGB", small.size)]
    small.save(OUT / "small.tif", compression="tiff_lzw", save_all=True, append_images=pages)
    # Of a moving picture the first is read; the second is black.
    first, black = small.quantize(64), Image.new("RGB", small.size).quantize(2)
    first.save(OUT / "small.gif", save_all=True, append_images=[black], duration=100)
    (OUT / "small-gif.bin").write_bytes(Image.open(OUT / "small.gif").convert("RGB").tobytes())


def main() -> None:
    OUT.mkdir(exist_ok=True)
    other_formats()
    mosaic().save(OUT / "mosaic.png", optimize=True)
    mosaic().save(OUT / "mosaic.jpg", quality=92, subsampling=0)
    # The same picture, stored lying on its side with the EXIF note (6) that a camera would write.
    exif = Image.Exif()
    exif[0x0112] = 6
    mosaic().transpose(Image.Transpose.ROTATE_90).save(OUT / "mosaic-turned.jpg", quality=92, subsampling=0, exif=exif)
    png, jpg = Image.open(OUT / "mosaic.png"), Image.open(OUT / "mosaic.jpg")
    cases = {
        "down": crop_resize(png, 48, 48, 48),
        "down-margin": crop_resize(png, 56, 48, 48),
        "up": crop_resize(png, 130, 64, 64),
        "jpeg": crop_resize(jpg, 48, 48, 48),
        "grey": crop_resize(png.convert("L"), 48, 48, 48),
    }
    for name, by in FILTERS.items():
        cases[f"{name}-down"] = crop_resize(png, 27, 24, 20, by)
        cases[f"{name}-up"] = crop_resize(png, 130, 40, 32, by)
    for name, image in cases.items():
        (OUT / f"{name}.bin").write_bytes(image.tobytes())


if __name__ == "__main__":
    main()
