"""What is known of every image of a set, beside its pixels, as `ingest` stores it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from embprobe.store import Artefact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_rows(
    out: Artefact, keys: Sequence[str], splits: Sequence[int], ids: Sequence[int] | None, classes: Sequence[str]
) -> None:
    """Writes what is known of every image before it is decoded."""
    import numpy as np

    out.write_lines("key.jsonl", keys)
    write_column(out, "split", np.array(splits), "uint8")
    if ids is not None:
        out.write_json("classes.json", list(classes))
        write_column(out, "label", np.array(ids), "int32")


def write_column(out: Artefact, name: str, values: "NDArray[np.generic]", dtype: str) -> None:
    """Writes an array that is small beside the images."""
    out.create(name, values.shape, dtype).write(values)
