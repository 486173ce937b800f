"""Finds the server that a TARGET of the command line names: `file.py[:name]` or `package.module[:name]`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from trio_mcp.protocol.errors import McpError
from trio_mcp.serving.setting_sources import nearest

if TYPE_CHECKING:
    from trio_mcp.server import MCPServer

__all__ = ["NAMES", "TargetError", "load_target", "refuse_while_importing"]

NAMES = ("mcp", "server", "app")
"""The names that are tried, in this order, when TARGET gives none."""

_T = TypeVar("_T")

_FORM = "TARGET is file.py[:name] or package.module[:name]"
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class TargetError(McpError):
    """TARGET names no server; the text says why and what to do, with a traceback of the user's own frames when their code raised."""


def load_target(target: str) -> MCPServer:
    """Import the file or module of `target`, and return its server; raises TargetError."""
    place, name = _split(target)
    module = _from_file(Path(place)) if _is_path(place) else _from_name(place)
    return _server(module, place, name)


def _split(target: str) -> tuple[str, str | None]:
    place, colon, name = target.rpartition(":")
    if not colon:
        return target, None
    if not place or not _DOTTED.fullmatch(name):
        raise TargetError(f"{target!r} names no server. {_FORM}, as in server.py:mcp")
    return place, name


def _is_path(place: str) -> bool:
    return place.endswith(".py") or os.sep in place or Path(place).is_dir()


def _from_file(path: Path) -> ModuleType:
    if path.is_dir():
        raise TargetError(f"{path} is a directory. Name a file in it, as in {path / 'server.py'}")
    if not path.is_file():
        raise TargetError(f"there is no file {path} (looked from {Path.cwd()}).{_near(path)}")
    # As `python file.py` does, so that the file can import its neighbours.
    sys.path.insert(0, str(path.resolve().parent))
    name = path.stem if path.stem not in sys.modules else f"trio_mcp_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise TargetError(f"{path} is not a Python file. {_FORM}")
    module = importlib.util.module_from_spec(spec)
    # Before the module runs, because dataclasses and type hints look it up by name.
    sys.modules[name] = module
    loader = spec.loader
    _run(str(path), lambda: loader.exec_module(module))
    return module


def _near(path: Path) -> str:
    siblings = [each.name for each in path.parent.glob("*.py")] if path.parent.is_dir() else []
    hint = nearest(path.name, siblings)
    return f" Did you mean {path.parent / hint}?" if hint else ""


def _from_name(name: str) -> ModuleType:
    if not _DOTTED.fullmatch(name):
        raise TargetError(f"{name!r} names no server. {_FORM}")
    # As `python -m` does.
    sys.path.insert(0, str(Path.cwd()))
    return _run(name, lambda: importlib.import_module(name))


_importing: list[str] = []


def refuse_while_importing() -> None:
    """Raise TargetError while TARGET is being imported: for `mcp.run()`, which only a script may call."""
    if _importing:
        raise TargetError(f"{_importing[-1]} calls mcp.run() while it is imported.\n{_guard()}")


def _run(place: str, load: Callable[[], _T]) -> _T:
    _importing.append(place)
    try:
        return load()
    except TargetError:
        raise
    except ModuleNotFoundError as error:
        raise TargetError(_missing(place, error)) from error
    except SystemExit as error:
        message = f"{place} called sys.exit({error.code!r}) while it was imported.\n{_guard()}"
        raise TargetError(message) from error
    # The only place where user code runs before there is a server that contains its errors.
    except Exception as error:
        message = f"{place} raised while it was imported:\n{_their_traceback(error)}{_as_a_module(place, error)}"
        raise TargetError(message) from error
    finally:
        _importing.pop()


def _as_a_module(place: str, error: Exception) -> str:
    """The next step for `from .util import x` in a file that was named as a file: only a module has a package."""
    if not isinstance(error, ImportError) or "relative import with no known parent package" not in str(error):
        return ""
    path = Path(place).resolve()
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if len(parts) == 1:
        return f"\nA file that imports from its package needs an __init__.py beside it, and is named as a module: {folder.name}.{path.stem}"
    return f"\nA file that imports from its package is named as a module: {'.'.join(parts)}, in {folder}"


def _guard() -> str:
    return "Put what should run only as a script under `if __name__ == '__main__':`"


def _missing(place: str, error: ModuleNotFoundError) -> str:
    name = error.name or ""
    if name and f"{place}.".startswith(f"{name}."):
        return f"there is no module {name!r} (looked from {Path.cwd()} and in what is installed)"
    return (
        f"{place} imports {name!r}, which is not installed for {sys.executable}:\n{_their_traceback(error)}\n"
        "Install it there, or run trio-mcp with the Python of your project."
    )


def _their_traceback(error: BaseException) -> str:
    """The traceback without the frames of trio-mcp, of the import system and of installed packages."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename)]
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    return "".join(["Traceback (most recent call last):\n" if frames else "", *lines]).rstrip()


def _is_theirs(filename: str) -> bool:
    if filename.startswith("<frozen "):
        return False
    installed = sysconfig.get_paths()
    ours = str(Path(__file__).resolve().parent.parent)
    return not filename.startswith((installed["stdlib"], installed["purelib"], installed["platlib"], ours))


def _server(module: ModuleType, place: str, name: str | None) -> MCPServer:
    # Imported late: a syntax error in TARGET should be shown without waiting for the import of the server.
    from trio_mcp.server import MCPServer

    name = name or next((usual for usual in NAMES if usual in vars(module)), None)
    found = _named(module, place, name) if name else None
    if isinstance(found, MCPServer):
        return found
    servers = [key for key, value in vars(module).items() if isinstance(value, MCPServer)]
    advice = f"Name it: {place}:{servers[0]}" if servers else "Make one: mcp = MCPServer('name'), from trio_mcp"
    if name is None:
        raise TargetError(f"{place} has no server called {', '.join(NAMES[:-1])} or {NAMES[-1]}. {advice}")
    raise TargetError(_not_a_server(f"{place}:{name}", found, advice))


def _named(module: ModuleType, place: str, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            hint = nearest(part, [key for key in dir(value) if not key.startswith("_")])
            raise TargetError(f"{place} has no {part!r}." + (f" Did you mean {place}:{hint}?" if hint else ""))
        value = getattr(value, part)
    return value


def _not_a_server(what: str, found: Any, advice: str) -> str:
    kind = type(found)
    if kind.__name__ in ("MCPServer", "FastMCP"):
        return (
            f"{what} is a {kind.__module__}.{kind.__name__}, of another package. trio-mcp serves its own: "
            "change the import to `from trio_mcp import MCPServer`"
        )
    if _is_asgi(found):
        return (
            f"{what} is an ASGI app, and TARGET names an MCPServer: mount MCP into it, see "
            f"Mounting in the README, and serve it as you did. {advice}"
        )
    if callable(found):
        return f"{what} is a function or class, and TARGET names the server itself. {advice}"
    return f"{what} is of the type {kind.__name__}, not an MCPServer. {advice}"


def _is_asgi(found: Any) -> bool:
    # Imported late, as above.
    from trio_mcp.transports.http.routes import check_app

    try:
        check_app(found)
    except TypeError:
        return False
    return True
