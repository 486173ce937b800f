"""How long modules and functions are: `python -m tools.shape` prints the figures that tests/tools/test_shape.py holds.

A module is a file of `trio_mcp/` but for `__init__.py`; its length is its lines. The length of a function is its lines from
the first statement behind the docstring to the last.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

__all__ = ["PACKAGE", "SHORT", "Shape", "shape"]

PACKAGE = Path(__file__).parents[1] / "trio_mcp"
SHORT = 40
"""A module with fewer lines counts as short."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The lengths of a package's modules by their paths, and of its functions."""

    modules: dict[str, int]
    functions: Sequence[int]

    @property
    def median_module(self) -> float:
        """Lines of the module in the middle."""
        return median(self.modules.values())

    @property
    def short(self) -> list[str]:
        """The modules with fewer than `SHORT` lines."""
        return [path for path, lines in self.modules.items() if lines < SHORT]

    def longer_than(self, lines: int) -> list[str]:
        """The modules with more lines than that."""
        return [path for path, found in self.modules.items() if found > lines]

    @property
    def median_function(self) -> float:
        """Lines of the function in the middle."""
        return median(self.functions)

    @property
    def p90_function(self) -> float:
        """Nine functions of ten are no longer."""
        return quantiles(self.functions, n=10, method="inclusive")[-1]


def shape(package: Path = PACKAGE) -> Shape:
    """Measure a package."""
    modules, functions = dict[str, int](), list[int]()
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        functions += _functions(ast.parse(text))
        if path.name != "__init__.py" and "templates" not in path.parts:
            modules[str(path.relative_to(package))] = len(text.splitlines())
    return Shape(modules, functions)


def _functions(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def main() -> None:
    """Print the figures, and the modules by folder."""
    found = shape()
    print(
        f"{len(found.modules)} modules: median {found.median_module:g} lines, {len(found.short)} under {SHORT}, "
        f"longest {max(found.modules.values())}"
    )
    print(f"{len(found.functions)} functions: median {found.median_function:g} lines, p90 {found.p90_function:g}")
    print("short:  " + ", ".join(found.short))
    print("over 400:  " + (", ".join(found.longer_than(400)) or "none"))
    for folder in sorted({Path(path).parent for path in found.modules}):
        lines = [length for path, length in found.modules.items() if Path(path).parent == folder]
        print(f"  {folder!s:<24} {len(lines):>3} modules, median {median(lines):g}")


if __name__ == "__main__":
    main()
