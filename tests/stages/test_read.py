"""Read: each reader by itself, against what must come out; stopped and continued it is whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embprobe.errors import UserError
from embprobe.making import make
from embprobe.stages.ceiling import Ceiling
from embprobe.stages.extract import Extract
from embprobe.stages.ingest import Ingest
from embprobe.stages.read import Read
from embprobe.store import Artefact, Store
from tests import tiny
from tests.stages.conftest import outputs

TRAINED: dict[str, Any] = {"steps": 25, "batch": 16, "device": "cpu"}  # Any: options of several types


def extracted(store: Store, encoder: str = "pixels:8", **scenes: Any) -> Artefact:
    given = {"source": "planted", "count": 120, "size": 32, "val_share": 0.25} | scenes
    return make(Extract(images=make(Ingest(**given), store), encoder=encoder, device="cpu"), store)


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return extracted(Store(tmp_path_factory.mktemp("read")))


@pytest.fixture(scope="module")
def crowds(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return extracted(Store(tmp_path_factory.mktemp("crowds")), "pixels:4", objects=(1, 3))


def corner_classes(store: Store, monkeypatch: pytest.MonkeyPatch) -> Artefact:
    """Embeddings of noise whose class is told by the token that carries a mark, and by no mean over tokens."""
    rng, count = np.random.default_rng(0), 600
    label = rng.integers(0, 3, count).astype(np.int32)
    images = rng.integers(0, 40, (count, 16, 16, 3), np.uint8)
    for image, kind in zip(images, label, strict=True):
        image[:4, :4] += np.array([(60, 120, 180)[kind], 0, 200], np.uint8)
        image[12:, 12:, 0] += np.uint8(180 - (0, 60, 120)[kind])  # so that the mean is the same
    split = (np.arange(count) % 4 == 3).astype(np.uint8)

    def run(self: Ingest, out: Artefact) -> None:
        for name, values in {"images": images, "label": label, "split": split}.items():
            out.create(name, values.shape, str(values.dtype)).write(values)
        out.write_json("classes.json", ["a", "b", "c"])
        out.note(count=count, size=16, splits={"train": int((split == 0).sum()), "val": int(split.sum())})

    with monkeypatch.context() as patch:
        patch.setattr(Ingest, "run", run)
        images_made = make(Ingest(source="planted", count=count, size=16), store)
    return make(Extract(images=images_made, encoder="pixels:4", device="cpu"), store)


# ---- attentive


def test_attention_finds_what_the_mean_token_hides(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = corner_classes(store, monkeypatch)
    linear = make(Read(embeddings=embeddings, reader="linear", device="cpu"), store)
    given = TRAINED | {"steps": 150, "batch": 32, "rate": 3e-3}
    attentive = make(Read(embeddings=embeddings, reader="attentive", **given), store)
    assert attentive.metrics["attentive"] > 0.9 and linear.metrics["linear"] < 0.7
    found = attentive.read_json("read.json")["attentive"]
    assert found["low"] < found["value"] <= found["high"]


def test_an_attentive_probe_stopped_and_continued_is_the_whole_one(
    embeddings: Artefact, killed: Callable[..., Artefact], tmp_path: Path
) -> None:
    stage = Read(embeddings=embeddings, reader="attentive", **TRAINED)
    whole = make(stage, Store(tmp_path / "whole"))
    part = killed(stage, Store(tmp_path / "part"), 12)
    assert outputs(part) == outputs(whole) and part.metrics == whole.metrics


def test_asked_again_costs_nothing(crowds: Artefact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = {"reader": "low-shot", "draws": 2, "device": "cpu"}
    made = make(Read(embeddings=crowds, **small), Store(tmp_path))
    monkeypatch.setattr(Read, "run", lambda *_: pytest.fail("it ran again"))
    assert make(Read(embeddings=crowds, **small), Store(tmp_path)) == made


def test_training_options_have_defaults_and_count_where_something_trains(embeddings: Artefact) -> None:
    attentive = Read(embeddings=embeddings, reader="attentive")
    assert (attentive.steps, attentive.batch) == (2000, 64) and attentive.spec()["rate"] == 1e-3
    others = {"steps", "batch", "rate", "precision", "ceiling", "beside", "draws"}
    assert not others & set(Read(embeddings=embeddings, reader="pixels").spec())
    with pytest.raises(UserError, match="--steps has no meaning for reader knn"):
        Read(embeddings=embeddings, reader="knn", steps=5)


# ---- low-shot


def test_few_labels_are_a_share_of_each_class_and_at_least_one() -> None:
    from embprobe.evaluation.low_shot import few_labels

    label = np.repeat([0, 1, 2], [200, 50, 3])
    chosen, number = few_labels(label, 0.1, np.random.default_rng(0))
    assert np.bincount(label[chosen]).tolist() == [20, 5, 1] and len(set(chosen)) == len(chosen)
    assert number[label[chosen] == 0].tolist() == list(range(20))


def test_more_labels_read_more_and_each_draw_is_told(embeddings: Artefact, store: Store) -> None:
    found = make(Read(embeddings=embeddings, reader="low-shot", draws=3, device="cpu"), store).read_json("read.json")
    few, more = found["low_shot_1"], found["low_shot_10"]
    assert few["labels"] == 6 and more["labels"] >= 9
    for estimate in (few, more):
        assert len(estimate["by_draw"]) == 3 and estimate["value"] == pytest.approx(np.mean(estimate["by_draw"]))
        assert estimate["low"] <= min(estimate["over_images"][0], estimate["value"])


# ---- dense


@pytest.fixture(scope="module")
def dense(crowds: Artefact) -> Artefact:
    return make(Read(embeddings=crowds, reader="dense", steps=10, device="cpu"), Store(crowds.root))


def test_dense_tasks_stand_between_floor_and_ceiling(dense: Artefact) -> None:
    found = dense.read_json("read.json")
    assert {"counting", "counting_r2", "counting_mae", "nearest", "depth", "segments", "segments_accuracy"} < set(found)
    assert found["depth"]["value"] > 0.1 > found["depth"]["floor"]["value"]
    assert found["segments"]["floor"]["value"] < found["segments"]["value"]
    for name in set(found) - {"protocol"}:
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
        assert found[name]["ceiling"]["value"] is not None and found[name]["floor"] is not None


def test_a_ceiling_stopped_and_continued_is_the_whole_one(
    crowds: Artefact, killed: Callable[..., Artefact], tmp_path: Path
) -> None:
    stage = Ceiling(images=crowds.inputs["images"], grid=(4, 4), **TRAINED)
    whole = make(stage, Store(tmp_path / "whole"))
    part = killed(stage, Store(tmp_path / "part"), 12)
    assert outputs(part) == outputs(whole) and part.metrics == whole.metrics


def test_encoders_of_one_grid_share_the_ceiling(
    crowds: Artefact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[tuple[int, ...]] = []
    run = Ceiling.run
    monkeypatch.setattr(Ceiling, "run", lambda self, out: (ran.append(self.grid), run(self, out)))
    random = make(
        Extract(images=crowds.inputs["images"], encoder="random:vit-16x1-h2-p4", device="cpu"), Store(tmp_path)
    )
    for embeddings in (crowds, random):
        make(Read(embeddings=embeddings, reader="dense", steps=3, device="cpu"), Store(tmp_path))
    assert ran == [(8, 8)]


def test_readers_say_what_the_images_lack(embeddings: Artefact, store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reader dense needs scenes of several creatures"):
        make(Read(embeddings=embeddings, reader="dense"), store)
    images = make(Ingest(source=str(tiny.flat_folder(tmp_path / "flat", 60)), size=16, val_share=0.25), store)
    flat = make(Extract(images=images, encoder="pixels:8", device="cpu"), store)
    with pytest.raises(UserError, match="reader attentive needs classes"):
        make(Read(embeddings=flat, reader="attentive"), store)


# ---- geometry, fine-tuning, transfer


def test_geometry_tells_rank_decay_and_likeness(embeddings: Artefact, tmp_path: Path) -> None:
    store, images = Store(embeddings.root), embeddings.inputs["images"]
    other = make(Extract(images=images, encoder="pixels:4", device="cpu"), store)
    itself = make(Read(embeddings=embeddings, reader="geometry", beside=embeddings, device="cpu"), store)
    beside = make(Read(embeddings=embeddings, reader="geometry", beside=other, device="cpu"), store)
    assert itself.metrics["cka"] == pytest.approx(1) and 0.1 < beside.metrics["cka"] < 1
    assert 1 < beside.metrics["effective_rank"] < 192 and -1 < beside.metrics["similarity_decay"] < 0
    alone = make(Read(embeddings=embeddings, reader="geometry", device="cpu"), store)
    assert set(alone.metrics) == {"effective_rank", "similarity_decay"}
    elsewhere = extracted(Store(tmp_path), count=40)
    with pytest.raises(UserError, match=r"--beside: .* is of other images"):
        make(Read(embeddings=embeddings, reader="geometry", beside=elsewhere, device="cpu"), store)


def test_fine_tuning_trains_the_last_blocks_alone_and_continues(
    embeddings: Artefact, killed: Callable[..., Artefact], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    images = embeddings.inputs["images"]
    vit = make(Extract(images=images, encoder="random:vit-16x3-h2-p8", device="cpu"), Store(embeddings.root))
    stage = Read(embeddings=vit, reader="fine-tune", blocks=2, **TRAINED)
    whole = make(stage, Store(tmp_path / "whole"))
    part = killed(stage, Store(tmp_path / "part"), 12)
    assert outputs(part) == outputs(whole) and part.metrics == whole.metrics
    kept = load_file(whole.weights())
    assert {name.split(".")[0] for name in kept} == {"0", "1", "2", "3"} and kept["3.weight"].shape == (6, 16)
    with pytest.raises(UserError, match="--blocks is 9; the encoder has 3"):
        make(Read(embeddings=vit, reader="fine-tune", blocks=9, **TRAINED), Store(tmp_path / "whole"))
    with pytest.raises(UserError, match="fine-tune needs the last layer of a ViT"):
        make(Read(embeddings=embeddings, reader="fine-tune", **TRAINED), Store(tmp_path / "whole"))


def test_a_frozen_encoder_stays_what_it_was_and_its_last_blocks_learn(embeddings: Artefact) -> None:
    import torch

    from embprobe.encoders.load import load_encoder
    from embprobe.encoders.tuning import Tuning

    encoder = load_encoder("random:vit-16x3-h2-p8", image_size=(16, 16))
    before = {k: v.clone() for k, v in encoder.network.state_dict().items()}
    task = Tuning(encoder, 1, 3, 0.1)
    (optimiser,) = task.optimisers().values()
    ((_, loss),) = task.losses(
        {"images": torch.randint(0, 255, (6, 16, 16, 3)).byte(), "label": torch.arange(6) % 3}, 0
    )
    loss.backward()
    optimiser.step()
    moved = {k.removeprefix("vit.") for k, v in encoder.network.state_dict().items() if not v.equal(before[k])}
    assert moved and all(name.startswith(("blocks.2.", "norm.")) for name in moved)


def test_a_probe_fitted_elsewhere_reads_the_classes_that_both_have(embeddings: Artefact, tmp_path: Path) -> None:
    from embprobe.stages.probe import Probe
    from embprobe.study import Study
    from embprobe.study.readings import reader_rows

    store = Store(embeddings.root)
    same = make(
        Extract(images=make(Ingest(source="planted", count=100, size=32, seed=5), store), encoder="pixels:8"), store
    )
    probe = make(Probe(embeddings=embeddings, train_on=same, device="cpu"), store)
    found = probe.read_json("probe.json")
    assert set(found) == {"linear", "knn", "protocol"}
    assert (found["protocol"]["train"], found["protocol"]["held_out"]) == (90, 30)
    own = make(Probe(embeddings=embeddings, readers=("linear",), device="cpu"), store).read_json("probe.json")
    assert found["linear"] != own["linear"]
    rows = reader_rows(Study((probe,), {same.inputs["images"].fingerprint: "others"}))
    assert [row.how for row in rows] == ["fitted on others"]
    coarse = make(Extract(images=same.inputs["images"], encoder="pixels:16", device="cpu"), store)
    with pytest.raises(UserError, match=r"--train-on: .* was made by another encoder"):
        make(Probe(embeddings=embeddings, train_on=coarse, device="cpu"), store)
    folder = tiny.class_folder(tmp_path / "cats", ["cat", "fish"], 30)
    cats = make(
        Extract(images=make(Ingest(source=str(folder), size=32), store), encoder="pixels:8", device="cpu"), store
    )
    with pytest.raises(UserError, match="shares fewer than two classes"):
        make(Probe(embeddings=embeddings, train_on=cats, device="cpu"), store)
