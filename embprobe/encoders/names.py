"""How encoders are named: short names, the grammar of all others, families of other packages. No torch in here."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe.encoders.box import BOX, PREFIX, in_box
from embprobe.errors import UserError, did_you_mean
from embprobe.store.hashes import file_hash

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "embprobe.encoders"
WEIGHTS_FILE, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True)
class ShortName:
    """A published encoder that has a name of its own here."""

    short: str
    timm: str
    size: int  # side of its input in pixels
    patch: int
    width: int
    licence: str  # of the weights


SHORT_NAMES = {
    row.short: row
    for row in (
        ShortName("mae", "vit_huge_patch14_224.mae", 224, 14, 1280, "CC BY-NC 4.0"),
        ShortName("ijepa", "vit_huge_patch14_gap_224.in1k_ijepa", 224, 14, 1280, "CC BY-NC 4.0"),
        ShortName("dinov2", "vit_base_patch14_dinov2.lvd142m", 518, 14, 768, "Apache-2.0"),
        ShortName("dinov3", "vit_base_patch16_dinov3.lvd1689m", 256, 16, 768, "DINOv3 License"),
        ShortName("siglip2", "vit_base_patch16_siglip_224.v2_webli", 224, 16, 768, "Apache-2.0"),
        ShortName("supervised", "vit_base_patch16_224.augreg2_in21k_ft_in1k", 224, 16, 768, "Apache-2.0"),
    )
}
GRAMMAR = (
    f"{', '.join([*BOX, *SHORT_NAMES])}, timm:NAME[,img_size=96,…], vit-WIDTHxDEPTH-hHEADS-pPATCH with --weights, a ViT's "
    "weights file, a folder of transformers or timm with a config.json, a pretrain artefact, pixels[:PATCH], random:NAME"
)
SIZED = re.compile(r"vit-(\d+)x(\d+)-h(\d+)-p(\d+)")
"""vit-WIDTHxDEPTH-hHEADS-pPATCH: untrained ones follow the size and the channels of the images, trained ones their file."""
FILE, FOLDER = "vit", "folder"
"""What an encoder is called that was given as a weights file alone, or as a folder with a config.json."""
BUILT_IN = (*SHORT_NAMES, "pixels", FILE, FOLDER)
OTHERWISE = {
    **{short: f"timm:{short}" for short in SHORT_NAMES},
    **{name: f"{PREFIX}{name}" for name in BOX},
    "pixels": "pixels:PATCH",
}
"""Words that mean an encoder whatever artefacts are called, and how else each is written."""


def check_name(source: str) -> None:
    """Raises UserError unless the name follows the grammar; looks nothing up and imports no model."""
    if source in BUILT_IN or SIZED.fullmatch(source) or in_box(source):
        return
    prefix, _, rest = source.partition(":")
    if prefix == "random" and rest.startswith("vit-") and not SIZED.fullmatch(rest):
        raise UserError(
            f"{source} is no model of timm and no size of a ViT; write random:vit-WIDTHxDEPTH-hHEADS-pPATCH"
        )
    if rest and (prefix in ("timm", "random", "pixels") or prefix in families()):
        return
    if "/" in source or source.endswith((".pth", ".pt", ".safetensors", ".tar")):
        raise UserError(f"there is no encoder at {source}; give a ViT's weights file, or a folder with its config.json")
    known = [*SHORT_NAMES, *BOX, "pixels", "random:", "timm:", *(f"{name}:" for name in families())]
    others = "".join(f", {name}:NAME" for name in families())
    raise UserError(f'encoder "{source}" is unknown{did_you_mean(source, known)} (known: {GRAMMAR}{others})')


def with_options(name: str) -> tuple[str, dict[str, str]]:
    """timm's name and what is asked of it: `vit_tiny,img_size=96` → (vit_tiny, {img_size: 96}). Raises UserError."""
    name, *words = name.split(",")
    parts = (word.partition("=") for word in words)
    options = {key: value for key, _, value in parts}
    wrong = next((key for key, value in options.items() if not key.isidentifier() or not value), None)
    if wrong is not None:
        raise UserError(f"{name} is followed by {wrong!r}; options of timm are KEY=VALUE, such as {name},img_size=96")
    return name, options


def full_name(source: str) -> str:
    """The one name of an encoder: `mae`, `timm:mae` and `timm:vit_huge_patch14_224.mae` all give the last.

    Raises UserError for a name outside the grammar.
    """
    check_name(source)
    name = timm_name(source)
    return source if name is None else f"timm:{name}"


def timm_name(source: str) -> str | None:
    """timm's own name of an encoder, options and all; None for one that is not timm's, or has no weights of timm's."""
    name, *options = source.removeprefix("timm:").split(",")
    if name in SHORT_NAMES:
        name = SHORT_NAMES[name].timm
    elif not source.startswith("timm:"):
        return None
    return ",".join([name, *sorted(options)])


def published_by(name: str) -> Literal["mae", "ijepa"] | None:
    """The method of whose authors timm's checkpoint of that name is; None for others, and where there is no tag."""
    tag = name.partition(".")[2]
    return "ijepa" if "ijepa" in tag else "mae" if tag == "mae" else None


def is_control(source: str) -> bool:
    """Whether it learned nothing: raw pixels, or a network as it was drawn."""
    return source.partition(":")[0] in ("pixels", "random")


def is_own(source: str) -> bool:
    """Whether it is in a file or folder of the user's, and in none that has a name here."""
    return source in (FILE, FOLDER) or SIZED.fullmatch(source) is not None


def pixel_patch(source: str, size: tuple[int, int]) -> int:
    """The patch side of `pixels[:PATCH]` for images of this height and width. Raises UserError where none fits."""
    word = source.partition(":")[2]
    shorter = min(size)
    default = 8 if shorter <= 112 else 14 if not any(side % 14 for side in size) else 16
    patch = int(word) if word.isdecimal() and len(word) < 9 else default
    if (word and word != str(patch)) or not patch or any(side % patch for side in size):
        shown = size[0] if size[0] == size[1] else f"{size[0]}×{size[1]}"
        raise UserError(
            f"encoder {source!r} can't cut images of {shown} px into patches; give pixels:N where N divides {shown}"
        )
    return patch


def called(word: str, weights: str | None) -> str:
    """What people call an encoder: its name, or the file or folder that a user's own lay in."""
    if not (is_own(word) and weights):
        return word
    return Path(weights).parent.name if word == FOLDER else Path(weights).name.split(".")[0]


def takes(source: str) -> tuple[str, ...]:
    """What may be given of an encoder that its name and its file do not tell."""
    if timm_name(source) is not None:
        return "mean", "std", "heads", "input_size", "use", "resolution"
    if source == FOLDER:
        return "mean", "std", "resolution"
    return ("mean", "std", *(("heads",) if source == FILE else ()), "use", "resolution") if is_own(source) else ()


def draws(source: str) -> bool:
    """Whether a seed decides what it is."""
    return source.startswith("random:") or family_of(source) is not None


@cache
def families() -> "dict[str, EntryPoint]":
    """Encoders of other packages by the prefix of their names.

    A package offers one as an entry point of the group `embprobe.encoders`: NAME = "module:function", where
    function(name, *, image_size, channels, weights, seed) gives the Encoder of `NAME:name`.
    """
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def family_of(source: str) -> "EntryPoint | None":
    """The family of another package that the name belongs to; None for embprobe's own."""
    return families().get(source.partition(":")[0]) if ":" in source else None


def family_version(source: str) -> str | None:
    """distribution==version of the package whose family the name belongs to; None for embprobe's own."""
    family = family_of(source)
    if family is None or family.dist is None:
        return None
    return f"{family.dist.name}=={family.dist.version}"


# ---- folders that transformers or timm saved


def weights_in(folder: Path) -> Path:
    """The weights file of a folder with a config.json. Raises UserError for a folder without both."""
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} is no encoder: it has no {CONFIG}; give a weights file, or a folder that has one")
    if not (folder / WEIGHTS_FILE).is_file():
        raise UserError(f"{folder} has no {WEIGHTS_FILE}; save the network there in one piece with `save_pretrained`")
    return folder / WEIGHTS_FILE


def told_beside(weights: Path) -> dict[str, str]:
    """The content of what a folder tells beside its weights, by file."""
    told = (weights.parent / name for name in (CONFIG, PREPROCESSOR))
    return {file.name: file_hash(file) for file in told if file.is_file()}


def text_files(folder: Path) -> dict[str, str]:
    """The content of a text encoder's folder, by file. Raises UserError for one without weights or tokenizer."""
    weights = weights_in(folder)
    if not (folder / TOKENIZER).is_file():
        raise UserError(f"{folder} has no {TOKENIZER}; save the tokenizer there with `save_pretrained`")
    return {file.name: file_hash(file) for file in (weights, folder / CONFIG, folder / TOKENIZER)}


def caption_files(folder: Path) -> dict[str, str]:
    """`text_files`, and what tells how whole captions are padded, where it is there."""
    told = folder / TOKENIZER_CONFIG
    return text_files(folder) | ({told.name: file_hash(told)} if told.is_file() else {})


# ---- weights of timm models, from the Hugging Face hub


def hub_file(source: str, *, download: bool) -> Path | None:
    """The weights file of a timm encoder on this machine, fetched if asked, or of one in the box; None for other encoders,
    or if absent.

    Looks into the Hugging Face cache first, which needs neither torch nor a network. Raises UserError for a name that
    timm does not know and for a file that can't be fetched.
    """
    asked, own = timm_name(source), in_box(source)
    if asked is None:
        return own.file if own else None
    name = with_options(asked)[0]
    cached = _cached(f"timm/{name}")
    if cached is not None or not download:
        return cached
    repository = _repository(name)
    return _cached(repository) or _fetched(name, repository)


def from_hub(path: Path) -> bool:
    """Whether a weights file is one that the Hugging Face cache holds."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) in path.parents


def _cached(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        file = try_to_load_from_cache(repository, WEIGHTS_FILE)
    except ValueError:  # no name that a repository can have
        return None
    return Path(file) if isinstance(file, str) else None


def _repository(name: str) -> str:
    """The hub's repository of a timm model, whose tag may be left out."""
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"timm has no model {name!r}{did_you_mean(name, timm.list_models())}")
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        config = None
    if config is None:
        raise UserError(f"timm has no weights for {name!r}; give a file with --weights, or use random:{name}")
    repository: str = config.hf_hub_id or f"timm/{name}"
    return repository


def _fetched(name: str, repository: str) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(repository, WEIGHTS_FILE), timeout=10)  # fails at once without a network
        return Path(hf_hub_download(repository, WEIGHTS_FILE))
    except Exception as error:  # httpx, OSError and the hub's own: whatever it was, the file is not here
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(
            f"the weights of {name} could not be fetched ({reason}); download {WEIGHTS_FILE} of {repository} from "
            "huggingface.co where there is a network and give the file with --weights"
        ) from None
