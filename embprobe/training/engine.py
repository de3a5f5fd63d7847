"""The one training loop: it owns the device, precision, clipping, EMA, checkpoints, milestones, log and progress."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from embprobe import console, signals
from embprobe.errors import DamagedError, MachineError, UserError
from embprobe.training.milestones import log_spaced, milestone_name, milestone_steps
from embprobe.store import Artefact, write_whole

WEIGHTS = "weights.safetensors"
CHECKPOINTS = "checkpoints"  # a new file each time, so that a kill can't part a file from its checksum
CHECKPOINT_SECONDS = 30.0
LOG_EVERY = 20  # steps between rows of log.jsonl

__all__ = [
    "Batches",
    "Fit",
    "Task",
    "device_of",
    "fit",
    "log_spaced",
    "milestone_name",
    "milestone_steps",
    "mix",
    "warmup_cosine",
]

Batches = Callable[[int], dict[str, Tensor]]


class Task(nn.Module):
    """What is trained; `network` is the product, its (EMA) weights become the artefact's."""

    network: nn.Module
    scalars: dict[str, Tensor | float]

    def __init__(self) -> None:
        super().__init__()
        self.scalars = {}

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """Optimisers by name, with their base rates."""
        raise NotImplementedError

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """Yields (optimiser, loss); each is followed by that optimiser's update before the generator goes on."""
        raise NotImplementedError

    def after(self, step: int) -> None:
        """Runs after all updates of a step."""

    def validate(self) -> float | None:
        """A loss on held-out rows, for rates that fall on a plateau."""
        return None


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
    plateau_every: int | None = (
        None  # steps between validations; the rate halves when one is no better than `patience` before
    )
    patience: int = 2


def device_of(name: str) -> str:
    """`auto` resolved. Raises UserError for a device this machine lacks."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):
        raise UserError(
            f"--device {name} isn't there; this machine offers {'cuda, ' if torch.cuda.is_available() else ''}cpu"
        ) from None
    return name


def mix(*parts: int | str) -> int:
    """A 63-bit seed from several values."""
    return int.from_bytes(hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest(), "little") >> 1


def warmup_cosine(warmup: int, steps: int, floor: float = 0.0) -> Callable[[int], float]:
    """A rate that rises linearly over `warmup` steps and falls to `floor` by a cosine."""

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        share = (step - warmup) / max(1, steps - warmup)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    return rate


class EMA:
    """Exponential moving average of a network's floating tensors."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Follows the network; the first steps count more, so that short runs don't keep the initialisation."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = network.state_dict()
        floating = [k for k, v in state.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.values[k] for k in floating], [state[k].detach() for k in floating], 1 - decay)
        for key in state.keys() - set(floating):
            self.values[key].copy_(state[key])


class Loop:
    """The state of one training: task, optimisers, EMA, step and plateau history."""

    def __init__(self, task: Task, config: Fit, out: Artefact) -> None:
        self.config, self.out = config, out
        self.task = task.to(config.device)
        self.optimisers = task.optimisers()
        self.base = {n: [g["lr"] for g in o.param_groups] for n, o in self.optimisers.items()}
        self.ema = EMA(task.network, config.ema) if config.ema is not None else None
        self.step = 0
        self.plateau: dict[str, float] = {"scale": 1.0, "best": math.inf, "bad": 0}

    def product(self) -> dict[str, Tensor]:
        """The weights that the artefact is about."""
        return self.ema.values if self.ema else self.task.network.state_dict()

    def update(self, batch: dict[str, Tensor]) -> None:
        """One step of every optimiser."""
        config = self.config
        torch.manual_seed(mix(config.seed, self.step))
        scale = config.rate(self.step) * self.plateau["scale"]
        for name, optimiser in self.optimisers.items():
            for group, base in zip(optimiser.param_groups, self.base[name], strict=True):
                group["lr"] = base * scale
        kind = torch.device(config.device).type
        generator = self.task.losses({k: v.to(config.device, non_blocking=True) for k, v in batch.items()}, self.step)
        while True:
            with torch.autocast(kind, torch.bfloat16, enabled=config.precision == "bf16"):
                item = next(generator, None)
            if item is None:
                break
            name, loss = item
            self.task.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            owned = [p for g in self.optimisers[name].param_groups for p in g["params"]]
            if config.clip is not None:
                nn.utils.clip_grad_norm_(owned, config.clip)
            self.optimisers[name].step()
            self.task.scalars[f"loss_{name}" if len(self.optimisers) > 1 else "loss"] = loss.detach()
        if self.ema:
            self.ema.update(self.task.network, self.step)
        self.step += 1
        self.task.after(self.step)

    def validate(self) -> None:
        """Halves the rate once validation stops improving."""
        every = self.config.plateau_every
        if every and self.step % every == 0:
            loss = self.task.validate()
            if loss is not None and loss < self.plateau["best"] * (1 - 1e-4):
                self.plateau |= {"best": loss, "bad": 0}
            elif loss is not None:
                self.plateau["bad"] += 1
                if self.plateau["bad"] > self.config.patience:
                    self.plateau |= {"scale": self.plateau["scale"] / 2, "bad": 0}

    # -- checkpoints

    def save(self) -> None:
        """Writes everything the next step depends on."""
        tensors = {f"task.{k}": v for k, v in self.task.state_dict().items()}
        if self.ema:
            tensors |= {f"ema.{k}": v for k, v in self.ema.values.items()}
        for name, optimiser in self.optimisers.items():
            for index, state in optimiser.state_dict()["state"].items():
                tensors |= {f"opt.{name}.{index}.{k}": torch.as_tensor(v) for k, v in state.items() if v is not None}
        before = self.out.files(CHECKPOINTS)
        name = f"{CHECKPOINTS}/step_{self.step:08d}.safetensors"
        if name not in before:
            self.out.write_tensors(name, tensors, {"step": str(self.step), "plateau": json.dumps(self.plateau)})
        self.out.remove(*(n for n in before if n != name))

    def load(self) -> None:
        """Continues from the newest whole checkpoint, else milestone, else from the start."""
        for name in reversed(self.out.files(CHECKPOINTS)):
            try:
                self._load_checkpoint(str(self.out.file(name)))
                break
            except DamagedError:
                console.say(f"{name} is damaged; falling back")
                self.out.remove(name)
        else:
            self._load_milestone()
        logged = self.out.read_log()
        rows = [r for r in logged if r.get("step", 0) <= self.step]
        if len(rows) < len(logged):
            write_whole(self.out.path / "log.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())

    def _load_checkpoint(self, path: str) -> None:
        tensors = load_file(path, device=self.config.device)
        with safe_open(path, "pt") as file:
            facts = file.metadata()
        self.step, self.plateau = int(facts["step"]), json.loads(facts["plateau"])
        self.task.load_state_dict({k[5:]: v for k, v in tensors.items() if k.startswith("task.")})
        if self.ema:
            self.ema.values = {k[4:]: v for k, v in tensors.items() if k.startswith("ema.")}
        for name, optimiser in self.optimisers.items():
            owned = [p for g in optimiser.param_groups for p in g["params"]]
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"opt.{name}."):
                    index, entry = key[len(f"opt.{name}.") :].split(".", 1)
                    state.setdefault(int(index), {})[entry] = _laid_out_as(owned[int(index)], value)
            groups = optimiser.param_groups
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
            optimiser.param_groups = groups  # loading makes new ones; a task may hold on to these

    def _load_milestone(self) -> None:
        for step in reversed(milestone_steps(self.out)):
            try:
                weights = load_file(str(self.out.file(milestone_name(step))), device=self.config.device)
            except DamagedError:
                continue
            self.task.network.load_state_dict(weights)
            if self.ema:
                self.ema.values = {k: v.clone() for k, v in weights.items()}
            self.step = step
            if step < self.config.steps:
                console.say(f"continuing from the milestone at step {step}; the result can differ from the first")
                self.out.note(continued_from_milestone=step)
            return

    def finite(self) -> bool:
        """Whether all that is logged is a finite number."""
        return all(math.isfinite(float(v)) for v in self.task.scalars.values())

    def log(self) -> dict[str, float]:
        """Takes down the scalars; returns them."""
        values = {k: float(v) for k, v in self.task.scalars.items()}
        self.out.log(step=self.step, images=self.step * self.config.images_per_step, **values)
        return values


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """The value with the parameter's strides: fused optimisers walk both in the order of memory (channels-last)."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def fit(task: Task, batches: Batches, config: Fit, out: Artefact) -> None:
    """Trains a task, or continues it; leaves the final (EMA) weights in task.network and in the artefact.

    batches: step → CPU tensors, a pure function. Raises Interrupted after a checkpoint when a signal came, and
    MachineError when the loss is not finite twice in a row.
    """
    loop = Loop(task, config, out)
    if out.ledger.whole(WEIGHTS):
        task.network.load_state_dict(load_file(str(out.file(WEIGHTS)), device=config.device))
        task.eval()
        return
    loop.load()
    task.train()
    _train(loop, batches)
    weights = {k: v.detach().clone() for k, v in loop.product().items()}
    out.write_tensors(WEIGHTS, weights)
    out.remove(*out.files(CHECKPOINTS))
    task.network.load_state_dict(weights)
    task.eval()


def _train(loop: Loop, batches: Batches) -> None:
    config, out = loop.config, loop.out
    saved, rolled_back = time.monotonic(), False
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
                _roll_back(loop, rolled_back)
                rolled_back, bar.done = True, loop.step
                ahead = pool.submit(batches, loop.step)
                continue
            loop.validate()
            if milestone and not out.ledger.whole(milestone_name(loop.step)):
                out.write_tensors(milestone_name(loop.step), loop.product())
            shown = loop.log() if log else {}
            bar.advance(1, **shown)
            if save:
                loop.save()
                saved = time.monotonic()
                signals.check()


def _roll_back(loop: Loop, again: bool) -> None:
    """To the last checkpoint with half the rate, once; a second time the run stops."""
    bad = loop.step
    loop.load()
    if again:
        raise MachineError(
            f"the loss is not finite near step {bad}, again after going back; the last good checkpoint is step "
            f"{loop.step}: try a lower --rate or --precision f32"
        )
    loop.plateau["scale"] /= 2
    loop.out.note(rolled_back_from_step=bad)
    console.say(f"the loss is not finite near step {bad}; back to step {loop.step}, once, at half the rate")
