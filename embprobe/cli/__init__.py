"""The command line, the only room that knows Typer: a command per stage, whole studies, the store."""

from collections.abc import Callable
from typing import Annotated

import typer

from embprobe import __version__, console
from embprobe.cli import keeping, studies
from embprobe.cli.help import NAMES, Group, about, opening
from embprobe.cli.stages import RICH, command_of
from embprobe.stages import STAGES

OTHERS: dict[str, Callable[..., None]] = {
    "compare": studies.compare,
    "demo": studies.demo,
    "plan": studies.plan,
    "run": studies.run_recipe,
    "ls": keeping.list_,
    "show": keeping.show,
    "export": keeping.export_artefact,
    "verify": keeping.verify_artefacts,
    "rm": keeping.rm,
    "gc": keeping.gc,
    "encoders": keeping.encoders,
    "guide": keeping.show_guide,
}
app = typer.Typer(cls=Group, pretty_exceptions_enable=False, rich_markup_mode=RICH, context_settings=NAMES)
for _name, _stage in STAGES.items():
    app.command(**about(_name))(command_of(_stage))
for _name, _function in OTHERS.items():
    app.command(**about(_name))(_function)


def _version(value: bool) -> None:
    if value:
        console.result(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Tell what a frozen image encoder keeps and what it throws away, by learning to generate from its embeddings."""
    if context.invoked_subcommand is None:
        console.guard_stdout()
        console.result(opening())
