"""Neighbourhoods equal a plain search in f64, whatever the features are like."""

import pytest
import torch
from torch import Tensor

from embprobe.errors import UserError
from embprobe.metrics import manifold
from embprobe.metrics.manifold import Comparison, compare_clouds, neighbours, precision_recall


def cloud(count: int, seed: int, width: int = 4) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def plain(real: Tensor, made: Tensor, k: int) -> Comparison:
    """By definition, all differences at once."""

    def distances(a: Tensor, b: Tensor) -> Tensor:
        return (a.double()[:, None] - b.double()).square().sum(-1)

    def own(a: Tensor) -> Tensor:
        return distances(a, a).fill_diagonal_(torch.inf).sort(1).values

    real_near, made_near, across = own(real), own(made), distances(made, real)
    radius, reach = real_near[:, k - 1], made_near[:, k - 1]
    nearest = across.min(1, keepdim=True).values
    gaps = torch.where(across == nearest, real_near[:, 0], -torch.inf)
    return Comparison(
        (across <= radius).any(1),
        (across <= reach[:, None]).any(0),
        (across < radius).sum(1).double() / k,
        (across.min(0).values < radius),
        nearest[:, 0] > gaps.max(1).values,
    )


def sets(kind: str) -> tuple[Tensor, Tensor]:
    """Real and made features that rounding, ties or repetition could lead astray."""
    real, made = cloud(90, 0, 6), cloud(70, 1, 6) * 0.8
    if kind == "integers":
        return real.mul(1.5).round(), made.mul(1.5).round()
    if kind == "repeated":
        return torch.cat([real[:40], real[:30], real[:20]]), torch.cat([made[:30], real[:20], made[:20]])
    if kind == "collapsed":
        return real, torch.cat([made[:1].expand(60, -1), real[:10]])
    if kind == "offset":
        return real + 3000, made + 3000
    if kind == "clusters":
        centres = cloud(5, 2, 6).repeat(18, 1) * 100
        return centres + real * 1e-3, centres[:70] + made * 1e-3
    if kind == "f64":
        return real.double() * 1e-3 + 1e6, made.double() * 1e-3 + 1e6
    if kind == "tiny":
        return real * 1e-20, made * 1e-20
    if kind == "huge":
        return real * 1e18, made * 1e18
    return real, made


KINDS = ("plain", "integers", "repeated", "collapsed", "offset", "clusters", "f64", "tiny", "huge")


@pytest.mark.parametrize("tile", [1024, 32])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_every_decision_is_that_of_a_plain_search(monkeypatch: pytest.MonkeyPatch, kind: str, k: int, tile: int):
    monkeypatch.setattr(manifold, "TILE", tile)
    real, made = sets(kind)
    found, expected = compare_clouds(real, made, k), plain(real, made, k)
    for name in Comparison.__dataclass_fields__:
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_those_of_a_plain_search(monkeypatch: pytest.MonkeyPatch, kind: str):
    monkeypatch.setattr(manifold, "TILE", 32)
    x, _ = sets(kind)
    distances = (x.double()[:, None] - x.double()).square().sum(-1).fill_diagonal_(torch.inf)
    torch.testing.assert_close(neighbours(x, 4), distances.sort(1).values[:, :4], rtol=1e-14, atol=0)


def test_bounds_hold_the_distances():
    x, y = cloud(60, 0, 300) + 20, cloud(50, 1, 300) * 3
    pairs = manifold._Pairs(x, y, 3)
    i, j = torch.cartesian_prod(torch.arange(60), torch.arange(50)).T
    true = (x.double()[:, None] - y.double()).square().sum(-1)[i, j]
    assert pairs.kinds[0] == torch.float32
    for kind, width in zip(pairs.kinds, (1e-3, 1e-12), strict=True):
        low = pairs.low(torch.arange(60), torch.arange(50), kind)[i, j]
        high = pairs.high(low, i, j, kind)
        assert ((low.double() <= true) & (true <= high)).all() and ((high - low) / true).max() < width


def test_more_neighbours_than_a_tile_holds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(manifold, "TILE", 4)
    x = cloud(15, 0)
    distances = (x.double()[:, None] - x.double()).square().sum(-1).sort(1).values
    torch.testing.assert_close(neighbours(x, 9), distances[:, 1:10], rtol=1e-14, atol=0)


def test_neighbours_are_at_the_distances_one_reads_off_a_line():
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert neighbours(x, 2).tolist() == [[1.0, 9.0], [1.0, 4.0], [4.0, 9.0], [16.0, 36.0]]


def test_a_set_against_itself_is_all_inside_and_nothing_of_it_authentic():
    x = cloud(100, 0)
    found = compare_clouds(x, x)
    assert found.precise.all() and found.recalled.all() and found.covered.all() and not found.authentic.any()


def test_half_of_the_modes_gives_full_precision_and_half_the_recall():
    real = torch.cat([cloud(200, 0), cloud(200, 1) + 100])
    precise, recalled = precision_recall(real, real[:200].clone())
    assert precise.double().mean() == 1 and recalled.double().mean() == 0.5


def test_a_sample_on_the_radius_is_precise_but_adds_no_density():
    found = compare_clouds(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[3.0], [50.0]]), 1)
    assert found.precise.tolist() == [True, False]
    assert found.density.tolist() == [0.0, 0.0] and not found.covered.any()
    assert found.authentic.tolist() == [False, True]  # 1 from its nearest, which is 1 from the next


@pytest.mark.parametrize(("real", "made"), [(3, 9), (9, 3)])
def test_too_few_points_on_either_side_are_the_users_error(real: int, made: int):
    with pytest.raises(UserError, match="too few"):
        compare_clouds(cloud(real, 0), cloud(made, 1), 3)


def test_features_that_are_not_numbers_are_refused():
    x = cloud(20, 0)
    x[3, 1] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        neighbours(x, 3)
