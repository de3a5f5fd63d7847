"""A name or a checkpoint → a frozen encoder with its own preprocessing."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from embprobe.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from embprobe.store import Artefact

SHORT = {
    "mae": "vit_huge_patch14_224.mae",
    "ijepa": "vit_huge_patch14_gap_224.in1k_ijepa",
    "dinov2": "vit_base_patch14_dinov2.lvd142m",
    "dinov3": "vit_base_patch16_dinov3.lvd1689m",
    "siglip2": "vit_base_patch16_siglip_224.v2_webli",
    "supervised": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
}
GRAMMAR = "mae, ijepa, dinov2, dinov3, siglip2, supervised, timm:NAME, a pretrain artefact, pixels[:PATCH], random:NAME"
SIZED = re.compile(r"vit-(\d+)x(\d+)-h(\d+)-p(\d+)")  # vit-WIDTHxDEPTH-hHEADS-pPATCH
LEFT_OUT = ("head", "fc_norm", "decoder", "mask_token", "predictor", "attn_pool")  # not of the patch tokens


@dataclass
class Encoder:
    """A frozen network from u8 images to patch tokens; the facts go to the manifest."""

    network: nn.Module | None  # None: raw pixels
    size: int
    patch: int
    width: int
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    interpolation: str = "bicubic"
    layer: int | None = None  # counted from 1; None is the last
    facts: dict[str, Any] = field(default_factory=dict)  # Any: JSON for the manifest

    @property
    def grid(self) -> int:
        """K: patches along a side."""
        return self.size // self.patch

    @torch.no_grad()
    def __call__(self, images_BHWC: Tensor) -> Tensor:
        """u8 images (B,H,W,3) → patch tokens (B,K,K,D) after the final norm."""
        x = preprocess(images_BHWC, self.size, self.mean, self.std, self.interpolation)
        if self.network is None:
            from embprobe.nn.mae import patchify

            tokens = patchify(x, self.patch)
        else:
            tokens = patch_tokens(self.network, x, self.layer)
        return tokens.reshape(len(x), self.grid, self.grid, -1)

    def to(self, device: str) -> "Encoder":
        """Moves the network."""
        if self.network is not None:
            self.network.to(device)
        return self


def preprocess(images_BHWC: Tensor, size: int, mean: tuple[float, ...], std: tuple[float, ...], how: str) -> Tensor:
    """u8 images → normalised f32 (B,3,size,size); resized with antialiasing, to whole u8 steps as image files hold."""
    x = images_BHWC.permute(0, 3, 1, 2).float()
    if x.shape[-1] != size or x.shape[-2] != size:
        x = (
            nn.functional.interpolate(x, (size, size), mode=how, antialias=True, align_corners=False)
            .round()
            .clamp(0, 255)
        )
    return (x / 255 - x.new_tensor(mean)[:, None, None]) / x.new_tensor(std)[:, None, None]


def patch_tokens(network: nn.Module, x: Tensor, layer: int | None) -> Tensor:
    """Patch tokens (B,L,D) of a timm ViT after its final norm; class and register tokens dropped."""
    prefix = int(getattr(network, "num_prefix_tokens", 0))
    if layer is None:
        tokens = network.forward_features(x)[:, prefix:]  # type: ignore[operator]
    else:
        found = network.forward_intermediates(  # type: ignore[operator]
            x, indices=[layer - 1], norm=True, output_fmt="NLC", intermediates_only=True
        )
        tokens = found[-1]
    normed: Tensor = final_norm(network)(tokens) if uses_fc_norm(network) else tokens
    return normed


def uses_fc_norm(network: nn.Module) -> bool:
    """Whether the network normalises only after pooling (EVA-02, BEiT): then that norm is applied to each token."""
    return isinstance(getattr(network, "norm", None), nn.Identity) and not isinstance(
        getattr(network, "fc_norm", nn.Identity()), nn.Identity
    )


def final_norm(network: nn.Module) -> nn.Module:
    """The norm that ends the network."""
    found = network.fc_norm if uses_fc_norm(network) else network.norm
    assert isinstance(found, nn.Module)
    return found


def load_encoder(
    source: "Artefact | str", *, image_size: int, weights: Path | None = None, layer: int | None = None, seed: int = 0
) -> Encoder:
    """The encoder that a name or a pretrain artefact stands for, frozen, on the CPU.

    Raises UserError for an unknown name, missing or unfitting weights, or a network without a square grid of tokens.
    """
    if not isinstance(source, str):
        encoder = _from_artefact(source)
    elif source == "pixels" or source.startswith("pixels:"):
        return _pixels(source, image_size)
    elif source.startswith("random:"):
        encoder = _random(source.removeprefix("random:"), image_size, seed)
    else:
        encoder = _from_timm(source, weights)
    assert encoder.network is not None
    encoder.network.eval().requires_grad_(False)
    depth = len(encoder.network.blocks)  # type: ignore[arg-type]
    if layer is not None and not 1 <= layer <= depth:
        raise UserError(f"--layer is {layer}; this encoder has layers 1 to {depth}")
    encoder.layer = layer
    encoder.facts |= {
        "norm": "fc_norm, on each token" if uses_fc_norm(encoder.network) else "norm",
        "layer": layer or depth,
    }
    return encoder


def check_name(source: str) -> None:
    """Raises UserError unless the name follows the grammar; looks nothing up and imports no model."""
    if source in SHORT or source == "pixels":
        return
    if source.startswith(("timm:", "random:", "pixels:")) and source.split(":", 1)[1]:
        return
    known = [*SHORT, "pixels", "random:", "timm:"]
    raise UserError(f'encoder "{source}" is unknown{did_you_mean(source, known)} (known: {GRAMMAR})')


def _pixels(source: str, size: int) -> Encoder:
    word = source.partition(":")[2]
    default = 8 if size <= 112 else 14 if size % 14 == 0 else 16
    patch = int(word) if word.isdigit() and int(word) else default
    if (word and not word.isdigit()) or size % patch:
        raise UserError(
            f"encoder {source!r} can't cut images of {size} px into patches; give pixels:N where N divides {size}"
        )
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return Encoder(None, size, patch, patch * patch * 3, mean, std, facts={"kind": "pixels", "norm": "none"})


def _from_artefact(artefact: "Artefact") -> Encoder:
    from embprobe.nn.vit import build_vit

    facts = artefact.read_json("encoder.json")
    network = build_vit(facts["network"])
    load_into(network, artefact.file("weights.safetensors"))
    return _wrap(
        network, facts["size"], facts["mean"], facts["std"], facts["interpolation"], {"kind": facts["objective"]}
    )


def _random(name: str, image_size: int, seed: int) -> Encoder:
    from embprobe.nn.mae import IMAGENET
    from embprobe.nn.vit import build_vit, describe

    torch.manual_seed(seed)
    found = SIZED.fullmatch(name)
    if found:
        width, depth, heads, patch = map(int, found.groups())
        network = build_vit(describe(image_size, patch, width, depth, heads))
        return _wrap(network, image_size, *IMAGENET, "bicubic", {"kind": "random", "seed": seed})
    return _from_config(create(name, pretrained=False), {"kind": "random", "seed": seed})


def _from_timm(source: str, weights: Path | None) -> Encoder:
    check_name(source)
    name = SHORT.get(source, source.removeprefix("timm:"))
    if weights is not None:
        network = create(name, pretrained=False)
        load_into(network, weights)
        return _from_config(network, {"kind": "timm", "timm": name, "weights": weights.name})
    return _from_config(create(name, pretrained=True), {"kind": "timm", "timm": name})


def create(name: str, *, pretrained: bool) -> nn.Module:
    """A timm model by name, headless. Raises UserError for an unknown name or weights that can't be had."""
    import timm

    name = SHORT.get(name, name)
    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"timm has no model {name!r}{did_you_mean(name, timm.list_models())}")
    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        if not pretrained:
            raise UserError(f"timm can't make {name!r}: {error}") from None
        hub = (timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()).hf_hub_id or name
        raise UserError(
            f"the weights of {name} could not be fetched; download model.safetensors of {hub} where there is a network "
            "and give the file with --weights"
        ) from None
    return network


def _from_config(network: nn.Module, facts: dict[str, Any]) -> Encoder:
    from timm.data import resolve_data_config  # type: ignore[attr-defined]

    config = resolve_data_config({}, model=network)  # type: ignore[no-untyped-call]
    facts |= {"timm_crop": config["crop_pct"], "crop": 1.0}
    return _wrap(network, config["input_size"][-1], config["mean"], config["std"], config["interpolation"], facts)


def _wrap(network: nn.Module, size: int, mean: Any, std: Any, interpolation: str, facts: dict[str, Any]) -> Encoder:
    """Checks that the network gives a square grid of tokens."""
    if not hasattr(network, "blocks") or not hasattr(network, "forward_intermediates"):
        raise UserError("this timm model has no transformer blocks; embprobe needs a ViT (timm:vit_…)")
    side = network.patch_embed.patch_size  # type: ignore[union-attr]
    patch = int(side[0] if isinstance(side, (tuple, list)) else side)  # type: ignore[arg-type, index]
    width = int(network.embed_dim)  # type: ignore[arg-type]
    how = interpolation if interpolation in ("bilinear", "bicubic") else "bicubic"
    return Encoder(network, size, patch, width, tuple(mean), tuple(std), how, facts=facts)


# ---- weights files


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file; official I-JEPA and MAE files are unwrapped (the target encoder, the model).

    Nothing in the file is executed. Raises UserError for a file that is not there, not weights, or holds code.
    """
    import pickle

    if not path.is_file():
        raise UserError(f"there is no weights file {path}; check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(str(path)))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} holds more than tensors (code, perhaps) and is not loaded; save its state dict alone"
        ) from None
    except Exception as error:  # safetensors and torch raise many kinds; whatever it was, the file is no weights file
        raise UserError(f"{path} is no weights file that can be read ({str(error).splitlines()[0][:120]})") from None
    for key in ("target_encoder", "model", "state_dict", "encoder"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise UserError(f"{path} holds no state dict; give a file of named tensors")
    return {str(k).removeprefix("module.").removeprefix("backbone."): v for k, v in found.items()}


def load_into(network: nn.Module, path: Path) -> None:
    """Loads a weights file; every parameter that patch tokens depend on must be there. Raises UserError."""
    from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

    try:
        state = read_weights(path)
        if isinstance(network, VisionTransformer):
            state = dict(checkpoint_filter_fn(dict(state), network))
        state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        own = network.state_dict()
        if "cls_token" not in own and "cls_token" in state:
            raise UserError(
                f"{path} was made with a class token, this network has none; name the timm model it belongs to"
            )
        wrong = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
        missing = [k for k in own if k not in state and not k.startswith(LEFT_OUT)]
        surplus = [k for k in state if k not in own and not k.startswith(LEFT_OUT)]
    except (KeyError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path} does not fit this network ({error})") from None
    if wrong or missing or surplus:
        shape = [f"{k} is {tuple(state[k].shape)}, not {tuple(own[k].shape)}" for k in wrong[:1]]
        told = shape + [f"{k} is missing" for k in missing[:1]] + [f"{k} is not of it" for k in surplus[:1]]
        raise UserError(f"{path} does not fit this network: {'; '.join(told)}")
    network.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)
