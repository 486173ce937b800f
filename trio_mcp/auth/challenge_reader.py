"""Reading `WWW-Authenticate` as a client does: the parameters of its Bearer challenge (RFC 9110 §11.6.1, RFC 6750 §3)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["BearerChallenge", "read_challenge"]

MAX_CHARACTERS = 16 * 1024
"""Of one header; servers send some hundred."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PIECE = re.compile(
    rf"""
    [\s,]*
    (?: (?P<name>{_TOKEN}) \s*=\s* (?: "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<bare>{_TOKEN}) ) (?= \s*(?:,|$) )
      | (?P<scheme>{_TOKEN}) (?: \ +(?P<token68>[A-Za-z0-9._~+/-]+=*)(?= \s*(?:,|$) ) | (?= [\s,] | $ ) )
    )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class BearerChallenge:
    """What a server says a client needs; empty for what it does not say."""

    error: str = ""
    description: str = ""
    scopes: tuple[str, ...] = ()
    resource_metadata: str = ""
    """The URL of the metadata (RFC 9728 §5.1); a client must check where it leads before it asks there."""


def read_challenge(headers: Sequence[str]) -> BearerChallenge | None:
    """The first Bearer challenge in the values of all `WWW-Authenticate` headers; None without one.

    Other schemes in the same header are passed over. What follows something that is no challenge is not read.
    """
    for header in headers:
        for scheme, parameters in _challenges(header[:MAX_CHARACTERS]):
            if scheme == "bearer":
                return BearerChallenge(
                    error=parameters.get("error", ""),
                    description=parameters.get("error_description", ""),
                    scopes=tuple(dict.fromkeys(parameters.get("scope", "").split())),
                    resource_metadata=parameters.get("resource_metadata", ""),
                )
    return None


def _challenges(header: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    scheme, parameters = "", dict[str, str]()
    place = 0
    while (piece := _PIECE.match(header, place)) is not None:
        place = piece.end()
        if piece["scheme"] is None:
            value = piece["bare"] if piece["quoted"] is None else re.sub(r"\\(.)", r"\1", piece["quoted"])
            # Of a parameter that comes twice, which RFC 9110 §11.2 forbids, the first counts.
            parameters.setdefault(piece["name"].lower(), value)
            continue
        if scheme:
            yield scheme, parameters
        scheme, parameters = piece["scheme"].lower(), {}
    if scheme:
        yield scheme, parameters
