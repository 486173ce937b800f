"""The parts of README.md that are not written by hand: results and settings, each between its markers."""

from pathlib import Path

from tools.report import between, table
from trio_mcp.cli.settings_flags import markdown
from trio_mcp.serving.settings_report import describe

__all__ = ["README", "fill", "records", "results"]

REPOSITORY = Path(__file__).resolve().parent.parent
README = REPOSITORY / "README.md"
CONFORMANCE = REPOSITORY / "docs" / "conformance.md"
CLIENTS = REPOSITORY / "docs" / "clients.md"

_FRONTS = {"own": "our listener", "hypercorn": "Hypercorn"}


def fill(readme: Path) -> None:
    """Rewrite the generated parts of `readme`; all else stays as it is."""
    between(readme, "results", results(CONFORMANCE.read_text(), CLIENTS.read_text()))
    between(readme, "settings", markdown(describe()))


def results(conformance: str, clients: str) -> str:
    """What the two pages say, the one about conformance with a line for each run instead of each run and front."""
    before, rows, after = _page(conformance)
    conversations = _body(clients).partition("\n## ")[0].rstrip()
    return "\n".join([*before, "", _by_run(records(rows)).rstrip(), *after, "", conversations])


def records(rows: list[str]) -> list[dict[str, str]]:
    """The lines of a Markdown table as one record a row."""
    cells = [[cell.strip() for cell in row.strip("| \n").split("|")] for row in rows]
    return [dict(zip(cells[0], line, strict=True)) for line in cells[2:]]


def _page(text: str) -> tuple[list[str], list[str], list[str]]:
    """The lines before the table, of the table, and after it; without the heading."""
    lines = _body(text).splitlines()
    rows = [number for number, line in enumerate(lines) if line.startswith("|")]
    return lines[: rows[0] - 1], lines[rows[0] : rows[-1] + 1], lines[rows[-1] + 1 :]


def _body(text: str) -> str:
    return text.split("\n", 1)[1].strip()


def _by_run(rows: list[dict[str, str]]) -> str:
    runs = dict.fromkeys(row["run"] for row in rows)
    found = {(row["run"], row["front"]): _cell(row) for row in rows}
    lines = [[f"`{run}`", *(found.get((run, front), "-") for front in _FRONTS)] for run in runs]
    return table(("run", *_FRONTS.values()), lines)


def _cell(row: dict[str, str]) -> str:
    """`83 passed`, and whatever did not."""
    others = {name: row[name] for name in ("failed", "warned") if row[name] != "0"}
    said = [f"{row['passed']} passed", *(f"{count} {name}" for name, count in others.items())]
    return "; ".join(said) if row["verdict"] == "passes" else f"**{'; '.join(said)}**"


if __name__ == "__main__":
    fill(README)
