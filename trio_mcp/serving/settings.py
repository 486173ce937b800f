"""Every setting of a served node: its name, default and meaning."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    FilePath,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from trio_mcp import defaults
from trio_mcp.serving.auth_settings import AuthSettings
from trio_mcp.serving.setting_sources import Layer, Names, SettingsError, layers, nearest
from trio_mcp.serving.setting_types import (
    Bind,
    BindList,
    Count,
    Duration,
    EndpointPath,
    HostList,
    LogLevel,
    NetworkList,
    NodeId,
    NodeUrl,
    OriginList,
    PositiveDuration,
    RedisPrefix,
    Size,
    Workers,
    setting,
)

__all__ = ["NAMES", "NEW_SECRET", "Settings", "SettingsError", "load", "load_one", "sources"]

NEW_SECRET = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'
"""The command that makes a key for `secret`."""

_MIN_KEY_BYTES = 32
_ALIASES = {"port": ("PORT",), "log_level": ("LOG_LEVEL",), "node_id": ("POD_NAME",), "redis_url": ("REDIS_URL",)}


class Settings(AuthSettings):
    """All settings, read in the order flag (keyword argument) > environment > env file > config file > default."""

    host: str = setting("127.0.0.1", "Where", "Address to listen on.", min_length=1)
    port: int = setting(8000, "Where", "Port to listen on; 0 picks a free one.", ge=0, le=65535)
    path: EndpointPath = setting(defaults.PATH, "Where", "Path of the MCP endpoint.")
    bind: BindList = setting(
        (), "Where", "`host:port`, `unix:/path` or `fd://3`, comma separated; replaces host and port."
    )
    server: Literal["own", "hypercorn"] = setting(
        "own", "Where", "HTTP server: our own listener, or Hypercorn for TLS and HTTP/2."
    )
    certfile: FilePath | None = setting(None, "Where", "TLS certificate chain (PEM); needs `server` hypercorn.")
    keyfile: FilePath | None = setting(None, "Where", "TLS private key (PEM); unless set it is in `certfile`.")
    workers: Workers = setting(
        1, "Where", "Processes that serve this node: a number, or `auto` for one per core. The rest is one node's."
    )
    worker_timeout: PositiveDuration = setting(
        defaults.WORKER_TIMEOUT, "Where", "A worker whose event loop does not run for this long is replaced."
    )
    admin_bind: Bind | None = setting(None, "Where", "Where `/metrics` and the admin commands listen; off unless set.")

    admin_hosts: HostList = setting(
        (), "Where", "Names the admin listener answers to, besides loopback names and IP addresses; `*` for any."
    )
    admin_token: SecretStr | None = setting(
        None, "Where", "Bearer token that the admin listener asks for, but for probes; none unless set."
    )

    allowed_hosts: HostList = setting(
        (),
        "Who",
        "Host header values served: `name`, `name:port`, `*.name`, `*`; loopback names only when bound to loopback.",
    )
    allowed_origins: OriginList = setting(
        (), "Who", "Origins of browser pages served: `https://name`, `http://localhost:*`, `https://*.name`, `*`."
    )
    forwarded_allow: NetworkList = setting(
        (), "Who", "Proxies whose `X-Forwarded-For` is believed: addresses or networks such as 10.0.0.0/8."
    )
    node_id: NodeId | None = setting(None, "Who", "The node's id, in its session ids too; random unless set.")
    secret: SecretStr | None = setting(
        None, "Who", "Keys that seal what clients carry between requests, comma separated, newest first."
    )

    redis_url: SecretStr | None = setting(
        None,
        "Cluster",
        "Redis that all nodes share: redis://, rediss://, unix:// or redis+sentinel://h:p,h:p/master/db.",
    )
    redis_prefix: RedisPrefix = setting(
        defaults.REDIS_PREFIX, "Cluster", "What this cluster's keys in Redis start with."
    )
    advertise_url: NodeUrl | None = setting(
        None,
        "Cluster",
        "Where peers reach this node, `http://host:port`; from POD_IP or the address it listens on unless set.",
    )
    peer_url: NodeUrl | None = setting(
        None,
        "Cluster",
        "Address pattern for nodes that Redis does not know: `http://{node}:8000`.",
    )
    restore: bool = setting(
        False,
        "Cluster",
        "Another node takes up the sessions of one that is gone; handlers must keep no state in memory.",
    )
    require_redis: bool = setting(
        False, "Cluster", "`/readyz` stays 503 until Redis has answered once. A later outage changes nothing."
    )
    drain_delay: Duration | None = setting(
        None,
        "Cluster",
        "After the stop signal the node serves normally for this long; only `/readyz` is 503. 3s with Redis, 0 without.",
    )

    session_idle_timeout: PositiveDuration = setting(
        defaults.SESSION_IDLE_TIMEOUT, "Sessions", "A session nobody uses for this long ends."
    )
    max_sessions: Count = setting(
        defaults.MAX_SESSIONS,
        "Sessions",
        "Sessions open at once; more take the place of one that was never used, or get 503.",
    )
    max_sessions_per_principal: Count | None = setting(
        None, "Sessions", "Sessions of one authenticated caller; more get 429. Off unless set."
    )
    max_sessions_per_address: Count | None = setting(
        None,
        "Sessions",
        "Sessions of one client address, as proxies in `forwarded_allow` tell it; more get 429. Off unless set.",
    )
    max_in_flight: Count = setting(
        defaults.MAX_IN_FLIGHT, "Sessions", "Requests running at once in one session; more get 429."
    )
    max_listen_streams: Count = setting(
        defaults.MAX_LISTEN_STREAMS, "Sessions", "`subscriptions/listen` streams open at once."
    )
    request_timeout: PositiveDuration = setting(
        defaults.REQUEST_TIMEOUT, "Sessions", "How long a client may take to answer the server's request."
    )
    page_size: Count = setting(defaults.PAGE_SIZE, "Sessions", "Entries on one page of a list.")

    websocket: bool = setting(
        False, "Sessions", "Serve WebSocket as well, at the same path: for browsers, devices and old SDK clients."
    )
    max_websockets: Count = setting(defaults.MAX_WEBSOCKETS, "Sessions", "WebSockets open at once; more get 503.")

    json_response: bool = setting(False, "Streams", "Answer with JSON, never with a stream.")
    sse_after: Duration = setting(
        defaults.SSE_AFTER, "Streams", "A silent handler's answer becomes a stream after this long."
    )
    stream_delay: Duration = setting(
        defaults.STREAM_DELAY,
        "Streams",
        "An answer is streamed no sooner than this after its request: Go proxies cut earlier ones; 0 is off.",
    )
    keepalive: PositiveDuration = setting(
        defaults.KEEP_ALIVE, "Streams", "A comment on each quiet stream, a ping on each quiet WebSocket, this often."
    )
    retry_interval: int = setting(
        defaults.RETRY_INTERVAL_MS, "Streams", "Milliseconds clients wait before they reopen a stream.", ge=0
    )
    max_events: Count = setting(defaults.MAX_EVENTS, "Streams", "Events kept for one stream.")
    max_stream_bytes: Size = setting(
        defaults.MAX_STREAM_BYTES, "Streams", "Bytes kept for one stream, besides answers that are being read."
    )
    max_session_bytes: Size = setting(defaults.MAX_SESSION_BYTES, "Streams", "The same for all streams of one session.")
    event_retention: Duration = setting(
        defaults.EVENT_RETENTION, "Streams", "How long a finished stream can be replayed."
    )

    max_connections: Count | None = setting(
        None, "Limits", "Connections open at once; more get 503. Unless set, what `ulimit -n` allows, less a reserve."
    )
    max_head: Size = setting(defaults.MAX_HEAD, "Limits", "Bytes of a request's head; more get 431.")
    head_timeout: PositiveDuration = setting(
        defaults.HEAD_TIMEOUT, "Limits", "A request's head must arrive within this."
    )
    max_body: Size = setting(defaults.MAX_BODY, "Limits", "Bytes of a request's body; more get 413.")
    body_timeout: PositiveDuration = setting(
        defaults.BODY_TIMEOUT, "Limits", "A request's body must arrive within this."
    )
    max_kept_bytes: Size | None = setting(
        None,
        "Limits",
        "Bytes of messages and bodies that wait in memory, of all clients together; beyond it new calls wait. "
        "A quarter of the container's memory limit, 256MiB without one.",
    )
    write_timeout: PositiveDuration = setting(
        defaults.WRITE_TIMEOUT, "Limits", "A client that reads nothing for this long loses its connection."
    )
    connection_idle_timeout: PositiveDuration = setting(
        defaults.CONNECTION_IDLE_TIMEOUT,
        "Limits",
        "Idle connections are kept this long; longer than the proxy's own (Traefik: 60s).",
    )
    drain_timeout: Duration = setting(
        defaults.DRAIN_TIMEOUT,
        "Limits",
        "The drain window: what still runs this long after the drain delay is cancelled.",
    )
    task_drain_timeout: Duration | None = setting(
        None,
        "Limits",
        "The same for tasks, where they may have longer; idempotent ones then run again on another node.",
    )
    cleanup_timeout: Duration = setting(
        defaults.CLEANUP_TIMEOUT, "Limits", "Then, when the calls have ended, your lifespan may clean up for this long."
    )

    log_level: LogLevel = setting("INFO", "Logs", "Least severe log line written.")
    log_format: Literal["auto", "text", "json"] = setting(
        "auto", "Logs", "`auto` is text on a terminal and JSON lines elsewhere."
    )
    access_log: bool = setting(True, "Logs", "One line for each request.")

    env_file: Path | None = setting(None, "Files", "File of `NAME=value` lines, read as if from the environment.")
    config: Path | None = setting(None, "Files", "TOML file of settings.")

    @model_validator(mode="before")
    @classmethod
    def _layered(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return _merged(layers(given, os.environ, NAMES))

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.certfile is None and self.keyfile is not None:
            raise ValueError("keyfile is set without certfile: set both, TLS needs the certificate too")
        if self.certfile is not None and self.server != "hypercorn":
            raise ValueError("certfile needs server=hypercorn: our own listener does not speak TLS")
        if self.max_kept_bytes is not None and self.max_kept_bytes < 4 * self.max_body:
            raise ValueError(
                "max_kept_bytes is less than four times max_body: one client may hold a quarter of it at most"
            )
        if self.redis_url is not None:
            self._check_cluster()
        elif self.require_redis:
            raise ValueError("require_redis is set without redis_url: set that as well")
        for number, key in enumerate(self.keys, 1):
            if len(key) < _MIN_KEY_BYTES:
                raise ValueError(
                    f"secret: key {number} is shorter than {_MIN_KEY_BYTES} bytes; make one with: {NEW_SECRET}"
                )
        return self

    def _check_cluster(self) -> None:
        if not self.keys:
            # REDIS_URL may be set for another program.
            step = "" if os.environ.get("TRIO_MCP_REDIS_URL") else "; or unset REDIS_URL, if that is another program's"
            raise ValueError(
                "redis_url needs the secret that all nodes share: set TRIO_MCP_SECRET to what this prints: "
                f"{NEW_SECRET}{step if os.environ.get('REDIS_URL') else ''}"
            )
        if self.certfile is not None:
            raise ValueError("redis_url with certfile: peers talk plain HTTP to each other; let the balancer speak TLS")
        inherited = next((bind for bind in self.binds if bind.startswith("fd://")), None)
        if inherited is not None and self.advertise_url is None:
            raise ValueError(
                f"redis_url with bind {inherited} needs advertise_url: several processes may serve one inherited socket, and "
                "peers have to reach each of them. Give every process an address of its own as well: "
                f"--bind {inherited},127.0.0.1:8001 --advertise-url http://127.0.0.1:8001"
            )
        if self.peer_url is not None and "{node}" not in self.peer_url:
            raise ValueError("peer_url lacks {node}, the place of the node id: 'http://{node}:8000'")

    @property
    def drain_delay_seconds(self) -> float:
        """The drain delay in seconds: as set, else 3 with Redis and 0 without."""
        if self.drain_delay is not None:
            return self.drain_delay
        return defaults.CLUSTER_DRAIN_DELAY if self.redis_url is not None else 0.0

    @property
    def task_drain_seconds(self) -> float:
        """The drain window of tasks in seconds; never shorter than that of calls."""
        return max(self.drain_timeout, self.task_drain_timeout or 0.0)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys of `secret`, newest first; empty when it is not set."""
        text = self.secret.get_secret_value() if self.secret is not None else ""
        return tuple(key.strip().encode() for key in text.split(",") if key.strip())

    @property
    def binds(self) -> tuple[str, ...]:
        """Every address to listen on, as `host:port`, `unix:/path` or `fd://n`: `bind`, else host and port."""
        return self.bind or (f"{_bracketed(self.host)}:{self.port}",)


def _bracketed(host: str) -> str:
    try:
        return f"[{IPv6Address(host)}]"
    except ValueError:
        return host


def _readable(name: str) -> Callable[[str], bool] | None:
    """Whether a value of `PORT` or `LOG_LEVEL` can be meant for us: other programs use these names, too (`PORT=tcp://…`)."""
    if name not in ("port", "log_level"):
        return None

    def readable(text: str) -> bool:
        info = Settings.model_fields[name]
        kind: Any = Annotated[(info.annotation, info)]
        try:
            TypeAdapter(kind).validate_python(text)
        except ValidationError:
            return False
        return True

    return readable


def _is_secret(info: FieldInfo) -> bool:
    return "SecretStr" in str(info.annotation)


def _in_order() -> Iterator[tuple[str, FieldInfo]]:
    fields = Settings.model_fields
    for name, info in fields.items():
        if name == "redis_url":
            yield from ((each, fields[each]) for each in AuthSettings.model_fields)
        if name not in AuthSettings.model_fields:
            yield name, info


NAMES: tuple[Names, ...] = tuple(
    Names(name, _ALIASES.get(name, ()), secret=_is_secret(info), readable=_readable(name)) for name, info in _in_order()
)
"""Every setting and the environment variables it answers to, in the order of Settings; those of authorization come after "Who"."""


def _merged(found: list[Layer]) -> dict[str, Any]:
    return {name: value for layer in reversed(found) for name, value in layer.values.items()}


def sources(**flags: Any) -> dict[str, str]:
    """By setting that was given, where its value comes from: `flag --port`, `environment PORT`, `node.toml: port`."""
    found = layers(flags, os.environ, NAMES)
    return {name: origin for layer in reversed(found) for name, origin in layer.origin.items()}


def load(**flags: Any) -> Settings:
    """Read all settings; a flag that is None was not given. Raises SettingsError, with a line for each fault."""
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise SettingsError(_faults(error, sources(**flags))) from error


def load_one(name: str, flag: Any = None, **files: Any) -> Any:
    """Read one setting, whatever the others are; `files` are the flags `env_file` and `config`. Raises SettingsError."""
    info = Settings.model_fields[name]
    value = _merged(layers({name: flag, **files}, os.environ, NAMES)).get(name, info.default)
    kind: Any = Annotated[(info.annotation, info)]
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        faults = [_fault((name,), fault["type"], fault["msg"], sources(**{name: flag})) for fault in error.errors()]
        raise SettingsError("\n".join(faults)) from error


def _faults(error: ValidationError, origins: Mapping[str, str]) -> str:
    return "\n".join(
        dict.fromkeys(_fault(fault["loc"], fault["type"], fault["msg"], origins) for fault in error.errors())
    )


def _fault(where: tuple[int | str, ...], kind: str, message: str, origins: Mapping[str, str]) -> str:
    text = re.sub(r"^Value error, ", "", message)
    if not where:
        return text
    name = str(where[0])
    origin = origins.get(name, "default")
    if kind == "extra_forbidden":
        hint = nearest(name, Settings.model_fields)
        return f"unknown setting ({origin})" + (f"; did you mean {hint}?" if hint else "")
    variable = origin.removeprefix("environment ")
    step = f"; set it right, or unset {variable}" if variable != origin else ""
    return f"{name} ({origin}): {text[:1].lower()}{text[1:]}{step}"
