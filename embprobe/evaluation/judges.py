"""Networks that judge images: Inception, the data set's classifier, any torchvision classifier or encoder."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from embprobe.encoders.load import load_encoder
from embprobe.encoders.names import check_name
from embprobe.errors import UserError
from embprobe.evaluation.inception import INCEPTION, INCEPTION_SHA256, inception_file
from embprobe.evaluation.output import JudgeOutput
from embprobe.nn.classifier import build_classifier, head_sizes
from embprobe.nn.weights import read_weights, restored
from embprobe.pixels import channel_statistics, check_channels, preprocess
from embprobe.threads import usable_cores

if TYPE_CHECKING:
    from embprobe.store import Artefact


@dataclass
class Judge:
    """A frozen network: u8 images (B,H,W,C) of any size → features (B,F) and, from a classifier, probabilities."""

    name: str
    network: Callable[[Tensor], JudgeOutput]
    module: nn.Module
    channels: int = 3
    classes: list[str] | None = None  # of the data set; None where its classes are others or it has none
    accuracy: float | None = None
    factors: dict[str, list[str]] | None = None  # the words of each, whose probabilities stand side by side
    facts: dict[str, Any] = field(default_factory=dict)  # Any: JSON for the manifest

    @torch.no_grad()
    def __call__(self, images_BHWC: np.ndarray, device: str) -> JudgeOutput:
        """Features f32 and probabilities f32 on the CPU. Raises UserError for images of other channels."""
        check_channels(images_BHWC.shape[-1], self.channels)
        features, probabilities = self.network(torch.from_numpy(np.ascontiguousarray(images_BHWC)).to(device))
        return JudgeOutput(features.float().cpu(), None if probabilities is None else probabilities.float().cpu())

    def to(self, device: str) -> "Judge":
        """Moves the network."""
        self.module.to(device)
        return self


def load_judge(source: "Artefact | str", *, weights: Path | None = None) -> Judge:
    """A classify or a pretrain artefact, `inception`, a classifier's weights file, or an encoder's name.

    `weights` is the file that a timm encoder needs (`names.hub_file` finds or fetches it). Raises UserError.
    """
    if not isinstance(source, str):
        return _dataset_classifier(source) if source.stage == "classify" else _encoder(source, source.short)
    if source == "inception":
        return _inception(inception_file())
    if Path(source).is_file():
        path = Path(source)
        return _inception(path) if path.name == INCEPTION else _weights_file(path)
    if "/" in source or source.endswith((".pth", ".pt", ".safetensors")):
        raise UserError(f"there is no weights file {source}; check the path given with --judges")
    check_name(source)
    return _encoder(source, source, weights)


# ---- Inception, as clean-fid has it


def _inception(path: Path) -> Judge:
    """TorchScript runs code, so only the one file that clean-fid uses is accepted."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != INCEPTION_SHA256:
        raise UserError(
            f"{path} is not the Inception that clean-fid uses (SHA-256 {digest[:12]}…); remove it and fetch it again"
        )
    from cleanfid.inception_torchscript import InceptionV3W

    network = InceptionV3W(str(path.parent), download=False, resize_inside=False).eval()
    return Judge("inception", lambda x: inception_features(network, x), network, facts={"sha256": digest})


def inception_features(network: nn.Module, images_BHWC: Tensor) -> JudgeOutput:
    """2048 pooled features and 1008 class probabilities, after clean-fid's own resize to 299 px."""
    from cleanfid.resize import build_resizer

    with ThreadPoolExecutor(usable_cores()) as pool:
        enlarged = np.stack(list(pool.map(build_resizer("clean"), images_BHWC.cpu().numpy())))
    x = torch.from_numpy(enlarged).permute(0, 3, 1, 2).to(images_BHWC.device)
    features = network(x)
    output = network.base.output if hasattr(network, "base") else None  # type: ignore[union-attr]
    probabilities = None
    if output is not None and hasattr(output, "weight"):
        probabilities = (features @ output.weight.T).softmax(1)  # no bias, as the score is usually taken
    return JudgeOutput(features, probabilities)


# ---- classifiers


def _dataset_classifier(artefact: "Artefact") -> Judge:
    facts = artefact.read_json("classifier.json", dict)
    size, channels = facts["size"], facts.get("channels", 3)
    height, width = (size, size) if isinstance(size, int) else size
    network = restored(lambda told: build_classifier(sum(head_sizes(told)), channels), facts, artefact.weights())
    network.eval()
    factors: dict[str, list[str]] | None = facts.get("factors")
    return Judge(
        f"classifier {artefact.short}",
        partial(classifier_features, network, size=(height, width), heads=head_sizes(facts)),
        network,
        channels=channels,
        classes=None if factors else facts["classes"],
        factors=factors,
        accuracy=artefact.metrics["accuracy"],
        facts={"fingerprint": artefact.fingerprint, "calibration_error": artefact.metrics.get("calibration_error")}
        | ({"factors": artefact.metrics["factors"]} if factors else {}),
    )


def classifier_features(
    network: nn.Module, images_BHWC: Tensor, size: tuple[int, int], heads: tuple[int, ...] | None = None
) -> JudgeOutput:
    """What enters the last linear layer, (B,F), and probabilities, of a torchvision classifier: by head where it has some."""
    inputs: list[Tensor] = []
    last = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    handle = last.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        logits = network(preprocess(images_BHWC, size, *channel_statistics(images_BHWC.shape[-1]), "bicubic"))
    finally:
        handle.remove()
    features = inputs[0].mean((2, 3)) if inputs[0].ndim == 4 else inputs[0]
    flat = logits.flatten(1)
    return JudgeOutput(features, torch.cat([part.softmax(1) for part in flat.split(heads or flat.shape[1], 1)], 1))


COMMON = ("resnet18", "resnet50", "vgg16", "squeezenet1_0", "squeezenet1_1", "alexnet")  # tried first, to be quick


def _weights_file(path: Path) -> Judge:
    """A torchvision classifier, known by the names and shapes in its file."""
    state = read_weights(path)
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    for name, network in _classifiers():
        if {k: tuple(v.shape) for k, v in network.state_dict().items()} == shapes:
            network = network.to_empty(device="cpu")
            network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
            judged = partial(classifier_features, network.eval(), size=(224, 224))
            return Judge(name, judged, network, facts={"file": path.name, "learned": "ImageNet's classes"})
    raise UserError(f"{path} fits none of torchvision's classifiers; give another file with --judges")


def _classifiers() -> Iterator[tuple[str, nn.Module]]:
    """torchvision's classifiers without weights in memory."""
    import warnings

    import torchvision

    for name in dict.fromkeys((*COMMON, *torchvision.models.list_models(module=torchvision.models))):
        with warnings.catch_warnings(), contextlib.suppress(NotImplementedError):  # those that insist on memory
            warnings.simplefilter("ignore")
            with torch.device("meta"):
                network = torchvision.models.get_model(name)
            yield name, network


def _encoder(source: "Artefact | str", name: str, weights: Path | None = None) -> Judge:
    """Mean patch tokens of an encoder."""
    if isinstance(source, str) and source.partition(":")[0] == "pixels":
        raise UserError("--judges pixels judges nothing; give a classifier, inception or an encoder")
    channels = 3 if isinstance(source, str) else len(source.read_json("encoder.json", dict)["mean"])
    encoder = load_encoder(source, image_size=(64, 64), channels=channels, weights=weights)

    def mean_token(images_BHWC: Tensor) -> JudgeOutput:
        return JudgeOutput(encoder(images_BHWC).flatten(1, -2).mean(1), None)

    return Judge(name, mean_token, encoder.network, channels, facts=dict(encoder.facts))
