"""The marks of the file of mistakes, and what is said of a checker that does not agree with them."""

from __future__ import annotations

from tools.public_types import disagreements, marked, unknown_types


def test_a_marked_line_is_one_that_must_be_refused() -> None:
    assert marked('"""Not # refused"""\nx = 1\ny: int = ""  # refused: text\nz = 2  # taken\n') == {3}


def test_what_a_checker_takes_or_refuses_otherwise_is_named_with_its_line() -> None:
    assert disagreements({1, 2}, {"mypy": {1, 2}, "pyright": {2, 3}}) == [
        "tests/typing/misuse.py:1: pyright takes it",
        "tests/typing/misuse.py:3: pyright refuses it",
    ]


def test_a_public_name_without_a_known_type_is_told_with_the_reason() -> None:
    def symbol(name: str, known: bool, ambiguous: bool) -> dict[str, object]:
        reasons = [{"message": "Type is missing\n  Inferred type is int"}]
        known_as = {"isExported": True, "isTypeKnown": known, "isTypeAmbiguous": ambiguous}
        return {"name": name, **known_as, "diagnostics": reasons}

    symbols = [symbol("a", True, False), symbol("b", False, False), symbol("c", True, True)]
    assert unknown_types({"typeCompleteness": {"symbols": symbols}}) == ["b: Type is missing", "c: Type is missing"]
