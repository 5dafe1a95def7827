#!/usr/bin/env python3
"""Writes the demo set: small real pictures chosen from Debian's openclipart-png (public domain).

    apt-get download openclipart-png=1:0.18+dfsg-19 && dpkg -x openclipart-png_*.deb clipart
    python3 -m venv venv && venv/bin/pip install pillow==12.0.0 numpy==2.4.6
    venv/bin/python Fixtures/demo/make_demo_images.py clipart/usr/share/openclipart/png

The choice is by rule, not by hand: every picture of the listed categories that is large enough and not too oblong is cut to its
content, composited on white, and scored by how much of it is covered, how colourful and how varied it is; the best of each
category are taken, near-duplicates and crude subjects left out, and a seeded draw puts some aside for the reconstruction grid.
Each picture is written as JPEG (quality 90) or PNG, whichever is smaller. LIST.tsv says which file came from where.
"""
import hashlib
import io
import os
import random
import re
import shutil
import sys

import numpy
import PIL
from PIL import Image

PACKAGE = "openclipart-png 1:0.18+dfsg-19"
SEED = 2208_12256
LONG_SIDE = 112
HELD_OUT = 16
# Category of the package -> pictures wanted, training and held out together.
WANTED = {
    "animals": 64, "buildings": 18, "computer": 6, "containers": 5, "decorations": 6, "education": 12, "electronics": 10,
    "food": 48, "geography": 10, "office": 16, "people": 36, "plants": 24, "recreation": 36, "science": 5, "tools": 18,
    "transportation": 36, "unsorted": 16,
}
LEFT_OUT = re.compile(
    r"dead|skull|nude|naked|sexy|bikini|gun|pistol|rifle|bomb|war|tank|blood|smok|cigar|beer|wine|alco|drug|pill|jesus|christ|"
    r"cross|flag|logo|tux|bush|hitler|stalin|lenin|che_|devil|santa|toilet|condom|weapon|knife|sword|grenade|missile|template|"
    r"bad_guy|menu_ex|map|button|card_|cards|suit_|text|banner", re.I)


Image.MAX_IMAGE_PIXELS = None  # the size is looked at before anything is decoded


def content_on_white(path):
    """The picture cut to what differs from white, on white, or None where it does not suit."""
    with Image.open(path) as image:
        width, height = image.size
        if min(width, height) < LONG_SIDE or width * height > 4_000_000:
            return None
        image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    picture = Image.alpha_composite(white, image).convert("RGB")
    ink = numpy.asarray(picture).min(axis=2) < 245
    rows, columns = numpy.flatnonzero(ink.any(1)), numpy.flatnonzero(ink.any(0))
    if len(rows) < LONG_SIDE or len(columns) < LONG_SIDE:
        return None
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    if max(right - left, bottom - top) > 1.7 * min(right - left, bottom - top):
        return None
    return picture.crop((int(left), int(top), int(right), int(bottom)))


def small(picture):
    scale = LONG_SIDE / max(picture.size)
    return picture.resize(tuple(max(1, round(side * scale)) for side in picture.size), Image.BICUBIC)


def score(pixels):
    """Larger for pictures that cover their rectangle, in several colours, with detail everywhere."""
    values = pixels.astype(numpy.float64)
    covered = (pixels.min(axis=2) < 245).mean()
    saturation = (values.max(2) - values.min(2)).mean() / 255
    colours = len(numpy.unique(pixels.reshape(-1, 3) // 48, axis=0))
    grey = values.mean(2)
    blocks = grey[: grey.shape[0] // 8 * 8, : grey.shape[1] // 8 * 8]
    blocks = blocks.reshape(blocks.shape[0] // 8, 8, -1, 8).std(axis=(1, 3))
    detailed = ((blocks > 6) & (blocks < 70)).mean()
    if colours < 6 or detailed < 0.1:
        return 0
    return min(covered, 0.9) + 1.5 * min(saturation, 0.5) + min(colours, 60) / 60 + 1.2 * detailed


def fingerprint(picture):
    return numpy.asarray(picture.resize((8, 8), Image.BOX), dtype=numpy.float64).reshape(-1)


def encoded(picture):
    jpeg, png = io.BytesIO(), io.BytesIO()
    picture.save(jpeg, "JPEG", quality=90)
    picture.save(png, "PNG", optimize=True)
    return (".png", png.getvalue()) if len(png.getvalue()) <= len(jpeg.getvalue()) else (".jpg", jpeg.getvalue())


def main(source):
    here = os.path.dirname(os.path.abspath(__file__))
    chosen, prints = [], []
    for category, wanted in WANTED.items():
        candidates = []
        for folder, folders, files in os.walk(os.path.join(source, category)):
            folders.sort()
            for name in sorted(files):
                path = os.path.join(folder, name)
                relative = os.path.relpath(path, source)
                if not name.endswith(".png") or os.path.islink(path) or LEFT_OUT.search(relative):
                    continue
                picture = content_on_white(path)
                if picture is not None:
                    picture = small(picture)
                    worth = score(numpy.asarray(picture))
                    if worth > 0:
                        candidates.append((-worth, relative, picture))
        candidates.sort(key=lambda candidate: candidate[:2])
        taken = 0
        for _, relative, picture in candidates:
            mark = fingerprint(picture)
            if taken == wanted:
                break
            if any(numpy.abs(mark - other).mean() < 14 for other in prints):
                continue
            prints.append(mark)
            chosen.append((category, relative, picture))
            taken += 1
        print(f"{category}: {taken} of {len(candidates)}", file=sys.stderr)
    # Held out: at most one from a category while categories last, so that the grid shows different things.
    order = list(range(len(chosen)))
    random.Random(SEED).shuffle(order)
    held, seen = set(), set()
    for index in order:
        if len(held) < HELD_OUT and chosen[index][0] not in seen:
            held.add(index)
            seen.add(chosen[index][0])
    for name in ("images", "held-out"):
        shutil.rmtree(os.path.join(here, name), ignore_errors=True)
    total, lines = 0, []
    for index, (category, relative, picture) in enumerate(chosen):
        extension, data = encoded(picture)
        stem = re.sub(r"[^a-z0-9]+", "-", os.path.splitext(os.path.basename(relative))[0].lower()).strip("-")
        parts = ["held-out", f"{category}-{stem}"] if index in held else ["images", category, stem]
        target = os.path.join(*parts) + extension
        os.makedirs(os.path.dirname(os.path.join(here, target)), exist_ok=True)
        if os.path.exists(os.path.join(here, target)):
            raise SystemExit(f"two pictures are named {target}")
        with open(os.path.join(here, target), "wb") as file:
            file.write(data)
        total += len(data)
        lines.append(f"{target}\t{relative}\t{picture.width}x{picture.height}\t{hashlib.sha256(data).hexdigest()[:16]}\n")
    with open(os.path.join(here, "LIST.tsv"), "w") as file:
        file.write(f"# {PACKAGE}; Pillow {PIL.__version__}; seed {SEED}; {len(chosen)} pictures, {len(held)} of them held out\n")
        file.write("# file\tpicture in the package\tsize\tfirst half of the file's SHA-256\n")
        file.writelines(sorted(lines))
    print(f"{len(chosen)} pictures, {total} bytes", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
