"""What the shell offers when Tab is pressed: names of artefacts, stages, recipes, encoders. Imports nothing heavy."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from embprobe.errors import EmbprobeError
from embprobe.store import Store

Complete = Callable[[typer.Context, str], list[str]]


def artefacts(*stages: str) -> Complete:
    """Names and fingerprints of artefacts, of some stages where they are given."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return [word for word in _names(ctx, stages) if word.startswith(incomplete)]

    return complete


def _names(ctx: typer.Context, stages: tuple[str, ...]) -> Iterator[str]:
    with contextlib.suppress(EmbprobeError, OSError):
        store = Store(Path(ctx.params.get("store") or "embstore"))
        named = [(name, artefact) for name, artefact in store.names() if not stages or artefact.stage in stages]
        yield from (name for name, _ in named)
        called = {artefact for _, artefact in named}
        yield from (a.short for a in store.artefacts() if (not stages or a.stage in stages) and a not in called)


def words(known: Callable[[], list[str]]) -> Complete:
    """Words that are always the same."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return [word for word in known() if word.startswith(incomplete)]

    return complete


def either(*several: Complete) -> Complete:
    """What any of them offers."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return [word for known in several for word in known(ctx, incomplete)]

    return complete
