#!/usr/bin/env python3
"""Writes expected.json and tall.png: what Pillow 13 makes of resizes with every filter, of tall, wide and borderline pictures, and of
the centre crops of torchvision's, timm's and transformers' rules.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 numpy==2.4.6
    venv/bin/python Fixtures/resizing/make_resizing.py

Pixels are named by the CRC-32 of their bytes (rows from the top, channels interleaved). The other sources are those of ../images/resize.
"""
import json
import math
import os
import random
import zlib

import numpy
import PIL
from PIL import Image

SEED = 25
HERE = os.path.dirname(os.path.abspath(__file__))
dice = random.Random(SEED)
rng = numpy.random.default_rng(SEED)
FILTERS = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR, "box": Image.BOX, "hamming": Image.HAMMING, "lanczos": Image.LANCZOS}


def crc(image):
    return zlib.crc32(image.tobytes())


def tall():
    """Smooth shading, bars and noise, much higher than wide."""
    y, x = numpy.mgrid[0:220, 0:31].astype(numpy.float64)
    planes = [127 + 80 * numpy.sin(x * a + y * b + c) + 40 * ((y // d) % 2) + rng.normal(0, 8, y.shape)
              for a, b, c, d in ((0.3, 0.05, 0, 7), (0.2, 0.11, 1, 3), (0.5, 0.02, 2, 13))]
    return Image.fromarray(numpy.clip(numpy.stack(planes, 2), 0, 255).astype(numpy.uint8))


tall().save(os.path.join(HERE, "tall.png"), optimize=True)
images = {name: Image.open(os.path.join(HERE, folder, name)) for folder, name in (
    ("", "tall.png"), ("../images/resize", "large.png"), ("../images/resize", "grey.png"), ("../images/resize", "wide.png"))}


def resizes():
    entries = []
    for number in range(320):
        name = dice.choices(list(images), (4, 2, 2, 1))[0]
        filter = list(FILTERS)[number % 5]
        part, entry, box = images[name], {"source": name, "filter": filter}, None
        if number % 3 == 1:
            width, height = dice.randint(2, part.width), dice.randint(2, part.height)
            left, top = dice.randint(0, part.width - width), dice.randint(0, part.height - height)
            entry["crop"] = [left, top, width, height]
            part = part.crop((left, top, left + width, top + height))
        if number % 4 == 2:
            left, right = dice.randint(0, part.width - 1) / 2, part.width - dice.randint(0, part.width // 4)
            top, bottom = dice.randint(0, part.height - 1) / 2, part.height - dice.randint(0, part.height // 4)
            if "crop" not in entry and left < right and top < bottom:
                box = entry["box"] = [left, top, right, bottom]
        width = dice.choice((1, 5, 16, 31, 40))
        # Around the size from which on the vertical pass is the first: more than twice as many rows as columns fall away.
        edge = part.height - 2 * (part.width - width)
        height = dice.choice((edge - 1, edge, edge + 1, part.height - 1, part.height + 1, 1, 16, 40))
        if height < 1 or height > 300:
            height = 24
        entry["size"] = [width, height]
        entries.append(entry | {"crc": crc(part.resize((width, height), FILTERS[filter], box=box))})
    return entries


def frames():
    """The picture resized, by its short side or squashed to a square, then cropped in the middle, for samples of `size` pixels."""
    entries = []
    for source, image in images.items():
        for number, (size, fraction, squashes, down) in enumerate((
                (32, 0.9, False, False), (32, 0.9, True, False), (32, 1.0, True, False), (32, 1.0, False, True), (24, 0.95, False, True),
                (33, 0.875, False, True), (230, 0.875, False, False), (20, 0.6, True, True), (31, 1.0, False, False))):
            filter = list(FILTERS)[number % 5]
            short, (w, h) = math.floor(size / fraction), image.size
            if squashes:
                new = (short, short)
            else:  # torchvision's Resize(short)
                new = (short, int(short * h / w)) if w <= h else (int(short * w / h), short)
            resized = image.resize(new, FILTERS[filter])
            left, top = (m // 2 if down else int(round(m / 2.0)) for m in (new[0] - size, new[1] - size))
            entries.append({
                "source": source, "filter": filter, "size": size, "fraction": fraction, "squashes": squashes, "down": down,
                "resized": new, "crop": [left, top], "crc": crc(resized.crop((left, top, left + size, top + size)))})
    return entries


with open(os.path.join(HERE, "expected.json"), "w") as file:
    parts = []
    for key, entries in (("resizes", resizes()), ("frames", frames())):
        body = ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in entries)
        parts.append(f'"{key}": [\n{body}\n]')
    parts.append('"made_with": ' + json.dumps({"pillow": PIL.__version__, "numpy": numpy.__version__, "seed": SEED}))
    file.write("{\n" + ",\n".join(parts) + "\n}\n")
