"""What is seen of planted tokens; which images are shown and searched; alike patches against all cosines at once."""

from dataclasses import replace

import numpy as np
import pytest

from embprobe.errors import UserError
from embprobe.evaluation import seeing, sights
from embprobe.evaluation.seeing import Attention, Sight
from embprobe.making import make
from embprobe.stages.extract import Extract
from embprobe.store import Store
from embprobe.views import Embeddings, Images
from tests.conftest import Zoo


def sight_of(zoo: Zoo, tokens: np.ndarray) -> Sight:
    """A sight of tokens (N,h,w,D) of the zoo's images, in parts of 5."""
    images = Images(zoo["images"])
    rows = np.arange(len(images))
    return Sight(
        images,
        seeing.shown_rows(images),
        rows,
        tokens.shape[1:3],
        tokens.__getitem__,
        lambda some: [some[i : i + 5] for i in range(0, len(some), 5)],
        None,
    )


def test_planted_tokens_are_drawn_in_their_colours(zoo: Zoo) -> None:
    count = len(Images(zoo["images"]))
    planted = np.zeros((count, 2, 2, 6), np.float32)
    planted[:, 0, 1, 2], planted[:, 1, 0, 4], planted[:, 1, 1, 0] = 9, 5, 2
    planted += np.random.default_rng(0).normal(size=planted.shape).astype(np.float32) * 1e-3
    sight = sight_of(zoo, planted)
    drawn = sights.colour_row(sight, 16)
    assert drawn.shape == (8, 16, 16, 3) and sight.colours.share > 0.999
    patches = drawn.reshape(8, 2, 8, 2, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(8, 4, 64, 3)
    assert (patches == patches[:, :, :1]).all()  # one colour a patch
    colours = patches[:, :, 0].astype(int)
    assert np.abs(colours - colours[:1]).max() <= 2  # the same in every image
    for a in range(4):
        for b in range(a):
            assert np.abs(colours[0, a] - colours[0, b]).max() > 60
    assert sight.fitted.position_share > 0.99


def test_what_place_explains_is_told_and_taken_out(zoo: Zoo) -> None:
    random, count = np.random.default_rng(0), len(Images(zoo["images"]))
    place = random.normal(size=(1, 4, 4, 8)) * 3
    content = random.normal(size=(count, 1, 1, 8))
    tokens = (place + content).astype(np.float32)
    sight = sight_of(zoo, tokens)
    variance = tokens.reshape(-1, 8).var(0).sum()
    assert sight.fitted.position_share == pytest.approx(place.reshape(-1, 8).var(0).sum() / variance, abs=0.05)
    left = sight.content_maps().reshape(8, 16, 3).astype(int)
    assert np.ptp(left, axis=1).max() <= 1 and np.ptp(left, axis=0).max() > 60
    noise = sight_of(zoo, random.normal(size=(count, 4, 4, 8)).astype(np.float32))
    assert noise.fitted.position_share < 0.05


def test_alike_patches_are_those_of_all_cosines_at_once(zoo: Zoo) -> None:
    images = Images(zoo["images"])
    tokens = np.random.default_rng(1).normal(size=(len(images), 3, 4, 5)).astype(np.float32)
    sight = sight_of(zoo, tokens)
    alike = sight.alike(4, at=(0.0, 0.99))
    assert alike.place == (0, 3)
    z = (tokens - sight.fitted.tokens.mean(0)) / sight.fitted.tokens.std(0)
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    for number, row in enumerate(sight.rows):
        cosines = z @ z[row, 0, 3]
        assert np.allclose(alike.own[number], cosines[row], atol=1e-5) and alike.own[number, 0, 3] == pytest.approx(1)
        best = cosines.reshape(len(images), -1).max(1)
        group = images.group if images.group is not None else np.arange(len(images))
        best[group == group[row]] = -2
        assert alike.rows[number].tolist() == np.argsort(-best)[:4].tolist()
        for k in range(4):
            y, x = alike.places[number, k]
            assert cosines[alike.rows[number, k], y, x] == pytest.approx(float(alike.cosines[number, k]), abs=1e-5)


def test_an_image_and_its_copies_are_never_alike_to_themselves(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(zoo["images"])
    tokens = np.random.default_rng(1).normal(size=(len(images), 2, 2, 5)).astype(np.float32)
    sight = sight_of(zoo, tokens)
    pairs = np.arange(len(images)) // 2 * 2
    images.__dict__["group"] = pairs
    alike = replace(sight, images=images).alike(6)
    assert not (pairs[alike.rows] == pairs[sight.rows][:, None]).any()


def test_every_encoder_is_shown_by_the_same_held_out_images(zoo: Zoo, place: Store) -> None:
    pixels = make(Extract(images=zoo["images"], encoder="pixels:8", device="cpu"), place)
    one, other = (seeing.stored_sight(Embeddings(a)) for a in (zoo["embeddings"], pixels))
    assert one.rows.tolist() == other.rows.tolist() and set(one.rows) <= set(one.images.held_out.tolist())
    assert one.grid == (4, 4) and other.grid == (2, 2)
    assert (sights.photographs(one.images, one.rows, 32) == sights.photographs(other.images, other.rows, 32)).all()


def test_fewer_rows_are_part_of_more_and_lie_in_runs() -> None:
    few, many = (seeing.searched_rows(100_000, count) for count in (200, 2000))
    assert set(few) <= set(many) and len(many) == 2000 and (np.diff(many) > 0).all()
    assert (np.diff(many) == 1).sum() == 2000 - seeing.RUNS and many.max() > 94_000
    assert seeing.searched_rows(30, 2000).tolist() == list(range(30))


def test_tokens_that_were_never_stored_are_computed_as_they_would_have_been(zoo: Zoo) -> None:
    stored = seeing.stored_sight(Embeddings(zoo["embeddings"]))
    computed = seeing.computed_sight(zoo["embeddings"])
    assert np.abs(stored.shown - computed.shown).max() < 0.01 * np.abs(stored.shown).max()


def test_attention_is_in_units_of_an_even_share(zoo: Zoo) -> None:
    found = seeing.attention_of(zoo["embeddings"], np.array([0, 5]))
    assert found is not None and not found.by_class and found.maps.shape == (2, 4, 4)
    assert np.allclose(found.maps.mean((1, 2)), 1, atol=1e-5)
    drawn = sights.attention_row(Attention(np.eye(4)[None], True), Images(zoo["images"]), 16)
    assert drawn[0, 0, 0].sum() > 500 and drawn[0, 0, 15].sum() < 10


def test_tokens_on_no_grid_of_the_image_are_told(zoo: Zoo) -> None:
    with pytest.raises(UserError, match="grid of 1 axes"):
        seeing._plane((16,), zoo["embeddings"])


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_images_of_any_shape_and_channels_are_drawn(place: Store, tmp_path: object, channels: int) -> None:
    from pathlib import Path

    from embprobe.stages.ingest import Ingest

    path = Path(str(tmp_path)) / "a.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (12, 16, 32, channels), np.uint8))
    images = make(Ingest(source=str(path)), place)
    sight = seeing.stored_sight(Embeddings(make(Extract(images=images, encoder="pixels:8", device="cpu"), place)))
    assert sights.colour_row(sight, 64).shape[1:] == (32, 64, 3) and sight.grid == (2, 4)
    assert sights.alike_cells(sight, sight.alike(), 64, 2).shape[2:] == (64, 3)


def test_the_part_around_a_patch_holds_it_and_stays_in_the_image() -> None:
    for place in ((0, 0), (3, 7), (7, 7)):
        box = sights.patch_box(place, (8, 8))
        crop = sights.around(box)
        assert min(crop) >= 0 and max(crop) <= 1 and crop[2] - crop[0] == pytest.approx(sights.CROP)
        inside = sights.within(box, crop)
        assert min(inside) >= -1e-9 and max(inside) <= 1 + 1e-9
        assert inside[2] - inside[0] == pytest.approx(1 / 8 / sights.CROP)
