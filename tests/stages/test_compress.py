"""Compress: latents, their statistics, and how much of the features they keep."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from embprobe.errors import UserError
from embprobe.making import make
from embprobe.stage import Stage
from embprobe.stages.compress import Compress
from embprobe.store import Artefact, Store
from tests.stages.conftest import COUNT, SIDE, outputs

Killed = Callable[[Stage, Store, int], Artefact]
TINY = {"channels": 3, "steps": 12, "batch": 8, "device": "cpu"}


@pytest.mark.parametrize("kind", ["linear", "attention"])
def test_latents_keep_what_pca_keeps(store: Store, embeddings: Artefact, kind: str) -> None:
    out = make(Compress(embeddings=embeddings, kind=kind, **TINY), store)  # type: ignore[arg-type]
    assert out.array("latents").shape == out.array("logvar").shape == (COUNT, SIDE, SIDE, 3)
    assert out.metrics["r2"] >= out.metrics["pca_r2"] - 0.02
    assert out.metrics["active"] == 3 and len(out.metrics["kl"]) == 3


def test_the_baseline_is_pca_fitted_on_training_images_alone(
    store: Store, embeddings: Artefact, images: Artefact
) -> None:
    out = make(Compress(embeddings=embeddings, kind="linear", **TINY), store)  # type: ignore[arg-type]
    x = embeddings.array("embeddings").floats(slice(0, COUNT)).astype(np.float64)
    split = images.array("split").read()
    train, held = x[split == 0].reshape(-1, x.shape[-1]), x[split == 1].reshape(-1, x.shape[-1])
    for scale, name in ((train.std(0), "pca_r2"), (np.ones(x.shape[-1]), "pca_r2_raw")):
        a, b = (train - train.mean(0)) / scale, (held - train.mean(0)) / scale
        axes = np.linalg.svd(a, full_matrices=False)[2][:3]
        expected = 1 - ((b - b @ axes.T @ axes) ** 2).sum() / ((b - b.mean(0)) ** 2).sum()
        assert out.metrics[name] == pytest.approx(expected, abs=1e-4)


def test_mean_and_std_are_those_of_the_training_latents(store: Store, embeddings: Artefact, images: Artefact) -> None:
    out = make(Compress(embeddings=embeddings, **TINY), store)  # type: ignore[arg-type]
    train = out.array("latents").read()[images.array("split").read() == 0]
    np.testing.assert_allclose(out.array("mean").read(), train.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(out.array("std").read(), train.std((0, 1, 2)), atol=1e-5)


@pytest.mark.parametrize("after", [3, 10, 18])
def test_killed_and_continued_equals_whole(
    store: Store, embeddings: Artefact, killed: Killed, after: int, tmp_path: Path
) -> None:
    stage = Compress(embeddings=embeddings, **TINY)  # type: ignore[arg-type]
    whole = make(stage, Store(tmp_path / "other"))
    part = killed(stage, store, after)
    assert outputs(part) == outputs(whole)
    assert part.metrics == whole.metrics


def test_asked_again_costs_nothing(store: Store, embeddings: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Compress(embeddings=embeddings, **TINY)  # type: ignore[arg-type]
    first = make(stage, store)
    monkeypatch.setattr(Compress, "run", lambda *_: pytest.fail("it ran again"))
    again = make(Compress(embeddings=embeddings, **TINY, forward=5), store)  # type: ignore[arg-type]
    assert again.fingerprint == first.fingerprint


def test_a_random_start_learns_by_a_rate_that_falls_on_a_plateau(store: Store, embeddings: Artefact) -> None:
    options = TINY | {"steps": 300}
    out = make(
        Compress(embeddings=embeddings, kind="linear", init="random", rate=1e-2, schedule="plateau", **options),  # type: ignore[arg-type]
        store,
    )
    assert out.metrics["r2"] >= out.metrics["pca_r2"] - 0.05


def test_raw_embeddings_are_compressed_as_they_are(store: Store, embeddings: Artefact) -> None:
    out = make(Compress(embeddings=embeddings, kind="linear", standardise=False, **TINY), store)  # type: ignore[arg-type]
    weights = load_file(out.weights())
    assert not weights["mean"].any() and (weights["std"] == 1).all() and out.metrics["units"] == "raw embeddings"
    assert out.metrics["r2_raw"] >= out.metrics["pca_r2_raw"] - 0.05
    usual = make(Compress(embeddings=embeddings, kind="linear", **TINY), store)  # type: ignore[arg-type]
    for name in ("pca_r2", "pca_r2_raw"):  # what they are measured in does not hang on what the VAE is fed
        assert out.metrics[name] == pytest.approx(usual.metrics[name], abs=1e-6)
    assert "standardise" not in usual.spec and out.spec["standardise"] is False


def test_more_channels_than_the_embeddings_have_is_the_users_mistake(store: Store, embeddings: Artefact) -> None:
    with pytest.raises(UserError, match="width 12"):
        make(Compress(embeddings=embeddings, channels=13), store)
