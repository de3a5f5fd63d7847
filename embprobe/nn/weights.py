"""The one reader of weights files that others made: nothing in them is run, and every tensor must fit."""

import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from embprobe.errors import DamagedError, UserError
from embprobe.store import Json

Network = TypeVar("Network", bound=nn.Module)
IGNORED_KEYS = ("head", "fc_norm", "decoder", "mask_token", "predictor", "attn_pool")  # patch tokens don't need them
WRAPPERS = (
    "target_encoder",
    "model",
    "state_dict",
    "encoder",
)  # where official files keep the network, first one first


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file; official I-JEPA and MAE files are unwrapped (the target encoder, the model).

    Nothing in the file is executed. Raises UserError for a file that is not there, not weights, or holds code.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}; check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(str(path)))
        check_packing(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} holds more than tensors (code, perhaps) and is not loaded; save its state dict alone"
        ) from None
    except Exception as error:  # safetensors and torch raise many kinds; whatever it was, the file is no weights file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise UserError(f"{path} is no weights file that can be read ({reason})") from None
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"{path} holds no state dict; give a file of named tensors")
    return {str(k).removeprefix("module.").removeprefix("backbone."): v for k, v in content.items()}


def check_packing(path: Path) -> None:
    """Raises UserError for a zip that unpacks to more than it is: torch.save packs nothing."""
    if not path.stat().st_size:
        raise UserError(f"{path} is empty; give a file of named tensors")
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise UserError(f"{path} is packed, or its parts overlap; save its state dict again with torch.save")


def load_into(network: nn.Module, path: Path) -> None:
    """Loads a weights file into a ViT; every parameter that patch tokens depend on must be there. Raises UserError."""
    try:
        state = _as_timm_names_them(network, read_weights(path))
        own = network.state_dict()
        if "cls_token" not in own and "cls_token" in state:
            raise UserError(
                f"{path} was made with a class token, this network has none; name the timm model it belongs to"
            )
        wrong = [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
        missing = [k for k in own if k not in state and not k.startswith(_ignored(network))]
        surplus = [k for k in state if k not in own and not k.startswith(IGNORED_KEYS)]
    except (KeyError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path} does not fit this network ({error})") from None
    if wrong or missing or surplus:
        reasons = [f"{k} is {tuple(state[k].shape)}, not {tuple(own[k].shape)}" for k in wrong[:1]]
        reasons += [f"{k} is missing" for k in missing[:1]] + [f"{k} is not of it" for k in surplus[:1]]
        raise UserError(f"{path} does not fit this network: {'; '.join(reasons)}")
    # copied in the network's own precision
    network.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)


def uses_fc_norm(network: nn.Module) -> bool:
    """Whether the network normalises only after pooling (EVA-02, BEiT): then that norm is applied to each token."""
    return isinstance(getattr(network, "norm", None), nn.Identity) and not isinstance(
        getattr(network, "fc_norm", nn.Identity()), nn.Identity
    )


def _ignored(network: nn.Module) -> tuple[str, ...]:
    return tuple(k for k in IGNORED_KEYS if k != "fc_norm") if uses_fc_norm(network) else IGNORED_KEYS


def _as_timm_names_them(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official names and shapes as timm has them, by the model family's own filter, where it has one."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    return state if convert is None else dict(convert(dict(state), network))


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
