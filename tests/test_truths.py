"""Studies whose truth is known: the first sentence of the answer is right in each."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from embprobe.making import make
from embprobe.stage import Stage, option
from embprobe.stages.classify import Classify
from embprobe.stages.evaluate import Evaluate
from embprobe.stages.report import Report
from embprobe.store import Artefact, Store
from tests.fake_study import Compress, Decode, Diffuse, Extract

SIZE, TRAIN, HELD, COUNT = 16, 400, 200, 300
CLASSES = ["blobs", "rows", "slopes"]


def scenes(count: int, seed: int, classes: tuple[int, ...] = (0, 1, 2)) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random pictures u8 of three colours, and their classes."""
    rng = np.random.default_rng(seed)
    label = rng.choice(classes, count)
    field = gaussian_filter(rng.normal(size=(count, SIZE, SIZE, 3)), (0, 2, 2, 0)) * 400
    field[np.arange(count), :, :, label] += 70
    return (field + 110 + rng.normal(0, 12, (count, 1, 1, 3))).clip(0, 255).astype(np.uint8), label.astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class Ingest(Stage):
    """Scenes of three classes, a third of them held out."""

    seed: int = option("", 0)

    def run(self, out: Artefact) -> None:
        images, label = scenes(TRAIN + HELD, self.seed)
        out.create("images", images.shape, "uint8").write(images)
        out.create("label", label.shape, "int32").write(label)
        out.create("split", label.shape, "uint8").write((np.arange(len(label)) >= TRAIN).astype(np.uint8))
        out.write_json("classes.json", CLASSES)
        out.write_lines("key.jsonl", [f"{i}.png" for i in range(len(label))])
        splits = {"train": TRAIN, "val": HELD, "test": 0}
        out.note(count=len(label), size=SIZE, classes=3, splits=splits)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (COUNT, SIZE, SIZE, 3), np.uint8)


KINDS: dict[str, Callable[[int], np.ndarray]] = {
    "faithful": lambda seed: scenes(COUNT, 100 + seed)[0],
    "noise": noise,
    "grainy": lambda seed: scenes(COUNT, 100 + seed)[0] // 2 + noise(seed) // 2,
    "copies": lambda seed: scenes(TRAIN + HELD, 0)[0][:COUNT],
    "two classes": lambda seed: scenes(COUNT, 100 + seed, (0, 1))[0],
}


@dataclass(frozen=True, kw_only=True)
class Sample(Stage):
    """Samples of a kind."""

    denoiser: Artefact = option("")
    decoder: Artefact = option("")
    kind: str = option("")
    guidance: float = option("", 1.0)
    sampler: str = option("", "euler")
    milestone: int | None = option("", None)
    seed: int = option("", 0)

    def spec(self) -> dict:  # type: ignore[type-arg]
        return super().spec() | {"kind": ""}  # nothing that a page could tell them apart by

    def run(self, out: Artefact) -> None:
        out.create("images", (COUNT, SIZE, SIZE, 3), "uint8").write(KINDS[self.kind](self.seed))
        out.note(size=SIZE, count=COUNT)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("truths") / "store")


def first_sentences(place: Store, a: str, b: str, judge_steps: int = 60) -> tuple[list[str], str]:
    """The answer of a page about encoders `one` and `other` whose samples are of these kinds, and its one sentence."""
    images = make(Ingest(), place)
    judge = make(Classify(images=images, steps=judge_steps, batch=32, rate=2e-3, device="cpu"), place)
    evaluated = []
    for number, (name, kind) in enumerate((("one", a), ("other", b))):
        elsewhere = make(Ingest(seed=1), place)  # so that nothing is asked of latents, which these doubles lack
        embeddings = make(Extract(images=elsewhere, encoder=f"{name} {a} {b}"), place)
        latents = make(Compress(embeddings=embeddings), place)
        decoder = make(Decode(latents=latents, images=images), place)
        denoiser = make(Diffuse(latents=latents, conditional=False), place)
        drawn = Sample(denoiser=denoiser, decoder=decoder, kind=kind, seed=number)
        control = replace(drawn, kind="noise", sampler="gaussian", seed=7)
        for samples in (make(drawn, place), make(control, place)):
            evaluated.append(make(Evaluate(samples=samples, reference=images, judges=(judge,), device="cpu"), place))
    told = make(Report(artefacts=tuple(evaluated)), place).read_json("table.json")
    return told["answer"][0]["said"], told["headline"]


def test_noise_wins_nothing(place: Store) -> None:
    said, headline = first_sentences(place, "noise", "noise")
    assert all("is not usable yet: its FD (" in s and "is not below that of latents drawn" in s for s in said[:2]), said
    assert said[2:] == ["Nobody wins."]
    assert headline == (
        "Not usable yet: the samples of one noise noise and other noise noise are no better than images drawn without any "
        "learning."
    )


def test_identical_encoders_can_t_be_told_apart(place: Store) -> None:
    said, headline = first_sentences(place, "faithful", "faithful")
    assert "can't be told apart in" in said[0] and len(said) == 1, said
    assert headline.startswith("Nobody wins: chance alone explains who is best in any of "), headline


def test_the_better_one_leads(place: Store) -> None:
    said, headline = first_sentences(place, "faithful", "grainy")
    assert said[0].startswith("one faithful grainy leads other faithful grainy in FD"), said
    assert headline.startswith(
        "one faithful grainy's latents generate better images than other faithful grainy's here"
    ), headline


def test_who_copies_has_not_won(place: Store) -> None:
    said, headline = first_sentences(place, "faithful", "copies")
    assert said[0].startswith("other faithful copies is not usable yet: it copies: at least"), said
    assert said[1] == "Nobody wins. one faithful copies has no other to be compared with."
    assert headline == (
        "Nobody wins: the samples of other faithful copies copy training images, so that one faithful copies has no other to "
        "be compared with."
    )


def test_who_drops_classes_is_behind(place: Store) -> None:
    said, headline = first_sentences(place, "two classes", "faithful")
    assert said[0].startswith("other two classes faithful leads one two classes faithful in"), said
    assert "TV" in said[0] and "coverage" in said[0]
    assert not any(s.startswith("one two classes faithful leads") for s in said)
    assert "other two classes faithful" in headline.split(" is ahead")[0].split("'s latents generate")[0], headline


def test_a_broken_judge_concludes_nothing(place: Store) -> None:
    said, headline = first_sentences(place, "faithful", "grainy", judge_steps=1)
    assert len(said) == 1 and said[0].startswith("The judge can't tell the classes ("), said
    assert said[0].endswith("nothing is concluded from it, nobody wins.")
    assert headline.startswith("Nobody wins: the judge itself can't tell the classes apart (")
