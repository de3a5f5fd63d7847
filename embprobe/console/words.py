"""Numbers and text as people read them on a terminal."""

import re
import textwrap
from collections.abc import Sequence

# What a terminal obeys or shows as something else: C0 but the newline, DEL, C1, line separators, bidi, lone surrogates.
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Text with what a terminal would obey spelled out, as \\x1b; newlines stay."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """The same with newlines spelled out too."""
    return visible(text).replace("\n", "\\n")


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """A span of time for people."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def is_number(cell: str) -> bool:
    """Whether a cell of a table stands to the right."""
    return cell.strip()[:1] in "-+0123456789–" or cell == ""


def aligned_lines(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """A table as lines, the headers first; columns as wide as their longest cell, those of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if numbers else cell.ljust(width)
            for cell, width, numbers in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (headers, *rows)
    ]


def folded_lines(
    headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], below: Sequence[str], width: int
) -> list[str]:
    """The same for a terminal that is too narrow: the columns in `below` stand under each row, with their headers."""
    stay = [i for i, header in enumerate(headers) if header not in below]
    lines = aligned_lines(
        [headers[i] for i in stay], [[row[i] for i in stay] for row in rows], [right[i] for i in stay]
    )
    folded = [lines[0]]
    for line, row in zip(lines[1:], rows, strict=True):
        told = [f"{header}: {cell}" for header, cell in zip(headers, row, strict=True) if header in below and cell]
        folded += [line, *textwrap.wrap("   ".join(told), width, initial_indent="    ", subsequent_indent="      ")]
    return folded
