"""I-JEPA (Assran et al. 2023): predict the embeddings of target blocks from a context block."""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from embprobe.nn.layers import decay_groups, gather, token_statistics
from embprobe.nn.predictor import BlockPredictor, PredictorConfig, Target
from embprobe.nn.vit import embed_patches, run_blocks, set_positions
from embprobe.pixels import channel_statistics, cropped, normalised_patches, random_crops, standardised
from embprobe.training.task import Task

TARGETS = 4
MIN_KEEP = 10  # a context has more patches, or more than a sixth of a small grid
TRIES = 20  # draws of masks before a smaller context is taken
GROUPS = 4  # context masks of similar size are run together, so that little of them is cut off


class IJEPA(Task):
    """`network` is the target encoder, a moving average of the context encoder, which is kept with the predictor.

    With the target `pixels`, the predictor learns the patches' normalised pixels instead (Assran et al. 2023, table 7).
    """

    network: VisionTransformer
    encoded: Tensor  # of the last step

    def __init__(
        self,
        vit: VisionTransformer,
        rate: float,
        steps: int,
        *,
        width: int,
        depth: int,
        momentum: float = 0.996,
        target: Target = "embeddings",
    ) -> None:
        super().__init__()
        self.grid, dim = set_positions(vit)
        self.target, self.patch, channels = target, vit.patch_embed.patch_size[0], vit.patch_embed.proj.in_channels
        self.mean, self.std = channel_statistics(channels)
        self.rate, self.steps = rate, steps
        self.momentum = min(momentum, 1 - 20 / max(steps, 40))  # its horizon stays under a twentieth of the run
        self.context = vit
        self.network = copy.deepcopy(vit).requires_grad_(False)
        out = dim if target == "embeddings" else self.patch**2 * channels
        self.predictor = BlockPredictor(PredictorConfig.sized(self.grid, dim, out, width=width, depth=depth))
        self.beside = {"context": self.context, "predictor": self.predictor}
        self.groups: list[dict[str, object]] = []

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW; the weight decay grows from 0.04 to 0.4."""
        first = self.predictor.mask_token  # gradient norms are summed in this order, and rounding depends on it
        rest = [p for p in self.parameters() if p is not first]
        optimiser = torch.optim.AdamW(decay_groups([first, *rest], 0.04), lr=self.rate, fused=True)
        self.groups = optimiser.param_groups
        return {"ijepa": optimiser}

    def draws(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """`crops` (B,2,3); for each group g of images `rows_g` (b,), `context_g` (b,C) and `targets_g` (4,b,M)."""
        count = len(batch["images"])
        targets_TBM, keep_BL = sample_masks(count, self.grid, generator)
        drawn = {"crops": random_crops(count, 0.3, False, generator)}
        for g, (rows, context_BC) in enumerate(group_contexts(keep_BL, GROUPS, generator)):
            drawn |= {f"rows_{g}": rows, f"context_{g}": context_BC, f"targets_{g}": targets_TBM[:, rows]}
        return drawn

    def program(self, step: int) -> str | None:
        """Blocks have other sizes at every step."""
        return None

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """Smooth L1 between predictions and layer-normalised target embeddings, or pixels, mean over blocks."""
        share = step / max(1, self.steps)
        self.groups[0]["weight_decay"] = 0.4 + (0.04 - 0.4) * 0.5 * (1 + math.cos(math.pi * share))
        images = cropped(standardised(batch["images"], self.mean, self.std), batch["crops"])
        with torch.no_grad():
            self.encoded = run_blocks(self.network, embed_patches(self.network, images))
            truth_BLP = (
                normalised_tokens(self.encoded)
                if self.target == "embeddings"
                else normalised_patches(images, self.patch)
            )
        tokens = embed_patches(self.context, images)
        loss = tokens.new_zeros(())
        for g in range(sum(name.startswith("rows_") for name in batch)):
            rows, context_BC, targets_TBM = (batch[f"{name}_{g}"] for name in ("rows", "context", "targets"))
            context_BCD = run_blocks(self.context, gather(tokens[rows], context_BC))
            predicted = self.predictor(context_BCD, context_BC, targets_TBM)
            wanted = torch.cat([gather(truth_BLP[rows], t) for t in targets_TBM])
            loss = loss + nn.functional.smooth_l1_loss(predicted.float(), wanted) * (len(rows) / len(images))
        yield "ijepa", loss

    def statistics(self) -> dict[str, Tensor | float]:
        """Spread and rank of the target encoder's tokens."""
        return token_statistics(self.encoded)

    @torch.no_grad()
    def after(self, step: int) -> None:
        """The target follows the context encoder; its momentum rises linearly to 1."""
        momentum = self.momentum + (1 - self.momentum) * step / max(1, self.steps)
        torch._foreach_lerp_(list(self.network.parameters()), list(self.context.parameters()), 1 - momentum)


def normalised_tokens(tokens: Tensor) -> Tensor:
    """Tokens (…,D), each at mean 0 and variance 1 over its channels: what I-JEPA predicts."""
    return nn.functional.layer_norm(tokens.float(), tokens.shape[-1:])


def sample_masks(count: int, grid: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Target blocks as indices (4,B,M) and the context's patches as booleans (B,L), on the CPU.

    Block sizes are drawn once a batch, places for each image: targets of scale 0.15-0.2 and aspect 0.75-1.5; a context
    block of scale 0.85-1, minus the targets. Masks that leave a context of `MIN_KEEP` patches or fewer are drawn anew.
    The released code draws the context alone anew and lets targets into it after 20 times; it takes one number for
    scale and aspect, and never reaches the last row and column.
    """
    return BlockMasks.sized(grid, generator).drawn(count, generator)


@dataclass(frozen=True)
class BlockMasks:
    """Rectangles of patches of one size: four targets and the context around them."""

    grid: tuple[int, int]
    target: tuple[int, int]  # height and width in patches
    context: tuple[int, int]

    @staticmethod
    def sized(grid: tuple[int, int], generator: torch.Generator) -> "BlockMasks":
        """Of sizes that are drawn; the aspect is taken relative to the grid's own."""

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=generator))

        def size(scale: tuple[float, float], aspect: tuple[float, float]) -> tuple[int, int]:
            rows, columns = grid
            area = uniform(*scale) * rows * columns
            ratio = uniform(*aspect) * (rows / columns)
            return (
                min(rows, max(1, round((area * ratio) ** 0.5))),
                min(columns, max(1, round((area / ratio) ** 0.5))),
            )

        return BlockMasks(grid, size((0.15, 0.2), (0.75, 1.5)), size((0.85, 1.0), (1.0, 1.0)))

    def drawn(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Targets as indices (4,B,M), and the patches of a context block outside of them (B,L)."""
        targets, keep = self._masks(count, generator)
        least = min(MIN_KEEP, self.grid[0] * self.grid[1] // 6)
        for _ in range(TRIES):
            (few,) = torch.nonzero(keep.sum(1) <= least, as_tuple=True)
            if not len(few):
                break
            targets[:, few], keep[few] = self._masks(len(few), generator)
        keep[~keep.any(1), 0] = True  # a context is never empty
        return targets, keep

    def _masks(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        targets = torch.stack([self._places(count, self.target, generator) for _ in range(TARGETS)])
        keep = torch.zeros(count, self.grid[0] * self.grid[1], dtype=torch.bool)
        keep.scatter_(1, self._places(count, self.context, generator), True)
        for places in targets:
            keep.scatter_(1, places, False)
        return targets, keep

    def _places(self, count: int, block: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Indices (count, height·width) of blocks at random places."""
        (rows, columns), (height, width) = self.grid, block
        top = torch.randint(rows - height + 1, (count, 1, 1), generator=generator)
        left = torch.randint(columns - width + 1, (count, 1, 1), generator=generator)
        down, across = top + torch.arange(height)[None, :, None], left + torch.arange(width)[None, None, :]
        return (down * columns + across).flatten(1)


def group_contexts(keep_BL: Tensor, groups: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Images in groups of similar context size, each group's contexts cut to its smallest: (rows, indices (b,M)).

    What is cut is drawn at random, so that no corner is preferred. The released code cuts all to the smallest of the
    batch and keeps the first in reading order: about 30 % of the patches on 16×16, where here it is 43 %.
    """
    counts = keep_BL.sum(1)
    contexts = []
    for rows in counts.argsort().chunk(groups):
        size = int(counts[rows].min())
        score = torch.rand(len(rows), keep_BL.shape[1], generator=generator) + keep_BL[rows].float()
        contexts.append((rows, score.topk(size, dim=1).indices))
    return contexts
