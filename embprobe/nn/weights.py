"""The one reader of weights files that others made: nothing in them is run, and every tensor must fit."""

import pickle
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from embprobe.errors import DamagedError, UserError
from embprobe.nn import recognise
from embprobe.nn.recognise import Published, Shapes
from embprobe.store import Json

Network = TypeVar("Network", bound=nn.Module)
IGNORED_KEYS = ("head", "fc_norm", "decoder", "mask_token", "predictor", "attn_pool")  # patch tokens don't need them
Use = Literal["target", "context"]
"""Of I-JEPA's two encoders: the average, whose embeddings are predicted, or the one that sees the context."""
WRAPPERS = (
    "target_encoder",
    "model",
    "state_dict",
    "encoder",
)  # where official files keep the network, first one first
HEADS = ("num_heads", "heads", "num_attention_heads")  # what configurations in files call them
SAMPLED = ("pos_embed", "patch_embed.proj.weight", "relative_position_bias_table")  # what timm would interpolate


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of one network, mapped and not read before they are used, and what the file holds around them."""

    path: Path
    tensors: Mapping[str, Tensor]
    part: str | None  # the key that the network was under
    beside: tuple[str, ...]  # the keys next to it
    heads: int | None  # attention heads, where the file tells
    words: Mapping[str, str]  # that a safetensors file carries with it

    @property
    def shapes(self) -> Shapes:
        """The shape of each tensor."""
        return recognise.shapes_of(self.tensors)

    @property
    def kind(self) -> str | None:
        """What the file is, in words; None where its names do not tell."""
        return recognise.kind_of_names(self.shapes, self.part, self.beside)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file; official I-JEPA and MAE files are unwrapped (the target encoder, the model).

    They are mapped from the file: copy those that are to stay. Raises UserError as `open_weights`.
    """
    return dict(open_weights(path).tensors)


def open_context(path: Path) -> WeightsFile:
    """I-JEPA's context encoder, of a released file or kept by `pretrain`. Raises UserError for a file without one."""
    file = open_weights(path, ("encoder",))
    inner = {k.removeprefix("context."): v for k, v in file.tensors.items() if k.startswith("context.")}
    if inner:
        return replace(file, tensors=inner)
    if file.part != "encoder" or "target_encoder" not in file.beside:
        raise UserError(f"{path} holds no context encoder; only I-JEPA's own files and pretrain artefacts do")
    return file


def open_weights(path: Path, parts: tuple[str, ...] = WRAPPERS) -> WeightsFile:
    """A weights file by its content, whatever its name; only its directory is read. Of several networks the first of
    these `parts` is taken.

    Nothing in the file is executed. Raises UserError for a file that is not there, not weights, or holds code, and
    says what it is.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}; check the path")
    content, said = _content(path)
    part = next((k for k in parts if isinstance(content, dict) and isinstance(content.get(k), dict)), None)
    named = content[part] if isinstance(content, dict) and part else content
    if not isinstance(named, dict) or not named or not all(isinstance(v, Tensor) for v in named.values()):
        what = recognise.kind_of_content(content)
        raise UserError(f"{path} holds no state dict, it is {what}; give a file of named tensors")
    beside = tuple(str(k) for k in content if k != part) if part and isinstance(content, dict) else ()
    tensors = {str(k).removeprefix("module.").removeprefix("backbone."): v for k, v in named.items()}
    return WeightsFile(path, tensors, part, beside, _heads_said(content if part else said), said)


def _content(path: Path) -> tuple[object, Mapping[str, str]]:
    """What a file holds, and the words that a safetensors file carries with it."""
    kind = recognise.kind_of_bytes(path)
    if kind is not None:
        advice = "" if ";" in kind else "; give a file of named tensors"
        raise UserError(f"{path} is no weights file that can be read: it is {kind}{advice}")
    try:
        with path.open("rb") as file:
            safe = recognise.looks_like_safetensors(file.read(9))
        if safe:
            from safetensors import safe_open
            from safetensors.torch import load_file

            with safe_open(str(path), "pt") as opened:
                said = opened.metadata() or {}
            return load_file(str(path)), said
        check_packing(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)), {}
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"code, perhaps: {found[1]}" if found else "code, perhaps"
        raise UserError(
            f"{path} holds more than tensors ({what}) and is not loaded; save its state dict alone"
        ) from None
    except Exception as error:  # safetensors and torch raise many kinds; whatever it was, the file is no weights file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        if isinstance(error, EOFError) or re.search("[Ii]ncomplete|EOF|truncated", reason):
            reason = "it is cut short; fetch it again"
        raise UserError(f"{path} is no weights file that can be read ({reason})") from None


def _heads_said(content: object) -> int | None:
    """Attention heads by a configuration in the file: a dict beside the network, or the words of safetensors."""
    entries = (content, *content.values()) if isinstance(content, Mapping) else ()
    values = [entry[key] for entry in entries if isinstance(entry, Mapping) for key in HEADS if key in entry]
    return next((int(value) for value in values if str(value).isdecimal()), None)


def check_packing(path: Path) -> None:
    """Raises UserError for a zip that is packed, as nothing that torch.save writes is: it could not be mapped."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > path.stat().st_size:
        raise UserError(f"{path} is packed, or its parts overlap; save its state dict again with torch.save")


# ---- into a ViT


def load_into(network: nn.Module, path: Path, published: Published | None = None, use: Use | None = None) -> list[str]:
    """Loads a weights file into a ViT; what is to be said of the file, in sentences. Of two encoders the target is used.

    Every parameter that patch tokens depend on must be there, with the shape it has in the network: nothing is
    interpolated. `published` is the method whose own file it must be. Raises UserError, which says what the file is.
    """
    file = open_context(path) if use == "context" else open_weights(path)
    state = _renamed(network, file)
    reasons = _misfits(network, state)
    if reasons:
        raise _misfit(network, file, reasons)
    _check_origin(file, published)
    _check_heads(network, file)
    own = network.state_dict()
    whole = [k for k in own if k in state and own[k].is_floating_point() and not state[k].is_floating_point()]
    if whole:
        kind = str(state[whole[0]].dtype).removeprefix("torch.")
        raise UserError(f"{path} is quantised: {whole[0]} is of {kind}; give the file in floating point")
    # copied in the network's own precision
    network.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)
    _check_numbers({k: own[k] for k in own if k in state}, path)
    return _notices(file)


def uses_fc_norm(network: nn.Module) -> bool:
    """Whether the network normalises only after pooling (EVA-02, BEiT): then that norm is applied to each token."""
    return isinstance(getattr(network, "norm", None), nn.Identity) and not isinstance(
        getattr(network, "fc_norm", nn.Identity()), nn.Identity
    )


def _misfits(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """The first tensor of another shape, the first missing and the first left over, each in words."""
    own = network.state_dict()
    ignored = tuple(k for k in IGNORED_KEYS if k != "fc_norm") if uses_fc_norm(network) else IGNORED_KEYS
    wrong = [k for k in own if k in state and own[k].shape != state[k].shape]
    missing = [k for k in own if k not in state and not k.startswith(ignored)]
    surplus = [k for k in state if k not in own and not k.startswith(IGNORED_KEYS)]
    reasons = [f"{k} is {tuple(state[k].shape)}, not {tuple(own[k].shape)}" for k in wrong[:1]]
    norm = ", the norm of every token" if missing and missing[0].startswith("fc_norm") else ", its norms are others"
    reasons += [f"{k} is missing{norm * ('norm' in k)}" for k in missing[:1]]
    return reasons + [f"{k} is not of it" for k in surplus[:1]]


def _renamed(network: nn.Module, file: WeightsFile) -> Mapping[str, Tensor]:
    """Official names as timm has them, by the model family's own filter, if they are others; nothing it interpolated."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None or not recognise.other_names(
        file.shapes, recognise.shapes_of(network.state_dict()), IGNORED_KEYS
    ):
        return file.tensors
    try:
        state: dict[str, Tensor] = dict(convert(dict(file.tensors), network))
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return file.tensors  # of a network that the filter does not know: told by its own names
    mapped = {tensor.untyped_storage().data_ptr() for tensor in file.tensors.values()}
    made = [k for k, v in state.items() if k.endswith(SAMPLED) and v.untyped_storage().data_ptr() not in mapped]
    if made:
        raise _misfit(network, file, [f"its {made[0]} would have to be interpolated"])
    return state


def _misfit(network: nn.Module, file: WeightsFile, reasons: list[str]) -> UserError:
    """Says what the file is, what the network is not, and the first misfit."""
    if not recognise.is_vit(file.shapes) and file.kind is not None:
        return UserError(f"{file.path} does not fit this network: it is {file.kind}; give the encoder's own file")
    own = recognise.sizes_of(recognise.shapes_of(network.state_dict()))
    if "fc_norm.weight" in file.shapes and "norm.weight" not in file.shapes:
        reasons = ["it was fine-tuned on averaged tokens, its norm (fc_norm) is for their average", *reasons]
    said = recognise.size_differences(recognise.sizes_of(file.shapes), own) if recognise.is_vit(file.shapes) else []
    what = [f"it is {file.kind}"] if file.kind else []
    advice = "give the encoder's own file, or name the encoder that this one is of"
    return UserError(f"{file.path} does not fit this network: {'; '.join([*what, *said, *reasons, advice])}")


def _check_origin(file: WeightsFile, published: Published | None) -> None:
    """Raises UserError for a file that fits and is not the published method's own."""
    classes = recognise.classes_of(file.shapes)
    name = {"mae": "MAE's", "ijepa": "I-JEPA's", None: ""}[published]
    if published and classes is not None:
        raise UserError(
            f"{file.path} is a fine-tuned classifier, its head of {classes} classes is left over; give {name} own pretrained "
            "file, or name another timm model"
        )
    if published == "mae" and file.part == "target_encoder":
        raise UserError(f"{file.path} is I-JEPA's file (it holds a target_encoder); give {name} own")


def _check_heads(network: nn.Module, file: WeightsFile) -> None:
    """Raises UserError where the file tells of other attention heads; its tensors alone can't."""
    own, said = heads_of(network), file.heads
    if own is not None and said is not None and own != said:
        raise UserError(
            f"{file.path} does not fit this network: it tells of {said} heads, not {own}; give --heads {said}"
        )


def heads_of(network: nn.Module) -> int | None:
    """Attention heads of a ViT's first block; None where it does not tell."""
    heads = getattr(getattr(next(iter(getattr(network, "blocks", ())), None), "attn", None), "num_heads", None)
    return int(heads) if heads is not None else None


def _check_numbers(loaded: Mapping[str, Tensor], path: Path) -> None:
    """Raises UserError for numbers that are not finite, and for matrices that are all zero."""
    zero = True
    for name, tensor in loaded.items():
        if not tensor.numel() or not tensor.is_floating_point():
            continue
        low, high = (float(end) for end in torch.aminmax(tensor))
        if not (abs(low) < float("inf") and abs(high) < float("inf")):  # NaN compares with nothing
            raise UserError(f"{path} is damaged: {name} holds NaN or infinity; fetch the file again")
        zero = zero and (tensor.ndim < 2 or low == high == 0)
    if zero:
        raise UserError(f"{path} is an empty shell: all its matrices are zero; give trained weights")


def _notices(file: WeightsFile) -> list[str]:
    """What the user should know of a file that fits."""
    said = []
    if file.part == "encoder" and "target_encoder" not in file.beside:
        said.append(f"{file.path.name} holds no target_encoder: the context encoder is taken")
    classes = recognise.classes_of(file.shapes)
    if classes is not None:
        said.append(f"{file.path.name} is a classifier's file: its head of {classes} classes is left out")
    return said


# ---- of artefacts, which can come from anyone


def built(build: Callable[[Json], Network], facts: Json, path: Path) -> Network:
    """The network that an artefact tells of beside the weights at `path`. Raises DamagedError where it can't be one."""
    try:
        if any(isinstance(n, int) and n > path.stat().st_size for n in facts.values()):
            raise ValueError("larger than its weights")
        return build(facts)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise DamagedError(f"what {path.parent} tells of its network can't be ({error}); no stage wrote it") from None


def restored(build: Callable[[Json], Network], facts: Json, path: Path) -> Network:
    """The same with its weights. Raises DamagedError where they are not its own."""
    from safetensors.torch import load_file

    network = built(build, facts, path)
    try:
        network.load_state_dict(load_file(str(path)))
    except RuntimeError:
        raise DamagedError(f"{path} holds the weights of another network; no stage wrote it so") from None
    return network
