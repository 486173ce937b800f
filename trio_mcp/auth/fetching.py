"""The port through which authorization servers are asked, its adapter, and what is checked of every answer."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

import trio

from trio_mcp.auth.errors import FetchError
from trio_mcp.http_client import HttpClient, HttpClientError, read_body
from trio_mcp.http_proxy import proxy_for

__all__ = ["FETCH_SECONDS", "MAX_ANSWER_BYTES", "Fetch", "Response", "fetch_within", "http_fetch"]

FETCH_SECONDS = 5.0
"""For one request and its whole answer."""

MAX_ANSWER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Response:
    """A whole HTTP answer; header names are in lower case."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Fetch: TypeAlias = Callable[[str, str, Sequence[tuple[str, str]], bytes], Awaitable[Response]]
"""Sends one HTTP request, `fetch(method, url, headers, body)`, and returns its answer, whatever its status.

It must not follow redirects: the answer of another place is not the one that was configured. Whatever exception it raises means
that there is no answer. Pass one of your own for a proxy with credentials or for mutual TLS.
"""


async def http_fetch(method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> Response:
    """The adapter: one connection for each request, through the proxy that the environment names.

    Raises HttpClientError, and ProxyError for a proxy that cannot be used.
    """
    proxy = proxy_for(url, os.environ)
    async with HttpClient(url, proxy=proxy).exchange(method, headers, body) as exchange:
        head = await exchange.head()
        return Response(head.status, await read_body(exchange.receive, MAX_ANSWER_BYTES), head.headers)


async def fetch_within(
    fetch: Fetch, method: str, url: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
) -> Response:
    """The answer within 5 s and 256 KiB. Raises FetchError, whose text names the host and never the token or a secret."""
    place = urlsplit(url).netloc
    try:
        with trio.fail_after(FETCH_SECONDS):
            response = await fetch(method, url, headers, body)
    except trio.TooSlowError as error:
        raise FetchError(f"{place} did not answer within {FETCH_SECONDS:g} s") from error
    except FetchError:
        raise
    except HttpClientError as error:
        raise FetchError(str(error)) from error
    except (
        Exception
    ) as error:  # the port may be the user's: whatever its HTTP library raises means that there is no answer
        raise FetchError(f"{place} cannot be reached: {type(error).__name__}: {error}") from error
    if len(response.body) > MAX_ANSWER_BYTES:
        raise FetchError(f"{place} answered with more than {MAX_ANSWER_BYTES >> 10} KiB")
    return response
