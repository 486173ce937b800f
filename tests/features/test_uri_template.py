"""URI templates: which values a URI was expanded from."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.features.uri_template import UriTemplate, is_template


def match(template: str, uri: str) -> dict[str, str] | None:
    return UriTemplate(template).match(uri)


@pytest.mark.parametrize(
    ("template", "uri", "values"),
    [
        ("test://template/{id}/data", "test://template/123/data", {"id": "123"}),
        ("weather://{city}", "weather://Paris", {"city": "Paris"}),
        ("weather://{city}/{day}", "weather://Paris/1", {"city": "Paris", "day": "1"}),
        ("a:{x}", "a:caf%C3%A9%20b", {"x": "café b"}),
        ("a:{x}", "a:user@example.org", {"x": "user@example.org"}),
        ("a:{x}.json", "a:b.json.json", {"x": "b.json"}),
        ("a:{x}-{y}", "a:1-2-3", {"x": "1", "y": "2-3"}),
        ("a:{x}-{y}.json", "a:1-2.json.json", {"x": "1", "y": "2.json"}),
        ("a:{x,y}", "a:1,2", {"x": "1", "y": "2"}),
        ("a:b{.ext}", "a:b.txt", {"ext": "txt"}),
        ("a:b{/x,y}", "a:b/1/2", {"x": "1", "y": "2"}),
        ("a:b{#part}", "a:b#c/d", {"part": "c/d"}),
        ("file:///{+path}", "file:///a/b.txt", {"path": "a/b.txt"}),
        ("file:///{path*}", "file:///a/b.txt", {"path": "a/b.txt"}),
        ("file:{/path*}", "file:/a/b.txt", {"path": "a/b.txt"}),
        ("file:///{+path}", "file:///a%20b/c", {"path": "a b/c"}),
        ("file://{+path}", "file:///etc/hosts", {"path": "/etc/hosts"}),
        ("repo://{owner}/{+path}/{mode}", "repo://o/a/b/c/raw", {"owner": "o", "path": "a/b/c", "mode": "raw"}),
        ("a:{+x}/edit", "a:1/edit/edit", {"x": "1/edit"}),
        ("a:search{?q,n}", "a:search?n=2&q=a%26b", {"q": "a&b", "n": "2"}),
        ("a:search{?q,n}", "a:search?q=x", {"q": "x"}),
        ("a:search{?q}", "a:search", {}),
        ("a:search{?q}", "a:search?q=", {"q": ""}),
        ("a:search{?q}", "a:search?other=1&q=x", {"q": "x"}),
        ("a:{x}{?q}", "a:1?q=2", {"x": "1", "q": "2"}),
        ("a:search?q={q}&n={n}", "a:search?q=x&n=2", {"q": "x", "n": "2"}),
        ("a:b", "a:b", {}),
    ],
)
def test_a_uri_that_fits_gives_the_decoded_values(template: str, uri: str, values: dict[str, str]) -> None:
    assert match(template, uri) == values


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("test://{id}/data", "test://1/2/data"),
        ("test://{id}/data", "test:///data"),
        ("test://{id}/data", "test://1/data/"),
        ("test://{id}/data", "TEST://1/data"),
        ("a:{x}", "a:1/2"),
        ("a:{x}", "a:1?q=2"),
        ("a:{x}", "a:1#f"),
        ("a:{x}", "a:"),
        ("a:{x}", "b:1"),
        ("a:{x}-{y}", "a:1"),
        ("a:{x}-{y}", "a:1/2-3"),
        ("a:{x}-{y}", "a:1?2-3"),
        ("a:{x}-{y}", "a:1#2-3"),
        ("a:{x}-{y}", "a:-2"),
        ("a:{+x}/{y}", "a:1"),
        ("a:{+x}b{y}", "a:1b"),
        ("a:b", "a:bc"),
        ("a:aba{x}aba", "a:aba"),
        ("a:search{?q}", "a:find?q=1"),
        ("a:search{?q}", "a:search?q=1&q=2"),
    ],
)
def test_a_uri_of_another_form_does_not_fit(template: str, uri: str) -> None:
    assert match(template, uri) is None


@pytest.mark.parametrize("escape", ["%", "%4", "%zz", "%ff", "%C3", "%00"])
@pytest.mark.parametrize("template", ["a:{x}", "a:{+x}", "a:{?x}"])
def test_a_bad_escape_does_not_fit(template: str, escape: str) -> None:
    assert match(template, f"a:{'?x=' if '?' in template else ''}1{escape}") is None


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("a:{x", "brace"),
        ("a:x}", "brace"),
        ("a:{}", "not supported"),
        ("a:{x y}", "not supported"),
        ("a:{x:3}", "not supported"),
        ("a:{;x}", "not supported"),
        ("a:{&x}", "not supported"),
        ("a:{x}{y}", "text between"),
        ("a:{+x}/{y*}", "only one"),
        ("a:{x}/{x}", "twice"),
        ("a:{x}{?x}", "twice"),
        ("a:{?x}/b", "not supported"),
    ],
)
def test_a_template_that_is_malformed_or_ambiguous_is_refused(template: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        UriTemplate(template)


def test_variables_are_told_in_order_and_those_of_the_query_as_optional() -> None:
    template = UriTemplate("a:{x}/{+y}{?z}")
    assert template.variables == ("x", "y", "z")
    assert template.optional == {"z"}


def test_a_template_is_expanded_up_to_its_query() -> None:
    assert UriTemplate("a:{x}/{+y}.b{?z}").expanded({"x": "1", "y": "2/3", "z": "4"}) == "a:1/2/3.b"
    assert UriTemplate("a:b").expanded({}) == "a:b"


def test_a_uri_with_braces_is_a_template() -> None:
    assert is_template("a:{x}")
    assert not is_template("a:x")


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("a:{a}-{b}-{c}-{d}/x", "a:" + "-" * 100_000),
        ("a:{a}/{b}/{+c}/{d}/x", "a:" + "/" * 100_000),
        ("a:{+x}", "a:" + "%" * 100_000),
        ("a:x{?a,b}", "a:x?" + "&" * 100_000),
    ],
)
def test_a_long_hostile_uri_takes_no_longer_than_its_length(template: str, uri: str) -> None:
    compiled = UriTemplate(template)
    start = time.process_time()
    compiled.match(uri)
    assert time.process_time() - start < 0.5


VALUE = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)


@given(st.lists(VALUE, min_size=4, max_size=4))
def test_what_was_expanded_is_read_back(values: list[str]) -> None:
    w, x, y, z = values
    uri = f"a://{quote(w, safe='')}/b/{quote(x)}/c/{quote(y, safe='')}?z={quote(z, safe='')}"
    assert match("a://{w}/b/{+x}/c/{y}{?z}", uri) == {"w": w, "x": x, "y": y, "z": z}


@given(st.text())
def test_any_text_fits_or_does_not(uri: str) -> None:
    for name, value in (match("a:{x}/{+y}/{z}{?q}", f"a:{uri}") or {}).items():
        assert value or name == "q"
        assert "\0" not in value
