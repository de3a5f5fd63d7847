"""Artefacts on disk; the only folder that touches Zarr and paths inside the store."""

from embprobe.store.array import Array
from embprobe.store.artefact import Artefact
from embprobe.store.files import CHECKSUMS, MANIFEST, Json, Ledger, digest, file_digest, write_whole
from embprobe.store.store import Store

__all__ = [
    "CHECKSUMS",
    "MANIFEST",
    "Array",
    "Artefact",
    "Json",
    "Ledger",
    "Store",
    "digest",
    "file_digest",
    "write_whole",
]
