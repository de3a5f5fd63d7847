"""Which images a judge sees, and that its features are those of these images."""

import numpy as np
import pytest

from embprobe.errors import UserError
from embprobe.evaluation.features import ImageRows, feature_set, image_sets
from embprobe.making import make
from embprobe.stages.features import Featurize
from embprobe.store import Store
from embprobe.views import Features, Images
from tests import tiny
from tests.conftest import Zoo


def test_a_data_set_gives_its_training_and_held_out_images_and_samples_are_one_set(zoo: Zoo) -> None:
    sets = image_sets(zoo["images"], (16, 16), 100, 0, whole=False)
    images = Images(zoo["images"])
    assert sets["train"].rows.tolist() == images.train.tolist()
    assert sets["held_out"].rows.tolist() == images.held_out.tolist()
    assert image_sets(zoo["samples"], (16, 16), 100, 0, whole=False).keys() == {"samples"}
    assert len(image_sets(zoo["images"], (16, 16), 100, 0, whole=True)["samples"].rows) == 48


def test_a_limit_takes_a_seeded_choice_and_smaller_ones_lie_in_larger(zoo: Zoo) -> None:
    small, large = (image_sets(zoo["images"], (16, 16), n, 0, whole=True)["samples"].rows for n in (5, 20))
    assert len(small) == 5 and set(small) < set(large) and list(large) == sorted(large)


def test_images_come_at_the_size_asked_for(zoo: Zoo) -> None:
    images = Images(zoo["images"])
    rows = ImageRows(images.array, np.array([3, 5]), (8, 12))
    assert rows.read(range(2)).shape == (2, 8, 12, 3)
    same = ImageRows(images.array, np.array([3, 5]), (16, 16)).read(range(1, 2))
    np.testing.assert_array_equal(same, images.array[[5]])


def test_features_of_another_number_of_rows_are_refused(zoo: Zoo, place: Store) -> None:
    made = make(Featurize(images=zoo["images"], judge=tiny.ENCODER, size=(16, 16), device="cpu"), place)
    seen = Features(made)
    whole = feature_set(seen, "train", None)
    assert len(whole) == len(whole.output.features) and whole.output.probabilities is None
    with made.locked():
        made.remove(*[n for n in made.folder.sums if n.startswith("data.zarr/train_rows/")])
        made.create("train_rows", (3,), "int64").write(np.arange(3))
    with pytest.raises(UserError, match="features of 3 train; make them again"):
        feature_set(Features(made), "train", None)


def test_a_cut_is_the_same_choice_of_every_set(zoo: Zoo, place: Store) -> None:
    made = make(Featurize(images=zoo["images"], judge=tiny.ENCODER, size=(16, 16), device="cpu"), place)
    whole = feature_set(Features(made), "train", Images(zoo["images"]).labels)
    cut = whole.cut(7)
    assert len(cut) == 7 and cut.digest() == whole.cut(7).digest() != whole.digest()
    assert cut.label is not None and len(cut.label) == 7
