"""Evaluation on sets whose figures are known: the data itself, swapped labels, dropped classes."""

from dataclasses import dataclass

import numpy as np
import pytest

from embprobe.errors import UserError
from embprobe.make import make
from embprobe.stage import Stage, opt
from embprobe.stages.classify import Classify
from embprobe.stages.evaluate import Evaluate
from embprobe.store import Artefact, Store
from tests.stages.conftest import CLASSES, SIZE

COUNT = 60


@dataclass(frozen=True, kw_only=True)
class Sample(Stage):
    """Samples in the manner of the tiny data set: their colour tells their class."""

    swapped: bool = opt("", False)
    classes: int = opt("", 3)

    def run(self, out: Artefact) -> None:
        rng = np.random.default_rng(7)
        label = np.arange(COUNT, dtype=np.int32) % self.classes
        images = rng.integers(0, 60, (COUNT, SIZE, SIZE, 3), np.uint8)
        images[np.arange(COUNT), :, :, label] += 150
        out.create("images", images.shape, "uint8").write(images)
        out.create("label", (COUNT,), "int32").write(np.array([1, 0, 2], np.int32)[label] if self.swapped else label)
        out.write_json("classes.json", CLASSES)
        out.note(size=SIZE, count=COUNT)


@pytest.fixture
def judge(images: Artefact, store: Store) -> Artefact:
    return make(Classify(images=images, steps=40, batch=16, flip=False, device="cpu"), store)


def evaluated(samples: Stage, images: Artefact, judge: Artefact | str, store: Store) -> dict:
    stage = Evaluate(samples=make(samples, store), reference=images, judge=judge, device="cpu")
    made = make(stage.prepare(lambda first: make(first, store)), store)
    return made.read_json("metrics.json")["judges"]["judge"]


def test_good_samples_are_near_the_floor_and_of_the_class_asked(images: Artefact, judge: Artefact, store: Store):
    found = evaluated(Sample(), images, judge, store)
    assert found["count"] == 36  # as many samples as training images
    assert found["metrics"]["asked_class"]["value"] > 0.9
    assert found["metrics"]["tv"]["value"] < 0.1
    for name in ("fd", "kid", "score", "tv", "precision", "recall"):
        figure = found["metrics"][name]
        assert figure["low"] <= figure["value"] <= figure["high"] and figure["floor"] is not None
    assert found["metrics"]["fd_infinity"]["reliable"] is False
    assert found["per_class"].keys() == set(CLASSES)


def test_swapped_labels_show_in_the_confusion(images: Artefact, judge: Artefact, store: Store):
    table = np.array(evaluated(Sample(swapped=True), images, judge, store)["confusion"])
    assert table[0, 1] > 15 and table[1, 0] > 15 and table[2, 2] > 15


def test_a_missing_class_shows_in_the_total_variation(images: Artefact, judge: Artefact, store: Store):
    assert evaluated(Sample(classes=2), images, judge, store)["metrics"]["tv"]["value"] == pytest.approx(
        1 / 3, abs=0.07
    )


def test_an_encoder_as_judge_gives_no_class_figures(images: Artefact, store: Store):
    found = evaluated(Sample(), images, "random:vit-16x1-h2-p4", store)
    assert {"fd", "kid", "precision", "recall"} <= found["metrics"].keys()
    assert not {"tv", "score", "asked_class"} & found["metrics"].keys()


def test_the_judge_looks_at_real_images_once(images: Artefact, judge: Artefact, store: Store):
    evaluated(Sample(), images, judge, store)
    evaluated(Sample(swapped=True), images, judge, store)
    assert len([a for a in store.artefacts() if a.stage == "features"]) == 1


def test_a_judge_of_other_classes_is_refused(images: Artefact, judge: Artefact, store: Store):
    @dataclass(frozen=True, kw_only=True)
    class Ingest(Stage):
        def run(self, out: Artefact) -> None:
            out.write_json("classes.json", ["x", "y"])

    stage = Evaluate(samples=make(Sample(), store), reference=make(Ingest(), store), judge=judge)
    with pytest.raises(UserError, match="give a judge made from the reference"):
        stage.check()
