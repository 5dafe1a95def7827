"""Writes the archives beside it with PyTorch's own torch.save, and expected.txt with what they hold.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 numpy==2.2.6 && venv/bin/python make_archives.py

expected.txt has a line per tensor: file, name, dtype, shape, strides as saved, then the float32 bits of its values in row-major
order, worked out by PyTorch. Written with PyTorch 2.13.0, seed 20200; the bytes differ with the PyTorch version.
"""
import argparse
import collections
import pathlib
import sys

import numpy as np
import torch

here = pathlib.Path(__file__).parent
torch.manual_seed(20200)
lines = []


def tensors_in(value, name=""):
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors_in(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from tensors_in(item, f"{name}.{index}" if name else str(index))


def record(file, named):
    for name, tensor in named:
        tensor = tensor.detach()
        bits = tensor.to(torch.float32).contiguous().reshape(-1).numpy().view(np.uint32)
        shape, strides = (",".join(map(str, numbers)) for numbers in (tensor.shape, tensor.stride()))
        words = [file, name, str(tensor.dtype).removeprefix("torch."), f"[{shape}]", f"[{strides}]"]
        lines.append(" ".join(words + [f"{value:08x}" for value in bits]))


def save(file, value, named=None, **options):
    torch.save(value, here / file, **options)
    record(file, tensors_in(value) if named is None else named)


# A training checkpoint as MAE's program writes it, with the argparse.Namespace that today's torch.load refuses.
model = torch.nn.Sequential(collections.OrderedDict(norm=torch.nn.LayerNorm(4), head=torch.nn.Linear(4, 3)))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(2):
    model(torch.randn(5, 4)).square().mean().backward()
    optimizer.step()
arguments = argparse.Namespace(
    model="mae_vit_tiny", blr=1.5e-4, norm_pix_loss=True, epochs=3, resume="", device=torch.device("cpu"), betas=(0.9, 0.95),
    log_dir=pathlib.PurePosixPath("logs"), accuracy=np.float64(0.5))
checkpoint = {
    "model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 2, "scaler": {"scale": 65536.0, "_growth_tracker": 7},
    "args": arguments, "big": 2**70, "negative": -5, "nothing": None, "size": torch.Size([2, 3]), "dtype": torch.float16,
}
for protocol in (2, 3, 4, 5):
    save(f"checkpoint-{protocol}.pth", checkpoint, pickle_protocol=protocol)

# Every element type; values at the edges of each.
types = collections.OrderedDict(
    f64=torch.tensor([1.5, -1e300, 1e-320, np.pi], dtype=torch.float64), f32=torch.tensor([0.0, -0.0, float("inf"), 1e-45, 3.4028235e38]),
    f16=torch.tensor([1.0, 65504.0, 6e-8, -6e-5], dtype=torch.float16), bf16=torch.tensor([1.0, -3.389e38, 1e-40], dtype=torch.bfloat16),
    i64=torch.tensor([-(2**63), 2**40 + 1, -1]), i32=torch.tensor([16777217, -7], dtype=torch.int32),
    i16=torch.tensor([-32768, 32767], dtype=torch.int16), i8=torch.tensor([-128, 127], dtype=torch.int8),
    u8=torch.tensor([0, 255], dtype=torch.uint8), bool=torch.tensor([True, False]),
    u16=torch.tensor([0, 65535], dtype=torch.uint16), u32=torch.tensor([2**32 - 1, 7], dtype=torch.uint32),
    u64=torch.tensor([2**63, 1], dtype=torch.uint64),
    scalar=torch.tensor(2.5), empty=torch.zeros(3, 0, 2), parameter=torch.nn.Parameter(torch.randn(2, 2)),
    buffer=torch.nn.Buffer(torch.randn(3)))
save("types.pth", types)

# Views: one storage many times, offsets, transposes, steps, repeated elements.
base = torch.randn(4, 6)
cube = torch.randn(2, 3, 4)
half = torch.randn(3, 5).half()
views = dict(
    base=base, rows=base[1:3], columns=base[:, 2:4], transposed=base.t(), stepped=base[::2, 1::3], element=base[3, 5],
    permuted=cube.permute(2, 0, 1), diagonal=base.diagonal(), expanded=base[:, :1].expand(4, 3), whole=cube, half=half.t(),
    channels_last=torch.randn(1, 3, 2, 2).to(memory_format=torch.channels_last), bytes=torch.arange(12, dtype=torch.uint8)[::5],
    doubles=torch.randn(3, 2, dtype=torch.float64).t())
save("views.pth", views)
# Storages written as a big-endian machine does.
order, sys.byteorder = sys.byteorder, "big"


def swapped(value):
    """The same values in swapped bytes, which PyTorch then writes as they are."""
    return torch.from_numpy(np.ascontiguousarray(value.numpy()).byteswap()) if value.element_size() > 1 else value


big = dict(floats=torch.randn(2, 3), halves=torch.randn(4).half(), longs=torch.tensor([1, -2, 3]), bytes=torch.tensor([9], dtype=torch.uint8))
torch.save({name: swapped(value) for name, value in big.items()}, here / "big-endian.pth")
sys.byteorder = order
record("big-endian.pth", big.items())

# Without checksums, a tensor alone, a list, and a model pickled whole.
torch.serialization.set_crc32_options(False)
save("no-checksums.pth", {"a": base})
torch.serialization.set_crc32_options(True)
save("tensor.pth", base[0], [("tensor", base[0])])
save("list.pth", [base[0], {"deeper": cube}])
inner = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2), torch.nn.BatchNorm2d(2))
save("module.pth", inner, inner.state_dict().items())

# Forms that are refused.
torch.save({"a": base}, here / "before-1.6.pth", _use_new_zipfile_serialization=False)
torch.save({"epoch": 3}, here / "no-tensors.pth")
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 1)), here / "script.pt")

(here / "expected.txt").write_text("\n".join(lines) + "\n")
