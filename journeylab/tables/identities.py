"""One person, one customer: merging the names under which the same person is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

MERGING = ("phone", "union_id", "member_card")
LARGEST_PLAUSIBLE = 10


@dataclass(frozen=True, slots=True)
class Merges:
    """What resolving identities did.

    Attributes:
        merged_on: Identity types that join two customers; a shared device or household does not.
        customers: Customer ids that were folded into another.
        people: People they were folded into.
        largest: Most customer ids found to be one person.
        implausible: People made of more than ``LARGEST_PLAUSIBLE`` ids, likely a shared or
            default number; worth a look before the merge is believed.
        mapping: ``customer_id`` -> the id that stands for the person, for merged ids only.
        repeated: Rows by table whose key repeats an earlier row's once ids are merged, such as one
            person in two arms of a test. They are kept: which one holds is not for the intake.
    """

    merged_on: tuple[str, ...]
    customers: int
    people: int
    largest: int
    implausible: int
    mapping: Mapping[str, str]
    repeated: Mapping[str, int] = field(default_factory=dict)


def find_merges(identities: ir.Table, merged_on: Sequence[str] = MERGING) -> Merges:
    """Customers who share a phone, union id or member card, as people.

    The smallest id in byte order stands for the person, so that the answer depends on neither the
    order of rows nor the engine. Only shared values come to the driver.
    """
    kind = identities.id_type.strip().lower()
    kept = identities.mutate(id_type=kind)
    kept = kept.filter(kept.id_type.isin([kind.lower() for kind in merged_on]))
    shared = kept.group_by("id_type", "id_value").agg(people=kept.customer_id.nunique())
    pairs = (
        kept.semi_join(shared.filter(shared.people > 1), ["id_type", "id_value"])
        .select("id_type", "id_value", "customer_id")
        .distinct()
        .to_pyarrow()
    )
    ids, who = np.unique(pairs["customer_id"].to_numpy(zero_copy_only=False), return_inverse=True)
    if not len(ids):
        return Merges(tuple(merged_on), 0, 0, 0, 0, {})
    names = pa.StructArray.from_arrays(
        [pairs["id_type"].combine_chunks(), pairs["id_value"].combine_chunks()], ["type", "value"]
    )
    values = names.cast(names.type).to_pylist()
    number: dict[tuple[str, str], int] = {}
    what = np.array([number.setdefault((v["type"], v["value"]), len(number)) for v in values])
    size = len(ids) + len(number)
    links = coo_array((np.ones(len(who), bool), (who, len(ids) + what)), shape=(size, size))
    _, group = connected_components(links, directed=False)
    of_ids = group[: len(ids)]
    order = np.lexsort((np.arange(len(ids)), of_ids))
    first = np.r_[True, np.diff(of_ids[order]) > 0]
    stands_for = np.empty(len(ids), dtype=int)
    stands_for[order] = np.maximum.accumulate(np.where(first, np.arange(len(ids)), 0))
    stands_for = order[stands_for]
    mapping = {
        str(ids[place]): str(ids[representative])
        for place, representative in enumerate(stands_for)
        if place != representative
    }
    sizes = np.bincount(of_ids)
    return Merges(
        tuple(merged_on),
        len(mapping),
        len(set(mapping.values())),
        int(sizes.max()),
        int((sizes > LARGEST_PLAUSIBLE).sum()),
        mapping,
    )


def apply_merges(table: ir.Table, merges: Merges, columns: Sequence[str]) -> ir.Table:
    """The table with merged ids replaced in the columns that name a person."""
    pairs = pa.table(
        {
            "_from": pa.array(list(merges.mapping), pa.string()),
            "_to": pa.array(list(merges.mapping.values()), pa.string()),
        }
    )
    mapping = ibis.memtable(pairs)
    names = table.columns
    for column in columns:
        view = mapping.view()
        joined = table.left_join(view, table[column] == view["_from"])
        person = ibis.coalesce(joined["_to"], joined[column])
        table = joined.select(**{n: person if n == column else joined[n] for n in names})
    return table


def count_repeated(table: ir.Table, key: Sequence[str]) -> int:
    """Rows of a merged table whose key an earlier row already has."""
    distinct = table.select(*key).distinct()
    return int(table.count().execute()) - int(distinct.count().execute())
