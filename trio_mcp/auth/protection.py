"""`BearerAuth.protect`: the same tokens for a route of the user's own, beside the MCP endpoint."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial, wraps
from time import perf_counter
from typing import Any, Literal, Protocol, TypeAlias

import trio

from trio_mcp.auth.checks import Requirements
from trio_mcp.auth.judgement import Allowed, Judgement, Refused, Unavailable
from trio_mcp.auth.tokens import AccessToken, access_token_set
from trio_mcp.features.functions import is_async

__all__ = ["CountJudgement", "RequestWithHeaders", "protected"]

THREADS = 40
"""For the sync handlers behind one `protect`."""

JUDGE_SECONDS = 10.0
"""For one token, as on the MCP endpoint."""

CountJudgement: TypeAlias = Callable[[Literal["allowed", "refused", "unavailable", "failed"], str, float], None]
"""Counts one token that was judged: what it was found to be, why it was refused, and the seconds that took."""

_Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]


class RequestWithHeaders(Protocol):
    """What a `@mcp.custom_route` handler gets."""

    def header_list(self, name: bytes) -> list[str]:
        """Every value of a header, by its lower-case name."""


class Judge(Protocol):
    """The part of `BearerAuth` that is needed here."""

    async def judge(self, authorization: Sequence[str]) -> Judgement: ...
    def refusal_for(self, asked: Sequence[Requirements], token: AccessToken | None, what: str) -> Refused | None: ...


def protected(
    judge: Judge, handler: Callable[[Any], Any], asked: Requirements, count: CountJudgement
) -> Callable[[Any], Awaitable[Any]]:
    """`handler` behind the check of its request's token; a refusal is answered as on the MCP endpoint, and counted."""
    limiter = trio.CapacityLimiter(THREADS)
    in_loop = is_async(handler)

    @wraps(handler)
    async def answer(request: RequestWithHeaders) -> Any:
        judgement = await _judged(judge, request, asked, count)
        if not isinstance(judgement, Allowed):
            return _response(judgement)
        with access_token_set(judgement.token):
            if in_loop:
                value = await handler(request)
            else:
                ask = partial(handler, request)
                value = await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=limiter)
            while inspect.isawaitable(value):
                value = await value
            return value

    return answer


async def _judged(judge: Judge, request: RequestWithHeaders, asked: Requirements, count: CountJudgement) -> Judgement:
    """What becomes of the request. Raises what a verifier of the user raises, but for what means that it cannot tell now."""
    began = perf_counter()
    try:
        with trio.fail_after(JUDGE_SECONDS):
            judgement = await judge.judge(request.header_list(b"authorization"))
    except (OSError, trio.TooSlowError) as error:
        judgement = Unavailable(f"{type(error).__name__}: {error}".removesuffix(": "))
    except Exception:
        count("failed", "authenticate_failed", perf_counter() - began)
        raise
    if isinstance(judgement, Allowed):
        judgement = judge.refusal_for([asked], judgement.token, "This page") or judgement
    match judgement:
        case Allowed():
            count("allowed", "", perf_counter() - began)
        case Refused(reason):
            count("refused", reason.value, perf_counter() - began)
        case Unavailable():
            count("unavailable", "cannot_authenticate", perf_counter() - began)
    return judgement


def _response(judgement: Refused | Unavailable) -> Callable[[Any, Any, _Send], Awaitable[None]]:
    """The refusal as an ASGI response, with the `error` of RFC 6750 in its body."""
    if isinstance(judgement, Refused):
        status, error = judgement.status, judgement.reason.error or "unauthorized"
        body = json.dumps({"error": error, "error_description": judgement.description}).encode()
    else:
        status, body = 503, b'{"error": "temporarily_unavailable"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *judgement.headers]

    async def send_it(scope: Any, receive: Any, send: _Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return send_it
