"""Questions of a handler to its client, in both eras.

In a session, a question is a request on the stream of the call, and the handler waits for the client's result.

On 2026-07-28 the call ends as `input_required`, with the question under a key. The client sends the request again with the
answer (a retry), the handler runs again from its start, and `ask` returns the answer at once. Answers of earlier rounds travel
in `requestState`, sealed and bound to method, target, arguments and principal (basic/patterns/mrtr).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import msgspec
import trio
from msgspec import Raw

from trio_mcp.auth.keyring import BrokenSeal
from trio_mcp.dispatch.call import Call, Ending
from trio_mcp.protocol.errors import ClientCallError, InvalidParams, MissingClientCapability, NoBackChannel
from trio_mcp.protocol.jsonrpc import encode, optional_param
from trio_mcp.protocol.types import SamplingMessage
from trio_mcp.protocol.wire import to_wire

__all__ = [
    "RETRY_PARAMS",
    "InvalidAnswer",
    "as_messages",
    "ask",
    "input_required",
    "read_answer",
    "read_retry",
    "require",
]

T = TypeVar("T")

RETRY_PARAMS = frozenset({"inputResponses", "requestState"})
"""What a retry brings, one of them or both (2026-07-28 basic/patterns/mrtr)."""


class InvalidAnswer(ClientCallError):
    """The answer of the client does not have the form that was asked for."""


async def ask(call: Call, method: str, params: dict[str, Any], key: str | None) -> dict[str, Any]:
    """Ask the client, and return its result object.

    `key` names the question among those of the call; None for one by its order. On 2026-07-28 this cancels the handler where
    the answer is not there yet: the client sends the request again, with it. Raises ClientCallError (NoBackChannel where the request
    is answered already, InvalidAnswer), and ValueError for a key that was used already.
    """
    if call.finished:
        raise NoBackChannel(f"{method} belongs to a request, and that one is answered")
    key = key or f"q{len(call.keys) + 1}"
    if key in call.keys:
        raise ValueError(f"Two questions have the key {key!r}: give each its own key=")
    call.keys.add(key)
    if not call.modern:
        result = await call.outbox.ask(method, params)
    else:
        result = await _from_retry(call, method, params, key)
    if not isinstance(result, dict):
        raise InvalidAnswer(f"The client answered {method} with something that is not an object")
    return result


def as_messages(messages: str | Sequence[SamplingMessage]) -> Any:
    """The messages of a `sampling/createMessage` as they are sent; a text alone is one message of the user."""
    if isinstance(messages, str):
        return [{"role": "user", "content": {"type": "text", "text": messages}}]
    return to_wire(list(messages))


def read_answer(value: Any, kind: type[T], method: str) -> T:
    """The client's answer as a value of `kind`; raises InvalidAnswer."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidAnswer(f"The client's answer to {method} is not valid: {error}") from None


def require(call: Call, capability: str, detail: str | None = None) -> None:
    """Raise unless the client declared `capability`, and `detail` within it.

    MissingClientCapability on 2026-07-28, NoBackChannel in a session.
    """
    declared = call.client.capabilities.get(capability)
    if isinstance(declared, dict) and (detail is None or detail in declared):
        return
    required: dict[str, Any] = {capability: {} if detail is None else {detail: {}}}
    if call.modern:
        raise MissingClientCapability(required)
    named = capability if detail is None else f"{capability}.{detail}"
    raise NoBackChannel(f"The client did not declare the capability this needs: {named}")


def input_required(call: Call) -> dict[str, Any]:
    """InputRequiredResult, with every question that was asked in this run of the handler (2026-07-28 basic/patterns/mrtr)."""
    sealed = call.service.keyring.seal(encode(_answers(call)), _bound_to(call, call.principal.recorded_as))
    return {"resultType": "input_required", "inputRequests": call.questions, "requestState": sealed}


async def _from_retry(call: Call, method: str, params: dict[str, Any], key: str) -> Any:
    if call.definition is None or not call.definition.may_ask:
        raise NoBackChannel(f"{call.method} cannot ask the client anything")
    answers = _answers(call)
    if key in answers:
        await trio.lowlevel.checkpoint()
        return answers[key]
    if call.background is not None and await call.background.settled():
        return await call.background.wait_for_answer(method, params, key)
    # Encoded here, so that params without a JSON form raise in the handler that gave them.
    call.questions[key] = Raw(encode({"method": method, "params": params}))
    await _end_round(call)


async def _end_round(call: Call) -> NoReturn:
    """Cancel the handler, and let its cleanup run. Its tasks that ask in the same moment get to add their questions."""
    call.cancel(Ending.INPUT_REQUIRED)
    if trio.current_effective_deadline() > float("-inf"):
        raise NoBackChannel("A question asked inside a shielded cancel scope cannot end the handler: ask outside of it")
    await trio.sleep_forever()
    raise AssertionError("unreachable: the call's scope is cancelled")


def _answers(call: Call) -> dict[str, Any]:
    if call.answers is None:
        given = _input_responses(call)
        call.answers = {**given, **_sealed_answers(call)}
    return call.answers


def _input_responses(call: Call) -> dict[str, Any]:
    given = optional_param(call.params, "inputResponses", {})
    if not isinstance(given, dict) or not all(isinstance(answer, dict) for answer in given.values()):
        raise InvalidParams("params.inputResponses must map keys to result objects")
    return given


def _sealed_answers(call: Call) -> dict[str, Any]:
    state = call.params.get("requestState")
    if state is None:
        return {}
    if not isinstance(state, str):
        raise InvalidParams("params.requestState must be a string")
    try:
        answers: dict[str, Any] = msgspec.json.decode(_opened(call, state))
    except BrokenSeal as fault:
        raise InvalidParams(f"params.requestState is not for this request: {fault}. Call again without it") from None
    return answers


def _opened(call: Call, state: str) -> bytes:
    # The digest that this version of trio-mcp seals with first; nodes of a later version may have sealed with the other.
    ours, *others = reversed(call.principal.known_as)
    max_age = call.service.options.request_state_ttl
    try:
        return call.service.keyring.open(state, _bound_to(call, ours), max_age=max_age)
    except BrokenSeal:
        for each in others:
            with suppress(BrokenSeal):
                return call.service.keyring.open(state, _bound_to(call, each), max_age=max_age)
        raise


def _bound_to(call: Call, digest: str) -> bytes:
    return b"requestState " + hashlib.sha256(call.bound_to + digest.encode()).digest()


def read_retry(call: Call) -> None:
    """Read the answers that a retry brings, before any handler runs; raises InvalidParams for a retry that is broken."""
    call.note_binding()
    _answers(call)
