"""The answer in one sentence that needs no metric to be known: who leads whom in how many figures, or why nobody wins."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embprobe.study import verdict
from embprobe.study.judging import JudgeReport
from embprobe.study.usable import plainly
from embprobe.study.verdict import Contenders, Standing, listed, other


@dataclass(frozen=True)
class Headline:
    """The sentence, and by whom and of which rows it is said."""

    sentence: str
    judge: JudgeReport
    how: str  # the rows were drawn


@dataclass(frozen=True)
class Wording:
    """How rows of a kind are spoken of."""

    better: str  # A … B's
    best: str


SAMPLES = Wording("'s latents generate better images than", "'s latents generate the best images")
FOREIGN = Wording("'s images are better than", "'s images are the best")
EMBEDDINGS = Wording("'s embeddings tell a simple reader more than", "'s embeddings tell a simple reader most")


def headline(judged: Sequence[JudgeReport], readers: JudgeReport) -> Headline | None:
    """What the first judge that can be trusted says, of the first rows that it compares; readers where nobody judged."""
    able = [j for j in judged if j.groups]
    trusted = [j for j in able if j.knows and not j.weak and not j.probed] or [j for j in able if j.knows] or able
    judge = (trusted or ([readers] if readers.groups else []))[:1]
    return Headline(sentence(judge[0], compared_rows(judge[0])), judge[0], compared_rows(judge[0])) if judge else None


def compared_rows(judge: JudgeReport) -> str:
    """How the first rows were drawn of which two learned encoders can be compared; else the first rows."""
    several = (how for how, group in judge.groups.items() if sum(not rows[0].control for rows in group.values()) > 1)
    return next(several, next(iter(judge.groups)))


def sentence(judge: JudgeReport, how: str) -> str:
    """One sentence, and a second where a control or a row that is not usable has to be told of."""
    if not judge.knows:
        right = f"{100 * (judge.accuracy or 0):.0f} % right"
        return f"Nobody wins: the judge itself can't tell the classes apart ({right}), so nothing follows from it."
    group = judge.groups[how]
    whys = {name: list(dict.fromkeys(w for r in rows for w in r.unusable)) for name, rows in group.items()}
    usable = {name: rows for name, rows in group.items() if not whys[name]}
    learned = [name for name, rows in group.items() if not rows[0].control]
    able = [name for name in learned or group if name in usable]
    left_out = {name: whys[name] for name in learned or group if whys[name]}
    if left_out and len(able) < 2:
        return _not_usable(left_out, able)
    if len(able) < 2:
        alone = "has no other to be compared with" if learned else "is the only encoder here"
        return f"Nobody wins: {able[0]} {alone}."
    pairs = verdict.among(judge.differences.get(how, ()), able)
    told = _won(_terms(group), able, verdict.standings({name: usable[name] for name in able}, pairs))
    return " ".join(
        part for part in (told, _absent(list(left_out)), _best_control(usable, learned, judge, how)) if part
    )


def _terms(group: Contenders) -> Wording:
    row = next(iter(group.values()))[0]
    return EMBEDDINGS if row.kind == "embeddings" else FOREIGN if row.how.startswith("from elsewhere") else SAMPLES


def _not_usable(left_out: Mapping[str, Sequence[str]], learned: Sequence[str]) -> str:
    """Why conclusions can't rest on what is there."""
    reasons = {name: plainly(why[0]) for name, why in left_out.items()}
    if len(set(reasons.values())) == 1:
        why = f"the samples of {listed(list(reasons))} {next(iter(reasons.values()))}"
    elif len(reasons) == 2:
        why = "; ".join(f"the samples of {name} {reason}" for name, reason in reasons.items())
    else:
        why = f"the samples of {listed(list(reasons))} have shortcomings of several kinds, told below"
    if learned:
        return f"Nobody wins: {why}, so that {learned[0]} has no other to be compared with."
    return f"Not usable yet: {why}."


def _won(terms: Wording, names: Sequence[str], standings: Sequence[Standing]) -> str:
    """Who is ahead in how many figures; `names` are those that are compared."""
    if len(names) < 2:
        return (
            f"Nobody wins: {names[0]} has no other to be compared with." if names else "Nobody wins: nothing is there."
        )
    if not standings:
        return f"Nobody wins: {listed(names)} share no figure by which they could be compared."
    wins: dict[str, list[Standing]] = {}
    for standing in standings:
        if not standing.tied:
            wins.setdefault(standing.best, []).append(standing)
    if not wins:
        heads = Counter(frozenset({s.best, *(other(d, s.best) for d in s.tied)}) for s in standings if s.behind)
        if not heads:
            return f"Nobody wins: chance alone explains who is best in {_of(0, standings)}."
        ((head, count),) = heads.most_common(1)
        who = listed([name for name in names if name in head]) if len(head) < 4 else f"{len(head)} of {len(names)}"
        return f"Nobody wins alone: {who} share the lead in {_of(count, standings)}."
    leader, ahead = max(wins.items(), key=lambda item: len(item[1]))
    lost = sum(leader in {other(d, s.best) for d in s.behind} for s in standings)
    if 2 * len(ahead) >= len(standings) + bool(lost):
        return _clear(terms, leader, ahead, standings, len(names), lost)
    if len(wins) > 1:
        ranked = sorted(wins.items(), key=lambda item: -len(item[1]))
        told = [f"{name} is ahead in {len(of)}" for name, of in ranked]
        return f"No clear winner: of {len(standings)} figures {', '.join(told)}{_open(standings, wins)}."
    whom = other(ahead[0].behind[0], leader) if len(names) == 2 else "every other"
    figures = listed([s.column.in_a_sentence for s in ahead[:3]]) + (" and more" if len(ahead) > 3 else "")
    behind_in = f" and behind in {lost}" if lost else ""
    return f"No clear winner: {leader} is ahead of {whom} in {_of(len(ahead), standings)} ({figures}){behind_in}."


def _clear(
    terms: Wording, leader: str, ahead: Sequence[Standing], standings: Sequence[Standing], count: int, lost: int
) -> str:
    """A leads B, or all, in at least half of the figures; in most of them where it is behind in some."""
    first = ahead[0]
    rival = other(first.behind[0], leader)
    column, of_rival = first.column, "" if count == 2 else f" of {rival}, the next"
    example = f"{column.name} {column.text(first.value)} against {column.text(first.values[rival])}{of_rival}"
    where = f"here{' in most respects' if lost else ''}"
    figures = _of(len(ahead), standings) + (f" and behind in {lost}" if lost else "")
    if count == 2:
        return f"{leader}{terms.better} {rival}'s {where}: ahead in {figures}, {example}."
    return f"{leader}{terms.best} {where}: ahead of all {count - 1} others in {figures}, {example}."


def _of(count: int, standings: Sequence[Standing]) -> str:
    """K of N figures."""
    if len(standings) == 1:
        return "the one figure that can be compared"
    if count == len(standings):
        return "both figures" if count == 2 else f"all {count} figures"
    return f"{count or 'any'} of {len(standings)} figures"


def _open(standings: Sequence[Standing], wins: Mapping[str, Sequence[Standing]]) -> str:
    left = len(standings) - sum(map(len, wins.values()))
    return f", and {left} can't be told" if left else ""


def _absent(names: Sequence[str]) -> str:
    """Those that take no part."""
    return f"{listed(names)} {'is' if len(names) == 1 else 'are'} not usable yet." if names else ""


def _best_control(usable: Contenders, learned: Sequence[str], judge: JudgeReport, how: str) -> str:
    """The control that is ahead of every learned encoder in most figures, where one is in any."""
    pairs = judge.differences.get(how, ())
    learned = [name for name in learned if name in usable]
    controls = [name for name, rows in usable.items() if rows[0].control and learned]
    ahead = {name: len(verdict.control_sides(name, learned, pairs)[True]) for name in controls}
    best = max(ahead, key=lambda name: ahead[name], default=None)
    if best is None or not ahead[best]:
        return ""
    them = learned[0] if len(learned) == 1 else "both" if len(learned) == 2 else f"all {len(learned)}"
    return f"But {best}, which learned nothing, is ahead of {them} in {ahead[best]}."
