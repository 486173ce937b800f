"""The machine: which core runs what, and what a process costs."""

import os
import platform
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = [
    "LOAD_CORE",
    "MissingTool",
    "allow_descriptors",
    "busy",
    "check",
    "cpu_seconds",
    "describe",
    "family",
    "pinned",
    "resident",
]

SERVER_CORE, LOAD_CORE = "0", "1"
PAGE = resource.getpagesize()
TICKS = os.sysconf("SC_CLK_TCK")
COMMANDS = {"wrk": "sudo apt-get install wrk", "taskset": "sudo apt-get install util-linux"}


class MissingTool(RuntimeError):
    """Something the measurement needs is not here; the text names what provides it."""


def check() -> None:
    """Raises `MissingTool` unless everything is here."""
    if sys.platform != "linux":
        raise MissingTool("make bench needs Linux: it pins processes to cores and reads /proc")
    if (os.cpu_count() or 1) < 2:
        raise MissingTool("make bench needs two cores: one for the server, one for the load")
    for tool, install in COMMANDS.items():
        if shutil.which(tool) is None:
            raise MissingTool(f"make bench needs {tool}. Install it with: {install}")


def allow_descriptors(count: int) -> None:
    """Let this process and its children open `count` descriptors; raises `MissingTool`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise MissingTool(
            f"make bench needs {count} descriptors, {hard} are allowed. Allow them with: ulimit -Hn {count}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


def pinned(command: tuple[str, ...], core: str = SERVER_CORE) -> tuple[str, ...]:
    """The same command, kept on one core."""
    return ("taskset", "-c", core, *command)


def resident(pid: int) -> int:
    """Resident memory of a process and its children, in bytes."""
    return sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) * PAGE for each in family(pid))


def cpu_seconds(pid: int) -> float:
    """Processor time a process and its children have used."""
    return sum(sum(map(int, _stat(each)[11:13])) / TICKS for each in family(pid))


def busy() -> float:
    """The cores other processes kept busy in the last minute."""
    return os.getloadavg()[0]


def describe() -> str:
    """What a reader needs to judge a figure: the processor and the Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"


def family(pid: int) -> Iterator[int]:
    """The process and what it has started, from any of its threads: Trio starts processes from one of its own."""
    yield pid
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from family(int(child))


def _stat(pid: int) -> list[str]:
    """The fields after the command's name, which may hold blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
