"""What is in the store: listed, shown, exported, checked, removed; and the encoders that have names."""

from pathlib import Path
from typing import Annotated

import typer

from embprobe import console, signals
from embprobe.cli import completion, guide
from embprobe.cli.stages import DEFAULT_STORE, JsonOption, StoreOption
from embprobe.errors import UserError
from embprobe.inspection import listing, pictures, telling, upkeep
from embprobe.stages import STAGES
from embprobe.store import Store

ArtefactArgument = Annotated[
    str, typer.Argument(metavar="ARTEFACT", help="a name, fingerprint or path", autocompletion=completion.artefacts())
]
SomeArtefacts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ARTEFACT]...",
        help="names, fingerprints or paths; all if none is given",
        autocompletion=completion.artefacts(),
    ),
]


def list_(
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STAGE]...",
            help="only of these stages; all if none is given",
            autocompletion=completion.words(lambda: list(STAGES)),
        ),
    ] = None,
    of: Annotated[
        list[str] | None,
        typer.Option(
            "--of",
            metavar="ARTEFACT",
            help="only what was made from it, and itself",
            autocompletion=completion.artefacts(),
        ),
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", help="each below what it was made from")] = False,
    all: Annotated[bool, typer.Option("--all", help="also the features and measures of evaluations")] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """List the artefacts: what each is called, what it was made from, what tells it from its like, and how far it is."""
    console.guard_stdout()
    place = Store(store).check_there()
    listing.show_list(place, stages or [], of or [], tree=tree, all=all, as_json=json)


def show(
    artefact: ArtefactArgument,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FOLDER", help="draw it there: a data set, or what embeddings see")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Tell everything about an artefact: what it answers, from what, what it holds and measured."""
    console.guard_stdout()
    telling.show_artefact(Store(store)[artefact], json)
    if png is not None:
        pictures.write_pictures(Store(store)[artefact], png)


def export_artefact(
    artefact: ArtefactArgument,
    npy: Annotated[
        Path | None,
        typer.Option("--npy", metavar="FOLDER", help="every array as .npy, with labels, splits and names beside"),
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FOLDER", help="images as SPLIT/CLASS/NUMBER.png and a metadata.csv")
    ] = None,
    hf: Annotated[
        Path | None,
        typer.Option("--hf", metavar="FOLDER", help="Parquet files that Hugging Face's load_dataset reads, by split"),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="the page of a report")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write an artefact as files for other tools: numpy's, PNGs, a folder for Hugging Face datasets, a report's page.

    A folder that holds something is refused; one that was begun is there as a whole or not at all.
    """
    console.guard_stdout()
    signals.install()
    from embprobe.inspection import export

    made = Store(store)[artefact]
    wanted = [(npy, export.export_npy), (png, export.export_png), (hf, export.export_hf), (html, export.export_html)]
    asked = [(folder, write) for folder, write in wanted if folder is not None]
    if not asked:
        raise UserError("export needs --npy FOLDER, --png FOLDER, --hf FOLDER or --html FILE")
    if not made.complete:
        raise UserError(f"{made.stage} {made.short} isn't finished; run its command again first")
    for folder, write in asked:
        write(made, folder)
        console.result_path(str(folder.absolute()))


def verify_artefacts(
    artefacts: SomeArtefacts = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="make damaged chunks and files again, and nothing else")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="with --repair: make all of a damaged artefact again, from the start")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Check every chunk and file against its checksum; exits 3 where one differs."""
    console.guard_stdout()
    signals.install()
    if anew and not repair:
        raise UserError("--anew says how to repair; give --repair too")
    place = Store(store)
    chosen = [place[word] for word in artefacts] if artefacts else place.check_there().artefacts()
    upkeep.verify(chosen, repair, json, anew=anew)


def rm(
    artefacts: Annotated[
        list[str],
        typer.Argument(
            metavar="ARTEFACT...", help="names, fingerprints or paths", autocompletion=completion.artefacts()
        ),
    ],
    recursive: Annotated[bool, typer.Option("--recursive", help="also what was made from them, in any store")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="don't ask")] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Remove artefacts that nothing else was made from."""
    console.guard_stdout()
    signals.install()
    place = Store(store)
    chosen = [place[word] for word in artefacts]
    upkeep.remove_artefacts(place, chosen, lambda text: yes or typer.confirm(text, err=True), recursive=recursive)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go, and remove nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="don't ask")] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Clear away what kills left behind, and requests of which nothing was made; never a result."""
    console.guard_stdout()
    signals.install()
    upkeep.clear(
        Store(store).check_there(), lambda text: yes or typer.confirm(text, err=True), dry=dry_run, as_json=json
    )


def encoders(json: JsonOption = False) -> None:
    """List the encoders that have names: source, input size, grid, width, licence, and whether the weights are here."""
    console.guard_stdout()
    listing.show_encoders(json)


def show_guide(
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="[TOPIC]",
            help="a page; all are listed if none is given",
            autocompletion=completion.words(lambda: list(guide.ORDER)),
        ),
    ] = None,
) -> None:
    """Read the guide here: how to begin, the flow, your own data, encoder and samples, what each figure is."""
    console.guard_stdout()
    console.document(guide.contents() if topic is None else guide.page_of(topic))
