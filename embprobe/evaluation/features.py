"""What a judge sees of some rows of an image array, computed once and kept in an artefact."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from embprobe import signals
from embprobe.evaluation.judges import Judge, Judged, features_of, resized
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


def whole(samples: Artefact, limit: int, seed: int) -> Rows:
    """All images of samples, of a decoder's reconstructions or of a data set, or a seeded choice of `limit`."""
    images = samples.array("reconstructions" if samples.stage == "decode" else "images")
    rows = spread(np.arange(len(images)), limit, seed)
    label = samples.array("label").read() if samples.stage != "decode" and samples.has("label") else None
    return Rows(images, rows, None if label is None else label[rows], images.shape[1])


@dataclass(frozen=True)
class Look:
    """What a judge saw of some rows: features (n,F), perhaps probabilities (n,C), and the rows' classes (n,)."""

    judged: Judged
    rows: np.ndarray
    label: np.ndarray | None

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, kept: np.ndarray) -> "Look":
        """Some of them, by place or by mask."""
        places = torch.from_numpy(kept)
        features, probabilities = self.judged
        judged = features[places], None if probabilities is None else probabilities[places]
        return Look(judged, self.rows[kept], None if self.label is None else self.label[kept])

    def cut(self, count: int) -> "Look":
        """The same seeded choice of `count` of them, whatever the set."""
        return self if len(self) <= count else self.where(spread(np.arange(len(self)), count, 0))

    def digest(self) -> str:
        """Tells one choice of rows from another."""
        return hashlib.sha256(self.rows.astype(np.int64).tobytes()).hexdigest()[:16]
