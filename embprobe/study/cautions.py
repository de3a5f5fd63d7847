"""What can't be concluded from a study, and why."""

from collections.abc import Sequence

from embprobe.metrics.table import Metric
from embprobe.study import verdict
from embprobe.study.judging import JudgeReport
from embprobe.study.reading import Study
from embprobe.study.usable import warned
from embprobe.study.verdict import listed


def cautions(study: Study, judged: Sequence[JudgeReport]) -> list[str]:
    """What can't be concluded."""
    said = [_seeds(judged), _inception(study)]
    said += [*(_trust(j) for j in judged), _disagreement(judged), *(_decoders(j) for j in judged[:1])]
    reports = [report for judge in judged for report in judge.reports]
    if any(not r["metrics"].get("fd_infinity", {}).get("reliable", True) for r in reports):
        said.append(
            "FD∞ (⚠) wants at least four samples for each feature dimension and has fewer: no winner is named in it."
        )
    if any(len({r.count for rows in g.values() for r in rows}) > 1 for j in judged for g in j.groups.values()):
        said.append(
            "Rows have different numbers of samples: only KID and asked class, which don't depend on it, are compared."
        )
    if len({how for judge in judged[:1] for how in judge.groups}) > 1:
        said.append("Rows that were drawn or measured in different ways are not compared with each other.")
    said += [_floor(report["floor"]) for report in reports if (report.get("floor") or {}).get("extrapolated")][:1]
    if study.unlike:
        said.append(
            f"Compared rows differ in more than the encoder: {listed(study.unlike)}. A difference may come from there."
        )
    return [s for s in said + _copying(study) if s]


def _seeds(judged: Sequence[JudgeReport]) -> str:
    """Which part of chance the intervals leave out."""
    groups = [g for judge in judged[:1] for g in judge.groups.values() if len(g) > 1]
    encoders = [rows for group in groups for rows in group.values() if any(r.training for r in rows)]
    once = [rows for rows in encoders if len({r.training for r in rows}) == 1]
    if not encoders:
        return ""
    if len(once) == len(encoders):
        return (
            "There is one training seed each: intervals are over images and leave out what another seed of training would "
            "change, which may be more."
        )
    if once:
        return "Only some encoders have several training seeds: their spread stands for that of the others."
    if all(len({r.decoding for r in rows}) == 1 for rows in encoders):
        return "One decoder each stands behind all training seeds: what another seed of it would change is left out."
    return ""


def _inception(study: Study) -> str:
    """Without Inception nothing here has a published counterpart."""
    if not study.judges or any(name.startswith("inception") for name in study.judges):
        return ""
    return (
        "Inception has not judged: no FD, KID or score here can be set beside published FID, KID or Inception scores."
    )


def _floor(floor: dict[str, object]) -> str:
    return (
        f"There are too few real images for a floor at {floor['at']}: it is taken at {floor['images']}, and FD, score and TV "
        "are foretold from there."
    )


def _trust(judge: JudgeReport) -> str:
    """What a weak or probed judge puts in doubt."""
    said = []
    if judge.weak:
        known = (
            f" gets {100 * judge.accuracy:.1f} % of held-out images right" if judge.accuracy is not None else " is weak"
        )
        said.append(
            f"{judge.name}{known}: class shares, score, asked class and everything per class carry its mistakes."
        )
    if judge.probed:
        said.append(
            f"{judge.name} is, or was trained as, the encoder of {listed(judge.probed)}: its figures may flatter it."
        )
    return " ".join(said)


def _disagreement(judged: Sequence[JudgeReport]) -> str:
    """Figures in which two judges name different winners."""
    winners: dict[tuple[str, Metric], dict[str, str]] = {}
    for judge in judged:
        for how in judge.groups:
            for standing in judge.standings(how):
                if not standing.tied:
                    winners.setdefault((how, standing.column), {})[judge.name] = standing.best
    apart = [(how, c, by) for (how, c), by in winners.items() if len(set(by.values())) > 1]
    said = [
        f"{column.name}{f' ({how})' if how else ''}: {', '.join(f'{best} by {name}' for name, best in by.items())}"
        for how, column, by in apart
    ]
    return f"Judges disagree in {'; '.join(said)}." if said else ""


def _decoders(judge: JudgeReport) -> str:
    """How much of the samples' FD the decoders alone explain."""
    rebuilt = {r.encoder: r for r in judge.rows if r.kind == "reconstructions" and "fd" in r.values}
    if not rebuilt:
        return ""
    fd = {name: row.values["fd"].value for name, row in rebuilt.items()}
    counts = {r.count for r in rebuilt.values()} | {
        r.count for rows in judge.groups.values() for g in rows.values() for r in g
    }
    said = f"Reconstructions of real images alone score FD {listed([f'{v:.1f} ({name})' for name, v in fd.items()])}"
    said += ", at another number of images (column n)" if len(counts) > 1 else ""
    said += ": the decoder bounds what samples can reach."
    for how in judge.groups:
        for standing in [s for s in judge.standings(how) if s.column.key == "fd" and not s.tied]:
            next_best = standing.behind[0]
            rival, size = verdict.other(next_best, standing.best), next_best.lead()[0]
            apart = fd[rival] - fd[standing.best] if {rival, standing.best} <= set(fd) else 0.0
            if apart >= size / 2:
                drawn = f" ({how})" if how else ""
                said += (
                    f" {standing.best}'s lead of {size:.1f} over {rival}{drawn} stands against {apart:.1f} between their "
                    "decoders: it may be theirs."
                )
    return said


def _copying(study: Study) -> list[str]:
    """Rows whose samples lie nearer to training images than held-out images do."""
    said = []
    for evaluation in (*study.final, *study.foreign):
        tests = evaluation.copies.items()
        if not any(test for _, test in tests) and evaluation.artefact.options.get("memorisation") is True:
            said.append(
                f"Copies were not looked for in {study.name(evaluation)}: too few held-out images are left that are no copies of "
                "training images."
            )
        suspicious = [f"{space} (p {pvalue(t['p'])})" for space, t in tests if t and warned(t)]
        if suspicious:
            said.append(
                f"{study.name(evaluation)} may copy: its samples lie nearer to training images than held-out images do, in "
                f"{listed(suspicious)}."
            )
    return list(dict.fromkeys(said))


def pvalue(p: float) -> str:
    """A p-value as text."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"
