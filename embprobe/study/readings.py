"""What readers find in embeddings, as rows: one for each encoder, and one for what stands in another place than its own."""

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRIC
from embprobe.study.facts import estimates_of, is_untrained, source_name
from embprobe.study.reading import Study
from embprobe.study.rows import Row
from embprobe.views import Embeddings, Probing

PAIRED = "cka"  # of an encoder and another one


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
        values.setdefault((probing.embeddings, fitted_words(study, probing)), {}).update(read)
        if probing.beside is not None:
            values.setdefault((probing.embeddings, f"beside {study.label(probing.beside)}"), {}).update(pair)
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


def bounds(study: Study) -> list[Row]:
    """What dense tasks are set against, once for each data set and grid: a guess by the means, and a network on pixels."""
    found: dict[str, Row] = {}
    for probing in study.probings:
        every = {k: v for k, v in probing.results.items() if k in METRIC and isinstance(v, dict) and v.get("ceiling")}
        if not every:
            continue
        guess = {k: Estimate.of(v).floor for k, v in every.items()}
        floor = {k: estimate for k, estimate in guess.items() if estimate is not None}
        ceiling = {k: Estimate.of(v["ceiling"]) for k, v in every.items()}
        how = f"patches {'×'.join(map(str, probing.embeddings.grid))}"
        for label, values in (("floor: the means", floor), ("ceiling: a network on pixels", ceiling)):
            if values:
                found.setdefault(
                    f"{label} {how} {probing.embeddings.images.short}", Row(label, values, kind="bound", how=how)
                )
    return list(found.values())
