"""Extraction: order, storage, statistics, resuming, memory."""

import numpy as np
import pytest
import torch

from embprobe import signals
from embprobe.encoders import tokens
from embprobe.encoders.load import load_encoder
from embprobe.errors import Interrupted
from embprobe.making import make, repaired
from embprobe.stages.extract import Extract
from embprobe.store import Store
from tests import tiny
from tests.conftest import Zoo


def test_tokens_are_the_encoders_own_in_the_images_order(zoo: Zoo):
    images, made = zoo["images"], zoo["embeddings"]
    encoder = load_encoder(tiny.ENCODER, image_size=(16, 16))
    expected = encoder(torch.from_numpy(images.array("images").read()))
    found = made.array("embeddings").floats(slice(0, None))
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)


def test_statistics_are_those_of_the_training_split(zoo: Zoo):
    made = zoo["embeddings"]
    train = zoo["images"].array("split").read() == 0
    values = made.array("embeddings").floats(slice(0, None))[train].reshape(-1, made.array("mean").shape[0])
    np.testing.assert_allclose(made.array("mean").read(), values.mean(0), atol=1e-5)
    np.testing.assert_allclose(made.array("std").read(), values.std(0), atol=1e-5)


@pytest.mark.parametrize(("storage", "tolerance"), [("bf16", 0.02), ("int8", 0.05)])
def test_every_storage_reads_back_near_the_truth(zoo: Zoo, place: Store, storage: str, tolerance: float):
    made = make(Extract(images=zoo["images"], encoder=tiny.ENCODER, storage=storage), place)
    truth = zoo["embeddings"].array("embeddings").floats(slice(0, None))
    found = made.array("embeddings").floats(slice(0, None))
    assert np.abs(found - truth).max() < tolerance * np.abs(truth).max()
    assert made.metrics["clipped"] < 0.001


def test_killed_extract_redoes_only_missing_chunks(zoo: Zoo, place: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tokens, "CHUNK_BYTES", 8 * 16 * 16 * 2)  # eight images a chunk
    stage = Extract(images=zoo["images"], encoder=tiny.ENCODER, device="cpu", forward=4)
    asked = [0]

    def check() -> None:
        asked[0] += 1
        if asked[0] > 6:
            raise Interrupted("stop")

    with monkeypatch.context() as patch:
        patch.setattr(signals, "check", check)
        with pytest.raises(Interrupted):
            make(stage, place)
    partly = place.open(stage).array("embeddings")
    missing = partly.missing()
    kept = [partly.folder.path / partly.file(chunk) for chunk in range(6) if chunk not in missing]
    before = [path.stat().st_mtime_ns for path in kept]
    assert 0 < len(missing) < 6
    made = make(stage, place)
    assert [path.stat().st_mtime_ns for path in kept] == before
    whole = make(stage, Store(place.root.parent / "whole"))
    assert made.folder.sums == whole.folder.sums
    assert np.array_equal(made.array("embeddings").read(), zoo["embeddings"].array("embeddings").read())


def test_the_forward_batch_is_not_part_of_the_question(zoo: Zoo):
    a, b = (Extract(images=zoo["images"], encoder=tiny.ENCODER, forward=n) for n in (4, 128))
    assert zoo.store.open(a).fingerprint == zoo.store.open(b).fingerprint


def test_a_pretrained_encoder_is_used_as_it_was_trained(zoo: Zoo, place: Store):
    made = make(Extract(images=zoo["images"], encoder=zoo["encoder"]), place)
    encoder = load_encoder(zoo["encoder"], image_size=(16, 16))
    expected = encoder(torch.from_numpy(zoo["images"].array("images").read(0, 4)))
    np.testing.assert_allclose(made.array("embeddings").floats(slice(0, 4)), expected.numpy(), atol=2e-3)


@pytest.mark.parametrize("forward", [3, 8, 128])
def test_moments_are_those_of_what_is_stored_whatever_the_forward_batch(
    zoo: Zoo, place: Store, forward: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tokens, "CHUNK_BYTES", 8 * 16 * 16 * 2)
    made = make(Extract(images=zoo["images"], encoder=tiny.ENCODER, device="cpu", forward=forward), place)
    values = made.array("embeddings").read().astype(np.float64)
    values[zoo["images"].array("split").read() != 0] = 0
    for chunk, found in enumerate(made.array("moments").read()):
        rows = values[chunk * 8 : chunk * 8 + 8].reshape(-1, values.shape[-1])
        np.testing.assert_allclose(found[0], rows.sum(0), rtol=1e-12, atol=1e-12 * np.abs(rows).sum())
        np.testing.assert_allclose(found[1], (rows**2).sum(0), rtol=1e-12)
    assert not made.folder.path.joinpath("checkpoints").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("storage", ["f16", "bf16", "int8"])
def test_on_a_gpu_the_rows_of_a_lost_chunk_come_back_bit_equal(
    zoo: Zoo, place: Store, storage: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tokens, "CHUNK_BYTES", 8 * 16 * 16 * (1 if storage == "int8" else 2))
    options = {"images": zoo["images"], "encoder": tiny.ENCODER, "storage": storage}
    made = make(Extract(device="cuda", forward=20, **options), place)
    path = made.path / made.array("embeddings").file(3)
    whole = path.read_bytes()
    path.unlink()
    mended = repaired(made, Extract)
    assert not mended.differ and not mended.kept and path.read_bytes() == whole
    on_cpu = make(Extract(device="cpu", **options), Store(place.root.parent / "cpu"))
    near = np.abs(made.array("embeddings").floats(slice(0, None)) - on_cpu.array("embeddings").floats(slice(0, None)))
    assert near.max() < 0.05
