"""A cancel scope that is kept from call to call: what each call may expect of it, as if it were its own."""

from __future__ import annotations

import math
from types import TracebackType

import pytest
import trio
from trio.testing import MockClock

from trio_mcp.dispatch.call import CallScope
from trio_mcp.dispatch.dispatcher import KeptScope


class Keeping(KeptScope):
    """A kept scope that no exception leaves: a cancellation that came out of a call would be taken for the end of the block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        super().__exit__(kind, error, traceback)
        return False if error is None else pytest.fail(f"{error!r} came out")


async def runs_undisturbed(scope: CallScope) -> bool:
    """Run a call in `scope` that waits a while; whether it came to its end."""
    with scope:
        await trio.sleep(60)
        return True
    return False


async def test_a_cancelled_call_ends_alone(autojump_clock: MockClock) -> None:
    with Keeping() as kept:
        for _ in range(2):
            scope = kept.lend()
            scope.cancel("the client left")
            assert not await runs_undisturbed(scope)
            assert await runs_undisturbed(kept.lend())


async def test_a_call_is_cancelled_while_it_waits(autojump_clock: MockClock) -> None:
    with Keeping() as kept:
        scope = kept.lend()
        began = trio.current_time()
        trio.lowlevel.spawn_system_task(cancel_in, 5, scope)
        assert not await runs_undisturbed(scope)
        assert 5 <= trio.current_time() - began < 6
        assert await runs_undisturbed(kept.lend())


async def cancel_in(seconds: float, scope: CallScope) -> None:
    await trio.sleep(seconds)
    scope.cancel()


async def test_a_cancellation_that_comes_too_late_does_not_reach_the_next_call(autojump_clock: MockClock) -> None:
    with Keeping() as kept:
        first = kept.lend()
        assert await runs_undisturbed(first)
        second = kept.lend()
        first.cancel("too late, before the next call")
        done = False
        with second:
            await trio.lowlevel.checkpoint()
            first.cancel("too late, amid the next call")
            await trio.sleep(1)
            done = True
        assert done
        first.cancel("too late, after the next call")
        await trio.lowlevel.checkpoint()
        assert await runs_undisturbed(kept.lend())


async def test_a_call_that_is_cancelled_in_its_last_step_leaves_nothing_to_the_next(autojump_clock: MockClock) -> None:
    with Keeping() as kept:
        scope = kept.lend()
        with scope:
            scope.cancel()
        await trio.lowlevel.checkpoint()
        assert await runs_undisturbed(kept.lend())


async def test_what_a_call_raises_comes_out_and_the_scope_serves_the_next(autojump_clock: MockClock) -> None:
    with Keeping() as kept:
        with pytest.raises(ValueError, match="mine"):
            with kept.lend():
                raise ValueError("mine")
        assert await runs_undisturbed(kept.lend())


async def test_cleanup_that_fails_in_a_cancelled_call_comes_out_without_the_cancellation(
    autojump_clock: MockClock,
) -> None:
    with Keeping() as kept:
        scope = kept.lend()
        scope.cancel()
        with pytest.RaisesGroup(ValueError):
            with scope:
                async with trio.open_nursery():
                    try:
                        await trio.sleep_forever()
                    finally:
                        raise ValueError("in the cleanup")
        assert await runs_undisturbed(kept.lend())


async def test_a_cancellation_from_outside_passes_and_ends_the_task(autojump_clock: MockClock) -> None:
    with trio.CancelScope() as outer:
        with KeptScope() as kept:
            outer.cancel()
            await runs_undisturbed(kept.lend())
            raise AssertionError("the call was not cancelled")
    assert outer.cancelled_caught


async def test_a_cancellation_from_outside_passes_where_the_call_is_cancelled_too(autojump_clock: MockClock) -> None:
    with trio.CancelScope() as outer:
        with KeptScope() as kept:
            scope = kept.lend()
            scope.cancel()
            outer.cancel()
            await runs_undisturbed(scope)
            raise AssertionError("the call was not cancelled")
    assert outer.cancelled_caught


@pytest.mark.parametrize("deadline", [5, math.inf])
async def test_a_scope_that_a_call_leaves_open_is_an_error_of_that_call_alone(
    autojump_clock: MockClock, deadline: float
) -> None:
    with Keeping() as kept:
        with pytest.raises(RuntimeError, match="Cancel scope stack corrupted"):
            with kept.lend():
                left_open = trio.CancelScope(deadline=trio.current_time() + deadline)
                left_open.__enter__()
        assert await runs_undisturbed(kept.lend())
        left_open.cancel()
        assert await runs_undisturbed(kept.lend())


async def test_within_another_scope_of_its_task_a_call_gets_a_scope_of_its_own(autojump_clock: MockClock) -> None:
    with Keeping() as kept:
        with trio.move_on_after(5) as around:
            scope = kept.lend()
            assert isinstance(scope, trio.CancelScope)
            assert not await runs_undisturbed(scope)
        assert around.cancelled_caught
        assert not isinstance(kept.lend(), trio.CancelScope)


async def test_a_trio_that_does_not_tell_which_scope_is_innermost_costs_a_scope_for_each_call(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trio_mcp.dispatch.dispatcher._STATUS", "_renamed")
    with Keeping() as kept:
        scope = kept.lend()
        assert isinstance(scope, trio.CancelScope)
        assert await runs_undisturbed(scope)
