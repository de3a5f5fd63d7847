"""Artefacts on disk; the only room that touches Zarr and knows the paths inside a store."""

from embprobe.store.array import Array, aligned, array_names
from embprobe.store.artefact import BESIDE, CHECKPOINTS, Artefact
from embprobe.store.files import Folder, digest
from embprobe.store.parts import Parts
from embprobe.store.rows import Rows
from embprobe.store.store import Store
from embprobe.store.trust import Json

__all__ = [
    "BESIDE",
    "CHECKPOINTS",
    "Array",
    "Artefact",
    "Folder",
    "Json",
    "Parts",
    "Rows",
    "Store",
    "aligned",
    "array_names",
    "digest",
]
