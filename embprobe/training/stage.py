"""What all stages that train share: their options, and the way from a task to its weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe.stage import DETERMINISTIC, Stage, option
from embprobe.store import Artefact
from embprobe.views import log_spaced

if TYPE_CHECKING:
    from torch import nn

    from embprobe.training.task import Batches, Task


COMPILE = "compile the network for this machine, which takes a minute first"


@dataclass(frozen=True, kw_only=True)
class Training(Stage):
    """A stage that trains a network; the defaults are each stage's own."""

    steps: int = option("optimiser steps", 20_000, least=1)
    batch: int = option("images per step", 64, least=1)
    rate: float = option("learning rate at its peak", 1e-3, above=0)
    seed: int = option("seed of initialisation, batches and noise", 0, least=0)
    precision: Literal["f32", "bf16"] = option("of the forward and backward pass", "f32")
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)
    deterministic: bool = option(DETERMINISTIC, True, runtime=True)
    program: Literal["auto", "graph", "eager"] = option(
        "on a GPU: a step recorded as one CUDA graph, where its shapes stay, or operation by operation",
        "auto",
        runtime=True,
    )

    profile: Path | None = option(
        "write a trace of some steps into this folder, and say where the time goes", None, runtime=True, path="folder"
    )

    tensorboard: Path | None = option(
        "also write scalars as they come, and grids of images, below this folder for TensorBoard",
        None,
        runtime=True,
        path="folder",
    )

    def export(self, out: Artefact) -> None:
        """What TensorBoard is to show, whole, also of a training that was finished before."""
        if self.tensorboard is not None:
            from embprobe.training.board import show_whole

            show_whole(self.tensorboard, out)

    def work(self) -> float:
        """Images seen."""
        return float(self.steps * self.batch)

    def train(
        self,
        build: "Callable[[], Task]",
        batches: "Batches",
        rate: Callable[[int], float],
        out: Artefact,
        *,
        label: str,
        milestones: bool = True,
        kept: tuple[int, ...] = (),
        clip: float | None = 1.0,
        ema: float | None = None,
        plateau_every: int | None = None,
        patience: int = 2,
    ) -> "nn.Module":
        """The trained network on its device, from where an earlier run ended; `build` draws from the stage's seed.

        Milestones are log-spaced, and at the steps `kept`.
        """
        import torch

        from embprobe.device import device_of
        from embprobe.training.engine import Fit, fit

        torch.manual_seed(self.seed)
        task = build()
        config = Fit(
            steps=self.steps,
            seed=self.seed,
            images_per_step=self.batch,
            device=device_of(self.device, deterministic=self.deterministic),
            program=self.program,
            compiled=getattr(self, "compile", False),
            profile=self.profile,
            tensorboard=self.tensorboard,
            precision=self.precision,
            rate=rate,
            clip=clip,
            ema=ema,
            milestones=tuple(sorted({*log_spaced(self.steps), *kept})) if milestones and self.steps else (),
            label=label,
            plateau_every=plateau_every,
            patience=patience,
        )
        fit(task, batches, config, out)
        parameters = sum(p.numel() for p in task.network.parameters())
        out.note(parameters=parameters, images_seen=self.steps * self.batch)
        return task.network
