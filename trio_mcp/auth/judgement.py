"""What becomes of a request by its credentials: values that the HTTP front turns into a response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from trio_mcp.auth.challenge import Header, unavailable_headers
from trio_mcp.auth.principal import Principal
from trio_mcp.auth.reasons import Refusal
from trio_mcp.auth.tokens import AccessToken

__all__ = ["Allowed", "Judgement", "Refused", "Unavailable"]


class Allowed(msgspec.Struct, frozen=True):
    """The token is good and has the scopes that every request needs."""

    token: AccessToken
    principal: Principal


@dataclass(frozen=True, slots=True)
class Refused:
    """A 400, 401 or 403."""

    reason: Refusal
    description: str
    """For a person: the message of the JSON-RPC error."""
    headers: tuple[Header, ...]
    """`WWW-Authenticate`, where there is a challenge."""
    log_fields: Mapping[str, str] = field(default_factory=dict)
    """For the log line beside the reason: `kid` and `iss` of a refused token, client and principal of a verified one."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.reason.status

    @property
    def data(self) -> dict[str, str]:
        """The `data` of the JSON-RPC error."""
        return {"error": self.reason.error} if self.reason.error else {}


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A 503: whether the token is good cannot be known now. The client keeps its token and its session."""

    why: str
    """For the log line; not for the client."""

    @property
    def headers(self) -> tuple[Header, ...]:
        """`Retry-After`, and no challenge."""
        return unavailable_headers()


Judgement: TypeAlias = Allowed | Refused | Unavailable
"""What a request gets by its `Authorization` headers."""
