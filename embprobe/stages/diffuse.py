"""Diffuse: train a denoiser on latents (N,*grid,d), unconditional, by class or by caption."""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe.encoders.names import text_files
from embprobe.errors import UserError
from embprobe.stage import option
from embprobe.store import Artefact, Json
from embprobe.training.presets import MODERN, PAPER, PAPER_BY_CLASS, Preset
from embprobe.training.stage import COMPILE, Training
from embprobe.views import Latents, Learned, log_spaced, step_at

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from embprobe.encoders.text import TextReader
    from embprobe.nn.denoiser import DenoiserConfig
    from embprobe.training.task import Batches, Task

MIN_SNR = 5.0
BYTES = "bytes"


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

    With --text captions are the condition, read by cross-attention: their UTF-8 bytes by a small transformer trained along,
    in whatever language, or the states of a frozen text encoder in a folder. Images without one have the null caption.
    """

    version = 3

    latents: Artefact = option("a compress artefact", made_by=("compress",))
    preset: Literal["paper", "modern"] = option("where options left out come from", "modern")
    conditional: bool = option("learn each class, and a null class for guidance", False)
    label_dropout: float = option("share of labels replaced by the null class", 0.1, least=0, below=1)
    text: str | None = option(
        "learn captions: `bytes`, by an encoder trained along, or the folder of a text encoder that transformers saved",
        None,
        path=True,
        later=True,
    )
    text_length: int = option(
        "bytes of a caption that are read, or tokens of a folder's encoder; what is longer is cut",
        256,
        later=True,
        least=1,
        most=4096,
    )
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
        preset = MODERN if self.preset == "modern" else PAPER_BY_CLASS if self.conditional or self.text else PAPER
        if (self.network or preset.network) == "dit":
            preset = replace(preset, width=DIT_WIDTH, conditioning="time")
        if self.preset == "modern":
            preset = replace(preset, warmup=min(preset.warmup, self.steps // 10))
        if self.text is not None:
            preset = replace(preset, conditioning="cross")
        given = {f.name: getattr(self, f.name, None) for f in fields(preset)}
        return replace(preset, **{name: value for name, value in given.items() if value is not None})

    def resolved(self) -> dict[str, object]:
        options = asdict(self.chosen) | {"keep_epochs": tuple(sorted(set(self.keep_epochs)))}
        return {name: value for name, value in options.items() if hasattr(self, name)}

    def validate(self) -> None:
        if self.text is not None and self.conditional:
            raise UserError("--conditional learns classes and --text captions; give one of them")
        if self.text not in (None, BYTES) and not Path(str(self.text)).is_dir():
            raise UserError(f"--text {self.text} is neither `bytes` nor a folder with a text encoder; check the path")

    def spec(self) -> dict[str, Json]:
        """A preset counts by what it holds, not by its name; kept epochs by the steps that are no milestones anyway."""
        chosen, usual = asdict(self.chosen), {f.name: f.default for f in fields(Preset)}
        held = {k: v for k, v in chosen.items() if k not in LATER or v != usual[k]}
        spec = super().spec() | {k: list(v) if isinstance(v, tuple) else v for k, v in held.items()}
        del spec["preset"]
        if self.text is None:
            spec.pop("text_length", None)
        elif self.text != BYTES:
            spec["text"] = text_files(Path(self.text))
        if self.keep_epochs and Latents(self.latents).images.artefact.complete:
            del spec["keep_epochs"]
            beyond = sorted({*self.kept_steps()} - {*log_spaced(self.steps)})
            spec |= {"kept_steps": beyond} if beyond else {}
        return spec

    def options(self) -> dict[str, Json]:
        """The options as given, with the absolute path of a text encoder's folder."""
        own = self.text in (None, BYTES)
        return super().options() | ({} if own else {"text": str(Path(str(self.text)).expanduser().absolute())})

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
        if self.text is not None and images.captions is None:
            raise UserError(
                "--text needs captions and this data set has none; leave it out (planted: ingest --captions)"
            )
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
        from embprobe.encoders import conditions
        from embprobe.encoders.text import text_reader
        from embprobe.nn.denoiser import DenoiserTask
        from embprobe.training.engine import warmup_constant

        preset, latents = self.chosen, Latents(self.latents)
        rows = latents.images.training_rows(self.train_images, self.seed)
        reader = None if self.text is None else text_reader(self.text, self.text_length, latents.images.captions or [])
        config = self.config(latents, reader)
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

        condition = (
            conditions.learned_conditions(latents.images, reader, out, self.device)
            if self.conditional or reader
            else None
        )
        batches = self.batches(learned, rows, resident is not None, condition)
        rate = warmup_constant(self.warmup)
        self.train(build, batches, rate, out, label="diffusing", ema=self.ema or None, kept=self.kept_steps())
        epochs = self.steps * self.batch / len(rows)
        out.note(train_images=len(rows), epochs=epochs, shift=config.shift, classes=config.classes)

    def config(self, latents: Latents, reader: "TextReader | None" = None) -> "DenoiserConfig":
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
            text_length=None if reader is None else reader.length,
            text_width=None if reader is None else reader.width,
        )

    def facts(self, config: "DenoiserConfig", learned: Learned, rows: "np.ndarray") -> dict[str, Json]:
        """What one needs beside the weights: network, schedule, scale of the latents, class names and shares."""
        import numpy as np

        facts: dict[str, Json] = {"network": config.json(), **learned.scale.json()}
        images = learned.of.images
        facts |= {"text": self.spec()["text"], "label_dropout": self.label_dropout} if self.text else {}
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

    def batches(
        self, learned: Learned, rows: "np.ndarray", resident: bool, condition: "Callable[[np.ndarray], Tensor] | None"
    ) -> "Batches":
        """Batches as the task takes them: positions among the training rows, or latents; and what is learned of each."""
        import numpy as np
        import torch

        from embprobe.training.batches import RowBatches

        order = RowBatches({"latents": learned.of.array}, rows, self.batch, self.seed)

        def batches(step: int) -> "dict[str, Tensor]":
            here = order.rows_of(step)
            given = {"row": np.searchsorted(rows, here)} if resident else learned.values(here)
            batch = {name: torch.from_numpy(values) for name, values in given.items()}
            return batch if condition is None else batch | {"condition": condition(here)}

        return batches
