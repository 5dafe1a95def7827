"""The tool that a conversion is for loads it, with no key missing or unexpected, and computes the same."""

from exchange import *
import re
import PIL.Image
import timm

BOUND = 1e-5
CLASSES = {"ViTMAEForPreTraining": transformers.ViTMAEForPreTraining, "ViTModel": transformers.ViTModel,
           "ViTForImageClassification": transformers.ViTForImageClassification}
MAE = FIXTURES / "mae/mae.safetensors"
PICTURES = ROOT / "Fixtures/classifiers/images"
PATHS = sorted((path for path in PICTURES.rglob("*") if path.is_file()), key=lambda path: str(path).encode())
SHAPES = [PIL.Image.open(path).convert("RGB") for path in PATHS]
PREPARATIONS = [
    [], ["--mean", "0.5", "--std", "0.5", "--interpolation", "bilinear", "--crop-fraction", "squash"],
    ["--mean", "0.5,0.4,0.3", "--std", "0.25", "--interpolation", "lanczos", "--crop-fraction", "0.9"]]
ALL_HEADS = ["--heads", "4", "--decoder-heads", "4"]


def rounded(tensors, letter):
    return {name: tensor.to(TYPES[letter]) for name, tensor in tensors.items()}


class HuggingFace(Exchange):
    def load(self, folder):
        """The model of the class named in config.json; it must find all its keys and no others."""
        config = json.loads((folder / "config.json").read_text())
        kind = CLASSES[config["architectures"][0]]
        options = {"add_pooling_layer": False} if kind is transformers.ViTModel else {}
        model, information = kind.from_pretrained(folder, output_loading_info=True, **options)
        for what, keys in information.items():
            self.assertFalse(keys, f"{folder.name}: {what}")
        self.assertEqual(config["layer_norm_eps"], 1e-6)
        self.assertEqual((config["num_attention_heads"], config["image_size"], config["patch_size"]), (4, 32, 8))
        return model

    def test_every_source(self):
        for path, letter, told in FILES:
            with self.subTest(path):
                told = told and ["--heads", "4"] + ([] if "timm" in path or "encoder" in path else ["--decoder-heads", "4"])
                folder = self.convert(FIXTURES / path, self.folder / re.sub(r"\W", "-", path), "huggingface", *told)
                model = self.load(folder)
                kind = type(model).__name__
                want = "ViTModel"
                if path in ("timm/timm.safetensors", "huggingface/vit-classifier"):
                    want = "ViTForImageClassification"
                    expected = tiny.hugging_face_names(rounded(tiny.encoder | tiny.head, letter))
                elif path in ("mae/encoder.pth", "huggingface/vit"):
                    expected = {name.removeprefix("vit."): tensor
                                for name, tensor in tiny.hugging_face_names(rounded(tiny.encoder, letter)).items()}
                else:
                    want = "ViTMAEForPreTraining"
                    expected = tiny.hugging_face_names(rounded(tiny.mae, letter))
                self.assertEqual(kind, want)
                self.assertEqual(model.dtype, TYPES[letter])
                self.assertSameTensors(model.state_dict(), expected, path)

    def test_features_and_reconstruction(self):
        folder = self.convert(MAE, self.folder / "whole", "huggingface", *ALL_HEADS)
        model = self.load(folder).eval()
        seen = model(IMAGES, noise=EXPECTED["noise"])
        self.assertClose(seen.logits, EXPECTED["prediction"], BOUND, "prediction")
        self.assertClose(seen.loss, EXPECTED["loss"], BOUND, "loss")
        self.assertClose(self.embed(folder, "--pool", "tokens"), EXPECTED["f32.tokens"], BOUND, "embed")
        # The encoder alone: features of a ViTModel.
        folder = self.convert(MAE, self.folder / "encoder", "huggingface", "--encoder-only", "--heads", "4")
        model = self.load(folder).eval()
        self.assertClose(model(IMAGES).last_hidden_state, EXPECTED["f32.tokens"], BOUND, "ViTModel")
        self.assertClose(self.embed(folder, "--pool", "class"), model(IMAGES).last_hidden_state[:, 0], BOUND, "class token")

    def test_types(self):
        for letter in TYPES:
            folder = self.convert(MAE, self.folder / letter, "huggingface", "--dtype", letter, *ALL_HEADS)
            self.assertSameTensors(self.load(folder).state_dict(), tiny.hugging_face_names(rounded(tiny.mae, letter)), letter)

    def test_image_processor(self):
        folder = self.convert(MAE, self.folder / "whole", "huggingface", *ALL_HEADS)
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        seen = processor(np.zeros((50, 40, 3), np.uint8), return_tensors="pt")["pixel_values"]
        self.assertEqual(tuple(seen.shape), (1, 3, 32, 32))
        self.assertClose(seen[0, :, 0, 0], torch.tensor(-tiny.MEAN / tiny.DEVIATION), 1e-6)

    def test_processor_gives_the_pixels_of_embed(self):
        """For pictures of every shape, with the processor that AutoImageProcessor finds."""
        for flags in PREPARATIONS:
            with self.subTest(flags):
                folder = self.convert(MAE, self.folder / "x", "huggingface", "--encoder-only", "--heads", "4", *flags)
                processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
                pixels = torch.cat([torch.as_tensor(np.asarray(processor(image, return_tensors="np")["pixel_values"])) for image in SHAPES])
                features = self.load(folder).eval()(pixels).last_hidden_state[:, 0]
                self.assertClose(self.embed(folder, data=PICTURES), features, BOUND, "pixels")
                # torchvision's resize differs by a few levels.
                processor = transformers.AutoImageProcessor.from_pretrained(folder)
                seen = torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in SHAPES])
                self.assertClose(seen, pixels, 0.05, "torchvision")

    def test_fine_tuned_has_no_place(self):
        said = self.dmae("convert", FIXTURES / "mae/finetuned.pth", self.folder / "no", "--to", "huggingface", "--heads", "4", code=65)
        self.assertIn("fc_norm", said.stderr)
        self.assertFalse((self.folder / "no").exists())


class Timm(Exchange):
    def test_safetensors_and_archive(self):
        for path, letter, _ in FILES:
            for ending in ("safetensors", "pth"):
                with self.subTest(path, ending=ending):
                    output = self.convert(FIXTURES / path, self.folder / f"x.{ending}", "timm")
                    if ending == "pth":
                        tensors = torch.load(output, weights_only=True)["model"]
                    else:
                        tensors = safetensors.torch.load_file(output)
                    classes = tiny.CLASSES if "head.weight" in tensors else 0
                    self.assertEqual(classes > 0, path in ("timm/timm.safetensors", "huggingface/vit-classifier"))
                    model = tiny.timm_model(num_classes=classes)
                    model.load_state_dict(tensors)
                    expected = rounded(tiny.encoder | (tiny.head if classes else {}), letter)
                    self.assertSameTensors(tensors, expected, path)
                    self.assertClose(model.forward_features(IMAGES), EXPECTED[f"{letter}.tokens"], BOUND, path)

    def test_advice(self):
        """The line that convert prints, typed, gives the model; with a class head, the logits of dmae."""
        sources = [(MAE, ())] + [(ROOT / "Fixtures/classifiers" / name, ()) for name in ("timm", "timm-mean")]
        for number, (source, flags) in enumerate(sources):
            for ending in (".safetensors", ".pth", ""):
                output = self.folder / f"advice{number}{ending}"
                said = self.dmae("convert", source, output, "--to", "timm", *(("--heads", "4") if number == 0 else ())
                                 if ending != ".pth" else ()).stderr
                call = re.search(r"timm loads it by timm\.(create_model\(.*?\))(?:, with|$)", said, re.MULTILINE).group(1)
                call = call.replace("local-dir:…", f"local-dir:{output}").replace("num_heads=…", "num_heads=4")
                model = eval("timm." + call.replace('checkpoint_path="…"', f"checkpoint_path={str(output)!r}"))
                self.assertEqual(model.num_classes, 5 if number else 0)
                model(torch.zeros(1, 3, 32, 32))

    def test_create_model(self):
        """timm's own checkpoint reader loads it, also into a model of another image size."""
        output = self.convert(MAE, self.folder / "x.safetensors", "timm")
        timm.models.load_checkpoint(tiny.timm_model(num_classes=0), str(output), strict=True)
        larger = tiny.timm_model(num_classes=0, img_size=48)
        timm.models.load_checkpoint(
            larger, str(output), strict=True, filter_fn=timm.models.vision_transformer.checkpoint_filter_fn)

    def test_local_dir(self):
        """timm's local-dir: loads the folder; its transform gives the pixels of embed."""
        def loaded(folder):
            model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
            transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
            return model, torch.stack([transform(image) for image in SHAPES])

        for flags in PREPARATIONS:
            with self.subTest(flags):
                folder = self.convert(MAE, self.folder / "x", "timm", "--heads", "4", *flags)
                model, pixels = loaded(folder)
                self.assertEqual((model.num_classes, tuple(model.pretrained_cfg["input_size"])), (0, (3, 32, 32)))
                self.assertClose(self.embed(folder, data=PICTURES), model(pixels), BOUND, "pixels")
        for source in ("timm", "timm-mean"):
            folder = self.convert(ROOT / "Fixtures/classifiers" / source, self.folder / source, "timm")
            model, pixels = loaded(folder)
            self.assertEqual(model.pretrained_cfg["label_names"], ["ant", "bee", "cat", "dog", "emu"])
            said = self.dmae("predict", "--weights", folder, "--json", "--quiet", *PATHS)
            for line, probabilities in zip(said.stdout.splitlines(), model(pixels).softmax(1)):
                best = json.loads(line)["predictions"][0]
                self.assertAlmostEqual(best["probability"], probabilities[best["index"]].item(), 4)

    def test_fine_tuned(self):
        output = self.convert(FIXTURES / "mae/finetuned.pth", self.folder / "x.pth", "timm")
        tensors = torch.load(output, weights_only=True)["model"]
        tiny.timm_model(depth=1, num_classes=tiny.CLASSES, global_pool="avg").load_state_dict(tensors)


class MAE_(Exchange):
    """MAE's programs: MAE's names, in `{'model': …}` in an archive without pickled classes."""

    def test_fine_tuning(self):
        """As MAE's fine-tuning loads it, into timm's mean-pooled ViT: only the new norm and head are missing."""
        output = self.convert(FIXTURES / "dmae/distilled.pth", self.folder / "student.pth", "mae", "--dtype", "f32")
        tensors = torch.load(output, weights_only=True)["model"]
        model = tiny.timm_model(num_classes=5, global_pool="avg")
        found = model.load_state_dict(tensors, strict=False)
        self.assertEqual(set(found.missing_keys), {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"})
        self.assertTrue(all(name.startswith(("norm.", "decoder_", "mask_token", "aligned_feature_projection_heads."))
                            for name in found.unexpected_keys))
        self.assertSameTensors(tensors, rounded(rounded(tiny.mae | tiny.projection, "bf16"), "f32"))

    def test_rounding(self):
        for letter in TYPES:
            for ending in ("pth", "safetensors"):
                output = self.convert(MAE, self.folder / f"x.{ending}", "mae", "--dtype", letter)
                if ending == "pth":
                    tensors = torch.load(output, weights_only=True)["model"]
                else:
                    tensors = safetensors.torch.load_file(output)
                self.assertSameTensors(tensors, rounded(tiny.mae, letter), letter)

    def test_every_source(self):
        """MAE's program gets the same tensors from a source under any names."""
        for path, letter, _ in FILES:
            with self.subTest(path):
                output = self.convert(FIXTURES / path, self.folder / "x.safetensors", "mae")
                tensors = safetensors.torch.load_file(output)
                expected = dict(tiny.mae)
                if path in ("mae/encoder.pth", "huggingface/vit"):
                    expected = dict(tiny.encoder)
                if path in ("timm/timm.safetensors", "huggingface/vit-classifier"):
                    expected = tiny.encoder | tiny.head
                if path == "dmae/distilled.pth":
                    expected |= tiny.projection
                self.assertSameTensors(tensors, rounded(expected, letter), path)


class RoundTrips(Exchange):
    def test_same_bytes(self):
        """Converting to every form and back gives the same file, byte for byte."""
        start = self.convert(MAE, self.folder / "start.safetensors", "mae")
        self.assertSameTensors(safetensors.torch.load_file(start), tiny.mae)
        archive = self.convert(start, self.folder / "a.pth", "mae")
        folder = self.convert(archive, self.folder / "hf", "huggingface", *ALL_HEADS)
        for source in (archive, folder, start):
            back = self.convert(source, self.folder / "back.safetensors", "mae")
            self.assertSameTensors(safetensors.torch.load_file(back), tiny.mae, source.name)
            said = self.dmae("inspect", start, "--compare", back).stdout
            self.assertIn(f"tensors: {len(tiny.mae)} identical, 0 different, 0 of another shape, 0 in one file only", said)
        for form, name in (("mae", "x.safetensors"), ("mae", "x.pth"), ("timm", "x.pth")):
            once = self.convert(start, self.folder / name, form).read_bytes()
            again = self.convert(self.folder / name, self.folder / f"again-{name}", form).read_bytes()
            self.assertEqual(once, again, f"{form} {name}")
        once = {path.name: path.read_bytes() for path in folder.iterdir()}
        again = self.convert(folder, self.folder / "hf2", "huggingface")
        self.assertEqual(once, {path.name: path.read_bytes() for path in again.iterdir()})

    def test_half_precision_and_back(self):
        """A half-precision file converted to float32 and rounded back has the same tensors."""
        for path, letter in (("huggingface/vitmae", "f16"), ("huggingface/vitmae-published", "bf16")):
            half = self.convert(FIXTURES / path, self.folder / "half.safetensors", "mae")
            full = self.convert(half, self.folder / "full.safetensors", "mae", "--dtype", "f32")
            again = self.convert(full, self.folder / "again.safetensors", "mae", "--dtype", letter)
            self.assertSameTensors(safetensors.torch.load_file(again), safetensors.torch.load_file(half), path)

    def test_transformers_and_back(self):
        """transformers loads a conversion and saves it; converting that back gives the same tensors."""
        folder = self.convert(MAE, self.folder / "hf", "huggingface", *ALL_HEADS)
        model = transformers.ViTMAEForPreTraining.from_pretrained(folder)
        for original in (True, False):
            model.save_pretrained(self.folder / "saved", save_original_format=original)
            back = self.convert(self.folder / "saved", self.folder / "back.safetensors", "mae")
            self.assertSameTensors(safetensors.torch.load_file(back), tiny.mae)
