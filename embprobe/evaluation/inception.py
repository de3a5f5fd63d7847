"""Where Inception's weights lie, as clean-fid uses them; no torch in here."""

import os
from pathlib import Path

from embprobe.errors import UserError

INCEPTION = "inception-2015-12-05.pt"
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"


def inception_file() -> Path:
    """Where Inception's weights lie. Raises UserError that says how to place them."""
    folder = os.environ.get("EMBPROBE_WEIGHTS")  # /tmp is where clean-fid itself puts the file
    places = [Path(p) / INCEPTION for p in (folder, Path.home() / ".cache" / "embprobe", "/tmp") if p]
    for path in places:
        if path.is_file():
            return path
    raise UserError(
        f"Inception's weights {INCEPTION} are not here; fetch them where there is a network (clean-fid downloads them to "
        f"/tmp) and put them in {places[-2].parent}, or set EMBPROBE_WEIGHTS to their folder"
    )


def inception_there() -> bool:
    """Whether Inception can be used without a download."""
    try:
        return inception_file().is_file()
    except UserError:
        return False
