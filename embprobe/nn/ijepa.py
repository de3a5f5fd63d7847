"""I-JEPA (Assran et al. 2023): predict the embeddings of target blocks from a context block."""

import copy
import math
from collections.abc import Iterator

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from embprobe.training.engine import Task
from embprobe.nn.mae import IMAGENET, MEASURE_EVERY, decay_groups, spread
from embprobe.nn.vit import embed_patches, gather, pixels, random_crop, run_blocks, set_positions, sincos_positions

TARGETS = 4
GROUPS = 4  # context masks of similar size are run together, so that little of them is cut off


class IJEPA(Task):
    """`network` is the target encoder, a moving average of the context encoder."""

    network: VisionTransformer
    positions: Tensor

    def __init__(
        self, vit: VisionTransformer, rate: float, steps: int, *, width: int, depth: int, momentum: float = 0.996
    ) -> None:
        super().__init__()
        length, dim = set_positions(vit)
        self.grid, self.rate, self.steps = round(length**0.5), rate, steps
        self.momentum = min(momentum, 1 - 20 / max(steps, 40))  # its horizon stays under a twentieth of the run
        self.context = vit
        self.network = copy.deepcopy(vit).requires_grad_(False)
        self.enter = nn.Linear(dim, width)
        self.asked = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.register_buffer("positions", sincos_positions(self.grid, width)[None])
        self.blocks = nn.Sequential(*(Block(width, max(1, width // 32)) for _ in range(depth)))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.groups: list[dict[str, object]] = []

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW; the weight decay grows from 0.04 to 0.4."""
        optimiser = torch.optim.AdamW(decay_groups(self, 0.04), lr=self.rate, fused=True)
        self.groups = optimiser.param_groups
        return {"ijepa": optimiser}

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """Smooth L1 between predicted and layer-normalised target embeddings, mean over blocks."""
        share = step / max(1, self.steps)
        self.groups[0]["weight_decay"] = 0.4 + (0.04 - 0.4) * 0.5 * (1 + math.cos(math.pi * share))
        images = random_crop(pixels(batch["images"], *IMAGENET), 0.3, flip=False)
        with torch.no_grad():
            embedded_BLD = run_blocks(self.network, embed_patches(self.network, images))
            if (step + 1) % MEASURE_EVERY == 0:
                self.scalars |= spread(embedded_BLD)
            embedded_BLD = nn.functional.layer_norm(embedded_BLD.float(), embedded_BLD.shape[-1:])
        blocks_TBM, keep_BL = sample_masks(images.shape[0], self.grid)
        tokens = embed_patches(self.context, images)
        loss = tokens.new_zeros(())
        for rows, context_BM in group_contexts(keep_BL, GROUPS):
            rows, context_BM = rows.to(tokens.device), context_BM.to(tokens.device)
            targets_TBM = blocks_TBM.to(tokens.device)[:, rows]
            seen = self.enter(run_blocks(self.context, gather(tokens[rows], context_BM)))
            seen = seen + gather(self.positions.expand(len(rows), -1, -1), context_BM)
            predicted = self.predict(seen, targets_TBM)
            wanted = torch.cat([gather(embedded_BLD[rows], t) for t in targets_TBM])
            loss = loss + nn.functional.smooth_l1_loss(predicted.float(), wanted) * (len(rows) / len(images))
        yield "ijepa", loss

    def predict(self, seen_BCW: Tensor, targets_TBM: Tensor) -> Tensor:
        """Predicted embeddings of each target block, (T·B,M,D)."""
        blocks, count, size = targets_TBM.shape
        flat = targets_TBM.reshape(blocks * count, size)
        asked = self.asked + gather(self.positions.expand(blocks * count, -1, -1), flat)
        joined = torch.cat([seen_BCW.repeat(blocks, 1, 1), asked], 1)
        predicted: Tensor = self.leave(self.blocks(joined)[:, -size:])
        return predicted

    @torch.no_grad()
    def after(self, step: int) -> None:
        """The target follows the context encoder; its momentum rises linearly to 1."""
        momentum = self.momentum + (1 - self.momentum) * step / max(1, self.steps)
        torch._foreach_lerp_(list(self.network.parameters()), list(self.context.parameters()), 1 - momentum)


def sample_masks(count: int, grid: int) -> tuple[Tensor, Tensor]:
    """Target blocks as indices (4,B,M) and the context's patches as booleans (B,L).

    Block sizes are drawn once a batch, places for each image: targets of scale 0.15-0.2 and aspect 0.75-1.5; a context
    block of scale 0.85-1, minus the targets.
    """
    high, wide = _block_size(grid, (0.15, 0.2), (0.75, 1.5))
    targets = torch.stack([_place(count, grid, high, wide) for _ in range(TARGETS)])
    high, wide = _block_size(grid, (0.85, 1.0), (1.0, 1.0))
    keep = torch.zeros(count, grid * grid, dtype=torch.bool)
    keep.scatter_(1, _place(count, grid, high, wide), True)
    for block in targets:
        keep.scatter_(1, block, False)
    keep[~keep.any(1), 0] = True  # a context is never empty
    return targets, keep


def _block_size(grid: int, scale: tuple[float, float], aspect: tuple[float, float]) -> tuple[int, int]:
    low, span = scale[0], scale[1] - scale[0]
    area = (low + span * float(torch.rand(()))) * grid * grid
    ratio = aspect[0] + (aspect[1] - aspect[0]) * float(torch.rand(()))
    return (min(grid, max(1, round((area * ratio) ** 0.5))), min(grid, max(1, round((area / ratio) ** 0.5))))


def _place(count: int, grid: int, high: int, wide: int) -> Tensor:
    """Indices (count, high·wide) of blocks at random places."""
    top = torch.randint(grid - high + 1, (count, 1, 1))
    left = torch.randint(grid - wide + 1, (count, 1, 1))
    rows, columns = top + torch.arange(high)[None, :, None], left + torch.arange(wide)[None, None, :]
    return (rows * grid + columns).flatten(1)


def group_contexts(keep_BL: Tensor, groups: int) -> list[tuple[Tensor, Tensor]]:
    """Images in groups of similar context size, each group's contexts cut to its smallest: (rows, indices (b,M)).

    What is cut is drawn at random, so that no corner is preferred.
    """
    counts = keep_BL.sum(1)
    found = []
    for rows in counts.argsort().chunk(groups):
        size = int(counts[rows].min())
        score = torch.rand(len(rows), keep_BL.shape[1]) + keep_BL[rows].float()
        found.append((rows, score.topk(size, dim=1).indices))
    return found
