#!/usr/bin/env python3
"""k-nearest-neighbour classification in NumPy, and the recorded case that dmae's is compared with.

    python3 make_neighbors.py

writes neighbors.safetensors beside itself. Made with Python 3.11.2, NumPy 2.4.6 and safetensors 0.8.0.
Tests/Interop/test_knn.py compares `dmae knn` on pictures with `hits` on the features of `dmae embed`.
"""

import json
import pathlib

import numpy as np

TEMPERATURE = 0.07


def similarities(train, validation):
    """Cosines [validation, train] in float64. Equal features have equal cosines: each is summed in the same order."""
    train, validation = (x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (train, validation))
    return np.stack([(train * query).sum(axis=1) for query in validation])


def ranked(train, train_labels, validation, classes, k):
    """For each validation image all classes, the one with the most votes first, and the votes."""
    votes = np.zeros((len(validation), classes))
    for row, cosines in zip(votes, similarities(train, validation)):
        # Stable: of equally similar images the first one is nearer.
        nearest = np.argsort(-cosines, kind="stable")[:k]
        np.add.at(row, train_labels[nearest], np.exp(cosines[nearest] / TEMPERATURE))
    return np.argsort(-votes, axis=1, kind="stable"), votes


def hits(train, train_labels, validation, validation_labels, classes, k):
    """Validation images whose class is the first prediction, and among the first five."""
    first = ranked(train, train_labels, validation, classes, k)[0] == validation_labels[:, None]
    return int(first[:, 0].sum()), int(first[:, :5].any(axis=1).sum())


def main():
    random = np.random.default_rng(22)
    classes, width, train_count, validation_count = 9, 21, 331, 87
    centres = random.normal(size=(classes, width))
    train_labels = np.sort(random.integers(0, classes, train_count))
    validation_labels = random.integers(0, classes, validation_count)
    train = (centres[train_labels] + 2.4 * random.normal(size=(train_count, width))).astype(np.float32)
    validation = (centres[validation_labels] + 2.4 * random.normal(size=(validation_count, width))).astype(np.float32)
    # The same picture in several classes, also at the very places where a block of images may end.
    for copy, original in [(40, 3), (64, 3), (128, 127), (300, 20), (330, 0)]:
        train[copy] = train[original]
    validation[5], validation[6] = train[3], train[127]

    counts = [1, 2, 5, 10, 20, 100, 331]
    # Nothing hangs on rounding: the k-th neighbour and the next one differ by more than float32's error, or not at all.
    cosines = -np.sort(-similarities(train, validation), axis=1)
    for k in counts:
        gaps = cosines[:, k - 1] - cosines[:, k] if k < train_count else np.ones(1)
        assert gaps[gaps > 0].min() > 4e-6, (k, gaps[gaps > 0].min())
        votes = np.sort(ranked(train, train_labels, validation, classes, k)[1], axis=1)
        gaps = np.diff(votes, axis=1) / np.maximum(votes[:, 1:], 1e-30)
        # Copies of one picture in two classes give equal votes, which both compute in the same way.
        assert gaps[gaps > 0].min() > 1e-4, (k, gaps[gaps > 0].min())
    result = {str(k): hits(train, train_labels, validation, validation_labels, classes, k) for k in counts}
    print(result)

    from safetensors.numpy import save_file

    save_file(
        {
            "train.features": train, "train.labels": train_labels.astype(np.float32),
            "validation.features": validation, "validation.labels": validation_labels.astype(np.float32),
        },
        pathlib.Path(__file__).parent / "neighbors.safetensors",
        metadata={"classes": str(classes), "hits": json.dumps(result)},
    )


if __name__ == "__main__":
    main()
