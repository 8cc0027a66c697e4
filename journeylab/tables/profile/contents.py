"""What a source holds: refusals, spans, keys, links between tables, and what is missing."""

import ibis
import ibis.expr.types as ir
import pandas as pd

from journeylab.contract import BY_NAME, REASONS, TABLES
from journeylab.tables.engine import collect
from journeylab.tables.opened import Tables
from journeylab.tables.opening import IntakeReport

_PEOPLE = ("customer_id", "referrer_id", "invitee_id")


def present(tables: Tables) -> dict[str, ir.Table]:
    """The contract's tables that were opened, by name, in the contract's order."""
    there = {table.name: getattr(tables, table.name) for table in TABLES}
    return {name: table for name, table in there.items() if table is not None}


def intake_summary(report: IntakeReport) -> pd.DataFrame:
    """Rows read, accepted and refused.

    Returns:
        One row per file: ``table, file, read, accepted, quarantined`` (rows), ``share`` (0-1 of
        those read), ``reasons`` (code and rows). ``file`` says ``summed from order_lines`` where
        a table was made from another.
    """
    summary = report.summary()
    made = (summary["table"] == "orders") & (summary["file"] == "order_lines")
    summary["file"] = summary["file"].mask(made, "summed from order_lines")
    share = summary["quarantined"] / summary["read"].where(summary["read"] > 0)
    summary.insert(5, "share", share.astype(float).fillna(0.0))
    return summary.assign(share=summary["share"].round(4))


def refusals(report: IntakeReport) -> pd.DataFrame:
    """Refused rows by reason.

    Returns:
        ``table, reason, meaning, rows``, most rows first; empty where nothing was refused.
    """
    rows = [
        (table, code, REASONS.get(code, ""), count)
        for table, counts in report.to_json().items()
        for code, count in counts["reasons"].items()
    ]
    frame = pd.DataFrame(rows, columns=["table", "reason", "meaning", "rows"])
    order = ["rows", "table", "reason"]
    return frame.sort_values(order, ascending=[False, True, True], ignore_index=True)


def refused_lines(report: IntakeReport, most: int = 5) -> pd.DataFrame:
    """Where to look for the first refused rows.

    The raw text stays behind: it may hold names and numbers of people, and pages travel.

    Returns:
        ``table, file, line, reason, column``: at most ``most`` rows per table and reason.
    """
    where = report.quarantine.groupby(["table", "reason"], sort=False).head(most)
    return where[["table", "file", "line", "reason", "column"]].reset_index(drop=True)


def spans(tables: Tables) -> pd.DataFrame:
    """How much there is of each table, of how many customers, and from when to when.

    Returns:
        One row per table: ``table``, ``rows``, ``customers`` (distinct; missing where the table
        names none), ``first``, ``last`` (business dates), ``days`` (from first to last, both
        counted), ``days_with_rows``. Dates are missing for tables without one.
    """
    rows = []
    for name, table in present(tables).items():
        wanted: dict[str, ir.Value] = {"rows": table.count()}
        if "customer_id" in table.columns:
            wanted["customers"] = table.customer_id.nunique()
        if "business_date" in table.columns:
            day = table.business_date
            wanted |= {"first": day.min(), "last": day.max(), "days_with_rows": day.nunique()}
        rows.append({"table": name, **collect(table.agg(**wanted)).iloc[0].to_dict()})
    columns = ["table", "rows", "customers", "first", "last", "days_with_rows"]
    frame = pd.DataFrame(rows, columns=columns)
    for column in ("first", "last"):
        frame[column] = pd.to_datetime(frame[column]).astype("datetime64[ns]")
    frame.insert(5, "days", (frame["last"] - frame["first"]).dt.days + 1)
    counts = ["rows", "customers", "days", "days_with_rows"]
    frame[counts] = frame[counts].astype("Float64").astype("Int64")
    frame.loc[frame["first"].isna(), "days_with_rows"] = pd.NA
    return frame


def keys(tables: Tables) -> pd.DataFrame:
    """Whether a table's key names its rows, after refusals and merges of identities.

    Intake refuses a second row with a key; that a key repeats here means that customers who were
    merged into one had a row each, e.g. in two arms of an experiment. The identities themselves
    are left out: there a merge is what was asked for.

    Returns:
        One row per table whose key columns are all there: ``table``, ``key``, ``rows`` (with a
        whole key), ``distinct``, ``repeated`` (rows beyond the first of their key),
        ``incomplete`` (rows with part of the key missing).
    """
    rows = []
    for name, table in present(tables).items():
        key = [column for column in BY_NAME[name].key if column in table.columns]
        if not key or len(key) < len(BY_NAME[name].key) or name == "identities":
            continue
        whole = table.drop_null(key).select(key)
        counted = whole.agg(rows=whole.count())
        distinct = whole.distinct()
        all_rows = table.agg(rows=table.count())
        here, apart, total = (
            int(collect(one)["rows"].iloc[0])
            for one in (counted, distinct.agg(rows=distinct.count()), all_rows)
        )
        rows.append((name, ", ".join(key), here, apart, here - apart, total - here))
    columns = ["table", "key", "rows", "distinct", "repeated", "incomplete"]
    return pd.DataFrame(rows, columns=columns)


def links(tables: Tables) -> pd.DataFrame:
    """Rows that name a customer or an order which is not there.

    Returns:
        One row per link between two tables that are there: ``table``, ``column``, ``refers_to``,
        ``rows`` (that name one), ``unmatched`` (rows),
        ``share`` (0-1, four digits).
    """
    there = present(tables)
    wanted = []
    if "customers" in there:
        wanted += [
            (name, column, "customers", "customer_id")
            for name, table in there.items()
            for column in _PEOPLE
            if name != "customers" and column in table.columns
        ]
    if "orders" in there and "order_lines" in there:
        wanted.append(("order_lines", "order_id", "orders", "order_id"))
        wanted.append(("orders", "order_id", "order_lines", "order_id"))
    rows = []
    for name, column, other, key in wanted:
        named = there[name].drop_null([column]).select(_id=column)
        known = there[other].select(_id=key).distinct()
        lost = named.anti_join(known, "_id")
        count = int(collect(named.agg(rows=named.count()))["rows"].iloc[0])
        unmatched = int(collect(lost.agg(rows=lost.count()))["rows"].iloc[0])
        rows.append((name, column, other, count, unmatched, round(unmatched / max(count, 1), 4)))
    columns = ["table", "column", "refers_to", "rows", "unmatched", "share"]
    return pd.DataFrame(rows, columns=columns)


def missingness(tables: Tables) -> pd.DataFrame:
    """Share of empty values of each column, the emptiest first within a table.

    Returns:
        ``table``, ``column``, ``kind`` (``required``, ``optional`` or ``attribute``, a column the
        contract does not know), ``rows``, ``missing`` (rows),
        ``share`` (0-1, four digits). Empty text and NaN count as missing.
    """
    parts = []
    for name, table in present(tables).items():
        columns = [column for column in table.columns if column != "business_date"]
        # numbered, because an attribute may be called anything
        empty = {f"c{at}": _is_empty(table[column]).sum() for at, column in enumerate(columns)}
        counts = collect(table.agg(rows=table.count(), **empty)).iloc[0]
        total = int(counts["rows"])
        missing = [int(counts[f"c{at}"]) if total else 0 for at in range(len(columns))]
        part = pd.DataFrame({"table": name, "column": columns, "rows": total, "missing": missing})
        part.insert(2, "kind", [_kind(name, column) for column in columns])
        part["share"] = (part["missing"] / max(total, 1)).round(4)
        parts.append(part.sort_values("share", ascending=False, kind="stable"))
    empty_frame = pd.DataFrame(columns=["table", "column", "kind", "rows", "missing", "share"])
    return pd.concat(parts, ignore_index=True) if parts else empty_frame


def _is_empty(column: ir.Column) -> ir.BooleanColumn:
    kind = column.type()
    absent = column.isnull()  # noqa: PD003  Ibis knows no isna
    if kind.is_string():
        return absent | (column == "")
    if kind.is_floating():
        return absent | column.isnan()
    return absent


def _kind(table: str, name: str) -> str:
    known = BY_NAME[table].column(name)
    if known is None:
        return "attribute"
    return "required" if known.required else "optional"


def arms(tables: Tables) -> pd.DataFrame:
    """Arms of experiments, by which the effect of a touch can be told.

    Returns:
        One row per arm: ``table`` (``assignments`` or ``touches``), ``experiment`` (experiment or
        campaign; empty where touches name none), ``arm``, ``customers``.
    """
    parts = []
    if tables.assignments is not None:
        own = tables.assignments
        parts.append(("assignments", own, own.experiment_id, own.variant))
    if tables.touches is not None and "arm" in tables.touches.columns:
        own = tables.touches
        campaign = own.campaign_id if "campaign_id" in own.columns else ibis.literal("")
        parts.append(("touches", own.drop_null(["arm"]), campaign, own.arm))
    frames = []
    for name, table, experiment, arm in parts:
        grouped = table.group_by(experiment=experiment.fill_null(""), arm=arm)
        counted = collect(grouped.agg(customers=table.customer_id.nunique()))
        counted.insert(0, "table", name)
        frames.append(counted)
    empty = pd.DataFrame(columns=["table", "experiment", "arm", "customers"])
    return pd.concat(frames, ignore_index=True) if frames else empty


def currencies(tables: Tables) -> list[str]:
    """Currencies of the orders, at most 20 of them in byte order; empty where they name none."""
    if tables.orders is None or "currency" not in tables.orders.columns:
        return []
    own = tables.orders
    codes = own.drop_null(["currency"]).select("currency").distinct().order_by("currency")
    return [str(code) for code in collect(codes.limit(20))["currency"]]
