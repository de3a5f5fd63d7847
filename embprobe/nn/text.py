"""Captions as denoisers take them: UTF-8 bytes, or states of a frozen encoder, to what cross-attention reads."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embprobe.nn.layers import cos_sin_positions

DEPTH = 3  # blocks of the transformer over bytes
WIDEST = 256
BYTES = 257  # 0 pads, and 1 more than each byte


def byte_rows(captions: Sequence[str | None], length: int) -> np.ndarray:
    """Captions (n,length) i16: one more than each byte of UTF-8, zeros behind; what is longer is cut, None is empty."""
    rows = np.zeros((len(captions), length), np.int16)
    for row, caption in zip(rows, captions, strict=True):
        data = np.frombuffer((caption or "").encode()[:length], np.uint8)
        row[: len(data)] = data.astype(np.int16) + 1
    return rows


def text_width(width: int) -> int:
    """How wide the states are that a denoiser of a width reads: its own width, at most 256, a multiple of 16."""
    return max(16, min(WIDEST, width // 16 * 16))


class TextEncoder(nn.Module):
    """The domain encoder τ of Rombach et al. 2022, trained along with the denoiser.

    Bytes (B,L), as `byte_rows` has them, go through a small transformer; states of a frozen encoder (B,L,W), all zero
    where a caption has ended, through one linear map. A learned state stands before them, and alone for the null caption,
    which is the empty one.
    """

    def __init__(self, length: int, frozen_width: int | None, width: int) -> None:
        super().__init__()
        self.frozen_width, self.width = frozen_width, width
        self.null = nn.Parameter(0.02 * torch.randn(width))
        if frozen_width is None:
            self.embed: nn.Module = nn.Embedding(BYTES, width)
            self.register_buffer("positions", cos_sin_positions((length,), width), persistent=False)
        else:
            self.embed = nn.Linear(frozen_width, width)
        heads = width // 32 or 1
        heads = heads if width % heads == 0 else 1
        self.blocks = nn.ModuleList([TextBlock(width, heads) for _ in range(0 if frozen_width else DEPTH)])
        self.norm = nn.LayerNorm(width)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """States (B,1+L,width), and which of them are there (B,1+L) bool."""
        if self.frozen_width is None:
            there_BL = condition != 0
            x_BLw = self.embed(condition.int()) + self.positions
        else:
            there_BL = (condition != 0).any(-1)
            x_BLw = self.embed(condition.to(self.null.dtype))
        x_BTw = torch.cat([self.null.expand(len(condition), 1, -1).to(x_BLw.dtype), x_BLw], 1)
        there_BT = F.pad(there_BL, (1, 0), value=True)
        for block in self.blocks:
            x_BTw = block(x_BTw, there_BT)
        return self.norm(x_BTw), there_BT


class CrossAttention(nn.Module):
    """Tokens (B,N,w) read states (B,T,v), of those that are there; with QK norms (Esser et al. 2024)."""

    def __init__(self, width: int, of: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.states = nn.Linear(width, width), nn.Linear(of, 2 * width)
        self.project = nn.Linear(width, width)
        self.query_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.key_norm = nn.RMSNorm(width // heads, eps=1e-6)

    def forward(self, x_BNw: Tensor, states_BTv: Tensor, there_BT: Tensor) -> Tensor:
        q = self.query(x_BNw).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.states(states_BTv).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.query_norm(q.float()).to(v.dtype), self.key_norm(k.float()).to(v.dtype)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=there_BT[:, None, None])
        projected: Tensor = self.project(read.transpose(1, 2).flatten(2))
        return projected


class TextBlock(nn.Module):
    """Attention among states and an MLP, each behind a layer norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = CrossAttention(width, width, heads)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, x_BTw: Tensor, there_BT: Tensor) -> Tensor:
        normed = self.norms[0](x_BTw)
        x_BTw = x_BTw + self.attention(normed, normed, there_BT)
        out: Tensor = x_BTw + self.mlp(self.norms[1](x_BTw))
        return out
