"""What `run` would do with a recipe, as a table."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict

from embprobe import console
from embprobe.running.forecast import Foreseen, total_of


def show_plan(rows: Sequence[Foreseen], as_json: bool) -> None:
    """The plan as a table with totals."""
    if as_json:
        console.result_json([asdict(r) for r in rows])
        return
    cells = [
        [
            r.step, r.artefact, r.what, r.state,
            "" if r.state == "cached" else "?" if r.seconds is None else console.duration(r.seconds),
            "?" if r.bytes is None else console.size(r.bytes), r.why,
        ]
        for r in rows
    ]  # fmt: skip
    console.print_table(["step", "artefact", "what", "state", "time", "disk", "why"], cells, wrapping=("what", "why"))
    console.result(total_of(rows) + f"; {console.size(shutil.disk_usage('.').free)} free here")
    rests = sorted({r.rests_on for r in rows if r.rests_on})
    if rests:
        shown = ", ".join(rests[:6]) + (f" and {len(rests) - 6} more" if len(rests) > 6 else "")
        console.result(f"times are in proportion to the work of {shown}, on the machine that made them")
