#!/usr/bin/env python3
"""Writes the image fixtures: small odd files, damaged ones, and what Pillow makes of them and of hundreds of crops and resizes.

    apt-get install libjpeg-turbo-progs=1:2.1.5-2
    python3 -m venv venv && venv/bin/pip install pillow==12.0.0 numpy==2.4.6
    venv/bin/python Fixtures/images/make_images.py

Pillow 13 resizes tall pictures in another order. Its pixels are recorded in place of those of 12, with the same sources, crops and sizes:

    venv/bin/pip install pillow==13.0.0 && venv/bin/python Fixtures/images/make_images.py resizes

expected.json says, for each file, what a decoder must give; pixels are named by their CRC-32 (rows from the top, channels interleaved).
PNG files are written here, byte by byte, so that every colour type, depth, filter and interlacing occurs; JPEG files by Pillow and cjpeg,
some with a marker patched. Nothing of the expectation comes from the program under test: decoding, cropping and resizing are Pillow's,
the random numbers are a second rendering of Philox, the crop rule is torchvision's.
"""
import io
import json
import math
import os
import random
import shutil
import struct
import subprocess
import sys
import warnings
import zlib

import numpy
import PIL
from PIL import Image, ImageOps, features

SEED = 20260731
HERE = os.path.dirname(os.path.abspath(__file__))
warnings.simplefilter("ignore")
rng = numpy.random.default_rng(SEED)
dice = random.Random(SEED)
expected = {"files": [], "damaged": [], "orientations": [], "resizes": [], "crops": [], "samples": [], "frames": []}


def picture(width, height, channels=3):
    """Smooth shading, hard edges and noise: something for every part of a codec."""
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.float64)
    planes = []
    for _ in range(channels):
        a, b, c, d = rng.uniform(0.02, 0.35, 2).tolist() + rng.uniform(0, 6, 2).tolist()
        plane = 127 + 70 * numpy.sin(a * x + c) + 60 * numpy.cos(b * y + d)
        for _ in range(3):
            cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(1, 0.4 * max(width, height) + 2)
            plane = numpy.where((x - cx) ** 2 + (y - cy) ** 2 < r * r, rng.uniform(-20, 275), plane)
        planes.append(plane + rng.normal(0, 6, plane.shape))
    return numpy.clip(numpy.stack(planes, 2), 0, 255).astype(numpy.uint8)


def crc(image):
    return zlib.crc32(image.tobytes())


def write(folder, name, data):
    os.makedirs(os.path.join(HERE, folder), exist_ok=True)
    with open(os.path.join(HERE, folder, name), "wb") as file:
        file.write(data)
    return data


# PNG, written by hand ------------------------------------------------------------------------------------------------

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed_rows(samples, depth):
    """Rows of bytes of samples[height, width, channels]."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    if depth == 8:
        return [row.astype(numpy.uint8).tobytes() for row in samples]
    rows = []
    for row in samples:
        bits = "".join(format(int(value), f"0{depth}b") for value in row.reshape(-1))
        bits += "0" * (-len(bits) % 8)
        rows.append(bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)))
    return rows


def filtered(rows, pixel_bytes):
    """Each row under a filter drawn at random."""
    out, above = b"", None
    for row in rows:
        above = above if above is not None else bytes(len(row))
        kind = dice.randrange(5)
        line = bytearray()
        for i, value in enumerate(row):
            left = row[i - pixel_bytes] if i >= pixel_bytes else 0
            corner = above[i - pixel_bytes] if i >= pixel_bytes else 0
            p = left + above[i] - corner
            nearest = min((abs(p - left), 0, left), (abs(p - above[i]), 1, above[i]), (abs(p - corner), 2, corner))[2]
            line.append((value - [0, left, above[i], (left + above[i]) // 2, nearest][kind]) & 255)
        out += bytes([kind]) + bytes(line)
        above = row
    return out


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, depth, colour, interlaced=False, extra=b"", end=True):
    height, width, channels = samples.shape
    pixel_bytes = max(1, depth * channels // 8)
    if interlaced:
        raw = b""
        for x, y, dx, dy in ADAM7:
            part = samples[y::dy, x::dx]
            if part.size:
                raw += filtered(packed_rows(part, depth), pixel_bytes)
    else:
        raw = filtered(packed_rows(samples, depth), pixel_bytes)
    data = zlib.compress(raw, 9)
    cut = dice.randrange(len(data) + 1)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data[:cut]) + chunk(b"IDAT", data[cut:])
        + (chunk(b"IEND", b"") if end else b"")
    )


def scaled(pixels, depth):
    if depth == 16:
        return pixels.astype(numpy.uint16) * 256 + rng.integers(0, 256, pixels.shape)
    return pixels >> (8 - depth)


def add_file(name, data):
    write("files", name, data)
    with Image.open(io.BytesIO(data)) as image:
        mode, rgb, grey = image.mode, image.convert("RGB"), image.convert("L")
    expected["files"].append({"name": name, "mode": mode, "width": rgb.width, "height": rgb.height, "rgb": crc(rgb), "grey": crc(grey)})


def make_png_files():
    palette = rng.integers(0, 256, (256, 3), dtype=numpy.uint8)
    plte = lambda count: chunk(b"PLTE", palette[:count].tobytes())
    noise = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"tEXt", b"Comment\0nothing") + chunk(b"iCCP", b"broken\0\0not zlib")
    for interlaced in (False, True):
        tag = "-interlaced" if interlaced else ""
        size = (33, 17)
        for depth in (1, 2, 4, 8):
            add_file(f"grey{depth}{tag}.png", png(scaled(picture(*size, 1), depth), depth, 0, interlaced))
            indices = rng.integers(0, 1 << depth, (17, 33, 1))
            add_file(f"palette{depth}{tag}.png", png(indices, depth, 3, interlaced, plte(1 << depth)))
        dark = numpy.where(rng.random((17, 33, 1)) < 0.5, rng.integers(0, 300, (17, 33, 1)), rng.integers(0, 65536, (17, 33, 1)))
        add_file(f"grey16{tag}.png", png(dark, 16, 0, interlaced))
        for depth in (8, 16):
            add_file(f"rgb{depth}{tag}.png", png(scaled(picture(*size, 3), depth), depth, 2, interlaced, noise))
            add_file(f"grey-alpha{depth}{tag}.png", png(scaled(picture(*size, 2), depth), depth, 4, interlaced))
            add_file(f"rgba{depth}{tag}.png", png(scaled(picture(*size, 4), depth), depth, 6, interlaced))
    for width, height in ((1, 1), (2, 1), (1, 9), (5, 3)):
        add_file(f"rgb8-{width}x{height}-interlaced.png", png(picture(width, height), 8, 2, True))
    grey, colour = picture(19, 11, 1), picture(19, 11, 3)
    add_file("grey8-transparent.png", png(grey, 8, 0, extra=chunk(b"tRNS", struct.pack(">H", int(grey[3, 3, 0])))))
    add_file("grey2-transparent.png", png(grey >> 6, 2, 0, extra=chunk(b"tRNS", struct.pack(">H", 1))))
    add_file("grey16-transparent.png", png(scaled(grey, 16), 16, 0, extra=chunk(b"tRNS", struct.pack(">H", 77))))
    add_file("rgb8-transparent.png", png(colour, 8, 2, extra=chunk(b"tRNS", struct.pack(">HHH", *map(int, colour[2, 2])))))
    indices = rng.integers(0, 256, (11, 19, 1))
    add_file("palette8-alpha.png", png(indices, 8, 3, extra=plte(256) + chunk(b"tRNS", bytes(range(256)))))
    add_file("palette8-one-transparent.png", png(indices, 8, 3, extra=plte(256) + chunk(b"tRNS", b"\xff\xff\x00\xff")))
    add_file("palette8-short.png", png(indices, 8, 3, extra=plte(100)))
    add_file("rgb8-without-end.png", png(colour, 8, 2, end=False))
    frames = [Image.fromarray(picture(12, 9)) for _ in range(2)]
    animated = io.BytesIO()
    frames[0].save(animated, "PNG", save_all=True, append_images=frames[1:])
    add_file("rgb8-animated.png", animated.getvalue())
    add_file("png-named.jpg", png(colour, 8, 2))


# JPEG ----------------------------------------------------------------------------------------------------------------

def jpeg(pixels, mode="RGB", **options):
    data = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels, mode).save(data, "JPEG", **options)
    return data.getvalue()


def cjpeg(pixels, *options):
    height, width, channels = pixels.shape
    head = f"P{6 if channels == 3 else 5} {width} {height} 255\n".encode()
    return subprocess.run(["cjpeg", *options], input=head + pixels.tobytes(), capture_output=True, check=True).stdout


def patched(data, marker, offset, value):
    """`data` with the byte at `offset` of the first segment of that marker (counted behind its length) replaced."""
    at = data.index(bytes([0xFF, marker])) + 4 + offset
    return data[:at] + bytes([value]) + data[at + 1 :]


def without(data, marker):
    at = data.index(bytes([0xFF, marker]))
    return data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0] :]


def make_jpeg_files():
    for width, height in ((1, 1), (2, 3), (7, 5), (8, 8), (16, 17), (61, 47)):
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            pixels = picture(width, height)
            add_file(f"{subsampling.replace(':', '')}-{width}x{height}.jpg", jpeg(pixels, quality=dice.choice((40, 75, 95)), subsampling=subsampling))
    pixels, odd = picture(61, 47), picture(35, 29)
    for quality in (1, 30, 100):
        add_file(f"quality{quality}.jpg", jpeg(odd, quality=quality))
    add_file("grey.jpg", jpeg(picture(43, 31, 1), "L"))
    add_file("grey-progressive.jpg", jpeg(picture(43, 31, 1), "L", progressive=True))
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        add_file(f"progressive-{subsampling.replace(':', '')}.jpg", jpeg(pixels, progressive=True, subsampling=subsampling))
    add_file("restarts.jpg", jpeg(pixels, restart_marker_blocks=3))
    add_file("optimized.jpg", jpeg(pixels, optimize=True, quality=85))
    for name, options in (
        ("440", ("-sample", "1x2")), ("411", ("-sample", "4x1")), ("410", ("-sample", "4x2")), ("441", ("-sample", "1x4")),
        ("mixed", ("-sample", "2x2,1x2,2x1")), ("arithmetic", ("-arithmetic",)), ("smoothed", ("-smooth", "20", "-quality", "60")),
        ("adobe-rgb", ("-rgb",)), ("progressive-restarts", ("-progressive", "-restart", "1")), ("quality-extremes", ("-quality", "90,20,5")),
    ):
        add_file(f"cjpeg-{name}.jpg", cjpeg(odd, *options))
    cmyk = jpeg(picture(37, 21, 4), "CMYK", quality=90)
    add_file("cmyk-adobe.jpg", cmyk)
    add_file("ycck-adobe.jpg", patched(cmyk, 0xEE, 11, 2))
    add_file("cmyk-plain.jpg", without(cmyk, 0xEE))
    add_file("cmyk-progressive.jpg", jpeg(picture(37, 21, 4), "CMYK", progressive=True))
    add_file("rgb-by-adobe.jpg", patched(cjpeg(odd, "-rgb"), 0xEE, 11, 1))
    add_file("comment.jpg", jpeg(odd, comment=b"a comment", dpi=(300, 300)))
    add_file("jpeg-named.png", jpeg(odd))
    add_file("trailing-bytes.jpg", jpeg(odd) + b"something else" * 20)


# Damage --------------------------------------------------------------------------------------------------------------

def verdict(data):
    """CRC-32 of what Pillow decodes, None where it raises."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return crc(image.convert("RGB"))
    except Exception:
        return None


def make_damaged():
    sources = {
        "baseline.jpg": jpeg(picture(90, 70), quality=85), "progressive.jpg": jpeg(picture(90, 70), progressive=True),
        "rgb.png": png(picture(40, 30), 8, 2), "interlaced.png": png(picture(40, 30), 8, 2, True),
    }
    for name, data in sources.items():
        write("damaged", name, data)
        for _ in range(40):
            cut = dice.choice((dice.randrange(len(data)), len(data) - dice.randrange(1, 40)))
            expected["damaged"].append({"name": name, "length": cut, "rgb": verdict(data[:cut])})
        for _ in range(150):
            at, bit = dice.randrange(len(data)), dice.randrange(8)
            broken = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            expected["damaged"].append({"name": name, "flip": [at, bit], "rgb": verdict(broken)})
    write("bad", "text.jpg", b"This is a text file, whatever its name says.\n")
    write("bad", "empty.png", b"")
    write("bad", "three-bytes.jpg", b"\xff\xd8\xff")
    write("bad", "signature.png", b"\x89PNG\r\n\x1a\n")
    gif = io.BytesIO()
    Image.fromarray(picture(8, 8)).save(gif, "GIF")
    write("bad", "gif.jpg", gif.getvalue())
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    write("bad", "huge.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    small = jpeg(picture(16, 16))
    at = small.index(b"\xff\xc0") + 5
    write("bad", "huge.jpg", small[:at] + struct.pack(">HH", 65000, 65000) + small[at + 4 :])
    write("bad", "truncated.jpg", sources["baseline.jpg"][:900])
    write("bad", "truncated.png", sources["rgb.png"][:900])
    write("bad", "two-components.jpg", b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 14, 8, 4, 4, 2) + bytes([1, 0x11, 0, 2, 0x11, 0]) + b"\xff\xd9")


def make_orientations():
    pixels = picture(13, 9)
    for orientation in range(0, 10):
        for name, big in (("jpg", False), ("jpg", True), ("png", False)):
            exif = Image.Exif()
            exif.endian = ">" if big else "<"
            exif[0x010F] = "maker"
            exif[0x0112] = orientation
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "JPEG" if name == "jpg" else "PNG", exif=exif.tobytes())
            file = f"orientation{orientation}{'-big' if big else ''}.{name}"
            write("files", file, data.getvalue())
            with Image.open(io.BytesIO(data.getvalue())) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
                plain = image.convert("RGB")
            expected["orientations"].append({"name": file, "width": upright.width, "height": upright.height, "rgb": crc(upright), "plain": crc(plain)})


# Crops and resizes ----------------------------------------------------------------------------------------------------

def make_resizes():
    sources = {"large.png": picture(150, 110), "wide.png": picture(97, 5), "grey.png": picture(71, 83, 1), "dot.png": picture(1, 1)}
    images = {}
    for name, pixels in sources.items():
        images[name] = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
        data = io.BytesIO()
        images[name].save(data, "PNG", optimize=True)
        write("resize", name, data.getvalue())
    for number in range(480):
        name = dice.choices(list(images), (6, 2, 3, 1))[0]
        image = images[name]
        entry = {"source": name}
        kind = number % 4
        part = image
        if kind in (0, 1):
            width, height = dice.randint(1, image.width), dice.randint(1, image.height)
            left, top = dice.randint(0, image.width - width), dice.randint(0, image.height - height)
            entry["crop"] = [left, top, width, height]
            part = image.crop((left, top, left + width, top + height))
        box = None
        if kind == 2:
            left, right = sorted(dice.uniform(0, image.width) for _ in range(2))
            top, bottom = sorted(dice.uniform(0, image.height) for _ in range(2))
            if number % 8 == 2:
                left, top, right, bottom = (round(v, 1) for v in (left, top, right, bottom))
            box = [float(numpy.float32(v)) for v in (left, top, max(right, left + 0.05), max(bottom, top + 0.05))]
            box[2], box[3] = min(box[2], image.width), min(box[3], image.height)
            if box[0] >= box[2] or box[1] >= box[3]:
                box = [0.0, 0.0, float(image.width), float(image.height)]
            entry["box"] = box
        size = [dice.choice((1, 2, 7, 16, 31, 32, 64)), dice.choice((1, 2, 7, 16, 31, 32, 64))]
        if number % 11 == 0:
            size[0] = part.width
        if number % 13 == 0:
            size[1] = part.height
        result = part.resize(size, Image.BICUBIC, box=box)
        entry.update(size=size, crc=crc(result))
        expected["resizes"].append(entry)


class Philox:
    """Philox 4x32-10 and what is drawn from it, as Sources/Tensors/CounterRandom.swift documents."""

    def __init__(self, seed, purpose, epoch, index):
        self.key = [seed & 0xFFFFFFFF, seed >> 32]
        self.counter = [0, purpose << 24 | epoch & 0xFFFFFF, index & 0xFFFFFFFF, index >> 32]
        self.words = []

    def word(self):
        if not self.words:
            c, k = list(self.counter), list(self.key)
            for _ in range(10):
                p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
                c = [p1 >> 32 ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, p0 >> 32 ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
                k = [k[0] + 0x9E3779B9 & 0xFFFFFFFF, k[1] + 0xBB67AE85 & 0xFFFFFFFF]
            self.words = c
            self.counter[0] = self.counter[0] + 1 & 0xFFFFFFFF
        return self.words.pop(0)

    def next(self):
        low = self.word()
        return self.word() << 32 | low

    def uniform(self, low, high):
        return low + (high - low) * ((self.next() >> 11) * 2.0**-53)

    def below(self, bound):
        product = self.next() * bound
        while product & (1 << 64) - 1 < (1 << 64) % bound:
            product = self.next() * bound
        return product >> 64

    def permutation(self, count):
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


CROP, FLIP = 3, 4


def random_crop(width, height, area, aspect, draw):
    """torchvision.transforms.RandomResizedCrop.get_params."""
    for _ in range(10):
        target = height * width * draw.uniform(*area)
        ratio = math.exp(draw.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = int(round(math.sqrt(target * ratio))), int(round(math.sqrt(target / ratio)))
        if 0 < w <= width and 0 < h <= height:
            top = draw.below(height - h + 1)
            return draw.below(width - w + 1), top, w, h
    shape = width / height
    w, h = width, height
    if shape < min(aspect):
        h = int(round(w / min(aspect)))
    elif shape > max(aspect):
        w = int(round(h * max(aspect)))
    return (width - w) // 2, (height - h) // 2, w, h


def make_crops():
    for number in range(200):
        width, height = dice.choice(((500, 375), (375, 500), (31, 17), (1, 1), (3, 400), (900, 7), (64, 64), (2, 2)))
        area = (0.2, 1.0) if number % 3 else (0.08, 1.0)
        seed, epoch, index = dice.getrandbits(64), dice.randrange(1000), dice.randrange(2**40)
        rectangle = random_crop(width, height, area, (3 / 4, 4 / 3), Philox(seed, CROP, epoch, index))
        expected["crops"].append({"size": [width, height], "area": area, "seed": str(seed), "epoch": epoch, "index": index, "crop": rectangle})
    image = Image.open(os.path.join(HERE, "resize", "large.png"))
    for number in range(60):
        seed, epoch, index = dice.getrandbits(64), dice.randrange(1000), dice.randrange(2**40)
        width, height = dice.choice(((32, 32), (48, 24), (64, 64)))
        left, top, w, h = random_crop(image.width, image.height, (0.2, 1.0), (3 / 4, 4 / 3), Philox(seed, CROP, epoch, index))
        sample = image.crop((left, top, left + w, top + h)).resize((width, height), Image.BICUBIC)
        flipped = Philox(seed, FLIP, epoch, index).uniform(0, 1) < 0.5
        if flipped:
            sample = sample.transpose(Image.FLIP_LEFT_RIGHT)
        expected["samples"].append({"size": [width, height], "seed": str(seed), "epoch": epoch, "index": index, "flipped": flipped, "crc": crc(sample)})


def make_frames():
    """torchvision's Resize(int(size / 0.875 or size)) and CenterCrop(size)."""
    for source in ("large.png", "grey.png"):
        image = Image.open(os.path.join(HERE, "resize", source))
        for size in (14, 32, 56, 57, 96, 230):
            short = int(size / (0.875 if size <= 224 else 1))
            w, h = image.size
            new = (short, int(short * h / w)) if w <= h else (int(short * w / h), short)
            resized = image.resize(new, Image.BICUBIC) if new != image.size else image
            top, left = int(round((new[1] - size) / 2.0)), int(round((new[0] - size) / 2.0))
            sample = resized.crop((left, top, left + size, top + size))
            expected["frames"].append({"source": source, "size": size, "resized": new, "crop": [left, top, size, size], "crc": crc(sample)})


def remake_resizes():
    """The pixels of `resizes`, `samples` and `frames` in expected.json, by the Pillow at hand."""
    with open(os.path.join(HERE, "expected.json")) as file:
        expected.update(json.load(file))
    images = {name: Image.open(os.path.join(HERE, "resize", name)) for name in ("large.png", "wide.png", "grey.png", "dot.png")}
    for entry in expected["resizes"]:
        part = images[entry["source"]]
        if "crop" in entry:
            left, top, width, height = entry["crop"]
            part = part.crop((left, top, left + width, top + height))
        entry["crc"] = crc(part.resize(entry["size"], Image.BICUBIC, box=entry.get("box")))
    for entry in expected["samples"]:
        draw = Philox(int(entry["seed"]), CROP, entry["epoch"], entry["index"])
        left, top, w, h = random_crop(images["large.png"].width, images["large.png"].height, (0.2, 1.0), (3 / 4, 4 / 3), draw)
        sample = images["large.png"].crop((left, top, left + w, top + h)).resize(entry["size"], Image.BICUBIC)
        entry["crc"] = crc(sample.transpose(Image.FLIP_LEFT_RIGHT) if entry["flipped"] else sample)
    for entry in expected["frames"]:
        image, (left, top, w, h) = images[entry["source"]], entry["crop"]
        resized = image.resize(entry["resized"], Image.BICUBIC) if tuple(entry["resized"]) != image.size else image
        entry["crc"] = crc(resized.crop((left, top, left + w, top + h)))
    expected["made_with"]["pillow_of_resizes"] = PIL.__version__
    write_expected()


def main():
    for folder in ("files", "damaged", "bad", "resize"):
        shutil.rmtree(os.path.join(HERE, folder), ignore_errors=True)
    make_png_files()
    make_jpeg_files()
    make_damaged()
    make_orientations()
    make_resizes()
    make_crops()
    make_frames()
    expected["permutation"] = {"seed": "81985529216486895", "epoch": 7, "order": Philox(81985529216486895, 2, 7, 0).permutation(40)}
    expected["made_with"] = {"pillow": PIL.__version__, "libjpeg_turbo": features.version("libjpeg_turbo"), "numpy": numpy.__version__, "seed": SEED}
    write_expected()


def write_expected():
    with open(os.path.join(HERE, "expected.json"), "w") as file:
        file.write("{\n")
        lines = []
        for key, value in expected.items():
            if isinstance(value, list):
                body = ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in value)
                lines.append(f'"{key}": [\n{body}\n]')
            else:
                lines.append(f'"{key}": {json.dumps(value)}')
        file.write(",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    remake_resizes() if sys.argv[1:] == ["resizes"] else main()
