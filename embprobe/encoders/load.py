"""A name or a checkpoint → a frozen encoder with its own preprocessing."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from embprobe import console
from embprobe.encoders import folders, own
from embprobe.encoders.box import in_box
from embprobe.encoders.frozen import Encoder, Facts, Given, PatchPixels, of_vit
from embprobe.encoders.layers import Words
from embprobe.encoders.names import (
    FILE,
    FOLDER,
    SHORT_NAMES,
    SIZED,
    check_name,
    family_of,
    family_version,
    from_hub,
    pixel_patch,
    published_by,
    timm_name,
    with_options,
)
from embprobe.errors import UserError, did_you_mean
from embprobe.nn.vit import build_vit, vit_config
from embprobe.nn.weights import built, load_into
from embprobe.pixels import channel_statistics, check_channels
from embprobe.store.hashes import file_hash

if TYPE_CHECKING:
    from embprobe.store import Artefact

OF_HEADS = ("num_classes", "drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate")  # what tokens do without
__all__ = ["Encoder", "Given", "load_encoder"]


def load_encoder(
    source: "Artefact | str",
    *,
    image_size: tuple[int, int],
    channels: int = 3,
    weights: Path | None = None,
    layer: Words = None,
    seed: int = 0,
    given: Given | None = None,
) -> Encoder:
    """The encoder that a name or a pretrain artefact stands for, frozen, on the CPU.

    A timm name needs its weights file (`names.hub_file` finds or fetches it), `vit-…` and a folder theirs. `pixels` and
    `random:vit-…` follow the size and the channels of the images, `layer` is as `layers.chosen_layers` reads it, `seed`
    draws random networks, and `given` is what files don't tell. Raises UserError for an unknown name, missing or
    unfitting weights, or images that the encoder can't take.
    """
    if not isinstance(source, str):
        encoder = _from_artefact(source, layer, given or Given())
    else:
        check_name(source)
        prefix, _, rest = source.partition(":")
        if prefix == "random":
            encoder = _random(rest, image_size, channels, layer, seed)
        elif timm_name(source) is not None:
            encoder = _from_timm(source, weights, layer, given or Given())
        elif (own_file := in_box(source)) is not None:
            encoder = own.from_file(FILE, own_file.file, layer, given or Given())
        elif source == FILE or SIZED.fullmatch(source):
            encoder = own.from_file(source, weights, layer, given or Given())
        elif source == FOLDER:
            encoder = _from_folder(weights, layer, given or Given())
        elif layer:
            raise UserError(f"--layer has no meaning for encoder {source}; leave it out")
        elif prefix == "pixels":
            encoder = _pixels(source, image_size, channels)
        else:
            encoder = _from_family(source, image_size, channels, weights, seed)
    if given is not None and given.resolution is not None:
        encoder = encoder.at(given.resolution)
    check_channels(channels, len(encoder.mean))
    encoder.network.eval().requires_grad_(False)
    return encoder


def _pixels(source: str, size: tuple[int, int], channels: int) -> Encoder:
    patch = pixel_patch(source, size)
    mean = std = (0.5,) * channels
    facts = {"kind": "pixels", "norm": "none"}
    grid = (size[0] // patch, size[1] // patch)
    return Encoder(PatchPixels(patch), size, patch, patch * patch * channels, grid, mean, std, facts=facts)


def _from_artefact(artefact: "Artefact", layer: Words, given: Given) -> Encoder:
    facts = artefact.read_json("encoder.json", dict)
    vit = built(build_vit, facts["network"], artefact.weights())
    load_into(vit, artefact.weights_beside() if given.use == "context" else artefact.weights(), use=given.use)
    size = facts["size"]
    height, width = (size, size) if isinstance(size, int) else size
    statistics = (tuple(facts["mean"]), tuple(facts["std"]))
    return of_vit(vit, (height, width), statistics, facts["interpolation"], {"kind": facts["objective"]}, layer)


def _random(name: str, image_size: tuple[int, int], channels: int, layer: Words, seed: int) -> Encoder:
    torch.manual_seed(seed)
    facts = {"kind": "random", "seed": seed}
    sizes = SIZED.fullmatch(name)
    if sizes is None:
        return _as_timm_wants(_create(name, Given()), facts, layer, Given())
    width, depth, heads, patch = map(int, sizes.groups())
    vit = build_vit(vit_config(image_size, patch, width, depth, heads, channels))
    return of_vit(vit, image_size, channel_statistics(channels), "bicubic", facts, layer)


def _from_timm(source: str, weights: Path | None, layer: Words, given: Given) -> Encoder:
    name = timm_name(source)
    assert name is not None
    if weights is None:
        raise UserError(f"encoder {source} needs a weights file of timm's {name}; give it with --weights")
    vit = _create(name, given)
    notices = load_into(vit, weights, published_by(with_options(name)[0]), given.use)
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

    name, options = with_options(name)
    name = SHORT_NAMES[name].timm if name in SHORT_NAMES else name
    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"timm has no model {name!r}{did_you_mean(name, timm.list_models())}")
    asked = {"num_heads": given.heads, "img_size": given.input_size}
    sizes: Facts = {key: _number(value) for key, value in options.items()}
    sizes |= {key: value for key, value in asked.items() if value is not None}
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **sizes)
    except (AssertionError, OSError, RuntimeError, TypeError, ValueError) as error:
        wanted = " with " + " and ".join(f"{key} {value}" for key, value in sizes.items()) if sizes else ""
        raise UserError(f"timm can't make {name!r}{wanted}: {error}") from None
    return network


def _number(word: str) -> object:
    """A word as timm takes it: a number, a truth, or as it is."""
    truths = {"true": True, "false": False, "none": None}
    if word.lower() in truths:
        return truths[word.lower()]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _from_folder(weights: Path | None, layer: Words, given: Given) -> Encoder:
    """A folder with a config.json: timm's tells an `architecture`, transformers' a `model_type`."""
    config = folders.read_config(weights.parent) if weights else {}
    name = config.get("architecture")
    if weights is None or name is None:
        return folders.from_transformers(weights, layer, given)
    told, arguments = config.get("pretrained_cfg") or {}, config.get("model_args") or {}
    single = {k: v[0] if isinstance(v, list) and len(set(map(str, v))) == 1 else v for k, v in arguments.items()}
    single = {k: v for k, v in single.items() if k not in OF_HEADS and isinstance(v, (int, float, str))}
    options = "".join(f",{key}={value}" for key, value in single.items())
    sides = told.get("input_size") or (None,)
    size = given.input_size or (None if "img_size" in single else sides[-1])
    statistics = given.statistics or (tuple(told.get("mean") or ()) or None, tuple(told.get("std") or ()) or None)
    given = replace(given, mean=statistics[0], std=statistics[1], input_size=size)
    encoder = _from_timm(f"timm:{name}{options}", weights, layer, given)
    encoder.facts |= {"called": weights.parent.name}
    return encoder


def _as_timm_wants(vit: nn.Module, facts: Facts, layer: Words, given: Given) -> Encoder:
    """With the preprocessing of timm's configuration, but what is given; the whole image is taken, never a crop."""
    from timm.data import resolve_data_config  # type: ignore[attr-defined]

    config = resolve_data_config({}, model=vit)  # type: ignore[no-untyped-call]
    facts |= {"timm_crop": config["crop_pct"], "crop": 1.0}
    _, height, width = config["input_size"]
    own = getattr(getattr(vit, "patch_embed", None), "img_size", None)  # may have been asked for by name
    size = (given.input_size,) * 2 if given.input_size else own or (height, width)
    said = {key: value for key, value in vars(given).items() if value is not None}
    facts |= {"given": said} if said else {}
    statistics = (given.mean or tuple(config["mean"]), given.std or tuple(config["std"]))
    return of_vit(vit, size, statistics, config["interpolation"], facts, layer)
