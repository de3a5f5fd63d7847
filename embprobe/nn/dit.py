"""DiT denoiser: a transformer over the grid of latents with adaptive layer norms started at zero."""

import torch.nn.functional as F
from torch import Tensor, nn

from embprobe.nn.layers import cos_sin_positions, time_features
from embprobe.nn.text import CrossAttention, TextEncoder


class DiT(nn.Module):
    """Diffusion transformer, patch size 1 (Peebles & Xie 2023), with QK norms (Esser et al. 2024).

    A condition is a class id (B,); id `classes` is the learned null class, and `classes` None is unconditional. With
    `text` it is what that encoder takes, whose states every block reads. A grid may have any number of axes.
    Width 384, depth 12 and 6 heads have 32.4 M parameters at d = 16.
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, ...],
        *,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        classes: int | None = None,
        text: TextEncoder | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes, self.text = classes, text
        self.width = width
        self.embed = nn.Linear(channels, width)
        self.register_buffer("positions", cos_sin_positions(grid, width), persistent=False)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.label = None if classes is None else nn.Embedding(classes + 1, width)
        of = None if text is None else text.width
        self.blocks = nn.ModuleList([Block(width, heads, dropout, of) for _ in range(depth)])
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, channels)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        read = [block.read.project for block in blocks if block.read is not None]
        for layer in [self.modulation, self.out, *(block.modulation for block in blocks), *read]:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, z: Tensor, time_B: Tensor, condition: Tensor | None = None) -> Tensor:
        """The prediction for z (B,d,*grid) at times in [0, 1000]; a condition is needed exactly if it learned of any."""
        if (condition is None) != (self.label is None and self.text is None):
            raise ValueError("a condition is needed exactly if the network has classes or reads text")
        states = None if self.text is None else self.text(condition)
        x_BNw = self.embed(z.flatten(2).mT) + self.positions
        c_Bw = self.time(time_features(time_B, 256))
        if self.label is not None:
            c_Bw = c_Bw + self.label(condition)
        c_B1w = F.silu(c_Bw)[:, None]
        for block in self.blocks:
            x_BNw = block(x_BNw, c_B1w, states)
        shift, scale = self.modulation(c_B1w).chunk(2, -1)
        out_BNd = self.out(F.layer_norm(x_BNw, (self.width,)) * (1 + scale) + shift)
        out: Tensor = out_BNd.mT.reshape(z.shape)
        return out


class Block(nn.Module):
    """Attention and MLP, each scaled, shifted and gated by time and class; between them states `of` a width are read."""

    def __init__(self, width: int, heads: int, dropout: float, of: int | None = None) -> None:
        super().__init__()
        self.read = None if of is None else CrossAttention(width, of, heads)
        self.width, self.heads = width, heads
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.query_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.key_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(self, x_BNw: Tensor, c_B1w: Tensor, states: tuple[Tensor, Tensor] | None = None) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(c_B1w).chunk(6, -1)
        x_BNw = x_BNw + gate_1 * self._attend(F.layer_norm(x_BNw, (self.width,)) * (1 + scale_1) + shift_1)
        if self.read is not None and states is not None:
            x_BNw = x_BNw + self.read(F.layer_norm(x_BNw, (self.width,)), *states)
        out: Tensor = x_BNw + gate_2 * self.mlp(F.layer_norm(x_BNw, (self.width,)) * (1 + scale_2) + shift_2)
        return out

    def _attend(self, x_BNw: Tensor) -> Tensor:
        q, k, v = self.qkv(x_BNw).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.query_norm(q.float()).to(v.dtype), self.key_norm(k.float()).to(v.dtype)
        attended: Tensor = self.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return attended
