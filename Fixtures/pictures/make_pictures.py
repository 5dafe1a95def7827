#!/usr/bin/env python3
"""Writes pictures whose pixels depend on more than their samples: orientations, transparency, 16-bit grey, wrong checksums.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 numpy==2.4.6
    venv/bin/python Fixtures/pictures/make_pictures.py

expected.json says what each file must give, by the CRC-32 of the pixels (rows from the top, channels interleaved). All of it is Pillow's:
ImageOps.exif_transpose, Image.alpha_composite over a background, convert. Only `scale` of 16-bit grey is NumPy's, as Pillow has no such
conversion. Where Pillow refuses to say an orientation, as the block that should hold it is damaged, the file is read as it is stored.
"""
import io
import json
import os
import shutil
import struct
import sys
import warnings
import zlib

import numpy
import PIL
from PIL import Image, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "images"))
from make_images import chunk, jpeg, picture, png, scaled  # noqa: E402  (PNG files byte by byte)

warnings.simplefilter("ignore")
SEED = 20261130
rng = numpy.random.default_rng(SEED)
expected = {"orientations": [], "transparent": [], "grey16": [], "checksums": []}
BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "#3c7ab0": (0x3C, 0x7A, 0xB0)}


def write(folder, name, data):
    os.makedirs(os.path.join(HERE, folder), exist_ok=True)
    with open(os.path.join(HERE, folder, name), "wb") as file:
        file.write(data)


def crc(image):
    return zlib.crc32(image.tobytes())


# Orientations ---------------------------------------------------------------------------------------------------------

def tiff(*entries, big=False, magic=None, padding=0, more=b""):
    """A TIFF structure with one directory of (tag, type, count, four bytes of value), behind `padding` bytes, then `more`."""
    order = ">" if big else "<"
    head = magic or (b"MM\0*" if big else b"II*\0")
    data = head + struct.pack(order + "I", 8 + padding) + bytes(padding) + struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        data += struct.pack(order + "HHI", tag, kind, count) + value
    return data + bytes(4) + more


def short(orientation, big=False):
    return (0x0112, 3, 1, struct.pack(">HH" if big else "<HH", orientation, 0))


MAKER = (0x010F, 2, 4, b"abc\0")
EXIF, XAP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def xmp(orientation, form='tiff:Orientation="{}"', before=""):
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {before}{form.format(orientation)}/></rdf:RDF></x:xmpmeta>'
    ).encode()


ELEMENT = "><tiff:Orientation>{}</tiff:Orientation></rdf:Description"


def app1(payload):
    return b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload


def text(kind, keyword, content):
    if kind == b"tEXt":
        return chunk(kind, keyword + b"\0" + content)
    if kind == b"zTXt":
        return chunk(kind, keyword + b"\0\0" + zlib.compress(content))
    packed = kind == b"iTXz"
    return chunk(b"iTXt", keyword + b"\0" + bytes([packed, 0]) + b"en\0\0" + (zlib.compress(content) if packed else content))


def raw_profile(data):
    """As ImageMagick writes it."""
    digits = data.hex()
    lines = [digits[i : i + 72] for i in range(0, len(digits), 72)]
    return ("\nexif\n%8d\n" % len(data) + "\n".join(lines) + "\n").encode()


def add_orientation(name, data):
    write("oriented", name, data)
    with Image.open(io.BytesIO(data)) as image:
        plain = image.convert("RGB")
    with Image.open(io.BytesIO(data)) as image:
        try:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        except Exception as reason:
            print(f"{name}: {reason!r}; as stored")
            upright = plain
    expected["orientations"].append(
        {"name": name, "width": upright.width, "height": upright.height, "rgb": crc(upright), "plain": crc(plain), "turned": crc(upright) != crc(plain)})


def make_orientations():
    base = jpeg(picture(13, 9))
    scan = base.index(b"\xff\xda")
    frame = base.index(b"\xff\xc0")
    start = lambda *segments: base[:2] + b"".join(segments) + base[2:]
    exif = lambda *entries, **options: app1(EXIF + tiff(*entries, **options))
    joined = tiff(short(6), padding=300)
    cut = (0x010E, 2, 4000, struct.pack("<I", 26))  # a text of 4000 bytes that are not there
    far = (0x010E, 2, 20, struct.pack("<I", 100000))
    files = {
        "xmp-5": start(app1(XAP + xmp(5))), "xmp-6": start(app1(XAP + xmp(6))), "xmp-8": start(app1(XAP + xmp(8))), "xmp-3": start(app1(XAP + xmp(3))),
        "xmp-element": start(app1(XAP + xmp(7, ELEMENT))), "xmp-element-2": start(app1(XAP + xmp(2, ELEMENT))),
        "xmp-single-quotes": start(app1(XAP + xmp(6, "tiff:Orientation='{}'"))), "xmp-9": start(app1(XAP + xmp(9))),
        "xmp-second-name": start(app1(XAP + xmp(4, before='tiff:OrientationX="3" tiff:Orientation="x" '))),
        "xmp-twice": start(app1(XAP + xmp(3)), app1(XAP + xmp(6))), "xmp-after-exif": start(exif(MAKER), app1(XAP + xmp(6))),
        "xmp-before-exif": start(app1(XAP + xmp(8)), exif(MAKER)),
        "xmp-loses": start(app1(XAP + xmp(6)), exif(short(3))), "xmp-loses-to-0": start(app1(XAP + xmp(6)), exif(short(0))),
        "xmp-and-bytes": start(app1(XAP + xmp(6)), exif((0x0112, 1, 1, b"\x03\0\0\0"))),
        "xmp-and-empty-exif": start(app1(EXIF), app1(XAP + xmp(6))), "xmp-and-no-exif": start(app1(EXIF + b"rubbish!"), app1(XAP + xmp(6))),
        "xmp-late": base[:frame] + app1(XAP + xmp(6)) + base[frame:], "xmp-before-scan": base[:scan] + app1(XAP + xmp(6)) + base[scan:],
        "extended-xmp": start(app1(b"http://ns.adobe.com/xmp/extension/\0" + xmp(6))),
        "exif-second": start(app1(b"something else\0"), exif(short(6))), "exif-after-comment": start(b"\xff\xfe\0\x06abcd", exif(short(8))),
        "exif-before-scan": base[:scan] + exif(short(6)) + base[scan:], "exif-twice": start(exif(short(6)), exif(short(3))),
        "exif-joined": start(app1(EXIF + joined[:200]), app1(EXIF + joined[200:])),
        "exif-joined-around-xmp": start(app1(EXIF + joined[:200]), app1(XAP + xmp(3)), app1(EXIF + joined[200:])),
        "exif-marked-twice": start(app1(EXIF + EXIF + tiff(short(6)))), "exif-fill": start(b"\xff\xff\xff", exif(short(6))[1:]),
        "exif-long": start(exif((0x0112, 4, 1, struct.pack("<I", 6)))), "exif-long-big": start(exif((0x0112, 4, 1, struct.pack(">I", 8)), big=True)),
        "exif-signed": start(exif((0x0112, 8, 1, b"\x06\0\0\0"))), "exif-signed-byte": start(exif((0x0112, 6, 1, b"\x06\0\0\0"))),
        "exif-byte": start(exif((0x0112, 1, 1, b"\x06\0\0\0"))), "exif-text": start(exif((0x0112, 2, 2, b"6\0\0\0"))),
        "exif-float": start(exif((0x0112, 11, 1, struct.pack("<f", 6)))), "exif-fraction": start(exif((0x0112, 5, 1, struct.pack("<I", 26)), more=struct.pack("<II", 12, 2))),
        "exif-two-shorts": start(exif((0x0112, 3, 2, struct.pack("<HH", 6, 3)))), "exif-duplicate": start(exif(short(6), short(3))),
        "exif-many-shorts": start(exif((0x0112, 3, 4, struct.pack("<I", 26)), more=struct.pack("<4H", 8, 1, 1, 1))),
        "exif-none-then-one": start(exif((0x0112, 3, 0, bytes(4)), short(3))), "exif-unknown-type": start(exif((0x0112, 99, 1, b"\x06\0\0\0"), short(3))),
        "exif-cut-before": start(exif(far, short(6))), "exif-too-large-before": start(exif(cut, short(6))), "exif-cut-directory": start(app1(EXIF + tiff(short(6))[:18])),
        "exif-mm-swapped": start(exif(short(6, True), big=True, magic=b"MM*\0")), "exif-ii-swapped": start(exif(short(6), magic=b"II\0*")),
        "exif-mm-bigtiff": start(exif(short(6, True), big=True, magic=b"MM\0+")), "exif-ii-bigtiff": start(exif(short(6), magic=b"II+\0")),
        "exif-far-directory": start(exif(short(6), padding=1000)),
    }
    for name, data in files.items():
        add_orientation(name + ".jpg", data)

    samples = picture(13, 9)
    whole = png(samples, 8, 2)
    end = whole.index(b"IEND") - 4
    before = lambda *chunks: whole[:33] + b"".join(chunks) + whole[33:]
    after = lambda *chunks: whole[:end] + b"".join(chunks) + whole[end:]
    profile = b"Raw profile type exif"
    name_of_xmp = b"XML:com.adobe.xmp"
    six = raw_profile(EXIF + tiff(short(6)))
    files = {
        "exif-6": before(chunk(b"eXIf", tiff(short(6)))), "exif-8-big": before(chunk(b"eXIf", tiff(short(8, True), big=True))),
        "exif-after-pixels": after(chunk(b"eXIf", tiff(short(5)))), "exif-twice": before(chunk(b"eXIf", tiff(short(6))), chunk(b"eXIf", tiff(short(3)))),
        "exif-twice-around": whole[:33] + chunk(b"eXIf", tiff(short(6))) + whole[33:end] + chunk(b"eXIf", tiff(short(3))) + whole[end:],
        "exif-marked": before(chunk(b"eXIf", EXIF + tiff(short(6)))), "exif-empty": before(chunk(b"eXIf", b""), text(b"iTXt", name_of_xmp, xmp(8))),
        "profile-text": before(text(b"tEXt", profile, six)), "profile-compressed": before(text(b"zTXt", profile, six)),
        "profile-international": before(text(b"iTXt", profile, six)), "profile-international-compressed": before(text(b"iTXz", profile, six)),
        "profile-after-pixels": after(text(b"zTXt", profile, six)), "profile-loses": before(text(b"zTXt", profile, six), chunk(b"eXIf", tiff(short(3)))),
        "profile-bad-digits": before(text(b"tEXt", profile, b"\nexif\n      10\n49zz\n")), "profile-unmarked": before(text(b"tEXt", profile, raw_profile(tiff(short(7))))),
        "profile-without-orientation": before(text(b"tEXt", profile, raw_profile(EXIF + tiff(MAKER))), text(b"iTXt", name_of_xmp, xmp(6))),
        "profile-app1": before(text(b"tEXt", b"Raw profile type APP1", six)), "profile-broken-stream": before(chunk(b"zTXt", profile + b"\0\0" + b"not zlib"), text(b"iTXt", name_of_xmp, xmp(6))),
        "text-exif": before(text(b"tEXt", b"exif", EXIF + tiff(short(8)))),
        "xmp": before(text(b"iTXt", name_of_xmp, xmp(6))), "xmp-compressed": before(text(b"iTXz", name_of_xmp, xmp(8))), "xmp-after-pixels": after(text(b"iTXt", name_of_xmp, xmp(7, ELEMENT))),
        "xmp-text": before(text(b"tEXt", name_of_xmp, xmp(3))), "xmp-not-utf8": before(text(b"iTXt", name_of_xmp, b"\xff\xfe" + xmp(6))),
        "xmp-valid-first": before(text(b"iTXt", name_of_xmp, xmp(3)), text(b"iTXt", name_of_xmp, b"\xff" + xmp(6))),
        "xmp-loses": before(text(b"iTXt", name_of_xmp, xmp(6)), chunk(b"eXIf", tiff(short(4)))), "xmp-with-exif": before(text(b"iTXt", name_of_xmp, xmp(6)), chunk(b"eXIf", tiff(MAKER))),
        "behind-the-end": whole + chunk(b"eXIf", tiff(short(6))),
    }
    for name, data in files.items():
        add_orientation(name + ".png", data)


# Transparency ---------------------------------------------------------------------------------------------------------

def add_transparent(name, data):
    write("transparent", name, data)
    with Image.open(io.BytesIO(data)) as image:
        rgba, plain = image.convert("RGBA"), image.convert("RGB")
    entry = {"name": name, "width": rgba.width, "height": rgba.height, "plain": crc(plain), "transparent": int(numpy.asarray(rgba)[..., 3].min()) < 255, "over": {}, "grey": {}}
    for background, colour in BACKGROUNDS.items():
        composited = Image.alpha_composite(Image.new("RGBA", rgba.size, colour + (255,)), rgba).convert("RGB")
        entry["over"][background] = crc(composited)
        entry["grey"][background] = crc(composited.convert("L"))
    expected["transparent"].append(entry)


def make_transparent():
    size = (29, 19)

    def with_alpha(channels, depth, opaque=False):
        samples = scaled(picture(*size, channels), depth)
        top = (1 << depth) - 1
        alpha = rng.integers(0, top + 1, samples.shape[:2])
        alpha[:6], alpha[6:9] = 0, top
        samples[..., -1] = top if opaque else alpha
        return samples

    for interlaced in (False, True):
        tag = "-interlaced" if interlaced else ""
        for depth in (8, 16):
            add_transparent(f"grey-alpha{depth}{tag}.png", png(with_alpha(2, depth), depth, 4, interlaced))
            add_transparent(f"rgba{depth}{tag}.png", png(with_alpha(4, depth), depth, 6, interlaced))
    add_transparent("rgba8-opaque.png", png(with_alpha(4, 8, True), 8, 6))
    # Every alpha with every value of a channel.
    values = numpy.stack(numpy.meshgrid(numpy.arange(256), numpy.arange(256)) , 2)
    add_transparent("every-alpha.png", png(numpy.stack([values[..., 0], 255 - values[..., 0], values[..., 0] ^ 0x55, values[..., 1]], 2)[::3], 8, 6))

    key = lambda *numbers: chunk(b"tRNS", struct.pack(f">{len(numbers)}H", *numbers))
    grey, colour = picture(*size, 1), picture(*size, 3)
    for depth in (1, 2, 4, 8):
        samples = scaled(grey, depth)
        for number in sorted({0, 1, (1 << depth) - 1, int(samples[5, 5, 0])}):
            add_transparent(f"grey{depth}-key{number}.png", png(samples, depth, 0, extra=key(number)))
    add_transparent("grey8-key-high-byte.png", png(grey, 8, 0, extra=key(0x0100 + int(grey[3, 3, 0]))))
    dark = numpy.where(rng.random((19, 29, 1)) < 0.5, rng.integers(0, 300, (19, 29, 1)), rng.integers(0, 65536, (19, 29, 1)))
    for number in (int(dark.min()), 255, 256, 0x1FF):
        add_transparent(f"grey16-key{number}.png", png(dark, 16, 0, extra=key(number)))
    colour[4:9, 3:20] = colour[4, 4]
    add_transparent("rgb8-key.png", png(colour, 8, 2, extra=key(*map(int, colour[4, 4]))))
    add_transparent("rgb8-key-absent.png", png(colour, 8, 2, extra=key(1, 254, 3)))
    deep = scaled(colour, 16)
    deep[4:9, 3:20] = deep[4, 4]
    deep[12:15] = (deep[4, 4] & 255) * 256
    add_transparent("rgb16-key.png", png(deep, 16, 2, extra=key(*map(int, deep[4, 4]))))

    palette = rng.integers(0, 256, (256, 3), dtype=numpy.uint8)
    plte = lambda count: chunk(b"PLTE", palette[:count].tobytes())
    trns = lambda *alpha: chunk(b"tRNS", bytes(alpha))
    for depth in (1, 2, 4, 8):
        indices = rng.integers(0, 1 << depth, (19, 29, 1))
        add_transparent(f"palette{depth}.png", png(indices, depth, 3, extra=plte(1 << depth) + trns(*rng.integers(0, 256, 1 << depth).tolist())))
        add_transparent(f"palette{depth}-one.png", png(indices, depth, 3, extra=plte(1 << depth) + trns(0)))
    add_transparent("palette8-second.png", png(indices, 8, 3, extra=plte(256) + trns(255, 0)))
    add_transparent("palette8-opaque.png", png(indices, 8, 3, extra=plte(256) + trns(255, 255, 255)))
    add_transparent("palette8-interlaced.png", png(indices, 8, 3, True, extra=plte(256) + trns(*range(256))))
    add_transparent("palette8-short.png", png(indices, 8, 3, extra=plte(100) + trns(*range(100))))
    add_transparent("palette8-more-alpha.png", png(indices, 8, 3, extra=plte(50) + trns(*range(200))))


def make_grey16():
    for name, samples in {
        "bright": rng.integers(0, 65536, (19, 29, 1)), "dark": rng.integers(0, 256, (19, 29, 1)),
        "mixed": numpy.where(rng.random((19, 29, 1)) < 0.75, rng.integers(0, 258, (19, 29, 1)), 40000),
    }.items():
        for interlaced in (False, True):
            file = f"{name}{'-interlaced' if interlaced else ''}.png"
            data = png(samples, 16, 0, interlaced)
            write("grey16", file, data)
            with Image.open(io.BytesIO(data)) as image:
                clipped = image.convert("L")
            high = Image.fromarray((samples[..., 0] >> 8).astype(numpy.uint8))
            expected["grey16"].append({"name": file, "clip": crc(clipped), "scale": crc(high), "clipped": int((samples > 255).sum()), "count": samples.size})


# Checksums ------------------------------------------------------------------------------------------------------------

def with_checksum(data, kind, number=0):
    """`data` with the checksum of a chunk (the `number`-th of its kind) turned over."""
    offset = 8
    while True:
        length = struct.unpack(">I", data[offset : offset + 4])[0]
        end = offset + 8 + length
        if data[offset + 4 : offset + 8] == kind:
            if number == 0:
                return data[:end] + bytes(byte ^ 255 for byte in data[end : end + 4]) + data[end + 4 :]
            number -= 1
        offset = end + 4


def make_checksums():
    samples = picture(40, 30)
    indices = rng.integers(0, 16, (30, 40, 1))
    sources = {"rgb": png(samples, 8, 2), "interlaced": png(samples, 8, 2, True), "palette": png(indices, 4, 3, extra=chunk(b"PLTE", bytes(range(48))))}
    for name, data in sources.items():
        for kind, number in ((b"IDAT", 0), (b"IDAT", 1), (b"IEND", 0), (b"IHDR", 0)) + (((b"PLTE", 0),) if name == "palette" else ()):
            broken = with_checksum(data, kind, number)
            file = f"{name}-{kind.decode()}{number}.png"
            write("checksums", file, broken)
            try:
                with Image.open(io.BytesIO(broken)) as image:
                    rgb = crc(image.convert("RGB"))
            except Exception:
                rgb = None
            expected["checksums"].append({"name": file, "rgb": rgb, "ofPixels": kind == b"IDAT"})


def make_others():
    """Files that are found under the names of pictures and are not decoded."""
    image = Image.fromarray(picture(16, 12))
    for extension, form in (("tif", "TIFF"), ("avif", "AVIF"), ("jp2", "JPEG2000")):
        data = io.BytesIO()
        image.save(data, form)
        write("others", extension + ".jpg", data.getvalue())
    usual = jpeg(picture(16, 12))
    at = usual.index(b"\xff\xc0")
    write("others", "lossless.jpg", usual[: at + 1] + b"\xc3" + usual[at + 2 :])
    write("others", "twelve-bits.jpg", usual[: at + 4] + b"\x0c" + usual[at + 5 :])
    write("others", "byte-order-mark.jpg", b"\xef\xbb\xbf" + usual)
    usual = png(picture(16, 12), 8, 2)
    write("others", "apple.png", usual[:8] + chunk(b"CgBI", b"\x50\0\x20\x02") + usual[8:])


if __name__ == "__main__":
    for folder in ("oriented", "transparent", "grey16", "checksums", "others"):
        shutil.rmtree(os.path.join(HERE, folder), ignore_errors=True)
    make_orientations()
    make_transparent()
    make_grey16()
    make_checksums()
    make_others()
    expected["versions"] = {"pillow": PIL.__version__, "numpy": numpy.__version__}
    with open(os.path.join(HERE, "expected.json"), "w") as file:
        json.dump(expected, file, indent=0)
        file.write("\n")
    print({key: len(value) for key, value in expected.items()})
