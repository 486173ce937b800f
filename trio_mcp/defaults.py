"""The default of everything that can be set. Signatures, options and settings read it here; what each means is said there.

Times in seconds, sizes in bytes, unless the name says otherwise. It imports nothing: every layer may use it.
"""

from __future__ import annotations

PATH = "/mcp"

# Sessions and requests.

SESSION_IDLE_TIMEOUT = 1_800.0
MAX_SESSIONS = 10_000
MAX_IN_FLIGHT = 100
MAX_LISTEN_STREAMS = 1_024
MAX_WEBSOCKETS = 1_024
REQUEST_TIMEOUT = 600.0
REQUEST_STATE_TTL = 600.0
PAGE_SIZE = 1_000
WORKER_THREADS = 40
WORKER_TIMEOUT = 30.0

# Streams.

SSE_AFTER = 0.5
STREAM_DELAY = 0.01
KEEP_ALIVE = 15.0
"""Below the idle timeouts of common proxies (30 to 60 s), so that a quiet stream stays open."""
RETRY_INTERVAL_MS = 1_000
MAX_EVENTS = 1_000
MAX_STREAM_BYTES = 1 << 20
MAX_SESSION_BYTES = 4 << 20
EVENT_RETENTION = 300.0

# Connections.

MAX_KEPT_BYTES = 256 << 20
MAX_HEAD = 32 << 10
HEAD_TIMEOUT = 10.0
MAX_BODY = 4 << 20
BODY_TIMEOUT = 60.0
WRITE_TIMEOUT = 20.0
CONNECTION_IDLE_TIMEOUT = 75.0
"""Longer than the idle timeout of proxies in front (Traefik: 60), which else send into a closing connection."""

# A stop (its other times: `sessions.stop_times`).

CLUSTER_DRAIN_DELAY = 3.0
"""Three looks of a balancer that checks every second. Without a cluster there is no delay."""
DRAIN_TIMEOUT = 25.0
CLEANUP_TIMEOUT = 5.0

# Authorization.

AUTH_LEEWAY = 30.0
AUTH_MAX_TOKEN = 16 << 10
AUTH_INTROSPECTION_CACHE = 30.0

# The cluster.

REDIS_PREFIX = "mcp"
