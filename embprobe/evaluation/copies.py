"""Samples against single training images: the search for copies, in each space."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from embprobe.errors import UserError
from embprobe.evaluation.features import ImageRows
from embprobe.metrics.memorisation import memorisation, nearest
from embprobe.pixels import resized
from embprobe.store import Json
from embprobe.views import Features, Images, Samples, blocks

BLOCK = 2048  # rows read at once
PIXELS = 32  # longer side at which pixels are compared
WORST = 16  # samples listed


@dataclass(frozen=True)
class Space:
    """Vectors of M samples (M,D), and what gives those of real images by their rows in the data set."""

    samples: Tensor
    real: Callable[[np.ndarray], Tensor]

    def blocks(self, rows: np.ndarray) -> Iterator[Tensor]:
        """Vectors (B,D) of real images, in the order of the rows."""
        return (self.real(part) for part in blocks(rows, BLOCK))


def pixel_space(samples: ImageRows, images: Images) -> Space:
    """Pixels in [0, 1], both sets at the samples' size and then with at most 32 px a side, antialiased."""
    scale = min(1.0, PIXELS / max(samples.size))
    small = (max(1, round(samples.size[0] * scale)), max(1, round(samples.size[1] * scale)))

    def vectors(pictures: np.ndarray) -> Tensor:
        for size in (samples.size, small):
            pictures = pictures if pictures.shape[1:3] == size else resized(pictures, size)
        return torch.from_numpy(pictures).flatten(1).float() / 255

    parts = [vectors(samples.read(range(s, s + BLOCK))) for s in range(0, len(samples.rows), BLOCK)]
    return Space(torch.cat(parts), lambda rows: vectors(images.array.take(rows)))


def judge_space(features_MF: Tensor, real: Features) -> Space:
    """A judge's features (M,F) of the samples, and those kept of real images. Raises UserError where some are not."""
    kept = {name: real.rows(name) for name in real.sets}

    def vectors(rows: np.ndarray) -> Tensor:
        name = next((k for k, v in kept.items() if np.isin(rows, v).all()), None)
        if name is None:
            raise UserError(f"features {real.short} lack some of the images compared; remove them and evaluate again")
        return torch.from_numpy(real.features(name).take(np.searchsorted(kept[name], rows)))

    return Space(features_MF, vectors)


def latent_space(samples: Samples, rows: np.ndarray) -> Space:
    """Latents as the denoiser sees them, each channel normalised, all positions side by side."""
    latents = samples.denoiser.latents
    drawn = latents.scale.normalised(samples.latents.take(rows))
    return Space(
        torch.from_numpy(drawn).flatten(1), lambda wanted: torch.from_numpy(latents.normalised(wanted)).flatten(1)
    )


def search_copies(space: Space, places: np.ndarray, train: np.ndarray, held: np.ndarray) -> dict[str, Json]:
    """The test for copying, and the samples nearest to a training image; `places`: rows in the samples artefact."""
    to_train = nearest(space.samples, space.blocks(train))
    to_held = nearest(space.samples, space.blocks(held))
    test = memorisation(to_train, to_held, len(train), len(held))
    worst = test.ratio.argsort()[:WORST].tolist()
    share, low, high = test.share
    return {
        "p": test.p,
        "p_all": test.p_all,
        "p_near": test.p_near,
        "nearer": test.nearer,
        "expected": test.expected,
        "copies": test.copies,
        "count": len(test.ratio),
        "share": share,
        "low": low,
        "high": high,
        "train": len(train),
        "held_out": len(held),
        "worst": [[int(places[i]), int(train[to_train.row[i, 0]]), float(test.ratio[i])] for i in worst],
    }
