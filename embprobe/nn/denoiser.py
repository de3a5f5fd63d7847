"""Denoisers by their description, and what trains them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from embprobe import diffusion
from embprobe.diffusion import Objective, Schedule
from embprobe.training.engine import Task
from embprobe.nn.dit import DiT
from embprobe.nn.unet import UNet


@dataclass(frozen=True)
class Description:
    """What is needed to build a denoiser and its schedule again."""

    network: Literal["unet", "dit"]
    channels: int
    side: int
    width: int
    multipliers: tuple[int, int, int]
    depth: int
    conditioning: Literal["time", "cross"]
    classes: int | None
    dropout: float
    objective: Objective
    shift: float

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.objective, self.shift)

    def json(self) -> dict[str, object]:
        """The fields as JSON holds them."""
        return asdict(self) | {"multipliers": list(self.multipliers)}


def build(description: Description) -> nn.Module:
    """A new denoiser, (z_BdKK, time_B, label_B or None) -> prediction."""
    if description.network == "dit":
        return DiT(
            *(description.channels, description.side),
            width=description.width,
            depth=description.depth,
            heads=max(1, description.width // 64),
            classes=description.classes,
            dropout=description.dropout,
        )
    return UNet(
        description.channels,
        width=description.width,
        multipliers=description.multipliers,
        classes=description.classes,
        conditioning=description.conditioning,
        dropout=description.dropout,
    )


class DenoiserTask(Task):
    """Trains a denoiser on batches of normalised latents.

    A batch holds `row`s of `resident` (N,K,K,d), which stays on the device, or `latents` (B,K,K,d); and `label` (B,).
    """

    def __init__(
        self,
        description: Description,
        *,
        rate: float,
        beta_2: float,
        norm: Literal["l1", "l2"],
        min_snr: float | None,
        label_dropout: float,
        resident: Tensor | None,
    ) -> None:
        super().__init__()
        self.network = build(description)
        self.schedule = description.schedule
        self.null = description.classes
        self.rate, self.beta_2, self.norm, self.min_snr = rate, beta_2, norm, min_snr
        self.label_dropout = label_dropout
        self.resident = resident

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        parameters = self.network.parameters()
        return {"denoiser": torch.optim.AdamW(parameters, self.rate, (0.9, self.beta_2), weight_decay=0.01, fused=True)}

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        latents_BKKd = batch["latents"] if self.resident is None else self.resident[batch["row"]]
        label_B = batch.get("label")
        if label_B is not None and self.null is not None and self.label_dropout > 0:
            label_B = diffusion.drop_labels(label_B, self.null, self.label_dropout)
        clean_BdKK = latents_BKKd.permute(0, 3, 1, 2).contiguous()
        loss = diffusion.loss(self.network, clean_BdKK, self.schedule, label_B, norm=self.norm, min_snr=self.min_snr)
        yield "denoiser", loss
