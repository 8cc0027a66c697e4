"""The contract: which tables and columns make up a journey, as data.

Every column has a type, a meaning and, where it measures something, a unit. Required columns must
be there; optional ones are used when they are; any further column is kept as an attribute of its
table, as text. ``data/README.md`` is written from here (``python -m journeylab.contract``).
"""

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal[
    "id", "text", "money", "number", "integer", "timestamp", "date", "boolean", "choice"
]
Returns = Literal["net", "separate", "reject"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the contract.

    Attributes:
        name: Name in every table JourneyLab opens.
        type: ``id`` and ``text`` are strings, ``money`` DECIMAL(18, 2), ``number`` a double,
            ``integer`` 64 bits, ``timestamp`` UTC, ``choice`` one of ``choices``.
        meaning: What stands in it.
        required: The table cannot be used without it, and no row may leave it empty.
        unit: What one unit of it is, where it measures something.
        low, high: Bounds a value must lie in, both included; ``None`` where there is none.
        choices: What a ``choice`` may be.
    """

    name: str
    type: ColumnType
    meaning: str
    required: bool = False
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableContract:
    """One table of the contract.

    Attributes:
        name: File or table name in a source, without its ending.
        meaning: What one row is.
        columns: In the order they are written.
        key: Columns that name a row: a second row with the same key is refused.
        dated_by: The timestamp from which ``business_date`` is taken; empty without one.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    dated_by: str = ""

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the columns the table cannot do without."""
        return tuple(column.name for column in self.columns if column.required)

    def column(self, name: str) -> Column | None:
        """The column called ``name``; ``None`` for an attribute the contract does not know."""
        return next((column for column in self.columns if column.name == name), None)


def _id(name: str, meaning: str, required: bool = False) -> Column:
    return Column(name, "id", meaning, required)


def _money(name: str, meaning: str, required: bool = False, low: float | None = None) -> Column:
    return Column(name, "money", meaning, required, unit="currency units", low=low)


def _time(name: str, meaning: str, required: bool = False) -> Column:
    return Column(name, "timestamp", meaning, required)


_CUSTOMER = _id("customer_id", "the person", required=True)
_CHANNELS = "sms, voice, chat, push, ads or the source's own name"

TABLES: tuple[TableContract, ...] = (
    TableContract(
        "customers",
        "one person as the shop knows them",
        (
            _CUSTOMER,
            _time("joined_at", "when they first became known"),
            Column("source_channel", "text", "how they were acquired"),
            _id("household_id", "people who live together"),
            _id("group_id", "chat group they belong to"),
            _id("staff_id", "advisor in charge of them"),
            _id("store_id", "store they belong to"),
            Column("time_zone", "text", "IANA name of their time zone"),
        ),
        key=("customer_id",),
        dated_by="joined_at",
    ),
    TableContract(
        "identities",
        "one name under which a person is known somewhere",
        (
            _CUSTOMER,
            Column("id_type", "text", "phone, union_id, member_card, device, ...", required=True),
            _id("id_value", "the name itself", required=True),
        ),
        key=("customer_id", "id_type", "id_value"),
    ),
    TableContract(
        "orders",
        "one purchase, or one return (negative amount)",
        (
            _id("order_id", "the order", required=True),
            _CUSTOMER,
            _time("ordered_at", "when it was placed", required=True),
            _money("amount", "what was paid after discounts", required=True),
            Column("currency", "text", "ISO 4217 code of every amount in the row"),
            _money("discount", "what was taken off", low=0),
            Column("sales_channel", "text", "where it was placed"),
            _id("store_id", "store that sold it"),
            _money("cost", "what the goods cost the shop"),
        ),
        key=("order_id",),
        dated_by="ordered_at",
    ),
    TableContract(
        "order_lines",
        "one article of an order",
        (
            _id("order_id", "the order", required=True),
            Column("line_no", "integer", "position, by file order when absent", True, low=0),
            _id("product_id", "the article"),
            Column("category", "text", "kind of article"),
            Column("quantity", "number", "how many, negative when returned", unit="pieces"),
            _money("amount", "what was paid for the line"),
            _money("discount", "what was taken off the line", low=0),
            _id("customer_id", "the person, when orders are to be summed from their lines"),
            _time("ordered_at", "when, when orders are to be summed from their lines"),
        ),
        key=("order_id", "line_no"),
        dated_by="ordered_at",
    ),
    TableContract(
        "events",
        "something a person did that is not an order",
        (
            _CUSTOMER,
            _time("occurred_at", "when", required=True),
            Column("event", "text", "what: visit, added_to_chat, left_group, ...", required=True),
            Column("channel", "text", "where"),
            _id("group_id", "chat group it happened in"),
            _id("target_id", "what or whom it was about"),
            _id("staff_id", "advisor involved"),
        ),
        dated_by="occurred_at",
    ),
    TableContract(
        "touches",
        "one message, call or advertisement to a person",
        (
            _CUSTOMER,
            _time("touched_at", "when it was sent", required=True),
            Column("channel", "text", _CHANNELS, required=True),
            _id("touch_id", "the touch"),
            _id("campaign_id", "campaign it belongs to"),
            Column("message", "text", "which message or template"),
            Column("arm", "text", "arm of the experiment it belongs to"),
            Column("propensity", "number", "chance with which it was assigned", low=0, high=1),
            _money("cost", "what it cost", low=0),
            Column(
                "status",
                "choice",
                "how far it got",
                choices=("sent", "delivered", "answered", "blocked", "failed"),
            ),
            _id("staff_id", "advisor who sent it"),
        ),
        key=("touch_id",),
        dated_by="touched_at",
    ),
    TableContract(
        "assignments",
        "one unit put into one arm of an experiment",
        (
            _id("experiment_id", "the experiment", required=True),
            _CUSTOMER,
            Column("variant", "text", "arm", required=True),
            _time("assigned_at", "when"),
            _id("cluster_id", "what was randomised, when it is not the person"),
            Column("stratum", "text", "block within which it was randomised"),
            Column(
                "propensity", "number", "chance with which this arm was assigned", low=0, high=1
            ),
        ),
        key=("experiment_id", "customer_id"),
        dated_by="assigned_at",
    ),
    TableContract(
        "outcomes",
        "one measured result of a person, for sources that ship results and no dates",
        (
            _CUSTOMER,
            Column("metric", "text", "what was measured", required=True),
            Column("value", "number", "the result, in the metric's unit", required=True),
            _time("observed_at", "when"),
        ),
        key=("customer_id", "metric", "observed_at"),
        dated_by="observed_at",
    ),
    TableContract(
        "referrals",
        "one person brought by another",
        (
            _id("referrer_id", "who invited", required=True),
            _id("invitee_id", "who came", required=True),
            _time("referred_at", "when", required=True),
        ),
        key=("referrer_id", "invitee_id", "referred_at"),
        dated_by="referred_at",
    ),
    TableContract(
        "points",
        "one change of a points balance",
        (
            _CUSTOMER,
            _time("changed_at", "when", required=True),
            Column("delta", "number", "earned (+) or burnt (-)", required=True, unit="points"),
            Column("reason", "text", "why"),
        ),
        dated_by="changed_at",
    ),
    TableContract(
        "memberships",
        "one stretch of membership or subscription",
        (
            _CUSTOMER,
            _time("started_at", "when it began"),
            _time("ended_at", "when it ended; empty while it runs"),
            Column("duration_days", "number", "how long so far", unit="days", low=0),
            Column("ended", "boolean", "whether it has ended"),
            Column("tier", "text", "level"),
        ),
        key=("customer_id", "started_at"),
        dated_by="started_at",
    ),
    TableContract(
        "feedback",
        "one opinion a person gave",
        (
            _CUSTOMER,
            _time("given_at", "when", required=True),
            Column("score", "number", "on the source's own scale", unit="points"),
            Column("text", "text", "in their own words"),
            Column("channel", "text", "where"),
        ),
        dated_by="given_at",
    ),
    TableContract(
        "service_contacts",
        "one request for help",
        (
            _CUSTOMER,
            _time("opened_at", "when it came in", required=True),
            Column("kind", "text", "what about"),
            _time("closed_at", "when it was settled"),
            Column("status", "text", "how it stands"),
        ),
        dated_by="opened_at",
    ),
    TableContract(
        "consents",
        "one permission of a person, for one purpose",
        (
            _CUSTOMER,
            Column("purpose", "text", "what for: marketing, analytics, ...", required=True),
            Column("channel", "text", "for which channel; empty means all"),
            _time("granted_at", "when it was given; empty means before the data begin"),
            _time("withdrawn_at", "when it was taken back; empty while it holds"),
        ),
        key=("customer_id", "purpose", "channel", "granted_at"),
    ),
    TableContract(
        "channel_costs",
        "what one channel cost in one period",
        (
            Column("channel", "text", _CHANNELS, required=True),
            Column("period", "date", "first day of the period", required=True),
            _money("cost", "what was spent", low=0),
            Column("acquired", "integer", "customers acquired", unit="customers", low=0),
        ),
        key=("channel", "period"),
    ),
)

BY_NAME: dict[str, TableContract] = {table.name: table for table in TABLES}

REASONS: dict[str, str] = {
    "too_few_columns": "the row has fewer fields than the header",
    "too_many_columns": "the row has more fields than the header",
    "broken_quoting": "a quoted field is not closed, or text follows its closing mark",
    "bad_encoding": "the row has bytes that the file's encoding does not know",
    "missing": "a required field is empty",
    "inexact_id": "an id was stored as a fraction or beyond 2^53, so its digits are not certain",
    "unreadable_time": "not a date or time in a form that can be read without guessing",
    "time_out_of_range": "a date before 1900 or after 2199",
    "unreadable_number": "not a number",
    "not_finite": "NaN or infinite",
    "money_out_of_range": "an amount that does not fit DECIMAL(18, 2), or a fraction of a cent",
    "unreadable_choice": "not one of the values the contract allows",
    "unreadable_boolean": "neither yes nor no",
    "out_of_bounds": "outside the bounds the contract sets",
    "negative_amount": "a return, refused by the returns policy 'reject'",
    "exact_duplicate": "the same row again",
    "conflicting_key": "the key of an earlier row with other content",
}


def as_markdown() -> str:
    """The whole contract as Markdown tables, the text of ``data/README.md``."""
    parts = [_INTRODUCTION]
    for table in TABLES:
        key = f" Key: {', '.join(f'`{name}`' for name in table.key)}." if table.key else ""
        parts.append(f"## {table.name}\n\nOne row is {table.meaning}.{key}\n")
        parts.append("| column | type | unit | meaning |\n| --- | --- | --- | --- |")
        for column in table.columns:
            name = f"**{column.name}**" if column.required else column.name
            parts.append(f"| {name} | {_type_text(column)} | {column.unit} | {column.meaning} |")
        parts.append("")
    parts.append("## Why a row is refused\n\n| reason | meaning |\n| --- | --- |")
    parts += [f"| `{code}` | {meaning} |" for code, meaning in REASONS.items()]
    return "\n".join(parts) + "\n"


def _type_text(column: Column) -> str:
    bounds = ""
    if column.choices:
        bounds = ": " + ", ".join(column.choices)
    elif column.low is not None or column.high is not None:
        low = "" if column.low is None else f"{column.low:g}"
        high = "" if column.high is None else f"{column.high:g}"
        bounds = f" [{low}..{high}]"
    return column.type + bounds


_INTRODUCTION = """\
# The data contract

Written from `journeylab/contract.py` by `make contract`; do not edit by hand.

A source is a folder of CSV, CSV.GZ, Parquet or Excel files named after the tables below, a single
orders file, a `.duckdb` file, or a database. Bold columns are required. Bring only the tables you
have: one `orders` table is enough for value and churn. Any further column is kept as an attribute.

Ids are text, to the last digit and leading zero. Money is DECIMAL(18, 2), rounded half up where a
source has more decimals. Timestamps become UTC; a
`business_date` is taken once from the table's main timestamp in one `business_tz`. A folder may
hold a `tables.toml` that maps its own names:

```toml
business_tz = "Asia/Shanghai"   # zone of times without an offset, and of business_date
returns = "net"                 # negative amounts: net, separate or reject

[orders]
file = "订单.csv"                # or a pattern such as "orders/*.parquet"
encoding = "gb18030"            # detected when absent
delimiter = ","                 # detected when absent: comma, semicolon, tab or bar
time_format = "%d/%m/%Y %H:%M"  # only for forms that cannot be read without guessing
unit = "cents"                  # of money columns: "units" (default) or "cents"

[orders.columns]                # contract column = source column
customer_id = "用户编号"
ordered_at = "下单时间"
```
"""

if __name__ == "__main__":
    import sys

    sys.stdout.write(as_markdown())
