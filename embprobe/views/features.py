"""What judges see in images."""

from typing import TYPE_CHECKING, ClassVar

from embprobe.store import Array, Artefact, Json
from embprobe.views.view import View

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class Features(View):
    """What `features` writes: what a judge sees in sets of images: `train` and `held_out`, or `samples` alone."""

    made_by = "features"
    SETS: ClassVar[tuple[str, ...]] = ("samples", "train", "held_out")

    @property
    def source(self) -> Artefact:
        """What the judge looked at: a data set, samples or a decoder."""
        return self._source("images")

    @property
    def sets(self) -> list[str]:
        return [name for name in self.SETS if self.artefact.has(f"{name}_rows")]

    def rows(self, name: str) -> "np.ndarray":
        """Which images, rising."""
        return self.artefact.array(f"{name}_rows").read()

    def features(self, name: str) -> Array:
        """(n,F) f32, in the order of `rows`."""
        return self.artefact.array(f"{name}_features")

    @property
    def judge(self) -> dict[str, Json]:
        """What is known of the judge: name, accuracy and classes of the data set (or None), and facts."""
        facts: dict[str, Json] = self.artefact.metrics["judge"]
        return facts

    def tensor(self, name: str) -> "Tensor":
        """All features of a set, in memory."""
        import torch

        return torch.from_numpy(self.features(name).read())

    def probabilities(self, name: str) -> Array | None:
        """(n,C) f32 of a classifier; None of a judge without classes."""
        key = f"{name}_probabilities"
        return self.artefact.array(key) if self.artefact.has(key) else None
