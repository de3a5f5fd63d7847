"""A comparison of encoders, read from evaluations, probes and what they were made from."""

import csv
import io
from dataclasses import dataclass
from functools import cached_property
from html import escape

from embprobe import page
from embprobe.page import Cell
from embprobe.store import Artefact, Json

Column = tuple[str, str, int, bool | None]
Figure = tuple[float, float | None, float | None]  # value and the ends of its interval

COLUMNS: tuple[Column, ...] = (  # key, header, digits, whether higher is better (None: no direction)
    ("fd", "FD ↓", 1, False),
    ("fd_infinity", "FD∞ ↓", 1, False),
    ("kid", "KID ↓", 4, False),
    ("score", "score ↑", 2, True),
    ("tv", "TV ↓", 3, False),
    ("precision", "precision ↑", 3, True),
    ("recall", "recall ↑", 3, True),
    ("asked_class", "asked class ↑", 3, True),
    ("gaussian_fd", "FD of Gaussian latents", 1, None),
    ("rfd", "FD of recon. ↓", 1, False),
    ("psnr", "PSNR ↑", 1, True),
    ("r2", "VAE R²", 3, None),
    ("linear", "linear ↑", 3, True),
    ("knn", "k-NN ↑", 3, True),
    ("pixel_r2", "pixel R²", 3, None),
)


@dataclass(frozen=True)
class Row:
    """A line of the table: figures by column, each (value, low, high)."""

    label: str
    count: int | None
    values: dict[str, Figure]
    is_floor: bool = False

    def json(self) -> dict[str, Json]:
        return {"label": self.label, "count": self.count, "floor": self.is_floor, "values": self.values}


class Study:
    """The evaluations and probes given, sorted by what they are about."""

    def __init__(self, artefacts: tuple[Artefact, ...]) -> None:
        everything = list(dict.fromkeys(b for a in artefacts for b in a.lineage()))
        self.all = everything
        self.probes = [a for a in everything if a.stage == "probe"]
        self.evaluations = [a for a in everything if a.stage == "evaluate"]
        self.of_samples = [a for a in self.evaluations if a.inputs["samples"].stage == "sample"]
        self.of_decoders = [a for a in self.evaluations if a.inputs["samples"].stage == "decode"]

    @cached_property
    def final(self) -> list[Artefact]:
        """Evaluations of finished denoisers."""
        return [
            a for a in self.of_samples if not at_milestone(a.inputs["samples"]) and not is_control(a.inputs["samples"])
        ]

    @cached_property
    def judges(self) -> list[str | None]:
        """Names of the judges, the first one given first; None alone where nothing was judged."""
        return list(dict.fromkeys(name for a in self.final for name in judged_by(a))) or [None]

    def label(self, embeddings: Artefact) -> str:
        """The encoder's name, with what tells it from others of the same name."""
        mine = encoder_label(embeddings)
        others = {encoder_label(a) for a in self.all if a.stage == "extract" and a != embeddings}
        return f"{mine} ({embeddings.short[:6]})" if mine in others else mine

    def sample_label(self, samples: Artefact) -> str:
        """Encoder, and how the samples were drawn where it differs from plain unconditional ones."""
        denoiser = samples.inputs["denoiser"]
        label = self.label(denoiser.inputs["latents"].inputs["embeddings"])
        if denoiser.options.get("conditional"):
            label += ", by class"
        if (samples.options.get("guidance") or 1) != 1:
            label += f", guidance {samples.options['guidance']:g}"
        alike = {a.inputs["samples"].inputs["denoiser"] for a in self.final}
        seeds = {d.options.get("seed") for d in alike if d.inputs == denoiser.inputs}
        return label + (f", seed {denoiser.options['seed']}" if len(seeds) > 1 else "")

    def rows(self, judge: str | None) -> list[Row]:
        """A judge's row for each set of samples, then its floor; the first judge's also tell of decoders and probes."""
        rows, covered = [], set()
        for evaluation in [a for a in self.final if judge in judged_by(a)]:
            samples = evaluation.inputs["samples"]
            decoder, latents = samples.inputs["decoder"], samples.inputs["denoiser"].inputs["latents"]
            covered.add(latents.inputs["embeddings"])
            judged = judged_by(evaluation)[judge]
            values = {k: (v["value"], v.get("low"), v.get("high")) for k, v in judged["metrics"].items()}
            drawn = [a for a in self.controls if a.inputs["samples"].inputs["decoder"] == decoder]
            rebuilt = [a for a in self.of_decoders if a.inputs["samples"] == decoder]
            values |= {"rfd": fd} if (fd := fd_of(rebuilt, judge)) else {}
            values |= {"gaussian_fd": fd} if (fd := fd_of(drawn, judge)) else {}
            if judge == self.judges[0]:
                probed = self.probed(latents.inputs["embeddings"])
                values |= single(decoder.metrics, "psnr") | single(latents.metrics, "r2") | probed
            rows.append(Row(self.sample_label(samples), judged["count"], values))
        alone = [p.inputs["embeddings"] for p in self.probes if p.inputs["embeddings"] not in covered]
        if judge == self.judges[0]:
            rows += [Row(self.label(a), None, self.probed(a)) for a in alone]
        return rows + self.floor(judge)

    @property
    def controls(self) -> list[Artefact]:
        """Evaluations of samples drawn without a denoiser."""
        return [a for a in self.of_samples if is_control(a.inputs["samples"])]

    def probed(self, embeddings: Artefact) -> dict[str, Figure]:
        """Linear, k-NN and pixel figures of a probe of these embeddings."""
        for probe in self.probes:
            if probe.inputs["embeddings"] == embeddings:
                found = probe.read_json("probe.json")
                return {
                    k: (found[k]["value"], found[k].get("low"), found[k].get("high"))
                    for k in ("linear", "knn", "pixel_r2")
                    if found.get(k)
                }
        return {}

    def floor(self, judge: str | None) -> list[Row]:
        """Real held-out images against real training images, once for each number of images."""
        found: dict[int, Row] = {}
        for evaluation in [a for a in self.final if judge in judged_by(a)]:
            judged = judged_by(evaluation)[judge]
            values: dict[str, Figure] = {
                k: (v["floor"], None, None)
                for k, v in judged["metrics"].items()
                if v.get("floor") is not None and k != "asked_class"
            }
            if values:
                found[judged["floor_count"]] = Row("real held-out images", judged["floor_count"], values, is_floor=True)
        return list(found.values())

    def lead(self) -> str:
        """What is compared."""
        images = [a for a in self.all if a.stage == "ingest"]
        words = ", ".join(f"{a.metrics['count']} images of {a.metrics['size']} px" for a in images)
        intervals = "Small figures are 95 % intervals over samples; they leave out the spread over training seeds."
        return f'<p class="soft">{escape(words)}. {intervals}</p>'

    def introduce(self, judge: str | None) -> str:
        """Who judged, and how well it knows the classes."""
        accuracies = [judged_by(a)[judge]["accuracy"] for a in self.final if judge in judged_by(a)]
        if judge is None or not accuracies:
            return ""
        known = "" if accuracies[0] is None else f", {accuracies[0]:.1%} accurate on held-out images"
        return f"<h3>Judged by {escape(judge + known)}</h3>"

    def caution(self) -> str:
        """What the table does not show."""
        told = []
        judged = [figures for e in self.final for figures in judged_by(e).values()]
        if any(not j["metrics"].get("fd_infinity", {}).get("reliable", True) for j in judged):
            told.append(
                "FD∞ wants at least four samples for each feature dimension and has fewer here: read it with care."
            )
        if any(j["count"] != j["floor_count"] for j in judged):
            told.append("The floor has fewer images than the samples (column n), which raises its FD.")
        if any(j["weak"] for j in judged):
            told.append("The judge is below 90 % accurate: class shares, score and asked class carry its mistakes.")
        seeds = {d.options.get("seed") for d in self.all if d.stage == "diffuse"}
        if len(seeds) < 2:
            told.append(
                "One training seed each: a difference of the size of the spread over seeds can't be told from luck."
            )
        return f'<p class="soft">{" ".join(told)}</p>' if told else ""


def at_milestone(samples: Artefact) -> bool:
    """Whether samples come from a denoiser before its last step."""
    step = samples.spec.get("milestone")
    return step is not None and step != samples.inputs["denoiser"].spec["steps"]


def is_control(samples: Artefact) -> bool:
    """Whether samples were drawn without the denoiser, each channel alone."""
    return samples.spec.get("sampler") == "gaussian"


def judged_by(evaluation: Artefact) -> dict[str | None, Json]:
    """An evaluation's figures by the name of the judge."""
    return {found["name"]: found for found in evaluation.read_json("metrics.json")["judges"].values()}


def fd_of(evaluations: list[Artefact], judge: str | None) -> Figure | None:
    """Fréchet distance with the ends of its interval, of the first evaluation by that judge; None if there is none."""
    for evaluation in evaluations:
        if judge in judged_by(evaluation):
            fd = judged_by(evaluation)[judge]["metrics"]["fd"]
            return fd["value"], fd.get("low"), fd.get("high")
    return None


def encoder_label(embeddings: Artefact) -> str:
    """`ijepa`, `mae`, `pixels`, … whatever was asked for, or what a pretrained encoder learned."""
    made = embeddings.inputs.get("encoder")
    if made is None:
        return str(embeddings.options["encoder"])
    return str(made.options["objective"]) + ("" if made.options["steps"] or made.options["weights"] else " untrained")


def single(metrics: dict[str, Json], key: str) -> dict[str, Figure]:
    value = metrics.get(key)
    return {} if value is None else {key: (value, None, None)}


class Table:
    """Rows as text, with the columns that some row fills and the best of each marked."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.columns = [c for c in COLUMNS if any(c[0] in row.values for row in rows)]
        self.headers = ["encoder", "n", *(c[1] for c in self.columns)]
        self.best: dict[str, float] = {}
        for key, _, _, higher in self.columns:
            values = [r.values[key][0] for r in rows if key in r.values and not r.is_floor]
            if higher is not None and len(values) > 1:
                self.best[key] = max(values) if higher else min(values)

    @cached_property
    def cells(self) -> list[list[Cell]]:
        """Text of every cell."""
        lines = []
        for row in self.rows:
            line = [Cell(row.label), Cell("" if row.count is None else str(row.count))]
            lines.append(line + [self.cell(row, key, digits) for key, _, digits, _ in self.columns])
        return lines

    def cell(self, row: Row, key: str, digits: int) -> Cell:
        """A figure, half the width of its interval, and whether it is the best."""
        if key not in row.values:
            return Cell("–")
        value, low, high = row.values[key]
        small = f"±{(high - low) / 2:.{digits}f}" if low is not None and high is not None else ""
        return Cell(f"{value:.{digits}f}", small, not row.is_floor and self.best.get(key) == value)

    def html(self) -> str:
        """The table for the page."""
        return page.table(self.headers, self.cells, [i for i, r in enumerate(self.rows) if r.is_floor])


def csv_bytes(tables: dict[str | None, Table]) -> bytes:
    """The tables one below the other, with values and interval ends at full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    columns = [c for c in COLUMNS if any(c in table.columns for table in tables.values())]
    writer.writerow(
        ["judge", "encoder", "n", "floor", *(f"{c[0]}{end}" for c in columns for end in ("", "_low", "_high"))]
    )
    for judge, table in tables.items():
        for row in table.rows:
            values = [v for c in columns for v in row.values.get(c[0], (None, None, None))]
            writer.writerow([judge, row.label, row.count, row.is_floor, *values])
    return buffer.getvalue().encode()
