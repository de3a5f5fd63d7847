"""The one training loop: it owns the device, precision, clipping, EMA, checkpoints, milestones, log and progress."""

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.profiler import record_function

from embprobe import console, signals
from embprobe.device import is_cuda, mix
from embprobe.errors import MachineError
from embprobe.store import BESIDE, CHECKPOINTS, Artefact, Json
from embprobe.training import checkpoints
from embprobe.training.board import Board
from embprobe.training.checkpoints import Plateau, Saver, State
from embprobe.training.profile import Profile
from embprobe.training.program import Program, Recorded, record, rehearse
from embprobe.training.task import EMA, Batches, Task

LOG_EVERY = 20  # steps between rows of the log
AHEAD = 2  # batches made while a step runs
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
    program: Literal["auto", "graph", "eager"] = "auto"  # a step as one CUDA graph, or operation by operation
    compiled: bool = False
    profile: Path | None = None  # folder of a trace
    tensorboard: Path | None = None  # folder of events


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
        self.board: Board | None = None
        self.task = task.to(config.device)
        optimisers = task.optimisers()
        ema = EMA(task.network, config.ema) if config.ema is not None else None
        self.state = State(self.task, optimisers, ema, 0, Plateau())
        self.base = {n: [float(g["lr"]) for g in o.param_groups] for n, o in optimisers.items()}
        self.on_gpu = is_cuda(config.device)
        if self.on_gpu:  # rates and counts of steps lie on the device, where a recorded step reads them
            for optimiser in optimisers.values():
                for group in optimiser.param_groups:
                    group |= {"capturable": True, "lr": torch.tensor(group["lr"], device=config.device)}
        self.run = Program(task, optimisers, config.device, bf16=config.precision == "bf16", clip=config.clip)
        self.recorded: dict[str, Recorded | None] = {}
        self.rehearsed: set[str | None] = set()
        self.profile = Profile(config.profile, config.label, config.device, bf16=config.precision == "bf16")
        if config.compiled:
            task.network.compile(fullgraph=True)

    @property
    def step(self) -> int:
        return self.state.step

    def weights(self) -> dict[str, Tensor]:
        """The weights that the artefact is about."""
        return self.state.ema.values if self.state.ema else self.task.network.state_dict()

    def given(self, batches: Batches, step: int) -> dict[str, Tensor]:
        """A step's batch and its random numbers, on the CPU; where a GPU can fetch them from without waiting."""
        batch = batches(step)
        batch |= self.task.draws(batch, torch.Generator().manual_seed(mix(self.config.seed, step)))
        return {k: v.pin_memory() if self.on_gpu else v for k, v in batch.items()}

    def update(self, batch: dict[str, Tensor]) -> None:
        """One step of every optimiser."""
        config, step = self.config, self.step
        torch.manual_seed(mix(config.seed, step))  # for what a foreign network may draw by itself
        scale = config.rate(step) * self.state.plateau.scale
        for name, optimiser in self.state.optimisers.items():
            for group, base in zip(optimiser.param_groups, self.base[name], strict=True):
                if self.on_gpu:
                    group["lr"].fill_(base * scale)
                else:
                    group["lr"] = base * scale
        if self.on_gpu and self.task.program(step) not in self.rehearsed:
            rehearse(self.run, self.there(batch), step)
            self.rehearsed.add(self.task.program(step))
        recorded = self.recording(batch)
        if recorded is not None:
            recorded(self.task, batch)
        else:
            self.run(self.there(batch), step)
        if self.state.ema:
            with record_function("averaging"):
                self.state.ema.update(step)
        self.state.step += 1
        self.task.after(self.step)

    def there(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch on the device."""
        return {k: v.to(self.config.device, non_blocking=True) for k, v in batch.items()}

    def recording(self, batch: dict[str, Tensor]) -> Recorded | None:
        """This step's program as a CUDA graph; None where it is run as it is."""
        name = self.task.program(self.step)
        if name is None or not self.on_gpu or self.config.program == "eager" or self.profile.unrecorded:
            return None
        if name not in self.recorded:
            self.recorded[name] = record(self.run, batch, self.step, self.config.device)
        recorded = self.recorded[name]
        return recorded if recorded is not None and recorded.fits(batch) else None

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
        self.task.scalars |= self.task.statistics()
        values = {k: float(v) for k, v in self.task.scalars.items()}
        self.out.log.add(step=self.step, images=self.step * self.config.images_per_step, **values)
        if self.board is not None:
            self.board.row(self.step, values)
        return values

    def load(self) -> None:
        """Continues from the newest whole checkpoint or milestone."""
        checkpoints.load_latest(self.state, self.out, self.config.milestones)
        self.recorded.clear()  # what the optimisers keep lies elsewhere now
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
    if out.has_weights() and (out.has(BESIDE) or not task.beside):
        checkpoints.load_weights(task, out)
        task.eval()
        return
    loop.load()
    task.train()
    loop.board = Board(config.tensorboard, out, loop.step) if config.tensorboard else None
    try:
        _train(loop, batches)
    finally:
        if loop.board is not None:
            loop.board.close()
    weights = {k: v.detach().clone() for k, v in loop.weights().items()}
    if task.beside:
        out.write_tensors(BESIDE, task.weights_beside())
    out.write_weights(weights)
    out.folder.clear(CHECKPOINTS)
    task.network.load_state_dict(weights)
    task.network._compiled_call_impl = None  # images of other numbers follow
    task.eval()


def _train(loop: Loop, batches: Batches) -> None:
    config, out, task = loop.config, loop.out, loop.task
    with (
        ThreadPoolExecutor(1) as pool,
        Saver(loop.state, out) as saver,
        console.progress(config.label, total=config.steps, unit="step", start=loop.step) as bar,
    ):

        def ahead(first: int) -> "deque[Future[dict[str, Tensor]]]":
            steps = range(first, min(first + AHEAD, config.steps))
            return deque(pool.submit(loop.given, batches, step) for step in steps)

        if loop.step == 0:
            saver.save()  # where the guard goes back to
        waiting = ahead(loop.step)
        while loop.step < config.steps:
            with loop.profile.wait():
                batch = waiting.popleft().result()
            if loop.step + AHEAD < config.steps:
                waiting.append(pool.submit(loop.given, batches, loop.step + AHEAD))
            with loop.profile.step():
                loop.update(batch)
            milestone, stop = loop.step in config.milestones, signals.requested()
            save = stop or saver.due()
            log = loop.step % LOG_EVERY == 0 or loop.step == config.steps or milestone
            if (log or save) and not loop.finite():
                saver.settle()
                loop.roll_back()
                bar.restart(loop.step)
                waiting = ahead(loop.step)
                continue
            loop.validate()
            if milestone and not out.has_weights(loop.step):
                out.write_weights(loop.weights() | task.weights_beside(), loop.step)
            values = loop.log() if log else {}
            bar.advance(1, **values)
            if save:
                saver.save()
            if stop:
                saver.settle()
                signals.check()
