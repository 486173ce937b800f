"""Parameters that the access token fills: clients neither see nor fill them."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from trio_mcp.auth import AccessToken, Claim, ClaimMissing
from trio_mcp.features.completions import Completer
from trio_mcp.features.injection import HandlerContext
from trio_mcp.features.prompts import Prompt
from trio_mcp.features.resources import resource_of
from trio_mcp.features.signature import Signature
from trio_mcp.features.tools import Tool

Email = Annotated[str, Claim("email")]
TOKEN = AccessToken("desktop", claims={"email": "ann@example.com", "age": "7", "groups": ["hr"], "gone": None})


def mail(to: str, email: Email, token: AccessToken, ctx: HandlerContext, copy: bool = False) -> None: ...


def filled(fn: Any, token: AccessToken | None = TOKEN) -> dict[str, Any]:
    values = Signature(fn).token_values
    assert values is not None
    return values.of(token)


def test_they_are_not_in_the_schema() -> None:
    signature = Signature(mail)
    assert signature.names == ["to", "copy"]
    assert signature.required == {"to"}
    assert signature.hints == {"to": str, "copy": bool}
    assert filled(mail) == {"email": "ann@example.com", "token": TOKEN}


def test_a_function_without_them_has_none() -> None:
    assert Signature(lambda a: a).token_values is None


def test_every_kind_of_component_can_have_them() -> None:
    def value(value: str, email: Email) -> None: ...
    def bare(email: Email) -> None: ...
    def one(id: int, email: Email) -> None: ...

    assert Completer.of(value).signature.names == ["value"]
    assert [it.name for it in Prompt.of(value).arguments] == ["value"]
    assert Tool.of(value).definition("2025-11-25")["inputSchema"]["required"] == ["value"]
    assert resource_of(bare, "a://b").signature.names == []
    assert resource_of(one, "a://{id}").signature.names == ["id"]


def test_values_are_converted_to_the_type_of_the_parameter() -> None:
    def fn(age: Annotated[int, Claim("age")], groups: Annotated[set[str], Claim("groups")]) -> None: ...

    assert filled(fn) == {"age": 7, "groups": {"hr"}}


@pytest.mark.parametrize("claim", ["email", "groups", "gone"])
def test_a_value_of_another_type_is_an_error_that_does_not_show_it(claim: str) -> None:
    def fn(number: Any) -> None: ...

    fn.__annotations__["number"] = Annotated[int, Claim(claim)]
    with pytest.raises(ClaimMissing, match=r"another type than number$"):
        filled(fn)


def test_a_type_may_be_narrowed() -> None:
    def fn(age: Annotated[int, Claim("age"), Field(ge=18)]) -> None: ...

    with pytest.raises(ClaimMissing):
        filled(fn)


@pytest.mark.parametrize("token", [None, AccessToken("desktop"), TOKEN])
def test_what_is_not_there_is_the_default_or_an_error(token: AccessToken | None) -> None:
    def optional(tenant: Annotated[str | None, Claim("tenant")] = None, n: Annotated[int, Claim("n")] = 3) -> None: ...
    def required(tenant: Annotated[str, Claim("tenant")]) -> None: ...

    assert filled(optional, token) == {"tenant": None, "n": 3}
    with pytest.raises(ClaimMissing, match=r"no claim tenant$"):
        filled(required, token)


def test_the_token_itself_may_be_optional() -> None:
    def required(token: AccessToken) -> None: ...
    def union(token: AccessToken | None) -> None: ...
    def default(token: AccessToken | None = None) -> None: ...

    for fn in (union, default):
        assert filled(fn, None) == {"token": None}
        assert filled(fn) == {"token": TOKEN}
    with pytest.raises(ClaimMissing, match="no access token"):
        filled(required, None)


@pytest.mark.parametrize(
    ("annotation", "optional"),
    [
        ("AccessTokn", None),
        ("nowhere.AccessToken", False),
        ("nowhere.AccessToken | None", True),
        ("Optional[nowhere.AccessToken]", True),
    ],
)
def test_the_token_may_be_imported_for_type_checkers_alone(annotation: str, optional: bool | None) -> None:
    def fn(it: Any) -> None: ...

    fn.__annotations__["it"] = annotation
    if optional is None:
        with pytest.raises(ValueError, match="Import it at run time too"):
            Signature(fn)
        return
    assert filled(fn) == {"it": TOKEN}
    if optional:
        assert filled(fn, None) == {"it": None}
    else:
        with pytest.raises(ClaimMissing):
            filled(fn, None)


def test_a_client_cannot_fill_them() -> None:
    def fn(email: Annotated[str, Claim("email")] = "", token: AccessToken | None = None, **rest: Any) -> None: ...

    tool = Tool.of(fn, input_schema={"type": "object"})
    assert tool.bind({"email": "mallory", "token": "mine", "other": 1}) == {"other": 1}


def test_two_parameters_may_have_one_claim() -> None:
    def fn(a: Email, b: Email) -> None: ...

    assert filled(fn) == {"a": "ann@example.com", "b": "ann@example.com"}
