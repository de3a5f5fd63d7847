"""The guide: Markdown pages that ship with embprobe, one of them made from the stages' own fields."""

import re
import typing
from dataclasses import MISSING
from pathlib import Path

from embprobe.cli.help import EXAMPLES
from embprobe.cli.stages import metavar, panel_of
from embprobe.errors import UserError, did_you_mean
from embprobe.running.comparing import Compare
from embprobe.stage import Stage, bounds_of, fields_of, shown_default
from embprobe.stages import FLOW

FOLDER = Path(__file__).parent.parent / "guide"
ORDER = (
    *(
        "start",
        "flow",
        "data",
        "encoders",
        "samples",
        "text",
        "report",
        "metrics",
        "recipes",
        "gpu",
        "slurm",
        "python",
        "offline",
    ),
    *("store", "promises", "glossary", "stages", "developing"),
)  # as they are listed
GENERATED = "stages"


def page_of(topic: str) -> str:
    """A page of the guide as Markdown. Raises UserError for a topic that there is not."""
    if topic not in ORDER:
        raise UserError(
            f"the guide has no page {topic!r}{did_you_mean(topic, ORDER)}; `embprobe guide` lists its pages"
        )
    return (FOLDER / f"{topic}.md").read_text(encoding="utf-8")


def contents() -> str:
    """The pages of the guide, as Markdown."""
    titles = {topic: page_of(topic).split("\n", 1)[0].removeprefix("# ") for topic in ORDER}
    rows = [f"| `embprobe guide {topic}` | {title} |" for topic, title in titles.items()]
    return "\n".join(["# The guide", "", "| page | about |", "|---|---|", *rows, ""])


def stages_page() -> str:
    """Every stage and `compare` with all options, from their fields."""
    parts = [
        "# Every option of every stage",
        "",
        "This page is made from the program itself. `embprobe STAGE -h` shows the ",
    ]
    parts[-1] += "same, with the options that every stage has: `--store`, `--name`, `--json`, `--no-wait`."
    stages: tuple[type[Stage], ...] = (*FLOW, Compare)
    for cls in stages:
        parts += ["", f"## {cls.name()}", "", _escaped(cls.about), "", "```sh", EXAMPLES[cls.name()], "```", ""]
        parts += _options(cls)
    return "\n".join(parts) + "\n"


def _options(cls: type[Stage]) -> list[str]:
    hints = typing.get_type_hints(cls)
    rows = ["| option | value | default | what |", "|---|---|---|---|"]
    fields = [f for f in fields_of(cls) if not f.metadata["derived"]]
    for field in sorted(fields, key=lambda f: f.metadata["runtime"]):
        word = f"`--{field.name.replace('_', '-')}`" if not field.metadata["positional"] else f"`{field.name.upper()}`"
        default = "" if field.default in (MISSING, None, ()) else f"`{shown_default(field.default)}`"
        required = field.default is MISSING and panel_of(field, cls) == "Inputs"
        bounds = f" ({bounds_of(field)})" if bounds_of(field) else ""
        note = " *No part of the question.*" if field.metadata["runtime"] else ""
        what = _escaped(field.metadata["help"]) + bounds + note
        value = "" if hints[field.name] is bool else _escaped(metavar(field, hints[field.name]))
        rows.append(f"| {word} | {value} | {default or ('*needed*' if required else '')} | {what} |")
    return rows


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    kept = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([|*<])", r"\\\1", part) for part in kept).replace(
        "\n", "\n"
    )
