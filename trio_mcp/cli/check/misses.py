"""Why a request did not reach its session, and what to do: by status, and by the reason that a node gives."""

from __future__ import annotations

from trio_mcp.cli.check.evidence import Asked
from trio_mcp.sessions.close_reason import CloseReason

__all__ = ["explained"]

Explanation = tuple[str, str]
"""What it means, and the next step."""

_MOVED = (
    "another node had taken the session over when the answer was sent",
    "Check again; see `claim lost` in the nodes' logs if it stays so",
)

_BY_REASON: dict[str, Explanation] = {
    CloseReason.UNKNOWN: (
        "a node that does not have the session was asked, and did not find the one that has it",
        "Give all nodes the same --redis-url, --redis-prefix and TRIO_MCP_SECRET, or, without Redis, let the balancer "
        "route by Mcp-Session-Id. `trio-mcp sessions` shows which nodes are in the same cluster",
    ),
    CloseReason.NODE_GONE: (
        "the session's node ended while the check ran",
        "Did a node restart? Then check again. With --restore another node takes over its sessions",
    ),
    "directory_unavailable": (
        "Redis does not answer the nodes",
        "Look for `redis is away` in their logs. With --peer-url nodes find each other without it",
    ),
    "unreachable": (
        "one node cannot reach another",
        "`trio-mcp sessions` shows each node's URL: can the others connect to it? See --advertise-url, and network policies",
    ),
    "moving": ("the session moved between nodes", "Check again; see `claim lost` in the nodes' logs if it stays so"),
    CloseReason.DELETED: ("another client or an operator ended the session", "Check again"),
    CloseReason.EXPIRED: ("the session was ended as unused within the check", "Raise --session-idle-timeout"),
    CloseReason.CRASHED: ("a task of the session failed", "See `session crashed` in its node's log"),
    CloseReason.OVERFLOW: (
        "too much waited for a client that did not read, or the node's memory was short",
        "See `memory is short` in its node's log, and --max-kept-bytes",
    ),
    CloseReason.UNUSED: (
        "its node was full, and the session had not been used yet",
        "Add nodes, raise --max-sessions, or lower --session-idle-timeout",
    ),
    CloseReason.CLOSED: ("the server's own code ended the session", "See where it calls `session.close()`"),
    CloseReason.SHUTDOWN: (
        "the session's node was stopped while the check ran",
        "Check again. With --restore another node takes over its sessions",
    ),
    CloseReason.MOVED: _MOVED,
    CloseReason.RELEASED: _MOVED,
    CloseReason.ELSEWHERE: _MOVED,
    CloseReason.OTHER: (
        "a node ended the session for a reason that this version of trio-mcp does not know",
        "Check with the version that the nodes run; see `session closed` in their logs",
    ),
}
"""By the `reason` that a node gives: every `CloseReason`, and what a 503 says."""

_BY_STATUS: dict[int, Explanation] = {
    0: ("no answer came, or it ended early", "Is a node down, or does a proxy end requests early?"),
    400: (
        "what reached the node was not what was sent",
        "Proxies must keep Mcp-Session-Id, MCP-Protocol-Version, Mcp-Method and Mcp-Name",
    ),
    403: ("it was refused", "See --allowed-origins, and what stands before the nodes"),
    404: (
        "no node said so: the balancer did, and clients take it for the end of their session",
        "Is its router for the endpoint enabled, and the path right? A route of last resort that answers 503 keeps "
        "clients' sessions (`trio-mcp export traefik` has one)",
    ),
    421: ("the node does not serve this Host", "Name it in the nodes' --allowed-hosts"),
    429: ("a limit on requests was reached", "Exempt the endpoint, or check with fewer --connections"),
    502: (
        "the balancer could not reach the node it had chosen",
        "Is a node down? Its health check must look at /livez, every second or so",
    ),
    503: (
        "there is no node for it",
        "Is any node ready, and does the balancer's health check know? See /readyz of each, and --max-sessions",
    ),
    504: ("the node did not answer the balancer in time", "Raise the balancer's timeouts: a slow tool answers late"),
}


def explained(asked: Asked) -> Explanation:
    """The meaning and the next step for a request that missed."""
    if asked.status in (404, 503) and asked.reason in _BY_REASON:
        return _BY_REASON[asked.reason]
    if asked.status == 404 and asked.reason:
        return _BY_REASON[CloseReason.OTHER]
    return _BY_STATUS.get(asked.status, ("the server failed", "See the nodes' logs"))
