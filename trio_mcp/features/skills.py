"""Skills (SEP-2640): a folder with a `SKILL.md`, read once, as the resources and the entry that clients get.

The files are kept as they were when the skill was added: clients compare what they read with the digests of its entry.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from trio_mcp.features.frontmatter import read_frontmatter
from trio_mcp.features.resources import Resource

if TYPE_CHECKING:
    from trio_mcp.auth.checks import Requirements

__all__ = ["MAX_BYTES", "MAX_FILES", "SKILLS", "Skill", "read_skill"]

SKILLS = "io.modelcontextprotocol/skills"
"""The identifier of the extension."""

MAX_FILES = 512
MAX_BYTES = 16 * 1024 * 1024
"""What every client must take of one skill; more is refused here, for some would not load it (SEP-2640, limits)."""

_DIRECTORY = "inode/directory"
_NAME = re.compile(r"(?!.*--)[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
"""The naming rules of the Agent Skills specification."""
_PREFIX = re.compile(r"[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*")
_TYPES = mimetypes.MimeTypes()
"""Those of Python alone: the files of the system differ between nodes."""
_TYPES.add_type("text/markdown", ".md")


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill; the first of its resources is its `SKILL.md`."""

    frontmatter: Mapping[str, Any]
    resources: tuple[Resource, ...]
    digests: Mapping[str, str]
    """By URI."""

    @property
    def uri(self) -> str:
        """That of its `SKILL.md`, which names the skill."""
        return self.resources[0].uri

    @property
    def root(self) -> str:
        """The URI of its folder."""
        return self.uri.removesuffix("/SKILL.md")

    @property
    def requirements(self) -> Requirements | None:
        """What the token of a caller must have."""
        return self.resources[0].requirements

    def definition(self, version: str) -> dict[str, Any]:
        """The entry that `skills/list` and `skills/get` have."""
        files = [{"uri": each.uri, "digest": self.digests[each.uri], "size": each.size} for each in self.resources]
        return {"uri": self.uri, "frontmatter": self.frontmatter, "resources": files}

    def guarded(self, asked: Requirements | None) -> Skill:
        """The same, for callers whose token has what is asked."""
        return replace(self, resources=tuple(replace(each, requirements=asked) for each in self.resources))

    def children(self, directory: str, version: str) -> list[dict[str, Any]] | None:
        """The files and folders directly in a folder of the skill, as Resources; None where it has no such folder."""
        inside = [each for each in self.resources if each.uri.startswith(f"{directory}/")]
        if not inside:
            return None
        found: dict[str, dict[str, Any]] = {}
        for each in inside:
            step, _, deeper = each.uri.removeprefix(f"{directory}/").partition("/")
            uri = f"{directory}/{step}"
            folder = {"uri": uri, "name": step, "mimeType": _DIRECTORY}
            found.setdefault(uri, folder if deeper else each.definition(version))
        return list(found.values())


def read_skill(folder: str | Path, prefix: str = "") -> Skill:
    """Read a skill from a folder; blocks. Files and folders whose names begin with a dot are left out.

    `prefix` stands before its name in URIs, as in `acme/billing`. Raises ValueError for what is no skill, or larger than clients
    must take, OSError when it cannot be read, and ImportError where PyYAML is not installed.
    """
    root = Path(folder)
    contents = {path.relative_to(root).as_posix(): path.read_bytes() for path in _files(root)}
    if "SKILL.md" not in contents:
        raise ValueError(f"{root} is no skill: it has no SKILL.md")
    if len(contents) > MAX_FILES or sum(map(len, contents.values())) > MAX_BYTES:
        raise ValueError(
            f"{root} is too large for a skill: clients take {MAX_FILES} files with {MAX_BYTES} bytes together"
        )
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ValueError(f"the prefix of a skill is a path such as acme/billing, not {prefix!r:.80}")
    frontmatter = read_frontmatter(contents["SKILL.md"], str(root / "SKILL.md"))
    base = (
        f"skill://{prefix}/{_checked_name(frontmatter, root)}"
        if prefix
        else f"skill://{_checked_name(frontmatter, root)}"
    )
    resources = tuple(_resource(base, path, data, frontmatter) for path, data in contents.items())
    digests = {each.uri: _digest(data) for each, data in zip(resources, contents.values(), strict=True)}
    return Skill(frontmatter, resources, digests)


def _files(root: Path) -> Iterator[Path]:
    """The files of a skill, `SKILL.md` first, and in the same order everywhere."""
    found = [path for path in root.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(root))]
    for path in found:
        if not path.resolve().is_relative_to(root.resolve()):
            raise ValueError(f"{path} leads out of the skill: copy the file into it")
    return iter(sorted(found, key=lambda path: (path != root / "SKILL.md", path.as_posix())))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _checked_name(frontmatter: Mapping[str, Any], root: Path) -> str:
    name, description = frontmatter.get("name"), frontmatter.get("description")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"the name of the skill in {root} has 1 to 64 of a-z 0-9 and single hyphens, not {name!r:.80}")
    if not isinstance(description, str) or not description.strip():
        raise ValueError(f"{root}/SKILL.md needs a description: it tells a model when to use the skill")
    if name != root.resolve().name:
        raise ValueError(
            f"the skill {name!r} is in a folder of another name, {root.resolve().name!r}: rename one of them"
        )
    return name


def _resource(base: str, path: str, data: bytes, frontmatter: Mapping[str, Any]) -> Resource:
    """One file; `SKILL.md` is called and described as its frontmatter says."""
    is_main = path == "SKILL.md"
    return Resource.of(
        _reader(_content(data)),
        f"{base}/{quote(path, safe='/')}",
        name=frontmatter["name"] if is_main else path.rpartition("/")[2],
        description=frontmatter["description"] if is_main else None,
        mime_type=_mime_type(path, data),
        size=len(data),
    )


def _reader(content: str | bytes) -> Callable[[], Awaitable[str | bytes]]:
    async def read() -> str | bytes:
        return content

    return read


def _content(data: bytes) -> str | bytes:
    """Text where it is text, for models read that; its bytes are those of the file in both."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _mime_type(path: str, data: bytes) -> str:
    known, packed = _TYPES.guess_type(path, strict=True)
    if packed is not None:
        return "application/octet-stream"
    return known or ("text/plain" if isinstance(_content(data), str) else "application/octet-stream")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
