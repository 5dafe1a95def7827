#!/usr/bin/env python3
"""Record what PyTorch makes of position tables on other grids, and timm of input projections for other channels.

    python3 -m venv venv && venv/bin/pip install -r ../weights/requirements.txt
    venv/bin/python make_adaptation.py
"""

import hashlib
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file

try:
    import torchvision  # noqa: F401  timm imports it
except RuntimeError:
    # PyPI's torchvision cannot load its compiled operators beside a CPU build of torch. None is used here.
    torchvision_operators = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        torchvision_operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
import timm
from timm.models._manipulate import adapt_input_conv

SEED, WIDTH = 2023, 12
HERE = pathlib.Path(__file__).parent
random = np.random.Generator(np.random.PCG64(SEED))
tensors = {}


def normal(*shape):
    return torch.from_numpy(random.standard_normal(shape).astype(np.float32))


# rows × columns before and after: up, down, both, a single patch, the same grid, and one of 14 × 14 to 24 × 24 as for 384 pixels.
for before, after in [((4, 4), (8, 8)), ((4, 4), (7, 7)), ((7, 7), (4, 4)), ((3, 5), (6, 2)), ((2, 8), (4, 4)), ((1, 1), (3, 2)),
                      ((6, 6), (1, 1)), ((5, 4), (5, 4)), ((14, 14), (24, 24)), ((14, 14), (6, 6))]:
    table = normal(1, 1 + before[0] * before[1], WIDTH)
    # In double, rounded once: what float32 arithmetic adds is not part of the definition.
    patches = table[:, 1:].double().reshape(1, *before, WIDTH).permute(0, 3, 1, 2)
    new = torch.nn.functional.interpolate(patches, size=after, mode="bicubic", align_corners=False)
    new = torch.cat([table[:, :1].double(), new.permute(0, 2, 3, 1).reshape(1, -1, WIDTH)], dim=1).float()
    name = "positions.{}x{}.{}x{}".format(*before, *after)
    tensors |= {f"{name}.before": table, f"{name}.after": new}

for before, after in [(3, 1), (3, 4), (3, 2), (3, 7), (1, 3), (3, 3), (4, 1)]:
    weight = normal(5, before, 2, 2)
    new = adapt_input_conv(after, weight.clone(), base_chans=before)
    tensors |= {f"channels.{before}.{after}.before": weight, f"channels.{before}.{after}.after": new.contiguous()}

save_file(tensors, HERE / "adaptation.safetensors")
print(f"seed {SEED}; numpy {np.__version__}, torch {torch.__version__}, timm {timm.__version__}")
print(hashlib.sha256((HERE / "adaptation.safetensors").read_bytes()).hexdigest())
