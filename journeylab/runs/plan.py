"""The plan of a run: which notebooks, with which parameters, in which order.

Everything that can be refused is refused here, before a folder is made or a kernel starts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from itertools import product
from pathlib import Path

from journeylab.errors import RunError
from journeylab.runs.notebooks import (
    NOT_IN_ALL,
    Notebook,
    find_notebook,
    notebook_paths,
    read_notebook,
)
from journeylab.runs.parameters import Value, nearest
from journeylab.runs.references import Reference, instance_name, read_reference
from journeylab.runs.scrubbing import hide_credentials
from journeylab.runs.secret import declare_secrets

Fingerprint = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Instance:
    """One notebook with its parameters, as it will run.

    Attributes:
        name: Its folder in the run: ``"30_clv"`` or ``"30_clv--data-simulated"``.
        notebook: The notebook.
        bindings: The parameters in which it differs from the plain instance.
        parameters: All parameters, as pages and manifest show them.
        injected: Those that differ from their default, as the kernel gets them.
        needs: Instances whose records it reads.
        requires: Those of them without which it cannot run.
        reads: Which of them each parameter that is a reference names.
        grid: Names of the parameters that the run's grid gave it.
        data: Name of its data set as shown; None when no parameter is called ``data``.
        data_fingerprint: Of its data, or of the data its references rest on; None without either.
    """

    name: str
    notebook: Notebook
    bindings: dict[str, Value]
    parameters: dict[str, Value]
    injected: dict[str, Value]
    needs: frozenset[str]
    requires: frozenset[str]
    reads: dict[str, str]
    grid: tuple[str, ...]
    data: str | None
    data_fingerprint: str | None = None

    @property
    def live(self) -> bool:
        """Whether its data are a live database, of which only rows are counted."""
        return self.data is not None and "://" in self.data

    @property
    def files(self) -> dict[str, str]:
        """Parameters that name a file (they end with ``_file``), and where it lies."""
        return {
            name: str(self.injected.get(name, value))
            for name, value in self.parameters.items()
            if _names_file(name, value)
        }

    @property
    def writes(self) -> tuple[str, ...]:
        """Parameters by which it is to write outside its run (``write_...``, set to true)."""
        return tuple(
            name
            for name, value in self.parameters.items()
            if name.startswith("write_") and value is True
        )

    @property
    def cacheable(self) -> bool:
        """Whether what it did before may stand for it."""
        return not self.live and not self.writes


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do.

    Attributes:
        folder: The notebooks' folder.
        instances: By name; ancestors stand before what needs them.
        targets: Names of the notebooks asked for.
        seed: The seed asked for, or the one all notebooks share; None otherwise.
        caller: The directory that relative data sources are meant relative to.
        sources: Data sources as kernels get them, and as they may be shown.
        asked: Parameters that were asked for, by ``name`` or ``notebook.name``; these, and
        grid: the values of each parameter that the notebooks asked for run over, as shown.
    """

    folder: Path
    instances: dict[str, Instance]
    targets: tuple[str, ...]
    seed: int | None
    caller: Path
    sources: dict[str, str]
    asked: dict[str, Value]
    grid: dict[str, tuple[Value, ...]]


def make_plan(
    folder: Path,
    names: Iterable[str] = (),
    *,
    every: bool = False,
    parameters: Mapping[str, Value] | None = None,
    grid: Mapping[str, Sequence[Value]] | None = None,
    seed: int | None = None,
    caller: Path | None = None,
    fingerprint: Fingerprint | None = None,
) -> Plan:
    """Plan a run, or refuse it.

    Args:
        folder: Where the notebooks lie.
        names: Notebooks asked for, as ``clv``, ``30_clv`` or ``30_clv.ipynb``.
        every: All notebooks but those that only teach.
        parameters: Values by ``name`` (for every notebook asked for that has it) or by
            ``notebook.name`` (for that notebook, asked for or needed). Text is read by its type.
        grid: Values by ``name``: every notebook asked for that has this parameter runs once for
            each value, and for each combination where several are given. Where one of them reads
            another, it reads the instance with the same values.
        seed: Given to every notebook of the run that has a ``seed``, unless ``parameters`` do.
        caller: What relative data sources are relative to; the working directory by default.
        fingerprint: Identity of the data behind a source; ``journeylab.tables.fingerprint`` by
            default.

    Raises:
        RunError: A notebook, parameter, value, reference or record name is unknown or not allowed,
            references go in a circle, or a notebook would join customers of different data.
        ContractError: A data source cannot be identified.
    """
    paths = notebook_paths(folder)
    notebooks: dict[str, Notebook] = {}

    def notebook_at(path: Path) -> Notebook:
        if path.stem not in notebooks:
            notebooks[path.stem] = read_notebook(path)
        return notebooks[path.stem]

    chosen = [find_notebook(paths, name) for name in names]
    if every:
        chosen += [path for name, path in paths.items() if name not in NOT_IN_ALL]
    if not chosen:
        may_run = ", ".join(name for name in paths if name not in NOT_IN_ALL) or "none"
        raise RunError(f"name the notebooks to run, or give --all; there are: {may_run}")
    if seed is not None and seed < 0:
        raise RunError(f"--seed must be a whole number from 0; got {seed}")
    targets = [notebook_at(path) for path in dict.fromkeys(chosen)]
    settings = _Settings(targets, parameters or {}, seed, paths)
    caller = (caller or Path.cwd()).resolve()
    over = _Grid(targets, grid or {}, parameters or {})
    instances = _expand(targets, settings, over, paths, notebook_at)
    settings.refuse_unused({instance.notebook.name for instance in instances.values()})
    order = _ordered(instances)
    placed = {name: _place_files(_place_data(instances[name], caller), caller) for name in order}
    sources = {
        str(instance.injected["data"]): instance.data
        for instance in placed.values()
        if instance.data is not None
        and instance.injected.get("data", instance.data) != instance.data
    }
    for instance in placed.values():
        sources |= {
            path: str(instance.parameters[name])
            for name, path in instance.files.items()
            if path != instance.parameters[name]
        }
    for instance in placed.values():
        given_seed = instance.parameters.get("seed")
        if isinstance(given_seed, int) and given_seed < 0:
            raise RunError(f"{instance.name}: a seed is a whole number from 0; got {given_seed}")
    declare_secrets(value for each in placed.values() for value in each.parameters.values())
    seeds = {
        value
        for instance in placed.values()
        if isinstance(value := instance.parameters.get("seed"), int)
    }
    return Plan(
        folder=folder,
        instances=_with_fingerprints(placed, fingerprint or _tables_fingerprint),
        targets=tuple(notebook.name for notebook in targets),
        seed=seed if seed is not None else (seeds.pop() if len(seeds) == 1 else None),
        caller=caller,
        sources=sources,
        asked={
            name: _shown_value(name, value, caller) for name, value in (parameters or {}).items()
        },
        grid={
            name: tuple(_shown_value(name, value, caller) for value in values)
            for name, values in over.values.items()
        },
    )


def _tables_fingerprint(source: str) -> str:
    # the engines are slow to import, and a refused parameter needs none
    from journeylab.tables import fingerprint

    return fingerprint(source)


class _Settings:
    """The parameters asked for, checked against the notebooks they are meant for."""

    def __init__(
        self,
        targets: list[Notebook],
        parameters: Mapping[str, Value],
        seed: int | None,
        paths: Mapping[str, Path],
    ) -> None:
        self._targets = {notebook.name for notebook in targets}
        self._seed = seed
        self._general: dict[str, Value] = {}
        self._addressed: dict[str, dict[str, Value]] = {}
        for key, value in parameters.items():
            address, dot, name = key.partition(".")
            if dot:
                addressed = read_notebook(find_notebook(paths, address))
                addressed.parameter(name, value)
                self._addressed.setdefault(addressed.name, {})[name] = value
            else:
                self._general[key] = value
        for name, value in self._general.items():
            if not any(name in _names(notebook) for notebook in targets):
                if len(targets) == 1:
                    targets[0].parameter(name, value)
                known = sorted({known for notebook in targets for known in _names(notebook)})
                raise RunError(
                    f"none of {', '.join(sorted(self._targets))} has a parameter {name!r} "
                    f"(given {value!r}){nearest(name, known)} They have: {', '.join(known)}"
                )

    def values(self, notebook: Notebook) -> dict[str, Value]:
        """Parameters of the plain instance of a notebook.

        Raises:
            RunError: A value is of the wrong type or not allowed.
        """
        asked: dict[str, Value] = {}
        if self._seed is not None:
            asked["seed"] = self._seed
        if notebook.name in self._targets:
            asked |= self._general
        asked |= self._addressed.get(notebook.name, {})
        return {
            parameter.name: parameter.accept(asked[parameter.name], notebook.name)
            if parameter.name in asked
            else parameter.default
            for parameter in notebook.parameters
        }

    def refuse_unused(self, in_run: set[str]) -> None:
        """Refuse parameters of a notebook that is not part of the run.

        Raises:
            RunError: There are some.
        """
        for name, values in self._addressed.items():
            if name not in in_run:
                raise RunError(
                    f"{name}.{next(iter(values))} is given, but {name} is not part of this run "
                    f"({', '.join(sorted(in_run))})"
                )


def _names(notebook: Notebook) -> list[str]:
    return [parameter.name for parameter in notebook.parameters]


class _Grid:
    """The values that notebooks asked for run over."""

    def __init__(
        self,
        targets: list[Notebook],
        values: Mapping[str, Sequence[Value]],
        parameters: Mapping[str, Value],
    ) -> None:
        self._targets = {notebook.name: notebook for notebook in targets}
        self.values: dict[str, list[Value]] = {}
        for name, listed in values.items():
            having = [notebook for notebook in targets if name in _names(notebook)]
            if not having:
                known = sorted({known for notebook in targets for known in _names(notebook)})
                raise RunError(
                    f"none of {', '.join(self._targets)} has a parameter {name!r} to run over"
                    f"{nearest(name, known)} They have: {', '.join(known)}"
                )
            if name in parameters:
                raise RunError(f"{name} is given by -p and by --grid; give it once")
            for notebook in having:
                parameter = notebook.parameter(name, listed)
                self.values[name] = [parameter.accept(value, notebook.name) for value in listed]
            spelled = [instance_name("", {name: self._spelled(name, v)}) for v in self.values[name]]
            if not spelled or len(set(spelled)) < len(spelled):
                raise RunError(f"--grid {name} needs values that differ; got {list(listed)}")

    def _spelled(self, name: str, value: Value) -> Value:
        """A value as the name of a folder may spell it: no place on this machine."""
        if name == "data" and isinstance(value, str):
            return hide_credentials(Path(value).name if value.startswith(("~", "/")) else value)
        return value

    def combinations(self, notebook: Notebook) -> list[dict[str, Value]]:
        """The bindings of each instance of a notebook asked for; one of none without a grid."""
        names = [name for name in self.values if name in _names(notebook)]
        return [
            dict(zip(names, chosen, strict=True))
            for chosen in product(*(self.values[name] for name in names))
        ]

    def shared(self, notebook: Notebook, bindings: Mapping[str, Value]) -> dict[str, Value]:
        """The values of a grid that a notebook has in common with one that reads it."""
        if notebook.name not in self._targets:
            return {}
        names = _names(notebook)
        return {
            name: value for name, value in bindings.items() if name in self.values and name in names
        }

    def over(self, notebook: Notebook, bindings: Mapping[str, Value]) -> tuple[str, ...]:
        """Which of an instance's bindings come from the grid."""
        if notebook.name not in self._targets:
            return ()
        return tuple(name for name in self.values if name in bindings)

    def instance_name(self, stem: str, bindings: Mapping[str, Value]) -> str:
        """Folder of an instance."""
        spelled = {name: self._spelled(name, value) for name, value in bindings.items()}
        return instance_name(stem, spelled)


def _expand(
    targets: list[Notebook],
    settings: _Settings,
    grid: _Grid,
    paths: Mapping[str, Path],
    notebook_at: Callable[[Path], Notebook],
) -> dict[str, Instance]:
    """The targets and, following their references, everything they need."""
    instances: dict[str, Instance] = {}
    waiting: list[tuple[Notebook, dict[str, Value]]] = [
        (notebook, bindings) for notebook in targets for bindings in grid.combinations(notebook)
    ]
    while waiting:
        notebook, bindings = waiting.pop()
        name = grid.instance_name(notebook.stem, bindings)
        if name in instances:
            continue
        parameters = settings.values(notebook) | bindings
        needs: set[str] = set()
        requires: set[str] = set()
        reads: dict[str, str] = {}
        for parameter, value in parameters.items():
            if not (isinstance(value, str) and value.startswith("@")):
                continue
            where = f"{notebook.name}.{parameter}"
            reference = read_reference(value, where)
            if reference.optional and reference.notebook not in paths:
                continue
            source = notebook_at(_referenced_path(reference, paths, where))
            _check_record(reference, source, where)
            named = dict(reference.bindings)
            shared = grid.shared(source, bindings)
            bound = {key: shared[key] for key in shared if key not in named}
            bound |= _bound(reference, source, settings)
            needed = grid.instance_name(source.stem, bound)
            needs.add(needed)
            reads[parameter] = needed
            if not reference.optional:
                requires.add(needed)
            waiting.append((source, bound))
        defaults = {parameter.name: parameter.default for parameter in notebook.parameters}
        data = parameters.get("data")
        instances[name] = Instance(
            name=name,
            notebook=notebook,
            bindings=bindings,
            parameters=parameters,
            injected={key: value for key, value in parameters.items() if value != defaults[key]},
            needs=frozenset(needs),
            requires=frozenset(requires),
            reads=reads,
            grid=grid.over(notebook, bindings),
            data=data if isinstance(data, str) and not data.startswith("@") else None,
        )
    return instances


def _referenced_path(reference: Reference, paths: Mapping[str, Path], where: str) -> Path:
    if reference.notebook not in paths:
        raise RunError(
            f"{where}: there is no notebook {reference.notebook!r}"
            f"{nearest(reference.notebook, paths)} There are: {', '.join(paths)}"
        )
    return paths[reference.notebook]


def _check_record(reference: Reference, source: Notebook, where: str) -> None:
    """Refuse a record that no ``record("...")`` of the notebook makes."""
    if reference.record in source.records or reference.record == "decision":
        return
    if not source.computes_names:
        raise RunError(
            f"{where}: {source.name} records no {reference.record!r}"
            f"{nearest(reference.record, source.records)} "
            f"It records: {', '.join(sorted(source.records)) or 'nothing'}"
        )


def _bound(reference: Reference, source: Notebook, settings: _Settings) -> dict[str, Value]:
    """Bindings by which the instance differs from the plain one."""
    plain = settings.values(source)
    bound: dict[str, Value] = {}
    for name, text in reference.bindings:
        value = source.parameter(name, text).accept(text, source.name)
        if value != plain[name]:
            bound[name] = value
    return bound


def _ordered(instances: Mapping[str, Instance]) -> list[str]:
    """Names, each after what it needs; alphabetical where that leaves a choice."""
    sorter = TopologicalSorter({name: sorted(instances[name].needs) for name in sorted(instances)})
    try:
        return list(sorter.static_order())
    except CycleError as error:
        raise RunError(f"references go in a circle: {' -> '.join(error.args[1])}") from error


def _place_data(instance: Instance, caller: Path) -> Instance:
    """Make a data source that lies on disk absolute for the kernel, and short for everyone else."""
    if instance.data is None:
        return instance
    given = instance.data
    real, shown = _real_and_shown(given, caller)
    injected = dict(instance.injected)
    if real != given or "data" in injected:
        injected["data"] = real
    return replace(
        instance,
        bindings=instance.bindings | ({"data": shown} if "data" in instance.bindings else {}),
        parameters=instance.parameters | {"data": shown},
        injected=injected,
        data=shown,
    )


def _place_files(instance: Instance, caller: Path) -> Instance:
    """Make files that parameters name absolute for the kernel, and short for everyone else.

    They need not be there: a registry begins with its first entry.
    """
    real: dict[str, Value] = {}
    shown: dict[str, Value] = {}
    for name, value in instance.injected.items():
        if _names_file(name, value):
            text = str(value)
            real[name] = str((caller / Path(text).expanduser()).resolve())
            shown[name] = _short_path(text)
    if not real:
        return instance
    return replace(
        instance,
        bindings=instance.bindings | {k: v for k, v in shown.items() if k in instance.bindings},
        parameters=instance.parameters | shown,
        injected=instance.injected | real,
    )


def _names_file(name: str, value: Value) -> bool:
    return (
        name.rpartition(".")[2].endswith("_file")
        and isinstance(value, str)
        and bool(value)
        and not value.startswith("@")
    )


def _short_path(given: str) -> str:
    """A path as everyone may see it."""
    return given if not given.startswith(("~", "/")) else Path(given).name


def _real_and_shown(given: str, caller: Path) -> tuple[str, str]:
    """A data source as the kernel gets it, and as everyone else may see it."""
    path = caller / Path(given).expanduser()
    if "://" not in given and path.exists() and not _is_data_set(given):
        return str(path.resolve()), _short_path(given)
    return given, hide_credentials(given)


def _shown_value(name: str, value: Value, caller: Path) -> Value:
    """A parameter that was asked for, as everyone may see it."""
    if not isinstance(value, str):
        return value
    if name.rpartition(".")[2] == "data":
        return _real_and_shown(value, caller)[1]
    if _names_file(name, value):
        return _short_path(value)
    return hide_credentials(value)


def _is_data_set(name: str) -> bool:
    """Whether a bare name means a data set rather than the folder of that name."""
    if "/" in name or "." in name:
        return False
    from journeylab import datasets

    return datasets.find(name) is not None


def _with_fingerprints(
    instances: Mapping[str, Instance], fingerprint: Fingerprint
) -> dict[str, Instance]:
    """Add what each instance's customers come from; refuse to join customers of different data.

    Args:
        instances: Each after what it needs.
        fingerprint: Identity of the data behind a source.

    Raises:
        RunError: A notebook reads records that rest on other data than its own, or on two.
    """
    known: dict[str, str] = {}
    complete: dict[str, Instance] = {}
    origins: dict[str, str | None] = {}
    for name, instance in instances.items():
        # fingerprint -> who brings it, and under which data name
        brought: dict[str, tuple[str, str]] = {}
        own: str | None = None
        if instance.data is not None:
            source = str(instance.injected.get("data", instance.data))
            if source not in known:
                known[source] = fingerprint(source)
            own = known[source]
            brought[own] = (name, instance.data)
        for needed in sorted(instance.needs):
            other = complete[needed].data_fingerprint
            if other is not None:
                brought.setdefault(other, (needed, origins[needed] or "?"))
        if len(brought) > 1:
            (first, first_data), (second, second_data) = list(brought.values())[:2]
            notebook = instances[second].notebook.name
            raise RunError(
                f"{name} would join customers of different data: {first} is on {first_data!r}, "
                f"{second} on {second_data!r}. Run both on the same, for example with "
                f"-p {notebook}.data={first_data}"
            )
        origin = next(iter(brought.items()), None)
        origins[name] = origin[1][1] if origin else None
        complete[name] = replace(instance, data_fingerprint=origin[0] if origin else None)
    return complete
