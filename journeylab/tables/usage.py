"""Usage: which columns of the contract's tables an expression rests on, and what becomes of ids."""

from collections.abc import Iterator
from typing import Any

import ibis.expr.operations as ops
import ibis.expr.types as ir

from journeylab.audit import INSIDE, PSEUDONYM, RAW
from journeylab.contract import BY_NAME
from journeylab.pseudonyms import is_personal

# what comes out of these is a number, whatever went in
_COUNTED = (ops.Count, ops.CountDistinct, ops.Sum, ops.Mean, ops.Variance)
_HASHED = (ops.HexDigest, ops.HashBytes, ops.Hash)
# as the intake calls what it has taken in and not copied
_STAGED = "staging_"
_TELLING = (INSIDE, PSEUDONYM, RAW)


def columns_used(expression: ir.Table) -> dict[str, dict[str, str | None]]:
    """Table to column to how its ids are used; None for a column that holds no ids of people.

    A column counts where the answer needs it: in what is given back, in a condition, a join or a
    sum. An id is ``raw`` where it comes into the answer as it is, a ``pseudonym`` where only its
    hash does, and else stays ``inside the engine``.
    """
    used: dict[str, dict[str, str | None]] = {}
    top = expression.op()
    waiting = [(top, name, RAW) for name in top.schema.names]
    seen: set[tuple[Any, str, str]] = set()
    while waiting:
        step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        relation, name, flow = step
        if isinstance(relation, ops.PhysicalTable):
            table = str(relation.name).lower().removeprefix(_STAGED)
            if table in BY_NAME:
                columns = used.setdefault(table, {})
                if is_personal(name):
                    before = columns.get(name) or INSIDE
                    columns[name] = max((flow, before), key=_TELLING.index)
                else:
                    columns[name] = None
            continue
        waiting += _sources(relation, name, flow)
    return used


def _sources(relation: Any, name: str, flow: str) -> Iterator[tuple[Any, str, str]]:
    """What a column of a relation, and the relation itself, are made from."""
    values = dict(relation.values)
    if name in values:
        yield from _fields(values[name], flow)
    else:
        # unions and the like: the same column of each part
        for part in _relations(relation):
            if name in part.schema.names:
                yield part, name, flow
    if isinstance(relation, ops.Distinct):
        for each in relation.parent.schema.names:
            yield relation.parent, each, INSIDE
    for argument, content in zip(relation.__argnames__, relation.__args__, strict=True):
        if argument in ("values", "metrics", "parent", "first", "left", "right", "schema"):
            continue
        for node in _nodes(content):
            if isinstance(node, ops.JoinLink):
                for predicate in node.predicates:
                    yield from _fields(predicate, INSIDE)
            elif isinstance(node, ops.Value):
                yield from _fields(node, INSIDE)


def _fields(value: Any, flow: str) -> Iterator[tuple[Any, str, str]]:
    """Columns of relations that a value is made from, and what becomes of each."""
    waiting = [(value, flow)]
    while waiting:
        node, now = waiting.pop()
        if isinstance(node, ops.Field):
            yield node.rel, node.name, now
            continue
        if isinstance(node, ops.CountStar):
            # rows are counted, and no column is looked at
            continue
        if isinstance(node, ops.Relation):
            # the table of a subquery: only its answer is looked at
            for name in node.schema.names:
                yield node, name, INSIDE
            continue
        if isinstance(node, _COUNTED):
            now = INSIDE
        elif isinstance(node, _HASHED) and now == RAW:
            now = PSEUDONYM
        waiting += [(child, now) for child in node.__children__]


def _relations(relation: Any) -> Iterator[Any]:
    for content in relation.__args__:
        for node in _nodes(content):
            if isinstance(node, ops.Relation):
                yield node


def _nodes(content: Any) -> Iterator[Any]:
    """Nodes in an argument, which may be one, many, or named."""
    if isinstance(content, ops.Node):
        yield content
    elif isinstance(content, dict) or hasattr(content, "values"):
        for item in content.values():
            yield from _nodes(item)
    elif isinstance(content, tuple | list):
        for item in content:
            yield from _nodes(item)
