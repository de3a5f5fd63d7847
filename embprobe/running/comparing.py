"""Images from elsewhere against real ones, in one go: ingested, judged, searched for copies, and on one page."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from embprobe import console
from embprobe.errors import UserError
from embprobe.making import make
from embprobe.options import build
from embprobe.stage import Stage, fields_of, option
from embprobe.stages import Evaluate, Ingest, Report
from embprobe.stages.features import JUDGES
from embprobe.store import Artefact, Store

NAME = re.compile(r"[^\W_]([\w.+ -]{0,58}[\w.+-])?")
LEAST, MOST = 8, 8192  # pixels a side, as `ingest` has them

Asked = Ingest | Artefact


@dataclass(frozen=True, kw_only=True)
class Compare(Stage):
    """Measure images made elsewhere against real ones: judges, figures beside their floors, copies, and one page.

    Samples are folders, zips, .npz files (`arr_0`, as guided-diffusion saves them) or artefacts, taken at the reference's
    size. It is `ingest`, `evaluate` and `report` in one; asked again it costs nothing, and its last line is the report.
    """

    samples: tuple[str, ...] = option("what a row is called, and its images; once for each set", (), path=True)
    reference: str = option(
        "the real images: a data set, or a folder, zip, .npz or .parquet to ingest first", path=True
    )
    judges: str | None = option(f"as `evaluate` takes them: {JUDGES}, or several with commas between", None)
    size: int | None = option("side of a reference that is not ingested yet; else that of the first samples", None,
                              least=LEAST, most=MOST)  # fmt: skip
    k: int | None = option("neighbours, as `evaluate` takes them", None, least=1)
    held_out: Literal["auto", "val", "test"] | None = option("split that is held out, as `evaluate` takes it", None)
    reference_count: Literal["matched", "all"] | None = option("`all`: FD against all training images too", None)
    limit: int | None = option("most samples and reference images used", None, least=1)
    title: str | None = option("the page's heading", None)
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def given(self) -> dict[str, object]:
        """What was given, by name."""
        return {f.name: value for f in fields_of(type(self)) if (value := getattr(self, f.name)) is not None}


def compare(
    samples: Mapping[str, str | Path | Artefact] | Sequence[str | Path],
    reference: str | Path | Artefact,
    store: Store,
    *,
    judges: object = (),
    size: int | None = None,
    title: str | None = None,
    device: str = "auto",
    wait: bool = True,
    **options: object,
) -> Artefact:
    """Measures sets of images against real ones and reports them side by side; the report.

    `samples` are folders, zips, .npz files (`arr_0`, as guided-diffusion saves them) or artefacts by the name of their row,
    or words `NAME=PATH`. The reference is an artefact, or what can be ingested: at `size`, else at that of the first
    samples. Samples are taken at the reference's size. `options` are those of `Evaluate`. Raises UserError, before
    anything is made, for what isn't there and for names that are odd or given twice.
    """
    named = named_samples(samples)
    maker = partial(make, store=store, wait=wait)
    options = {k: v for k, v in {"judges": judges, **options}.items() if v is not None and v != ()}
    known = {field.name for field in fields_of(Evaluate)} - {"samples", "reference"}
    if not options.keys() <= known:
        raise UserError(f"evaluate has no option {min(options.keys() - known)!r}; it has {', '.join(sorted(known))}")
    found = {name: found_in(store, word, "--samples") for name, word in named.items()}
    there = found_in(store, reference, "--reference")
    real = there if isinstance(there, Artefact) else as_reference(there, size, next(iter(found.values())), device)
    asked = {name: s if isinstance(s, Artefact) else at_size(s, real, device) for name, s in found.items()}
    check_distinct({**asked, "the reference": real}, store)

    def evaluation(chosen: Artefact) -> Stage:
        given = {"samples": chosen, "reference": artefact_of(real, store), "device": device, **options}
        return build(Evaluate, given, store, maker, ingest=Ingest)

    for each in asked.values():
        evaluation(artefact_of(each, store))  # what is wrong with the options is told now
    real = maker(real) if isinstance(real, Ingest) else real
    made = []
    for number, (name, each) in enumerate(asked.items(), 1):
        began = time.monotonic()
        made.append(maker(evaluation(maker(each) if isinstance(each, Ingest) else each)))
        console.say(f"[{number}/{len(asked)}] {name} {made[-1].short}, {console.duration(time.monotonic() - began)}")
    title = title or f"Samples against {word_of(reference)}"
    return maker(Report(artefacts=tuple(made), called=tuple(asked), title=title, device=device))


def named_samples(
    samples: Mapping[str, str | Path | Artefact] | Sequence[str | Path],
) -> dict[str, str | Path | Artefact]:
    """Sets of samples by the names of their rows. Raises UserError for no samples, a name that is odd or given twice."""
    if isinstance(samples, Mapping):
        pairs = [(str(name), word) for name, word in samples.items()]
    else:
        pairs = [name_of(str(word)) for word in ([samples] if isinstance(samples, (str, Path)) else samples)]
    if not pairs:
        raise UserError("--samples is missing; give a folder, zip or .npz of images, as NAME=PATH, once for each set")
    named: dict[str, str | Path | Artefact] = {}
    for name, word in pairs:
        if not NAME.fullmatch(name):
            raise UserError(
                f"--samples: {name!r} can't name a row; write NAME=PATH with up to 60 letters, digits, spaces and . _ + - that "
                "begin with a letter or digit"
            )
        if name in named:
            raise UserError(f"--samples: two sets are called {name}; write NAME=PATH with another name for one")
        if not str(word):
            raise UserError(f"--samples {name}=: nothing stands behind the name; write NAME=PATH")
        named[name] = word
    return named


def name_of(word: str) -> tuple[str, str]:
    """`NAME=PATH` as both; a path alone is called by its stem, one that holds `=` and is there too."""
    name, equals, path = word.partition("=")
    if equals and not Path(word).exists():
        return name, path
    return word_of(word), word


def word_of(source: str | Path | Artefact) -> str:
    """What a source is called where nothing else is said."""
    if isinstance(source, Artefact):
        return source.short
    path = Path(source)
    return (path.resolve() if path.name in ("", "..") else path).stem or str(source)


def found_in(store: Store, word: str | Path | Artefact, option: str) -> str | Artefact:
    """An artefact, else a path at which something lies. Raises UserError for what is neither, or doesn't fit."""
    artefact = word if isinstance(word, Artefact) else store.lookup(str(word))
    if artefact is not None:
        fits = ("ingest",) if option == "--reference" else ("ingest", "sample", "decode")
        if artefact.stage not in fits:
            raise UserError(
                f"{option} {artefact.short} was made by {artefact.stage}; it must be made by {' or '.join(fits)}"
            )
        if not artefact.complete:
            raise UserError(f"{option} {artefact.short} isn't finished; run its command again first")
        return artefact
    if not Path(str(word)).expanduser().exists():
        raise UserError(
            f"{option}: there is nothing at {word}, and nothing called so in {store.root}; check the path, or `embprobe ls`"
        )
    return str(word)


def as_reference(source: str, size: int | None, samples: str | Artefact, device: str) -> Ingest:
    """Real images that are no artefact yet, at a size given or at the samples'."""
    return Ingest(source=source, size=size or native_side(samples), device=device)


def native_side(samples: str | Artefact) -> int:
    """The side of squares in which the first of some images is stored as large as it is."""
    from embprobe.data.decode import MAX_BYTES, BadImage, loaded
    from embprobe.data.sources import open_source
    from embprobe.views import image_size

    if isinstance(samples, Artefact):
        sides: Sequence[int] = image_size(samples) if samples.stage != "decode" else (64,)
    else:
        listing = open_source(samples)
        try:
            with listing.items[0].open() as file:
                sides = listing.shape[:2] if listing.shape else loaded(file.read(MAX_BYTES)).size
        except (BadImage, OSError, ValueError) as error:
            raise UserError(
                f"cannot read {listing.items[0].key} in {samples} ({error}); remove it, or give --size"
            ) from None
    return min(max(min(sides), LEAST), MOST)


def at_size(source: str, real: Asked, device: str) -> Ingest:
    """Images from elsewhere, at the size of the real ones; squares of the usual size where those are no squares.

    Their classes are called as the real ones are, where those were given names that fit.
    """
    from embprobe.views import image_size

    height, width = image_size(real) if isinstance(real, Artefact) else real.shape()[:2]
    stage = Ingest(source=source, device=device)
    stage = replace(stage, size=height) if height == width else stage
    names = real.options.get("class_names") if isinstance(real, Artefact) else None
    if names is None or stage.rows.labels is None:
        return stage
    named = replace(stage, class_names=names)
    return named if named.names.keys() & set(stage.rows.classes) else stage


def artefact_of(asked: Asked, store: Store) -> Artefact:
    """The artefact, made or not; lists the source."""
    return asked if isinstance(asked, Artefact) else store.open(asked)


def check_distinct(asked: Mapping[str, Asked], store: Store) -> None:
    """Raises UserError where two sets are the same images."""
    first: dict[Artefact, str] = {}
    for name, each in asked.items():
        artefact = artefact_of(each, store)
        if artefact in first:
            raise UserError(f"{first[artefact]} and {name} are the same images; leave one out")
        first[artefact] = name
