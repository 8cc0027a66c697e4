"""Sources: which of two names is a world with a truth, and which is the reader's own shop."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from journeylab.errors import ContractError
from journeylab.simulate import Preset, Truth
from journeylab.tables.sources import resolve

# A daily chance of an order above this is a shop that people visit every week.
_OFTEN = 0.03


@dataclass(frozen=True, slots=True)
class Sources:
    """A world and, where there is one, the shop to set beside it.

    Attributes:
        world: What to open for the world.
        truth: What is true of it.
        own: What to open for the reader's own shop; empty without one.
    """

    world: str
    truth: Truth
    own: str

    @property
    def first(self) -> str:
        """The world's first day."""
        return str(self.truth.preset.start)

    @property
    def last(self) -> str:
        """The world's last day."""
        return str(self.truth.preset.start + timedelta(days=self.truth.preset.days - 1))

    @property
    def rare_orders(self) -> bool:
        """Whether people buy now and then, as in Hillstrom's shop, and not as at a grocer's."""
        return self.truth.preset.orders.daily_chance < _OFTEN


@dataclass(frozen=True, slots=True)
class Days:
    """Weeks in which the shop chose whom to touch, as ISO dates.

    Attributes:
        first, last: The whole stretch.
        eve: The day before a week in its middle.
        week: First and last day of that week.
    """

    first: str
    last: str
    eve: str
    week: tuple[str, str]


def find_sources(data: str, beside: str) -> Sources:
    """Take ``data`` for the world if it is one, else for the reader's own shop.

    Args:
        data: A world (``simulated``, ``simulated:grocery:5000:3``, a folder that ``simulate``
            wrote) or any other source.
        beside: The world that own data are set beside.

    Raises:
        ContractError: ``beside`` is needed and is no world.
    """
    if (truth := find_truth(data)) is not None:
        return Sources(data, truth, "")
    if (truth := find_truth(beside)) is not None:
        return Sources(beside, truth, data)
    raise ContractError(
        f"{beside!r} is no simulated world: give simulated, simulated:preset:customers:seed or a "
        "folder made by journeylab simulate"
    )


def find_truth(source: str) -> Truth | None:
    """The truth of a world; ``None`` where the source is no world."""
    folder = resolve(source).folder
    if folder is None or not (Path(folder) / "truth" / "world.json").is_file():
        return None
    return Truth.load(folder)


def targeted_days(preset: Preset) -> Days | None:
    """The first stretch of touches by habit, without chances; ``None`` without any."""
    for stretch in preset.stretches:
        if stretch.kind == "targeted":
            first, last = (
                preset.start + timedelta(days=days)
                for days in (7 * stretch.first_week, 7 * stretch.last_week + 6)
            )
            week = (stretch.first_week + stretch.last_week) // 2
            monday: date = preset.start + timedelta(days=7 * week)
            # The eve of the first day of all lies outside the data.
            eve = max(monday - timedelta(days=1), preset.start)
            days = str(monday), str(monday + timedelta(days=6))
            return Days(str(first), str(min(last, _end(preset))), str(eve), days)
    return None


def _end(preset: Preset) -> date:
    return preset.start + timedelta(days=preset.days - 1)
