"""A Dockerfile, read and carried out in a folder: for a machine that has no docker.

`/opt`, `/src` and `/app` of the image are folders of the folder; the rest of the root (Python, the shell) is this
machine's. The environment is empty but for what ENV sets, and for where pip finds packages here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

__all__ = ["Image", "Instruction", "build", "instructions"]

Instruction: TypeAlias = tuple[str, str]
"""A keyword and what stands behind it."""

_OURS = re.compile(r"(?<![\w./-])/(?=(?:opt|src|app)\b)")
_SYSTEM = "/usr/local/bin:/usr/bin:/bin"


@dataclass(slots=True)
class Image:
    """A stage that was built: its folder, and what a container of it would be started with."""

    root: Path
    base: str
    name: str = ""
    workdir: str = "/"
    user: str = ""
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _SYSTEM})
    command: list[str] = field(default_factory=list)

    def here(self, text: str) -> str:
        """With the image's folders where they are on this machine."""
        return _OURS.sub(f"{self.root}/", text)

    def environ(self) -> dict[str, str]:
        """What a process in the image sees."""
        found = {name: self.here(value) for name, value in self.environment.items()}
        # Before the system's own: `python` is the one these tests run on.
        found["PATH"] = found["PATH"].replace("/usr/local/bin", f"{self.root}/usr/local/bin:/usr/local/bin", 1)
        return found

    @property
    def cwd(self) -> Path:
        return self.root / self.workdir.lstrip("/")


def instructions(text: str) -> Iterator[Instruction]:
    """What a Dockerfile says, line by line, without comments."""
    whole = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(None, map(str.strip, whole.splitlines())):
        keyword, _, rest = line.partition(" ")
        yield keyword.upper(), rest.strip()


def build(dockerfile: Path, context: Path, folder: Path) -> Image:
    """Carry out every instruction, and give the last stage.

    Each stage has the same folder while it is built: what was installed there knows its own path.
    """
    stages: list[Image] = []
    for keyword, rest in instructions(dockerfile.read_text()):
        if keyword == "FROM":
            _put_away(stages, folder)
            stages.append(_stage(rest, folder / "root"))
        else:
            _carry_out(stages, context, keyword, rest)
    return stages[-1]


def _put_away(stages: list[Image], folder: Path) -> None:
    if stages:
        stages[-1].root = stages[-1].root.rename(folder / f"stage-{len(stages)}")


def _stage(rest: str, root: Path) -> Image:
    base, _, name = rest.partition(" AS ")
    programs = root / "usr/local/bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(getattr(sys, "_base_executable", sys.executable))
    return Image(root, base, name)


def _carry_out(stages: list[Image], context: Path, keyword: str, rest: str) -> None:
    image = stages[-1]
    match keyword:
        case "WORKDIR":
            image.workdir = rest
            image.cwd.mkdir(parents=True, exist_ok=True)
        case "ENV":
            image.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        case "COPY":
            _copy(stages, context, shlex.split(rest))
        case "RUN":
            _run(image, rest)
        case "USER":
            image.user = rest
        case "CMD":
            image.command = json.loads(rest)
        case "EXPOSE":
            pass
        case _:
            raise NotImplementedError(keyword)


def _copy(stages: list[Image], context: Path, words: list[str]) -> None:
    """A stage is copied whole, with the bytecode that pip made; of a context, `.dockerignore` leaves that out."""
    image = stages[-1]
    is_stage = words[0].startswith("--from=")
    ignored = None if is_stage else shutil.ignore_patterns("__pycache__")
    if is_stage:
        (source,) = (stage for stage in stages if stage.name == words[0].removeprefix("--from="))
        context, words = source.root, words[1:]
    *sources, target = words
    into = image.root / target.lstrip("/") if target.startswith("/") else image.cwd / target
    for path in [path for each in sources for path in _found(context, each.lstrip("/"))]:
        if path.is_dir():
            shutil.copytree(path, into, symlinks=True, ignore=ignored)
        else:
            place = into / path.name if target.endswith("/") else into
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


def _found(context: Path, pattern: str) -> list[Path]:
    """What a source names: a path, or all that fits a pattern, which may be nothing."""
    return sorted(context.glob(pattern)) if "*" in pattern else [context / pattern]


def _run(image: Image, line: str) -> None:
    packages = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    subprocess.run(
        ["/bin/sh", "-ec", image.here(line)],
        cwd=image.cwd,
        env=image.environ() | packages,
        stdin=subprocess.DEVNULL,
        check=True,
    )
