"""`check`: use a cluster through its balancer as clients of every kind do, and report what must change."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import trio
from cyclopts import Parameter
from cyclopts.validators import Number

from trio_mcp.cli.arguments import Bearer, Headers, Insecure, Json, parse_headers
from trio_mcp.cli.check.authorization import authorization_findings, survey_authorization
from trio_mcp.cli.check.evidence import CLIENT_KINDS, ClientKind, Evidence, count
from trio_mcp.cli.check.findings import Finding, Level, findings, ordered
from trio_mcp.cli.check.survey import survey
from trio_mcp.cli.credentials import credentials_for
from trio_mcp.cli.login.flow import fetch_with
from trio_mcp.cli.output import print_json, print_rows
from trio_mcp.cli.refusals import AuthorizationRequired
from trio_mcp.http_client import HttpClient, HttpTransport
from trio_mcp.observability.logs import printable

__all__ = ["as_json", "check", "is_green", "print_report"]

SILENCE_SECONDS = 10.0
"""A node answers each of these requests from memory."""


def check(
    url: str,
    /,
    *,
    connections: Annotated[int, Parameter(validator=Number(gte=1, lte=100))] = 6,
    nodes: Annotated[int | None, Parameter(validator=Number(gte=1, lte=1000))] = None,
    insecure: Insecure = False,
    headers: Headers = (),
    bearer: Bearer = None,
    timeout: Annotated[
        float, Parameter(help="Give a request up after this many seconds without a byte.")
    ] = SILENCE_SECONDS,
    json: Json = False,
) -> int:
    """Check a cluster through its balancer, as clients use it, and say what to change.

    Opens sessions over fresh connections, with cookies and without, and sends requests of 2026-07-28. Calls no
    tool. Looks, as a client without a token would, for where to log in. The exit code is 1 when something must change,
    and 3 when the server wants a token and none was given.

    Parameters
    ----------
    url
        The endpoint as clients are given it, such as `https://mcp.example.com/mcp`.
    connections
        How many clients of each kind; a balancer that takes turns needs several for each node.
    nodes
        How many nodes there should be; fewer that answer are something to change.
    """
    credentials = credentials_for(url, parse_headers(headers), bearer, os.environ, insecure=insecure)

    def client_of(place: str) -> HttpTransport:
        return credentials.over(HttpClient(place, credentials.headers, insecure=insecure))

    authorization = partial(survey_authorization, fetch_with(url, insecure=insecure), url, connections)
    try:
        evidence = trio.run(partial(survey, url, client_of, connections=connections, silence=timeout))
    except AuthorizationRequired as error:
        error.url = url
        _print_findings(authorization_findings(trio.run(authorization)), as_json=json)
        raise
    found = ordered([*findings(evidence, nodes), *authorization_findings(trio.run(authorization))])
    if json:
        print_json(as_json(evidence, found))
    else:
        print_report(evidence, found)
    return 0 if is_green(found) else 1


def _print_findings(found: Sequence[Finding], *, as_json: bool) -> None:
    """What could be seen without a token."""
    if as_json:
        print_json({"green": False, "findings": _told(found)})
    else:
        print_rows([row for finding in found for row in _rows(finding)])


def is_green(found: Sequence[Finding]) -> bool:
    """Whether nothing must change."""
    return all(finding.level is not Level.CHANGE for finding in found)


def as_json(evidence: Evidence, found: Sequence[Finding]) -> dict[str, Any]:
    """One JSON document."""
    return {"green": is_green(found), "findings": _told(found), **evidence.as_json()}


def _told(found: Sequence[Finding]) -> list[dict[str, Any]]:
    return [{**asdict(finding), "level": finding.level.value} for finding in found]


def print_report(evidence: Evidence, found: Sequence[Finding]) -> None:
    """Nodes, requests by kind of client, then the findings."""
    opened = ", ".join(f"{name} ({number})" for name, number in evidence.nodes.items())
    print(f"{evidence.url}\nnodes, and the sessions opened there: {printable(opened) or 'none'}\n")
    print_rows(
        [_row(evidence, kind) for kind in CLIENT_KINDS], head=("clients", "requests", "direct", "relayed", "missed")
    )
    print()
    print_rows([row for finding in found for row in _rows(finding)])
    print(f"\n{'green' if is_green(found) else 'not green: something must change'}")


def _row(evidence: Evidence, kind: ClientKind) -> tuple[str, ...]:
    asked = evidence.of(kind)
    missed = count(asked, lambda each: each.missed)
    relayed = count(asked, lambda each: each.relay and not each.missed)
    return (kind, *map(str, (len(asked), len(asked) - missed - relayed, relayed, missed)))


def _rows(finding: Finding) -> list[tuple[str, str]]:
    said = [("", f"it said: {finding.said}")] if finding.said else []
    step = [("", f"→ {finding.step}")] if finding.step else []
    return [(finding.level.value, finding.text), *said, *step]
