"""The official conformance suite against one of our servers, warnings counted.

The suite's own exit code ignores warnings and its summary does not show them, so its `checks.json` files are read.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.node import MissingNode, environment, node, package_file
from tools.report import table, today, write
from tools.served import FRONTS, ServerFailed, served

__all__ = ["RUNS", "Outcome", "Problem", "Run", "conform", "problems", "suite_version"]

PACKAGE = "@modelcontextprotocol/conformance"
NEVER_TESTED = frozenset({"tasks-status-notifications"})
"""Scenarios that the suite skips whatever the server does."""
RUN_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation of the suite, and how many scenarios it must visit: a run that skips all would pass otherwise."""

    name: str
    options: tuple[str, ...]
    scenarios: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A check that failed or warned, or a scenario without any."""

    scenario: str
    check: str
    status: str
    text: str

    def __str__(self) -> str:
        return f"{self.status} {self.scenario}: {self.check}: {self.text}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run found."""

    run: Run
    exit_code: int
    scenarios: int
    counts: Counter[str]
    problems: list[Problem] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Why this run does not pass; empty when it does."""
        return [*self._run_faults(), *map(str, self.problems)]

    def _run_faults(self) -> Iterator[str]:
        if self.exit_code:
            yield f"the suite exited with {self.exit_code}"
        if self.scenarios != self.run.scenarios:
            yield f"{self.scenarios} scenarios ran, not {self.run.scenarios}"


def _suite(version: str, scenarios: int) -> Run:
    return Run(f"--suite all {version}", ("--suite", "all", "--spec-version", version), scenarios)


def _requirements(version: str, scenarios: int) -> Run:
    return Run(f"--requirements {version}", ("--requirements", version), scenarios)


def _skills(name: str) -> Run:
    # No version and no list of requirements has the scenarios of this extension.
    return Run(f"skills-{name}", ("--scenario", f"sep-2640-skills-{name}"), 1)


RUNS = (
    _suite("2025-03-26", 1),
    _suite("2025-06-18", 27),
    _suite("2025-11-25", 33),
    _suite("2026-07-28", 40),
    _requirements("2025-11-25", 33),
    _requirements("2026-07-28", 50),
    *map(_skills, ("directory", "enumeration", "manifest")),
)
"""The counts are those of the suite version that tests/clients/package.json pins."""


def suite_version() -> str:
    """The version of the installed suite; raises `MissingNode`."""
    return str(json.loads(package_file(f"{PACKAGE}/package.json").read_text())["version"])


def conform(run: Run, url: str, more: Mapping[str, str] | None = None) -> Outcome:
    """Run the suite against the server at `url`, a loopback address, with `more` in its environment; raises `MissingNode`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(node()), str(package_file(f"{PACKAGE}/dist/index.js")), "server", "--url", url]
        done = subprocess.run(
            [*command, *run.options, "-o", folder],
            env={**environment(), **(more or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        files = sorted(Path(folder).glob("**/checks.json"))
        visited = [(_scenario(file), json.loads(file.read_text())) for file in files]
        counts = Counter(check["status"] for _, checks in visited for check in checks)
        found = [problem for scenario, checks in visited for problem in problems(scenario, checks)]
        return Outcome(run, done.returncode, len(files), counts, found)


def _scenario(file: Path) -> str:
    """The folder is called `server-<scenario>-<ISO time>`."""
    return re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", file.parent.name)


def problems(scenario: str, checks: Sequence[dict[str, Any]]) -> Iterator[Problem]:
    """What is wrong with one scenario: checks that failed or warned, or that there was nothing the suite could check."""
    for check in checks:
        if check["status"] in {"FAILURE", "WARNING"}:
            text = check.get("errorMessage") or check.get("description", "")
            yield Problem(scenario, check["id"], check["status"], str(text))
    # A server that never does what a scenario is about leaves it with remarks only, and the suite calls that passed.
    tested = any(check["status"] in {"SUCCESS", "FAILURE", "WARNING"} for check in checks)
    if not tested and scenario not in NEVER_TESTED:
        yield Problem(scenario, "every check", "UNTESTED", "nothing applied")


HEADINGS = ("front", "run", "scenarios", "passed", "failed", "warned", "verdict")


def _row(front: str, outcome: Outcome) -> tuple[str, ...]:
    failed, warned = (_count(outcome, status) for status in ("FAILURE", "WARNING"))
    numbers = (outcome.scenarios, outcome.counts["SUCCESS"], failed, warned)
    return (front, outcome.run.name, *map(str, numbers), "fails" if outcome.faults else "passes")


def _count(outcome: Outcome, status: str) -> int:
    return sum(problem.status == status for problem in outcome.problems)


def _document(rows: Sequence[tuple[str, ...]]) -> str:
    return (
        "# Conformance\n\n"
        f"`make conformance` on {today()}: `{PACKAGE}` {suite_version()} against `examples/everything.py`, "
        "no expected-failures file, warnings counted.\n\n"
        f"{table(HEADINGS, rows)}\n"
        "The requirements of 2026-07-28 include the ten scenarios of the tasks extension. One of them, "
        f"{', '.join(sorted(NEVER_TESTED))}, the suite skips for every server.\n"
    )


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description="Run the official conformance suite against a server.")
    ask.add_argument("--front", choices=sorted(FRONTS), help="only this front of ours (default: both)")
    ask.add_argument("--command", help="another server; {port} is filled in")
    ask.add_argument("--write", type=Path, help="write the result to this Markdown file")
    return ask.parse_args()


def main() -> int:
    """`python -m tools.conformance`: 0 when every run passes."""
    given = _arguments()
    fronts = {"command": tuple(shlex.split(given.command))} if given.command else FRONTS
    try:
        outcomes = [(front, o) for front in fronts if given.front in {None, front} for o in _against(fronts[front])]
    except (MissingNode, ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    rows = [_row(front, outcome) for front, outcome in outcomes]
    print(table(HEADINGS, rows))
    for front, outcome in outcomes:
        for fault in outcome.faults:
            print(f"{front}, {outcome.run.name}: {fault}")
    if given.write:
        write(given.write, _document(rows))
    return int(any(outcome.faults for _, outcome in outcomes))


def _against(command: Sequence[str]) -> list[Outcome]:
    with served(command) as server:
        return [conform(run, server.url) for run in RUNS]


if __name__ == "__main__":
    sys.exit(main())
