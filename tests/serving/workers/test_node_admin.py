"""What operators see of a node where one worker tells what cannot be read."""

from __future__ import annotations

from typing import cast

import pytest
from trio.testing import wait_all_tasks_blocked

from trio_mcp.observability.metrics import Metrics
from trio_mcp.serving.workers.messages import Topic
from trio_mcp.serving.workers.node_admin import WorkersView
from trio_mcp.serving.workers.worker_process import WorkerProcess


class Worker:
    """Tells the same each time."""

    def __init__(self, name: str, told: bytes) -> None:
        self.name = name
        self.last_page = self._told = told
        self.answers = True

    async def ask(self, topic: Topic, seconds: float) -> bytes | None:
        return self._told if self.answers else None


def view(*workers: Worker) -> WorkersView:
    return WorkersView(Metrics(), lambda: cast("list[WorkerProcess]", list(workers)))


def sample(page: bytes, name: str) -> float:
    (line,) = [line for line in page.decode().splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def page_of(sessions: int) -> bytes:
    metrics = Metrics()
    for _ in range(sessions):
        metrics.session_opened("2025-11-25")
    return metrics.render()[0]


BAD = [b"\xff", b"a{b} 1", b"a many\n"]


@pytest.mark.parametrize("bad", BAD)
async def test_a_page_that_cannot_be_read_is_left_out_and_named_in_the_log_once(
    bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    good, broken = Worker("n-1", page_of(3)), Worker("n-2", bad)
    node = view(good, broken)
    for _ in range(2):
        page, _ = await node.metrics()
        assert sample(page, "trio_mcp_workers") == 2
    assert 'trio_mcp_sessions_opened_total{mcp_protocol_version="2025-11-25"} 3.0' in page.decode()
    (record,) = [record for record in caplog.records if record.getMessage() == "worker not understood"]
    assert record.__dict__["mcp_fields"]["worker"] == "n-2"
    # Its end harms nothing that the others have counted.
    node.note_end(cast("WorkerProcess", broken))
    node.note_end(cast("WorkerProcess", good))
    page, _ = await view_of_none(node)
    assert 'trio_mcp_sessions_opened_total{mcp_protocol_version="2025-11-25"} 3.0' in page.decode()


async def view_of_none(node: WorkersView) -> tuple[bytes, str]:
    node._workers = list
    return await node.metrics()


@pytest.mark.parametrize("bad", [b"", b"{}", b"[1]", b"[" * 100_000])
async def test_a_list_of_sessions_that_cannot_be_read_is_left_out(bad: bytes) -> None:
    node = view(Worker("n-1", b'[{"session":"a"}]'), Worker("n-2", bad))
    assert await node.sessions() == [{"session": "a"}]


OPENED = 'trio_mcp_sessions_opened_total{mcp_protocol_version="2025-11-25"}'


async def test_a_counter_of_the_node_does_not_fall_when_a_worker_does_not_answer_in_time() -> None:
    quick, slow = Worker("n-1", page_of(3)), Worker("n-2", page_of(4))
    node = view(quick, slow)
    page, _ = await node.metrics()
    assert sample(page, OPENED) == 7
    assert sample(page, "trio_mcp_sessions_active") == 7
    slow.answers = False
    page, _ = await node.metrics()
    assert sample(page, OPENED) == 7, "Prometheus would take less for a restart, and count all of it again"
    assert sample(page, "trio_mcp_sessions_active") == 3, "what it has now is not known"


async def test_what_a_worker_counted_that_ends_while_others_are_asked_is_counted_once() -> None:
    class Ending(Worker):
        async def ask(self, topic: Topic, seconds: float) -> bytes | None:
            # The other has answered by then.
            await wait_all_tasks_blocked()
            workers.remove(ends)
            node.note_end(cast("WorkerProcess", ends))
            return await super().ask(topic, seconds)

    ends = Worker("n-1", page_of(3))
    workers = [ends, Ending("n-2", page_of(4))]
    node = WorkersView(Metrics(), lambda: cast("list[WorkerProcess]", workers))
    page, _ = await node.metrics()
    assert sample(page, OPENED) == 7
    assert not node._pages.keys() - {"n-2"}, "nothing is kept of a worker that has ended"
