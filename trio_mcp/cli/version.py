"""`version`: what is installed. Imports nothing it does not print."""

from __future__ import annotations

import platform
from importlib import metadata

from trio_mcp.observability.build import version as package_version
from trio_mcp.protocol.versions import SERVED_VERSIONS

__all__ = ["version"]


def version() -> int:
    """Show the versions of trio-mcp, Python, Trio and the protocol."""
    print(f"trio-mcp {package_version()}  (Python {platform.python_version()}, Trio {metadata.version('trio')})")
    print(f"MCP {', '.join(SERVED_VERSIONS)}")
    return 0
