"""What ends a connection early: the peer went, or its request cannot be served."""

from __future__ import annotations

from http import HTTPStatus

__all__ = ["ClientDisconnected", "ClientStalled", "Refusal", "ResponseError"]


class ClientDisconnected(OSError):
    """The peer closed, reset or stopped reading; `send` raises it."""


class ClientStalled(ClientDisconnected):
    """The peer took no byte within the write deadline."""


class Refusal(Exception):
    """The request gets `status` with `reason` as its text, and the connection closes."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class ResponseError(RuntimeError):
    """The app broke the rules of ASGI or HTTP: its bug, never the peer's."""
