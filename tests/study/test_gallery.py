"""Sheets of samples by class, white where a class has too few."""

from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from embprobe.store import Artefact
from embprobe.study.gallery import ACROSS, CLASSES, asked_for, class_rows, pictures
from embprobe.views import Samples


def test_each_class_has_a_line_of_its_first_images() -> None:
    label = np.array([1, 0, 1, 1, 0])
    places, beside = class_rows(label, ["cat", "dog", "absent"])
    lines = places.reshape(-1, ACROSS)
    assert beside == ("cat", "dog")
    assert lines[0].tolist() == [1, 4] + [-1] * 6 and lines[1].tolist() == [0, 2, 3] + [-1] * 5


def test_no_more_classes_are_shown_than_fit() -> None:
    places, beside = class_rows(np.arange(30), [str(c) for c in range(30)])
    assert len(beside) == CLASSES and len(places) == CLASSES * ACROSS


def test_a_missing_image_is_white() -> None:
    images = SimpleNamespace(take=lambda rows: np.zeros((len(rows), 2, 2, 3), np.uint8))
    shown = pictures(images, np.array([0, -1]))  # type: ignore[arg-type]
    assert (shown[0] == 0).all() and (shown[1] == 255).all()


def test_prompts_that_come_again_have_a_row_each() -> None:
    class Drawn(Samples):
        prompts: ClassVar[list[str | None]] = ["a cat", None, "a cat", None, "a dog", "a dog"]  # type: ignore[assignment]

    shown = Drawn(Artefact(Path("store"), "sample", "0" * 32))
    places, names = asked_for(shown)
    assert places is not None and places.tolist() == [0, 1, 0, 1, 2, 2] and names == ["a cat", "no prompt", "a dog"]
    Drawn.prompts = ["a cat", "a dog", "a fish"]
    assert asked_for(shown) == (None, [])
