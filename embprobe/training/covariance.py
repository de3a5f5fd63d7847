"""Mean and covariance of the training patches, streamed once, from where an earlier run was killed."""

import math
import time
from dataclasses import dataclass

import torch
from safetensors.torch import load_file
from torch import Tensor

from embprobe import console, signals
from embprobe.store import CHECKPOINTS, Artefact
from embprobe.views import Embeddings, by_chunk

SUMS = f"{CHECKPOINTS}/covariance.safetensors"  # as far as they are
SAVE_SECONDS = 30.0


@dataclass(frozen=True)
class Covariance:
    """Mean (D,) and covariance (D,D) of the training patches in raw units, f64."""

    mean_D: Tensor
    matrix_DD: Tensor

    @staticmethod
    def of(embeddings: Embeddings, out: Artefact, device: str) -> "Covariance":
        """Streamed once, then kept as `feature_mean` and `feature_covariance`."""
        if not (out.has("feature_mean") and out.has("feature_covariance")):
            found = _streamed(embeddings, out, device)
            for name, values in zip(("feature_mean", "feature_covariance"), found, strict=True):
                out.create(name, tuple(values.shape), "float64").write(values.cpu().numpy())
        out.remove(*(name for name in (SUMS,) if out.has(name)))
        kept = (out.array(name).read() for name in ("feature_mean", "feature_covariance"))
        return Covariance(*(torch.from_numpy(values) for values in kept))

    @property
    def std_D(self) -> Tensor:
        """Per-channel std, 1 for channels that never change."""
        variance_D = self.matrix_DD.diagonal()
        floor = 1e-10 * variance_D.max().clamp(min=1e-30)
        return torch.where(variance_D > floor, variance_D, torch.ones_like(variance_D)).sqrt()

    @property
    def standardised(self) -> Tensor:
        """The covariance of standardised patches (D,D)."""
        std_D = self.std_D
        return self.matrix_DD / std_D[:, None] / std_D


def _streamed(embeddings: Embeddings, out: Artefact, device: str) -> tuple[Tensor, Tensor]:
    """Mean and covariance in one pass over the training images, which goes on where an earlier one was killed."""
    array, train, width = embeddings.array, embeddings.images.train, embeddings.width
    if out.has(SUMS):
        sums = load_file(out.folder.local(SUMS), device=device)
    else:
        sizes = {"total": (width,), "square": (width, width), "done": (1,)}
        sums = {name: torch.zeros(size, dtype=torch.float64, device=device) for name, size in sizes.items()}
    saved, done, seen = time.monotonic(), int(sums["done"]), 0
    with console.progress("covariance", total=len(train), unit="img", start=done) as bar:
        for rows in by_chunk(array, train):
            seen += len(rows)
            if seen <= done:
                continue
            x = torch.from_numpy(array.floats(rows)).to(device).flatten(0, -2)
            sums.setdefault("centre", x.mean(0))  # keeps f32 products accurate
            x = x - sums["centre"]
            sums["total"] += x.sum(0, dtype=torch.float64)
            sums["square"] += (x.mT @ x).double()
            sums["done"][:] = seen
            bar.advance(len(rows))
            if signals.requested() or time.monotonic() - saved > SAVE_SECONDS:
                with signals.saving():
                    out.write_tensors(SUMS, sums)
                saved = time.monotonic()
            signals.check()
    count = len(train) * math.prod(embeddings.grid)
    offset = sums["total"] / count
    mean = sums["centre"].double() + offset if "centre" in sums else offset
    return mean, sums["square"] / count - offset[:, None] * offset
