"""Denoisers built from a configuration, on grids of any shape."""

import json
from dataclasses import replace

import pytest
import torch

from embprobe.errors import UserError
from embprobe.nn.denoiser import DenoiserConfig, DenoiserTask, build_denoiser
from embprobe.sampling import noise_blocks, sample
from tests.drawn import losses


def config(network: str, grid: tuple[int, ...], classes: int | None = None) -> DenoiserConfig:
    return DenoiserConfig(
        network=network,  # type: ignore[arg-type]
        channels=3,
        grid=grid,
        width=16,
        multipliers=(1, 1, 2),
        depth=1,
        conditioning="time",
        classes=classes,
        dropout=0.0,
        objective="flow",
        shift=1.0,
    )


def test_a_configuration_comes_back_from_json() -> None:
    one = config("unet", (4, 6), 5)
    assert DenoiserConfig.of(json.loads(json.dumps(one.json()))) == one


def test_a_configuration_that_tells_of_no_layout_has_the_one_that_was_the_only_one() -> None:
    told = replace(
        config("unet", (16, 16), 3), channels=16, width=96, multipliers=(1, 2, 3), conditioning="cross"
    ).json()
    assert not {"betas", "attention", "one_head", "scale_shift"} & told.keys()
    with torch.device("meta"):
        network = build_denoiser(DenoiserConfig.of(told))
    assert sum(p.numel() for p in network.parameters()) == 29_055_408


def test_a_layout_and_a_schedule_of_its_own_come_back_from_json() -> None:
    one = replace(config("unet", (4, 6), 5), betas=(0.0015, 0.0195), attention=(2, 4), one_head=True, scale_shift=False)
    again = DenoiserConfig.of(json.loads(json.dumps(one.json())))
    assert again == one and again.schedule.betas == (0.0015, 0.0195)


@pytest.mark.parametrize(("network", "grid"), [("unet", (3, 6)), ("dit", (3, 6)), ("dit", (2, 3, 4)), ("dit", (5,))])
@pytest.mark.parametrize("classes", [None, 2])
def test_any_grid_is_trained_on_and_sampled_from(network: str, grid: tuple[int, ...], classes: int | None) -> None:
    torch.manual_seed(0)
    settings = config(network, grid, classes)
    resident = {"latents": torch.randn(6, *grid, 3)}
    task = DenoiserTask(
        settings, rate=1e-3, beta_2=0.95, norm="l2", min_snr=None, condition_dropout=0.5, resident=resident
    )
    batch = {"row": torch.tensor([0, 3])}
    condition = None if classes is None else torch.tensor([0, 1])
    if condition is not None:
        batch["condition"] = condition
    [(_, loss)] = losses(task, batch)
    loss.backward()
    assert loss.isfinite()
    with torch.no_grad():
        z = sample(task.network.eval(), noise_blocks(0, 0, 2, (3, *grid)), settings.schedule, "dpm++", 3, condition)
    assert z.shape == (2, 3, *grid) and z.isfinite().all()


def test_with_every_condition_dropped_the_condition_does_not_matter() -> None:
    task = DenoiserTask(
        config("dit", (2, 2), 4), rate=1e-3, beta_2=0.9, norm="l2", min_snr=None, condition_dropout=0.999, resident=None
    )
    for parameter in task.network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    found = []
    for label in (0, 3):
        [(_, loss)] = losses(task, {"latents": torch.ones(8, 2, 2, 3), "condition": torch.full((8,), label)}, seed=1)
        found.append(float(loss))
    assert found[0] == found[1]


def test_the_null_condition_is_no_part_of_a_checkpoint() -> None:
    task = DenoiserTask(
        config("dit", (2, 2), 4), rate=1e-3, beta_2=0.9, norm="l2", min_snr=None, condition_dropout=0.1, resident=None
    )
    assert task.config.null_condition == 4 and all(name.startswith("network.") for name in task.state_dict())


def test_a_unet_needs_two_axes() -> None:
    with pytest.raises(UserError, match=r"two axes.*use dit"):
        build_denoiser(config("unet", (2, 3, 4)))
