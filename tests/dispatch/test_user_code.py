"""The boundary of user code: what becomes of each thing it may raise."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from typing import Any

import pytest
import trio

from tests.doubles import kept_cancelled
from trio_mcp.dispatch.user_code import call_user, owning_sigint, user_code
from trio_mcp.protocol.errors import UserCodeCrash


class Own(BaseException):
    """As a library might have one."""


NO_EXCEPTIONS: list[BaseException] = [
    SystemExit(2),
    GeneratorExit(),
    asyncio.CancelledError(),
    Own("mine"),
    BaseExceptionGroup("both", [SystemExit(2), ValueError("x")]),
]


@pytest.mark.parametrize("raised", NO_EXCEPTIONS, ids=lambda it: type(it).__name__)
async def test_what_is_no_exception_becomes_one_that_holds_it(raised: BaseException) -> None:
    async def handler() -> None:
        raise raised

    with pytest.raises(UserCodeCrash) as crash:
        await call_user(handler, is_async=True, limiter=None)
    assert crash.value.raised is raised


@pytest.mark.parametrize("raised", [*NO_EXCEPTIONS, KeyboardInterrupt()], ids=lambda it: type(it).__name__)
async def test_in_a_thread_it_becomes_one_too_and_so_does_a_keyboard_interrupt(raised: BaseException) -> None:
    def handler() -> None:
        raise raised

    with pytest.raises(UserCodeCrash) as crash:
        await call_user(handler, is_async=False, limiter=None)
    assert crash.value.raised is raised


@pytest.mark.parametrize("raised", [ValueError("x"), ExceptionGroup("x", [ValueError()])], ids=["one", "group"])
async def test_an_exception_comes_through_as_it_is(raised: Exception) -> None:
    with pytest.raises(type(raised)) as same:
        with user_code():
            raise raised
    assert same.value is raised


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])])
async def test_ctrl_c_passes_unless_sigint_is_ours(raised: BaseException) -> None:
    with pytest.raises(type(raised)):
        with user_code():
            raise raised
    with owning_sigint(), pytest.raises(UserCodeCrash):
        with user_code():
            raise raised


async def test_cancelled_passes_and_so_it_does_out_of_a_group_whose_rest_is_a_crash() -> None:
    crashes: list[BaseException] = []
    with trio.CancelScope() as scope:
        try:
            with user_code():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_crash_when_cancelled)
                    nursery.start_soon(trio.sleep_forever)
                    scope.cancel()
        except* UserCodeCrash as group:
            crashes.extend(group.exceptions)
    assert scope.cancelled_caught
    (crash,) = crashes
    assert isinstance(crash, UserCodeCrash)


async def _crash_when_cancelled() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise SystemExit(3)


@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: BaseExceptionGroup("", [it, SystemExit()])])
async def test_a_cancelled_that_was_kept_and_raised_again_is_a_crash(wrap: Callable[..., BaseException]) -> None:
    kept = await kept_cancelled()
    with pytest.raises(UserCodeCrash):
        with user_code():
            raise wrap(kept)


async def test_a_coroutine_that_is_closed_stays_closed() -> None:
    async def task() -> None:
        with user_code():
            await trio.sleep_forever()

    # Closed by another task than the one it ran in, as garbage is.
    async with trio.open_nursery() as nursery:
        ran: list[trio.lowlevel.Task] = []
        coroutine = task()

        async def host() -> None:
            ran.append(trio.lowlevel.current_task())
            # One step by hand: it waits now in the middle of its block.
            coroutine.send(None)

        nursery.start_soon(host)
    coroutine.close()


class Later:
    def __await__(self) -> Generator[Any, Any, str]:
        yield from trio.lowlevel.checkpoint().__await__()  # noqa: ASYNC105
        return trio.lowlevel.current_task().name


async def test_an_awaitable_is_awaited_in_the_loop_whoever_returns_it() -> None:
    async def inner() -> str:
        await trio.lowlevel.checkpoint()
        return "done"

    async def returns_coroutine() -> object:
        return inner()

    assert await call_user(lambda: inner(), is_async=False, limiter=None) == "done"
    assert await call_user(returns_coroutine, is_async=True, limiter=None) == "done"
    assert await call_user(Later, is_async=False, limiter=None) == trio.lowlevel.current_task().name


async def test_a_thread_sees_the_context_of_its_caller() -> None:
    who = contextvars.ContextVar("who", default="nobody")
    who.set("me")
    assert await call_user(who.get, is_async=False, limiter=None) == "me"
