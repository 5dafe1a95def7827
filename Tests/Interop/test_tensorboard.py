"""The event files of `--tensorboard`, read by TensorBoard itself: the points of the log, each step once after kills and
resumptions, also where TensorBoard was watching meanwhile; the pictures decode."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

from exchange import BINARY, ROOT, Exchange
import numpy as np
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.util import tensor_util

PICTURES = ROOT / "Fixtures/demo/images/geography"
MODEL = ["--student", "vit-miniature", "--width", "16", "--depth", "2", "--heads", "2", "--decoder-width", "16",
         "--decoder-depth", "1", "--decoder-heads", "2", "--image-size", "32", "--batch", "4", "--effective-batch", "8",
         "--quiet", "--warmup-epochs", "1", "--base-learning-rate", "0.1"]


class TensorBoard(Exchange):
    def arguments(self, run, epochs, *more):
        return ["pretrain", "--recipe", "demo-teacher", "--data", PICTURES, "--val", PICTURES, "--output", run, "--epochs",
                epochs, "--checkpoint-every", "7", "--tensorboard", *MODEL, *more]

    def log(self, run):
        path = run / "log.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def kill(self, words, run, lines):
        """Runs a command until the log has so many lines, and kills it."""
        process = subprocess.Popen([BINARY, *map(str, words)])
        limit = time.monotonic() + 300
        while len(self.log(run)) < lines:
            self.assertIsNone(process.poll(), "it ended before it was killed")
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def reader(self, run):
        # 0: keeps every point.
        return event_accumulator.EventAccumulator(str(run / "tensorboard"), size_guidance={
            event_accumulator.TENSORS: 0, event_accumulator.SCALARS: 0, event_accumulator.IMAGES: 0})

    def points(self, reader, tag):
        """Steps and values of a tag, as TensorBoard converts them."""
        if tag in reader.Tags()["scalars"]:
            return [(event.step, event.value) for event in reader.Scalars(tag)]
        return [(event.step, float(tensor_util.make_ndarray(event.tensor_proto))) for event in reader.Tensors(tag)]

    def pictures(self, reader, tag):
        if tag in reader.Tags()["images"]:
            return [(event.step, event.encoded_image_string) for event in reader.Images(tag)]
        # Width, height and the files.
        return [(event.step, tensor_util.make_ndarray(event.tensor_proto)[2]) for event in reader.Tensors(tag)]

    def check(self, reader, run):
        expected = {}
        for line in self.log(run):
            for key, value in line.items():
                if key not in ("step", "time", "elapsed_seconds") and not (key == "epoch" and "loss" not in line):
                    values = {f"{key}/{i}": x for i, x in enumerate(value)} if isinstance(value, list) else {key: value}
                    for tag, number in values.items():
                        expected.setdefault(tag, []).append((line["step"], float(np.float32(number))))
        tags = set(reader.Tags()["scalars"]) | set(reader.Tags()["tensors"])
        self.assertEqual({tag for tag in tags if not tag.startswith("reconstruction/")}, set(expected))
        for tag, points in expected.items():
            self.assertEqual(self.points(reader, tag), points, tag)

    def test_kills(self):
        run, watching = self.folder / "run", None
        self.kill(self.arguments(run, 60), run, 25)
        # TensorBoard is open while the run is killed and resumed: it reads on.
        watching = self.reader(run).Reload()
        self.assertGreater(len(self.points(watching, "loss")), 10)
        for lines in [35, 50]:
            self.kill(["resume", run, "--quiet"], run, lines)
            watching.Reload()
        # An older checkpoint: more steps are done again.
        oldest = sorted(run.glob("checkpoint-*.safetensors"))[0]
        self.kill(["resume", run, "--quiet", "--checkpoint", oldest], run, 60)
        watching.Reload()
        self.dmae("resume", run, "--quiet")
        self.check(self.reader(run).Reload(), run)
        self.check(watching.Reload(), run)
        whole = self.folder / "whole"
        self.dmae(*self.arguments(whole, 60))
        self.assertEqual((whole / "model.safetensors").read_bytes(), (run / "model.safetensors").read_bytes())

        reader = self.reader(run).Reload()
        steps = [step for step, _ in self.pictures(reader, "reconstruction/0")]
        self.assertEqual(steps, sorted(set(steps)))
        self.assertEqual(steps[-1], self.log(run)[-1]["step"])
        for number in range(4):
            for step, data in self.pictures(reader, f"reconstruction/{number}"):
                picture = Image.open(io.BytesIO(data))
                self.assertEqual((picture.format, picture.size, picture.mode), ("PNG", (100, 32), "RGB"))
        # The original is the picture, resized and cropped by the centre; in the second one three quarters are grey.
        last = np.asarray(Image.open(io.BytesIO(self.pictures(reader, "reconstruction/0")[-1][1])), float)
        original, masked, reconstruction = last[:, :32], last[:, 34:66], last[:, 68:]
        blocks = (masked - original).reshape(4, 8, 4, 8, 3).transpose(0, 2, 1, 3, 4).reshape(16, -1)
        self.assertEqual((np.abs(blocks).max(1) > 0).sum(), 12)
        source = Image.open(sorted(PICTURES.iterdir())[0]).convert("RGB")
        scale = 32 / 0.875 / min(source.size)
        side = [round(length * scale) for length in source.size]
        left, top = (side[0] - 32) // 2, (side[1] - 32) // 2
        small = np.asarray(source.resize(side, Image.BICUBIC).crop((left, top, left + 32, top + 32)), float)
        self.assertLess(np.abs(small - original).mean(), 25)
        seen = np.abs(blocks).max(1) == 0
        kept = (reconstruction - original).reshape(4, 8, 4, 8, 3).transpose(0, 2, 1, 3, 4).reshape(16, -1)[seen]
        self.assertEqual(np.abs(kept).max(), 0)

    def test_server(self):
        """TensorBoard's own server, with its fast reader where it has one, watches a run that is killed and resumed, and
        answers with the points of the log."""
        run = self.folder / "run"
        self.kill(self.arguments(run, 40), run, 25)
        process = subprocess.Popen(
            ["tensorboard", "--logdir", str(self.folder), "--port", "0", "--host", "127.0.0.1", "--reload_interval", "1",
             "--samples_per_plugin", "scalars=1000,images=100"], env=os.environ | {"PATH": self.path()},
            stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait, 60)
        self.addCleanup(process.terminate)
        address = None
        for line in process.stderr:
            if "http://" in line:
                address = line[line.index("http://"):].split()[0].rstrip("/")
                break
        self.assertIsNotNone(address, "TensorBoard does not start")
        name = "run/tensorboard"

        def ask(path):
            return json.load(urllib.request.urlopen(f"{address}/data/plugin/{path}", timeout=60))

        def points(tag="loss"):
            if tag not in ask("scalars/tags").get(name, {}):
                return []
            return ask(f"scalars/scalars?run={name}&tag={tag}")

        def wait(step):
            limit = time.monotonic() + 120
            while not points() or points()[-1][1] < step:
                self.assertLess(time.monotonic(), limit, f"step {step} is not shown")
                time.sleep(0.5)

        wait(max(line["step"] for line in self.log(run)))
        self.dmae("resume", run, "--quiet")
        log = self.log(run)
        wait(log[-1]["step"])
        for tag in ["loss", "learning_rate", "val_loss"]:
            lines = [line for line in log if tag in line]
            shown = points(tag)
            self.assertEqual([point[1] for point in shown], [line["step"] for line in lines], tag)
            for point, line in zip(shown, lines):
                self.assertEqual(np.float32(point[2]), np.float32(line[tag]))
        shown = ask(f"images/images?run={name}&tag=reconstruction/0&sample=0")
        steps = [picture["step"] for picture in shown]
        self.assertEqual(steps, sorted(set(steps)))
        self.assertEqual(steps[-1], log[-1]["step"])
        data = urllib.request.urlopen(f"{address}/data/plugin/images/individualImage?{shown[-1]['query']}", timeout=60).read()
        self.assertEqual(Image.open(io.BytesIO(data)).size, (100, 32))

    @staticmethod
    def path():
        """Programs of this Python's environment first."""
        return os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")
