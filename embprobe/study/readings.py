"""What readers find in embeddings, as rows: one for each encoder, and one for what stands in another place than its own."""

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRIC
from embprobe.study.facts import estimates_of, is_untrained, source_name
from embprobe.study.reading import Study
from embprobe.study.rows import Row
from embprobe.views import Embeddings, Probing

PAIRED = "cka"  # of an encoder and another one
BY_TEXT = ("image_to_text_r1", "text_to_image_r1")  # of an encoder and a text encoder


def reader_rows(study: Study) -> list[Row]:
    """What readers find in each encoder's embeddings, what the latents keep of them, and the decoder's PSNR; then bounds."""
    values: dict[tuple[Embeddings, str], dict[str, Estimate]] = {}
    for evaluation in study.final:
        samples = evaluation.samples
        mine = values.setdefault((samples.embeddings, ""), {})
        for key, value in (("psnr", samples.decoder.psnr), ("r2", samples.denoiser.latents.r2)):
            if value is not None:
                mine.setdefault(key, Estimate(value))
    for probing in study.probings:
        read = estimates_of({k: v for k, v in probing.results.items() if k in METRIC})
        pair = {PAIRED: read.pop(PAIRED)} if PAIRED in read else {}
        by_text = {k: read.pop(k) for k in BY_TEXT if k in read}
        values.setdefault((probing.embeddings, fitted_words(study, probing)), {}).update(read)
        if probing.beside is not None:
            values.setdefault((probing.embeddings, f"beside {study.label(probing.beside)}"), {}).update(pair)
        if by_text:
            values.setdefault((probing.embeddings, text_words(probing)), {}).update(by_text)
    rows = [
        Row(study.label(embeddings), mine, kind="embeddings", how=how, control=is_untrained(embeddings))
        for (embeddings, how), mine in values.items()
        if mine
    ]
    return rows + bounds(study)


def fitted_words(study: Study, probing: Probing) -> str:
    """On which other data set readers were fitted, in words; nothing where on the own."""
    if probing.fitted is None:
        return ""
    images = probing.fitted.images.artefact
    return f"fitted on {study.aliases.get(images.fingerprint) or source_name(images)}"


def text_words(probing: Probing) -> str:
    """Which text encoder read captions, and whether images went by its own head, in words."""
    own = any((probing.results.get(key) or {}).get("zero_shot") for key in BY_TEXT)
    return f"captions by {probing.text}" + (", zero-shot" if own else "")


def bounds(study: Study) -> list[Row]:
    """What readings are set against: a guess by the means, a network on pixels, a random ranking of captions.

    The first two once for each data set and grid, the last for each data set.
    """
    found: dict[str, Row] = {}
    for probing in study.probings:
        figures = {k: v for k, v in probing.results.items() if k in METRIC and isinstance(v, dict)}
        every = {k: v for k, v in figures.items() if v.get("ceiling")}
        guess = {k: Estimate.of(v).floor for k, v in every.items()}
        floor = {k: estimate for k, estimate in guess.items() if estimate is not None}
        ceiling = {k: Estimate.of(v["ceiling"]) for k, v in every.items()}
        ranked = {k: Estimate(figures[k]["chance"]) for k in BY_TEXT if k in figures}
        patches = f"patches {'×'.join(map(str, probing.embeddings.grid))}" if every else ""
        captions = next((f"{figures[k]['captions']} captions" for k in ranked), "")
        for label, values, how in (
            ("floor: the means", floor, patches),
            ("ceiling: a network on pixels", ceiling, patches),
            ("chance: a random ranking", ranked, captions),
        ):
            if values:
                key = f"{label} {how} {probing.embeddings.images.short}"
                found.setdefault(key, Row(label, values, kind="bound", how=how))
    return list(found.values())
