"""The training loop: bit-equal after any stop, rolls back once from a loss that is not finite, keeps milestones."""

import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from embprobe import signals
from embprobe.device import device_of, mix
from embprobe.errors import Interrupted, MachineError, UserError
from embprobe.making import make
from embprobe.store import Artefact, Folder, Store
from embprobe.training import checkpoints, engine
from embprobe.training.checkpoints import Saver
from embprobe.training.engine import Fit, fit, warmup_cosine
from embprobe.training.task import Task
from embprobe.views import log_spaced
from tests.store.test_store import flip
from tests.tiny import Toy

STEPS = 24


class Pair(Task):
    """Two networks with an optimiser each, dropout, and a buffer that follows after every step."""

    def __init__(self, poison: tuple[int, ...] = ()) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.BatchNorm1d(8), nn.Linear(8, 4))
        self.critic = nn.Linear(4, 1)
        self.register_buffer("target", torch.zeros(8, 4))
        self.poison = list(poison)

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        network = torch.optim.AdamW(self.network.parameters(), lr=1e-2)
        self.groups = network.param_groups
        return {
            "network": network,
            "critic": torch.optim.Adam(self.critic.parameters(), lr=1e-2),
        }

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        x = batch["x"]
        self.groups[0]["weight_decay"] = step / 8  # a task may hold on to its groups
        made = self.network(x + 0.1 * torch.randn_like(x))
        loss = (made - x).square().mean() - 0.01 * self.critic(made).mean()
        if step in self.poison:
            self.poison.remove(step)
            loss = loss * torch.nan
        yield "network", loss
        yield "critic", self.critic(made.detach()).square().mean()

    def after(self, step: int) -> None:
        first = self.network[0].weight  # type: ignore[index]
        self.target.lerp_(first.detach(), 0.1)  # type: ignore[operator, union-attr]

    def validate(self) -> float:
        return float(self.target.abs().mean())  # type: ignore[operator, union-attr]


def batches(step: int) -> dict[str, Tensor]:
    return {"x": torch.randn(16, 4, generator=torch.Generator().manual_seed(step))}


def config(**options: object) -> Fit:
    values: dict[str, object] = {
        "steps": STEPS, "seed": 3, "images_per_step": 16, "ema": 0.9, "milestones": log_spaced(STEPS),
        "rate": warmup_cosine(4, STEPS), "plateau_every": 5,
    }  # fmt: skip
    return Fit(**(values | options))  # type: ignore[arg-type]


def trained(out: Artefact, task: Task | None = None, **options: object) -> dict[str, str]:
    with out.locked():
        fit(task or Pair(), batches, config(**options), out)
    return dict(out.folder.sums)


@pytest.fixture
def out(place: Store) -> Artefact:
    return place.open(Toy())


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, str]:
    return trained(Store(tmp_path / "whole").open(Toy()))


@pytest.mark.parametrize("at", [1, 2, 7, 13, 23, STEPS])
def test_stopped_at_any_step_and_continued_equals_whole(
    out: Artefact, whole: dict[str, str], at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [0]

    def requested() -> bool:
        steps[0] += 1
        if steps[0] == at:
            monkeypatch.setattr(signals, "_received", [15])
        return bool(signals._received)

    with monkeypatch.context() as patch:
        patch.setattr(signals, "requested", requested)
        with pytest.raises(Interrupted):
            trained(out)
    monkeypatch.setattr(signals, "_received", [])
    assert out.folder.names("checkpoints") and not out.has_weights()
    assert trained(out) == whole


class Convolution(Pair):
    """Weights that lie channels-last, under a fused optimiser."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten())
        self.network.to(memory_format=torch.channels_last)

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        fused = torch.optim.AdamW(self.network.parameters(), lr=1e-2, fused=True)
        return super().optimisers() | {"network": fused}

    def after(self, step: int) -> None:
        """Nothing follows."""


def test_weights_laid_out_channels_last_continue_bit_equal(
    out: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained(Store(tmp_path / "whole").open(Toy()), Convolution())
    monkeypatch.setattr(signals, "_received", [15])
    with pytest.raises(Interrupted):
        trained(out, Convolution())
    monkeypatch.setattr(signals, "_received", [])
    assert trained(out, Convolution()) == expected


@pytest.mark.parametrize("at", [1, 5, 12, 20])
def test_killed_between_checkpoints_and_continued_equals_whole(
    out: Artefact, whole: dict[str, str], at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Saver, "due", lambda self: bool(at % 2))
    real = engine.Loop.update

    def update(self: engine.Loop, batch: dict[str, Tensor]) -> None:
        if self.step == at:
            raise KeyboardInterrupt
        real(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(engine.Loop, "update", update)
        with pytest.raises(KeyboardInterrupt):
            trained(out)
    assert trained(out) == whole
    steps = [row["step"] for row in out.log.rows() if "step" in row]
    assert steps == sorted(set(steps))  # no row twice


def test_a_kill_between_a_checkpoint_and_its_checksum_loses_nothing(
    out: Artefact, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Saver, "due", lambda self: True)
    real = Folder.add

    def add(self: Folder, name: str, value: str) -> None:
        if name == "checkpoints/step_00000012.safetensors":
            raise KeyboardInterrupt  # the file is in place, its checksum is not
        real(self, name, value)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "add", add)
        with pytest.raises(KeyboardInterrupt):
            trained(out)
    assert trained(out) == whole


def test_a_finished_training_is_loaded_not_repeated(out: Artefact, whole: dict[str, str]) -> None:
    trained(out)
    task = Pair(poison=(0,))
    assert trained(out, task) == whole and not task.training and task.poison == [0]


def test_a_loss_that_is_not_finite_goes_back_once_at_half_the_rate(
    out: Artefact, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(out, Pair(poison=(10,)))
    (event,) = out.log.events("rolled back")
    assert event["near"] > 10 and out.has_weights()
    assert capsys.readouterr().err.count("the loss is not finite near step") == 1
    for name in out.folder.names("milestones"):
        assert all(v.isfinite().all() for v in load_file(out.folder.local(name)).values() if v.is_floating_point()), (
            name
        )


def test_a_loss_that_stays_infinite_stops_with_the_step_and_the_last_good_checkpoint(out: Artefact) -> None:
    with pytest.raises(MachineError, match=r"not finite near step \d+, again .* last good checkpoint is step 0"):
        trained(out, Pair(poison=(10, 10, 11, 11, 12)))
    assert not out.has_weights()


def test_damaged_weights_continue_from_the_newest_whole_milestone(
    out: Artefact, whole: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    trained(out)
    last, before = sorted(out.folder.names("milestones"), reverse=True)[:2]
    flip(out.path / last, 999)
    (out.path / "weights.safetensors").unlink()
    trained(out)
    (event,) = out.log.events("continued from a milestone")
    assert event["at"] == int(before.split("_")[-1].split(".")[0])
    assert "the result can differ from the first" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_not_trusted(
    out: Artefact, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signals, "_received", [15])
    with pytest.raises(Interrupted):
        trained(out)
    monkeypatch.setattr(signals, "_received", [])
    flip(out.path / out.folder.names("checkpoints")[-1], 2000)
    trained(out)
    assert "safetensors is damaged" in capsys.readouterr().err and out.has("weights.safetensors")


def test_at_least_eight_milestones_are_kept_and_the_last_is_the_product(out: Artefact) -> None:
    trained(out)
    assert len(out.milestones()) >= 8 and max(out.milestones()) == STEPS
    assert out.folder.sums[f"milestones/step_{STEPS:08d}.safetensors"] == out.folder.sums["weights.safetensors"]
    assert not out.folder.names("checkpoints") and not list((out.path / "checkpoints").glob("*"))


def test_the_average_differs_from_the_last_weights(out: Artefact, whole: dict[str, str]) -> None:
    assert trained(out, ema=None)["weights.safetensors"] != whole["weights.safetensors"]


@pytest.mark.parametrize("steps", [1, 5, 8, 9, 100, 20_000])
def test_milestones_are_log_spaced(steps: int) -> None:
    found = log_spaced(steps)
    assert found[-1] == steps and len(found) >= min(8, steps) and list(found) == sorted(set(found))


def test_seeds_mix_without_meeting() -> None:
    seeds = {mix(seed, step) for seed in range(50) for step in range(50)}
    assert len(seeds) == 2500 and all(0 <= s < 2**63 for s in seeds)


def test_a_device_that_is_not_there_is_the_users_mistake() -> None:
    for name in ("cuda:99", "gpu"):
        with pytest.raises(UserError, match=f"--device {name} isn't there"):
            device_of(name)


def test_steps_0_leaves_the_network_as_it_was(place: Store) -> None:
    out = place.open(Toy())
    assert make(Toy(), Store(place.root.parent / "s")).complete
    task = Pair()
    before = {k: v.clone() for k, v in task.network.state_dict().items()}
    with out.locked():
        fit(task, batches, config(steps=0, milestones=(), ema=None), out)
    assert all(torch.equal(v, before[k]) for k, v in task.network.state_dict().items())


def test_checkpoints_are_so_seldom_that_they_take_their_share_at_most(
    out: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    loop = engine.Loop(Pair(), config(), out)
    with Saver(loop.state, out) as saver:
        for cost, waits in ((0.0, 30.0), (0.5, 30.0), (3.0, 100.0)):
            saver.saved, saver.cost = now, cost
            for later, due in ((waits - 0.1, False), (waits + 0.1, True)):
                now = saver.saved + later
                assert saver.due() is due, (cost, later)


def test_a_checkpoint_is_of_the_step_it_was_saved_at(out: Artefact, whole: dict[str, str]) -> None:
    """It is written while the training goes on changing the state that it is of."""
    held, real = threading.Event(), Artefact.write_tensors

    def slow(self: Artefact, name: str, *rest: object) -> None:
        held.wait(20)
        real(self, name, *rest)  # type: ignore[arg-type]

    with out.locked(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Artefact, "write_tensors", slow)
        loop = engine.Loop(Pair(), config(), out)
        loop.task.train()
        with Saver(loop.state, out) as saver:
            loop.update(loop.given(batches, 0))
            wanted = {k: v.clone() for k, v in checkpoints._tensors_of(loop.state).items()}
            saver.save()
            for step in range(1, 4):
                loop.update(loop.given(batches, step))
            held.set()
    (name,) = out.folder.names("checkpoints")
    assert name.endswith("step_00000001.safetensors")
    written = load_file(out.folder.local(name))
    assert written.keys() == wanted.keys() and all(torch.equal(v, wanted[k]) for k, v in written.items())


def test_a_checkpoint_that_can_not_be_written_stops_the_training(
    out: Artefact, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Artefact.write_tensors

    def full(self: Artefact, name: str, *rest: object) -> None:
        if "checkpoints/step_00000005" in name:
            raise OSError(errno.ENOSPC, "No space left on device", name)
        real(self, name, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "due", lambda self: True)
        patch.setattr(Artefact, "write_tensors", full)
        with pytest.raises(OSError, match="No space left"):
            trained(out)
    assert trained(out) == whole
