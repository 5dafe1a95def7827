#!/usr/bin/env python3
"""Writes Debian's Fashion-MNIST as grey PNG files: FOLDER/train and FOLDER/val, one directory per class.

    apt-get install dataset-fashion-mnist
    python3 Fixtures/datasets/fashion-mnist.py FOLDER

With --padding 2 every side gets two rows or columns of black, which makes the images 32×32. The preparation of
validation images for 28×28 then takes the 28×28 pixels of the data set as they are; from images of 28×28 it would
enlarge them and cut the margins off.

Python's standard library is enough. The class directories are named so that their order by bytes is the order of the
labels. Images are numbered in the order of the package; `val` holds its 10,000 test images.
"""

import argparse
import gzip
import struct
import sys
import zlib
from pathlib import Path

CLASSES = ["0-t-shirt-top", "1-trouser", "2-pullover", "3-dress", "4-coat", "5-sandal", "6-shirt", "7-sneaker", "8-bag", "9-ankle-boot"]
PARTS = [("train", "train", 60_000), ("val", "t10k", 10_000)]
SIDE = 28


def idx(path, dimensions):
    """The sizes and the bytes of a gzipped IDX file of unsigned bytes."""
    data = gzip.decompress(path.read_bytes())
    kind, = struct.unpack_from(">I", data)
    if kind != 0x800 + dimensions:
        sys.exit(f"fashion-mnist: {path} is not an IDX file of bytes with {dimensions} dimensions")
    sizes = struct.unpack_from(f">{dimensions}I", data, 4)
    return sizes, memoryview(data)[4 + 4 * dimensions:]


def png(pixels, padding):
    """A grey PNG of SIDE rows and a black margin. No row is filtered: these images compress no better with filters."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    side, margin = SIDE + 2 * padding, bytes(padding)
    black = [b"\0" + bytes(side)] * padding
    rows = [b"\0" + margin + bytes(pixels[row * SIDE:(row + 1) * SIDE]) + margin for row in range(SIDE)]
    rows = b"".join(black + rows + black)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder that is new or empty")
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="the package's folder")
    parser.add_argument("--padding", type=int, choices=range(0, 15), default=0, metavar="PIXELS", help="black pixels on each side")
    options = parser.parse_args()
    if options.folder.exists() and any(options.folder.iterdir()):
        sys.exit(f"fashion-mnist: {options.folder} is not empty")
    for part, name, expected in PARTS:
        (count, height, width), pixels = idx(options.source / f"{name}-images-idx3-ubyte.gz", 3)
        (labels_count,), labels = idx(options.source / f"{name}-labels-idx1-ubyte.gz", 1)
        if (count, labels_count, height, width) != (expected, expected, SIDE, SIDE):
            sys.exit(f"fashion-mnist: {name} holds {count} images of {height}×{width} and {labels_count} labels, "
                     f"not {expected} of {SIDE}×{SIDE}")
        for directory in CLASSES:
            (options.folder / part / directory).mkdir(parents=True)
        counts = [0] * len(CLASSES)
        for index, label in enumerate(labels):
            image = pixels[index * SIDE * SIDE:(index + 1) * SIDE * SIDE]
            (options.folder / part / CLASSES[label] / f"{index:05}.png").write_bytes(png(image, options.padding))
            counts[label] += 1
        print(f"{part}: {count} images; " + ", ".join(f"{name} {number}" for name, number in zip(CLASSES, counts)))


if __name__ == "__main__":
    main()
