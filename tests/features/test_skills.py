"""Skills (SEP-2640): a folder as it was when it was added, its frontmatter as clients read it, and what is no skill."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from trio_mcp import MCPServer
from trio_mcp.features.frontmatter import read_frontmatter
from trio_mcp.features.skills import MAX_BYTES, MAX_FILES, read_skill

HEAD = "---\nname: refunds\ndescription: Refund a customer\n---\n"
MAIN = f"{HEAD}\n# Refunds\n"


def folder(tmp_path: Path, main: str | bytes = MAIN, /, **files: bytes) -> Path:
    """A skill on disk; `__` in the name of a file stands for a slash."""
    root = tmp_path / "refunds"
    root.mkdir(parents=True)
    (root / "SKILL.md").write_bytes(main if isinstance(main, bytes) else main.encode())
    for path, content in files.items():
        file = root / path.replace("__", "/")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    return root


def test_every_file_is_in_the_entry_with_its_digest_and_size(tmp_path: Path) -> None:
    root = folder(
        tmp_path,
        **{
            "a__mail.md": b"Dear \xc3\xa4",
            "logo.png": b"\x89PNG\xff",
            "z.tar.gz": b"\x1f\x8b",
            ".hidden__x": b"",
            "b b.txt": b"",
        },
    )
    skill = read_skill(root, "acme/billing")
    entry = skill.definition("2026-07-28")
    base = "skill://acme/billing/refunds"
    assert entry["uri"] == f"{base}/SKILL.md"
    assert entry["frontmatter"] == {"name": "refunds", "description": "Refund a customer"}
    files = {each["uri"]: (each["digest"], each["size"]) for each in entry["resources"]}
    expected = {"SKILL.md": MAIN.encode(), "a/mail.md": b"Dear \xc3\xa4", "b%20b.txt": b"", "logo.png": b"\x89PNG\xff"}
    expected["z.tar.gz"] = b"\x1f\x8b"
    assert files == {
        f"{base}/{path}": (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)) for path, data in expected.items()
    }
    types = ["text/markdown", "text/markdown", "text/plain", "image/png", "application/octet-stream"]
    assert [each.mime_type for each in skill.resources] == types
    assert [each.name for each in skill.resources] == ["refunds", "mail.md", "b b.txt", "logo.png", "z.tar.gz"]
    assert [each.description for each in skill.resources] == ["Refund a customer", None, None, None, None]


def test_folders_list_what_is_directly_in_them(tmp_path: Path) -> None:
    skill = read_skill(folder(tmp_path, a__b=b"", a__c=b"", d=b""))

    def children(uri: str) -> Any:
        found = skill.children(uri, "2026-07-28")
        return found and {each["uri"].rpartition("/")[2]: each["mimeType"] for each in found}

    assert children("skill://refunds") == {"SKILL.md": "text/markdown", "a": "inode/directory", "d": "text/plain"}
    assert children("skill://refunds/a") == {"b": "text/plain", "c": "text/plain"}
    assert [children(f"skill://refunds/{path}") for path in ("SKILL.md", "d", "a/b", "x", "a/")] == [None] * 5


FRONTMATTER: list[tuple[str, Any]] = [
    ("yes", "yes"),
    ("on", "on"),
    ("2026-01-01", "2026-01-01"),
    ("12:30", "12:30"),
    ("010", 10),
    ("0o10", 8),
    ("0x1F", 31),
    ("-7", -7),
    ("1_000", "1_000"),
    ("1.5e3", 1500.0),
    (".5", 0.5),
    (".inf", ".inf"),
    ("true", True),
    ("True", True),
    ("~", None),
    ("", None),
    ("null", None),
    ('"1.0"', "1.0"),
    ("[a, {b: 1}]", ["a", {"b": 1}]),
    ("=", "="),
    ("<<", "<<"),
    ("|\n  two\n  lines", "two\nlines"),
    ("ü", "ü"),
]
"""A scalar, and what the core schema of YAML 1.2 says it is."""


@pytest.mark.parametrize(("text", "value"), FRONTMATTER)
def test_frontmatter_is_read_as_clients_read_it(text: str, value: Any) -> None:
    assert read_frontmatter(f"---\nfield: {text}\n---\nrest".encode(), "it") == {"field": value}


def test_frontmatter_may_have_windows_lines_and_a_mark() -> None:
    assert read_frontmatter(b"\xef\xbb\xbf---\r\na: 1\r\nb: 2\r\n---\r\nrest", "it") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("main", "match"),
    [
        ("# Refunds\n", "does not begin with frontmatter"),
        ("\n" + MAIN, "does not begin with frontmatter"),
        ("---\nname: refunds\n", "does not begin with frontmatter"),
        (b"---\n\xff\n---\n", "not UTF-8"),
        ("---\n- a\n---\n", "no object"),
        ("---\na: [\n---\n", "no YAML"),
        ("---\na: !!python/name:os.system\n---\n", "no YAML"),
        ("---\na: !!binary aGk=\n---\n", "needs a name|no JSON form|has 1 to 64"),
        ("---\n1: a\n---\n", "key that is no text"),
        ("---\ndescription: x\n---\n", "the name of the skill"),
        ("---\nname: Refunds\ndescription: x\n---\n", "the name of the skill"),
        ("---\nname: re--funds\ndescription: x\n---\n", "the name of the skill"),
        ("---\nname: refunds\n---\n", "needs a description"),
        ("---\nname: refund\ndescription: x\n---\n", "another name"),
    ],
)
def test_what_is_no_skill_is_refused(tmp_path: Path, main: str | bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        read_skill(folder(tmp_path, main))


def test_a_folder_without_a_main_file_is_no_skill(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no SKILL\.md"):
        read_skill(tmp_path)
    with pytest.raises(ValueError, match=r"no SKILL\.md"):
        read_skill(tmp_path / "absent")


def test_more_than_clients_must_take_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, big=bytes(MAX_BYTES - len(MAIN)))
    assert len(read_skill(root).resources) == 2
    (root / "more").write_bytes(b"x")
    with pytest.raises(ValueError, match="too large"):
        read_skill(root)
    many = folder(tmp_path / "many", **{f"f{n}": b"" for n in range(MAX_FILES)})
    with pytest.raises(ValueError, match="too large"):
        read_skill(many)


def test_a_file_that_leads_out_of_the_skill_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    root = folder(tmp_path)
    (root / "file").symlink_to(secret)
    with pytest.raises(ValueError, match="leads out"):
        read_skill(root)


@pytest.mark.parametrize("prefix", ["/a", "a/", "a//b", "a b", "a?b", "ä"])
def test_a_prefix_is_a_path(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        read_skill(folder(tmp_path), prefix)


def test_a_skill_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    mcp = MCPServer("t")
    root = folder(tmp_path, a=b"")
    mcp.add_resource(lambda: "", "skill://refunds/a")
    with pytest.raises(ValueError, match="served already"):
        mcp.add_skill(root)
    assert len(mcp.registry.resources) == 1
    mcp.add_skill(root, prefix="acme")
    assert len(mcp.registry.resources) == 3
