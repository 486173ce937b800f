"""The `WWW-Authenticate` header: one Bearer challenge, every value quoted (RFC 6750 §3, RFC 9728 §5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from trio_mcp.auth.reasons import Refusal

__all__ = ["RETRY_AFTER_SECONDS", "Header", "challenge", "refusal_headers", "unavailable_headers"]

Header = tuple[bytes, bytes]

RETRY_AFTER_SECONDS = 5
"""For a client whose token cannot be judged now: about as long as the pause between two attempts to fetch keys."""

# What RFC 6750 §3 allows in error_description. The other values are checked when they are configured and are a part of this.
_NOT_ALLOWED = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


def challenge(
    *, error: str = "", description: str = "", scopes: Iterable[str] = (), resource_metadata: str = ""
) -> bytes:
    """The value of `WWW-Authenticate`; what is empty is left out.

    Characters that RFC 6750 does not allow in a value (quotes, backslashes, controls, all beyond ASCII) become `'` or `?`,
    so nothing from a request or a configuration can end the header or begin another one.
    """
    values = {
        "error": error,
        "error_description": description,
        "scope": " ".join(scopes),
        "resource_metadata": resource_metadata,
    }
    written = ", ".join(f'{name}="{_quotable(value)}"' for name, value in values.items() if value)
    return f"Bearer {written}".rstrip().encode("ascii")


def refusal_headers(
    reason: Refusal, *, scopes: Iterable[str], resource_metadata: str, description: str = ""
) -> tuple[Header, ...]:
    """The headers of a 400, 401 or 403; `description` replaces that of the reason.

    A 403 that no scope would change has no challenge: with one, clients would ask for a new token in vain.
    """
    if reason is Refusal.FORBIDDEN:
        return ()
    told = (description or reason.description) if reason.error else ""
    # RFC 6750 §3: scope and metadata tell how to get a token; a 400 says that the request itself is wrong.
    helps = reason.status != 400
    value = challenge(
        error=reason.error,
        description=told,
        scopes=scopes if helps else (),
        resource_metadata=resource_metadata if helps else "",
    )
    return ((b"www-authenticate", value),)


def unavailable_headers() -> tuple[Header, ...]:
    """The headers of a 503: no challenge, since a client that sees one drops its token."""
    return ((b"retry-after", b"%d" % RETRY_AFTER_SECONDS),)


def _quotable(value: str) -> str:
    return _NOT_ALLOWED.sub("?", value.replace('"', "'"))
