"""Where a secret turned up: everything that Redis was told and keeps, that nodes logged, and that their metrics say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jwt

from tests.rig.redis import RedisServer

__all__ = ["claim_values", "found_in", "parts", "redis_texts"]

READS: Mapping[bytes, Sequence[str]] = {
    b"string": ("GET", "{}"),
    b"hash": ("HGETALL", "{}"),
    b"set": ("SMEMBERS", "{}"),
    b"list": ("LRANGE", "{}", "0", "-1"),
    b"zset": ("ZRANGE", "{}", "0", "-1"),
    b"stream": ("XRANGE", "{}", "-", "+"),
}
SHORTEST = 8
"""Characters of a value that is looked for: shorter ones are in any text by chance."""


def parts(token: str) -> tuple[str, ...]:
    """What must be nowhere: the token; of a signed one also its payload and signature. Its header is the same in all."""
    return (token, *token.split(".")[1:]) if token.count(".") == 2 else (token,)


def claim_values(tokens: Iterable[str], *, public: Sequence[str] = ("iss", "aud")) -> set[str]:
    """The claims of signed tokens that are strings of some length; `public` are those that are configured and no secret."""
    found = set[str]()
    for token in tokens:
        claims = _claims(token)
        found |= {value for name, value in claims.items() if name not in public and isinstance(value, str)}
    return {value for value in found if len(value) >= SHORTEST}


def found_in(texts: Mapping[str, Iterable[str]], secrets: Iterable[str]) -> list[str]:
    """One line for each place, by its name, that has one of the secrets; it quotes no more than the start."""
    wanted = [*secrets]
    found = []
    for place, lines in texts.items():
        for line in lines:
            found += [f"{place} has {secret[:12]}…: {line[:300]}" for secret in wanted if secret in line]
    return found


async def redis_texts(redis: RedisServer) -> list[str]:
    """Every key that it has, each with all that is in it."""
    texts = []
    for key in await redis.ask("KEYS", "*"):
        name = key.decode()
        kind = await redis.ask("TYPE", name)
        if kind in READS:  # it may have ended in between
            value = await redis.ask(*(word.format(name) for word in READS[kind]))
            texts.append(f"{name} = {' '.join(_flat(value))}")
    return texts


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _flat(each)
    elif isinstance(value, bytes):
        yield value.decode(errors="replace")


def _claims(token: str) -> dict[str, Any]:
    """Those of a signed token; {} for an opaque one."""
    if token.count(".") != 2:
        return {}
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found
