"""A server's own options and the settings meet."""

from trio_mcp import MCPServer, Options
from trio_mcp.serving.settings import load
from trio_mcp.serving.wiring import options_of


def test_what_has_no_setting_stays_as_the_server_has_it() -> None:
    server = MCPServer("x", options=Options(worker_threads=3, cache_ttl=60, max_in_flight=7))
    options = options_of(server, load(max_in_flight=5, max_events=9))
    assert (options.worker_threads, options.cache_ttl) == (3, 60)
    assert (options.max_in_flight, options.streams.events) == (5, 9)
