"""A comparison of encoders, read from evaluations, probes and what they were made from."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property

from embprobe.metrics.estimate import Estimate
from embprobe.store import Artefact, Json
from embprobe.study.facts import (
    Aliases,
    condition_words,
    differing,
    encoder_label,
    estimates_of,
    guidance_words,
    is_untrained,
    row_facts,
    same_training,
    seeds,
    settings,
    source_name,
    text_of,
    worded,
    worded_list,
)
from embprobe.study.rows import Row
from embprobe.study.usable import Judged, copied, shortcomings
from embprobe.views import Embeddings, Evaluation, Probing, Samples

FINGERPRINT = re.compile("[0-9a-f]{10}")  # as an artefact's judge is told by
SPACES = {"pixels": "pixels", "judge": "judge's features", "latents": "latents"}  # where copies are looked for


class Study:
    """The evaluations and probes given, sorted by what they are about."""

    def __init__(
        self, artefacts: tuple[Artefact, ...], aliases: Aliases | None = None, called: tuple[str, ...] = ()
    ) -> None:
        self.aliases, self.called = aliases or {}, dict(zip(artefacts, called, strict=False))
        self.all = list(dict.fromkeys(b for a in artefacts for b in a.lineage()))
        self.probings = [Probing(a) for a in self.all if a.stage == "probe"]
        evaluations = [Evaluation(a) for a in self.all if a.stage == "evaluate"]
        of_samples = [e for e in evaluations if e.source.stage == "sample"]
        self.foreign = [e for e in evaluations if e.is_foreign]
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
        judged = self.final + self.foreign or self.of_decoders
        return list(dict.fromkeys(self.judge_name(r) for e in judged for r in e.reports))

    def judge_name(self, report: Json) -> str:
        """A judge's name, with what tells it from another of that name and other weights."""
        name = self.plain_name(report)
        alike = self.judges_by_name[name]
        return name if len(alike) == 1 else f"{name} {str(report.get('judge'))[:6]}"

    def plain_name(self, report: Json) -> str:
        """A judge's name, an artefact's by its alias, else without its fingerprint."""
        told = str(report["name"]).split(" ")
        mark = told[-1]
        if not FINGERPRINT.fullmatch(mark):
            return " ".join(told)
        known = (alias for fingerprint, alias in self.aliases.items() if fingerprint.startswith(mark))
        return next(known, " ".join(told[:-1]) or "pretrained encoder")

    @cached_property
    def judges_by_name(self) -> dict[str, set[str]]:
        """The judges of each name."""
        found: dict[str, set[str]] = defaultdict(set)
        for evaluation in (*self.drawn, *self.gaussian, *self.foreign, *self.of_decoders):
            for report in evaluation.reports:
                found[self.plain_name(report)].add(str(report.get("judge")))
        return found

    def report(self, evaluation: Evaluation, judge: str) -> Json | None:
        """What a judge says in an evaluation; None where it says nothing."""
        return next((r for r in evaluation.reports if self.judge_name(r) == judge), None)

    # -- what rows are called

    def label(self, embeddings: Embeddings) -> str:
        """The encoder's name, with what tells it from others of the same name."""
        mine = encoder_label(embeddings, self.aliases)
        extracted = [a for a in self.all if a.stage == "extract" and a != embeddings.artefact]
        others = {encoder_label(Embeddings(a), self.aliases) for a in extracted}
        return f"{mine} ({embeddings.short[:6]})" if mine in others else mine

    def name(self, evaluation: Evaluation) -> str:
        """Encoder, how the samples were drawn, and the seeds, the last two where they differ."""
        return self.row(evaluation, {}).label

    def row(
        self, evaluation: Evaluation, values: dict[str, Estimate], report: Json | None = None, **facts: Json
    ) -> Row:
        """A row of the samples of an evaluation."""
        terms = self.terms(report or evaluation.reports[0])
        if evaluation.is_foreign:
            return Row(self.foreign_name(evaluation), values, how=worded_list("from elsewhere", terms), **facts)
        samples = evaluation.samples
        mine = seeds(samples)
        return Row(
            self.label(samples.embeddings),
            values,
            how=worded_list(self.how(samples), terms),
            seed=self.seed(samples),
            training=f"{mine['compress']} {mine['diffuse']}",
            decoding=str(mine["decode"]),
            control=is_untrained(samples.embeddings),
            **facts,
        )

    def foreign_name(self, evaluation: Evaluation) -> str:
        """The name given, else that of the folder or file that images from elsewhere lay in, told from others of it."""
        if evaluation.artefact in self.called:
            return self.called[evaluation.artefact]
        named = {e.source: source_name(e.source) for e in self.foreign}
        mine = named[evaluation.source]
        return mine if list(named.values()).count(mine) == 1 else f"{mine} ({evaluation.source.short[:6]})"

    def terms(self, report: Json) -> str:
        """What tells how these figures were taken from how others on the page were."""
        every = [r.get("protocol") or {} for e in (*self.drawn, *self.foreign) for r in e.reports]
        varied = sorted(differing(every))
        mine = report.get("protocol") or {}
        return ", ".join(f"{key} {text_of(mine.get(key))}" for key in varied)

    def how(self, samples: Samples, *, apart: Collection[str] = ()) -> str:
        """By class, caption or neither, guidance, and options that differ among rows of one encoder, those `apart` left out."""
        mine = settings(samples)
        words = [condition_words(samples), guidance_words(mine.get("sample.guidance"))]
        varied = self.varied.get((samples.embeddings.artefact.fingerprint, samples.denoiser.conditional), set())
        words += [
            f"{worded(key)} {text_of(mine[key])}" for key in self.ways if key in varied - {*apart} and key in mine
        ]
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
        """The seeds where rows differ in nothing else, else nothing."""
        mine = seeds(samples)
        alike = [
            seeds(e.samples)
            for e in self.final
            if e.samples.embeddings == samples.embeddings and self.how(e.samples) == self.how(samples)
        ]
        varied = [key for key in mine if len({repr(other[key]) for other in alike}) > 1]
        trained = dict.fromkeys(str(mine[key]) for key in varied if key != "sample")
        words = [f"seed {' '.join(trained)}"] if trained else []
        return ", ".join(words + ([f"drawn with seed {mine['sample']}"] if "sample" in varied else []))

    # -- rows

    def rows(self, judge: str) -> list[Row]:
        """A judge's row for each set of samples, then its floors: reconstructions and real held-out images."""
        rows = [self.judged_row(e, judge) for e in self.once(judge)]
        return rows + self.reconstructions(judge) + self.real(judge)

    def once(self, judge: str) -> list[Evaluation]:
        """A judge's evaluations of finished denoisers and of what was made elsewhere, one for each way of measuring."""
        first: dict[tuple[Artefact, str], Evaluation] = {}
        for evaluation in (*self.final, *self.foreign):
            report = self.report(evaluation, judge)
            if report is not None:
                first.setdefault((evaluation.source, repr(report.get("protocol"))), evaluation)
        return list(first.values())

    def judged_row(self, evaluation: Evaluation, judge: str) -> Row:
        """The figures of one set of samples by one judge; those on latents stand with the first judge."""
        report = self.report(evaluation, judge)
        assert report is not None
        values = estimates_of(report["metrics"])
        if judge == self.judges[0]:
            values |= estimates_of(evaluation.latents)
        if not evaluation.is_foreign:
            values |= self.of_gaussian(evaluation, judge, report)
        facts = row_facts(report)
        why = self.why_not(evaluation, judge, Judged(0.0, facts["count"], values))
        return self.row(evaluation, values, report, **facts, unusable=why)

    def of_gaussian(self, evaluation: Evaluation, judge: str, report: Json) -> dict[str, Estimate]:
        """FD of latents drawn without a denoiser, decoded and measured alike."""
        for control in self.gaussian:
            theirs = self.report(control, judge)
            same = control.samples.decoder == evaluation.samples.decoder
            alike = ("protocol", "count", "reference")  # else the two would differ by more than the denoiser
            if same and theirs is not None and all(theirs.get(k) == report.get(k) for k in alike):
                return {"gaussian_fd": estimates_of(theirs["metrics"])["fd"]}
        return {}

    def gaussian_figures(self, judge: str, rows: Sequence[Row]) -> list[dict[str, Estimate]]:
        """The figures of latents drawn without a denoiser that were measured as these rows were."""
        alike = {(row.count, row.reference) for row in rows}
        found = []
        for control in self.gaussian:
            report = self.report(control, judge)
            if report is not None and (report["count"], report.get("reference")) in alike:
                found.append(estimates_of(report["metrics"]) | estimates_of(control.latents))
        return found

    def why_not(self, evaluation: Evaluation, judge: str, now: Judged) -> tuple[str, ...]:
        """Why no conclusion can rest on these samples, by this judge."""
        report = self.report(evaluation, judge)
        earlier: list[Judged] = []
        if not evaluation.is_foreign:
            now = replace(now, epochs=evaluation.samples.epochs)
            earlier = [point for e, point in self.course[judge] if same_training(e.samples, evaluation.samples)]
        classes = len((report or {}).get("classes") or [])
        why = shortcomings(now, [p for p in earlier if p.epochs < now.epochs], classes)
        copies = copied(evaluation.copies)
        return (*why, copies) if copies else why

    @cached_property
    def course(self) -> dict[str, list[tuple[Evaluation, Judged]]]:
        """Each judge's figures at every milestone and at the end."""
        found: dict[str, list[tuple[Evaluation, Judged]]] = defaultdict(list)
        for evaluation in self.drawn:
            for report in evaluation.reports:
                point = Judged(evaluation.samples.epochs, report["count"], estimates_of(report["metrics"]))
                found[self.judge_name(report)].append((evaluation, point))
        return found

    def reconstructions(self, judge: str) -> list[Row]:
        """What the decoder costs: its reconstructions of held-out images in the place of samples, once a decoder."""
        rows: dict[Artefact, Row] = {}
        for evaluation in self.of_decoders:
            report = self.report(evaluation, judge)
            if report is None:
                continue
            label = self.label(evaluation.decoder.latents.embeddings)
            values, facts = estimates_of(report["metrics"]), row_facts(report)
            row = Row(label, values, kind="reconstructions", how="reconstructions", **facts)
            rows.setdefault(evaluation.source, row)
        return list(rows.values())

    def real(self, judge: str) -> list[Row]:
        """Real images against others, at each number of samples and for each way of measuring."""
        rows: dict[str, Row] = {}
        for evaluation in self.once(judge):
            report = self.report(evaluation, judge)
            assert report is not None
            values = {k: v.floor for k, v in estimates_of(report["metrics"]).items() if v.floor is not None}
            if values:
                terms = self.terms(report)
                label = "real images" if (report.get("floor") or {}).get("training") else "real held-out images"
                facts = {"count": report["count"], "weak": bool(report.get("weak"))}
                rows.setdefault(f"{terms} {report['count']}", Row(label, values, kind="real", how=terms, **facts))
        return list(rows.values())
