"""Denoisers by their configuration, and what trains them."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from embprobe import diffusion
from embprobe.diffusion import Objective, Schedule
from embprobe.errors import UserError
from embprobe.nn.dit import DiT
from embprobe.nn.dropout import Dropouts
from embprobe.nn.text import TextEncoder, text_width
from embprobe.nn.unet import UNet
from embprobe.nn.vae import posterior_sample
from embprobe.training.task import Task


@dataclass(frozen=True)
class DenoiserConfig:
    """What is needed to build a denoiser and its schedule again; what has a default is told only where it differs."""

    network: Literal["unet", "dit"]
    channels: int
    grid: tuple[int, ...]
    width: int
    multipliers: tuple[int, int, int]
    depth: int
    conditioning: Literal["time", "cross"]
    classes: int | None
    dropout: float
    objective: Objective
    shift: float
    betas: tuple[float, float] = diffusion.BETAS
    attention: tuple[int, ...] = (1, 2)
    one_head: bool = False
    scale_shift: bool = True
    text_length: int | None = None  # bytes, or tokens of a frozen encoder, that are read of a caption
    text_width: int | None = None  # of the frozen encoder's states; None for bytes

    @property
    def schedule(self) -> Schedule:
        """The noise levels and the objective."""
        return Schedule(self.objective, self.shift, self.betas)

    @property
    def null_condition(self) -> Tensor | None:
        """What stands for no condition, as one condition: the id after the last class, or the empty caption."""
        if self.text_length is not None:
            shape = (self.text_length,) if self.text_width is None else (self.text_length, self.text_width)
            return torch.zeros(shape, dtype=torch.int16 if self.text_width is None else torch.float32)
        return None if self.classes is None else torch.tensor(self.classes)

    def json(self) -> dict[str, object]:
        """The fields as JSON holds them."""
        values = asdict(self)
        told = [f.name for f in fields(self) if f.default is MISSING or values[f.name] != f.default]
        return {name: list(v) if isinstance(v := values[name], tuple) else v for name in told}

    @staticmethod
    def of(json: Mapping[str, Any]) -> "DenoiserConfig":  # Any: JSON
        """The inverse of `json`."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.items()}
        return DenoiserConfig(**values)


def build_denoiser(config: DenoiserConfig) -> nn.Module:
    """A new denoiser, (z (B,d,*grid), time_B, condition or None) -> prediction; drawn from the global generator.

    Raises UserError where the network can't take the grid.
    """
    read, text = config.text_length, None
    if read is not None:
        text = TextEncoder(read, config.text_width, text_width(config.width))
    if config.network == "dit":
        return DiT(
            config.channels,
            config.grid,
            width=config.width,
            depth=config.depth,
            heads=max(1, config.width // 64),
            classes=config.classes,
            text=text,
            dropout=config.dropout,
        )
    if len(config.grid) != 2:
        raise UserError(f"--network unet needs latents on a grid of two axes, these have {len(config.grid)}; use dit")
    return UNet(
        config.channels,
        width=config.width,
        multipliers=config.multipliers,
        classes=config.classes,
        text=text,
        conditioning=config.conditioning,
        attention=config.attention,
        one_head=config.one_head,
        scale_shift=config.scale_shift,
        dropout=config.dropout,
    )


class DenoiserTask(Task):
    """Trains a denoiser on batches of normalised latents.

    A batch holds `latents` (B,*grid,d), or `row`s of those of `resident` (N,*grid,d), which stays on the device; beside
    them, the posterior's std as `spread` where samples of it are learned, drawn anew each time; and, for a conditional
    network, `condition` (B,…).
    """

    def __init__(
        self,
        config: DenoiserConfig,
        *,
        rate: float,
        beta_2: float,
        norm: Literal["l1", "l2"],
        min_snr: float | None,
        condition_dropout: float,
        resident: Mapping[str, Tensor] | None,
    ) -> None:
        super().__init__()
        self.network, self.config, self.schedule = build_denoiser(config), config, config.schedule
        self.dropouts = Dropouts.of(self.network)
        self.rate, self.beta_2, self.norm, self.min_snr = rate, beta_2, norm, min_snr
        self.condition_dropout = condition_dropout
        self.resident = resident

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW; everything decays."""
        parameters = self.network.parameters()
        return {"denoiser": torch.optim.AdamW(parameters, self.rate, (0.9, self.beta_2), weight_decay=0.01, fused=True)}

    def draws(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """A `corruption`; noise `within` the posterior and the `key` of dropouts, where there are any; conditions, of
        which a share is dropped."""
        config, count = self.config, len(next(iter(batch.values())))
        drawn = diffusion.corruption(self.schedule, (count, config.channels, *config.grid), generator)
        if "spread" in (self.resident or batch):
            drawn["within"] = torch.randn(count, *config.grid, config.channels, generator=generator)
        condition, null = batch.get("condition"), config.null_condition
        if condition is not None and null is not None and self.condition_dropout > 0:
            drawn["condition"] = diffusion.drop_condition(condition, null, self.condition_dropout, generator)
        return drawn | self.dropouts.draws(generator)

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """The loss at the times and with the noise that were drawn."""
        self.dropouts.follow(batch)
        if self.resident is not None:
            batch = batch | {name: values[batch["row"]] for name, values in self.resident.items()}
        latents = posterior_sample(batch["latents"], batch.get("spread"), batch.get("within"))
        clean = latents.movedim(-1, 1).contiguous()
        given = (self.network, clean, self.schedule, batch, batch.get("condition"))
        yield "denoiser", diffusion.loss(*given, norm=self.norm, min_snr=self.min_snr)
