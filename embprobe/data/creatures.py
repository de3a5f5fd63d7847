"""The planted creatures, as data: tapered capsules in a frame with the head at (1, 0) and the tail at (-1, 0)."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Parts = NDArray[np.float32]  # (P,6): x and y of both ends, radius at each


class Body(NamedTuple):
    """What is drawn, from below to above; `shape` is the silhouette."""

    shape: Parts
    marks: Parts
    eyes: Parts
    pupils: Parts


def parts(*rows: tuple[float, float, float, float, float, float]) -> Parts:
    """One capsule a row."""
    return np.array(rows, dtype=np.float32)


def mirrored(*rows: tuple[float, float, float, float, float, float]) -> Parts:
    """Each capsule and its mirror image across the long axis."""
    return parts(*rows, *((ax, -ay, bx, -by, ra, rb) for ax, ay, bx, by, ra, rb in rows))


def eyes(x: float, y: float, radius: float) -> tuple[Parts, Parts]:
    """A pair of eyes and their pupils, which look ahead."""
    pupil = radius * 0.55
    return mirrored((x, y, x, y, radius, radius)), mirrored((x + radius * 0.3, y, x + radius * 0.3, y, pupil, pupil))


def beetle() -> Body:
    """A round shell on six bent legs, with feelers."""
    legs = [(x, 0.4, x * 1.35, 0.88, 0.08, 0.05) for x in (0.40, -0.02, -0.45)]
    shape = np.concatenate(
        [
            parts((-0.28, 0, 0.1, 0, 0.56, 0.52), (0.62, 0, 0.62, 0, 0.28, 0.28)),
            mirrored(*legs, (0.75, 0.1, 1.05, 0.36, 0.05, 0.04)),
        ]
    )
    marks = mirrored((-0.05, 0.28, -0.05, 0.28, 0.13, 0.13), (-0.45, 0.24, -0.45, 0.24, 0.12, 0.12))
    return Body(shape, marks, *eyes(0.72, 0.15, 0.12))


def butterfly() -> Body:
    """Four wide wings on a thin body."""
    shape = np.concatenate(
        [
            parts((-0.65, 0, 0.6, 0, 0.07, 0.13)),
            mirrored(
                (0.1, 0.15, 0.42, 0.78, 0.12, 0.36),
                (-0.1, 0.15, -0.48, 0.58, 0.1, 0.27),
                (0.6, 0.05, 0.98, 0.24, 0.035, 0.035),
            ),
        ]
    )
    marks = mirrored((0.42, 0.78, 0.42, 0.78, 0.19, 0.19), (-0.48, 0.58, -0.48, 0.58, 0.13, 0.13))
    return Body(shape, marks, *eyes(0.62, 0.1, 0.1))


def fish() -> Body:
    """A long drop with a forked tail and two fins."""
    shape = np.concatenate(
        [
            parts((0.5, 0, -0.55, 0, 0.46, 0.1)),
            mirrored((-0.55, 0.02, -1.0, 0.42, 0.09, 0.12), (0.15, 0.36, -0.2, 0.66, 0.14, 0.06)),
        ]
    )
    marks = parts(
        (0.16, -0.3, 0.16, 0.3, 0.06, 0.06),
        (-0.12, -0.2, -0.12, 0.2, 0.055, 0.055),
        (-0.38, -0.1, -0.38, 0.1, 0.05, 0.05),
    )
    return Body(shape, marks, *eyes(0.66, 0.22, 0.13))


def jellyfish() -> Body:
    """A dome that trails four wavy arms."""
    bell = parts((0.42, 0, 0.42, 0, 0.54, 0.54), (0.12, -0.42, 0.12, 0.42, 0.16, 0.16))
    arms = []
    for side in (-0.46, -0.16, 0.16, 0.46):
        knots = [(0.1, side), (-0.25, side + 0.1), (-0.6, side - 0.06), (-1.0, side + 0.08)]
        arms += [(*a, *b, 0.075, 0.06) for a, b in pairwise(knots)]
    return Body(
        np.concatenate([bell, parts(*arms)]), parts((0.16, -0.36, 0.16, 0.36, 0.07, 0.07)), *eyes(0.62, 0.22, 0.13)
    )


def snake() -> Body:
    """A winding body that thins towards the tail."""
    t = np.linspace(0, 1, 15)
    x, y, radius = 0.85 - 1.85 * t, 0.42 * np.sin(2.6 * np.pi * t) * np.minimum(1, 4 * t), 0.17 - 0.12 * t
    rows = [(x[i], y[i], x[i + 1], y[i + 1], radius[i], radius[i + 1]) for i in range(14)]
    shape = np.concatenate([parts(*rows), parts((0.78, 0, 0.95, 0, 0.25, 0.2))])
    marks = parts(*((x[i], y[i], x[i], y[i], 0.6 * radius[i], 0.6 * radius[i]) for i in range(3, 14, 3)))
    return Body(shape, marks, *eyes(0.95, 0.15, 0.11))


def starfish() -> Body:
    """Five thick arms; the one with the eyes is the head."""
    angles = 2 * np.pi * np.arange(5) / 5
    arms = [(0.0, 0.0, 0.82 * np.cos(a), 0.82 * np.sin(a), 0.34, 0.14) for a in angles]
    dots = [(r * np.cos(a), r * np.sin(a)) for a in angles[1:] for r in (0.38, 0.66)]
    marks = parts(*((x, y, x, y, 0.075, 0.075) for x, y in dots))
    return Body(parts(*arms), marks, *eyes(0.52, 0.14, 0.13))


CREATURES: dict[str, Body] = {
    "beetle": beetle(),
    "butterfly": butterfly(),
    "fish": fish(),
    "jellyfish": jellyfish(),
    "snake": snake(),
    "starfish": starfish(),
}
