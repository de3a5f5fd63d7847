"""Colours and likeness of patch tokens, against closed forms and scikit-learn."""

import numpy as np
import pytest

from embprobe.metrics.patches import best_patches, directions, most_alike, pca_colours


def planted(count: int, scales: tuple[float, ...], width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Tokens on orthogonal directions of a wider space, and the directions (k,width)."""
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.normal(size=(width, len(scales))))[0].T
    return (random.normal(size=(count, len(scales))) * scales @ axes + 3.0).astype(np.float32), axes


def test_three_planted_directions_are_found_in_order_and_hold_everything() -> None:
    tokens, axes = planted(20_000, (5.0, 2.0, 1.0))
    colours = pca_colours(tokens)
    assert np.abs(np.abs(colours.axes @ axes.T) - np.eye(3)).max() < 0.02
    assert colours.share == pytest.approx(1.0, abs=1e-5)
    largest = np.abs(colours.axes).argmax(1)
    assert (colours.axes[np.arange(3), largest] > 0).all()


def test_the_share_is_that_of_the_planted_variances() -> None:
    tokens, _ = planted(50_000, (3.0, 2.0, 1.0, 1.0, 1.0))
    assert pca_colours(tokens).share == pytest.approx((9 + 4 + 1) / 16, abs=0.01)


def test_components_are_scikit_learns_up_to_sign() -> None:
    from sklearn.decomposition import PCA

    tokens = np.random.default_rng(1).normal(size=(500, 20)).astype(np.float32) * np.linspace(
        1, 3, 20, dtype=np.float32
    )
    colours, theirs = pca_colours(tokens), PCA(3).fit(tokens)
    assert np.allclose(np.abs(colours.axes), np.abs(theirs.components_), atol=1e-3)
    assert colours.share == pytest.approx(theirs.explained_variance_ratio_.sum(), abs=1e-5)
    assert np.allclose(np.abs(colours.components(tokens)), np.abs(theirs.transform(tokens)), atol=1e-2)


def test_colours_run_from_the_first_to_the_last_percentile_and_no_further() -> None:
    line = np.linspace(-50, 50, 101, dtype=np.float32)[:, None] * np.array([[1.0, 0, 0, 0]], np.float32)
    drawn = pca_colours(line)(line)
    assert drawn[0, 0] == drawn[1, 0] == 0 and drawn[-2, 0] == drawn[-1, 0] == 255 and drawn[50, 0] in (127, 128)
    assert (drawn[:, 1:] == 128).all()  # nothing varies there


@pytest.mark.parametrize("width", [1, 2])
def test_fewer_than_three_channels_leave_the_other_colours_even(width: int) -> None:
    tokens = np.random.default_rng(0).normal(size=(100, width)).astype(np.float32)
    colours = pca_colours(tokens)
    assert (colours(tokens)[:, width:] == 128).all() and colours.share == pytest.approx(1.0, abs=1e-5)


def test_tokens_that_are_all_the_same_are_grey() -> None:
    tokens = np.full((10, 4), 7.0, np.float32)
    assert (pca_colours(tokens)(tokens) == 128).all()


def test_likeness_is_the_cosine_of_standardised_tokens() -> None:
    random = np.random.default_rng(0)
    tokens, mean, std = random.normal(size=(6, 5, 4)), random.normal(size=4), random.uniform(1, 2, 4)
    queries = random.normal(size=(2, 4))
    found, places = best_patches(directions(queries, mean, std), directions(tokens, mean, std))
    for q, query in enumerate((queries - mean) / std):
        z = (tokens - mean) / std
        cosines = z @ query / np.linalg.norm(z, axis=-1) / np.linalg.norm(query)
        assert np.allclose(found[q], cosines.max(1), atol=1e-6) and (places[q] == cosines.argmax(1)).all()


def test_a_channel_that_never_varies_says_nothing() -> None:
    tokens = np.array([[1.0, 5.0], [-1.0, 5.0]])
    assert np.allclose(directions(tokens, np.array([0.0, 5.0]), np.array([1.0, 0.0])), [[1, 0], [-1, 0]])


def test_the_most_alike_come_first_and_of_equal_ones_the_first() -> None:
    assert most_alike(np.array([[0.1, 0.9, 0.9, 0.5]]), 3).tolist() == [[1, 2, 3]]
