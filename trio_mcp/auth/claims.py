"""`Claim`: a parameter of a handler that is filled from the token and is not in the schema that clients see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trio_mcp.auth.tokens import AccessToken
from trio_mcp.features.injection import FromToken
from trio_mcp.protocol.errors import ClaimMissing

__all__ = ["Claim", "ClaimMissing"]


class Claim(FromToken):
    """Marks a parameter: `email: Annotated[str, Claim("email")]`.

    Several names lead into nested objects: `Claim("realm_access", "roles")`. One name is one name, with dots and slashes
    as it has them: `Claim("https://example.com/tenant")`. Raises ValueError for what is no name.
    """

    def __init__(self, *path: str) -> None:
        if not path or not all(isinstance(name, str) and name for name in path):
            raise ValueError('Claim needs the name of a claim, such as Claim("email")')
        self.path = path

    def __repr__(self) -> str:
        return f"Claim({', '.join(map(repr, self.path))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Claim) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def value(self, token: AccessToken | None) -> Any:
        """The value in the token; raises ClaimMissing where there is no token or no such claim."""
        found: Any = (token.claims if token is not None else None) or {}
        for name in self.path:
            if not isinstance(found, Mapping) or name not in found:
                raise ClaimMissing(f"The token has no claim {'.'.join(self.path)}")
            found = found[name]
        return found
