"""Lives: a few people of a world, chosen to show how unlike each other they are."""

import pandas as pd

MOST_LIVES = 9
# A leaver is shown only where there is time to see the silence after.
_SILENCE_DAYS = 100
_AVERSE = 1.0
# More orders in a year cannot be told apart in a row.
_READABLE = 30


def choose_lives(
    people: pd.DataFrame, counts: pd.DataFrame, first: str, last: str, lives: int = 7
) -> pd.DataFrame:
    """People who each stand for a kind of life; the same ones each time.

    Args:
        people: From ``Truth.people``.
        counts: From ``tallies.people``.
        first: The data's first day, ISO date.
        last: Their last.
        lives: How many, up to 9; kinds nobody belongs to are passed over.

    Returns:
        ``role`` (in words), ``customer_id``, ``city``, ``orders``, ``joined_on``, ``left_on``
        (missing: a customer still), ``kind``; in the order of the roles.
    """
    each = people.merge(counts, on="customer_id", how="inner")
    begin, end = pd.Timestamp(first), pd.Timestamp(last)
    each = each[each["orders"] <= _READABLE]
    plain = each["kind"] == "customer"
    stays, here = each["left_on"].isna(), each["joined_on"] >= begin
    left = (each["left_on"] >= begin) & (each["left_on"] <= end - pd.Timedelta(days=_SILENCE_DAYS))
    averse = each["touch_aversion"] >= _AVERSE
    twin = each["other_id"].notna()
    roles = [
        ("loyal", plain & stays & ~twin, "orders"),
        ("left, and nobody saw it", plain & left & (each["orders"] >= 3), "orders"),
        (
            "called though averse, left",
            plain & left & averse & (each["calls"] >= 1) & (each["orders"] >= 1),
            "calls",
        ),
        ("coupon hunter", (each["kind"] == "coupon hunter") & stays, "orders"),
        ("came by invitation", plain & each["invited"] & here & (each["orders"] >= 1), "orders"),
        ("one person, two ids", twin & here, "orders"),
        ("never bought", plain & here & stays & (each["orders"] == 0), "touches"),
        ("asked for help, left", plain & left & (each["contacts"] >= 1), "contacts"),
        ("false referral", (each["kind"] == "false referral") & here, "touches"),
    ]
    if not any(fits.any() for _, fits, _ in roles):
        # A world of a few people: whoever is there.
        roles = [("one of few", each["orders"] >= 0, "orders")]
    chosen: list[pd.Series] = []
    for role, fits, most in roles:
        taken = [str(row["customer_id"]) for row in chosen]
        found = each[fits & ~each["customer_id"].isin(taken)]
        if len(found) and len(chosen) < lives:
            order = found.sort_values([most, "customer_id"], ascending=[False, True])
            chosen.append(order.iloc[0].copy())
            chosen[-1]["role"] = role
    columns = ["role", "customer_id", "city", "orders", "joined_on", "left_on", "kind"]
    return pd.DataFrame(chosen, columns=columns).reset_index(drop=True)
