"""Which modules of the package a notebook's imports reach, read from sources, never imported.

A module reaches what it imports anywhere, functions included. A package that only hands names on
(``from journeylab.runs import record``) reaches the module a name comes from, and not the runner
beside it; what the package's own statements use is always reached.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from journeylab.runs.notebooks import syntax_tree


@dataclass(frozen=True, slots=True)
class _Import:
    """One imported name: from which module, which name of it (None: the module), bound as what."""

    module: str
    name: str | None
    bound: str


def _imports(tree: ast.AST, package: str) -> Iterator[_Import]:
    """What a module or cell imports.

    Args:
        tree: Of the module or cell.
        package: What relative imports are relative to.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _Import(alias.name, None, alias.asname or alias.name.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield _Import(base, alias.name, alias.asname or alias.name)


@dataclass
class PackageSources:
    """The sources of one package on disk.

    Args:
        folder: The package's folder, named like the package.

    A copy of this object sees the files as they were when it first read them.
    """

    folder: Path
    _trees: dict[str, ast.Module] = field(default_factory=dict)
    _hashes: dict[str, str] = field(default_factory=dict)
    _found: dict[str, list[_Import]] = field(default_factory=dict)
    _used: dict[str, set[str]] = field(default_factory=dict)

    def reached(self, cells: Iterable[str]) -> dict[str, str]:
        """sha256 of every module that code reaches, by module name, sorted.

        Args:
            cells: Sources of code cells; IPython magics in them are passed over.
        """
        waiting: list[tuple[str, str | None]] = []
        for source in cells:
            tree = syntax_tree(source)
            if tree is not None:
                waiting += [(found.module, found.name) for found in _imports(tree, "")]
        seen: set[tuple[str, str | None]] = set()
        modules: set[str] = set()
        while waiting:
            wanted = waiting.pop()
            if wanted in seen or wanted[0].partition(".")[0] != self.folder.name:
                continue
            seen.add(wanted)
            waiting += self._follow(*wanted, modules)
        hashes = {name: self._hash(name) for name in modules}
        for name in modules:
            if self._is_package(name):
                hashes |= self._resources(name)
        return dict(sorted(hashes.items()))

    def _follow(
        self, module: str, name: str | None, modules: set[str]
    ) -> list[tuple[str, str | None]]:
        """What comes along with one import; the modules whose text counts are added."""
        if name is not None and self._path(f"{module}.{name}") is not None:
            return [(f"{module}.{name}", None)]
        path = self._path(module)
        if path is None:
            return []
        more: list[tuple[str, str | None]] = []
        parent = module.rpartition(".")[0]
        if parent:
            # importing a module runs the packages it lies in, but uses none of their names
            more.append((parent, "__name__"))
        modules.add(module)
        if module not in self._found:
            package = module if self._is_package(module) else parent
            self._found[module] = list(dict.fromkeys(_imports(self._tree(module), package)))
        found = self._found[module]
        if name is None or not self._is_package(module):
            return more + [(each.module, each.name) for each in found]
        used = self._used_by_statements(module) | {name}
        if name != "*" and (name in {each.bound for each in found} or name == "__name__"):
            found = [each for each in found if each.bound in used]
        return more + [(each.module, each.name) for each in found]

    def _used_by_statements(self, module: str) -> set[str]:
        """Names that a package's own statements use, other than imports and ``__all__``."""
        if module in self._used:
            return self._used[module]
        used: set[str] = set()
        for statement in self._tree(module).body:
            match statement:
                case ast.Import() | ast.ImportFrom():
                    continue
                case ast.Assign(targets=[ast.Name(id="__all__")]):
                    continue
            used |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        self._used[module] = used
        return used

    def _path(self, module: str) -> Path | None:
        place = self.folder.parent.joinpath(*module.split("."))
        for path in (place / "__init__.py", place.with_name(place.name + ".py")):
            if path.is_file():
                return path
        return None

    def _is_package(self, module: str) -> bool:
        path = self._path(module)
        return path is not None and path.name == "__init__.py"

    def _tree(self, module: str) -> ast.Module:
        if module not in self._trees:
            path = self._path(module)
            assert path is not None
            try:
                self._trees[module] = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError):
                # the notebook will say it better
                self._trees[module] = ast.Module([], [])
        return self._trees[module]

    def _hash(self, module: str) -> str:
        if module not in self._hashes:
            path = self._path(module)
            assert path is not None
            self._hashes[module] = sha256(path.read_bytes()).hexdigest()
        return self._hashes[module]

    def _resources(self, package: str) -> dict[str, str]:
        """Files beside the modules of a package (presets, templates), in folders without code."""
        path = self._path(package)
        assert path is not None
        top = path.parent
        found: dict[str, str] = {}
        for file in sorted(top.rglob("*")):
            inner = [top / part for part in file.relative_to(top).parents if part.parts]
            if (
                file.suffix in (".py", ".pyc")
                or not file.is_file()
                or any((folder / "__init__.py").exists() for folder in inner)
                or any(part.startswith((".", "__pycache__")) for part in file.parts[-2:])
            ):
                continue
            name = f"{package}/{file.relative_to(top).as_posix()}"
            if name not in self._hashes:
                self._hashes[name] = sha256(file.read_bytes()).hexdigest()
            found[name] = self._hashes[name]
        return found
