"""Decision tables as tests: rows that together cover every combination of some inputs.

The first row that fits a combination is the one that counts. Inputs that a row does not name may have any value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

__all__ = ["Row", "Table", "row"]


@dataclass(frozen=True)
class Row:
    """One case: its name, the inputs that make it up, and what is decided."""

    name: str
    inputs: Mapping[str, Sequence[object]]
    decided: object

    def fits(self, cell: Mapping[str, object]) -> bool:
        return all(
            any(cell[name] is each or cell[name] == each for each in values) for name, values in self.inputs.items()
        )


def row(name: str, decided: object, **inputs: Any) -> Row:
    """A tuple stands for any of its members."""
    return Row(name, {key: each if isinstance(each, tuple) else (each,) for key, each in inputs.items()}, decided)


@dataclass(frozen=True)
class Table:
    """Every combination of `inputs`, and the rows that say what is decided for it."""

    inputs: Mapping[str, Sequence[object]]
    rows: Sequence[Row]

    @cached_property
    def cells(self) -> list[list[dict[str, Any]]]:
        """The combinations that each row decides. Raises LookupError for a combination that has no row."""
        found: list[list[dict[str, Any]]] = [[] for _ in self.rows]
        for values in product(*self.inputs.values()):
            cell = dict(zip(self.inputs, values, strict=True))
            found[self._row_for(cell)].append(cell)
        return found

    def _row_for(self, cell: Mapping[str, object]) -> int:
        for number, each in enumerate(self.rows):
            if each.fits(cell):
                return number
        raise LookupError(f"no row for {cell}")
