"""Files that PyTorch, timm and transformers write are read, and their models give the same features."""

import argparse
import collections
import pickle

from exchange import *
from timm.models.vision_transformer import VisionTransformer

# For features of magnitude 1 or a few: the difference between float32 and float64 arithmetic.
BOUND = 1e-5


class Fixtures(Exchange):
    def test_features(self):
        """Every fixture with every pool and every block agrees with timm and transformers in float64."""
        for path, letter, told in FILES:
            with self.subTest(path):
                weights = FIXTURES / path
                for pool in ("class", "mean", "tokens"):
                    found = self.embed(weights, "--pool", pool, *told)
                    self.assertClose(found, EXPECTED[f"{letter}.{pool}"], BOUND, f"{path}, {pool}")
                for block in range(tiny.DEPTH):
                    found = self.embed(weights, "--pool", "tokens", "--block", block, *told)
                    self.assertClose(found, EXPECTED[f"{letter}.block.{block}"], BOUND, f"{path}, block {block}")

    def test_fine_tuned(self):
        """A mean-pooled classifier: the default feature is the input of its head."""
        model = tiny.timm_model(depth=1, num_classes=tiny.CLASSES, global_pool="avg")
        model.load_state_dict(torch.load(FIXTURES / "mae/finetuned.pth", weights_only=True)["model"])
        expected = model.double().forward_head(model.forward_features(IMAGES.double()), pre_logits=True)
        self.assertClose(self.embed(FIXTURES / "mae/finetuned.pth", *HEADS), expected, BOUND)

    def test_namespace(self):
        """PyTorch refuses MAE's training checkpoints; the program reads them."""
        with self.assertRaises(pickle.UnpicklingError):
            torch.load(FIXTURES / "mae/checkpoint.pth", weights_only=True)
        said = self.dmae("inspect", FIXTURES / "mae/checkpoint.pth")
        self.assertIn("epoch", said.stdout)

    def test_before_1_6(self):
        said = self.dmae("inspect", FIXTURES / "archives/before_1_6.pth", code=65)
        self.assertIn("torch.save", said.stderr)


class Fresh(Exchange):
    """Models of other sizes than those of the fixtures."""

    def pictures(self, side, channels=3, count=3, seed=5):
        """Pictures of the size that evaluation resizes to, so that the model gets their centre."""
        import PIL.Image

        whole = side * 8 // 7
        random = np.random.Generator(np.random.PCG64(seed))
        folder = self.folder / "pictures"
        folder.mkdir()
        seen = []
        for index in range(count):
            pixels = random.integers(0, 256, (whole, whole, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(folder / f"{index}.png")
            start = round((whole - side) / 2)
            seen.append((pixels[start:start + side, start:start + side] / 255.0 - tiny.MEAN) / tiny.DEVIATION)
        return folder, torch.from_numpy(np.ascontiguousarray(np.stack(seen).transpose(0, 3, 1, 2)))

    def test_timm(self):
        """timm.create_model, its weights saved by torch.save with and without wrappers; the heads are those of a preset."""
        torch.manual_seed(11)
        model = VisionTransformer(img_size=64, patch_size=16, embed_dim=192, depth=12, num_heads=3, num_classes=7).eval()
        folder, images = self.pictures(64)
        expected = model.double().forward_features(images)
        state = {name: tensor.float() for name, tensor in model.state_dict().items()}
        for wrapped in (state, {"state_dict": state}, {"state_dict_ema": state, "epoch": 3},
                        {"model": {f"module.{name}": tensor for name, tensor in state.items()}}):
            path = self.folder / "timm.pth"
            torch.save(wrapped, path)
            found = self.embed(path, "--pool", "tokens", data=folder)
            # Twelve blocks of random weights; timm's features have magnitude 3.
            self.assertClose(found, expected, BOUND, str(list(wrapped)[:2]))

    def test_transformers(self):
        """A ViT of transformers with pooler and classifier, saved in shards of at most 200 kB."""
        torch.manual_seed(12)
        config = transformers.ViTConfig(hidden_size=60, num_hidden_layers=4, num_attention_heads=5, intermediate_size=240,
                                        image_size=48, patch_size=16, layer_norm_eps=1e-6, num_labels=3)
        folder, images = self.pictures(48)
        for kind in (transformers.ViTModel, transformers.ViTForImageClassification):
            for original in (True, False):
                model = kind(config).eval()
                path = self.folder / f"{kind.__name__}-{original}"
                model.save_pretrained(path, max_shard_size="200KB", save_original_format=original)
                expected = getattr(model, "vit", model).double()(images).last_hidden_state
                found = self.embed(path, "--pool", "tokens", data=folder)
                self.assertClose(found, expected, BOUND, path.name)

    def test_checkpoint(self):
        """The checkpoint of a training loop: OrderedDict, Parameters, an optimiser's state, a Namespace and other objects."""
        model = tiny.timm_model(num_classes=0)
        model.load_state_dict({name: tiny.mae[name] for name in tiny.encoder})
        optimizer = torch.optim.AdamW(model.parameters())
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        optimizer.step()
        model.load_state_dict(before)
        path = self.folder / "checkpoint.pth"
        args = argparse.Namespace(lr=1e-3, device=torch.device("cuda"), size=torch.Size([1, 2]), dtype=torch.float16)
        torch.save({"model": collections.OrderedDict(model.named_parameters()), "optimizer": optimizer.state_dict(), "args": args,
                    "best": np.float64(0.5), "history": collections.deque([1, 2])}, path)
        found = self.embed(path, "--pool", "tokens", *HEADS)
        self.assertClose(found, EXPECTED["f32.tokens"], BOUND)

    def test_layouts(self):
        """Views, shared storages and all types: each tensor equals the one that safetensors wrote."""
        expected = safetensors.torch.load_file(FIXTURES / "archives/layouts.safetensors")
        said = json.loads(self.dmae("inspect", "--json", FIXTURES / "archives/layouts.pth").stdout)
        found = {tensor["name"]: tensor["shape"] for tensor in said["tensors"]}
        self.assertEqual(found, {name: list(tensor.shape) for name, tensor in expected.items()})
