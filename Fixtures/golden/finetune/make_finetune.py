#!/usr/bin/env python3
"""Record fine-tuning steps with PyTorch, for `dmae replay` to be held against.

    python3 -m venv venv && venv/bin/pip install -r ../requirements.txt
    venv/bin/python make_finetune.py CONFIG.json --seed 1 --batch 4 --channels 3 --check

CONFIG.json holds what the metadata key `dmae.replay` will hold. Written beside it (or under --directory):

    NAME.in.safetensors    images[B,C,H,W], targets[B,classes], drop_path_keep[depth,2,B] (1 kept, 0 dropped; attention, then
                           MLP), teacher_logits[B,classes] with distillation, model.*        (what `dmae replay` reads)
    NAME.out.safetensors   of the first step: logits[B,classes], grad.NAME (before clipping); of all steps: loss.total[steps],
                           loss.classification[steps], loss.distillation[steps]; at the end: after.NAME

The models are written from the description of the method in plain torch modules under MAE's tensor names. Everything is
stored as F32 and computed in float64 from the stored F32 inputs, so that the record's own error is one rounding.

--check compares every gradient with central differences, the loss with plain numpy, and prints how far the very same program
run in float32 strays from the record.
"""

import argparse
import json
import pathlib
import sys
from functools import partial

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = ((q @ k.transpose(-2, -1)) * (width // self.heads) ** -0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


class MLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = LayerNorm(width), Attention(width, heads), LayerNorm(width), MLP(width)

    def forward(self, x, factors):
        """factors[2,B]: of the attention branch, then of the MLP branch."""
        x = x + factors[0][:, None, None] * self.attn(self.norm1(x))
        return x + factors[1][:, None, None] * self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    def __init__(self, width, patch, channels):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, images):
        return self.proj(images).flatten(2).transpose(1, 2)


class Classifier(nn.Module):
    def __init__(self, config, channels, patches):
        super().__init__()
        size, self.pool = config["model"], config["pool"]
        width = size["width"]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, width))
        self.patch_embed = PatchEmbedding(width, config["patch_size"], channels)
        self.blocks = nn.ModuleList(Block(width, size["heads"]) for _ in range(size["depth"]))
        setattr(self, "fc_norm" if self.pool == "mean" else "norm", LayerNorm(width))
        self.head = nn.Linear(width, config["classes"])

    def forward(self, images, factors):
        x = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block, factor in zip(self.blocks, factors, strict=True):
            x = block(x, factor)
        return self.head(self.fc_norm(x[:, 1:].mean(dim=1)) if self.pool == "mean" else self.norm(x[:, 0]))


def layer(name, depth):
    """0 for what comes before the blocks, i + 1 for block i, depth + 1 for the rest."""
    if name.startswith(("cls_token", "pos_embed", "patch_embed")):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else depth + 1


class Recording:
    def __init__(self, config, inputs, dtype):
        self.config = config
        tensors = {name: torch.from_numpy(value).to(dtype) for name, value in inputs.items()}
        self.images, self.targets = tensors["images"], tensors["targets"]
        self.teacher = tensors.get("teacher_logits")
        depth = config["model"]["depth"]
        rates = np.linspace(0, config.get("drop_path", 0), depth)
        keep = tensors.get("drop_path_keep")
        if keep is None:
            keep = torch.ones(depth, 2, len(self.images), dtype=dtype)
        self.factors = keep / torch.from_numpy(1 - rates).to(dtype)[:, None, None]
        patches = inputs["model.pos_embed"].shape[1] - 1
        self.model = Classifier(config, self.images.shape[1], patches).to(dtype)
        self.model.load_state_dict(
            {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}, strict=True)

    def losses(self):
        """Total, classification, distillation, and the logits."""
        logits = self.model(self.images, self.factors)
        classification = -(self.targets * logits.log_softmax(dim=1)).sum(dim=1).mean()
        options = self.config.get("distillation")
        if options is None:
            return classification, classification, torch.zeros_like(classification), logits
        if options.get("hard"):
            distillation = F.cross_entropy(logits, self.teacher.argmax(dim=1))
        else:
            temperature = options["temperature"]
            distillation = temperature ** 2 * F.kl_div(
                (logits / temperature).log_softmax(dim=1), (self.teacher / temperature).log_softmax(dim=1),
                reduction="batchmean", log_target=True)
        alpha = options["alpha"]
        return (1 - alpha) * classification + alpha * distillation, classification, distillation, logits

    def run(self):
        settings, depth = self.config["optimizer"], self.config["model"]["depth"]
        decay, groups = self.config.get("layer_decay", 1), []
        for name, parameter in self.model.named_parameters():
            decays = parameter.ndim > 1 and name not in ("cls_token", "pos_embed")
            groups.append({"params": [parameter], "lr": settings["lr"] * decay ** (depth + 1 - layer(name, depth)),
                           "weight_decay": settings["weight_decay"] if decays else 0.0})
        optimizer = torch.optim.AdamW(groups, betas=tuple(settings["betas"]), eps=settings["eps"])
        record, curves = {}, {"total": [], "classification": [], "distillation": []}
        for step in range(self.config["steps"]):
            *losses, logits = self.losses()
            optimizer.zero_grad(set_to_none=True)
            losses[0].backward()
            if step == 0:
                record["logits"] = logits
                record.update({f"grad.{name}": p.grad.clone() for name, p in self.model.named_parameters()})
            for name, loss in zip(curves, losses, strict=True):
                curves[name].append(float(loss.detach()))
            if "clip_gradient" in self.config:
                norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config["clip_gradient"])
                print(f"  step {step}: gradient norm {float(norm):.4f}")
            optimizer.step()
        record.update({f"loss.{name}": torch.tensor(values, dtype=torch.float64) for name, values in curves.items()})
        record.update({f"after.{name}": value for name, value in self.model.state_dict().items()})
        return {name: value.detach().to(torch.float64).numpy().copy() for name, value in record.items()}


def random_inputs(config, seed, batch, channels):
    """Nothing is left at 0 or 1, so that every term can be seen to act."""
    random = np.random.default_rng(seed)
    patch, size, classes, depth = config["patch_size"], config["image_size"], config["classes"], config["model"]["depth"]
    height, width = (size, size) if isinstance(size, int) else size
    patches = (height // patch) * (width // patch)
    # Labels smoothed by 0.1 and mixed with those of the reversed batch.
    one_hot = np.full((batch, classes), 0.1 / classes)
    one_hot[np.arange(batch), random.integers(classes, size=batch)] += 0.9
    share = random.uniform(0.3, 0.9)
    inputs = {"images": random.standard_normal((batch, channels, height, width)),
              "targets": share * one_hot + (1 - share) * one_hot[::-1]}
    rates = np.linspace(0, config.get("drop_path", 0), depth)
    inputs["drop_path_keep"] = (random.random((depth, 2, batch)) >= rates[:, None, None]).astype(np.float32)
    if "distillation" in config:
        inputs["teacher_logits"] = 2 * random.standard_normal((batch, classes))
    for name, tensor in Classifier(config, channels, patches).state_dict().items():
        shape = tuple(tensor.shape)
        if name in ("cls_token", "pos_embed"):
            value = random.normal(0, 0.3, shape)
        elif "norm" in name.split(".")[-2]:
            value = random.normal(1 if name.endswith(".weight") else 0, 0.2, shape)
        elif name.endswith(".bias"):
            value = random.normal(0, 0.2, shape)
        else:
            bound = 1.3 * np.sqrt(6.0 / (shape[0] + int(np.prod(shape[1:]))))
            value = random.uniform(-bound, bound, shape)
        inputs[f"model.{name}"] = value
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in inputs.items()}


def check_gradients(recording, seed):
    """Central differences along random directions and single entries of each tensor; worst relative error."""
    random, step, worst = np.random.default_rng(seed), 1e-6, (0.0, "")
    recording.model.zero_grad()
    recording.losses()[0].backward()
    with torch.no_grad():
        for name, parameter in recording.model.named_parameters():
            gradient, scale = parameter.grad, float(parameter.grad.norm())
            if not scale > 0:
                raise SystemExit(f"{name}: the gradient is zero; nothing would be tested")
            single = torch.zeros_like(parameter)
            single.view(-1)[random.integers(single.numel())] = 1
            for direction in (torch.from_numpy(random.standard_normal(tuple(parameter.shape))), single, gradient.clone()):
                direction = direction / direction.norm()
                values = []
                for shift in (step, -2 * step):
                    parameter.add_(direction, alpha=shift)
                    values.append(float(recording.losses()[0]))
                parameter.add_(direction, alpha=step)
                slope, expected = (values[0] - values[1]) / (2 * step), float((gradient * direction).sum())
                worst = max(worst, (abs(slope - expected) / max(scale, 1e-3), name))
    if worst[0] > 1e-6:
        raise SystemExit(f"{worst[1]}: gradient and central difference differ by {worst[0]:.1e} of the gradient's norm")
    return worst


def check_loss(recording):
    """The losses once more from the logits, with loops and numpy alone; worst absolute difference."""
    total, classification, distillation, logits = (value.detach().numpy() for value in recording.losses())
    options = recording.config.get("distillation")
    own, goal, count = 0.0, 0.0, len(logits)

    def softmax(row, temperature):
        powers = [np.exp((value - max(row)) / temperature) for value in row]
        return [power / sum(powers) for power in powers]

    for row in range(count):
        probability = softmax(logits[row], 1)
        own -= sum(float(t) * np.log(p) for t, p in zip(recording.targets[row], probability)) / count
        if options and options.get("hard"):
            goal -= np.log(probability[int(np.argmax(recording.teacher[row]))]) / count
        elif options:
            temperature = options["temperature"]
            p, q = softmax(logits[row], temperature), softmax(recording.teacher[row].numpy(), temperature)
            goal += temperature ** 2 * sum(b * np.log(b / a) for a, b in zip(p, q)) / count
    alpha = options["alpha"] if options else 0
    worst = max(abs(own - classification), abs(goal - distillation), abs((1 - alpha) * own + alpha * goal - total))
    if worst > 1e-12:
        raise SystemExit(f"the loss differs from plain numpy by {worst:.1e}")
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=pathlib.Path, help="JSON, as in the metadata key dmae.replay")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--directory", type=pathlib.Path, help="where to write (default: beside the configuration)")
    parser.add_argument("--check", action="store_true", help="finite differences, plain numpy, and the float32 error")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # the same order of summation, and so the same bytes, whatever the machine's cores
    config = json.loads(arguments.config.read_text())
    inputs = random_inputs(config, arguments.seed, arguments.batch, arguments.channels)
    record = Recording(config, inputs, torch.float64).run()
    name = arguments.config.stem
    directory = arguments.directory or arguments.config.parent
    metadata = {"dmae.replay": json.dumps(config, separators=(",", ":"))}
    save_file(inputs, directory / f"{name}.in.safetensors", metadata)
    save_file({key: np.ascontiguousarray(value, dtype=np.float32) for key, value in record.items()},
              directory / f"{name}.out.safetensors", metadata)
    dropped = inputs["drop_path_keep"].size - int(inputs["drop_path_keep"].sum())
    print(f"{name}: {dropped} of {inputs['drop_path_keep'].size} branches dropped, loss {record['loss.total'][0]:.6f} to "
          f"{record['loss.total'][-1]:.6f}, {len(record)} tensors")
    if arguments.check:
        slope, where = check_gradients(Recording(config, inputs, torch.float64), arguments.seed)
        loss = check_loss(Recording(config, inputs, torch.float64))
        single = Recording(config, inputs, torch.float32).run()
        errors = {key: np.abs(single[key] - value).max() / max(np.abs(value).max(), 1e-30) for key, value in record.items()}
        print(f"  numpy's loss within {loss:.0e}; central differences within {slope:.1e} ({where})")
        for family in ("logits", "loss.", "grad.", "after."):
            worst = max((key for key in errors if key.startswith(family)), key=errors.get)
            print(f"  float32 strays {errors[worst]:.1e} in {worst}")
        if max(errors.values()) > 1e-4:
            raise SystemExit("float32 strays further than 1e-4: the case is ill conditioned, take another seed")


if __name__ == "__main__":
    sys.exit(main())
