"""What a data set holds, in figures for its manifest and in a few lines for people."""

from collections import Counter
from collections.abc import Mapping, Sequence

from embprobe import console
from embprobe.data.catalogue import Catalogue
from embprobe.store import Artefact, Json

SHOWN = 8  # classes, and reasons, that a line names
MOST_KEPT = 5  # reasons for skipping that a manifest repeats; bad.jsonl has them all


def set_facts(rows: Catalogue, names: Sequence[str], skipped: Sequence[Json]) -> dict[str, Json]:
    """Images, splits and what told them, images a class under its name, captions, and what was skipped and why."""
    splits = rows.split_counts()
    facts: dict[str, Json] = {"count": len(rows.splits), "splits": splits, "split_rule": rows.split_rule}
    facts["held_out"] = next((split for split in ("test", "val") if splits.get(split)), None)
    facts |= {"labels_from": rows.labels_from, "splits_from": rows.splits_from}
    if rows.labels is not None:
        counts = Counter(rows.labels)
        facts["classes"] = len(rows.classes)
        facts["class_counts"] = {name: counts[own] for own, name in zip(rows.classes, names, strict=True)}
    facts["captions"] = sum(caption is not None for caption in rows.captions() or ())
    return facts | {"skipped": len(skipped), "skipped_first": list(skipped[:MOST_KEPT])}


def tell(out: Artefact, name: str, facts: dict[str, Json], **more: Json) -> None:
    """Keeps what the set holds in the manifest, and says it in a few lines."""
    out.note(**facts, **more)
    for line in lines_of(facts, name):
        console.say(line)


def lines_of(facts: Mapping[str, Json], name: str) -> list[str]:
    """A few plain lines: images, classes, splits, captions, what was skipped."""
    size = facts["size"]
    side = f"{size} px" if isinstance(size, int) else f"{size[0]}×{size[1]} px"
    small = f", {facts['upscaled']} of them enlarged" if facts.get("upscaled") else ""
    lines = [f"{name}: {counted(facts['count'], 'image')} of {side}{small}"]
    if "class_counts" in facts:
        unnamed = f"; {facts['unnamed']} have no other name and keep their own" if facts.get("unnamed") else ""
        named = facts["class_counts"]
        lines.append(
            f"  {counted(len(named), 'class', 'es')}{told_by(facts.get('labels_from'))}: {_listed(named)}{unnamed}"
        )
    else:
        lines.append("  no classes: nothing tells any (folders, --label-regex or a column `label` would)")
    splits = ", ".join(f"{split} {count}" for split, count in facts["splits"].items())
    held = f"figures are taken on {facts['held_out']}" if facts["held_out"] else "nothing is held out"
    lines.append(f"  {splits} ({facts['split_rule']}{told_by(facts.get('splits_from'))}); {held}")
    if facts["captions"]:
        lines.append(f"  {counted(facts['captions'], 'caption')}")
    if facts["skipped"]:
        reasons = "; ".join(f"{row['key']} ({row['reason']})" for row in facts["skipped_first"][:3])
        lines.append(
            f"  skipped {counted(facts['skipped'], 'image')}: {reasons}{' …' * (facts['skipped'] > 3)} (bad.jsonl)"
        )
    return lines


def counted(count: int, word: str, more: str = "s") -> str:
    """`1 image`, `2 images`."""
    return f"{count} {word}{more * (count != 1)}"


def told_by(what: Json) -> str:
    return f", from {what}" if what else ""


def _listed(counts: Mapping[str, int]) -> str:
    """The first classes with their images, and how many more there are."""
    shown = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:SHOWN])
    return shown + (f", and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")
