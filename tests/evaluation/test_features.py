"""Which images a judge sees, and what it saw of them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from embprobe.errors import UserError
from embprobe.evaluation.features import (
    FeatureSet,
    ImageRows,
    compared_sets,
    feature_set,
    image_sets,
    mapped_by_name,
    picture_array,
)
from embprobe.evaluation.output import JudgeOutput
from embprobe.making import make
from embprobe.stages.features import Featurize
from embprobe.store import Store
from embprobe.views import Decoder, Features, Images, Samples, seeded_subset
from tests import tiny
from tests.conftest import Zoo


class Stored:
    """Stands for a store's array."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape = values, values.shape

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows]

    def read(self) -> np.ndarray:
        return self.values


class Kept:
    """Stands for the view of a features artefact."""

    short = "0123456789"

    def __init__(self, rows: dict[str, list[int]], classes: int = 0) -> None:
        self.of, self.classes, self.sets = rows, classes, list(rows)

    def rows(self, name: str) -> np.ndarray:
        return np.array(self.of[name])

    def features(self, name: str) -> Any:
        return Stored(self.rows(name)[:, None].astype(np.float32))

    def probabilities(self, name: str) -> Any:
        return Stored(np.full((len(self.of[name]), self.classes), 0.5, np.float32)) if self.classes else None


# ---- which images


def test_images_are_read_by_row_at_the_size_that_judges_see() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    same = ImageRows(Stored(images), np.array([5, 1, 3]), (8, 8))  # type: ignore[arg-type]
    assert np.array_equal(same.read(range(1, 3)), images[[1, 3]])
    smaller = ImageRows(Stored(images), np.array([5, 1, 3]), (4, 6))  # type: ignore[arg-type]
    assert smaller.read(range(0, 2)).shape == (2, 4, 6, 3) and smaller.read(range(0, 2)).dtype == np.uint8


def test_a_data_set_gives_its_splits_and_anything_else_one_set(zoo: Zoo) -> None:
    images, samples = Images(zoo["images"]), Samples(zoo["samples"])
    sets = image_sets(images.artefact, (16, 16), 50_000, 0, "val")
    assert np.array_equal(sets["train"].rows, images.train) and np.array_equal(sets["held_out"].rows, images.held_out)
    assert list(image_sets(images.artefact, (16, 16), 50_000, 0, None)) == ["samples"]
    (drawn,) = image_sets(samples.artefact, (16, 16), 50_000, 0, None).values()
    assert len(drawn.rows) == len(samples)


def test_a_limit_takes_a_part_of_what_a_higher_one_takes(zoo: Zoo) -> None:
    few, many = (image_sets(zoo["images"], (16, 16), n, 3, "val")["train"].rows for n in (5, 20))
    assert len(few) == 5 and set(few) < set(many)
    assert np.array_equal(few, seeded_subset(Images(zoo["images"]).train, 5, 3))


def test_reconstructions_have_no_classes_and_samples_those_asked_for(zoo: Zoo) -> None:
    decoder, samples = Decoder(zoo["decoder"]), Samples(zoo["samples"])
    array, labels = picture_array(decoder.artefact)
    assert array.shape == decoder.reconstructions.shape and labels is None
    array, labels = picture_array(samples.artefact)
    assert array.shape == samples.array.shape and np.array_equal(labels, samples.labels)


# ---- what was seen of them


def seen(count: int, classes: int = 0) -> FeatureSet:
    output = JudgeOutput(torch.arange(count)[:, None].float(), torch.rand(count, classes) if classes else None)
    return FeatureSet(output, np.arange(count) + 100, np.arange(count) % 3)


@pytest.mark.parametrize("classes", [0, 4])
def test_a_part_keeps_features_rows_and_classes_together(classes: int) -> None:
    whole = seen(10, classes)
    part = whole.where(whole.label == 1)
    assert part.output.features[:, 0].tolist() == [1, 4, 7] and part.rows.tolist() == [101, 104, 107]
    assert part.label is not None and set(part.label) == {1} and len(part) == 3
    if classes:
        assert part.output.probabilities is not None and whole.output.probabilities is not None
        assert torch.equal(part.output.probabilities, whole.output.probabilities[[1, 4, 7]])


def test_two_sets_are_cut_alike_and_a_smaller_cut_lies_in_a_larger() -> None:
    few, many = seen(50).cut(10), seen(50).cut(30)
    assert set(few.rows) < set(many.rows) and np.array_equal(few.rows, seen(50, 2).cut(10).rows)
    whole = seen(10)
    assert whole.cut(10) is whole and whole.cut(99) is whole


def test_a_digest_tells_choices_apart() -> None:
    assert seen(10).digest() == seen(10, 3).digest() != seen(10).cut(5).digest()


def test_features_are_read_with_the_classes_of_their_rows() -> None:
    labels = np.array([7, 8, 9, 7, 8])
    part = feature_set(Kept({"train": [1, 2, 4]}, classes=2), "train", labels)  # type: ignore[arg-type]
    assert (
        part.output.features[:, 0].tolist() == [1, 2, 4] and part.label is not None and part.label.tolist() == [8, 9, 8]
    )
    assert part.output.probabilities is not None and part.output.probabilities.shape == (3, 2)
    assert feature_set(Kept({"train": [1]}), "train", None).label is None  # type: ignore[arg-type]


def test_features_of_another_number_of_rows_are_refused(
    zoo: Zoo, place: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(Featurize(images=zoo["images"], judge=tiny.ENCODER, size=(16, 16), device="cpu"), place)
    whole = feature_set(Features(made), "train", None)
    assert len(whole) == len(whole.output.features) and whole.output.probabilities is None
    monkeypatch.setattr(Features, "rows", lambda self, name: np.arange(3))
    with pytest.raises(UserError, match="features of 3 train; make them again"):
        feature_set(Features(made), "train", None)


def test_a_data_set_against_itself_has_its_held_out_images_as_samples() -> None:
    reference: Any = SimpleNamespace(labels=np.arange(6))
    both: Any = Kept({"train": [0, 1, 2], "held_out": [3, 4]})
    sets = compared_sets(reference, both, None)
    assert list(sets) == ["samples", "train", "held_out"] and sets["samples"].rows.tolist() == [3, 4]
    alone: Any = Kept({"train": [0, 1, 2]})
    assert compared_sets(reference, alone, None)["samples"].rows.tolist() == [0, 1, 2]


def test_classes_are_mapped_by_name_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    birds = np.array([0, 1, 2, 0])
    found = mapped_by_name(birds, ["bird", "cat", "dog"], ["airplane", "automobile", "bird", "cat", "deer", "dog"])
    assert found is not None and found.tolist() == [2, 3, 5, 2]
    with pytest.raises(UserError, match="classes kitten are none of the reference's"):
        mapped_by_name(birds, ["bird", "kitten"], ["bird", "cat"])
    assert mapped_by_name(birds, ["images"], ["bird", "cat"]) is None
    assert "nothing is said of the class asked for" in capsys.readouterr().err
    assert mapped_by_name(None, [], ["bird"]) is None
