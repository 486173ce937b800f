"""Values of a URI that a handler may join to a folder: none leads out of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, NewType, Optional
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.server.mcpserver.resources.templates import DEFAULT_RESOURCE_SECURITY, ResourceSecurityError
from mcp.server.mcpserver.resources.templates import ResourceTemplate as OfficialTemplate
from pydantic import AfterValidator, BaseModel, Field, FilePath
from typing_extensions import TypeAliasType

from trio_mcp import UncheckedPath
from trio_mcp.features.path_values import leaves_folder
from trio_mcp.features.resources import ResourceTemplate
from trio_mcp.protocol.errors import InvalidArguments


def template(text: str, hint: Any = str) -> ResourceTemplate:
    def read(x: Any = "") -> str:
        return ""

    read.__annotations__["x"] = hint
    return ResourceTemplate.of(read, text)


SEGMENT = ("a:b/{x}", "a:b{/x}", "a:b{.x}", "a:{x}/b")
RELATIVE = ("a:b/{+x}", "a://{+x}", "a:b{#x}", "a:b/{x*}", "a:b{/x*}", "a:{+x}/b")
QUERY = ("a:b{?x}",)

WHOLE = "one segment"
NESTED = "a relative path"
LEADS_OUT = "leads out"

VALUES = {
    "a.txt": WHOLE,
    "...": WHOLE,
    "a..b": WHOLE,
    "..a": WHOLE,
    "a..": WHOLE,
    ".hidden": WHOLE,
    "12:30": WHOLE,
    "ab:c": WHOLE,
    "%2e%2e": WHOLE,  # decoded once: what is still an escape is text
    "%2Fetc": WHOLE,
    "café b": WHOLE,
    "a/b": NESTED,
    "a\\b": NESTED,
    "a/.../b": NESTED,
    "..": LEADS_OUT,
    "../etc": LEADS_OUT,
    "..\\etc": LEADS_OUT,
    "a/..": LEADS_OUT,
    "a/../b": LEADS_OUT,
    "a/..\\b": LEADS_OUT,
    "a\\..": LEADS_OUT,
    "/": LEADS_OUT,
    "/etc/passwd": LEADS_OUT,
    "//host/share": LEADS_OUT,
    "\\etc": LEADS_OUT,
    "\\\\host\\share": LEADS_OUT,
    "\\\\?\\C:\\x": LEADS_OUT,
    "C:": LEADS_OUT,
    "C:x": LEADS_OUT,
    "C:/x": LEADS_OUT,
    "c:\\x": LEADS_OUT,
    "a/C:": LEADS_OUT,  # a handler may join segment by segment
}


def every_character(value: str) -> str:
    return "".join(f"%{byte:02X}" for byte in value.encode())


ENCODINGS: dict[str, Callable[[str], str]] = {
    # The client's own escapes stay escapes, and a character that ends a value is always encoded.
    "as it is": lambda value: quote(value, safe="/\\:.,"),
    "separators": lambda value: quote(value, safe=".,"),
    "dots": lambda value: quote(value, safe="/\\:,").replace(".", "%2E"),
    "all": every_character,
    "all, in lower case": lambda value: every_character(value).lower(),
}


OPERATORS = {"{x}": "", "{/x}": "/", "{.x}": ".", "{+x}": "", "{#x}": "#", "{?x}": "?x=", "{x*}": "", "{/x*}": "/"}
"""What stands before a value in a URI."""


def expanded(text: str, encoded: str) -> str:
    expression = text[text.index("{") : text.index("}") + 1]
    return text.replace(expression, OPERATORS[expression] + encoded)


def fits(text: str, hint: Any, kind: str, encoded: str) -> bool:
    if hint not in (str, Path):
        # Marked: nothing but the form of the URI decides, and a "/" as it is ends a segment.
        return text not in SEGMENT or "/" not in encoded
    if text in QUERY:
        return hint is str or kind != LEADS_OUT
    return kind == WHOLE or (kind == NESTED and text in RELATIVE)


@pytest.mark.parametrize("hint", [str, Path, Annotated[str, UncheckedPath]], ids=["text", "path", "marked"])
@pytest.mark.parametrize("text", [*SEGMENT, *RELATIVE, *QUERY])
def test_what_is_let_through(text: str, hint: Any) -> None:
    match = template(text, hint).match
    encoded = [(value, encode(value)) for value in VALUES for encode in ENCODINGS.values()]
    let = {(value, it) for value, it in encoded if match(expanded(text, it)) == {"x": value}}
    refused = {(value, it) for value, it in encoded if match(expanded(text, it)) is None}
    right = {(value, it) for value, it in encoded if fits(text, hint, VALUES[value], it)}
    assert let == right
    assert refused == set(encoded) - right


Name = NewType("Name", Path)
Alias = TypeAliasType("Alias", Path)
Marked = TypeAliasType("Marked", Annotated[Path, UncheckedPath])


@pytest.mark.parametrize(
    "hint",
    [
        Path,
        PurePath,
        PurePosixPath,
        os.PathLike,
        os.PathLike[str],
        FilePath,
        Name,
        Alias,
        Path | None,
        Optional[Path],  # noqa: UP045
        str | Path,
        list[Path],
        Annotated[Path, Field(description="Where it is")],
        Annotated[str | None, Path],
    ],
    ids=str,
)
def test_a_query_parameter_annotated_with_a_path_type_is_checked(hint: Any) -> None:
    query = template("a:b{?x}", hint)
    assert query.match("a:b?x=c/d.txt") == {"x": "c/d.txt"}
    assert query.match("a:b?x=/etc/passwd") is None
    assert query.match("a:b?x=..%5Cetc") is None


@pytest.mark.parametrize(
    "hint",
    [
        Annotated[str, UncheckedPath],
        Annotated[str, UncheckedPath()],
        Annotated[Path, Field(description="Where it is"), UncheckedPath],
        Annotated[str, UncheckedPath] | None,
        Marked,
    ],
    ids=["class", "instance", "path", "union", "alias"],
)
@pytest.mark.parametrize("text", ["file://{+x}", "file://{x*}", "file://{?x}"])
def test_a_marked_parameter_takes_any_path(text: str, hint: Any) -> None:
    query = "?x=" if "?" in text else ""
    assert template(text, hint).arguments(f"file://{query}/etc/../hosts") is not None
    assert template(text, hint).arguments(f"file://{query}%00") is None


def test_the_mark_is_for_its_own_parameter() -> None:
    def read(x: Annotated[str, UncheckedPath], y: str) -> str:
        return ""

    marked = ResourceTemplate.of(read, "a:{x}/{+y}")
    assert marked.match("a:%2Fetc/b/c") == {"x": "/etc", "y": "b/c"}
    assert marked.match("a:b/%2Fetc") is None


def test_a_parameter_is_found_under_the_name_that_clients_use() -> None:
    def read(it: Annotated[Path, Field(alias="path")] = Path(), other: str = "") -> str:
        return ""

    assert ResourceTemplate.of(read, "a:b{?path,other}").match("a:b?path=/etc&other=x") is None
    assert ResourceTemplate.of(read, "a:b{?path,other}").match("a:b?path=etc&other=/x") is not None


class Wanted(BaseModel):
    path: Path


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [("a:{+x}", list[str], '["/etc/passwd"]'), ("a:b{?x}", Wanted, '{"path": "/etc/passwd"}')],
)
def test_a_value_is_no_json(text: str, hint: Any, value: str) -> None:
    uri = text.replace("{?x}", f"?x={quote(value)}").replace("{+x}", quote(value))
    with pytest.raises(InvalidArguments):
        template(text, hint).arguments(uri)


def test_what_a_validator_makes_of_a_value_is_its_own_affair() -> None:
    hint = Annotated[Path, AfterValidator(lambda path: Path("/srv/docs") / path)]
    assert template("docs://{+x}", hint).arguments("docs://a/b") == {"x": Path("/srv/docs/a/b")}
    assert template("docs://{+x}", hint).arguments("docs:///b") is None


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("a:b/.{x}", "a:b/.."),
        ("a:b/.{+x}", "a:b/../c"),
        ("a:b/.{+x}", "a:b/..%5Cc"),
        ("a:{+x}.{y}", "a:b/.."),
        ("a:{+x}.", "a:b/.."),
    ],
)
def test_values_lead_nowhere_together_with_the_text_between_them_either(text: str, uri: str) -> None:
    def read(x: str, y: str = "") -> str:
        return ""

    assert ResourceTemplate.of(read, text).match(uri) is None


def escapes(value: str) -> bool:
    """Whether joining it to a folder gives something that is not below, by the systems' own rules."""
    posix = os.path.normpath(PurePosixPath("/srv/docs") / value)
    windows = PureWindowsPath(r"D:\srv\docs") / value
    inside = 0
    for part in windows.parts[len(PureWindowsPath(r"D:\srv\docs").parts) :]:
        inside += -1 if part == ".." else 1
        if inside < 0:
            return True
    # pathlib takes any character for a drive, Windows letters only.
    other_drive = windows.drive != "D:" and windows.drive[:1].isascii() and not windows.drive[:1].isdigit()
    return not PurePosixPath(posix).is_relative_to("/srv/docs") or other_drive


PIECES = st.sampled_from(["..", ".", "/", "\\", "C:", "c:", ":", "a", "b.txt", "%2e", "%2F", "\0", " ", "é"])
PATHS = st.lists(PIECES, min_size=1, max_size=8).map("".join) | st.text(min_size=1)


@given(PATHS)
@example("/etc/passwd")
@example("\\\\host\\share\\x")
@example("C:x")
@example("a/../../b")
def test_no_path_that_is_let_through_leaves_its_folder(value: str) -> None:
    assert leaves_folder(value) or not escapes(value)


@given(st.sampled_from(["{x}", "{+x}", "{?x}"]), st.sampled_from([str, Path]), PATHS, st.booleans())
def test_no_argument_of_a_template_leaves_its_folder(operator: str, hint: Any, value: str, encoded: bool) -> None:
    if operator == "{?x}" and hint is str:
        return
    before = "?x=" if operator == "{?x}" else ""
    uri = f"a://{before}{every_character(value) if encoded else value}"
    try:
        arguments = template(f"a://{operator}", hint).arguments(uri)
    except UnicodeEncodeError:
        return
    if arguments is not None and arguments["x"]:
        assert not escapes(str(arguments["x"]))


@given(PATHS)
def test_what_the_official_server_refuses_is_refused(value: str) -> None:
    assert DEFAULT_RESOURCE_SECURITY.validate({"x": value}) is None or leaves_folder(value)


@pytest.mark.parametrize("text", ["a:b/{x}", "a:b{/x}", "a:b/{+x}", "a://{+x}", "a:b{/x*}", "a:b{?x}"])
def test_the_official_server_lets_no_value_less_through(text: str) -> None:
    """By its own templates. It lets more through: a ".." behind a folder, separators in a segment, drives further in."""

    def read(x: Any = "") -> str:
        return ""

    official = OfficialTemplate.from_function(read, text, context_kwarg="")

    def official_lets(uri: str) -> bool:
        try:
            return official.matches(uri) is not None
        except ResourceSecurityError:
            return False

    ours = template(text, Path)
    uris = {expanded(text, encode(value)): value for value in VALUES for encode in ENCODINGS.values()}
    assert not [uri for uri in uris if ours.match(uri) and not official_lets(uri)]
