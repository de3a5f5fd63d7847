"""What is true of patches by the training images: the mean at each place, and how they vary about it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from embprobe import console, signals
from embprobe.encoders.predicting import Predicting
from embprobe.metrics.energies import whitening
from embprobe.store import Artefact
from embprobe.views import Images, blocks


@dataclass(frozen=True)
class Truths:
    """By the training images that were looked at."""

    mean_LP: Tensor  # what the mean predictor says of each place
    map_PP: Tensor  # whitens what varies about it
    level: tuple[float, float]  # average mean and std of a token's channels, in the encoder's own units

    @staticmethod
    def of(predicting: Predicting, images: Images, rows: np.ndarray, batch: int, out: Artefact) -> "Truths":
        """Computed once, and kept in the artefact: `mean` (L,P), `covariance` (P,P) about it, `level` (2,)."""
        if not out.has("level"):
            _gather(predicting, images, rows, batch, out)
        mean, covariance, level = (torch.from_numpy(out.array(n).read()) for n in ("mean", "covariance", "level"))
        return Truths(mean, whitening(covariance).float(), (float(level[0]), float(level[1])))


def _gather(predicting: Predicting, images: Images, rows: np.ndarray, batch: int, out: Artefact) -> None:
    length, wide = (
        predicting.predictor.positions.shape[1] - predicting.predictor.config.prefix,
        predicting.predictor.config.out,
    )
    device = predicting.predictor.positions.device
    total = torch.zeros(length, wide, dtype=torch.float64, device=device)
    outer = torch.zeros(wide, wide, dtype=torch.float64, device=device)
    level = torch.zeros(2, dtype=torch.float64, device=device)
    with console.progress("looking at training images", total=len(rows), unit="img") as bar:
        for here in blocks(rows, batch):
            signals.check()
            x = predicting.standardised(torch.from_numpy(images.array.take(here)).to(device))
            true = predicting.truth(x).double()
            total += true.sum(0)
            flat = true.flatten(0, 1)
            outer += flat.mT @ flat
            if predicting.target == "embeddings":
                tokens = predicting.encoder.network(x).double()
                level += torch.stack([tokens.mean(-1).mean(1).sum(), tokens.std(-1, correction=0).mean(1).sum()])
            bar.advance(len(here))
    mean = total / len(rows)
    covariance = (outer - len(rows) * mean.mT @ mean) / (len(rows) * length)
    arrays = {"mean": mean.float(), "covariance": covariance, "level": level / len(rows)}
    for name, values in arrays.items():
        made = values.cpu().numpy()
        out.create(name, made.shape, str(made.dtype)).write(made)
