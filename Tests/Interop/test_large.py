"""Files as large as the published ones: `make test-interop LARGE=1`. Needs about 10 GB of disk and 8 GB of memory."""

import argparse
import time

from exchange import *
import onnx
import onnxruntime


def block(name, width):
    shapes = {"norm1.weight": (width,), "norm1.bias": (width,), "attn.qkv.weight": (3 * width, width), "attn.qkv.bias": (3 * width,),
              "attn.proj.weight": (width, width), "attn.proj.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
              "mlp.fc1.weight": (4 * width, width), "mlp.fc1.bias": (4 * width,), "mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,)}
    return {f"{name}.{end}": shape for end, shape in shapes.items()}


def encoder(width, depth, patch):
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 1 + (224 // patch) ** 2, width), "patch_embed.proj.weight": (width, 3, patch, patch),
              "patch_embed.proj.bias": (width,), "norm.weight": (width,), "norm.bias": (width,)}
    for index in range(depth):
        shapes |= block(f"blocks.{index}", width)
    return shapes


def decoder(source, patch):
    shapes = {"decoder_embed.weight": (512, source), "decoder_embed.bias": (512,), "mask_token": (1, 1, 512),
              "decoder_pos_embed": (1, 1 + (224 // patch) ** 2, 512), "decoder_norm.weight": (512,), "decoder_norm.bias": (512,),
              "decoder_pred.weight": (3 * patch * patch, 512), "decoder_pred.bias": (3 * patch * patch,)}
    for index in range(8):
        shapes |= block(f"decoder_blocks.{index}", 512)
    return shapes


@unittest.skipUnless(os.environ.get("DMAE_LARGE"), "make test-interop LARGE=1 runs it")
class Large(Exchange):
    def measure(self, what, size, *arguments):
        """Runs the program, prints its time and peak memory, and returns the peak memory."""
        peak, seconds = measure([BINARY, *arguments])
        print(f"{what}: {seconds:.1f} s, at most {peak / 1e6:.0f} MB of memory, {peak / size:.2f} of the file", flush=True)
        return peak

    def test_convert(self):
        """MAE's ViT-L with its decoder, 1.3 GB, and a Namespace: read at the speed of the disk, in little memory."""
        shapes = encoder(1024, 24, 16) | decoder(1024, 16)
        self.assertEqual(len(shapes), 398)
        torch.manual_seed(0)
        source = self.folder / "mae_visualize_vit_large.pth"
        torch.save({"model": {name: torch.randn(shape) for name, shape in shapes.items()}, "args": argparse.Namespace(lr=1e-3)}, source)
        size = source.stat().st_size
        # The time of the disk alone: the same bytes, copied and synced.
        start = time.monotonic()
        subprocess.run(["dd", f"if={source}", f"of={self.folder / 'copy'}", "bs=4M", "conv=fsync", "status=none"], check=True)
        print(f"\na copy of {size / 1e9:.2f} GB: {time.monotonic() - start:.1f} s", flush=True)
        (self.folder / "copy").unlink()
        for name, form, more in [("x.safetensors", "mae", []), ("x.pth", "mae", []), ("hf", "huggingface", []), ("half.pth", "mae", ["--dtype", "bf16"]),
                                 ("timm.safetensors", "timm", []), ("x.onnx", "onnx", [])]:
            output = self.folder / name
            peak = self.measure(f"to {form} {' '.join(more)} ({name})", size, "convert", source, output, "--to", form, *more)
            self.assertLess(peak, size / 3, form)
            if name in ("x.safetensors", "x.pth"):
                read = safetensors.torch.load_file if name == "x.safetensors" else lambda path: torch.load(path, weights_only=True)["model"]
                found = read(output)
                torch.manual_seed(0)
                self.assertEqual(set(found), set(shapes))
                for tensor, shape in shapes.items():
                    self.assertTrue(torch.equal(found[tensor], torch.randn(shape)), tensor)
                del found
            if output.is_file():
                output.unlink()
            else:
                shutil.rmtree(output)
        self.assertLess(self.measure("inspect", size, "inspect", source), 64 << 20)

    def test_external_data(self):
        """A ViT-H of more than 2 GB: its ONNX weights are in a second file, and onnxruntime runs it."""
        shapes = encoder(1280, 32, 14)
        torch.manual_seed(1)
        source = self.folder / "mae_pretrain_vit_huge.pth"
        tensors = {}
        for name, shape in shapes.items():
            tensors[name] = (torch.randn(shape) * 0.02 + (1 if "norm" in name and name.endswith("weight") else 0)).bfloat16()
        torch.save({"model": tensors}, source)
        del tensors
        output = self.folder / "huge.onnx"
        size = source.stat().st_size
        self.assertLess(self.measure("\nto onnx (huge.onnx)", size, "convert", source, output, "--to", "onnx"), size / 3)
        beside = [path for path in self.folder.iterdir() if path.stat().st_size > 2**31]
        self.assertEqual(len(beside), 1)
        self.assertLess(output.stat().st_size, 1 << 20)
        onnx.checker.check_model(str(output))
        session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
        import PIL.Image

        pixels = np.random.Generator(np.random.PCG64(9)).integers(0, 256, (256, 256, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(self.folder / "a.png")
        image = ((pixels[16:240, 16:240] / 255.0 - tiny.MEAN) / tiny.DEVIATION).astype(np.float32)
        seen = torch.from_numpy(session.run(["last_hidden_state"], {"pixel_values": image.transpose(2, 0, 1)[None].copy()})[0])
        self.assertClose(seen, self.embed(source, "--pool", "tokens", data=self.folder / "a.png"), 1e-4)
