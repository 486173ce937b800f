"""`check`: meet a cluster as clients of every kind do, through its balancer."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import trio
from cyclopts import Parameter
from cyclopts.validators import Number

from trio_mcp.cli.check.findings import findings
from trio_mcp.cli.check.report import as_json, is_green, print_report
from trio_mcp.cli.check.survey import survey
from trio_mcp.cli.options import Extra, Insecure, Json, parse_headers
from trio_mcp.cli.show import print_json
from trio_mcp.cli.wire import HttpWire

__all__ = ["check"]

SILENCE_SECONDS = 10.0
"""Nothing that is asked takes a node any time."""


def check(
    url: str,
    /,
    *,
    connections: Annotated[int, Parameter(validator=Number(gte=1, lte=100))] = 6,
    nodes: Annotated[int | None, Parameter(validator=Number(gte=1, lte=1000))] = None,
    insecure: Insecure = False,
    headers: Extra = (),
    timeout: Annotated[
        float, Parameter(help="Give a request up after this many seconds without a byte.")
    ] = SILENCE_SECONDS,
    json: Json = False,
) -> int:
    """Check a cluster through its balancer, as clients meet it, and say what to change.

    Opens sessions over fresh connections, with cookies and without, and asks what clients of 2026-07-28 ask. Calls no
    tool. The exit code is 1 when something must change.

    Parameters
    ----------
    url
        The endpoint as clients have it, such as `https://mcp.example.com/mcp`.
    connections
        How many clients of each kind; several a node, for a balancer that goes round.
    nodes
        How many nodes there should be: it is said when fewer answer.
    """
    wire = partial(HttpWire, headers=parse_headers(headers), insecure=insecure)
    evidence = trio.run(partial(survey, url, wire, connections=connections, silence=timeout))
    found = findings(evidence, nodes)
    if json:
        print_json(as_json(evidence, found))
    else:
        print_report(evidence, found)
    return 0 if is_green(found) else 1
