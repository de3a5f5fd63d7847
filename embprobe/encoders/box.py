"""Small encoders that come with embprobe, so that a first try needs no download: their files, and what they are."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "box"
PREFIX = "box:"  # before a name that is an alias of the user's too


@dataclass(frozen=True)
class Boxed:
    """A ViT that `pretrain` made, with its predictor in the same file."""

    file: Path
    size: int  # side of its input in pixels
    grid: int
    width: int
    licence: str


def in_box(word: object) -> Boxed | None:
    """What comes under this name; None for other words."""
    name = word.removeprefix(PREFIX) if isinstance(word, str) else ""
    return BOX.get(name)


BOX = {
    name: Boxed(FOLDER / f"{name}.safetensors", 64, 8, 128, "ImageNet's terms of access")
    for name in ("mae-tiny", "ijepa-tiny")
}
