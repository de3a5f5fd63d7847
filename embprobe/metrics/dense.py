"""Dense tasks: how far what is read of scenes with several objects is right, image by image and patch by patch."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.intervals import GROUPS, centred, jackknife, student
from embprobe.metrics.probes import accuracy, explained


class Scene(NamedTuple):
    """N scenes as they are, or as they are read: what is of each image is (N,), what is of each patch (N,L)."""

    number: Tensor  # of objects
    nearest: Tensor  # depth of the nearest object
    depth: Tensor  # mean depth
    segments: Tensor  # the kind that most of it is


def image_figures(read: Scene, true: Scene) -> dict[str, Estimate]:
    """Of each image: the count, as share of right ones, R² and mean absolute error; the nearest object's depth, as R²."""
    counts = true.number.long()
    right, chance = read.number.round().long() == counts, float(torch.bincount(counts).max() / len(counts))
    return {
        "counting": accuracy(right, chance),
        "counting_r2": explained((read.number - true.number).square(), true.number.square(), true.number[:, None]),
        "counting_mae": mean_of_images((read.number - true.number).abs()),
        "nearest": explained((read.nearest - true.nearest).square(), true.nearest.square(), true.nearest[:, None]),
    }


def patch_figures(read: Scene, true: Scene, kinds: int) -> dict[str, Estimate]:
    """Of each patch: its mean depth, as R²; what most of it is, as mean intersection over union and share of right ones."""
    depth, known = read.depth.double(), true.depth.double()
    error, square = (depth - known).square().sum(1), known.square().sum(1)
    tables = confusions(read.segments, true.segments, kinds)
    most = torch.bincount(true.segments.flatten().long(), minlength=kinds).max() / true.segments.numel()
    return {
        "depth": explained(error, square, known.sum(1)[:, None], known.shape[1]),
        "segments": over_images(tables, mean_overlap, {"kinds": kinds}),
        "segments_accuracy": over_images(tables, right_share, {"chance": float(most)}),
    }


def mean_of_images(value_N: Tensor) -> Estimate:
    """A mean over images with its 95 % interval by Student's t."""
    value, count = float(value_N.double().mean()), len(value_N)
    reach = student(count - 1) * float(value_N.double().std()) / count**0.5
    return Estimate(value, value - reach, value + reach)


def confusions(read_NL: Tensor, true_NL: Tensor, kinds: int) -> Tensor:
    """How many patches of each kind (rows) are read as each (columns), by image: (N,C,C) f64."""
    count = len(true_NL)
    place = (torch.arange(count)[:, None] * kinds + true_NL.long()) * kinds + read_NL.long()
    return torch.bincount(place.flatten(), minlength=count * kinds * kinds).reshape(count, kinds, kinds).double()


def mean_overlap(table_CC: Tensor) -> float:
    """Intersection over union, averaged over the kinds that are there."""
    both, true = table_CC.diagonal(), table_CC.sum(1)
    overlap = both / (true + table_CC.sum(0) - both)
    return float(overlap[true > 0].mean())


def right_share(table_CC: Tensor) -> float:
    """Share of patches that are read rightly."""
    return float(table_CC.diagonal().sum() / table_CC.sum())


def over_images(tables_NCC: Tensor, statistic: Callable[[Tensor], float], facts: dict[str, float]) -> Estimate:
    """A statistic of all images' patches with a 95 % delete-group jackknife over images: an image's patches go together."""
    count = len(tables_NCC)
    value = statistic(tables_NCC.sum(0))
    low, high = centred(value, jackknife(lambda rows: statistic(tables_NCC[rows].sum(0)), count), min(GROUPS, count))
    return Estimate(value, max(0.0, low), min(1.0, high), facts=facts)
