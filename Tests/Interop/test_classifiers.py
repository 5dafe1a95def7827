"""Classifiers of timm and transformers: their logits on picture files, and the names of their classes in every form."""

from exchange import *
import onnx
import onnxruntime
import PIL.Image
import timm

CLASSIFIERS = ROOT / "Fixtures/classifiers"
NAMES = ["ant", "bee", "cat", "dog", "emu"]
# Of the largest logit.
BOUND = 1e-4
# How `prepared` prepares pictures; timm's folder states another mean.
PREPARED = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--crop-fraction", "0.875")


def prepared(path, side):
    """A picture as evaluation prepares it."""
    image = PIL.Image.open(path).convert("RGB")
    whole = int(side / 0.875) if side <= 224 else side
    short = min(image.size)
    size = tuple(int(whole * length / short) for length in image.size)
    image = image.resize(size, PIL.Image.Resampling.BICUBIC)
    left, top = (round((length - side) / 2) for length in image.size)
    pixels = np.asarray(image.crop((left, top, left + side, top + side)), np.float64)
    return torch.from_numpy(((pixels / 255 - tiny.MEAN) / tiny.DEVIATION).transpose(2, 0, 1))


class Classifiers(Exchange):
    def pictures(self, side):
        """The fixtures' pictures, in the program's order, prepared for a model of that size."""
        paths = sorted((path for path in (CLASSIFIERS / "images").rglob("*") if path.is_file()), key=lambda path: str(path).encode())
        return torch.stack([prepared(path, side) for path in paths])

    def logits(self, weights, *more):
        """What `dmae evaluate` writes: logits and labels."""
        output = self.folder / "logits.safetensors"
        said = self.dmae("evaluate", "--weights", weights, "--data", CLASSIFIERS / "images", "--logits", output, "--json", *PREPARED, *more)
        written = safetensors.torch.load_file(output)
        report = json.loads(said.stdout)
        top1 = (written["logits"].argmax(1) == written["labels"]).double().mean().item()
        loss = torch.nn.functional.cross_entropy(written["logits"].double(), written["labels"].long()).item()
        self.assertAlmostEqual(report["top1"], top1, 12)
        self.assertAlmostEqual(report["loss"], loss, 9)
        return written["logits"]

    def assertLogits(self, found, expected, what):
        self.assertClose(found, expected, BOUND * expected.abs().max().item(), what)

    def every_form(self, weights, expected, *more, hugging=True):
        """Converted to each form, the program computes the same logits and knows the same names."""
        for form, name in [("mae", "m.safetensors"), ("mae", "m.pth"), ("timm", "t.safetensors"), ("timm", "t.pth"), ("huggingface", "h")]:
            if form == "huggingface" and not hugging:
                continue
            told = [] if name.endswith("pth") else more
            output = self.convert(weights, self.folder / name, form, *told)
            self.assertLogits(self.logits(output, *([] if form == "huggingface" else more)), expected, name)
            said = json.loads(self.dmae("inspect", "--json", output).stdout)
            self.assertEqual(said["model"]["class_names"], NAMES, name)
        archive = torch.load(self.folder / "t.pth", weights_only=True)
        self.assertEqual(archive["dmae.classes"], NAMES)

    def graph(self, weights, images, expected, *more):
        path = self.convert(weights, self.folder / "x.onnx", "onnx", *more)
        model = onnx.load(path)
        self.assertEqual(json.loads({entry.key: entry.value for entry in model.metadata_props}["dmae.classes"]), NAMES)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.assertEqual(json.loads(session.get_modelmeta().custom_metadata_map["dmae.classes"]), NAMES)
        self.assertEqual({output.name for output in session.get_outputs()}, {"last_hidden_state", "pooled", "logits"})
        seen = session.run(["logits"], {"pixel_values": images.float().numpy()})[0]
        self.assertLogits(torch.from_numpy(seen), expected, "onnxruntime")

    def test_timm(self):
        """Class token and mean of the patches, timm's own folder, in float32."""
        for pool in ("token", "avg"):
            torch.manual_seed(21)
            model = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=3, num_classes=5, global_pool=pool)
            model.head.weight.normal_(std=0.2)
            images = self.pictures(64)
            folder = self.folder / pool
            timm.models._hub.save_for_hf(model, folder, model_config={"label_names": NAMES}, safe_serialization=True)
            expected = model.eval().double()(images)
            self.assertLogits(self.logits(folder / "model.safetensors"), expected, pool)
            self.every_form(folder / "model.safetensors", expected, hugging=pool == "token")
            self.graph(folder / "model.safetensors", images, expected)
            if pool == "token":
                kind = transformers.ViTForImageClassification
                loaded, information = kind.from_pretrained(self.folder / "h", output_loading_info=True)
                self.assertFalse(any(information.values()), information)
                self.assertEqual(loaded.config.id2label, dict(enumerate(NAMES)))
                self.assertEqual(loaded.config.label2id, {name: index for index, name in enumerate(NAMES)})
                self.assertLogits(loaded.eval().double()(images).logits, expected, "ViTForImageClassification")
            else:
                said = self.dmae("convert", folder / "model.safetensors", self.folder / "no", "--to", "huggingface", code=65)
                self.assertIn("fc_norm", said.stderr)
                back = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=3, num_classes=5, global_pool=pool)
                back.load_state_dict(safetensors.torch.load_file(self.folder / "t.safetensors"))
                self.assertLogits(back.eval().double()(images), expected, "timm again")

    def test_transformers(self):
        torch.manual_seed(22)
        config = transformers.ViTConfig(
            hidden_size=60, num_hidden_layers=3, num_attention_heads=5, intermediate_size=240, image_size=48, patch_size=16,
            layer_norm_eps=1e-6, id2label=dict(enumerate(NAMES)), label2id={name: index for index, name in enumerate(NAMES)})
        model = transformers.ViTForImageClassification(config).eval()
        model.classifier.weight.normal_(std=0.3)
        images = self.pictures(48)
        expected = model.double()(images).logits
        model = model.float()
        for original in (True, False):
            path = self.folder / f"classifier-{original}"
            model.save_pretrained(path, save_original_format=original)
            self.assertLogits(self.logits(path), expected, path.name)
        self.every_form(path, expected, "--heads", "5")
        self.graph(path, images, expected)

    def test_probe(self):
        """A linear probe: two layers in MAE's names, one in those of timm and transformers, and the same logits."""
        recorded = safetensors.torch.load_file(CLASSIFIERS / "expected.safetensors")
        encoder = safetensors.torch.load_file(CLASSIFIERS / "timm/model.safetensors")
        tensors = {name: tensor for name, tensor in encoder.items() if not name.startswith("head.")}
        tensors |= {name: tensor for name, tensor in recorded.items() if name.startswith("head.")}
        path, expected = self.folder / "probe.safetensors", recorded["probe.logits"]
        safetensors.torch.save_file(tensors, path, {"dmae.classes": json.dumps(NAMES)})
        self.every_form(path, expected, "--heads", "4")
        kind = transformers.ViTForImageClassification
        loaded, information = kind.from_pretrained(self.folder / "h", output_loading_info=True)
        self.assertFalse(any(information.values()), information)
        images = self.pictures(loaded.config.image_size)
        self.assertLogits(loaded.eval().double()(images).logits, expected.double(), "ViTForImageClassification")

    def test_fixtures(self):
        expected = safetensors.torch.load_file(CLASSIFIERS / "expected.safetensors")
        for name, path in (("timm", "timm/model.safetensors"), ("timm-mean", "timm-mean/model.safetensors"), ("transformers", "transformers")):
            self.assertLogits(self.logits(CLASSIFIERS / path, "--heads", "4"), expected[f"{name}.logits"], name)
