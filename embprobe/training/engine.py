"""The one training loop: it owns the device, precision, clipping, EMA, checkpoints, milestones, log and progress."""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from embprobe import console, signals
from embprobe.errors import MachineError
from embprobe.store import CHECKPOINTS, Artefact, Json
from embprobe.training import checkpoints
from embprobe.training.checkpoints import Plateau, State
from embprobe.training.device import mix
from embprobe.training.task import EMA, Batches, Task

CHECKPOINT_SECONDS = 30.0
LOG_EVERY = 20  # steps between rows of the log
ROLLED_BACK = "rolled back"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How long and how to train."""

    steps: int
    seed: int
    images_per_step: int
    device: str = "cpu"
    precision: Literal["f32", "bf16"] = "f32"
    rate: Callable[[int], float] = lambda step: 1.0  # times each base rate
    clip: float | None = 1.0
    ema: float | None = None
    milestones: tuple[int, ...] = ()
    label: str = "training"
    plateau_every: int | None = None  # steps between validations
    patience: int = 2  # validations without improvement, after which the rate halves


def warmup_cosine(warmup: int, steps: int, floor: float = 0.0) -> Callable[[int], float]:
    """A rate that rises linearly over `warmup` steps and falls to `floor` by a cosine."""

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        share = (step - warmup) / max(1, steps - warmup)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    return rate


def warmup_constant(warmup: int) -> Callable[[int], float]:
    """A rate that rises linearly over `warmup` steps and stays."""
    return lambda step: min(1.0, (step + 1) / max(1, warmup))


class Loop:
    """One training: its state, and how a step changes it."""

    def __init__(self, task: Task, config: Fit, out: Artefact) -> None:
        self.config, self.out = config, out
        self.task = task.to(config.device)
        optimisers = task.optimisers()
        ema = EMA(task.network, config.ema) if config.ema is not None else None
        self.state = State(self.task, optimisers, ema, 0, Plateau())
        self.base = {n: [g["lr"] for g in o.param_groups] for n, o in optimisers.items()}
        self.owned = {n: [p for g in o.param_groups for p in g["params"]] for n, o in optimisers.items()}

    @property
    def step(self) -> int:
        return self.state.step

    def weights(self) -> dict[str, Tensor]:
        """The weights that the artefact is about."""
        return self.state.ema.values if self.state.ema else self.task.network.state_dict()

    def update(self, batch: dict[str, Tensor]) -> None:
        """One step of every optimiser."""
        config, optimisers = self.config, self.state.optimisers
        torch.manual_seed(mix(config.seed, self.step))
        scale = config.rate(self.step) * self.state.plateau.scale
        for name, optimiser in optimisers.items():
            for group, base in zip(optimiser.param_groups, self.base[name], strict=True):
                group["lr"] = base * scale
        kind = torch.device(config.device).type
        losses = self.task.losses({k: v.to(config.device, non_blocking=True) for k, v in batch.items()}, self.step)
        while True:
            with torch.autocast(kind, torch.bfloat16, enabled=config.precision == "bf16"):
                item = next(losses, None)
            if item is None:
                break
            name, loss = item
            self.task.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            if config.clip is not None:
                nn.utils.clip_grad_norm_(self.owned[name], config.clip)
            optimisers[name].step()
            self.task.scalars[f"loss_{name}" if len(optimisers) > 1 else "loss"] = loss.detach()
        if self.state.ema:
            self.state.ema.update(self.task.network, self.step)
        self.state.step += 1
        self.task.after(self.step)

    def validate(self) -> None:
        """Halves the rate once validation stops improving."""
        every = self.config.plateau_every
        loss = self.task.validate() if every and self.step % every == 0 else None
        if loss is not None:
            self.state.plateau.judge(loss, self.config.patience)

    def finite(self) -> bool:
        """Whether all that is logged is a finite number."""
        return all(math.isfinite(float(v)) for v in self.task.scalars.values())

    def log(self) -> dict[str, float]:
        """Takes down the scalars; returns them."""
        values = {k: float(v) for k, v in self.task.scalars.items()}
        self.out.log.add(step=self.step, images=self.step * self.config.images_per_step, **values)
        return values

    def save(self) -> None:
        """Writes a checkpoint."""
        with signals.saving():
            checkpoints.save_checkpoint(self.state, self.out)

    def load(self) -> None:
        """Continues from the newest whole checkpoint or milestone."""
        checkpoints.load_latest(self.state, self.out, self.config.device, self.config.milestones)
        earlier = self.rolled_back()
        if earlier is not None and earlier.get("to") == self.step:
            self.state.plateau.scale /= 2  # its checkpoint was written before

    def rolled_back(self) -> dict[str, Json] | None:
        """What the log tells of going back, also where the run was killed since; None where it did not."""
        events = self.out.log.events("reopened", ROLLED_BACK)
        return events[-1] if events and events[-1]["event"] == ROLLED_BACK else None

    def roll_back(self) -> None:
        """To the last checkpoint at half the rate, once; a second time MachineError."""
        bad, again = self.step, self.rolled_back() is not None
        self.load()
        if again:
            raise MachineError(
                f"the loss is not finite near step {bad}, again after going back; the last good checkpoint is step "
                f"{self.step}: try a lower --rate or --precision f32"
            )
        self.state.plateau.scale /= 2
        self.out.log.add(event=ROLLED_BACK, near=bad, to=self.step)
        console.say(f"the loss is not finite near step {bad}; back to step {self.step}, once, at half the rate")


def fit(task: Task, batches: Batches, config: Fit, out: Artefact) -> None:
    """Trains a task, or continues it; leaves the final (EMA) weights in task.network and in the artefact.

    Raises Interrupted after a checkpoint when a signal came, and MachineError when the loss is not finite twice.
    """
    loop = Loop(task, config, out)
    if out.has_weights():
        checkpoints.load_weights(task.network, out.weights(), config.device)
        task.eval()
        return
    loop.load()
    task.train()
    _train(loop, batches)
    weights = {k: v.detach().clone() for k, v in loop.weights().items()}
    out.write_weights(weights)
    out.folder.clear(CHECKPOINTS)
    task.network.load_state_dict(weights)
    task.eval()


def _train(loop: Loop, batches: Batches) -> None:
    config, out = loop.config, loop.out
    saved = time.monotonic()
    if loop.step == 0:
        loop.save()  # where the guard goes back to
    with (
        ThreadPoolExecutor(1) as pool,
        console.progress(config.label, total=config.steps, unit="step", start=loop.step) as bar,
    ):
        ahead = pool.submit(batches, loop.step)
        while loop.step < config.steps:
            batch = ahead.result()
            if loop.step + 1 < config.steps:
                ahead = pool.submit(batches, loop.step + 1)
            loop.update(batch)
            milestone = loop.step in config.milestones
            save = signals.requested() or time.monotonic() - saved > CHECKPOINT_SECONDS
            log = loop.step % LOG_EVERY == 0 or loop.step == config.steps or milestone
            if (log or save) and not loop.finite():
                loop.roll_back()
                bar.restart(loop.step)
                ahead = pool.submit(batches, loop.step)
                continue
            loop.validate()
            if milestone and not out.has_weights(loop.step):
                out.write_weights(loop.weights(), loop.step)
            values = loop.log() if log else {}
            bar.advance(1, **values)
            if save:
                loop.save()
                saved = time.monotonic()
                signals.check()
