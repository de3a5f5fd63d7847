"""What is read of planted scenes with several creatures: how many, how far the nearest, each patch's depth and kind."""

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embprobe import console, signals
from embprobe.data.creatures import CREATURES
from embprobe.evaluation.readers import (
    GRID_ROWS,
    ProbeRows,
    TokenScale,
    add,
    grid_grams,
    mean_tokens,
    predictions,
)
from embprobe.metrics.dense import Scene, image_figures, patch_figures
from embprobe.metrics.estimate import Estimate
from embprobe.metrics.probes import FOLDS, Normal, discriminant, tuned_ridge
from embprobe.store import Json
from embprobe.views import Images, blocks

KINDS = 1 + len(CREATURES)  # the ground, then creatures
TOGETHER = 256  # images whose maps are pooled at a time


def scenes_of(images: Images, rows: np.ndarray, grid: tuple[int, ...]) -> Scene:
    """What scenes show, on the CPU: of a patch its mean depth, and the kind that most of it is."""
    scenes = images.scenes
    assert scenes is not None and len(grid) == 2
    depth, segments = (
        torch.empty(len(rows), math.prod(grid)),
        torch.empty(len(rows), math.prod(grid), dtype=torch.uint8),
    )
    for places in blocks(np.argsort(rows, kind="stable"), TOGETHER):
        signals.check()
        at, here = torch.from_numpy(places), rows[places]
        maps = torch.from_numpy(scenes.depth.take(here)).float()[:, None]
        depth[at] = F.adaptive_avg_pool2d(maps, grid).flatten(1)
        kinds = F.one_hot(torch.from_numpy(scenes.segmentation.take(here)).long(), KINDS).permute(0, 3, 1, 2).float()
        segments[at] = F.adaptive_avg_pool2d(kinds, grid).argmax(1).flatten(1).byte()
    count, nearest = (torch.from_numpy(v[rows].astype(np.float64)) for v in (scenes.count, scenes.nearest))
    return Scene(count, nearest, depth, segments)


def dense_figures(read: Scene, true: Scene) -> dict[str, Estimate]:
    """Every figure of scenes as they are read."""
    return image_figures(read, true) | patch_figures(read, true, KINDS)


def guessed(known: Scene, count: int) -> Scene:
    """The floor: the training images' means and their most frequent kind, for every image and patch."""
    number, nearest, depth = (
        p.double().mean().expand(count, *p.shape[1:]) for p in (known.number, known.nearest, known.depth)
    )
    most = torch.bincount(known.segments.flatten().long()).argmax()
    return Scene(number, nearest, depth, most.expand(count, known.segments.shape[1]))


def read_dense(data: ProbeRows, ceiling: dict[str, Json]) -> dict[str, Json]:
    """Ridge from tokens: figures beside their floor, and beside what a network reads from pixels.

    The count and the nearest depth are read from the full grid, and from the mean token too, on at most GRID_ROWS
    training images; depth and kind of a patch from its own token, the kind by a linear discriminant.
    """
    images, grid = data.embeddings.images, data.embeddings.grid
    known, true = (scenes_of(images, rows, grid) for rows in (data.train, data.held))
    depth, segments = read_patches(data, known)
    targets = torch.stack([known.number, known.nearest], 1)[:GRID_ROWS]
    train, held = (x.double().cpu() for x in mean_tokens(data))
    train = train[:GRID_ROWS]
    grams = {"pooled": (train @ train.T, held @ train.T), "grid": grid_grams(data)}
    of_images = {k: predictions(*grams[k], targets, [slice(0, 1), slice(1, 2)]).unbind(1) for k in grams}
    figures = {
        where: dense_figures(Scene(read[0], read[1], depth, segments), true) for where, read in of_images.items()
    }
    floor, found = dense_figures(guessed(known, len(true.number)), true), dict[str, Json]()
    for name, estimate in figures["grid"].items():
        found[name] = replace(estimate, floor=floor[name]).json() | {"ceiling": ceiling[name]}
        if name in ("counting", "counting_r2", "counting_mae", "nearest"):
            found[name] |= {"pooled": figures["pooled"][name].json()}
    return found


def read_patches(data: ProbeRows, known: Scene) -> tuple[Tensor, Tensor]:
    """Depth and kind of each patch of the held-out images (M,L): by ridge and by a linear discriminant, from tokens."""
    scale, each = TokenScale(data.embeddings, data.device), known.depth.shape[1]
    far = [Normal(data.embeddings.width, 1, data.device) for _ in range(FOLDS)]
    kinds = Normal(data.embeddings.width, KINDS, data.device)
    depth, segments = torch.empty(len(data.held), each), torch.empty(len(data.held), each, dtype=torch.uint8)
    with console.progress("reading scenes", total=len(data.train) + len(data.held), unit="img") as bar:
        for places, tokens in data.training():
            at = torch.from_numpy(places)
            x, fold = scale(tokens), torch.from_numpy(data.fold[places]).to(data.device)
            y = known.depth[at][..., None].to(data.device)
            for number, part in enumerate(far):
                add(part, x[fold == number], y[fold == number])
            add(kinds, x, F.one_hot(known.segments[at].long(), KINDS).float().to(data.device))
            bar.advance(len(places))
        weight, bias, strength = tuned_ridge(far)
        weights, biases = discriminant(kinds, strength)
        for places, tokens in data.measured():
            x, at = scale(tokens).flatten(1, -2).double(), torch.from_numpy(places)
            depth[at] = (x @ weight + bias)[..., 0].float().cpu()
            segments[at] = (x @ weights + biases).argmax(-1).byte().cpu()
            bar.advance(len(places))
    return depth, segments
