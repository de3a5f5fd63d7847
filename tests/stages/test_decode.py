"""Decode: reconstructions, snapshots and losses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import squeezenet1_1

from embprobe.errors import UserError
from embprobe.making import make
from embprobe.pixels import to_signed, to_u8
from embprobe.stage import Stage
from embprobe.stages.classify import Classify
from embprobe.stages.decode import Decode
from embprobe.store import Artefact, Store
from tests.stages.conftest import SIZE, outputs

Killed = Callable[[Stage, Store, int], Artefact]
TINY = {"width": 8, "steps": 10, "batch": 6, "perceptual": "none", "gan_start": 4, "device": "cpu"}


@pytest.fixture
def squeezenet(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "squeezenet.pth"
    torch.save(squeezenet1_1().state_dict(), path)
    return path


def test_all_losses_train_together_and_reconstructions_are_of_held_out_images(
    store: Store, latents: Artefact, squeezenet: Path
) -> None:
    options = TINY | {"perceptual": "lpips-squeeze", "perceptual_weights": squeezenet, "size": 32}
    out = make(Decode(latents=latents, **options), store)  # type: ignore[arg-type]
    rows = out.array("rows").read()
    assert out.array("reconstructions").shape == (12, 32, 32, 3) and (rows % 4 == 3).all()
    last = [row for row in out.log.rows() if "adaptive_weight" in row][-1]
    assert last["perceptual"] > 0 and last["loss_discriminator"] > 0


def test_a_short_training_beats_the_mean_image_by_4_db(store: Store, latents: Artefact) -> None:
    options = TINY | {"steps": 150, "gan_weight": 0.0, "noise": 0.0, "rate": 3e-3, "warmup": 10, "batch": 12}
    out = make(Decode(latents=latents, **options), store)  # type: ignore[arg-type]
    assert out.metrics["psnr_gain"] >= 4
    assert out.array("snapshots").attrs["steps"] == [64, 150]


def test_psnr_is_the_textbooks(store: Store, latents: Artefact, images: Artefact) -> None:
    out = make(Decode(latents=latents, **TINY), store)  # type: ignore[arg-type]
    truth = images.array("images").take(out.array("rows").read()).astype(float)
    error = ((out.array("reconstructions").read() - truth) ** 2).mean()
    assert out.metrics["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
    split = images.array("split").read()
    blank = ((images.array("images").read()[split == 0].mean(0) - truth) ** 2).mean()
    assert out.metrics["psnr_mean_image"] == pytest.approx(10 * np.log10(255**2 / blank), abs=1e-3)


@pytest.mark.parametrize("after", [3, 8])
def test_killed_and_continued_equals_whole_snapshots_and_discriminator_included(
    store: Store, latents: Artefact, killed: Killed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr("embprobe.stages.decode.SNAPSHOTS", (2, 6))
    stage = Decode(latents=latents, **TINY)  # type: ignore[arg-type]
    whole = make(stage, Store(tmp_path / "other"))
    part = killed(stage, store, after)
    assert outputs(part) == outputs(whole)
    assert part.metrics == whole.metrics
    shots = part.array("snapshots")
    assert shots.shape == (3, 8, SIZE, SIZE, 3) and shots.attrs["steps"] == [2, 6, 10]
    assert len({shots.read(i, i + 1).tobytes() for i in range(3)}) == 3


def test_samples_of_the_posterior_are_learned_from_bit_equal_after_a_kill(
    store: Store, latents: Artefact, killed: Killed, tmp_path: Path
) -> None:
    stage = Decode(latents=latents, posterior="sample", **TINY)  # type: ignore[arg-type]
    whole = make(stage, Store(tmp_path / "other"))
    assert outputs(killed(stage, store, 5)) == outputs(whole)
    means = make(Decode(latents=latents, **TINY), store)  # type: ignore[arg-type]
    assert outputs(means)["weights.safetensors"] != outputs(whole)["weights.safetensors"]
    assert "posterior" not in means.spec and means == store.open(Decode(latents=latents, posterior="mean", **TINY))  # type: ignore[arg-type]


def test_asked_again_costs_nothing(store: Store, latents: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(Decode(latents=latents, **TINY), store)  # type: ignore[arg-type]
    monkeypatch.setattr(Decode, "run", lambda *_: pytest.fail("it ran again"))
    assert make(Decode(latents=latents, **TINY), store) == first  # type: ignore[arg-type]


def test_the_perceptual_distance_left_out_is_the_one_whose_network_is_given(
    store: Store, images: Artefact, latents: Artefact, squeezenet: Path
) -> None:
    classifier = store.open(Classify(images=images))
    assert Decode(latents=latents).spec()["perceptual"] == "none"
    assert Decode(latents=latents, perceptual_weights=squeezenet).spec()["perceptual"] == "lpips-vgg"
    assert Decode(latents=latents, classifier=classifier).spec()["perceptual"] == "classifier"
    assert store.open(Decode(latents=latents)) == store.open(Decode(latents=latents, perceptual="none"))


def test_a_perceptual_distance_without_weights_says_what_to_download(latents: Artefact) -> None:
    with pytest.raises(UserError, match=r"vgg16-397923af\.pth.*--perceptual none"):
        Decode(latents=latents, perceptual="lpips-vgg")


def test_pixels_survive_the_way_to_signed_and_back() -> None:
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    assert torch.equal(to_u8(to_signed(images, (8, 8))), images)
