"""Named data: what lies in them to the row and the cent, and what is said where they are not."""

from decimal import Decimal

import pandas as pd
import pytest

from journeylab import datasets
from journeylab.errors import ContractError
from journeylab.tables import fingerprint, open_and_check, open_tables

SHARED = [name for name, one in datasets.DATASETS.items() if one.home == "folder"]


def test_cdnow_has_every_purchase_of_its_customers():
    tables, report = open_and_check("cdnow")
    assert report.to_json() == {
        "orders": {"read": 6919, "accepted": 6919, "quarantined": 0, "reasons": {}}
    }
    assert tables.orders.customer_id.nunique().execute() == 2357


def test_complete_journey_sums_its_lines_to_the_baskets_and_revenue_known_of_it():
    tables = open_tables("complete_journey", ["orders", "customers"])
    orders = tables.orders
    assert orders.count().execute() == 155_848
    assert orders.amount.sum().to_pyarrow().as_py() == Decimal("4596039.58")
    assert tables.customers.count().execute() == 2469
    days = orders.agg(first=orders.business_date.min(), last=orders.business_date.max())
    assert [str(day)[:10] for day in days.to_pandas().iloc[0]] == ["2017-01-01", "2017-12-31"]


def test_online_retail_keeps_every_line_and_refuses_invoices_without_a_customer(shared_data):
    counts = open_and_check("online_retail")[1].to_json()
    assert counts["order_lines"]["read"] == counts["order_lines"]["accepted"] == 386_374
    assert counts["orders"] == {
        "read": 17_256,
        "accepted": 13_546,
        "quarantined": 3_710,
        "reasons": {"missing": 3_710},
    }


@pytest.mark.parametrize(
    ("name", "table", "rows"),
    [
        ("hillstrom", "assignments", 64_000),
        ("cookie_cats", "assignments", 90_189),
        ("telco_churn", "memberships", 7_043),
        ("simple_onlineshop", "events", 32_283),
        ("bank_marketing", "outcomes", 41_188),
    ],
)
def test_the_other_sets_are_taken_in_whole(shared_data, name, table, rows):
    counts = open_and_check(name, [table])[1].to_json()[table]
    assert (counts["read"], counts["accepted"]) == (rows, rows)


def test_hillstrom_says_what_its_publisher_says(shared_data):
    tables = open_tables("hillstrom")
    joined = tables.outcomes.join(tables.assignments, "customer_id")
    means = joined.group_by("variant", "metric").agg(mean=joined.value.mean()).to_pandas()
    visits = means[means["metric"] == "visit"].set_index("variant")["mean"].round(4)
    assert visits.to_dict() == {
        "Mens E-Mail": 0.1828,
        "Womens E-Mail": 0.1514,
        "No E-Mail": 0.1062,
    }


def test_donations_are_cells_and_say_so():
    cells = pd.read_csv(datasets.cells_file("donations"))
    assert (len(cells), cells["weights"].sum()) == (22, 11_104)
    with pytest.raises(ContractError, match="counted cells, not a journey"):
        open_tables("donations")


@pytest.mark.parametrize("name", SHARED)
def test_a_set_that_is_not_here_says_what_it_is_its_terms_and_where_to_get_it(
    name, monkeypatch, tmp_path
):
    monkeypatch.setenv("JOURNEYLAB_DATA", str(tmp_path))
    dataset = datasets.DATASETS[name]
    with pytest.raises(ContractError) as said:
        open_tables(name)
    for part in (dataset.title, dataset.licence, dataset.publisher, "JOURNEYLAB_DATA"):
        assert part in str(said.value)


def test_the_fingerprint_of_a_named_set_is_the_same_every_time():
    assert fingerprint("cdnow") == fingerprint("cdnow")
    assert fingerprint("cdnow") != fingerprint("complete_journey")
