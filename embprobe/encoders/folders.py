"""Encoders in folders as transformers and timm save them: config.json tells the network, model.safetensors has it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from embprobe.encoders.frozen import Encoder, Facts, Given
from embprobe.encoders.layers import Layers, Words, as_asked, chosen_layers
from embprobe.encoders.names import CONFIG, FOLDER, PREPROCESSOR, WEIGHTS_FILE, weights_in
from embprobe.errors import UserError
from embprobe.nn.vit import combined
from embprobe.nn.weights import open_weights
from embprobe.pixels import IMAGENET

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_JSON = 1 << 20  # bytes
NOT_IN_TOKENS = ("mask_token", "head", "pooler")  # weights that tokens do not depend on
NETWORKS = {  # config.json's model_type → class, tokens before the patches, the final norm
    "vit": ("ViTModel", 1, "layernorm"),
    "vit_mae": ("ViTModel", 1, "layernorm"),
    "deit": ("DeiTModel", 2, "layernorm"),
    "ijepa": ("IJepaModel", 0, "layernorm"),
    "dinov2": ("Dinov2Model", 1, "layernorm"),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", 1, "layernorm"),
    "dinov3_vit": ("DINOv3ViTModel", 1, "norm"),
    "siglip": ("SiglipVisionModel", 0, "post_layernorm"),
    "siglip_vision_model": ("SiglipVisionModel", 0, "post_layernorm"),
}
Config = dict[str, Any]  # Any: JSON


def read_config(folder: Path, name: str = CONFIG) -> Config:
    """A JSON object of a folder; empty where there is none. Raises UserError for what is no JSON object."""
    path = folder / name
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MOST_JSON:
            raise ValueError("it is too large")
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read as JSON ({error}); save the folder again") from None
    return found


class TransformersTokens(nn.Module):
    """Standardised images (B,C,H,W) to the patch tokens (B,L,D) of a transformers ViT after its final norm."""

    def __init__(self, model: "PreTrainedModel", prefix: int, norm: str, layers: Layers | None) -> None:
        super().__init__()
        self.model, self.prefix, self.norm, self.layers = model, prefix, norm, layers

    def forward(self, images_BCHW: Tensor) -> Tensor:
        if self.layers is None:
            tokens: Tensor = self.model(pixel_values=images_BCHW).last_hidden_state
            return tokens[:, self.prefix :]
        states = self.model(
            pixel_values=images_BCHW, output_hidden_states=True
        ).hidden_states  # before the first, after each
        norm = getattr(self.model, self.norm)
        every = [norm(states[block])[:, self.prefix :] for block in self.layers.blocks]
        return combined(every, mean=self.layers.mean)


def from_transformers(weights: Path | None, layer: Words, given: Given) -> Encoder:
    """The encoder of a folder that transformers saved. Raises UserError for networks that are no such ViT."""
    folder = _folder(weights)
    config, model_type = read_config(folder), str(read_config(folder).get("model_type"))
    if model_type not in NETWORKS:
        raise UserError(
            f"{folder / CONFIG} tells of a {model_type}; the folders that are read are {', '.join(NETWORKS)}"
        )
    name, prefix, norm = NETWORKS[model_type]
    model = transformers_network(folder, name, **_vit_options(folder, model_type))
    settings = model.config
    prefix += int(getattr(settings, "num_register_tokens", 0) or 0)
    side, patch = _side(settings.image_size), _side(settings.patch_size)
    layers = chosen_layers(layer, int(settings.num_hidden_layers))
    width = int(settings.hidden_size) * (layers.wide if layers else 1)
    seen = read_config(folder, PREPROCESSOR)
    statistics = given.statistics or _statistics(seen)
    facts: Facts = {
        "kind": "transformers",
        "network": name,
        "called": folder.name,
        "weights": f"{folder.name}/{WEIGHTS_FILE}",
    }
    facts |= {"model_type": config["model_type"], "norm": norm, "heads": int(settings.num_attention_heads)}
    facts |= {"layer": as_asked(layer) or int(settings.num_hidden_layers), "crop": 1.0}
    how = "bilinear" if seen.get("resample") == 2 else "bicubic"
    tokens = TransformersTokens(model, prefix, norm, layers)
    return Encoder(tokens, (side, side), patch, width, (side // patch,) * 2, *statistics, how, facts=facts)


def _folder(weights: Path | None) -> Path:
    if weights is None:
        raise UserError(f"encoder {FOLDER} needs the folder's {WEIGHTS_FILE} with --weights; or give --encoder FOLDER")
    return weights_in(weights.parent).parent


def transformers_network(
    folder: Path,
    name: str,
    free: tuple[str, ...] = NOT_IN_TOKENS,
    **options: Any,  # Any: transformers' own
) -> "PreTrainedModel":
    """A network of transformers' own, with every weight of its own from the folder and nothing interpolated or run.

    Weights with a word of `free` in their names may be missing. Raises UserError where the folder does not hold it.
    """
    transformers = _library(folder)
    open_weights(folder / WEIGHTS_FILE)  # says what the file is if it holds no tensors
    cls = getattr(transformers, name, None)
    if cls is None:
        raise UserError(f"this transformers knows no {name}; install a newer one")
    told: Config = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    transformers.logging.set_verbosity_error()
    try:
        model, loading = cls.from_pretrained(folder, **told, **options)
    except Exception as error:  # transformers raises many kinds; whatever it was, the folder can't be taken
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder} can't be loaded by transformers ({reason}); save it again") from None
    _check_whole(folder, loading, free)
    network: PreTrainedModel = model
    return network


def _library(folder: Path) -> Any:  # Any: a library that need not be installed
    """transformers. Raises UserError where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise UserError(
            f"{folder} was saved by transformers, which is not installed; pip install 'embprobe[hf]'"
        ) from None
    return transformers


def _vit_options(folder: Path, model_type: str) -> Config:
    """What a ViT's class has to be told."""
    if model_type == "vit_mae":  # its own class shuffles and drops patches
        known = {k: v for k, v in read_config(folder).items() if k not in ("model_type", "architectures")}
        return {"add_pooling_layer": False, "config": _library(folder).ViTConfig(**known)}
    return {"add_pooling_layer": False} if model_type in ("vit", "ijepa", "deit") else {}


def _check_whole(folder: Path, told: Config, free: tuple[str, ...]) -> None:
    """Raises UserError where a weight that is needed was drawn instead of read."""
    missing = sorted(k for k in told["missing_keys"] if not any(word in k for word in free))
    wrong = [str(k) for k in told.get("mismatched_keys") or ()] or missing
    if wrong:
        raise UserError(f"{folder / WEIGHTS_FILE} does not fit its {CONFIG}: {wrong[0]} is missing or of another shape")


def _side(value: object) -> int:
    """A side in pixels. Raises UserError for what is no square's."""
    sides = {*value} if isinstance(value, (list, tuple)) else {value}
    side = sides.pop()
    if sides or not isinstance(side, int) or side < 1:
        raise UserError(f"this folder's {CONFIG} tells of a side of {value!r} px; only squares are read")
    return side


def _statistics(seen: Config) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std by preprocessor_config.json; ImageNet's without one, as transformers has it."""
    if not seen:
        return IMAGENET
    if seen.get("do_normalize") is False:
        return (0.0,) * 3, (1.0,) * 3
    mean, std = (
        tuple(map(float, seen.get(f"image_{key}") or usual))
        for key, usual in zip(("mean", "std"), IMAGENET, strict=True)
    )
    return mean, std
