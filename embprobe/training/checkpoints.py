"""Everything the next step of a training depends on, as a file: the same step follows whenever it is loaded."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from embprobe import console
from embprobe.errors import DamagedError
from embprobe.store import CHECKPOINTS, Artefact
from embprobe.training.task import EMA, Task


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


def save_checkpoint(state: State, out: Artefact) -> None:
    """Writes a checkpoint, a new file each time, and removes the one before."""
    tensors = {f"task.{k}": v for k, v in state.task.state_dict().items()}
    if state.ema:
        tensors |= {f"ema.{k}": v for k, v in state.ema.values.items()}
    for name, optimiser in state.optimisers.items():
        for index, values in optimiser.state_dict()["state"].items():
            tensors |= {f"opt.{name}.{index}.{k}": torch.as_tensor(v) for k, v in values.items() if v is not None}
    before = out.folder.names(CHECKPOINTS)
    name = f"{CHECKPOINTS}/step_{state.step:08d}.safetensors"
    if name not in before:
        facts = {"step": str(state.step), "plateau": json.dumps(asdict(state.plateau))}
        out.write_tensors(name, tensors, facts)
    out.remove(*(n for n in before if n != name))


def load_latest(state: State, out: Artefact, device: str, milestones: Sequence[int] = ()) -> None:
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
            _load_checkpoint(state, str(out.folder.local(name)), device)
            break
        except DamagedError:
            console.say(f"{name} is damaged; falling back")
            out.remove(name)
    else:
        if out.mends or not lost or lost[0] > max(out.milestones(), default=0):
            _load_milestone(state, out, device)
        if out.mends and 0 < state.step < max(milestones, default=0):
            raise DamagedError(
                f"its weights would be others if they were made again from the milestone at step {state.step}; "
                "`embprobe verify --repair --anew` trains from the start"
            )
    out.log.forget_after(state.step)


def _step_of(name: str) -> int:
    return int(name.rpartition("_")[2].partition(".")[0])


def _load_checkpoint(state: State, path: str, device: str) -> None:
    tensors = load_file(path, device=device)
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    state.step, state.plateau = int(facts["step"]), Plateau(**json.loads(facts["plateau"]))
    state.task.load_state_dict({k[5:]: v for k, v in tensors.items() if k.startswith("task.")})
    if state.ema:
        state.ema.values = {k[4:]: v for k, v in tensors.items() if k.startswith("ema.")}
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


def _load_milestone(state: State, out: Artefact, device: str) -> None:
    for step in reversed(out.milestones()):
        try:
            weights = load_weights(state.task.network, out.weights(step), device)
        except DamagedError:
            continue
        if state.ema:
            state.ema.values = {k: v.clone() for k, v in weights.items()}
        state.step = step
        out.log.add(event="continued from a milestone", at=step)
        console.say(f"continuing from the milestone at step {step}; the result can differ from the first")
        return


def load_weights(network: nn.Module, path: Path, device: str) -> dict[str, Tensor]:
    """Gives a network the weights of a file; they too. Raises DamagedError where they are another network's."""
    weights = load_file(str(path), device=device)
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise DamagedError(f"{path} holds the weights of another network; no stage wrote it so") from None
    return weights


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """The value with the parameter's strides: fused optimisers walk both in the order of memory (channels-last)."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
