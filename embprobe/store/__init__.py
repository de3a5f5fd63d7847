"""Artefacts on disk; the only room that touches Zarr and knows the paths inside a store."""

from embprobe.store.array import Array
from embprobe.store.artefact import Artefact
from embprobe.store.files import Folder, Json, digest
from embprobe.store.store import Store

__all__ = ["Array", "Artefact", "Folder", "Json", "Store", "digest"]
