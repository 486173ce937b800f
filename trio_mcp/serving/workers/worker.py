"""The process of one worker: `python -m trio_mcp.serving.workers.worker FD NAME TARGET`, started by its supervisor.

FD is its end of the channel, and the first message there says what to serve; NAME and TARGET are for people who look at a list of processes.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from trio_mcp.observability.logs import event, leaf_lines
from trio_mcp.protocol.errors import McpError
from trio_mcp.server import MCPServer
from trio_mcp.serving.launch import banner, expected_error_alone, prepare_process, ready_fields
from trio_mcp.serving.loader import load_target
from trio_mcp.serving.node import serve
from trio_mcp.serving.settings import Settings, load
from trio_mcp.serving.workers.channel import receive_now, send_now
from trio_mcp.serving.workers.deaf import end_with_supervisor, write_stack_when_asked
from trio_mcp.serving.workers.division import settings_of_worker
from trio_mcp.serving.workers.messages import Failed, Setup, understood
from trio_mcp.serving.workers.seat import Seat

__all__ = ["main"]

logger: logging.Logger = logging.getLogger("trio_mcp.serving")


def main(descriptor: int) -> int:
    """Serve as the setup on that descriptor says; the exit code."""
    connected = socket.socket(fileno=descriptor)
    connected.set_inheritable(False)
    try:
        setup = understood(receive_now(connected))
        write_stack_when_asked(Path(setup.stack_file))
        end_with_supervisor(connected.dup())
    except (EOFError, ConnectionError):
        # The supervisor has ended.
        connected.close()
        return 1
    except (McpError, OSError) as error:
        _say(connected, str(error))
        return 1
    # `-m` has put the working directory first, where the supervisor may not look for modules.
    sys.path[:] = setup.path
    spare = connected.dup()
    try:
        server = load_target(setup.target)
        settings = _settings(setup, server)
        prepare_process(settings, "http")
        return trio.run(partial(_serve, server, settings, Seat(setup, connected)))
    except McpError as error:
        _say(spare, str(error))
    except Exception as crash:  # of the user's lifespan, or our own: logged as one line, like everything else
        event(logger, logging.ERROR, "the server crashed", error=crash)
        _say(spare, f"the server crashed: {'; '.join(leaf_lines(crash))}", logged=True)
    return 1


def _settings(setup: Setup, server: MCPServer) -> Settings:
    """Read anew: a worker that is started later has the environment of the supervisor, and the files as they are now."""
    return settings_of_worker(
        load(**setup.flags),
        name=setup.name,
        index=setup.index,
        secret=setup.secret,
        listen_streams=server.options.max_listen_streams,
    )


async def _serve(server: MCPServer, settings: Settings, seat: Seat) -> int:
    def announce(urls: list[str], _: Sequence[str]) -> None:
        seat.say_ready(banner(server, settings, urls), ready_fields(server, settings, urls))

    with expected_error_alone():
        # Its terminal is the supervisor's: a person there waits for the prompt.
        interactive = sys.stderr.isatty()
        return await serve(server, settings, announce=announce, interactive=interactive, owns_process=True, seat=seat)


def _say(connected: socket.socket, text: str, *, logged: bool = False) -> None:
    try:
        with connected:
            connected.setblocking(True)
            send_now(connected, Failed(text, logged))
    except OSError:
        if not logged:
            print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
