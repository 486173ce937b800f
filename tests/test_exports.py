"""The public face: what is promised is there, documented, and nothing else is."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import trio_mcp
import trio_mcp.auth
import trio_mcp.testing
import trio_mcp.types

FACES = [trio_mcp, trio_mcp.auth, trio_mcp.types, trio_mcp.testing]


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_everything_in_all_can_be_had_and_says_what_it_is(face: object) -> None:
    for name in face.__all__:  # type: ignore[attr-defined]
        found = getattr(face, name)
        if inspect.isclass(found) or inspect.isroutine(found):
            assert inspect.getdoc(found), name


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    tree = ast.parse(Path(trio_mcp.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.asname for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == set(trio_mcp.__all__)


def test_every_public_name_is_listed_once_and_in_order() -> None:
    for face in FACES:
        assert list(face.__all__) == sorted(set(face.__all__))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sever'"):
        trio_mcp.Sever  # noqa: B018


@pytest.mark.processes
def test_importing_the_package_alone_loads_neither_trio_nor_pydantic() -> None:
    code = "import sys, trio_mcp; print({'trio', 'pydantic', 'msgspec'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
