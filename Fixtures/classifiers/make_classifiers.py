#!/usr/bin/env python3
"""Write small classifiers as timm and transformers save them, pictures in class directories, and the logits of both.

    python3 -m venv venv && venv/bin/pip install -r ../weights/requirements.txt
    venv/bin/python make_classifiers.py

Every encoder is 32 wide, 2 blocks deep, of 4 heads, with patches of 8 x 8. README.md says what each file is.
"""

import hashlib
import json
import os
import pathlib
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

try:
    import torchvision  # noqa: F401  timm and transformers import it
except RuntimeError:
    # PyPI's torchvision cannot load its compiled operators beside a CPU build of torch. None is used here, but its
    # import insists on these being declared.
    torchvision_operators = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        torchvision_operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
import timm
import transformers

SEED = 2023
HERE = pathlib.Path(__file__).parent
WIDTH, DEPTH, HEADS, PATCH = 32, 2, 4, 8
NAMES = ["ant", "bee", "cat", "dog", "emu"]
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# Directory, file, width, height, mode; the order is that of the program: class, then path, by bytes.
PICTURES = [
    ("ant", "0.jpg", 61, 47, "RGB"), ("ant", "1.png", 40, 90, "RGB"), ("ant", "2.png", 33, 33, "L"),
    ("bee", "0.png", 50, 50, "RGB"), ("cat", "0.jpg", 200, 150, "RGB"), ("cat", "deep/1.png", 36, 44, "RGB"),
    ("dog", "0.png", 29, 31, "RGB"), ("dog", "1.jpg", 90, 40, "RGB"), ("emu", "0.png", 64, 48, "RGB"),
]
LABELS = np.array([NAMES.index(name) for name, *_ in PICTURES])
random = np.random.Generator(np.random.PCG64(SEED))
torch.manual_seed(SEED)
torch.set_grad_enabled(False)


def pictures():
    """Waves with some noise, a frequency and a phase for each class."""
    shutil.rmtree(HERE / "images", ignore_errors=True)
    for index, (name, file, width, height, mode) in enumerate(PICTURES):
        label = NAMES.index(name)
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(x * (0.1 + 0.07 * label) + channel + index) * np.cos(y * (0.4 - 0.05 * label) - channel)
                 for channel in range(3)]
        pixels = (128 + 90 * np.stack(waves, axis=2) + random.integers(-8, 9, (height, width, 3))).clip(0, 255)
        path = HERE / "images" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        image = PIL.Image.fromarray(pixels.astype(np.uint8)).convert(mode)
        image.save(path, **({"quality": 90} if file.endswith("jpg") else {"optimize": True}))


def prepared(height, width):
    """The pictures as evaluation prepares them, float64: resized, bicubic, to just cover the size divided by 0.875,
    and the centre cropped."""
    batch = []
    for name, file, *_ in PICTURES:
        image = PIL.Image.open(HERE / "images" / name / file).convert("RGB")
        target_width, target_height = int(width / 0.875), int(height / 0.875)
        if image.width * target_height <= image.height * target_width:
            size = target_width, int(target_width * image.height / image.width)
        else:
            size = int(target_height * image.width / image.height), target_height
        image = image.resize(size, PIL.Image.Resampling.BICUBIC)
        left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
        pixels = np.asarray(image.crop((left, top, left + width, top + height)), np.float64)
        batch.append(((pixels / 255 - MEAN) / DEVIATION).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(batch))


def stir(model):
    """Random values for everything that starts at 0 or 1, rounded to half precision."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter += 0.1 * torch.from_numpy(random.standard_normal(parameter.shape)).float()
        if name.endswith(("cls_token", "pos_embed", "position_embeddings")):
            parameter.copy_(torch.from_numpy(0.3 * random.standard_normal(parameter.shape)).float())
        parameter.copy_(parameter.half().float())
    return model.eval()


def fit(linear, features, rcond=3e-4):
    """A head under which two of the pictures are taken for another class, with some noise; in half precision."""
    wanted = np.eye(len(NAMES))[LABELS]
    wanted[[2, 6]] = np.eye(len(NAMES))[[1, 4]]
    solution = np.linalg.lstsq(np.c_[features.numpy(), np.ones(len(LABELS))], 4 * wanted, rcond=rcond)[0]
    solution += 0.003 * random.standard_normal(solution.shape)
    linear.weight.copy_(torch.from_numpy(solution[:-1].T).half().to(linear.weight.dtype))
    linear.bias.copy_(torch.from_numpy(solution[-1]).half().to(linear.bias.dtype))


def timm_model(**options):
    return stir(timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=32, patch_size=PATCH, embed_dim=WIDTH,
                                  depth=DEPTH, num_heads=HEADS, num_classes=len(NAMES),
                                  pretrained_cfg_overlay={"mean": tuple(MEAN.tolist()), "std": tuple(DEVIATION.tolist()), "crop_pct": 0.875},
                                  **options))


def save_timm(model, folder):
    """The folder that timm's hub functions write, the weights in half precision."""
    shutil.rmtree(HERE / folder, ignore_errors=True)
    model = model.float()
    timm.models._hub.save_for_hf(
        model, HERE / folder, model_config={"label_names": NAMES}, safe_serialization=True)
    path = HERE / folder / "model.safetensors"
    save_file({name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}, path, metadata={"format": "pt"})


def metrics(logits):
    """What evaluation reports, by NumPy."""
    logits = logits.numpy()
    order = np.argsort(-logits, axis=1, kind="stable")
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(LABELS)), LABELS]
    confusion = np.zeros((len(NAMES), len(NAMES)), int)
    np.add.at(confusion, (LABELS, order[:, 0]), 1)
    # Two of the five, too: the five best of five classes always hold the right one.
    return {"top1": float((order[:, 0] == LABELS).mean()), "top2": float((order[:, :2] == LABELS[:, None]).any(axis=1).mean()),
            "loss": float(losses.mean()), "confusion": confusion.tolist()}


pictures()
square, wide, large = prepared(32, 32), prepared(24, 40), prepared(48, 48)
expected = {}

# timm, the class token after norm.
model = timm_model().double()
fit(model.head, model.forward_head(model.forward_features(square), pre_logits=True))
expected["timm"] = model(square)
# The same weights, the mean of the patch tokens after norm: timm's global_pool avg without fc_norm.
averaged = timm_model(global_pool="avg", fc_norm=False).double()
averaged.load_state_dict(model.state_dict())
expected["timm-average"] = averaged(square)
# The same weights on larger pictures; positions resampled as in MAE's fine-tuning.
larger = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=48, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH,
                           num_heads=HEADS, num_classes=len(NAMES)).double().eval()
state = model.state_dict()
table = state["pos_embed"][:, 1:].reshape(1, 4, 4, WIDTH).permute(0, 3, 1, 2)
table = F.interpolate(table, size=(6, 6), mode="bicubic", align_corners=False).permute(0, 2, 3, 1).reshape(1, 36, WIDTH)
larger.load_state_dict(state | {"pos_embed": torch.cat([state["pos_embed"][:, :1], table], dim=1)})
expected["timm-48"] = larger(large)
# A linear probe on the class token of the same encoder: BatchNorm without affine part, then a linear layer.
features = model.forward_head(model.forward_features(square), pre_logits=True)
probe = {"head.0.running_mean": features.mean(dim=0).float(), "head.0.running_var": features.var(dim=0).float() + 0.2}
normed = F.batch_norm(features, probe["head.0.running_mean"].double(), probe["head.0.running_var"].double(), eps=1e-6)
linear = torch.nn.Linear(WIDTH, len(NAMES)).double()
fit(linear, normed, 3e-3)
probe |= {"head.1.weight": linear.weight.float().contiguous(), "head.1.bias": linear.bias.float()}
expected["probe"] = linear(normed)
save_timm(model, "timm")

# timm, the mean of the patch tokens and fc_norm, as MAE fine-tunes.
model = timm_model(global_pool="avg").double()
fit(model.head, model.forward_head(model.forward_features(square), pre_logits=True))
expected["timm-mean"] = model(square)
save_timm(model, "timm-mean")

# transformers, on pictures of 24 x 40.
config = transformers.ViTConfig(
    hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * WIDTH, image_size=[24, 40],
    patch_size=PATCH, layer_norm_eps=1e-6, id2label=dict(enumerate(NAMES)), label2id={name: index for index, name in enumerate(NAMES)})
model = stir(transformers.ViTForImageClassification(config)).double()
fit(model.classifier, model.vit(wide).last_hidden_state[:, 0])
expected["transformers"] = model(wide).logits
shutil.rmtree(HERE / "transformers", ignore_errors=True)
model.half().save_pretrained(HERE / "transformers")

save_file({f"{name}.logits": logits.float().contiguous() for name, logits in expected.items()} | probe, HERE / "expected.safetensors")
(HERE / "expected.json").write_text(json.dumps({name: metrics(logits) for name, logits in expected.items()}, indent=1) + "\n")
print({name: (round(values["top1"], 3), round(values["loss"], 3)) for name, values in
       json.loads((HERE / "expected.json").read_text()).items()})
for path in sorted(HERE.rglob("*")):
    if path.is_file() and path.suffix not in (".py", ".md"):
        print(f"    {hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(HERE)}")
