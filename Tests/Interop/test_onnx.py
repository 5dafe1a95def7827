"""The ONNX graph that `dmae convert --to onnx` writes runs in onnxruntime and gives the features of `dmae embed`."""

from exchange import *
import onnx
import onnxruntime

BOUND = 1e-4
MAE = FIXTURES / "mae/mae.safetensors"


class Graph(Exchange):
    def session(self, path):
        model = onnx.load(path)
        onnx.checker.check_model(str(path), full_check=True)
        self.assertGreaterEqual(max(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 17)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run_graph(self, session, images):
        inputs = {session.get_inputs()[0].name: images.numpy()}
        return {output.name: torch.from_numpy(value) for output, value in zip(session.get_outputs(), session.run(None, inputs))}

    def test_every_source(self):
        """Tokens, class token, and logits if there is a head."""
        for path, letter, told in FILES:
            with self.subTest(path):
                seen = self.run_graph(self.session(self.convert(FIXTURES / path, self.folder / "x.onnx", "onnx", *told)), IMAGES)
                self.assertClose(seen["last_hidden_state"], EXPECTED[f"{letter}.tokens"], BOUND, path)
                self.assertClose(seen["pooled"], EXPECTED[f"{letter}.class"], BOUND, path)
                hasHead = path in ("timm/timm.safetensors", "huggingface/vit-classifier")
                self.assertEqual(set(seen), {"last_hidden_state", "pooled"} | ({"logits"} if hasHead else set()))
                if hasHead:
                    head = {name: tensor.half().double() for name, tensor in tiny.head.items()}
                    logits = EXPECTED[f"{letter}.class"].double() @ head["head.weight"].T + head["head.bias"]
                    self.assertClose(seen["logits"], logits, BOUND, path)

    def test_fine_tuned(self):
        path = FIXTURES / "mae/finetuned.pth"
        model = tiny.timm_model(depth=1, num_classes=tiny.CLASSES, global_pool="avg")
        model.load_state_dict(torch.load(path, weights_only=True)["model"])
        seen = self.run_graph(self.session(self.convert(path, self.folder / "x.onnx", "onnx", *HEADS)), IMAGES)
        self.assertClose(seen["logits"], model.double()(IMAGES.double()), BOUND)

    def test_types(self):
        """Weights stored in half precision, computed with in float32: the features of the rounded weights."""
        for letter in TYPES:
            output = self.convert(MAE, self.folder / f"{letter}.onnx", "onnx", "--dtype", letter, *HEADS)
            seen = self.run_graph(self.session(output), IMAGES)
            self.assertClose(seen["last_hidden_state"], EXPECTED[f"{letter}.tokens"], BOUND, letter)

    def test_any_batch(self):
        session = self.session(self.convert(MAE, self.folder / "x.onnx", "onnx", *HEADS))
        self.assertNotIsInstance(session.get_inputs()[0].shape[0], int)
        for batch in (1, 2, 5):
            seen = self.run_graph(session, IMAGES[:1].expand(batch, -1, -1, -1).contiguous())
            for value in seen.values():
                self.assertEqual(value.shape[0], batch)
                self.assertClose(value[-1:], value[:1], BOUND)

    def test_against_embed(self):
        """The demo's teacher on a picture, computed by both programs in float32."""
        weights = ROOT / "Fixtures/demo/teacher.safetensors"
        session = self.session(self.convert(weights, self.folder / "x.onnx", "onnx"))
        side = session.get_inputs()[0].shape[2]
        import PIL.Image

        random = np.random.Generator(np.random.PCG64(3))
        whole = side * 8 // 7
        pixels = random.integers(0, 256, (whole, whole, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(self.folder / "a.png")
        start = round((whole - side) / 2)
        image = ((pixels[start:start + side, start:start + side] / 255.0 - tiny.MEAN) / tiny.DEVIATION).astype(np.float32)
        seen = self.run_graph(session, torch.from_numpy(image.transpose(2, 0, 1)[None].copy()))
        self.assertClose(seen["last_hidden_state"], self.embed(weights, "--pool", "tokens", data=self.folder / "a.png"), BOUND)
