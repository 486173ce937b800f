"""Tables of figures that the documentation quotes, each with its date."""

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["between", "table", "today", "write"]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns padded so that it also reads well in a terminal."""
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |\n" for line in lines
    )


def today() -> str:
    """The day of the measurement, in UTC: `2026-11-20`."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def write(path: Path, text: str) -> None:
    """Write a page, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def between(path: Path, marker: str, text: str) -> None:
    """Replace the text between `<!-- marker -->` and `<!-- /marker -->`; a page without them gets both at its end."""
    opening, closing = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    page = path.read_text() if path.exists() else ""
    if opening not in page or closing not in page:
        page = f"{page.rstrip()}\n\n{opening}\n{closing}\n".lstrip()
    before, rest = page.split(opening, 1)
    after = rest.split(closing, 1)[1]
    write(path, f"{before}{opening}\n\n{text.strip()}\n\n{closing}{after}")
