"""What is written of every image of a data set: key, split, class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embprobe.store import Artefact


def write_rows(
    out: Artefact, keys: Sequence[str], splits: Sequence[int], ids: Sequence[int] | None, classes: Sequence[str]
) -> None:
    """Writes what is known of every image before it is decoded."""
    out.write_lines("key.jsonl", keys)
    write_column(out, "split", np.array(splits), "uint8")
    if ids is not None:
        out.write_json("classes.json", list(classes))
        write_column(out, "label", np.array(ids), "int32")


def write_column(out: Artefact, name: str, values: NDArray[np.generic], dtype: str) -> None:
    """Writes an array that is small beside the images."""
    out.create(name, values.shape, dtype).write(values)
