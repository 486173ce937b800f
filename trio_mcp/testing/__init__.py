"""For the tests of servers: the official client in memory, and an ASGI app driven chunk by chunk."""

from trio_mcp.testing.asgi import AsgiClient as AsgiClient
from trio_mcp.testing.asgi import AsgiExchange as AsgiExchange
from trio_mcp.testing.asgi import Disconnected as Disconnected
from trio_mcp.testing.asgi import asgi_client as asgi_client
from trio_mcp.testing.connect import connect as connect

__all__ = ["AsgiClient", "AsgiExchange", "Disconnected", "asgi_client", "connect"]
