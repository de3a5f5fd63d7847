"""What a preset of the denoiser decides: the published study's settings, and today's."""

from dataclasses import dataclass, replace
from typing import Literal


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
