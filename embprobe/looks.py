"""What a judge sees of some rows of an image array, computed once and kept in an artefact."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from embprobe import signals
from embprobe.judges import Judge, Judged, features_of, resized
from embprobe.store import Array, Artefact

BATCH = 128


@dataclass(frozen=True)
class Rows:
    """Some rows of an image array, and the side at which judges see them."""

    images: Array
    rows: np.ndarray
    label: np.ndarray | None
    size: int

    def batches(self) -> Iterator[np.ndarray]:
        """u8 images (b,size,size,3)."""
        for start in range(0, len(self.rows), BATCH):
            images = self.images.take(self.rows[start : start + BATCH])
            yield images if images.shape[1] == self.size else resized(images, self.size)


def spread(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """A seeded choice of at most `count` rows, sorted; smaller ones are part of larger ones."""
    return np.sort(np.random.default_rng([seed, 0xE7A1]).permutation(rows)[:count])


def keep(judge: Judge, key: str, rows: Rows, device: str, out: Artefact) -> None:
    """Writes `KEY_features` (n,F) and, from a classifier, `KEY_probabilities` (n,C)."""
    if out.has(f"{key}_features"):
        return
    features, probabilities = features_of(judge, rows.batches(), device)
    if probabilities is not None:
        out.create(f"{key}_probabilities", tuple(probabilities.shape), "float32").write(probabilities.numpy())
    out.create(f"{key}_features", tuple(features.shape), "float32").write(features.numpy())
    signals.check()


def seen(artefact: Artefact, key: str, places: np.ndarray) -> Judged:
    """Kept features, and probabilities where there are any, of some places."""
    features = torch.from_numpy(artefact.array(f"{key}_features").take(places))
    if not artefact.has(f"{key}_probabilities"):
        return features, None
    return features, torch.from_numpy(artefact.array(f"{key}_probabilities").take(places))


def splits(split: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of the training split, and of the validation split or else the test split."""
    held = np.nonzero(split == 1)[0]
    return {"train": np.nonzero(split == 0)[0], "held_out": held if len(held) else np.nonzero(split == 2)[0]}
