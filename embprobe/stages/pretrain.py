"""Pretrain: a small image encoder by I-JEPA or MAE, for studies that make their own encoders."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe import console
from embprobe.errors import UserError
from embprobe.stage import option
from embprobe.store import Artefact, Json
from embprobe.training.stage import Training
from embprobe.views import Images, pixels_in

if TYPE_CHECKING:
    from embprobe.nn.vit import ViTConfig
    from embprobe.training.task import Task


@dataclass(frozen=True, kw_only=True)
class Pretrain(Training):
    """Train an image encoder by I-JEPA or MAE on the data set's training images."""

    version = 5

    images: Artefact = option("an ingested data set, or a folder or zip to ingest first", made_by=("ingest",))
    objective: Literal["ijepa", "mae"] = option("what the encoder learns to predict: embeddings or pixels")
    target: Literal["embeddings", "pixels"] = option(
        "what I-JEPA's predictor learns: embeddings of the average encoder, or as in its ablation normalised pixels",
        "embeddings",
        later=True,
    )
    encoder: str | None = option("a timm ViT by name; else one by --width, --depth, --heads, --patch", None)
    width: int = option("token width", 128, least=1, most=16_384)
    depth: int = option("transformer blocks", 6, least=1, most=1000)
    heads: int = option("attention heads", 4, least=1, most=1024)
    patch: int = option("patch side in pixels", 8, least=1, most=8192)
    predictor_width: int = option("token width of the predictor (I-JEPA) or decoder (MAE)", 64, least=1, most=16_384)
    predictor_depth: int = option("blocks of the predictor or decoder", 2, least=1, most=1000)
    weights: Path | None = option("weights to start from; with --steps 0 they become the encoder as they are", None)
    steps: int = option("optimiser steps; 0 leaves the encoder untrained", 20_000, least=0)
    batch: int = option("images per step", 128, least=1, most=65_536)
    rate: float = option("learning rate of AdamW at its peak, times batch / 256", 1e-3, above=0)
    warmup: float = option("share of the steps in which the rate rises", 0.05, least=0, most=1)
    seed: int = option("seed of initialisation, masks, crops and batches", 0, least=0)

    def resolved(self) -> dict[str, object]:
        return {"encoder": self.encoder and self.encoder.removeprefix("timm:")}

    def check(self) -> None:
        images = Images(self.images)
        if self.encoder is None and any(side % self.patch for side in images.size):
            size = "×".join(str(side) for side in dict.fromkeys(images.size))
            raise UserError(f"--patch {self.patch} does not divide the image size {size}; choose one that does")

    def work(self) -> float:
        """Pixels seen."""
        return super().work() * pixels_in(self.images)

    def run(self, out: Artefact) -> None:
        import torch

        from embprobe.training.batches import RowBatches
        from embprobe.training.engine import warmup_cosine

        images = Images(self.images)
        config = self.config(images)
        order = RowBatches({"images": images.array}, images.train, self.batch, self.seed)

        def build() -> "Task":
            task = self.task(config)
            out.write_json("encoder.json", encoder_facts(config, self.objective, images) | self.predictor(task))
            return task

        self.train(
            build,
            lambda step: {"images": torch.from_numpy(order(step)["images"])},
            warmup_cosine(max(1, round(self.warmup * self.steps)), self.steps),
            out,
            label=f"pretraining {self.objective}",
        )
        rows = [row for row in out.log.rows() if "effective_rank" in row]
        if rows:
            last = {key: rows[-1][key] for key in ("loss", "std", "effective_rank")}
            out.note(**last, first_effective_rank=rows[0]["effective_rank"])

    def predictor(self, task: "Task") -> dict[str, Json]:
        """What `predict` needs to know of the predictor that is kept; None where the encoder alone was given."""
        from embprobe.nn.predictor import Predictor

        if not task.beside:
            return {"predictor": None}
        of_pixels = self.objective == "mae" or self.target == "pixels"
        predictor = task.beside["predictor"]
        assert isinstance(predictor, Predictor)
        return {"predictor": predictor.config.json(), "target": "pixels" if of_pixels else "embeddings"}

    def config(self, images: Images) -> "ViTConfig":
        """The encoder's network."""
        from embprobe.nn.vit import HEADLESS, vit_config

        if self.encoder is None:
            return vit_config(images.size, self.patch, self.width, self.depth, self.heads, images.channels)
        sizes = {"img_size": list(images.size), "in_chans": images.channels, "reg_tokens": 0}
        return {"name": self.encoder, **sizes, **HEADLESS}

    def task(self, config: "ViTConfig") -> "Task":
        """What trains the encoder."""
        from embprobe.nn.ijepa import IJEPA
        from embprobe.nn.mae import MAE
        from embprobe.nn.vit import build_vit
        from embprobe.nn.weights import load_into

        vit = build_vit(config)
        narrow = {"width": self.predictor_width, "depth": self.predictor_depth}
        rate = self.rate * self.batch / 256
        task: Task = MAE(vit, rate, **narrow)
        if self.objective == "ijepa":
            task = IJEPA(vit, rate, self.steps, **narrow, target=self.target)
        if self.weights is not None:
            for notice in load_into(vit, self.weights, None if self.steps else self.objective):
                console.say(notice)
            task.network.load_state_dict(vit.state_dict())
            if not self.steps:
                task.beside = {}
        return task


def encoder_facts(config: "ViTConfig", objective: str, images: Images) -> dict[str, Json]:
    """What `extract` needs to use the weights: the network and its preprocessing."""
    from embprobe.pixels import channel_statistics

    mean, std = channel_statistics(images.channels)
    facts = {"network": config, "objective": objective, "size": list(images.size)}
    return facts | {"mean": mean, "std": std, "interpolation": "bicubic"}
