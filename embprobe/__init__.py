"""What a frozen image encoder keeps and what it throws away, measured by learning to generate from its embeddings.

A stage is a question, and an artefact its answer. Ask in Python as in the shell:

    import embprobe

    store = embprobe.Store("embstore")
    faces = embprobe.make(embprobe.Ingest(source="faces", size=64), store)
    tokens = embprobe.make(embprobe.Extract(images=faces, encoder="pixels"), store)
    embprobe.Embeddings(tokens).array[:4]           # numpy, read and checked as it is asked for
    embprobe.run("imagenette64", store, images="photos.zip")
    embprobe.compare({"adm": "adm.npz", "mine": "folder"}, faces, store)

Every command that makes an artefact is a class here; its fields are the options, and `help(embprobe.Extract)` lists
them. Views such as `Images`, `Embeddings`, `Latents` and `Samples` say what an artefact holds. Importing embprobe loads
neither torch nor zarr. Errors are those of `embprobe.errors`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers and editors see; at run time names are imported when they are asked for
    from embprobe.making import make
    from embprobe.running import run
    from embprobe.running.comparing import compare
    from embprobe.stages import *  # noqa: F403
    from embprobe.store import Artefact, Store
    from embprobe.views import *  # noqa: F403

    __all__ = ["Artefact", "Store", "compare", "make", "run"]

__version__ = "0.1.0"

HOMES = {"compare": "running.comparing", "Artefact": "store", "Store": "store", "make": "making", "run": "running"}


def __getattr__(name: str) -> object:
    """What is asked for, imported when it is: nothing heavy before."""
    if name == "__all__":
        return __dir__()
    rooms = ("stages", "views") if name[:1].isupper() else ()  # a module's name is asked for here first: not its turn
    home = HOMES.get(name) or next((room for room in rooms if name in _classes(room)), None)
    if home is None:
        raise AttributeError(f"module 'embprobe' has no attribute {name!r}")
    return getattr(import_module(f"embprobe.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*HOMES, *_classes("stages"), *_classes("views")})


def _classes(room: str) -> list[str]:
    exported: list[str] = import_module(f"embprobe.{room}").__all__
    return [name for name in exported if name[0].isupper() and not name.isupper()]
