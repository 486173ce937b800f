"""What a Redis URL says: where Redis is, which account is used, and what of it may be logged.

    redis://[user:password@]host[:6379][/db]
    rediss://…                                                         the same over TLS
    unix://[user:password@]/path/to/redis.sock[?db=0]
    redis+sentinel://[user:password@]host[:26379],host…/master[/db]    rediss+sentinel:// over TLS

User and password are for Redis; Sentinels that ask for their own take `sentinel_username` and `sentinel_password`
as options.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, unquote

from trio_mcp.protocol.errors import McpError

__all__ = ["InvalidRedisUrl", "RedisUrl", "parse"]

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
OPTIONS = (
    "db",
    "sentinel_username",
    "sentinel_password",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)
REDIS_PORT = 6379
SENTINEL_PORT = 26379

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TRUTH = MappingProxyType({"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False})
_ENCODING = "percent-encode '/', '?' and '@' in the password"


class InvalidRedisUrl(McpError):
    """What is wrong with the URL. The text quotes nothing that could be a part of the password."""


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed Redis URL."""

    shown: str
    """The URL without user, password and options: fit for logs."""
    addresses: tuple[tuple[str, int], ...]
    """Host and port of the server, or of the Sentinels when there is a `master`; empty with a `path`."""
    path: str | None
    """The path of the Unix socket."""
    master: str | None
    """The name by which Sentinels know the master."""
    db: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    sentinel_username: str | None = field(repr=False)
    sentinel_password: str | None = field(repr=False)
    tls: dict[str, Any] | None
    """How certificates are checked, as arguments of redis-py; None without TLS."""


def parse(url: str) -> RedisUrl:
    """What `url` says; raises InvalidRedisUrl."""
    scheme, found, rest = url.partition("://")
    if not found or scheme not in SCHEMES:
        raise InvalidRedisUrl(f"a Redis URL begins with one of {', '.join(f'{each}://' for each in SCHEMES)}")
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    username, _, password = credentials.partition(":")
    if "@" in path:
        raise InvalidRedisUrl(f"the Redis URL has an '@' behind its first '/'; {_ENCODING}")
    addresses = _addresses(scheme, hosts)
    master, db_path = _master_and_db(scheme, path)
    options = _options(query)
    return RedisUrl(
        shown=f"{scheme}://{hosts}{slash}{path}",
        addresses=addresses,
        path=unquote(f"/{path}") if scheme == "unix" else None,
        master=master,
        db=_db(options.get("db") or db_path),
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
        tls=_tls(options) if scheme.startswith("rediss") else None,
    )


def _addresses(scheme: str, hosts: str) -> tuple[tuple[str, int], ...]:
    if scheme == "unix":
        if hosts:
            raise InvalidRedisUrl(f"a unix:// URL names a path, not a host: unix:///run/redis.sock; {_ENCODING}")
        return ()
    sentinel = scheme.endswith("+sentinel")
    if "," in hosts and not sentinel:
        raise InvalidRedisUrl("several hosts are for redis+sentinel:// URLs")
    return tuple(_address(each, SENTINEL_PORT if sentinel else REDIS_PORT) for each in hosts.split(","))


def _address(text: str, default_port: int) -> tuple[str, int]:
    """Host and port in `host`, `host:port`, `[::1]` or `[::1]:port`."""
    host, bracket, port = text.rpartition("]")
    if bracket:
        host = host.removeprefix("[")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not host:
        raise InvalidRedisUrl(f"the Redis URL names no host; {_ENCODING}")
    if not _is_name(host):
        raise InvalidRedisUrl(f"the Redis URL names a host that cannot be; {_ENCODING}")
    if not port:
        return host, default_port
    if not (_is_number(port) and 0 < int(port) < 65536):
        raise InvalidRedisUrl(f"the port in the Redis URL is not a number from 1 to 65535; {_ENCODING}")
    return host, int(port)


def _master_and_db(scheme: str, path: str) -> tuple[str | None, str]:
    if scheme == "unix":
        if not path:
            raise InvalidRedisUrl("a unix:// URL names a path: unix:///run/redis.sock")
        return None, ""
    if not scheme.endswith("+sentinel"):
        return None, path
    master, _, db = path.partition("/")
    if not master:
        raise InvalidRedisUrl("a redis+sentinel:// URL names its master: redis+sentinel://host/master")
    return unquote(master), db


def _db(text: str) -> int:
    if text and not _is_number(text):
        raise InvalidRedisUrl(f"the database in the Redis URL is not a number; {_ENCODING}")
    return int(text or 0)


def _is_name(host: str) -> bool:
    """Whether it can be the name of a host."""
    try:
        return bool(host.encode("idna")) and not any(each.isspace() for each in host)
    except UnicodeError:
        return False


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if query and (not options or not options.keys() <= set(OPTIONS)):
        # The option is not named: if the password has a '?', it would be a part of the password.
        raise InvalidRedisUrl(f"an option in the Redis URL is none of {', '.join(OPTIONS)}; {_ENCODING}")
    return options


def _tls(options: dict[str, str]) -> dict[str, Any]:
    tls: dict[str, Any] = {name: options[name] for name in _FILES if name in options}
    for name, path in tls.items():
        if not Path(path).is_file():
            raise InvalidRedisUrl(f"{name} in the Redis URL names no file: {path}")
    tls["ssl_cert_reqs"] = options.get("ssl_cert_reqs", "required")
    if tls["ssl_cert_reqs"] not in ("required", "optional", "none"):
        raise InvalidRedisUrl("ssl_cert_reqs in the Redis URL is none of required, optional, none")
    truth = _TRUTH.get(options.get("ssl_check_hostname", "true").lower())
    if truth is None:
        raise InvalidRedisUrl("ssl_check_hostname in the Redis URL is neither true nor false")
    return {**tls, "ssl_check_hostname": truth}
