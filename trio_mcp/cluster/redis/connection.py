"""One connection to Redis: redis-py's, less all it does unasked (retries, health checks, naming itself).

A route opens connections to whoever the URL means at that moment: Sentinels are asked each time. Everything here
blocks, for as long as the timeouts say, and belongs in a thread; whoever opened a connection closes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, DataError, ReadOnlyError, RedisError, ResponseError

from trio_mcp.cluster.redis.url import RedisUrl
from trio_mcp.cluster.store.port import OperationRefused, StoreDown, StoreRefuses

__all__ = ["Command", "RedisConnection", "RedisRoute", "Subscription"]

Command: TypeAlias = tuple[str | bytes | int | float, ...]
_Raw: TypeAlias = Connection | UnixDomainSocketConnection

QUIET = 5.0
"""After so much silence a subscriber asks whether Redis is still there: a host that vanished sends no goodbye."""


@contextmanager
def _broken_is_down() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise TypeError(str(error)) from error
    except (AuthenticationError, ResponseError) as error:
        kind = StoreDown if isinstance(error, ReadOnlyError) else StoreRefuses
        raise kind(_words(error)) from error
    except RedisError as error:
        raise StoreDown(str(error)) from error


def _words(error: RedisError) -> str:
    """As Redis said it: redis-py takes the first word off."""
    return " ".join(filter(None, (getattr(error, "status_code", ""), str(error))))


class RedisConnection:
    """Open; after an error it is good for nothing but `close`."""

    def __init__(self, raw: _Raw) -> None:
        self._raw = raw

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to one pipeline."""
        with _broken_is_down():
            self._raw.send_packed_command(self._raw.pack_commands(commands), check_health=False)
            return [_reply(self._raw) for _ in commands]

    def subscribe(self, channel: str, *, patience: float) -> Subscription:
        """From here on the connection is the subscription's."""
        return Subscription(self._raw, channel, patience)

    def is_quiet(self) -> bool:
        """Still open, and no left-over to be taken for the next reply."""
        try:
            return not self._raw.can_read(0)
        except RedisError:
            return False

    def close(self) -> None:
        """At once, whatever state it is in."""
        self._raw.disconnect()


def _reply(raw: _Raw) -> Any:
    try:
        return raw.read_response()
    except ReadOnlyError:
        raise  # our master has become a replica: this connection leads to the wrong server
    except ResponseError as refusal:
        return OperationRefused(_words(refusal))


class Subscription:
    """What is said on a channel. Silence is asked about; StoreDown when that brings no word within `patience`."""

    def __init__(self, raw: _Raw, channel: str, patience: float) -> None:
        self._raw = raw
        self._patience = patience
        self._ask("SUBSCRIBE", channel)

    def next(self, wait: float) -> list[Any] | None:
        """`[b"subscribe" | b"message" | b"pong", …]`; None when nothing came within `wait`."""
        with _broken_is_down():
            if self._raw.can_read(wait):
                message: list[Any] = self._raw.read_response()
                self._asked, self._due = False, time.monotonic() + QUIET
                return message
        if time.monotonic() >= self._due:
            self._mind_the_silence()
        return None

    def _mind_the_silence(self) -> None:
        if self._asked:
            raise StoreDown(f"no word from Redis for {self._patience:g} s")
        self._ask("PING")

    def _ask(self, *command: str) -> None:
        with _broken_is_down():
            self._raw.send_command(*command)
        self._asked, self._due = True, time.monotonic() + self._patience


class RedisRoute:
    """The way to Redis; safe to use from several threads."""

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._sentinels: tuple[tuple[str, int], ...] = url.addresses

    def connect(self, connect_timeout: float, timeout: float) -> RedisConnection:
        """A new connection, signed in; StoreDown."""
        url = self._url
        timeouts = {"socket_connect_timeout": connect_timeout, "socket_timeout": timeout}
        with _broken_is_down():
            if url.master is not None:
                return RedisConnection(self._through_sentinels(url.master, timeouts))
            return RedisConnection(self._to_redis(url.addresses[0] if url.addresses else None, timeouts))

    def _through_sentinels(self, master: str, timeouts: dict[str, float]) -> _Raw:
        problems = []
        refusals = 0
        for sentinel in self._sentinels:
            try:
                raw = self._to_redis(self._master_address(sentinel, master, timeouts), timeouts)
                _must_be_master(raw)
            except RedisError as error:
                problems.append(_words(error))
                refusals += isinstance(error, AuthenticationError | ResponseError)
            else:
                # First next time: one that is down or knows an old master should cost its timeout once.
                self._sentinels = (sentinel, *(each for each in self._sentinels if each != sentinel))
                return raw
        kind = StoreRefuses if refusals == len(problems) else StoreDown
        raise kind(f"no Sentinel leads to the master {master}: {'; '.join(problems)}")

    def _master_address(self, sentinel: tuple[str, int], master: str, timeouts: dict[str, float]) -> tuple[str, int]:
        url = self._url
        raw = _opened(sentinel, url.tls, username=url.sentinel_username, password=url.sentinel_password, **timeouts)
        try:
            raw.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master)
            found = raw.read_response()
        finally:
            raw.disconnect()
        if not found:
            raise RedisError(f"the Sentinel at {sentinel[0]}:{sentinel[1]} does not know it")
        return found[0].decode(), int(found[1])

    def _to_redis(self, address: tuple[str, int] | None, timeouts: dict[str, float]) -> _Raw:
        url = self._url
        account = {"username": url.username, "password": url.password, "db": url.db}
        return _opened(address or url.path or "", url.tls, **account, **timeouts)


def _opened(where: tuple[str, int] | str, tls: dict[str, Any] | None, **options: Any) -> _Raw:
    options |= {"protocol": 2, "driver_info": None}
    raw: _Raw
    match where:
        case str(path):
            raw = UnixDomainSocketConnection(path=path, **options)  # type: ignore[abstract]
        case (host, port) if tls is not None:
            raw = SSLConnection(host=host, port=port, **tls, **options)
        case (host, port):
            raw = Connection(host=host, port=port, **options)
    raw.connect()
    return raw


def _must_be_master(raw: _Raw) -> None:
    """A Sentinel may not have heard yet of a failover."""
    raw.send_command("HELLO", 2)  # unlike ROLE and INFO it is open to every user
    says = raw.read_response()
    if dict(zip(says[::2], says[1::2], strict=True)).get(b"role") != b"master":
        raw.disconnect()
        raise RedisError("it leads to a replica")
