"""A comparison of encoders, read from evaluations, probes and what they were made from."""

from collections import defaultdict
from functools import cached_property

from embprobe.store import Artefact, Json
from embprobe.metrics.estimate import Estimate
from embprobe.study.rows import Row

CHAIN = ("sample", "diffuse", "decode", "compress")  # stages between embeddings and samples
NEITHER = ("stage", "version", "seed", "milestone", "conditional")  # neither how a row was made nor its name
SPACES = {"pixels": "pixels", "judge": "judge's features", "latents": "latents"}  # where copies are looked for
CONTROLS = ("pixels", "random:")


class Study:
    """The evaluations and probes given, sorted by what they are about."""

    def __init__(self, artefacts: tuple[Artefact, ...]) -> None:
        self.all = list(dict.fromkeys(b for a in artefacts for b in a.lineage()))
        self.probes = [a for a in self.all if a.stage == "probe"]
        evaluations = [a for a in self.all if a.stage == "evaluate"]
        self.of_samples = [a for a in evaluations if a.inputs["samples"].stage == "sample"]
        self.of_decoders = [a for a in evaluations if a.inputs["samples"].stage == "decode"]
        self.gaussian = [a for a in self.of_samples if is_gaussian(a.inputs["samples"])]
        self.drawn = [a for a in self.of_samples if a not in self.gaussian]

    @cached_property
    def final(self) -> list[Artefact]:
        """Evaluations of finished denoisers."""
        return [a for a in self.drawn if not at_milestone(a.inputs["samples"])]

    @cached_property
    def judges(self) -> list[str | None]:
        """Names of the judges, the first one given first; None alone where nothing was judged."""
        asked = self.final or self.of_decoders
        return list(dict.fromkeys(name for a in asked for name in judged_by(a))) or [None]

    # -- what rows are called

    def label(self, embeddings: Artefact) -> str:
        """The encoder's name, with what tells it from others of the same name."""
        mine = encoder_label(embeddings)
        others = {encoder_label(a) for a in self.all if a.stage == "extract" and a != embeddings}
        return f"{mine} ({embeddings.short[:6]})" if mine in others else mine

    def name(self, samples: Artefact) -> str:
        """Encoder, how the samples were drawn, and the seed, the last two where they differ."""
        return self.row(samples, {}).label

    def row(self, samples: Artefact, values: dict[str, Estimate], **facts: Json) -> Row:
        """A row of these samples."""
        embeddings = embeddings_of(samples)
        label = self.label(embeddings)
        return Row(
            label,
            values,
            how=self.how(samples),
            seed=self.seed(samples),
            control=is_control(encoder_label(embeddings)),
            **facts,
        )

    def how(self, samples: Artefact) -> str:
        """By class or not, guidance, and every option that differs among rows of one encoder."""
        mine = settings(samples)
        words = ["by class" if conditional(samples) else "", guided(mine.get("sample.guidance"))]
        varied = self.varied.get((embeddings_of(samples).fingerprint, conditional(samples)), set())
        words += [f"{worded(key)} {_text(mine[key])}" for key in self.ways if key in varied and key in mine]
        return ", ".join(w for w in words if w)

    @cached_property
    def ways(self) -> list[str]:
        """Options that differ among rows of one encoder, guidance apart."""
        return sorted({key for keys in self.varied.values() for key in keys} - {"sample.guidance"})

    @cached_property
    def varied(self) -> dict[tuple[str, bool], set[str]]:
        """For each encoder, with classes and without: the options in which its rows differ."""
        found: dict[tuple[str, bool], list[dict[str, Json]]] = defaultdict(list)
        for evaluation in self.final:
            samples = evaluation.inputs["samples"]
            found[embeddings_of(samples).fingerprint, conditional(samples)].append(settings(samples))
        return {key: differing(mine) for key, mine in found.items()}

    @cached_property
    def unlike(self) -> list[str]:
        """Options in which rows that are compared differ beside the encoder, as words."""
        found: dict[str, list[dict[str, Json]]] = defaultdict(list)
        for evaluation in self.final:
            found[self.how(evaluation.inputs["samples"])].append(settings(evaluation.inputs["samples"]))
        return sorted({worded(key) for mine in found.values() for key in differing(mine) - {"sample.count"}})

    def seed(self, samples: Artefact) -> str:
        """The training seeds where rows differ in nothing else, else nothing."""
        mine = seeds(samples)
        alike = {
            tuple(seeds(a.inputs["samples"]).items())
            for a in self.final
            if embeddings_of(a.inputs["samples"]) == embeddings_of(samples)
            and self.how(a.inputs["samples"]) == self.how(samples)
        }
        shown = [k for k in mine if len({dict(other)[k] for other in alike}) > 1]
        values = list(dict.fromkeys(str(mine[k]) for k in shown))
        return f"seed {' '.join(values)}" if values else ""

    # -- rows

    def rows(self, judge: str | None) -> list[Row]:
        """A judge's row for each set of samples, then its floors: reconstructions and real held-out images."""
        rows = [self.judged_row(a, judge) for a in self.once(judge)]
        return rows + self.reconstructions(judge) + self.real(judge)

    def once(self, judge: str | None) -> list[Artefact]:
        """A judge's evaluations of finished denoisers, one for each set of samples."""
        first = {a.inputs["samples"]: a for a in reversed(self.final) if judge in judged_by(a)}
        return [a for a in self.final if a in first.values()]

    def judged_row(self, evaluation: Artefact, judge: str | None) -> Row:
        """The figures of one set of samples by one judge; those on latents stand with the first judge."""
        samples = evaluation.inputs["samples"]
        found = judged_by(evaluation)[judge]
        values = figures_of(found)
        if judge == self.judges[0]:
            values |= figures_of(evaluation.read_json("metrics.json").get("latents") or {})
        for control in self.gaussian:
            same = control.inputs["samples"].inputs["decoder"] == samples.inputs["decoder"]
            if same and judge in judged_by(control):
                values["gaussian_fd"] = figures_of(judged_by(control)[judge])["fd"]
        return self.row(samples, values, **told_by(found))

    def reconstructions(self, judge: str | None) -> list[Row]:
        """What the decoder costs: its reconstructions of held-out images in the place of samples, once a decoder."""
        found: dict[Artefact, Row] = {}
        for evaluation in [a for a in self.of_decoders if judge in judged_by(a)]:
            decoder = evaluation.inputs["samples"]
            told = judged_by(evaluation)[judge]
            label = self.label(decoder.inputs["latents"].inputs["embeddings"])
            row = Row(label, figures_of(told), kind="reconstructions", how="reconstructions", **told_by(told))
            found.setdefault(decoder, row)
        return list(found.values())

    def real(self, judge: str | None) -> list[Row]:
        """Real held-out images against real training images, once for each number of images."""
        found: dict[int, Row] = {}
        for evaluation in [a for a in self.final if judge in judged_by(a)]:
            told = judged_by(evaluation)[judge]
            values = {k: Estimate(f.floor) for k, f in figures_of(told).items() if f.floor is not None}
            if values:
                row = Row("real held-out images", values, kind="real", count=told["floor_count"], weak=told["weak"])
                found.setdefault(told["floor_count"], row)
        return list(found.values())

    def embeddings(self) -> list[Row]:
        """What readers find in each encoder's embeddings, what the latents keep of them, and the decoder's PSNR."""
        found: dict[Artefact, dict[str, Estimate]] = {}
        for evaluation in self.final:
            samples = evaluation.inputs["samples"]
            latents, decoder = samples.inputs["denoiser"].inputs["latents"], samples.inputs["decoder"]
            values = found.setdefault(latents.inputs["embeddings"], {})
            for made, key in ((decoder, "psnr"), (latents, "r2")):
                if made.metrics.get(key) is not None:
                    values.setdefault(key, Estimate(made.metrics[key]))
        for probe in self.probes:
            told = probe.read_json("probe.json")
            kept = {k: Estimate.of(told[k]) for k in ("linear", "knn", "pixel_r2") if told.get(k)}
            found.setdefault(probe.inputs["embeddings"], {}).update(kept)
        return [
            Row(self.label(a), values, kind="embeddings", control=is_control(encoder_label(a)))
            for a, values in found.items()
            if values
        ]


# ---- facts of artefacts


def at_milestone(samples: Artefact) -> bool:
    """Whether samples come from a denoiser before its last step."""
    step = samples.spec.get("milestone")
    return step is not None and step != samples.inputs["denoiser"].spec["steps"]


def is_gaussian(samples: Artefact) -> bool:
    """Whether samples were drawn without the denoiser, each channel alone."""
    return samples.spec.get("sampler") == "gaussian"


def is_control(label: str) -> bool:
    """Whether an encoder learned nothing: pixels or an untrained network."""
    return label.startswith(CONTROLS) or label.endswith(" untrained")


def judged_by(evaluation: Artefact) -> dict[str | None, Json]:
    """An evaluation's figures by the name of the judge."""
    return {found["name"]: found for found in evaluation.read_json("metrics.json")["judges"].values()}


def figures_of(told: Json) -> dict[str, Estimate]:
    """Every metric that has a value."""
    metrics = (told or {}).get("metrics", {})
    return {k: Estimate.of(v) for k, v in metrics.items() if v and v.get("value") is not None}


def told_by(told: Json) -> dict[str, Json]:
    """What a judge's figures say of themselves."""
    facts = {"count": told["count"], "reference": told.get("reference"), "weak": bool(told.get("weak"))}
    return facts | {"probed": bool(told.get("probed"))}


def encoder_label(embeddings: Artefact) -> str:
    """`ijepa`, `mae`, `pixels`, … whatever was asked for, or what a pretrained encoder learned."""
    made = embeddings.inputs.get("encoder")
    if made is None:
        return str(embeddings.options["encoder"])
    return str(made.options["objective"]) + ("" if made.options["steps"] or made.options["weights"] else " untrained")


def embeddings_of(samples: Artefact) -> Artefact:
    """The embeddings that samples were learned from."""
    return samples.inputs["denoiser"].inputs["latents"].inputs["embeddings"]


def conditional(samples: Artefact) -> bool:
    """Whether the denoiser knows classes."""
    return bool(samples.inputs["denoiser"].options.get("conditional"))


def chain(samples: Artefact) -> dict[str, Artefact]:
    """The artefacts between embeddings and samples, by stage."""
    denoiser, decoder = samples.inputs["denoiser"], samples.inputs["decoder"]
    return dict(zip(CHAIN, (samples, denoiser, decoder, denoiser.inputs["latents"]), strict=True))


def settings(samples: Artefact) -> dict[str, Json]:
    """Every deciding option of the chain, as stage.option; seeds and inputs are left out."""
    found: dict[str, Json] = {}
    for stage, made in chain(samples).items():
        left = {*made.inputs, *NEITHER}
        found |= {f"{stage}.{k}": v for k, v in made.spec.items() if k not in left}
    return found


def seeds(samples: Artefact) -> dict[str, Json]:
    """The seeds of training, by stage."""
    return {stage: made.spec.get("seed") for stage, made in chain(samples).items() if stage != "sample"}


def differing(all_settings: list[dict[str, Json]]) -> set[str]:
    """Keys under which not all have the same value."""
    keys = {k for mine in all_settings for k in mine}
    return {k for k in keys if len({repr(mine.get(k)) for mine in all_settings}) > 1}


def worded(key: str) -> str:
    """sample.steps → sampler steps; diffuse.width → diffusion width."""
    stage, _, option = key.partition(".")
    words = {"sample": "sampler", "diffuse": "diffusion", "decode": "decoder", "compress": "VAE"}
    return option if option == words[stage] else f"{words[stage]} {option.replace('_', ' ')}"


def guided(strength: float | None) -> str:
    """The guidance in words, where there is any."""
    return "" if strength in (None, 1) else f"guidance {strength:g}"


def _text(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "–".join(_text(v) for v in value)
    return "none" if value is None else str(value)
