"""`make test` several times beside processes that keep the cores busy: a suite without timing faults is green each time.

.venv/bin/python -m tools.suite_under_load            five runs beside two busy loops
.venv/bin/python -m tools.suite_under_load --loops 0  the same on an idle machine
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.report import table

REPOSITORY = Path(__file__).resolve().parent.parent
LOGS = REPOSITORY / ".cache" / "suite"
BUSY = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    sum(range(100_000))"
"""Ends when its parent, whose id it is given, has ended."""
_CLOSING = re.compile(r"^=+ (.* in [\d.]+s.*?) =+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Run:
    """One `make test`."""

    status: int | None
    """Its exit status; None when it was ended because it took too long."""
    closing: str
    """What pytest counted."""
    minutes: float
    cpu_seconds: float
    log: Path

    @property
    def green(self) -> bool:
        return self.status == 0


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that never pause, for the length of the block."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY, str(os.getpid())]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def run(command: Sequence[str], log: Path, limit_minutes: float) -> Run:
    """The command once, its output in `log`; ended with all it started when it takes longer than the limit."""
    began, before = time.monotonic(), _cpu_seconds()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            status = process.wait(limit_minutes * 60)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    minutes = (time.monotonic() - began) / 60
    return Run(status, closing_line(log.read_text(errors="replace")), minutes, _cpu_seconds() - before, log)


def closing_line(text: str) -> str:
    """Pytest's last line, without its rule; says so when there is none."""
    found = _CLOSING.findall(text)
    return found[-1] if found else "no closing line"


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def report(runs: list[Run]) -> str:
    """A row for each."""
    rows = [
        [
            str(number),
            "green" if each.green else "**red**",
            each.closing,
            f"{each.minutes:.1f}",
            f"{each.cpu_seconds:,.0f}",
        ]
        for number, each in enumerate(runs, 1)
    ]
    return table(("run", "", "pytest", "minutes", "CPU seconds"), rows)


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(
        description="Run `make test` several times beside busy loops, and count how often it is green."
    )
    ask.add_argument("--runs", type=int, default=5)
    ask.add_argument("--loops", type=int, default=2, help="processes that keep a core busy each")
    ask.add_argument("--limit", type=float, default=60.0, help="minutes after which a run is ended and counts as red")
    ask.add_argument("--args", default="", help="what `make test` passes to pytest")
    return ask.parse_args()


def main() -> int:
    """`python -m tools.suite_under_load`: 0 when every run was green."""
    given = _arguments()
    LOGS.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    with busy(given.loops):
        for number in range(1, given.runs + 1):
            runs.append(run(("make", "test", f"ARGS={given.args}"), LOGS / f"run-{number}.log", given.limit))
            print(f"{number}: {runs[-1].closing} ({runs[-1].log})", flush=True)
    print(report(runs))
    return int(not all(each.green for each in runs))


if __name__ == "__main__":
    sys.exit(main())
