"""Which images a judge sees, and what it saw of them."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from embprobe import console
from embprobe.errors import UserError
from embprobe.evaluation.output import JudgeOutput
from embprobe.pixels import resized
from embprobe.store import Array, Artefact
from embprobe.views import Decoder, Features, Images, Samples, seeded_subset


@dataclass(frozen=True)
class ImageRows:
    """Some rows of an image array u8 (N,H,W,C), and the height and width at which judges see them."""

    array: Array
    rows: np.ndarray
    size: tuple[int, int]

    def read(self, part: range) -> np.ndarray:
        """u8 images (b,*size,C) of a part of the rows."""
        images = self.array.take(self.rows[part.start : part.stop])
        return images if images.shape[1:3] == self.size else resized(images, self.size)


def picture_array(artefact: Artefact) -> tuple[Array, np.ndarray | None]:
    """The images of a data set, of samples or of a decoder's reconstructions, and their classes where they have some."""
    if artefact.stage == "decode":
        return Decoder(artefact).reconstructions, None
    images = Images(artefact) if artefact.stage == "ingest" else Samples(artefact)
    return images.array, images.labels


def image_sets(
    artefact: Artefact, size: tuple[int, int], limit: int, seed: int, split: str | None
) -> dict[str, ImageRows]:
    """`train` images of a data set and those of a `split`, `held_out`; without a split all there is, as `samples`."""
    array, _ = picture_array(artefact)
    if split is None:
        parts = {"samples": np.arange(len(array))}
    else:
        images = Images(artefact)
        parts = {"train": images.train, "held_out": images.of_split(split)}
    return {k: ImageRows(array, seeded_subset(v, limit, seed), size) for k, v in parts.items() if len(v)}


@dataclass(frozen=True)
class FeatureSet:
    """What a judge saw of some images: its output, the images' rows and their classes (n,)."""

    output: JudgeOutput
    rows: np.ndarray
    label: np.ndarray | None

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, kept: np.ndarray) -> "FeatureSet":
        """Some of them, by place or by mask."""
        places, (features, probabilities) = torch.from_numpy(kept), self.output
        output = JudgeOutput(
            features[places.to(features.device)], None if probabilities is None else probabilities[places]
        )
        return FeatureSet(output, self.rows[kept], None if self.label is None else self.label[kept])

    def cut(self, count: int) -> "FeatureSet":
        """The same seeded choice of `count` of them, whatever the set."""
        return self if len(self) <= count else self.where(seeded_subset(np.arange(len(self)), count, 0))

    def joined(self, other: "FeatureSet") -> "FeatureSet":
        """Both, one after the other."""
        features = torch.cat([self.output.features, other.output.features])
        mine, theirs = self.output.probabilities, other.output.probabilities
        judged = None if mine is None or theirs is None else torch.cat([mine, theirs])
        label = None if self.label is None or other.label is None else np.concatenate([self.label, other.label])
        return FeatureSet(JudgeOutput(features, judged), np.concatenate([self.rows, other.rows]), label)

    def digest(self) -> str:
        """Tells one choice of rows from another."""
        return hashlib.sha256(self.rows.astype(np.int64).tobytes()).hexdigest()[:16]


def feature_set(seen: Features, name: str, labels: np.ndarray | None, device: str = "cpu") -> FeatureSet:
    """A set of a features artefact, in memory; features on the device, probabilities on the CPU.

    Raises UserError where it holds another number of rows than features.
    """
    rows, features, probabilities = seen.rows(name), seen.features(name), seen.probabilities(name)
    if len(features) != len(rows) or (probabilities is not None and len(probabilities) != len(rows)):
        raise UserError(f"features {seen.short} hold {len(features)} features of {len(rows)} {name}; make them again")
    output = JudgeOutput(
        torch.from_numpy(features.read()).to(device),
        None if probabilities is None else torch.from_numpy(probabilities.read()),
    )
    return FeatureSet(output, rows, None if labels is None else labels[rows])


def compared_sets(
    reference: Images, real: Features, drawn: Features | None, device: str = "cpu"
) -> dict[str, FeatureSet]:
    """`samples`, `train` and `held_out`; where nothing was drawn, the held-out images are the samples."""
    sets = {name: feature_set(real, name, reference.labels, device) for name in real.sets}
    if drawn is None:
        return {"samples": sets.get("held_out", sets["train"]), **sets}
    _, asked = picture_array(drawn.source)
    named = mapped_by_name(asked, class_names(drawn.source), reference.classes)
    return {"samples": feature_set(drawn, "samples", named, device), **sets}


def mapped_by_name(label: np.ndarray | None, mine: list[str], theirs: list[str]) -> np.ndarray | None:
    """Class ids among `mine` as ids among `theirs`; None where no name is shared.

    Raises UserError where only some are: whatever were said of classes would be of others.
    """
    if label is None or not mine:
        return None
    unknown = [name for name in mine if name not in theirs]
    if len(unknown) == len(mine):
        console.say("the samples' classes are not the reference's by name: nothing is said of the class asked for")
        return None
    if unknown:
        raise UserError(
            f"the samples' classes {', '.join(unknown[:3])} are none of the reference's ({', '.join(theirs[:3])}, …); name "
            "their folders alike, or put all samples into one folder to leave classes out"
        )
    places = np.array([theirs.index(name) for name in mine], np.int32)
    return places[label]  # type: ignore[no-any-return]


def class_names(artefact: Artefact) -> list[str]:
    """Names of the classes of a data set or of samples; none of a decoder's reconstructions."""
    if artefact.stage == "decode":
        return []
    return Images(artefact).classes if artefact.stage == "ingest" else Samples(artefact).classes
