"""Diffuse: train a denoiser on latents (N,K,K,d), unconditional or by class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Artefact, Json

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from embprobe.training.engine import Batches
    from embprobe.nn.denoiser import Description

RESIDENT_BYTES = 4 << 30  # latents up to this size stay on the device
MIN_SNR = 5.0
Values = dict[str, Any]  # Any: option values of several types
PAPER: Values = {
    "network": "unet", "objective": "epsilon", "width": 96, "multipliers": (1, 2, 4), "norm": "l1", "ema": 0.9999,
    "batch": 96, "rate": 4.8e-4, "warmup": 10_000, "dropout": 0.0, "beta_2": 0.999, "shift": 1.0,
    "conditioning": "time",
}  # fmt: skip
PAPER_BY_CLASS: Values = PAPER | {
    "multipliers": (1, 2, 3), "norm": "l2", "ema": 0.0, "batch": 24, "rate": 1.2e-4, "conditioning": "cross",
}  # fmt: skip
MODERN: Values = {
    "network": "unet", "objective": "flow", "width": 96, "multipliers": (1, 2, 4), "norm": "l2", "ema": 0.9995,
    "batch": 256, "rate": 3e-4, "warmup": 500, "dropout": 0.15, "beta_2": 0.95, "shift": None,
    "conditioning": "time",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Diffuse(Stage):
    """Train a denoiser on latents; keeps the averaged weights at 8 or more milestones for the curves.

    Preset `modern`: flow matching, a schedule shifted by the latents' size, the same network with and without classes.
    Preset `paper`: the study's UNet, 36.1 M parameters, ε and L1; by class its own: 1-2-3, L2, no averaging, batch 24,
    cross-attention to a class embedding trained along. Both normalise latents per channel and have a learned null
    class. Options left out are the preset's. Images are not mirrored, since latents can't be.
    """

    latents: Artefact = opt("a compress artefact", kinds=("compress",))
    preset: Literal["paper", "modern"] = opt("where options left out come from", "modern")
    steps: int = opt("optimiser steps", 50_000)
    conditional: bool = opt("learn each class, and a null class for guidance", False)
    label_dropout: float = opt("share of labels replaced by the null class", 0.1)
    train_images: int | None = opt("use only this many training images; smaller subsets lie in larger ones", None)
    network: Literal["unet", "dit"] | None = opt("UNet or diffusion transformer", None)
    objective: Literal["epsilon", "v", "flow"] | None = opt("what the network predicts", None)
    width: int | None = opt("channels of the UNet's first level (96), or of the transformer (384)", None)
    depth: int = opt("blocks of the transformer", 12)
    shift: float | None = opt("shift of the noise schedule; for `modern` √(elements/4096)", None)
    batch: int | None = opt("images per step", None)
    rate: float | None = opt("peak rate of AdamW", None)
    warmup: int | None = opt("steps in which the rate rises; at most a tenth of all for `modern`", None)
    dropout: float | None = opt("dropout in the network", None)
    ema: float | None = opt("decay of the averaged weights; 0 for none", None)
    seed: int = opt("seed of initialisation, batches, noise and the subset", 0)
    precision: Literal["f32", "bf16"] = opt("of the forward and backward pass", "f32")
    device: str = opt("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def __post_init__(self) -> None:
        values = self.resolved()
        for name in ("steps", "depth", "seed"):
            if getattr(self, name) < (name != "seed"):
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least {int(name != 'seed')}")
        for name in ("width", "batch", "rate"):
            if values[name] <= 0:
                raise UserError(f"--{name} is {values[name]}; it must be above 0")
        for name in ("dropout", "ema", "label_dropout"):
            if not 0 <= values[name] < 1:
                raise UserError(f"--{name.replace('_', '-')} is {values[name]}; it must be at least 0 and below 1")
        if values["shift"] is not None and values["shift"] <= 0:
            raise UserError(f"--shift is {values['shift']}; it must be above 0")
        if self.train_images is not None and self.train_images < 1:
            raise UserError(f"--train-images is {self.train_images}; it must be at least 1")

    def resolved(self) -> Values:
        """Every option with the preset's value where it was left out."""
        preset = MODERN if self.preset == "modern" else PAPER_BY_CLASS if self.conditional else PAPER
        if (self.network or preset["network"]) == "dit":
            preset = preset | {"width": 384, "conditioning": "time"}
        given = {k: getattr(self, k) for k in preset if getattr(self, k, None) is not None}
        values = preset | given | {"label_dropout": self.label_dropout}
        if self.preset == "modern" and self.warmup is None:
            values["warmup"] = min(values["warmup"], self.steps // 10)
        return values

    def spec(self) -> dict[str, Json]:
        spec = super().spec()
        return spec | {k: v for k, v in self.resolved().items() if k in spec}

    def check(self) -> None:
        images = images_of(self.latents)
        if self.conditional and not images.has("label"):
            raise UserError("--conditional needs labels and this data set has none; leave it out")
        count = images.metrics["splits"]["train"] if "splits" in images.metrics else None
        if count is not None and self.train_images is not None and self.train_images > count:
            raise UserError(f"--train-images {self.train_images} is more than the {count} there are; give fewer")

    def work(self) -> float:
        return float(self.steps * self.resolved()["batch"])

    def run(self, out: Artefact) -> None:
        import torch

        from embprobe.training.engine import Fit, device_of, fit, log_spaced
        from embprobe.nn.denoiser import DenoiserTask

        values, device = self.resolved(), device_of(self.device)
        rows = self.training_rows()
        description = self.description(values)
        out.write_json("denoiser.json", self.facts(description, rows))
        torch.manual_seed(self.seed)
        resident = self.resident(rows, device)
        task = DenoiserTask(
            description,
            rate=values["rate"],
            beta_2=values["beta_2"],
            norm=values["norm"],
            min_snr=MIN_SNR if values["objective"] == "v" else None,
            label_dropout=self.label_dropout,
            resident=resident,
        )
        warmup, steps = max(1, values["warmup"]), self.steps
        config = Fit(
            steps=steps,
            seed=self.seed,
            images_per_step=values["batch"],
            device=device,
            precision=self.precision,
            rate=lambda step: min(1.0, (step + 1) / warmup),
            ema=values["ema"] or None,
            milestones=log_spaced(steps),
            label="diffusing",
        )
        fit(task, self.batches(rows, values["batch"], resident is not None), config, out)
        parameters = sum(p.numel() for p in task.network.parameters())
        out.note(
            parameters=parameters,
            train_images=len(rows),
            images_seen=steps * values["batch"],
            epochs=steps * values["batch"] / len(rows),
            shift=description.shift,
            classes=description.classes,
        )

    def training_rows(self) -> "np.ndarray":
        """Rows of the training images that are used."""
        from embprobe.data.split import training_rows

        return training_rows(images_of(self.latents), self.train_images, self.seed)

    def description(self, values: Values) -> "Description":
        """The network and its schedule, from the options and the latents' shape."""
        from embprobe.diffusion import dimension_shift
        from embprobe.nn.denoiser import Description

        _, side, _, channels = self.latents.array("latents").shape
        classes = len(images_of(self.latents).read_json("classes.json")) if self.conditional else None
        shift = values["shift"]
        return Description(
            network=values["network"],
            channels=channels,
            side=side,
            width=values["width"],
            multipliers=values["multipliers"],
            depth=self.depth,
            conditioning=values["conditioning"],
            classes=classes,
            dropout=values["dropout"],
            objective=values["objective"],
            shift=dimension_shift(side * side * channels) if shift is None else shift,
        )

    def facts(self, description: "Description", rows: "np.ndarray") -> dict[str, Json]:
        """What `sample` needs beside the weights: network, schedule, scales, class names and shares."""
        import numpy as np

        from embprobe.diffusion import latent_scale

        facts: dict[str, Json] = {
            "network": description.json(),
            "mean": self.latents.array("mean").read().tolist(),
            "scale": latent_scale(self.latents.array("std").read()).tolist(),
        }
        if description.classes is not None:
            images = images_of(self.latents)
            counts = np.bincount(images.array("label").take(rows), minlength=description.classes)
            facts |= {"classes": images.read_json("classes.json"), "shares": (counts / counts.sum()).tolist()}
            facts |= {"label_dropout": self.label_dropout}
        return facts

    def resident(self, rows: "np.ndarray", device: str) -> "Tensor | None":
        """The training latents, normalised, on the device; None where they are too large."""
        import torch

        latents = self.latents.array("latents")
        if 4 * len(rows) * latents.shape[1] * latents.shape[2] * latents.shape[3] > RESIDENT_BYTES:
            return None
        return torch.from_numpy(self.normalised(latents.floats(rows))).to(device)

    def normalised(self, latents_BKKd: "np.ndarray") -> "np.ndarray":
        """Zero mean and unit variance per channel, by the whole training split."""
        from embprobe.diffusion import latent_scale

        scale = latent_scale(self.latents.array("std").read())
        normalised: np.ndarray = (latents_BKKd - self.latents.array("mean").read()) / scale
        return normalised

    def batches(self, rows: "np.ndarray", batch: int, resident: bool) -> "Batches":
        """Batches as the task takes them: positions among the training rows, or latents; and labels."""
        import numpy as np
        import torch

        from embprobe.training.batches import RowBatches

        latents = self.latents.array("latents")
        order = RowBatches({"latents": latents}, rows, batch, self.seed)
        labels = images_of(self.latents).array("label").read().astype(np.int64) if self.conditional else None

        def batches(step: int) -> "dict[str, Tensor]":
            here = order.rows_of(step)
            given = np.searchsorted(rows, here) if resident else self.normalised(latents.floats(here))
            found = {"row" if resident else "latents": torch.from_numpy(given)}
            return found if labels is None else found | {"label": torch.from_numpy(labels[here])}

        return batches


def images_of(latents: Artefact) -> Artefact:
    """The data set that latents were made from."""
    return latents.inputs["embeddings"].inputs["images"]
