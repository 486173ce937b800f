"""Two pipelines of one node on two connections: what was said last is what Redis holds in the end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.parts import KEYS, DirectoryHarness, directory_harness, snapshot, way_to
from tests.rig.waiting import PATIENCE, until
from trio_mcp.cluster.store.port import Operation, OwnRecord, Store
from trio_mcp.sessions.close_reason import CloseReason

OVER_BOTH_STORES = True


class LateStore:
    """A way to the store by which the next operations on a session arrive late; all others at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.name_of, self.listen, self.close = store.name_of, store.listen, store.close
        self.shown, self.noun = store.shown, store.noun
        self.late = False
        self.held = trio.Event()
        self.go = trio.Event()

    async def run(self, operations: Sequence[Operation]) -> list[Any]:
        if self.late and any(hasattr(each, "session_id") for each in operations):
            self.late = False
            self.held.set()
            await self.go.wait()
        return await self._store.run(operations)


async def waits_in_line(made: DirectoryHarness) -> bool:
    return made.directory.writer.order.statistics().tasks_waiting > 0


def made_late(made: DirectoryHarness) -> LateStore:
    """From here on the next pipeline with a record is held."""
    link = LateStore(way_to(made.redis))
    made.store._store = link
    link.late = True
    return link


async def test_a_change_that_is_under_way_does_not_take_a_release_back(tmp_path: Path) -> None:
    async with directory_harness(tmp_path) as made:
        await made.directory.opened(snapshot())
        link = made_late(made)
        made.directory.changed(snapshot(log_level="error"))
        await link.held.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.directory.release, snapshot(log_level="error"))
            await until(partial(waits_in_line, made), "the release waits for the change")
            link.go.set()
        assert (await made.record())["released"] is True
        link.close()


async def test_a_check_that_is_under_way_does_not_bring_back_the_record_of_a_session_that_ended(tmp_path: Path) -> None:
    async with directory_harness(tmp_path) as made:
        await made.directory.opened(snapshot())
        link = made_late(made)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.reconciler.compare, [snapshot()])
            await link.held.wait()
            made.directory.closed(snapshot(), CloseReason.EXPIRED)
            await until(partial(waits_in_line, made), "the writer waits for the check")
            link.go.set()
        with trio.fail_after(PATIENCE):
            await made.directory.writer.flushed()
        assert await made.record() is None
        assert (await made.tombstone())["reason"] == "expired"
        link.close()


async def test_large_records_are_checked_by_few_in_one_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with directory_harness(tmp_path) as made:
        uris = tuple(f"x://{number}/" + "u" * 8_000 for number in range(8))
        run, sizes = made.store.run, []

        async def measured(operations: list[OwnRecord]) -> Any:
            sizes.append(sum(len(each.value) for each in operations))
            return await run(operations)

        monkeypatch.setattr(made.store, "run", measured)
        await made.reconciler.compare(snapshot(f"node1.x{number}", subscriptions=uris) for number in range(20))
        assert max(sizes) < 600_000
        assert sum(sizes) > 20 * 64_000
        assert len(await made.redis.ask("KEYS", KEYS.session("*"))) == 20


async def test_a_session_that_ends_while_others_are_checked_is_checked_no_more(tmp_path: Path) -> None:
    async with directory_harness(tmp_path) as made:
        open_ones = {"node1.a", "node1.b"}

        def living() -> Any:
            for number in range(600):
                yield snapshot(f"node1.x{number}")
            yield from (snapshot(each) for each in sorted(open_ones))

        link = made_late(made)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.reconciler.compare, living())
            await link.held.wait()
            open_ones.remove("node1.b")
            link.go.set()
        assert await made.record("node1.a") is not None
        assert await made.record("node1.b") is None
        link.close()
