"""A ViT-L's checkpoint of 1.3 GB, as MAE publishes it with its decoder: `make test-interop LARGE=1`."""

import argparse
import time

from exchange import *


@unittest.skipUnless(os.environ.get("DMAE_LARGE"), "make test-interop LARGE=1 runs it")
class Large(Exchange):
    def test_convert(self):
        def block(width):
            return {"norm1.weight": (width,), "norm1.bias": (width,), "attn.qkv.weight": (3 * width, width), "attn.qkv.bias": (3 * width,),
                    "attn.proj.weight": (width, width), "attn.proj.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
                    "mlp.fc1.weight": (4 * width, width), "mlp.fc1.bias": (4 * width,), "mlp.fc2.weight": (width, 4 * width),
                    "mlp.fc2.bias": (width,)}
        shapes = {"cls_token": (1, 1, 1024), "pos_embed": (1, 197, 1024), "patch_embed.proj.weight": (1024, 3, 16, 16),
                  "patch_embed.proj.bias": (1024,), "norm.weight": (1024,), "norm.bias": (1024,), "decoder_embed.weight": (512, 1024),
                  "decoder_embed.bias": (512,), "mask_token": (1, 1, 512), "decoder_pos_embed": (1, 197, 512), "decoder_norm.weight": (512,),
                  "decoder_norm.bias": (512,), "decoder_pred.weight": (768, 512), "decoder_pred.bias": (768,)}
        shapes |= {f"blocks.{index}.{name}": shape for index in range(24) for name, shape in block(1024).items()}
        shapes |= {f"decoder_blocks.{index}.{name}": shape for index in range(8) for name, shape in block(512).items()}
        self.assertEqual(len(shapes), 398)
        torch.manual_seed(0)
        source = self.folder / "mae_visualize_vit_large.pth"
        torch.save({"model": {name: torch.randn(shape) for name, shape in shapes.items()}, "args": argparse.Namespace(lr=1e-3)}, source)
        size = source.stat().st_size
        for form, more, output in [("mae", [], "x.safetensors"), ("mae", [], "x.pth"), ("huggingface", [], "hf"),
                                   ("mae", ["--dtype", "bf16"], "half.safetensors"), ("timm", [], "timm.safetensors"), ("onnx", [], "x.onnx")]:
            # What the disk itself takes: the same bytes, copied and forced out.
            start = time.monotonic()
            subprocess.run(["dd", f"if={source}", f"of={self.folder / 'copy'}", "bs=4M", "conv=fsync", "status=none"], check=True)
            copied = time.monotonic() - start
            (self.folder / "copy").unlink()
            peak, seconds = measure([BINARY, "convert", source, self.folder / output, "--to", form, *more])
            print(f"\n{size / 1e9:.2f} GB to {' '.join([form, *more])} ({output}): {seconds:.1f} s (a copy: {copied:.1f} s), "
                  f"at most {peak / 1e6:.0f} MB of memory, {peak / size:.2f} of the file", flush=True)
            self.assertLess(peak, size / 3, form)
            if form == "mae" and not more:
                start = safetensors.torch.load_file(self.folder / output) if output.endswith("safetensors") else (
                    torch.load(self.folder / output, weights_only=True)["model"])
                self.assertEqual({name: tuple(tensor.shape) for name, tensor in start.items()}, shapes)
                del start
        peak, seconds = measure([BINARY, "inspect", source])
        print(f"inspect: {seconds:.2f} s, at most {peak / 1e6:.0f} MB", flush=True)
        self.assertLess(peak, 64 << 20)
