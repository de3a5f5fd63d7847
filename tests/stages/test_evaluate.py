"""Evaluation on sets whose figures are known: the data itself, swapped labels, dropped classes."""

from dataclasses import dataclass

import numpy as np
import pytest

from embprobe.errors import UserError
from embprobe.making import make
from embprobe.stage import Stage, option
from embprobe.stages.classify import Classify
from embprobe.stages.evaluate import Evaluate
from embprobe.store import Artefact, Store
from embprobe.views import Features
from tests import tiny
from tests.conftest import Zoo
from tests.stages.conftest import CLASSES, SIZE

COUNT = 60
METRICS = ("fd", "fd_infinity", "kid", "score", "tv", "precision", "recall", "density", "coverage", "authenticity")


@dataclass(frozen=True, kw_only=True)
class Sample(Stage):
    """Samples in the manner of the tiny data set: their colour tells their class."""

    swapped: bool = option("", False)
    classes: int = option("", 3)

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
    stage = Evaluate(samples=make(samples, store), reference=images, judges=(judge,), device="cpu")
    made = make(stage, store)
    return made.read_json("metrics.json")["judges"][0]


def test_good_samples_are_near_the_floor_and_of_the_class_asked(images: Artefact, judge: Artefact, store: Store):
    found = evaluated(Sample(), images, judge, store)
    assert found["count"] == 36  # as many samples as training images
    assert found["metrics"]["asked_class"]["value"] > 0.9
    assert found["metrics"]["tv"]["value"] < 0.1
    for name in METRICS:
        figure = found["metrics"][name]
        assert figure["low"] <= figure["value"] <= figure["high"] and figure["floor"]["value"] is not None
        assert figure["spread"]["samples"] > 0 and figure["spread"]["freedom"] >= 9
    assert found["metrics"]["fd_infinity"]["reliable"] is False
    assert found["per_class"].keys() == set(CLASSES)


def test_swapped_labels_show_in_the_confusion(images: Artefact, judge: Artefact, store: Store):
    found = evaluated(Sample(swapped=True), images, judge, store)
    table = np.array(found["confusion"])
    assert table[0, 1] > 15 and table[1, 0] > 15 and table[2, 2] > 15
    assert found["swapped"] == [[0, 1]]


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
    seen = [Features(a).source.stage for a in store.artefacts() if a.stage == "features"]
    assert sorted(seen) == ["ingest", "sample", "sample"]


def test_a_judge_of_other_classes_is_refused(images: Artefact, judge: Artefact, store: Store):
    @dataclass(frozen=True, kw_only=True)
    class Ingest(Stage):
        def run(self, out: Artefact) -> None:
            out.write_json("classes.json", ["x", "y"])

            out.note(size=SIZE, count=COUNT)
            out.create("split", (COUNT,), "uint8").write((np.arange(COUNT) % 4 == 3).astype(np.uint8))
            out.create("images", (COUNT, SIZE, SIZE, 3), "uint8").write(np.zeros((COUNT, SIZE, SIZE, 3)))

    with pytest.raises(UserError, match="give a judge made from the reference"):
        make(Evaluate(samples=make(Sample(), store), reference=make(Ingest(), store), judges=(judge,)), store)


@dataclass(frozen=True, kw_only=True)
class Copies(Stage):
    """A tenth of the samples is a training image with a little noise, the others are held-out ones."""

    images: Artefact = option("")

    @classmethod
    def name(cls) -> str:
        return "sample"

    def run(self, out: Artefact) -> None:
        real, split = self.images.array("images").read(), self.images.array("split").read()
        copied = real[split == 0][:2] // 2 * 2
        out.create("images", (20, SIZE, SIZE, 3), "uint8").write(
            np.concatenate([copied, real[split == 1], real[split == 1][:6]])
        )
        out.note(size=SIZE, count=20)


def test_copies_are_told_from_held_out_images(images: Artefact, store: Store):
    stage = Evaluate(
        samples=make(Copies(images=images), store), reference=images, judges=("random:vit-16x1-h2-p4",), device="cpu"
    )
    made = make(stage, store)
    found = made.read_json("metrics.json")["memorisation"]["pixels"]
    assert found["copies"] == 2 and found["low"] < found["share"] == 0.1 < found["high"]
    assert {(place, row) for place, row, _ in found["worst"][:2]} == {(0, 0), (1, 1)}
    assert made.metrics["copies_pixels"] == 2


def test_what_a_denoiser_drew_is_looked_at_in_every_space(zoo: Zoo):
    store = zoo.store
    stage = Evaluate(samples=zoo["samples"], reference=zoo["images"], judges=(tiny.ENCODER,), k=2, device="cpu")
    made = make(stage, store)
    found = made.read_json("metrics.json")
    assert found["memorisation"].keys() == {"pixels", "judge", "latents"}
    assert all(0 <= m["p"] <= 1 and len(m["worst"]) == 16 for m in found["memorisation"].values())
    assert found["latents"]["metrics"]["latent_fd"]["value"] > 0
    assert found["judges"][0]["probed"] is True  # the judge is the encoder under study


def test_a_data_set_against_itself_is_its_own_floor(images: Artefact, judge: Artefact, store: Store):
    stage = Evaluate(samples=images, reference=images, judges=(judge,), device="cpu")
    made = make(stage, store)
    found = made.read_json("metrics.json")["judges"][0]
    assert found["count"] == 12
    assert all(
        found["metrics"][k]["value"] == pytest.approx(found["metrics"][k]["floor"]["value"])
        for k in ("fd", "kid", "recall")
    )
