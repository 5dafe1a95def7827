#!/usr/bin/env python3
"""Writes WebP, GIF, BMP, PBM, PGM and PPM files of every kind that Pillow reads, and says in formats.json what Pillow makes of them.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 numpy==2.4.6
    venv/bin/python Fixtures/pictures/make_formats.py

Pixels are named by their CRC-32 (rows from the top, channels interleaved): Image.convert, Image.alpha_composite over backgrounds,
ImageOps.exif_transpose. A file that Pillow refuses has none. Pillow writes the WebP files (animations with their frames are put together
here) and the usual ones of the other formats; those that Pillow cannot write are written here, byte by byte.
"""
import io
import json
import os
import random
import shutil
import struct
import sys
import warnings
import zlib

import numpy
import PIL
from PIL import Image, ImageOps, features

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "images"))
sys.path.insert(0, HERE)
import make_images  # noqa: E402
from make_images import jpeg, picture, png  # noqa: E402
from make_pictures import BACKGROUNDS, ELEMENT, EXIF, MAKER, crc, short, tiff, xmp  # noqa: E402

warnings.simplefilter("ignore")
SEED = 20261201
make_images.rng = rng = numpy.random.default_rng(SEED)
dice = random.Random(SEED)
expected = {"files": [], "orientations": [], "damaged": []}
SIZE = WIDTH, HEIGHT = 29, 19


def write(name, data):
    with open(os.path.join(HERE, "formats", name), "wb") as file:
        file.write(data)


def opened(data):
    return Image.open(io.BytesIO(data))


def rgb_of(data):
    """The CRC of the picture as RGB, or None where Pillow refuses it."""
    try:
        with opened(data) as image:
            return crc(image.convert("RGB"))
    except Exception:
        return None


def add(name, data):
    write(name, data)
    entry = {"name": name, "rgb": rgb_of(data), "over": {}, "overGrey": {}}
    expected["files"].append(entry)
    if entry["rgb"] is None:
        return
    with opened(data) as image:
        image.load()
        alike = image.convert("RGB") if image.mode in ("I", "1") else image
        rgba = alike.convert("RGBA")
        entry.update(
            mode=image.mode, width=image.width, height=image.height, grey=crc(image.convert("L")),
            transparent=int(numpy.asarray(rgba)[..., 3].min()) < 255)
        if image.mode == "I":
            samples = numpy.asarray(image)
            entry.update(scale=crc(Image.fromarray((samples >> 8).astype(numpy.uint8))), clipped=int((samples > 255).sum()))
    for background, colour in BACKGROUNDS.items():
        composited = Image.alpha_composite(Image.new("RGBA", rgba.size, colour + (255,)), rgba).convert("RGB")
        entry["over"][background] = crc(composited)
        entry["overGrey"][background] = crc(composited.convert("L"))


def add_orientation(name, data):
    write(name, data)
    with opened(data) as image:
        plain = image.convert("RGB")
        try:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        except Exception as reason:
            print(f"{name}: {reason!r}; as stored")
            upright = plain
    expected["orientations"].append({"name": name, "width": upright.width, "height": upright.height, "rgb": crc(upright), "plain": crc(plain)})


def add_damage(name, data, lengths, flips):
    """The file cut to some lengths, and with single bits turned over."""
    for length in sorted({dice.randrange(len(data)) for _ in range(lengths)} | {len(data) - 1, len(data) - 2, len(data) - 3}):
        expected["damaged"].append({"name": name, "length": length, "rgb": rgb_of(data[:length])})
    for _ in range(flips):
        place, bit = dice.randrange(len(data)), dice.randrange(8)
        broken = bytearray(data)
        broken[place] ^= 1 << bit
        with_size = opened_size(bytes(broken))
        if with_size is not None and with_size > 1 << 22:
            continue  # takes long to decode
        expected["damaged"].append({"name": name, "flip": [place, bit], "rgb": rgb_of(bytes(broken))})


def opened_size(data):
    try:
        with opened(data) as image:
            return image.width * image.height
    except Exception:
        return None


def saved(image, form, **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def with_alpha():
    samples = picture(*SIZE, 4)
    samples[..., 3] = rng.integers(0, 256, samples.shape[:2])
    samples[:6, :, 3], samples[6:9, :, 3] = 0, 255
    return Image.fromarray(samples)


# WebP -----------------------------------------------------------------------------------------------------------------

def riff(*chunks):
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def chunks_of(data):
    """The chunks of a WebP file."""
    found, offset = [], 12
    while offset < len(data):
        kind, size = data[offset : offset + 4], struct.unpack("<I", data[offset + 4 : offset + 8])[0]
        found.append((kind, data[offset + 8 : offset + 8 + size]))
        offset += 8 + size + size % 2
    return found


def three(number):
    return struct.pack("<I", number)[:3]


def vp8x(flags, width, height):
    return b"VP8X", struct.pack("<I", flags) + three(width - 1) + three(height - 1)


def animated(canvas, flags, background, frames):
    """An animation whose frames are (image, left, top, blend, dispose) with even places."""
    chunks = [vp8x(flags | 2, *canvas), (b"ANIM", struct.pack("<IH", background, 0))]
    for image, left, top, flag in frames:
        parts = [part for part in chunks_of(image) if part[0] in (b"ALPH", b"VP8 ", b"VP8L")]
        with opened(image) as size:
            width, height = size.size
        head = three(left // 2) + three(top // 2) + three(width - 1) + three(height - 1) + three(100) + bytes([flag])
        chunks.append((b"ANMF", head + riff(*parts)[12:]))
    return riff(*chunks)


def make_webp():
    image = Image.fromarray(picture(*SIZE))
    clear = with_alpha()
    lossy, lossless = saved(image, "WEBP", quality=80), saved(image, "WEBP", lossless=True)
    add("lossy.webp", lossy)
    add("lossless.webp", lossless)
    add("lossy-low.webp", saved(image, "WEBP", quality=3))
    add("lossy-large.webp", saved(Image.fromarray(picture(150, 101)), "WEBP", quality=60))
    add("grey.webp", saved(Image.fromarray(picture(*SIZE, 1)[..., 0]), "WEBP", quality=70))
    add("few-colours.webp", saved(Image.fromarray(picture(*SIZE) // 64 * 64), "WEBP", lossless=True))
    add("one-pixel.webp", saved(Image.new("RGB", (1, 1), (200, 100, 50)), "WEBP", lossless=True))
    lossy_clear, lossless_clear = saved(clear, "WEBP", quality=70), saved(clear, "WEBP", lossless=True, exact=True)
    add("lossy-alpha.webp", lossy_clear)
    add("lossy-alpha-low.webp", saved(clear, "WEBP", quality=60, alpha_quality=20))
    add("lossless-alpha.webp", lossless_clear)
    add("lossless-alpha-inexact.webp", saved(clear, "WEBP", lossless=True))
    add("opaque-alpha.webp", saved(image.convert("RGBA"), "WEBP", lossless=True))
    picture_of = lambda data: [part for part in chunks_of(data) if part[0] in (b"ALPH", b"VP8 ", b"VP8L")]
    add("alpha-not-announced.webp", riff(vp8x(0, *SIZE), *picture_of(lossy_clear)))
    add("alpha-announced.webp", riff(vp8x(0x10, *SIZE), *picture_of(lossy)))
    add("lossless-alpha-not-announced.webp", riff(vp8x(0, *SIZE), *picture_of(lossless_clear)))
    add("behind-the-end.webp", lossy + b"more bytes")
    add("unknown-chunk.webp", riff(vp8x(0, *SIZE), (b"abcd", b"12345"), *picture_of(lossy)))
    add("webp.jpg", lossy)
    add("other-canvas.webp", riff(vp8x(0, WIDTH + 2, HEIGHT), *picture_of(lossy)))
    add("no-picture.webp", riff(vp8x(0, *SIZE)))
    add("no-chunk.webp", riff())
    second = saved(Image.fromarray(255 - picture(*SIZE)), "WEBP", lossless=True)
    small, small_clear = saved(image.crop((0, 0, 12, 9)), "WEBP", quality=80), saved(clear.crop((0, 3, 12, 12)), "WEBP", lossless=True, exact=True)
    add("animated.webp", animated(SIZE, 0, 0xFF112233, [(lossless, 0, 0, 0), (second, 0, 0, 0)]))
    add("animated-alpha.webp", animated(SIZE, 0x10, 0xFF112233, [(lossy_clear, 0, 0, 0), (second, 0, 0, 0)]))
    add("animated-offset.webp", animated(SIZE, 0x10, 0xFF112233, [(small, 8, 6, 0), (second, 0, 0, 0)]))
    add("animated-offset-opaque.webp", animated(SIZE, 0, 0xFF112233, [(small, 8, 6, 2), (second, 0, 0, 0)]))
    add("animated-offset-alpha.webp", animated(SIZE, 0x10, 0x80FFFFFF, [(small_clear, 16, 10, 3), (lossy, 0, 0, 0)]))
    add("animated-outside.webp", animated(SIZE, 0x10, 0, [(small, 28, 6, 0)]))
    add("animated-empty.webp", animated(SIZE, 0, 0, []))
    add("animated-pillow.webp", saved(clear, "WEBP", save_all=True, append_images=[image.convert("RGBA")], duration=100, lossless=True))
    oriented = lambda flags, *more: riff(vp8x(flags, *SIZE), *picture_of(lossy), *more)
    exif, xmps = lambda data: (b"EXIF", data), lambda data: (b"XMP ", data)
    for name, data in {
        "exif-6": oriented(8, exif(tiff(short(6)))), "exif-8-big": oriented(8, exif(tiff(short(8, True), big=True))), "exif-marked": oriented(8, exif(EXIF + tiff(short(5)))),
        "exif-marked-twice": oriented(8, exif(EXIF + EXIF + tiff(short(7)))), "exif-not-announced": oriented(0, exif(tiff(short(6)))), "exif-twice": oriented(8, exif(tiff(short(6))), exif(tiff(short(3)))),
        "exif-damaged": oriented(12, exif(b"rubbish!"), xmps(xmp(6))), "exif-empty": oriented(12, exif(b""), xmps(xmp(6))), "exif-without": oriented(12, exif(tiff(MAKER)), xmps(xmp(3))),
        "xmp-6": oriented(4, xmps(xmp(6))), "xmp-element": oriented(4, xmps(xmp(2, ELEMENT))), "xmp-loses": oriented(12, exif(tiff(short(4))), xmps(xmp(6))), "xmp-not-announced": oriented(8, xmps(xmp(6))),
        "exif-before": riff(vp8x(8, *SIZE), exif(tiff(short(6))), *picture_of(lossy)), "exif-without-vp8x": riff(*picture_of(lossy), exif(tiff(short(6)))),
        "exif-pillow": saved(image, "WEBP", exif=tiff(short(6))), "xmp-pillow": saved(image, "WEBP", xmp=xmp(8)),
    }.items():
        add_orientation(name + ".webp", data)
    add_damage("lossy.webp", lossy, 25, 60)
    add_damage("lossless.webp", lossless, 25, 60)
    add_damage("lossy-alpha.webp", lossy_clear, 25, 60)


# GIF ------------------------------------------------------------------------------------------------------------------

def lzw(indices, bits, clear_at=4096):
    """The indices compressed; the table is cleared when it holds `clear_at` codes, and stays as it is at 4096 where that is more."""
    clear = 1 << bits
    size, table, free = bits + 1, {(index,): index for index in range(clear)}, clear + 2
    out, pending, count = bytearray(), 0, 0

    def put(code):
        nonlocal pending, count
        pending |= code << count
        count += size
        while count >= 8:
            out.append(pending & 255)
            pending >>= 8
            count -= 8

    put(clear)
    string = ()
    for index in indices:
        if string + (index,) in table:
            string += (index,)
            continue
        put(table[string])
        if free < 4096:
            table[string + (index,)] = free
            if free == 1 << size and size < 12:
                size += 1
            free += 1
        string = (index,)
        if free >= clear_at:
            put(table[string])
            string = ()
            put(clear)
            size, table, free = bits + 1, {(index,): index for index in range(clear)}, clear + 2
    if string:
        put(table[string])
        if free == 1 << size and size < 12:
            size += 1
    put(clear + 1)
    if count:
        out.append(pending & 255)
    return blocks(bytes([bits]), bytes(out))


def blocks(before, data, length=255):
    return before + b"".join(bytes([len(data[i : i + length])]) + data[i : i + length] for i in range(0, len(data), length)) + b"\0"


def colours(count, ramp=False):
    return b"".join(bytes([i, i, i]) for i in range(count)) if ramp else rng.integers(0, 256, 3 * count, dtype=numpy.uint8).tobytes()


def table_flags(palette):
    return 0x80 | (len(palette) // 3).bit_length() - 2 if palette else 0


def gif(size, palette, *parts, version=b"GIF89a", background=0, end=b";"):
    return version + struct.pack("<HHBBB", *size, table_flags(palette), background, 0) + palette + b"".join(parts) + end


def control(transparent=None, disposal=0):
    return b"!\xf9\x04" + bytes([disposal << 2 | (transparent is not None), 0, 0, transparent or 0]) + b"\0"


def frame(indices, bits, place=(0, 0), palette=b"", interlaced=False, data=None):
    height, width = indices.shape
    rows = [y for start, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(start, height, step)] if interlaced else range(height)
    values = [int(value) for y in rows for value in indices[y]]
    return b"," + struct.pack("<HHHHB", *place, width, height, table_flags(palette) | (0x40 if interlaced else 0)) + palette + (data or lzw(values, bits))


def make_gif():
    shapes = lambda bits, size=SIZE: picture(*size, 1)[..., 0] >> (8 - bits)
    eight = shapes(8)
    palette = colours(256)
    image = Image.fromarray(picture(*SIZE))
    add("pillow.gif", saved(image, "GIF"))
    add("gif.jpg", saved(image, "GIF"))
    add("pillow-grey.gif", saved(image.convert("L"), "GIF"))
    add("pillow-transparent.gif", saved(with_alpha(), "GIF"))
    add("pillow-animated.gif", saved(image, "GIF", save_all=True, append_images=[Image.fromarray(picture(*SIZE))]))
    for bits in range(1, 9):
        add(f"bits{bits}.gif", gif(SIZE, colours(1 << bits), frame(shapes(bits), max(2, bits))))
    add("bits1-of-1.gif", gif(SIZE, colours(2), frame(shapes(1), 1)))
    add("87a.gif", gif(SIZE, palette, frame(eight, 8), version=b"GIF87a"))
    add("interlaced.gif", gif(SIZE, palette, frame(eight, 8, interlaced=True)))
    for height in range(1, 9):
        add(f"interlaced-{height}.gif", gif((5, height), palette, frame(eight[:height, :5], 8, interlaced=True)))
    noise = rng.integers(0, 256, (70, 110), dtype=numpy.uint8)
    add("full-table.gif", gif((110, 70), palette, frame(noise, 8, data=lzw(noise.reshape(-1).tolist(), 8, 5000))))
    add("full-table-cleared.gif", gif((110, 70), palette, frame(noise, 8)))
    add("cleared-often.gif", gif(SIZE, palette, frame(eight, 8, data=lzw(eight.reshape(-1).tolist(), 8, 300))))
    plain = numpy.full((40, 60), 3, dtype=numpy.uint8)
    add("long-runs.gif", gif((60, 40), palette, frame(plain, 8)))
    local = colours(16)
    four = shapes(4)
    add("local.gif", gif(SIZE, palette, frame(four, 4, palette=local)))
    add("local-only.gif", gif(SIZE, b"", frame(four, 4, palette=local)))
    add("local-interlaced.gif", gif(SIZE, palette, control(5), frame(four, 4, palette=local, interlaced=True)))
    add("local-ramp.gif", gif(SIZE, palette, frame(four, 4, palette=colours(16, True))))
    add("no-palette.gif", gif(SIZE, b"", frame(eight, 8)))
    add("ramp.gif", gif(SIZE, colours(256, True), frame(eight, 8)))
    add("ramp-short.gif", gif(SIZE, colours(4, True), frame(eight, 8)))
    add("ramp-transparent.gif", gif(SIZE, colours(256, True), control(int(eight[5, 5])), frame(eight, 8)))
    add("beyond-palette.gif", gif(SIZE, colours(4), frame(eight, 8)))
    add("transparent.gif", gif(SIZE, colours(16), control(int(four[5, 5])), frame(four, 4)))
    add("transparent-beyond.gif", gif(SIZE, colours(16), control(200), frame(four, 4, (3, 2))))
    add("transparent-unused.gif", gif(SIZE, colours(64), control(40), frame(four, 6)))
    add("transparent-index-only.gif", gif(SIZE, colours(16), b"!\xf9\x04\0\0\0\5\0", frame(four, 4)))
    add("two-controls.gif", gif(SIZE, colours(16), control(3), control(), frame(four, 4)))
    add("offset.gif", gif((40, 30), colours(16), frame(four, 4, (7, 5))))
    add("offset-background.gif", gif((40, 30), colours(16), frame(four, 4, (7, 5)), background=9))
    add("offset-transparent.gif", gif((40, 30), colours(16), control(2), frame(four, 4, (7, 5))))
    add("offset-disposal.gif", gif((40, 30), colours(16), control(2, 2), frame(four, 4, (7, 5)), background=9))
    add("outside.gif", gif((20, 10), colours(16), frame(four, 4, (7, 5))))
    add("outside-transparent.gif", gif((20, 10), colours(16), control(4), frame(four, 4, (7, 5), interlaced=True)))
    add("no-screen.gif", gif((0, 0), colours(16), frame(four, 4)))
    add("extensions.gif", gif(SIZE, colours(16), b"!\xfe\5hello\3you\0", b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0", b"!\x01\x0c" + bytes(12) + b"\4text\0", control(1), frame(four, 4)))
    add("empty-comment.gif", gif(SIZE, colours(16), b"!\xfe\0", frame(four, 4)))
    add("stray-bytes.gif", gif(SIZE, colours(16), b"\0\1abc", frame(four, 4)))
    add("two-frames.gif", gif(SIZE, colours(16), control(1, 1), frame(four, 4), control(2), frame(15 - four, 4)))
    add("two-frames-larger.gif", gif((10, 10), colours(16), frame(four[:8, :8], 4), frame(four, 4)))
    add("small-blocks.gif", gif(SIZE, colours(16), frame(four, 4, data=bytes([4]) + blocks(b"", lzw_bytes(four, 4), 3))))
    add("no-end.gif", gif(SIZE, colours(16), frame(four, 4), end=b""))
    add("more-pixels.gif", gif(SIZE, colours(16), frame(four, 4, data=lzw([1] * 700, 4))))
    add("no-end-code.gif", gif(SIZE, colours(16), frame(four, 4, data=lzw(four.reshape(-1).tolist() + [1] * 30, 4))))
    add("fewer-pixels.gif", gif(SIZE, colours(16), frame(four, 4, data=lzw([1] * 400, 4))))
    add("empty-frame.gif", gif(SIZE, colours(16), b"," + struct.pack("<HHHHB", 0, 0, 0, 5, 0) + lzw([1], 4)))
    add("no-frame.gif", gif(SIZE, colours(16)))
    add("wrong-code.gif", gif(SIZE, colours(16), frame(four, 4, data=b"\4" + blocks(b"", b"\xf0\xff\xff"))))
    sample = gif(SIZE, colours(16), control(2), frame(four, 4, interlaced=True))
    add("damaged.gif", sample)
    add_damage("damaged.gif", sample, 40, 150)


def lzw_bytes(indices, bits):
    """The compressed data without its blocks."""
    data, out, offset = lzw(indices.reshape(-1).tolist(), bits), b"", 1
    while data[offset]:
        out += data[offset + 1 : offset + 1 + data[offset]]
        offset += 1 + data[offset]
    return out


# BMP ------------------------------------------------------------------------------------------------------------------

def bmp(bits, data, size=SIZE, header=40, compression=0, palette=b"", colour_count=0, masks=(), fields=b"", top_down=False, start=None, gap=b""):
    width, height = size
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IIiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression, len(data), 2835, 2835, colour_count, 0)
        packed = struct.pack(f"<{len(masks)}I", *masks)
        info = (info + packed).ljust(header, b"\0") if header > 40 else info + packed
    body = info + fields + palette + gap
    offset = 14 + len(body) if start is None else start
    return b"BM" + struct.pack("<IHHI", 14 + len(body) + len(data), 0, 0, offset) + body + data


def bmp_rows(rows, top_down=False):
    rows = [row + bytes(-len(row) % 4) for row in rows]
    return b"".join(rows if top_down else rows[::-1])


def packed(indices, bits):
    return make_images.packed_rows(indices[..., None], bits)


def quads(palette):
    return b"".join(palette[i : i + 3] + b"\0" for i in range(0, len(palette), 3))


def rle(indices, half, absolute=False, deltas=False):
    """Rows from the bottom: runs, or absolute runs of up to twenty."""
    out = bytearray()
    for number, row in enumerate(indices[::-1].tolist()):
        x = 0
        while x < len(row):
            run = 1
            while x + run < len(row) and row[x + run] == row[x] and run < 255:
                run += 1
            if run < 3 and absolute and len(row) - x >= 3:
                run = min(20, len(row) - x)
                values = row[x : x + run]
                if half:
                    values += [0] * (run % 2)
                    values = [values[i] << 4 | values[i + 1] for i in range(0, len(values), 2)]
                out += bytes([0, run]) + bytes(values) + bytes(len(values) % 2)
            else:
                out += bytes([run, row[x] * 17 if half else row[x]])
            x += run
        if deltas and number == 3:
            out += bytes([0, 0, 0, 2, 5, 1, 2, 1])
        out += b"\0\0"
    return bytes(out) + b"\0\1"


def make_bmp():
    image = Image.fromarray(picture(*SIZE))
    for mode in ("RGB", "L", "1", "P", "RGBA"):
        add(f"pillow-{mode}.bmp", saved((with_alpha() if mode == "RGBA" else image.convert(mode)), "BMP"))
    add("bmp.jpg", saved(image, "BMP"))
    samples = picture(*SIZE, 4)
    eight = samples[..., 0]
    indices = {bits: eight >> (8 - bits) for bits in (1, 4, 8)}
    for bits in (1, 4, 8):
        palette = colours(1 << bits)
        rows = packed(indices[bits], bits)
        add(f"palette{bits}.bmp", bmp(bits, bmp_rows(rows), palette=quads(palette)))
        add(f"palette{bits}-down.bmp", bmp(bits, bmp_rows(rows, True), palette=quads(palette), top_down=True))
        add(f"palette{bits}-os2.bmp", bmp(bits, bmp_rows(rows), header=12, palette=palette))
        for header in (52, 56, 64, 108, 124):
            add(f"palette{bits}-{header}.bmp", bmp(bits, bmp_rows(rows), header=header, palette=quads(palette)))
        count = max(1, (1 << bits) * 3 // 4)
        add(f"palette{bits}-short.bmp", bmp(bits, bmp_rows(rows), palette=quads(palette[: 3 * count]), colour_count=count))
        add(f"palette{bits}-start.bmp", bmp(bits, bmp_rows(rows), palette=quads(palette), start=0))
        add(f"palette{bits}-start-early.bmp", bmp(bits, bmp_rows(rows), palette=quads(palette), start=54))
        add(f"palette{bits}-gap.bmp", bmp(bits, bmp_rows(rows), palette=quads(palette), gap=b"12345"))
        add(f"grey{bits}.bmp", bmp(bits, bmp_rows(rows), palette=quads(b"".join(bytes([i * 255 // ((1 << bits) - 1)] * 3) for i in range(1 << bits)))))
        add(f"ramp{bits}.bmp", bmp(bits, bmp_rows(rows), palette=quads(colours(1 << bits, True))))
        add(f"black-white{bits}.bmp", bmp(bits, bmp_rows(packed(indices[1], bits)), palette=quads(b"\0\0\0\xff\xff\xff"), colour_count=2))
        add(f"white-black{bits}.bmp", bmp(bits, bmp_rows(packed(indices[1], bits)), palette=quads(b"\xff\xff\xff\0\0\0"), colour_count=2))
        add(f"black{bits}.bmp", bmp(bits, bmp_rows(packed(indices[1], bits)), palette=quads(b"\0\0\0"), colour_count=1))
        cut = bmp_rows(rows)
        add(f"palette{bits}-last-row.bmp", bmp(bits, cut[: len(cut) - (-len(rows[0]) % 4)], palette=quads(palette)))
        add(f"palette{bits}-cut.bmp", bmp(bits, cut[: len(cut) - (-len(rows[0]) % 4) - 1], palette=quads(palette)))
    add("palette300.bmp", bmp(8, bmp_rows(packed(eight, 8)), palette=quads(colours(300)), colour_count=300))
    add("ramp300.bmp", bmp(8, bmp_rows(packed(eight, 8)), palette=quads(b"".join(bytes([i & 255] * 3) for i in range(300))), colour_count=300))
    five = [(row[:, 0].astype(int) >> 3 << 10 | row[:, 1].astype(int) >> 3 << 5 | row[:, 2] >> 3).astype("<u2").tobytes() for row in samples]
    six = [(row[:, 0].astype(int) >> 3 << 11 | row[:, 1].astype(int) >> 2 << 5 | row[:, 2] >> 3).astype("<u2").tobytes() for row in samples]
    add("rgb16.bmp", bmp(16, bmp_rows(five)))
    add("rgb16-down.bmp", bmp(16, bmp_rows(five, True), top_down=True))
    add("rgb16-555.bmp", bmp(16, bmp_rows(five), compression=3, masks=(0x7C00, 0x3E0, 0x1F)))
    add("rgb16-565.bmp", bmp(16, bmp_rows(six), compression=3, masks=(0xF800, 0x7E0, 0x1F)))
    add("rgb16-565-124.bmp", bmp(16, bmp_rows(six), compression=3, masks=(0xF800, 0x7E0, 0x1F), header=124))
    add("rgb16-4444.bmp", bmp(16, bmp_rows(six), compression=3, masks=(0xF00, 0xF0, 0xF)))
    every = numpy.arange(65536).reshape(64, 1024).astype("<u2")
    write_only = [row.tobytes() for row in every[:: 8]]
    add("rgb16-values.bmp", bmp(16, bmp_rows(write_only), size=(1024, 8), compression=3, masks=(0xF800, 0x7E0, 0x1F)))
    three_bytes = [row[:, 2::-1].tobytes() for row in samples]
    add("rgb24.bmp", bmp(24, bmp_rows(three_bytes)))
    add("rgb24-os2.bmp", bmp(24, bmp_rows(three_bytes), header=12))
    add("rgb24-down.bmp", bmp(24, bmp_rows(three_bytes, True), top_down=True))
    add("rgb24-palette.bmp", bmp(24, bmp_rows(three_bytes), palette=quads(colours(16)), colour_count=16))
    add("rgb24-fields.bmp", bmp(24, bmp_rows(three_bytes), compression=3, masks=(0xFF0000, 0xFF00, 0xFF)))
    add("rgb24-fields-other.bmp", bmp(24, bmp_rows(three_bytes), compression=3, masks=(0xFF, 0xFF00, 0xFF0000)))
    four_bytes = [row.tobytes() for row in samples]
    add("rgb32.bmp", bmp(32, bmp_rows(four_bytes)))
    add("rgb32-down.bmp", bmp(32, bmp_rows(four_bytes, True), top_down=True))
    for number, masks in enumerate([
        (0xFF0000, 0xFF00, 0xFF, 0), (0xFF000000, 0xFF0000, 0xFF00, 0), (0xFF000000, 0xFF00, 0xFF, 0), (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        (0xFF, 0xFF00, 0xFF0000, 0xFF000000), (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF000000, 0xFF00, 0xFF, 0xFF0000), (0, 0, 0, 0), (0xFF, 0xFF00, 0xFF0000, 0),
    ]):
        for header in (40, 52, 56, 108, 124):
            if header in (52, 108) and number % 3:
                continue
            add(f"rgb32-fields{number}-{header}.bmp", bmp(32, bmp_rows(four_bytes), compression=3, masks=masks[:3] if header < 56 else masks, header=header))
    flat = numpy.where(rng.random((HEIGHT, WIDTH)) < 0.6, 7, indices[4])
    flat[5:9, 3:20] = 4
    for half, bits in ((False, 8), (True, 4)):
        for kind, options in {"runs": {}, "absolute": {"absolute": True}, "delta": {"deltas": True}}.items():
            data = rle(flat, half, **options)
            palette = colours(16)
            add(f"rle{bits}-{kind}.bmp", bmp(bits, data, compression=2 if half else 1, palette=quads(palette), colour_count=16))
            add(f"rle{bits}-{kind}-odd.bmp", bmp(bits, data, compression=2 if half else 1, palette=quads(palette), colour_count=16, gap=b"1"))
        add(f"rle{bits}-down.bmp", bmp(bits, rle(flat, half), compression=2 if half else 1, palette=quads(palette), colour_count=16, top_down=True))
        add(f"rle{bits}-ramp.bmp", bmp(bits, rle(flat, half), compression=2 if half else 1, palette=quads(colours(16, True)), colour_count=16))
        add(f"rle{bits}-black-white.bmp", bmp(bits, rle(indices[1], half), compression=2 if half else 1, palette=quads(b"\0\0\0\xff\xff\xff"), colour_count=2))
        add(f"rle{bits}-no-end.bmp", bmp(bits, rle(flat, half)[:-2], compression=2 if half else 1, palette=quads(palette), colour_count=16))
        add(f"rle{bits}-short-rows.bmp", bmp(bits, b"\x05\x11\0\0" * HEIGHT + b"\0\1", compression=2 if half else 1, palette=quads(palette), colour_count=16))
        add(f"rle{bits}-long-rows.bmp", bmp(bits, b"\x2f\x12\0\0" * HEIGHT + b"\0\1", compression=2 if half else 1, palette=quads(palette), colour_count=16))
        add(f"rle{bits}-one-run.bmp", bmp(bits, b"\xff\x21" * 3, compression=2 if half else 1, palette=quads(palette), colour_count=16))
        add(f"rle{bits}-early-end.bmp", bmp(bits, b"\x05\x11\0\0\0\1", compression=2 if half else 1, palette=quads(palette), colour_count=16))
        add(f"rle{bits}-far.bmp", bmp(bits, b"\0\2\xff\xff", compression=2 if half else 1, palette=quads(palette), colour_count=16))
    add("rle8-of-24.bmp", bmp(24, rle(flat, False), compression=1))
    add("bits2.bmp", bmp(2, bmp_rows(packed(indices[1], 2)), palette=quads(colours(4))))
    add("bits64.bmp", bmp(64, bytes(WIDTH * HEIGHT * 8)))
    add("jpeg-inside.bmp", bmp(0, jpeg(picture(*SIZE)), compression=4))
    add("png-inside.bmp", bmp(0, png(picture(*SIZE), 8, 2), compression=5))
    add("header-16.bmp", bmp(8, bmp_rows(packed(eight, 8)), header=16, palette=quads(colours(256))))
    add("empty.bmp", bmp(8, b"", size=(0, 0), palette=quads(colours(256))))
    add("wide.bmp", bmp(8, bytes(100), size=(0xFFFFFFFF, 1), palette=quads(colours(256))))
    sample = bmp(4, rle(flat, True, absolute=True, deltas=True), compression=2, palette=quads(colours(16)), colour_count=16)
    add("damaged-rle.bmp", sample)
    add_damage("damaged-rle.bmp", sample, 30, 100)
    sample = bmp(4, bmp_rows(packed(indices[4], 4)), palette=quads(colours(16)))
    add("damaged.bmp", sample)
    add_damage("damaged.bmp", sample, 20, 100)
    add_damage("rgb32-fields5-56.bmp", bmp(32, bmp_rows(four_bytes), compression=3, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000), header=56), 10, 60)


# PBM, PGM, PPM --------------------------------------------------------------------------------------------------------

def make_pnm():
    image = Image.fromarray(picture(*SIZE))
    for mode, ending in (("RGB", "ppm"), ("L", "pgm"), ("1", "pbm")):
        add(f"pillow.{ending}", saved(image.convert(mode), "PPM"))
    add("pillow16.pgm", saved(Image.fromarray(rng.integers(0, 65536, (HEIGHT, WIDTH)).astype(numpy.int32)), "PPM"))
    add("ppm.jpg", saved(image, "PPM"))
    grey, colour = picture(*SIZE, 1)[..., 0].astype(int), picture(*SIZE).astype(int)
    text = lambda values: " ".join(str(int(value)) for value in values.reshape(-1)).encode()
    head = lambda form, maximum, size=SIZE: b"P%d %d %d %d\n" % (form, *size, maximum)
    for maximum in (1, 2, 3, 15, 100, 127, 128, 254, 255, 256, 257, 300, 1000, 1023, 4095, 32767, 65534, 65535):
        kind = "B" if maximum < 256 else ">u2"
        for form, samples, ending in ((5, grey, "pgm"), (6, colour, "ppm")):
            scaled = samples * maximum // 255
            add(f"binary-{maximum}.{ending}", head(form, maximum) + scaled.astype(kind).tobytes())
            if maximum in (1, 15, 255, 256, 1000, 65535):
                add(f"text-{maximum}.{ending}", head(form - 3, maximum, (WIDTH, 7)) + text(scaled[:7]))
    add("binary-100-values.pgm", head(5, 100, (256, 1)) + bytes(range(256)))
    add("binary-1000-values.pgm", head(5, 1000, (256, 1)) + numpy.arange(0, 2560, 10).astype(">u2").tobytes())
    add("binary-1000-values.ppm", head(6, 1000, (256, 1)) + numpy.arange(0, 7680, 10).astype(">u2").tobytes())
    add("dark.pgm", head(5, 65535) + rng.integers(0, 256, (HEIGHT, WIDTH)).astype(">u2").tobytes())
    for width in (1, 7, 8, 9, 16, 17):
        bits = rng.integers(0, 2, (5, width))
        add(f"binary-{width}.pbm", b"P4 %d 5 " % width + b"".join(packed(bits, 1)))
        add(f"text-{width}.pbm", b"P1\n%d 5\n" % width + b"\n".join("".join(map(str, row)).encode() for row in bits.tolist()))
    add("comments.ppm", b"P6 # one\n# two\n29# three\n # four\r19#five\n\n255\n" + colour.astype("B").tobytes())
    add("comment-in-number.pgm", b"P5\n2#nine\n9 19 255 " + grey.astype("B").tobytes())
    add("spaces.pgm", b"P5\t\r\n \x0b\x0c29\n\n19 \n255\r" + grey.astype("B").tobytes())
    add("comment-before-pixels.pgm", b"P5 29 19 255 #1234567\n" + grey.astype("B").tobytes())
    add("text-comments.pgm", b"P2 4 2 255 # one\n1 2 # two\n#three\n3 #\r4 5 6\n7#x\n8 9")
    add("text-comment-last.pgm", b"P2 2 1 255 1 2#")
    add("text-comments.pbm", b"P1 4 2 #c\n0 1 # 1 1 1\n01\n#\n1 0 0 1")
    add("text-spaces.ppm", b"P3\n2 1\n255\n1\t2\r3\x0b4\x0c5  6")
    add("text-leading-zeros.pgm", b"P2 2 1 255 0000000001 012")
    add("text-long-number.pgm", b"P2 2 1 255 00000000001 012")
    add("text-too-large.pgm", b"P2 2 1 100 101 5")
    add("text-negative.pgm", b"P2 2 1 100 -1 5")
    add("text-letter.pgm", b"P2 2 1 100 a 5")
    add("text-two.pbm", b"P1 2 1 0 2")
    add("text-short.pgm", b"P2 2 2 100 1 2 3")
    add("text-short.pbm", b"P1 2 2 011")
    add("maximum-0.pgm", b"P5 2 1 0 ab")
    add("maximum-65536.pgm", b"P5 2 1 65536 abcd")
    add("no-maximum.pgm", b"P5 2 1")
    add("no-size.pgm", b"P5 2")
    add("empty.pgm", b"P5 0 0 255 ")
    add("short.pgm", b"P5 2 2 255 abc")
    add("short16.ppm", b"P6 2 1 65535 0123456789a")
    add("short.pbm", b"P4 9 2 abc")
    add("huge.pgm", b"P5 9999999999 9999999999 255 abc")
    add("long-number.pgm", b"P5 00000000002 1 255 ab")
    add("no-space.pgm", b"P5#c\n2 1 255 ab")
    add("more.pgm", b"P5 2 1 255 abcdef")
    for name, data in {"damaged.ppm": head(6, 255) + colour.astype("B").tobytes(), "damaged.pgm": head(5, 1000) + (grey * 3).astype(">u2").tobytes(), "damaged.pbm": b"P4 17 5\n" + bytes(15)}.items():
        add(name, data)
        add_damage(name, data, 10, 40)
    data = b"P2 # c\n7 5 100\n" + text(grey[:5, :7] * 100 // 255)
    add("damaged-text.pgm", data)
    add_damage("damaged-text.pgm", data, 30, 120)


if __name__ == "__main__":
    shutil.rmtree(os.path.join(HERE, "formats"), ignore_errors=True)
    os.makedirs(os.path.join(HERE, "formats"))
    make_webp()
    make_gif()
    make_bmp()
    make_pnm()
    expected["versions"] = {"pillow": PIL.__version__, "numpy": numpy.__version__, "libwebp": features.version("webp")}
    with open(os.path.join(HERE, "formats.json"), "w") as file:
        json.dump(expected, file, indent=0)
        file.write("\n")
    print({key: len(value) for key, value in expected.items()}, "refused by Pillow:", sum(entry["rgb"] is None for entry in expected["files"]))
