"""Ceiling: what a small network reads of planted scenes from their pixels, for readers of embeddings to be set against."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from embprobe.errors import UserError
from embprobe.stage import option
from embprobe.store import Artefact
from embprobe.training.stage import Training
from embprobe.views import HELD_OUT, Images, blocks, split_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from embprobe.metrics.dense import Scene
    from embprobe.training.task import Batches, Task


@dataclass(frozen=True, kw_only=True)
class Ceiling(Training):
    """Train a small convolutional network to read scenes of several creatures; `read --reader dense` makes it by itself.

    How many there are, how far the nearest is, each patch's depth and kind, from pixels, on mirrored training images;
    measured on the held-out split.
    """

    images: Artefact = option("planted scenes of several creatures", made_by=("ingest",))
    grid: tuple[int, ...] = option("patches along each axis of an image, such as 8,8", least=1)
    train_limit: int = option("images to fit on at most, a seeded choice", 50_000, least=20)
    held_out: Literal["auto", "val", "test"] = option(HELD_OUT, "auto")
    steps: int = option("optimiser steps", 1500, least=1)
    batch: int = option("images per step", 32, least=1, most=65_536)
    rate: float = option("learning rate of AdamW at its peak", 1e-3, above=0)

    def resolved(self) -> dict[str, object]:
        return {"held_out": split_of(self.images, self.held_out), "grid": self.grid * (3 - len(self.grid))}

    def validate(self) -> None:
        if len(self.grid) != 2:
            raise UserError("--grid is the number of patches along each axis of an image, such as 8,8; give these two")

    def check(self) -> None:
        if Images(self.images).scenes is None:
            raise UserError(
                f"ingest {self.images.short} holds no scenes of several creatures; make some with "
                "`embprobe ingest --source planted --objects 1,4`"
            )

    def run(self, out: Artefact) -> None:
        from functools import partial

        from embprobe.evaluation.dense import dense_figures, scenes_of
        from embprobe.evaluation.readers import chosen_rows
        from embprobe.training.engine import warmup_cosine

        images = Images(self.images)
        train, held = chosen_rows(images.train, images.of_split(self.held_out), self.train_limit, self.seed)
        train.sort()
        known = scenes_of(images, train, self.grid)
        units = units_of(known)
        rate = warmup_cosine(max(1, self.steps // 10), self.steps)
        batches, build = self.batches(images, train, known, units), partial(self.build, images)
        network = self.train(build, batches, rate, out, label="training the ceiling", milestones=False)
        figures = dense_figures(self.judge(network, images, held, units), scenes_of(images, held, self.grid))
        out.write_json("ceiling.json", {name: estimate.json() for name, estimate in figures.items()})
        out.note(**{name: estimate.value for name, estimate in figures.items()})

    def build(self, images: Images) -> "Task":
        """The network, drawn from the global generator."""
        from embprobe.evaluation.dense import KINDS
        from embprobe.nn.scenes import ReadingScenes, SceneNet

        return ReadingScenes(SceneNet(images.channels, (self.grid[0], self.grid[1]), KINDS), self.rate)

    def batches(self, images: Images, train: "np.ndarray", known: "Scene", units: "Units") -> "Batches":
        """Images, and what they show in their units."""
        import numpy as np
        import torch

        from embprobe.training.batches import RowBatches

        order = RowBatches({"images": images.array}, train, self.batch, self.seed)

        def batches(step: int) -> "dict[str, torch.Tensor]":
            rows = order.rows_of(step)
            at = torch.from_numpy(np.searchsorted(train, rows))
            batch = {k: ((getattr(known, k)[at] - mean) / std).float() for k, (mean, std) in units.items()}
            batch |= {"images": torch.from_numpy(images.array.take(rows)), "segments": known.segments[at]}
            return batch | {k: batch.get(k, known.segments[at]).unflatten(1, self.grid) for k in ("depth", "segments")}

        return batches

    def judge(self, network: "nn.Module", images: Images, rows: "np.ndarray", units: "Units") -> "Scene":
        """What the network reads of some images, on the CPU."""
        import torch

        from embprobe.metrics.dense import Scene

        device, parts = next(network.parameters()).device, list[dict[str, torch.Tensor]]()
        with torch.no_grad():
            for part in blocks(rows, 256):
                read = network(torch.from_numpy(images.array.take(part)).to(device))
                read["segments"] = read["segments"].argmax(1).byte()
                parts.append({k: v.cpu() for k, v in read.items()})
        joined = {k: torch.cat([part[k] for part in parts]) for k in parts[0]}
        joined |= {k: joined[k].double() * std + mean for k, (mean, std) in units.items()}
        return Scene(joined["number"], joined["nearest"], joined["depth"].flatten(1), joined["segments"].flatten(1))


Units = dict[str, tuple[float, float]]
"""Mean and std of what is regressed, by name."""


def units_of(known: "Scene") -> Units:
    """The training images' mean and std of what is regressed."""
    parts = {"number": known.number, "nearest": known.nearest, "depth": known.depth}
    return {k: (float(v.double().mean()), max(1e-6, float(v.double().std()))) for k, v in parts.items()}
