"""Ordered lists and their pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from trio_mcp.features.registry import Catalog


@dataclass
class Item:
    name: str
    asked: list[str] = field(default_factory=list)

    def definition(self, version: str) -> dict[str, Any]:
        self.asked.append(version)
        return {"name": self.name, "version": version}


def catalog(*names: str) -> Catalog[Item]:
    filled: Catalog[Item] = Catalog("Item")
    for name in names:
        filled.add(name, Item(name))
    return filled


def names(page: list[dict[str, Any]]) -> str:
    return "".join(item["name"] for item in page)


def test_items_stay_in_order_of_registration() -> None:
    assert names(catalog("c", "a", "b").page("1", 0, 10)[0]) == "cab"


def test_pages_follow_each_other_to_the_end() -> None:
    five = catalog(*"abcde")
    page, offset = five.page("1", 0, 2)
    assert (names(page), offset) == ("ab", 2)
    page, offset = five.page("1", 2, 2)
    assert (names(page), offset) == ("cd", 4)
    page, offset = five.page("1", 4, 2)
    assert (names(page), offset) == ("e", None)


def test_a_page_that_ends_with_the_list_is_the_last() -> None:
    assert catalog(*"ab").page("1", 0, 2)[1] is None


def test_past_the_end_is_an_empty_page() -> None:
    assert catalog("a").page("1", 7, 2) == ([], None)
    assert catalog().page("1", 0, 2) == ([], None)


def test_definitions_are_made_once_for_a_version_until_something_changes() -> None:
    items = catalog("a")
    item = items.get("a")
    assert item is not None
    for _ in range(3):
        items.page("1", 0, 10)
    items.page("2", 0, 10)
    assert item.asked == ["1", "2"]
    items.add("b", Item("b"))
    assert names(items.page("1", 0, 10)[0]) == "ab"


def test_every_change_counts() -> None:
    items = catalog("a")
    before = items.version
    items.add("b", Item("b"))
    items.remove("b")
    assert items.version == before + 2


def test_a_taken_key_is_refused_and_changes_nothing() -> None:
    items = catalog("a")
    before = items.version
    with pytest.raises(ValueError, match="Item 'a' is already registered"):
        items.add("a", Item("other"))
    assert items.version == before
    assert names(items.page("1", 0, 10)[0]) == "a"


def test_what_is_not_there_cannot_be_removed() -> None:
    with pytest.raises(KeyError, match="no item 'a' is registered"):
        catalog().remove("a")


def test_a_catalog_is_a_sized_iterable_container() -> None:
    items = catalog("a", "b")
    assert (len(items), "a" in items, "c" in items, [item.name for item in items]) == (2, True, False, ["a", "b"])
    assert not catalog()
    assert items.get("c") is None
