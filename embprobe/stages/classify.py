"""Classify: a ResNet-18 on the data set's own classes, the judge of its samples."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embprobe.errors import UserError
from embprobe.stage import option
from embprobe.store import Artefact, Json, Rows
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

    Labels are not smoothed, so that the score of its judgements can reach the number of classes. With --factors it judges
    what captions name, one word of each factor an image; its accuracy is that of all that a caption names.
    """

    version = 5

    images: Artefact = option(
        "an ingested data set with classes, or a folder or zip to ingest first", made_by=("ingest",)
    )
    weights: Path | None = option("a torchvision ResNet-18 weights file to fine-tune; else from scratch", None)
    factors: tuple[str, ...] = option(
        "tell factors of captions apart in place of classes: names that the data set has words for, such as `creature,hue` "
        "of planted scenes, or NAME=WORD/WORD/…",
        (),
        later=True,
    )
    flip: bool = option("mirror images at random; not where left and right tell classes apart", True)
    steps: int = option("optimiser steps", 2_000, least=1)
    batch: int = option("images per step", 64, least=1, most=65_536)
    rate: float = option("learning rate of AdamW at its peak", 1e-3, above=0)

    def check(self) -> None:
        images = Images(self.images)
        if self.factors:
            if images.captions is None:
                raise UserError("--factors needs captions and this data set has none (planted: ingest --captions)")
            named = self.named(images)[images.train]
            for column, name in enumerate(self.words(images)):
                if len({*named[:, column].tolist()} - {-1}) < 2:
                    raise UserError(f"--factors {name}: the training captions name fewer than two of its words")
        elif len(images.classes) < 2:
            raise UserError(
                f"ingest {images.short} has {'one class' if images.classes else 'no classes'}, so nothing can be "
                "classified; judge it with --judges inception, a classifier's weights file or an encoder"
            )

    def work(self) -> float:
        """Pixels seen."""
        return super().work() * pixels_in(self.images)

    def words(self, images: Images) -> dict[str, list[str]]:
        """The words of each factor that is told apart."""
        from embprobe.data.captions import chosen_words

        return chosen_words(self.factors, images.words)

    def named(self, images: Images) -> "np.ndarray":
        """The place of the word of each factor that captions name (N,factors); −1 where they name none."""
        from embprobe.data.captions import named_in

        return named_in(images.captions or [], self.words(images))

    def run(self, out: Artefact) -> None:
        import torch

        from embprobe.nn.classifier import Classifier, head_sizes, load_trunk
        from embprobe.training.batches import RowBatches
        from embprobe.training.engine import warmup_cosine

        images = Images(self.images)
        arrays: dict[str, Rows] = {"images": images.array}
        arrays |= {} if self.factors else {"label": self.images.array("label")}
        order = RowBatches(arrays, images.train, self.batch, self.seed)
        named = self.named(images) if self.factors else None
        facts: dict[str, Json] = {"network": "resnet18", "classes": images.classes, "size": list(images.size)}
        facts |= {"classes": [], "factors": self.words(images)} if self.factors else {}

        def batches(step: int) -> dict[str, torch.Tensor]:
            batch = order(step)
            label = batch["label"] if named is None else named[batch["row"]]
            return {"images": torch.from_numpy(batch["images"]), "label": torch.from_numpy(label).long()}

        def build() -> "Task":
            task = Classifier(head_sizes(facts), self.rate, self.flip, images.channels)
            if self.weights is not None:
                load_trunk(task.network, self.weights)
            task.network.to(memory_format=torch.channels_last)
            return task

        rate = warmup_cosine(max(1, self.steps // 10), self.steps)
        network = self.train(build, batches, rate, out, label="training the classifier", milestones=False)
        out.write_json("classifier.json", facts | {"channels": images.channels})
        if named is None:
            self.measure(network, images, out)
        else:
            self.measure_factors(network, images, named, out)

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

    def measure_factors(self, network: "nn.Module", images: Images, named: "np.ndarray", out: Artefact) -> None:
        """Accuracy of each factor, and of all that a caption names, on the held-out split, else on training."""
        from embprobe.metrics.scores import agreeing, judged_words

        words = self.words(images)
        rows = images.held_out if len(images.held_out) else images.train
        heads = tuple(map(len, words.values()))
        judged = judged_words(judged_probabilities(network, images, rows, heads), heads).numpy()
        told = {name: agreeing(judged[:, [i]], named[rows][:, [i]]) for i, name in enumerate(words)}
        whole = agreeing(judged, named[rows])
        measured = images.held_out_split if len(images.held_out) else "train"
        out.note(measured_on=measured, images=len(rows), weak=bool(whole.mean() < WEAK) if len(whole) else True)
        out.note(**accuracy_of(whole), factors={name: accuracy_of(right) for name, right in told.items()})


def accuracy_of(right: "np.ndarray") -> dict[str, Json]:
    """A share of images with Wilson's interval, and of how many."""
    from embprobe.metrics.intervals import wilson

    low, high = wilson(int(right.sum()), len(right))
    share = float(right.mean()) if len(right) else 0.0
    return {"accuracy": share, "accuracy_low": low, "accuracy_high": high, "told": len(right)}


def judged_probabilities(
    network: "nn.Module", images: Images, rows: "np.ndarray", heads: tuple[int, ...] | None = None
) -> "torch.Tensor":
    """Probabilities of each row (n,C), on the CPU: of classes, or of each head's words."""
    import torch

    from embprobe.evaluation.judges import classifier_features

    judged, device = [], next(network.parameters()).device
    with torch.no_grad():
        for part in blocks(rows, 256):
            pixels = torch.from_numpy(images.array.take(part)).to(device)
            output = classifier_features(network, pixels, images.size, heads)
            assert output.probabilities is not None
            judged.append(output.probabilities.float().cpu())
    return torch.cat(judged)
