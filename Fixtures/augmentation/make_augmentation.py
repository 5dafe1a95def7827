#!/usr/bin/env python3
"""Writes the fixtures of augmentation: what timm 0.3.2 and Pillow make of small pictures, with draws that are given.

    python3 -m venv venv && venv/bin/pip install pillow==12.0.0 numpy==2.4.6 torch==2.13.0 safetensors==0.8.0
    venv/bin/pip download timm==0.3.2 --no-deps && unzip timm-0.3.2-py3-none-any.whl 'timm/data/*' -d timm-0.3.2
    venv/bin/python Fixtures/augmentation/make_augmentation.py timm-0.3.2/timm/data

Three files of timm 0.3.2 are run as they are: auto_augment.py, random_erasing.py and mixup.py. Their random numbers are replaced by
the numbers of Philox that Sources/Images draws, in a second rendering; all that is computed from them is timm's, Pillow's and PyTorch's.
Pillow from 13 on refuses to keep 0 bits in posterize, which timm asks for at magnitude 10; Pillow 12 gives a black picture.
Crops of tall shape are resized in the order of Pillow 13.
"""
import hashlib
import importlib.util
import json
import math
import os
import sys
import types
import zlib

import numpy
import PIL
import torch
from PIL import Image
from safetensors.torch import save_file

SEED = 20261129
HERE = os.path.dirname(os.path.abspath(__file__))
RANDOM_CROP, FLIP, RAND_AUGMENT, ERASING, MIXING = 3, 4, 8, 9, 10
rng = numpy.random.default_rng(SEED)


def timm(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(sys.argv[1], name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


auto_augment, random_erasing, mixup = timm("auto_augment"), timm("random_erasing"), timm("mixup")


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

    def uniform(self, low=0.0, high=1.0):
        return low + (high - low) * ((self.next() >> 11) * 2.0**-53)

    def below(self, bound):
        product = self.next() * bound
        while product & (1 << 64) - 1 < (1 << 64) % bound:
            product = self.next() * bound
        return product >> 64

    def normal_pair(self):
        radius = math.sqrt(-2 * math.log(1 - self.uniform()))
        angle = 2 * math.pi * self.uniform()
        return radius * math.cos(angle), radius * math.sin(angle)

    def normal(self):
        return self.normal_pair()[0]

    def log_gamma(self, alpha):
        boost = math.log(1 - self.uniform()) / alpha
        d = alpha + 1 - 1 / 3
        c = 1 / math.sqrt(9 * d)
        while True:
            x = self.normal()
            root = 1 + c * x
            if root <= 0:
                continue
            v = root * root * root
            if math.log(1 - self.uniform()) < 0.5 * x * x + d - d * v + d * math.log(v):
                return math.log(d * v) + boost

    def beta(self, alpha):
        x, y = self.log_gamma(alpha), self.log_gamma(alpha)
        return 1 / (1 + math.exp(y - x))


def crc(image):
    return zlib.crc32(image.tobytes())


# Operations ------------------------------------------------------------------------------------------------------------

def picture(width, height, channels, low=0, high=255):
    """Smooth shading, hard edges and noise."""
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.float64)
    planes = []
    for _ in range(channels):
        a, b, c, d = rng.uniform(0.02, 0.35, 2).tolist() + rng.uniform(0, 6, 2).tolist()
        plane = 127 + 70 * numpy.sin(a * x + c) + 60 * numpy.cos(b * y + d)
        for _ in range(3):
            cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(1, 0.4 * max(width, height) + 2)
            plane = numpy.where((x - cx) ** 2 + (y - cy) ** 2 < r * r, rng.uniform(-20, 275), plane)
        planes.append(plane + rng.normal(0, 6, plane.shape))
    values = numpy.clip(numpy.stack(planes, 2), 0, 255) / 255 * (high - low) + low
    values = values.astype(numpy.uint8)
    return Image.fromarray(values if channels == 3 else values[:, :, 0])


def sources():
    """Odd sizes, squares, both channel counts; narrow ranges, one colour, and pictures smaller than a filter."""
    yield "color", picture(41, 29, 3)
    yield "grey", picture(29, 37, 1)
    yield "square", picture(32, 32, 3)
    yield "tall", picture(9, 61, 3)
    yield "dull", picture(27, 23, 3, 90, 131)
    yield "dull-grey", picture(31, 17, 1, 200, 203)
    # Equalize with steps of 1 gives values above 255, which Pillow cuts off.
    yield "few", picture(19, 17, 3)
    yield "few-grey", picture(21, 24, 1)
    yield "flat", Image.new("RGB", (13, 11), (17, 128, 255))
    yield "flat-grey", Image.new("L", (12, 12), 77)
    yield "two-rows", picture(7, 2, 3)
    yield "two-columns-grey", picture(2, 9, 1)
    yield "pixel", picture(1, 1, 3)
    yield "pixel-grey", picture(1, 1, 1)


MAGNITUDES = [0.0, 0.04, 0.31, 1.0, 2.5, 10 / 3, 4.9999, 5.0, 6.18, 7.5, 8.125, 8.61803398875, 9.0, 9.3471, 9.75, 9.9999, 10.0]
MEANS = {"RGB": (0.485, 0.456, 0.406), "L": (0.449,)}
SIGNED = {"Rotate", "ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing", "ShearX", "ShearY",
          "TranslateXRel", "TranslateYRel"}


def parameters(mode):
    """timm's transforms_imagenet_train gives these to RandAugment."""
    mean = tuple(min(255, round(255 * x)) for x in MEANS[mode])
    return {"translate_const": 100, "img_mean": mean, "interpolation": Image.BICUBIC}


def changed(image, name, magnitude, negative):
    # Python's random as timm sees it: a number above 0.5 negates.
    auto_augment.random = types.SimpleNamespace(random=lambda: 0.75 if negative else 0.25)
    return auto_augment.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=parameters(image.mode))(image)


def make_operations(expected):
    names = auto_augment._RAND_INCREASING_TRANSFORMS
    expected["operations"] = names
    expected["magnitudes"] = MAGNITUDES
    expected["signed"] = sorted(SIGNED)
    expected["sources"] = []
    for name, image in sources():
        image.save(os.path.join(HERE, "sources", name + ".png"))
        results = {}
        for operation in names:
            signs = (False, True) if operation in SIGNED else (False,)
            results[operation] = [[crc(changed(image, operation, m, negative)) for m in MAGNITUDES] for negative in signs]
        expected["sources"].append({"name": name, "results": results})
        if name in ("color", "grey"):
            # All operations at magnitude 9, side by side, to look at and to find the first wrong pixel.
            sheet = Image.new(image.mode, (image.width * len(names), image.height))
            for place, operation in enumerate(names):
                sheet.paste(changed(image, operation, 9.0, operation in SIGNED), (place * image.width, 0))
            sheet.save(os.path.join(HERE, f"sheet-{name}.png"))


# Whole samples ---------------------------------------------------------------------------------------------------------

def random_crop(width, height, area, aspect, draw):
    """torchvision.transforms.RandomResizedCrop.get_params."""
    for _ in range(10):
        target = height * width * draw.uniform(*area)
        ratio = math.exp(draw.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = int(round(math.sqrt(target * ratio))), int(round(math.sqrt(target / ratio)))
        if 0 < w <= width and 0 < h <= height:
            top = draw.below(height - h + 1)
            return draw.below(width - w + 1), top, w, h
    raise SystemExit("choose a larger picture")


def probe_crop(width, height, area, aspect, draw):
    """The crop of MAE's linear probe: one draw without retries, rounded, and cut to the picture."""
    target = height * width * draw.uniform(*area)
    ratio = math.exp(draw.uniform(math.log(aspect[0]), math.log(aspect[1])))
    w, h = int(round(math.sqrt(target * ratio))), int(round(math.sqrt(target / ratio)))
    w, h = min(max(w, 1), width), min(max(h, 1), height)
    top = draw.below(height - h + 1)
    return draw.below(width - w + 1), top, w, h


def rand_augmented(image, seed, epoch, index):
    """timm's transform of this name, its random numbers replaced."""
    transform = auto_augment.rand_augment_transform("rand-m9-mstd0.5-inc1", parameters(image.mode))
    draw = Philox(seed, RAND_AUGMENT, epoch, index)
    operations, changes = [], []
    for _ in range(2):
        number = draw.below(len(transform.ops))
        coin, normal, sign = draw.uniform(), draw.normal(), draw.uniform()

        def operation(image, number=number, coin=coin, normal=normal, sign=sign):
            numbers = [coin, sign]

            def gauss(mean, deviation):
                name = auto_augment._RAND_INCREASING_TRANSFORMS[number]
                magnitude = mean + deviation * normal
                changes.append([name, min(10.0, max(0.0, magnitude)), sign > 0.5])
                return magnitude

            auto_augment.random = types.SimpleNamespace(random=lambda: numbers.pop(0), gauss=gauss)
            return transform.ops[number](image)

        operations.append(operation)

    def choice(ops, count, replace, p):
        assert replace and p is None and len(ops) == 15 and count == 2
        return operations

    numpy_random = types.SimpleNamespace(choice=choice)
    auto_augment.np = types.SimpleNamespace(random=numpy_random)
    return transform(image), changes


def resized(image, width, height):
    """As Pillow 13 resizes: vertically first where more than twice as many rows as columns fall away. Pillow 12 never does."""
    if height < image.height and image.height - height > 2 * (image.width - width):
        image = image.resize((image.width, height), Image.BICUBIC)
    return image.resize((width, height), Image.BICUBIC)


def make_samples(expected):
    expected["samples"], expected["probe"] = [], []
    for source in ("large.png", "grey.png"):
        image = Image.open(os.path.join(HERE, "..", "images", "resize", source))
        for number in range(60):
            seed, epoch, index = int(rng.integers(2**63)), int(rng.integers(1000)), int(rng.integers(2**40))
            width, height = ((32, 32), (48, 24), (40, 56))[number % 3]
            left, top, w, h = random_crop(*image.size, (0.08, 1.0), (3 / 4, 4 / 3), Philox(seed, RANDOM_CROP, epoch, index))
            sample = resized(image.crop((left, top, left + w, top + h)), width, height)
            if Philox(seed, FLIP, epoch, index).uniform() < 0.5:
                sample = sample.transpose(Image.FLIP_LEFT_RIGHT)
            sample, changes = rand_augmented(sample, seed, epoch, index)
            expected["samples"].append({"source": source, "size": [width, height], "seed": str(seed), "epoch": epoch,
                                        "index": index, "changes": changes, "crc": crc(sample)})
        for number in range(30):
            seed, epoch, index = int(rng.integers(2**63)), int(rng.integers(1000)), int(rng.integers(2**40))
            left, top, w, h = probe_crop(*image.size, (0.08, 1.0), (3 / 4, 4 / 3), Philox(seed, RANDOM_CROP, epoch, index))
            sample = resized(image.crop((left, top, left + w, top + h)), 32, 24)
            if Philox(seed, FLIP, epoch, index).uniform() < 0.5:
                sample = sample.transpose(Image.FLIP_LEFT_RIGHT)
            expected["probe"].append({"source": source, "size": [32, 24], "seed": str(seed), "epoch": epoch, "index": index,
                                      "crop": [left, top, w, h], "crc": crc(sample)})


# Erasing and mixing ----------------------------------------------------------------------------------------------------

def make_erasing(expected, tensors):
    expected["erasing"] = []
    for number in range(40):
        channels, height, width = ((3, 24, 20), (1, 13, 31), (3, 16, 16), (3, 4, 3))[number % 4]
        seed, epoch, index = int(rng.integers(2**63)), int(rng.integers(1000)), int(rng.integers(2**40))
        draw = Philox(seed, ERASING, epoch, index)
        erased = []
        random_erasing.random = types.SimpleNamespace(
            random=draw.uniform, uniform=draw.uniform, randint=lambda low, high: low + draw.below(high - low + 1))

        def pixels(per_pixel, rand_color, patch_size, dtype, device):
            assert per_pixel
            noise = torch.empty(patch_size, dtype=dtype)
            for plane in noise:
                for row in plane:
                    values = [value for _ in range((len(row) + 1) // 2) for value in draw.normal_pair()]
                    row.copy_(torch.tensor(values[:len(row)], dtype=torch.float64))
            erased.append(patch_size)
            return noise

        random_erasing._get_pixels = pixels
        image = torch.from_numpy(rng.normal(size=(channels, height, width)).astype(numpy.float32))
        erase = random_erasing.RandomErasing(probability=0.25 if number < 8 else 1.0, mode="pixel", device="cpu")
        result = erase(image.clone())
        expected["erasing"].append({"size": [width, height], "channels": channels, "seed": str(seed), "epoch": epoch, "index": index,
                                    "probability": erase.probability, "erased": bool(erased)})
        tensors[f"erasing.{number}.before"], tensors[f"erasing.{number}.after"] = image, result


def make_mixing(expected, tensors):
    classes, smoothing = 5, 0.1
    expected["mixing"] = []
    expected["smoothing"], expected["classes"] = smoothing, classes
    original_one_hot = mixup.one_hot
    mixup.one_hot = lambda *rest, **named: original_one_hot(*rest, **{**named, "device": "cpu"})
    for number in range(24):
        alphas = ((0.8, 1.0), (0.8, 0.0), (0.0, 1.0))[0 if number < 12 else 1 + number % 2]
        batch, channels, height, width = 2 * (1 + number % 3), (3, 1)[number % 2], 11, 8
        seed, first = int(rng.integers(2**63)), int(rng.integers(2**40))
        draw = Philox(seed, MIXING, 0, first)
        kept = {}
        # The coin is drawn even where one method alone is on.
        coin = draw.uniform()

        def beta(a, b):
            assert a == b
            kept["lambda"] = draw.beta(a)
            # A batch holds λ as a float32. A box is computed from the double.
            kept["used"] = float(numpy.float32(kept["lambda"])) if a == alphas[0] else kept["lambda"]
            return kept["used"]

        def randint(low, high, size):
            assert low == 0 and size is None
            return draw.below(high)

        # The first number decides whether to mix at all, the second which method.
        numbers = [0.0, coin]
        mixup.np = types.SimpleNamespace(
            random=types.SimpleNamespace(rand=lambda: numbers.pop(0), beta=beta, randint=randint), sqrt=numpy.sqrt, clip=numpy.clip)
        mixer = mixup.Mixup(mixup_alpha=alphas[0], cutmix_alpha=alphas[1], prob=1.0, switch_prob=0.5, mode="batch",
                            label_smoothing=smoothing, num_classes=classes)
        images = torch.from_numpy(rng.normal(size=(batch, channels, height, width)).astype(numpy.float32))
        labels = torch.from_numpy(rng.integers(classes, size=batch))
        mixed, targets = mixer(images.clone(), labels)
        expected["mixing"].append({"size": [width, height], "seed": str(seed), "first": first, "alphas": alphas,
                                   "labels": labels.tolist(), "cutmix": alphas[0] == 0 or alphas[1] > 0 and coin < 0.5})
        tensors[f"mixing.{number}.before"], tensors[f"mixing.{number}.after"] = images, mixed
        tensors[f"mixing.{number}.targets"] = targets


def main():
    os.makedirs(os.path.join(HERE, "sources"), exist_ok=True)
    expected, tensors = {}, {}
    make_operations(expected)
    make_samples(expected)
    make_erasing(expected, tensors)
    make_mixing(expected, tensors)
    expected["made_with"] = {"timm": "0.3.2", "pillow": PIL.__version__, "numpy": numpy.__version__, "torch": torch.__version__, "seed": SEED}
    with open(os.path.join(HERE, "expected.json"), "w") as file:
        lines = []
        for key, value in expected.items():
            if isinstance(value, list) and isinstance(value[0], dict):
                lines.append(f'"{key}": [\n' + ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in value) + "\n]")
            else:
                lines.append(f'"{key}": {json.dumps(value)}')
        file.write("{\n" + ",\n".join(lines) + "\n}\n")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, os.path.join(HERE, "tensors.safetensors"))
    for name in ("expected.json", "tensors.safetensors"):
        with open(os.path.join(HERE, name), "rb") as file:
            print(hashlib.sha256(file.read()).hexdigest(), name)


if __name__ == "__main__":
    main()
