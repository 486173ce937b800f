"""A tool whose result clients show as a chart (MCP Apps), and others as text. `trio-mcp serve examples/chart.py`."""

from pathlib import Path
from random import Random

from pydantic import BaseModel

from trio_mcp import MCPServer, ToolError

mcp = MCPServer("sales", instructions="Sales of a made-up shop.")

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class Month(BaseModel):
    month: str
    amount: int


class Sales(BaseModel):
    year: int
    months: list[Month]


@mcp.tool(ui="ui://sales/chart")
async def sales(year: int = 2026) -> Sales:
    """Sales of a year by month, in thousands."""
    if not 2000 <= year <= 2026:
        raise ToolError("The shop has figures of 2000 to 2026")
    figures = Random(year)  # The same year has the same figures.
    return Sales(year=year, months=[Month(month=month, amount=figures.randint(20, 95)) for month in MONTHS])


@mcp.app("ui://sales/chart", title="Sales by month", prefers_border=True)
def chart() -> str:
    return (Path(__file__).parent / "chart.html").read_text(encoding="utf-8")


if __name__ == "__main__":
    mcp.run()
