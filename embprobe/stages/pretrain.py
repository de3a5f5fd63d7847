"""Pretrain: a small image encoder by I-JEPA or MAE, for studies that make their own encoders."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Artefact

if TYPE_CHECKING:
    from embprobe.training.engine import Task


@dataclass(frozen=True, kw_only=True)
class Pretrain(Stage):
    """Train an image encoder by I-JEPA or MAE on the data set's training images."""

    images: Artefact = opt("an ingested data set, or a folder or zip to ingest first", kinds=("ingest",))
    objective: Literal["ijepa", "mae"] = opt("what the encoder learns to predict: embeddings or pixels")
    encoder: str | None = opt("a timm ViT by name; else one by --width, --depth, --heads, --patch", None)
    width: int = opt("token width", 128)
    depth: int = opt("transformer blocks", 6)
    heads: int = opt("attention heads", 4)
    patch: int = opt("patch side in pixels", 8)
    predictor_width: int = opt("token width of the predictor (I-JEPA) or decoder (MAE)", 64)
    predictor_depth: int = opt("blocks of the predictor or decoder", 2)
    weights: Path | None = opt("weights to start from; with --steps 0 they become the encoder as they are", None)
    steps: int = opt("optimiser steps; 0 leaves the encoder untrained", 20_000)
    batch: int = opt("images per step", 128)
    rate: float = opt("peak rate of AdamW, times batch / 256", 1e-3)
    warmup: float = opt("share of the steps in which the rate rises", 0.05)
    seed: int = opt("seed of initialisation, masks, crops and batches", 0)
    precision: Literal["f32", "bf16"] = opt("of the forward and backward pass", "f32")
    device: str = opt("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "patch", "predictor_width", "predictor_depth", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1")
        if self.steps < 0:
            raise UserError(f"--steps is {self.steps}; it must be 0 or more")
        if self.rate <= 0:
            raise UserError(f"--rate is {self.rate}; it must be above 0")

    def check(self) -> None:
        size = self.images.metrics["size"]
        if self.encoder is None and size % self.patch:
            raise UserError(f"--patch {self.patch} does not divide the image size {size}; choose one that does")

    def work(self) -> float:
        return self.steps * self.batch

    def run(self, out: Artefact) -> None:
        import numpy as np
        import torch

        from embprobe.training.batches import RowBatches
        from embprobe.training.engine import Fit, device_of, fit, log_spaced, warmup_cosine

        images = self.images.array("images")
        train = np.nonzero(self.images.array("split").read() == 0)[0]
        torch.manual_seed(self.seed)
        description, task = self.task(images.shape[1])
        batches = RowBatches({"images": images}, train, self.batch, self.seed)
        config = Fit(
            steps=self.steps,
            seed=self.seed,
            images_per_step=self.batch,
            device=device_of(self.device),
            precision=self.precision,
            rate=warmup_cosine(max(1, round(self.warmup * self.steps)), self.steps),
            milestones=log_spaced(self.steps) if self.steps else (),
            label=f"pretraining {self.objective}",
        )
        fit(task, lambda step: {"images": torch.from_numpy(batches(step)["images"])}, config, out)
        out.write_json("encoder.json", encoder_facts(description, self.objective))
        rows = [r for r in out.read_log() if "effective_rank" in r]
        if rows:
            out.note(
                **{k: rows[-1][k] for k in ("loss", "std", "effective_rank")},
                first_effective_rank=rows[0]["effective_rank"],
            )
        out.note(images_seen=self.steps * self.batch, parameters=sum(p.numel() for p in task.network.parameters()))

    def task(self, size: int) -> "tuple[dict[str, object], Task]":
        """The encoder's description and what trains it."""
        from embprobe.encoders.load import load_into
        from embprobe.nn.ijepa import IJEPA
        from embprobe.nn.mae import MAE
        from embprobe.nn.vit import HEADLESS, build_vit, describe

        if self.encoder is not None:
            name = self.encoder.removeprefix("timm:")
            description: dict[str, object] = {"name": name, "img_size": size, "reg_tokens": 0, **HEADLESS}
        else:
            description = describe(size, self.patch, self.width, self.depth, self.heads)
        vit = build_vit(description)
        narrow = {"width": self.predictor_width, "depth": self.predictor_depth}
        rate = self.rate * self.batch / 256
        task: Task = IJEPA(vit, rate, self.steps, **narrow) if self.objective == "ijepa" else MAE(vit, rate, **narrow)
        if self.weights is not None:
            load_into(vit, self.weights)
            task.network.load_state_dict(vit.state_dict())
        return description, task


def encoder_facts(description: dict[str, object], objective: str) -> dict[str, object]:
    """What `extract` needs to use the weights: the network and its preprocessing."""
    from embprobe.nn.mae import IMAGENET

    return {
        "network": description,
        "objective": objective,
        "size": description["img_size"],
        "mean": IMAGENET[0],
        "std": IMAGENET[1],
        "interpolation": "bicubic",
    }
