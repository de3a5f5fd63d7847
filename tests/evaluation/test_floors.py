"""Floors are taken at the samples' number, from images that are not in the reference."""

import numpy as np
import pytest

from embprobe.evaluation.floors import floor_of, foretold
from embprobe.metrics.estimate import Estimate
from tests.evaluation.test_reports import seen


@pytest.mark.parametrize(
    ("samples", "train", "held", "images", "from_held", "extrapolated"),
    [
        (40, 90, 60, 40, 40, False),  # enough are held out
        (60, 90, 45, 60, 45, False),  # training images that are not in the reference make them up
        (90, 90, 30, 60, 30, True),  # all training images are in the reference: halves of all there is
        (80, 90, 20, 55, 20, True),
        (50, 50, 200, 50, 50, False),
    ],
)
def test_a_floor_has_as_many_images_as_there_are_samples_or_says_so(
    samples: int, train: int, held: int, images: int, from_held: int, extrapolated: bool
) -> None:
    every = seen(train, 0)
    floor = floor_of(every, seen(held, 1), every.cut(samples), learned=False)
    assert (len(floor.images), len(floor.reference)) == (images, images)
    assert (floor.held_out, floor.extrapolated, floor.wanted) == (from_held, extrapolated, samples)
    added = floor.images.rows[from_held:]
    assert not np.isin(added, floor.reference.rows).any() and len(set(added.tolist())) == len(added)


def test_figures_are_foretold_by_the_laws_they_fall_with() -> None:
    """FD a + b/n and TV b/√n, known at n = 50 and n = 25; KID does not depend on n."""
    every = seen(80, 0)
    floor = floor_of(every, seen(20, 1), every, learned=False)
    found = {"fd": Estimate(3.0 + 100 / 50, 4.0, 6.0), "tv": Estimate(1 / 50**0.5), "kid": Estimate(0.25)}
    moved = foretold(found, {"fd": 3.0 + 100 / 25, "tv": 1 / 25**0.5, "kid": 9.0}, floor)
    assert (len(floor.images), floor.wanted) == (50, 80)
    assert moved["fd"].value == pytest.approx(3 + 100 / 80) and moved["tv"].value == pytest.approx(1 / 80**0.5)
    assert moved["fd"].ends == pytest.approx((3.25, 5.25)) and moved["kid"] == found["kid"]


def test_a_judge_that_learned_from_training_images_is_shown_held_out_ones_alone() -> None:
    every, held = seen(90, 0), seen(45, 1)
    floor = floor_of(every, held, every.cut(60), learned=True)
    assert (len(floor.images), len(floor.reference), floor.held_out, floor.wanted) == (45, 45, 45, 60)
    assert floor.extrapolated and floor.images is held
    assert floor_of(every, held, every.cut(40), learned=True).extrapolated is False
