"""Where weights are kept on the way; needs no torch."""

from embprobe.store import Artefact
from embprobe.views import log_spaced

__all__ = ["log_spaced", "milestone_name", "milestone_steps"]


def milestone_name(step: int) -> str:
    """The file of a milestone, relative to the artefact."""
    return f"milestones/step_{step:08d}.safetensors"


def milestone_steps(artefact: Artefact) -> list[int]:
    """Steps at which an artefact keeps weights."""
    return [int(name.split("_")[-1].split(".")[0]) for name in artefact.files("milestones")]
