"""Samples against real images in pixels, however mirrored, shifted or cropped a little, brightened or dulled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embprobe import signals
from embprobe.evaluation.features import ImageRows
from embprobe.metrics.memorisation import Near, without_own
from embprobe.pixels import resized
from embprobe.views import Images, blocks

SIDE = 64  # px of the longer side that views are taken at; they are compared at half of it
SHIFT = 2  # px of these, in each direction
COARSE = 4  # pixels of the compared ones on a side of a cell, where candidates are looked for
CANDIDATES = 32  # for each query, of all sets together in their shares
LEAST = 6  # of them at least from each set
FLAT = 2.0  # grey levels: deviations below it are not made larger
ROUNDING = 1e-5  # two unit vectors that are nearer are the same
BLOCK = 1024  # real images read at once
QUERIES = 32


@dataclass(frozen=True)
class PixelSpace:
    """Samples as a decoder draws them, and the real images of a data set, brought to the samples' size.

    Vectors are the middle 7/8 of a picture, mean-free and of unit norm, so that brightness and contrast fall out. A
    sample is as far from a real image as the nearest of its views is: mirrored, shifted, shrunk so that what was cropped
    and enlarged (by up to 8/7) fits again.
    """

    samples: ImageRows
    images: Images

    def near(self, known: Sequence[np.ndarray], sets: Sequence[np.ndarray], k: int, device: str = "cpu") -> list[Near]:
        """In each set of rows the k nearest images to every sample, then to every known real image, itself aside."""
        own = np.concatenate([np.full(len(self.samples.rows), -1), *known])
        real = [tuple(part.to(device) for part in self.reduced(rows)) for rows in sets]
        counts = shared_out([len(rows) for rows in sets], k)
        found: list[list[Near]] = [[] for _ in sets]
        start = 0
        for pictures in self.queries(known):
            signals.check()
            views = Views.of(pictures, device)
            part = own[start : start + len(pictures)]
            start += len(pictures)
            for rows, (fine, coarse), count, near in zip(sets, real, counts, found, strict=True):
                near.append(without_own(views.nearest(fine, coarse, count), places_in(rows, part), k))
        return [Near(torch.cat([n.distance for n in near]), torch.cat([n.row for n in near])) for near in found]

    def queries(self, known: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Pictures u8 (b,*sides,C) of the samples, then of known real images, some at a time."""
        for start in range(0, len(self.samples.rows), QUERIES):
            yield self.brought(self.samples.read(range(start, min(start + QUERIES, len(self.samples.rows)))))
        for rows in known:
            yield from (self.brought(self.images.array.take(part)) for part in blocks(rows, QUERIES))

    def reduced(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """What real images are compared by: sums of four pixels (N,D) i16, and coarse vectors (N,E)."""
        fine, coarse = [], []
        for part in blocks(rows, BLOCK):
            signals.check()
            cells = middle(quartered(self.brought(self.images.array.take(part))))
            fine.append(cells.flatten(1).to(torch.int16))
            coarse.append(unit(pooled(cells)))
        return torch.cat(fine), torch.cat(coarse)

    @cached_property
    def sides(self) -> tuple[int, int]:
        """Height and width that views are taken at: multiples of 16, the longer 64."""
        height, width = (max(1, round(SIDE / 16 * s / max(self.samples.size))) * 16 for s in self.samples.size)
        return height, width

    def brought(self, pictures: np.ndarray) -> np.ndarray:
        """Pictures at the samples' size, then at the size of the views."""
        for size in (self.samples.size, self.sides):
            pictures = pictures if pictures.shape[1:3] == size else resized(pictures, size)
        return pictures


@dataclass(frozen=True)
class Views:
    """Some queries, all views of each: unit vectors (Q,V,D), and coarse ones of the views that are not shifted (Q,W,E)."""

    fine: Tensor
    coarse: Tensor

    @classmethod
    def of(cls, pictures: np.ndarray, device: str = "cpu") -> "Views":
        height, width = pictures.shape[1:3]
        fine, coarse = [], []
        for eighths in (16, 15, 14):
            smaller = (height * eighths // 16, width * eighths // 16)
            cells = quartered(pictures if eighths == 16 else resized(pictures, smaller)).to(device)
            for seen in (cells, cells.flip(-1)):
                coarse.append(unit(pooled(middle(seen, height, width))))
                fine += [unit(w) for w in windows(seen, height, width)]
        return cls(torch.stack(fine, 1), torch.stack(coarse, 1))

    def nearest(self, fine_ND: Tensor, coarse_NE: Tensor, count: int) -> Near:
        """Distances and rows of the candidates among real images (Q,count), ascending: least over the views."""
        count = min(count, len(coarse_NE))
        queries, ways, width = self.coarse.shape
        likeness = (self.coarse.reshape(-1, width) @ coarse_NE.T).view(queries, ways, -1).amax(1)
        row = (likeness - coarse_NE.square().sum(1) / 2).topk(count, dim=1).indices
        real = unit(fine_ND[row].float())
        best = (self.fine @ real.mT).argmax(1)
        chosen = self.fine.gather(1, best[:, :, None].expand(-1, -1, self.fine.shape[2]))
        apart = (chosen - real).square_().sum(2).sqrt().double()
        distance, order = apart.masked_fill(apart < ROUNDING, 0.0).sort(dim=1, stable=True)
        return Near(distance.cpu(), row.gather(1, order).cpu())


def quartered(pictures: np.ndarray) -> Tensor:
    """Sums of each 2×2 pixels, at every place: f32 (B,C,H−1,W−1), exact, of u8 (B,H,W,C)."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(x, 2, stride=1, divisor_override=1)


def middle(cells_BCHW: Tensor, height: int | None = None, width: int | None = None) -> Tensor:
    """Every other sum of the middle 7/8 of a picture, of whose height and width the sums' own may be a part."""
    whole = [side + 1 for side in cells_BCHW.shape[2:]]
    wanted = [(side or own) * 7 // 8 for side, own in zip((height, width), whole, strict=True)]
    y, x = ((have - want) // 2 for have, want in zip(whole, wanted, strict=True))
    return cells_BCHW[:, :, y : y + wanted[0] - 1 : 2, x : x + wanted[1] - 1 : 2]


def windows(cells_BCHW: Tensor, height: int, width: int) -> Iterator[Tensor]:
    """The middle 7/8 (B,D) and all that are shifted from there, within the picture."""
    wanted = (height * 7 // 8, width * 7 // 8)
    slack = [have + 1 - want for have, want in zip(cells_BCHW.shape[2:], wanted, strict=True)]
    offsets = [range(max(0, s // 2 - SHIFT), min(s, s // 2 + SHIFT) + 1) for s in slack]
    for y in offsets[0]:
        for x in offsets[1]:
            yield cells_BCHW[:, :, y : y + wanted[0] - 1 : 2, x : x + wanted[1] - 1 : 2].flatten(1)


def pooled(cells_BCHW: Tensor) -> Tensor:
    """Means of squares of cells (B,E)."""
    return F.avg_pool2d(cells_BCHW, COARSE, ceil_mode=True).flatten(1)


def unit(sums: Tensor) -> Tensor:
    """Vectors without their mean, of unit norm; those of flat pictures shorter."""
    x = sums - sums.mean(-1, keepdim=True)
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.clamp_min(4 * FLAT * x.shape[-1] ** 0.5)


def shared_out(counts: Sequence[int], k: int) -> list[int]:
    """How many candidates come from each set, so that none is favoured by its size, and one more for a query's own row."""
    return [max(k, LEAST, round(CANDIDATES * count / sum(counts))) + 1 for count in counts]


def places_in(rows: np.ndarray, wanted: np.ndarray) -> Tensor:
    """Where rows stand among others that are sorted; −1 for those that do not."""
    places = np.searchsorted(rows, wanted).clip(max=len(rows) - 1)
    return torch.from_numpy(np.where(rows[places] == wanted, places, -1))
