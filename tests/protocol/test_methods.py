"""The table of methods against requirements §20 and the official types, version by version."""

from __future__ import annotations

import pytest
from mcp_types import methods as official

from trio_mcp.dispatch.dispatcher import HANDLERS
from trio_mcp.protocol.methods import METHODS, NOTIFICATIONS, find_method
from trio_mcp.protocol.versions import SERVED_VERSIONS, V2026_07_28

EVERYWHERE = {
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "prompts/list",
    "prompts/get",
    "completion/complete",
}
WITH_SESSIONS = {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
STANDING_ALONE = {"server/discover", "subscriptions/listen"}


@pytest.mark.parametrize("version", SERVED_VERSIONS)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_exists_in_exactly_the_versions_that_have_it(name: str, version: str) -> None:
    expected = EVERYWHERE | (STANDING_ALONE if version >= V2026_07_28 else WITH_SESSIONS)
    assert (find_method(name, version) is not None) == (name in expected)


@pytest.mark.parametrize("version", SERVED_VERSIONS)
def test_every_request_of_the_official_types_is_in_the_table_but_for_tasks(version: str) -> None:
    known = {name for name, since in official.CLIENT_REQUESTS if since == version}
    ours = {name for name in METHODS if find_method(name, version)}
    assert ours == {name for name in known if not name.startswith("tasks/")}


@pytest.mark.parametrize("name", ["", "tools", "tools/call/", "Tools/List", "tasks/get", "sampling/createMessage"])
def test_other_names_are_no_methods_in_any_version(name: str) -> None:
    assert all(find_method(name, version) is None for version in SERVED_VERSIONS)


def test_nothing_is_served_as_a_version_before_2024_11_05() -> None:
    assert all(find_method(name, "2024-10-07") is None for name in METHODS)


def test_a_later_version_than_ours_keeps_the_methods_of_2026_07_28() -> None:
    assert find_method("tools/call", "2027-01-01") is METHODS["tools/call"]


def test_only_three_methods_may_end_as_input_required() -> None:
    assert {name for name, method in METHODS.items() if method.may_ask} == {
        "tools/call",
        "prompts/get",
        "resources/read",
    }


def test_three_methods_are_mirrored_in_the_name_header() -> None:
    named = {name: method.name_param for name, method in METHODS.items() if method.name_param}
    assert named == {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


def test_six_methods_have_cacheable_results() -> None:
    cacheable = {name for name, method in METHODS.items() if method.cacheable}
    assert cacheable == {
        name for name in METHODS if name.endswith("/list") or name in {"server/discover", "resources/read"}
    }


def test_every_method_has_a_handler_and_every_handler_a_method() -> None:
    assert HANDLERS.keys() == METHODS.keys()


def test_methods_removed_by_2026_07_28_end_there() -> None:
    assert {name for name, method in METHODS.items() if method.until == V2026_07_28} == WITH_SESSIONS


def test_the_notifications_of_mcp_are_those_of_the_official_types_but_for_tasks() -> None:
    official_names = {name for name, _ in (*official.CLIENT_NOTIFICATIONS, *official.SERVER_NOTIFICATIONS)}
    assert {name for name in official_names if not name.startswith("notifications/tasks")} == NOTIFICATIONS
