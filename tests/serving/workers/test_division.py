"""The limits of a node, divided among its workers."""

from __future__ import annotations

import pytest

from trio_mcp.serving.settings import SettingsError, load
from trio_mcp.serving.workers.division import check_divisible, settings_of_worker, share

MIB = 1 << 20


@pytest.mark.parametrize(("total", "workers"), [(10, 4), (7, 7), (100, 3), (1, 1)])
def test_all_shares_together_are_the_total(total: int, workers: int) -> None:
    shares = [share(total, workers, index) for index in range(workers)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


def test_a_worker_has_its_part_of_each_limit_of_the_node() -> None:
    settings = load(
        workers=4,
        max_sessions=10,
        max_kept_bytes=400 * MIB,
        max_connections=9,
        max_listen_streams=6,
        max_websockets=5,
        max_sessions_per_principal=3,
        max_sessions_per_address=4,
        admin_bind=":1",
    )
    first, last = (
        settings_of_worker(settings, name=f"n-{index}", index=index, secret="s", listen_streams=99) for index in (0, 3)
    )
    assert (first.max_sessions, last.max_sessions) == (3, 2)
    assert (first.max_connections, last.max_connections) == (3, 2)
    assert (first.max_listen_streams, last.max_listen_streams) == (2, 1)
    assert (first.max_websockets, last.max_websockets) == (2, 1)
    assert first.max_kept_bytes == 100 * MIB
    assert first.node_id == "n-0"
    assert (first.max_sessions_per_principal, first.max_sessions_per_address) == (3, 4), "counted by the supervisor"
    assert first.admin_bind is None, "the supervisor answers operators"


def test_the_servers_own_bound_on_listen_streams_is_divided_where_the_settings_have_none() -> None:
    worker = settings_of_worker(load(workers=2), name="n", index=0, secret="s", listen_streams=100)
    assert worker.max_listen_streams == 50
    assert "max_listen_streams" in worker.model_fields_set, "it would not reach the options otherwise"


def test_workers_share_the_secret_that_is_set_and_else_the_one_that_the_supervisor_made() -> None:
    made, own = "m" * 32, "o" * 32
    assert settings_of_worker(load(workers=2), name="n", index=0, secret=made, listen_streams=2).keys == (
        made.encode(),
    )
    settings = load(workers=2, secret=own)
    assert settings_of_worker(settings, name="n", index=0, secret=made, listen_streams=2).keys == (own.encode(),)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"workers": 8, "max_sessions": 7}, "max_sessions 7 is less than the number of workers, 8"),
        ({"workers": 8, "max_connections": 7}, "max_connections 7 is less than the number of workers, 8"),
        ({"workers": 8, "max_listen_streams": 7}, "max_listen_streams 7 is less than"),
        ({"workers": 8, "max_websockets": 7}, "max_websockets 7 is less than"),
        ({"workers": 2, "node_id": "n" * 51}, "node_id is longer than 50 characters"),
        ({"workers": 8, "max_kept_bytes": 100 * MIB}, "set max_kept_bytes to 134217728 or more"),
    ],
)
def test_limits_that_cannot_be_divided_are_refused_with_what_to_set(flags: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        check_divisible(load(**flags))
