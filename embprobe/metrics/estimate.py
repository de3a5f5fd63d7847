"""An estimate: a value with its interval, its floor, and how far chance moves it. No torch in here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Facts = Mapping[str, Any]  # Any: what JSON holds


@dataclass(frozen=True)
class Spread:
    """How far chance moves a value: the variance of drawing the samples, and what the choice of the reference adds.

    `reference` are contrasts that the choice causes, the same choices for every value of equal counts, so that they can
    be subtracted from each other: scale · mean (contrast²) − noise is their variance.
    """

    samples: float = 0.0
    freedom: float = 1.0  # degrees of freedom of `samples`
    reference: tuple[float, ...] = ()
    scale: float = 0.0
    noise: float = 0.0

    @property
    def of_reference(self) -> float:
        """The variance that the choice of the reference causes."""
        return max(0.0, self.scale * mean_square(self.reference) - self.noise)

    @property
    def variance(self) -> float:
        """Of samples and reference together, which are independent."""
        return self.samples + self.of_reference


def mean_square(values: tuple[float, ...]) -> float:
    return sum(v * v for v in values) / len(values) if values else 0.0


@dataclass(frozen=True)
class Estimate:
    """A value, the ends of its 95 % interval, what real images get in its place, and further facts by name."""

    value: float
    low: float | None = None
    high: float | None = None
    floor: "Estimate | None" = None
    spread: Spread | None = field(default=None, compare=False)
    reliable: bool = True
    facts: Facts = field(default_factory=dict, compare=False)

    @staticmethod
    def of(json: Facts) -> "Estimate":
        """An estimate as a JSON file has it; what is not there is None."""
        known = ("value", "low", "high", "floor", "spread", "reliable")
        facts = {k: v for k, v in json.items() if k not in known}
        floor, spread = json.get("floor"), json.get("spread")
        return Estimate(
            json["value"],
            json.get("low"),
            json.get("high"),
            None if floor is None else Estimate.of(floor if isinstance(floor, Mapping) else {"value": floor}),
            Spread(**{**spread, "reference": tuple(spread["reference"])}) if spread else None,
            json.get("reliable", True),
            facts,
        )

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval; None without one."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def json(self, *, spread: bool = True) -> dict[str, Any]:  # Any: JSON
        """The inverse of `of`; without the spread where no difference will be taken."""
        values: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high}
        values["floor"] = None if self.floor is None else self.floor.json(spread=False)
        if spread and self.spread is not None:
            values["spread"] = asdict(self.spread) | {"reference": list(self.spread.reference)}
        return values | ({} if self.reliable else {"reliable": False}) | dict(self.facts)
