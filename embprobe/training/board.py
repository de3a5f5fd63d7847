"""A training's log as TensorBoard shows it: scalars as they come, grids of the images that were kept."""

from pathlib import Path
from typing import TYPE_CHECKING

from embprobe.errors import UserError
from embprobe.store import Artefact, Json

if TYPE_CHECKING:
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

COLUMNS = 8  # images side by side


def writer(folder: Path, out: Artefact, *, since: int | None = None) -> "SummaryWriter":
    """Writes below FOLDER/STAGE-FINGERPRINT; what was written of later steps than `since` is taken back.

    Raises UserError where TensorBoard is not installed or the folder can't be written.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("--tensorboard needs tensorboard; pip install 'embprobe[tensorboard]'") from None
    try:
        return SummaryWriter(str(place_of(folder, out)), purge_step=since)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise UserError(f"--tensorboard {folder} can't be written ({error.strerror}); give another folder") from None


def place_of(folder: Path, out: Artefact) -> Path:
    """Where the events of an artefact lie."""
    return folder / f"{out.stage}-{out.short}"


class Board:
    """Scalars of one training, from where an earlier run ended."""

    def __init__(self, folder: Path, out: Artefact, step: int) -> None:
        fresh = not place_of(folder, out).exists()
        self.writer = writer(folder, out, since=None if fresh else step + 1)
        if fresh:
            add_rows(self.writer, out.log.rows())

    def row(self, step: int, values: dict[str, float]) -> None:
        """The scalars of a step."""
        add_rows(self.writer, [{"step": step, **values}])
        self.writer.flush()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Ends the file."""
        self.writer.close()  # type: ignore[no-untyped-call]


def add_rows(to: "SummaryWriter", rows: list[dict[str, Json]]) -> None:
    """Rows of a log: every number by its name, at its step."""
    for row in rows:
        step = row.get("step")
        if not isinstance(step, int):
            continue
        for name, value in row.items():
            if name not in ("step", "images") and isinstance(value, (int, float)):
                to.add_scalar(name, value, step)  # type: ignore[no-untyped-call]


def show_whole(folder: Path, out: Artefact) -> None:
    """A finished training as a whole, once: the scalars of its log, and its snapshots as a grid a step."""
    import numpy as np

    there = place_of(folder, out).exists()
    if there and (place_of(folder, out) / ".whole").exists():
        return
    to = writer(folder, out)
    if not there:
        add_rows(to, out.log.rows())
    if out.has("snapshots"):
        kept = out.array("snapshots")
        for step, images in zip(kept.attrs["steps"], kept.read(), strict=True):
            to.add_image("reconstructions", sheet(np.asarray(images)), int(step), dataformats="HWC")  # type: ignore[no-untyped-call]
    to.close()  # type: ignore[no-untyped-call]
    (place_of(folder, out) / ".whole").touch()


def sheet(images_NHWC: "np.ndarray") -> "np.ndarray":
    """Images side by side, u8 (H,W,3)."""
    from embprobe.page.pictures import grid

    return grid(images_NHWC, COLUMNS)
