"""The YAML frontmatter of a Markdown file, as the JSON object that clients compare with the file (SEP-2640).

Clients read YAML 1.2, where `yes`, `010` and `2026-01-01` are text and ten; PyYAML reads YAML 1.1. So which plain scalars are not
text is said here, by the core schema of YAML 1.2.2 §10.3.2.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

__all__ = ["read_frontmatter"]

_BLOCK = re.compile(r"---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)

_PREFIX = "tag:yaml.org,2002:"
_CORE: tuple[tuple[str, str, str], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
)
"""Tag, its scalars, and the characters that these begin with. Infinity and NaN are text, for JSON has neither."""


def read_frontmatter(content: bytes, where: str) -> dict[str, Any]:
    """The frontmatter of a file with this content; `where` names the file in errors.

    Raises ValueError where there is none that is a JSON object, ImportError where PyYAML is not installed.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{where} is not UTF-8") from None
    found = _BLOCK.match(text)
    if found is None:
        raise ValueError(f"{where} does not begin with frontmatter: lines of YAML between two lines ---")
    read = _yaml(found[1], where)
    if not isinstance(read, dict):
        raise ValueError(f"the frontmatter of {where} is no object: write `name: …` and `description: …`")
    return _as_json(read, where)


def _yaml(text: str, where: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ImportError("skills need PyYAML to read frontmatter: pip install 'trio-mcp[skills]'") from None
    try:
        return yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(f"the frontmatter of {where} is no YAML: {error}") from None


def _as_json(read: dict[str, Any], where: str) -> dict[str, Any]:
    """Numbers and texts as JSON has them; a key that is no text has no place there."""
    try:
        decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(read))
    except (TypeError, msgspec.MsgspecError, OverflowError, UnicodeEncodeError) as error:
        raise ValueError(f"the frontmatter of {where} has no JSON form: {error}") from None
    if not _has_text_keys(read):
        raise ValueError(f"the frontmatter of {where} has a key that is no text: write it in quotes")
    return decoded


def _has_text_keys(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_text_keys(item) for key, item in value.items())
    return all(map(_has_text_keys, value)) if isinstance(value, list) else True


@lru_cache(maxsize=1)
def _loader() -> Any:
    """A loader of the core schema of YAML 1.2."""
    import yaml

    Core: Any = type("Core", (yaml.SafeLoader,), {"yaml_implicit_resolvers": {}})

    for tag, scalars, first in _CORE:
        Core.add_implicit_resolver(
            _PREFIX + tag, re.compile(f"(?:{scalars})\\Z"), [*first, ""] if tag == "null" else list(first)
        )
    Core.add_constructor(f"{_PREFIX}int", lambda loader, node: _integer(loader.construct_scalar(node)))
    Core.add_constructor(f"{_PREFIX}float", lambda loader, node: float(loader.construct_scalar(node)))
    return Core


def _integer(text: str) -> int:
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
