"""The truth of a world: what no analyst of its tables can see.

Expectations follow from the chances that moved the world (``outlook``), or, where the shop's own
habits go on, from many lives of the same people with other luck and a stated error. Nothing here
is fitted.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeylab.errors import ContractError
from journeylab.simulate.baskets import fill
from journeylab.simulate.chance import keys, luck_key
from journeylab.simulate.life import State, begin, make_nature, make_rules
from journeylab.simulate.outlook import expected_prices, outlook
from journeylab.simulate.people import NEVER, People, make_people
from journeylab.simulate.preset import TRAITS, Preset, parse_preset, preset_text
from journeylab.simulate.rows import customer_names
from journeylab.simulate.running import Cast, copied, run, with_luck
from journeylab.simulate.saved import read_about
from journeylab.simulate.touching import begin_test
from journeylab.simulate.world import World, standing_names

KINDS = ("customer", "coupon hunter", "staff", "false referral")
# Luck 0 is the world itself; other lives begin far from any number a user might give.
_OTHER_LIVES = 1 << 32


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a world; everything is worked out when it is asked for.

    Attributes:
        text: The preset's TOML.
        seed, customers: As given to ``simulate``.
    """

    text: str
    seed: int
    customers: int

    @classmethod
    def load(cls, folder: str | Path) -> "Truth":
        """The truth of the world in ``folder``.

        Raises:
            ContractError: The folder holds no simulated world.
        """
        return cls(*read_about(Path(folder)))

    @classmethod
    def of(cls, preset: str | Path, customers: int, seed: int) -> "Truth":
        """The truth of a world that need not have been written."""
        return cls(preset_text(preset), seed, customers)

    @property
    def preset(self) -> Preset:
        """What the world is made of."""
        return parse_preset(self.text)

    def at(self, as_of: str | date) -> World:
        """The world at the end of ``as_of``: its expectations, effects and possible futures.

        Raises:
            ContractError: The date lies outside the world's data.
        """
        return World.made(self.text, self.seed, self.customers, self._day_after(as_of))

    def people(self) -> pd.DataFrame:
        """What each person is like, and when they left.

        Returns:
            ``customer_id`` (the one that stands for the person once ids are merged),
            ``other_id`` (their second id, else missing), ``kind``, the five traits (standard
            normal scores), ``joined_on``, ``left_on`` (missing: a customer still), ``invited``;
            one row per person, sorted.
        """
        preset = self.preset
        cast, state = self._lived(preset.days)
        people = cast.people
        twin = _twins(people, self.preset)
        names = standing_names(people.number, twin)
        first, second = (
            customer_names(people.number, second=flag).to_numpy(zero_copy_only=False)
            for flag in (False, True)
        )
        start = pd.Timestamp(preset.start)
        left = start + pd.to_timedelta(np.minimum(state.left_day, preset.days), unit="D")
        frame = pd.DataFrame(
            {
                "customer_id": names,
                "other_id": np.where(twin, np.where(names == first, second, first), None),
                "kind": np.array(KINDS)[people.kind],
                **{name: people.traits[:, code] for code, name in enumerate(TRAITS)},
                "joined_on": start + pd.to_timedelta(state.join_day, unit="D"),
                "left_on": left.where(state.left_day < preset.days),
                "invited": state.invited,
            }
        )
        return frame.sort_values("customer_id", ignore_index=True)

    def alive(self, as_of: str | date) -> pd.Series:
        """Whether each person who had joined was a customer still at the end of ``as_of``."""
        day = self._day_after(as_of)
        cast, state = self._lived(self.preset.days)
        people = cast.people
        joined = state.join_day < day
        names = standing_names(people.number, _twins(people, self.preset))[joined]
        alive = pd.Series((state.left_day >= day)[joined], pd.Index(names, name="customer_id"))
        return alive.rename("alive").sort_index()

    def tests(self) -> pd.DataFrame:
        """The true effect of every arm of every test.

        Over the audience, from the test's first day to its last: what to expect of the same people
        under each arm. Groups do not interfere beyond what was heard before.

        Returns:
            ``experiment_id, arm, metric`` (``conversion``: share with an order; ``orders, revenue,
            margin`` per head), ``mean``, ``control``, ``effect`` (their difference), ``people``.
        """
        rows = []
        last = max((7 * test.first_week + test.days for test in self.preset.tests), default=1)
        cast, living = self._begun(last)
        prices, reached = expected_prices(self.preset, cast.people), 0
        for test in sorted(self.preset.tests, key=lambda test: test.first_week):
            day = 7 * test.first_week
            if day > reached:
                run(cast, living, reached, day - reached, habits=True)
            reached, state = day, copied(living)
            begin_test(self.preset, cast.people, state, cast.luck, cast.world, day)
            audience = state.arm >= 0
            control: dict[str, float] = {}
            for arm, entry in enumerate(test.arms):
                arms = np.where(audience, arm, -1).astype(np.int8)
                prices, horizons = expected_prices(self.preset, cast.people), (test.days,)
                ahead = outlook(cast.nature, state, cast.rules, prices, day, 0, horizons, arm=arms)
                means = {
                    "conversion": 1 - ahead.no_order,
                    "orders": ahead.orders,
                    "revenue": ahead.revenue,
                    "margin": ahead.margin,
                }
                for metric, values in means.items():
                    mean = float(values[audience, 0].mean()) if audience.any() else np.nan
                    control.setdefault(metric, mean)
                    effect, people = mean - control[metric], int(audience.sum())
                    row = (test.name, entry.name, metric, mean, control[metric], effect, people)
                    rows.append(row)
        names = ["experiment_id", "arm", "metric", "mean", "control", "effect", "people"]
        return pd.DataFrame(rows, columns=names)

    def funnel(self, window_days: int = 180, draws: int = 20) -> pd.DataFrame:
        """The true rates of the funnel, every window closed.

        The same people live ``draws`` times with other luck, on beyond the data's end until the
        last window has closed.

        Returns:
            ``step, of`` (the stage counted from), ``rate`` (share who reach the step within
            ``window_days`` of that stage), ``error`` (Monte-Carlo standard error of it).
        """
        if draws < 2:
            raise ContractError(f"draws must be 2 or more; got {draws}")
        rates = [self.funnel_once(window_days, _OTHER_LIVES + draw) for draw in range(draws)]
        together = pd.concat(rates)
        grouped = together.groupby(["step", "of"], sort=False)["rate"]
        frame = grouped.agg(rate="mean", error="sem").reset_index()
        return frame

    def funnel_once(self, window_days: int = 180, luck: int = 0) -> pd.DataFrame:
        """The rates of one life of these people; ``step, of, people, rate``."""
        preset = self.preset
        days = preset.days + 2 * window_days
        cast, state = self._begun(days, luck)
        chronicle = run(cast, state, 0, days, habits=True)
        happened = chronicle.happened
        n = len(cast.people)
        inside = (state.join_day >= 0) & (state.join_day < preset.days)
        rows = []

        def add(
            step: str, of: str, base: npt.NDArray[np.bool_], done: npt.NDArray[np.bool_]
        ) -> None:
            people = int(base.sum())
            rate = float((base & done).sum() / people) if people else np.nan
            rows.append((step, of, people, rate))

        for code, step in enumerate(preset.steps):
            soon = state.step_seen[:, code] & (state.step_after[:, code] <= window_days)
            add(step.name, "reached", inside, soon)
        days_of = _days_of_orders(happened.order_person, happened.order_day, n)
        first, second = days_of
        bought = inside & (first - state.join_day <= window_days)
        add("first_order", "reached", inside, bought)
        add("second_order", "first_order", bought, second - first <= window_days)
        asked = np.full(n, NEVER, np.int64)
        who = happened.order_person[happened.order_invited]
        np.minimum.at(asked, who, happened.order_day[happened.order_invited])
        add("invited", "first_order", bought, asked - first <= window_days)
        return pd.DataFrame(rows, columns=["step", "of", "people", "rate"])

    def as_usual(
        self, as_of: str | date, horizon_days: int, draws: int = 100, rng: int = 0
    ) -> pd.DataFrame:
        """What to expect of each person if the shop goes on as it does, by many draws.

        Waves go out on Mondays: of the week in which ``as_of`` lies, none that is still to come.

        Returns:
            ``customer_id, orders, margin`` (means over ``draws`` futures; margin of the orders
            placed, refunds within the horizon taken off) and their Monte-Carlo standard errors
            ``orders_error, margin_error``; one row per person, sorted.
        """
        if draws < 2:
            raise ContractError(f"draws must be 2 or more; got {draws}")
        day = self._day_after(as_of)
        cast, state = self._lived(day, horizon_days)
        n = len(cast.people)
        sums, squares = np.zeros((2, n)), np.zeros((2, n))
        for draw in range(draws):
            other = with_luck(cast, luck_key(self.seed, _OTHER_LIVES + (rng << 16) + draw))
            chronicle = run(other, copied(state), day, horizon_days, habits=True)
            happened = chronicle.happened
            money = fill(self.preset, cast.people, other.luck, happened)
            back = (money.refund_day >= 0) & (money.refund_day < day + horizon_days)
            margin = money.amount - money.cost - back * (money.amount - money.refund_cost)
            for code, weights in enumerate((None, margin / 100)):
                got = np.bincount(happened.order_person, weights, n)
                sums[code] += got
                squares[code] += got**2
        means = sums / draws
        errors = np.sqrt(np.maximum(squares / draws - means**2, 0) / (draws - 1))
        names = standing_names(cast.people.number, _twins(cast.people, self.preset))
        frame = pd.DataFrame(
            {
                "customer_id": names,
                "orders": means[0],
                "orders_error": errors[0],
                "margin": means[1],
                "margin_error": errors[1],
            }
        )
        return frame.sort_values("customer_id", ignore_index=True)

    def _day_after(self, as_of: str | date) -> int:
        try:
            day = date.fromisoformat(as_of) if isinstance(as_of, str) else as_of
        except ValueError:
            raise ContractError(f"as_of must be a date like 2025-06-30; got {as_of!r}") from None
        if isinstance(day, datetime):
            day = day.date()
        start, days = self.preset.start, self.preset.days
        number = (day - start).days + 1
        if not 0 <= number <= days:
            raise ContractError(
                f"as_of {day} lies outside this world, which runs from {start} to "
                f"{start + timedelta(days - 1)}"
            )
        return number

    def _begun(self, days: int, luck: int = 0) -> tuple[Cast, State]:
        preset = self.preset
        people = make_people(preset, self.seed, 0, self.customers)
        world = luck_key(self.seed, luck)
        lucks = keys(world, people.number)
        rules = make_rules(preset, 0, days)
        cast = Cast(preset, people, make_nature(people), rules, 0, world, lucks)
        return cast, begin(preset, people, lucks)

    def _lived(self, day: int, beyond: int = 0) -> tuple[Cast, State]:
        """Everybody on the morning of ``day``, with rules that reach ``beyond`` days further."""
        cast, state = self._begun(max(day + beyond, 1))
        if day:
            run(cast, state, 0, day, habits=True)
        return cast, state


def _twins(people: People, preset: Preset) -> npt.NDArray[np.bool_]:
    """Who has a second id in the tables."""
    return np.asarray(people.twin_day < preset.days)


def _days_of_orders(
    person: npt.NDArray[np.int64], day: npt.NDArray[np.int32], people: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Day of each person's first and second day with an order; ``NEVER`` without."""
    pairs = np.unique(person * np.int64(1 << 20) + day)
    who, when = pairs >> 20, pairs & ((1 << 20) - 1)
    starts = np.searchsorted(who, np.arange(people + 1))
    counts = np.diff(starts)
    first, second = np.full(people, NEVER, np.int64), np.full(people, 3 * NEVER, np.int64)
    first[counts > 0] = when[starts[:-1][counts > 0]]
    second[counts > 1] = when[starts[:-1][counts > 1] + 1]
    return first, second
