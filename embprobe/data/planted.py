"""Planted scenes: creatures on textured grounds, drawn from known factors; scene i is a pure function of (seed, i)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embprobe.data.creatures import CREATURES, Body
from embprobe.errors import UserError, did_you_mean

Floats = NDArray[np.float32]
Names = tuple[str, ...]
TEXTURES = ("checks", "clouds", "dots", "plain", "stripes")
TURN = 2 * np.pi


@dataclass(frozen=True)
class Factor:
    """What scenes are drawn from; scalars lie in [low, high], circular ones in [0, 1), categories index `values`."""

    name: str
    kind: Literal["scalar", "circular", "category"]
    low: float = 0.0
    high: float = 1.0
    values: tuple[str, ...] = ()
    rest: float = 0.5  # where in its range a factor stays that is not to vary


FACTORS = (
    Factor("creature", "category", values=tuple(CREATURES)),
    Factor("x", "scalar", 0.34, 0.66),  # centre, as a share of the side, from the left
    Factor("y", "scalar", 0.34, 0.66),  # from the top
    Factor("size", "scalar", 0.24, 0.38),  # half the creature's length, as a share of the side
    Factor("orientation", "circular", rest=0.75),  # where the head points: 0 right, a quarter down
    Factor("hue", "circular"),  # OKLCH hue
    Factor("texture", "category", values=TEXTURES, rest=0.7),
    Factor("frequency", "scalar", 3.0, 9.0),  # periods along a side
    Factor("ground_hue", "circular"),
    Factor("light", "circular", rest=0.6),  # where the light comes from
    Factor("noise", "scalar", 0.0, 0.05, rest=0.2),  # standard deviation of Gaussian pixel noise, in units of white
)


class Scenes(NamedTuple):
    """`images` u8 (n,size,size,3); `factors` f32 (n,F), columns as in FACTORS."""

    images: NDArray[np.uint8]
    factors: Floats


def scenes(seed: int, start: int, stop: int, size: int, vary: Names = ()) -> Scenes:
    """Scenes start … stop-1 of a seed; the factors that `vary`, all if none is named, are independent and uniform."""
    drawn = [scene(seed, index, size, vary) for index in range(start, stop)]
    return Scenes(
        np.ascontiguousarray(np.stack([image for image, _ in drawn])), np.stack([factors for _, factors in drawn])
    )


def scene(seed: int, index: int, size: int, vary: Names = ()) -> tuple[NDArray[np.uint8], Floats]:
    """One scene u8 (size,size,3) and its factors f32 (F,)."""
    rng = stream(seed, index)
    factors = draw_factors(rng, vary)
    phases = rng.random(8, dtype=np.float32)
    image = render(factors, phases, size)
    image += rng.standard_normal(image.shape, dtype=np.float32) * factors[-1]
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), factors


def planted_factors(seed: int, count: int, vary: Names = ()) -> Floats:
    """The factors of the first `count` scenes, f32 (count,F)."""
    return np.stack([draw_factors(stream(seed, index), vary) for index in range(count)])


def varying(vary: Names) -> list[int]:
    """The columns of the factors that vary: all if none is named, and always the creature."""
    return [column for column, factor in enumerate(FACTORS) if not vary or column == 0 or factor.name in vary]


def factors_json() -> list[dict[str, object]]:
    """Name and kind of every column, with the values of categories and the range of scalars."""
    rows: list[dict[str, object]] = []
    for factor in FACTORS:
        row: dict[str, object] = {"name": factor.name, "kind": factor.kind}
        if factor.kind == "category":
            row["values"] = list(factor.values)
        if factor.kind == "scalar":
            row["range"] = [factor.low, factor.high]
        rows.append(row)
    return rows


def check_factors(vary: Names) -> None:
    """Raises UserError for factors that nothing is drawn from."""
    names = [factor.name for factor in FACTORS]
    for name in vary:
        if name not in names:
            raise UserError(
                f"--vary: no factor is called {name!r}{did_you_mean(name, names)}; known: {', '.join(names)}"
            )


def stream(seed: int, index: int) -> np.random.Generator:
    """The random numbers of one scene: counter-based, so that no scene depends on another."""
    return np.random.Generator(np.random.Philox(key=[seed, index]))


def draw_factors(rng: np.random.Generator, vary: Names = ()) -> Floats:
    """Independent, uniform factors f32 (F,); those that don't vary rest. The creature always varies."""
    drawn, columns = rng.random(len(FACTORS)), varying(vary)
    uniform = np.array([factor.rest for factor in FACTORS])
    uniform[columns] = drawn[columns]
    rows = [
        np.floor(u * len(factor.values)) if factor.kind == "category" else factor.low + u * (factor.high - factor.low)
        for u, factor in zip(uniform, FACTORS, strict=True)
    ]
    return np.array(rows, dtype=np.float32)


def render(factors: Floats, phases: Floats, size: int) -> Floats:
    """A scene without its noise, f32 (size,size,3) in [0, 1]."""
    value = dict(zip((factor.name for factor in FACTORS), (float(f) for f in factors), strict=True))
    x, y, light, image = backdrop(value, phases, size)
    body = list(CREATURES.values())[int(value["creature"])]
    along, across = placed(value, x, y)
    paint(image, body, along, across, value, light)
    return np.clip(image, 0, 1, out=image)


def backdrop(value: dict[str, float], phases: Floats, size: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Every pixel's x and y, the light's direction (2,), and the lit ground f32 (size,size,3)."""
    grid = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size
    x: Floats = np.broadcast_to(grid, (size, size)).astype(np.float32)
    y = x.T.copy()
    light = np.array([np.cos(TURN * value["light"]), np.sin(TURN * value["light"])], dtype=np.float32)
    image = ground(TEXTURES[int(value["texture"])], value["frequency"], value["ground_hue"], phases, x, y)
    image *= (1 + 0.22 * ((x - 0.5) * light[0] + (y - 0.5) * light[1]))[..., None]
    return x, y, light, image


def placed(value: dict[str, float], x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The creature's own coordinates, head at (1, 0), of every pixel."""
    cos, sin = np.cos(TURN * value["orientation"]), np.sin(TURN * value["orientation"])
    dx, dy = (x - value["x"]) / value["size"], (y - value["y"]) / value["size"]
    return (dx * cos + dy * sin).astype(np.float32), (dy * cos - dx * sin).astype(np.float32)


def paint(image: Floats, body: Body, along: Floats, across: Floats, value: dict[str, float], light: Floats) -> Floats:
    """Draws a creature with its shadow, rounded shading and outline over an image, in place; its signed distance."""
    size = image.shape[0]
    pixel = 1 / (size * value["size"])
    outline = distance(body.shape, along, across)
    columns, rows = np.clip(np.arange(size) + np.rint(light * 0.035 * size).astype(int)[:, None], 0, size - 1)
    shadow = outline[rows[:, None], columns]
    image *= (1 - 0.38 * coverage(shadow, 0.22))[..., None]
    base, accent = oklch(0.70, 0.16, value["hue"]), oklch(0.90, 0.09, value["hue"] + 0.10)
    colour = np.broadcast_to(base, image.shape).copy()
    over(colour, accent, coverage(distance(body.marks, along, across), pixel))
    colour *= shading(outline, light)[..., None]
    edge = np.clip(1 + outline / 0.07, 0, 1) * 0.75
    over(colour, oklch(0.30, 0.08, value["hue"]), edge.astype(np.float32))
    over(image, colour, coverage(outline, pixel))
    over(image, np.ones(3, np.float32), coverage(distance(body.eyes, along, across), pixel))
    over(image, np.full(3, 0.08, np.float32), coverage(distance(body.pupils, along, across), pixel))
    return outline


def distance(parts: Floats, along: Floats, across: Floats) -> Floats:
    """Signed distance, about, to a union of tapered capsules (P,6): both ends, then the radius at each."""
    nearest = np.full(along.shape, 9, dtype=np.float32)
    for ax, ay, bx, by, radius_a, radius_b in parts:
        dx, dy = along - ax, across - ay
        ex, ey = bx - ax, by - ay
        length = ex * ex + ey * ey
        if length > 0:
            t = np.clip((dx * ex + dy * ey) / length, 0, 1)
            dx, dy = dx - t * ex, dy - t * ey
            np.minimum(nearest, np.sqrt(dx * dx + dy * dy) - (radius_a + t * (radius_b - radius_a)), out=nearest)
        else:
            np.minimum(nearest, np.sqrt(dx * dx + dy * dy) - radius_a, out=nearest)
    return nearest


def coverage(distance: Floats, width: float) -> Floats:
    """How much of a pixel of this width lies inside, from its signed distance: an analytic antialias."""
    inside: Floats = np.clip(np.float32(0.5) - distance / np.float32(width), 0, 1)
    return inside


def over(image: Floats, colour: Floats, alpha: Floats) -> None:
    """Blends a colour over an image, in place."""
    image += alpha[..., None] * (colour - image)


def shading(outline: Floats, light: Floats) -> Floats:
    """Brightness of a puffed-up shape: its height rises with the distance from the outline."""
    depth = np.clip(-outline / 0.30, 0, 1)
    height = np.sqrt(depth * (2 - depth))
    slope_y, slope_x = np.gradient(height * (outline.shape[0] * 0.06))
    bright: Floats = 1 + np.clip(-0.5 * (slope_x * light[0] + slope_y * light[1]), -0.4, 0.3).astype(np.float32)
    return bright


def ground(texture: str, frequency: float, hue: float, phases: Floats, x: Floats, y: Floats) -> Floats:
    """A two-tone ground f32 (size,size,3)."""
    light, dark = oklch(0.90, 0.045, hue), oklch(0.74, 0.075, hue + 0.04)
    mix = pattern(texture, x * frequency + phases[0], y * frequency + phases[1], frequency / x.shape[0], phases[2:])
    image: Floats = light + mix[..., None] * (dark - light)
    return image


def pattern(texture: str, u: Floats, v: Floats, width: float, phases: Floats) -> Floats:
    """How much of the darker tone each pixel has; u and v count periods, `width` is a pixel in periods."""
    if texture == "stripes":
        return ramp(np.sin(TURN * (0.8 * u + 0.6 * v)), width)
    if texture == "checks":
        return ramp(np.sin(np.pi * u) * np.sin(np.pi * v), width / 2)
    if texture == "dots":
        return coverage(np.hypot(u % 1 - 0.5, v % 1 - 0.5) - 0.3, width)
    if texture == "clouds":
        angles = (TURN * (np.arange(5) + phases[0]) / 5).astype(np.float32)
        waves = [
            np.sin(TURN * 0.6 * (np.cos(a) * u + np.sin(a) * v + p)) for a, p in zip(angles, phases[1:], strict=True)
        ]
        soft: Floats = np.clip(0.5 + 0.28 * np.sum(waves, axis=0), 0, 1).astype(np.float32)
        return soft
    return np.full_like(u, 0.35)


def ramp(wave: Floats, width: float) -> Floats:
    """A square wave from a sine, with edges one pixel wide; `width` is a pixel in periods."""
    edges: Floats = np.clip(0.5 + wave / (TURN * width), 0, 1).astype(np.float32)
    return edges


def oklch(lightness: float, chroma: float, hue: float) -> Floats:
    """sRGB (3,) in [0, 1] of an OKLCH colour, hue in turns (Ottosson 2020): equally bright all around the circle."""
    a, b = chroma * np.cos(TURN * hue), chroma * np.sin(TURN * hue)
    to_lms = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_rgb @ (to_lms @ np.array([lightness, a, b])) ** 3, 0, 1)
    encoded: Floats = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(
        np.float32
    )
    return encoded
