#!/usr/bin/env python3
"""Writes Debian's openclipart as a set of 22 classes: FOLDER/train and FOLDER/val, one directory per category.

    apt-get install openclipart-png
    python3 -m venv venv && venv/bin/pip install pillow==13.0.0
    venv/bin/python Fixtures/datasets/openclipart.py FOLDER

The class of a picture is its category: the package's first folder level. Pictures are composited on white, reduced to a
longer side of at most 256 pixels (bicubic; --longest-side) and written as RGB PNG files, or grey ones where the three channels are equal.

Left out, each with a word: symbolic links, files with the bytes of an earlier file, pictures of more than 20 million
pixels, and files that cannot be decoded. Of each class a fifth of the pictures goes to `val`, at least one: those whose
paths have the smallest SHA-256. The split therefore depends on nothing but the names. The same versions of the package and
of Pillow write the same files.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import PIL
from PIL import Image

LONGEST_SIDE = 256
MOST_PIXELS = 20_000_000
CATEGORIES = 22
Image.MAX_IMAGE_PIXELS = None  # the size is looked at before anything is decoded


class LeftOut(Exception):
    """Why a picture is not part of the set."""


def on_white(path, longest_side):
    with Image.open(path) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise LeftOut(f"{width}×{height} pixels")
        image = image.convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
    if max(picture.size) > longest_side:
        scale = longest_side / max(picture.size)
        picture = picture.resize(tuple(max(1, round(side * scale)) for side in picture.size), Image.BICUBIC)
    red, green, blue = picture.split()
    return red if red.tobytes() == green.tobytes() == blue.tobytes() else picture


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder that is new or empty")
    parser.add_argument("--longest-side", type=int, default=LONGEST_SIDE,
                        help="in pixels, default 256; smaller pictures are decoded faster")
    parser.add_argument("--source", type=Path, default=Path("/usr/share/openclipart/png"), help="the package's folder")
    options = parser.parse_args()
    if options.folder.exists() and any(options.folder.iterdir()):
        sys.exit(f"openclipart: {options.folder} is not empty")
    categories = sorted(path for path in options.source.iterdir() if path.is_dir())
    if len(categories) != CATEGORIES:
        sys.exit(f"openclipart: {options.source} holds {len(categories)} categories, not {CATEGORIES}")
    print(f"Pillow {PIL.__version__}")
    seen, links, copies = set(), 0, 0
    totals = {"train": 0, "val": 0}
    for category in categories:
        pictures = []
        for path in sorted(category.rglob("*.png")):
            name = path.relative_to(category).as_posix()
            if path.is_symlink():
                links += 1
                continue
            digest = hashlib.sha256(path.read_bytes()).digest()
            if digest in seen:
                copies += 1
                continue
            seen.add(digest)
            try:
                key = hashlib.sha256(f"{category.name}/{name}".encode()).digest()
                pictures.append((key, name, on_white(path, options.longest_side)))
            except (LeftOut, OSError, ValueError, SyntaxError) as problem:
                print(f"left out: {category.name}/{name}: {problem}")
        pictures.sort(key=lambda picture: picture[0])
        held_out = max(1, len(pictures) // 5)
        for part, chosen in (("val", pictures[:held_out]), ("train", pictures[held_out:])):
            directory = options.folder / part / category.name
            directory.mkdir(parents=True)
            for _, name, picture in chosen:
                # The category's own folders become part of the name: a class is one directory.
                picture.save(directory / name.replace("/", "--"), optimize=True)
            totals[part] += len(chosen)
        print(f"{category.name}: {len(pictures) - held_out} train, {held_out} val")
    print(f"left out: {links} symbolic links, {copies} copies of an earlier file")
    print(f"train: {totals['train']} pictures, val: {totals['val']}, {len(categories)} classes")


if __name__ == "__main__":
    main()
