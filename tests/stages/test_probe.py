"""Probe: classes, pixels and planted factors read back, each against what must come out."""

from pathlib import Path

import numpy as np
import pytest

from embprobe.errors import UserError
from embprobe.making import make
from embprobe.stages.extract import Extract
from embprobe.stages.ingest import Ingest
from embprobe.stages.probe import Probe
from embprobe.stages.read import Read
from embprobe.store import Artefact, Store
from tests.stages.conftest import outputs


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    store = Store(tmp_path_factory.mktemp("probe"))
    return make(Ingest(source="planted", count=240, size=32, val_share=0.25), store)


@pytest.fixture(scope="module")
def embeddings(planted: Artefact) -> Artefact:
    return make(Extract(images=planted, encoder="pixels:8", device="cpu"), Store(planted.root))


@pytest.fixture(scope="module")
def probed(embeddings: Artefact) -> Artefact:
    return make(Probe(embeddings=embeddings, k=5, device="cpu"), Store(embeddings.root))


def test_pixels_are_read_whole_from_pixels(probed: Artefact) -> None:
    found = probed.read_json("probe.json")
    assert found["pixel_r2"]["value"] > 0.9999
    assert set(found["factors"]) >= {"creature", "x", "hue", "texture"}
    assert found["protocol"]["train"] + found["protocol"]["held_out"] == 240


def test_pooling_hides_position(probed: Artefact) -> None:
    factors = probed.read_json("probe.json")["factors"]
    for name in ("ground_hue", "hue"):
        assert factors[name]["kind"] == "circular"
    assert factors["ground_hue"]["grid"]["value"] > 0.5
    assert factors["x"]["grid"]["value"] > factors["x"]["pooled"]["value"] + 0.2
    for fact in factors.values():
        for where in ("pooled", "grid"):
            assert fact[where]["low"] <= fact[where]["value"] <= fact[where]["high"]


def test_the_mean_colour_tells_the_class_of_coloured_images(
    store: Store, planted: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = planted.array("label").read()
    images = planted.array("images").read() // 4
    images[np.arange(240), :, :, label % 3] += 120
    rows = {"images": images, "label": (label % 3).astype(np.int32), "split": planted.array("split").read()}

    def run(self: Ingest, out: Artefact) -> None:
        for name, values in rows.items():
            out.create(name, values.shape, str(values.dtype)).write(values)
        out.write_json("classes.json", ["b", "g", "r"])
        out.note(count=240, size=32, splits=planted.metrics["splits"])

    monkeypatch.setattr(Ingest, "run", run)
    embeddings = make(Extract(images=make(Ingest(source="planted", seed=1), store), encoder="pixels:8"), store)
    found = make(Probe(embeddings=embeddings), store).read_json("probe.json")
    assert found["linear"]["value"] > 0.95 and found["knn"]["value"] > 0.95
    assert 1 / 3 <= found["linear"]["chance"] < 0.6 and "factors" not in found


def test_unlabelled_images_have_no_accuracy(store: Store, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "flat").mkdir()
    for i in range(40):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / "flat" / f"{i}.png")
    images = make(Ingest(source=str(tmp_path / "flat"), size=16, val_share=0.25), store)
    embeddings = make(Extract(images=images, encoder="random:vit-16x1-h2-p8", device="cpu"), store)
    out = make(Probe(embeddings=embeddings), store)
    assert set(out.read_json("probe.json")) == {"protocol", "pixel_r2"} and set(out.metrics) == {"pixel_r2"}


def test_asked_again_costs_nothing_and_a_repeat_is_bit_equal(
    probed: Artefact, embeddings: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Probe(embeddings=embeddings, k=5)
    copy = Store(probed.root.parent / "again")
    assert outputs(make(stage, copy)) == outputs(probed)
    monkeypatch.setattr(Probe, "run", lambda *_: pytest.fail("it ran again"))
    assert make(stage, Store(probed.root)) == probed


def test_a_reader_added_later_computes_itself_alone(
    probed: Artefact, embeddings: Artefact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[str] = []
    run = Read.run
    monkeypatch.setattr(Read, "run", lambda self, out: (ran.append(self.reader), run(self, out)))
    store = Store(tmp_path / "store")
    first = make(Probe(embeddings=embeddings, readers=("pixels", "knn"), k=5), store)
    more = make(Probe(embeddings=embeddings, readers=("linear", "knn", "pixels"), k=5), store)
    assert ran == ["knn", "pixels", "linear"]
    found, fewer = more.read_json("probe.json"), first.read_json("probe.json")
    assert {k: found[k] for k in fewer if k != "protocol"} == {k: v for k, v in fewer.items() if k != "protocol"}
    assert found["linear"] == probed.read_json("probe.json")["linear"]


def test_an_option_counts_only_for_the_reader_that_takes_it(embeddings: Artefact) -> None:
    for word, given in (("knn", {"k": 5}),):
        other = Read(embeddings=embeddings, reader=word, **given)
        assert other.spec() != Read(embeddings=embeddings, reader=word).spec()
    assert "k" not in Read(embeddings=embeddings, reader="linear").spec()
    with pytest.raises(UserError, match="--k has no meaning for reader linear, only for knn"):
        Read(embeddings=embeddings, reader="linear", k=5)
    with pytest.raises(UserError, match="--k has no meaning for reader linear, pixels"):
        Probe(embeddings=embeddings, readers=("pixels", "linear"), k=5)


def test_stopped_and_continued_equals_whole(embeddings: Artefact, probed: Artefact, killed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    part = killed(Probe(embeddings=embeddings, k=5), Store(tmp_path / "other"), 3)
    assert outputs(part) == outputs(probed) and part.metrics == probed.metrics


def test_too_few_images_are_the_users_mistake(store: Store) -> None:
    images = make(Ingest(source="planted", count=20, size=16, val_share=0.0), store)
    embeddings = make(Extract(images=images, encoder="pixels:8"), store)
    with pytest.raises(UserError, match="0 held-out images"):
        make(Probe(embeddings=embeddings), store)
