"""Probes against closed forms and scikit-learn."""

import math

import numpy as np
import pytest
import torch

from embprobe.metrics.intervals import wilson
from embprobe.metrics.probes import (
    WIDEST,
    Normal,
    accuracy,
    chosen,
    discriminant,
    explained,
    kernel_predictions,
    linear_probe,
    mean_accuracy,
    nearest_votes,
    tuned_ridge,
)


def test_streamed_ridge_is_ridge() -> None:
    from sklearn.linear_model import Ridge

    torch.manual_seed(0)
    x, y = torch.randn(200, 6) + 3, torch.randn(200, 2)
    sums = [Normal(6, 2, "cpu") for _ in range(3)]
    for start in range(0, 180, 60):
        sums[start // 60 % 2].add(x[start : start + 60], y[start : start + 60])
    sums[2].add(x[180:], y[180:])
    weight, bias, strength = tuned_ridge(sums)
    centred = (x - x.mean(0)).double()
    alpha = strength * float(centred.square().sum(0).mean())
    reference = Ridge(alpha=alpha).fit(x.double().numpy(), y.double().numpy())
    np.testing.assert_allclose(weight.T.numpy(), reference.coef_, atol=1e-6)
    np.testing.assert_allclose(bias.numpy(), reference.intercept_, atol=1e-6)
    away = (x[180:].double() @ weight + bias - y[180:]).square().sum()
    assert sums[2].error(weight, bias) == pytest.approx(float(away), rel=1e-9)


def test_kernel_ridge_is_ridge() -> None:
    from sklearn.linear_model import RidgeCV

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 5, generator=generator, dtype=torch.float64) + 1
    y = x @ torch.randn(5, 2, generator=generator, dtype=torch.float64) + 7
    y[:, 1] += 2 * torch.randn(120, generator=generator, dtype=torch.float64)
    found = kernel_predictions(x[:100] @ x[:100].T, x[100:] @ x[:100].T, y[:100], [slice(0, 1), slice(1, 2)])
    centred = x[:100] - x[:100].mean(0)
    alphas = [float(10 ** (e / 2) * centred.square().sum(1).mean()) for e in range(-24, 25)]
    for column in range(2):
        reference = RidgeCV(alphas=alphas).fit(x[:100].numpy(), y[:100, column].numpy())
        np.testing.assert_allclose(found[:, column].numpy(), reference.predict(x[100:].numpy()), atol=1e-6)


def test_a_strength_is_never_at_the_end_of_its_range() -> None:
    for best in (-9, -20, 3, 11):
        assert chosen(lambda s, best=best: abs(2 * math.log10(s) - best)) == pytest.approx(10 ** (best / 2))  # type: ignore[misc]
    assert chosen(lambda s: s) == pytest.approx(10 ** (-WIDEST / 2)) and chosen(lambda s: -s) == 10 ** (WIDEST / 2)


def test_r2_is_one_less_error_over_variation() -> None:
    from sklearn.metrics import r2_score

    torch.manual_seed(0)
    y = torch.randn(50, 3, dtype=torch.float64)
    read = y + 0.3 * torch.randn(50, 3)
    found = explained((read - y).square().sum(1), y.square().sum(1), y)
    spread = y.var(0, correction=0)
    expected = r2_score(y.numpy(), read.numpy(), multioutput=(spread / spread.sum()).numpy())
    assert found.value == pytest.approx(expected)
    constant = torch.ones(50, 1, dtype=torch.float64)
    assert math.isnan(explained(constant[:, 0], constant[:, 0], constant).value)


def test_the_linear_probe_matches_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    torch.manual_seed(0)
    label = torch.arange(300) % 3
    x = torch.randn(300, 4) + torch.eye(3, 4)[label]
    probe, l2 = linear_probe(x, label, 3, [torch.arange(300) % 10 == 9])
    reference = LogisticRegression(C=1 / (l2 * 300), tol=1e-8, max_iter=1000).fit(x.numpy(), label.numpy())
    assert float((probe(x).numpy() == reference.predict(x.numpy())).mean()) > 0.99


def test_the_discriminant_matches_scikit_learn() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    torch.manual_seed(0)
    label = torch.tensor([0] * 200 + [1] * 60 + [3] * 40)
    x = torch.randn(300, 5) @ torch.randn(5, 5) + 2 * torch.eye(4, 5)[label]
    sums = Normal(5, 4, "cpu")
    for rows in torch.randperm(300).split(70):
        sums.add(x[rows], torch.nn.functional.one_hot(label[rows], 4))
    weight, bias = discriminant(sums, 1e-12)
    read = (x.double() @ weight + bias).argmax(1)
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(x.numpy(), label.numpy())
    assert (read.numpy() == reference.predict(x.numpy())).all() and 0.6 < float((read == label).double().mean()) < 1


def test_the_mean_of_draws_covers_images_and_draws() -> None:
    generator, inside, alone = torch.Generator().manual_seed(0), 0, 0
    for _ in range(300):
        image, draw = torch.randn(1, 60, generator=generator), torch.randn(5, 1, generator=generator)
        chance = torch.sigmoid(0.8 * image + 0.4 * draw)
        found = mean_accuracy(torch.rand(5, 60, generator=generator) < chance, 0.5)
        inside += found.low <= 0.5 <= found.high  # type: ignore[operator]
        alone += found.facts["over_images"][0] <= 0.5 <= found.facts["over_images"][1]
    assert 0.93 <= inside / 300 < 1 and alone < inside


def test_draws_that_agree_leave_the_interval_of_the_images() -> None:
    right = (torch.arange(100) < 70).expand(4, 100)
    found = mean_accuracy(right, 0.5)
    assert (found.low, found.high) == pytest.approx(wilson(70, 100), abs=0.01)  # type: ignore[comparison-overlap]
    assert mean_accuracy(torch.ones(4, 100, dtype=torch.bool), 0.5).low == wilson(100, 100)[0]


def test_neighbours_vote_by_cosine() -> None:
    x = torch.tensor([[1.0, 0.0], [9.0, 1.0], [0.0, 1.0], [0.1, 5.0], [0.0, -1.0]])
    label = torch.tensor([0, 0, 1, 1, 2])
    assert nearest_votes(x, label, torch.tensor([[100.0, 1.0], [0.01, 0.02]]), 2, 3).tolist() == [0, 1]


def test_an_accuracy_stands_beside_its_chance() -> None:
    estimate = accuracy(torch.arange(40) < 30, chance=0.4)
    assert estimate.value == 0.75 and estimate.facts == {"chance": 0.4}
    assert estimate.ends is not None and 0.59 < estimate.ends[0] < 0.75 < estimate.ends[1] < 0.87
    assert estimate.json().keys() == {"value", "low", "high", "floor", "chance"}


def test_an_r2_has_an_interval_that_ends_at_1_and_none_of_two_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    read = y + 0.01 * torch.randn(60, 2, generator=generator)
    estimate = explained((read - y).square().sum(1), y.square().sum(1), y)
    assert estimate.ends is not None and estimate.ends[0] < estimate.value <= estimate.ends[1] <= 1
    assert math.isnan(explained(y[:2, 0], y[:2].square().sum(1), y[:2]).value)
