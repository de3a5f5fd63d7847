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
    "sample": "samples",
    "classify": "judge's training",
}
JUDGING = "judging and reading"  # the rest
HEADERS = (
    "what", "encoder", "parameters", "steps", "images seen", "time", "peak memory", "device", "images",
)  # fmt: skip


def budget(study: Study) -> str:
    """A row for each kind of work on each encoder, and how long all of it took on which kind of device."""
    owners = owned(study)
    groups: dict[tuple[str, str], list[Artefact]] = {}
    for artefact in in_order(study.all):
        if artefact.complete:
            word = WORDS.get(artefact.stage, JUDGING)
            groups.setdefault((word, "" if word == JUDGING else owners.get(artefact, "")), []).append(artefact)
    names = list(dict.fromkeys(name for _, name in groups))
    order = sorted(groups, key=lambda key: ([*WORDS.values(), JUDGING].index(key[0]), names.index(key[1])))
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


def _line(word: str, owner: str, artefacts: Sequence[Artefact]) -> list[Cell]:
    """The work of one kind on one encoder."""
    metrics = [a.metrics for a in artefacts]
    seconds = sum(a.manifest["seconds"] for a in artefacts)
    peaks = [(a.manifest.get("device_peak_bytes") or 0, a.manifest["peak_bytes"]) for a in artefacts]
    of_device, peak = (max(part) for part in zip(*peaks, strict=True))
    memory = console.size(peak) + (f" and {console.size(of_device)} of the GPU's" if of_device else "")
    trained = [a for a in artefacts if a.metrics.get("images_seen")]
    return [
        Cell(word, f"× {len(artefacts)}" if len(artefacts) > 1 else ""),
        Cell(owner),
        _several([m["parameters"] for m in metrics if m.get("parameters")]),
        _several([int(a.options["steps"]) for a in trained]),
        _several([a.metrics["images_seen"] for a in trained]),
        Cell(console.duration(seconds), sort=seconds),
        Cell(memory, sort=peak),
        Cell(", ".join(dict.fromkeys(_device(a) for a in artefacts))),
        Cell(_images(artefacts)),
    ]


def _images(artefacts: Sequence[Artefact]) -> str:
    """The data sets that were worked on, with the training images of each; how many were drawn."""
    words = []
    for artefact in artefacts:
        if artefact.stage == "sample" and artefact.metrics.get("count"):
            words.append(f"{artefact.metrics['count']} drawn")
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
