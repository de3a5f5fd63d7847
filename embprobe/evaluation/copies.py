"""Samples against single training images, and against all of them without a decoder between: pixels, a judge, latents."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from embprobe.diffusion import latent_scale
from embprobe.evaluation.judges import resized
from embprobe.evaluation.features import Rows, spread
from embprobe.evaluation.figures import Figure, figure
from embprobe.metrics.frechet import frechet_distance, frechet_jackknife
from embprobe.metrics.intervals import GROUPS, group_of
from embprobe.metrics.memorisation import memorisation, nearest
from embprobe.store import Artefact, Json

BLOCK = 2048  # rows read at once
PIXELS = 32  # side at which pixels are compared
WORST = 16  # samples listed
DIRECTIONS = 64  # principal directions of the training latents


@dataclass(frozen=True)
class Space:
    """Vectors of M samples (M,D), and what gives those of real images by their rows in the data set."""

    samples: Tensor
    real: Callable[[np.ndarray], Tensor]

    def blocks(self, rows: np.ndarray) -> Iterator[Tensor]:
        """Vectors (B,D) of real images, in the order of the rows."""
        return (self.real(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK))


def pixels(samples: Rows, images: Artefact) -> Space:
    """Pixels in [0, 1], both sets at the samples' size and then at most 32 px, antialiased."""
    array = images.array("images")

    def small(found: np.ndarray) -> Tensor:
        sized = found if found.shape[1] == samples.size else resized(found, samples.size)
        sized = sized if samples.size <= PIXELS else resized(sized, PIXELS)
        return torch.from_numpy(sized).flatten(1).float() / 255

    parts = [small(part) for part in samples.batches()]
    return Space(torch.cat(parts), lambda rows: small(array.take(rows)))


def judged(features_MF: Tensor, real: Artefact) -> Space:
    """A judge's features, kept in a features artefact."""
    kept = {key: real.array(f"{key}_rows").read() for key in ("train", "held_out") if real.has(f"{key}_rows")}

    def features(rows: np.ndarray) -> Tensor:
        key = next(k for k, v in kept.items() if np.isin(rows[:1], v).all())
        return torch.from_numpy(real.array(f"{key}_features").take(np.searchsorted(kept[key], rows)))

    return Space(features_MF, features)


def latents(samples: Artefact, rows: np.ndarray) -> Space:
    """Latents as the denoiser sees them, each channel normalised, all positions side by side."""
    compressed = samples.inputs["denoiser"].inputs["latents"]
    mean, std = (compressed.array(name).read() for name in ("mean", "std"))
    scale, array = latent_scale(std), compressed.array("latents")

    def flat(found: np.ndarray) -> Tensor:
        return torch.from_numpy((found - mean.astype(np.float32)) / scale).flatten(1)

    return Space(flat(samples.array("latents").take(rows)), lambda wanted: flat(array.floats(wanted)))


def memorised(space: Space, places: np.ndarray, train: np.ndarray, held: np.ndarray) -> dict[str, Json]:
    """The test for copying, and the samples nearest to a training image; `places`: rows in the samples artefact."""
    to_train = nearest(space.samples, space.blocks(train))
    to_held = nearest(space.samples, space.blocks(held))
    found = memorisation(to_train, to_held, len(train), len(held))
    worst = found.ratio.argsort()[:WORST]
    listed = [
        [int(places[i]), int(train[to_train.row[i, 0]]), float(found.ratio[i])] for i in worst.tolist()
    ]  # fmt: skip
    share, low, high = found.share
    return {
        "p": found.p,
        "p_all": found.p_all,
        "p_near": found.p_near,
        "nearer": found.nearer,
        "expected": found.expected,
        "copies": found.copies,
        "count": len(found.ratio),
        "share": share,
        "low": low,
        "high": high,
        "train": len(train),
        "held_out": len(held),
        "worst": listed,
    }


def latent_distance(space: Space, train: np.ndarray, held: np.ndarray, seed: int) -> dict[str, Figure]:
    """Fréchet distance of latents in units of its own floor, that of real held-out against real training latents.

    Latents are projected on the training set's first principal directions and whitened there, since units and scales of
    latents differ between encoders; only the ratio compares. Equal counts on all three sides.
    """
    count = min(len(space.samples), len(train), len(held))
    directions = min(DIRECTIONS, count // 8, space.samples.shape[1])
    if directions < 1:
        return {}
    real, other = (torch.cat(list(space.blocks(spread(rows, count, seed)))) for rows in (train, held))
    centre = real.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, singular, basis = torch.svd_lowrank(real - centre, q=directions, niter=4)
    whiten = basis / (singular / max(1, count - 1) ** 0.5).clamp_min(1e-6)
    made, real, other = ((v - centre) @ whiten for v in (space.samples[:count], real, other))
    groups = min(GROUPS, count // 2)
    members = {"samples": group_of(count, groups), "reference": group_of(count, groups, seed=1)}
    floor = frechet_distance(other, real)
    floors = frechet_jackknife(real, other, members["reference"], groups)
    left = {
        "samples": [v / floor for v in frechet_jackknife(made, real, members["samples"], groups)],
        "reference": [
            v / f for v, f in zip(frechet_jackknife(real, made, members["reference"], groups), floors, strict=True)
        ],
    }
    found = figure("latent_fd", frechet_distance(made, real) / floor, left)
    return {"latent_fd": {**found, "count": count, "directions": directions}}
