"""Networks that judge images: Inception, the data set's classifier, any torchvision classifier or encoder."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from embprobe.encoders.load import check_name, load_encoder, preprocess, read_weights
from embprobe.errors import UserError
from embprobe.nn.mae import IMAGENET

if TYPE_CHECKING:
    from embprobe.store import Artefact

INCEPTION = "inception-2015-12-05.pt"
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"

Judged = tuple[Tensor, Tensor | None]  # features (B,F), probabilities (B,C)


@dataclass
class Judge:
    """A frozen network: u8 images (B,H,W,3) → features (B,F) and, from a classifier, probabilities (B,C)."""

    name: str
    network: Callable[[Tensor], Judged]
    module: nn.Module
    classes: list[str] | None = None  # of the data set; None where its classes are others or it has none
    accuracy: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)  # Any: JSON for the manifest

    @torch.no_grad()
    def __call__(self, images_BHWC: np.ndarray, device: str) -> Judged:
        """Features f32 and probabilities f32 on the CPU."""
        features, probabilities = self.network(torch.from_numpy(np.ascontiguousarray(images_BHWC)).to(device))
        return features.float().cpu(), None if probabilities is None else probabilities.float().cpu()


def features_of(judge: Judge, batches: Iterator[np.ndarray], device: str) -> Judged:
    """Features (N,F) and probabilities (N,C) of all images."""
    judge.module.to(device)
    found = [judge(images, device) for images in batches]
    probabilities = [p for _, p in found if p is not None]
    return torch.cat([f for f, _ in found]), torch.cat(probabilities) if probabilities else None


def load_judge(source: "Artefact | str") -> Judge:
    """A classify artefact, `inception`, a classifier's weights file, or an encoder's name. Raises UserError."""
    if not isinstance(source, str):
        return _dataset_classifier(source) if source.stage == "classify" else _encoder(source, source.short)
    if source == "inception":
        return _inception(inception_file())
    if Path(source).is_file():
        path = Path(source)
        return _inception(path) if path.name == INCEPTION else _weights_file(path)
    if "/" in source or source.endswith((".pth", ".pt", ".safetensors")):
        raise UserError(f"there is no weights file {source}; check the path given with --judge")
    check_name(source)
    return _encoder(source, source)


# ---- Inception, as clean-fid has it


def inception_file() -> Path:
    """Where Inception's weights lie. Raises UserError that says how to place them."""
    folder = os.environ.get("EMBPROBE_WEIGHTS")
    places = [Path(p) / INCEPTION for p in (folder, Path.home() / ".cache" / "embprobe", "/tmp") if p]
    for path in places:
        if path.is_file():
            return path
    raise UserError(
        f"Inception's weights {INCEPTION} are not here; fetch them where there is a network (clean-fid downloads them to "
        f"/tmp) and put them in {places[-2].parent}, or set EMBPROBE_WEIGHTS to their folder"
    )


def inception_there() -> bool:
    """Whether Inception can be used without a download."""
    try:
        return inception_file().is_file()
    except UserError:
        return False


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


def inception_features(network: nn.Module, images_BHWC: Tensor) -> Judged:
    """2048 pooled features and 1008 class probabilities, after clean-fid's own resize to 299 px."""
    from cleanfid.resize import build_resizer

    resize = build_resizer("clean")
    resized = np.stack([resize(image) for image in images_BHWC.cpu().numpy()])
    x = torch.from_numpy(resized).permute(0, 3, 1, 2).to(images_BHWC.device)
    features = network(x)
    output = network.base.output if hasattr(network, "base") else None  # type: ignore[union-attr]
    probabilities = None
    if output is not None and hasattr(output, "weight"):
        probabilities = (features @ output.weight.T).softmax(1)  # no bias, as the score is usually taken
    return features, probabilities


# ---- classifiers


def _dataset_classifier(artefact: "Artefact") -> Judge:
    from safetensors.torch import load_file
    from torchvision.models import resnet18

    facts = artefact.read_json("classifier.json")
    network = resnet18(num_classes=len(facts["classes"]))
    network.load_state_dict(load_file(str(artefact.file("weights.safetensors"))))
    network.eval()
    return Judge(
        f"classifier {artefact.short}",
        lambda x: classifier_features(network, x, facts["size"]),
        network,
        classes=facts["classes"],
        accuracy=artefact.metrics["accuracy"],
        facts={"fingerprint": artefact.fingerprint},
    )


def classifier_features(network: nn.Module, images_BHWC: Tensor, size: int) -> Judged:
    """What enters the last linear layer, (B,F), and class probabilities, of a torchvision classifier."""
    kept: list[Tensor] = []
    last = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][-1]
    handle = last.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    try:
        logits = network(preprocess(images_BHWC, size, *IMAGENET, "bicubic"))
    finally:
        handle.remove()
    features = kept[0].mean((2, 3)) if kept[0].ndim == 4 else kept[0]
    return features, logits.flatten(1).softmax(1)


COMMON = ("resnet18", "resnet50", "vgg16", "squeezenet1_0", "squeezenet1_1", "alexnet")  # tried first, to be quick


def _weights_file(path: Path) -> Judge:
    """A torchvision classifier, known by the names and shapes in its file."""
    state = read_weights(path)
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    for name, network in _classifiers():
        if {k: tuple(v.shape) for k, v in network.state_dict().items()} == shapes:
            network = network.to_empty(device="cpu")
            network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
            judged = partial(classifier_features, network.eval(), size=224)
            return Judge(name, judged, network, facts={"file": path.name, "classes": "ImageNet's"})
    raise UserError(f"{path} fits none of torchvision's classifiers; give another file with --judge")


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


def _encoder(source: "Artefact | str", name: str) -> Judge:
    """Mean patch tokens of an encoder."""
    encoder = load_encoder(source, image_size=64)
    if encoder.network is None:
        raise UserError("--judge pixels judges nothing; give a classifier, inception or an encoder")
    return Judge(name, lambda x: (encoder(x).flatten(1, 2).mean(1), None), encoder.network, facts=dict(encoder.facts))


def resized(images_BHWC: np.ndarray, size: int) -> np.ndarray:
    """u8 images at size × size: antialiased bicubic, back to u8."""
    x = preprocess(torch.from_numpy(images_BHWC), size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bicubic")
    return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
