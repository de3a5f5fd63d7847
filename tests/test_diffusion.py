"""Schedules, losses and samplers against closed forms and against diffusers."""

import math
from collections.abc import Callable

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from embprobe import diffusion, sampling
from embprobe.diffusion import Objective, Schedule
from embprobe.errors import UserError

MEAN = torch.tensor([0.4, -0.3])
COVARIANCE = torch.tensor([[1.0, 0.5], [0.5, 0.6]])
PAIRS = [(objective, name) for name, sampler in sampling.SAMPLERS.items() for objective in sampler.objectives]
BETAS = {"beta_start": 0.0015, "beta_end": 0.0155, "beta_schedule": "scaled_linear"}


def exact_network(schedule: Schedule) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """What a perfect network predicts where the data are Gaussian."""

    def predict(z: Tensor, time_B: Tensor, _: Tensor | None) -> Tensor:
        alpha, sigma = (level[0].double() for level in schedule.levels(time_B[:1].double()))
        x = z.flatten(1).double()
        gain = (
            alpha
            * COVARIANCE.double()
            @ torch.linalg.inv(alpha**2 * COVARIANCE.double() + sigma**2 * torch.eye(2, dtype=torch.float64))
        )
        clean = MEAN + (x - alpha * MEAN) @ gain.mT
        noise = (x - alpha * clean) / sigma.clamp(min=1e-12)
        return schedule.target(clean, noise, alpha, sigma).reshape(z.shape).float()

    return predict


@pytest.mark.parametrize("shift", [1.0, 0.5, 2.0])
@pytest.mark.parametrize(("objective", "sampler"), PAIRS)
def test_every_sampler_recovers_a_gaussian_from_the_exact_prediction(
    objective: Objective, sampler: str, shift: float
) -> None:
    schedule = Schedule(objective, shift)
    noise = sampling.noise_blocks(0, 0, 20_000, (2, 1, 1))
    samples = sampling.sample(exact_network(schedule), noise, schedule, sampler, 200).flatten(1)
    torch.testing.assert_close(samples.mean(0), MEAN, atol=0.03, rtol=0)
    torch.testing.assert_close(samples.T.cov(), COVARIANCE, atol=0.03, rtol=0)


@pytest.mark.parametrize(("last", "left"), [(0.0155, 6.69e-4), (0.0195, 1.42e-4)])
def test_the_schedules_end_is_the_published_configurations(last: float, left: float) -> None:
    assert float(Schedule("epsilon", betas=(0.0015, last)).alphas_bar[-1]) == pytest.approx(left, rel=5e-3)


def test_stochastic_ddim_recovers_the_gaussian_too() -> None:
    schedule = Schedule("epsilon")
    noise = sampling.noise_blocks(0, 0, 20_000, (2, 1, 1))
    samples = sampling.sample(
        *(exact_network(schedule), noise, schedule, "ddim", 250),
        eta=1.0,
        fresh=lambda step: sampling.noise_blocks(0, 0, 20_000, (2, 1, 1), draw=1 + step),
    ).flatten(1)
    torch.testing.assert_close(samples.mean(0), MEAN, atol=0.03, rtol=0)
    torch.testing.assert_close(samples.T.cov(), COVARIANCE, atol=0.05, rtol=0)


@pytest.mark.parametrize(("objective", "kind"), [("epsilon", "epsilon"), ("v", "v_prediction")])
def test_samplers_agree_with_diffusers(objective: Objective, kind: str) -> None:
    schedule = Schedule(objective)
    network = exact_network(schedule)
    noise = sampling.noise_blocks(1, 0, 8, (2, 1, 1))
    ddim = DDIMScheduler(
        **BETAS,
        prediction_type=kind,
        clip_sample=False,
        set_alpha_to_one=False,
        timestep_spacing="leading",
        steps_offset=1,
    )
    solver = DPMSolverMultistepScheduler(**BETAS, prediction_type=kind, final_sigmas_type="zero")
    ddim.set_timesteps(50)
    solver.set_timesteps(timesteps=[int(t) for t in sampling.even_steps(schedule, 50).times])
    for sampler, reference in (("ddim", ddim), ("dpm++", solver)):
        z = noise
        for t in reference.timesteps:
            z = reference.step(network(z, t.float().expand(8), None), t, z).prev_sample
        ours = sampling.sample(network, noise, schedule, sampler, 50)
        torch.testing.assert_close(ours, z, atol=2e-4, rtol=1e-3)


def test_nothing_is_clipped_to_the_unit_interval() -> None:
    schedule = Schedule("epsilon")

    def far(z: Tensor, time_B: Tensor, _: Tensor | None) -> Tensor:
        alpha, sigma = schedule.levels(time_B)
        return (z - alpha[:, None, None, None] * 3) / sigma[:, None, None, None]

    out = sampling.sample(far, torch.randn(4, 1, 1, 1), schedule, "ddim", 50)
    torch.testing.assert_close(out, torch.full_like(out, 3), atol=0.2, rtol=0)


def test_an_unfitting_sampler_is_the_users_mistake_and_names_those_that_fit() -> None:
    with pytest.raises(UserError, match="give ddim or dpm\\+\\+"):
        sampling.check_sampler("euler", "epsilon")
    with pytest.raises(UserError, match="give euler or dpm\\+\\+"):
        sampling.check_sampler("ddim", "flow")


@pytest.mark.parametrize("objective", ["epsilon", "v", "flow"])
def test_a_prediction_splits_back_into_clean_and_noise(objective: Objective) -> None:
    schedule = Schedule(objective)
    clean, noise = torch.randn(2, 5, 3, 2, 2, dtype=torch.float64)
    alpha, sigma = (float(level) for level in schedule.levels(torch.tensor(400.0, dtype=torch.float64)))
    target = schedule.target(clean, noise, torch.tensor(alpha), torch.tensor(sigma))
    z = alpha * clean + sigma * noise
    for ours, truth in zip(schedule.clean_and_noise(target, z, alpha, sigma), (clean, noise), strict=True):
        torch.testing.assert_close(ours, truth, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("objective", ["epsilon", "v"])
def test_the_betas_are_scaled_linear_and_variance_is_kept(objective: Objective) -> None:
    schedule = Schedule(objective)
    reference = DDIMScheduler(**BETAS).alphas_cumprod.double()
    torch.testing.assert_close(schedule.alphas_bar, reference, rtol=1e-4, atol=1e-7)
    alpha, sigma = schedule.levels(torch.arange(1000.0))
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones(1000))


@pytest.mark.parametrize("objective", ["v", "flow"])
def test_the_shift_moves_every_log_snr_alike(objective: Objective) -> None:
    shift = diffusion.dimension_shift(8 * 8 * 16)
    plain, moved = Schedule(objective), Schedule(objective, shift)
    t = torch.tensor([100.0, 500.0, 900.0], dtype=torch.float64)
    a, s = plain.levels(t)
    b, r = moved.levels(1000 * moved.shifted(t / 1000) if objective == "flow" else t)
    torch.testing.assert_close((b / r).log(), (a / s).log() - math.log(shift))


def test_a_full_size_latent_is_not_shifted_and_raw_features_are() -> None:
    assert diffusion.dimension_shift(16 * 16 * 16) == 1
    assert diffusion.dimension_shift(16 * 16 * 1280) == pytest.approx(8.944, abs=1e-3)


@pytest.mark.parametrize("objective", ["epsilon", "v", "flow"])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_perfect_network_has_no_loss_and_a_zero_one_has_the_targets(objective: Objective, norm: str) -> None:
    schedule = Schedule(objective)
    clean = torch.zeros(4000, 1, 1, 1)  # a point mass: noise = z / σ

    def perfect(z: Tensor, time_B: Tensor, _: Tensor | None) -> Tensor:
        alpha, sigma = (level[:, None, None, None] for level in schedule.levels(time_B))
        return schedule.target(torch.zeros_like(z), z / sigma, alpha, sigma)

    drawn = diffusion.corruption(schedule, (4000, 1, 1, 1), torch.Generator().manual_seed(0))
    assert diffusion.loss(perfect, clean, schedule, drawn, norm=norm).item() == pytest.approx(0, abs=1e-5)  # type: ignore[arg-type]
    idle = diffusion.loss(lambda z, t, y: torch.zeros_like(z), clean, schedule, drawn, norm=norm).item()  # type: ignore[arg-type]
    share = 1.0 if norm == "l2" else math.sqrt(2 / math.pi)
    alpha = drawn["alpha"]
    scale = alpha if objective == "v" else torch.ones(1)  # the target is α ε for `v`, ± ε for the others
    expected = share * (scale.square() if norm == "l2" else scale).mean().item()
    assert idle == pytest.approx(expected, rel=0.1)


def test_min_snr_weighs_v_by_the_clipped_ratio() -> None:
    schedule = Schedule("v")
    clean = torch.ones(1, 1, 1, 1)
    drawn = diffusion.corruption(schedule, (1, 1, 1, 1), torch.Generator().manual_seed(3))
    plain = diffusion.loss(lambda z, t, y: torch.zeros_like(z), clean, schedule, drawn)
    weighted = diffusion.loss(lambda z, t, y: torch.zeros_like(z), clean, schedule, drawn, min_snr=5.0)
    snr = (drawn["alpha"] / drawn["sigma"]) ** 2
    torch.testing.assert_close(weighted, (plain * snr.clamp(max=5) / (snr + 1))[0])


def test_noise_of_a_sample_does_not_depend_on_how_many_are_asked_for() -> None:
    whole = sampling.noise_blocks(5, 0, 200, (3, 2, 2))
    parts = [sampling.noise_blocks(5, first, 50, (3, 2, 2)) for first in (0, 50, 100, 150)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole[:64], whole[64:128])
    assert not torch.equal(whole, sampling.noise_blocks(6, 0, 200, (3, 2, 2)))
    assert not torch.equal(whole, sampling.noise_blocks(5, 0, 200, (3, 2, 2), draw=1))


@pytest.mark.parametrize("shape", [(), (3,)])
def test_guidance_extrapolates_from_the_null_condition_inside_its_interval_only(shape: tuple[int, ...]) -> None:
    def network(z: Tensor, time_B: Tensor, condition: Tensor | None) -> Tensor:
        assert condition is not None
        return condition.float().reshape(len(z), -1)[:, :1, None, None].expand(z.shape)

    condition = torch.stack([torch.full(shape, 0), torch.full(shape, 1)])
    z, guide = torch.zeros(2, 1, 1, 1), sampling.Guidance(torch.full(shape, 2), 3.0, (0.2, 0.8))
    inside = guide(network, z, torch.full((2,), 500.0), condition)
    assert inside.flatten().tolist() == [2 + 3 * (0 - 2), 2 + 3 * (1 - 2)]
    assert guide.at(500) and not guide.at(900) and not sampling.Guidance(torch.full(shape, 2), 1.0).at(500)
    seen: list[int] = []

    def counted(z: Tensor, time_B: Tensor, condition: Tensor | None) -> Tensor:
        seen.append(len(z))
        return torch.zeros_like(z)

    sampling.sample(counted, z, Schedule("flow"), "euler", 10, condition, guidance=guide)
    assert seen == [2, 2, 4, 4, 4, 4, 4, 4, 4, 2]  # times 1000, 900, … 100: guided from 800 to 200


def test_conditions_are_dropped_to_the_null_condition_at_the_given_rate() -> None:
    seeds = torch.Generator().manual_seed(0)
    dropped = diffusion.drop_condition(torch.ones(10_000, dtype=torch.long), torch.tensor(7), 0.1, seeds)
    assert set(dropped.tolist()) == {1, 7}
    assert (dropped == 7).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_a_condition_is_dropped_whole() -> None:
    null = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    dropped = diffusion.drop_condition(torch.zeros(100, 2, 2), null, 0.5, torch.Generator().manual_seed(0))
    each = [torch.equal(d, null) or torch.equal(d, torch.zeros(2, 2)) for d in dropped]
    assert all(each) and 20 < sum(torch.equal(d, null) for d in dropped) < 80


@pytest.mark.parametrize("grid", [(4,), (2, 3), (2, 3, 4)])
def test_the_loss_takes_latents_of_any_grid(grid: tuple[int, ...]) -> None:
    def perfect(z: Tensor, time_B: Tensor, _: Tensor | None) -> Tensor:
        return z / schedule.levels(time_B)[1].reshape(-1, *[1] * (z.ndim - 1))

    schedule = Schedule("epsilon")
    drawn = diffusion.corruption(schedule, (8, 2, *grid), torch.Generator().manual_seed(0))
    assert diffusion.loss(perfect, torch.zeros(8, 2, *grid), schedule, drawn).item() == pytest.approx(0, abs=1e-5)


def test_only_a_stochastic_sampler_takes_eta() -> None:
    schedule, noise = Schedule("flow"), torch.zeros(1, 1, 1, 1)
    with pytest.raises(UserError, match="--eta has no meaning for --sampler euler"):
        sampling.sample(lambda z, t, y: z, noise, schedule, "euler", 2, eta=0.5, fresh=lambda _: noise)


@pytest.mark.parametrize(("objective", "sampler"), PAIRS)
def test_steps_fall_in_noise_and_hold_one_level_more_than_times(objective: Objective, sampler: str) -> None:
    steps = sampling.SAMPLERS[sampler].steps(Schedule(objective), 20)
    assert len(steps.times) == 20 and len(steps.alphas) == len(steps.sigmas) == 21
    assert all(a > b for a, b in zip(steps.sigmas, steps.sigmas[1:], strict=False))


def test_steps_stay_between_noise_and_latents_for_every_shape() -> None:
    """Rounding in the shift must not carry time 1 beyond itself: the levels there have logarithms."""
    for elements in {side**2 * channels for side in range(2, 33) for channels in range(1, 65)}:
        steps = sampling.even_steps(Schedule("flow", diffusion.dimension_shift(elements)), 5)
        assert steps.sigmas[0] <= 1 and min(steps.alphas) >= 0, elements
        z = sampling.dpm_solver(lambda z, i: (z, z), torch.ones(1), steps)
        assert z.isfinite().all()
