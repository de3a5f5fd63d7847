"""Diffuse: training, milestones, presets and subsets."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from embprobe import sampling
from embprobe.encoders import conditions
from embprobe.encoders.text import ByteReader
from embprobe.errors import UserError
from embprobe.making import make
from embprobe.nn.denoiser import DenoiserConfig, DenoiserTask
from embprobe.nn.vae import posterior_sample
from embprobe.stage import Stage
from embprobe.stages.diffuse import Diffuse
from embprobe.store import Artefact, Store
from embprobe.training.engine import warmup_constant
from embprobe.views import Denoiser, Images, Latents, log_spaced
from tests.drawn import losses
from tests.stages.conftest import CLASSES, outputs

Killed = Callable[[Stage, Store, int], Artefact]
TINY = {"width": 8, "steps": 10, "batch": 8, "device": "cpu"}
DIT = {"network": "dit", "depth": 1, "width": 16}


@pytest.mark.parametrize(
    "options",
    [
        *({"preset": "paper"}, {"preset": "paper", "conditional": True}, {"preset": "modern"}),
        *({"objective": "v", "conditional": True}, DIT, DIT | {"conditional": True}),
    ],
)
def test_every_preset_trains_and_keeps_eight_milestones(
    store: Store, latents: Artefact, options: dict[str, object]
) -> None:
    out = make(Diffuse(latents=latents, **TINY | options), store)  # type: ignore[arg-type]
    assert len(out.milestones()) >= 8 and out.has("weights.safetensors")
    facts = out.read_json("denoiser.json")
    assert facts["network"]["classes"] == (3 if options.get("conditional") else None)
    assert facts.get("classes") == (CLASSES if options.get("conditional") else None)


def test_the_paper_preset_is_the_studys(latents: Artefact) -> None:
    spec = Diffuse(latents=latents, preset="paper").spec()
    expected = {"network": "unet", "objective": "epsilon", "width": 96, "batch": 96, "rate": 4.8e-4, "ema": 0.9999}
    assert {k: spec[k] for k in expected} == expected


def test_the_paper_preset_by_class_is_the_studys(latents: Artefact) -> None:
    stage = Diffuse(latents=latents, preset="paper", conditional=True)
    expected = {"batch": 24, "rate": 2.4e-4, "warmup": 0, "ema": 0.0, "norm": "l2", "betas": [0.0015, 0.0195]}
    expected |= {"attention": [2, 4], "one_head": True, "scale_shift": False, "multipliers": [1, 2, 3]}
    spec = stage.spec()
    assert {k: spec[k] for k in expected} == expected
    config = stage.config(Latents(latents))
    assert config.schedule.betas == (0.0015, 0.0195) and config.attention == (2, 4) and config.one_head
    assert warmup_constant(stage.warmup)(0) == 1


def test_what_came_later_does_not_count_where_it_is_as_it_was(latents: Artefact) -> None:
    later = {"betas", "attention", "one_head", "scale_shift", "posterior", "keep_epochs", "kept_steps"}
    for options in ({}, {"preset": "paper"}, {"conditional": True}):
        assert not later & Diffuse(latents=latents, **options).spec().keys()  # type: ignore[arg-type]


def test_a_preset_spelled_out_is_the_same_question(store: Store, latents: Artefact) -> None:
    left_out = Diffuse(latents=latents, preset="modern", steps=100)
    spelled = Diffuse(latents=latents, preset="modern", steps=100, objective="flow", batch=256, warmup=10)
    assert store.open(left_out).fingerprint == store.open(spelled).fingerprint


def test_the_schedule_is_shifted_by_the_size_of_the_latents(store: Store, latents: Artefact) -> None:
    out = make(Diffuse(latents=latents, **TINY | DIT), store)  # type: ignore[arg-type]
    assert out.metrics["shift"] == pytest.approx((4 * 4 * 4 / 4096) ** 0.5)


@pytest.mark.parametrize(
    "options",
    [
        *({"conditional": True}, {"precision": "bf16", **DIT}),
        *({"posterior": "sample", **DIT}, {"keep_epochs": (2, 6), "steps": 36, **DIT}),
    ],
)
def test_killed_and_continued_equals_whole(
    store: Store, latents: Artefact, killed: Killed, tmp_path: Path, options: dict[str, object]
) -> None:
    stage = Diffuse(latents=latents, **TINY | options)  # type: ignore[arg-type]
    whole = make(stage, Store(tmp_path / "other"))
    assert outputs(killed(stage, store, 5)) == outputs(whole)


def test_asked_again_costs_nothing(store: Store, latents: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(Diffuse(latents=latents, **TINY | DIT), store)  # type: ignore[arg-type]
    monkeypatch.setattr(Diffuse, "run", lambda *_: pytest.fail("it ran again"))
    assert make(Diffuse(latents=latents, **TINY | DIT | {"device": "auto"}), store) == first  # type: ignore[arg-type]


def test_smaller_subsets_lie_in_larger_ones_and_hold_every_class(latents: Artefact) -> None:
    images = Latents(latents).images
    rows = {n: images.training_rows(n, 0) for n in (6, 12, 36)}
    assert {n: len(r) for n, r in rows.items()} == {6: 6, 12: 12, 36: 36}
    assert set(rows[6]) < set(rows[12]) < set(rows[36])
    assert set(rows[6] % 3) == {0, 1, 2}
    assert (rows[36] % 4 != 3).all()


@pytest.mark.parametrize("posterior", ["mean", "sample"])
def test_latents_that_do_not_fit_on_the_device_train_alike(
    store: Store, latents: Artefact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, posterior: str
) -> None:
    stage = Diffuse(latents=latents, posterior=posterior, **TINY | DIT)  # type: ignore[arg-type]
    whole = make(stage, store)
    monkeypatch.setattr("embprobe.device.room_on", lambda device: 0)
    assert outputs(make(stage, Store(tmp_path / "other"))) == outputs(whole)


def test_latents_are_normalised_by_the_training_split(latents: Artefact) -> None:
    view = Latents(latents)
    resident = Diffuse(latents=latents).resident(view.learned("mean"), view.images.train, "cpu")
    assert resident is not None and resident.keys() == {"latents"}
    np.testing.assert_allclose(resident["latents"].std((0, 1, 2)), 1, atol=0.1)


# ---- milestones by epoch: 36 training images in batches of 8, so that an epoch is 4.5 steps


def kept(latents: Artefact, *epochs: float, steps: int = 36) -> Diffuse:
    return Diffuse(latents=latents, keep_epochs=epochs, **TINY | DIT | {"steps": steps})  # type: ignore[arg-type]


def test_epochs_are_kept_beside_the_log_spaced_milestones_and_change_nothing_else(
    store: Store, latents: Artefact
) -> None:
    plain, more = (make(kept(latents, *epochs), store) for epochs in ((), (2, 6.0, 8)))
    assert set(more.milestones()) == {*log_spaced(36), 9, 27} and not {9, 27} & set(plain.milestones())
    assert Denoiser(more).milestones == tuple(more.milestones()) and Denoiser(plain).milestones == log_spaced(36)
    assert Denoiser(more).epochs(27) == 6
    weights = {name: value for name, value in outputs(plain).items() if name.endswith(".safetensors")}
    assert weights.items() <= outputs(more).items()


def test_epochs_count_by_the_steps_that_are_no_milestones_anyway(store: Store, latents: Artefact) -> None:
    plain, last, two, turned = (
        store.open(kept(latents, *epochs)).fingerprint for epochs in ((), (8,), (2, 6), (6, 2.0, 2, 8))
    )
    assert plain == last and two == turned != plain


def test_epochs_that_the_run_does_not_reach_are_refused(store: Store, latents: Artefact) -> None:
    with pytest.raises(UserError, match=r"--keep-epochs 9 lies behind the end of the run, 36 steps or 8 epochs"):
        make(kept(latents, 2, 9), store)
    with pytest.raises(UserError, match=r"--keep-epochs is 0.*above 0"):
        kept(latents, 2, 0)


# ---- captions


@pytest.mark.parametrize("options", [DIT, {"width": 16}, {"preset": "paper", "width": 32}])
def test_captions_are_learned_by_both_networks(
    store: Store, captioned_latents: Artefact, options: dict[str, object]
) -> None:
    out = make(Diffuse(latents=captioned_latents, text="bytes", **TINY | options), store)  # type: ignore[arg-type]
    network = out.read_json("denoiser.json")["network"]
    assert network["text_length"] == len("a wild, light") and network["classes"] is None
    assert network["conditioning"] == "cross" and Denoiser(out).text == "bytes" and not Denoiser(out).conditional


def test_captions_killed_and_continued_equal_whole(
    store: Store, captioned_latents: Artefact, killed: Killed, tmp_path: Path
) -> None:
    stage = Diffuse(latents=captioned_latents, text="bytes", **TINY | DIT)  # type: ignore[arg-type]
    assert outputs(killed(stage, store, 5)) == outputs(make(stage, Store(tmp_path / "other")))


def test_a_batch_holds_the_bytes_of_its_captions_and_nothing_for_none(captioned_latents: Artefact) -> None:
    latents = Latents(captioned_latents)
    captions = latents.images.captions
    assert captions is not None
    condition = conditions.learned_conditions(latents.images, ByteReader(8), captioned_latents, "cpu")
    assert condition is not None
    batch = condition(np.array([0, 6, 1]))
    assert batch.shape == (3, 8) and not batch[1].any() and batch.dtype == torch.int16
    assert bytes((batch[2] - 1).tolist()) == captions[1].encode()[:8]  # type: ignore[union-attr]


def test_dropped_captions_are_the_null_caption() -> None:
    description = DenoiserConfig("dit", 2, (4, 4), 32, (1, 2, 4), 1, "cross", None, 0.0, "flow", 1.0, text_length=5)
    rest = {"rate": 1e-3, "beta_2": 0.95, "norm": "l2", "min_snr": None, "resident": None}
    task = DenoiserTask(description, condition_dropout=0.5, **rest)  # type: ignore[arg-type]
    batch = {"latents": torch.zeros(200, 4, 4, 2), "condition": torch.full((200, 5), 7, dtype=torch.int16)}
    drawn = task.draws(batch, torch.Generator().manual_seed(0))["condition"]
    told = (drawn == 7).all(1)
    assert 70 < told.sum() < 130 and not drawn[~told].any() and drawn.dtype == torch.int16


def test_text_counts_by_what_it_is_and_changes_no_other_question(
    store: Store, latents: Artefact, captioned_latents: Artefact
) -> None:
    assert not {"text", "text_length"} & Diffuse(latents=latents, text_length=9).spec().keys()
    plain, long = (Diffuse(latents=captioned_latents, text="bytes", **more).spec() for more in ({}, {"text_length": 9}))  # type: ignore[arg-type]
    assert plain["text"] == "bytes" and long["text_length"] == 9 and "text_length" not in plain


def test_what_is_cut_is_said(store: Store, captioned_latents: Artefact, capsys: pytest.CaptureFixture[str]) -> None:
    make(Diffuse(latents=captioned_latents, text="bytes", text_length=11, **TINY | DIT), store)  # type: ignore[arg-type]
    assert "captions are longer than 11 bytes, and cut there" in capsys.readouterr().err


def test_captions_that_are_not_there_or_not_alone_are_refused(store: Store, latents: Artefact) -> None:
    with pytest.raises(UserError, match="--text needs captions and this data set has none"):
        make(Diffuse(latents=latents, text="bytes", **TINY), store)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--conditional learns classes and --text captions; give one of them"):
        Diffuse(latents=latents, text="bytes", conditional=True)
    with pytest.raises(UserError, match="--text nowhere is neither `bytes` nor a folder"):
        Diffuse(latents=latents, text="nowhere")


# ---- samples of the posterior


def test_samples_of_the_posterior_are_drawn_anew_and_have_unit_variance(latents: Artefact) -> None:
    learned = Latents(latents).learned("sample")
    values = {name: torch.from_numpy(v) for name, v in learned.values(learned.of.images.train).items()}
    drawn = [
        posterior_sample(values["latents"], values["spread"], torch.randn(values["latents"].shape)) for _ in range(2)
    ]
    assert not torch.equal(*drawn)
    np.testing.assert_allclose(torch.cat(drawn).std((0, 1, 2)), 1, atol=0.1)
    assert (values["latents"].std((0, 1, 2)) < 0.95).all()


def test_samples_of_the_posterior_are_another_question_with_other_weights(store: Store, latents: Artefact) -> None:
    mean, sample = (make(Diffuse(latents=latents, posterior=p, **TINY | DIT), store) for p in ("mean", "sample"))  # type: ignore[arg-type]
    assert mean != sample and outputs(mean)["weights.safetensors"] != outputs(sample)["weights.safetensors"]
    assert (Denoiser(sample).scale.std > Denoiser(mean).scale.std).all()


def test_one_class_is_nothing_to_learn_apart(latents: Artefact, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Images, "classes", ["cat"])
    with pytest.raises(UserError, match="this data set has one; leave it out"):
        make(Diffuse(latents=latents, conditional=True, **TINY), store)  # type: ignore[arg-type]


def test_labels_without_classes_are_refused(store: Store, unlabelled_latents: Artefact, latents: Artefact) -> None:
    with pytest.raises(UserError, match="--conditional needs labels"):
        make(Diffuse(latents=unlabelled_latents, conditional=True, **TINY), store)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="more than the 36"):
        make(Diffuse(latents=latents, train_images=37, **TINY), store)  # type: ignore[arg-type]


def test_a_point_mass_is_learned() -> None:
    description = DenoiserConfig("dit", 2, (4, 4), 32, (1, 2, 4), 2, "time", None, 0.0, "flow", 1.0)
    torch.manual_seed(0)
    task = DenoiserTask(
        description,
        rate=3e-3,
        beta_2=0.95,
        norm="l2",
        min_snr=None,
        condition_dropout=0.0,
        resident={"latents": torch.full((4, 4, 4, 2), 0.7)},
    )
    optimiser = task.optimisers()["denoiser"]
    for step in range(150):
        for _, loss in losses(task, {"row": torch.arange(16) % 4}, step, seed=step):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    task.eval()
    with torch.no_grad():
        drawn = sampling.sample(task.network, torch.randn(8, 2, 4, 4), task.schedule, "euler", 20)
    assert (drawn - 0.7).abs().mean() < 0.25


def test_twice_the_width_is_two_to_four_times_the_work_and_more_training_images_are_none(latents: Artefact) -> None:
    def work(**options: object) -> float:
        return Diffuse(latents=latents, steps=10, batch=8, **options).work()  # type: ignore[arg-type]

    for network in ("dit", "unet"):
        each = [work(network=network, width=width) for width in (32, 64, 128, 256, 512)]
        ratios = [after / before for before, after in pairwise(each)]
        assert all(2 < ratio < 4 for ratio in ratios) and ratios == sorted(ratios)
    assert work(network="dit", depth=6) == 2 * work(network="dit", depth=3)
    assert work(train_images=8) == work(train_images=16)
