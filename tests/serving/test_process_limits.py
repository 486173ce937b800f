"""What the limits of a process allow its clients: bytes that wait in memory, open connections."""

from __future__ import annotations

import pytest

from trio_mcp.serving import process_limits
from trio_mcp.serving.process_limits import RESERVE, TooManyConnections, account_of, connection_limit
from trio_mcp.serving.settings import SettingsError, load

MIB = 1 << 20
GIB = 1 << 30


@pytest.mark.parametrize(
    ("limit", "given", "account"),
    [
        (None, {}, 256 * MIB),
        (GIB, {}, 256 * MIB),
        (4 * GIB, {}, GIB),
        (32 * MIB, {}, 16 * MIB),
        (32 * MIB, {"max_body": MIB}, 8 * MIB),
        (GIB, {"max_kept_bytes": "64MiB"}, 64 * MIB),
    ],
)
def test_the_account_is_a_quarter_of_the_limit_or_what_was_set(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, given: dict[str, object], account: int
) -> None:
    monkeypatch.setattr(process_limits, "memory_limit", lambda: limit)
    assert account_of(load(**given)).limit == account


def test_an_account_in_which_a_body_is_more_than_a_quarter_is_refused() -> None:
    with pytest.raises(SettingsError, match="less than four times max_body"):
        load(max_kept_bytes="8MiB")


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
def test_the_bound_on_connections(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, wanted: int | None, found: int | None
) -> None:
    monkeypatch.setattr(process_limits, "_descriptors", lambda: limit)
    assert connection_limit(wanted) == found


def test_more_than_there_can_be_is_refused_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_limits, "_descriptors", lambda: 64)
    with pytest.raises(TooManyConnections, match=r"ulimit -n 1040\), or set max_connections to 24 or less"):
        connection_limit(1000)
