"""Who wins where: differences between rows drawn the same way, and what they say in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from embprobe.metrics.table import METRICS, Metric
from embprobe.study.chance import Difference, Mean, row_difference
from embprobe.study.rows import Row

Contenders = Mapping[str, Sequence[Row]]  # encoder → its rows, one a set of samples


def groups(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Rows that may be compared: by how they were drawn and judged, then by encoder."""
    by_drawing: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if not row.is_floor:
            by_drawing.setdefault(row.how, {}).setdefault(row.encoder, []).append(row)
    return by_drawing


def differences(contenders: Contenders) -> list[Difference]:
    """Every pair of encoders in every figure that has an interval for both; barred where one is not usable."""
    found = []
    for (a, rows_a), (b, rows_b) in combinations(contenders.items(), 2):
        barred = any(row.unusable for row in (*rows_a, *rows_b))
        each = [row_difference(column, (a, rows_a), (b, rows_b)) for column in METRICS]
        found += [replace(d, barred=barred) for d in each if d is not None]
    return sorted(found, key=lambda d: METRICS.index(d.column))


def among(differences: Sequence[Difference], names: Sequence[str]) -> list[Difference]:
    """Those between two of these encoders."""
    return [d for d in differences if {d.first, d.second} <= set(names)]


# ---- who is ahead


@dataclass(frozen=True)
class Standing:
    """One figure: the best encoder, those it is ahead of and those it can't be told from, nearest first."""

    column: Metric
    best: str
    value: float
    values: Mapping[str, float]
    behind: tuple[Difference, ...]
    tied: tuple[Difference, ...]

    @property
    def others(self) -> int:
        return len(self.behind) + len(self.tied)


def other(difference: Difference, best: str) -> str:
    """The one that is not the best."""
    return difference.second if difference.first == best else difference.first


def standings(contenders: Contenders, pairs: Sequence[Difference]) -> list[Standing]:
    """A standing for each figure with a direction and with an interval to every encoder that has it."""
    standing_by_metric = []
    for column in METRICS:
        mine = [d for d in pairs if d.column == column]
        values = mean_values(contenders, column)
        if column.higher is None or not mine or len(values) < 2:
            continue
        best = (max if column.higher else min)(values, key=lambda name: values[name])
        of_best = sorted((d for d in mine if best in (d.first, d.second)), key=lambda d: abs(d.value))
        if len(of_best) < len(values) - 1:
            continue
        behind, tied = (tuple(d for d in of_best if d.significant == apart) for apart in (True, False))
        standing_by_metric.append(Standing(column, best, values[best], values, behind, tied))
    return standing_by_metric


def mean_values(contenders: Contenders, column: Metric) -> dict[str, float]:
    """Each encoder's figure, as its differences take it."""
    means = {name: Mean.of(rows, column.key) for name, rows in contenders.items()}
    return {name: mean.value for name, mean in means.items() if mean is not None}


# ---- in sentences


@dataclass(frozen=True)
class Sentence:
    """What to say of someone."""

    subject: str
    rest: str

    def __str__(self) -> str:
        return f"{self.subject} {self.rest}".strip()


def answer(contenders: Contenders, pairs: Sequence[Difference]) -> list[Sentence]:
    """What is not usable yet; then which learned encoder is ahead in what and by how much, what can't be told, and where
    controls stand."""
    said = [sentence for name, rows in contenders.items() if (sentence := _unusable(name, rows))]
    usable = {name: rows for name, rows in contenders.items() if not any(row.unusable for row in rows)}
    learned = {name: rows for name, rows in usable.items() if not rows[0].control}
    controls = {name: rows for name, rows in usable.items() if rows[0].control}
    left_out = [name for name in contenders if name not in usable and not contenders[name][0].control]
    if left_out and len(learned) < 2:
        others = f" {next(iter(learned))} has no other to be compared with." if learned else ""
        return [*said, Sentence("", f"Nobody wins.{others}")]
    if len(learned) > 1:
        said += _wins(standings(learned, among(pairs, list(learned)))) or [_nothing(learned, pairs)]
    elif len(learned) == 1:
        said.append(Sentence(next(iter(learned)), "has no other to be compared with."))
    elif len(controls) > 1:
        return said + _wins(standings(controls, among(pairs, list(controls))))
    return said + [s for name in controls if (s := _control(name, list(learned), pairs))]


def _unusable(name: str, rows: Sequence[Row]) -> Sentence | None:
    """Why nothing can be concluded from an encoder's samples."""
    why = list(dict.fromkeys(words for row in rows for words in row.unusable))
    if not why:
        return None
    among_seeds = "" if all(row.unusable for row in rows) else " with some seeds"
    return Sentence(name, f"is not usable yet{among_seeds}: {'; '.join(why)}. It takes no part.")


def _nothing(learned: Contenders, pairs: Sequence[Difference]) -> Sentence:
    """What to say where no figure has a better and a worse."""
    neither = [d for d in among(pairs, list(learned)) if d.column.higher is None and d.significant]
    names = listed(list(learned))
    if not neither:
        return Sentence(
            names, "share no figure that has an interval and a better side: nothing can be said of who leads."
        )
    clauses = [f"{d.column.in_a_sentence} ({d.first} against {d.second}: {d.text()})" for d in neither]
    return Sentence(names, f"differ in {listed(clauses)}; neither side of that is better.")


def _wins(standings: Sequence[Standing]) -> list[Sentence]:
    clear: dict[str, list[Standing]] = {}
    for standing in standings:
        if not standing.tied:
            clear.setdefault(standing.best, []).append(standing)
    said = [Sentence(name, _led(of)) for name, of in sorted(clear.items(), key=lambda item: -len(item[1]))]
    said += [_shared(s) for s in standings if s.tied and s.behind]
    return said + _open([s for s in standings if s.tied and not s.behind])


def _shared(standing: Standing) -> Sentence:
    """A and B lead in FD and can't be told apart …; C is behind."""
    column, closest = standing.column, standing.tied[0]
    ahead = [standing.best, *(other(d, standing.best) for d in standing.tied)]
    behind = [other(d, standing.best) for d in standing.behind]
    near = f"{standing.best} {column.text(standing.value)}, better than {ahead[1]} by {closest.text()}"
    verb = "is" if len(behind) == 1 else "are"
    return Sentence(
        listed(ahead),
        f"lead in {column.in_a_sentence} and can't be told apart ({near}); {listed(behind)} {verb} behind.",
    )


def _led(standings: Sequence[Standing]) -> str:
    """leads OTHER in FD (1.0 against 2.0, by 1.0 [0.5, 1.5]) and …; with several others, OTHER is the next."""
    clauses, alone = [], all(s.others == 1 for s in standings)
    rival = other(standings[0].behind[0], standings[0].best)
    for standing in standings:
        next_best = standing.behind[0]
        name, column = other(next_best, standing.best), standing.column
        against = column.text(standing.values[name]) if alone else f"{column.text(standing.values[name])} of {name}"
        clauses.append(
            f"{column.in_a_sentence} ({column.text(standing.value)} against {against}, by {next_best.text()})"
        )
    whom = rival if alone else "all the others" if standings[0].others > 2 else "both others"
    return f"leads {whom} in {listed(clauses)}."


def _open(standings: Sequence[Standing]) -> list[Sentence]:
    """They can't be told apart in …"""
    if not standings:
        return []
    clauses = [
        f"{s.column.in_a_sentence} ({s.best} better by {s.tied[0].text()})"
        if s.tied[0].value
        else f"{s.column.in_a_sentence} (apart by {s.tied[0].text()})"
        for s in standings
    ]
    if all(s.others == 1 for s in standings):
        both = listed([standings[0].best, other(standings[0].tied[0], standings[0].best)])
        return [Sentence(both, f"can't be told apart in {listed(clauses, last='or')}.")]
    clauses = [f"{s.column.in_a_sentence} ({s.best} {s.column.text(s.value)})" for s in standings]
    return [Sentence("", f"No other can be told from the best in {listed(clauses, last='or')}.")]


def control_sides(name: str, learned: Sequence[str], pairs: Sequence[Difference]) -> dict[bool, list[Metric]]:
    """The figures in which a control is ahead of (True), and behind (False), every learned encoder."""
    sides: dict[bool, list[Metric]] = {True: [], False: []}
    for column in [c for c in METRICS if c.higher is not None]:
        mine = [d for d in pairs if d.column == column and name in (d.first, d.second)]
        clear = [d for d in mine if other(d, name) in learned and d.significant]
        if clear and len(clear) == len(learned):
            for ahead in (True, False):
                if all(((d.first == name) == d.first_better) == ahead for d in clear):
                    sides[ahead].append(column)
    return sides


def _control(name: str, learned: Sequence[str], pairs: Sequence[Difference]) -> Sentence | None:
    """Where a control is ahead of, or behind, every learned encoder."""
    sides = control_sides(name, learned, pairs)
    every = "every learned encoder" if len(learned) > 1 else next(iter(learned), "")
    parts = [
        f"{word} {every} in {listed([column.in_a_sentence for column in sides[side]])}"
        for side, word in ((True, "is ahead of"), (False, "is behind"))
        if sides[side]
    ]
    return Sentence(name, f"(a control) {' and '.join(parts)}.") if parts else None


def listed(words: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
