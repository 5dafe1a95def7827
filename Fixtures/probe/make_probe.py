#!/usr/bin/env python3
"""Record steps of LARS, and of a linear probe that LARS trains, with PyTorch in float64.

    python3 -m venv venv && venv/bin/pip install -r ../golden/requirements.txt
    venv/bin/python make_probe.py

lars.safetensors: steps of LARS alone on given gradients.
    rates [S]                       learning rate of each step
    before.NAME, gradient.NAME.s    the weight, and its gradient in step s
    after.NAME.s, momentum.NAME.s   both after step s

probe.safetensors: BatchNorm1d without affine part and a linear layer, trained on given features.
    rates [S], features [S, B, D], labels [S, B], weight [N, D], bias [N]
    loss [S], logits [B, N] of the first step, gradient.weight and gradient.bias of the first step
    after.NAME [S, …]               running_mean, running_var, weight and bias after each step
    held_out [B, D], held_out.labels [B], held_out.logits, held_out.loss
                                    evaluation with the running statistics after the last step
"""

import hashlib
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file

SEED = 2023
HERE = pathlib.Path(__file__).parent
random = np.random.Generator(np.random.PCG64(SEED))
torch.set_default_dtype(torch.float64)


def normal(*shape):
    """Normal numbers that are float32 values."""
    return torch.from_numpy(random.standard_normal(shape).astype(np.float32)).double()


class LARS:
    """LARS as MAE's linear probe uses it, written from its formula (weight decay 0):
    q = trust·|p|/|g| for tensors of more than one dimension, 1 for others and where a norm is 0; m = momentum·m + q·g; p -= rate·m."""

    def __init__(self, parameters, momentum=0.9, trust=0.001):
        self.parameters, self.momentum, self.trust = list(parameters), momentum, trust
        self.state = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, rate):
        for p, m in zip(self.parameters, self.state):
            g, q = p.grad, 1.0
            if p.dim() > 1:
                size, slope = torch.linalg.vector_norm(p), torch.linalg.vector_norm(g)
                if size > 0 and slope > 0:
                    q = self.trust * size / slope
            m.mul_(self.momentum).add_(q * g)
            p.sub_(rate * m)


def as_float32(tensors):
    return {name: value.detach().float().contiguous() if value.is_floating_point() else value.to(torch.int32)
            for name, value in tensors.items()}


def record(name, tensors):
    path = HERE / name
    save_file(as_float32(tensors), path)
    print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}")


def lars():
    steps = 5
    rates = torch.tensor([0.0, 0.5, 6.4, 3.0, 0.25])
    tensors = {"rates": rates}
    # zero: the norm of the weight is 0 in the first steps, so that q is 1; still: the gradient is 0 in one step.
    shapes = {"matrix": (5, 7), "vector": (9,), "cube": (2, 3, 4), "zero": (3, 4), "still": (4, 2)}
    parameters = {}
    for key, shape in shapes.items():
        value = torch.zeros(shape) if key == "zero" else normal(*shape)
        parameters[key] = torch.nn.Parameter(value.clone())
        tensors[f"before.{key}"] = value
    optimizer = LARS(parameters.values())
    for step in range(steps):
        for key, parameter in parameters.items():
            gradient = normal(*shapes[key]) * 10.0 ** (step - 2)
            gradient = gradient.float().double()
            if key == "still" and step == 2:
                gradient = torch.zeros(shapes[key])
            parameter.grad = gradient
            tensors[f"gradient.{key}.{step}"] = gradient
        optimizer.step(rates[step])
        for (key, parameter), momentum in zip(parameters.items(), optimizer.state):
            tensors[f"after.{key}.{step}"] = parameter.detach().clone()
            tensors[f"momentum.{key}.{step}"] = momentum.clone()
    record("lars.safetensors", tensors)


def probe():
    steps, batch, width, classes = 6, 12, 20, 7
    rates = torch.tensor([0.0, 1.6, 6.4, 4.0, 2.0, 0.5])
    # Columns far from standard: means to 100, deviations from 0.01 to 10, and one that is constant within every batch.
    center, spread = 30 * normal(width), 10 ** (3 * torch.rand(width, generator=torch.Generator().manual_seed(SEED)) - 2)
    features = (center + spread * normal(steps + 1, batch, width)).float().double()
    features[:, :, 3] = normal(steps + 1, 1).expand(steps + 1, batch)
    labels = torch.from_numpy(random.integers(0, classes, (steps + 1, batch)))
    head = torch.nn.Sequential(torch.nn.BatchNorm1d(width, affine=False, eps=1e-6), torch.nn.Linear(width, classes))
    with torch.no_grad():
        head[1].weight.copy_((0.01 * normal(classes, width)).float().double())
        head[1].bias.copy_((0.1 * normal(classes)).float().double())
    tensors = {"rates": rates, "features": features[:steps], "labels": labels[:steps], "held_out": features[steps],
               "held_out.labels": labels[steps], "weight": head[1].weight.clone(), "bias": head[1].bias.clone()}
    optimizer = LARS(head[1].parameters())
    losses, after = [], {key: [] for key in ("running_mean", "running_var", "weight", "bias")}
    for step in range(steps):
        head.zero_grad()
        logits = head(features[step])
        loss = torch.nn.functional.cross_entropy(logits, labels[step])
        loss.backward()
        if step == 0:
            tensors |= {"logits": logits, "gradient.weight": head[1].weight.grad.clone(),
                        "gradient.bias": head[1].bias.grad.clone()}
        optimizer.step(rates[step])
        losses.append(loss.detach())
        for key, value in zip(after, (head[0].running_mean, head[0].running_var, head[1].weight, head[1].bias)):
            after[key].append(value.detach().clone())
    tensors |= {"loss": torch.stack(losses)} | {f"after.{key}": torch.stack(values) for key, values in after.items()}
    head.eval()
    logits = head(features[steps])
    tensors |= {"held_out.logits": logits,
                "held_out.loss": torch.nn.functional.cross_entropy(logits, labels[steps]).reshape(1)}
    record("probe.safetensors", tensors)


print(f"seed {SEED}; numpy {np.__version__}, torch {torch.__version__}")
lars()
probe()
