"""Planted scenes with several creatures, far ones first: how many there are, how far each is, and which pixels are whose."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embprobe.data.creatures import CREATURES
from embprobe.data.planted import (
    FACTORS,
    Floats,
    Names,
    backdrop,
    check_factors,
    draw_factors,
    paint,
    placed,
    planted_factors,
    scenes,
    stream,
)
from embprobe.errors import UserError

OBJECT = ("creature", "x", "y", "size", "orientation", "hue", "depth")  # columns of a scene's table
NEAR, FAR, GROUND = 1.0, 2.5, 3.0  # depths of creatures, nearest and farthest, and of the ground behind them
LENGTH = 0.24, 0.32  # half a creature's length at depth 1, as a share of the side; at depth z it is a z-th of that
EDGE = 0.16  # least distance of a centre from the border, as a share of the side
TRIES = 16  # places drawn for a creature, of which the first that is clear of the others is taken, else the freest
APART = 0.75  # of the sum of their half lengths, between the centres of two that are clear of each other


class Crowds(NamedTuple):
    """`images` u8 (n,size,size,3); `depth` f16 (n,size,size), `segmentation` u8, 0 ground, else 1 + creature."""

    images: NDArray[np.uint8]
    depth: NDArray[np.float16]
    segmentation: NDArray[np.uint8]


@dataclass(frozen=True)
class Planted:
    """What scenes of a seed show, known before they are drawn: `factors` f32 (N,F), columns as in FACTORS.

    Of several creatures those of the nearest, and for each scene `count` and `objects` (N,most,7), far first; rows that a
    scene does not have are not numbers.
    """

    seed: int
    vary: Names
    several: tuple[int, ...]
    factors: Floats
    objects: Floats | None = None

    @property
    def columns(self) -> dict[str, tuple[NDArray[np.generic], str]]:
        """More that is known of each scene, and its type, by name."""
        if self.objects is None:
            return {}
        count = (~np.isnan(self.objects[..., 0])).sum(1)
        return {"count": (count, "uint8"), "objects": (self.objects, "float32")}

    @property
    def maps(self) -> dict[str, str]:
        """Types of what is drawn for every pixel beside its colour, by name."""
        return {} if self.objects is None else {"depth": "float16", "segmentation": "uint8"}

    def draw(self, start: int, stop: int, size: int) -> list[NDArray[Any]]:  # Any: u8 and f16
        """Images u8 (n,size,size,3) of these scenes, then their `maps`."""
        if self.objects is None:
            return [scenes(self.seed, start, stop, size, self.vary).images]
        return list(crowds(self.seed, start, stop, size, (self.several[0], self.several[1])))


def planted_plan(seed: int, count: int, vary: Names = (), several: tuple[int, ...] = ()) -> Planted:
    """What the first scenes of a seed show; `several`: least and most creatures, else one."""
    if not several:
        return Planted(seed, vary, several, planted_factors(seed, count, vary))
    each = [draw_plan(stream(seed, index), (several[0], several[1])) for index in range(count)]
    factors, objects = (np.stack(part) for part in zip(*each, strict=True))
    return Planted(seed, vary, several, factors, objects)


def check_scenes(vary: Names, several: tuple[int, ...]) -> None:
    """Raises UserError for factors that nothing is drawn from, and for numbers of creatures that can't be."""
    check_factors(vary)
    if several and (len(several) != 2 or several[0] > several[1]):
        raise UserError("--objects is the least and the most creatures a scene, such as 1,4; give these two")
    if several and vary:
        raise UserError("--vary has no meaning with --objects, where everything varies; leave one of them out")


def crowds(seed: int, start: int, stop: int, size: int, objects: tuple[int, int]) -> Crowds:
    """Scenes start … stop-1 of a seed, each with as many creatures as lie between two numbers, uniformly."""
    drawn = [crowd(seed, index, size, objects) for index in range(start, stop)]
    return Crowds(*(np.ascontiguousarray(np.stack(part)) for part in zip(*drawn, strict=True)))


def crowd(
    seed: int, index: int, size: int, objects: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float16], NDArray[np.uint8]]:
    """One scene u8 (size,size,3), its depth and segmentation (size,size)."""
    rng = stream(seed, index)
    factors, table = draw_plan(rng, objects)
    value = dict(zip((f.name for f in FACTORS), map(float, factors), strict=True))
    x, y, light, image = backdrop(value, rng.random(8, dtype=np.float32), size)
    depth, owner = np.full((size, size), GROUND, np.float16), np.zeros((size, size), np.uint8)
    for row in table[~np.isnan(table[:, 0])]:
        mine = dict(zip(OBJECT, map(float, row), strict=True))
        body = list(CREATURES.values())[int(mine["creature"])]
        inside = paint(image, body, *placed(mine, x, y), mine, light) <= 0
        depth[inside], owner[inside] = mine["depth"], 1 + int(mine["creature"])
    image = np.clip(image, 0, 1)
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(value["noise"])
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), depth, owner


def draw_plan(rng: np.random.Generator, objects: tuple[int, int]) -> tuple[Floats, Floats]:
    """A scene's factors (F,) with those of the nearest creature in their places, and all creatures (most,7), far first."""
    factors = draw_factors(rng)
    number = int(rng.integers(objects[0], objects[1] + 1))
    table = np.full((objects[1], len(OBJECT)), np.nan)
    for row in range(number):
        depth = rng.uniform(NEAR, FAR)
        size = rng.uniform(*LENGTH) / depth
        x, y = free_place(rng.uniform(EDGE, 1 - EDGE, (TRIES, 2)), size, table[:row])
        table[row] = rng.integers(len(CREATURES)), x, y, size, rng.random(), rng.random(), depth
    table = table[np.argsort(-table[:, -1], kind="stable")]  # those that are not there come last
    names = [factor.name for factor in FACTORS]
    for name, value in zip(OBJECT[:-1], table[number - 1], strict=False):
        factors[names.index(name)] = value
    return factors, table.astype(np.float32)


def free_place(places_T2: NDArray[np.float64], size: float, others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first place (2,) that is clear of the other creatures, else the one with most room."""
    if not len(others):
        first: NDArray[np.float64] = places_T2[0]
        return first
    away = np.hypot(*(places_T2[:, None] - others[:, 1:3]).transpose(2, 0, 1))
    room = (away / (size + others[:, 3])).min(1)
    clear = np.nonzero(room >= APART)[0]
    freest: NDArray[np.float64] = places_T2[clear[0] if len(clear) else room.argmax()]
    return freest
