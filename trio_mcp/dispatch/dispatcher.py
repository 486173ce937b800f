"""Request → response: one task, one cancel scope, one error boundary.

respond ─▶ room in memory? ─▶ HANDLERS[method] ─▶ result ─┐
   │                              └─ raises ─▶ error ─────┼─▶ outbox.finish, exactly once, whatever happened
   └─ cancelled: Call.ending says why ─▶ error ───────────┘

A task that runs one call after the other keeps its scope from call to call (`KeptScope`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeAlias

import msgspec
import trio

from trio_mcp.dispatch import discovery, feature_methods, listening, session_methods
from trio_mcp.dispatch.call import Call, CallScope, Ending
from trio_mcp.dispatch.discovery import complete
from trio_mcp.dispatch.extension_port import Answer
from trio_mcp.dispatch.questions import RETRY_PARAMS, input_required, read_retry
from trio_mcp.dispatch.user_code import crash_message, labels, user_code
from trio_mcp.observability.logs import event, leaves
from trio_mcp.protocol.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    REQUEST_CANCELLED,
    RESOURCE_NOT_FOUND,
    Busy,
    ClaimMissing,
    ClientCallError,
    InvalidArguments,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    ResourceNotFoundError,
    SlowReader,
    http_status,
)
from trio_mcp.protocol.jsonrpc import encode_error, encode_result
from trio_mcp.streams.account import SMALL, NoRoom

__all__ = ["HANDLERS", "KeptScope", "respond"]

logger: logging.Logger = logging.getLogger("trio_mcp.dispatch")
access: logging.Logger = logging.getLogger("trio_mcp.access")
"""One line for each request; `--no-access-log` turns it off."""

Handler: TypeAlias = Callable[[Call], Awaitable[Answer]]

HANDLERS: dict[str, Handler] = {
    "initialize": session_methods.initialize_again,
    "ping": session_methods.ping,
    "logging/setLevel": session_methods.set_level,
    "resources/subscribe": session_methods.subscribe,
    "resources/unsubscribe": session_methods.unsubscribe,
    "tools/list": discovery.list_tools,
    "tools/call": feature_methods.call_tool,
    "resources/list": discovery.list_resources,
    "resources/templates/list": discovery.list_templates,
    "resources/read": feature_methods.read_resource,
    "prompts/list": discovery.list_prompts,
    "prompts/get": feature_methods.get_prompt,
    "completion/complete": feature_methods.complete_argument,
    "server/discover": discovery.discover,
    "subscriptions/listen": listening.listen,
}
"""Which function answers which method; `protocol/methods` says which versions have it. Extensions answer theirs themselves."""


class _Outcome(msgspec.Struct, frozen=True, gc=False):
    """How a call ended."""

    body: bytes | None
    """The encoded response; None where nothing is to be sent."""
    status: int
    """The HTTP status of the response."""
    error: str | None = None
    """What metrics and the access log call the error; None for a success."""


async def respond(call: Call) -> None:
    """Run one request and hand its reply to its outbox.

    Raises only Trio's Cancelled, when it comes from outside of the call's own scope, and Overflow of the stream it writes to.
    """
    if call.counted:
        call.service.in_flight.add(call)
    if call.method == "tools/call" and call.tool is None:
        call.tool = call.service.registry.called_tool(call.params)
    outcome: _Outcome | None = None
    """Stays None when the call is cancelled."""
    try:
        with call.scope:
            outcome = await _attempt(call)
    except* Exception as crash:
        # Cleanup that fails while its handler is being cancelled raises a group with Cancelled in it, which `_attempt` lets pass.
        outcome = _crashed(call, crash)
    finally:
        if outcome is None:
            outcome = _outcome_of_cancelled(call)
        elif not call.outbox.answers_cancelled and call.ending is Ending.CANCELLED:
            # It was done before the cancellation took effect; its client waits for no answer any more.
            outcome = _UNANSWERED
        call.finished, call.ended = True, trio.current_time()
        if call.counted:
            call.service.in_flight.discard(call)
            _measure(call, outcome.error, call.ended - call.started)
        call.outbox.finish(*_bounded(call, outcome))


async def _attempt(call: Call) -> _Outcome:
    try:
        with user_code():
            return await _answer(call)
    except Exception as crash:  # the boundary of all handlers: logged once, and answered without its details
        return _crashed(call, crash)


async def _answer(call: Call) -> _Outcome:
    try:
        method = call.service.methods(call.version).get(call.method)
        if method is None:
            raise RemoteProtocolError(METHOD_NOT_FOUND, f"Method not found: {call.method[:128]}")
        if method.may_ask and not RETRY_PARAMS.isdisjoint(call.params) and call.modern:
            read_retry(call)
        if method.runs_user_code and not call.service.account.may_start_call(call.outbox.holder):
            await _wait_for_memory(call)
        if method.extension is None:
            result = await HANDLERS[call.method](call)
        else:
            result = await call.service.extensions[method.extension].answer(call)
        failed = _failure(call) if isinstance(result, dict) and result.get("isError") else None
        if call.session is None:
            result = complete(call, result)
        return _Outcome(encode_result(call.request_id, result), 200, failed)
    except (InvalidArguments, ClientCallError, ClaimMissing) as fault:
        return _error(call, ProtocolError(INVALID_PARAMS, str(fault)))
    except LocalProtocolError:
        raise
    except ProtocolError as fault:
        return _error(call, fault)


def _failure(call: Call) -> str:
    """What metrics call a tool's result that is an error: its own message, or a crash."""
    return "tool_error" if call.reference is None else "crash"


def _crashed(call: Call, crash: Exception) -> _Outcome:
    if all(isinstance(leaf, SlowReader) for leaf in leaves(crash)):
        call.ending = call.ending or Ending.SLOW_READER
        return _error(call, ProtocolError(INTERNAL_ERROR, Ending.SLOW_READER.value))
    message = crash_message(logger, "request failed", call, crash, "Internal error", method=call.method)
    return _error(call, ProtocolError(INTERNAL_ERROR, message), "crash")


def _error(call: Call, fault: ProtocolError, name: str = "") -> _Outcome:
    """`name` is what metrics and the access log call it, its code by default."""
    if isinstance(fault, ResourceNotFoundError) and not call.modern:
        fault = ProtocolError(RESOURCE_NOT_FOUND, fault.message, fault.data)
    status = fault.status if isinstance(fault, Busy) else http_status(fault.code, modern=call.modern)
    return _Outcome(encode_error(call.request_id, fault), status, name or str(fault.code))


_UNANSWERED = _Outcome(None, 200, "cancelled")


def _outcome_of_cancelled(call: Call) -> _Outcome:
    match call.ending:
        case Ending.INPUT_REQUIRED:
            return _Outcome(encode_result(call.request_id, complete(call, input_required(call))), 200)
        case Ending.CANCELLED if not call.outbox.answers_cancelled:
            return _UNANSWERED
        case Ending.CANCELLED:
            fault = ProtocolError(REQUEST_CANCELLED, call.ending.value)
            return _Outcome(encode_error(call.request_id, fault), 200, "cancelled")
        case None:
            # Cancelled from outside: a modern call's client left, or a session's nursery ended.
            ending = Ending.CLIENT_LEFT if call.session is None else Ending.SESSION_CLOSED
        case ending:
            pass
    return _Outcome(
        encode_error(call.request_id, ProtocolError(INTERNAL_ERROR, ending.value)), 200, ending.name.lower()
    )


async def _wait_for_memory(call: Call) -> None:
    """Wait until memory allows another handler to start, a minute at most; raises ProtocolError after that."""
    try:
        await call.service.account.wait_to_start_call(call.outbox.holder)
    except NoRoom:
        raise ProtocolError(
            INTERNAL_ERROR, "The server has no memory left for another answer; try again later"
        ) from None


def _bounded(call: Call, outcome: _Outcome) -> tuple[bytes | None, int]:
    """Body and status of the response, or, where it is larger than what may wait for this client, of an error in its place."""
    body, status = outcome.body, outcome.status
    if body is None or len(body) <= SMALL:
        return body, status
    account = call.service.account
    if account.has_room_for_answer(len(body), call.outbox.holder):
        return body, status
    account.count("answer_refused")
    advice = f"One answer may have at most {account.share} bytes. Read earlier answers first, or ask for less"
    fault = ProtocolError(INTERNAL_ERROR, f"The answer has {len(body)} bytes, for which there is no room. {advice}")
    return encode_error(call.request_id, fault), 200


def _measure(call: Call, error: str | None, seconds: float) -> None:
    tool = None if call.tool is None else call.tool.name
    # Labels are memory, and a client can invent methods without end.
    method = call.method if call.method in HANDLERS or call.definition is not None else "unknown"
    metrics = call.service.metrics
    metrics.operation(method, tool=tool, version=call.version, error=error, seconds=seconds)
    if access.isEnabledFor(logging.INFO):
        event(
            access,
            logging.INFO,
            "request",
            method=method,
            tool=tool,
            duration_ms=round(seconds * 1000, 1),
            status=error or "ok",
            ref=call.reference,
            **labels(call),
        )


_STATUS = "_cancel_status"
"""Where tasks and scopes of Trio have the innermost scope of a task. It has no public name: with a Trio without it, each call gets a
scope of its own."""


class KeptScope:
    """One scope for all calls of the task that enters it: a new `trio.CancelScope` costs 4 microseconds, of 60 to 90 for a whole call.

    with KeptScope() as kept:            entered once, while no call runs
        kept.lend() ─▶ with: a call      the usual case: nothing to leave, nothing to enter
        kept.lend() ─▶ with: a call      cancelled: the scope is left as that of any `with` block, and another one is entered
        kept.lend() ─▶ with: a call

    What is lent ends with its call, and cancels nothing from then on: a cancellation that comes too late cannot reach the next call.
    """

    __slots__ = ("_cancelled", "_scope", "_status", "_task")

    def __enter__(self) -> Self:
        self._task = trio.lowlevel.current_task()
        self._begin()
        return self

    def _begin(self) -> None:
        self._scope = trio.CancelScope()
        self._scope.__enter__()
        self._status: object = getattr(self._scope, _STATUS, None)
        self._cancelled = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return self._scope.__exit__(kind, error, traceback)

    def lend(self) -> CallScope:
        """A scope for the next call of the task.

        It is a new one where the task has another scope open within this one, as an app around ours may have.
        """
        return _Lent(self) if self._is_innermost else trio.CancelScope()

    @property
    def _is_innermost(self) -> bool:
        return self._status is not None and self._status is getattr(self._task, _STATUS, None)

    def cancel(self, reason: str | None) -> None:
        """Cancel the call that has it now."""
        self._cancelled = True
        self._scope.cancel(reason)

    def take_back(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """The call that had it is over, by an exception or not; what a context manager's `__exit__` returns.

        Raises RuntimeError, as every scope of Trio, when the call has left a scope open that it had entered.
        """
        if self._is_innermost and not self._cancelled:
            return False
        try:
            return self._scope.__exit__(kind, error, traceback)
        finally:
            self._begin()


class _Lent:
    """A kept scope as one call has it."""

    __slots__ = ("_kept",)

    def __init__(self, kept: KeptScope) -> None:
        self._kept: KeptScope | None = kept

    def cancel(self, reason: str | None = None) -> None:
        if self._kept is not None:
            self._kept.cancel(reason)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        kept, self._kept = self._kept, None
        assert kept is not None, "a scope is lent for one `with` block"
        return kept.take_back(kind, error, traceback)
