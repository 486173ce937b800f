"""Whether type checkers can trust our types: every public one is written down, and both checkers find the same mistakes.

`pyright --verifytypes` must know the type of everything public. `tests/typing/misuse.py` holds lines that must be refused, and says
which: mypy and pyright must refuse those and no others.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["MISUSE", "disagreements", "main", "marked", "unknown_types"]

MISUSE = Path("tests/typing/misuse.py")

_MARK = re.compile(r"# refused\b")
_MYPY_ERROR = re.compile(r"^[^:]+:(\d+): error:", re.MULTILINE)


def marked(source: str) -> set[int]:
    """The lines that must be refused, from 1; a mark in the text of a docstring counts as none."""
    lines = enumerate(source.splitlines(), 1)
    return {number for number, line in lines if _MARK.search(line) and not line.startswith('"""')}


def disagreements(expected: set[int], refused: Mapping[str, set[int]]) -> list[str]:
    """What each checker says otherwise than the marks do."""
    found = []
    for checker, lines in refused.items():
        found += [f"{MISUSE}:{line}: {checker} takes it" for line in sorted(expected - lines)]
        found += [f"{MISUSE}:{line}: {checker} refuses it" for line in sorted(lines - expected)]
    return found


def unknown_types(report: dict[str, Any]) -> list[str]:
    """The public names whose type pyright does not know for sure, each with why."""
    return [
        f"{symbol['name']}: {diagnostic['message'].partition(chr(10))[0]}"
        for symbol in report["typeCompleteness"]["symbols"]
        if (symbol["isExported"] and not symbol["isTypeKnown"]) or symbol["isTypeAmbiguous"]
        for diagnostic in symbol["diagnostics"]
    ]


def main() -> int:
    """Run all three, at the same time; prints what is wrong."""
    # pyright looks for packages where the first `python` is.
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    commands = {
        "types": ["pyright", "--verifytypes", "trio_mcp", "--ignoreexternal", "--outputjson"],
        "pyright": ["pyright", "--outputjson", str(MISUSE)],
        "mypy": ["mypy", "--no-pretty", "--no-color-output", str(MISUSE)],
    }
    running = {
        name: subprocess.Popen(
            [sys.executable, "-m", *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name, command in commands.items()
    }
    printed = {name: process.communicate() for name, process in running.items()}
    failed = [name for name, process in running.items() if process.returncode not in (0, 1)]
    if failed:
        print(*(printed[name] for name in failed), sep="\n")
        return 1
    wrong = unknown_types(json.loads(printed["types"][0]))
    refused = {
        "mypy": {int(line) for line in _MYPY_ERROR.findall(printed["mypy"][0])},
        "pyright": _pyright_errors(json.loads(printed["pyright"][0])),
    }
    wrong += disagreements(marked(MISUSE.read_text()), refused)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


def _pyright_errors(report: dict[str, Any]) -> set[int]:
    errors = [each for each in report["generalDiagnostics"] if each["severity"] == "error"]
    return {each["range"]["start"]["line"] + 1 for each in errors}


if __name__ == "__main__":
    sys.exit(main())
