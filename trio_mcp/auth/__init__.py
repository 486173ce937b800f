"""Authorization: who may use a server, and which of its components.

    from trio_mcp.auth import BearerAuth, require_scopes

    mcp = MCPServer("files", auth=BearerAuth.from_issuer("https://login.example.com", resource="https://mcp.example.com/mcp"))

Names are imported when they are first used: a server without authorization loads nothing that verifies signatures.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trio_mcp.auth.bearer_auth import BearerAuth as BearerAuth
    from trio_mcp.auth.checks import Check as Check
    from trio_mcp.auth.checks import require_roles as require_roles
    from trio_mcp.auth.checks import require_scopes as require_scopes
    from trio_mcp.auth.claims import Claim as Claim
    from trio_mcp.auth.claims import ClaimMissing as ClaimMissing
    from trio_mcp.auth.errors import AuthConfigurationError as AuthConfigurationError
    from trio_mcp.auth.errors import FetchError as FetchError
    from trio_mcp.auth.fetching import Fetch as Fetch
    from trio_mcp.auth.fetching import Response as Response
    from trio_mcp.auth.introspection import IntrospectionVerifier as IntrospectionVerifier
    from trio_mcp.auth.jwt_verifier import JWTVerifier as JWTVerifier
    from trio_mcp.auth.multi_auth import MultiAuth as MultiAuth
    from trio_mcp.auth.principal import CannotTell as CannotTell
    from trio_mcp.auth.principal import Principal as Principal
    from trio_mcp.auth.static_tokens import StaticTokenVerifier as StaticTokenVerifier
    from trio_mcp.auth.tokens import AccessToken as AccessToken
    from trio_mcp.auth.tokens import get_access_token as get_access_token
    from trio_mcp.auth.verifier import TokenVerifier as TokenVerifier
    from trio_mcp.auth.verifier import Verifier as Verifier

_HOMES = {
    "bearer_auth": ("BearerAuth",),
    "checks": ("Check", "require_roles", "require_scopes"),
    "claims": ("Claim", "ClaimMissing"),
    "errors": ("AuthConfigurationError", "FetchError"),
    "fetching": ("Fetch", "Response"),
    "introspection": ("IntrospectionVerifier",),
    "jwt_verifier": ("JWTVerifier",),
    "multi_auth": ("MultiAuth",),
    "principal": ("CannotTell", "Principal"),
    "static_tokens": ("StaticTokenVerifier",),
    "tokens": ("AccessToken", "get_access_token"),
    "verifier": ("TokenVerifier", "Verifier"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AccessToken",
    "AuthConfigurationError",
    "BearerAuth",
    "CannotTell",
    "Check",
    "Claim",
    "ClaimMissing",
    "Fetch",
    "FetchError",
    "IntrospectionVerifier",
    "JWTVerifier",
    "MultiAuth",
    "Principal",
    "Response",
    "StaticTokenVerifier",
    "TokenVerifier",
    "Verifier",
    "get_access_token",
    "require_roles",
    "require_scopes",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'trio_mcp.auth' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"trio_mcp.auth.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
