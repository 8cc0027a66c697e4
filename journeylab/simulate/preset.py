"""Presets: what a world is made of, as a readable TOML file, checked value by value."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from datetime import date
from difflib import get_close_matches
from functools import cache
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints
from zoneinfo import available_timezones

from journeylab.errors import ContractError

FOLDER = Path(__file__).resolve().parent / "presets"
TRAITS = ("need", "spend", "price_sensitivity", "touch_aversion", "sociability")
LONGEST_GAP = 120
"""Days after which the time since the last order no longer matters: the last knot may lie here."""
MOST_CHANNELS = 8
MOST_LINES = 8
MOST_ARMS = 8


def _number(meaning: str, low: float, high: float, default: Any = ...) -> Any:
    metadata = {"meaning": meaning, "low": low, "high": high}
    if default is ...:
        return field(metadata=metadata)
    if isinstance(default, list | tuple | dict):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _of(meaning: str, default: Any = ...) -> Any:
    if default is ...:
        return field(metadata={"meaning": meaning})
    return field(default=default, metadata={"meaning": meaning})


def _share(meaning: str, default: Any = ...) -> Any:
    return _number(meaning, 0.0, 1.0, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """How people differ in what nobody sees: spreads, and correlations between the five traits."""

    need_spread: float = _number("log standard deviation of the daily chance of an order", 0, 4)
    spend_spread: float = _number("log standard deviation of what a person's basket holds", 0, 3)
    correlations: dict[str, float] = _number(
        "correlation of two traits, written 'need spend'", -0.95, 0.95, {}
    )
    shown: float = _share("how much of a trait an observed attribute shows (squared correlation)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleOf:
    """Who the people are."""

    traits: Traits
    existing: float = _share("share who joined before the data begin")
    existing_days: int = _number("longest time such a person was there before, days", 1, 3650)
    existing_buyers: float = _share("share of them who had bought")
    existing_gone: float = _share("share of them who had already left")
    arrival_growth: float = _number("arrivals at the end against the beginning, minus 1", -0.9, 9)
    duplicates: float = _share("share of people known under two customer ids")
    coupon_hunters: float = _share("share who hardly buy without a coupon")
    staff: float = _share("share who are staff and buy for themselves")
    rings: float = _share("share of communities that hold a ring of false referrals")
    cities: dict[str, float] = _number("weight of each city", 0, 1e6)
    time_zones: dict[str, str] = _of("zone of a city, where it is not the shop's")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOf:
    """One way in which people are acquired."""

    name: str = _of("what it is called")
    share: float = _share("share of people who come this way")
    cost: float = _number("what one person costs, currency units", 0, 1e5)
    need: float = _number("their daily chance of an order against the average", 0, 100)
    onboarding: float = _number("their odds of an onboarding step against the average", 0, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One onboarding step and how long it takes."""

    name: str = _of("the event it leaves")
    chance: float = _share("share of those who did the step before")
    typical_days: float = _number("median time since the step before, days", 0.001, 365)
    waiting: Literal["weibull", "lognormal"] = _of("kind of waiting time")
    spread: float = _number("Weibull shape, or log standard deviation", 0.05, 10)
    skipped: float = _share("share who pass it by and go on", 0.0)
    repeated: float = _share("share who do it twice", 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """When people buy."""

    daily_chance: float = _number("chance of an order on an ordinary day, median person", 0, 0.9)
    regularity: list[list[float]] = _number(
        f"[days since the last order, factor] up to day {LONGEST_GAP}; constant beyond", 0, 1000
    )
    first_order: list[list[float]] = _number(
        f"[days since joining, factor] before the first order, up to day {LONGEST_GAP}", 0, 1000
    )
    onboarded: float = _number("factor on the first order once all steps are done", 0, 100)
    again_same_day: float = _share("chance of one more order on a day with one, up to four")
    hours: list[float] = _number("weight of each hour of the day, 24 numbers", 0, 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baskets:
    """What an order holds, in currency units before discounts."""

    typical: float = _number("median basket of the median person", 0.01, 1e6)
    spread: float = _number("log standard deviation from basket to basket", 0, 3)
    large: float = _share("share of baskets that are large")
    large_factor: float = _number("how much larger", 1, 100)
    least: float = _number("smallest basket", 0.01, 1e6)
    most: float = _number("largest basket", 0.01, 1e7)
    lines: list[float] = _number("weight of 1, 2, 3, ... lines", 0, 1e6)
    categories: dict[str, float] = _number("weight of each category", 0, 1e6)
    discounted: float = _share("share of orders on a discount, average person")
    sensitivity: float = _number(
        "by how much the log odds of it rise with price sensitivity", -5, 5
    )
    depths: list[list[float]] = _number("[share taken off, weight]", 0, 1e6)
    goods: float = _number("what goods cost the shop, share of the price before discounts", 0, 1)
    refunded: float = _share("share of orders sent back")
    refunded_after_failure: float = _share("the same after a service failure")
    refund_days: int = _number("latest day a refund comes, days after the order", 1, 90)
    resale: float = _share("share of the goods' cost that a return gives back")


@dataclass(frozen=True, slots=True, kw_only=True)
class Festival:
    """Some days on which everybody buys more, and what they take from the days around."""

    name: str = _of("what it is called")
    day: str = _of("'11-11', or 'spring' and 'mid_autumn' by the lunar calendar")
    days: int = _number("how long it lasts, days", 1, 60)
    lift: float = _number("factor on its days", 0, 100)
    waiting_days: int = _number("days before it on which people wait", 0, 60, 0)
    waiting: float = _number("factor on those days", 0, 1, 1.0)
    sated_days: int = _number("days after it on which people have enough", 0, 90, 0)
    sated: float = _number("factor on those days", 0, 1, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """How the market moves, the same for everybody."""

    months: list[float] = _number("factor of each month, 12 numbers", 0, 100)
    weekdays: list[float] = _number("factor of Monday to Sunday, 7 numbers", 0, 100)
    yearly_drift: float = _number("growth of the market in a year", -0.95, 10)
    festivals: tuple[Festival, ...] = _of("festivals")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """How people leave, which nobody sees."""

    daily_chance: float = _number("chance to leave on a day, long-standing customer", 0, 0.5)
    by_age: list[list[float]] = _number("[days since joining, factor]", 0, 1e4)
    after_failure: float = _number("factor while a service failure is remembered", 0, 100)
    failure: float = _share("chance that an order goes wrong")
    failure_days: float = _number("how long that is remembered on average, days", 1, 365)
    patience: float = _number("recent touches that do no harm", 0, 100)
    annoyance: float = _number("log factor of every recent touch beyond that", 0, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """Visits without an order."""

    daily_chance: float = _number("chance of a visit on an ordinary day, median person", 0, 0.9)
    need_power: float = _number("how strongly visits follow a person's need for orders", 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOf:
    """One channel the shop owns, and what a message on it does."""

    name: str = _of("sms, voice, chat, push, ads or another name")
    cost: float = _number("of one message, currency units", 0, 1000)
    granted: float = _share("share of people who allow it when they join")
    reach: float = _share("share of messages that reach the average person")
    answered: float = _share("share of those reached who answer")
    receipts: bool = _of("whether the shop learns if it was delivered")
    effect: float = _number("log factor on the chance of an order, average person", -3, 3)
    effect_spread: float = _number("standard deviation of that from person to person", 0, 3)
    by_price_sensitivity: float = _number("added to it per unit of price sensitivity", -3, 3)
    by_touch_aversion: float = _number("added to it per unit of touch aversion", -3, 3)
    visits: float = _number("its log factor on visits, as a multiple of that on orders", -5, 5)
    fade_days: float = _number("days until half the effect is left", 0.1, 60)
    weight: float = _number("how much it adds to recent touches", 0, 10)
    opt_out: float = _share("chance that a person reached closes the channel")
    opt_out_by_aversion: float = _number("log factor of that per unit of touch aversion", 0, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Touching:
    """What recent touches do, for all channels."""

    load_days: float = _number("days until half the memory of a touch is gone", 0.5, 60)
    fatigue: float = _number("log factor on a touch's effect per recent touch", 0, 3)
    opt_out_fatigue: float = _number("log factor on opting out per recent touch", 0, 3)
    spill_over: float = _number(
        "factor added to orders when everybody earlier in the chat group is messaged there", 0, 10
    )
    spill_over_channel: str = _of("the channel that is talked about")
    spill_over_days: float = _number("days until half of that is left", 0.1, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Some weeks of touches: targeted by habit, or randomised with known chances."""

    kind: Literal["targeted", "randomised"] = _of("how people are chosen")
    first_week: int = _number("first week, counted from 0", 0, 10_000)
    last_week: int = _number("last week, included", 0, 10_000)
    arms: dict[str, float] = _number("weight of each channel (targeted), chance of each arm", 0, 1)
    arms_recent: dict[str, float] = _number(
        "randomised: the chances for those who bought in the last four weeks", 0, 1, {}
    )
    level: float = _number("targeted: log odds of a touch in a week", -20, 20, 0.0)
    recent: float = _number("targeted: added to that for those who bought of late", -20, 20, 0.0)
    need: float = _number("targeted: added per unit of a need that advisors sense", -20, 20, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One arm of a test."""

    name: str = _of("what it is called")
    share: float = _share("share of the audience")
    effect: float = _number("log factor on the chance of an order", -3, 3, 0.0)
    visits: float = _number("log factor on the chance of a visit", -3, 3, 0.0)
    coupon: float = _number("share taken off every order while the test runs", 0, 0.9, 0.0)
    by_price_sensitivity: float = _number("added to the effect per unit of it", -3, 3, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One test; the shop sends no touches of its own while it runs."""

    __test__ = False  # not a test of pytest's

    name: str = _of("its id")
    unit: Literal["customer", "group"] = _of("what is randomised")
    first_week: int = _number("first week, counted from 0", 0, 10_000)
    days: int = _number("how long it runs, days", 1, 364)
    arms: tuple[Arm, ...] = _of("its arms, the first is the control")
    audience: float = _share("share of those who may take part", 1.0)
    quiet_days: int = _number("only those without an order for so many days", 0, 3650, 0)
    novelty: float = _number("share added to the effect at the start", -1, 10, 0.0)
    novelty_days: float = _number("days until half of that is gone", 0.5, 365, 7.0)
    lost: float = _share(
        "share of Android users missing from the log in all arms but the first", 0.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What else a shop records: referrals, points, tiers, opinions, requests for help."""

    referral: float = _share("chance that an order is followed by an invitation, average person")
    referral_days: float = _number("median days until the invited join", 0.1, 365)
    feedback: float = _share("share of orders with an opinion")
    contact: float = _share("share of orders with a request for help, none gone wrong")
    contact_after_failure: float = _share("the same after a service failure")
    points_per_unit: float = _number("points earned per currency unit", 0, 100)
    points_burnt: float = _share("share of orders on which points are used")
    tiers: dict[str, float] = _number("spend in a year that reaches a tier, currency units", 0, 1e7)
    analytics: float = _share("share who allow their data to be analysed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A whole world as data; ``read_preset`` makes one from TOML."""

    title: str = _of("one line")
    start: date = _of("first day, a Monday")
    weeks: int = _number("how long the data run, weeks", 1, 520)
    business_tz: str = _of("zone of the shop's days")
    currency: str = _of("ISO 4217 code")
    people: PeopleOf = _of("who the people are")
    sources: tuple[SourceOf, ...] = _of("ways in which people are acquired")
    steps: tuple[Step, ...] = _of("onboarding steps, in order")
    orders: Orders = _of("when people buy")
    baskets: Baskets = _of("what they buy")
    calendar: Calendar = _of("how the market moves")
    leaving: Leaving = _of("how people leave")
    visits: Visits = _of("visits without an order")
    channels: tuple[ChannelOf, ...] = _of("channels")
    touching: Touching = _of("what recent touches do")
    stretches: tuple[Stretch, ...] = _of("weeks of touches")
    tests: tuple[Test, ...] = _of("tests")
    around: Around = _of("what else is recorded")

    @property
    def days(self) -> int:
        """Length of the data in days."""
        return 7 * self.weeks

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels, in the order of their codes."""
        return tuple(channel.name for channel in self.channels)


def preset_names() -> tuple[str, ...]:
    """Names of the presets that come with the kit."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def read_preset(preset: str | Path) -> Preset:
    """A preset by name, or from a TOML file.

    Raises:
        ContractError: There is no such preset or file, or a key is unknown, missing or has an
            impossible value; the message names it and its bounds.
    """
    return parse_preset(preset_text(preset))


def preset_text(preset: str | Path) -> str:
    """The TOML text of a preset.

    Raises:
        ContractError: There is no such preset or file.
    """
    path = Path(preset)
    if str(preset) in preset_names():
        path = FOLDER / f"{preset}.toml"
    elif path.suffix != ".toml" or not path.is_file():
        near = get_close_matches(str(preset), preset_names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ContractError(
            f"there is no preset {str(preset)!r}{hint}; there are {', '.join(preset_names())}; "
            "or give the path of a .toml file"
        )
    return path.read_text(encoding="utf-8")


@cache
def parse_preset(text: str) -> Preset:
    """A preset from TOML text.

    Raises:
        ContractError: As ``read_preset``; all faults are listed.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"the preset is not TOML: {error}") from None
    faults: list[str] = []
    preset = _build(Preset, content, "", faults)
    if not faults:
        faults += _inconsistencies(preset)
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ContractError(f"the preset has {count}: " + "; ".join(faults))
    assert isinstance(preset, Preset)
    return preset


def _build(kind: type[Any], content: Any, place: str, faults: list[str]) -> Any:
    """An instance of dataclass ``kind`` from a TOML table; faults are added to the list."""
    if not isinstance(content, Mapping):
        faults.append(f"{place or 'the file'} must be a table")
        return None
    hints, known = get_type_hints(kind), {item.name: item for item in fields(kind)}
    for name in content:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            faults.append(f"unknown {place}{name}{hint}")
    values = {}
    for name, item in known.items():
        if name in content:
            values[name] = _value(hints[name], content[name], f"{place}{name}", item, faults)
        elif not _has_default(item):
            faults.append(f"{place}{name} is missing ({item.metadata.get('meaning', 'a table')})")
    try:
        return kind(**values)
    except TypeError:  # something required is missing, and already among the faults
        return None


def _has_default(item: "Field[Any]") -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


def _value(hint: Any, value: Any, place: str, item: "Field[Any]", faults: list[str]) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return _build(hint, value, f"{place}.", faults)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, list):
            faults.append(f"{place} must be a list of tables")
            return ()
        return tuple(
            _build(arguments[0], entry, f"{place}[{number}].", faults)
            for number, entry in enumerate(value)
        )
    if origin is Literal:
        if value not in arguments:
            faults.append(f"{place} = {value!r} must be one of {', '.join(map(str, arguments))}")
        return value
    if origin is dict:
        if not isinstance(value, Mapping):
            faults.append(f"{place} must be a table")
            return {}
        return {
            key: _value(arguments[1], entry, f"{place}.{key}", item, faults)
            for key, entry in value.items()
        }
    if origin is list:
        if not isinstance(value, list):
            faults.append(f"{place} must be a list")
            return []
        return [
            _value(arguments[0], entry, f"{place}[{number}]", item, faults)
            for number, entry in enumerate(value)
        ]
    if isinstance(hint, UnionType):
        raise TypeError(f"{place}: a preset has no optional values")
    return _leaf(hint, value, place, item, faults)


def _leaf(hint: Any, value: Any, place: str, item: "Field[Any]", faults: list[str]) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint:
        words = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
        faults.append(f"{place} = {value!r} must be {words.get(hint, 'a date like 2025-01-06')}")
        return value
    low, high = item.metadata.get("low"), item.metadata.get("high")
    if low is not None and (not isfinite(value) or not low <= value <= high):
        faults.append(
            f"{place} = {value!r} must lie in [{low:g}, {high:g}] ({item.metadata['meaning']})"
        )
    return value


def _inconsistencies(preset: Preset) -> list[str]:
    """What no single bound can say."""
    faults: list[str] = []
    say = faults.append
    if preset.start.weekday() != 0:
        say(f"start = {preset.start} must be a Monday")
    if preset.business_tz not in available_timezones():
        say(f"business_tz = {preset.business_tz!r} is no IANA zone")
    cities = preset.people.cities
    for city, zone in preset.people.time_zones.items():
        if zone not in available_timezones():
            say(f"people.time_zones.{city} = {zone!r} is no IANA zone")
        if city not in cities:
            say(f"people.time_zones.{city} is no city of people.cities")
    _weights(cities, "people.cities", faults)
    for pair in preset.people.traits.correlations:
        names = pair.split()
        if len(names) != 2 or names[0] == names[1] or not set(names) <= set(TRAITS):
            say(
                f"people.traits.correlations {pair!r} must be two of {', '.join(TRAITS)}, "
                "with a blank between"
            )
    for name, length in (("orders.hours", 24), ("calendar.months", 12), ("calendar.weekdays", 7)):
        room, key = name.split(".")
        values = getattr(getattr(preset, room), key)
        if len(values) != length:
            say(f"{name} must have {length} numbers; it has {len(values)}")
    _weights(dict(enumerate(preset.orders.hours)), "orders.hours", faults)
    _weights(dict(enumerate(preset.baskets.lines)), "baskets.lines", faults)
    if len(preset.baskets.lines) > MOST_LINES:
        say(f"baskets.lines has {len(preset.baskets.lines)} weights; at most {MOST_LINES}")
    _weights(preset.baskets.categories, "baskets.categories", faults)
    _knots(preset.orders.regularity, "orders.regularity", faults, LONGEST_GAP)
    _knots(preset.orders.first_order, "orders.first_order", faults, LONGEST_GAP)
    _knots(preset.leaving.by_age, "leaving.by_age", faults, 10_000)
    if not preset.baskets.depths or any(
        len(pair) != 2 or not 0 <= pair[0] < 1 for pair in preset.baskets.depths
    ):
        say("baskets.depths must be pairs [share taken off below 1, weight]")
    else:
        _weights({str(d): w for d, w in preset.baskets.depths}, "baskets.depths", faults)
    if preset.baskets.least > preset.baskets.most:
        say("baskets.least is above baskets.most")
    _sum_to_one([s.share for s in preset.sources], "the shares of sources", faults)
    _unique([s.name for s in preset.sources], "sources", faults)
    _unique([s.name for s in preset.steps], "steps", faults)
    _unique(preset.channel_names, "channels", faults)
    _unique([t.name for t in preset.tests], "tests", faults)
    if not 1 <= len(preset.channels) <= MOST_CHANNELS:
        say(f"there must be 1 to {MOST_CHANNELS} channels; there are {len(preset.channels)}")
    if "none" in preset.channel_names:
        say("no channel can be called 'none'")
    if preset.channels and preset.touching.spill_over_channel not in preset.channel_names:
        say(f"touching.spill_over_channel = {preset.touching.spill_over_channel!r} is no channel")
    for number, festival in enumerate(preset.calendar.festivals):
        if not _is_day(festival.day):
            say(
                f"calendar.festivals[{number}].day = {festival.day!r} must be a month and day "
                "like '11-11', 'spring' or 'mid_autumn'"
            )
    _stretches(preset, faults)
    _tests(preset, faults)
    return faults


def _stretches(preset: Preset, faults: list[str]) -> None:
    taken: dict[int, int] = {}
    for number, stretch in enumerate(preset.stretches):
        place = f"stretches[{number}]"
        if stretch.last_week < stretch.first_week:
            faults.append(f"{place}.last_week lies before its first_week")
        for week in range(stretch.first_week, stretch.last_week + 1):
            if week in taken:
                faults.append(f"{place} and stretches[{taken[week]}] share week {week}")
                break
            taken[week] = number
        for name in ("arms", "arms_recent"):
            arms = getattr(stretch, name)
            for arm in arms:
                if arm not in (*preset.channel_names, "none"):
                    near = get_close_matches(arm, [*preset.channel_names, "none"], n=1)
                    hint = f", did you mean {near[0]!r}?" if near else ""
                    faults.append(f"{place}.{name}.{arm} is no channel{hint}")
            if stretch.kind == "randomised" and (arms or name == "arms"):
                _sum_to_one(list(arms.values()), f"the chances of {place}.{name}", faults)
            elif stretch.kind == "targeted" and name == "arms":
                _weights(arms, f"{place}.arms", faults)


def _tests(preset: Preset, faults: list[str]) -> None:
    for number, test in enumerate(preset.tests):
        place = f"tests[{number}]"
        if not 2 <= len(test.arms) <= MOST_ARMS:
            faults.append(f"{place} must have 2 to {MOST_ARMS} arms; it has {len(test.arms)}")
        _sum_to_one([arm.share for arm in test.arms], f"the shares of {place}.arms", faults)
        _unique([arm.name for arm in test.arms], f"{place}.arms", faults)
        last = 7 * test.first_week + test.days
        if last > preset.days:
            faults.append(f"{place} ends on day {last}, after the data's {preset.days} days")
        for other, earlier in enumerate(preset.tests[:number]):
            begins = 7 * earlier.first_week
            if 7 * test.first_week < begins + earlier.days and begins < last:
                faults.append(f"{place} and tests[{other}] run at the same time")


def _weights(weights: Mapping[Any, float], place: str, faults: list[str]) -> None:
    if not weights or sum(weights.values()) <= 0:
        faults.append(f"{place} needs a weight above 0")


def _sum_to_one(shares: list[float], place: str, faults: list[str]) -> None:
    if abs(sum(shares) - 1) > 1e-9:
        faults.append(f"{place} must sum to 1; they sum to {sum(shares):.6g}")


def _unique(names: Any, place: str, faults: list[str]) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        faults.append(f"{place} has {', '.join(twice)} twice")


def _knots(knots: list[list[float]], place: str, faults: list[str], last: int) -> None:
    if not knots or any(len(knot) != 2 for knot in knots):
        faults.append(f"{place} must be pairs [days, factor]")
        return
    days = [knot[0] for knot in knots]
    if days[0] != 0 or days != sorted(set(days)) or days[-1] > last:
        faults.append(f"{place} must begin at day 0, rise, and end by day {last}")


def _is_day(day: str) -> bool:
    if day in ("spring", "mid_autumn"):
        return True
    try:
        date.fromisoformat(f"2024-{day}")
    except ValueError:
        return False
    return True
