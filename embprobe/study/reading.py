"""A comparison of encoders, read from evaluations, probes and what they were made from."""

from collections import defaultdict
from functools import cached_property

from embprobe.encoders import names
from embprobe.metrics.estimate import Estimate
from embprobe.store import Artefact, Json
from embprobe.study.rows import Row
from embprobe.views import Embeddings, Evaluation, Probing, Samples

CHAIN = ("sample", "diffuse", "decode", "compress")  # stages between embeddings and samples
NEITHER = ("stage", "version", "seed", "milestone", "conditional")  # neither how a row was made nor its name
SPACES = {"pixels": "pixels", "judge": "judge's features", "latents": "latents"}  # where copies are looked for


class Study:
    """The evaluations and probes given, sorted by what they are about."""

    def __init__(self, artefacts: tuple[Artefact, ...]) -> None:
        self.all = list(dict.fromkeys(b for a in artefacts for b in a.lineage()))
        self.probings = [Probing(a) for a in self.all if a.stage == "probe"]
        evaluations = [Evaluation(a) for a in self.all if a.stage == "evaluate"]
        of_samples = [e for e in evaluations if e.source.stage == "sample"]
        self.of_decoders = [e for e in evaluations if e.source.stage == "decode"]
        self.gaussian = [e for e in of_samples if e.samples.is_gaussian]
        self.drawn = [e for e in of_samples if not e.samples.is_gaussian]

    @cached_property
    def final(self) -> list[Evaluation]:
        """Evaluations of finished denoisers."""
        return [e for e in self.drawn if e.samples.milestone is None]

    @cached_property
    def judges(self) -> list[str]:
        """Names of the judges, the first one given first; empty where nothing was judged."""
        return list(dict.fromkeys(name for e in self.final or self.of_decoders for name in e.judges))

    # -- what rows are called

    def label(self, embeddings: Embeddings) -> str:
        """The encoder's name, with what tells it from others of the same name."""
        mine = encoder_label(embeddings)
        extracted = [a for a in self.all if a.stage == "extract" and a != embeddings.artefact]
        others = {encoder_label(Embeddings(a)) for a in extracted}
        return f"{mine} ({embeddings.short[:6]})" if mine in others else mine

    def name(self, samples: Samples) -> str:
        """Encoder, how the samples were drawn, and the seed, the last two where they differ."""
        return self.row(samples, {}).label

    def row(self, samples: Samples, values: dict[str, Estimate], **facts: Json) -> Row:
        """A row of these samples."""
        return Row(
            self.label(samples.embeddings),
            values,
            how=self.how(samples),
            seed=self.seed(samples),
            control=is_untrained(samples.embeddings),
            **facts,
        )

    def how(self, samples: Samples) -> str:
        """By class or not, guidance, and every option that differs among rows of one encoder."""
        mine = settings(samples)
        words = ["by class" if samples.denoiser.conditional else "", guidance_words(mine.get("sample.guidance"))]
        varied = self.varied.get((samples.embeddings.artefact.fingerprint, samples.denoiser.conditional), set())
        words += [f"{worded(key)} {_text(mine[key])}" for key in self.ways if key in varied and key in mine]
        return ", ".join(w for w in words if w)

    @cached_property
    def ways(self) -> list[str]:
        """Options that differ among rows of one encoder, guidance apart."""
        return sorted({key for keys in self.varied.values() for key in keys} - {"sample.guidance"})

    @cached_property
    def varied(self) -> dict[tuple[str, bool], set[str]]:
        """For each encoder, with classes and without: the options in which its rows differ."""
        groups: dict[tuple[str, bool], list[dict[str, Json]]] = defaultdict(list)
        for evaluation in self.final:
            samples = evaluation.samples
            key = samples.embeddings.artefact.fingerprint, samples.denoiser.conditional
            groups[key].append(settings(samples))
        return {key: differing(mine) for key, mine in groups.items()}

    @cached_property
    def unlike(self) -> list[str]:
        """Options in which rows that are compared differ beside the encoder, as words."""
        groups: dict[str, list[dict[str, Json]]] = defaultdict(list)
        for evaluation in self.final:
            groups[self.how(evaluation.samples)].append(settings(evaluation.samples))
        return sorted({worded(key) for mine in groups.values() for key in differing(mine) - {"sample.count"}})

    def seed(self, samples: Samples) -> str:
        """The training seeds where rows differ in nothing else, else nothing."""
        mine = seeds(samples)
        alike = {
            tuple(seeds(e.samples).items())
            for e in self.final
            if e.samples.embeddings == samples.embeddings and self.how(e.samples) == self.how(samples)
        }
        shown = [k for k in mine if len({dict(other)[k] for other in alike}) > 1]
        values = list(dict.fromkeys(str(mine[k]) for k in shown))
        return f"seed {' '.join(values)}" if values else ""

    # -- rows

    def rows(self, judge: str) -> list[Row]:
        """A judge's row for each set of samples, then its floors: reconstructions and real held-out images."""
        rows = [self.judged_row(e, judge) for e in self.once(judge)]
        return rows + self.reconstructions(judge) + self.real(judge)

    def once(self, judge: str) -> list[Evaluation]:
        """A judge's evaluations of finished denoisers, one for each set of samples."""
        first = {e.source: e for e in reversed(self.final) if judge in e.judges}
        return [e for e in self.final if e in first.values()]

    def judged_row(self, evaluation: Evaluation, judge: str) -> Row:
        """The figures of one set of samples by one judge; those on latents stand with the first judge."""
        samples, report = evaluation.samples, evaluation.judges[judge]
        values = estimates_of(report["metrics"])
        if judge == self.judges[0]:
            values |= estimates_of(evaluation.latents)
        for control in self.gaussian:
            if control.samples.decoder == samples.decoder and judge in control.judges:
                values["gaussian_fd"] = estimates_of(control.judges[judge]["metrics"])["fd"]
        return self.row(samples, values, **row_facts(report))

    def reconstructions(self, judge: str) -> list[Row]:
        """What the decoder costs: its reconstructions of held-out images in the place of samples, once a decoder."""
        rows: dict[Artefact, Row] = {}
        for evaluation in [e for e in self.of_decoders if judge in e.judges]:
            report = evaluation.judges[judge]
            label = self.label(evaluation.decoder.latents.embeddings)
            values, facts = estimates_of(report["metrics"]), row_facts(report)
            row = Row(label, values, kind="reconstructions", how="reconstructions", **facts)
            rows.setdefault(evaluation.source, row)
        return list(rows.values())

    def real(self, judge: str) -> list[Row]:
        """Real held-out images against real training images, once for each number of images."""
        rows: dict[int, Row] = {}
        for evaluation in [e for e in self.final if judge in e.judges]:
            report = evaluation.judges[judge]
            floors = {k: v.floor for k, v in estimates_of(report["metrics"]).items() if v.floor is not None}
            count, values = report["floor_count"], {k: Estimate(floor) for k, floor in floors.items()}
            if values:
                row = Row("real held-out images", values, kind="real", count=count, weak=report["weak"])
                rows.setdefault(count, row)
        return list(rows.values())

    def embeddings(self) -> list[Row]:
        """What readers find in each encoder's embeddings, what the latents keep of them, and the decoder's PSNR."""
        values: dict[Embeddings, dict[str, Estimate]] = {}
        for evaluation in self.final:
            samples = evaluation.samples
            mine = values.setdefault(samples.embeddings, {})
            for key, value in (("psnr", samples.decoder.psnr), ("r2", samples.denoiser.latents.r2)):
                if value is not None:
                    mine.setdefault(key, Estimate(value))
        for probing in self.probings:
            read = {k: probing.results[k] for k in ("linear", "knn", "pixel_r2") if probing.results.get(k)}
            values.setdefault(probing.embeddings, {}).update(estimates_of(read))
        return [
            Row(self.label(embeddings), mine, kind="embeddings", control=is_untrained(embeddings))
            for embeddings, mine in values.items()
            if mine
        ]


# ---- facts of artefacts


def encoder_label(embeddings: Embeddings) -> str:
    """`ijepa`, `mae`, `pixels`, … whatever was asked for, or what a pretrained encoder learned."""
    encoder = embeddings.encoder
    if isinstance(encoder, str):
        return encoder
    learned = encoder.options["steps"] or encoder.options["weights"]
    return str(encoder.options["objective"]) + ("" if learned else " untrained")


def is_untrained(embeddings: Embeddings) -> bool:
    """Whether the encoder learned nothing: pixels or an untrained network."""
    label = encoder_label(embeddings)
    return names.is_control(label) or label.endswith(" untrained")


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
    return options


def seeds(samples: Samples) -> dict[str, Json]:
    """The seeds of training, by stage."""
    return {stage: artefact.spec.get("seed") for stage, artefact in chain(samples).items() if stage != "sample"}


def differing(all_settings: list[dict[str, Json]]) -> set[str]:
    """Keys under which not all have the same value."""
    keys = {k for mine in all_settings for k in mine}
    return {k for k in keys if len({repr(mine.get(k)) for mine in all_settings}) > 1}


def worded(key: str) -> str:
    """sample.steps → sampler steps; diffuse.width → diffusion width."""
    stage, _, option = key.partition(".")
    words = {"sample": "sampler", "diffuse": "diffusion", "decode": "decoder", "compress": "VAE"}
    return option if option == words[stage] else f"{words[stage]} {option.replace('_', ' ')}"


def guidance_words(strength: float | None) -> str:
    """The guidance in words, where there is any."""
    return "" if strength in (None, 1) else f"guidance {strength:g}"


def _text(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "–".join(_text(v) for v in value)
    return "none" if value is None else str(value)
