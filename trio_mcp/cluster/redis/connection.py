"""One connection to Redis: redis-py's, without what that does unasked (retries, health checks, naming itself). The only user of redis.

A route opens connections to the server that the URL stands for at that moment: Sentinels are asked each time. Everything here blocks, for
as long as the timeouts say, and belongs in a thread. A connection is closed by the code that opened it.
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
"""Seconds of silence after which a subscriber sends PING: a host that lost its power does not close its connections."""


@contextmanager
def _errors_as_store_down() -> Iterator[None]:
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
    """The text of the error as Redis said it: redis-py takes the first word off."""
    return " ".join(filter(None, (getattr(error, "status_code", ""), str(error))))


class RedisConnection:
    """An open connection. After an error it can only be closed."""

    def __init__(self, raw: _Raw) -> None:
        self._raw = raw

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to one pipeline; raises StoreDown."""
        with _errors_as_store_down():
            self._raw.send_packed_command(self._raw.pack_commands(commands), check_health=False)
            return [_reply(self._raw) for _ in commands]

    def subscribe(self, channel: str, *, patience: float) -> Subscription:
        """Subscribe; from here on the connection is used by nothing else. Silence that a PING does not end within `patience` seconds is
        StoreDown."""
        return Subscription(self._raw, channel, patience)

    def is_quiet(self) -> bool:
        """Whether it is open, with no unread bytes that would be taken for the next reply."""
        try:
            return not self._raw.can_read(0)
        except RedisError:
            return False

    def close(self) -> None:
        """Close at once, in any state."""
        self._raw.disconnect()


def _reply(raw: _Raw) -> Any:
    try:
        return raw.read_response()
    except ReadOnlyError:
        raise  # the master has become a replica: this connection leads to the wrong server
    except ResponseError as refusal:
        return OperationRefused(_words(refusal))


class Subscription:
    """The messages of a channel. After `QUIET` seconds of silence it sends PING; StoreDown when nothing comes within `patience` then."""

    def __init__(self, raw: _Raw, channel: str, patience: float) -> None:
        self._raw = raw
        self._patience = patience
        self._ask("SUBSCRIBE", channel)

    def next(self, wait: float) -> list[Any] | None:
        """`[b"subscribe" | b"message" | b"pong", …]`; None when nothing came within `wait`."""
        with _errors_as_store_down():
            if self._raw.can_read(wait):
                message: list[Any] = self._raw.read_response()
                self._asked, self._due = False, time.monotonic() + QUIET
                return message
        if time.monotonic() >= self._due:
            self._check_silence()
        return None

    def _check_silence(self) -> None:
        if self._asked:
            raise StoreDown(f"no answer from Redis within {self._patience:g} s")
        self._ask("PING")

    def _ask(self, *command: str) -> None:
        with _errors_as_store_down():
            self._raw.send_command(*command)
        self._asked, self._due = True, time.monotonic() + self._patience


class RedisRoute:
    """Opens connections to Redis; may be used by several threads."""

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._sentinels: tuple[tuple[str, int], ...] = url.addresses

    def connect(self, connect_timeout: float, timeout: float) -> RedisConnection:
        """A new connection, signed in. Timeouts are in seconds; raises StoreDown."""
        url = self._url
        timeouts = {"socket_connect_timeout": connect_timeout, "socket_timeout": timeout}
        with _errors_as_store_down():
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
                # Asked first from now on: a Sentinel that is down, or knows an old master, should cost its timeout only once.
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
    """A Sentinel may not know yet of a failover."""
    raw.send_command("HELLO", 2)  # unlike ROLE and INFO it is open to every user
    says = raw.read_response()
    if dict(zip(says[::2], says[1::2], strict=True)).get(b"role") != b"master":
        raw.disconnect()
        raise RedisError("it leads to a replica")
