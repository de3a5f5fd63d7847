"""What help says beside each command's own words: groups in the order of the flow, an example a command, the first screen."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from embprobe import __version__

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

NAMES = {"help_option_names": ["-h", "--help"]}
GROUPS = {  # in the order of the flow
    "From images to samples": ("ingest", "pretrain", "extract", "compress", "diffuse", "decode", "sample"),
    "Measuring": (
        "probe",
        "predict",
        "classify",
        "evaluate",
        "features",
        "measure",
        "read",
        "ceiling",
        "report",
        "compare",
    ),
    "Whole studies": ("demo", "plan", "run"),
    "The store": ("ls", "show", "export", "verify", "rm", "gc"),
    "More": ("encoders", "guide"),
}
BRIEF = {  # what a command is for, in a line that fits
    "ingest": "images in: a folder, zip, shards, CSV, arrays, planted scenes",
    "pretrain": "an encoder of your own, by I-JEPA or MAE",
    "extract": "patch embeddings of every image by a frozen encoder",
    "compress": "a VAE and its latents of the embeddings",
    "diffuse": "a diffusion model on the latents",
    "decode": "a decoder from latents to pixels",
    "sample": "new latents and their images",
    "probe": "what simple readers find in the embeddings",
    "predict": "what the encoder's own predictor foresees of hidden patches",
    "classify": "the data set's own classifier, a judge",
    "evaluate": "samples against real images: FD, KID, precision, recall, …",
    "features": "what a judge network sees in images (evaluate asks for it)",
    "measure": "one judge's figures (evaluate asks for it)",
    "read": "what one reader finds (probe asks for it)",
    "ceiling": "what is read of planted scenes from pixels (read asks for it)",
    "report": "one HTML page that compares encoders",
    "compare": "samples from anywhere against real images, in one command",
    "demo": "the whole study in minutes, nothing downloaded",
    "plan": "what a recipe would do, and how long that takes",
    "run": "everything a recipe asks for; asked again, it continues",
    "ls": "what there is",
    "show": "all about one artefact",
    "export": "an artefact as .npy, PNGs, a Hugging Face folder, a page",
    "verify": "every file against its checksum; --repair mends",
    "rm": "remove artefacts that nothing was made from",
    "gc": "clear away what kills left behind",
    "encoders": "encoders that have names, and whether their weights are here",
    "guide": "the guide, in the terminal",
}
EXAMPLES = {
    "ingest": "embprobe ingest --source photos/ --size 224 --name photos",
    "pretrain": "embprobe pretrain --images photos --objective mae --steps 20000 --name mae-small",
    "extract": "embprobe extract --images photos --encoder vit-128x6-h4-p8 --weights my-vit.safetensors",
    "compress": "embprobe compress --embeddings E --channels 16 --steps 20000",
    "diffuse": "embprobe diffuse --latents L --preset modern --steps 50000",
    "decode": "embprobe decode --latents L --steps 20000",
    "sample": "embprobe sample --denoiser D --decoder P --count 5000",
    "probe": "embprobe probe --embeddings E",
    "predict": "embprobe predict --embeddings E --decoder P",
    "classify": "embprobe classify --images photos",
    "evaluate": "embprobe evaluate --samples S --reference photos --judges inception",
    "features": "embprobe features --images photos --judge inception --size 224",
    "measure": "embprobe measure --samples S --reference photos --judge inception",
    "read": "embprobe read --embeddings E --reader knn --k 10",
    "ceiling": "embprobe ceiling --images scenes --grid 8,8",
    "report": "embprobe report METRICS-OF-ONE METRICS-OF-ANOTHER --latex",
    "compare": "embprobe compare --samples adm=adm.npz --samples mine=folder --reference photos",
    "demo": "embprobe demo --store /tmp/first",
    "plan": "embprobe plan study.yaml --set steps=50000",
    "run": "embprobe run imagenette64 --set images=imagenette64.zip --jobs 2",
    "ls": "embprobe ls diffuse --of photos --tree",
    "show": "embprobe show photos --png contact-sheet",
    "export": "embprobe export E --npy folder",
    "verify": "embprobe verify --repair photos",
    "rm": "embprobe rm --recursive photos",
    "gc": "embprobe gc --dry-run",
    "encoders": "embprobe encoders",
    "guide": "embprobe guide metrics",
}
FLOW = """\
images ─ extract → embeddings ─ compress → latents ─ diffuse → denoiser ─ sample → samples ─ evaluate → report
                                              └───── decode → decoder ────┘"""


def heading_of(command: str) -> str:
    """The heading that a command stands below."""
    return next((title for title, commands in GROUPS.items() if command in commands), "More")


def about(command: str) -> dict[str, Any]:  # Any: arguments of Typer
    """What Typer is told of a command."""
    brief = BRIEF[command]
    epilog = f"Example:  {EXAMPLES[command]}"
    return {
        "name": command,
        "short_help": brief,
        "epilog": epilog,
        "rich_help_panel": heading_of(command),
        "cls": Command,
    }


def opening() -> str:
    """What `embprobe` alone shows: how to begin, and what there is, on a screen of 80 columns and 24 rows."""
    rows = [
        f"embprobe {__version__}: what a frozen image encoder keeps, and what it throws away",
        "",
        "  embprobe demo                             a whole study in minutes",
        "  embprobe ingest --source photos/ --name photos            your own images",
        "  embprobe extract --images photos --encoder mae            your encoder",
        "  embprobe compare --samples mine=FOLDER --reference photos somebody's samples",
        "",
        *(line for title, commands in GROUPS.items() for line in wrapped(title, commands)),
        "",
        "embprobe COMMAND -h tells all about one; embprobe -h lists them with what they",
        "are for; embprobe guide explains; embprobe --install-completion helps typing",
    ]
    return "\n".join(rows)


def wrapped(title: str, commands: Sequence[str]) -> list[str]:
    """The commands of a group in lines that fit."""
    return textwrap.wrap(f"{title}:  {' '.join(commands)}", 80, subsequent_indent=" " * (len(title) + 3))


class Group(TyperGroup):
    """All commands, below the headings of the flow."""

    def list_commands(self, ctx: "Context") -> list[str]:
        """Their names in the order of the flow."""
        known = super().list_commands(ctx)
        order = [name for names in GROUPS.values() for name in names]
        return [name for name in order if name in known] + [name for name in known if name not in order]

    def format_commands(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """A section a heading, where help is plain text."""
        known = self.list_commands(ctx)
        for title in GROUPS:
            rows = [(name, BRIEF[name]) for name in known if heading_of(name) == title]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Command(TyperCommand):
    """A command whose options stand below headings."""

    def format_options(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """A section a heading, where help is plain text."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                sections.setdefault(panel, []).append(record)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """The example, in a line of its own however long."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(self.epilog + "\n")
