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

if TYPE_CHECKING:  # what type checkers and editors see; at run time names are imported when they are asked for
    from embprobe.making import make
    from embprobe.recipe import run
    from embprobe.stages.classify import Classify
    from embprobe.stages.compress import Compress
    from embprobe.stages.decode import Decode
    from embprobe.stages.diffuse import Diffuse
    from embprobe.stages.evaluate import Evaluate
    from embprobe.stages.extract import Extract
    from embprobe.stages.features import Featurize
    from embprobe.stages.ingest import Ingest
    from embprobe.stages.measure import Measure
    from embprobe.stages.pretrain import Pretrain
    from embprobe.stages.probe import Probe
    from embprobe.stages.report import Report
    from embprobe.stages.sample import Sample
    from embprobe.store import Artefact, Store
    from embprobe.views import Decoder, Denoiser, Embeddings, Evaluation, Features, Images, Latents, Probing, Samples

__version__ = "0.1.0"

HOMES = {
    **dict.fromkeys(("Store", "Artefact"), "store"),
    **{"make": "making", "run": "recipe"},
    **dict.fromkeys(
        (*("Ingest", "Pretrain", "Extract", "Compress", "Diffuse", "Decode", "Classify", "Featurize", "Sample"),
         *("Measure", "Evaluate", "Probe", "Report")),
        "stages",
    ),
    **dict.fromkeys(
        ("Images", "Embeddings", "Latents", "Denoiser", "Decoder", "Samples", "Features", "Evaluation", "Probing"), "views"
    ),
}  # fmt: skip
__all__ = [
    "Artefact",
    "Classify",
    "Compress",
    "Decode",
    "Decoder",
    "Denoiser",
    "Diffuse",
    "Embeddings",
    "Evaluate",
    "Evaluation",
    "Extract",
    "Features",
    "Featurize",
    "Images",
    "Ingest",
    "Latents",
    "Measure",
    "Pretrain",
    "Probe",
    "Probing",
    "Report",
    "Sample",
    "Samples",
    "Store",
    "make",
    "run",
]


def __getattr__(name: str) -> object:
    """What is asked for, imported when it is: nothing heavy before."""
    if name in HOMES:
        return getattr(import_module(f"embprobe.{HOMES[name]}"), name)
    raise AttributeError(f"module 'embprobe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
