"""Report: one self-contained page that compares encoders, with its table, grids, curves and provenance."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Artefact, Json
from embprobe.study import Figure, Study, Table, csv_bytes, is_control, judged_by

if TYPE_CHECKING:
    import numpy as np

SHOWN = 64
NEIGHBOURS = 8


@dataclass(frozen=True, kw_only=True)
class Report(Stage):
    """Write one HTML page (and its PNG, SVG, CSV parts) from evaluations, probes and whatever they were made from."""

    artefacts: tuple[Artefact, ...] = opt("evaluate and probe artefacts (others add their part)", positional=True)
    title: str = opt("the page's heading", "What the encoders keep")
    device: str = opt("taken as by every stage; a report needs none", "auto", runtime=True)

    def __post_init__(self) -> None:
        if not self.artefacts:
            raise UserError("report needs artefacts: `embprobe report A…`, evaluations and probes first of all")

    def check(self) -> None:
        if not any(a.stage in ("evaluate", "probe") for a in self.artefacts):
            raise UserError("report needs at least one evaluate or probe artefact; `embprobe ls` lists what is there")

    def run(self, out: Artefact) -> None:
        from embprobe import page

        study = Study(self.artefacts)
        tables = {judge: Table(study.rows(judge)) for judge in study.judges}
        first = next(iter(tables.values()))
        plain = [[c.text + (f" {c.small}" if c.small else "") for c in row] for row in first.cells]
        values = {judge: [r.json() for r in table.rows] for judge, table in tables.items()}
        out.write_json("table.json", {"headers": first.headers, "rows": plain, "values": values})
        out.write_bytes("table.csv", csv_bytes(tables))
        figures = Figures(study, out)
        sections = [
            ("Comparison", "".join(study.introduce(j) + t.html() for j, t in tables.items()) + study.caution()),
            ("Samples", figures.samples()),
            ("Reconstructions by step", figures.reconstructions()),
            ("Curves over training", figures.curves()),
            ("What the embeddings keep", figures.factors()),
            ("Nearest training images", figures.neighbours()),
            ("Provenance", provenance(self.artefacts)),
        ]
        out.write_bytes("report.html", page.page(self.title, study.lead(), sections).encode())
        out.note(page="report.html", systems=[r.label for r in first.rows])


# ---- figures


class Figures:
    """The page's pictures; each is also written as a file of its own."""

    def __init__(self, study: Study, out: Artefact) -> None:
        self.study, self.out = study, out

    def keep(self, name: str, sheet: "np.ndarray", caption: str) -> str:
        """Writes a PNG and returns its place in the page."""
        from embprobe import page

        data = page.png(sheet)
        safe = "".join(c if c.isalnum() else "-" for c in name).strip("-")
        self.out.write_bytes(f"figures/{safe}.png", data)
        return page.picture(data, caption)

    def shown(self) -> list[tuple[Artefact, Artefact]]:
        """Each set of samples once, with the first evaluation of it."""
        return list({a.inputs["samples"]: a for a in reversed(self.study.final)}.items())[::-1]

    def samples(self) -> str:
        """A grid of samples of each system, classes in rows where they were asked for, and one of real images."""
        import numpy as np

        from embprobe import page

        found = ""
        for made, evaluation in self.shown():
            images = made.array("images")
            rows = np.arange(min(SHOWN, len(images)))
            caption = self.study.sample_label(made)
            if made.has("label"):
                label = made.array("label").read()
                classes = made.read_json("classes.json")
                rows = np.concatenate([np.nonzero(label == c)[0][:8] for c in range(min(10, len(classes)))])
                caption += " (a class each row: " + ", ".join(classes[:10]) + ")" if len(set(label)) > 1 else ""
            found += self.keep(f"samples {caption[:40]} {evaluation.short}", page.grid(images.take(rows), 8), caption)
        for images_of in [a for a in self.study.all if a.stage == "ingest"][:1]:
            rows = np.nonzero(images_of.array("split").read() == 0)[0]
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:SHOWN])
            found += self.keep("real", page.grid(self.sized(images_of, rows), 8), "real training images")
        return f'<div class="row">{found}</div>' if found else ""

    def sized(self, images: Artefact, rows: "np.ndarray") -> "np.ndarray":
        """Real images at the size of the samples."""
        from embprobe.judges import resized

        sizes = [e.inputs["samples"].array("images").shape[1] for e in self.study.final]
        found = images.array("images").take(rows)
        return found if not sizes or found.shape[1] == sizes[0] else resized(found, sizes[0])

    def reconstructions(self) -> str:
        """For each decoder: the same held-out images after some steps, the originals last."""
        import numpy as np

        from embprobe import page

        found = ""
        for decoder in [a for a in self.study.all if a.stage == "decode" and a.has("snapshots")]:
            snapshots = decoder.array("snapshots")
            shown = snapshots.read()
            latents = decoder.inputs["latents"]
            source = decoder.inputs.get("images") or latents.inputs["embeddings"].inputs["images"]
            real = self.sized(source, np.array(snapshots.attrs["rows"]))
            if real.shape[1] != shown.shape[2]:
                continue
            steps = ", ".join(str(s) for s in snapshots.attrs["steps"])
            label = self.study.label(latents.inputs["embeddings"])
            sheet = page.grid(np.concatenate([*shown, real]), shown.shape[1])
            found += self.keep(
                f"reconstructions {label} {decoder.short}", sheet, f"{label}: after {steps} steps; originals last"
            )
        return f'<div class="row">{found}</div>' if found else ""

    def curves(self) -> str:
        """FD, precision and recall over the milestones that were evaluated."""
        from embprobe import page

        found, judge = "", self.study.judges[0]
        for key, name in (("fd", "FD"), ("precision", "precision"), ("recall", "recall")):
            series: dict[str, list[tuple[float, float]]] = {}
            for evaluation in [a for a in self.study.of_samples if judge in judged_by(a)]:
                made = evaluation.inputs["samples"]
                if is_control(made):
                    continue
                denoiser = made.inputs["denoiser"]
                step = made.spec.get("milestone") or denoiser.spec["steps"]
                epochs = denoiser.metrics["epochs"] * step / denoiser.spec["steps"]
                value = judged_by(evaluation)[judge]["metrics"][key]["value"]
                series.setdefault(self.study.sample_label(made), []).append((epochs, value))
            series = {k: v for k, v in series.items() if len(v) > 1}
            if series:
                chart = page.curves(series, "epochs (images seen ÷ training images)", name)
                self.out.write_bytes(
                    f"figures/curve-{key}.svg", chart[chart.index("<svg") : chart.index("</svg>") + 6].encode()
                )
                found += chart
        return f'<div class="row">{found}</div>' if found else ""

    def factors(self) -> str:
        """Bars: what a linear reader finds of each planted factor, pooled and on the grid."""
        from embprobe import page

        found = ""
        for view in ("grid", "pooled"):
            groups: dict[str, dict[str, Figure]] = {}
            for probe in self.study.probes:
                label = self.study.label(probe.inputs["embeddings"])
                for name, factor in (probe.read_json("probe.json").get("factors") or {}).items():
                    kind = "accuracy" if factor["kind"] == "category" else "R²"
                    value = factor[view]
                    groups.setdefault(f"{name} ({kind})", {})[label] = (
                        value["value"],
                        value.get("low"),
                        value.get("high"),
                    )
            if groups:
                chart = page.bars(groups, f"read linearly from the {'whole grid' if view == 'grid' else 'mean token'}")
                self.out.write_bytes(
                    f"figures/factors-{view}.svg", chart[chart.index("<svg") : chart.index("</svg>") + 6].encode()
                )
                found += chart
        return f'<div class="row">{found}</div>' if found else ""

    def neighbours(self) -> str:
        """Some samples above the training images nearest to them in the judge's features."""
        import numpy as np
        import torch

        from embprobe import page
        from embprobe.metrics.manifold import squared_distances

        found = ""
        for made, evaluation in self.shown():
            features = torch.from_numpy(evaluation.array("judge_samples_features").read())
            places = np.searchsorted(
                evaluation.inputs["real"].array("train_rows").read(), evaluation.array("train_rows").read()
            )
            real = torch.from_numpy(evaluation.inputs["real"].array("train_features").take(places))
            near, nearest = squared_distances(features, real).min(1)
            chosen = near.argsort()[:NEIGHBOURS]
            mine = evaluation.array("samples_rows").read()[chosen.numpy()]
            theirs = evaluation.array("train_rows").read()[nearest[chosen].numpy()]
            sheet = np.concatenate(
                [made.array("images").take(mine), self.sized(evaluation.inputs["reference"], theirs)]
            )
            caption = (
                f"{self.study.sample_label(made)}: the {len(chosen)} samples nearest to a training image (below each)"
            )
            found += self.keep(f"nearest {evaluation.short}", page.grid(sheet, len(chosen)), caption)
        return f'<div class="row">{found}</div>' if found else ""


# ---- provenance


def provenance(artefacts: tuple[Artefact, ...]) -> str:
    """Every artefact behind the page, in the order it was made, with the command that makes it again."""
    from html import escape

    from embprobe import console, page
    from embprobe.page import Cell

    everything = list(dict.fromkeys(b for a in artefacts for b in a.lineage()))
    everything.sort(key=lambda a: a.manifest["finished"])
    rows = [
        [Cell(a.stage), Cell(a.short), Cell(console.duration(a.manifest["seconds"])), Cell(console.size(a.manifest["bytes"])),
         Cell(a.manifest["host"]), Cell(a.manifest["finished"])]
        for a in everything
    ]  # fmt: skip
    commands = "\n".join(command(a) for a in everything)
    versions = "  ".join(f"{k} {v}" for k, v in everything[-1].manifest["versions"].items() if v)
    return (
        page.table(["stage", "artefact", "time", "size", "host", "finished"], rows)
        + f"<details><summary>Commands that make it again</summary><pre><code>{escape(commands)}</code></pre></details>"
        + f'<p class="soft">{escape(versions)}</p>'
    )


def command(artefact: Artefact) -> str:
    """The command line of an artefact."""
    return f"embprobe {artefact.stage}{''.join(_words(artefact.options))}"


def _words(options: dict[str, Json]) -> Iterator[str]:
    import shlex

    for key, value in options.items():
        if value is None or key == "device":
            continue
        if key == "artefacts":
            yield "".join(f" {v[:10]}" for v in value)
        elif isinstance(value, bool):
            yield f" --{'' if value else 'no-'}{key.replace('_', '-')}"
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f" --{key.replace('_', '-')} {shlex.quote(text)}"
