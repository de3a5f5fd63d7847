"""Embeddings and the latents made of them: token grids, channels, scales."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from embprobe.store import Array, Artefact, Json, Rows
from embprobe.views.images import Images
from embprobe.views.view import View, blocks

if TYPE_CHECKING:
    import numpy as np

Posterior = Literal["mean", "sample"]
"""What is learned of an image's latents: the posterior's mean, or samples of it, drawn anew each time."""


class Embeddings(View):
    """What `extract` writes: tokens (N,*grid,D), their mean and std per channel over the training split."""

    made_by = "extract"

    @cached_property
    def images(self) -> Images:
        return Images(self._source("images"))

    @cached_property
    def array(self) -> Rows:
        return self.artefact.array("embeddings")

    def __len__(self) -> int:
        return len(self.array)

    @property
    def grid(self) -> tuple[int, ...]:
        """Tokens along each axis of the image: (K,K) for squares."""
        return self.array.shape[1:-1]

    @property
    def width(self) -> int:
        """D."""
        return self.array.shape[-1]

    @cached_property
    def mean(self) -> "np.ndarray":
        return self.artefact.array("mean").read()

    @cached_property
    def std(self) -> "np.ndarray":
        return self.artefact.array("std").read()

    @property
    def encoder(self) -> Artefact | str:
        """The pretrained encoder's artefact, or the name that was asked for."""
        return self.artefact.inputs.get("encoder") or str(self.artefact.options["encoder"])

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width at which the encoder saw the images, in pixels."""
        size = self.artefact.metrics["encoder"]["size"]
        return (size, size) if isinstance(size, int) else (size[0], size[1])


@dataclass(frozen=True)
class Scale:
    """Latents to zero mean and unit variance per channel, by the training split, and back; f32."""

    mean: "np.ndarray"
    std: "np.ndarray"  # at least 0.01, so that closed channels stay at 0 and are not blown up into noise

    @staticmethod
    def of(mean_d: "np.ndarray", std_d: "np.ndarray") -> "Scale":
        import numpy as np

        return Scale(np.asarray(mean_d, np.float32), np.maximum(std_d, 0.01).astype(np.float32))

    def normalised(self, latents: "np.ndarray") -> "np.ndarray":
        """(…,d) in their own units → zero mean, unit variance."""
        values: np.ndarray = (latents - self.mean) / self.std
        return values

    def restored(self, normalised: "np.ndarray") -> "np.ndarray":
        """The inverse of `normalised`."""
        values: np.ndarray = normalised * self.std + self.mean
        return values

    def json(self) -> dict[str, Json]:
        return {"mean": self.mean.tolist(), "scale": self.std.tolist()}


class Latents(View):
    """What `compress` writes: posterior means (N,*grid,d) and log-variances, and their scale."""

    made_by = "compress"

    @cached_property
    def embeddings(self) -> Embeddings:
        return Embeddings(self._source("embeddings"))

    @property
    def images(self) -> Images:
        return self.embeddings.images

    @cached_property
    def array(self) -> Array:
        return self.artefact.array("latents")

    def __len__(self) -> int:
        return len(self.array)

    @property
    def grid(self) -> tuple[int, ...]:
        return self.array.shape[1:-1]

    @property
    def channels(self) -> int:
        """d."""
        return self.array.shape[-1]

    @cached_property
    def scale(self) -> Scale:
        return Scale.of(self.artefact.array("mean").read(), self.artefact.array("std").read())

    @property
    def r2(self) -> float | None:
        """Share of the embeddings' variance that they keep, on held-out images; None where nothing is held out."""
        r2: float | None = self.artefact.metrics.get("r2")
        return r2

    def normalised(self, rows: "np.ndarray") -> "np.ndarray":
        """Latents of these rows (n,*grid,d) f32, zero mean and unit variance per channel."""
        return self.scale.normalised(self.array.floats(rows))

    def learned(self, posterior: Posterior) -> "Learned":
        """What a network learns of them."""
        return Learned(self, posterior)


@dataclass(frozen=True)
class Learned:
    """Latents as a network learns them: the posterior's means or samples of it, at zero mean and unit variance."""

    of: Latents
    posterior: Posterior

    @cached_property
    def scale(self) -> Scale:
        """The latents' own; that of samples has the posterior's variance on top."""
        import numpy as np

        if self.posterior == "mean":
            return self.of.scale
        train, within = self.of.images.train, np.zeros(self.of.channels)
        for part in blocks(train, 1024):
            within += np.exp(self.logvar.floats(part).astype(np.float64)).reshape(-1, self.of.channels).sum(0)
        between = self.of.artefact.array("std").read().astype(np.float64) ** 2
        variance_d = between + within / (len(train) * math.prod(self.of.grid))
        return Scale.of(self.of.artefact.array("mean").read(), np.sqrt(variance_d))

    @cached_property
    def logvar(self) -> Array:
        """The posterior's log-variances (N,*grid,d)."""
        return self.of.artefact.array("logvar")

    def values(self, rows: "np.ndarray") -> "dict[str, np.ndarray]":
        """`latents` of these rows (n,*grid,d), and for samples the posterior's std around them as `spread`; f32."""
        import numpy as np

        values = {"latents": self.scale.normalised(self.of.array.floats(rows))}
        if self.posterior == "sample":
            values["spread"] = np.exp(self.logvar.floats(rows) / 2) / self.scale.std
        return values
