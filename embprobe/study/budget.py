"""What a study cost: data, steps, parameters, time and memory of everything behind a page."""

from collections.abc import Sequence

from embprobe import console
from embprobe.encoders import names
from embprobe.metrics.table import significant
from embprobe.page import html
from embprobe.page.html import Cell
from embprobe.store import Artefact
from embprobe.study.facts import encoder_label, source_name
from embprobe.study.provenance import in_order
from embprobe.study.reading import Study
from embprobe.views import Embeddings

WORDS = {
    "ingest": "data set",
    "pretrain": "encoder's training",
    "extract": "encoder, embeddings",
    "compress": "VAE",
    "diffuse": "denoiser",
    "decode": "decoder",
    "classify": "judge's training",
    "sample": "samples",
    "features": "judges' features",
    "measure": "figures",
    "probe": "readers",
}
HEADERS = ("what", "encoder", "runs", "images", "steps", "images seen", "parameters", "hours", "peak memory", "device")


def budget(study: Study) -> str:
    """A row for each kind of work on each encoder, and how long all of it took on which kind of device."""
    owners = owned(study)
    groups: dict[tuple[str, str], list[Artefact]] = {}
    for artefact in in_order(study.all):
        if artefact.complete and artefact.stage in WORDS:
            groups.setdefault((artefact.stage, owners.get(artefact, "")), []).append(artefact)
    order = sorted(groups, key=lambda key: list(WORDS).index(key[0]))
    rows = [_line(*key, groups[key]) for key in order]
    caption = f"In all {_total([a for mine in groups.values() for a in mine])}, by each artefact's own clock."
    return html.table(HEADERS, rows, caption=caption) if rows else ""


def owned(study: Study) -> dict[Artefact, str]:
    """The encoder that each artefact belongs to, where it belongs to one."""
    found: dict[Artefact, str] = {}
    for artefact in in_order(study.all):
        if artefact.stage == "extract":
            found[artefact] = study.label(Embeddings(artefact))
            encoder = artefact.inputs.get("encoder")
            if encoder is not None:
                found[encoder] = encoder_label(Embeddings(artefact), study.aliases)
        elif artefact.stage not in ("ingest", "pretrain", "classify"):
            mine = (found[a] for a in artefact.inputs.values() if a in found and a.stage != "pretrain")
            label = next(mine, "")
            found |= {artefact: label} if label else {}
    return found


def _line(stage: str, owner: str, artefacts: Sequence[Artefact]) -> list[Cell]:
    """The work of one kind on one encoder."""
    metrics = [a.metrics for a in artefacts]
    seconds = sum(a.manifest["seconds"] for a in artefacts)
    seen = [m["images_seen"] for m in metrics if m.get("images_seen")]
    peaks = [(a.manifest.get("device_peak_bytes") or 0, a.manifest["peak_bytes"]) for a in artefacts]
    of_device, peak = (max(part) for part in zip(*peaks, strict=True))
    memory = console.size(peak) + (f" and {console.size(of_device)} of the GPU's" if of_device else "")
    return [
        Cell(WORDS[stage]),
        Cell(owner),
        Cell(str(len(artefacts)), sort=len(artefacts)),
        Cell(_images(artefacts)),
        _several([int(a.options["steps"]) for a in artefacts if a.options.get("steps") and stage != "sample"]),
        _several(seen),
        _several([m["parameters"] for m in metrics if m.get("parameters")]),
        Cell(significant(seconds / 3600, 2), sort=seconds),
        Cell(memory, sort=peak),
        Cell(", ".join(dict.fromkeys(_device(a) for a in artefacts))),
    ]


def _images(artefacts: Sequence[Artefact]) -> str:
    """The data sets that were worked on, with the training images of each; how many were drawn."""
    words = []
    for artefact in artefacts:
        if artefact.stage == "sample":
            words.append(f"{artefact.metrics.get('count', '?')} drawn")
        for images in [artefact] if artefact.stage == "ingest" else artefact.inputs.values():
            if images.stage == "ingest" and images.complete:
                train = (images.metrics.get("splits") or {}).get("train")
                told = images.metrics["count"] if train is None else f"{images.metrics['count']}, {train} of train"
                words.append(f"{source_name(images)} ({told})")
    return "; ".join(dict.fromkeys(words))


def _several(counts: Sequence[int]) -> Cell:
    """A number, or the least and the most."""
    ends = sorted({min(counts), max(counts)}) if counts else []
    return Cell(" to ".join(f"{n:,}" for n in ends), sort=ends[-1]) if ends else Cell("–")


def _device(artefact: Artefact) -> str:
    return str((artefact.manifest.get("conditions") or {}).get("device", "cpu"))


def _total(artefacts: Sequence[Artefact]) -> str:
    """Hours of GPUs and of CPUs."""
    hours = {"GPU": 0.0, "CPU": 0.0}
    for artefact in artefacts:
        hours["CPU" if _device(artefact) == "cpu" else "GPU"] += artefact.manifest["seconds"] / 3600
    return " and ".join(f"{significant(value, 2)} {kind} hours" for kind, value in hours.items() if value)


# ---- who is to be cited

ENCODERS = ("ijepa", "mae", "dinov2", "dinov3", "siglip", "augreg")  # as timm's names tell them


def cited_encoders(study: Study) -> list[str]:
    """The methods of the encoders on the page, as far as they are known."""
    found = []
    for artefact in [a for a in study.all if a.stage == "extract"]:
        encoder = Embeddings(artefact).encoder
        name = encoder.options["objective"] if isinstance(encoder, Artefact) else names.timm_name(encoder) or ""
        found += [key for key in ENCODERS if key in str(name)][:1]
    return list(dict.fromkeys(found))
