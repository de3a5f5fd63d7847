"""An estimate: a value with its interval, its floor, and what differences need. No torch in here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Jackknife = Mapping[str, Sequence[float]]
"""`samples` and `reference`: the statistic with each group of that side left out."""
Facts = Mapping[str, Any]  # Any: what JSON holds


@dataclass(frozen=True)
class Estimate:
    """A value, the ends of its 95 % interval, what real images get in its place, and further facts by name."""

    value: float
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    jackknife: Jackknife | None = field(default=None, compare=False)
    reliable: bool = True
    facts: Facts = field(default_factory=dict, compare=False)

    @staticmethod
    def of(json: Facts) -> "Estimate":
        """An estimate as a JSON file has it; what is not there is None."""
        known = ("value", "low", "high", "floor", "jackknife", "reliable")
        facts = {k: v for k, v in json.items() if k not in known}
        low, high, floor = (json.get(k) for k in known[1:4])
        return Estimate(
            json["value"], low, high, floor, json.get("jackknife") or None, json.get("reliable", True), facts
        )

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval; None without one."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def json(self, *, jackknife: bool = True) -> dict[str, Any]:  # Any: JSON
        """The inverse of `of`; without the jackknife where no difference will be taken."""
        values: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high, "floor": self.floor}
        if jackknife and self.jackknife is not None:
            values["jackknife"] = {side: list(groups) for side, groups in self.jackknife.items()}
        return values | ({} if self.reliable else {"reliable": False}) | dict(self.facts)
