"""A name or a checkpoint → a frozen encoder with its own preprocessing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from embprobe import console
from embprobe.encoders.names import (
    SHORT_NAMES,
    SIZED,
    check_name,
    family_of,
    family_version,
    from_hub,
    published_by,
    timm_name,
)
from embprobe.errors import UserError, did_you_mean
from embprobe.nn.vit import PatchTokens, build_vit, vit_config
from embprobe.nn.weights import built, heads_of, load_into, uses_fc_norm
from embprobe.pixels import channel_statistics, check_channels, patchify, preprocess
from embprobe.store.hashes import file_hash

if TYPE_CHECKING:
    from embprobe.store import Artefact

Facts = dict[str, Any]  # Any: JSON for the manifest


@dataclass
class Encoder:
    """A frozen function from u8 images to patch tokens; the facts go to the manifest."""

    network: nn.Module  # standardised images (B,C,*size) → patch tokens (B,L,width) after the final norm
    size: tuple[int, int]  # height and width of its input in pixels
    patch: int
    width: int
    grid: tuple[int, ...]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    interpolation: str = "bicubic"
    facts: Facts = field(default_factory=dict)
    statistics: tuple[Tensor, Tensor] | None = None  # mean and std (C,) on the network's device

    @torch.no_grad()
    def __call__(self, images_BHWC: Tensor) -> Tensor:
        """u8 images (B,H,W,C) of any size → patch tokens (B,*grid,D)."""
        mean, std = self.statistics or (self.mean, self.std)
        tokens: Tensor = self.network(preprocess(images_BHWC, self.size, mean, std, self.interpolation))
        return tokens.reshape(len(tokens), *self.grid, -1)

    def to(self, device: str) -> "Encoder":
        """Moves the network, and what images are normalised by."""
        self.network.to(device)
        self.statistics = torch.tensor(self.mean, device=device), torch.tensor(self.std, device=device)
        return self

    def narrowed(self) -> "Encoder":
        """With the weights that bf16 autocast would round at every pass rounded once; the tokens are the same."""
        for module in self.network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.bfloat16()
        return self


@dataclass(frozen=True)
class Given:
    """What the user knows of a timm encoder that its name and its file do not tell; None leaves it to timm."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    heads: int | None = None
    input_size: int | None = None  # side in pixels


class PatchPixels(nn.Module):
    """Images (B,C,H,W) to the pixels of their patches (B,L,patch²·C)."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return patchify(images_BCHW, self.patch)


def load_encoder(
    source: "Artefact | str",
    *,
    image_size: tuple[int, int],
    channels: int = 3,
    weights: Path | None = None,
    layer: int | None = None,
    seed: int = 0,
    given: Given | None = None,
) -> Encoder:
    """The encoder that a name or a pretrain artefact stands for, frozen, on the CPU.

    A timm name needs its weights file (`names.hub_file` finds or fetches it). `pixels` and `random:vit-…` follow the
    size and the channels of the images, `layer` counts blocks from 1, `seed` draws random networks, and `given` is for
    timm's. Raises UserError for an unknown name, missing or unfitting weights, or images that the encoder can't take.
    """
    if not isinstance(source, str):
        encoder = _from_artefact(source, layer)
    else:
        check_name(source)
        prefix, _, rest = source.partition(":")
        if prefix == "random":
            encoder = _random(rest, image_size, channels, layer, seed)
        elif timm_name(source) is not None:
            encoder = _from_timm(source, weights, layer, given or Given())
        elif layer is not None:
            raise UserError(f"--layer has no meaning for encoder {source}; leave it out")
        elif prefix == "pixels":
            encoder = _pixels(source, image_size, channels)
        else:
            encoder = _from_family(source, image_size, channels, weights, seed)
    check_channels(channels, len(encoder.mean))
    encoder.network.eval().requires_grad_(False)
    return encoder


def _pixels(source: str, size: tuple[int, int], channels: int) -> Encoder:
    word = source.partition(":")[2]
    shorter = min(size)
    default = 8 if shorter <= 112 else 14 if not any(side % 14 for side in size) else 16
    patch = int(word) if word.isdecimal() and len(word) < 9 else default
    if (word and word != str(patch)) or not patch or any(side % patch for side in size):
        shown = size[0] if size[0] == size[1] else f"{size[0]}×{size[1]}"
        raise UserError(
            f"encoder {source!r} can't cut images of {shown} px into patches; give pixels:N where N divides {shown}"
        )
    mean = std = (0.5,) * channels
    facts = {"kind": "pixels", "norm": "none"}
    grid = (size[0] // patch, size[1] // patch)
    return Encoder(PatchPixels(patch), size, patch, patch * patch * channels, grid, mean, std, facts=facts)


def _from_artefact(artefact: "Artefact", layer: int | None) -> Encoder:
    facts = artefact.read_json("encoder.json", dict)
    vit = built(build_vit, facts["network"], artefact.weights())
    load_into(vit, artefact.weights())
    size = facts["size"]
    height, width = (size, size) if isinstance(size, int) else size
    statistics = (tuple(facts["mean"]), tuple(facts["std"]))
    return _wrapped(vit, (height, width), *statistics, facts["interpolation"], {"kind": facts["objective"]}, layer)


def _random(name: str, image_size: tuple[int, int], channels: int, layer: int | None, seed: int) -> Encoder:
    torch.manual_seed(seed)
    facts = {"kind": "random", "seed": seed}
    sizes = SIZED.fullmatch(name)
    if sizes is None:
        return _as_timm_wants(_create(name, Given()), facts, layer, Given())
    width, depth, heads, patch = map(int, sizes.groups())
    vit = build_vit(vit_config(image_size, patch, width, depth, heads, channels))
    return _wrapped(vit, image_size, *channel_statistics(channels), "bicubic", facts, layer)


def _from_timm(source: str, weights: Path | None, layer: int | None, given: Given) -> Encoder:
    name = timm_name(source)
    assert name is not None
    if weights is None:
        raise UserError(f"encoder {source} needs a weights file of timm's {name}; give it with --weights")
    vit = _create(name, given)
    notices = load_into(vit, weights, published_by(name))
    facts = {"kind": "timm", "timm": name, "weights": weights.name, "weights_hash": file_hash(weights)}
    encoder = _as_timm_wants(vit, facts, layer, given)
    own = not from_hub(weights)
    if own and "." not in name and given.mean is None:
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (encoder.mean, encoder.std))
        notices.append(f"{source} names no checkpoint: images are normalised by timm's default for it, mean {mean} and "
                       f"std {std}; where {weights.name} wants others, give --mean and --std")  # fmt: skip
    if own:
        for notice in notices:
            console.say(notice)
    encoder.facts |= {"notices": notices} if notices else {}
    return encoder


def _from_family(source: str, image_size: tuple[int, int], channels: int, weights: Path | None, seed: int) -> Encoder:
    family = family_of(source)
    assert family is not None
    name = source.partition(":")[2]
    encoder = family.load()(name, image_size=image_size, channels=channels, weights=weights, seed=seed)
    if not isinstance(encoder, Encoder):
        raise UserError(f"the package of {source} gave no Encoder; ask those who made {family_version(source)}")
    encoder.facts |= {"kind": family.name, "package": family_version(source)}
    if weights is not None:
        encoder.facts |= {"weights": weights.name, "weights_hash": file_hash(weights)}
    return encoder


def _create(name: str, given: Given) -> nn.Module:
    """An untrained timm model by name, headless. Raises UserError for an unknown name, or sizes it can't have."""
    import timm

    name = SHORT_NAMES[name].timm if name in SHORT_NAMES else name
    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"timm has no model {name!r}{did_you_mean(name, timm.list_models())}")
    asked = {"num_heads": given.heads, "img_size": given.input_size}
    sizes: Facts = {key: value for key, value in asked.items() if value is not None}
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **sizes)
    except (AssertionError, OSError, RuntimeError, TypeError, ValueError) as error:
        wanted = " with " + " and ".join(f"{key} {value}" for key, value in sizes.items()) if sizes else ""
        raise UserError(f"timm can't make {name!r}{wanted}: {error}") from None
    return network


def _as_timm_wants(vit: nn.Module, facts: Facts, layer: int | None, given: Given) -> Encoder:
    """With the preprocessing of timm's configuration, but what is given; the whole image is taken, never a crop."""
    from timm.data import resolve_data_config  # type: ignore[attr-defined]

    config = resolve_data_config({}, model=vit)  # type: ignore[no-untyped-call]
    facts |= {"timm_crop": config["crop_pct"], "crop": 1.0}
    _, height, width = config["input_size"]
    size = (given.input_size,) * 2 if given.input_size else (height, width)
    said = {key: value for key, value in vars(given).items() if value is not None}
    facts |= {"given": said} if said else {}
    statistics = (given.mean or tuple(config["mean"]), given.std or tuple(config["std"]))
    return _wrapped(vit, size, *statistics, config["interpolation"], facts, layer)


def _wrapped(
    vit: nn.Module,
    size: tuple[int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    interpolation: str,
    facts: Facts,
    layer: int | None,
) -> Encoder:
    """Raises UserError for a network without a grid of tokens, and for a layer that it does not have."""
    if not hasattr(vit, "blocks") or not hasattr(vit, "forward_intermediates"):
        raise UserError("this timm model has no transformer blocks; embprobe needs a ViT (timm:vit_…)")
    depth = len(vit.blocks)  # type: ignore[arg-type]
    if layer is not None and not 1 <= layer <= depth:
        raise UserError(f"--layer is {layer}; this encoder has layers 1 to {depth}")
    side = vit.patch_embed.patch_size  # type: ignore[union-attr]
    patch = int(side[0] if isinstance(side, (tuple, list)) else side)  # type: ignore[arg-type, index]
    how = interpolation if interpolation in ("bilinear", "bicubic") else "bicubic"
    facts |= {"norm": "fc_norm, on each token" if uses_fc_norm(vit) else "norm", "layer": layer or depth}
    facts |= {"heads": heads_of(vit)}
    grid = (size[0] // patch, size[1] // patch)
    return Encoder(PatchTokens(vit, layer), size, patch, int(vit.embed_dim), grid, mean, std, how, facts)  # type: ignore[arg-type]
