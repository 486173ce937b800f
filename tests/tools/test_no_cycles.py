"""The import contract of ours: no modules import each other, for type checkers either."""

from pathlib import Path

import pytest
from grimp import ImportGraph

from tools.no_cycles import NoCycles, cycles


def graph(*imports: str) -> ImportGraph:
    """`a b` for each import of b by a."""
    made = ImportGraph()
    for each in imports:
        importer, imported = each.split()
        made.add_import(importer=importer, imported=imported, line_number=1, line_contents=f"import {imported}")
    return made


def test_imports_that_go_down_make_no_cycle() -> None:
    assert cycles(graph("a b", "b c", "a c")) == []


def test_modules_that_import_each_other_are_one_cycle_however_long() -> None:
    assert cycles(graph("a b", "b c", "c a", "c d")) == [["a", "b", "c"]]


def test_two_cycles_that_touch_by_one_import_are_two() -> None:
    assert sorted(cycles(graph("a b", "b a", "b c", "c d", "d c"))) == [["a", "b"], ["c", "d"]]


def kept(folder: Path, monkeypatch: pytest.MonkeyPatch, second: str, **options: object) -> bool:
    package = folder / "circled"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "first.py").write_text("import circled.second\n")
    (package / "second.py").write_text(second)
    monkeypatch.syspath_prepend(folder)
    contract = NoCycles("none", session_options={}, contract_options={"package": "circled", **options})
    return contract.check(ImportGraph(), verbose=False).kept


FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import circled.first\n"


def test_an_import_for_type_checkers_closes_a_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not kept(tmp_path, monkeypatch, FOR_TYPES)


def test_a_circle_may_be_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept(tmp_path, monkeypatch, FOR_TYPES, allowed=["circled.first", "circled.second"])


def test_a_circle_with_a_module_that_is_not_allowed_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not kept(tmp_path, monkeypatch, FOR_TYPES, allowed=["circled.first"])
