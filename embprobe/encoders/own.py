"""A user's own plain ViT: its sizes are read from the weights file, its heads are asked for where no tensor tells them."""

import re
from math import isqrt
from pathlib import Path

from embprobe import console
from embprobe.encoders import box
from embprobe.encoders.frozen import Encoder, Facts, Given, of_vit
from embprobe.encoders.layers import Words
from embprobe.encoders.names import FILE, SIZED, called
from embprobe.errors import UserError
from embprobe.nn.recognise import Shapes, is_vit, sizes_of
from embprobe.nn.vit import ViTConfig, build_vit
from embprobe.nn.weights import WeightsFile, load_into, open_weights
from embprobe.pixels import channel_statistics
from embprobe.store.hashes import file_hash


def sized_name(path: Path, heads: int | None) -> str:
    """`vit-WIDTHxDEPTH-hHEADS-pPATCH` of a weights file. Raises UserError for what is no plain ViT's, or lacks heads."""
    file = open_weights(path)
    sizes = sizes_of(_shapes(file))
    width, patch = sizes.width or 0, (sizes.patch or (0,))[0]
    found = heads or _heads(file)
    if found is None:
        raise UserError(
            f"no tensor of {path} tells its attention heads; give as many as it was trained with by --heads N (another number "
            "would load too, and give other embeddings)"
        )
    return f"vit-{width}x{sizes.depth}-h{found}-p{patch}"


def from_file(name: str, path: Path | None, layer: Words, given: Given) -> Encoder:
    """The encoder of a file whose sizes are as the name says. Raises UserError where they are not."""
    if path is None:
        raise UserError(f"encoder {name} needs its file; give --weights FILE, or random:{name} for an untrained one")
    if name == FILE:
        name = sized_name(path, given.heads)
    found = SIZED.fullmatch(name)
    assert found is not None
    width, depth, heads, patch = map(int, found.groups())
    shapes = _shapes(open_weights(path))
    sizes = sizes_of(shapes)
    told = {"width": (width, sizes.width), "depth": (depth, sizes.depth), "patch": (patch, (sizes.patch or (0,))[0])}
    wrong = [f"its {what} is {own}, not {asked}" for what, (asked, own) in told.items() if own != asked]
    if wrong:
        raise UserError(f"{path} is no {name}: {', '.join(wrong)}; give its own sizes, or the file alone")
    if width % heads:
        raise UserError(f"{heads} heads do not divide a width of {width}; give as many as the network was made with")
    grid = _grid(shapes)
    if grid is None:
        raise UserError(f"{path} has no positions on a square grid, so that its input size is not told; use timm:NAME")
    side = grid * patch
    vit = build_vit(config_of(shapes, heads, side))
    notices = load_into(vit, path, use=given.use)
    statistics = given.statistics or channel_statistics(sizes.channels or 3)
    if given.statistics is None and path.parent != box.FOLDER:
        usual = "ImageNet's" if sizes.channels == 3 else "these"
        mean, std = (" ".join(f"{value:g}" for value in values) for values in statistics)
        notices.append(f"images are normalised by {usual} mean {mean} and std {std}; where {path.name} wants others, give "
                       "--mean and --std")  # fmt: skip
    for notice in notices:
        console.say(notice)
    facts: Facts = {"kind": "vit", "called": called(name, str(path)), "weights": path.name}
    facts |= {"weights_hash": file_hash(path), "notices": notices}
    return of_vit(vit, (side, side), statistics, "bicubic", facts, layer)


def config_of(shapes: Shapes, heads: int, side: int) -> ViTConfig:
    """timm's arguments for the ViT of these tensors: what is there is what it has."""
    patch = shapes["patch_embed.proj.weight"]
    registers, block = _registers(shapes), "blocks.0."
    prefix, depth = ("cls_token" in shapes) + registers, sizes_of(shapes).depth
    return {
        "img_size": side,
        "patch_size": patch[2],
        "in_chans": patch[1],
        "embed_dim": patch[0],
        "depth": depth,
        "num_heads": heads,
        "mlp_ratio": shapes[f"{block}mlp.fc1.weight"][0] / patch[0] if f"{block}mlp.fc1.weight" in shapes else 4.0,
        "qkv_bias": f"{block}attn.qkv.bias" in shapes,
        "qk_norm": f"{block}attn.q_norm.weight" in shapes,
        "init_values": 1e-5 if f"{block}ls1.gamma" in shapes else None,
        "pre_norm": "norm_pre.weight" in shapes,
        "class_token": "cls_token" in shapes,
        "reg_tokens": registers,
        "no_embed_class": bool(prefix) and shapes["pos_embed"][1] == (side // patch[2]) ** 2,
        "global_pool": "token" if "cls_token" in shapes else "avg",
        "fc_norm": False,
        "num_classes": 0,
    }


def _shapes(file: WeightsFile) -> Shapes:
    """The shapes of a ViT's tensors. Raises UserError for another network's."""
    if is_vit(file.shapes):
        return file.shapes
    kind = file.kind or "no plain ViT in timm's names"
    advice = "name its network with timm:NAME"
    if re.search("transformers", kind):
        advice = "give the folder that holds it and its config.json: --encoder FOLDER"
    raise UserError(f"{file.path} can't be taken by itself: it is {kind}; {advice}")


def _registers(shapes: Shapes) -> int:
    """Tokens of no patch beside the class token, as timm or DINOv2 names them."""
    return next((shapes[key][1] for key in ("reg_token", "register_tokens") if key in shapes), 0)


def _grid(shapes: Shapes) -> int | None:
    """Side of the square grid that the positions are for, with or without those of other tokens."""
    positions = sizes_of(shapes).positions or 0
    class_token = "cls_token" in shapes
    counts = (positions - class_token - _registers(shapes), positions - class_token, positions)
    return next((isqrt(n) for n in counts if n > 0 and isqrt(n) ** 2 == n), None)


def _heads(file: WeightsFile) -> int | None:
    """Heads by a configuration in the file, or by the size of a norm of queries."""
    norm = file.shapes.get("blocks.0.attn.q_norm.weight")
    width = sizes_of(file.shapes).width
    return file.heads or (width // norm[0] if norm and width else None)
