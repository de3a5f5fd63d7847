"""The stages, in the order of the flow."""

from importlib import import_module

ORDER = (
    "ingest", "pretrain", "extract", "compress", "diffuse", "decode", "classify", "sample", "evaluate", "probe", "report",
)  # fmt: skip


def _load() -> dict:
    import importlib.util

    found = {}
    for name in ORDER:
        if importlib.util.find_spec(f"embprobe.stages.{name}"):
            found[name] = getattr(import_module(f"embprobe.stages.{name}"), name.capitalize())
    return found


STAGES = _load()
INGEST = STAGES["ingest"]
