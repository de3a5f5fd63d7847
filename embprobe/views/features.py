"""What judges see in images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from embprobe.store import Array
from embprobe.views.view import View

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Features(View):
    """What `features` writes: what a judge sees in sets of images: `train` and `held_out`, or `samples` alone."""

    made_by = "features"
    SETS: ClassVar[tuple[str, ...]] = ("samples", "train", "held_out")

    @property
    def sets(self) -> list[str]:
        return [name for name in self.SETS if self.artefact.has(f"{name}_rows")]

    def rows(self, name: str) -> "np.ndarray":
        """Which images, rising."""
        return self.artefact.array(f"{name}_rows").read()

    def features(self, name: str) -> Array:
        """(n,F) f32, in the order of `rows`."""
        return self.artefact.array(f"{name}_features")

    def probabilities(self, name: str) -> Array | None:
        """(n,C) f32 of a classifier; None of a judge without classes."""
        key = f"{name}_probabilities"
        return self.artefact.array(key) if self.artefact.has(key) else None
