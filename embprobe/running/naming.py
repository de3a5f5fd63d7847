"""What artefacts are called before people: by alias, by what they were made from, and by what tells each from its like."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import MISSING, fields
from functools import cached_property
from pathlib import Path

from embprobe.errors import DamagedError
from embprobe.stage import shown_default
from embprobe.stages import STAGES
from embprobe.store import Artefact, Json, Store
from embprobe.study.facts import encoder_label
from embprobe.views import Embeddings

TOLD = ("steps", "count")  # said even where they are as they would be anyway
UNTOLD = (
    *(
        "source",
        "encoder",
        "weights",
        "title",
        "val_share",
        "limit",
        "samples",
        "judge",
        "judges",
        "held_out",
        "called",
    ),
)  # said otherwise, or by the subject
MOST_TOLD = 5  # options of an artefact
CHAIN = ("compress", "diffuse", "decode", "sample")  # stages whose differences tell apart what was made from them
LONGEST = 24  # characters of an option's value


class Naming:
    """The names of a store's artefacts; `among` are those that are to be told apart."""

    def __init__(self, store: Store, among: Iterable[Artefact] = ()) -> None:
        self.store = store
        self.among = list(among)

    @cached_property
    def aliases(self) -> dict[str, list[str]]:
        """Aliases by fingerprint."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, artefact in self.store.names():
            found[artefact.fingerprint].append(name)
        return found

    def call(self, artefact: Artefact) -> str:
        """Its alias, else the first digits of its fingerprint."""
        return " ".join(self.aliases.get(artefact.fingerprint, ())) or artefact.short

    def parents(self, artefact: Artefact) -> list[Artefact]:
        """What it was made from, but for what that was made from already; encoders go by name in what is told."""
        inputs = [
            a for k, a in artefact.inputs.items() if not k.startswith(("measured", "features", "read", "ceiling"))
        ]
        direct = list(dict.fromkeys(inputs)) or list(dict.fromkeys(artefact.inputs.values()))
        above = {b for a in direct for b in lineage_of(a) if b != a}
        return [a for a in direct if a not in above]

    def data_sets(self, artefact: Artefact) -> list[Artefact]:
        """The ingested data that it goes back to."""
        return [a for a in lineage_of(artefact) if a.stage == "ingest"]

    def encoder(self, artefact: Artefact) -> str:
        """What the encoder of an `extract` artefact is called."""
        return encoder_label(Embeddings(artefact), {key: names[0] for key, names in self.aliases.items()})

    def subject(self, artefact: Artefact) -> str:
        """What it is about: encoders where there are any, else data, else what it was asked for."""
        options = artefact.options
        if artefact.stage == "ingest":
            return Path(str(options["source"])).name
        if artefact.stage == "pretrain":
            return str(options["objective"])
        lineage = list(lineage_of(artefact))
        encoders = list(dict.fromkeys(self.encoder(a) for a in reversed(lineage) if a.stage == "extract"))
        of = encoders or list(dict.fromkeys(self.call(a) for a in self.data_sets(artefact)))
        words = ", ".join(of[:3]) + (f" and {len(of) - 3} more" if len(of) > 3 else "")
        judges = [w for w in (options.get("judge"), *(options.get("judges") or ())) if w]
        return words + (f" by {', '.join(map(self._judge, judges))}" if judges else "")

    def _judge(self, word: object) -> str:
        text = str(word)
        found = self.aliases.get(text)
        if found:
            return " ".join(found)
        return "the classifier" if len(text) == 32 and "." not in text else Path(text).name

    def gist(self, artefact: Artefact) -> str:
        """Its subject, and the options that tell it from its like, in a few words; its own before those of its chain."""
        told = self._told(artefact, own=True)
        lineage = lineage_of(artefact)[1:]
        stages = [a.stage for a in lineage]
        for above in lineage:
            if above.stage in CHAIN and stages.count(above.stage) == 1:
                told = self._told(above, own=False) | told
        first = sorted(told.items(), key=lambda item: item[0] not in self.varied.get(artefact.stage, ()))
        return ", ".join(
            [self.subject(artefact), *(f"{k.replace('_', ' ')} {_shortened(v)}" for k, v in first[:MOST_TOLD])]
        )

    def _told(self, artefact: Artefact, *, own: bool) -> dict[str, Json]:
        """Options worth telling: those in which artefacts of the stage differ, and of its own those that are unusual."""
        cls, varied = STAGES.get(artefact.stage), self.varied.get(artefact.stage, set())
        inputs = {k.split(".")[0] for k in artefact.inputs}
        known = {f.name: f for f in fields(cls) if not f.metadata["runtime"]} if cls else {}
        told = {}
        for key, value in artefact.options.items():
            if key in UNTOLD or key in inputs or key not in known or value is None:
                continue
            if key == "count" and artefact.options.get("source", "planted") != "planted":
                continue
            default = known[key].default
            unusual = default not in (MISSING, None) and not _same(value, default)
            if key in varied or (own and (unusual or (key in TOLD and value))):
                told[key] = value
        return told

    @cached_property
    def varied(self) -> dict[str, set[str]]:
        """By stage, the options in which its artefacts differ."""
        values: dict[tuple[str, str], set[str]] = defaultdict(set)
        for artefact in self.among:
            try:
                for key, value in artefact.options.items():
                    values[artefact.stage, key].add(repr(value))
            except DamagedError:
                continue
        found: dict[str, set[str]] = defaultdict(set)
        for (stage, key), several in values.items():
            if len(several) > 1:
                found[stage].add(key)
        return found


def lineage_of(artefact: Artefact) -> list[Artefact]:
    """Itself and what it was made from; itself alone where that can't be told."""
    try:
        return list(artefact.lineage())
    except DamagedError:
        return [artefact]


def _same(value: Json, default: object) -> bool:
    return repr(list(value) if isinstance(value, (list, tuple)) else value) == repr(
        list(default) if isinstance(default, tuple) else default
    )


def _shortened(value: Json) -> str:
    text = shown_default(tuple(value) if isinstance(value, list) else value)
    text = Path(text).name if text.startswith("/") else text
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
