"""What a node does about its records when it cannot know whether they are in Redis as they should be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.nodes import Activity, at, demo, in_process_cluster
from tests.cluster.parts import DirectoryHarness, directory_harness, snapshot
from tests.cluster.test_router import said_by
from trio_mcp import MCPServer, Session
from trio_mcp.cluster.membership import BEAT_SECONDS
from trio_mcp.cluster.store.port import Operation, OwnRecord, StoreDown

OVER_MEMORY = True


def lose_answers(made: DirectoryHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on records are written, and Redis is away before it says so."""
    run = made.link.run

    async def lost(operations: Sequence[Operation]) -> list[Any]:
        await run(operations)
        raise StoreDown("the connection broke")

    monkeypatch.setattr(made.link, "run", lost)


async def test_a_release_that_redis_did_not_confirm_is_put_right_with_the_next_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with directory_harness(tmp_path) as made:
        await made.directory.opened(snapshot())
        lose_answers(made, monkeypatch)
        assert not await made.directory.release(snapshot())
        assert (await made.record())["released"] is True
        assert made.trust.records_doubted
        assert list(made.directory.backups.writes()) == []
        monkeypatch.undo()
        await made.reconciler.compare([snapshot()])
        assert (await made.record())["released"] is False


@pytest.mark.parametrize("how", ["redis goes away", "it is cancelled"])
async def test_records_stay_doubted_when_a_comparison_does_not_come_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async with directory_harness(tmp_path) as made:
        made.trust.doubt_records()
        if how == "redis goes away":
            lose_answers(made, monkeypatch)
            with pytest.raises(StoreDown):
                await made.reconciler.compare([snapshot()])
        else:
            with trio.move_on_after(0):
                await made.reconciler.compare([snapshot()])
        assert made.trust.records_doubted
        monkeypatch.undo()
        # The first notices that Redis is back, which is a doubt of its own.
        for _ in range(2):
            await made.reconciler.compare([snapshot()])
        assert not made.trust.records_doubted


@pytest.mark.parametrize("claimed", [True, False])
async def test_a_session_whose_restore_took_longer_than_a_beat_is_given_up_if_another_node_has_claimed_it(
    tmp_path: Path, claimed: bool
) -> None:
    """A node that hears nothing of this one for so long may take it for gone."""

    def slow(name: str, activity: Activity) -> MCPServer:
        mcp = demo(name, activity)

        @mcp.on_restore
        async def take_long(session: Session) -> None:
            await trio.sleep(BEAT_SECONDS + 1)
            if claimed:
                await nodes.change_record(session.id, node="node3", boot="b3", epoch=2)

        return mcp

    async with in_process_cluster(tmp_path, build=slow, restore=True) as nodes:
        client = await nodes[1].wire.open()
        await nodes[1].die()
        asked: list[Operation] = []
        run = nodes[2].store.run

        async def noted(operations: Sequence[Operation]) -> list[Any]:
            asked.extend(operations)
            return await run(operations)

        nodes[2].store.run = noted  # type: ignore[method-assign]
        exchange = at(nodes[2], client).tool("where")
        if not claimed:
            assert await said_by(exchange) == "node2"
        else:
            assert await exchange.head() >= 200
        await nodes[2].flushed()
        assert [each.session_id for each in asked if isinstance(each, OwnRecord)] == [client.id]
        live = nodes[2].app.hub.owned(client.id)
        assert (live is None or live.closed_because is not None) is claimed
