"""The store at the other end of a link that does not answer as it should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from trio_mcp.cluster.store.linked import PATIENCE_SECONDS, LinkedStore
from trio_mcp.cluster.store.measured import MeasuredStore
from trio_mcp.cluster.store.port import ReadCard, StoreDown
from trio_mcp.observability.metrics import Metrics


class Answering:
    """A link that answers everything with `results`, and a subscription the second time."""

    def __init__(self, results: bytes) -> None:
        self._results = results
        self.subscribed = 0

    async def request(self, operations: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._results

    async def subscribe(self, hear: Callable[[bytes], None]) -> None:
        self.subscribed += 1
        if self.subscribed == 1:
            await trio.sleep_forever()


@pytest.mark.parametrize(
    "results", [b"", b"\xc1", b"\x90", b"\x92\xc0\xc0"], ids=["none", "bytes", "too few", "too many"]
)
async def test_results_that_cannot_be_read_are_an_outage(results: bytes) -> None:
    with pytest.raises(StoreDown, match="cannot be read"):
        await LinkedStore(Answering(results)).run([ReadCard("n")])


async def test_a_subscription_that_is_not_answered_is_asked_for_again(autojump_clock: trio.testing.MockClock) -> None:
    link = Answering(b"")
    joined = trio.Event()
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        listen = LinkedStore(link).listen
        nursery.start_soon(lambda: listen(hear=lambda message: None, joined=joined.set))
        await joined.wait()
        assert link.subscribed == 2
        assert trio.current_time() - began == pytest.approx(PATIENCE_SECONDS)
        nursery.cancel_scope.cancel("joined")


async def test_the_log_names_the_supervisor_and_no_redis(caplog: pytest.LogCaptureFixture) -> None:
    store = MeasuredStore(LinkedStore(Answering(b"")), Metrics())
    with pytest.raises(StoreDown):
        await store.run([ReadCard("n")])
    (record,) = caplog.records
    assert record.getMessage() == "supervisor is away"
    assert record.__dict__["mcp_fields"].keys() == {"why"}
