"""A small convolutional network that reads scenes with several objects from their pixels: what readers can hope for."""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embprobe.nn.layers import decay_groups
from embprobe.pixels import channel_statistics, standardised
from embprobe.training.task import Task

WIDTHS = (32, 64, 128)
TARGETS = ("number", "nearest", "depth")  # what is regressed


class ConvBlock(nn.Module):
    """Two convolutions with a residual, by half in size where `stride` is 2."""

    def __init__(self, wide: int, into: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(wide, into, 3, stride, 1), nn.Conv2d(into, into, 3, 1, 1)
        self.norms = nn.ModuleList(nn.GroupNorm(8, into) for _ in range(2))
        self.past = nn.Conv2d(wide, into, 1, stride) if (wide, stride) != (into, 1) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(inner + self.past(x))


class SceneNet(nn.Module):
    """u8 images (B,H,W,C) → number of objects and nearest depth (B,), depth (B,*grid), logits of kinds (B,kinds,*grid).

    What is regressed is in units of std around the mean of the training images.
    """

    def __init__(self, channels: int, grid: tuple[int, int], kinds: int) -> None:
        super().__init__()
        self.grid, self.statistics = grid, channel_statistics(channels)
        wides = (channels, *WIDTHS)
        self.body = nn.Sequential(*(ConvBlock(a, b, 2) for a, b in zip(wides, WIDTHS, strict=False)))
        self.top = ConvBlock(WIDTHS[-1], WIDTHS[-1], 1)
        self.patches = nn.Conv2d(WIDTHS[-1], 1 + kinds, 1)
        self.image = nn.Sequential(nn.Linear(WIDTHS[-1], 128), nn.ReLU(), nn.Linear(128, 2))

    def forward(self, images_BHWC: Tensor) -> dict[str, Tensor]:
        x = self.top(F.adaptive_avg_pool2d(self.body(standardised(images_BHWC, *self.statistics)), self.grid))
        patches, image = self.patches(x), self.image(x.mean((2, 3)))
        return {"number": image[:, 0], "nearest": image[:, 1], "depth": patches[:, 0], "segments": patches[:, 1:]}


class ReadingScenes(Task):
    """Squared errors of what is regressed, cross-entropy of the kinds, on scenes mirrored at random."""

    def __init__(self, network: SceneNet, rate: float) -> None:
        super().__init__()
        self.network, self.rate = network, rate

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW; norms and biases are not decayed."""
        groups = decay_groups(list(self.network.parameters()), 0.05)
        return {"scenes": torch.optim.AdamW(groups, lr=self.rate, fused=True)}

    def draws(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """`mirrored` (B,2): across each axis."""
        return {"mirrored": torch.rand(len(batch["images"]), 2, generator=generator) < 0.5}

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """One loss, and its parts."""
        given = {k: v for k, v in batch.items() if k != "mirrored"}
        for name in ("images", "depth", "segments"):
            for axis in (1, 2):
                flip = batch["mirrored"][:, axis - 1].reshape(-1, *[1] * (given[name].ndim - 1))
                given[name] = torch.where(flip, given[name].flip(axis), given[name])
        read = self.network(given["images"])
        parts = {name: F.mse_loss(read[name].float(), given[name]) for name in TARGETS}
        parts["segments"] = F.cross_entropy(read["segments"].float(), given["segments"].long())
        self.scalars |= {f"loss_{name}": part.detach() for name, part in parts.items()}
        yield "scenes", torch.stack(list(parts.values())).sum()
