"""An import-linter contract: each of some libraries is imported by one module at most, or by as many as the contract says."""

from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

__all__ = ["OneHome"]


class OneHome(Contract):
    """A library with one home can be replaced by changing one file.

    `homes` is how many modules may import it, 1 if it is not given; `within` is the package they must be in, if it is given.
    """

    libraries = fields.ListField(subfield=fields.StringField())
    homes = fields.IntegerField(required=False)
    within = fields.StringField(required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Broken when more modules import the same library directly, or one outside `within`."""
        importers = {library: _importers(graph, library) for library in cast("list[str]", self.libraries)}
        crowded = {library: sorted(modules) for library, modules in importers.items() if not self._allows(modules)}
        return ContractCheck(kept=not crowded, metadata={"crowded": crowded})

    def _allows(self, modules: set[str]) -> bool:
        package = cast("str | None", self.within)
        inside = package is None or all(f"{module}.".startswith(f"{package}.") for module in modules)
        return inside and len(modules) <= (cast("int | None", self.homes) or 1)

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line for each library, naming the modules that import it."""
        for library, modules in check.metadata["crowded"].items():
            output.print_error(f"{library} is imported by {', '.join(modules)}; choose one.", bold=True)


def _importers(graph: ImportGraph, library: str) -> set[str]:
    """Only direct imports: using a library through its home is allowed."""
    return set(graph.find_modules_that_directly_import(library)) if library in graph.modules else set()
