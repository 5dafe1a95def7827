"""The ONNX graph that `dmae convert --to onnx` writes runs in onnxruntime and gives the features of `dmae embed`."""

from exchange import *
import onnx
import onnxruntime

BOUND = 1e-4


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
        for path, letter, told in FILES:
            with self.subTest(path):
                session = self.session(self.convert(FIXTURES / path, self.folder / "x.onnx", "onnx", *told))
                for name, value in self.run_graph(session, IMAGES).items():
                    rank = {3: "tokens", 2: "class"}[value.dim()]
                    self.assertClose(value.float(), EXPECTED[f"{letter}.{rank}"], BOUND, f"{path}, {name}")

    def test_any_batch(self):
        session = self.session(self.convert(FIXTURES / "mae/mae.safetensors", self.folder / "x.onnx", "onnx", *HEADS))
        self.assertNotIsInstance(session.get_inputs()[0].shape[0], int)
        for batch in (1, 2, 5):
            images = IMAGES[:1].expand(batch, -1, -1, -1).contiguous()
            for value in self.run_graph(session, images).values():
                self.assertEqual(value.shape[0], batch)
                self.assertClose(value[-1:], value[:1], 1e-6)

    def test_against_embed(self):
        """On the demo's teacher and real pictures' worth of blocks: 24-bit agreement of two programs."""
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
        found = self.run_graph(session, torch.from_numpy(image.transpose(2, 0, 1)[None].copy()))
        tokens = next(value for value in found.values() if value.dim() == 3)
        self.assertClose(tokens, self.embed(weights, "--pool", "tokens", data=self.folder / "a.png"), BOUND)
