"""The stages, in the order of the flow."""

from embprobe.stage import Stage
from embprobe.stages.ceiling import Ceiling
from embprobe.stages.classify import Classify
from embprobe.stages.compress import Compress
from embprobe.stages.decode import Decode
from embprobe.stages.diffuse import Diffuse
from embprobe.stages.evaluate import Evaluate
from embprobe.stages.extract import Extract
from embprobe.stages.features import Featurize
from embprobe.stages.ingest import Ingest
from embprobe.stages.measure import Measure
from embprobe.stages.predict import Predict
from embprobe.stages.pretrain import Pretrain
from embprobe.stages.probe import Probe
from embprobe.stages.read import Read
from embprobe.stages.report import Report
from embprobe.stages.sample import Sample

__all__ = [
    "FLOW",
    "INGEST",
    "STAGES",
    "Ceiling",
    "Classify",
    "Compress",
    "Decode",
    "Diffuse",
    "Evaluate",
    "Extract",
    "Featurize",
    "Ingest",
    "Measure",
    "Predict",
    "Pretrain",
    "Probe",
    "Read",
    "Report",
    "Sample",
]

FLOW: tuple[type[Stage], ...] = (
    Ingest,
    Pretrain,
    Extract,
    Compress,
    Diffuse,
    Decode,
    Predict,
    Classify,
    Featurize,
    Sample,
    Measure,
    Evaluate,
    Ceiling,
    Read,
    Probe,
    Report,
)
STAGES: dict[str, type[Stage]] = {stage.name(): stage for stage in FLOW}
INGEST = Ingest
