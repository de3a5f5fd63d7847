"""What simple readers find in embeddings: classes, pixels, and the factors that scenes were drawn from."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from embprobe import console, signals
from embprobe.metrics.estimate import Estimate
from embprobe.metrics.probes import (
    FOLDS,
    Normal,
    accuracy,
    explained,
    kernel_predictions,
    linear_probe,
    nearest_votes,
    tuned_ridge,
)
from embprobe.pixels import patchify, preprocess
from embprobe.store import Json
from embprobe.views import Embeddings, blocks

ROW_BYTES = 64 << 20  # tokens held at a time, as f32
GRID_ROWS = 4000  # training images of the full-grid probe at most: it solves one equation an image


@dataclass(frozen=True)
class ProbeRows:
    """Which images are fitted on and which are measured, and where their tokens are."""

    embeddings: Embeddings  # measured on
    fitted: Embeddings  # fitted on: the same, or those of another data set
    train: np.ndarray  # in a seeded order
    fold: np.ndarray  # aligned with train: which of the folds an image is in
    held: np.ndarray
    device: str

    @staticmethod
    def of(
        embeddings: Embeddings, limit: int, seed: int, device: str, held_out: str, fitted: Embeddings | None = None
    ) -> "ProbeRows":
        """The rows of the training and of the held-out split, each at most `limit`, by a seeded choice.

        Of two data sets those of classes that both have.
        """
        images, fitted = embeddings.images, fitted or embeddings
        train, held = fitted.images.train, images.of_split(held_out)
        if fitted != embeddings:
            shared = images.shared_classes(fitted.images)
            train, held = train[fitted.images.ids_of(shared)[train] >= 0], held[images.ids_of(shared)[held] >= 0]
        train, held = chosen_rows(train, held, limit, seed)
        return ProbeRows(embeddings, fitted, train, np.arange(len(train)) % FOLDS, held, device)

    def training(self, limit: int | None = None) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Places in `train`, of its first `limit`, and their tokens (b,*grid,D) f32 on the device."""
        return self._batches(self.fitted, self.train[:limit])

    def measured(self) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Places in `held`, and their tokens (b,*grid,D) f32 on the device."""
        return self._batches(self.embeddings, self.held)

    def _batches(self, embeddings: Embeddings, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        """In the order of the file."""
        array = embeddings.array
        each = max(1, ROW_BYTES // (4 * math.prod(array.shape[1:])))
        for places in blocks(np.argsort(rows, kind="stable"), each):
            signals.check()
            yield places, torch.from_numpy(array.floats(rows[places])).to(self.device)

    @cached_property
    def classes(self) -> list[str]:
        """The classes that are told apart."""
        return self.embeddings.images.shared_classes(self.fitted.images)

    @cached_property
    def labels(self) -> tuple[Tensor, Tensor]:
        """Class ids, places in `classes`, of the training and of the held-out images, on the device."""
        parts = (self.fitted, self.train), (self.embeddings, self.held)
        known, true = (torch.from_numpy(e.images.ids_of(self.classes)[rows]).to(self.device) for e, rows in parts)
        return known, true

    @property
    def chance(self) -> float:
        """The accuracy of always answering one class."""
        true = self.labels[1]
        return float(torch.bincount(true, minlength=len(self.classes)).max() / len(true))


def chosen_rows(train: np.ndarray, held: np.ndarray, limit: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `limit` rows of each: of those to fit on in a seeded order, of those to measure on rising."""
    rng = np.random.default_rng([seed, 0x9B0E])
    train = rng.permutation(train)[:limit]
    return train, np.sort(rng.permutation(held)[:limit])


# ---- pixels


def read_pixels(data: ProbeRows) -> dict[str, Json]:
    """Pixel R² on the held-out images."""
    embeddings = data.embeddings
    targets, scale = Patches(embeddings), TokenScale(embeddings, data.device)
    sums = [Normal(embeddings.width, targets.wide, data.device) for _ in range(FOLDS)]
    with console.progress("probing", total=len(data.train) + len(data.held), unit="img") as bar:
        for places, tokens in data.training():
            x, y = scale(tokens), targets(data.train[places]).to(data.device)
            fold = torch.from_numpy(data.fold[places]).to(data.device)
            for number, part in enumerate(sums):
                add(part, x[fold == number], y[fold == number])
            bar.advance(len(places))
        weight, bias, strength = tuned_ridge(sums)
        error, square = torch.zeros(2, len(data.held), dtype=torch.float64)
        sums_NT = torch.zeros(len(data.held), targets.wide, dtype=torch.float64)
        for places, tokens in data.measured():
            x, y = scale(tokens), targets(data.held[places]).to(data.device).double()
            at = torch.from_numpy(places)
            error[at] = (y - x.flatten(1, -2).double() @ weight - bias).square().sum((1, 2)).cpu()
            square[at], sums_NT[at] = y.square().sum((1, 2)).cpu(), y.sum(1).cpu()
            bar.advance(len(places))
    estimate = explained(error, square, sums_NT, math.prod(embeddings.grid))
    return {"pixel_r2": estimate.json() | {"ridge": strength}}


def mean_tokens(data: ProbeRows) -> tuple[Tensor, Tensor]:
    """The mean tokens of both sets, standardised by the training images: (train,D), (held,D)."""
    scale = TokenScale(data.fitted, data.device)
    sets = (data.train, data.training()), (data.held, data.measured())
    means = [torch.empty(len(rows), data.embeddings.width, device=data.device) for rows, _ in sets]
    with console.progress("reading", total=len(data.train) + len(data.held), unit="img") as bar:
        for into, (_, batches) in zip(means, sets, strict=True):
            for places, tokens in batches:
                into[torch.from_numpy(places)] = mean_token(scale(tokens))
                bar.advance(len(places))
    centre, std = means[0].mean(0), means[0].std(0).clamp_min(1e-6)
    return (means[0] - centre) / std, (means[1] - centre) / std


def add(sums: Normal, tokens: Tensor, patches_BLP: Tensor) -> None:
    """Takes the tokens and their patches into the sums, a part at a time: f64 is twice as wide."""
    parts = (torch.split(flat, 1 << 16) for flat in (tokens.flatten(0, -2), patches_BLP.flatten(0, 1)))
    for x, y in zip(*parts, strict=True):
        sums.add(x, y)


def mean_token(tokens: Tensor) -> Tensor:
    """(B,*grid,D) → (B,D)."""
    return tokens.mean(tuple(range(1, tokens.ndim - 1)))


class TokenScale:
    """Tokens less their mean, over their std, per channel, by the training images."""

    def __init__(self, embeddings: Embeddings, device: str) -> None:
        self.mean = torch.from_numpy(embeddings.mean).to(device)
        self.std = torch.from_numpy(embeddings.std).to(device).clamp_min(1e-6)

    def __call__(self, tokens: Tensor) -> Tensor:
        scaled: Tensor = (tokens - self.mean) / self.std
        return scaled


class Patches:
    """The pixels that each token stands for, at the encoder's size, in [0, 1]."""

    def __init__(self, embeddings: Embeddings) -> None:
        self.images, self.size = embeddings.images, embeddings.input_size
        self.patch = self.size[0] // embeddings.grid[0]
        self.wide = self.patch**2 * self.images.channels

    def __call__(self, rows: np.ndarray) -> Tensor:
        """Pixels (b, L, patch²·C) of some images."""
        none, one = (0.0,) * self.images.channels, (1.0,) * self.images.channels
        images = torch.from_numpy(self.images.array.take(rows))
        return patchify(preprocess(images, self.size, none, one, "bicubic"), self.patch)


# ---- classes


def read_linear(data: ProbeRows) -> dict[str, Json]:
    """Accuracy of a linear probe on mean tokens."""
    train, held = mean_tokens(data)
    known, true = data.labels
    tune = torch.from_numpy(data.fold == 0).to(data.device)
    probe, l2 = linear_probe(train, known, len(data.classes), [tune])
    return {"linear": accuracy(probe(held) == true, data.chance).json() | {"l2": l2}}


def read_neighbours(data: ProbeRows, k: int) -> dict[str, Json]:
    """Accuracy of k nearest neighbours on mean tokens."""
    train, held = mean_tokens(data)
    known, true = data.labels
    near = nearest_votes(train, known, held, k, len(data.classes))
    return {"knn": accuracy(near == true, data.chance).json() | {"k": k}}


# ---- planted factors


def read_factors(data: ProbeRows, values: np.ndarray, facts: list[Json]) -> dict[str, Json]:
    """What ridge regression reads of every planted factor, from the mean token and from the full grid."""
    train, pooled = data.train[:GRID_ROWS], mean_tokens(data)
    known, groups = columns(values[train], facts)
    true, _ = columns(values[data.held], facts)
    x, query = pooled[0][: len(train)].double().cpu(), pooled[1].double().cpu()
    grams = {"pooled": (x @ x.T, query @ x.T), "grid": grid_grams(data)}
    results: dict[str, Json] = {fact["name"]: {"kind": fact["kind"]} for fact in facts}
    for where, (gram, cross) in grams.items():
        read = predictions(gram, cross, known, groups)
        for fact, group in zip(facts, groups, strict=True):
            results[fact["name"]][where] = factor_estimate(fact["kind"], read[:, group], true[:, group]).json()
    return {"factors": results}


def predictions(gram: Tensor, cross: Tensor, known: Tensor, groups: list[slice]) -> Tensor:
    """Kernel ridge, with Gram matrices brought to a mean square of about 1."""
    level = gram.diagonal().mean().clamp_min(1e-12)
    return kernel_predictions(gram / level, cross / level, known, groups)


def columns(values_NF: np.ndarray, facts: list[Json]) -> tuple[Tensor, list[slice]]:
    """Targets (N,T) f64 and the columns of each factor: itself, sine and cosine, or one column a kind."""
    parts, groups, start = [], [], 0
    for value, fact in zip(torch.from_numpy(values_NF).double().T, facts, strict=True):
        if fact["kind"] == "circular":
            part = torch.stack([(2 * torch.pi * value).sin(), (2 * torch.pi * value).cos()], 1)
        elif fact["kind"] == "category":
            part = torch.nn.functional.one_hot(value.long(), len(fact["values"])).double()
        else:
            part = value[:, None]
        parts.append(part)
        groups.append(slice(start, start + part.shape[1]))
        start += part.shape[1]
    return torch.cat(parts, 1), groups


def factor_estimate(kind: str, read_MT: Tensor, true_MT: Tensor) -> Estimate:
    """Accuracy of a category, R² of anything else."""
    if kind == "category":
        return accuracy(read_MT.argmax(1) == true_MT.argmax(1), float(true_MT.mean(0).max()))
    return explained((read_MT - true_MT).square().sum(1), true_MT.square().sum(1), true_MT)


def grid_grams(data: ProbeRows) -> tuple[Tensor, Tensor]:
    """Inner products of whole grids of at most GRID_ROWS training images, less their mean: (n,n) and (held,n) f64.

    Grids are read block by block.
    """
    count = min(len(data.train), GRID_ROWS)
    mean = sum(tokens.double().sum(0) for _, tokens in data.training(GRID_ROWS)) / count
    gram = torch.empty(count, count, dtype=torch.float64)
    cross = torch.empty(len(data.held), count, dtype=torch.float64)
    for places, tokens in data.training(GRID_ROWS):
        known = (tokens.double() - mean).flatten(1)
        at = torch.from_numpy(places)
        for into, batches in ((gram, data.training(GRID_ROWS)), (cross, data.measured())):
            for others, more in batches:
                block = (more.double() - mean).flatten(1) @ known.T
                into[torch.from_numpy(others)[:, None], at] = block.cpu()
    return gram, cross
