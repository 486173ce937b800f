"""The comparison's arithmetic; its figures are for `make bench`."""

from benchmarks.__main__ import tables
from benchmarks.servers import SERVERS

OURS, PEER = SERVERS[0], SERVERS[2]


def last_row(text: str) -> list[str]:
    return [cell.strip() for cell in text.strip().splitlines()[-1].strip("|").split("|")]


def test_more_calls_and_less_memory_are_both_better() -> None:
    text = tables(
        {
            OURS: {"legacy calls/s": 8000.0, "KB per idle session": 10.0, "% CPU for open streams": 2.0},
            PEER: {"legacy calls/s": 2000.0, "KB per idle session": 35.0, "% CPU for open streams": 1.0},
        }
    )
    assert last_row(text) == ["mcp 2.3", "4.0", "3.5", "0.5"]


def test_a_figure_a_peer_does_not_have_is_no_ratio() -> None:
    text = tables({OURS: {"SSE calls/s": 900.0, "legacy calls/s": 8000.0}, PEER: {"legacy calls/s": 2000.0}})
    assert last_row(text) == ["mcp 2.3", "-", "4.0"]
