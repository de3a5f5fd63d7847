"""Masked autoencoder (He et al. 2022): predict the normalised pixels of the three quarters that are hidden."""

from collections.abc import Iterator

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from embprobe.training.engine import Task
from embprobe.nn.vit import (
    effective_rank,
    embed_patches,
    gather,
    pixels,
    random_crop,
    run_blocks,
    set_positions,
    sincos_positions,
)

MEASURE_EVERY = 20  # steps between measurements of the embeddings' spread
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class MAE(Task):
    """`network` is the encoder; the decoder is left behind after training."""

    network: VisionTransformer
    positions: Tensor

    def __init__(self, vit: VisionTransformer, rate: float, *, width: int, depth: int, masked: float = 0.75) -> None:
        super().__init__()
        self.network, self.rate, self.masked = vit, rate, masked
        self.patch = vit.patch_embed.patch_size[0]
        length, dim = set_positions(vit)
        self.enter = nn.Linear(dim, width)
        self.hidden = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.register_buffer("positions", sincos_positions(round(length**0.5), width)[None])
        self.blocks = nn.Sequential(*(Block(width, max(1, width // 32)) for _ in range(depth)))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.patch**2 * 3))

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW with β₂ 0.95; biases, norms and tokens are not decayed."""
        return {"mae": torch.optim.AdamW(decay_groups(self, 0.05), lr=self.rate, betas=(0.9, 0.95), fused=True)}

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """Mean squared error on the hidden patches' pixels, each patch normalised to mean 0 and variance 1."""
        images = random_crop(pixels(batch["images"], *IMAGENET), 0.3, flip=True)
        tokens = embed_patches(self.network, images)
        count, length, _ = tokens.shape
        order = torch.rand(count, length, device=tokens.device).argsort(1)
        shown = round(length * (1 - self.masked))
        seen_BMD = run_blocks(self.network, gather(tokens, order[:, :shown]))
        known = torch.cat([self.enter(seen_BMD), self.hidden.expand(count, length - shown, -1)], 1)
        whole = gather(known, order.argsort(1)) + self.positions
        predicted = self.leave(self.blocks(whole))
        target = patchify(images, self.patch)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        hidden = order[:, shown:]
        if (step + 1) % MEASURE_EVERY == 0:
            self.scalars |= spread(seen_BMD)
        yield "mae", nn.functional.mse_loss(gather(predicted.float(), hidden), gather(target, hidden))


def decay_groups(module: nn.Module, decay: float) -> list[dict[str, object]]:
    """Parameter groups: matrices decay, the rest does not."""
    trained = [p for p in module.parameters() if p.requires_grad]
    flat = [p for p in trained if p.ndim < 2 or 1 in p.shape[:2]]
    ids = {id(p) for p in flat}
    return [
        {"params": [p for p in trained if id(p) not in ids], "weight_decay": decay},
        {"params": flat, "weight_decay": 0.0},
    ]


@torch.no_grad()
def spread(tokens_BLD: Tensor) -> dict[str, Tensor | float]:
    """Mean per-dimension std and effective rank of patch embeddings; both go to 0 (rank to 1) in a collapse."""
    x = tokens_BLD.detach().float().flatten(0, 1)[:4096]
    return {"std": x.std(0).mean(), "effective_rank": effective_rank(x)}


def patchify(images: Tensor, patch: int) -> Tensor:
    """(B,3,H,W) → (B, L, patch²·3)."""
    count, channels, height, width = images.shape
    grid = images.reshape(count, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, patch * patch * channels)
