"""Tiny artefacts written straight into a store."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from embprobe import signals
from embprobe.errors import Interrupted
from embprobe.making import make
from embprobe.stage import Stage, option
from embprobe.store import Artefact, Store

SIDE, WIDTH, COUNT, SIZE = 4, 12, 48, 16
CLASSES = ["cat", "dog", "wild"]


@dataclass(frozen=True, kw_only=True)
class Ingest(Stage):
    """Images whose colour tells their class."""

    labelled: bool = option("", True)
    captioned: bool = option("", False)

    def run(self, out: Artefact) -> None:
        rng = np.random.default_rng(0)
        label = np.arange(COUNT, dtype=np.int32) % 3
        images = rng.integers(0, 60, (COUNT, SIZE, SIZE, 3), np.uint8)
        images[np.arange(COUNT), :, :, label] += 150
        out.create("images", images.shape, "uint8", chunk_rows=16).write(images)
        out.create("split", (COUNT,), "uint8").write((np.arange(COUNT) % 4 == 3).astype(np.uint8))
        out.write_lines("key.jsonl", [f"{i:03d}.png" for i in range(COUNT)])
        if self.captioned:
            told = [f"a {CLASSES[c]}, {'dark' if i % 2 else 'light'}" for i, c in enumerate(label)]
            out.write_lines("caption.jsonl", [None if i % 7 == 6 else caption for i, caption in enumerate(told)])
            out.write_json("words.json", {"animal": CLASSES, "tone": ["dark", "light"]})
        if self.labelled:
            out.create("label", (COUNT,), "int32").write(label)
            out.write_json("classes.json", CLASSES)
        out.note(count=COUNT, size=SIZE, splits={"train": 36, "val": 12, "test": 0})


@dataclass(frozen=True, kw_only=True)
class Extract(Stage):
    """Embeddings that are a linear picture of the images, and noise."""

    images: Artefact = option("")

    def run(self, out: Artefact) -> None:
        rng = np.random.default_rng(1)
        pixels = self.images.array("images").read().astype(np.float32) / 255
        cells = pixels.reshape(COUNT, SIDE, 4, SIDE, 4, 3).mean((2, 4))
        mix = rng.normal(size=(3, WIDTH))
        embeddings = cells @ mix + 0.05 * rng.normal(size=(COUNT, SIDE, SIDE, WIDTH)) + 3
        out.create("embeddings", embeddings.shape, "float16", chunk_rows=8).write(embeddings.astype(np.float16))


@dataclass(frozen=True, kw_only=True)
class Compress(Stage):
    """The first four channels stand for the posterior's means."""

    embeddings: Artefact = option("")

    def run(self, out: Artefact) -> None:
        latents = self.embeddings.array("embeddings").floats(slice(0, COUNT))[..., :4]
        out.create("latents", latents.shape, "float32", chunk_rows=16).write(latents)
        spread = np.random.default_rng(2).normal(-3, 1, latents.shape).astype(np.float32)
        out.create("logvar", latents.shape, "float32", chunk_rows=16).write(spread)
        out.create("mean", (4,), "float32").write(latents.mean((0, 1, 2)))
        out.create("std", (4,), "float32").write(latents.std((0, 1, 2)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def images(store: Store) -> Artefact:
    return make(Ingest(), store)


@pytest.fixture
def embeddings(store: Store, images: Artefact) -> Artefact:
    return make(Extract(images=images), store)


@pytest.fixture
def latents(store: Store, embeddings: Artefact) -> Artefact:
    return make(Compress(embeddings=embeddings), store)


@pytest.fixture
def unlabelled_latents(store: Store) -> Artefact:
    images = make(Ingest(labelled=False), store)
    return make(Compress(embeddings=make(Extract(images=images), store)), store)


@pytest.fixture
def captioned(store: Store) -> Artefact:
    return make(Ingest(captioned=True), store)


@pytest.fixture
def captioned_latents(store: Store, captioned: Artefact) -> Artefact:
    return make(Compress(embeddings=make(Extract(images=captioned), store)), store)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage, Store, int], Artefact]:
    """Makes a stage, stopping it at the n-th time it asks whether to stop, then running it again."""

    def run(stage: Stage, store: Store, after: int) -> Artefact:
        asked = 0

        def requested() -> bool:
            nonlocal asked
            asked += 1
            return asked > after

        def check() -> None:
            if requested():
                raise Interrupted("stopped; run the same command again to continue")

        with monkeypatch.context() as patch:
            patch.setattr(signals, "requested", requested)
            patch.setattr(signals, "check", check)
            with pytest.raises(Interrupted):
                make(stage, store)
        assert not store.open(stage).complete
        return make(stage, store)

    return run


def outputs(artefact: Artefact) -> dict[str, str]:
    """Checksums of everything an artefact holds."""
    return dict(sorted(artefact.folder.sums.items()))
