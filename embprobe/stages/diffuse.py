"""Diffuse: train a denoiser on latents (N,*grid,d), unconditional or by class."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from embprobe.errors import UserError
from embprobe.stage import option
from embprobe.store import Artefact, Json
from embprobe.training.stage import COMPILE, Training
from embprobe.views import Latents, Learned, log_spaced, step_at

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from embprobe.nn.denoiser import DenoiserConfig
    from embprobe.training.task import Batches, Task

MIN_SNR = 5.0


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that a preset decides; what is an option too may be given in its place."""

    network: Literal["unet", "dit"] = "unet"
    objective: Literal["epsilon", "v", "flow"]
    width: int = 96
    multipliers: tuple[int, int, int]
    norm: Literal["l1", "l2"]
    ema: float
    batch: int
    rate: float
    warmup: int
    dropout: float
    beta_2: float
    shift: float | None  # None: √(elements/4096)
    conditioning: Literal["time", "cross"] = "time"
    betas: tuple[float, float] = (0.0015, 0.0155)
    attention: tuple[int, ...] = (1, 2)  # downsamplings
    one_head: bool = False
    scale_shift: bool = True


PAPER = Preset(
    objective="epsilon", multipliers=(1, 2, 4), norm="l1", ema=0.9999, batch=96, rate=4.8e-4, warmup=10_000,
    dropout=0.0, beta_2=0.999, shift=1.0,
)  # fmt: skip
PAPER_BY_CLASS = replace(
    PAPER, multipliers=(1, 2, 3), norm="l2", ema=0.0, batch=24, rate=2.4e-4, warmup=0, conditioning="cross",
    betas=(0.0015, 0.0195), attention=(2, 4), one_head=True, scale_shift=False,
)  # fmt: skip
MODERN = Preset(
    objective="flow", multipliers=(1, 2, 4), norm="l2", ema=0.9995, batch=256, rate=3e-4, warmup=500,
    dropout=0.15, beta_2=0.95, shift=None,
)  # fmt: skip
DIT_WIDTH = 384
AS_WIDE = 128  # a network of this width does as much beside its matrices as in them, as timed on a CPU
LATER = ("betas", "attention", "one_head", "scale_shift")  # count only where they are not what they always were


@dataclass(frozen=True, kw_only=True)
class Diffuse(Training):
    """Train a denoiser on latents; keeps the averaged weights at 8 or more milestones, and at --keep-epochs.

    Preset `modern`: flow matching, a schedule shifted by the latents' size, the same network with and without classes.
    Preset `paper`: the published comparison's UNet, 36.1 M parameters, ε and L1; by class its own, 35.1 M: 1-2-3, L2, β to
    0.0195, a constant rate, no averaging, batch 24, one head of cross-attention to a class embedding trained along. Both
    normalise latents per channel and have a learned null class. Options left out are the preset's. Images are not
    mirrored, since latents can't be.
    """

    version = 3

    latents: Artefact = option("a compress artefact", made_by=("compress",))
    preset: Literal["paper", "modern"] = option("where options left out come from", "modern")
    conditional: bool = option("learn each class, and a null class for guidance", False)
    label_dropout: float = option("share of labels replaced by the null class", 0.1, least=0, below=1)
    train_images: int | None = option(
        "use only this many training images; smaller subsets lie in larger ones", None, least=1
    )
    posterior: Literal["mean", "sample"] = option(
        "learn the posterior's means, or samples of it, drawn anew at every step", "mean", later=True
    )
    keep_epochs: tuple[float, ...] = option(
        "also keep the weights after these epochs, with commas between", (), above=0, later=True
    )
    network: Literal["unet", "dit"] = option("UNet or diffusion transformer", None)
    objective: Literal["epsilon", "v", "flow"] = option("what the network predicts", None)
    width: int = option(
        "channels of the UNet's first level (96), or of the transformer (384)", None, least=1, most=16_384
    )
    depth: int = option("blocks of the transformer", 12, least=1, most=1000)
    shift: float | None = option("shift of the noise schedule; for `modern` √(elements/4096)", None, above=0)
    warmup: int = option("steps in which the rate rises; at most a tenth of all for `modern`", None, least=0)
    dropout: float = option("dropout in the network", None, least=0, below=1)
    ema: float = option("decay of the averaged weights; 0 for none", None, least=0, below=1)
    steps: int = option("optimiser steps", 50_000, least=1)
    batch: int = option("images per step", None, least=1, most=65_536)
    rate: float = option("learning rate of AdamW at its peak", None, above=0)
    seed: int = option("seed of initialisation, batches, noise and the subset", 0, least=0)
    compile: bool = option(COMPILE, False, runtime=True)

    @property
    def chosen(self) -> Preset:
        """The preset, with what was given in its place."""
        preset = MODERN if self.preset == "modern" else PAPER_BY_CLASS if self.conditional else PAPER
        if (self.network or preset.network) == "dit":
            preset = replace(preset, width=DIT_WIDTH, conditioning="time")
        if self.preset == "modern":
            preset = replace(preset, warmup=min(preset.warmup, self.steps // 10))
        given = {f.name: getattr(self, f.name, None) for f in fields(preset)}
        return replace(preset, **{name: value for name, value in given.items() if value is not None})

    def resolved(self) -> dict[str, object]:
        options = asdict(self.chosen) | {"keep_epochs": tuple(sorted(set(self.keep_epochs)))}
        return {name: value for name, value in options.items() if hasattr(self, name)}

    def spec(self) -> dict[str, Json]:
        """A preset counts by what it holds, not by its name; kept epochs by the steps that are no milestones anyway."""
        chosen, usual = asdict(self.chosen), {f.name: f.default for f in fields(Preset)}
        held = {k: v for k, v in chosen.items() if k not in LATER or v != usual[k]}
        spec = super().spec() | {k: list(v) if isinstance(v, tuple) else v for k, v in held.items()}
        del spec["preset"]
        if self.keep_epochs and Latents(self.latents).images.artefact.complete:
            del spec["keep_epochs"]
            beyond = sorted({*self.kept_steps()} - {*log_spaced(self.steps)})
            spec |= {"kept_steps": beyond} if beyond else {}
        return spec

    def kept_steps(self) -> tuple[int, ...]:
        """The steps at the epochs to keep."""
        images = self.train_images or Latents(self.latents).images.count("train")
        return tuple(step_at(epoch, images, self.batch) for epoch in self.keep_epochs)

    def check(self) -> None:
        images = Latents(self.latents).images
        if self.conditional and images.labels is None:
            raise UserError("--conditional needs labels and this data set has none; leave it out")
        if self.conditional and len(images.classes) == 1:
            raise UserError("--conditional learns classes apart and this data set has one; leave it out")
        count = images.count("train")
        if self.train_images is not None and self.train_images > count:
            raise UserError(f"--train-images {self.train_images} is more than the {count} there are; give fewer")
        late = [epoch for epoch, step in zip(self.keep_epochs, self.kept_steps(), strict=True) if step > self.steps]
        if late:
            raise UserError(
                f"--keep-epochs {late[0]:g} lies behind the end of the run, {self.steps} steps or "
                f"{self.steps * self.batch / (self.train_images or count):.4g} epochs; give fewer epochs, or more --steps"
            )

    def work(self) -> float:
        """Images seen, times what each costs: that grows with a transformer's depth and about with the width's square."""
        blocks = self.depth if self.network == "dit" else 1
        return super().work() * blocks * self.width * (self.width + AS_WIDE)

    def run(self, out: Artefact) -> None:
        from embprobe.device import device_of
        from embprobe.nn.denoiser import DenoiserTask
        from embprobe.training.engine import warmup_constant

        preset, latents = self.chosen, Latents(self.latents)
        rows = latents.images.training_rows(self.train_images, self.seed)
        config = self.config(latents)
        learned = latents.learned(self.posterior)
        out.write_json("denoiser.json", self.facts(config, learned, rows))
        resident = self.resident(learned, rows, device_of(self.device))

        def build() -> "Task":
            return DenoiserTask(
                config,
                rate=self.rate,
                beta_2=preset.beta_2,
                norm=preset.norm,
                min_snr=MIN_SNR if self.objective == "v" else None,
                condition_dropout=self.label_dropout,
                resident=resident,
            )

        batches, rate = self.batches(learned, rows, resident is not None), warmup_constant(self.warmup)
        self.train(build, batches, rate, out, label="diffusing", ema=self.ema or None, kept=self.kept_steps())
        epochs = self.steps * self.batch / len(rows)
        out.note(train_images=len(rows), epochs=epochs, shift=config.shift, classes=config.classes)

    def config(self, latents: Latents) -> "DenoiserConfig":
        """The network and its schedule, from the options and the latents' shape."""
        from embprobe.diffusion import dimension_shift
        from embprobe.nn.denoiser import DenoiserConfig

        preset, elements = self.chosen, math.prod(latents.grid) * latents.channels
        return DenoiserConfig(
            network=self.network,
            channels=latents.channels,
            grid=latents.grid,
            width=self.width,
            multipliers=preset.multipliers,
            depth=self.depth,
            conditioning=preset.conditioning,
            classes=len(latents.images.classes) if self.conditional else None,
            dropout=self.dropout,
            objective=self.objective,
            shift=dimension_shift(elements) if self.shift is None else self.shift,
            betas=preset.betas,
            attention=preset.attention,
            one_head=preset.one_head,
            scale_shift=preset.scale_shift,
        )

    def facts(self, config: "DenoiserConfig", learned: Learned, rows: "np.ndarray") -> dict[str, Json]:
        """What one needs beside the weights: network, schedule, scale of the latents, class names and shares."""
        import numpy as np

        facts: dict[str, Json] = {"network": config.json(), **learned.scale.json()}
        images = learned.of.images
        if config.classes is not None and images.labels is not None:
            counts = np.bincount(images.labels[rows], minlength=config.classes)
            facts |= {"classes": images.classes, "shares": (counts / counts.sum()).tolist()}
            facts |= {"label_dropout": self.label_dropout}
        return facts

    def resident(self, learned: Learned, rows: "np.ndarray", device: str) -> "dict[str, Tensor] | None":
        """What is learned of the training images, normalised, on the device; None where it is too large."""
        import torch

        from embprobe.device import room_on

        arrays = 2 if self.posterior == "sample" else 1
        if 4 * arrays * len(rows) * math.prod(learned.of.array.shape[1:]) > room_on(device):
            return None
        return {name: torch.from_numpy(values).to(device) for name, values in learned.values(rows).items()}

    def batches(self, learned: Learned, rows: "np.ndarray", resident: bool) -> "Batches":
        """Batches as the task takes them: positions among the training rows, or latents; and labels."""
        import numpy as np
        import torch

        from embprobe.training.batches import RowBatches

        order = RowBatches({"latents": learned.of.array}, rows, self.batch, self.seed)
        labels = learned.of.images.labels if self.conditional else None

        def batches(step: int) -> "dict[str, Tensor]":
            here = order.rows_of(step)
            given = {"row": np.searchsorted(rows, here)} if resident else learned.values(here)
            batch = {name: torch.from_numpy(values) for name, values in given.items()}
            return batch if labels is None else batch | {"condition": torch.from_numpy(labels[here].astype(np.int64))}

        return batches
