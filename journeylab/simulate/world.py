"""The world: people, where they stand, and what is to be expected of them from here."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from journeylab.errors import ContractError
from journeylab.simulate.chance import keys, luck_key
from journeylab.simulate.chronicle import GIVEN, Sent
from journeylab.simulate.life import (
    _MOST_TOUCHES,
    NO_TOUCHES,
    Rules,
    State,
    Touches,
    begin,
    make_nature,
    make_rules,
)
from journeylab.simulate.outlook import Outlook, Prices, expected_prices, outlook
from journeylab.simulate.people import COMMUNITY, NEVER, Flags, People, make_people
from journeylab.simulate.preset import Preset, parse_preset
from journeylab.simulate.rows import (
    Ledger,
    Rows,
    customer_names,
    make_rows,
    new_ledger,
    numbers_of,
)
from journeylab.simulate.running import Cast, copied, run
from journeylab.simulate.saved import read_world

NEWCOMERS_FROM = 5_000_000 * COMMUNITY
"""Numbers from here on are people who come after the data's end, as the world goes on."""
_AT_A_TIME = 250 * COMMUNITY
MOST_CUSTOMERS = NEWCOMERS_FROM - COMMUNITY


@dataclass(frozen=True, slots=True)
class Period:
    """What came of some days.

    Attributes:
        world: The world at their end.
        tables: The days' rows, by table of the contract; rows of ``consents`` and
            ``memberships`` take the place of earlier ones with the same key.
        margin: Amounts less goods of these days' orders and refunds, currency units.
        spent: What the touches cost, currency units.
    """

    world: "World"
    tables: Mapping[str, pd.DataFrame]
    margin: float
    spent: float


@dataclass(frozen=True, slots=True)
class Score:
    """What a set of touches is expected to bring, without luck; money in currency units.

    Attributes:
        margin: Expected margin over the horizon with the touches, less what they cost.
        without: Expected margin without any touch.
        spent: Expected cost of the touches.
        customers: ``customer_id, margin, without, spent``, one row per person, sorted.
    """

    margin: float
    without: float
    spent: float
    customers: pd.DataFrame

    @property
    def gain(self) -> float:
        """What the touches add: ``margin - without``."""
        return self.margin - self.without


@dataclass(frozen=True, slots=True)
class World:
    """A world on the morning of a day.

    Attributes:
        text: The preset's TOML.
        preset: What it says.
        seed: Makes the people.
        customers: How many people it began with.
        newcomers: How many came after the data's end.
        luck: Key of what happens to them from here.
        day: Days since the start; ``today`` is the date.
        people, state, ledger: Who they are, where they stand, what they have collected.
        later: Rows that are already certain but dated later, such as refunds on their way.
    """

    text: str
    preset: Preset
    seed: int
    customers: int
    newcomers: int
    luck: int
    day: int
    people: People
    state: State
    ledger: Ledger
    later: Mapping[str, pa.Table]

    @property
    def today(self) -> date:
        """The date; nothing of this day has happened yet."""
        return self.preset.start + timedelta(self.day)

    @classmethod
    def load(cls, folder: str | Path) -> "World":
        """The world that ``simulate`` wrote, as it stands at the end of its data.

        Raises:
            ContractError: The folder holds no world, or one of another version.
        """
        saved = read_world(Path(folder))
        preset = parse_preset(saved.text)
        people = make_people(preset, saved.seed, 0, saved.customers)
        return cls(
            saved.text, preset, saved.seed, saved.customers, 0, luck_key(saved.seed, 0),
            preset.days, people, saved.state, saved.ledger, saved.later,
        )  # fmt: skip

    @classmethod
    def made(cls, text: str, seed: int, customers: int, day: int, luck: int = 0) -> "World":
        """The world on the morning of ``day`` (0 is the start), lived through from the beginning.

        Args:
            text: The preset's TOML.
            seed: As for ``simulate``.
            customers: As for ``simulate``.
            day: Days since the start.
            luck: 0 is the world as it was written; others are what might have been.
        """
        preset = parse_preset(text)
        rules = make_rules(preset, 0, max(day, 1))
        parts = [
            live(preset, rules, seed, first, min(first + _AT_A_TIME, customers), day, luck)
            for first in range(0, customers, _AT_A_TIME)
        ]
        later = {
            name: pa.concat_tables([part.rows.later[name] for part in parts])
            for name in parts[0].rows.later
        }
        states, ledgers = (p.state for p in parts), (p.rows.ledger for p in parts)
        return cls(
            text, preset, seed, customers, 0, luck_key(seed, luck), day,
            make_people(preset, seed, 0, customers),
            State(*(np.concatenate(arrays) for arrays in zip(*states, strict=True))),
            Ledger(*(np.concatenate(arrays) for arrays in zip(*ledgers, strict=True))),
            later,
        )  # fmt: skip

    def expected(self, horizons: tuple[int, ...] = (30, 90, 365)) -> pd.DataFrame:
        """What to expect of everybody who has joined, if nobody is touched from here on.

        Returns:
            ``customer_id, horizon_days, alive`` (chance to be a customer at the end), ``survival``
            (chance of no order), ``orders, revenue, margin``; one row per person and horizon.
        """
        return _long(self._names(), self._outlook(horizons), self._joined())

    def effects(self, horizon_days: int, channels: tuple[str, ...] | None = None) -> pd.DataFrame:
        """What one touch today would do to each person, given the touches they had of late.

        Intent to treat: the message is sent and may not arrive. Nobody else is touched.

        Returns:
            ``customer_id, channel, orders, margin`` (with the touch less without any, the touch's
            own cost not taken off), ``spent``; one row per person and channel.
        """
        base, joined = self._outlook((horizon_days,)), self._joined()
        frames = []
        for name in channels or self.preset.channel_names:
            touched = self._outlook((horizon_days,), self._everybody(self._channel(name)))
            frames.append(
                pd.DataFrame(
                    {
                        "customer_id": self._names(),
                        "channel": name,
                        "orders": (touched.orders - base.orders)[:, 0],
                        "margin": (touched.margin - base.margin)[:, 0],
                        "spent": touched.spent[:, 0],
                    }
                )[joined]
            )
        effects = pd.concat(frames).sort_values(["customer_id", "channel"], kind="stable")
        return effects.reset_index(drop=True)

    def score(self, touches: pd.DataFrame, horizon_days: int) -> Score:
        """Expected margin of a set of touches, so that a plan is judged without luck.

        Args:
            touches: As for ``step``; within the horizon.
            horizon_days: How far the margin is followed, days.

        Raises:
            ContractError: As ``step``; or more than six touches for one person.
        """
        sent = self._given(touches, horizon_days)
        base, planned = (
            self._outlook((horizon_days,)),
            self._outlook((horizon_days,), sent.touches, spill=True),
        )
        frame = pd.DataFrame(
            {
                "customer_id": self._names(),
                "margin": (planned.margin - planned.spent)[:, 0],
                "without": base.margin[:, 0],
                "spent": planned.spent[:, 0],
            }
        )[self._joined()].sort_values("customer_id", ignore_index=True)
        return Score(
            float(frame["margin"].sum()),
            float(frame["without"].sum()),
            float(frame["spent"].sum()),
            frame,
        )

    def step(
        self,
        days: int,
        touches: pd.DataFrame | None = None,
        rng: int | np.random.Generator = 0,
    ) -> Period:
        """Let days pass: nobody is touched but those in ``touches``.

        Args:
            days: How many, 1 or more.
            touches: ``customer_id, channel`` and, where it is not the first day, ``touched_at``
                (a time in these days; without an offset, the shop's own time). ``None`` for none.
            rng: Luck of these days; the same luck gives the same rows.

        Raises:
            ContractError: A person, a channel or a time is unknown to this world.
        """
        if days < 1:
            raise ContractError(f"days must be 1 or more; got {days}")
        sent = self._given(touches, days) if touches is not None else None
        luck = int(np.random.default_rng(rng).integers(2**63))
        world = replace(self, luck=luck).with_newcomers(days)
        cast = world.cast(days)
        state = copied(world.state)
        chronicle = run(cast, state, world.day, days, habits=False, given=sent)
        rows = make_rows(
            world.preset, world.people, state, cast.luck, chronicle, world.ledger, world.later
        )
        after = replace(
            world, day=world.day + days, state=state, ledger=rows.ledger, later=rows.later
        )
        tables = {name: table.to_pandas() for name, table in rows.tables.items()}
        orders, sent_rows = tables["orders"], tables["touches"]
        return Period(
            after,
            tables,
            float(orders["amount"].sum()) - float(orders["cost"].sum()),
            float(sent_rows["cost"].sum()),
        )

    def with_newcomers(self, days: int) -> "World":
        """This world with the people who join in the next ``days`` days."""
        first, last = (self._arrived(day) for day in (self.day, self.day + days))
        first = max(first, self.newcomers)
        if last <= first:
            return self
        new = make_people(self.preset, self.seed, NEWCOMERS_FROM + first, last - first)
        pace = self._arrivals_a_day()
        joins = self.preset.days + np.ceil((np.arange(first, last) + 1) / pace) - 1
        new = replace(
            new,
            join_day=np.maximum(joins, self.day).astype(np.int32),
            inviter=np.full(len(new), -1, np.int64),
            # A second id would have to wait for the first.
            twin_day=np.full(len(new), NEVER, np.int32),
        )
        state = begin(self.preset, new, keys(self.luck, new.number))
        return replace(
            self,
            newcomers=last,
            people=_stack(self.people, new),
            state=State(*(np.concatenate(pair) for pair in zip(self.state, state, strict=True))),
            ledger=Ledger(
                *(np.concatenate(p) for p in zip(self.ledger, new_ledger(len(new)), strict=True))
            ),
        )

    def cast(self, days: int) -> Cast:
        """Everybody with the rules of the next ``days`` days."""
        return Cast(
            self.preset,
            self.people,
            make_nature(self.people),
            make_rules(self.preset, self.day, days),
            self.day,
            self.luck,
            keys(self.luck, self.people.number),
        )

    def _arrivals_a_day(self) -> float:
        of = self.preset.people
        fresh = self.customers * (1 - of.existing) / self.preset.days
        return fresh * (1 + of.arrival_growth) / (1 + of.arrival_growth / 2)

    def _arrived(self, day: int) -> int:
        return max(0, int((day - self.preset.days) * self._arrivals_a_day()))

    def _outlook(
        self, horizons: tuple[int, ...], touches: Touches = NO_TOUCHES, spill: bool = False
    ) -> Outlook:
        if not horizons or min(horizons) < 1 or list(horizons) != sorted(set(horizons)):
            raise ContractError(f"horizons must be rising numbers of days from 1; got {horizons}")
        cast = self.cast(max(horizons))
        return outlook(
            cast.nature, self.state, cast.rules, self._prices(), self.day, self.day, horizons,
            touches, owed=self._owed(horizons), spill=spill,
        )  # fmt: skip

    def _prices(self) -> Prices:
        return expected_prices(self.preset, self.people)

    def _owed(self, horizons: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Refunds on their way that fall into each horizon: amount and goods, people x horizons."""
        owed = np.zeros((2, len(self.people), len(horizons)))
        orders = self.later.get("orders")
        if orders is None or not orders.num_rows:
            return owed
        numbers, _ = numbers_of(orders["customer_id"].combine_chunks())
        at = _positions(self.people.number, numbers)
        zone = ZoneInfo(self.preset.business_tz)
        times = orders["ordered_at"].to_pandas().dt.tz_convert(zone).dt.tz_localize(None)
        ahead = (times.dt.normalize() - pd.Timestamp(self.today)).dt.days.to_numpy()
        for number, name in enumerate(("amount", "cost")):
            money = orders[name].cast(pa.float64()).to_numpy()
            for code, horizon in enumerate(horizons):
                inside = ahead < horizon
                np.add.at(owed[number, :, code], at[inside], money[inside])
        return owed

    def _joined(self) -> Flags:
        return np.asarray(self.state.join_day < self.day)

    def _names(self) -> npt.NDArray[np.object_]:
        """The id that stands for each person once their ids are merged."""
        return standing_names(self.people.number, self._twins())

    def _twins(self) -> Flags:
        """Who has a second id in the tables: in all of them, so that a person's name stays."""
        return np.asarray(self.people.twin_day < max(self.day, self.preset.days))

    def _channel(self, name: str) -> int:
        names = self.preset.channel_names
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise ContractError(f"no channel {name!r}{hint}; there are {', '.join(names)}")
        return names.index(name)

    def _everybody(self, channel: int) -> Touches:
        n = len(self.people)
        return Touches(np.arange(n), np.full(n, self.day, np.int32), np.full(n, channel, np.int8))

    def _given(self, touches: pd.DataFrame, days: int) -> Sent:
        """Touches from outside, checked, by position and day."""
        missing = [name for name in ("customer_id", "channel") if name not in touches.columns]
        if missing:
            raise ContractError(
                f"touches need the columns customer_id and channel; {', '.join(missing)} missing"
            )
        if touches[["customer_id", "channel"]].isna().any(axis=None):
            raise ContractError("touches have rows without customer_id or channel")
        codes, kinds = pd.factorize(touches["channel"].astype(str))
        channel = np.array([self._channel(kind) for kind in kinds], np.int8)
        ids = pa.array(touches["customer_id"].astype(str).to_numpy(object), pa.string())
        numbers, second = numbers_of(ids)
        at = _positions(self.people.number, numbers)
        unknown = (at < 0) | (second & ~self._twins()[at])
        unknown |= ~self._joined()[at]
        if unknown.any():
            shown = ", ".join(repr(str(i)) for i in touches["customer_id"][unknown].unique()[:3])
            raise ContractError(
                f"{int(unknown.sum())} of {len(touches)} touches go to people unknown to this "
                f"world, for example {shown}"
            )
        when = np.zeros(len(touches), np.int64)
        if "touched_at" in touches.columns:
            when = self._days_ahead(touches["touched_at"])
        if ((when < 0) | (when >= days)).any():
            last = self.today + timedelta(days - 1)
            raise ContractError(
                f"{int(((when < 0) | (when >= days)).sum())} of {len(touches)} touches lie outside "
                f"the days from {self.today} to {last}"
            )
        code = channel[codes] if len(channel) else np.empty(0, np.int8)
        order = np.lexsort((code, when, at))
        sent = Touches(
            at[order].astype(np.int64), (self.day + when[order]).astype(np.int32), code[order]
        )
        if len(sent):
            _, counts = np.unique(
                sent.person * np.int64(1 << 20) + sent.day - self.day, return_counts=True
            )
            if counts.max() > _MOST_TOUCHES:
                raise ContractError(
                    f"one person gets {counts.max()} touches on one day; at most {_MOST_TOUCHES}"
                )
        return Sent(sent, np.full(len(sent), GIVEN, np.int32), np.full(len(sent), np.nan))

    def _days_ahead(self, times: Any) -> npt.NDArray[np.int64]:
        zone = ZoneInfo(self.preset.business_tz)
        try:
            when = pd.to_datetime(pd.Series(times).reset_index(drop=True))
        except (ValueError, TypeError) as error:
            raise ContractError(f"touched_at cannot be read as times: {error}") from None
        if when.isna().any():
            raise ContractError(f"{int(when.isna().sum())} touches have no touched_at")
        if when.dt.tz is not None:
            when = when.dt.tz_convert(zone).dt.tz_localize(None)
        return np.asarray((when.dt.normalize() - pd.Timestamp(self.today)).dt.days, np.int64)


@dataclass(frozen=True, slots=True)
class Lived:
    """A run of people who lived from day 0 to some morning."""

    state: State
    rows: Rows


def live(
    preset: Preset, rules: Rules, seed: int, first: int, last: int, days: int, luck: int = 0
) -> Lived:
    """People ``first`` to ``last - 1`` from day 0 on, for ``days`` days, by the shop's habits.

    A community that the end cuts through lives whole, so that nobody's life depends on how many
    are asked for; the rows of those beyond the end are left out.
    """
    whole = -(-last // COMMUNITY) * COMMUNITY
    people = make_people(preset, seed, first, whole - first)
    world = luck_key(seed, luck)
    lucks = keys(world, people.number)
    state = begin(preset, people, lucks)
    cast = Cast(preset, people, make_nature(people), rules, 0, world, lucks)
    chronicle = run(cast, state, 0, days, habits=True)
    rows = make_rows(preset, people, state, lucks, chronicle, new_ledger(len(people)))
    if whole == last:
        return Lived(state, rows)
    asked = last - first
    return Lived(
        State(*(array[:asked] for array in state)),
        Rows(
            _without(rows.tables, people.number[asked:]),
            _without(rows.later, people.number[asked:]),
            Ledger(*(array[:asked] for array in rows.ledger)),
        ),
    )


def _without(tables: Mapping[str, pa.Table], numbers: npt.NDArray[np.int64]) -> dict[str, pa.Table]:
    """Tables without the rows of some people."""
    ids = pa.concat_arrays([customer_names(numbers), customer_names(numbers, second=True)])
    # The id of an order holds the digits of its customer's.
    digits = pc.utf8_slice_codeunits(ids, 1)
    kept = {}
    for name, table in tables.items():
        if name == "order_lines":
            of = pc.is_in(pc.utf8_slice_codeunits(table["order_id"], 1, 11), digits)
        else:
            of = pc.is_in(table["invitee_id" if name == "referrals" else "customer_id"], ids)
        kept[name] = table.filter(pc.invert(of))
    return kept


def standing_names(
    number: npt.NDArray[np.int64], twin: npt.NDArray[np.bool_]
) -> npt.NDArray[np.object_]:
    """The smallest id of each person, which stands for them once ids are merged."""
    first = customer_names(number).to_numpy(zero_copy_only=False)
    second = customer_names(number, second=True).to_numpy(zero_copy_only=False)
    return np.asarray(np.where(twin & (second < first), second, first))


def _positions(known: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> Any:
    """Where each number stands among ``known`` (sorted); -1 where it does not."""
    at = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    return np.where(known[at] == numbers, at, -1)


def _long(names: npt.NDArray[np.object_], ahead: Outlook, joined: Flags) -> pd.DataFrame:
    frames = [
        pd.DataFrame(
            {
                "customer_id": names,
                "horizon_days": days,
                "alive": ahead.alive[:, code],
                "survival": ahead.no_order[:, code],
                "orders": ahead.orders[:, code],
                "revenue": ahead.revenue[:, code],
                "margin": ahead.margin[:, code],
            }
        )[joined]
        for code, days in enumerate(ahead.horizons)
    ]
    whole = pd.concat(frames).sort_values(["customer_id", "horizon_days"], kind="stable")
    return whole.reset_index(drop=True)


def _stack(one: People, other: People) -> People:
    return People(
        **{
            item.name: np.concatenate([getattr(one, item.name), getattr(other, item.name)])
            for item in fields(People)
        }
    )
