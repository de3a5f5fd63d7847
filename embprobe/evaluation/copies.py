"""Samples against single training images: the search for copies, in each space."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from embprobe.data.duplicates import equal_images
from embprobe.errors import UserError
from embprobe.evaluation.alignment import PixelSpace, places_in
from embprobe.metrics.memorisation import WARNING, K, Near, memorisation, nearest, ratios, without_own
from embprobe.store import Json
from embprobe.views import Features, Images, Samples, blocks, seeded_subset

BLOCK = 2048  # rows read at once
KNOWN = 1000  # real images of each kind, known to be no copies, that say how often one looks like a copy
WORST = 16  # samples listed


@dataclass(frozen=True)
class Space:
    """Vectors of M samples (M,D), and what gives those of real images by their rows in the data set."""

    samples: Tensor
    real: Callable[[np.ndarray], Tensor]
    of_judge: bool = False

    def blocks(self, rows: np.ndarray) -> Iterator[Tensor]:
        """Vectors (B,D) of real images, in the order of the rows."""
        return (self.real(part) for part in blocks(rows, BLOCK))

    def near(self, known: Sequence[np.ndarray], sets: Sequence[np.ndarray], k: int, device: str = "cpu") -> list[Near]:
        """In each set of rows the k nearest images to every sample, then to every known real image, itself aside."""
        queries = torch.cat([self.samples.float(), *(self.real(rows).float() for rows in known)]).to(device)
        own = np.concatenate([np.full(len(self.samples), -1), *known])
        return [without_own(nearest(queries, self.blocks(rows), k + 1), places_in(rows, own), k) for rows in sets]

    def gaps(self, rows: np.ndarray, among: np.ndarray) -> Tensor:
        """Distances (R,) from some real images to the nearest others of many."""
        return without_own(nearest(self.real(rows), self.blocks(among), 2), places_in(among, rows), 1).distance[:, 0]


def judge_space(features_MF: Tensor, real: Features) -> Space:
    """A judge's features (M,F) of the samples, and those kept of real images. Raises UserError where some are not."""
    kept = {name: real.rows(name) for name in real.sets}

    def vectors(rows: np.ndarray) -> Tensor:
        name = next((k for k, v in kept.items() if np.isin(rows, v).all()), None)
        if name is None:
            raise UserError(f"features {real.short} lack some of the images compared; remove them and evaluate again")
        return torch.from_numpy(real.features(name).take(np.searchsorted(kept[name], rows)))

    return Space(features_MF, vectors, of_judge=True)


def latent_space(samples: Samples, rows: np.ndarray) -> Space:
    """Latents as the denoiser sees them, each channel normalised, all positions side by side."""
    latents = samples.denoiser.latents
    drawn = latents.scale.normalised(samples.latents.take(rows))
    return Space(
        torch.from_numpy(drawn).flatten(1), lambda wanted: torch.from_numpy(latents.normalised(wanted)).flatten(1)
    )


def distinct(images: Images, train: np.ndarray, held: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each group of copies one image; held-out images of which a copy was `seen` in training are none."""
    group = equal_images(images.array) if images.group is None else images.group
    unseen = held[~np.isin(group[held], group[seen])]
    one_each = [rows[np.sort(np.unique(group[rows], return_index=True)[1])] for rows in (train, unseen)]
    return one_each[0], one_each[1]


def search_copies(
    space: Space | PixelSpace,
    places: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
    spaces: int = 1,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Json]:
    """The test for copying, and the samples nearest to a training image; `places`: rows in the samples artefact.

    Training and held-out images are distinct. It warns falsely in one of a hundred searches through so many `spaces`.
    """
    known = [seeded_subset(rows, KNOWN, seed) for rows in (held, train)]
    near = space.near(known, (train, held), K, device)
    count = len(places)
    to_train, to_held = (Near(part.distance[:count], part.row[:count]) for part in near)
    known_ratios = ratios(*(Near(part.distance[count:], part.row[count:]) for part in near))
    test = memorisation(to_train, to_held, len(train), len(held), known_ratios)
    worst = test.ratio.argsort()[:WORST].tolist()
    share, low, high = test.share
    return {
        "warned": test.p_copies
        < WARNING / spaces,  # a given split may differ from training, which p_all takes for copying
        "p": test.p,
        "p_all": test.p_all,
        "p_copies": test.p_copies,
        "nearer": test.nearer,
        "expected": test.expected,
        "copies": test.copies,
        "count": count,
        "share": share,
        "low": low,
        "high": high,
        "base": list(test.base),
        "train": len(train),
        "held_out": len(held),
        "worst": [[int(places[i]), int(train[to_train.row[i, 0]]), float(test.ratio[i])] for i in worst],
    } | (
        inauthentic(space, near[0], train, count, len(known[0])) if isinstance(space, Space) and space.of_judge else {}
    )


def inauthentic(space: Space, to_train: Near, train: np.ndarray, samples: int, held: int) -> dict[str, Json]:
    """Share of samples, and of the held-out images after them, no farther from their nearest training image than that from
    any other: about 1 for a model that only copies; after Alaa et al. 2022, against all training images."""
    distance, row = to_train.distance[: samples + held, 0], to_train.row[: samples + held, 0]
    rows, place = np.unique(row.numpy(), return_inverse=True)
    nearer = (distance <= space.gaps(train[rows], train)[torch.from_numpy(place)]).double()
    return {"inauthentic": float(nearer[:samples].mean()), "inauthentic_floor": float(nearer[samples:].mean())}
