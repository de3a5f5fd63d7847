"""Planted scenes are pure functions of (seed, index), and show their factors."""

import numpy as np

from embprobe.data.planted import FACTORS, planted_factors, render, scenes

COLUMN = {factor.name: number for number, factor in enumerate(FACTORS)}


def rendered(**values: float) -> np.ndarray:
    """A scene 48 px wide with plain ground and a creature in the middle, but for the values given."""
    plain = {
        "x": 0.5,
        "y": 0.5,
        "size": 0.3,
        "texture": 3,
        "frequency": 5,
        "hue": 0.1,
        "ground_hue": 0.6,
        "light": 0.25,
    }
    factors = np.array([(plain | values).get(factor.name, 0.0) for factor in FACTORS], np.float32)
    return render(factors, np.full(8, 0.5, np.float32), 48)


def foreground(image: np.ndarray) -> np.ndarray:
    """Pixels far from the ground's colour in the corners."""
    return np.asarray(np.abs(image - image[0, 0]).sum(axis=-1) > 0.6)


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    whole, part = scenes(3, 0, 12, 32), scenes(3, 7, 9, 32)
    np.testing.assert_array_equal(whole.images[7:9], part.images)
    np.testing.assert_array_equal(whole.factors[7:9], part.factors)
    assert (scenes(4, 7, 9, 32).images != part.images).any()


def test_factors_come_without_drawing_and_for_any_size() -> None:
    factors = planted_factors(3, 12)
    np.testing.assert_array_equal(factors, scenes(3, 0, 12, 16).factors)
    np.testing.assert_array_equal(factors, scenes(3, 0, 12, 64).factors)


def test_factors_are_uniform_and_independent() -> None:
    factors = planted_factors(0, 4000)
    for factor, column in zip(FACTORS, factors.T, strict=True):
        low, high = (0, len(factor.values)) if factor.kind == "category" else (factor.low, factor.high)
        centred = column + 0.5 if factor.kind == "category" else column
        assert low <= column.min()
        assert column.max() <= high
        np.testing.assert_allclose(np.mean((centred - low) / (high - low)), 0.5, atol=0.02)
    off_diagonal = np.asarray(np.corrcoef(factors.T))[~np.eye(len(FACTORS), dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.07


def test_position_and_size_can_be_read_off_the_image() -> None:
    for x, y in ((0.4, 0.6), (0.6, 0.4)):
        rows, columns = np.nonzero(foreground(rendered(creature=5, x=x, y=y)))
        np.testing.assert_allclose([columns.mean() / 48, rows.mean() / 48], [x, y], atol=0.05)
    areas = [foreground(rendered(creature=0, size=size)).sum() for size in (0.24, 0.28, 0.32, 0.36)]
    assert areas == sorted(set(areas))


def test_orientation_turns_the_creature() -> None:
    right, left = (foreground(rendered(creature=2, orientation=turn, light=0.25)) for turn in (0.0, 0.5))
    assert (right[:, ::-1] == left).mean() > 0.9
    assert (right == left).mean() < 0.9


def test_every_factor_but_noise_changes_the_picture() -> None:
    base = rendered(texture=0)
    steps = {
        "creature": 1,
        "x": 0.6,
        "y": 0.6,
        "size": 0.25,
        "orientation": 0.3,
        "hue": 0.5,
        "texture": 2,
        "frequency": 8,
    }
    for name, value in (steps | {"ground_hue": 0.1, "light": 0.75}).items():
        assert np.abs(rendered(**({"texture": 0} | {name: value})) - base).mean() > 0.005, name


def test_noise_is_the_residual_of_the_scene() -> None:
    drawn = scenes(0, 0, 40, 32)
    quiet = [render(factors, np.zeros(8, np.float32), 32) for factors in drawn.factors]
    plain = drawn.factors[:, COLUMN["texture"]] == 3  # other grounds have a random phase
    for image, clean, factors in zip(drawn.images[plain], np.array(quiet)[plain], drawn.factors[plain], strict=True):
        spread = (image / 255 - clean)[4:28, 4:28].std()
        np.testing.assert_allclose(spread, factors[COLUMN["noise"]], atol=0.004)


def test_creatures_have_different_silhouettes() -> None:
    shapes = [foreground(rendered(creature=kind)) for kind in range(len(FACTORS[0].values))]
    for a in range(len(shapes)):
        for b in range(a):
            overlap = (shapes[a] & shapes[b]).sum() / (shapes[a] | shapes[b]).sum()
            assert overlap < 0.75, (FACTORS[0].values[a], FACTORS[0].values[b])


def test_factors_that_are_not_named_rest_and_the_others_stay_as_they_were() -> None:
    free, held = scenes(3, 0, 6, 16).factors, scenes(3, 0, 6, 16, ("x", "hue")).factors
    for column, factor in enumerate(FACTORS):
        same = factor.name in ("creature", "x", "hue")
        assert (held[:, column] == free[:, column]).all() == same
        assert same or len(set(held[:, column])) == 1


def test_scenes_of_plain_grounds_alone_are_contiguous() -> None:
    assert scenes(0, 0, 2, 16, ("x",)).images.flags.c_contiguous
