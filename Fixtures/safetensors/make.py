"""Writes reference.safetensors and reference.txt with the Python safetensors package.

    python3 -m venv venv && venv/bin/pip install numpy==2.2.6 safetensors==0.5.3 && venv/bin/python make.py

reference.txt lists every tensor: name, dtype, shape, then the float32 bits of its values, worked out by numpy. BF16 is
unknown to numpy: its bytes are cut from float32 here, and serialised through the package's own function for raw bytes.
"""
import pathlib

import numpy as np
from safetensors import serialize_file

here = pathlib.Path(__file__).parent
random = np.random.Generator(np.random.PCG64(20221))

normal = random.standard_normal((3, 5)).astype(np.float32)
special = np.array([0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-40, 3.4028235e38], np.float32)
half = np.array([0.0, -0.0, 1.0, 65504.0, 6e-8, -6e-5, np.inf, -np.inf, 0.333], np.float16)
brain = (random.standard_normal(6).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)

tensors = {
    "blocks.0.attn.qkv.weight": ("float32", normal, normal),
    "special": ("float32", special, special),
    "half": ("float16", half, half),
    "brain": ("bfloat16", brain, (brain.astype(np.uint32) << 16).view(np.float32)),
    "double": ("float64", np.array([[np.pi], [1e300], [-1e-320]]), None),
    "long": ("int64", np.array([0, -1, 2**40 + 1, -(2**63)]), None),
    "int": ("int32", np.array([16777217, -7], np.int32), None),
    "short": ("int16", np.array([-32768, 32767], np.int16), None),
    "signed": ("int8", np.array([-128, 127], np.int8), None),
    "byte": ("uint8", np.array([[0, 255, 7]], np.uint8), None),
    "flag": ("bool", np.array([True, False, True]), None),
    "scalar": ("float32", np.array(2.5, np.float32), None),
    "empty": ("float32", np.zeros((0, 4), np.float32), None),
    'quoted "name" \u00e9\u4e2d\n': ("float32", np.array([1, 2], np.float32), None),
}
serialize_file(
    {name: {"dtype": kind, "shape": list(value.shape), "data": value.tobytes()} for name, (kind, value, _) in tensors.items()},
    str(here / "reference.safetensors"),
    metadata={"note": 'a "quoted" \\ line\nand \u00e9'},
)
with np.errstate(over="ignore"), open(here / "reference.txt", "w", encoding="utf-8") as text:
    for name, (kind, value, floats) in tensors.items():
        bits = (value if floats is None else floats).astype(np.float32).reshape(-1).view(np.uint32)
        shape = ",".join(map(str, value.shape))
        text.write(f"{name.encode().hex()} {kind} [{shape}] {' '.join(f'{b:08x}' for b in bits)}\n")
