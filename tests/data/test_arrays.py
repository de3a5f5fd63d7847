"""Arrays of images as numpy saves them: any height, width and channels, stored as they are."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embprobe.data import arrays
from embprobe.data.sources import content_hash, open_source, read_image
from embprobe.errors import UserError
from embprobe.making import make
from embprobe.stages.ingest import Ingest
from embprobe.store import Store
from embprobe.views import Images

SPECTROGRAMS = np.random.default_rng(0).integers(0, 256, (20, 32, 96), np.uint8)


@pytest.fixture
def npy(tmp_path: Path) -> Path:
    np.save(tmp_path / "spectrograms.npy", SPECTROGRAMS)
    return tmp_path / "spectrograms.npy"


def test_rows_become_images_of_their_own_size(npy: Path, place: Store) -> None:
    images = Images(make(Ingest(source=str(npy)), place))
    assert images.size == (32, 96) and images.channels == 1 and images.classes == [] and images.labels is None
    np.testing.assert_array_equal(images.array.read()[..., 0], SPECTROGRAMS)
    assert images.artefact.metrics["size"] == [32, 96] and images.artefact.metrics["upscaled"] == 0
    assert len(images.train) == 18 and len(images.held_out) == 2


def test_columns_of_an_npz_are_labels_splits_and_keys(tmp_path: Path, place: Store) -> None:
    labels = ["bird" if i % 2 else "car" for i in range(20)]
    splits = ["val" if i > 15 else "train" for i in range(20)]
    np.savez(tmp_path / "s.npz", images=SPECTROGRAMS[..., None], label=labels, split=splits)
    images = Images(make(Ingest(source=str(tmp_path / "s.npz")), place))
    assert images.classes == ["bird", "car"] and images.held_out.tolist() == [16, 17, 18, 19]
    assert images.labels is not None and images.labels[:4].tolist() == [1, 0, 1, 0]


def test_the_size_asked_for_does_not_count_and_the_content_does(npy: Path, place: Store) -> None:
    asked = [place.open(Ingest(source=str(npy), size=size)) for size in (16, 64)]
    assert asked[0].fingerprint == asked[1].fingerprint
    first = content_hash(str(npy))
    np.save(npy, SPECTROGRAMS.reshape(20, 96, 32))
    assert content_hash(str(npy)) != first


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 3), np.uint8), r"images are uint8 \(N,H,W\) or \(N,H,W,C\)"),
        (np.zeros((4, 8, 8), np.float32), "holds float32"),
        (np.zeros((0, 8, 8), np.uint8), "images are uint8"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path / "x.npy"))


def test_columns_of_another_length_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", images=SPECTROGRAMS, label=np.zeros(3))
    with pytest.raises(UserError, match="`label` has the shape"):
        open_source(str(tmp_path / "s.npz"))


def test_objects_in_an_array_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"cannot read .*x\.npy"):
        open_source(str(tmp_path / "x.npy"))


def test_bytes_of_another_length_are_a_bad_image(npy: Path) -> None:
    source = open_source(str(npy))
    assert isinstance(read_image(source.items[0], 64, (5, 5, 5)), Exception)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_guided_diffusion_saves_is_images_and_classes(tmp_path: Path, save: Callable[..., None]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    save(tmp_path / "s.npz", pictures, np.arange(6) % 3)
    source = open_source(str(tmp_path / "s.npz"))
    assert [item.label for item in source.items] == ["0", "1", "2", "0", "1", "2"] and source.shape == (8, 8, 3)
    for item, image in zip(source.items, pictures, strict=True):
        assert item.open().read() == image.tobytes()


def test_images_that_are_packed_by_nothing_are_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LIMIT", 1000)
    np.savez(tmp_path / "s.npz", SPECTROGRAMS)
    assert len(open_source(str(tmp_path / "s.npz")).items) == 20
    np.savez_compressed(tmp_path / "s.npz", SPECTROGRAMS)
    with pytest.raises(UserError, match=r"save its images as an \.npy"):
        open_source(str(tmp_path / "s.npz"))


def test_a_member_that_is_cut_or_flipped_is_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", SPECTROGRAMS)
    whole = (tmp_path / "s.npz").read_bytes()
    for place in range(0, 200):
        data = bytearray(whole)
        data[place] ^= 0xFF
        (tmp_path / "s.npz").write_bytes(data)
        with contextlib.suppress(UserError):  # nothing else may come of it
            open_source(str(tmp_path / "s.npz"))
