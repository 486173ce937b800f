"""The stubborn server on a node that has room for 4,000 tombstones of sessions that ended. Not to be imported by tests."""

from tests.serving.stubborn import mcp
from trio_mcp.sessions import directory

__all__ = ["mcp"]

directory.MAX_TOMBSTONES = 4_000
