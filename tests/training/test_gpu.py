"""The promises of the training loop on a real GPU."""

from pathlib import Path

import pytest
import torch

from embprobe import console, signals
from embprobe.device import device_of
from embprobe.errors import Interrupted
from embprobe.store import Store
from embprobe.training.engine import Fit, Loop, fit
from tests.tiny import Toy
from tests.training.tasks import TASKS, batches

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
each_task = pytest.mark.parametrize("name", TASKS)
each_program = pytest.mark.parametrize("program", ["eager", "graph"])


def loop_of(name: str, folder: Path, program: str, precision: str = "f32") -> Loop:
    torch.manual_seed(0)
    config = Fit(
        steps=30, seed=1, images_per_step=8, device=device_of("cuda"), ema=0.9, program=program, precision=precision  # type: ignore[arg-type]
    )  # fmt: skip
    loop = Loop(TASKS[name](), config, Store(folder).open(Toy()))
    loop.task.train()
    return loop


@each_task
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_recorded_step_equals_an_unrecorded_one(
    name: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "say", lambda text: pytest.fail(text))
    ends = []
    for program in ("eager", "graph"):
        loop = loop_of(name, tmp_path / program, program, precision)
        for step in range(4):
            loop.update(loop.given(lambda step: batches(name, step), step))
        ends.append([t.clone() for t in loop.run.tensors()])
        assert bool(loop.recorded) == (program == "graph" and name != "ijepa")
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@each_task
@each_program
def test_a_step_waits_for_nothing(name: str, program: str, tmp_path: Path) -> None:
    loop = loop_of(name, tmp_path, program)
    for step in range(4):
        batch = loop.given(lambda step: batches(name, step), step)
        torch.cuda.set_sync_debug_mode("error" if step >= 2 else "default")
        try:
            loop.update(batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@each_task
@each_program
@pytest.mark.parametrize("compiled", [False, True])
def test_stopped_and_continued_equals_whole(
    name: str, program: str, compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path, stop: int | None = None) -> dict[str, str]:
        asked = iter(range(1, 100))
        torch.manual_seed(0)
        task = TASKS[name]()
        config = Fit(
            steps=9, seed=1, images_per_step=8, device=device_of("cuda"), ema=0.9, program=program, compiled=compiled  # type: ignore[arg-type]
        )  # fmt: skip
        out = Store(folder).open(Toy())
        with monkeypatch.context() as patch, out.locked():
            if stop is not None:
                patch.setattr(signals, "requested", lambda: next(asked) >= stop)
                patch.setattr(signals, "_received", [15])
                with pytest.raises(Interrupted):
                    fit(task, lambda step: batches(name, step), config, out)
            else:
                fit(task, lambda step: batches(name, step), config, out)
        return dict(Store(folder).open(Toy()).folder.sums)

    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", 4)
    assert run(tmp_path / "parts") == whole
