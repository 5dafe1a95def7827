"""k-nearest-neighbour classification of pictures, compared with NumPy's on the features that `dmae embed` writes."""

import json
import os
import pathlib
import sys
import unittest

import numpy as np

from exchange import ROOT, Exchange

sys.path.insert(0, str(ROOT / "Fixtures/neighbors"))
from make_neighbors import hits  # noqa: E402

WEIGHTS = ROOT / "Fixtures/demo/teacher.safetensors"
PICTURES = ROOT / "Fixtures/demo/images"


class Knn(Exchange):
    def link(self):
        """Folders of links to the demo's pictures: every fourth of a class for validation, the others for training."""
        for group in sorted(PICTURES.iterdir()):
            for index, picture in enumerate(sorted(group.iterdir())):
                target = self.folder / ("val" if index % 4 == 1 else "train") / group.name / picture.name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.symlink(picture, target)
        return self.folder / "train", self.folder / "val"

    def features(self, data, *more):
        """Features in the order of k-NN, by class and path, with the labels."""
        output = self.folder / f"{data.name}.npy"
        self.dmae("embed", "--weights", WEIGHTS, "--data", data, "--output", output, "--quiet", "--force", *more)
        features = np.load(output)
        paths = [pathlib.Path(line) for line in pathlib.Path(f"{output}.files.txt").read_text().splitlines()]
        classes = sorted((folder.name for folder in data.iterdir()), key=os.fsencode)
        labels = np.array([classes.index(path.parent.name) for path in paths])
        order = np.array(sorted(range(len(paths)), key=lambda i: (labels[i], os.fsencode(paths[i]))))
        return features[order], labels[order], classes

    def test_counts(self):
        train, val = self.link()
        counts = [1, 5, 10, 20, 100]
        for more in [], ["--pool", "mean"]:
            result = self.dmae(
                "knn", "--weights", WEIGHTS, "--train", train, "--val", val, "--json", "--quiet", "--k",
                ",".join(map(str, counts)), *more)
            report = json.loads(result.stdout)
            (a, a_labels, classes), (b, b_labels, _) = self.features(train, *more), self.features(val, *more)
            self.assertEqual([report["train_images"], report["val_images"]], [len(a), len(b)])
            self.assertEqual(report["compared"]["k"], report["k"])
            for k in counts:
                expected = hits(a, a_labels, b, b_labels, len(classes), k)
                found = [report["k"][str(k)][name] * len(b) for name in ("top1", "top5")]
                np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=f"k = {k} {more}")
            most = np.bincount(a_labels, minlength=len(classes)).argmax()
            self.assertAlmostEqual(report["chance"], (b_labels == most).mean())


if __name__ == "__main__":
    unittest.main()
