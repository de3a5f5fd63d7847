"""Every figure beside the page: drawings as SVG, sheets of images as PNG and SVG, all of them as PDF too where asked for."""

import base64
import importlib.util
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from embprobe.page.html import markup
from embprobe.page.pictures import png

if TYPE_CHECKING:
    import numpy as np

FONT = "Vera"  # comes with reportlab, and has the signs that figures are written with
STYLE = (
    "text{font-family:sans-serif;font-size:12px;fill:#555}.name,.strong{fill:#111}.strong{font-weight:bold}"
    ".axis{stroke:#ddd}.goal{stroke:#888}.control{stroke:#777;fill:none}"
)
LETTER = 7.2  # width of one, of the words beside a sheet's rows


class Place(Protocol):
    """Where files are written."""

    def write_bytes(self, name: str, data: bytes) -> None: ...


class Figures:
    """Writes figures into the folder `figures`."""

    def __init__(self, out: Place, *, pdf: bool = False) -> None:
        self.out, self.pdf = out, pdf

    def drawing(self, name: str, figure: str) -> None:
        """The first drawing of a page's figure."""
        self.vector(name, svg_file(figure))

    def sheet(self, name: str, image_HWC: "np.ndarray", beside: Sequence[str] = ()) -> None:
        """Images side by side, and the words beside their rows."""
        data = png(image_HWC)
        self.out.write_bytes(f"figures/{name}.png", data)
        self.vector(name, sheet_svg(data, image_HWC.shape[0], image_HWC.shape[1], beside))

    def vector(self, name: str, svg: bytes) -> None:
        """An SVG, and its PDF."""
        self.out.write_bytes(f"figures/{name}.svg", svg)
        if self.pdf:
            self.out.write_bytes(f"figures/{name}.pdf", pdf_of(svg))


def svg_file(figure: str) -> bytes:
    """A figure's first drawing as a file of its own."""
    drawn = figure[figure.index("<svg") : figure.index("</svg>") + 6]
    opened = drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" color="#222" ', 1)
    place = opened.index(">") + 1
    return f"{opened[:place]}<style>{STYLE}</style>{opened[place:]}".encode()


def sheet_svg(data: bytes, height: int, width: int, beside: Sequence[str]) -> bytes:
    """A PNG sheet with words beside its rows."""
    left, step = round(max(map(len, beside)) * LETTER) + 12 if beside else 0, height / max(1, len(beside))
    words = "".join(
        f'<text class="name" x="{left - 6}" y="{(i + 0.5) * step + 4:.1f}" text-anchor="end">{markup(word)}</text>'
        for i, word in enumerate(beside)
    )
    image = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {left + width} {height}"><style>{STYLE}</style>{words}'
        f'<image x="{left}" y="0" width="{width}" height="{height}" xlink:href="{image}" '
        'style="image-rendering:pixelated"/></svg>'
    ).encode()


def can_pdf() -> bool:
    """Whether what writes PDF is installed."""
    return importlib.util.find_spec("svglib") is not None


def pdf_of(svg: bytes) -> bytes:
    """An SVG as a page of its size; text in a font that the PDF brings along."""
    from reportlab.graphics import renderPDF
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from svglib.fonts import register_font
    from svglib.svglib import svg2rlg

    for name, file, weight in ((FONT, "Vera.ttf", "normal"), (f"{FONT}-Bold", "VeraBd.ttf", "bold")):
        pdfmetrics.registerFont(TTFont(name, file))
        register_font("sans-serif", file, weight=weight, rlgFontName=name)
    drawing, pdf = svg2rlg(io.BytesIO(svg)), io.BytesIO()
    assert drawing is not None  # of an SVG of our own
    renderPDF.drawToFile(drawing, pdf)
    return pdf.getvalue()
