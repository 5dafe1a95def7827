#!/usr/bin/env python3
"""Scores of random logits with many ties, by NumPy and PyTorch, for `ClassificationScores` to be held against.

    venv/bin/python make_scores.py > scores.json
"""

import json

import numpy as np
import torch

cases = []
for seed, images, classes in [(1, 200, 12), (2, 60, 4), (3, 40, 1), (4, 300, 30)]:
    random = np.random.default_rng(seed)
    logits = np.round(3 * random.standard_normal((images, classes)), 1 if classes > 4 else 0).astype(np.float32)
    labels = random.integers(classes, size=images)
    # A stable sort of the negated logits: among equal ones the lower class index comes first.
    order = np.argsort(-logits, axis=1, kind="stable")
    rank = (order == labels[:, None]).argmax(axis=1)
    confusion = np.zeros((classes, classes), dtype=int)
    np.add.at(confusion, (labels, order[:, 0]), 1)
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels))
    cases.append({
        "classes": classes, "logits": [float(f"{value:.1f}") for value in logits.reshape(-1)], "labels": labels.tolist(),
        "top1": int((rank < 1).sum()), "top5": int((rank < min(5, classes)).sum()), "loss": float(loss),
        "confusion": confusion.reshape(-1).tolist()})
print(json.dumps({"made_with": f"numpy {np.__version__}, torch {torch.__version__}", "cases": cases}, separators=(",", ":")))
