"""The first message to a worker, for tests that need one."""

from trio_mcp.serving.workers.messages import PROTOCOL, Setup

__all__ = ["SETUP"]

SETUP = Setup(
    protocol=PROTOCOL,
    release="9.9",
    target="server",
    flags={},
    path=[],
    name="n",
    index=0,
    folder="",
    secret="",
    listeners=[],
)
