"""Facts of the artefacts behind a study: what encoders, settings and seeds are called."""

from collections.abc import Mapping
from pathlib import Path

from embprobe.encoders import names
from embprobe.metrics.estimate import Estimate
from embprobe.store import Artefact, Json
from embprobe.views import Embeddings, Samples

Aliases = Mapping[str, str]  # fingerprint → alias
CHAIN = ("sample", "diffuse", "decode", "compress")  # stages between embeddings and samples
NEITHER = (
    "stage",
    "version",
    "seed",
    "milestone",
    "conditional",
    "kept_steps",
    "keep_epochs",
    "epoch",
)  # neither how a row was made nor its name


def encoder_label(embeddings: Embeddings, aliases: Aliases) -> str:
    """The alias of the embeddings, else of a pretrained encoder, else what was asked for."""
    encoder = embeddings.encoder
    if embeddings.artefact.fingerprint in aliases:
        return aliases[embeddings.artefact.fingerprint]
    if isinstance(encoder, Artefact) and encoder.fingerprint in aliases:
        return aliases[encoder.fingerprint]
    return asked_name(embeddings)


def asked_name(embeddings: Embeddings) -> str:
    """`ijepa`, `mae`, `pixels`, … whatever was asked for, a user's own file, or what a pretrained encoder learned."""
    encoder = embeddings.encoder
    if isinstance(encoder, str):
        return names.called(encoder, embeddings.artefact.options.get("weights"))
    return str(encoder.options["objective"]) + (" untrained" if is_untrained(embeddings) else "")


def is_untrained(embeddings: Embeddings) -> bool:
    """Whether the encoder learned nothing: pixels or an untrained network."""
    encoder = embeddings.encoder
    if isinstance(encoder, str):
        return names.is_control(encoder)
    return not (encoder.options["steps"] or encoder.options["weights"])


def estimates_of(metrics: dict[str, Json]) -> dict[str, Estimate]:
    """Every metric that has a value."""
    return {k: Estimate.of(v) for k, v in metrics.items() if v and v.get("value") is not None}


def row_facts(report: Json) -> dict[str, Json]:
    """What a judge's report says of itself."""
    facts = {"count": report["count"], "reference": report.get("reference"), "weak": bool(report.get("weak"))}
    return facts | {"probed": bool(report.get("probed"))}


def chain(samples: Samples) -> dict[str, Artefact]:
    """The artefacts between embeddings and samples, by stage."""
    views = (samples, samples.denoiser, samples.decoder, samples.denoiser.latents)
    return {stage: view.artefact for stage, view in zip(CHAIN, views, strict=True)}


def settings(samples: Samples) -> dict[str, Json]:
    """Every deciding option of the chain, as stage.option; seeds and inputs are left out."""
    options: dict[str, Json] = {}
    for stage, artefact in chain(samples).items():
        without = {*artefact.inputs, *NEITHER}
        options |= {f"{stage}.{k}": v for k, v in artefact.spec.items() if k not in without}
    prompts = options.pop("sample.prompts", None) and Path(str(samples.artefact.options["prompts"])).name
    prompt = options.pop("sample.prompt", None)
    return options | ({} if prompt is None and prompts is None else {"sample.prompt": prompts or prompt or "none"})


def seeds(samples: Samples) -> dict[str, Json]:
    """The seeds, by stage."""
    return {stage: artefact.spec.get("seed") for stage, artefact in chain(samples).items()}


def same_training(a: Samples, b: Samples) -> bool:
    """Whether two sets of samples were drawn alike from one training, by one decoder."""
    ours, theirs = ({k: v for k, v in settings(s).items() if k != "sample.count"} for s in (a, b))
    return a.denoiser == b.denoiser and a.decoder == b.decoder and ours == theirs


def source_name(images: Artefact) -> str:
    """What the folder or file of a data set is called."""
    return Path(str(images.options.get("source", images.short))).name or images.short


def worded_list(*words: str) -> str:
    return ", ".join(word for word in words if word)


def differing(all_settings: list[dict[str, Json]]) -> set[str]:
    """Keys under which not all have the same value."""
    keys = {k for mine in all_settings for k in mine}
    return {k for k in keys if len({repr(mine.get(k)) for mine in all_settings}) > 1}


def worded(key: str) -> str:
    """sample.steps → sampler steps; diffuse.width → diffusion width."""
    stage, _, option = key.partition(".")
    words = {"sample": "sampler", "diffuse": "diffusion", "decode": "decoder", "compress": "VAE"}
    return option if option == words[stage] else f"{words[stage]} {option.replace('_', ' ')}"


def condition_words(samples: Samples) -> str:
    """What the denoiser was told, in words; nothing where that was nothing."""
    return "by class" if samples.denoiser.conditional else "by caption" if samples.denoiser.text else ""


def guidance_words(strength: float | None) -> str:
    """The guidance in words, where there is any."""
    return "" if strength in (None, 1) else f"guidance {strength:g}"


def text_of(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "–".join(text_of(v) for v in value)
    return "none" if value is None else str(value)
