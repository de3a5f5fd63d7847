"""Which patches a predictor sees and which it is asked for: the masks under which predictions are looked at."""

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from embprobe.device import mix
from embprobe.errors import UserError
from embprobe.nn.ijepa import BlockMasks

PARTS = {"each": 4, "quadrants": 2}  # into which every axis is cut; every part is predicted from all the others


class Asked(NamedTuple):
    """Some images of a batch that are asked alike: `places` (b,) in the batch, `context` (b,C), `targets` (T,b,M)."""

    places: Tensor
    context: Tensor
    targets: Tensor


def asked_of(masking: str, grid: tuple[int, ...], rows: Sequence[int], seed: int) -> list[Asked]:
    """What is asked of each of these images; `blocks` are drawn by (seed, row). Raises UserError for another masking."""
    if masking == "blocks":
        return _drawn(grid, rows, seed)
    hidden = grid_parts(grid, PARTS[masking]) if masking in PARTS else [rectangle(masking, grid)]
    every, length = torch.arange(len(rows)), prod(grid)
    asked = []
    for part in hidden:
        context = torch.from_numpy(np.setdiff1d(np.arange(length), part.numpy()))
        asked.append(Asked(every, context.expand(len(rows), -1), part.expand(1, len(rows), -1)))
    return asked


def check_masking(masking: str, grid: tuple[int, ...]) -> None:
    """Raises UserError for a masking that this grid can't have."""
    if masking == "blocks" and len(grid) != 2:
        raise UserError("--masking blocks is drawn on a grid of two axes; take each")
    if masking != "blocks" and masking not in PARTS:
        rectangle(masking, grid)


def grid_parts(grid: tuple[int, ...], cuts: int) -> list[Tensor]:
    """The patches of each part of a grid whose every axis is cut into so many, in reading order."""
    places = np.arange(prod(grid)).reshape(grid)
    axes = [np.array_split(np.arange(side), min(cuts, side)) for side in grid]
    return [torch.from_numpy(places[np.ix_(*part)].ravel()) for part in product(*axes)]


def rectangle(words: str, grid: tuple[int, ...]) -> Tensor:
    """The patches of `TOP,LEFT,HEIGHT,WIDTH`: first where it begins along each axis, then how far it goes."""
    numbers = words.split(",")
    wanted = f"--masking {words!r} is none of each, quadrants, blocks, or {2 * len(grid)} numbers of patches"
    if len(numbers) != 2 * len(grid) or not all(n.strip().isdecimal() and len(n) < 9 for n in numbers):
        raise UserError(f"{wanted}, TOP,LEFT,HEIGHT,WIDTH")
    begins, sides = [int(n) for n in numbers[: len(grid)]], [int(n) for n in numbers[len(grid) :]]
    if not all(s and b + s <= g for b, s, g in zip(begins, sides, grid, strict=True)) or tuple(sides) == grid:
        raise UserError(f"{wanted} inside a grid of {'×'.join(map(str, grid))} that leave some of it to be seen")
    axes = [np.arange(b, b + s) for b, s in zip(begins, sides, strict=True)]
    return torch.from_numpy(np.arange(prod(grid)).reshape(grid)[np.ix_(*axes)].ravel())


def _drawn(grid: tuple[int, ...], rows: Sequence[int], seed: int) -> list[Asked]:
    """I-JEPA's four targets of one context; images whose contexts are of one size are asked together."""
    masks = BlockMasks.sized((grid[0], grid[1]), torch.Generator().manual_seed(mix(seed, 0)))
    drawn = [masks.drawn(1, torch.Generator().manual_seed(mix(seed, 1 + row))) for row in rows]
    asked: dict[int, list[int]] = {}
    for place, (_, keep) in enumerate(drawn):
        asked.setdefault(int(keep.sum()), []).append(place)
    return [
        Asked(
            torch.tensor(places),
            torch.stack([torch.nonzero(drawn[p][1][0])[:, 0] for p in places]),
            torch.cat([drawn[p][0] for p in places], 1),
        )
        for places in asked.values()
    ]
