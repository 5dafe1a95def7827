"""Shared by the tests of this folder: running the program as a user does, the fixtures, and the other tools."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import warnings

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "Fixtures/weights"
BINARY = os.environ.get("DMAE_BINARY", str(ROOT / ".build/dmae"))
sys.path.insert(0, str(FIXTURES))
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

# The script that wrote the fixtures defines the same model with timm's and with transformers' classes.
import make_weights as tiny  # noqa: E402  its import also makes PyPI's torchvision usable beside a CPU build of torch
import safetensors.torch  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=UserWarning)
# One thread: the matmuls are tiny, and the machine may be shared.
torch.set_num_threads(1)
torch.set_grad_enabled(False)

EXPECTED = safetensors.torch.load_file(FIXTURES / "expected.safetensors")
IMAGES = EXPECTED["images"]

# Of each fixture: the path, the type its weights were rounded to, and flags for what the file does not say.
HEADS = ["--heads", "4"]
FILES = [
    ("mae/mae.safetensors", "f32", HEADS),
    ("mae/encoder.pth", "f16", HEADS),
    ("mae/checkpoint.pth", "f32", HEADS),
    ("dmae/distilled.pth", "bf16", HEADS),
    ("timm/timm.safetensors", "f16", HEADS),
    ("mmpretrain/mmpretrain.pth", "f16", HEADS),
    ("huggingface/vitmae", "f16", []),
    ("huggingface/vitmae-sharded", "f16", []),
    ("huggingface/vitmae-published", "bf16", []),
    ("huggingface/vit", "bf16", []),
    ("huggingface/vit-classifier", "f16", []),
]
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class Exchange(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dmae-interop-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def dmae(self, *arguments, code=0):
        """Runs the program, which must exit with `code`; returns the completed process."""
        words = [BINARY, *map(str, arguments)]
        result = subprocess.run(words, capture_output=True, text=True, timeout=600)
        self.assertEqual(result.returncode, code, f"{' '.join(words)}\n{result.stdout}{result.stderr}")
        return result

    def convert(self, source, target, form, *more):
        self.dmae("convert", source, target, "--to", form, "--force", *more)
        return target

    def embed(self, weights, *more, data=FIXTURES / "images"):
        """The features [images, …] that `dmae embed` writes."""
        output = self.folder / "features.npy"
        self.dmae("embed", "--weights", weights, "--data", data, "--output", output, "--force", *more)
        return torch.from_numpy(np.load(output))

    def assertClose(self, found, expected, bound, what=""):
        self.assertEqual(tuple(found.shape), tuple(expected.shape), what)
        worst = (found.double() - expected.double()).abs().max().item()
        self.assertLessEqual(worst, bound, f"{what}: off by {worst:.2e}")

    def assertSameTensors(self, found, expected, what=""):
        self.assertEqual(set(found), set(expected), what)
        for name, tensor in expected.items():
            self.assertEqual(found[name].dtype, tensor.dtype, f"{what}: {name}")
            self.assertTrue(torch.equal(found[name], tensor), f"{what}: {name}")


def measure(arguments):
    """Runs a program and returns its peak resident memory in bytes and its time in seconds. It is started from a small
    process, as the kernel's peak of a child includes the memory of its parent at the start."""
    script = """if True:
        import json, os, sys, time
        start = time.monotonic()
        child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
        _, status, usage = os.wait4(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024, time.monotonic() - start]))"""
    result = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True)
    code, peak, seconds = json.loads(result.stdout)
    assert code == 0, result.stderr
    return peak, seconds
