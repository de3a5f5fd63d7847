"""What a frozen image encoder keeps and what it throws away, measured by learning to generate from its embeddings.

A stage is a question, and an artefact its answer. Ask in Python as in the shell:

    import embprobe

    store = embprobe.Store("embstore")
    faces = embprobe.make(embprobe.Ingest(source="faces", size=64), store)
    tokens = embprobe.make(embprobe.Extract(images=faces, encoder="pixels"), store)
    embprobe.Embeddings(tokens).array[:4]           # numpy, read and checked as it is asked for
    embprobe.run("imagenette64", store, images="photos.zip")

Stages, in the order of the flow: Ingest, Pretrain, Extract, Compress, Diffuse, Decode, Classify, Featurize, Sample,
Measure, Evaluate, Probe, Report. Their fields are the options of the commands, and `help(embprobe.Extract)` lists them.

Views of what they make: Images, Embeddings, Latents, Denoiser, Decoder, Samples, Features, Evaluation, Probing.

Importing embprobe loads neither torch nor zarr. Errors are those of `embprobe.errors`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embprobe.make import make as make
    from embprobe.recipe import run as run
    from embprobe.stages import (
        Classify as Classify,
        Compress as Compress,
        Decode as Decode,
        Diffuse as Diffuse,
        Evaluate as Evaluate,
        Extract as Extract,
        Featurize as Featurize,
        Ingest as Ingest,
        Measure as Measure,
        Pretrain as Pretrain,
        Probe as Probe,
        Report as Report,
        Sample as Sample,
    )
    from embprobe.store import Artefact as Artefact, Store as Store
    from embprobe.views import (
        Decoder as Decoder,
        Denoiser as Denoiser,
        Embeddings as Embeddings,
        Evaluation as Evaluation,
        Features as Features,
        Images as Images,
        Latents as Latents,
        Probing as Probing,
        Samples as Samples,
    )

__version__ = "0.1.0"

STAGES = (
    *("Ingest", "Pretrain", "Extract", "Compress", "Diffuse", "Decode", "Classify", "Featurize", "Sample"),
    *("Measure", "Evaluate", "Probe", "Report"),
)
VIEWS = ("Images", "Embeddings", "Latents", "Denoiser", "Decoder", "Samples", "Features", "Evaluation", "Probing")
HOMES = {
    **{"Store": "store", "Artefact": "store", "make": "make", "run": "recipe"},
    **dict.fromkeys(STAGES, "stages"),
    **dict.fromkeys(VIEWS, "views"),
}
__all__ = ["Artefact", "Store", "make", "run", *STAGES, *VIEWS]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    """What is asked for, imported when it is: nothing heavy before."""
    if name in HOMES:
        return getattr(import_module(f"embprobe.{HOMES[name]}"), name)
    raise AttributeError(f"module 'embprobe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
