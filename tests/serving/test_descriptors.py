"""How many connections fit below the limit of descriptors."""

from __future__ import annotations

import pytest

from trio_mcp.serving import process_limits
from trio_mcp.serving.process_limits import RESERVE, TooManyConnections, connection_limit


@pytest.mark.parametrize(
    ("limit", "wanted", "found"),
    [
        (None, None, None),
        (None, 7, 7),
        (64, None, 24),
        (1024, None, 896),
        (1024, 100, 100),
        (1024, 1024 - RESERVE, 1024 - RESERVE),
        (1 << 20, None, (1 << 20) * 7 // 8),
        (32, None, 1),
    ],
)
def test_the_bound(monkeypatch: pytest.MonkeyPatch, limit: int | None, wanted: int | None, found: int | None) -> None:
    monkeypatch.setattr(process_limits, "_descriptors", lambda: limit)
    assert connection_limit(wanted) == found


def test_more_than_there_can_be_is_refused_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_limits, "_descriptors", lambda: 64)
    with pytest.raises(TooManyConnections, match=r"ulimit -n 1040\), or set max_connections to 24 or less"):
        connection_limit(1000)
