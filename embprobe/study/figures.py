"""What a study is made of: figures with their intervals, the rows they stand in, the columns they are shown under."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from embprobe.store import Json

LeftOut = Mapping[str, Sequence[float]]
Kind = Literal["samples", "reconstructions", "real", "embeddings"]


@dataclass(frozen=True)
class Column:
    """A figure's key, its name, the digits it is shown with, and which way is better (None: neither)."""

    key: str
    name: str
    digits: int
    higher: bool | None

    @property
    def said(self) -> str:
        """The name in a sentence."""
        return f"{self.name} accuracy" if self.key in ("linear", "knn") else self.name

    @property
    def header(self) -> str:
        return self.name + {True: " ↑", False: " ↓", None: ""}[self.higher]

    def text(self, value: float) -> str:
        """A value with the column's digits and a true minus."""
        shown = f"{value:.{self.digits}f}"
        return shown[1:] if float(shown) == 0 and shown.startswith("-") else shown.replace("-", "−")


COLUMNS = (
    Column("fd", "FD", 1, False),
    Column("fd_infinity", "FD∞", 1, False),
    Column("kid", "KID", 4, False),
    Column("score", "score", 2, True),
    Column("tv", "TV", 3, False),
    Column("precision", "precision", 3, True),
    Column("recall", "recall", 3, True),
    Column("density", "density", 3, True),
    Column("coverage", "coverage", 3, True),
    Column("authenticity", "authenticity", 3, None),
    Column("asked_class", "asked class", 3, True),
    Column("latent_fd", "latent FD ÷ floor", 2, False),
    Column("gaussian_fd", "FD of Gaussian latents", 1, None),
    Column("psnr", "PSNR", 1, True),
    Column("r2", "VAE R²", 3, None),
    Column("linear", "linear", 3, True),
    Column("knn", "k-NN", 3, True),
    Column("pixel_r2", "pixel R²", 3, None),
)
OF_EMBEDDINGS = ("psnr", "r2", "linear", "knn", "pixel_r2")  # told of an encoder, whoever judges its samples


@dataclass(frozen=True)
class Figure:
    """A value, the ends of its 95 % interval, its floor, and the value with each group of images left out."""

    value: float
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    left_out: LeftOut | None = field(default=None, compare=False)
    reliable: bool = True

    @staticmethod
    def of(found: Mapping[str, Json]) -> "Figure":
        """A figure as metrics.json has it; whatever is not there is None."""
        return Figure(
            found["value"],
            found.get("low"),
            found.get("high"),
            found.get("floor"),
            found.get("left_out") or None,
            found.get("reliable", True),
        )

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval; None without one."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def json(self) -> dict[str, Json]:
        return {"value": self.value, "low": self.low, "high": self.high, "reliable": self.reliable}


@dataclass(frozen=True)
class Row:
    """A line of a table: what it is about, how it was drawn, and its figures by column."""

    encoder: str
    values: Mapping[str, Figure]
    kind: Kind = "samples"
    how: str = ""  # what tells it from other rows of its encoder: guidance, classes, …
    seed: str = ""  # training seeds, where there are several
    count: int | None = None
    control: bool = False  # pixels or an untrained network
    reference: str | None = None  # digest of the real images it was measured against
    weak: bool = False  # the judge is below 90 % accurate
    probed: bool = False  # the judge is the encoder itself

    @property
    def label(self) -> str:
        return ", ".join(part for part in (self.encoder, self.how, self.seed) if part)

    @property
    def is_floor(self) -> bool:
        return self.kind in ("real", "reconstructions")

    def json(self) -> dict[str, Json]:
        facts = {k: getattr(self, k) for k in ("label", "encoder", "how", "seed", "kind", "count", "control")}
        facts |= {"floor": self.is_floor, "reference": self.reference, "weak": self.weak, "probed": self.probed}
        return facts | {"values": {k: v.json() for k, v in self.values.items()}}
