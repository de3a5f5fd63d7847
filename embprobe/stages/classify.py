"""Classify: a ResNet-18 on the data set's own classes, the judge of its samples."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Array, Artefact

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Classify(Stage):
    """Train a ResNet-18 on the training images; its accuracy is taken on the held-out split."""

    images: Artefact = opt("an ingested data set with classes, or a folder or zip to ingest first", kinds=("ingest",))
    weights: Path | None = opt("a torchvision ResNet-18 weights file to fine-tune; else from scratch", None)
    steps: int = opt("optimiser steps", 2_000)
    batch: int = opt("images per step", 64)
    rate: float = opt("peak rate of AdamW", 1e-3)
    flip: bool = opt("mirror images at random; not where left and right tell classes apart", True)
    seed: int = opt("seed of initialisation, crops and batches", 0)
    precision: Literal["f32", "bf16"] = opt("of the forward and backward pass", "f32")
    device: str = opt("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")

    def check(self) -> None:
        classes = self.images.read_json("classes.json") if self.images.has("classes.json") else []
        if len(classes) < 2:
            raise UserError(
                f"{self.images.stage} {self.images.short} has {'one class' if classes else 'no classes'}, so nothing can be "
                "classified; judge it with --judge inception, a classifier's weights file or an encoder"
            )

    def work(self) -> float:
        return self.steps * self.batch

    def run(self, out: Artefact) -> None:
        import numpy as np
        import torch

        from embprobe.training.batches import RowBatches
        from embprobe.training.engine import Fit, device_of, fit, log_spaced, warmup_cosine
        from embprobe.nn.classifier import Classifier, load_trunk

        images, label = self.images.array("images"), self.images.array("label")
        classes = self.images.read_json("classes.json")
        split = self.images.array("split").read()
        torch.manual_seed(self.seed)
        task = Classifier(len(classes), self.rate, self.flip)
        if self.weights is not None:
            load_trunk(task.network, self.weights)
        task.network.to(memory_format=torch.channels_last)
        batches = RowBatches({"images": images, "label": label}, np.nonzero(split == 0)[0], self.batch, self.seed)

        def batch(step: int) -> dict[str, torch.Tensor]:
            found = batches(step)
            return {"images": torch.from_numpy(found["images"]), "label": torch.from_numpy(found["label"]).long()}

        config = Fit(
            steps=self.steps,
            seed=self.seed,
            images_per_step=self.batch,
            device=device_of(self.device),
            precision=self.precision,
            rate=warmup_cosine(max(1, self.steps // 10), self.steps),
            milestones=log_spaced(self.steps),
            label="training the classifier",
        )
        fit(task, batch, config, out)
        out.write_json("classifier.json", {"network": "resnet18", "classes": classes, "size": images.shape[1]})
        self.measure(task.network, images, label.read(), split, classes, config.device, out)

    def measure(
        self,
        network: "nn.Module",
        images: Array,
        label: "np.ndarray",
        split: "np.ndarray",
        classes: list[str],
        device: str,
        out: Artefact,
    ) -> None:
        """Accuracy, its interval and the confusion of true and judged class on the held-out split."""
        import numpy as np
        import torch

        from embprobe.metrics.intervals import wilson
        from embprobe.metrics.scores import confusion

        rows = np.nonzero(split == (1 if (split == 1).any() else 2 if (split == 2).any() else 0))[0]
        judged = judged_classes(network, images, rows, device)
        true = torch.from_numpy(label[rows]).long()
        right = int((judged == true).sum())
        low, high = wilson(right, len(rows))
        out.note(
            accuracy=right / len(rows),
            accuracy_low=low,
            accuracy_high=high,
            measured_on=("train", "val", "test")[int(split[rows[0]])],
            images=len(rows),
            confusion=confusion(true, judged, len(classes)).tolist(),
            weak=right / len(rows) < 0.9,
        )


def judged_classes(network: "nn.Module", images: Array, rows: "np.ndarray", device: str) -> "torch.Tensor":
    """The most probable class of each row (n,)."""
    import torch

    from embprobe.evaluation.judges import classifier_features

    found = []
    with torch.no_grad():
        for start in range(0, len(rows), 256):
            x = torch.from_numpy(images.take(rows[start : start + 256])).to(device)
            probabilities = classifier_features(network, x, images.shape[1])[1]
            assert probabilities is not None
            found.append(probabilities.argmax(1).cpu())
    return torch.cat(found)
