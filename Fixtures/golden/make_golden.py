#!/usr/bin/env python3
"""Record distillation steps with PyTorch and timm, for `dmae replay` to be held against.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python make_golden.py CONFIG.json --seed 1 --batch 2 --channels 3 --check

CONFIG.json holds what the metadata key `dmae.replay` will hold. Written beside it (or under --directory):

    NAME.in.safetensors    images[B,C,H,W], noise[B,L], teacher.*, student.*           (what `dmae replay` reads)
    NAME.out.safetensors   of the first step: prediction[B,L,p*p*C], mask[B,L], student.latent[B,1+K,Ds],
                           teacher.feature.I[B,1+K,Dt], student.feature.I[B,1+K,Ds] (I counts the aligned pairs;
                           raw block outputs, the teacher's at the tokens that the student sees), grad.NAME of every
                           tensor with a gradient; with predict_ratio below 1, predicted[B,L], and a prediction of
                           zeros where the decoder has no token; with reconstruction_weight 0, neither prediction nor
                           latent;
                           of all steps: loss.total[steps], loss.reconstruction[steps], loss.align.I[steps];
                           at the end: after.NAME of every student tensor, the fixed position tables included

Everything is stored as F32 and computed in float64 from the stored F32 inputs, so that the record's own error is
one rounding. Letters: B batch, L patches, K kept patches, p patch side, C channels, Dt/Ds teacher/student width,
E decoder width.

--check compares every gradient with central differences, the masking and the patch layout with plain numpy, and
prints how far the very same program run in float32 strays from the record: the error an implementation in float32
may be expected to show.
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

try:
    import torchvision  # noqa: F401  timm imports it
except RuntimeError:
    # PyPI's torchvision cannot load its compiled operators beside a CPU build of torch. None is used here, but its
    # import insists on these being declared.
    torchvision_operators = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        torchvision_operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from timm.models.vision_transformer import Block

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


def blocks(width, depth, heads):
    return nn.ModuleList(
        Block(width, heads, mlp_ratio=4.0, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth))


def position_table(width, rows, columns):
    """[1, 1+rows*columns, width]: a zero class row, then sine and cosine of the column, then of the row."""
    quarter = width // 4
    if quarter * 4 != width:
        raise SystemExit(f"width {width} is not a multiple of 4: no position table can be made for it")
    omega = 10000.0 ** (-np.arange(quarter, dtype=np.float64) / quarter)
    row, column = np.divmod(np.arange(rows * columns), columns)
    of_column, of_row = np.outer(column, omega), np.outer(row, omega)
    table = np.concatenate([np.sin(of_column), np.cos(of_column), np.sin(of_row), np.cos(of_row)], axis=1)
    return np.concatenate([np.zeros((1, width)), table])[None].astype(np.float32)


class PatchEmbedding(nn.Module):
    def __init__(self, width, patch, channels):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, images):
        return self.proj(images).flatten(2).transpose(1, 2)


class Encoder(nn.Module):
    """A masked encoder; `forward` gives the output of every block it ran, before any final norm."""

    def __init__(self, width, depth, heads, patch, channels, grid):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.from_numpy(position_table(width, *grid)), requires_grad=False)
        self.patch_embed = PatchEmbedding(width, patch, channels)
        self.blocks = blocks(width, depth, heads)
        self.norm = LayerNorm(width)

    def features(self, images, kept, count):
        """The outputs of the first `count` blocks, each [B,1+K,width]; kept[B,K] in the order of the noise."""
        x = self.patch_embed(images) + self.pos_embed[:, 1:]
        x = torch.gather(x, 1, kept[:, :, None].expand(-1, -1, x.shape[2]))
        head = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)
        x = torch.cat([head, x], dim=1)
        outputs = []
        for block in self.blocks[:count]:
            x = block(x)
            outputs.append(x)
        return outputs


class TwoLayers(nn.Module):
    def __init__(self, source, target):
        super().__init__()
        self.fc1 = nn.Linear(source, target)
        self.fc2 = nn.Linear(target, target)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Student(Encoder):
    def __init__(self, config, patch, channels, grid):
        super().__init__(**config["student"], patch=patch, channels=channels, grid=grid)
        source, decoder, align = config["student"]["width"], config["decoder"], config["align"]
        if config.get("reconstruction_weight", 1) > 0:
            self.add_decoder(source, decoder, patch, channels, grid)
        target, kind = config["teacher"]["width"], align["projection"]
        if kind != "none":
            head = {"linear": nn.Linear, "mlp": TwoLayers}[kind]
            self.aligned_feature_projection_heads = nn.ModuleList(head(source, target) for _ in align["student_blocks"])

    def add_decoder(self, source, decoder, patch, channels, grid):
        width = decoder["width"]
        self.decoder_embed = nn.Linear(source, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_pos_embed = nn.Parameter(torch.from_numpy(position_table(width, *grid)), requires_grad=False)
        self.decoder_blocks = blocks(width, decoder["depth"], decoder["heads"])
        self.decoder_norm = LayerNorm(width)
        self.decoder_pred = nn.Linear(width, patch * patch * channels)

    def decode(self, latent, restore, decoded):
        """Predictions [B,L,p*p*C] from the tokens of the patches decoded[B,K+P]; zero for the other patches."""
        x = self.decoder_embed(latent)
        removed = self.mask_token.expand(x.shape[0], restore.shape[1] + 1 - x.shape[1], -1)
        patches = torch.cat([x[:, 1:], removed], dim=1)
        patches = torch.gather(patches, 1, restore[:, :, None].expand(-1, -1, patches.shape[2]))
        x = torch.cat([x[:, :1], patches], dim=1) + self.decoder_pos_embed
        x = torch.cat([x[:, :1], torch.gather(x[:, 1:], 1, decoded[:, :, None].expand(-1, -1, x.shape[2]))], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        prediction = self.decoder_pred(self.decoder_norm(x))[:, 1:]
        whole = prediction.new_zeros(x.shape[0], restore.shape[1], prediction.shape[2])
        return whole.scatter(1, decoded[:, :, None].expand_as(prediction), prediction)


def patch_vectors(images, patch):
    """[B,C,H,W] to [B,L,p*p*C], each vector in (row, column, channel) order."""
    batch, channels, height, width = images.shape
    cells = images.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def distance(teacher, student, kind):
    return F.l1_loss(student, teacher) if kind == "L1" else F.mse_loss(student, teacher)


class Recording:
    """One configuration with its inputs: the two models, and the losses of one step on them."""

    def __init__(self, config, inputs, dtype):
        self.config, self.patch = config, config["patch_size"]
        self.images = torch.from_numpy(inputs["images"]).to(dtype)
        noise = torch.from_numpy(inputs["noise"])
        channels, height, width = self.images.shape[1:]
        grid = (height // self.patch, width // self.patch)
        self.teacher = Encoder(**config["teacher"], patch=self.patch, channels=channels, grid=grid)
        self.student = Student(config, self.patch, channels, grid)
        for name, model in (("teacher", self.teacher), ("student", self.student)):
            state = {key.removeprefix(name + "."): torch.from_numpy(value)
                     for key, value in inputs.items() if key.startswith(name + ".")}
            model.load_state_dict(state, strict=True)
            model.to(dtype)
        self.teacher.requires_grad_(False)

        length = noise.shape[1]
        self.keep = int(length * (1 - config["mask_ratio"]))
        order = torch.argsort(noise, dim=1, stable=True)
        self.restore = torch.argsort(order, dim=1)
        self.kept = order[:, :self.keep]
        self.mask = (self.restore >= self.keep).to(dtype)
        self.teacher_kept = order[:, :int(length * (1 - config.get("teacher_mask_ratio", config["mask_ratio"])))]
        last = self.keep + max(1, int(config.get("predict_ratio", 1) * (length - self.keep)))
        self.decoded = order[:, :last].sort(dim=1).values
        self.predicted = ((self.restore >= self.keep) & (self.restore < last)).to(dtype)
        self.weight = config.get("reconstruction_weight", 1)
        self.smallest_difference = np.inf

    def trained(self):
        return {name: p for name, p in self.student.named_parameters() if p.requires_grad}

    def losses(self):
        """Reconstruction, [alignment of each pair], and what the record shows of the way there."""
        config, align = self.config, self.config["align"]
        deepest = max(align["teacher_blocks"], default=-1)
        with torch.no_grad():
            teacher = self.teacher.features(self.images, self.teacher_kept, deepest + 1)
            teacher = [feature[:, :1 + self.keep] for feature in teacher]
        student = self.student.features(self.images, self.kept, config["student"]["depth"])
        reconstruction, taps = None, {"mask": self.mask}
        if self.weight > 0:
            reconstruction, prediction, latent = self.reconstruct(student[-1])
            taps.update({"prediction": prediction, "student.latent": latent})
            if config.get("predict_ratio", 1) < 1:
                taps["predicted"] = self.predicted
        alignment = self.align(teacher, student, taps)
        return reconstruction, alignment, taps

    def reconstruct(self, features):
        config = self.config
        latent = self.student.norm(features)
        prediction = self.student.decode(latent, self.restore, self.decoded)
        target = patch_vectors(self.images, self.patch)
        if config["norm_pix_loss"]:
            mean = target.mean(dim=2, keepdim=True)
            variance = target.var(dim=2, keepdim=True, unbiased=True)
            target = (target - mean) / torch.sqrt(variance + 1e-6)
        per_patch = ((prediction - target) ** 2).mean(dim=2)
        return (per_patch * self.predicted).sum() / self.predicted.sum(), prediction, latent

    def align(self, teacher, student, taps):
        align, alignment = self.config["align"], []
        for pair, (s, t) in enumerate(zip(align["student_blocks"], align["teacher_blocks"], strict=True)):
            taps[f"student.feature.{pair}"], taps[f"teacher.feature.{pair}"] = student[s], teacher[t]
            goal, guess = teacher[t], student[s]
            if align["projection"] != "none":
                guess = self.student.aligned_feature_projection_heads[pair](guess)
                goal, guess = (F.normalize(x, dim=2, eps=1e-12) for x in (goal, guess))
            alignment.append(distance(goal, guess, align["loss"]))
            if align["loss"] == "L1":
                gap = (goal - guess).detach().abs().min() / goal.abs().max()
                self.smallest_difference = min(self.smallest_difference, float(gap))
        return alignment

    def total(self, reconstruction, alignment):
        return sum(alignment) + (self.weight * reconstruction if self.weight > 0 else 0)

    def run(self):
        """Every recorded step; the tensors of NAME.out.safetensors."""
        settings = self.config["optimizer"]
        trained = self.trained()
        undecayed = [p for name, p in trained.items() if p.ndim <= 1 or name.endswith(".bias")]
        decayed = [p for name, p in trained.items() if not (p.ndim <= 1 or name.endswith(".bias"))]
        optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings["weight_decay"]},
             {"params": undecayed, "weight_decay": 0.0}],
            lr=settings["lr"], betas=tuple(settings["betas"]), eps=settings["eps"])
        record, curves = {}, {}
        for step in range(self.config["steps"]):
            reconstruction, alignment, taps = self.losses()
            total = self.total(reconstruction, alignment)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            if step == 0:
                record.update(taps)
                record.update({f"grad.{name}": p.grad.clone() for name, p in trained.items() if p.grad is not None})
            shown = [] if reconstruction is None else [("reconstruction", reconstruction)]
            for name, loss in [("total", total), *shown,
                               *((f"align.{pair}", loss) for pair, loss in enumerate(alignment))]:
                curves.setdefault(f"loss.{name}", []).append(float(loss.detach()))
            optimizer.step()
        record.update({name: torch.tensor(values, dtype=torch.float64) for name, values in curves.items()})
        record.update({f"after.{name}": value for name, value in self.student.state_dict().items()})
        return {name: value.detach().to(torch.float64).numpy().copy() for name, value in record.items()}


def random_inputs(config, seed, batch, channels):
    """Xavier-uniform matrices (a little wider), and nothing left at 0 or 1, so that every term can be seen to act."""
    random = np.random.default_rng(seed)
    patch, size = config["patch_size"], config["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height % patch or width % patch:
        raise SystemExit(f"patch size {patch} does not divide the image size {height}x{width}")
    grid = (height // patch, width // patch)
    inputs = {
        "images": random.standard_normal((batch, channels, height, width)),
        "noise": random.random((batch, grid[0] * grid[1])),
    }
    # One flat patch: a variance computed by subtracting squares, or divided by zero, would show.
    inputs["images"][-1, :, -patch:, -patch:] = 0.75
    models = {"teacher": Encoder(**config["teacher"], patch=patch, channels=channels, grid=grid),
              "student": Student(config, patch, channels, grid)}
    for prefix, model in models.items():
        for name, tensor in model.state_dict().items():
            shape = tuple(tensor.shape)
            if name.endswith("pos_embed"):
                value = tensor.numpy()
            elif name.endswith("_token"):
                value = random.normal(0, 0.3, shape)
            elif "norm" in name.split(".")[-2]:
                value = random.normal(1 if name.endswith(".weight") else 0, 0.2, shape)
            elif name.endswith(".bias"):
                value = random.normal(0, 0.2, shape)
            else:
                rows, columns = shape[0], int(np.prod(shape[1:]))
                bound = 1.3 * np.sqrt(6.0 / (rows + columns))
                value = random.uniform(-bound, bound, shape)
            inputs[f"{prefix}.{name}"] = value
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in inputs.items()}


def check_gradients(recording, seed):
    """Central differences along a random direction of each tensor, and along single entries; worst relative error."""
    random = np.random.default_rng(seed)
    trained, step, worst = recording.trained(), 1e-6, (0.0, "")

    def total():
        with torch.no_grad():
            reconstruction, alignment, _ = recording.losses()
            return float(recording.total(reconstruction, alignment))

    recording.student.zero_grad()
    reconstruction, alignment, _ = recording.losses()
    recording.total(reconstruction, alignment).backward()
    for name, parameter in trained.items():
        if parameter.grad is None:
            continue
        gradient, scale = parameter.grad, float(parameter.grad.norm())
        if not scale > 0:
            raise SystemExit(f"{name}: the gradient is zero; nothing would be tested")
        directions = [torch.from_numpy(random.standard_normal(tuple(parameter.shape)))]
        for _ in range(2):
            single = torch.zeros_like(parameter)
            single.view(-1)[random.integers(single.numel())] = 1
            directions.append(single)
        directions.append(gradient.clone())
        for direction in directions:
            direction = direction / direction.norm()
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                above = total()
                parameter.add_(direction, alpha=-2 * step)
                below = total()
                parameter.add_(direction, alpha=step)
            slope, expected = (above - below) / (2 * step), float((gradient * direction).sum())
            # Rounding of the loss, 1e-16, over the step, 1e-6, is 1e-10: errors are held against the larger of the two.
            worst = max(worst, (abs(slope - expected) / max(scale, 1e-3), name))
    if worst[0] > 1e-6:
        raise SystemExit(f"{worst[1]}: gradient and central difference differ by {worst[0]:.1e} of the gradient's norm")
    return worst


def check_layout(recording, inputs):
    """Masking, patch order and unbiased variance once more, with loops and numpy alone; worst absolute difference."""
    images, noise, patch = inputs["images"].astype(np.float64), inputs["noise"], recording.patch
    batch, channels, height, width = images.shape
    columns, worst = width // patch, 0.0
    vectors = patch_vectors(recording.images, patch).numpy()
    embedded = recording.student.patch_embed(recording.images).detach().numpy()
    weight = inputs["student.patch_embed.proj.weight"].astype(np.float64)
    bias = inputs["student.patch_embed.proj.bias"].astype(np.float64)
    normalised = recording.images.new_tensor(vectors)
    variance = normalised.var(dim=2, unbiased=True).numpy()
    for b in range(batch):
        ranking = sorted(range(noise.shape[1]), key=lambda l: noise[b, l])
        if ranking[:recording.keep] != recording.kept[b].tolist():
            raise SystemExit(f"image {b}: the kept patches are not those of the lowest noise")
        removed = [0.0 if l in ranking[:recording.keep] else 1.0 for l in range(noise.shape[1])]
        worst = max(worst, np.abs(np.array(removed) - recording.mask[b].numpy()).max())
        for l in range(noise.shape[1]):
            top, left = l // columns * patch, l % columns * patch
            cell = images[b, :, top:top + patch, left:left + patch]
            vector = [cell[c, y, x] for y in range(patch) for x in range(patch) for c in range(channels)]
            spread = sum((v - np.mean(vector)) ** 2 for v in vector) / (len(vector) - 1)
            embedding = weight.reshape(len(bias), -1) @ cell.reshape(-1) + bias
            worst = max(worst, np.abs(vectors[b, l] - vector).max(), abs(variance[b, l] - spread),
                        np.abs(embedded[b, l] - embedding).max())
    if worst > 1e-10:
        raise SystemExit(f"masking or patch layout differs from plain numpy by {worst:.1e}")
    return worst


def relative_errors(expected, actual):
    return {name: np.abs(actual[name] - value).max() / np.abs(value).max() for name, value in expected.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=pathlib.Path, help="JSON, as in the metadata key dmae.replay")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--directory", type=pathlib.Path, help="where to write (default: beside the configuration)")
    parser.add_argument("--check", action="store_true", help="finite differences, plain numpy, and the float32 error")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # the same order of summation, and so the same bytes, whatever the machine's cores
    config = json.loads(arguments.config.read_text())
    inputs = random_inputs(config, arguments.seed, arguments.batch, arguments.channels)
    recording = Recording(config, inputs, torch.float64)
    if recording.keep < 1 or recording.keep >= inputs["noise"].shape[1]:
        raise SystemExit(f"mask ratio {config['mask_ratio']} keeps {recording.keep} of {inputs['noise'].shape[1]} patches")
    record = recording.run()
    # The slope of |x| jumps at 0: a float32 program on the other side of it is right too, and could not be judged.
    if recording.smallest_difference < 1e-6:
        raise SystemExit(f"a feature difference is within {recording.smallest_difference:.0e} of zero: take another seed")

    name = arguments.config.stem
    directory = arguments.directory or arguments.config.parent
    metadata = {"dmae.replay": json.dumps(config, separators=(",", ":"))}
    save_file(inputs, directory / f"{name}.in.safetensors", metadata)
    save_file({key: np.ascontiguousarray(value, dtype=np.float32) for key, value in record.items()},
              directory / f"{name}.out.safetensors", metadata)
    print(f"{name}: {recording.keep} of {inputs['noise'].shape[1]} patches kept, loss "
          f"{record['loss.total'][0]:.6f} to {record['loss.total'][-1]:.6f}, {len(record)} tensors")

    if arguments.check:
        layout = check_layout(Recording(config, inputs, torch.float64), inputs)
        slope, where = check_gradients(Recording(config, inputs, torch.float64), arguments.seed)
        single = relative_errors(record, Recording(config, inputs, torch.float32).run())
        print(f"  numpy layout within {layout:.0e}; central differences within {slope:.1e} ({where})")
        for family in ("prediction", "student.", "teacher.", "loss.", "grad.", "after."):
            errors = {key: error for key, error in single.items() if key.startswith(family)}
            if errors:
                worst = max(errors, key=errors.get)
                print(f"  float32 strays {errors[worst]:.1e} in {worst}")
        if max(single.values()) > 1e-4:
            raise SystemExit("float32 strays further than 1e-4: the case is ill conditioned, take another seed")


if __name__ == "__main__":
    sys.exit(main())
