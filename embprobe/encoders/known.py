"""What encoders there are to choose from, without loading any."""

from dataclasses import dataclass

from embprobe.encoders import names
from embprobe.encoders.box import BOX


@dataclass(frozen=True)
class EncoderRow:
    """What is known of an encoder before it is loaded; None where it depends on the images or the package."""

    name: str
    source: str
    size: int | None
    grid: int | None
    width: int | None
    licence: str | None
    here: bool | None  # whether the weights are on this machine; None where there are none to have


def known_encoders() -> list[EncoderRow]:
    """Every encoder that has a name, and each family of names; touches no network."""
    rows = [
        EncoderRow(
            *(row.short, f"timm:{row.timm}", row.size, row.size // row.patch, row.width, row.licence),
            here=names.hub_file(row.short, download=False) is not None,
        )
        for row in names.SHORT_NAMES.values()
    ]
    rows += [
        EncoderRow(name, "comes with embprobe", b.size, b.grid, b.width, b.licence, b.file.is_file())
        for name, b in BOX.items()
    ]
    rows.append(EncoderRow("timm:NAME", "any ViT of timm", None, None, None, None, None))
    rows.append(EncoderRow("FILE", "weights of a plain ViT, in timm's names", None, None, None, None, None))
    rows.append(EncoderRow("FOLDER", "config.json and model.safetensors", None, None, None, None, None))
    rows.append(EncoderRow("pixels[:PATCH]", "the images' own patches", None, None, None, None, None))
    rows.append(EncoderRow("random:NAME", "an untrained ViT, of timm or vit-96x4-h4-p8", None, None, None, None, None))
    for name in names.families():
        rows.append(EncoderRow(f"{name}:NAME", names.family_version(f"{name}:") or name, None, None, None, None, None))
    return rows
