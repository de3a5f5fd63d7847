"""What a foreign weights file is, told from its first bytes, its parts, and the names and shapes of its tensors."""

import codecs
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Literal

import torch

Shapes = Mapping[str, tuple[int, ...]]
Published = Literal["mae", "ijepa"]

SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer in the place of the weights; fetch them with `git lfs pull`"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file, of Keras perhaps"),
    (b"GGUF", "a GGUF file of a quantised language model"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)
OTHERS = (  # networks that are no ViT of images, by names of tensors that only they have
    ("the heads of LPIPS", r"lin0\.model\.\d"),
    ("a ResNet", r"layer1\.0\.conv1\.weight"),
    ("a SqueezeNet", r"features\.\d+\.squeeze\.weight"),
    ("a VGG or AlexNet", r"features\.0\.weight"),
    ("an autoencoder (VAE) of images, as diffusers has them", r"(encoder\.down|decoder\.up)(_blocks)?\.\d"),
    ("a UNet of diffusers", r"down_blocks\.\d"),
    ("a latent diffusion model", r"model\.diffusion_model\."),
    ("a denoiser that `diffuse` made", r"body\.time_embedding\.|modulation\.weight"),
    ("a decoder that `decode` made", r"body\.up_blocks\.\d"),
    ("a VAE that `compress` made", r"to_posterior\.weight"),
    ("CLIP with its text tower, in names that timm does not have", r"(.*\.)?(text_model|token_embedding)\."),
    ("a language model", r"(model\.)?layers\.\d+\.self_attn\.|(model\.)?embed_tokens\."),
    ("a ViT in the names of transformers, not timm's", r"(.*\.)?embeddings\.patch_embeddings\."),
    ("the predictor of a JEPA without its encoder", r"predictor_(embed|blocks)\b"),
    ("a Swin transformer", r"layers\.\d\.blocks\.\d+\.attn\.relative_position"),
    ("a ConvNeXt", r"stages\.\d\.(blocks\.)?\d+\.(conv_dw|dwconv)\."),
)
VITS = (
    ("MAE's file, with its decoder", r"decoder_embed\.weight"),
    ("a DINOv2 file", r"blocks\.0\.ls1\.gamma"),
    ("a BEiT file", r"(blocks\.0\.attn\.)?relative_position_bias_table|rel_pos_bias\.|blocks\.0\.gamma_1"),
)


@dataclass(frozen=True)
class Sizes:
    """Of a ViT; None where it has no tensor that tells."""

    width: int | None
    depth: int
    patch: tuple[int, ...] | None
    channels: int | None
    positions: int | None
    class_token: bool

    @property
    def grid(self) -> int | None:
        """Side of its square grid of patches."""
        if self.positions is None:
            return None
        counts = (self.positions - 1, self.positions) if self.class_token else (self.positions,)
        return next((isqrt(n) for n in counts if n > 0 and isqrt(n) ** 2 == n), None)


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> Shapes:
    """The shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def sizes_of(shapes: Shapes) -> Sizes:
    """By the names that timm and the official files share."""
    patch = shapes.get("patch_embed.proj.weight")
    blocks = [int(found[1]) for found in (re.match(r"blocks\.(\d+)\.", name) for name in shapes) if found]
    positions = shapes.get("pos_embed", ())
    return Sizes(
        width=patch[0] if patch else None,
        depth=max(blocks, default=-1) + 1,
        patch=patch[2:] if patch else None,
        channels=patch[1] if patch and len(patch) > 2 else None,
        positions=positions[1] if len(positions) == 3 else None,
        class_token="cls_token" in shapes,
    )


# ---- files that hold no named tensors


def kind_of_bytes(path: Path) -> str | None:
    """What the file is if it can't be weights; None if it may be."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return "empty (0 bytes); fetch it again"
    for signature, kind in SIGNATURES:
        if head.startswith(signature):
            return kind
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if looks_like_safetensors(head):
        cut = 8 + int.from_bytes(head[:8], "little") > path.stat().st_size
        return "a safetensors file that is cut short; fetch it again" if cut else None
    return _kind_of_text(head)


def looks_like_safetensors(head: bytes) -> bool:
    """Whether the first bytes are the length of a header and its beginning."""
    return head[8:9] == b"{" and 1 < int.from_bytes(head[:8], "little") < 100 << 20


def _kind_of_zip(path: Path) -> str | None:
    if not zipfile.is_zipfile(path):
        return "a torch file that is cut short; fetch it again"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):  # a directory that is damaged
        return "a torch file that is damaged; fetch it again"
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript program, which would have to be run; save its state dict alone"
    if any(name.endswith("data.pkl") for name in names):
        return "a torch file; rename it to .pth" if path.suffix == ".safetensors" else None
    return "a NumPy archive" if any(name.endswith(".npy") for name in names) else "a zip without tensors in it"


def _kind_of_text(head: bytes) -> str | None:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return None
    if not all(letter.isprintable() or letter.isspace() for letter in text):
        return None
    page = re.search(r"<(!doctype html|html|\?xml)", text[:1024], re.I)
    return "a web page in the place of the weights; fetch them again" if page else "a text file"


def kind_of_content(content: object) -> str:
    """What an unpacked file is that holds no state dict."""
    if isinstance(content, torch.Tensor):
        return f"one tensor {tuple(content.shape)} without a name"
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    if not content:
        return "an empty dict"
    if "predictor" in content:
        return "the predictor of a JEPA without its encoder"
    if {"opt", "optimizer"} & content.keys() or {"state", "param_groups"} <= content.keys():
        return "the state of an optimiser without its network"
    return f"a dict of {', '.join(map(str, list(content)[:5]))}"


# ---- files of named tensors


def kind_of_names(shapes: Shapes, part: str | None = None, beside: tuple[str, ...] = ()) -> str | None:
    """Which network's file it is, by its names, and by the part of the file that they are in; None for some ViT."""
    cube = next((shape for name, shape in shapes.items() if "patch_embed" in name and len(shape) == 5), None)
    if cube is not None:
        name = "V-JEPA" if part in ("target_encoder", "encoder") else "VideoMAE or V-JEPA"
        return f"{name}, a video encoder: its patches are {cube[2]} frames deep"
    for kind, pattern in (*OTHERS, *VITS):
        if any(re.match(pattern, name) for name in shapes):
            return kind
    of_jepa = part == "target_encoder" or (part == "encoder" and "predictor" in beside)
    if of_jepa and "cls_token" not in shapes:
        return "I-JEPA's file"
    return None


def is_vit(shapes: Shapes) -> bool:
    """Whether the names are those of a ViT of images."""
    return len(shapes.get("patch_embed.proj.weight", ())) == 4 and "blocks.0.attn.proj.weight" in shapes


def classes_of(shapes: Shapes) -> int | None:
    """Classes of a head that is left over from training a classifier; None where there is none."""
    head = shapes.get("head.weight", ())
    return head[0] if len(head) == 2 else None


def other_names(file: Shapes, network: Shapes, ignored: tuple[str, ...]) -> bool:
    """Whether a file names its tensors otherwise than the network does, or has others."""
    return any(not name.startswith(ignored) for name in file.keys() ^ network.keys())


def size_differences(file: Sizes, network: Sizes) -> list[str]:
    """In which sizes a file's ViT is not the network's, in words."""
    said = []
    if file.class_token != network.class_token:
        word = "a class token, this network has none" if file.class_token else "no class token, this network has one"
        said.append(f"it has {word}")
    if file.width != network.width:
        said.append(f"its width is {file.width}, not {network.width}")
    if file.depth != network.depth:
        said.append(f"its depth is {file.depth}, not {network.depth}")
    if file.channels != network.channels:
        said.append(f"it takes images of {file.channels} channels, not {network.channels}")
    if file.patch != network.patch:
        said.append(f"its patches are {_pixels(file.patch)}, not {_pixels(network.patch)}")
    if file.positions is not None and network.positions is not None and _patches(file) != _patches(network):
        said.append(
            f"it is for {_resolution(file)}, not for {_resolution(network)}, which `extract --input-size` chooses"
        )
    return said


def _patches(sizes: Sizes) -> int | None:
    """Patches that positions are for; all positions where they are on no square grid."""
    return sizes.grid**2 if sizes.grid else sizes.positions


def _pixels(patch: tuple[int, ...] | None) -> str:
    return "of a size unknown" if not patch else "×".join(map(str, dict.fromkeys(patch))) + " px"


def _resolution(sizes: Sizes) -> str:
    if sizes.grid is None or not sizes.patch:
        return f"{sizes.positions} positions"
    return f"{sizes.grid * sizes.patch[-1]} px ({sizes.grid}×{sizes.grid} patches)"
