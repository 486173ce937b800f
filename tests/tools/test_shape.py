"""Modules and functions keep a size that one can read: see CONTRIBUTING.md. `python -m tools.shape` prints the figures."""

from pathlib import Path

from tools.shape import shape


def test_modules_are_neither_scraps_nor_too_long_to_hold_in_the_head() -> None:
    found = shape()
    assert found.median_module >= 110
    assert len(found.short) <= 12, found.short
    assert found.longer_than(400) == []


def test_functions_are_short() -> None:
    found = shape()
    assert found.median_function <= 5
    assert found.p90_function <= 14


def test_a_docstring_is_no_line_of_a_function(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        'def f():\n    """Says\n    much."""\n    a = 1\n\n    return a\n\n\ndef g(): ...\n'
    )
    found = shape(tmp_path)
    assert (found.modules, found.functions) == ({"one.py": 9}, [3, 1])
