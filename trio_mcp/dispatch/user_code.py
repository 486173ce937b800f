"""The boundary around all user code (handlers, routes, hooks, tasks of sessions, lifespans, mounted apps), and the log line of a crash.

what user code raised ─┬─ an Exception ────────────────────────────────────▶ as it is
                       ├─ Trio's Cancelled, a coroutine's close, Ctrl+C ───▶ as it is
                       └─ anything else (SystemExit, …, groups of them) ───▶ UserCodeCrash, an Exception that holds it

So `except Exception` around it catches whatever user code does. Who calls it decides what a crash leads to (an error result,
the end of one session, a 500), and logs it with `report`, once, under the reference that the client is shown.

| what raised | caught in | event | what follows |
|---|---|---|---|
| a tool, or its return value cannot be converted | `feature_methods.call_tool` | `tool failed` | a result with `isError` and the reference |
| a resource, prompt or completion; cleanup of a cancelled call | `dispatcher.respond` | `request failed` | error -32603 with the reference |
| `on_session`, a task of `session.start_soon`, `on_restore` | `Hub._supervise` | `session crashed` | the session ends, reason `crashed` |
| `__str__`, a property or a serializer of progress or a log message | `speech._attempt` | `progress was not sent`, `a log message was not sent` | the message is left out, the handler goes on |
| `authenticate` | `gate` | `authenticate failed` | 500 with the reference; for `CannotTell`, `OSError` and a timeout a 503, as `request refused` |
| a function in `auth=` of a component | `auth/checks` | `authorization check failed`; no line for a claim that is missing | the component is refused |
| a custom route, a mounted app | `routes.run_behind_boundary` | `route failed` | 500 with the reference |
| the lifespan, also of mounted apps | `serving/launch` | `the server crashed` | exit code 1 |
| | `lifespan.serve_lifespan`, on another ASGI server | `startup failed`, before the app serves; later it is raised to that server | that server decides |
| a thread that the server's author started | `logs.configure` | `thread failed` | nothing |

One crash has two lines: when a part of the node fails while the lifespan runs, `serving/node` writes `the node fails` at once, and
`the server crashed` follows when all has ended.
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

from trio_mcp.auth.tokens import access_token_set
from trio_mcp.dispatch.call import Call
from trio_mcp.features.signature import Signature
from trio_mcp.observability.logs import event, leaves
from trio_mcp.protocol.errors import UserCodeCrash

__all__ = [
    "call_user",
    "crash_message",
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

_NO_SESSION = "ctx.session is None on 2026-07-28, which has no sessions: check it first, see docs/handlers.md, Sessions and background tasks"

_NO_ASYNCIO_LOOP = ("no running event loop", "There is no current event loop")

_sigint_owners = 0
"""Blocks of `owning_sigint` that are open in this process."""


class user_code:
    """`with user_code():` around a call of user code, in a Trio task. Raises UserCodeCrash for what is no `Exception`."""

    __slots__ = ("_task",)

    def __enter__(self) -> None:
        self._task = trio.lowlevel.current_task()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, Exception):
            return
        raised = _contained(error, self._task)
        if raised is not error:
            raise raised from error


async def call_user(fn: Callable[..., Any], *args: Any, is_async: bool, limiter: trio.CapacityLimiter | None) -> Any:
    """Call `fn(*args)` behind the boundary: an async function here, a sync one in a worker thread under `limiter`.

    An awaitable that it returns is awaited here. Raises what the function raises, UserCodeCrash for what is no `Exception`.
    When the caller is cancelled, the thread of a sync function is abandoned, because a thread cannot be stopped; it counts
    in `limiter` until it ends.
    """
    with user_code():
        return await _run(partial(fn, *args), is_async=is_async, limiter=limiter)


async def invoke(call: Call, signature: Signature, kwargs: dict[str, Any]) -> Any:
    """Run the function of a tool, resource, prompt or completion; context, token and claims are put among `kwargs` if it takes them.

    The caller must have entered `user_code`: converting the result runs user code as well, so one block is around both.
    Raises what the function raises, and ClaimMissing.
    """
    if signature.context_parameter is not None:
        if call.modern:
            call.note_binding()
        kwargs[signature.context_parameter] = call.service.context(call)
    if signature.token_values is not None:
        kwargs |= signature.token_values.of(call.token)
    limiter = None if signature.is_async else call.service.threads
    fn = partial(signature.fn, **kwargs)
    if call.token is None:
        return await _run(fn, is_async=signature.is_async, limiter=limiter)
    with access_token_set(call.token):
        return await _run(fn, is_async=signature.is_async, limiter=limiter)


async def _run(fn: Callable[[], Any], *, is_async: bool, limiter: trio.CapacityLimiter | None) -> Any:
    if is_async:
        value = await fn()
    else:
        # In a tuple: Trio refuses to hand a coroutine over from a thread.
        (value,) = await trio.to_thread.run_sync(partial(_in_thread, fn), abandon_on_cancel=True, limiter=limiter)
    while type(value) not in _PLAIN and inspect.isawaitable(value):
        value = await value
    return value


_PLAIN = frozenset({str, int, float, bool, list, dict, tuple, bytes, type(None)})
"""What handlers usually return. To ask `inspect` costs more."""


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
            # Those who serve the block give its end a deadline.
            return await self._manager.__aexit__(kind, error, traceback)  # noqa: ASYNC102


@contextmanager
def owning_sigint() -> Iterator[None]:
    """In the block, SIGINT has a handler of ours: a `KeyboardInterrupt` was then raised by user code, and is a crash."""
    global _sigint_owners
    _sigint_owners += 1
    try:
        yield
    finally:
        _sigint_owners -= 1


def report(logger: logging.Logger, name: str, error: BaseException, **fields: Any) -> str:
    """Log a crash with its traceback, under the name `name`; returns the reference to show instead of the exception."""
    reference = secrets.token_hex(4)
    if isinstance(error, UserCodeCrash):
        error = error.raised
    event(logger, logging.ERROR, name, ref=reference, error=error, **fields)
    return reference


def without_crash(logger: logging.Logger, name: str, group: BaseExceptionGroup, **fields: Any) -> BaseException:
    """What to raise in place of `group`.

    Where it holds a cancellation and a crash (of cleanup, while being cancelled), that is the cancellation alone, and the crash
    is logged, since nobody waits for an answer. Otherwise it is the group itself.
    """
    cancelled, crash = group.split(trio.Cancelled)
    if cancelled is None or not isinstance(crash, ExceptionGroup):
        return group
    report(logger, name, crash, **fields)
    return cancelled


def crash_message(logger: logging.Logger, name: str, call: Call, error: Exception, what: str, **fields: Any) -> str:
    """Log the crash of a handler once, with the fields of its request; returns the message for its client.

    `what` begins the message, as in "Internal error". The text of the exception follows only with `mask_errors=False`.
    """
    call.reference = report(logger, name, error, **fields, **labels(call), hint=_hint(call, error))
    if call.service.mask_errors:
        return f"{what} (ref {call.reference})"
    return f"{what} (ref {call.reference}): {'; '.join(map(_text, leaves(error)))}"


def labels(call: Call) -> dict[str, Any]:
    """The fields of every log line about a call: its id, session, client and principal."""
    client = call.client.info.get("name")
    return {
        "request_id": call.request_id if isinstance(call.request_id, int) else call.request_id[:64],
        "session": None if call.session is None else call.session.short_id,
        "client": client[:64] if isinstance(client, str) else None,
        "principal": call.principal.log_name,
    }


def _hint(call: Call, error: Exception) -> str | None:
    """The remedy, for the log line. That clients see no text is explained once for each server."""
    if any(_misses_asyncio(leaf) for leaf in leaves(error)):
        return _ASYNCIO
    if call.session is None and any(_misses_session(leaf) for leaf in leaves(error)):
        return _NO_SESSION
    if isinstance(error, UserCodeCrash) or not call.service.mask_errors or call.service.mask_explained:
        return None
    call.service.mask_explained = True
    return _MASKED


def _misses_asyncio(error: BaseException) -> bool:
    match error:
        case RuntimeError():
            return str(error).startswith(_NO_ASYNCIO_LOOP)
        case TypeError():
            # The message with which Trio refuses a future of asyncio.
            return "asyncio" in str(error) and "trio" in str(error).lower()
        case _:
            return False


def _misses_session(error: BaseException) -> bool:
    """Whether it is `ctx.session.log(…)` or its like, with None for a session."""
    if not isinstance(error, AttributeError) or error.obj is not None:
        return False
    return error.name in ("close", "id", "log", "start_soon") or str(error.name).startswith("notify_")


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _in_thread(fn: Callable[[], T]) -> tuple[T]:
    """In a worker thread these two are raised by user code only: signals go to the main thread, and threads are not closed."""
    try:
        return (fn(),)
    except (KeyboardInterrupt, GeneratorExit) as error:
        raise UserCodeCrash(error) from error


def _contained(error: BaseException, task: trio.lowlevel.Task) -> BaseException:
    """What to raise in place of `error`, which is no `Exception`; `error` itself where it must pass."""
    if _is_ctrl_c(error) or (isinstance(error, GeneratorExit) and _is_closed_from_outside(task)):
        return error
    cancelled, rest = _split(error)
    if rest is None:
        return error
    crash = rest if isinstance(rest, Exception) else UserCodeCrash(rest)
    return crash if cancelled is None else BaseExceptionGroup("cancelled, with a crash", [cancelled, crash])


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Trio's cancellation, and the rest.

    A Cancelled that user code kept and raises while nothing is cancelled belongs to the rest: it would cancel the first
    nursery it reaches.
    """
    if trio.current_effective_deadline() > float("-inf"):
        return None, error
    if isinstance(error, trio.Cancelled):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return None, error


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether it comes from a terminal. SIGINT is then handled by Trio, or by the server or test runner we run in."""
    if _sigint_owners:
        return False
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


def _is_closed_from_outside(task: trio.lowlevel.Task) -> bool:
    """Whether the coroutine is being closed, as the garbage of a crashed run, rather than run: it then runs in no task of its own."""
    try:
        return trio.lowlevel.current_task() is not task
    except RuntimeError:
        return True
