"""Copies are found, fresh images and blurred ones are not taken for copies."""

import pytest
import torch
from torch import Tensor

from embprobe.metrics.memorisation import WARNING, K, Memorisation, Near, memorisation, nearest, ratios, without_own


def cloud(count: int, seed: int, width: int = 24) -> Tensor:
    """Points of unequal spread, as features have."""
    scale = torch.arange(1, width + 1).double().rsqrt()
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def judged(samples: Tensor, train: Tensor, held: Tensor, known: int = 100) -> Memorisation:
    """The test, with some held-out and training images as those that are known to be no copies."""
    real = torch.cat([held[:known], train[:known]])
    places = (torch.arange(len(held[:known])), torch.arange(len(train[:known])))
    elsewhere = [torch.full_like(part, -1) for part in places]
    left_out = ratios(
        without_own(nearest(real, train.split(100), K + 1), torch.cat([elsewhere[0], places[1]]), K),
        without_own(nearest(real, [held], K + 1), torch.cat([places[0], elsewhere[1]]), K),
    )
    to_train, to_held = nearest(samples, train.split(100)), nearest(samples, [held])
    return memorisation(to_train, to_held, len(train), len(held), left_out)


def test_nearest_is_what_all_distances_say_whatever_the_blocks() -> None:
    queries, points = cloud(50, 0), cloud(333, 1) + 1000
    queries += 1000
    distance, row = torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist").sort(1)
    for size in (1, 3, 100, 333):
        near = nearest(queries, points.split(size))
        assert torch.equal(near.row, row[:, :5]) and torch.allclose(near.distance, distance[:, :5], rtol=1e-4)


def test_held_out_samples_are_not_called_memorised() -> None:
    found = [judged(cloud(200, 3 * s), cloud(400, 3 * s + 1), cloud(200, 3 * s + 2)) for s in range(100)]
    assert sum(m.p > 0.05 for m in found) >= 90
    assert sum(m.copies for m in found) <= 0.001 * 100 * 200
    assert sum(m.nearer for m in found) / 100 == pytest.approx(2 / 3, abs=0.02)
    assert found[0].expected == 2 / 3


def test_few_copies_are_found_among_many_samples() -> None:
    train, held = cloud(800, 1), cloud(300, 2)
    samples = torch.cat([cloud(380, 3), train[:20] + 0.01 * cloud(20, 4)])
    found = judged(samples, train, held)
    called = found.ratio <= 0.5
    assert found.p < 0.01 and called[380:].all() and called[:380].sum() <= 1
    assert 0.02 < found.share[1] <= 20 / 400 <= found.share[2]


@pytest.mark.parametrize(("count", "share"), [(300, 0.05), (1000, 0.05), (1000, 0.02)])
def test_the_warning_fires_with_a_tenth_held_out(count: int, share: float) -> None:
    train, held, copies = cloud(1800, 1), cloud(200, 2), round(share * count)
    found = judged(torch.cat([cloud(count - copies, 3), train[:copies]]), train, held, known=1000)
    assert found.p < WARNING / 3 and copies <= found.copies <= 1.1 * copies + 1


def test_what_looks_copied_as_often_among_real_images_is_no_copying() -> None:
    scenes = cloud(500, 1)
    pool = torch.cat([scenes + 0.05 * cloud(500, seed) for seed in (2, 3)])  # two shots of each that nobody listed
    pool = pool[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    found = judged(scenes[:100], pool[:800], pool[800:])
    assert found.copies > 40 and found.base[0] > 100
    assert found.p > 0.05 and found.share[1] == 0


def test_equal_distances_to_training_and_held_out_images_tell_nothing() -> None:
    train, held = cloud(300, 1), cloud(100, 2)
    held[:60] = train[:60]
    found = judged(train[:60].clone(), train, held)
    assert found.nearer == pytest.approx(found.expected) and found.p_all == pytest.approx(0.5)
    assert found.copies == 0


def test_a_point_among_several_equal_ones_does_not_stand_out() -> None:
    at_zero = Near(torch.zeros(1, 5, dtype=torch.float64), torch.arange(5)[None])
    assert ratios(at_zero, at_zero).tolist() == [1.0]


def test_a_query_is_not_its_own_neighbour() -> None:
    points = cloud(50, 0)
    near = without_own(nearest(points, [points], 6), torch.arange(50), 5)
    assert near.distance.min() > 0 and not (near.row == torch.arange(50)[:, None]).any()
    away = without_own(nearest(points, [points], 6), torch.full((50,), -1), 5)
    assert (away.row[:, 0] == torch.arange(50)).all()


def test_samples_that_lean_towards_the_training_images_are_noticed_without_copies() -> None:
    train, held = cloud(600, 1), cloud(600, 2)
    found = judged(0.6 * train + 0.8 * cloud(600, 3), train, held)
    assert found.p_all < 0.001 and found.share[0] < 0.05 and found.nearer > 0.55


def test_blur_is_not_taken_for_copying() -> None:
    found = [judged(0.4 * cloud(300, 3 * s), cloud(600, 3 * s + 1), cloud(300, 3 * s + 2)) for s in range(20)]
    assert sum(m.p > 0.05 for m in found) >= 17
    assert sum(m.copies for m in found) <= 0.001 * 20 * 300


def test_many_samples_with_one_nearest_image_count_as_one() -> None:
    held, train = cloud(50, 1), cloud(50, 2)
    mode = train[:1] + 0.5 * cloud(500, 3)
    assert judged(mode, train, held).p_all > 0.001
