"""Builds the parts of a served node from the settings: the app, the cluster, the options of requests."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from trio_mcp.dispatch.options import Options
from trio_mcp.observability.logs import event
from trio_mcp.server import MCPServer
from trio_mcp.serving.process_limits import account_of
from trio_mcp.serving.settings import Settings
from trio_mcp.transports.http.app import HttpApp
from trio_mcp.transports.http.event_stream import Pace
from trio_mcp.transports.http.gate import LOOPBACK_NAMES

__all__ = ["authorization", "build_app", "build_cluster", "options_of"]

if TYPE_CHECKING:
    from trio_mcp.auth.bearer_auth import BearerAuth
    from trio_mcp.cluster.cluster import Cluster
    from trio_mcp.cluster.siblings import Siblings

logger: logging.Logger = logging.getLogger("trio_mcp.serving")

_OPTIONS = ("page_size", "request_timeout", "write_timeout", "max_in_flight", "max_listen_streams")
_STREAM_BOUNDS = {
    "max_events": "events",
    "max_stream_bytes": "stream_bytes",
    "max_session_bytes": "session_bytes",
    "event_retention": "keep_seconds",
}
"""By setting, the name of the same bound in `StreamBounds`."""


def build_app(server: MCPServer, settings: Settings) -> HttpApp:
    """The ASGI app of a node; logs a warning where any Host header is served."""
    options = options_of(server, settings)
    auth, resource = authorization(server, settings)
    return server.http_app(
        path=settings.path,
        allowed_hosts=_allowed_hosts(settings),
        allowed_origins=settings.allowed_origins or None,
        auth=auth,
        resource=resource,
        node_id=settings.node_id,
        session_idle_timeout=settings.session_idle_timeout,
        max_sessions=settings.max_sessions,
        max_sessions_per_principal=settings.max_sessions_per_principal,
        max_sessions_per_address=settings.max_sessions_per_address,
        forwarded_allow=settings.forwarded_allow,
        max_body=settings.max_body,
        websocket=settings.websocket,
        max_websockets=settings.max_websockets,
        json_response=settings.json_response,
        secrets=settings.keys,
        options=options,
        account=account_of(settings),
        pace=Pace(
            sse_after=settings.sse_after,
            stream_delay=settings.stream_delay,
            keep_alive=settings.keepalive,
            retry=settings.retry_interval,
        ),
    )


def build_cluster(app: HttpApp, settings: Settings, siblings: Siblings | None = None) -> Cluster | None:
    """What connects the node with its peers; None without Redis. Raises InvalidRedisUrl.

    `siblings`: the app is that of one worker of a node.
    """
    if settings.redis_url is None:
        return None
    from trio_mcp.cluster.cluster import Cluster, ClusterOptions
    from trio_mcp.cluster.redis.store import RedisStore

    options = ClusterOptions(
        secrets=settings.keys,
        peer_url=settings.peer_url,
        restore=settings.restore,
        require_redis=settings.require_redis,
        keep_alive=settings.keepalive,
        write_timeout=app.service.options.write_timeout,
        drain_seconds=settings.drain_delay_seconds + settings.task_drain_seconds,
    )
    store = RedisStore(settings.redis_url.get_secret_value(), settings.redis_prefix)
    cluster = Cluster(app, options, store, siblings)
    app.join(cluster, cluster.directory, cluster.prove, cluster.answer_for if siblings is not None else None)
    return cluster


def options_of(server: MCPServer, settings: Settings) -> Options:
    """The bounds of requests: the server's own options, replaced by the settings that were given."""
    options = server.options
    return replace(
        options,
        **_set(settings, {name: name for name in _OPTIONS}),
        streams=replace(options.streams, **_set(settings, _STREAM_BOUNDS)),
    )


def _set(settings: Settings, names: Mapping[str, str]) -> dict[str, Any]:
    """The values of those settings that were given, by the names that the options have for them."""
    return {option: getattr(settings, name) for name, option in names.items() if name in settings.model_fields_set}


def authorization(server: MCPServer, settings: Settings) -> tuple[BearerAuth | None, str | None]:
    """What the settings add to the server's own `auth`, and its public URL. Raises AuthConfigurationError for two that differ."""
    given = settings.given_for_auth
    own = server.auth
    if own is None:
        return settings.bearer_auth(), _own_url(settings)
    url = getattr(own, "resource", "") if "auth_resource" in given else None
    extra = [
        *sorted(given - {"auth_resource"}),
        *(["auth_resource"] if url not in (None, settings.auth_resource) else []),
    ]
    if extra:
        from trio_mcp.auth.errors import AuthConfigurationError

        raise AuthConfigurationError(
            f"TRIO_MCP_{extra[0].upper()} is set, and the server has auth= in code: leave out one of them"
        )
    return None, settings.auth_resource or _own_url(settings)


def _own_url(settings: Settings) -> str | None:
    """The URL of an endpoint that only this machine reaches; None where it is not clear, and for a node of several."""
    addresses = [bind for bind in settings.binds if not bind.startswith("unix:")]
    if settings.redis_url is not None or not addresses or not all(map(_is_local, settings.binds)):
        return None
    if addresses[0].endswith(":0"):
        return None
    return f"{'http' if settings.certfile is None else 'https'}://{addresses[0]}{settings.path}"


def _allowed_hosts(settings: Settings) -> Iterable[str] | None:
    if settings.allowed_hosts:
        return settings.allowed_hosts
    if all(_is_local(bind) for bind in settings.binds):
        return LOOPBACK_NAMES
    advice = "set --allowed-hosts to the names clients use, or '*' behind a proxy that checks them"
    event(logger, logging.WARNING, "any Host header is served", bind=",".join(settings.binds), advice=advice)
    return None


def _is_local(bind: str) -> bool:
    """Whether only this machine reaches `bind`; an inherited descriptor counts as public."""
    if bind.startswith("unix:"):
        return True
    host = bind.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
