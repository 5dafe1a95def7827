#!/usr/bin/env python3
"""Writes configurations of transformers' image processors and of timm, and the pixels that these tools make with them of two pictures.

    python3 -m venv venv && venv/bin/pip install -r ../weights/requirements.txt
    venv/bin/python Fixtures/preprocessing/make_preprocessing.py

Everything is for models of 32 x 32 pixels. transformers' processors run with Pillow (backend="pil").
"""
import hashlib
import json
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "../weights"))
import make_weights  # noqa: E402,F401  its import makes PyPI's torchvision usable beside a CPU build of torch
import numpy as np  # noqa: E402
import PIL.Image  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

PICTURES = ["ant/1.png", "cat/deep/1.png"]  # 40 x 90 and 36 x 44
images = [PIL.Image.open(HERE / "../classifiers/images" / name).convert("RGB") for name in PICTURES]
expected = {}


def folder(name):
    shutil.rmtree(HERE / name, ignore_errors=True)
    (HERE / name).mkdir()
    return HERE / name


def hugging_face(name, kind, drop=(), **options):
    """`drop`: keys that are left out of the file, as older versions did, with the class's own values."""
    path = folder(name)
    processor = getattr(transformers, kind)(**options)
    processor.save_pretrained(path)
    file = path / "preprocessor_config.json"
    written = {key: value for key, value in json.loads(file.read_text()).items() if value is not None and key not in drop}
    file.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
    loaded = transformers.AutoImageProcessor.from_pretrained(path, backend="pil")
    expected[name] = torch.cat([torch.as_tensor(np.asarray(loaded(image, return_tensors="np")["pixel_values"])) for image in images])


def timm_configuration(name, top=False, **keys):
    path = folder(name)
    configuration = {"input_size": [3, 32, 32], **keys}
    if top:
        written = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, **configuration}
    else:
        written = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "pretrained_cfg": configuration}
    (path / "config.json").write_text(json.dumps(written, indent=1) + "\n")
    found, _, _ = timm.models._hub.load_model_config_from_path(path)
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=found))
    expected[name] = torch.stack([transform(image) for image in images])


HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SQUARE = {"height": 32, "width": 32}
hugging_face("vit", "ViTImageProcessor", size=SQUARE, **HALF)
hugging_face("vit-sparse", "ViTImageProcessor", drop=("image_mean", "image_std", "resample", "do_resize", "do_normalize"), size=SQUARE)
hugging_face("vit-bytes", "ViTImageProcessor", size=SQUARE, resample=3, do_rescale=False, image_mean=[127.5, 120, 110], image_std=[50, 60, 70.5])
hugging_face("vit-unnormalised", "ViTImageProcessor", size=SQUARE, resample=4, do_normalize=False)
hugging_face("deit", "DeiTImageProcessor", size={"height": 37, "width": 37}, crop_size=SQUARE, **HALF)
hugging_face("clip", "CLIPImageProcessor", size={"shortest_edge": 32}, crop_size=SQUARE)
hugging_face("bit", "BitImageProcessor", size={"shortest_edge": 36}, crop_size=SQUARE, resample=1, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
timm_configuration("timm", mean=[0.5] * 3, std=[0.5] * 3, interpolation="bicubic", crop_pct=0.9)
timm_configuration("timm-squash", mean=[0.48, 0.45, 0.4], std=[0.2, 0.3, 0.25], interpolation="bilinear", crop_pct=0.95, crop_mode="squash")
timm_configuration("timm-top", top=True, mean=[0.5] * 3, std=[0.25] * 3, interpolation="lanczos", crop_pct=1.0)
timm_configuration("timm-sparse", interpolation="bilinear")
save_file({name: tensor.float().contiguous() for name, tensor in expected.items()}, HERE / "expected.safetensors")
for path in sorted(HERE.rglob("*")):
    if path.suffix in (".json", ".safetensors"):
        print(f"    {hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(HERE)}")
