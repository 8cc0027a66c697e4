"""Pseudonyms and consent."""

import hashlib
from collections import Counter
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeylab import privacy
from journeylab.errors import ConsentError, ContractError
from journeylab.tables import Tables, connect_duckdb

INSTANT = pa.timestamp("us")
EARLY, LATE = datetime(2024, 1, 1), datetime(2024, 2, 1)
AS_OF = "2024-03-31"


@pytest.fixture(scope="module")
def connection():
    return connect_duckdb(threads=1)


def lay(connection, **content: pa.Table) -> Tables:
    laid = {
        name: connection.create_table(name, table, overwrite=True)
        for name, table in content.items()
    }
    return Tables(**laid, source="tests", business_tz="Asia/Shanghai")


def consents_of(rows) -> pa.Table:
    """Rows of customer, purpose, channel, granted_at, withdrawn_at."""
    types = [pa.string()] * 3 + [INSTANT] * 2
    names = ["customer_id", "purpose", "channel", "granted_at", "withdrawn_at"]
    columns = zip(*rows, strict=True) if rows else [[]] * 5
    return pa.table(dict(zip(names, map(pa.array, columns, types), strict=True)))


def people(*ids: str) -> pa.Table:
    return pa.table({"customer_id": list(ids)})


def ids(table) -> list[str]:
    return sorted(table.to_pyarrow()["customer_id"].to_pylist())


# --- pseudonyms ---------------------------------------------------------------------------------


def pseudonym(identifier: str, key: str) -> str:
    body = hashlib.sha256(f"{key}:{identifier}".encode()).hexdigest()[:26]
    return body + hashlib.sha256(f"journeylab pseudonym:{body}".encode()).hexdigest()[:6]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), min_size=1
    ),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1).filter(str.strip),
)
def test_a_pseudonym_is_the_sha256_of_key_and_id(connection, originals, key):
    tables = lay(connection, customers=people(*originals))
    hidden = privacy.pseudonymise(tables, key).customers.to_pyarrow()["customer_id"].to_pylist()
    assert Counter(hidden) == Counter(pseudonym(original, key) for original in originals)


def test_no_id_of_a_person_is_left_in_any_table_and_joins_still_hold(connection):
    secret = ["00012", "客户甲", "home-1", "导购1", "13800138000", "chat-9", "cluster-3"]
    tables = lay(
        connection,
        customers=pa.table(
            {
                "customer_id": ["00012", "客户甲"],
                "household_id": ["home-1", None],
                "staff_id": ["导购1", None],
                "group_id": ["chat-9", None],
                "store_id": ["store-1", None],
            }
        ),
        orders=pa.table(
            {
                "order_id": ["1"],
                "customer_id": ["客户甲"],
                "amount": pa.array([Decimal("1.00")], pa.decimal128(18, 2)),
            }
        ),
        identities=pa.table(
            {"customer_id": ["00012"], "id_type": ["phone"], "id_value": ["13800138000"]}
        ),
        referrals=pa.table({"referrer_id": ["00012"], "invitee_id": ["客户甲"]}),
        events=pa.table({"customer_id": ["00012"], "event": ["gift"], "target_id": ["客户甲"]}),
        assignments=pa.table({"customer_id": ["00012"], "cluster_id": ["cluster-3"]}),
    )
    hidden = privacy.pseudonymise(tables, "key")
    rows = {
        name: getattr(hidden, name).to_pyarrow().to_pylist()
        for name in ("customers", "orders", "identities", "referrals", "events", "assignments")
    }
    assert not [original for original in secret if original in str(rows)]
    first, second = pseudonym("00012", "key"), pseudonym("客户甲", "key")
    assert [row["customer_id"] for row in rows["customers"]] == [first, second]
    assert rows["customers"][1]["household_id"] is None
    assert rows["customers"][0]["store_id"] == "store-1"
    assert rows["orders"] == [{"order_id": "1", "customer_id": second, "amount": Decimal("1.00")}]
    assert rows["referrals"] == [{"referrer_id": first, "invitee_id": second}]
    assert rows["events"][0]["target_id"] == second
    assert tables.customers.to_pyarrow()["customer_id"].to_pylist() == ["00012", "客户甲"]


def test_the_public_key_gives_the_same_pseudonyms_everywhere(connection):
    tables = privacy.pseudonymise(lay(connection, customers=people("00012")), privacy.PUBLIC_KEY)
    assert ids(tables.customers) == ["4819b5ba9dadfd6bfc93dcc585693439"]


def test_another_key_gives_other_pseudonyms(connection):
    tables = lay(connection, customers=people("00012"))
    one, other = (ids(privacy.pseudonymise(tables, key).customers) for key in ("one", "other"))
    assert one != other


@pytest.mark.parametrize("key", ["", " \n"])
def test_an_empty_key_is_refused(connection, key):
    with pytest.raises(ContractError, match="key for pseudonyms is empty"):
        privacy.pseudonymise(lay(connection, customers=people("a")), key)


# --- consent ------------------------------------------------------------------------------------


def test_consent_holds_from_its_grant_to_its_withdrawal_in_the_business_zone(connection):
    last_second, midnight = datetime(2024, 3, 31, 15, 59, 59), datetime(2024, 3, 31, 16)
    consents = consents_of(
        [
            ("granted", "ads", None, EARLY, None),
            ("always", "ads", None, None, None),
            ("withdrew", "ads", None, EARLY, LATE),
            ("withdrew on the day", "ads", None, EARLY, last_second),
            ("withdraws tomorrow", "ads", None, EARLY, midnight),
            ("granted on the day", "ads", None, last_second, None),
            ("grants tomorrow", "ads", None, midnight, None),
            ("came back", "ads", None, EARLY, LATE),
            ("came back", "ads", None, datetime(2024, 3, 1), None),
            ("withdrew everything", "ads", "sms", EARLY, None),
            ("withdrew everything", "ads", None, None, LATE),
            ("other purpose", "research", None, EARLY, None),
        ]
    )
    everyone = sorted({*consents["customer_id"].to_pylist(), "never asked"})
    tables = lay(connection, consents=consents, customers=people(*everyone))
    allowed = privacy.consented(tables, "ads", AS_OF)
    assert ids(allowed.customers) == [
        "always", "came back", "granted", "granted on the day", "withdraws tomorrow",
    ]  # fmt: skip
    rows = privacy.withheld(tables, "ads", AS_OF).to_pyarrow().to_pylist()
    assert sorted(rows, key=str) == [
        {"table": "customers", "reason": "no_record", "rows": 2},
        {"table": "customers", "reason": "not_yet", "rows": 1},
        {"table": "customers", "reason": "withdrawn", "rows": 3},
    ]


def test_a_touch_needs_consent_for_its_own_channel(connection):
    consents = consents_of(
        [
            ("sms only", "ads", "sms", EARLY, None),
            ("all but sms", "ads", None, EARLY, None),
            ("all but sms", "ads", "sms", None, LATE),
            ("all", "ads", None, EARLY, None),
            ("none", "ads", None, EARLY, LATE),
        ]
    )
    pairs = [
        (who, channel)
        for who in ("sms only", "all but sms", "all", "none", "unknown")
        for channel in ("sms", "voice")
    ]
    touches = pa.table(
        {
            "customer_id": [who for who, _ in pairs],
            "channel": [channel for _, channel in pairs],
            "reason": ["a column of the source's own"] * len(pairs),
        }
    )
    tables = lay(connection, consents=consents, touches=touches)
    allowed = privacy.consented(tables, "ads", AS_OF).touches.to_pyarrow().to_pylist()
    assert sorted((row["customer_id"], row["channel"]) for row in allowed) == [
        ("all", "sms"), ("all", "voice"), ("all but sms", "voice"), ("sms only", "sms"),
    ]  # fmt: skip
    assert {row["reason"] for row in allowed} == {"a column of the source's own"}
    counts = privacy.withheld(tables, "ads", AS_OF).to_pyarrow().to_pylist()
    assert {row["reason"]: row["rows"] for row in counts} == {
        "other_channel": 2,
        "withdrawn": 2,
        "no_record": 2,
    }


def test_lines_follow_their_orders_and_a_referral_needs_both_people(connection):
    tables = lay(
        connection,
        consents=consents_of([("yes", "ads", None, EARLY, None), ("too", "ads", None, None, None)]),
        orders=pa.table({"order_id": ["1", "2"], "customer_id": ["yes", "no"]}),
        order_lines=pa.table({"order_id": ["1", "1", "2", "3"], "line_no": [1, 2, 1, 1]}),
        referrals=pa.table(
            {"referrer_id": ["yes", "yes", "no"], "invitee_id": ["too", "no", "too"]}
        ),
    )
    allowed = privacy.consented(tables, "ads", AS_OF)
    assert allowed.order_lines.to_pyarrow()["order_id"].to_pylist() == ["1", "1"]
    assert allowed.order_lines.columns == ("order_id", "line_no")
    assert allowed.referrals.to_pyarrow().to_pylist() == [
        {"referrer_id": "yes", "invitee_id": "too"}
    ]


def test_outcomes_and_assignments_of_people_who_withdrew_stay(connection):
    consents = consents_of([("a", "ads", None, EARLY, None), ("b", "ads", None, EARLY, LATE)])
    costs = pa.table({"channel": ["sms"]})
    tables = lay(
        connection,
        consents=consents,
        outcomes=people("a", "b", "c"),
        assignments=people("a", "b", "c"),
        customers=people("a", "b", "c"),
        channel_costs=costs,
    )
    allowed = privacy.consented(tables, "ads", AS_OF)
    assert ids(allowed.outcomes) == ids(allowed.assignments) == ["a", "b", "c"]
    assert ids(allowed.consents) == ["a", "b"]
    assert ids(allowed.customers) == ["a"]
    assert allowed.channel_costs.to_pyarrow() == costs


def test_consents_with_only_the_required_columns_have_always_held(connection):
    consents = pa.table({"customer_id": ["a"], "purpose": ["ads"]})
    tables = lay(connection, consents=consents, customers=people("a", "b"))
    assert ids(privacy.consented(tables, "ads", AS_OF).customers) == ["a"]


def test_without_consents_or_anyone_consenting_nothing_goes_on(connection):
    with pytest.raises(ConsentError, match="tests: there is no consents table"):
        privacy.consented(Tables(source="tests"), "ads", AS_OF)
    with pytest.raises(ConsentError, match="there is no consents table"):
        privacy.withheld(Tables(source="tests"), "ads", AS_OF)
    withdrawn = consents_of([("a", "ads", None, EARLY, LATE)])
    tables = lay(connection, consents=withdrawn, customers=people("a"))
    with pytest.raises(ConsentError, match=r"nobody consents to 'adds' on .* rows for 'ads'"):
        privacy.consented(tables, "adds", AS_OF)
    with pytest.raises(ConsentError, match="nobody consents to 'ads' on 2024-03-31"):
        privacy.consented(tables, "ads", AS_OF)
    with pytest.raises(ConsentError, match="no purpose at all"):
        privacy.consented(lay(connection, consents=consents_of([])), "ads", AS_OF)
    with pytest.raises(ContractError, match="as_of must be an ISO date"):
        privacy.consented(tables, "ads", "yesterday")
    with pytest.raises(ContractError, match="no table about people"):
        privacy.withheld(lay(connection, consents=withdrawn), "ads", AS_OF)


moments = st.none() | st.integers(1, 12).map(lambda month: datetime(2024, month, 1))
permission = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from(["ads", "research"]),
    st.sampled_from([None, "sms", "voice"]),
    moments,
    moments,
)


def in_force(rows, who, channel) -> bool:
    """The rule as the docstring of ``consented`` has it."""
    own = [row for row in rows if row[:2] == (who, "ads") and row[2] in (None, channel)]
    end = datetime(2024, 6, 29, 16)
    grants = [row[3] or datetime.min for row in own if not row[3] or row[3] < end]
    withdrawals = [row[4] for row in own if row[4] and row[4] < end]
    return bool(grants) and (not withdrawals or max(grants) > max(withdrawals))


@settings(max_examples=12, deadline=None)
@given(st.lists(permission, max_size=10))
def test_the_rows_let_through_and_the_rows_withheld_are_all_rows(connection, rows):
    pairs = [(who, channel) for who in "abcd" for channel in ("sms", "voice", "push")]
    touches = pa.table({"customer_id": [p[0] for p in pairs], "channel": [p[1] for p in pairs]})
    tables = lay(connection, consents=consents_of(rows), touches=touches, customers=people(*"abcd"))
    agreed = [pair for pair in pairs if in_force(rows, *pair)]
    try:
        allowed = privacy.consented(tables, "ads", "2024-06-29")
    except ConsentError:
        assert agreed == []
        return
    got = allowed.touches.to_pyarrow().to_pylist()
    assert sorted((row["customer_id"], row["channel"]) for row in got) == sorted(agreed)
    assert ids(allowed.customers) == sorted({who for who, _ in agreed})
    withheld = privacy.withheld(tables, "ads", "2024-06-29").to_pyarrow().to_pylist()
    counts = Counter()
    for row in withheld:
        counts[row["table"]] += row["rows"]
    assert counts["touches"] == len(pairs) - len(agreed)
    assert counts["customers"] == 4 - len({who for who, _ in agreed})


def test_the_project_key_comes_from_the_environment_and_else_is_the_public_one(monkeypatch):
    monkeypatch.delenv(privacy.KEY_VARIABLE, raising=False)
    assert privacy.project_key() == privacy.PUBLIC_KEY
    monkeypatch.setenv(privacy.KEY_VARIABLE, "a key of our own")
    assert privacy.project_key() == "a key of our own"
