#!/usr/bin/env python3
"""Time the fine-tuning step of a ViT-B/16 in PyTorch, on random weights, images and targets, as `dmae bench finetune` does.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python pytorch_finetune.py --batch 32 --precision f32 --threads 2 --steps 5
    venv/bin/python pytorch_finetune.py --precision bf16 --compile        (needs a C++ compiler)

Run it alone on the machine, in the same hour as the program it is compared with. It prints one JSON object;
`images_per_second` is that of the median step.

It is written as by a careful PyTorch user: attention is F.scaled_dot_product_attention, AdamW is fused, and bf16 is autocast
over float32 weights. The model is MAE's fine-tuning at 224 pixels: all 196 patches, a class token, mean of the patch tokens,
`fc_norm`, a head of 1000 classes; drop path rises to 0.1 at the last block, and the position table is trained. Targets are
soft, of two classes each, as after mixup with smoothing. AdamW has one group for each layer and kind of decay, with a layer
decay of 0.65. A step is the forward and backward pass and the optimiser. Reading, augmenting and mixing images is left out.
"""

import torch
from torch import nn

import pytorch_timing
from pytorch_vit import Block, LayerNorm, patches_of, position_table

SIZE, PATCH, WIDTH, DEPTH, HEADS, CLASSES = 224, 16, 768, 12, 12, 1000
DROP_PATH, LAYER_DECAY, WEIGHT_DECAY, SMOOTHING = 0.1, 0.65, 0.05, 0.1


class DropPathBlock(Block):
    """A block whose branches are dropped for whole samples."""

    def __init__(self, width, heads, rate):
        super().__init__(width, heads)
        self.rate = rate

    def drop(self, branch):
        if self.rate == 0:
            return branch
        keep = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.rate
        return branch * (keep / (1 - self.rate)).to(branch.dtype)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3 * PATCH * PATCH, WIDTH)
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.pos_embed = nn.Parameter(position_table(WIDTH, SIZE // PATCH))
        rates = torch.linspace(0, DROP_PATH, DEPTH).tolist()
        self.blocks = nn.ModuleList(DropPathBlock(WIDTH, HEADS, rate) for rate in rates)
        self.fc_norm, self.head = LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
        nn.init.normal_(self.head.weight, std=2e-5)
        nn.init.zeros_(self.head.bias)

    def forward(self, images, targets):
        """images[B,C,H,W] and targets[B,classes] to the mean cross-entropy."""
        x = self.embed(patches_of(images, PATCH))
        x = torch.cat([self.cls_token.expand(len(x), -1, -1).to(x.dtype), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.fc_norm(x[:, 1:].mean(dim=1)))
        return -(targets * logits.float().log_softmax(dim=1)).sum(dim=1).mean()


def layer(name):
    """0 for what comes before the blocks, i+1 for block i, DEPTH+1 for the rest."""
    if name.startswith(("embed.", "cls_token", "pos_embed")):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks.") else DEPTH + 1


def optimizer_for(model):
    groups = {}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and name not in ("cls_token", "pos_embed")
        groups.setdefault((layer(name), decays), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "lr": 1e-6 * LAYER_DECAY ** (DEPTH + 1 - number), "weight_decay": WEIGHT_DECAY if decays else 0.0}
         for (number, decays), parameters in groups.items()], betas=(0.9, 0.999), eps=1e-8, fused=True)


def mixed_targets(batch):
    """[B,classes]: a random class of each row mixed with that of the reversed batch, both smoothed."""
    off = SMOOTHING / CLASSES
    own = torch.full((batch, CLASSES), off).scatter_(1, torch.randint(CLASSES, (batch, 1)), 1 - SMOOTHING + off)
    return 0.6 * own + 0.4 * own.flip(0)


def main():
    arguments = pytorch_timing.parser(__doc__).parse_args()
    pytorch_timing.prepare(arguments)
    model = Classifier()
    images = torch.randn(arguments.batch, 3, SIZE, SIZE)
    pytorch_timing.run(arguments, model, optimizer_for(model), draw=lambda: (images, mixed_targets(arguments.batch)))


if __name__ == "__main__":
    main()
