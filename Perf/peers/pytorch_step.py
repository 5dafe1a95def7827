#!/usr/bin/env python3
"""Time the distillation step ViT-L to ViT-B in PyTorch, on random weights and images, as `dmae bench distill` does.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python pytorch_step.py --batch 32 --mask-ratio 0.75 --precision f32 --threads 2 --steps 5
    venv/bin/python pytorch_step.py --precision bf16 --compile        (needs a C++ compiler)

Run it alone on the machine, in the same hour as the program it is compared with. Five steps of 32 images in float32 take
about two minutes on two cores and 5 GB of memory. It prints one JSON object; `images_per_second` is that of the median step.

It is written as by a careful PyTorch user: only kept patches are embedded and go through the blocks, the frozen teacher stops
after its last aligned block (0 to 17 of 24) and has no decoder, attention is F.scaled_dot_product_attention, AdamW is fused,
and bf16 is autocast over float32 weights. A step is the masking, both forward passes, the backward pass and the optimiser,
without reading images. Letters: B batch, L patches, K kept, p patch side, C channels, D width.
"""

import argparse
import json
import platform
import resource
import statistics
import time
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = (self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
                   .permute(2, 0, 3, 1, 4).unbind(0))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.proj(attended)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def position_table(width, side):
    omega = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    of = torch.outer(torch.arange(side, dtype=torch.float64), omega)
    wave = torch.cat([of.sin(), of.cos()], dim=1)
    table = torch.cat([wave.repeat(side, 1), wave.repeat_interleave(side, 0)], dim=1)
    return torch.cat([torch.zeros(1, width), table.float()])[None]


class Encoder(nn.Module):
    def __init__(self, width, depth, heads, patch, side, channels=3):
        super().__init__()
        self.embed = nn.Linear(channels * patch * patch, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.register_buffer("positions", position_table(width, side))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))

    def tokens(self, patches, kept):
        """patches[B,K,C*p*p] and kept[B,K] to [B,1+K,D]."""
        batch = kept.shape[0]
        x = self.embed(patches) + self.positions[0, 1:][kept]
        return torch.cat([(self.cls_token + self.positions[:, :1]).expand(batch, -1, -1), x], dim=1)


class Teacher(Encoder):
    def forward(self, patches, kept):
        x = self.tokens(patches, kept)
        for block in self.blocks:
            x = block(x)
        return x


class Student(Encoder):
    def __init__(self, width, depth, heads, patch, side, tap, target, decoder=(512, 8, 16)):
        super().__init__(width, depth, heads, patch, side)
        inner, layers, inner_heads = decoder
        self.tap, self.norm, self.head = tap, LayerNorm(width), nn.Linear(width, target)
        self.decoder_embed = nn.Linear(width, inner)
        self.mask_token = nn.Parameter(torch.randn(1, 1, inner) * 0.02)
        self.register_buffer("decoder_positions", position_table(inner, side))
        self.decoder_blocks = nn.ModuleList(Block(inner, inner_heads) for _ in range(layers))
        self.decoder_norm, self.decoder_pred = LayerNorm(inner), nn.Linear(inner, patch * patch * 3)

    def forward(self, patches, kept, restore):
        x = self.tokens(patches, kept)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == self.tap:
                feature = self.head(x)
        x = self.decoder_embed(self.norm(x))
        removed = self.mask_token.to(x.dtype).expand(x.shape[0], restore.shape[1] + 1 - x.shape[1], -1)
        patches = torch.cat([x[:, 1:], removed], dim=1)
        patches = patches.gather(1, restore[:, :, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], patches], dim=1) + self.decoder_positions
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:], feature


class Step(nn.Module):
    """Masking, both forward passes and the total loss of one batch."""

    def __init__(self, patch, side, ratio):
        super().__init__()
        self.patch, self.keep = patch, int(side * side * (1 - ratio))
        self.teacher = Teacher(1024, 18, 16, patch, side).requires_grad_(False)
        self.student = Student(768, 12, 12, patch, side, tap=8, target=1024)

    def forward(self, images, noise):
        batch, channels, height, width = images.shape
        p = self.patch
        cells = images.view(batch, channels, height // p, p, width // p, p)
        order = noise.argsort(dim=1)
        restore, kept = order.argsort(dim=1), order[:, :self.keep]
        patches = cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, noise.shape[1], channels * p * p)
        visible = patches.gather(1, kept[:, :, None].expand(-1, -1, patches.shape[2]))
        with torch.no_grad():
            goal = F.normalize(self.teacher(visible, kept).float(), dim=2)
        prediction, feature = self.student(visible, kept, restore)
        target = cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, noise.shape[1], channels * p * p)
        mask = (restore >= self.keep).float()
        reconstruction = ((prediction.float() - target).square().mean(dim=2) * mask).sum() / mask.sum()
        return reconstruction + F.l1_loss(F.normalize(feature.float(), dim=2), goal)


def optimizer_for(student):
    parameters = list(student.parameters())
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
              {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--mask-ratio", type=float, default=0.75)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--compile", action="store_true", help="torch.compile around the whole forward pass")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    side = 224 // 16
    step = Step(16, side, arguments.mask_ratio)
    optimizer = optimizer_for(step.student)
    forward = torch.compile(step) if arguments.compile else step
    images = torch.randn(arguments.batch, 3, 224, 224)
    seconds, losses = [], []
    for index in range(arguments.warm_up + arguments.steps):
        noise = torch.rand(arguments.batch, side * side)
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            loss = forward(images, noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if index >= arguments.warm_up:
            seconds.append(time.perf_counter() - start)
    print(json.dumps({
        "images_per_second": round(arguments.batch / statistics.median(seconds), 4),
        "step_seconds": [round(value, 4) for value in seconds],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "batch": arguments.batch, "mask_ratio": arguments.mask_ratio, "precision": arguments.precision,
        "compile": arguments.compile, "threads": arguments.threads, "losses": [round(value, 5) for value in losses],
        "torch": torch.__version__, "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
    }))


if __name__ == "__main__":
    main()
