"""The rows of a study's tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from embprobe.metrics.estimate import Estimate
from embprobe.store import Json

RowKind = Literal["samples", "reconstructions", "real", "embeddings", "bound"]


@dataclass(frozen=True)
class Row:
    """A line of a table: what it is about, how it was drawn, and its estimates by metric."""

    encoder: str
    values: Mapping[str, Estimate]
    kind: RowKind = "samples"
    how: str = ""  # what tells it from other rows of its encoder: guidance, classes, …
    seed: str = ""  # the seeds that differ, in words
    training: str = ""  # which training: the seeds of VAE and denoiser
    decoding: str = ""  # which decoder: its seed
    count: int | None = None
    epochs: float | None = None  # of training, in tables over training
    control: bool = False  # pixels or an untrained network
    reference: str | None = None  # digest of the real images it was measured against
    weak: bool = False  # the judge is below 90 % accurate
    probed: bool = False  # the judge is the encoder itself
    unusable: tuple[str, ...] = ()  # why no conclusion can rest on it

    @property
    def label(self) -> str:
        return ", ".join(part for part in (self.encoder, self.how, self.seed) if part)

    @property
    def is_floor(self) -> bool:
        return self.kind in ("real", "reconstructions", "bound")

    def json(self) -> dict[str, Json]:
        facts = {k: getattr(self, k) for k in ("label", "encoder", "how", "seed", "kind", "count", "epochs", "control")}
        facts |= {"floor": self.is_floor, "reference": self.reference, "weak": self.weak, "probed": self.probed}
        facts |= {"unusable": list(self.unusable)}
        return facts | {"values": {k: shown(v) for k, v in self.values.items()}}


def shown(estimate: Estimate) -> dict[str, Json]:
    """What a table says of an estimate."""
    keys = ("value", "low", "high", "reliable")
    return {key: getattr(estimate, key) for key in keys}
