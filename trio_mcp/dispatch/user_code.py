"""The boundary that all user code runs behind (handlers, routes, hooks, lifespans, mounted apps), and what becomes of a crash.

what user code raised ─┬─ an Exception ────────────────────────────────────▶ as it is
                       ├─ Trio's Cancelled, a coroutine's close, Ctrl+C ───▶ as it is
                       └─ anything else (SystemExit, …, groups of them) ───▶ UserCodeCrash, an Exception that holds it

Above it `except Exception` contains whatever a handler does. What becomes of a crash (an error result, the end of one
session, a 500) is decided there; `report` writes the one log line with the reference that a client is shown.
"""

from __future__ import annotations

import inspect
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar

import trio

from trio_mcp.dispatch.call import Call
from trio_mcp.features.signature import Signature
from trio_mcp.observability.logs import event, leaves
from trio_mcp.protocol.errors import UserCodeCrash

__all__ = [
    "call_user",
    "crashed",
    "invoke",
    "labels",
    "owning_sigint",
    "report",
    "user_code",
    "user_context",
    "without_crash",
]

T = TypeVar("T")

_ASYNCIO = "asyncio does not run in handlers, which run on Trio: bridge it with trio.to_thread, see docs/handlers.md, asyncio libraries"
_MASKED = "clients see the reference and not the text: raise ToolError for words of your own, or use MCPServer(mask_errors=False)"

_NO_ASYNCIO_LOOP = ("no running event loop", "There is no current event loop")

_sigint_owners = 0
"""Blocks of `owning_sigint` that are open in this process."""


class user_code:
    """Run user code in the block; must be entered in a Trio task. Raises UserCodeCrash for what is no `Exception`."""

    __slots__ = ("_task",)

    def __enter__(self) -> None:
        self._task = trio.lowlevel.current_task()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, Exception):
            return
        answer = _contained(error, self._task)
        if answer is not error:
            raise answer from error


async def call_user(fn: Callable[..., Any], *args: Any, is_async: bool, limiter: trio.CapacityLimiter | None) -> Any:
    """Call a user's function: an async one here, a sync one in a worker thread. An awaitable it returns is awaited here.

    Raises what the function raises, UserCodeCrash for what is no `Exception`. A sync function's thread is abandoned when the
    caller is cancelled: a thread cannot be stopped. Its place in `limiter` stays taken until it really ends.
    """
    with user_code():
        return await _run(partial(fn, *args), is_async=is_async, limiter=limiter)


async def invoke(call: Call, signature: Signature, kwargs: dict[str, Any]) -> Any:
    """Run the function behind a tool, resource, prompt or completion, with its context among `kwargs` if it takes one.

    Its caller has entered `user_code`, for what it makes of the result runs user code as well.
    """
    if signature.context_parameter is not None:
        if call.modern:
            call.note_binding()
        kwargs[signature.context_parameter] = call.service.context(call)
    limiter = None if signature.is_async else call.service.threads
    return await _run(partial(signature.fn, **kwargs), is_async=signature.is_async, limiter=limiter)


async def _run(fn: Callable[[], Any], *, is_async: bool, limiter: trio.CapacityLimiter | None) -> Any:
    if is_async:
        value = await fn()
    else:
        # In a tuple: Trio refuses to hand a coroutine over from a thread.
        (value,) = await trio.to_thread.run_sync(partial(_in_thread, fn), abandon_on_cancel=True, limiter=limiter)
    while inspect.isawaitable(value):
        value = await value
    return value


class user_context(Generic[T]):
    """A user's async context manager, such as a lifespan, entered and left behind the boundary."""

    def __init__(self, manager: AbstractAsyncContextManager[T]) -> None:
        self._manager = manager

    async def __aenter__(self) -> T:
        with user_code():
            return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        with user_code():
            # Whoever serves the block bounds its end.
            return await self._manager.__aexit__(kind, error, traceback)  # noqa: ASYNC102


@contextmanager
def owning_sigint() -> Iterator[None]:
    """For the length of the block this process's SIGINT is handled by us, so that a `KeyboardInterrupt` is user code's own."""
    global _sigint_owners
    _sigint_owners += 1
    try:
        yield
    finally:
        _sigint_owners -= 1


def report(logger: logging.Logger, name: str, error: BaseException, **fields: Any) -> str:
    """Write the one log line of a crash, with its traceback; the reference that is shown instead of the exception."""
    reference = secrets.token_hex(4)
    if isinstance(error, UserCodeCrash):
        error = error.raised
    event(logger, logging.ERROR, name, ref=reference, error=error, **fields)
    return reference


def without_crash(logger: logging.Logger, name: str, group: BaseExceptionGroup, **fields: Any) -> BaseException:
    """What to raise in place of `group`, in which a cleanup has failed while it was cancelled: the cancellation alone.

    The crash is logged, for nobody waits for an answer any more. Of anything else it is the group itself.
    """
    cancelled, crash = group.split(trio.Cancelled)
    if cancelled is None or not isinstance(crash, ExceptionGroup):
        return group
    report(logger, name, crash, **fields)
    return cancelled


def crashed(logger: logging.Logger, name: str, call: Call, error: Exception, what: str, **fields: Any) -> str:
    """Log a crash once, with what the line of its request shows too; the text for the client, with the reference."""
    call.reference = report(logger, name, error, **fields, **labels(call), hint=_hint(call, error))
    if call.service.mask_errors:
        return f"{what} (ref {call.reference})"
    return f"{what} (ref {call.reference}): {'; '.join(map(_text, leaves(error)))}"


def labels(call: Call) -> dict[str, Any]:
    """Whose call it is, for every log line about it."""
    client = call.client.info.get("name")
    who = call.principal
    return {
        "request_id": call.request_id if isinstance(call.request_id, int) else call.request_id[:64],
        "session": None if call.session is None else call.session.short_id,
        "client": client[:64] if isinstance(client, str) else None,
        "principal": who.subject or who.client_id or None,
    }


def _hint(call: Call, error: Exception) -> str | None:
    """What to do about it: for asyncio code always, that the text is masked once for each server."""
    if any(_misses_asyncio(leaf) for leaf in leaves(error)):
        return _ASYNCIO
    if isinstance(error, UserCodeCrash) or not call.service.mask_errors or call.service.told_of_mask:
        return None
    call.service.told_of_mask = True
    return _MASKED


def _misses_asyncio(error: BaseException) -> bool:
    match error:
        case RuntimeError():
            return str(error).startswith(_NO_ASYNCIO_LOOP)
        case TypeError():
            # Trio's own words for a future that is awaited in it.
            return "asyncio" in str(error) and "trio" in str(error).lower()
        case _:
            return False


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _in_thread(fn: Callable[[], T]) -> tuple[T]:
    """Signals interrupt the main thread only, and nobody closes a thread: here both are crashes."""
    try:
        return (fn(),)
    except (KeyboardInterrupt, GeneratorExit) as error:
        raise UserCodeCrash(error) from error


def _contained(error: BaseException, task: trio.lowlevel.Task) -> BaseException:
    """What goes on up in place of `error`, which is no `Exception`; `error` itself where it must pass."""
    if _is_ctrl_c(error) or (isinstance(error, GeneratorExit) and _is_closed_from_outside(task)):
        return error
    cancelled, rest = _split(error)
    if rest is None:
        return error
    crash = rest if isinstance(rest, Exception) else UserCodeCrash(rest)
    return crash if cancelled is None else BaseExceptionGroup("cancelled, with a crash", [cancelled, crash])


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Trio's cancellation and the rest. A Cancelled that was kept and raised again, while nothing is cancelled, is no cancellation:
    let through, it would cancel whatever nursery it reaches.
    """
    if trio.current_effective_deadline() > float("-inf"):
        return None, error
    if isinstance(error, trio.Cancelled):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return None, error


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether it may come from a terminal: SIGINT is Trio's, or that of the server or test runner we run in."""
    if _sigint_owners:
        return False
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


def _is_closed_from_outside(task: trio.lowlevel.Task) -> bool:
    """Whether the coroutine is being closed (a crashed run's garbage) rather than run: user code that raises runs in its task."""
    try:
        return trio.lowlevel.current_task() is not task
    except RuntimeError:
        return True
