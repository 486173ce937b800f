"""For the tests of servers: the official client in memory, and an ASGI app driven chunk by chunk."""

from typing import TYPE_CHECKING, Any

from trio_mcp.testing.asgi import AsgiClient as AsgiClient
from trio_mcp.testing.asgi import AsgiExchange as AsgiExchange
from trio_mcp.testing.asgi import Disconnected as Disconnected
from trio_mcp.testing.asgi import asgi_client as asgi_client
from trio_mcp.testing.connect import MISSING
from trio_mcp.testing.connect import connect as connect

if TYPE_CHECKING:
    from trio_mcp.testing.follow_tasks import FollowTasks as FollowTasks

__all__ = ["AsgiClient", "AsgiExchange", "Disconnected", "FollowTasks", "asgi_client", "connect"]


def __getattr__(name: str) -> Any:
    if name != "FollowTasks":
        raise AttributeError(f"module 'trio_mcp.testing' has no attribute {name!r}")
    # It needs the `mcp` package, which the rest of this one does without.
    try:
        from trio_mcp.testing.follow_tasks import FollowTasks
    except ImportError as error:
        raise ImportError(MISSING) from error
    return FollowTasks
