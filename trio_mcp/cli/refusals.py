"""What a server refuses, and how: the errors of its answers, with what to do about them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

from trio_mcp.auth.challenge_reader import read_challenge
from trio_mcp.http_client import Head
from trio_mcp.protocol.errors import McpError

__all__ = [
    "AuthorizationRequired",
    "HttpRefused",
    "Refused",
    "is_response",
    "refusal",
    "retry_after",
    "wants_authorization",
]

MAX_QUOTE = 300
"""Characters of an answer that an error message quotes."""

_TITLE = re.compile(r"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")
_WRONG_PATH = ". Is the path right? An MCP endpoint is usually at /mcp"
_IS_MCP = 300
"""Below this status an answer is one of the endpoint, unless it is no JSON-RPC."""


class Refused(McpError):
    """The server answered with a JSON-RPC error."""

    def __init__(self, status: int, error: dict[str, Any], next_step: str = "") -> None:
        self.status = status
        self.code: Any = error.get("code")
        self.data: Any = error.get("data")
        self.next_step = next_step
        """What to do about it, where the command knows more than the error says."""
        super().__init__(f"{error.get('message', 'no message')} ({self.code})")


class HttpRefused(McpError):
    """The server answered with an HTTP error and no JSON-RPC."""

    def __init__(self, status: int, text: str, next_step: str = "") -> None:
        what = f"{status} with something that is not MCP" if status < _IS_MCP else str(status)
        super().__init__(f"the server answered {what}" + (f": {text[:MAX_QUOTE]}" if text else ""))
        self.status = status
        self.next_step = next_step


class AuthorizationRequired(McpError):
    """401, or 403 with a challenge; the text says which scopes the server wants."""

    def __init__(self, status: int, text: str, scopes: tuple[str, ...] = (), *, login_offered: bool = True) -> None:
        super().__init__(f"the server answered {status}: {text[:MAX_QUOTE]}" if text else "the server wants a token")
        self.status = status
        self.url = ""
        """Where the request went; set by the command, which knows it."""
        self.login_offered = login_offered
        """Whether the server names metadata that says where to log in."""
        self.scopes = scopes
        """All that the server says the request needs."""


def is_response(message: Any) -> bool:
    """Whether it is a JSON-RPC response."""
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return False
    return isinstance(message.get("result"), dict) or isinstance(message.get("error"), dict)


def refusal(head: Head, body: bytes) -> McpError:
    """The error for an answer that carries no result."""
    text = body.decode("utf-8", "replace")
    if wants_authorization(head):
        return _authorization_required(head, _quoted(text))
    with suppress(ValueError, RecursionError):
        message = json.loads(body)
        if is_response(message) and "error" in message:
            return Refused(head.status, message["error"], retry_after(head))
    if "location" in head.headers:
        return HttpRefused(head.status, f"it is at {head.headers['location']}", ". Call it there, if you trust that")
    wrong_path = head.status < _IS_MCP or head.status in (404, 405)
    return HttpRefused(head.status, _quoted(text), _WRONG_PATH if wrong_path else retry_after(head))


def retry_after(head: Head) -> str:
    """When to try again, if the answer says so (RFC 9110 §10.2.3): a sentence behind the error's; else empty."""
    value = head.headers.get("retry-after", "").strip()[:MAX_QUOTE]
    if head.status < 400 or not value:
        return ""
    return f". Try again in {value} s" if value.isdigit() else f". Try again after {value}"


def wants_authorization(head: Head) -> bool:
    """Whether it says that the token is missing, or not enough."""
    return head.status == 401 or (head.status == 403 and "www-authenticate" in head.headers)


def _quoted(text: str) -> str:
    """What an error quotes of an answer, on one line: of a page, its title, or its text."""
    if text.lstrip()[:1] == "<":
        found = _TITLE.search(text)
        text = _TAG.sub(" ", text) if found is None else found[1]
    return " ".join(text[: 2 * MAX_QUOTE].split())


def _authorization_required(head: Head, text: str) -> AuthorizationRequired:
    header = head.headers.get("www-authenticate", "")
    challenge = read_challenge([header])
    if challenge is None:
        return AuthorizationRequired(head.status, header or text or "unauthorized", login_offered=False)
    scopes = f"it needs the scope{'s' if len(challenge.scopes) > 1 else ''} {' '.join(challenge.scopes)}"
    said = [each for each in (challenge.description, scopes if challenge.scopes else "") if each]
    return AuthorizationRequired(
        head.status,
        "; ".join(said) or ("" if head.status == 401 else header),
        challenge.scopes,
        login_offered=challenge.resource_metadata != "",
    )
