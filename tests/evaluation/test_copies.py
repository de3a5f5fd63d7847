"""Copies are found in every space, however altered a little; duplicates hide none and raise no alarm."""

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from embprobe.data.duplicates import Marks, duplicates
from embprobe.errors import UserError
from embprobe.evaluation.alignment import PixelSpace
from embprobe.evaluation.copies import Space, distinct, judge_space, latent_space, search_copies
from embprobe.evaluation.features import ImageRows
from embprobe.pixels import resized
from embprobe.store import Json
from embprobe.views import Samples
from tests.conftest import Zoo

# ---- images


class Stored:
    """Stands for a store's array, in memory."""

    n_chunks = 1

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape = values, values.shape

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows]

    def rows_of(self, _: int) -> range:
        return range(len(self))

    def chunk(self, _: int) -> np.ndarray:
        return self.values


def stored(array: np.ndarray) -> Any:
    return Stored(array)


def scenes(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth random fields: structure at every scale, as photographs have."""
    rng = np.random.default_rng(seed)
    fields = sum(
        weight * gaussian_filter(rng.normal(size=(count, height, width, 3)), (0, sigma, sigma, 0)) * sigma
        for weight, sigma in ((1.0, 1.0), (1.5, 3.0), (2.0, 8.0))
    )
    fields = fields - fields.mean((1, 2, 3), keepdims=True)
    return (128 + 45 * fields / fields.std((1, 2, 3), keepdims=True)).clip(0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def data_set(images: np.ndarray, *, grouped: bool = True) -> Any:
    """Stands for the view of a data set; with the groups that `ingest` finds, or as it was before it looked for them."""
    array = stored(images)
    return SimpleNamespace(array=array, group=duplicates(array, Marks(len(images))).group if grouped else None)


def searched(samples: np.ndarray, data: Any, train: np.ndarray, held: np.ndarray) -> dict[str, Json]:
    space = PixelSpace(ImageRows(stored(samples), np.arange(len(samples)), samples.shape[1:3]), data)
    return search_copies(space, np.arange(len(samples)), *distinct(data, train, held, train), spaces=3)


# ---- pixels


@pytest.mark.parametrize(
    ("size", "real", "compared"),
    [
        ((16, 16), (40, 40), (64, 64)),
        ((64, 32), (48, 48), (64, 32)),
        ((64, 64), (64, 64), (64, 64)),
        ((96, 72), (96, 72), (64, 48)),
    ],
)
def test_pixels_are_compared_at_the_samples_size_and_then_at_64(
    size: tuple[int, int], real: tuple[int, int], compared: tuple[int, int]
) -> None:
    space = PixelSpace(ImageRows(stored(scenes(5, *size)), np.arange(5), size), data_set(scenes(9, *real)))
    assert space.sides == compared
    fine, _ = space.reduced(np.arange(9))
    cells = [side * 7 // 16 for side in compared]
    assert fine.shape == (9, 3 * cells[0] * cells[1])


@pytest.mark.parametrize("size", [(64, 64), (64, 32), (20, 20), (150, 100)])
def test_a_copy_is_itself_in_pixels_whatever_the_size_it_was_stored_at(size: tuple[int, int]) -> None:
    real = scenes(40, 64, 64)
    samples = np.concatenate([resized(real[:3], size), scenes(17, *size, seed=1)])
    space = PixelSpace(ImageRows(stored(samples), np.arange(20), size), data_set(real))
    test = search_copies(space, np.arange(100, 120), np.arange(20), np.arange(20, 40))
    assert test["copies"] == 3 and test["share"] == 3 / 20 and test["low"] < 3 / 20 < test["high"]
    assert sorted(place for place, _, _ in test["worst"][:3]) == [100, 101, 102]
    assert all(place == row + 100 and ratio == pytest.approx(0, abs=1e-6) for place, row, ratio in test["worst"][:3])
    assert (test["train"], test["held_out"], test["count"], test["base"]) == (20, 20, 20, [0, 40])


@pytest.fixture(scope="module")
def world() -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """A data set, its training and held-out rows at 9:1, and as many fresh images."""
    images = scenes(500, 64, 64)
    return data_set(images[:300]), np.arange(270), np.arange(270, 300), images[300:]


ALTERED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flipped": lambda image: image[:, ::-1],
    "shifted": lambda image: np.pad(image, ((2, 0), (0, 2), (0, 0)), "edge")[:-2, 2:],
    "cropped": lambda image: np.asarray(Image.fromarray(image[3:-3, 3:-3]).resize((64, 64), Image.Resampling.BICUBIC)),
    "brightened": lambda image: (image * 1.3).clip(0, 255).astype(np.uint8),
    "dulled": lambda image: (image * 0.6 + 30).astype(np.uint8),
    "encoded again": lambda image: jpeg(image, 50),
}


@pytest.mark.parametrize("how", ALTERED)
def test_altered_copies_are_found(how: str, world: tuple[Any, np.ndarray, np.ndarray, np.ndarray]) -> None:
    data, train, held, fresh = world
    copies = np.stack([ALTERED[how](image) for image in data.array.values[:8]])
    test = searched(np.concatenate([copies, fresh[:92]]), data, train, held)
    assert test["copies"] == 8 and {place for place, _, _ in test["worst"][:8]} == set(range(8))
    assert test["warned"] and test["low"] > 0.02


@pytest.mark.parametrize("sigma", [0.0, 1.0, 3.0])
def test_fresh_images_and_blurred_ones_are_no_copies(
    sigma: float, world: tuple[Any, np.ndarray, np.ndarray, np.ndarray]
) -> None:
    data, train, held, fresh = world
    test = searched(gaussian_filter(fresh, (0, sigma, sigma, 0)), data, train, held)
    assert not test["warned"] and test["copies"] == 0 and test["low"] == 0


def test_flat_images_are_not_copies_of_each_other() -> None:
    images = scenes(60, 32, 32)
    images[:10] = np.arange(100, 110, dtype=np.uint8)[:, None, None, None]
    samples = np.full((30, 32, 32, 3), 200, np.uint8)
    assert searched(samples, data_set(images), np.arange(40), np.arange(40, 60))["copies"] == 0


# ---- duplicates


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("times", [5, 20])
def test_copies_of_images_that_occur_often_are_found(
    times: int, grouped: bool, world: tuple[Any, np.ndarray, np.ndarray, np.ndarray]
) -> None:
    data, train, held, fresh = world
    real = data.array.values
    again = real[:8].repeat(times - 1, axis=0)
    if grouped:
        again[::2] = [jpeg(image, 90) for image in again[::2]]
    more = data_set(np.concatenate([real, again]), grouped=grouped)
    samples = np.concatenate([real[:8], fresh[:92]])
    test = searched(samples, more, np.concatenate([train, np.arange(300, len(more.array))]), held)
    assert test["copies"] == 8 and test["warned"] and test["train"] == 270


def test_images_in_both_splits_raise_no_alarm(world: tuple[Any, np.ndarray, np.ndarray, np.ndarray]) -> None:
    data, train, _, fresh = world
    images = data.array.values
    twins = np.stack([jpeg(image, 90) for image in images[:60]])
    more = data_set(np.concatenate([images, twins]))
    test = searched(fresh[:100], more, train, np.arange(270, 360))
    assert not test["warned"] and test["held_out"] == 30 and test["copies"] == 0


def test_of_each_group_one_image_is_compared() -> None:
    data = SimpleNamespace(array=None, group=np.array([0, 0, 2, 3, 3, 5, 2, 7, 7, 9]))
    train, held = distinct(data, np.array([0, 1, 2, 3]), np.array([4, 5, 6, 7, 8]), np.array([0, 1, 2, 3, 9]))  # type: ignore[arg-type]
    assert train.tolist() == [0, 2, 3] and held.tolist() == [5, 7]


# ---- features and latents


def test_a_copier_is_inauthentic_and_fresh_samples_are_as_held_out_images() -> None:
    points = torch.randn(700, 16, generator=torch.Generator().manual_seed(0))
    space = lambda samples: Space(samples, lambda rows: points[torch.from_numpy(rows)], of_judge=True)  # noqa: E731
    train, held = np.arange(400), np.arange(400, 500)
    copier = search_copies(space(points[:200]), np.arange(200), train, held)
    fresh = search_copies(space(points[500:]), np.arange(200), train, held)
    assert copier["inauthentic"] == 1 and copier["inauthentic_floor"] == fresh["inauthentic_floor"] < 0.5
    assert fresh["inauthentic"] == pytest.approx(fresh["inauthentic_floor"], abs=0.15)


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
