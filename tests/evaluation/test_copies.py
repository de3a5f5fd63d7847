"""Copies are found in every space."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from embprobe.errors import UserError
from embprobe.evaluation.copies import (
    judge_space,
    latent_space,
    pixel_space,
    search_copies,
)
from embprobe.evaluation.features import ImageRows
from embprobe.views import Samples
from tests.conftest import Zoo

# ---- spaces


def stored(array: np.ndarray) -> Any:
    """Stands for a store's array."""
    return SimpleNamespace(shape=array.shape, take=lambda rows: array[rows])


def pictures(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("size", "real", "compared"),
    [
        ((16, 16), (16, 16), (16, 16)),
        ((16, 16), (40, 40), (16, 16)),
        ((64, 32), (48, 48), (32, 16)),
        ((64, 64), (64, 64), (32, 32)),
    ],
)
def test_pixels_are_compared_at_the_samples_size_and_at_most_32(
    size: tuple[int, int], real: tuple[int, int], compared: tuple[int, int]
) -> None:
    samples = ImageRows(stored(pictures(5, *size)), np.arange(5), size)
    space = pixel_space(samples, SimpleNamespace(array=stored(pictures(9, *real))))  # type: ignore[arg-type]
    assert space.samples.shape == (5, 3 * compared[0] * compared[1])
    (block,) = space.blocks(np.arange(9))
    assert block.shape == (9, 3 * compared[0] * compared[1]) and 0 <= block.min() < block.max() <= 1


def test_a_copy_is_itself_in_pixels_whatever_the_size_it_was_stored_at() -> None:
    real = pictures(40, 64, 64)
    samples = np.concatenate([real[:3], pictures(17, 64, 64, seed=1)])
    space = pixel_space(
        ImageRows(stored(samples), np.arange(20), (64, 64)),
        SimpleNamespace(array=stored(real)),  # type: ignore[arg-type]
    )
    test = search_copies(space, np.arange(100, 120), np.arange(20), np.arange(20, 40))
    assert test["copies"] == 3 and test["share"] == 3 / 20 and test["low"] < 3 / 20 < test["high"]
    assert sorted(test["worst"][:3]) == [[100, 0, 0.0], [101, 1, 0.0], [102, 2, 0.0]]
    assert (test["train"], test["held_out"], test["count"]) == (20, 20, 20)


def kept(train: list[int], held_out: list[int], features: np.ndarray) -> Any:
    """Stands for the view of a features artefact whose rows are those of a data set."""
    rows = {"train": np.array(train), "held_out": np.array(held_out)}
    return SimpleNamespace(
        short="0123456789", sets=list(rows), rows=rows.__getitem__, features=lambda name: stored(features[rows[name]])
    )


def test_a_judges_features_are_found_by_the_rows_of_the_data_set() -> None:
    features = np.arange(10, dtype=np.float32)[:, None].repeat(2, 1)
    space = judge_space(torch.zeros(1, 2), kept([1, 3, 4, 9], [2, 5], features))
    assert space.real(np.array([3, 9, 4]))[:, 0].tolist() == [3, 9, 4]
    assert space.real(np.array([5, 2]))[:, 0].tolist() == [5, 2]


def test_features_of_other_images_are_refused() -> None:
    space = judge_space(torch.zeros(1, 2), kept([1, 3, 4, 9], [2, 5], np.zeros((10, 2), np.float32)))
    with pytest.raises(UserError, match="features 0123456789 lack some of the images"):
        space.real(np.array([3, 6]))


def test_latents_are_compared_as_the_denoiser_sees_them(zoo: Zoo) -> None:
    samples = Samples(zoo["samples"])
    space, latents = latent_space(samples, np.array([2, 5])), samples.denoiser.latents
    every = torch.cat(list(space.blocks(latents.images.train)))
    assert space.samples.shape == (2, every.shape[1])
    channels = every.reshape(-1, latents.channels)
    torch.testing.assert_close(channels.mean(0), torch.zeros(latents.channels), rtol=0, atol=1e-3)
    drawn = samples.latents.take(np.array([2, 5])).reshape(2, -1, latents.channels)
    expected = (drawn - latents.scale.mean) / latents.scale.std
    torch.testing.assert_close(space.samples, torch.from_numpy(expected).flatten(1))
