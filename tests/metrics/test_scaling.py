"""Planted exponents are found, at the stated rate; what can't be told has no exponent."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch

from embprobe.metrics.scaling import STEPS, Law, SizedTraining, fitted

WIDTHS, IMAGES, POINTS = (32, 64, 128), (200, 600, 1800), (100, 300, 900)
TRUE = {"width": 0.3, "images": 0.5, STEPS: 0.8}
Size = Callable[[float, float, float], float]


def planted(width: float, images: float, steps: float) -> float:
    """An excess that follows the law."""
    return 1000 * width**-0.3 * images**-0.5 * steps**-0.8


def trainings(law: Size = planted, noise: float = 0.0, draw: int = 0, seeds: int = 2) -> list[SizedTraining]:
    """A training for each width, number of images and seed; its own level is what most of the noise is, as in truth."""
    rng = np.random.default_rng(draw)
    found = []
    for width, images, _ in product(WIDTHS, IMAGES, range(seeds)):
        level, bend = rng.normal(0, noise), rng.normal(0, noise / 3)
        excess = {
            s: law(width, images, s) * math.exp(level + bend * math.log(s / 300) + rng.normal(0, noise / 3))
            for s in POINTS
        }
        found.append(SizedTraining({"width": width, "images": images}, excess))
    return found


def exponents(law: Law) -> dict[str, float]:
    return {e.axis: e.value for e in law.exponents}


def test_a_law_without_noise_is_found_exactly() -> None:
    law = fitted(trainings())
    assert exponents(law) == pytest.approx(TRUE) and law.trainings == 18
    assert [e.levels for e in law.exponents] == [3, 3, 3]
    by_images = law.exponents[1]
    assert by_images.doubling[0] == pytest.approx(2**-0.5)


def test_intervals_hold_the_truth_as_often_as_they_say_and_straight_lines_are_seldom_called_bent() -> None:
    laws = [fitted(trainings(noise=0.15, draw=draw)) for draw in range(200)]
    for place, axis in enumerate(TRUE):
        held = sum(law.exponents[place].low <= TRUE[axis] <= law.exponents[place].high for law in laws)
        assert law_of(laws, place) == axis and 180 <= held <= 198, (axis, held)  # 190 ± 3.2 standard deviations
    for what in ("sizes", STEPS):
        assert 1 <= sum(law.bends[what] < 0.05 for law in laws) <= 20, what


def law_of(laws: list[Law], place: int) -> str:
    (axis,) = {law.exponents[place].axis for law in laws}
    return axis


def test_where_nothing_scales_a_claim_is_rare() -> None:
    laws = [fitted(trainings(lambda *_: 20.0, noise=0.15, draw=draw)) for draw in range(200)]
    for place in range(3):
        assert 1 <= sum(law.exponents[place].p < 0.05 for law in laws) <= 20


def test_milestones_of_one_training_are_no_more_trainings() -> None:
    few = fitted(trainings(noise=0.15, seeds=1)).exponents[0]
    thrice = [
        SizedTraining(t.sizes, {s // 2**i: e for s, e in t.excess.items() for i in range(3)})
        for t in trainings(noise=0.15, seeds=1)
    ]
    again = fitted(thrice).exponents[0]
    assert (again.low, again.high) == pytest.approx((few.low, few.high))


def test_a_law_that_is_none_is_called_bent() -> None:
    def floor_missed(width: float, images: float, steps: float) -> float:
        return 5 * (width / 32) ** -3 + 5 * (images / 200) ** -3 + (steps / 100) ** -3

    law = fitted(trainings(floor_missed, noise=0.01))
    assert law.bends["sizes"] < 1e-3 and law.bends[STEPS] < 1e-3


def test_what_cannot_be_told_has_no_exponent() -> None:
    every = trainings(noise=0.1)
    along = [t for t in every if WIDTHS.index(int(t.sizes["width"])) == IMAGES.index(int(t.sizes["images"]))]
    assert exponents(fitted(along)).keys() == {STEPS}  # width and images grow together
    one_width = [t for t in every if t.sizes["width"] == 32]
    assert exponents(fitted(one_width)).keys() == {"images", STEPS}
    alone = [
        SizedTraining(every[i].sizes, {900: every[i].excess[900]}) for i in (0, 6, 2)
    ]  # as many as the law has numbers
    assert fitted(alone).exponents == () and fitted([]).exponents == ()
    apart = [SizedTraining(t.sizes, {100 + i: 1.0}) for i, t in enumerate(every)]
    assert fitted(apart).exponents == ()  # no step at which all were looked at


def test_bends_of_opposite_sign_do_not_cancel() -> None:
    def bending(width: int, seed: int) -> SizedTraining:
        sign, off = (1 if width > 32 else -1), 0.02 * (seed - 0.5)
        excess = {
            step: math.exp(-x + (0.5 * sign + off) * (x - 1) ** 2) for step, x in ((10, 0.0), (27, 1.0), (74, 2.0))
        }
        return SizedTraining({"width": width}, excess)

    law = fitted([bending(width, seed) for width in (16, 32, 64, 128) for seed in (0, 1)])
    assert law.bends["steps"] < 1e-3


def test_straight_lines_are_rarely_called_bent() -> None:
    generator, called = torch.Generator().manual_seed(0), 0
    for _ in range(300):
        trainings = []
        for width in (32, 64, 128):
            for _ in range(2):
                noise = 0.1 * torch.randn(3, generator=generator, dtype=torch.float64)
                excess = {s: 100 / s * math.exp(e) for s, e in zip((10, 30, 100), noise.tolist(), strict=True)}
                trainings.append(SizedTraining({"width": width}, excess))
        called += fitted(trainings).bends["steps"] < 0.05
    assert called <= 30  # 5 % of 300 are 15
