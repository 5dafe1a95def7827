"""Parts of Vision Transformers that the steps in PyTorch share. Letters: B batch, L patches, p patch side, C channels, D width."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class Block(nn.Module):
    """A transformer block. `drop` is applied to the output of each branch, before the sum."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def drop(self, branch):
        return branch

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = (self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
                   .permute(2, 0, 3, 1, 4).unbind(0))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.drop(self.proj(attended))
        return x + self.drop(self.fc2(F.gelu(self.fc1(self.norm2(x)))))


def position_table(width, side):
    """[1, 1+side*side, D]: the fixed sines and cosines, zeros for the class token."""
    omega = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    of = torch.outer(torch.arange(side, dtype=torch.float64), omega)
    wave = torch.cat([of.sin(), of.cos()], dim=1)
    table = torch.cat([wave.repeat(side, 1), wave.repeat_interleave(side, 0)], dim=1)
    return torch.cat([torch.zeros(1, width), table.float()])[None]


def patches_of(images, patch):
    """images[B,C,H,W] to [B,L,C*p*p], channels outermost in a patch as in a convolution's weight."""
    batch, channels, height, width = images.shape
    cells = images.view(batch, channels, height // patch, patch, width // patch, patch)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch * patch)
