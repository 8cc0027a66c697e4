"""What is published of real shops: the numbers a simulated one is held against, with sources."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """One number of a real shop.

    Attributes:
        name: What it is, in words.
        value: The number.
        unit: Its unit; ``share`` is 0-1.
        key: Where the same number of a world is found: a metric and an arm, or a ratio of
            ``tallies.shop_sums``, or a quantile.
        numbers: Numbers of the preset that move it most.
    """

    name: str
    value: float
    unit: str
    key: tuple[str, ...]
    numbers: str


ARMS = {"none": "no mail", "coupon_10": "women's mail", "coupon_20": "men's mail"}
"""Arms of the world's test of coupon depth, and those of Hillstrom's experiment they stand for."""
TEST, TEST_DAYS = "coupon_depth", 14
HILLSTROM_SOURCE = "Hillstrom, MineThatData e-mail challenge (2008): 64,000 customers, two weeks"
HILLSTROM: tuple[Published, ...] = (
  *(
    Published(f"{what}, {ARMS[arm]}", value, unit, (metric, arm), base if arm == "none" else own)
    for metric, what, unit, base, own, values in (
        ("visited", "visit", "share", "visits.daily_chance", "visits of the arm",
         (0.1062, 0.1514, 0.1828)),
        ("bought", "purchase", "share", "orders.daily_chance", "effect of the arm",
         (0.00573, 0.00884, 0.01253)),
        ("spend", "spend per head", "currency", "baskets.typical", "effect of the arm",
         (0.65, 1.08, 1.42)),
    )
    for arm, value in zip(ARMS, values, strict=True)
) ,
    Published("spread of spend", 15.0, "currency", ("spread", ""), "baskets.spread"),
)  # fmt: skip

PANEL_SOURCE = "84.51 degrees, The Complete Journey: 2,469 households, 2017"
PANEL: tuple[Published, ...] = (
    Published("days between baskets, middle", 2, "days", ("gap", "0.5"), "orders.regularity"),
    Published("days between baskets, 90th percentile", 12, "days", ("gap", "0.9"),
              "orders.regularity"),
    Published("days between baskets, 99th percentile", 46, "days", ("gap", "0.99"),
              "orders.regularity"),
    Published("baskets a year, 10th percentile", 9, "orders", ("count", "0.1"),
              "people.traits.need_spread"),
    Published("baskets a year, middle", 43, "orders", ("count", "0.5"), "orders.daily_chance"),
    Published("baskets a year, 90th percentile", 137, "orders", ("count", "0.9"),
              "people.traits.need_spread"),
    Published("revenue on a discount", 0.514, "share", ("ratio", "discounted"),
              "baskets.discounted"),
)  # fmt: skip
