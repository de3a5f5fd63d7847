"""The training loop on a pretended GPU: it gives what the CPU gives, waits for nothing, and can be recorded."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from embprobe import console, signals
from embprobe.errors import Interrupted
from embprobe.nn.classifier import Classifier
from embprobe.store import Store
from embprobe.training.engine import Fit, Loop, fit
from tests.pretended import Waits, gpu
from tests.tiny import Toy
from tests.training.tasks import TASKS, batches

__all__ = ["gpu"]


each_task = pytest.mark.parametrize("name", TASKS)


def trained(name: str, folder: Path, device: str, steps: int = 4, **options: object) -> dict[str, float]:
    """What the last step's row of the log says."""
    torch.manual_seed(0)
    task = TASKS[name]()
    config = Fit(steps=steps, seed=1, images_per_step=8, device=device, ema=0.9, **options)  # type: ignore[arg-type]
    out = Store(folder).open(Toy())
    with out.locked():
        fit(task, lambda step: batches(name, step), config, out)
    return out.log.rows()[-1]


@each_task
def test_a_gpu_gives_what_the_cpu_gives(name: str, tmp_path: Path, gpu: Waits) -> None:
    """Recorded where it can be, which is checked against the unrecorded step."""
    here = trained(name, tmp_path / "cpu", "cpu")
    there = trained(name, tmp_path / "gpu", "cuda:0")
    assert here.keys() == there.keys()
    assert there == {key: pytest.approx(value, rel=1e-2) for key, value in here.items()}


@each_task
@pytest.mark.parametrize("program", ["eager", "graph"])
def test_a_step_waits_for_nothing(
    name: str, program: str, tmp_path: Path, gpu: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(console, "say", lambda text: pytest.fail(text))
    config = Fit(steps=30, seed=1, images_per_step=8, device="cuda:0", ema=0.9, program=program)  # type: ignore[arg-type]
    out = Store(tmp_path).open(Toy())
    with out.locked():
        loop = Loop(TASKS[name](), config, out)
        for step in range(4):
            batch = loop.given(lambda step: batches(name, step), step)
            if step >= 2:  # constants are on the device, and what can be recorded is recorded
                gpu.clear()
            loop.update(batch)
            if step >= 2:
                assert not gpu.count, gpu.count
    recorded = [r for r in loop.recorded.values() if r is not None]
    assert bool(recorded) == (program == "graph" and name != "ijepa")


@each_task
def test_random_numbers_are_the_same_on_every_device(name: str, tmp_path: Path, gpu: Waits) -> None:
    drawn = []
    for device in ("cpu", "cuda:0"):
        torch.manual_seed(0)
        config = Fit(steps=30, seed=1, images_per_step=8, device=device)
        loop = Loop(TASKS[name](), config, Store(tmp_path).open(Toy()))
        drawn.append({k: v.clone() for k, v in loop.given(lambda step: batches(name, step), 7).items()})
    assert drawn[0].keys() == drawn[1].keys()
    assert all(torch.equal(value, drawn[1][key]) for key, value in drawn[0].items())


def test_what_is_dropped_is_the_same_on_every_device(gpu: Waits) -> None:
    from embprobe.nn.dropout import KeyedDropout

    layer, x = KeyedDropout(0.3), torch.ones(50, 70)
    layer.key.fill_(12345)
    here = layer(x)
    assert torch.equal(layer.to("cuda:0")(x.to("cuda:0")).cpu(), here)


def test_a_recording_that_does_something_else_is_not_used(
    tmp_path: Path, gpu: Waits, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number that changes from run to run is frozen in a recording."""

    class Counting(Classifier):
        runs = 0

        def losses(self, batch: dict[str, torch.Tensor], step: int) -> Iterator[tuple[str, torch.Tensor]]:
            self.runs += 1
            for name, loss in super().losses(batch, step):
                yield name, loss * self.runs

    loop = Loop(
        Counting((3,), 1e-3, True),
        Fit(steps=30, seed=1, images_per_step=8, device="cuda:0"),
        Store(tmp_path).open(Toy()),
    )
    before = [p.clone() for p in loop.task.parameters()]
    batch = loop.given(lambda step: batches("classifier", step), 0)
    assert loop.recording(batch) is None
    assert "a step is not recorded as a CUDA graph (a replay gives other bits)" in capsys.readouterr().err
    assert all(torch.equal(p.cpu(), b.cpu()) for p, b in zip(loop.task.parameters(), before, strict=True))


@pytest.mark.parametrize("name", ["dit", "adversarial"])
def test_stopped_and_continued_under_a_graph_equals_whole(
    name: str, tmp_path: Path, gpu: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path, stop: int | None = None) -> dict[str, str]:
        steps = iter(range(1, 100))
        with monkeypatch.context() as patch:
            if stop is not None:
                patch.setattr(signals, "requested", lambda: next(steps) >= stop)
                patch.setattr(signals, "_received", [15])
            try:
                trained(name, folder, "cuda:0", 5, program="graph", milestones=(2, 5))
            except Interrupted:
                assert stop is not None
        return dict(Store(folder).open(Toy()).folder.sums)

    whole = run(tmp_path / "whole")
    assert run(tmp_path / "parts", 3) != whole
    assert run(tmp_path / "parts") == whole


def test_what_has_no_deterministic_implementation_is_said_and_goes_on(
    tmp_path: Path, gpu: Waits, capsys: pytest.CaptureFixture[str]
) -> None:
    class Wild(Classifier):
        def losses(self, batch: dict[str, torch.Tensor], step: int) -> Iterator[tuple[str, torch.Tensor]]:
            for name, loss in super().losses(batch, step):
                if loss.is_cuda and not torch.is_deterministic_algorithms_warn_only_enabled():
                    raise RuntimeError(
                        "wild_pool_backward_cuda does not have a deterministic implementation, but you set"
                    )
                yield name, loss

    ends = []
    for number, device in enumerate(("cpu", "cuda:0")):
        torch.manual_seed(0)
        loop = Loop(Wild((3,), 1e-3, True), Fit(steps=30, seed=1, images_per_step=8, device=device),
                    Store(tmp_path / str(number)).open(Toy()))  # fmt: skip
        torch.use_deterministic_algorithms(number == 1)
        for step in range(2):
            loop.update(loop.given(lambda step: batches("classifier", step), step))
        ends.append(float(loop.task.scalars["loss"]))
    assert ends[1] == pytest.approx(ends[0], rel=1e-2)  # the rehearsal is no step
    said = capsys.readouterr().err
    assert said.count("wild_pool_backward_cuda can't be computed the same way every time") == 1
