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

import torch
from torch import nn
from torch.nn import functional as F

import pytorch_timing
from pytorch_vit import Block, LayerNorm, patches_of, position_table


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
        order = noise.argsort(dim=1)
        restore, kept = order.argsort(dim=1), order[:, :self.keep]
        patches = patches_of(images, p)
        visible = patches.gather(1, kept[:, :, None].expand(-1, -1, patches.shape[2]))
        with torch.no_grad():
            goal = F.normalize(self.teacher(visible, kept).float(), dim=2)
        prediction, feature = self.student(visible, kept, restore)
        cells = images.view(batch, channels, height // p, p, width // p, p)
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
    parser = pytorch_timing.parser(__doc__)
    parser.add_argument("--mask-ratio", type=float, default=0.75)
    arguments = parser.parse_args()
    pytorch_timing.prepare(arguments)
    side = 224 // 16
    step = Step(16, side, arguments.mask_ratio)
    images = torch.randn(arguments.batch, 3, 224, 224)
    pytorch_timing.run(arguments, step, optimizer_for(step.student),
                       draw=lambda: (images, torch.rand(arguments.batch, side * side)))


if __name__ == "__main__":
    main()
