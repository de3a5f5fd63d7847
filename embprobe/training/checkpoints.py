"""Everything the next step of a training depends on, as a file: the same step follows whenever it is loaded."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from embprobe import console, signals
from embprobe.errors import DamagedError
from embprobe.store import CHECKPOINTS, Artefact
from embprobe.training.task import EMA, Task

LEAST_SECONDS = 30.0  # between checkpoints
SHARE = 0.03  # of the time that checkpoints may take


@dataclass
class Plateau:
    """How far the rate has fallen, and the best validation so far."""

    scale: float = 1.0
    best: float = float("inf")
    bad: int = 0  # validations since the best

    def judge(self, loss: float, patience: int) -> None:
        """Halves the rate when validation has not improved for `patience` times."""
        if loss < self.best * (1 - 1e-4):
            self.best, self.bad = loss, 0
            return
        self.bad += 1
        if self.bad > patience:
            self.scale, self.bad = self.scale / 2, 0


@dataclass
class State:
    """What a training is at a step: task, optimisers, average, step and plateau."""

    task: Task
    optimisers: dict[str, torch.optim.Optimizer]
    ema: EMA | None
    step: int
    plateau: Plateau


class Saver:
    """Writes checkpoints beside the training, so seldom that they take at most `SHARE` of the time.

    The state is copied when it is saved; a thread writes the copy, a new file each time, and removes the one before.
    """

    def __init__(self, state: State, out: Artefact) -> None:
        self.state, self.out = state, out
        self.pool = ThreadPoolExecutor(1)
        self.pending: Future[float] | None = None
        self.saved, self.cost = time.monotonic(), 0.0

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.pool.shutdown()
        if kind is None:
            self.settle()

    def due(self) -> bool:
        """Whether it is time for another one."""
        if self.pending is not None and not self.pending.done():
            return False
        return time.monotonic() - self.saved > max(LEAST_SECONDS, self.cost / SHARE)

    def save(self) -> None:
        """Copies the state, and has it written."""
        self.settle()
        began = time.monotonic()
        name, facts = _name_of(self.state), _facts_of(self.state)
        tensors, copied = _copied(_tensors_of(self.state))
        self.saved = time.monotonic()
        self.cost = self.saved - began
        self.pending = self.pool.submit(self._write, name, tensors, facts, copied)

    def settle(self) -> None:
        """Waits until what was saved is on the disk."""
        if self.pending is not None:
            with signals.saving():
                self.cost += self.pending.result()
            self.pending = None

    def _write(
        self, name: str, tensors: dict[str, Tensor], facts: dict[str, str], copied: "torch.cuda.Event | None"
    ) -> float:
        """Seconds that it took."""
        began = time.monotonic()
        if copied is not None:
            copied.synchronize()
        before = self.out.folder.names(CHECKPOINTS)
        if name not in before:
            self.out.write_tensors(name, tensors, facts)
        self.out.remove(*(n for n in before if n != name))
        return time.monotonic() - began


def _name_of(state: State) -> str:
    return f"{CHECKPOINTS}/step_{state.step:08d}.safetensors"


def _facts_of(state: State) -> dict[str, str]:
    return {"step": str(state.step), "plateau": json.dumps(asdict(state.plateau))}


def _tensors_of(state: State) -> dict[str, Tensor]:
    tensors = {f"task.{k}": v for k, v in state.task.state_dict().items()}
    if state.ema:
        tensors |= {f"ema.{k}": v for k, v in state.ema.values.items()}
    for name, optimiser in state.optimisers.items():
        for index, values in optimiser.state_dict()["state"].items():
            tensors |= {f"opt.{name}.{index}.{k}": torch.as_tensor(v) for k, v in values.items() if v is not None}
    return tensors


def _copied(tensors: dict[str, Tensor]) -> "tuple[dict[str, Tensor], torch.cuda.Event | None]":
    """Copies in the CPU's memory; those of a GPU's are there once the event has come."""
    copies = {k: torch.empty_like(v, device="cpu", pin_memory=v.is_cuda) for k, v in tensors.items()}
    for name, value in tensors.items():
        copies[name].copy_(value.detach(), non_blocking=True)
    if not any(v.is_cuda for v in tensors.values()):
        return copies, None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return copies, event


def load_latest(state: State, out: Artefact, milestones: Sequence[int] = ()) -> None:
    """Continues from the newest whole checkpoint, else milestone, else from the start.

    A checkpoint behind a milestone that the disk has lost would never make it again, and is not taken.
    """
    lost = [step for step in milestones if not out.has_weights(step)]
    for name in reversed(out.folder.names(CHECKPOINTS)):
        try:
            if lost and _step_of(name) >= lost[0]:
                console.say(f"the milestone at step {lost[0]} is lost; going back behind it")
                out.remove(name)
                continue
            _load_checkpoint(state, str(out.folder.local(name)))
            break
        except DamagedError:
            console.say(f"{name} is damaged; falling back")
            out.remove(name)
    else:
        if out.mends or not lost or lost[0] > max(out.milestones(), default=0):
            _load_milestone(state, out)
        if out.mends and 0 < state.step < max(milestones, default=0):
            raise DamagedError(
                f"its weights would be others if they were made again from the milestone at step {state.step}; "
                "`embprobe verify --repair --anew` trains from the start"
            )
    out.log.forget_after(state.step)


def _step_of(name: str) -> int:
    return int(name.rpartition("_")[2].partition(".")[0])


def _load_checkpoint(state: State, path: str) -> None:
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    state.step, state.plateau = int(facts["step"]), Plateau(**json.loads(facts["plateau"]))
    state.task.load_state_dict({k[5:]: v for k, v in tensors.items() if k.startswith("task.")})
    if state.ema:
        state.ema.load({k[4:]: v for k, v in tensors.items() if k.startswith("ema.")})
    for name, optimiser in state.optimisers.items():
        owned = [p for g in optimiser.param_groups for p in g["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"opt.{name}."):
                index, entry = key[len(f"opt.{name}.") :].split(".", 1)
                moments.setdefault(int(index), {})[entry] = _laid_out_as(owned[int(index)], value)
        groups = optimiser.param_groups
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
        optimiser.param_groups = groups  # loading makes new ones; a task may hold on to these


def _load_milestone(state: State, out: Artefact) -> None:
    for step in reversed(out.milestones()):
        try:
            weights = load_weights(state.task, out, step)
        except DamagedError:
            continue
        if state.ema:
            state.ema.load(weights)
        state.step = step
        out.log.add(event="continued from a milestone", at=step)
        console.say(f"continuing from the milestone at step {step}; the result can differ from the first")
        return


def load_weights(task: Task, out: Artefact, step: int | None = None) -> dict[str, Tensor]:
    """Gives a task's networks the final weights, or a milestone's; they too. Raises DamagedError where they are others'."""
    path = out.weights(step)
    weights = load_file(str(path))
    if step is None and task.beside:
        weights |= load_file(str(out.weights_beside()))
    try:
        task.load_weights(weights)
    except RuntimeError:
        raise DamagedError(f"{path} holds the weights of another network; no stage wrote it so") from None
    return weights


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """The value with the parameter's strides: fused optimisers walk both in the order of memory (channels-last)."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
