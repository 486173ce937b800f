"""A check, told to people and to programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trio_mcp.cli.check.evidence import CROWDS, Crowd, Evidence, count
from trio_mcp.cli.check.finding import Finding, Level
from trio_mcp.cli.show import print_rows
from trio_mcp.observability.logs import printable

__all__ = ["as_json", "is_green", "print_report"]


def is_green(found: Sequence[Finding]) -> bool:
    """Nothing must change."""
    return all(finding.level is not Level.CHANGE for finding in found)


def as_json(evidence: Evidence, found: Sequence[Finding]) -> dict[str, Any]:
    """One document."""
    told = [{**asdict(finding), "level": finding.level.value} for finding in found]
    return {"green": is_green(found), "findings": told, **evidence.as_json()}


def print_report(evidence: Evidence, found: Sequence[Finding]) -> None:
    """What was seen, then what it means."""
    opened = ", ".join(f"{name} ({number})" for name, number in evidence.nodes.items())
    print(f"{evidence.url}\nnodes, and the sessions opened there: {printable(opened) or 'none'}\n")
    print_rows([_row(evidence, crowd) for crowd in CROWDS], head=("clients", "requests", "direct", "relayed", "missed"))
    print()
    print_rows([row for finding in found for row in _rows(finding)])
    print(f"\n{'green' if is_green(found) else 'not green: something must change'}")


def _row(evidence: Evidence, crowd: Crowd) -> tuple[str, ...]:
    asked = evidence.of(crowd)
    missed = count(asked, lambda each: each.missed)
    relayed = count(asked, lambda each: each.relay and not each.missed)
    return (crowd, *map(str, (len(asked), len(asked) - missed - relayed, relayed, missed)))


def _rows(finding: Finding) -> list[tuple[str, str]]:
    said = [("", f"it said: {finding.said}")] if finding.said else []
    step = [("", f"→ {finding.step}")] if finding.step else []
    return [(finding.level.value, finding.text), *said, *step]
