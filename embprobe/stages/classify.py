"""Classify: a ResNet-18 on the data set's own classes, the judge of its samples."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embprobe.errors import UserError
from embprobe.stage import option
from embprobe.store import Artefact, Json
from embprobe.training.stage import Training
from embprobe.views import Images, blocks, pixels_in

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from embprobe.training.task import Task

WEAK = 0.9  # accuracy below which a judge is marked


@dataclass(frozen=True, kw_only=True)
class Classify(Training):
    """Train a ResNet-18 on the training images; its accuracy and calibration are taken on the held-out split.

    Labels are not smoothed, so that the score of its judgements can reach the number of classes.
    """

    version = 5

    images: Artefact = option(
        "an ingested data set with classes, or a folder or zip to ingest first", made_by=("ingest",)
    )
    weights: Path | None = option("a torchvision ResNet-18 weights file to fine-tune; else from scratch", None)
    flip: bool = option("mirror images at random; not where left and right tell classes apart", True)
    steps: int = option("optimiser steps", 2_000, least=1)
    batch: int = option("images per step", 64, least=1, most=65_536)
    rate: float = option("learning rate of AdamW at its peak", 1e-3, above=0)

    def check(self) -> None:
        images = Images(self.images)
        if len(images.classes) < 2:
            raise UserError(
                f"ingest {images.short} has {'one class' if images.classes else 'no classes'}, so nothing can be "
                "classified; judge it with --judges inception, a classifier's weights file or an encoder"
            )

    def work(self) -> float:
        """Pixels seen."""
        return super().work() * pixels_in(self.images)

    def run(self, out: Artefact) -> None:
        import torch

        from embprobe.nn.classifier import Classifier, load_trunk
        from embprobe.training.batches import RowBatches
        from embprobe.training.engine import warmup_cosine

        images = Images(self.images)
        order = RowBatches(
            {"images": images.array, "label": self.images.array("label")}, images.train, self.batch, self.seed
        )

        def batches(step: int) -> dict[str, torch.Tensor]:
            batch = order(step)
            return {"images": torch.from_numpy(batch["images"]), "label": torch.from_numpy(batch["label"]).long()}

        def build() -> "Task":
            task = Classifier(len(images.classes), self.rate, self.flip, images.channels)
            if self.weights is not None:
                load_trunk(task.network, self.weights)
            task.network.to(memory_format=torch.channels_last)
            return task

        rate = warmup_cosine(max(1, self.steps // 10), self.steps)
        network = self.train(build, batches, rate, out, label="training the classifier", milestones=False)
        facts: dict[str, Json] = {"network": "resnet18", "classes": images.classes, "size": list(images.size)}
        out.write_json("classifier.json", facts | {"channels": images.channels})
        self.measure(network, images, out)

    def measure(self, network: "nn.Module", images: Images, out: Artefact) -> None:
        """Accuracy, calibration and the confusion of true and judged class on the held-out split, else on training."""
        import torch

        from embprobe.metrics.intervals import wilson
        from embprobe.metrics.scores import calibration_error, confusion

        held, label = images.held_out, images.labels
        rows = held if len(held) else images.train
        assert label is not None
        probabilities = judged_probabilities(network, images, rows)
        confidence, judged = probabilities.max(1)
        true = torch.from_numpy(label[rows]).long()
        right = int((judged == true).sum())
        low, high = wilson(right, len(rows))
        out.note(
            accuracy=right / len(rows),
            accuracy_low=low,
            accuracy_high=high,
            measured_on=images.held_out_split if len(held) else "train",
            images=len(rows),
            confusion=confusion(true, judged, len(images.classes)).tolist(),
            weak=right / len(rows) < WEAK,
            confidence=float(confidence.double().mean()),
            calibration_error=calibration_error(probabilities, true),
            temperature=1.0,  # logits enter the softmax as they are
        )


def judged_probabilities(network: "nn.Module", images: Images, rows: "np.ndarray") -> "torch.Tensor":
    """Class probabilities of each row (n,C), on the CPU."""
    import torch

    from embprobe.evaluation.judges import classifier_features

    judged, device = [], next(network.parameters()).device
    with torch.no_grad():
        for part in blocks(rows, 256):
            output = classifier_features(network, torch.from_numpy(images.array.take(part)).to(device), images.size)
            assert output.probabilities is not None
            judged.append(output.probabilities.float().cpu())
    return torch.cat(judged)
