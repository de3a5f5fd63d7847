"""Figures are whole files: SVG that draws by itself, and PDF whose words can be read."""

from xml.etree import ElementTree

import numpy as np
import pytest

from embprobe.errors import UserError
from embprobe.page import charts, figures
from embprobe.page.figures import Figures
from embprobe.stages.report import Report
from embprobe.store import Artefact
from tests.conftest import Zoo


class Out:
    """Takes files."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def write_bytes(self, name: str, data: bytes) -> None:
        self.files[name] = data


def written(pdf: bool) -> dict[str, bytes]:
    out = Out()
    made = Figures(out, pdf=pdf)
    made.drawing("bars", charts.bars({"hue": {"mae − 1": (0.5, 0.4, 0.6)}}, "R²"))
    made.sheet("sheet", np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8), ["real", "<mae>"])
    return out.files


def test_every_figure_is_an_svg_of_its_own_and_a_sheet_a_png_too() -> None:
    files = written(pdf=False)
    assert set(files) == {"figures/bars.svg", "figures/sheet.png", "figures/sheet.svg"}
    for name in ("figures/bars.svg", "figures/sheet.svg"):
        root = ElementTree.fromstring(files[name])
        assert (
            root.tag == "{http://www.w3.org/2000/svg}svg" and root.find("{http://www.w3.org/2000/svg}style") is not None
        )
    assert b"data:image/png;base64," in files["figures/sheet.svg"] and b"&lt;mae&gt;" in files["figures/sheet.svg"]


def test_a_pdf_embeds_its_font_and_draws_lines_and_pictures() -> None:
    pytest.importorskip("svglib")
    files = written(pdf=True)
    for name in ("bars", "sheet"):
        pdf = files[f"figures/{name}.pdf"]
        assert pdf.startswith(b"%PDF") and b"Vera" in pdf and len(pdf) > 2000
    assert b"/Image" in files["figures/sheet.pdf"]


def test_pdf_without_what_writes_it_is_refused_at_once(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures.importlib.util, "find_spec", lambda name: None)
    artefact: Artefact = zoo["images"]
    with pytest.raises(UserError, match=r"--pdf needs svglib; install it with `pip install 'embprobe\[pdf\]'`"):
        Report(artefacts=(artefact,), pdf=True)
