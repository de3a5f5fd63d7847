"""The distance of latents is what theory gives, is 1 for real images, and grows with whatever is wrong with samples."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from embprobe.evaluation.copies import Space
from embprobe.evaluation.latents import latent_distance, over_floor, own_units
from embprobe.metrics.estimate import Estimate
from embprobe.metrics.frechet import frechet, frechet_distance

WIDTH = 192
DEVIATIONS = torch.logspace(0, -1.5, WIDTH)


def latents(count: int, seed: int, width: int = WIDTH) -> Tensor:
    """Latents (count,width) of four kinds, about 60 % of whose variance lies in the first 32 directions of a turned base."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randn(4, width, generator=torch.Generator().manual_seed(99))
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(98))).Q
    which = torch.randint(4, (count,), generator=generator)
    return (torch.randn(count, width, generator=generator) + kinds[which]) * DEVIATIONS[:width] @ turn


def judged(samples: Tensor, seed: int = 0, train: int | None = None) -> Estimate:
    """Samples against three times as many training latents, with as many held out."""
    count = len(samples)
    train = 3 * count if train is None else train
    real = latents(train + count, 1000 + seed)
    found = latent_distance(
        Space(samples, lambda rows: real[rows]), np.arange(train), np.arange(train, train + count), 0
    )
    assert found is not None
    return found


def noisy(strength: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x + strength * x.std(0) * torch.randn(x.shape, generator=torch.Generator().manual_seed(5))


def dropped(share: float) -> Callable[[Tensor], Tensor]:
    """Samples on one side of a direction in which latents vary much are replaced by others."""

    def change(x: Tensor) -> Tensor:
        side = (x - x.mean(0)) @ torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[0]
        order = side.argsort()
        kept = order[round(share * len(x)) :]
        return x[torch.cat([kept, kept[: len(x) - len(kept)]])]

    return change


DAMAGES: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "noise": [noisy(s) for s in (0.0, 0.3, 0.5, 0.7, 1.0)],
    "dropped modes": [dropped(s) for s in (0.0, 0.1, 0.25, 0.5)],
    "shrinkage": [lambda x, s=s: x.mean(0) + s * (x - x.mean(0)) for s in (1.0, 0.9, 0.8, 0.6)],  # type: ignore[misc]
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("count", [500, 2000])
def test_it_grows_with_every_damage(damage: str, count: int) -> None:
    values = [judged(change(latents(count, 7))) for change in DAMAGES[damage]]
    assert [v.value for v in values] == sorted(v.value for v in values), [v.value for v in values]
    assert values[-1].low is not None and values[-1].low > 1.2


@pytest.mark.parametrize("count", [500, 1000, 5000])
def test_real_latents_are_1_within_their_interval(count: int) -> None:
    found = [judged(latents(count, seed), seed) for seed in range(2000 // count + 1)]
    assert all(f.low is not None and f.high is not None and f.low <= 1 <= f.high for f in found)
    assert sum(f.value for f in found) / len(found) == pytest.approx(1, abs=0.05)


def test_what_is_wrong_outside_of_the_principal_directions_shows() -> None:
    """Only what the first 64 leave is made three times as wide."""
    real = latents(4000, 3)
    main = torch.linalg.svd(real - real.mean(0), full_matrices=False).Vh[:64]
    x = latents(1000, 4) - real.mean(0)
    inside = x @ main.mT @ main
    assert judged(real.mean(0) + inside + 3 * (x - inside)).value > 2
    assert judged(real.mean(0) + inside).value > 2  # and where nothing of it is left


def test_the_excess_of_two_gaussians_is_their_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    real, other, x = (torch.randn(5000, 6, generator=generator) for _ in range(3))
    scale, shift = torch.linspace(0.5, 1.5, 6), torch.linspace(-0.5, 1, 6)
    found = over_floor(x * scale + shift, real, other)
    truth = frechet(shift.double(), scale.double().square().diag(), torch.zeros(6).double(), torch.eye(6).double())
    assert found is not None and found.facts["excess"] == pytest.approx(truth, rel=0.05)
    floor = frechet_distance(other, real)
    assert found.value == pytest.approx(1 + found.facts["excess"] / floor)
    assert found.low is not None and found.high is not None and found.low < 1 + truth / floor < found.high


def test_every_direction_has_unit_variance_whatever_the_latents_scale() -> None:
    fitted = latents(3000, 1) * 1e-3 + 40
    units = own_units(fitted, 20, 0)
    assert units(fitted).shape == (3000, 40) and units(fitted).std(0).tolist() == pytest.approx([1.0] * 40, rel=1e-2)
    assert own_units(fitted[:, :5], 20, 0)(fitted[:, :5]).shape[1] <= 5


def test_all_sides_have_the_count_of_the_smallest_and_share_no_image() -> None:
    found = judged(latents(100, 0), train=150)
    assert {k: found.facts[k] for k in ("count", "directions", "fitted")} == {
        "count": 75,
        "directions": 4,
        "fitted": 75,
    }
    real = latents(22, 0)
    assert latent_distance(Space(real, lambda rows: real[rows]), np.arange(15), np.arange(15, 22), 0) is None


def test_a_floor_of_nothing_is_no_divisor() -> None:
    x = torch.randn(50, 3)
    assert over_floor(torch.randn(50, 3), x, x) is None
